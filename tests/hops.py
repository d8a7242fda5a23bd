"""A real guest's way: from a QEMU to us, from us to a QEMU, with what it was at each place."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from transports import Ways, creds

from guests import Guest, firmware, started, until
from vmstream.channels.tls import X509, Credentials, Psk
from vmstream.tools.convert import Compression
from vmstream.tools.open import open_stream
from vmstream.tools.receive import Kept, ReceiveReport, receive
from vmstream.tools.send import SendReport, send

__all__ = [
    "KINDS",
    "SOON",
    "Kind",
    "State",
    "assert_goes_on",
    "beside",
    "credentials",
    "destination",
    "migrate",
    "on",
    "running",
    "sent",
    "state_of",
    "take",
]

MEMORY = 16 << 20
MACHINE = ("-M", "pc-q35-7.2", "-m", "16", "-bios", "firmware.bin", "-vga", "none", "-net", "none")
SOON = 30.0
SLOW = {"max-bandwidth": 1 << 19, "downtime-limit": 1}
QUICK = {"max-bandwidth": 1 << 30, "downtime-limit": 2000}

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Kind:
    """A way to migrate, at both hops.

    Attributes:
        loops: the guest goes on running through so many iterations before it is let go.
        kept: what ``receive`` writes.
        multifd: channels at both hops.
        transports: what can carry it.
    """

    capabilities: tuple[str, ...] = ()
    parameters: Mapping[str, object] = field(default_factory=dict)
    loops: int = 0
    postcopy: bool = False
    kept: Kept = Kept.PLAIN
    multifd: int = 0
    compression: Compression = Compression.NONE
    secret: str | None = None
    transports: tuple[str, ...] = ("tcp", "unix", "fd", "exec")

    @property
    def channel_parameters(self) -> dict[str, object]:
        """What both ends must agree on."""
        found: dict[str, object] = dict(self.parameters)
        if self.multifd:
            found["multifd-channels"] = self.multifd
            found["multifd-compression"] = str(self.compression)
        if self.secret:
            found["tls-creds"] = "tls"
        return found


_MANY = ("tcp", "unix")
_BOTH_WAYS = ("tcp", "unix", "fd")


def _multifd(compression: Compression, *more: str, secret: str | None = None) -> Kind:
    return Kind(
        ("multifd", *more), multifd=3, compression=compression, secret=secret, transports=_MANY
    )


KINDS = {
    "plain": Kind(),
    "return-path": Kind(("return-path",), transports=_BOTH_WAYS),
    "xbzrle": Kind(("xbzrle",), loops=3),
    "multifd-none": _multifd(Compression.NONE),
    "multifd-zlib": _multifd(Compression.ZLIB),
    "multifd-zstd": _multifd(Compression.ZSTD),
    "multifd-return-path": _multifd(Compression.NONE, "return-path"),
    "mapped-ram": Kind(kept=Kept.MAPPED_RAM),
    "postcopy": Kind(("postcopy-ram",), postcopy=True, transports=_BOTH_WAYS),
    "preempt": Kind(("postcopy-ram", "postcopy-preempt"), postcopy=True, transports=_MANY),
    "tls": Kind(secret="x509", transports=_BOTH_WAYS),
    "tls-psk": Kind(secret="psk", transports=("tcp",)),
    "tls-multifd": _multifd(Compression.NONE, "return-path", secret="x509"),
    "tls-postcopy": Kind(
        ("postcopy-ram", "return-path"), postcopy=True, secret="x509", transports=_MANY
    ),
}


@dataclass(frozen=True, slots=True)
class State:
    """What a stopped guest is: SHA-256 of its physical memory, registers as QEMU prints them."""

    memory: str
    registers: tuple[str, ...]


async def state_of(guest: Guest) -> State:
    """The state of a guest that does not run."""
    assert not (await guest.execute("query-status"))["running"]
    content = await guest.read_physical(0, MEMORY)
    said = await guest.monitor("info registers -a")
    return State(hashlib.sha256(content).hexdigest(), tuple(said.split()))


def credentials(kind: Kind, directory: Path | None) -> Credentials | None:
    """Ours for a kind."""
    if kind.secret is None:
        return None
    assert directory is not None
    if kind.secret == "psk":
        return Psk(str(directory))
    # The name is not the transport's: over a unix socket there is none.
    return X509(str(directory), hostname="localhost")


@contextlib.asynccontextmanager
async def running(
    qemu: Path, folder: Path, kind: Kind, directory: Path | None = None, *, filled: bool = False
) -> AsyncIterator[Guest]:
    """A source whose guest changes its memory, ready to migrate.

    Args:
        filled: the memory holds random bytes, so that it takes a while to send.
    """
    (folder / "firmware.bin").write_bytes(firmware())
    secret = creds(kind.secret, directory, "client") if kind.secret and directory else ()
    content: tuple[str, ...] = ()
    if filled:
        (folder / "ram").write_bytes(os.urandom(MEMORY))
        backend = f"memory-backend-file,id=pc.ram,size={MEMORY},share=on,mem-path=ram"
        content = ("-object", backend, "-machine", "memory-backend=pc.ram")
    async with started(qemu, [*MACHINE, *content, *secret], folder, "source") as guest:
        parameters = kind.channel_parameters
        if kind.secret == "x509":
            parameters["tls-hostname"] = "localhost"
        await guest.set_migration(kind.capabilities, parameters)
        await guest.run_firmware()
        yield guest


@contextlib.asynccontextmanager
async def destination(
    qemu: Path, folder: Path, kind: Kind, directory: Path | None = None
) -> AsyncIterator[Guest]:
    """A QEMU that waits for the guest; its address is still to be given."""
    (folder / "firmware.bin").write_bytes(firmware())
    secret = creds(kind.secret, directory, "server") if kind.secret and directory else ()
    arguments = [*MACHINE, *secret, "-incoming", "defer"]
    async with started(qemu, arguments, folder, "destination") as guest:
        await guest.set_migration((), kind.channel_parameters)
        yield guest


async def migrate(source: Guest, kind: Kind, uri: str) -> dict[str, Any]:
    """Migrate as the kind says; returns what ``query-migrate`` says in the end."""
    if kind.loops or kind.postcopy:
        await source.execute("migrate-set-parameters", SLOW)
    await source.execute("migrate", {"uri": uri})
    if kind.loops:

        async def iterated() -> bool:
            answer = await source.query_migrate()
            return int(answer.get("ram", {}).get("dirty-sync-count", 0)) >= kind.loops

        await until(iterated, f"{kind.loops} iterations")
        await source.execute("migrate-set-parameters", QUICK)
    if kind.postcopy:

        async def begun() -> bool:
            answer = await source.query_migrate()
            return int(answer.get("ram", {}).get("transferred", 0)) > 1 << 16

        await until(begun, "the first pages")
        await source.execute("migrate-start-postcopy")
    return await source.migration_completed()


async def beside(
    work: Callable[[Callable[[str], None]], Answer],
) -> tuple[str, asyncio.Task[Answer]]:
    """Start blocking work in a thread; returns the URI that it tells, and its task."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[str] = loop.create_future()

    def tell(uri: str) -> None:
        loop.call_soon_threadsafe(told.set_result, uri)

    task = asyncio.create_task(asyncio.to_thread(work, tell))
    await asyncio.wait([told, task], return_when=asyncio.FIRST_COMPLETED)
    if not told.done():
        task.result()
        raise AssertionError("it ended before it told where it listens")
    return told.result(), task


async def take(
    source: Guest, kind: Kind, ways: Ways, out: Path, directory: Path | None = None
) -> tuple[ReceiveReport, dict[str, Any]]:
    """Be the destination of a guest; returns our report and what the source says."""
    await ways.hand_over(source)

    def work(tell: Callable[[str], None]) -> ReceiveReport:
        tls = credentials(kind, directory)
        return receive(ways.ours, out, kept=kind.kept, tls=tls, timeout=SOON, listening=tell)

    uri, receiving = await beside(work)
    theirs = ways.theirs if ways.theirs != ways.ours else uri
    said = await migrate(source, kind, theirs)
    return await asyncio.wait_for(receiving, SOON), said


async def on(
    stream: Path, guest: Guest, kind: Kind, ways: Ways, directory: Path | None = None
) -> SendReport:
    """Be the source of what was received, for a waiting destination."""
    await ways.hand_over(guest)
    if kind.multifd:
        await guest.set_migration(("multifd",), {})
    await guest.execute("migrate-incoming", {"uri": ways.theirs})
    place: Any = ways.ours
    if ways.theirs == "tcp:127.0.0.1:0":
        (address,) = (await guest.execute("query-migrate"))["socket-address"]
        place = f"tcp:127.0.0.1:{address['port']}"

    def work() -> SendReport:
        with open_stream(stream) as opened:
            return send(
                opened,
                place,
                channels=kind.multifd,
                compression=kind.compression,
                tls=credentials(kind, directory),
                timeout=SOON,
            )

    return await asyncio.wait_for(asyncio.to_thread(work), SOON)


async def sent(guest: Guest) -> None:
    """Wait until the guest is whole at its destination, and stands still."""
    await guest.migration_completed()

    async def stopped() -> bool:
        return str((await guest.execute("query-status"))["status"]) == "paused"

    await until(stopped, "the loaded guest to be there")


async def assert_goes_on(guest: Guest) -> None:
    """The guest runs, from where it was."""
    before = await guest.rounds()
    await guest.execute("cont")

    async def changed() -> bool:
        return await guest.rounds() != before

    await until(changed, "the guest to go on")

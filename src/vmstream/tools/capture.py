"""``capture``: a running QEMU's guest into a file, and the QEMU left as it was."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from vmstream.channels.channel import connect
from vmstream.engine.monitor import ACTIVE, Monitor, Settings, monitor_at
from vmstream.engine.reception import Reception
from vmstream.errors import ChannelError, StreamError
from vmstream.tools.convert import Container, Form, Options, convert
from vmstream.tools.open import open_stream
from vmstream.tools.receive import Kept, ReceiveReport, receive

__all__ = ["Afterwards", "CaptureReport", "Wanted", "capture"]

NAME = "vmstream-capture"
"""What QEMU calls the descriptor that it is given."""

OFF = (
    *("x-ignore-shared", "mapped-ram", "postcopy-ram", "postcopy-preempt", "x-colo", "block"),
    *("x-multifd", "x-postcopy-ram", "pause-before-switchover"),
)
"""Capabilities that keep the whole guest out of one stream, or wait for a word at its end.

Turned off meanwhile. Those of two releases each had names with ``x-``: post-copy in 2.5,
multifd in 2.11 to 3.1.
"""

BLOCKING = ("return-path", "dirty-bitmaps", "multifd", "xbzrle", "compress", "auto-converge")
"""Those that a background snapshot excludes (``migration/options.c``)."""


class Afterwards(StrEnum):
    """What becomes of the guest."""

    AS_BEFORE = "as-before"
    """A running guest runs on, a paused one stays paused."""
    PAUSED = "paused"
    """QEMU calls it ``postmigrate``, and migrates it again only after ``cont``."""
    RUNNING = "running"


class Wanted(msgspec.Struct, frozen=True):
    """How the guest is to be captured."""

    live: bool = False
    """Without stopping it: a background snapshot (6.0+, userfaultfd on the host)."""
    afterwards: Afterwards = Afterwards.AS_BEFORE
    kept: Kept = Kept.PLAIN
    container: Container = Container.NONE
    xml: str | None = None
    """The domain's, for a libvirt image."""
    channels: int = 0
    """Of multifd; 0 for one plain channel."""
    compression: str = "none"
    """Of multifd's packets on their way; what is written is not compressed by it."""
    xbzrle: bool = False
    bandwidth: int | None = None
    """Bytes a second at most; QEMU's own limit otherwise."""
    downtime: int | None = None
    """Milliseconds that the guest may stand still."""
    timeout: float = 300.0


class CaptureReport(msgspec.Struct, frozen=True):
    """What was captured, and how the QEMU was left."""

    qmp: str
    out: str
    complete: bool
    error: str | None
    version: str | None
    """Of the QEMU."""
    machine: str | None
    before: str | None
    """The guest's run state."""
    after: str | None
    bytes: int
    seconds: float
    downtime: int | None
    """Milliseconds that the guest stood still for QEMU's own count."""
    changed: tuple[str, ...]
    """Capabilities and parameters that were changed meanwhile."""
    not_put_back: tuple[str, ...]
    """Those that could not be set as they were."""


def capture(
    qmp: str,
    out: str | Path,
    wanted: Wanted | None = None,
    *,
    watch: Callable[[Reception], None] | None = None,
) -> CaptureReport:
    """Save the guest of a running QEMU.

    Args:
        qmp: its QMP socket: a path, or ``HOST:PORT``.
        out: the result, which appears when it is whole.
        watch: called as bytes arrive.

    Raises:
        ChannelError: no monitor answers at ``qmp``.
        OSError: the result can not be written.
        ValueError: options that contradict each other.
    """
    chosen = wanted or Wanted()
    _check(chosen)
    target = Path(out)
    if target.exists() and (chosen.kept is Kept.RAW or target.is_dir()):
        raise FileExistsError(17, "there is something already", str(target))
    return asyncio.run(_Capture(qmp, target, chosen, watch).run())


def _check(wanted: Wanted) -> None:
    if wanted.live and (wanted.channels or wanted.xbzrle):
        raise ValueError("a background snapshot excludes multifd and xbzrle")
    if wanted.kept is Kept.RAW and wanted.container is not Container.NONE:
        raise ValueError("a container holds one file, and raw is a directory")
    if wanted.container is Container.LIBVIRT and wanted.xml is None:
        raise ValueError("a libvirt image needs the domain's XML")


class _Capture:
    def __init__(
        self,
        qmp: str,
        target: Path,
        wanted: Wanted,
        watch: Callable[[Reception], None] | None,
    ) -> None:
        self.qmp = qmp
        self.target = target
        self.wanted = wanted
        self.watch = watch
        self.report = CaptureReport(
            qmp, str(target), False, None, None, None, None, None, 0, 0.0, None, (), ()
        )
        self.received: ReceiveReport | BaseException | None = None

    async def run(self) -> CaptureReport:
        began = time.monotonic()
        error: str | None = None
        async with monitor_at(self.qmp) as monitor:
            self.note(version=await monitor.version(), before=await monitor.status())
            await self.refuse_what_runs(monitor)
            settings = Settings()
            try:
                settings = await monitor.change(self.capabilities(), self.parameters())
                self.note(changed=(*settings.capabilities, *settings.parameters))
                await self.migrate(monitor)
            except StreamError as raised:
                error = str(raised)
            finally:
                # Also when we are interrupted: the guest must go on as it was.
                await asyncio.shield(self.leave(monitor, settings, failed=error is not None))
        self.note(error=error, complete=error is None, seconds=time.monotonic() - began)
        return self.report

    def note(self, **facts: Any) -> None:
        self.report = msgspec.structs.replace(self.report, **facts)

    async def refuse_what_runs(self, monitor: Monitor) -> None:
        if (await monitor.migration()).get("status") in ACTIVE:
            raise ChannelError("a migration of this guest is under way already", file=self.qmp)
        if self.report.before == "inmigrate":
            raise ChannelError("this QEMU waits for a guest itself", file=self.qmp)

    def capabilities(self) -> dict[str, bool]:
        wanted = dict.fromkeys(OFF, False)
        wanted |= {"multifd": self.wanted.channels > 0, "xbzrle": self.wanted.xbzrle}
        if self.wanted.live:
            wanted |= dict.fromkeys(BLOCKING, False)
        wanted["background-snapshot"] = self.wanted.live
        return wanted

    def parameters(self) -> Mapping[str, object]:
        wanted: dict[str, object] = {}
        if self.wanted.bandwidth is not None:
            wanted["max-bandwidth"] = self.wanted.bandwidth
        if self.wanted.downtime is not None:
            wanted["downtime-limit"] = self.wanted.downtime
        if self.wanted.channels:
            wanted["multifd-channels"] = self.wanted.channels
            wanted["multifd-compression"] = self.wanted.compression
        return wanted

    # The migration to ourselves

    async def migrate(self, monitor: Monitor) -> None:
        """From the first byte to the file in its place.

        Raises:
            StreamError: QEMU refused or failed, or what arrived is not whole.
            OSError: the result can not be written.
        """
        with contextlib.ExitStack() as stack:
            place, uri, wake = await self.channel(monitor, stack)
            ready = threading.Event()
            where: list[str] = []
            first = self.target if self.wanted.container is Container.NONE else self.hidden()

            def listening(at: str) -> None:
                where.append(at)
                ready.set()

            def run() -> None:
                try:
                    self.received = receive(
                        place, first, kept=self.wanted.kept, timeout=self.wanted.timeout,
                        listening=listening, watch=self.watch,
                    )  # fmt: skip
                except BaseException as error:
                    self.received = error
                ready.set()

            receiver = threading.Thread(target=run, daemon=True)
            receiver.start()
            try:
                while not ready.wait(0):
                    await asyncio.sleep(0.005)
                if self.received is None:
                    await self.drive(monitor, uri or where[0], receiver)
            except BaseException:
                with contextlib.suppress(ChannelError):
                    await monitor.execute("migrate_cancel")
                await wake()
                await self.joined(receiver)
                raise
            await self.joined(receiver)
        self.keep(first)

    async def channel(
        self, monitor: Monitor, stack: contextlib.ExitStack
    ) -> tuple[str, str | None, Callable[[], Awaitable[None]]]:
        """Where we listen, what QEMU is told, and how a receiver is woken that waits in vain."""
        if monitor.passes_descriptors and not self.wanted.channels:
            ours, theirs = socket.socketpair()
            with theirs:
                await monitor.give(theirs.fileno(), NAME)

            async def take_back() -> None:
                # QEMU keeps the other end open until a migration uses it.
                with contextlib.suppress(ChannelError):
                    await monitor.execute("closefd", {"fdname": NAME})

            # The channel takes the descriptor over.
            return f"fd:{ours.detach()}", f"fd:{NAME}", take_back
        if monitor.passes_descriptors:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vmstream-"))
            place = f"unix:{folder}/capture"
        else:
            place = f"tcp:{monitor.local}:0"

        def knock() -> None:
            with contextlib.suppress(StreamError):
                connect(place, timeout=1).close()

        async def wake() -> None:
            await asyncio.to_thread(knock)

        return place, None, wake

    async def drive(self, monitor: Monitor, uri: str, receiver: threading.Thread) -> None:
        """Migrate, and see it through.

        Raises:
            ChannelError: QEMU says that it failed.
        """
        await monitor.execute("migrate", {"uri": uri})
        while True:
            answer = await monitor.migration()
            status = answer.get("status")
            if status == "completed":
                self.note(downtime=answer.get("downtime"))
                return
            if status not in ACTIVE:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.joined(receiver), 2)
                # QEMU only knows that we closed the channel.
                reason = self.why() or answer.get("error-desc") or f"the migration is {status}"
                raise ChannelError(f"the migration did not finish: {reason}", file=self.qmp)
            if not receiver.is_alive():
                reason = self.why()
                if reason:
                    raise ChannelError(reason, file=self.qmp)
            await asyncio.sleep(0.01)

    def why(self) -> str | None:
        """What went wrong at the receiving end."""
        received = self.received
        if isinstance(received, BaseException):
            return str(received)
        return received.error if received is not None else None

    async def joined(self, receiver: threading.Thread) -> None:
        while receiver.is_alive():
            await asyncio.sleep(0.005)

    def hidden(self) -> Path:
        name = f".{self.target.name[:200]}.{secrets.token_hex(6)}.captured"
        return self.target.with_name(name)

    def keep(self, first: Path) -> None:
        """Put what arrived in its container.

        Raises:
            StreamError: it is not whole.
        """
        received = self.received
        if isinstance(received, StreamError | OSError):
            raise StreamError(str(received), file=str(self.target))
        if isinstance(received, BaseException):
            raise received
        assert received is not None
        if received.error is not None:
            raise StreamError(received.error, file=received.out)
        self.note(bytes=received.bytes, machine=received.machine)
        if first == self.target:
            return
        form = Form.MAPPED_RAM if self.wanted.kept is Kept.MAPPED_RAM else Form.PLAIN
        options = Options(form, container=self.wanted.container, xml=self.wanted.xml)
        try:
            with open_stream(first) as stream:
                convert(stream, self.target, options)
        finally:
            first.unlink(missing_ok=True)

    # Afterwards

    async def leave(self, monitor: Monitor, settings: Settings, *, failed: bool) -> None:
        """End what is under way, let the guest go on, and put every setting back."""
        for path in self.target.parent.glob(f".{self.target.name[:200]}.*.captured*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        try:
            if (await monitor.migration()).get("status") in ACTIVE:
                with contextlib.suppress(ChannelError):
                    await monitor.execute("migrate_cancel")
                await asyncio.wait_for(monitor.settled(), 30)
            await self.resume(monitor, failed=failed)
        except (ChannelError, TimeoutError):
            pass
        failures = await monitor.put_back(settings)
        with contextlib.suppress(ChannelError):
            self.note(after=await monitor.status())
        self.note(not_put_back=tuple(failures))

    async def resume(self, monitor: Monitor, *, failed: bool) -> None:
        """The guest as it is to be left."""
        was_running = self.report.before == "running"
        wanted = self.wanted.afterwards
        run = wanted is Afterwards.RUNNING or (wanted is Afterwards.AS_BEFORE and was_running)
        if failed:
            run = was_running
        status = await monitor.status()
        if run and status != "running":
            await monitor.execute("cont")
        elif not run and status == "running":
            await monitor.execute("stop")

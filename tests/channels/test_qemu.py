"""A real QEMU at the other end, of every transport and of TLS, both as source and destination."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from certificates import make_psk, make_x509
from qemu.qmp import QMPError
from transports import TRANSPORTS, Ways, creds

import vmstream
from guests import Guest, started, until
from vmstream.channels.channel import Channel, Listener, connect, listen
from vmstream.channels.file import StreamReader, StreamWriter
from vmstream.channels.tls import X509, Credentials, Psk
from vmstream.errors import ChannelError

pytestmark = pytest.mark.interop

MACHINE = ("-M", "pc", "-m", "16", "-nodefaults")
SOON = 30.0

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl command")
needs_psk = pytest.mark.skipif(
    sys.version_info < (3, 13), reason="pre-shared keys need Python 3.13"
)


@pytest.fixture(params=["qemu72", "qemu100"])
def qemu(request: pytest.FixtureRequest) -> Path:
    """Each QEMU at hand."""
    command: Path = request.getfixturevalue(request.param)
    return command


@pytest.fixture(scope="module")
def x509(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_x509(tmp_path_factory.mktemp("tls") / "x509")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_x509(tmp_path_factory.mktemp("tls") / "x509")


def received(channel: Channel) -> bytes:
    with channel, StreamReader(channel) as reader:
        return b"".join(reader.pieces())


async def received_from(listener: Listener, channels: int) -> list[bytes]:
    """Everything of each channel, in the order in which they arrived."""
    receiving = []
    for _ in range(channels):
        channel = await asyncio.to_thread(listener.accept)
        receiving.append(asyncio.create_task(asyncio.to_thread(received, channel)))
    return await asyncio.gather(*receiving)


async def migrated(
    guest: Guest, place: str, tls: Credentials | None = None, theirs: str = "", channels: int = 1
) -> list[bytes]:
    """What a guest sends to us."""
    with listen(place, timeout=SOON, tls=tls) as listener:
        receiving = asyncio.create_task(received_from(listener, channels))
        await guest.execute("migrate", {"uri": theirs or str(listener.address)})
        await guest.migration_completed()
        return await asyncio.wait_for(receiving, SOON)


@contextlib.asynccontextmanager
async def destination(
    qemu: Path, folder: Path, *more: str, **parameters: object
) -> AsyncIterator[Guest]:
    async with started(qemu, [*MACHINE, *more, "-incoming", "defer"], folder, "in") as guest:
        await guest.set_migration((), parameters)
        yield guest


async def place_of(guest: Guest, uri: str) -> str | dict[str, Any]:
    """Where a destination really listens."""
    await guest.execute("migrate-incoming", {"uri": uri})
    answer = await guest.execute("query-migrate")
    (address,) = answer.get("socket-address", [{}])
    return {"transport": "socket", **address} if address.get("type") == "inet" else uri


def send(stream: bytes, place: Any, tls: Credentials | None = None) -> None:
    with StreamWriter(connect(place, timeout=SOON, tls=tls)) as writer:
        writer.put_buffers(*(stream[at : at + 4096] for at in range(0, len(stream), 4096)))


async def arrived(guest: Guest) -> None:
    """Wait until the guest is whole, and ours to start."""

    async def completed() -> bool:
        return bool((await guest.query_migrate()).get("status") == "completed")

    await until(completed, "the destination to complete")
    assert (await guest.execute("query-status"))["status"] in ("paused", "inmigrate", "prelaunch")


def assert_whole(*channels: bytes) -> None:
    with vmstream.open(*channels) as stream:
        assert stream.complete
        assert not stream.faults
        assert stream.machine.startswith("pc-i440fx")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_guest_goes_to_us_and_on_to_another(qemu: Path, transport: str, tmp_path: Path) -> None:
    async def run() -> None:
        to_us = Ways(transport, tmp_path, to_us=True)
        async with started(qemu, MACHINE, tmp_path, "out") as source:
            await to_us.hand_over(source)
            theirs = to_us.theirs if to_us.theirs != to_us.ours else ""
            (stream,) = await migrated(source, to_us.ours, theirs=theirs)
        assert_whole(stream)
        (folder := tmp_path / "on").mkdir()
        onward = Ways(transport, folder, to_us=False)
        async with destination(qemu, folder) as guest:
            await onward.hand_over(guest)
            place = await place_of(guest, onward.theirs)
            at = place if onward.theirs == onward.ours else onward.ours
            await asyncio.to_thread(send, stream, at)
            await arrived(guest)

    asyncio.run(run())


async def there_and_on(qemu: Path, folder: Path, kind: str, ours: Credentials) -> None:
    """A guest goes to us and on to another, through TLS both times."""
    directory = Path(ours.directory)
    out = creds(kind, directory, "client")
    async with started(qemu, [*MACHINE, *out], folder, "out") as source:
        await source.set_migration((), {"tls-creds": "tls"})
        (stream,) = await migrated(source, "tcp:127.0.0.1:0", ours)
    assert_whole(stream)
    onto = creds(kind, directory, "server")
    async with destination(qemu, folder, *onto, **{"tls-creds": "tls"}) as guest:
        place = await place_of(guest, "tcp:127.0.0.1:0")
        await asyncio.to_thread(send, stream, place, ours)
        await arrived(guest)


@needs_openssl
def test_tls_with_certificates(qemu: Path, x509: Path, tmp_path: Path) -> None:
    asyncio.run(there_and_on(qemu, tmp_path, "x509", X509(str(x509))))


@needs_psk
def test_tls_with_a_shared_key(qemu: Path, tmp_path: Path) -> None:
    keys = make_psk(tmp_path / "psk")
    asyncio.run(there_and_on(qemu, tmp_path, "psk", Psk(str(keys))))


@needs_openssl
@pytest.mark.parametrize("hostname", ["vm.example", "elsewhere.example"])
def test_qemu_checks_the_name_that_it_is_told(
    qemu: Path, x509: Path, tmp_path: Path, hostname: str
) -> None:
    async def run() -> None:
        out = creds("x509", x509, "client")
        async with started(qemu, [*MACHINE, *out], tmp_path, "out") as source:
            await source.set_migration((), {"tls-creds": "tls", "tls-hostname": hostname})
            if hostname == "vm.example":
                (stream,) = await migrated(source, f"unix:{tmp_path}/s", X509(str(x509)))
                assert_whole(stream)
            else:
                await refused(source, X509(str(x509)))

    asyncio.run(run())


async def refused(source: Guest, tls: Credentials) -> None:
    """The migration fails at both ends; the source keeps its guest."""
    with listen("tcp:127.0.0.1:0", timeout=SOON, tls=tls) as listener:
        receiving = asyncio.create_task(received_from(listener, 1))
        await source.execute("migrate", {"uri": str(listener.address)})

        async def failed() -> bool:
            return bool((await source.execute("query-migrate")).get("status") == "failed")

        await until(failed, "the migration to fail")
        # With TLS 1.3 the server may be through before the client has looked.
        outcome = (await asyncio.gather(receiving, return_exceptions=True))[0]
        assert isinstance(outcome, ChannelError) or outcome == [b""]
    assert (await source.execute("query-status"))["status"] == "prelaunch"


@needs_openssl
def test_each_refuses_the_certificates_of_a_stranger(
    qemu: Path, x509: Path, stranger: Path, tmp_path: Path
) -> None:
    async def run() -> None:
        out = creds("x509", x509, "client")
        async with started(qemu, [*MACHINE, *out], tmp_path, "out") as source:
            await source.set_migration((), {"tls-creds": "tls"})
            await refused(source, X509(str(stranger)))
        onto = creds("x509", x509, "server")
        async with destination(qemu, tmp_path, *onto, **{"tls-creds": "tls"}) as guest:
            place = await place_of(guest, "tcp:127.0.0.1:0")
            with pytest.raises(ChannelError, match="the certificate of the other end is no good"):
                await asyncio.to_thread(send, b"QEVM", place, X509(str(stranger)))

    asyncio.run(run())


@needs_openssl
@pytest.mark.parametrize("secret", [False, True])
def test_every_channel_of_multifd(qemu: Path, x509: Path, tmp_path: Path, secret: bool) -> None:
    async def run() -> None:
        out = creds("x509", x509, "client") if secret else ()
        async with started(qemu, [*MACHINE, *out], tmp_path, "out") as source:
            parameters = {"multifd-channels": 3} | ({"tls-creds": "tls"} if secret else {})
            await source.set_migration(("multifd",), parameters)
            tls = X509(str(x509)) if secret else None
            channels = await migrated(source, "tcp:127.0.0.1:0", tls, channels=4)
        channels.sort(key=lambda data: not data.startswith(b"QEVM"))
        assert_whole(*channels)

    asyncio.run(run())


def send_all(channels: list[bytes], place: Any, tls: Credentials | None, goodbye: bool) -> None:
    """Every channel as soon as it stands, the main one first.

    A destination reads the first packet of a channel before it looks at the
    next connection, so that none may wait for the others. The main channel's last
    section is kept until all others have ended: who has read it need not look at them.
    """
    main, *others = channels
    with vmstream.open(*channels) as stream:
        last = stream.sections[-1].offset
    with (
        StreamWriter(connect(place, timeout=SOON, tls=tls)) as first,
        ThreadPoolExecutor(len(channels)) as pool,
    ):
        sending = [pool.submit(send_one, first, main[:last])]
        with contextlib.ExitStack() as stack:
            for data in others:
                writer = StreamWriter(connect(place, timeout=SOON, tls=tls))
                stack.enter_context(writer)
                sending.append(pool.submit(send_one, writer, data, goodbye))
            for done in sending:
                done.result(SOON)
        time.sleep(0.3)
        send_one(first, main[last:], goodbye)


def send_one(writer: StreamWriter, data: bytes, goodbye: bool = False) -> None:
    writer.put_buffers(data)
    if goodbye:
        writer.finish()
    else:
        writer.flush()


async def multifd_there_and_on(
    qemu: Path, folder: Path, tls: Credentials | None, *, goodbye: bool = True
) -> None:
    """A guest goes to us without TLS, and on to another with it, over four channels."""
    async with started(qemu, MACHINE, folder, "out") as source:
        await source.set_migration(("multifd",), {"multifd-channels": 3})
        channels = await migrated(source, "tcp:127.0.0.1:0", channels=4)
    channels.sort(key=lambda data: not data.startswith(b"QEVM"))
    onto = creds("x509", Path(tls.directory), "server") if tls else ()
    parameters = {"multifd-channels": 3} | ({"tls-creds": "tls"} if tls else {})
    async with destination(qemu, folder, *onto, **parameters) as guest:
        await guest.set_migration(("multifd",), {})
        place = await place_of(guest, "tcp:127.0.0.1:0")
        await asyncio.to_thread(send_all, channels, place, tls, goodbye)
        await arrived(guest)


@needs_openssl
@pytest.mark.parametrize("secret", [False, True])
def test_every_channel_of_multifd_goes_on(
    qemu: Path, x509: Path, tmp_path: Path, secret: bool
) -> None:
    tls = X509(str(x509)) if secret else None
    asyncio.run(multifd_there_and_on(qemu, tmp_path, tls))


@needs_openssl
def test_qemu_7_takes_the_end_of_a_multifd_channel_without_goodbye(
    qemu72: Path, x509: Path, tmp_path: Path
) -> None:
    asyncio.run(multifd_there_and_on(qemu72, tmp_path, X509(str(x509)), goodbye=False))


@needs_openssl
def test_qemu_10_wants_a_goodbye_on_every_multifd_channel(
    qemu100: Path, x509: Path, tmp_path: Path
) -> None:
    with pytest.raises((QMPError, RuntimeError, ChannelError)):
        asyncio.run(multifd_there_and_on(qemu100, tmp_path, X509(str(x509)), goodbye=False))
    assert "TLS connection was non-properly terminated" in (tmp_path / "in.log").read_text()

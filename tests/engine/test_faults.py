"""What goes wrong on the way: a clear error, nothing leaked or half-written, the guest lives."""

from __future__ import annotations

import asyncio
import gc
import random
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from certificates import make_x509
from leaks import nothing_leaks

from corpus import case_named
from guests import Guest, until
from hops import KINDS, SOON, Kind, beside, destination, running
from vmstream.channels.tls import X509
from vmstream.engine.faults import parse_fault
from vmstream.errors import ChannelError
from vmstream.tools.open import open_stream
from vmstream.tools.receive import ReceiveReport, receive
from vmstream.tools.relay import RelayReport, relay
from vmstream.tools.send import SendReport, send

SEED = 6
POINTS = 12
ALL_POINTS = 100
STREAM_SIZE = 300_000
"""Less than any stream of the guest takes."""


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    with nothing_leaks():
        yield


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole stream, as a file."""
    path = tmp_path_factory.mktemp("recorded") / "guest.mig"
    with open_stream(case_named("pc-7.2").main) as stream:
        path.write_bytes(b"".join(bytes(piece) for piece in stream.source.pieces()))
    del stream
    gc.collect()  # a mapped file lives as long as views of it do
    return path


def receiving(
    out: Path, fault: str | None = None, *, timeout: float = SOON, place: str = "tcp:127.0.0.1:0"
) -> Callable[[Callable[[str], None]], ReceiveReport]:
    """Our end."""

    def work(tell: Callable[[str], None]) -> ReceiveReport:
        chosen = parse_fault(fault) if fault else None
        return receive(place, out, fault=chosen, timeout=timeout, listening=tell)

    return work


async def failed(source: Guest) -> None:
    """The migration failed at the source, and its guest goes on."""

    async def over() -> bool:
        return (await source.execute("query-migrate")).get("status") == "failed"

    await until(over, "the migration to fail")
    before = await source.rounds()

    async def runs() -> bool:
        running = (await source.execute("query-status"))["running"]
        return running and await source.rounds() != before

    await until(runs, "the guest to go on")


def assert_kept(report: ReceiveReport, out: Path) -> None:
    """Nothing stands under the final name; what arrived is kept and readable."""
    assert not report.complete
    assert report.error is not None
    assert not out.exists()
    if not report.bytes:
        assert not Path(report.out).exists()
        return
    assert report.out.startswith(f"{out}.partial")
    sizes = {path.name: path.stat().st_size for path in Path(report.out).iterdir()}
    assert sizes == {file.path: file.size for file in report.files}
    if sizes["stream.mig"] >= 8:
        with open_stream(report.out) as stream:
            assert not stream.complete


def points(count: int) -> list[int]:
    return random.Random(SEED).sample(range(1, STREAM_SIZE), count)


@pytest.mark.interop
@pytest.mark.parametrize("name", ["qemu72", "qemu100"])
@pytest.mark.parametrize(
    "count", [POINTS // 2, pytest.param(ALL_POINTS // 2, marks=pytest.mark.slow)]
)
def test_the_connection_breaks_at_a_random_byte(
    name: str, count: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Through a relay that dies: for us the source dies, for the source its destination.

    Without a return path a source may take for arrived what stands in the sockets' buffers.
    """
    qemu: Path = request.getfixturevalue(name)

    async def run() -> None:
        async with running(qemu, tmp_path, KINDS["return-path"]) as source:
            for at in points(count):
                out = tmp_path / f"guest-{at}"
                uri, receipt = await beside(receiving(out))
                place, relayed = await beside(cutting(uri, f"cut@{at}"))
                await source.execute("migrate", {"uri": place})
                passed = await asyncio.wait_for(relayed, SOON)
                report = await asyncio.wait_for(receipt, SOON)
                await failed(source)
                assert passed.bytes == at
                assert report.bytes == at or "broke the connection" in str(report.error)
                assert uri in str(report.error)
                assert "close" in str(report.error) or "broke" in str(report.error)
                assert_kept(report, out)

    asyncio.run(run())


def cutting(uri: str, fault: str) -> Callable[[Callable[[str], None]], RelayReport]:
    def work(tell: Callable[[str], None]) -> RelayReport:
        return relay("tcp:127.0.0.1:0", uri, fault=parse_fault(fault), timeout=SOON, listening=tell)

    return work


@pytest.mark.interop
@pytest.mark.parametrize(
    ("kind", "fault", "said"),
    [
        ("return-path", "refuse", "refused on purpose"),
        ("return-path", "cut", "cut on purpose"),
        ("return-path", "cut@1", "cut on purpose"),
        ("return-path", "cut@100000", "cut on purpose"),
        ("return-path", "cut@section=cpu", "cut on purpose"),
        ("return-path", "cut@iteration=1", "cut on purpose"),
        ("return-path", "fail@section=i8259", "failure was told on purpose"),
        ("multifd-return-path", "cut@section=i8259", "cut on purpose"),
    ],
)
def test_a_fault_of_ours_fails_the_migration(
    kind: str, fault: str, said: str, qemu100: Path, tmp_path: Path
) -> None:
    out = tmp_path / "guest"

    async def run() -> ReceiveReport:
        async with running(qemu100, tmp_path, KINDS[kind]) as source:
            uri, receipt = await beside(receiving(out, fault))
            await source.execute("migrate", {"uri": uri})
            report = await asyncio.wait_for(receipt, SOON)
            await failed(source)
            assert uri in str(report.error)
            return report

    report = asyncio.run(run())
    assert said in str(report.error)
    assert_kept(report, out)
    if fault == "cut@100000":
        assert report.bytes == 100_000
    if "section=" in fault:
        assert report.last_section is not None
        with open_stream(report.out) as stream:
            assert fault.partition("=")[2] in {section.name for section in stream.sections}


@pytest.mark.interop
def test_a_stall_of_ours_holds_the_source(qemu72: Path, tmp_path: Path) -> None:
    async def run() -> ReceiveReport:
        async with running(qemu72, tmp_path, KINDS["return-path"]) as source:
            uri, receipt = await beside(receiving(tmp_path / "guest", "stall:1@section=i8259"))
            await source.execute("migrate", {"uri": uri})
            await asyncio.sleep(0.5)
            assert (await source.query_migrate())["status"] != "completed"
            await source.migration_completed()
            return await asyncio.wait_for(receipt, SOON)

    report = asyncio.run(run())
    assert report.complete
    assert report.seconds > 1


@pytest.mark.interop
def test_a_relay_that_changes_a_byte_is_found_out(qemu72: Path, tmp_path: Path) -> None:
    kind: Kind = KINDS["return-path"]
    (onward := tmp_path / "onward").mkdir()

    async def run() -> RelayReport:
        async with (
            running(qemu72, tmp_path, kind) as source,
            destination(qemu72, onward, kind) as guest,
        ):
            await guest.execute("migrate-incoming", {"uri": f"unix:{onward}/s"})
            uri, relayed = await beside(cutting(f"unix:{onward}/s", "corrupt@4"))
            await source.execute("migrate", {"uri": uri})
            await failed(source)
            return await asyncio.wait_for(relayed, SOON)

    report = asyncio.run(run())
    assert not report.complete
    assert report.fault == "the byte at 0x4 was changed on purpose"


def started(work: Callable[[Callable[[str], None]], ReceiveReport]) -> tuple[str, list[object]]:
    """Start it in a thread; returns its URI, and a list that will hold thread and result."""
    told: list[str] = []
    ready = threading.Event()
    result: list[object] = []

    def tell(uri: str) -> None:
        told.append(uri)
        ready.set()

    thread = threading.Thread(target=lambda: result.append(work(tell)))
    thread.start()
    assert ready.wait(SOON)
    result.append(thread)
    return told[0], result


def report_of(result: list[object]) -> ReceiveReport:
    thread = result.pop(0)
    assert isinstance(thread, threading.Thread)
    thread.join(SOON)
    report = result[0]
    assert isinstance(report, ReceiveReport)
    return report


def connected(uri: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(uri.rpartition(":")[2])), SOON)


def test_a_source_that_stalls_is_given_up(recorded: Path, tmp_path: Path) -> None:
    uri, result = started(receiving(tmp_path / "out", timeout=0.3))
    with connected(uri) as source:
        source.sendall(recorded.read_bytes()[:5000])
        report = report_of(result)
    assert uri in str(report.error)
    assert "nothing arrived for 0.3 s" in str(report.error)
    assert_kept(report, tmp_path / "out")


def test_no_source_comes(tmp_path: Path) -> None:
    report = receive("tcp:127.0.0.1:0", tmp_path / "out", timeout=0.1)
    assert "no connection arrived for 0.1 s" in str(report.error)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_migration_is_refused(tmp_path: Path) -> None:
    uri, result = started(receiving(tmp_path / "out"))
    with connected(uri) as source:
        source.sendall(b"GET / HTTP/1.1\r\n\r\n")
        report = report_of(result)
    assert f"{uri}, offset 0x0: what arrives is no migration" in str(report.error)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def files_limited(size: int) -> Iterator[None]:
    """No file of this process can grow beyond so many bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.interop
def test_a_full_disk_fails_the_migration_before_the_guest_is_given_up(
    qemu100: Path, tmp_path: Path
) -> None:
    out = tmp_path / "guest"

    async def run() -> ReceiveReport:
        async with running(qemu100, tmp_path, KINDS["return-path"]) as source:
            uri, receipt = await beside(receiving(out))
            with files_limited(200_000):
                await source.execute("migrate", {"uri": uri})
                report = await asyncio.wait_for(receipt, SOON)
            await failed(source)
            return report

    report = asyncio.run(run())
    assert "what arrives can not be kept in" in str(report.error)
    assert "File too large" in str(report.error)
    assert report.files[0].size == 200_000
    assert_kept(report, out)


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        uri = f"tcp:127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ChannelError, match=f"{uri}: could not listen: Address already in use"):
            receive(uri, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_fails_is_named(recorded: Path, tmp_path: Path) -> None:
    report = receive("exec:cat /dev/null; echo broken >&2; exit 3", tmp_path / "out", timeout=SOON)
    assert "exit status 3: broken" in str(report.error)
    sent = sending(recorded, "exec:cat > /dev/null; echo full >&2; exit 4")
    assert "exit status 4: full" in str(sent.error)
    assert "exec:" in str(sent.error)
    assert list(tmp_path.iterdir()) == []


def sending(path: Path, place: str, **options: object) -> SendReport:
    with open_stream(path) as stream:
        return send(stream, place, **({"timeout": SOON} | options))  # type: ignore[arg-type]


def test_a_destination_that_reads_nothing_is_given_up(tmp_path: Path, qemu72: Path) -> None:
    big = tmp_path / "big.mig"

    async def run() -> None:
        async with running(qemu72, tmp_path, KINDS["plain"], filled=True) as source:
            await source.execute("migrate", {"uri": f"exec:cat > {big}"})
            await source.migration_completed()

    asyncio.run(run())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"tcp:127.0.0.1:{silent.getsockname()[1]}"
        report = sending(big, uri, timeout=0.5)
    assert f"{uri}" in str(report.error)
    assert "nothing could be sent for 0.5 s" in str(report.error)


def test_nobody_listens(recorded: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        uri = f"tcp:127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(ChannelError, match=f"{uri}: could not connect: Connection refused"):
        sending(recorded, uri)


@pytest.mark.interop
@pytest.mark.parametrize("name", ["qemu72", "qemu100"])
def test_a_destination_that_refuses_says_so(
    name: str, request: pytest.FixtureRequest, recorded: Path, tmp_path: Path
) -> None:
    """The guest is a pc, the destination a q35."""
    qemu: Path = request.getfixturevalue(name)
    kind = KINDS["plain"]

    async def run() -> SendReport:
        async with destination(qemu, tmp_path, kind) as guest:
            await guest.execute("migrate-incoming", {"uri": f"unix:{tmp_path}/s"})
            return await asyncio.to_thread(sending, recorded, f"unix:{tmp_path}/s")

    report = asyncio.run(run())
    assert not report.complete
    assert str(tmp_path) in str(report.error)
    assert "closed" in str(report.error) or "says that loading failed" in str(report.error)


@pytest.mark.interop
def test_the_certificate_of_a_stranger_is_refused(qemu100: Path, tmp_path: Path) -> None:
    ours, theirs = make_x509(tmp_path / "ours"), make_x509(tmp_path / "theirs")
    out = tmp_path / "out"

    def work(tell: Callable[[str], None]) -> ReceiveReport:
        tls = X509(str(ours))
        return receive("tcp:127.0.0.1:0", out, tls=tls, timeout=SOON, listening=tell)

    async def run() -> ReceiveReport:
        async with running(qemu100, tmp_path, KINDS["tls"], theirs) as source:
            uri, receipt = await beside(work)
            await source.execute("migrate", {"uri": uri})
            await failed(source)
            report = await asyncio.wait_for(receipt, SOON)
            assert uri in str(report.error)
            return report

    report = asyncio.run(run())
    assert not report.complete
    assert not out.exists()

"""A running QEMU's guest into a file and back, and the QEMU left as it was."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from guests import Guest, firmware, started
from vmstream.engine.monitor import parse_monitor
from vmstream.errors import ChannelError
from vmstream.sources.libvirt import Format
from vmstream.tools.capture import Afterwards, CaptureReport, Wanted, _Capture, capture
from vmstream.tools.convert import Container
from vmstream.tools.open import open_stream
from vmstream.tools.receive import Kept
from vmstream.tools.restore import restore, start

ROUNDS = 0x500
"""Where the guest counts its rounds."""
CAPTURE = (sys.executable, "-m", "vmstream", "capture")


@pytest.fixture(params=["7.2", "10.0"])
def qemu(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue({"7.2": "qemu72", "10.0": "qemu100"}[request.param])
    return found


def machine(folder: Path) -> list[str]:
    image = folder / "firmware.bin"
    if not image.exists():
        image.write_bytes(firmware())
    return ["-M", "pc", "-accel", "tcg", "-m", "16", "-bios", str(image), "-net", "none"]


@contextlib.asynccontextmanager
async def counting(qemu: Path, folder: Path, *more: str) -> AsyncIterator[tuple[Guest, str]]:
    """A guest that counts, with a second monitor for us."""
    place = str(folder / "qmp")
    words = [*machine(folder), *more, "-qmp", f"unix:{place},server=on,wait=off"]
    async with started(qemu, words, folder) as guest:
        await guest.run_firmware()
        yield guest, place


async def settings(guest: Guest) -> tuple[Any, Any]:
    return (
        await guest.execute("query-migrate-capabilities"),
        await guest.execute("query-migrate-parameters"),
    )


def counted(path: Path) -> int:
    """The count in a captured guest's memory."""
    with open_stream(path) as stream:
        assert stream.complete
        assert not stream.faults
        return int.from_bytes(stream.memory["pc.ram"].read(ROUNDS, 2), "little")


async def goes_on(guest: Guest) -> None:
    """The guest runs and counts."""
    assert (await guest.execute("query-status"))["status"] == "running"
    before = await guest.rounds()
    for _ in range(200):
        if await guest.rounds() != before:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the guest does not count")


async def there_and_back(qemu: Path, folder: Path, times: int) -> None:
    async with counting(qemu, folder) as (guest, place):
        before = await settings(guest)
        for number in range(times):
            out = folder / f"guest-{number}"
            report = await asyncio.to_thread(capture, place, out)
            assert report.complete, report.error
            assert (report.before, report.after) == ("running", "running")
            await goes_on(guest)
            assert await settings(guest) == before
            await restored(qemu, folder, out)
            out.unlink()


async def restored(qemu: Path, folder: Path, out: Path, *more: str) -> None:
    """The guest in a file goes on in another QEMU from where it was."""
    saved = counted(out)
    place = str(folder / "waiting")
    words = [
        *machine(folder),
        *more,
        "-incoming",
        "defer",
        "-qmp",
        f"unix:{place},server=on,wait=off",
    ]
    async with started(qemu, words, folder, "destination") as guest:
        with open_stream(out) as stream:
            report = await asyncio.to_thread(restore, stream, place)
        assert report.complete, report.error
        assert report.state == "paused"
        assert await guest.rounds() == saved
        await guest.execute("cont")
        await goes_on(guest)


@pytest.mark.interop
def test_there_and_back_in_a_row(qemu: Path, tmp_path: Path) -> None:
    asyncio.run(there_and_back(qemu, tmp_path, 3))


@pytest.mark.interop
@pytest.mark.slow
def test_there_and_back_fifty_times(qemu: Path, tmp_path: Path) -> None:
    asyncio.run(there_and_back(qemu, tmp_path, 50))


WAYS = {
    "multifd": Wanted(channels=2),
    "multifd zstd": Wanted(channels=2, compression="zstd"),
    "xbzrle": Wanted(xbzrle=True, bandwidth=1 << 30, downtime=100),
    "mapped-ram": Wanted(kept=Kept.MAPPED_RAM),
    "zstd container": Wanted(container=Container.ZSTD),
    "paused": Wanted(afterwards=Afterwards.PAUSED),
}


@pytest.mark.interop
@pytest.mark.parametrize("way", WAYS)
def test_ways_to_capture(qemu: Path, tmp_path: Path, way: str) -> None:
    async def run() -> None:
        async with counting(qemu, tmp_path) as (guest, place):
            before = await settings(guest)
            report = await asyncio.to_thread(capture, place, tmp_path / "out", WAYS[way])
            assert report.complete, report.error
            assert counted(tmp_path / "out") > 0
            assert await settings(guest) == before
            if way == "paused":
                assert (await guest.execute("query-status"))["status"] == "postmigrate"
                await guest.execute("cont")
            await goes_on(guest)

    asyncio.run(run())


HELD_UP = ("pause-before-switchover", "postcopy-ram", "return-path", "xbzrle", "release-ram")
"""Settings for a migration to another host."""


@pytest.mark.interop
@pytest.mark.parametrize("channels", [0, 2])
def test_capabilities_for_another_host_do_not_matter(
    qemu: Path, tmp_path: Path, channels: int
) -> None:
    """With ``pause-before-switchover`` QEMU (2.11+) would wait for ``migrate-continue``."""

    async def run() -> None:
        async with counting(qemu, tmp_path) as (guest, place):
            await guest.set_migration(HELD_UP, {})
            before = await settings(guest)
            wanted = Wanted(channels=channels, timeout=20)
            report = await asyncio.to_thread(capture, place, tmp_path / "out", wanted)
            assert report.complete, report.error
            assert await settings(guest) == before
            await goes_on(guest)
            assert counted(tmp_path / "out") > 0

    asyncio.run(run())


@pytest.mark.interop
@pytest.mark.parametrize("machine_type", ["pc-i440fx-2.3", "pc-i440fx-2.2"])
def test_machine_types_without_footers(qemu72: Path, tmp_path: Path, machine_type: str) -> None:
    """The older one writes no description, either."""

    async def run() -> None:
        words = ["-machine", machine_type]
        async with counting(qemu72, tmp_path, *words) as (guest, place):
            report = await asyncio.to_thread(capture, place, tmp_path / "out")
            assert report.complete, report.error
            await goes_on(guest)
        await restored(qemu72, tmp_path, tmp_path / "out", *words)

    asyncio.run(run())


@pytest.mark.interop
def test_a_background_snapshot_does_not_stop_the_guest(qemu: Path, tmp_path: Path) -> None:
    async def run() -> CaptureReport:
        async with counting(qemu, tmp_path) as (guest, place):
            wanted = Wanted(live=True)
            report = await asyncio.to_thread(capture, place, tmp_path / "out", wanted)
            await goes_on(guest)
            return report

    report = asyncio.run(run())
    if not report.complete and "not supported by host kernel" in (report.error or ""):
        pytest.skip("this kernel lets no userfaultfd watch for writes")
    assert report.complete, report.error
    assert counted(tmp_path / "out") > 0


@pytest.mark.interop
def test_a_libvirt_image_has_its_xml(qemu72: Path, tmp_path: Path) -> None:
    xml = "<domain type='qemu'><name>g</name></domain>"

    async def run() -> None:
        async with counting(qemu72, tmp_path) as (_, place):
            wanted = Wanted(container=Container.LIBVIRT, xml=xml)
            report = await asyncio.to_thread(capture, place, tmp_path / "out", wanted)
            assert report.complete, report.error

    asyncio.run(run())
    data = (tmp_path / "out").read_bytes()
    assert data.startswith(b"LibvirtQemudSave")
    assert xml.encode() in data[:4096]
    assert Format.RAW == 0
    assert counted(tmp_path / "out") > 0


async def interrupted(guest: Guest, place: str, out: Path, after: float) -> int:
    process = await asyncio.create_subprocess_exec(
        *CAPTURE, str(out), "--qmp", place, "--bandwidth", "0.5",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    await asyncio.sleep(after)
    if process.returncode is None:
        process.send_signal(signal.SIGINT)
    return await asyncio.wait_for(process.wait(), 30)


@pytest.mark.interop
def test_interrupted_at_random_moments(qemu: Path, tmp_path: Path) -> None:
    chance = random.Random(7)

    async def run() -> None:
        async with counting(qemu, tmp_path) as (guest, place):
            before = await settings(guest)
            for _ in range(5):
                out = tmp_path / "out"
                status = await interrupted(guest, place, out, chance.uniform(0.1, 1.6))
                await goes_on(guest)
                assert await settings(guest) == before
                assert out.exists() or status != 0
                if out.exists():  # the interrupt came when all was done but to say so
                    with open_stream(out) as stream:
                        assert stream.complete
                out.unlink(missing_ok=True)

    asyncio.run(run())


@pytest.mark.interop
@pytest.mark.parametrize("channels", [0, 2])
def test_an_end_before_qemu_was_told_to_migrate(
    channels: int, qemu72: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU then has our socket's other end, and would keep it for ever."""

    async def drive(*_: object) -> None:
        raise RuntimeError("interrupted")

    monkeypatch.setattr(_Capture, "drive", drive)

    async def run() -> None:
        async with counting(qemu72, tmp_path) as (guest, place):
            before = await settings(guest)
            wanted = Wanted(channels=channels)
            with pytest.raises(RuntimeError, match="interrupted"):
                await asyncio.wait_for(
                    asyncio.to_thread(capture, place, tmp_path / "out", wanted), 20
                )
            await goes_on(guest)
            assert await settings(guest) == before

    asyncio.run(run())


@pytest.mark.interop
def test_a_full_disk_leaves_the_guest_as_it_was(qemu72: Path, tmp_path: Path) -> None:
    async def run() -> None:
        async with counting(qemu72, tmp_path) as (guest, place):
            before = await settings(guest)
            out = tmp_path / "out"
            process = await asyncio.create_subprocess_exec(
                "prlimit", "--fsize=100000", *CAPTURE, str(out), "--qmp", place,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            said = b"".join(await asyncio.wait_for(process.communicate(), 60)).decode()
            assert process.returncode == 1, said
            assert "File too large" in said
            await goes_on(guest)
            assert await settings(guest) == before
            assert not out.exists()

    asyncio.run(run())


@pytest.mark.interop
def test_a_migration_under_way_is_not_touched(qemu72: Path, tmp_path: Path) -> None:
    async def run() -> None:
        async with counting(qemu72, tmp_path) as (guest, place):
            await guest.execute("migrate-set-parameters", {"max-bandwidth": 1000})
            await guest.execute("migrate", {"uri": "exec:cat > /dev/null"})
            with pytest.raises(ChannelError, match="under way already"):
                await asyncio.to_thread(capture, place, tmp_path / "out")
            assert (await guest.query_migrate())["status"] in ("setup", "active")

    asyncio.run(run())


@pytest.mark.interop
def test_restore_starts_a_qemu_and_says_why_one_refuses(qemu: Path, tmp_path: Path) -> None:
    async def run() -> None:
        async with counting(qemu, tmp_path) as (_, place):
            assert (await asyncio.to_thread(capture, place, tmp_path / "out")).complete

    asyncio.run(run())
    words = [str(qemu), *machine(tmp_path), "-display", "none"]
    good = start(words, detach=True)
    try:
        with open_stream(tmp_path / "out") as stream:
            report = restore(stream, good, run=True)
        assert report.complete, report.error
        assert report.state == "running"
        assert good.process.poll() is None
    finally:
        good.end()
    with open_stream(tmp_path / "out") as stream:
        report = restore(stream, start([*words, "-m", "32"], detach=True))
    assert not report.complete
    assert [finding.code for finding in report.findings] == ["ram-block-size"]


def test_nobody_at_the_socket_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ChannelError, match="no monitor answers"):
        capture(str(tmp_path / "nobody"), tmp_path / "out")


@pytest.mark.parametrize(
    ("place", "address"),
    [
        ("/run/q", "/run/q"),
        ("unix:/run/q,server=on", "/run/q"),
        ("localhost:4444", ("localhost", 4444)),
        ("tcp:10.0.0.1:4444", ("10.0.0.1", 4444)),
        (":4444", ("127.0.0.1", 4444)),
    ],
)
def test_where_a_monitor_is(place: str, address: object) -> None:
    assert parse_monitor(place) == address


@pytest.mark.parametrize("wanted", [Wanted(live=True, channels=2), Wanted(live=True, xbzrle=True)])
def test_contradictions_are_refused(wanted: Wanted, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="excludes"):
        capture("nowhere", tmp_path / "out", wanted)

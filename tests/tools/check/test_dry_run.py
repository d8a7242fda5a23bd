"""A trial at the real destination: its verdict, and nothing left behind."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from corpus import Case, over_cases
from guests import started
from opened import open_case
from vmstream.engine.own_stream import own_stream
from vmstream.tools.check.dry_run import DryRun, dry_run
from vmstream.tools.check.replay import replay
from vmstream.tools.check.rings import ring_pages
from vmstream.tools.open import open_stream

pytestmark = pytest.mark.interop

PC = ["-M", "pc", "-m", "16", "-net", "none"]


def _children() -> set[str]:
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return set(listed.split())


def _trial(qemu: Path, *more: str, own: list[str] | None = None) -> DryRun:
    words = [str(qemu), *PC, *more]
    with open_stream(own_stream(own or words)) as stream:
        return dry_run(stream, words)


def test_its_own_stream_loads(qemu72: Path) -> None:
    run = _trial(qemu72)
    assert run.loaded
    assert run.version is not None
    assert run.version.startswith("7.2")


def test_a_newer_qemu_loads_an_older_machine(qemu72: Path, qemu100: Path) -> None:
    run = _trial(qemu100, "-M", "pc-i440fx-7.2", own=[str(qemu72), *PC, "-M", "pc-i440fx-7.2"])
    assert run.loaded


def test_a_destination_that_does_not_start_gives_no_verdict(qemu72: Path) -> None:
    run = _trial(qemu72, "-device", "no-such-device", own=[str(qemu72), *PC])
    assert run.loaded is None
    assert "no-such-device" in run.messages


def test_nothing_is_left(qemu72: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = _children()
    _trial(qemu72)
    _trial(qemu72, "-smp", "2", own=[str(qemu72), *PC, "-smp", "3"])
    assert _children() == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["drive", "blockdev"])
def test_disks_are_not_written(qemu72: Path, tmp_path: Path, kind: str) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(os.urandom(1 << 20))
    given = {
        "drive": ["-drive", f"file={disk},format=raw,if=none,id=d"],
        "blockdev": ["-blockdev", f"driver=file,filename={disk},node-name=d"],
    }[kind]
    before = hashlib.sha256(disk.read_bytes()).digest(), disk.stat().st_mtime_ns
    run = _trial(qemu72, *given, "-device", "virtio-blk-pci,drive=d")
    assert run.loaded
    assert (hashlib.sha256(disk.read_bytes()).digest(), disk.stat().st_mtime_ns) == before


def test_a_disk_that_a_running_guest_has_open_is_no_obstacle(qemu72: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(1 << 20))
    words = [*PC, "-drive", f"file={disk},format=raw,if=ide"]
    data = own_stream([str(qemu72), *words])

    async def beside() -> DryRun:
        async with started(qemu72, words, tmp_path) as guest:
            await guest.execute("cont")
            return await asyncio.to_thread(dry_run, stream, [str(qemu72), *words])

    with open_stream(data) as stream:
        assert asyncio.run(beside()).loaded


@over_cases(
    lambda case: (
        case.origin == "data"
        and case.truth["arch"] == "x86_64"
        and case.truth["machine"].startswith(("pc", "q35"))
    )
)
def test_a_replay_has_no_bulk_memory(case: Case) -> None:
    stream = open_case(case)
    size = sum(map(len, replay(stream, (), ring_pages(stream))))
    state = sum(len(section.data or b"") for section in stream.states)
    assert size < state + (3 << 20)

"""A QEMU under our control leaves nothing behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from vmstream.engine.own_stream import own_stream
from vmstream.engine.qemu import launched
from vmstream.errors import SourceError
from vmstream.tools.open import open_stream

pytestmark = pytest.mark.interop


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_it_is_gone_whatever_happens_inside(qemu72: Path) -> None:
    pids = []

    async def fail() -> None:
        async with launched([str(qemu72), "-M", "none"]) as qemu:
            pids.append(qemu.process.pid)
            assert (await qemu.execute("query-status"))["status"] == "prelaunch"
            raise KeyError("something went wrong")

    before = _descriptors()
    with pytest.raises(KeyError):
        asyncio.run(fail())
    assert not _alive(pids[0])
    assert _descriptors() == before


def test_one_that_does_not_start_says_why(qemu72: Path) -> None:
    async def start() -> None:
        async with launched([str(qemu72), "-M", "no-such-machine"]):
            raise AssertionError("it started")

    with pytest.raises(SourceError, match="unsupported machine type"):
        asyncio.run(start())


def test_a_refused_command_is_an_error_that_names_it(qemu72: Path) -> None:
    async def ask() -> None:
        async with launched([str(qemu72), "-M", "none"]) as qemu:
            await qemu.execute("no-such-command")

    with pytest.raises(SourceError, match="no-such-command"):
        asyncio.run(ask())


@pytest.mark.parametrize("machine", ["pc", "q35", "none"])
def test_a_destinations_own_stream_is_whole(qemu72: Path, machine: str) -> None:
    words = [str(qemu72), "-M", machine, "-m", "16", "-net", "none"]
    with open_stream(own_stream(words)) as stream:
        assert stream.complete
        assert stream.machine is not None
        assert stream.machine.startswith({"pc": "pc-i440fx", "q35": "pc-q35"}.get(machine, "none"))

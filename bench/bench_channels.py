"""A guest of 1 GiB over loopback: to us, from us and through us, beside QEMU to QEMU.

Every figure of a table is of the same rounds. In each, the guest goes

- from one QEMU to another, whose memory is new to it: the reference for ``receive``,
  whose file is new, too;
- to ``vmstream receive``, until the source has completed, and then until the file is
  in its place and on the disk; beside that a copy of the file with ``dd conv=fsync``;
- from one QEMU to another whose memory was allocated before: the reference for the rest,
  which have the same destination;
- from ``vmstream send``, from its connection until the destination has said that it
  loaded all, and as a whole command;
- through ``vmstream relay``, and through a relay that only passes on (``splicing.py``):
  what is left of a relay when it knows nothing of migrations.

A figure is the least of the rounds beside the least of its reference; ``middle`` is the
median beside the median, which says more of a machine that other work shares.

Processor time is that of all processes that take part, with the start of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import mmap
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from figures import Figures
from guests import Guest, started
from measuring import Measured
from needed import needed_qemu

Benchmark = Any

ROUNDS = 5
GIB = 1
CHANNELS = 2
MEMORY_LIMIT = 150e6
"""Bytes resident of each of our processes, whatever the guest's size."""
CHUNK = 1 << 24
PATIENCE = 120.0
MACHINE = ("-M", "pc,memory-backend=pc.ram", "-m", f"{GIB}G", "-vga", "none", "-net", "none")
VMSTREAM = (sys.executable, "-m", "vmstream")


@dataclass(frozen=True, slots=True)
class Way:
    """Which QEMU, and how the guest goes."""

    qemu: Path
    multifd: bool

    @property
    def parameters(self) -> dict[str, object]:
        """No limit but the machine's."""
        channels = {"multifd-channels": CHANNELS} if self.multifd else {}
        return {"max-bandwidth": 1 << 40, "downtime-limit": 2000, **channels}

    @property
    def capabilities(self) -> tuple[str, ...]:
        return ("return-path", "multifd") if self.multifd else ("return-path",)


@dataclass(slots=True)
class Run:
    """One migration.

    Attributes:
        seconds: from the first byte, or the source's ``migrate``, until both ends knew
            that all had arrived.
        whole: until our process had ended.
        cpu: seconds of processor time of all who took part.
        peak: bytes resident of ours.
    """

    seconds: float = 0.0
    whole: float = 0.0
    cpu: float = 0.0
    peak: float = 0.0


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder on the disk with the guest's memory, which is random."""
    folder = Path(os.environ.get("VMSTREAM_BENCH", tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix="vmstream-channels-", dir=folder) as name:
        with (Path(name) / "ram.bin").open("wb") as memory:
            for _ in range((GIB << 30) // CHUNK):
                memory.write(os.urandom(CHUNK))
        yield Path(name)


@pytest.mark.parametrize("version", ["7.2", "10.0"])
@pytest.mark.parametrize("multifd", [False, True], ids=["plain", "multifd"])
def test_over_loopback(
    version: str, multifd: bool, benchmark: Benchmark, figures: Figures, place: Path
) -> None:
    way = Way(needed_qemu(version), multifd)
    runs: dict[str, list[Run]] = {}
    benchmark.pedantic(lambda: asyncio.run(_round(way, place, runs)), rounds=ROUNDS)
    named = f"{'multifd' if multifd else 'plain'}, {version}"

    def least(name: str, what: str) -> float:
        return min(getattr(run, what) for run in runs[name])

    for name, reference, limit in (
        ("to us", "QEMU to QEMU", 1.0),
        ("from us", "QEMU to QEMU, allocated", 1.0),
        ("through us", "QEMU to QEMU, allocated", 1.2),
    ):
        known = least(reference, "seconds")
        figures.add(f"{named}: {name}", least(name, "seconds"), "s", reference, known)
        figures.add(f"{named}: {name}", least(name, "seconds"), "s", "limit", limit * known)
        middle = [median(run.seconds for run in runs[what]) for what in (name, reference)]
        figures.add(f"{named}: {name}, middle", middle[0], "s", reference, middle[1])
        cpu = least(reference, "cpu")
        figures.add(f"{named}: {name}, CPU", least(name, "cpu"), "s", reference, cpu)
        peak = max(run.peak for run in runs[name])
        figures.add(f"{named}: {name}, resident", peak / 1e6, "MB", "limit", MEMORY_LIMIT / 1e6)
        assert peak < MEMORY_LIMIT
    passed = least("only passed on", "seconds")
    known = least("QEMU to QEMU, allocated", "seconds")
    figures.add(f"{named}: through us", least("through us", "seconds"), "s", "passed on", passed)
    figures.add(f"{named}: only passed on", passed, "s", "QEMU to QEMU, allocated", known)
    copied = least("dd", "seconds")
    figures.add(f"{named}: to us, in place", least("to us", "whole"), "s", "dd, fsync", copied)
    figures.add(f"{named}: from us, command", least("from us", "whole"), "s")


async def _round(way: Way, place: Path, runs: dict[str, list[Run]]) -> None:
    stream = place / "guest.mig"
    for name, run in (
        ("QEMU to QEMU", _direct(way, place)),
        ("to us", _received(way, place, stream)),
        ("dd", _copied(stream)),
        ("QEMU to QEMU, allocated", _direct(way, place, allocated=True)),
        ("from us", _sent(way, place, stream)),
        ("through us", _relayed(way, place)),
        ("only passed on", _passed_on(way, place)),
    ):
        _warm()
        runs.setdefault(name, []).append(await run)
    stream.unlink()


def _warm() -> None:
    """Have memory that a run will take in use once.

    In a virtual machine the first use of memory can cost more than the whole migration,
    and which run pays for it would be chance.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    mmap.mmap(-1, 3 * GIB << 30, flags=flags).close()


# The four ways


async def _direct(way: Way, place: Path, *, allocated: bool = False) -> Run:
    async with (
        _source(way, place) as source,
        _destination(way, place, allocated=allocated) as (guest, uri),
    ):
        return await _migrate(source, uri, guest)


async def _copied(stream: Path) -> Run:
    began = time.perf_counter()
    command = ("dd", f"if={stream}", f"of={stream}.copy", "bs=1M", "conv=fsync", "status=none")
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0
    Path(f"{stream}.copy").unlink()
    return Run(seconds=time.perf_counter() - began)


async def _received(way: Way, place: Path, stream: Path) -> Run:
    async with (
        _source(way, place) as source,
        _ours("receive", "tcp:127.0.0.1:0", stream) as (uri, ours),
    ):
        return await _migrate(source, uri, None, ours)


async def _sent(way: Way, place: Path, stream: Path) -> Run:
    more = ("--multifd", str(CHANNELS)) if way.multifd else ()
    said = place / "said.json"
    async with _destination(way, place, allocated=True) as (guest, uri):
        before = _cpu(guest)
        began = time.perf_counter()
        async with _ours("send", stream, uri, *more, "--json", said=said) as (_, ours):
            measured = await ours
            whole = time.perf_counter() - began
            await guest.migration_completed()
        report = json.loads(said.read_text())
        assert report["confirmed"]
        cpu = measured.cpu_seconds + _cpu(guest) - before
        return Run(report["seconds"], whole, cpu, measured.peak_bytes)


async def _relayed(way: Way, place: Path) -> Run:
    async with (
        _source(way, place) as source,
        _destination(way, place, allocated=True) as (guest, onward),
        _ours("relay", "tcp:127.0.0.1:0", onward) as (uri, ours),
    ):
        return await _migrate(source, uri, guest, ours)


async def _passed_on(way: Way, place: Path) -> Run:
    """Through a relay that has no time line."""
    async with (
        _source(way, place) as source,
        _destination(way, place, allocated=True) as (guest, uri),
    ):
        script = Path(__file__).with_name("splicing.py")
        process = await asyncio.create_subprocess_exec(
            sys.executable, script, uri.removeprefix("tcp:"), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        port = int(await asyncio.wait_for(process.stdout.readline(), PATIENCE))
        try:
            return await _migrate(source, f"tcp:127.0.0.1:{port}", guest)
        finally:
            process.kill()
            await process.wait()


async def _migrate(
    source: Guest, uri: str, guest: Guest | None, ours: asyncio.Task[Measured] | None = None
) -> Run:
    """Migrate to ``uri`` and wait for both ends."""
    qemus = [source, *([guest] if guest else [])]
    before = sum(map(_cpu, qemus))
    run = Run()
    began = time.perf_counter()
    await source.execute("migrate", {"uri": uri})
    await source.migration_completed()
    if guest is not None:
        await guest.migration_completed()
    run.seconds = time.perf_counter() - began
    if ours is not None:
        measured = await ours
        run.cpu, run.peak = measured.cpu_seconds, measured.peak_bytes
    run.whole = time.perf_counter() - began
    run.cpu += sum(map(_cpu, qemus)) - before
    return run


# Those who take part


@contextlib.asynccontextmanager
async def _source(way: Way, place: Path) -> AsyncIterator[Guest]:
    """A guest, stopped, whose memory is the file."""
    backend = f"memory-backend-file,id=pc.ram,size={GIB}G,share=on,mem-path=ram.bin"
    async with started(way.qemu, [*MACHINE, "-object", backend], place, "source") as guest:
        await guest.set_migration(way.capabilities, way.parameters)
        yield guest


@contextlib.asynccontextmanager
async def _destination(
    way: Way, place: Path, *, allocated: bool
) -> AsyncIterator[tuple[Guest, str]]:
    """A QEMU that waits, and where."""
    backend = f"memory-backend-ram,id=pc.ram,size={GIB}G,prealloc={'on' if allocated else 'off'}"
    arguments = [*MACHINE, "-object", backend, "-incoming", "defer"]
    async with started(way.qemu, arguments, place, "destination") as guest:
        await guest.set_migration(way.capabilities, way.parameters)
        await guest.execute("migrate-incoming", {"uri": "tcp:127.0.0.1:0"})
        (address,) = (await guest.execute("query-migrate"))["socket-address"]
        yield guest, f"tcp:127.0.0.1:{address['port']}"


@contextlib.asynccontextmanager
async def _ours(
    *arguments: str | Path, said: Path | None = None
) -> AsyncIterator[tuple[str, asyncio.Task[Measured]]]:
    """One of our commands, running: where it listens, and what was measured of it at its end.

    Args:
        said: a file for what it prints.
    """
    command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("measured.py"))]
    # As an installed command runs: with its modules compiled already.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    if said is not None:
        environment["MEASURED_OUTPUT"] = str(said)
    process = await asyncio.create_subprocess_exec(
        *command, *VMSTREAM, *map(str, arguments), stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    uri = ""
    if arguments[0] != "send":
        line = (await asyncio.wait_for(process.stderr.readline(), PATIENCE)).decode()
        uri = line.removeprefix("listening at ").strip()

    async def end() -> Measured:
        said, errors = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert process.returncode == 0, errors.decode()
        return Measured(**json.loads(said))

    task = asyncio.create_task(end())
    try:
        yield uri, task
        await task
    finally:
        task.cancel()
        if process.returncode is None:
            process.kill()


def _cpu(guest: Guest) -> float:
    """Seconds of processor time of a QEMU so far."""
    fields = Path(f"/proc/{guest.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

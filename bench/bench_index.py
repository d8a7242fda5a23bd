"""Indexing page records: in the kernel, and end to end on guests of 1, 2 and 4 GiB.

``VMSTREAM_ANALYZE_MIGRATION`` may name a copy of QEMU's
``scripts/analyze-migration.py``, which is then measured beside ``inspect``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from corpus import Case, cases
from figures import Figures
from measuring import PAGE, BigStream, Measure, Measured
from vmstream import open as open_stream
from vmstream._kernels import scan_pages
from vmstream.stream.ram import Stop
from vmstream.wire.ram import RamFlag, RunTable

Benchmark = Any

ROUNDS = 5
RECORD_LIMIT = 25.0
"""Nanoseconds for each page record in the kernel."""
INSPECT_LIMIT = 1.5
"""Seconds for a guest of 4 GiB."""
MEMORY_LIMIT = 120e6
INDEX_LIMIT = 2.0
"""Bytes of index for each page, resident beside ``MEMORY_LIMIT``."""

KINDS = {
    "normal": (RamFlag.PAGE,) * 65536,
    "zero": (RamFlag.ZERO,) * (1 << 20),
    "mixed": (RamFlag.PAGE, RamFlag.PAGE, RamFlag.PAGE, RamFlag.ZERO) * 16384,
}


def page_records(flags: tuple[RamFlag, ...]) -> bytearray:
    """Records of consecutive pages of one block, as RAM sections hold them."""
    body = {RamFlag.PAGE: os.urandom(PAGE), RamFlag.ZERO: b"\0"}
    data = bytearray()
    for number, flag in enumerate(flags):
        data += (number * PAGE | flag | RamFlag.CONTINUE).to_bytes(8, "big") + body[flag]
    return data


def scan(data: memoryview, pages: int, table: RunTable) -> None:
    """The whole buffer through the kernel."""
    pos, stop = 0, Stop.FULL
    while stop == Stop.FULL:
        pos, _, stop = scan_pages(
            data, pos, 0, 12, 0, pages, 0, False, 0,
            table.kind, table.named, table.block, table.page, table.count, table.offset,
        )  # fmt: skip
    assert pos == len(data)


@pytest.mark.parametrize("kind", KINDS)
def test_scan_of_records_in_memory(benchmark: Benchmark, figures: Figures, kind: str) -> None:
    flags = KINDS[kind]
    data = page_records(flags)
    table = RunTable(4096)
    benchmark.pedantic(
        scan, (memoryview(data), len(flags), table), rounds=4 * ROUNDS, warmup_rounds=1
    )
    nanoseconds = benchmark.stats.stats.min * 1e9 / len(flags)
    copy = best(copier(data), 4 * ROUNDS) * 1e9 / len(flags)
    figures.add(f"scan of {kind} records", nanoseconds, "ns/record", "limit", RECORD_LIMIT)
    figures.add(f"scan of {kind} records", nanoseconds, "ns/record", "memcpy", copy)
    figures.add(f"scan of {kind} records", 1e3 / nanoseconds, "million/s")
    benchmark.extra_info.update(ns_per_record=nanoseconds, memcpy_ns_per_record=copy)


def copier(data: bytearray) -> Callable[[], None]:
    source = np.frombuffer(data, np.uint8)
    target = source.copy()
    return lambda: np.copyto(target, source)


def best(call: Callable[[], None], rounds: int) -> float:
    """The least of several times, in seconds."""
    from timeit import repeat

    return min(repeat(call, number=1, repeat=rounds))


def test_inspect_of_a_big_guest(
    benchmark: Benchmark, figures: Figures, measure: Measure, big_stream: BigStream
) -> None:
    command = [sys.executable, "-m", "vmstream", "inspect", big_stream.path]
    runs: list[Measured] = []
    benchmark.pedantic(lambda: runs.append(measure(command)), rounds=ROUNDS, warmup_rounds=1)
    run = min(runs, key=lambda run: run.seconds)
    cat = min(measure(["cat", big_stream.path]).seconds for _ in range(ROUNDS))
    name = f"inspect of {big_stream.gib} GiB"
    figures.add(f"{name}, CPU", run.cpu_seconds, "s")
    figures.add(name, run.seconds, "s", "cat > /dev/null", cat)
    figures.add(name, big_stream.pages / run.seconds / 1e6, "million records/s")
    if big_stream.gib == 4:
        figures.add(name, run.seconds, "s", "limit", INSPECT_LIMIT)
    with open_stream(big_stream.path) as stream:
        index = stream.index.nbytes
        pages = int(stream.index.covered().sum())
    peak = max(run.peak_bytes for run in runs)
    allowed = MEMORY_LIMIT + INDEX_LIMIT * pages
    figures.add(f"{name}, resident", peak / 1e6, "MB", "limit", allowed / 1e6)
    figures.add(f"{name}, index (every 4th page zero)", index / pages, "bytes/page")
    figures.inspected[big_stream.gib] = run.seconds
    benchmark.extra_info.update(
        seconds=run.seconds, cat_seconds=cat, peak_bytes=peak, index_bytes_per_page=index / pages
    )
    assert peak < allowed


def test_analyze_migration_of_a_big_guest(
    benchmark: Benchmark, figures: Figures, measure: Measure, big_stream: BigStream
) -> None:
    peer = os.environ.get("VMSTREAM_ANALYZE_MIGRATION")
    if not peer:
        pytest.skip("VMSTREAM_ANALYZE_MIGRATION names no copy of analyze-migration.py")
    runs: list[Measured] = []
    command = [sys.executable, peer, "-f", big_stream.path]
    benchmark.pedantic(lambda: runs.append(measure(command)), rounds=2)
    run = min(runs, key=lambda run: run.seconds)
    name = f"of {big_stream.gib} GiB"
    ours = figures.inspected.get(big_stream.gib)
    figures.add(f"analyze-migration.py {name}", run.seconds, "s", f"inspect {name}", ours)
    figures.add(f"analyze-migration.py {name}, resident", run.peak_bytes / 1e6, "MB")


LINUX = [case for case in cases() if case.name.startswith("linux-")]


@pytest.mark.parametrize("case", LINUX, ids=lambda case: case.name)
def test_index_of_a_linux_guest(benchmark: Benchmark, figures: Figures, case: Case) -> None:
    stream = benchmark.pedantic(open_stream, (case.main,), rounds=ROUNDS)
    pages = int(stream.index.covered().sum())
    size = stream.index.nbytes / pages
    figures.add(f"index of {case.name}", size, "bytes/page", "limit", INDEX_LIMIT)
    assert size <= INDEX_LIMIT

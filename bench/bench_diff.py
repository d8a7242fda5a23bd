"""Two streams compared, beside ``cmp`` of the two files.

``cmp -l`` reads both to their end, as ``diff`` does; without ``-l`` it would
stop at the first byte that differs. Its list goes through a pipe to nowhere.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from corpus import Case, cases
from figures import Figures
from measuring import PAGE, BigStream, Measure, Measured

Benchmark = Any

ROUNDS = 4
LIMIT = 4.0
"""Seconds for two streams of 2 GiB."""
MEMORY_LIMIT = 160e6
"""Bytes resident, whatever the guests' size."""
CHANGED_EVERY = 5 << 20
"""Bytes of the second stream between two that are changed."""
DIFF = (sys.executable, "-m", "vmstream", "diff")


@pytest.fixture
def other(big_stream: BigStream) -> Iterator[Path]:
    """A copy of the big stream in which bytes of some pages are others."""
    path = big_stream.path.with_suffix(".other")
    shutil.copyfile(big_stream.path, path)
    with path.open("r+b") as copy:
        for place in changed_places(big_stream):
            copy.seek(place)
            byte = copy.read(1)[0]
            copy.seek(place)
            copy.write(bytes((byte ^ 1,)))
    yield path
    path.unlink()


def changed_places(stream: BigStream) -> list[int]:
    """A byte in the middle of a page, every :data:`CHANGED_EVERY` bytes or so."""
    import vmstream
    from vmstream.wire.ram import PageKind

    with vmstream.open(stream.path) as opened:
        index = opened.index
        offsets = index.offset[index.kind == PageKind.NORMAL]
    wanted = range(CHANGED_EVERY, int(offsets.max()), CHANGED_EVERY)
    return [int(offsets[offsets.searchsorted(place)]) + PAGE // 2 for place in wanted]


def compare(measure: Measure, a: Sequence[Path], b: Sequence[Path]) -> tuple[Measured, Measured]:
    """The two commands, one after the other; both say 1, for the files differ."""
    channels = [
        word
        for side, files in (("a", a), ("b", b))
        for path in files[1:]
        for word in (f"--channel-{side}", path)
    ]
    shell = '"$@" 2> /dev/null | cat > /dev/null; exit 0'
    ours = measure(["sh", "-c", shell, "sh", *DIFF, a[0], b[0], *channels])
    theirs = measure(["sh", "-c", shell, "sh", "cmp", "-l", a[0], b[0]])
    return ours, theirs


def test_diff_of_big_guests(
    benchmark: Benchmark, big_stream: BigStream, other: Path, figures: Figures, measure: Measure
) -> None:
    runs: list[tuple[Measured, Measured]] = []
    benchmark.pedantic(
        lambda: runs.append(compare(measure, [big_stream.path], [other])),
        rounds=ROUNDS,
        warmup_rounds=1,
    )
    what = f"diff of 2 x {big_stream.gib} GiB"
    ours = min(run.seconds for run, _ in runs)
    figures.add(what, ours, "s", "cmp -l", min(run.seconds for _, run in runs))
    figures.add(f"{what}, CPU", min(run.cpu_seconds for run, _ in runs), "s")
    peak = max(run.peak_bytes for run, _ in runs)
    figures.add(f"{what}, resident", peak / 1e6, "MB", "limit", MEMORY_LIMIT / 1e6)
    if big_stream.gib == 2:
        figures.add(what, ours, "s", "limit", LIMIT)
    assert peak < MEMORY_LIMIT


def largest_pair() -> list[Case]:
    """The two largest recorded streams of one machine type."""
    by_machine: dict[str, list[Case]] = {}
    for case in sorted(cases(), key=lambda case: case.main.stat().st_size):
        if not case.is_snapshot and not case.channels:
            by_machine.setdefault(case.truth["machine"], []).append(case)
    pairs = [found[-2:] for found in by_machine.values() if len(found) > 1]
    return max(pairs, key=lambda pair: pair[0].main.stat().st_size)


def test_diff_of_the_largest_recorded_guests(
    benchmark: Benchmark, figures: Figures, measure: Measure
) -> None:
    pair = largest_pair()
    a, b = ((case.main, *case.channels) for case in pair)
    runs: list[tuple[Measured, Measured]] = []
    benchmark.pedantic(lambda: runs.append(compare(measure, a, b)), rounds=ROUNDS, warmup_rounds=1)
    what = f"diff of {pair[0].name} and {pair[1].name}"
    theirs = min(run.seconds for _, run in runs)
    figures.add(what, min(run.seconds for run, _ in runs), "s", "cmp -l", theirs)

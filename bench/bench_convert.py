"""Conversion of gigabytes between plain and mapped-ram, beside ``cp`` of the same file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from figures import Figures
from measuring import BigStream, Measure, Measured

ROUNDS = 5
MEMORY_LIMIT = 200e6
"""Bytes resident, whatever the guest's size."""
CONVERT = (sys.executable, "-m", "vmstream", "convert")


@pytest.fixture
def place(big_stream: BigStream) -> Iterator[Path]:
    """A folder on the disk that holds the stream, emptied afterwards."""
    folder = big_stream.path.parent / "converted"
    folder.mkdir(exist_ok=True)
    yield folder
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


@pytest.mark.parametrize("form", ["mapped-ram", "plain"])
def test_convert(
    form: str,
    benchmark: object,
    big_stream: BigStream,
    place: Path,
    figures: Figures,
    measure: Measure,
) -> None:
    """Both write to the disk and wait until it has everything, in turns."""
    source = big_stream.path
    if form == "plain":
        source = place / "source"
        measure([*CONVERT, big_stream.path, "-o", source, "--to", "mapped-ram"])
    copied: list[Measured] = []
    converted: list[Measured] = []

    def turn() -> None:
        for runs, command in (
            (copied, ["sh", "-c", 'cp "$0" "$1" && sync "$1"', source, place / "copy"]),
            (converted, [*CONVERT, source, "-o", place / "out", "--to", form]),
        ):
            runs.append(measure(command))
            for name in ("copy", "out"):
                (place / name).unlink(missing_ok=True)

    benchmark.pedantic(turn, rounds=ROUNDS, warmup_rounds=1)  # type: ignore[attr-defined]
    what = f"convert {big_stream.gib} GiB to {form}"
    best = min(run.seconds for run in converted)
    figures.add(what, best, "s", "cp, sync", min(run.seconds for run in copied))
    figures.add(f"{what}, CPU", min(run.cpu_seconds for run in converted), "s")
    peak = max(run.peak_bytes for run in converted)
    figures.add(f"{what}, resident", peak / 1e6, "MB", "limit", MEMORY_LIMIT / 1e6)
    assert peak < MEMORY_LIMIT

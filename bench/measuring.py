"""What the benchmarks measure on and with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PAGE", "BigStream", "Measure", "Measured"]

PAGE = 4096


@dataclass(frozen=True, slots=True)
class BigStream:
    """A recorded stream and what is in it."""

    path: Path
    gib: int

    @property
    def pages(self) -> int:
        """Pages of main memory."""
        return (self.gib << 30) // PAGE


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of a command: wall time, processor time, the peak of its resident memory."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


Measure = Callable[[Sequence[str | Path]], Measured]
"""Runs a command to its end, with its output thrown away, and measures it from outside."""

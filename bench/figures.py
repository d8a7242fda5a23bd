"""The figures of one run of the benchmarks, as a table that stands at the end of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

__all__ = ["Figure", "Figures"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value beside what it is measured against, in the same unit and run."""

    what: str
    value: float
    unit: str
    against: str = ""
    reference: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times the reference the value is."""
        return self.value / self.reference if self.reference else None


@dataclass(slots=True)
class Figures:
    """What was measured so far, in the order of measuring."""

    rows: list[Figure] = field(default_factory=list)
    inspected: dict[int, float] = field(default_factory=dict)
    """Seconds to inspect a guest of so many GiB."""

    def add_slope(self) -> None:
        """How the time grows: between each size and the next, against the first step."""
        sizes = sorted(self.inspected)
        first = None
        for small, large in pairwise(sizes):
            slope = (self.inspected[large] - self.inspected[small]) / (large - small)
            self.add(
                f"inspect from {small} to {large} GiB", slope, "s/GiB", "the first step", first
            )
            first = first or slope

    def add(
        self, what: str, value: float, unit: str, against: str = "", reference: float | None = None
    ) -> Figure:
        """Keep one figure."""
        figure = Figure(what, value, unit, against, reference)
        self.rows.append(figure)
        return figure

    def lines(self) -> list[str]:
        """The table: value, unit, reference, ratio."""
        head = ("figure", "measured", "against", "", "ratio")
        cells = [head, *map(_cells, self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
        return [
            f"{row[0]:{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:{widths[2]}}"
            f"  {row[3]:>{widths[3]}}  {row[4]:>{widths[4]}}".rstrip()
            for row in cells
        ]


def _cells(figure: Figure) -> tuple[str, str, str, str, str]:
    reference = "" if figure.reference is None else f"{figure.reference:,.4g} {figure.unit}"
    ratio = "" if figure.ratio is None else f"{figure.ratio:.3g}"
    return (figure.what, f"{figure.value:,.4g} {figure.unit}", figure.against, reference, ratio)

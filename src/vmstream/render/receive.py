"""``receive`` on a terminal: how far it is, then what arrived."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType
from typing import Self

from rich.text import Text

from vmstream.engine.reception import Reception
from vmstream.render.text import console, count, plain_table, printable, size
from vmstream.tools.receive import ReceiveReport

__all__ = ["LiveLine", "Watch", "render"]

_PERIOD = 0.2
"""Seconds between updates."""


class LiveLine:
    """A line on standard error that tells bytes and rate, on a terminal only."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._next = 0.0
        self._shown = False

    def print(self, total: int, phase: str) -> None:
        """Show it anew, if it is time."""
        now = time.monotonic()
        self._began = self._began or now
        if now < self._next or not sys.stderr.isatty():
            return
        self._next = now + _PERIOD
        rate = total / max(now - self._began, 1e-3)
        sys.stderr.write(f"\r\x1b[K{size(total)} at {size(int(rate))}/s, {phase}")
        sys.stderr.flush()
        self._shown = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")


class Watch(LiveLine):
    """What :func:`vmstream.tools.receive.receive` calls as bytes arrive."""

    def __init__(self) -> None:
        super().__init__()
        self._round = 0
        self._round_began = 0.0

    def show(self, reception: Reception) -> None:
        """Tell how far it is."""
        if reception.rounds != self._round:
            self._round, self._round_began = reception.rounds, time.monotonic()
        self.print(reception.bytes, self._phase(reception))

    def _phase(self, reception: Reception) -> str:
        """The iteration, and what the round through memory is still expected to bring."""
        if reception.postcopy:
            return f"post-copy, {count(reception.pages_requested, 'page')} asked for"
        iteration = f"iteration {reception.iterations}"
        if not reception.round_bytes or not reception.remaining:
            return iteration
        spent = time.monotonic() - self._round_began
        left = math.ceil(reception.remaining / reception.round_bytes * spent)
        return (
            f"{iteration}, round {reception.rounds}: {size(reception.remaining)} "
            f"of guest memory left, about {left // 60}:{left % 60:02d}"
        )


def render(report: ReceiveReport) -> None:
    """Print the report."""
    out = console()
    verdict = ("complete", "bold green") if report.complete else ("not complete", "bold red")
    out.print(Text.assemble(f"{printable(report.uri)}: ", verdict))
    if report.error is not None:
        out.print(Text.assemble(("! ", "bold yellow"), printable(report.error)))
        if report.bytes:
            out.print(f"kept: {printable(report.out)}, up to {_how_far(report)}")
    else:
        out.print(f"written: {printable(report.out)}")
    machine = f"{printable(report.machine)}, " if report.machine else ""
    rate = size(int(report.bytes / max(report.seconds, 1e-9)))
    out.print(
        f"{machine}{size(report.bytes)} in {report.seconds:.1f} s ({rate}/s), "
        f"{count(report.iterations, 'iteration')}{_notes(report)}"
    )
    if len(report.files) > 1:
        out.print()
        table = plain_table(("channel", "left"), ("file", "left"), ("size", "right"))
        for file in report.files:
            table.add_row(file.kind, file.path, size(file.size))
        out.print(table)


def _how_far(report: ReceiveReport) -> str:
    section = f", in section {printable(report.last_section)}" if report.last_section else ""
    return f"{size(report.bytes)}{section}"


def _notes(report: ReceiveReport) -> str:
    notes = ""
    if report.return_path:
        notes += ", return path"
    if report.postcopy:
        notes += f", post-copy with {count(report.pages_requested, 'page')} asked for"
    if report.resumed:
        notes += f", taken up again {count(report.resumed, 'time')}"
    return notes

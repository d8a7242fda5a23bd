"""When what went through a main channel: sections, iterations, the time without a guest.

The clock is that of the one who feeds it; times are seconds from the first byte.
What arrives in one piece has one time, so short sections of one piece share it.
"""

from __future__ import annotations

import msgspec

from vmstream.stream.events import Event
from vmstream.wire.commands import Command, CommandType
from vmstream.wire.configuration import Configuration
from vmstream.wire.ram import Pages
from vmstream.wire.sections import Element, EndOfStream, SectionEnd, SectionStart

__all__ = ["Span", "Timeline"]


class Span(msgspec.Struct):
    """Something that took time and bytes."""

    name: str
    start: float
    end: float
    offset: int
    size: int
    """Bytes of the main channel."""
    pages: int = 0


class Timeline:
    """Takes events with the time at which their bytes went through.

    Attributes:
        machine: as the configuration section names it.
        sections: every section in order; a START, PART or END of RAM is one.
        switchover: when the guest had stopped at the latest: SWITCHOVER_START (10.0+),
            or the END of RAM or the device state that came first; None before that.
        end: when the end mark went through.
        return_path: the source asked the destination for answers.
    """

    def __init__(self) -> None:
        self.machine: str | None = None
        self.sections: list[Span] = []
        self.switchover: float | None = None
        self.end: float | None = None
        self.postcopy: float | None = None
        self.return_path = False
        self.iterations = 0
        self._open: Span | None = None

    def add(self, event: Event, time: float) -> None:
        """Take note of one event."""
        match event:
            case SectionStart():
                self._begin(event, time)
            case SectionEnd():
                self._finish(event.offset + len(event.encode()), time)
            case Pages() if self._open is not None:
                self._open.pages += int(event.runs.count.sum())
            case Configuration():
                self.machine = event.machine
            case Command(command=CommandType.OPEN_RETURN_PATH):
                self.return_path = True
            case Command(command=CommandType.SWITCHOVER_START):
                self._switch(time)
            case Command(command=CommandType.PACKAGED):
                self._switch(time)
                self.postcopy = time
            case EndOfStream() if self.end is None:
                self.end = time

    def _begin(self, section: SectionStart, time: float) -> None:
        self._finish(section.offset, time)
        if section.idstr == "ram" and section.kind == Element.PART:
            self.iterations += 1
        ends = section.kind == Element.END or (
            section.kind == Element.FULL and self.iterations + len(self.sections) > 0
        )
        if ends:
            self._switch(time)
        name = section.idstr if section.kind == Element.FULL else _live(section)
        self._open = Span(name, time, time, section.offset, 0)
        self.sections.append(self._open)

    def _finish(self, offset: int, time: float) -> None:
        if self._open is not None:
            self._open.end = time
            self._open.size = offset - self._open.offset
            self._open = None

    def _switch(self, time: float) -> None:
        if self.switchover is None:
            self.switchover = time

    @property
    def devices(self) -> list[Span]:
        """Device state after the switchover, the slowest first."""
        if self.switchover is None:
            return []
        late = [span for span in self.sections if span.start >= self.switchover]
        return sorted(late, key=lambda span: (span.start - span.end, -span.size))

    @property
    def downtime(self) -> float | None:
        """Seconds from the switchover to the end mark, as they went through here."""
        if self.switchover is None or self.end is None:
            return None
        return self.end - self.switchover


def _live(section: SectionStart) -> str:
    return f"{section.idstr} {section.kind.name.lower()}"

"""Faults on purpose, for people who test the other end: what to do, and where."""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from vmstream.stream.events import Event
from vmstream.wire.sections import Element, SectionStart

__all__ = ["Fault", "FaultKind", "FaultWatch", "parse_fault"]

STALL = 3600.0
"""Seconds that a stall lasts when nothing else is said."""


class FaultKind(StrEnum):
    """What goes wrong."""

    REFUSE = "refuse"
    """The first connection is closed before a byte is read."""
    CUT = "cut"
    """Every connection is broken."""
    STALL = "stall"
    """Nothing is read for a while, then it goes on."""
    FAIL = "fail"
    """The destination says on the return path that it failed, then closes."""
    CORRUPT = "corrupt"
    """A byte is changed on its way (relay only)."""


class Fault(msgspec.Struct, frozen=True):
    """One fault and its place; with no place it happens at once."""

    kind: FaultKind
    at_byte: int | None = None
    """Bytes of the main channel before it."""
    section: str | None = None
    """The idstr of the section that it waits for."""
    iteration: int | None = None
    """The number of the RAM iteration (PART) that it waits for, from 1."""
    seconds: float = STALL


_FORM = re.compile(
    r"(?P<kind>[a-z]+)(?::(?P<seconds>\d+(?:\.\d+)?))?"
    r"(?:@(?:byte=)?(?P<byte>\d+|0x[0-9a-f]+)|@section=(?P<section>.+)|@iteration=(?P<part>\d+))?",
    re.IGNORECASE,
)


def parse_fault(text: str) -> Fault:
    """``cut@4096``, ``cut@section=0000:00:02.0/vga``, ``stall:5@iteration=2``, ``refuse``.

    Raises:
        ValueError: it is no such fault.
    """
    found = _FORM.fullmatch(text)
    if found is None or found["kind"] not in set(FaultKind):
        raise ValueError(
            f"{text!r} is no fault: {', '.join(FaultKind)} with :SECONDS, then @BYTE, "
            "@section=IDSTR or @iteration=N"
        )
    return Fault(
        FaultKind(found["kind"]),
        int(found["byte"], 0) if found["byte"] else None,
        found["section"],
        int(found["part"]) if found["part"] else None,
        float(found["seconds"]) if found["seconds"] else STALL,
    )


class FaultWatch:
    """Tells when a fault is due, from what has gone through the main channel."""

    def __init__(self, fault: Fault | None) -> None:
        self.fault = fault
        self._parts = 0
        self._done = False

    def due(self, received: int, events: list[Event]) -> Fault | None:
        """The fault, once, when its place is reached."""
        fault = self.fault
        if fault is None or self._done:
            return None
        if self._reached(fault, received, events):
            self._done = True
            return fault
        return None

    def _reached(self, fault: Fault, received: int, events: list[Event]) -> bool:
        if fault.at_byte is not None:
            return received >= fault.at_byte
        starts = [event for event in events if isinstance(event, SectionStart)]
        if fault.section is not None:
            return any(start.idstr == fault.section for start in starts)
        if fault.iteration is not None:
            self._parts += sum(s.kind == Element.PART and s.idstr == "ram" for s in starts)
            return self._parts >= fault.iteration
        return True

"""Faults on purpose, for people who test the other end: what to do, and where."""

from __future__ import annotations

import re
from collections.abc import Iterable
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
    """The destination says on the return path that it failed, then closes (not a relay)."""
    CORRUPT = "corrupt"
    """A byte is changed on its way (a relay only)."""


class Fault(msgspec.Struct, frozen=True):
    """One fault and its place; with no place it happens at the first byte."""

    kind: FaultKind
    at_byte: int | None = None
    """Bytes of the main channel before it."""
    section: str | None = None
    """The idstr of the section that it waits for: it happens behind the header."""
    iteration: int | None = None
    """The number of the RAM iteration (PART) that it waits for, from 1."""
    seconds: float = STALL


_FORM = re.compile(
    r"(?P<kind>[a-z]+)(?::(?P<seconds>\d+(?:\.\d+)?))?"
    r"(?:@(?:byte=)?(?P<byte>\d+|0x[0-9a-f]+)|@section=(?P<section>.+)|@iteration=(?P<part>\d+))?",
    re.IGNORECASE,
)


def parse_fault(text: str, kinds: Iterable[FaultKind] = FaultKind) -> Fault:
    """``cut@4096``, ``cut@section=0000:00:02.0/vga``, ``stall:5@iteration=2``, ``refuse``.

    Args:
        kinds: those that make sense here.

    Raises:
        ValueError: it is no such fault.
    """
    known = list(kinds)
    found = _FORM.fullmatch(text)
    if found is None or found["kind"] not in known:
        raise ValueError(
            f"{text!r} is no fault: {', '.join(known)}, for stall :SECONDS, then @BYTE, "
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
    """Tells when a fault is due, from what goes through the main channel."""

    def __init__(self, fault: Fault | None) -> None:
        self.fault = fault
        self._parts = 0
        self._done = False

    @property
    def refuses(self) -> bool:
        """The first connection is to be closed."""
        return self.fault is not None and self.fault.kind is FaultKind.REFUSE

    @property
    def waits(self) -> bool:
        """A fault is still to come."""
        return self.fault is not None and not self._done

    def limit(self, received: int, most: int) -> int:
        """How many bytes to take next, ``most`` at most, so that a piece ends at the place."""
        fault = self.fault
        if fault is None or self._done or fault.at_byte is None:
            return most
        return max(1, min(most, fault.at_byte - received))

    def due(self, received: int, events: Iterable[Event]) -> tuple[Fault, int] | None:
        """The fault and its offset, once, when the bytes up to ``received`` reach its place.

        Args:
            received: bytes of the main channel so far.
            events: what the last of them decoded to.
        """
        fault = self.fault
        if fault is None or self._done:
            return None
        place = self._place(fault, received, events)
        if place is None:
            return None
        self._done = True
        return fault, place

    def _place(self, fault: Fault, received: int, events: Iterable[Event]) -> int | None:
        if fault.at_byte is not None:
            return fault.at_byte if received >= fault.at_byte else None
        if fault.section is None and fault.iteration is None:
            return 0
        for event in events:
            if isinstance(event, SectionStart) and self._is_it(fault, event):
                return event.offset + len(event.encode())
        return None

    def _is_it(self, fault: Fault, section: SectionStart) -> bool:
        if fault.section is not None:
            return section.idstr == fault.section
        self._parts += section.kind == Element.PART and section.idstr == "ram"
        return self._parts == fault.iteration

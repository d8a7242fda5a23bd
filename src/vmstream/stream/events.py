"""What a decoder yields.

Most events are the wire records themselves; the three here belong to a stream
as a whole. Every event has ``offset`` and ``encode()``: the encoded events of a
stream, joined, are the stream.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import msgspec

from vmstream.errors import StreamError

__all__ = ["Boundary", "DeviceState", "Event", "Fault"]


class Event(Protocol):
    """Anything a decoder yields."""

    @property
    def offset(self) -> int: ...

    def encode(self) -> bytes | memoryview: ...


class Boundary(StrEnum):
    """How the end of a device section's body was found: nothing in the stream gives its length."""

    DESCRIPTION = "description"
    """The JSON description of this stream, and a legal element after it."""
    FOOTER = "footer"
    """Its own footer, followed by a legal element."""
    LAYOUT = "layout"
    """A description from elsewhere, and a legal element after it."""
    HEADER = "header"
    """Inferred: the next thing that looks like a section header."""
    END = "end"
    """Not found: everything up to the end of the input."""


class DeviceState(msgspec.Struct, frozen=True):
    """The body of a section whose meaning only a description knows."""

    offset: int
    data: memoryview
    boundary: Boundary

    def encode(self) -> memoryview:
        return self.data


class Fault(msgspec.Struct, frozen=True):
    """Something wrong; the last event when nothing after it can be read."""

    offset: int
    error: StreamError
    fatal: bool

    def encode(self) -> bytes:
        return b""

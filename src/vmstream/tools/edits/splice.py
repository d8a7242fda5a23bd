"""Bytes of a stream replaced while it is copied: all that a splice does not name stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import msgspec

from vmstream.errors import Truncated
from vmstream.stream.stream import ByteSource

__all__ = ["Advance", "Sink", "Splice", "apply"]

CHUNK = 1 << 20
"""Bytes copied at a time."""

Advance = Callable[[int, int | None], None]


class Splice(msgspec.Struct, frozen=True):
    """``size`` bytes at ``offset`` of the stream become ``data``."""

    offset: int
    size: int
    data: bytes

    @property
    def grows(self) -> int:
        """Bytes that the stream gets longer by."""
        return len(self.data) - self.size

    @property
    def order(self) -> tuple[int, bool]:
        """Where it comes: what is put in stands before what is replaced at one offset."""
        return self.offset, self.size > 0


class Sink(Protocol):
    """What the new stream is written to."""

    def write(self, data: bytes | memoryview) -> object: ...


def apply(
    source: ByteSource, splices: Iterable[Splice], sink: Sink | None, advance: Advance | None = None
) -> int:
    """Copy a stream with its splices, which come in order; returns the bytes written.

    Args:
        sink: where to; None only counts.
        advance: called with the bytes read and the bytes in all.

    Raises:
        Truncated: the source ends before a splice.
        ValueError: splices overlap.
    """
    position = written = 0
    for splice in splices:
        if splice.offset < position:
            raise ValueError(f"two edits change the same bytes at {splice.offset:#x}")
        written += _copy(source, position, splice.offset, sink, advance)
        if sink is not None and splice.data:
            sink.write(splice.data)
        written += len(splice.data)
        position = splice.offset + splice.size
    return written + _copy(source, position, source.size, sink, advance)


def _copy(
    source: ByteSource, start: int, stop: int | None, sink: Sink | None, advance: Advance | None
) -> int:
    """Copy from ``start`` to ``stop``, or to the end where nobody knows where that is."""
    if sink is None and stop is not None:
        return stop - start
    copied = 0
    for data in _read(source, start, stop):
        if sink is not None:
            sink.write(data)
        copied += len(data)
        if advance is not None:
            advance(start + copied, source.size)
    return copied


def _read(source: ByteSource, start: int, stop: int | None) -> Iterator[bytes | memoryview]:
    while stop is None or start < stop:
        data = source.read_at(start, CHUNK if stop is None else min(CHUNK, stop - start))
        if not len(data) and stop is not None:
            raise Truncated("the input is shorter than when it was read", offset=start)
        if not len(data):
            return
        yield data
        start += len(data)

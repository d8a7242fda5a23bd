"""Where segments of memory stand in a file, and how their content gets there."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from vmstream.tools.output import Buffer, SparseFile

__all__ = ["Layout", "Segment", "read_chunks"]

CHUNK = 1 << 20


class Segment(msgspec.Struct, frozen=True):
    """Memory at an address; both numbers are bytes."""

    address: int
    """Physical."""
    size: int


class Layout:
    """Segments one behind the other in a file.

    Attributes:
        end: offset after the last one.
    """

    def __init__(
        self, segments: Sequence[Segment], start: int, *, header: int = 0, align: int = 1
    ) -> None:
        """Lay segments out from the offset ``start``.

        Args:
            header: bytes to leave before each.
            align: make offsets equal to addresses modulo this.

        Raises:
            ValueError: they are empty, not sorted, or overlap.
        """
        self._segments = tuple(segments)
        self._addresses = [segment.address for segment in segments]
        self._offsets: list[int] = []
        reached = 0
        for segment in segments:
            if segment.size <= 0 or segment.address < reached:
                raise ValueError("segments must be sorted, apart from each other and not empty")
            reached = segment.address + segment.size
            start += header
            start += (segment.address - start) % align
            self._offsets.append(start)
            start += segment.size
        self.end = start

    def __iter__(self) -> Iterator[tuple[Segment, int]]:
        return zip(self._segments, self._offsets, strict=True)

    def write(self, out: SparseFile, chunks: Iterable[tuple[int, Buffer]]) -> None:
        """Put chunks, given as (address, bytes), where they belong.

        Raises:
            ValueError: a chunk reaches outside the segments.
        """
        if self._segments:
            out.size = max(out.size, self.end)
        for address, data in chunks:
            view = memoryview(data).cast("B")
            while view:
                number = bisect_right(self._addresses, address) - 1
                segment = self._segments[number] if number >= 0 else None
                if segment is None or address >= segment.address + segment.size:
                    raise ValueError(f"there is no segment at {address:#x}")
                step = address - segment.address
                length = min(len(view), segment.size - step)
                out.write_at(self._offsets[number] + step, view[:length])
                view, address = view[length:], address + length


def read_chunks(
    read: Callable[[int, int], Buffer], segments: Iterable[Segment]
) -> Iterator[tuple[int, Buffer]]:
    """The content of segments by a function that reads ``length`` bytes at an address."""
    for segment in segments:
        for step in range(0, segment.size, CHUNK):
            address = segment.address + step
            yield address, read(address, min(CHUNK, segment.size - step))

"""Guest memory: the content of RAM blocks, read at random through the index.

Later records win over earlier ones; an XBZRLE record changes the page as it
then was. What each page ends as is worked out for a span of pages at a time,
so nothing here grows with guest RAM.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from vmstream._kernels import gather
from vmstream.errors import Malformed, Truncated, Unsupported
from vmstream.stream.index import Index, Segment
from vmstream.stream.spans import NONE, SPAN, UNPACKED, PageState, Span, Spans, replay_order
from vmstream.wire.ram import PageKind
from vmstream.wire.xbzrle import decode_page

if TYPE_CHECKING:
    from vmstream.stream.stream import Stream

__all__ = ["Batch", "Block", "Memory", "Run"]

_ZEROS = memoryview(bytes(1 << 20))
_TOGETHER = 512
"""Pages filled together: what is read for them is bounded by that, and stays in the cache."""
_GAP = 1 << 14
"""Bytes between two pages that are read along, so as not to read twice."""


class Batch(msgspec.Struct, frozen=True):
    """Consecutive pages of a block, and where their bytes are at hand."""

    block: int
    first: int
    """Number of the first page."""
    state: NDArray[np.uint8]
    """:class:`PageState` of each page."""
    data: memoryview
    """Bytes with every page of content somewhere in them."""
    offsets: NDArray[np.int64]
    """Where in ``data`` each page of content begins; -1 for the others."""


class Run(msgspec.Struct, frozen=True):
    """A stretch of a block, in bytes: all zero, or with content."""

    start: int
    size: int
    zero: bool


class Memory:
    """The content of all RAM blocks.

    Blocks are found by name (``memory["pc.ram"]``) and iterated in the order
    of the block list. A page that no record holds is zero.
    """

    def __init__(self, stream: Stream, index: Index | None = None) -> None:
        self._stream = stream
        self.index = stream.index if index is None else index
        self.page_size = self.index.page_size or stream.page_size or 4096
        self._sources = {0: stream.source}
        self._sources |= {c.number: c.source for c in stream.channels if c.number}
        self._order = replay_order(self.index)
        self._spans = Spans(self.index, self._order)
        self._elsewhere = _blocks_elsewhere(stream)
        self._blocks = {
            block.name: Block(self, number, block.name, block.used_length)
            for number, block in enumerate(self.index.blocks)
        }

    def __getitem__(self, name: str) -> Block:
        return self._blocks[name]

    def __contains__(self, name: object) -> bool:
        return name in self._blocks

    def __iter__(self) -> Iterator[Block]:
        return iter(self._blocks.values())

    def __len__(self) -> int:
        return len(self._blocks)

    def at(self, iteration: int) -> Memory:
        """Memory as it was after the ``iteration``-th RAM section (0: the setup, then each PART).

        Pages on multifd channels count to the section whose sync mark follows them.
        """
        index = self.index
        segments = _segments_until(index, iteration)
        keep = np.zeros(len(index.kind), bool)
        for segment in segments:
            keep[segment.start : segment.stop] = True
        return Memory(self._stream, _masked(index, keep))

    # Reading

    def read_pages(self, block: int, first: int, out: NDArray[np.uint8]) -> None:
        """Fill ``out`` (pages by page size) with the content of pages from ``first`` on."""
        done = 0
        while done < len(out):
            page = first + done
            number, start = divmod(page, SPAN)
            count = min(SPAN - start, _TOGETHER, len(out) - done)
            span = self._spans.span(block, number)
            self._fill(span, number * SPAN, start, out[done : done + count])
            done += count

    def touched(self, block: int, first: int, count: int) -> bool:
        """Whether any record may hold one of the pages; told by spans, so not sharply."""
        spans = range(first // SPAN, (first + count - 1) // SPAN + 1)
        return any(self._spans.has(block, number) for number in spans)

    @property
    def viewable(self) -> bool:
        """Whether every page that stands as it is can be looked at there, without reading it."""
        return all(source.view_at(0, 0) is not None for source in self._sources.values())

    def batch(
        self,
        block: int,
        first: int,
        count: int,
        room: memoryview | None = None,
        *,
        view: bool = False,
    ) -> Batch:
        """Pages ``first`` on, at most up to the next multiple of :data:`SPAN`.

        Where they stand together on one channel they are not copied but told by
        their places in the bytes read.

        Args:
            room: to read into, if it is large enough; they stay until it is given again.
            view: do not read them at all where the source can be looked at.
        """
        number, start = divmod(first, SPAN)
        count = min(count, SPAN - start)
        span = self._spans.span(block, number)
        if span is None:
            nothing = np.full(count, NONE, np.int64)
            state = np.full(count, PageState.ABSENT, np.uint8)
            return Batch(block, first, state, memoryview(b""), nothing)
        state = span.state[start : start + count]
        content = np.flatnonzero(state == PageState.CONTENT)
        offsets = np.full(count, NONE, np.int64)
        data = memoryview(b"")
        if len(content):
            found = self._in_place(span, start + content, first + content, room, view)
            if found is None:
                pages = np.empty((count, self.page_size), np.uint8)
                self._fill(span, number * SPAN, start, pages)
                data, offsets[content] = pages.reshape(-1).data, content * self.page_size
            else:
                data, offsets[content] = found
        return Batch(block, first, state, data, offsets)

    def _in_place(
        self,
        span: Span,
        at: NDArray[np.int64],
        page: NDArray[np.int64],
        room: memoryview | None,
        view: bool,
    ) -> tuple[memoryview, NDArray[np.int64]] | None:
        """Bytes that hold the pages and the place of each in them; None where that is not so."""
        if not span.in_place[at].all():
            return None
        index, size = self.index, self.page_size
        runs = span.final[at]
        channels = self._spans.channels(runs)
        if (channels != channels[0]).any():
            return None
        stride = np.where(index.kind[runs] == PageKind.NORMAL, size + 8, size)
        offsets = index.offset[runs] + (page - index.page[runs]) * stride
        low = int(offsets.min())
        length = int(offsets.max()) + size - low
        if length > 2 * len(at) * (size + 8):
            return None
        source = self._sources[int(channels[0])]
        if view and (there := source.view_at(low, length)) is not None:
            return there, offsets - low
        if room is None or len(room) < length:
            return memoryview(self._bytes(int(channels[0]), low, length)), offsets - low
        part = room[:length]
        if source.read_into(low, part) < length:
            raise Truncated("the input ends inside a page", offset=low, section="ram")
        return part, offsets - low

    def _fill(self, span: Span | None, base: int, start: int, out: NDArray[np.uint8]) -> None:
        if span is None:
            out[:] = 0
            return
        final = span.final[start : start + len(out)]
        self._copy(final, base + start, out)
        for row in np.flatnonzero(self._spans.alone(final)).tolist():
            self._fill_alone(int(final[row]), base + start + row, out[row])
        if span.chains:
            for page in range(start, start + len(out)):
                if page in span.chains:
                    self._apply(span.chains[page], out[page - start])

    def _copy(self, final: NDArray[np.int64], page: int, out: NDArray[np.uint8]) -> None:
        """Copy the pages that stand as they are in a source; every other one becomes zero.

        Pages that stand near each other in one source, as those of a stretch of
        memory mostly do, come by one read.
        """
        places, sources = self._spans.places(final, page, self.page_size)
        rows = np.flatnonzero(places >= 0)
        if not len(rows):
            out[:] = 0
            return
        at, source = places[rows], sources[rows]
        step = at[1:] - at[:-1]
        apart = (step < self.page_size) | (step > self.page_size + _GAP)
        apart |= source[1:] != source[:-1]
        heads = [0, *(np.flatnonzero(apart) + 1).tolist(), len(rows)]
        first = 0
        for head, after in pairwise(heads):
            end = len(out) if after == len(rows) else int(rows[after])
            offset = int(at[head])
            length = int(at[after - 1]) - offset + self.page_size
            data = self._read(int(source[head]), offset, length)
            part = places[first:end]
            gather(data, np.where(part < 0, -1, part - offset), out[first:end])
            first = end

    def _fill_alone(self, run: int, page: int, out: NDArray[np.uint8]) -> None:
        """Make a page that does not stand as it is in the stream."""
        offset = int(self.index.offset[run])
        channel = self._spans.channel(run)
        if self.index.kind[run] == PageKind.COMPRESSED:
            out[:] = np.frombuffer(self._inflate(channel, offset), np.uint8)
            return
        step = page - int(self.index.page[run])
        out[:] = self._bytes(channel, offset + step * 9, 1)[0]

    def _read(self, source: int, offset: int, length: int) -> bytes | memoryview:
        """Bytes of a channel, or of what its compressed packets hold."""
        if source < UNPACKED:
            return self._bytes(source, offset, length)
        data = self._stream.unpacked(source - UNPACKED).read_at(offset, length)
        if len(data) < length:
            raise Truncated(
                "the compressed channel ends inside a page",
                offset=offset,
                section="multifd",
                expected=f"{length} bytes",
                found=f"{len(data)} bytes",
            )
        return data

    def _bytes(self, channel: int, offset: int, length: int) -> bytes | memoryview:
        data = self._sources[channel].read_at(offset, length)
        if len(data) < length:
            raise Truncated(
                "the input ends inside a page",
                offset=offset,
                section="ram",
                expected=f"{length} bytes",
                found=f"{len(data)} bytes",
            )
        return data

    def _inflate(self, channel: int, offset: int) -> bytes:
        """A page of a compress thread: be32 length before ``offset``, one zlib stream."""
        length = int.from_bytes(self._bytes(channel, offset - 4, 4), "big")
        data = self._bytes(channel, offset, length)
        inflater = zlib.decompressobj()
        try:
            page = inflater.decompress(bytes(data), self.page_size)
        except zlib.error as error:
            raise Malformed(
                f"a compressed page is damaged: {error}", offset=offset, section="ram"
            ) from None
        if len(page) != self.page_size:
            raise Malformed(
                "a compressed page does not hold one page",
                offset=offset,
                section="ram",
                expected=f"{self.page_size} bytes",
                found=f"{len(page)} bytes",
            )
        return page

    def _apply(self, chain: list[int], page: NDArray[np.uint8]) -> None:
        """Apply XBZRLE records, in order, to a page."""
        for run in chain:
            offset = int(self.index.offset[run])
            channel = self._spans.channel(run)
            length = int.from_bytes(self._bytes(channel, offset - 2, 2), "big")
            try:
                decode_page(page, self._bytes(channel, offset, length))
            except Malformed as error:
                error.offset = offset + (error.offset or 0)
                error.section = "ram"
                raise


class Block:
    """One RAM block.

    Attributes:
        name: as in the block list.
        size: used length in bytes.
    """

    def __init__(self, memory: Memory, number: int, name: str, size: int) -> None:
        self._memory = memory
        self._number = number
        self.name = name
        self.size = size

    @property
    def elsewhere(self) -> bool:
        """Whether x-ignore-shared left the content in shared memory instead of the stream."""
        return self._number in self._memory._elsewhere

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes at ``offset`` of the block; fewer at its end.

        Raises:
            Malformed: a record that does not decode.
            Truncated: the input ends inside a page.
            Unsupported: the content is not in the stream, or in a form that can not be read.
            ValueError: ``offset`` or ``length`` is negative.
        """
        if offset < 0 or length < 0:
            raise ValueError("offset and length must not be negative")
        self._refuse_elsewhere()
        length = min(length, max(self.size - offset, 0))
        return self._view(offset, length).tobytes() if length else b""

    def _view(self, offset: int, length: int) -> memoryview:
        """Bytes within the block, at least one."""
        size = self._memory.page_size
        first, last = offset // size, (offset + length - 1) // size
        pages = np.empty((last - first + 1, size), np.uint8)
        self._memory.read_pages(self._number, first, pages)
        start = offset - first * size
        return pages.reshape(-1)[start : start + length].data

    def _refuse_elsewhere(self) -> None:
        if self.elsewhere:
            raise Unsupported(
                f"the content of {self.name!r} is not in the stream: x-ignore-shared left it in "
                "shared memory",
                section="ram",
            )

    def readinto(self, offset: int, out: NDArray[np.uint8]) -> None:
        """Fill a one-dimensional array from ``offset``, both multiples of the page size."""
        size = self._memory.page_size
        self._memory.read_pages(self._number, offset // size, out.reshape(-1, size))

    def array(self) -> NDArray[np.uint8]:
        """The whole content, as large as the block: only on request."""
        return np.frombuffer(self.read(0, self.size), np.uint8)

    def runs(self) -> Iterator[Run]:
        """Stretches of the block in order: zero, or with content.

        Raises:
            Unsupported: the content is not in the stream.
        """
        self._refuse_elsewhere()
        memory = self._memory
        size, pages = memory.page_size, -(-self.size // memory.page_size)
        start, zero = 0, None
        for number in range(-(-pages // SPAN)):
            count = min(SPAN, pages - number * SPAN)
            empty = memory._spans.zero(self._number, number, count)
            edges = [0, *(np.flatnonzero(np.diff(empty)) + 1).tolist()]
            for edge in edges:
                state = bool(empty[edge])
                at = (number * SPAN + edge) * size
                if zero is not None and state != zero:
                    yield Run(start, at - start, zero)
                    start = at
                zero = state
        if zero is not None:
            yield Run(start, self.size - start, zero)

    def chunks(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, memoryview]]:
        """The content in order as (offset, up to 1 MiB of bytes).

        What is left out, between them and at both ends, is zero by its records.
        """
        self._refuse_elsewhere()
        end = self.size if end is None else min(end, self.size)
        size, span = self._memory.page_size, SPAN * self._memory.page_size
        for number in range(start // span, -(-end // span)):
            zero = self._memory._spans.zero(self._number, number, SPAN)
            kept = np.flatnonzero(~zero) + number * SPAN
            heads = np.flatnonzero(np.diff(kept // _TOGETHER, prepend=-1))
            lasts = kept[np.append(heads[1:], len(kept))[: len(heads)] - 1]
            for first, last in zip(kept[heads].tolist(), lasts.tolist(), strict=True):
                at, stop = max(start, first * size), min(end, (last + 1) * size)
                if at < stop:
                    yield at, self._view(at, stop - at)

    def hash(self) -> str:
        """SHA-256 of the whole content in hex."""
        digest = ContentHash()
        for at, data in self.chunks():
            digest.update(at, data)
        return digest.hexdigest(self.size)


class ContentHash:
    """SHA-256 of content that is given in order, with zeros where nothing is given."""

    def __init__(self) -> None:
        from hashlib import sha256

        self._digest = sha256()
        self._reached = 0

    def update(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """``data`` stands at ``offset``, behind everything so far."""
        self._skip(offset)
        self._digest.update(data)
        self._reached = offset + len(data)

    def hexdigest(self, size: int) -> str:
        """Of ``size`` bytes in all."""
        self._skip(size)
        return self._digest.hexdigest()

    def _skip(self, end: int) -> None:
        while self._reached < end:
            length = min(end - self._reached, len(_ZEROS))
            self._digest.update(_ZEROS[:length])
            self._reached += length


def _blocks_elsewhere(stream: Stream) -> frozenset[int]:
    """Blocks of which x-ignore-shared sent nothing."""
    if "x-ignore-shared" not in stream.capabilities or not stream.complete:
        return frozenset()
    sent = set(np.unique(stream.index.block).tolist())
    return frozenset(
        number
        for number, block in enumerate(stream.index.blocks)
        # mapped-ram says by its header whether pages follow, all-zero ones included.
        if not (block.mapped.present if block.mapped is not None else number in sent)
    )


def _segments_until(index: Index, iteration: int) -> list[Segment]:
    """Segments whose records had taken effect after a RAM section."""
    ends = index.section_epochs
    if iteration + 1 >= len(ends):
        return list(index.segments)
    if len(set(ends)) == len(ends):  # every section is an epoch of its own
        reached = ends[iteration] + 1
    else:
        reached = ends[iteration]
    return [
        s
        for s in index.segments
        if (s.section <= iteration if s.channel == 0 else s.epoch < reached)
    ]


def _masked(index: Index, keep: NDArray[np.bool_]) -> Index:
    """The index with only some runs in effect; the others count no pages."""
    return replace(index, count=np.where(keep, index.count, 0).astype(np.uint32))

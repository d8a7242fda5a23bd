"""Where every page of a stream stands: columnar and run-length.

A pass over a stream leaves, for each run of consecutive pages, five numbers.
Content is read through them later, at random, without replaying the stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from vmstream.wire.mapped_ram import MappedBitmap
from vmstream.wire.multifd import MultifdMethod, MultifdPacket, OldMultifdPacket, pages_of
from vmstream.wire.ram import PageKind, Pages, RamBlock

LAST_EPOCH = 1 << 31
"""Of a post-copy preempt channel, whose pages come after all of precopy."""

__all__ = ["LAST_EPOCH", "Index", "IndexBuilder", "Packet", "Segment"]

_COLUMNS = {
    "kind": np.uint8,
    "block": np.uint16,
    "page": np.uint32,
    "count": np.uint32,
    "offset": np.int64,
}
_KINDS = len(PageKind)


class Segment(msgspec.Struct, frozen=True):
    """Runs that stand together: one channel, one RAM section, no sync mark between."""

    channel: int
    """0 for the main channel, then multifd and preempt channels."""
    epoch: int
    """Sync marks before it; records of a lower epoch come before all of a higher one."""
    section: int
    """Number of the RAM section body on the main channel: 0 is the setup."""
    start: int
    stop: int
    """Runs ``start`` to ``stop - 1`` of the index."""


class Packet(msgspec.Struct, frozen=True):
    """A multifd packet with compressed pages."""

    channel: int
    offset: int
    """Channel offset of the payload."""
    size: int
    """Bytes of the payload."""
    start: int
    """Position of its first page in the channel's decompressed bytes."""
    pages: int
    method: MultifdMethod


class Index(msgspec.Struct, frozen=True):
    """Runs of page records in the order they were read, as columns of equal length.

    Attributes:
        page_size: target page size in bytes.
        blocks: the block list.
        kind: :class:`~vmstream.wire.ram.PageKind` of each run (uint8).
        block: index into ``blocks`` (uint16).
        page: first page of the run, in pages from the start of the block (uint32).
        count: pages (uint32).
        offset: where the first page's payload stands in its channel (int64), in
            bytes; for compressed multifd pages its position in the channel's
            decompressed bytes.
        segments: which channel, epoch and section the runs belong to.
        packets: compressed multifd packets, in channel order.
        section_epochs: epoch at the end of each RAM section of the main channel.
    """

    page_size: int
    blocks: tuple[RamBlock, ...]
    kind: NDArray[np.uint8]
    block: NDArray[np.uint16]
    page: NDArray[np.uint32]
    count: NDArray[np.uint32]
    offset: NDArray[np.int64]
    segments: tuple[Segment, ...]
    packets: tuple[Packet, ...]
    section_epochs: tuple[int, ...] = ()
    """Epoch at the end of each RAM section of the main channel."""

    @property
    def records(self) -> int:
        """Page records in all."""
        sent = self.kind != PageKind.DISCARDED
        return int(self.count[sent].sum(dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes that the columns take."""
        return sum(int(getattr(self, name).nbytes) for name in _COLUMNS)

    def counts(self) -> NDArray[np.int64]:
        """Records by (block, kind)."""
        table = np.zeros((len(self.blocks), _KINDS), np.int64)
        np.add.at(table, (self.block, self.kind), self.count.astype(np.int64))
        return table

    def covered(self) -> NDArray[np.int64]:
        """Pages of each block that at least one record holds."""
        covered = np.zeros(len(self.blocks), np.int64)
        first = self.block.astype(np.int64) << 33 | self.page
        order = np.argsort(first, kind="stable")
        order = order[self.kind[order] != PageKind.DISCARDED]
        start, stop = first[order], (first + self.count)[order]
        reached = np.maximum.accumulate(np.concatenate(([0], stop[:-1]))) if len(stop) else stop
        new = np.maximum(stop - np.maximum(start, reached), 0)
        np.add.at(covered, self.block[order], new)
        return covered

    def pages(self) -> Iterator[tuple[PageKind, str, int, int, int]]:
        """Every record as (kind, block, page, offset, channel); slow, for small streams."""
        strides = {PageKind.ZERO: 9, PageKind.NORMAL: 8 + self.page_size}
        for segment in self.segments:
            for run in range(segment.start, segment.stop):
                kind = PageKind(int(self.kind[run]))
                name = self.blocks[int(self.block[run])].name
                stride = strides.get(kind, self.page_size)
                first, offset = int(self.page[run]), int(self.offset[run])
                for step in range(int(self.count[run])):
                    yield kind, name, first + step, offset + step * stride, segment.channel


class IndexBuilder:
    """Collects the page events of all channels into an :class:`Index`."""

    def __init__(self) -> None:
        self.page_size = 0
        self.blocks: list[RamBlock] = []
        self.section = -1
        self._numbers: dict[str, int] = {}
        self._size = 0
        self._columns = {name: np.empty(1024, kind) for name, kind in _COLUMNS.items()}
        self._segments: list[Segment] = []
        self._packets: list[Packet] = []
        self._section_epochs: list[int] = []
        self._channel = 0
        self._epoch = 0
        self._start = 0
        self._position = 0

    # Where in the stream the next pages stand

    def begin_section(self) -> None:
        """A RAM section begins on the main channel."""
        self._close_segment()
        if self.section >= 0:
            self._section_epochs.append(self._epoch)
        self.section += 1

    def end_main(self) -> None:
        """The main channel is read.

        Where it has no sync marks, channels are synchronised at the end of each
        RAM section (4.0 to 8.0): the sections then number the epochs.
        """
        self._close_segment()
        self._section_epochs.append(self._epoch)
        if not self._epoch:
            self._segments = [replace(s, epoch=s.section) for s in self._segments]
            self._section_epochs = list(range(self.section + 1))

    def begin_channel(self, channel: int, epoch: int = 0) -> None:
        """The next pages come from another channel."""
        self._close_segment()
        self._channel = channel
        self._epoch = epoch
        self._position = 0

    def sync(self) -> None:
        """A sync mark: what follows comes after everything before it on any channel."""
        self._close_segment()
        self._epoch += 1

    def _close_segment(self) -> None:
        if self._size > self._start:
            segment = Segment(self._channel, self._epoch, self.section, self._start, self._size)
            self._segments.append(segment)
        self._start = self._size

    # Blocks and pages

    def add_block(self, block: RamBlock) -> int:
        """Register a block and return its number."""
        number = len(self.blocks)
        self.blocks.append(block)
        self._numbers[block.name] = number
        return number

    def add_pages(self, event: Pages) -> None:
        """A batch of page records of the main or a preempt channel."""
        self.page_size = event.page_size
        runs = event.runs
        block = runs.block
        if len(event.names) > len(self.blocks):
            known = len(self.blocks)
            unlisted = zip(event.names[known:], event.lengths[known:], strict=True)
            for name, length in unlisted:
                self.add_block(RamBlock(event.offset, name, length))
        first = 1 if self._joins(event) else 0
        if first:
            self._columns["count"][self._size - 1] += runs.count[0]
        self._append(
            runs.kind[first:], block[first:], runs.page[first:], runs.count[first:],
            runs.offset[first:],
        )  # fmt: skip

    def _joins(self, event: Pages) -> bool:
        """Whether the batch's first run goes on where the last one stopped: the input was split."""
        if self._size == self._start:
            return False
        runs, last, columns = event.runs, self._size - 1, self._columns
        kind = runs.kind[0]
        if runs.named[0] or kind > PageKind.NORMAL or columns["kind"][last] != kind:
            return False
        count = int(columns["count"][last])
        length = event.page_size if kind == PageKind.NORMAL else 1
        return (
            columns["block"][last] == runs.block[0]
            and int(columns["page"][last]) + count == int(runs.page[0])
            and int(columns["offset"][last]) + count * (8 + length) == int(runs.offset[0])
            and count + int(runs.count[0]) < 1 << 32
        )

    def add_discard(self, name: str, ranges: Iterable[tuple[int, int]], page_size: int) -> None:
        """Pages that the destination drops; (start, length) in bytes of a block."""
        block = self._numbers.get(name)
        if block is None:
            return
        pages = np.array([start // page_size for start, _ in ranges], np.int64)
        counts = np.array([length // page_size for _, length in ranges], np.int64)
        self._append_runs(PageKind.DISCARDED, block, pages, counts, 0)

    def add_bitmap(self, bitmap: MappedBitmap, *, big_endian_host: bool = False) -> None:
        """The pages that a mapped-ram file holds for one block."""
        self.page_size = bitmap.page_size
        data = np.frombuffer(bitmap.data, np.uint8)
        if big_endian_host:
            data = data.view(np.uint64).byteswap().view(np.uint8)
        block = self._numbers[bitmap.block]
        for start, stop in _set_runs(data, bitmap.pages):
            self._append_runs(
                PageKind.MAPPED, block, start, stop - start,
                bitmap.pages_offset + start * bitmap.page_size,
            )  # fmt: skip

    def add_packet(
        self, packet: MultifdPacket | OldMultifdPacket, payload_offset: int, page_size: int
    ) -> None:
        """The pages of one multifd packet; a SYNC in it takes effect after them."""
        self.page_size = page_size
        if packet.normal_pages or packet.zero_pages:
            normal, zero = pages_of(packet, page_size)
            block = self._numbers[packet.block]
            self._add_normal(packet, block, np.asarray(normal, np.int64), payload_offset)
            pages = np.asarray(zero, np.int64)
            starts, counts = _page_runs(pages)
            self._append_runs(PageKind.MULTIFD_ZERO, block, pages[starts], counts, payload_offset)
        if packet.sync:
            self.sync()

    def _add_normal(
        self,
        packet: MultifdPacket | OldMultifdPacket,
        block: int,
        pages: NDArray[np.int64],
        payload_offset: int,
    ) -> None:
        starts, counts = _page_runs(pages)
        if packet.method == MultifdMethod.NONE:
            base = payload_offset
        else:
            base = self._position
            if len(pages):
                self._packets.append(
                    Packet(
                        self._channel,
                        payload_offset,
                        packet.payload_size,
                        base,
                        len(pages),
                        packet.method,
                    )
                )
            self._position += len(pages) * self.page_size
        offsets = base + starts * self.page_size
        self._append_runs(PageKind.MULTIFD, block, pages[starts], counts, offsets)

    def _append_runs(
        self,
        kind: PageKind,
        block: int,
        pages: NDArray[np.int64],
        counts: NDArray[np.int64],
        offsets: NDArray[np.int64] | int,
    ) -> None:
        size = len(pages)
        self._append(
            np.full(size, kind, np.uint8), np.full(size, block, np.uint16),
            pages, counts, np.broadcast_to(np.asarray(offsets, np.int64), size),
        )  # fmt: skip

    def _append(self, *columns: NDArray[np.generic]) -> None:
        size = len(columns[0])
        end = self._size + size
        for (name, column), values in zip(self._columns.items(), columns, strict=True):
            if end > len(column):
                grown = np.empty(max(end, len(column) * 3 // 2), column.dtype)
                grown[: self._size] = column[: self._size]
                self._columns[name] = column = grown
            column[self._size : end] = values
        self._size = end

    def finish(self) -> Index:
        """The index of everything added."""
        self._close_segment()
        columns = {name: column[: self._size].copy() for name, column in self._columns.items()}
        return Index(
            self.page_size,
            tuple(self.blocks),
            segments=tuple(self._segments),
            packets=tuple(self._packets),
            section_epochs=tuple(self._section_epochs),
            **columns,
        )


def _page_runs(pages: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions at which consecutive pages begin, and how many there are."""
    if not len(pages):
        empty = np.empty(0, np.int64)
        return empty, empty
    starts = np.concatenate(([0], np.flatnonzero(np.diff(pages) != 1) + 1))
    return starts, np.diff(np.append(starts, len(pages)))


_BITMAP_STEP = 1 << 20


def _set_runs(
    bitmap: NDArray[np.uint8], pages: int
) -> Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Runs of set bits as arrays (first page, page after the last), some at a time."""
    for at in range(0, len(bitmap), _BITMAP_STEP):
        bits = np.unpackbits(bitmap[at : at + _BITMAP_STEP], bitorder="little")
        bits = bits[: max(pages - at * 8, 0)]
        edges = np.flatnonzero(np.diff(bits, prepend=0, append=0)) + at * 8
        if len(edges):
            yield edges[::2], edges[1::2]

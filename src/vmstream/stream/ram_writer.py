"""RAM sections written anew: guest memory in, the buffers of a stream out.

Each writer makes the bodies of the three RAM sections that a saved guest needs
(START, one PART with every page once, END) as pieces: lists of buffers that go
to a channel one behind the other. Page content is not copied where the source
has it in one place: a buffer then is a part of what was read.

Source of the forms: QEMU ``migration/ram.c`` (``ram_save_setup``,
``save_zero_page``, ``save_normal_page``, ``mapped_ram_setup_ramblock``).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import cached_property
from itertools import cycle, pairwise

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from vmstream._kernels import gather, is_zero
from vmstream.errors import Unsupported
from vmstream.stream.memory import Batch, Memory
from vmstream.stream.parts import Parts
from vmstream.stream.spans import PageState
from vmstream.wire.mapped_ram import MappedRamHeader, bitmap_size
from vmstream.wire.ram import RamBlock, RamFlag, RamMark, RamTotal
from vmstream.wire.reader import counted

__all__ = ["Buffer", "MappedRamWriter", "Piece", "RamWriter", "Stored"]

Buffer = bytes | memoryview

PIECES_KEPT = 5
"""Pieces whose content stays while later ones are made, where it has to be read."""
PAGES_ALIGNMENT = 1 << 20
"""Of a mapped-ram block's pages in the file (``MAPPED_RAM_FILE_OFFSET_ALIGNMENT``)."""
_BATCH = 512
"""Pages worked on together: 2 MiB of 4 KiB pages."""
_ALIGNMENT = 4096
_SHORT_HOLE = 4
"""Fewer zero pages in a row are written: a hole for each would cost more than it saves."""
_ZERO, _PAGE, _CONTINUE = map(int, (RamFlag.ZERO, RamFlag.PAGE, RamFlag.CONTINUE))


class Stored(msgspec.Struct, frozen=True):
    """A part of the stream that is read, to be written as it stands there."""

    offset: int
    size: int


class Piece(msgspec.Struct, frozen=True):
    """Buffers that follow each other on one channel."""

    buffers: list[Buffer]
    channel: int = 0
    """0 for the main channel, then the multifd channels."""
    at: int | None = None
    """Stream offset, where they do not follow the piece before; what is passed over is zero."""

    behind: Stored | Parts | None = None
    """What follows the buffers."""

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        behind = self.behind.size if self.behind is not None else 0
        return sum(map(len, self.buffers)) + behind


class RamWriter:
    """Writes RAM as ZERO and PAGE records; the other writers differ in where pages go.

    A piece's content stays until :attr:`kept` more pieces were made.

    Args:
        memory: the content.
        blocks: the block list to write, from that of the stream read.
        flat: RAM version 3 (0.10 to 0.12), whose records name no block.
    """

    def __init__(self, memory: Memory, blocks: list[RamBlock], *, flat: bool = False) -> None:
        self.memory = memory
        self.blocks = blocks
        self.page_size = memory.page_size
        self.flat = flat
        self.done = 0
        """Bytes of guest memory that are through."""
        self._batch = _BATCH
        self._viewed = False
        self.kept = PIECES_KEPT
        """Pieces whose content stays while later ones are made."""
        self._marked = any(block.mapped is not None for block in memory.index.blocks)

    def opening(self) -> Iterator[Piece]:
        """What begins each channel beside the main one."""
        yield from ()

    def setup(self, position: int) -> Iterator[Piece]:
        """The body of the START section, which begins at a stream offset."""
        listed = b"" if self.flat else b"".join(block.encode() for block in self.blocks)
        yield Piece([self._total() + listed, _mark(RamFlag.EOS)])

    def pages(self) -> Iterator[Piece]:
        """The body of the PART section."""
        for number, block in self._present():
            name: str | None = block.name
            for batch in self._batches(number):
                records = self._records(batch, batch.state, name)
                if records:
                    yield Piece(records)
                    name = None
        yield Piece([_mark(RamFlag.EOS)])

    def end(self) -> Iterator[Piece]:
        """The body of the END section."""
        yield Piece([_mark(RamFlag.EOS)])

    # Parts of it

    @cached_property
    def _gathered(self) -> Iterator[NDArray[np.uint8]]:
        """Where pages are brought together, in turns."""
        size = self._batch * self.page_size
        return cycle([_aligned(size) for _ in range(PIECES_KEPT + 1)])

    def _together(self, batch: Batch, places: NDArray[np.int64]) -> Buffer:
        """Pages of a batch in one buffer; a buffer for each would cost more than copying them.

        Args:
            places: where in the batch's bytes each of them begins; -1 for a zero page.
        """
        size = self.page_size
        if places[0] >= 0 and (np.diff(places) == size).all():
            return batch.data[int(places[0]) : int(places[0]) + len(places) * size]
        pages = next(self._gathered)[: len(places) * size].reshape(-1, size)
        gather(batch.data, places, pages)
        return pages.reshape(-1).data

    def _total(self) -> bytes:
        return RamTotal(0, sum(block.used_length for block in self.blocks)).encode()

    def _present(self) -> Iterator[tuple[int, RamBlock]]:
        """Blocks whose content is in the stream, with their numbers in memory."""
        for number, block in enumerate(self.blocks):
            if not self.memory[block.name].elsewhere:
                yield number, block

    def _batches(self, number: int) -> Iterator[Batch]:
        """All pages of a block, those found to be zero marked so."""
        total = -(-self.blocks[number].used_length // self.page_size)
        for first in range(0, total, self._batch):
            count = min(self._batch, total - first)
            room = None if self._viewed else next(self._rooms)
            batch = self.memory.batch(number, first, count, room, view=self._viewed)
            yield replace(batch, state=self._judged(batch))
            self.done += count * self.page_size

    @cached_property
    def _rooms(self) -> Iterator[memoryview]:
        """Where batches are read into, in turns.

        New memory for every batch would cost more than what is done with it.
        """
        size = 2 * self._batch * (self.page_size + 8)
        return cycle([memoryview(bytearray(size)) for _ in range(PIECES_KEPT + 1)])

    def _judged(self, batch: Batch) -> NDArray[np.uint8]:
        """The state of each page by its content, too.

        A clear bit of mapped-ram says that the page is zero, not that it was left out.
        """
        state = batch.state.copy()
        if self._marked:
            state[state == PageState.ABSENT] = PageState.ZERO
        content = np.flatnonzero(state == PageState.CONTENT)
        if not len(content):
            return state
        places = batch.offsets[content]
        heads = np.frombuffer(batch.data, np.uint8)[places]
        for at in np.flatnonzero(heads == 0).tolist():
            place = int(places[at])
            if is_zero(batch.data[place : place + self.page_size]):
                state[content[at]] = PageState.ZERO
        return state

    def _records(self, batch: Batch, state: NDArray[np.uint8], name: str | None) -> list[Buffer]:
        """ZERO and PAGE records of the pages that were sent; the first names its block."""
        sent = np.flatnonzero(state)
        if not len(sent):
            return []
        zero = state[sent] == PageState.ZERO
        heads = self._heads(batch.first + sent, zero, name is not None)
        named = b"" if self.flat or name is None else counted(name)
        raw = heads.reshape(-1).data
        out: list[Buffer] = []
        for first, end, stretch in _stretches(batch, sent, zero, heads, self.page_size):
            if stretch is None:
                out.append(raw[9 * first : 9 * end])
            else:
                out += (raw[9 * first : 9 * first + 8], stretch)
        if named:
            out[:1] = [out[0][:8], named, out[0][8:]]
        return out

    def _heads(
        self, pages: NDArray[np.int64], zero: NDArray[np.bool_], named: bool
    ) -> NDArray[np.uint8]:
        """A row for each record: be64 address and flags, and the zero byte of a ZERO record."""
        values = pages * self.page_size | np.where(zero, _ZERO, _PAGE)
        if not self.flat:
            values[1 if named else 0 :] |= _CONTINUE
        heads = np.zeros((len(pages), 9), np.uint8)
        heads[:, :8] = values.astype(">u8").view(np.uint8).reshape(-1, 8)
        return heads


def _stretches(
    batch: Batch,
    sent: NDArray[np.int64],
    zero: NDArray[np.bool_],
    heads: NDArray[np.uint8],
    size: int,
) -> Iterator[tuple[int, int, Buffer | None]]:
    """Records that can be written together.

    A plain stream has between its pages what is to be written there, so that one buffer
    takes many of them.

    Args:
        sent: the pages of the batch that have a record.
        zero: which of these are ZERO records.
        heads: the records' heads, 9 bytes each.
        size: of a page.

    Yields:
        the first record, the one behind the last, and what follows the first one's
        8 bytes of head; None for ZERO records, of which the heads are all.
    """
    count = len(sent)
    number = np.arange(count)
    places = np.where(zero, -1, batch.offsets[sent])
    # Where a record would stand, if all since the last page that was read follow it.
    last = np.maximum.accumulate(np.where(zero, -1, number))
    before = np.concatenate(([-1], last[:-1]))
    at = places[before] + size + 9 * (number - before - 1)
    data = np.frombuffer(batch.data, np.uint8)
    there = (before >= 0) & np.where(zero, at + 9 <= len(data), at + 8 == places)
    there[there] = _same_heads(data, at[there], heads[there], zero[there])
    # A record that stands elsewhere breaks what follows off, up to the next page.
    broken = np.maximum.accumulate(np.where(there, -1, number))
    joined = there & ((broken <= before) | (before == number - 1))
    with_zero = zero & np.concatenate(([False], zero[:-1] & ~joined[:-1]))
    starts = np.flatnonzero(~(joined | with_zero)).tolist()
    for first, end in pairwise([*starts, count]):
        if zero[first]:
            yield first, end, None
            continue
        page = int(last[end - 1])
        behind = int(places[page]) + size + 9 * (end - 1 - page)
        yield first, end, batch.data[int(places[first]) : behind]


def _same_heads(
    data: NDArray[np.uint8],
    at: NDArray[np.int64],
    heads: NDArray[np.uint8],
    zero: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Whether the records at these places have these heads, of 9 bytes if they are ZERO."""
    found = data[np.minimum(at[:, np.newaxis] + np.arange(9), len(data) - 1)]
    same: NDArray[np.bool_] = found == heads
    same[:, 8] |= ~zero
    return np.asarray(same.all(axis=1), np.bool_)


class MappedRamWriter(RamWriter):
    """Writes every page at its fixed place of a file (mapped-ram, 9.0+).

    Args:
        origin: position in the file of the stream's first byte.

    Raises (while it is written):
        Unsupported: a block that is no whole number of pages.
    """

    def __init__(self, memory: Memory, blocks: list[RamBlock], *, origin: int = 0) -> None:
        super().__init__(memory, blocks)
        self.origin = origin

    def setup(self, position: int) -> Iterator[Piece]:
        total = self._total()
        yield Piece([total])
        position += len(total)
        present = {number for number, _ in self._present()}
        for number, block in enumerate(self.blocks):
            position = yield from self._block(number, block, position, number in present)
        yield Piece([_mark(RamFlag.EOS)], at=position)

    def pages(self) -> Iterator[Piece]:
        yield Piece([_mark(RamFlag.EOS)])

    def _block(
        self, number: int, block: RamBlock, position: int, present: bool
    ) -> Generator[Piece, None, int]:
        """One entry of the list with its regions; returns where the next one begins."""
        size = self.page_size
        if block.used_length % size:
            raise Unsupported(
                f"mapped-ram has no place for a part of a page at the end of {block.name!r}",
                section="ram",
                expected=f"a multiple of {size}",
                found=block.used_length,
            )
        bitmap = bytearray(bitmap_size(block.used_length // size))
        start = position + len(replace(block, mapped=MappedRamHeader(1, size, 0, 0)).encode())
        place = -(-(self.origin + start + len(bitmap)) // PAGES_ALIGNMENT) * PAGES_ALIGNMENT
        header = MappedRamHeader(1, size, self.origin + start, place)
        if not present:
            yield Piece(
                [replace(block, mapped=MappedRamHeader(1, size, 0, 0)).encode()], at=position
            )
            return start
        yield Piece([replace(block, mapped=header).encode()], at=position)
        place -= self.origin
        for batch in self._batches(number):
            content = batch.state == PageState.CONTENT
            bits = np.packbits(content, bitorder="little").tobytes()
            bitmap[batch.first // 8 : batch.first // 8 + len(bits)] = bits
            for begin, end in _patches(content):
                yield Piece(self._content(batch, begin, end), at=place + begin * size)
            place += len(content) * size
        yield Piece([bytes(bitmap)], at=start)
        return place

    def _content(self, batch: Batch, begin: int, end: int) -> list[Buffer]:
        """The bytes of pages ``begin`` to ``end - 1`` of a batch, zeros between them included.

        Page records stand at odd places, from which the kernel copies half as
        fast as from aligned memory: so they are brought together first.
        """
        content = batch.state[begin:end] == PageState.CONTENT
        return [self._together(batch, np.where(content, batch.offsets[begin:end], -1))]


def _aligned(size: int) -> NDArray[np.uint8]:
    """Room that begins where a page of memory does."""
    room = np.empty(size + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + size]


def _mark(flag: RamFlag) -> bytes:
    return RamMark(0, flag).encode()


def _patches(content: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Stretches with content as (first, behind the last), those close to each other joined."""
    pages = np.flatnonzero(content)
    if not len(pages):
        return []
    gaps = np.flatnonzero(np.diff(pages) > _SHORT_HOLE) + 1
    starts, ends = pages[[0, *gaps]], pages[[*(gaps - 1), -1]] + 1
    return list(zip(starts.tolist(), ends.tolist(), strict=True))

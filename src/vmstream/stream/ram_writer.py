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
from itertools import pairwise

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from vmstream._kernels import is_zero
from vmstream.errors import Unsupported
from vmstream.stream.memory import Batch, Memory, PageState
from vmstream.wire.mapped_ram import MappedRamHeader, bitmap_size
from vmstream.wire.ram import RamBlock, RamFlag, RamMark, RamTotal
from vmstream.wire.reader import counted

__all__ = ["Buffer", "MappedRamWriter", "Piece", "RamWriter"]

Buffer = bytes | memoryview

PAGES_ALIGNMENT = 1 << 20
"""Of a mapped-ram block's pages in the file (``MAPPED_RAM_FILE_OFFSET_ALIGNMENT``)."""
_BATCH = 256
"""Pages worked on together: 1 MiB of 4 KiB pages."""
_HEAD = np.arange(8)


class Piece(msgspec.Struct, frozen=True):
    """Buffers that follow each other on one channel."""

    buffers: list[Buffer]
    channel: int = 0
    """0 for the main channel, then the multifd channels."""
    at: int | None = None
    """Stream offset, where they do not follow the piece before; what is passed over is zero."""

    @property
    def size(self) -> int:
        """Bytes of all buffers."""
        return sum(map(len, self.buffers))


class RamWriter:
    """Writes RAM as ZERO and PAGE records; the other writers differ in where pages go.

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
            for batch in self._batches(number, _BATCH):
                records = self._records(batch, batch.state, name)
                if records:
                    yield Piece(records)
                    name = None
        yield Piece([_mark(RamFlag.EOS)])

    def end(self) -> Iterator[Piece]:
        """The body of the END section."""
        yield Piece([_mark(RamFlag.EOS)])

    # Parts of it

    def _total(self) -> bytes:
        return RamTotal(0, sum(block.used_length for block in self.blocks)).encode()

    def _present(self) -> Iterator[tuple[int, RamBlock]]:
        """Blocks whose content is in the stream, with their numbers in memory."""
        for number, block in enumerate(self.blocks):
            if not self.memory[block.name].elsewhere:
                yield number, block

    def _batches(self, number: int, pages: int) -> Iterator[Batch]:
        """All pages of a block, those found to be zero marked so."""
        total = -(-self.blocks[number].used_length // self.page_size)
        for first in range(0, total, pages):
            count = min(pages, total - first)
            batch = self.memory.batch(number, first, count)
            yield replace(batch, state=self._judged(batch))
            self.done += count * self.page_size

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
        heads = np.frombuffer(batch.data, np.uint8)[places[:, None] + _HEAD]
        for at in np.flatnonzero(~heads.any(axis=1)).tolist():
            place = int(places[at])
            if is_zero(batch.data[place : place + self.page_size]):
                state[content[at]] = PageState.ZERO
        return state

    def _records(self, batch: Batch, state: NDArray[np.uint8], name: str | None) -> list[Buffer]:
        """ZERO and PAGE records of the pages that were sent; the first names its block."""
        sent = np.flatnonzero(state)
        if not len(sent):
            return []
        flags = np.where(state[sent] == PageState.ZERO, RamFlag.ZERO, RamFlag.PAGE)
        if not self.flat:
            flags |= RamFlag.CONTINUE
            if name is not None:
                flags[0] &= ~RamFlag.CONTINUE
        heads = ((batch.first + sent) * self.page_size | flags).astype(">u8")
        raw = heads.view(np.uint8).data
        named = b"" if self.flat or name is None else counted(name)
        size, data, places = self.page_size, batch.data, batch.offsets[sent].tolist()
        out: list[Buffer] = []
        for begin, end, zero in _stretches(state[sent] == PageState.ZERO):
            if named and not begin:
                out += (raw[:8], named, b"\0" if zero else data[places[0] : places[0] + size])
                begin = 1
            if zero:
                records = np.zeros((end - begin, 9), np.uint8)
                records[:, :8] = heads[begin:end].view(np.uint8).reshape(-1, 8)
                out.append(records.reshape(-1).data)
                continue
            for at in range(begin, end):
                place = places[at]
                out.append(raw[8 * at : 8 * at + 8])
                out.append(data[place : place + size])
        return out

    def _content(self, batch: Batch, begin: int, end: int) -> list[Buffer]:
        """The bytes of pages ``begin`` to ``end - 1`` of a batch, all of them with content."""
        size, data = self.page_size, batch.data
        places = batch.offsets[begin:end]
        edges = [0, *(np.flatnonzero(np.diff(places) != size) + 1).tolist(), len(places)]
        starts = places[edges[:-1]].tolist()
        return [
            data[start : start + (last - first) * size]
            for start, (first, last) in zip(starts, pairwise(edges), strict=True)
        ]


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
        for batch in self._batches(number, _BATCH):
            content = batch.state == PageState.CONTENT
            bits = np.packbits(content, bitorder="little").tobytes()
            bitmap[batch.first // 8 : batch.first // 8 + len(bits)] = bits
            for begin, end, kept in _stretches(content):
                if kept:
                    at = place + (batch.first + begin) * size
                    yield Piece(self._content(batch, begin, end), at=at)
        yield Piece([bytes(bitmap)], at=start)
        return place + block.used_length


def _mark(flag: RamFlag) -> bytes:
    return RamMark(0, flag).encode()


def _stretches(flags: NDArray[np.bool_]) -> Iterator[tuple[int, int, bool]]:
    """Stretches of equal flags as (first, behind the last, the flag)."""
    edges = [0, *(np.flatnonzero(np.diff(flags)) + 1).tolist(), len(flags)]
    values = flags[edges[:-1]].tolist()
    yield from zip(edges[:-1], edges[1:], values, strict=True)

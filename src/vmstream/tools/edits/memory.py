"""Splices of the RAM sections: block list, page records, pages."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator

import numpy as np

from vmstream.errors import Unsupported
from vmstream.stream.incremental import Incremental
from vmstream.stream.ram import RamReader
from vmstream.stream.stream import Section, Stream
from vmstream.tools.edits.draft import Draft
from vmstream.tools.edits.splice import CHUNK, Splice
from vmstream.wire.ram import PageKind, Pages, RamBlock, RamFlag, RamTotal
from vmstream.wire.reader import Parse, Reader, counted
from vmstream.wire.sections import Element

__all__ = ["list_splices", "poke_splices", "ram_start", "record_splices", "written_block"]

EXTRA = {PageKind.XBZRLE: 3, PageKind.COMPRESSED: 4}
"""Bytes between a record's address or name and its payload."""
MAIN = 0


def ram_start(stream: Stream) -> Section | None:
    """The section that begins with the block list."""
    sections = stream.sections
    return next((s for s in sections if s.name == "ram" and s.type == Element.START), None)


# The block list


def list_splices(draft: Draft) -> Iterator[Splice]:
    """The total and the entries of blocks that change; not for mapped-ram."""
    stream = draft.stream
    start = ram_start(stream)
    if start is None or stream.ram_total is None:
        return
    gone = [b.used_length for b in stream.index.blocks if b.name in draft.dropped_blocks]
    if gone:
        yield Splice(start.body_offset, 8, RamTotal(0, stream.ram_total - sum(gone)).encode())
    for block in stream.index.blocks:
        old = block.encode()
        new = written_block(draft, block)
        if new != old:
            yield Splice(block.offset, len(old), new)


def written_block(draft: Draft, block: RamBlock) -> bytes:
    """A block's entry as it will be; nothing for one that is dropped."""
    if block.name in draft.dropped_blocks:
        return b""
    kept = draft.addresses
    return RamBlock(
        block.offset,
        draft.block_names.get(block.name, block.name),
        block.used_length,
        block.page_size,
        block.address if kept else None,
        block.ignored if kept else None,
        block.mapped,
    ).encode()


# Page records that name a block


class _Records(Incremental):
    """The page records of RAM's bodies, one body after the other.

    Attributes:
        bodies: (first byte, byte behind the last) of what is still to be fed.
    """

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.ram = RamReader(self, (stream.page_size or 4096).bit_length() - 1)
        for block in stream.index.blocks:
            self.ram.add_block(block.name, block.used_length)
        self.bodies = [
            (_first_record(stream, section), section.body_offset + section.body_size)
            for section in stream.sections
            if section.name == "ram"
        ]
        self._version = next((s.version for s in stream.sections if s.name == "ram"), 4)
        self._next = 0
        self._enter()

    def _enter(self) -> None:
        if self._next < len(self.bodies):
            self.reader = Reader(self.bodies[self._next][0])
            self._next += 1

    def _run(self) -> Parse[None]:
        for _ in self.bodies:
            yield from self.ram.body(self._version)
            self._enter()


def _first_record(stream: Stream, section: Section) -> int:
    """Where records begin: in the START behind the block list."""
    blocks = stream.index.blocks
    if section.type != Element.START or not blocks:
        return section.body_offset
    return blocks[-1].offset + len(blocks[-1].encode())


def record_splices(draft: Draft) -> Iterator[Splice]:
    """The page records of blocks that are renamed or dropped, found piece by piece.

    A record after those of another block names its own, so leaving all records
    of a block out leaves every other one with the right block.
    """
    stream = draft.stream
    blocks = stream.index.blocks
    numbers = [
        number
        for number, block in enumerate(blocks)
        if block.name in draft.block_names or block.name in draft.dropped_blocks
    ]
    if not numbers or any(block.mapped is not None for block in blocks):
        return
    records = _Records(stream)
    for start, end in records.bodies:
        for at in range(start, end, CHUNK):
            for event in records.feed(stream.source.read_at(at, min(CHUNK, end - at))):
                if isinstance(event, Pages):
                    yield from _in_batch(draft, event, numbers)


def _in_batch(draft: Draft, pages: Pages, numbers: list[int]) -> Iterator[Splice]:
    runs = pages.runs
    for at in np.flatnonzero(np.isin(runs.block, numbers)).tolist():
        name = pages.names[runs.block[at]]
        kind = PageKind(runs.kind[at])
        offset = int(runs.offset[at])
        named = counted(name) if runs.named[at] else b""
        behind_name = offset - EXTRA.get(kind, 0)
        if name in draft.dropped_blocks:
            start = behind_name - len(named) - 8
            payload = len(pages.payload(offset, kind))
            end = offset + (int(runs.count[at]) - 1) * (8 + payload) + payload
            yield Splice(start, end - start, b"")
        elif named and name in draft.block_names:
            new = counted(draft.block_names[name])
            yield Splice(behind_name - len(named), len(named), new)


# Bytes written into memory


def poke_splices(draft: Draft) -> list[Splice]:
    """Each page that is written to: in its last record, else in a record of its own.

    Raises:
        Unsupported: the page's last record is on another channel.
    """
    stream = draft.stream
    size = stream.memory.page_size
    numbers = {block.name: number for number, block in enumerate(stream.index.blocks)}
    pages: dict[tuple[int, int], bytearray] = {}
    for name, offset, data in draft.pokes:
        if stream.index.blocks[numbers[name]].mapped is not None:
            continue
        for at in range(offset - offset % size, offset + len(data), size):
            page = pages.setdefault((numbers[name], at // size), _content(stream, name, at, size))
            first, last = max(at, offset), min(at + size, offset + len(data))
            page[first - at : last - at] = data[first - offset : last - offset]
    splices = []
    for (number, index), content in sorted(pages.items()):
        splices += _page_splices(draft, number, index, bytes(content))
    return splices


def _content(stream: Stream, name: str, at: int, size: int) -> bytearray:
    block = stream.memory[name]
    return bytearray(block.read(at, min(size, block.size - at)).ljust(size, b"\0"))


def _page_splices(draft: Draft, block: int, page: int, content: bytes) -> list[Splice]:
    stream = draft.stream
    run = _last_record(stream, block, page)
    if run is None:
        return [_added_record(draft, block, page, content)]
    kind = PageKind(stream.index.kind[run])
    stride = 8 + (len(content) if kind == PageKind.NORMAL else 1)
    step = page - int(stream.index.page[run])
    payload = int(stream.index.offset[run]) + step * stride
    if kind == PageKind.NORMAL:
        return [Splice(payload, len(content), content)]
    body = payload - EXTRA.get(kind, 0)
    length = _payload_length(stream, kind, payload)
    head = _head(stream, block, page * len(content), body)
    address = int.from_bytes(bytes(stream.source.read_at(head, 8)), "big")
    flags = address % len(content) & RamFlag.CONTINUE | RamFlag.PAGE
    return [
        Splice(head, 8, struct.pack(">Q", page * len(content) | flags)),
        Splice(body, payload + length - body, content),
    ]


def _payload_length(stream: Stream, kind: PageKind, payload: int) -> int:
    if kind not in EXTRA:
        return 1
    width = EXTRA[kind] - (kind == PageKind.XBZRLE)
    return int.from_bytes(bytes(stream.source.read_at(payload - width, width)), "big")


def _head(stream: Stream, block: int, address: int, body: int) -> int:
    """Where the record begins whose address, and name where it has one, end at ``body``."""
    name = counted(stream.index.blocks[block].name)
    start = body - 8 - len(name)
    before = bytes(stream.source.read_at(max(start, 0), 8 + len(name)))
    first = int.from_bytes(before[:8], "big")
    named = before[8:] == name and not first & RamFlag.CONTINUE
    if named and first & ~0x3FF == address & ~0x3FF:
        return start
    return body - 8


def _last_record(stream: Stream, block: int, page: int) -> int | None:
    """The run with a page's last record; None where the page has none.

    Raises:
        Unsupported: it is not on the main channel.
    """
    index = stream.index
    first = index.page.astype(np.int64)
    holds = (index.block == block) & (first <= page) & (page < first + index.count)
    starts = [segment.start for segment in index.segments]

    def order(run: int) -> tuple[int, int, int]:
        segment = index.segments[bisect_right(starts, run) - 1]
        return segment.epoch, segment.channel, run

    run = max(np.flatnonzero(holds).tolist(), key=order, default=None)
    if run is None or index.kind[run] == PageKind.DISCARDED:
        return None
    if order(run)[1] != MAIN:
        raise Unsupported(
            "the page is sent on another channel: convert the migration to one stream first",
            section="ram",
        )
    return int(run)


def _added_record(draft: Draft, block: int, page: int, content: bytes) -> Splice:
    """A record before the end mark of the last RAM section."""
    stream = draft.stream
    last = [section for section in stream.sections if section.name == "ram"][-1]
    end = last.body_offset + last.body_size - 8
    name = stream.index.blocks[block].name
    name = draft.block_names.get(name, name)
    head = struct.pack(">Q", page * len(content) | RamFlag.PAGE) + counted(name)
    return Splice(end, 0, head + content)

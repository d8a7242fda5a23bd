"""Splices of a mapped-ram stream, whose block list says where pages stand in the file.

When something before a block changes its length, the block's bitmap follows its
entry, and its pages keep their alignment behind it.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from vmstream.errors import Unsupported
from vmstream.tools.edits.draft import Draft
from vmstream.tools.edits.memory import ram_start, written_block
from vmstream.tools.edits.splice import Splice
from vmstream.wire.mapped_ram import MappedRamHeader, bitmap_size
from vmstream.wire.ram import RamBlock, RamTotal

__all__ = ["is_mapped", "mapped_splices"]

ALIGNMENT = 1 << 20
"""Of page regions in the file (``MAPPED_RAM_FILE_OFFSET_ALIGNMENT``, ``migration/ram.c``)."""


def is_mapped(draft: Draft) -> bool:
    """Whether the stream's blocks stand at places of a file."""
    return any(block.mapped is not None for block in draft.stream.index.blocks)


def mapped_splices(draft: Draft, shift: int) -> Iterator[Splice]:
    """The block list, bitmaps, and pages that are written to.

    Args:
        shift: bytes by which the list stands later in the new file than its
            entries' offsets assume.
    """
    stream = draft.stream
    start = ram_start(stream)
    if start is None or stream.ram_total is None:
        return
    blocks = stream.index.blocks
    gone = sum(b.used_length for b in blocks if b.name in draft.dropped_blocks)
    if gone:
        yield Splice(start.body_offset, 8, RamTotal(0, stream.ram_total - gone).encode())
    for block in blocks:
        for splice in _block_splices(draft, block, shift):
            shift += splice.grows
            yield splice


def _block_splices(draft: Draft, block: RamBlock, shift: int) -> list[Splice]:
    header = block.mapped
    length = len(block.encode())
    if header is None or not header.present:
        new = written_block(draft, block)
        return [Splice(block.offset, length, new)] if new != block.encode() else []
    if header.page_size > ALIGNMENT:
        raise Unsupported(
            f"mapped-ram pages of {header.page_size:#x} bytes are no size of any target",
            offset=block.offset,
        )
    origin = draft.stream.source.origin
    bitmap_at = header.bitmap_offset - origin
    pages_at = header.pages_offset - origin
    if block.name in draft.dropped_blocks:
        return [Splice(block.offset, pages_at + block.used_length - block.offset, b"")]
    size = bitmap_size(block.used_length // header.page_size)
    old = bytes(draft.stream.source.read_at(bitmap_at, size))
    writes, bitmap = _written_pages(draft, block, header, old, pages_at)
    place = block.offset + origin + shift
    if shift == 0 and written_block(draft, block) == block.encode():
        changed = [Splice(bitmap_at, size, bitmap)] if bitmap != old else []
        return [*changed, *writes]
    entry, moved = _moved_entry(draft, block, header, place, size)
    before = bytearray(moved.pages_offset - place)
    before[: len(entry)] = entry
    at = moved.bitmap_offset - place
    before[at : at + size] = bitmap
    return [Splice(block.offset, pages_at - block.offset, bytes(before)), *writes]


def _moved_entry(
    draft: Draft, block: RamBlock, header: MappedRamHeader, place: int, size: int
) -> tuple[bytes, MappedRamHeader]:
    """A block's entry at another place of the file, its bitmap behind it, its pages aligned."""
    aligned = header.pages_offset % ALIGNMENT == 0
    unit = ALIGNMENT if aligned else header.page_size
    bitmap_at = place + len(written_block(draft, block))
    pages_at = -(-(bitmap_at + size) // unit) * unit
    moved = MappedRamHeader(header.version, header.page_size, bitmap_at, pages_at)
    return written_block(draft, replace(block, mapped=moved)), moved


def _written_pages(
    draft: Draft, block: RamBlock, header: MappedRamHeader, bitmap: bytes, pages_at: int
) -> tuple[list[Splice], bytes]:
    """The pages that are written to, and the bitmap that says that they have content."""
    size = header.page_size
    memory = draft.stream.memory[block.name]
    bits = bytearray(bitmap)
    pages: dict[int, bytearray] = {}
    for name, offset, data in draft.pokes:
        if name != block.name:
            continue
        for at in range(offset - offset % size, offset + len(data), size):
            length = min(size, block.used_length - at)
            page = pages.setdefault(at // size, bytearray(memory.read(at, length)))
            first, last = max(at, offset), min(at + size, offset + len(data))
            page[first - at : last - at] = data[first - offset : last - offset]
            # Little-endian words: bit n of the bitmap is bit n % 8 of byte n / 8.
            bits[at // size // 8] |= 1 << at // size % 8
    writes = [
        Splice(pages_at + number * size, len(page), bytes(page))
        for number, page in sorted(pages.items())
    ]
    return writes, bytes(bits)

"""mapped-ram: every page at a fixed place of a file (9.0+).

Source: QEMU ``migration/ram.c`` (``MappedRamHeader``) and
``docs/devel/migration/mapped-ram.rst``. The offsets are positions in the file,
not in the stream.
"""

from __future__ import annotations

import struct

import msgspec

from vmstream.errors import LimitExceeded, Malformed
from vmstream.wire.limits import Limits
from vmstream.wire.reader import Parse, Reader

__all__ = ["MappedBitmap", "MappedRamHeader", "bitmap_size", "read_mapped_header"]

_HEADER = struct.Struct(">IQQQ")


class MappedRamHeader(msgspec.Struct, frozen=True):
    """28 bytes after a block's used length: be32 version, be64 page size and two file positions.

    Both positions are 0 for a block that x-ignore-shared leaves out.
    """

    version: int
    page_size: int
    bitmap_offset: int
    pages_offset: int

    @property
    def present(self) -> bool:
        """Whether the block has a bitmap and pages in the file."""
        return bool(self.bitmap_offset or self.pages_offset)

    def encode(self) -> bytes:
        return _HEADER.pack(self.version, self.page_size, self.bitmap_offset, self.pages_offset)


class MappedBitmap(msgspec.Struct, frozen=True):
    """Which pages of a block the file holds.

    Bit i of the bitmap, counted from the least significant bit of each *host*
    unsigned long, is page i; a clear bit means a zero page whose bytes in the
    file may be stale. Nothing in the file says the host's byte order: little
    endian is assumed unless the reader is told otherwise.
    """

    offset: int
    block: str
    pages: int
    """Pages of the block: used length / page size."""
    page_size: int
    pages_offset: int
    """Stream offset of the page region."""
    data: bytes

    def encode(self) -> bytes:
        return self.data


def bitmap_size(pages: int) -> int:
    """Bytes of a block's bitmap on a 64-bit host: whole 64-bit words."""
    return (pages + 63) // 64 * 8


def read_mapped_header(reader: Reader, used_length: int, limits: Limits) -> Parse[MappedRamHeader]:
    """Read and check one block's header.

    Raises:
        Malformed: a version, page size or alignment that QEMU's loader refuses.
        LimitExceeded: the bitmap would be larger than the limit.
    """
    at = reader.offset
    raw = yield from reader.take(_HEADER.size, "a mapped-ram header")
    header = MappedRamHeader(*_HEADER.unpack(raw))
    if header.version > 1:
        raise Malformed(
            f"mapped-ram header version {header.version} is unknown",
            offset=at,
            expected=1,
            found=header.version,
        )
    size = header.page_size
    if size < 256 or size & (size - 1):
        raise Malformed(
            f"the mapped-ram page size {size} is not a power of two",
            offset=at + 4,
            expected="a power of two",
            found=size,
        )
    if header.present and header.pages_offset % size:
        raise Malformed(
            "the mapped-ram page region is not aligned to the page size",
            offset=at + 20,
            expected=f"a multiple of {size}",
            found=header.pages_offset,
        )
    if bitmap_size(used_length // size) > limits.bitmap:
        raise LimitExceeded(
            "the mapped-ram bitmap is larger than the limit",
            offset=at,
            expected=f"at most {limits.bitmap} bytes",
            found=bitmap_size(used_length // size),
        )
    return header

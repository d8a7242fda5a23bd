"""Dirty bitmaps of disks, section ``dirty-bitmap`` version 1 (2.12+).

Source: QEMU ``migration/block-dirty-bitmap.c``. Chunks of one flags byte and
what it announces; names hold until the next that are given.
"""

from __future__ import annotations

import struct
from enum import IntFlag

import msgspec

from vmstream.errors import Malformed
from vmstream.wire.limits import Limits
from vmstream.wire.reader import Parse, Reader, counted

__all__ = ["BitmapChunk", "BitmapFlag", "read_bitmap_chunk"]


class BitmapFlag(IntFlag):
    """``DIRTY_BITMAP_MIG_FLAG_*``; bit 7 would announce more flag bytes, which no loader takes."""

    EOS = 0x01
    ZEROES = 0x02
    BITMAP_NAME = 0x04
    DEVICE_NAME = 0x08
    START = 0x10
    COMPLETE = 0x20
    BITS = 0x40
    EXTRA_FLAGS = 0x80


class BitmapChunk(msgspec.Struct, frozen=True):
    """One chunk."""

    offset: int
    flags: BitmapFlag
    device: str | None = None
    """Node name or alias, when given anew."""
    bitmap: str | None = None
    """Bitmap name or alias, when given anew."""
    granularity: int | None = None
    """Bytes for each bit (START, be32)."""
    start_flags: int | None = None
    """1 enabled, 2 persistent, 4 autoload (START)."""
    first_sector: int | None = None
    """512-byte sectors (BITS, be64)."""
    sectors: int | None = None
    """512-byte sectors (BITS, be32)."""
    data: bytes | None = None
    """One bit for each granule, little-endian 64-bit words; None with ZEROES."""

    @property
    def ends_body(self) -> bool:
        """Whether the section's body ends with this chunk (EOS)."""
        return bool(int(self.flags) & 0x01)

    def encode(self) -> bytes:
        out = [bytes((self.flags,))]
        if self.device is not None:
            out.append(counted(self.device))
        if self.bitmap is not None:
            out.append(counted(self.bitmap))
        if self.granularity is not None:
            out.append(struct.pack(">IB", self.granularity, self.start_flags))
        if self.first_sector is not None:
            out.append(struct.pack(">QI", self.first_sector, self.sectors))
            if self.data is not None:
                out += [struct.pack(">Q", len(self.data)), self.data]
        return b"".join(out)


_EXTRA_FLAGS = int(BitmapFlag.EXTRA_FLAGS)
_KINDS = int(BitmapFlag.EOS | BitmapFlag.START | BitmapFlag.COMPLETE | BitmapFlag.BITS)


def read_bitmap_chunk(reader: Reader, limits: Limits) -> Parse[BitmapChunk]:
    """Read one chunk.

    Raises:
        Malformed: flags that no loader accepts.
        LimitExceeded: a buffer above the limit.
    """
    at = reader.offset
    value = yield from reader.integer(1, "a dirty bitmap's flags")
    kind = value & _KINDS
    if value & _EXTRA_FLAGS or kind.bit_count() != 1:
        raise Malformed(
            f"dirty bitmap flags {value:#x} must hold exactly one of EOS, START, "
            "COMPLETE and BITS in one byte",
            offset=at,
            found=f"{value:#x}",
        )
    flags = BitmapFlag(value)
    if kind == BitmapFlag.EOS:
        return BitmapChunk(at, flags)
    device = bitmap = None
    if BitmapFlag.DEVICE_NAME in flags:
        device = yield from reader.counted("a node's name")
    if BitmapFlag.BITMAP_NAME in flags:
        bitmap = yield from reader.counted("a bitmap's name")
    if kind == BitmapFlag.START:
        granularity = yield from reader.integer(4, "a bitmap's granularity")
        start_flags = yield from reader.integer(1, "a bitmap's start flags")
        return BitmapChunk(at, flags, device, bitmap, granularity, start_flags)
    if kind == BitmapFlag.COMPLETE:
        return BitmapChunk(at, flags, device, bitmap)
    first = yield from reader.integer(8, "a bitmap's first sector")
    sectors = yield from reader.integer(4, "a bitmap's sectors")
    data = None
    if BitmapFlag.ZEROES not in flags:
        size = yield from reader.integer(8, "a bitmap's size")
        raw = yield from reader.bounded(size, limits.bitmap_chunk, "a dirty bitmap's chunk")
        data = bytes(raw)
    return BitmapChunk(at, flags, device, bitmap, None, None, first, sectors, data)

"""Live block migration, section ``block`` version 1 (0.12 to 9.0).

Source: QEMU ``migration/block.c`` (9.0). Records of be64 ``sector << 9 | flags``
until EOS; a chunk is always 1 MiB on the wire.
"""

from __future__ import annotations

import struct
from enum import IntFlag

import msgspec

from vmstream.errors import Malformed
from vmstream.wire.reader import Parse, Reader, counted

__all__ = ["CHUNK_SIZE", "BlockFlag", "BlockRecord", "read_block_record"]

CHUNK_SIZE = 1 << 20
_SECTOR_BITS = 9


class BlockFlag(IntFlag):
    """``BLK_MIG_FLAG_*``."""

    DEVICE_BLOCK = 0x01
    EOS = 0x02
    PROGRESS = 0x04
    ZERO_BLOCK = 0x08


_LEGAL = {
    BlockFlag.DEVICE_BLOCK,
    BlockFlag.DEVICE_BLOCK | BlockFlag.ZERO_BLOCK,
    BlockFlag.EOS,
    BlockFlag.PROGRESS,
}


class BlockRecord(msgspec.Struct, frozen=True):
    """One record: a chunk of a disk, the progress in percent, or the end mark."""

    offset: int
    value: int
    """Sector of 512 bytes for a chunk, percent for PROGRESS."""
    flags: BlockFlag
    device: str | None = None
    """Name of the block backend."""
    data: memoryview | None = None
    """1 MiB of the disk; None for a zero chunk."""

    def encode(self) -> bytes:
        head = struct.pack(">Q", self.value << _SECTOR_BITS | self.flags)
        if self.device is None:
            return head
        return b"".join((head, counted(self.device), self.data or b""))


def read_block_record(reader: Reader) -> Parse[BlockRecord]:
    """Read one record.

    Raises:
        Malformed: flags that QEMU does not know.
    """
    at = reader.offset
    word = yield from reader.integer(8, "a block migration record")
    flags = BlockFlag(word & 0x1FF)
    value = word >> _SECTOR_BITS
    if flags not in _LEGAL:
        raise Malformed(
            f"block migration flags {int(flags):#x} are unknown",
            offset=at,
            expected="DEVICE_BLOCK, DEVICE_BLOCK|ZERO_BLOCK, PROGRESS or EOS",
            found=f"{int(flags):#x}",
        )
    if BlockFlag.DEVICE_BLOCK not in flags:
        return BlockRecord(at, value, flags)
    device = yield from reader.counted("a block device's name")
    if BlockFlag.ZERO_BLOCK in flags:
        return BlockRecord(at, value, flags, device)
    data = yield from reader.take(CHUNK_SIZE, "a chunk of a disk")
    return BlockRecord(at, value, flags, device, data)

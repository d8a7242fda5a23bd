"""Storage keys and storage attributes of an s390x guest.

Sources: QEMU ``hw/s390x/s390-skeys.c`` (section ``s390-skeys`` version 1, 2.5+)
and ``hw/s390x/s390-stattrib.c`` (``s390-storage_attributes`` version 0, 2.10+).
Both are records of be64 ``address | flags`` with the flags in the low 12 bits.
"""

from __future__ import annotations

import struct
from enum import IntFlag

import msgspec

from vmstream.errors import Malformed
from vmstream.wire.limits import Limits
from vmstream.wire.reader import Parse, Reader

__all__ = ["StorageFlag", "StorageRecord", "read_storage_record"]


class StorageFlag(IntFlag):
    """``S390_SKEYS_SAVE_FLAG_*`` and ``STATTR_FLAG_*`` share these values."""

    EOS = 0x01
    DATA = 0x02
    ERROR = 0x04
    DONE = 0x08


class StorageRecord(msgspec.Struct, frozen=True):
    """One record: one byte for each 4 KiB page from ``address`` on (DATA), or a mark."""

    offset: int
    address: int
    flags: StorageFlag
    data: bytes = b""

    def encode(self) -> bytes:
        head = struct.pack(">Q", self.address | self.flags)
        if self.flags != StorageFlag.DATA:
            return head
        return head + struct.pack(">Q", len(self.data)) + self.data


def read_storage_record(reader: Reader, limits: Limits) -> Parse[StorageRecord]:
    """Read one record.

    Raises:
        Malformed: flags that no loader accepts, or the source's own ERROR mark.
        LimitExceeded: a record above the limit for device state.
    """
    at = reader.offset
    word = yield from reader.integer(8, "a storage record")
    flags = StorageFlag(word & 0xFFF)
    address = word & ~0xFFF
    if flags == StorageFlag.ERROR:
        raise Malformed("the source marked its storage data as incomplete", offset=at)
    if flags not in (StorageFlag.EOS, StorageFlag.DATA, StorageFlag.DONE):
        raise Malformed(
            f"storage record flags {int(flags):#x} are unknown",
            offset=at,
            expected="EOS, DATA or DONE",
            found=f"{int(flags):#x}",
        )
    if flags != StorageFlag.DATA:
        return StorageRecord(at, address, flags)
    count = yield from reader.integer(8, "the number of storage bytes")
    data = yield from reader.bounded(count, limits.device_state, "a storage record")
    return StorageRecord(at, address, flags, bytes(data))

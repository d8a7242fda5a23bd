"""Device state of passed-through devices, sections ``<id>/vfio`` version 1 (5.2+).

Source: QEMU ``hw/vfio/migration.c``. be64 markers; vendor data is opaque.
"""

from __future__ import annotations

import struct
from enum import IntEnum

import msgspec

from vmstream.errors import Malformed
from vmstream.wire.reader import Parse, Reader

__all__ = ["VfioMark", "VfioRecord", "read_vfio_record"]


class VfioMark(IntEnum):
    """``VFIO_MIG_FLAG_*``."""

    END_OF_STATE = 0xFFFFFFFFEF100001
    DEV_CONFIG_STATE = 0xFFFFFFFFEF100002
    DEV_SETUP_STATE = 0xFFFFFFFFEF100003
    DEV_DATA_STATE = 0xFFFFFFFFEF100004
    DEV_INIT_DATA_SENT = 0xFFFFFFFFEF100005
    DEV_CONFIG_LOAD_READY = 0xFFFFFFFFEF100006


class VfioRecord(msgspec.Struct, frozen=True):
    """One marker; ``size`` bytes of vendor data follow DEV_DATA_STATE."""

    offset: int
    mark: VfioMark
    size: int = 0

    @property
    def ends_body(self) -> bool:
        """Nothing of this section follows the marker."""
        return self.mark in (
            VfioMark.END_OF_STATE,
            VfioMark.DEV_INIT_DATA_SENT,
            VfioMark.DEV_CONFIG_LOAD_READY,
        )

    def encode(self) -> bytes:
        head = struct.pack(">Q", self.mark)
        if self.mark == VfioMark.DEV_DATA_STATE:
            return head + struct.pack(">Q", self.size)
        return head


def read_vfio_record(reader: Reader) -> Parse[VfioRecord]:
    """Read one marker.

    Raises:
        Malformed: a value that is no marker.
    """
    at = reader.offset
    word = yield from reader.integer(8, "a vfio marker")
    try:
        mark = VfioMark(word)
    except ValueError:
        raise Malformed(
            f"{word:#x} is no vfio marker",
            offset=at,
            expected=f"{VfioMark.END_OF_STATE:#x} and the five after it",
            found=f"{word:#x}",
        ) from None
    if mark != VfioMark.DEV_DATA_STATE:
        return VfioRecord(at, mark)
    return VfioRecord(at, mark, (yield from reader.integer(8, "the size of vfio data")))

"""COLO: messages between checkpoints, after the end of the first migration (2.8+).

Source: QEMU ``migration/colo.c`` (``enum COLOMessage`` in ``qapi/migration.json``).
"""

from __future__ import annotations

import struct
from enum import IntEnum

import msgspec

from vmstream.errors import Malformed
from vmstream.wire.reader import Parse, Reader

__all__ = ["ColoMessage", "ColoType", "read_colo_message"]


class ColoType(IntEnum):
    """``COLO_MESSAGE_*``: requests of the primary and answers of the secondary."""

    CHECKPOINT_READY = 0
    CHECKPOINT_REQUEST = 1
    CHECKPOINT_REPLY = 2
    VMSTATE_SEND = 3
    VMSTATE_SIZE = 4
    VMSTATE_RECEIVED = 5
    VMSTATE_LOADED = 6


class ColoMessage(msgspec.Struct, frozen=True):
    """be32 type; be64 size with VMSTATE_SIZE.

    RAM sections and an EOF follow VMSTATE_SEND; device sections and an EOF,
    ``size`` bytes in all, follow VMSTATE_SIZE.
    """

    offset: int
    type: ColoType
    size: int | None = None

    def encode(self) -> bytes:
        head = struct.pack(">I", self.type)
        return head if self.size is None else head + struct.pack(">Q", self.size)


def read_colo_message(reader: Reader) -> Parse[ColoMessage]:
    """Read one message.

    Raises:
        Malformed: a type that is unknown.
    """
    at = reader.offset
    number = yield from reader.integer(4, "a COLO message")
    try:
        kind = ColoType(number)
    except ValueError:
        raise Malformed(
            f"COLO message {number} is unknown", offset=at, expected="0 to 6", found=number
        ) from None
    size = None
    if kind == ColoType.VMSTATE_SIZE:
        size = yield from reader.integer(8, "the size of a checkpoint")
    return ColoMessage(at, kind, size)

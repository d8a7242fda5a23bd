"""The return path: what the destination tells the source (2.5+).

Source: QEMU ``migration/migration.c`` (``enum mig_rp_message_type``,
``source_return_path_thread``). be16 type, be16 length, payload.
"""

from __future__ import annotations

import struct
from enum import IntEnum

import msgspec

from vmstream.errors import LimitExceeded, Malformed
from vmstream.wire.limits import Limits
from vmstream.wire.reader import Parse, Reader, text_of

__all__ = ["ReturnMessage", "ReturnType", "read_return_message"]

MAX_LENGTH = 512
BITMAP_END = 0x0123456789ABCDEF


class ReturnType(IntEnum):
    """``MIG_RP_MSG_*``."""

    SHUT = 1
    PONG = 2
    REQ_PAGES_ID = 3
    REQ_PAGES = 4
    RECV_BITMAP = 5
    RESUME_ACK = 6
    SWITCHOVER_ACK = 7


_LENGTHS = {
    ReturnType.SHUT: 4,
    ReturnType.PONG: 4,
    ReturnType.REQ_PAGES: 12,
    ReturnType.RESUME_ACK: 4,
    ReturnType.SWITCHOVER_ACK: 0,
}


class ReturnMessage(msgspec.Struct, frozen=True):
    """One message; RECV_BITMAP is followed by the bitmap, outside its length."""

    offset: int
    type: ReturnType
    payload: bytes
    bitmap: bytes | None = None
    """Received pages of the block (RECV_BITMAP): least significant bit first."""

    def encode(self) -> bytes:
        head = struct.pack(">HH", self.type, len(self.payload)) + self.payload
        if self.bitmap is None:
            return head
        return b"".join(
            (
                head,
                struct.pack(">Q", len(self.bitmap)),
                self.bitmap,
                struct.pack(">Q", BITMAP_END),
            )
        )

    def details(self) -> dict[str, object]:
        """The payload's meaning, for a report."""
        match self.type:
            case ReturnType.REQ_PAGES | ReturnType.REQ_PAGES_ID:
                start, length = struct.unpack_from(">QI", self.payload)
                block = text_of(self.payload[13:]) if len(self.payload) > 12 else None
                return {"start": start, "length": length, "block": block}
            case ReturnType.RECV_BITMAP:
                return {"block": text_of(self.payload[1:]), "bytes": len(self.bitmap or b"")}
            case ReturnType.SWITCHOVER_ACK:
                return {}
            case _:
                return {"value": int.from_bytes(self.payload, "big")}


def read_return_message(reader: Reader, limits: Limits) -> Parse[ReturnMessage]:
    """Read one message.

    Raises:
        Malformed: an unknown type or a length that QEMU refuses.
        LimitExceeded: a bitmap above the limit.
    """
    at = reader.offset
    number = yield from reader.integer(2, "a return path message")
    length = yield from reader.integer(2, "a return path message's length")
    try:
        kind = ReturnType(number)
    except ValueError:
        raise Malformed(
            f"return path message {number:#x} (length {length:#x}) is unknown",
            offset=at,
            expected="1 to 7",
            found=number,
        ) from None
    if length > MAX_LENGTH or _LENGTHS.get(kind, length) != length:
        raise Malformed(
            f"return path message {kind.name} has a bad length",
            offset=at + 2,
            expected=_LENGTHS.get(kind, f"at most {MAX_LENGTH}"),
            found=length,
        )
    payload = bytes((yield from reader.take(length, f"the payload of {kind.name}")))
    if kind == ReturnType.REQ_PAGES_ID and (length < 13 or payload[12] != length - 13):
        raise Malformed(
            "REQ_PAGES_ID must hold start, length and a counted block name",
            offset=at,
            found=payload.hex(),
        )
    if kind != ReturnType.RECV_BITMAP:
        return ReturnMessage(at, kind, payload)
    size = yield from reader.integer(8, "a received bitmap's size")
    if size > limits.bitmap:
        raise LimitExceeded(
            "a received bitmap is larger than the limit",
            offset=reader.offset,
            expected=f"at most {limits.bitmap} bytes",
            found=size,
        )
    bitmap = bytes((yield from reader.take(size, "a received bitmap")))
    mark = yield from reader.integer(8, "a received bitmap's end mark")
    if mark != BITMAP_END:
        raise Malformed(
            "a received bitmap must end with its mark",
            offset=reader.offset - 8,
            expected=f"{BITMAP_END:#x}",
            found=f"{mark:#x}",
        )
    return ReturnMessage(at, kind, payload, bitmap)

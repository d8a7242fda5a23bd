"""File version 2, which QEMU wrote up to 0.9 and no loader takes any more.

Source: QEMU 0.10 to 1.5 ``savevm.c`` (``qemu_loadvm_state_v2``): be64 total
length after the file header, then records that give their own length.
"""

from __future__ import annotations

import struct

import msgspec

from vmstream.wire.reader import Parse, Reader, counted

__all__ = ["CompatSection", "CompatTotal", "read_compat_section"]


class CompatTotal(msgspec.Struct, frozen=True):
    """Bytes of all records that follow."""

    offset: int
    total: int

    def encode(self) -> bytes:
        return struct.pack(">Q", self.total)


class CompatSection(msgspec.Struct, frozen=True):
    """Name with a one-byte length, be32 instance, be32 version, be32 size; the body follows."""

    offset: int
    idstr: str
    instance_id: int
    version_id: int
    size: int

    def encode(self) -> bytes:
        return counted(self.idstr) + struct.pack(
            ">III", self.instance_id, self.version_id, self.size
        )


def read_compat_section(reader: Reader) -> Parse[CompatSection]:
    at = reader.offset
    idstr = yield from reader.counted("a section's name")
    raw = yield from reader.take(12, "a section's header")
    return CompatSection(at, idstr, *struct.unpack(">III", raw))

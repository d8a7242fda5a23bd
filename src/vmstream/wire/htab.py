"""The hash page table of a pseries guest, section ``spapr/htab`` version 1 (1.6+).

Source: QEMU ``hw/ppc/spapr.c`` (``htab_save_*``, ``htab_load``).
"""

from __future__ import annotations

import struct

import msgspec

from vmstream.wire.reader import Parse, Reader

__all__ = ["NO_HASH_TABLE", "HtabChunk", "HtabHeader", "read_htab_chunk", "read_htab_header"]

NO_HASH_TABLE = 0xFFFFFFFF
HPTE_SIZE = 16


class HtabHeader(msgspec.Struct, frozen=True):
    """The be32 that begins a body.

    0 before chunks, all ones without a table, else log2 of the table's bytes.
    """

    offset: int
    value: int

    @property
    def has_chunks(self) -> bool:
        return self.value == 0

    def encode(self) -> bytes:
        return struct.pack(">I", self.value)


class HtabChunk(msgspec.Struct, frozen=True):
    """be32 index, be16 valid entries (16 bytes each follow), be16 invalid ones; all zero ends."""

    offset: int
    index: int
    valid: int
    invalid: int
    data: bytes

    @property
    def is_end(self) -> bool:
        return not (self.index or self.valid or self.invalid)

    def encode(self) -> bytes:
        return struct.pack(">IHH", self.index, self.valid, self.invalid) + self.data


def read_htab_header(reader: Reader) -> Parse[HtabHeader]:
    at = reader.offset
    return HtabHeader(at, (yield from reader.integer(4, "a hash table header")))


def read_htab_chunk(reader: Reader) -> Parse[HtabChunk]:
    at = reader.offset
    raw = yield from reader.take(8, "a chunk of the hash table")
    index, valid, invalid = struct.unpack(">IHH", raw)
    data = bytes((yield from reader.take(valid * HPTE_SIZE, "hash table entries")))
    return HtabChunk(at, index, valid, invalid, data)

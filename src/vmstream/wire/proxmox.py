"""Proxmox VE's ``pbs-state`` section, version 1, between setup and RAM."""

from __future__ import annotations

import struct

import msgspec

from vmstream.wire.reader import Parse, Reader

__all__ = ["PbsState", "read_pbs_state"]


class PbsState(msgspec.Struct, frozen=True):
    """be64 length; as many opaque bytes follow."""

    offset: int
    size: int

    def encode(self) -> bytes:
        return struct.pack(">Q", self.size)


def read_pbs_state(reader: Reader) -> Parse[PbsState]:
    at = reader.offset
    return PbsState(at, (yield from reader.integer(8, "the length of backup state")))

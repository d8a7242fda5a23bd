"""The ``ram`` section: block list, page records, marks.

Source: QEMU ``migration/ram.c`` (``arch_init.c`` before 2.4). A record is a
be64 ``offset | flags``; the offset within the block is a multiple of the target
page size P and the flags are the bits below P.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum, IntFlag

import msgspec
import numpy as np

from vmstream.wire.mapped_ram import MappedRamHeader
from vmstream.wire.reader import counted

__all__ = [
    "MAX_PAGES",
    "ZERO_KINDS",
    "PageKind",
    "Pages",
    "RamBlock",
    "RamFlag",
    "RamMark",
    "RamTotal",
    "RunTable",
]


MAX_PAGES = 1 << 32
"""Pages of one block that can be numbered (16 TiB of 4 KiB pages)."""


class RamFlag(IntFlag):
    """``RAM_SAVE_FLAG_*``."""

    FULL = 0x01
    ZERO = 0x02
    MEM_SIZE = 0x04
    PAGE = 0x08
    EOS = 0x10
    CONTINUE = 0x20
    XBZRLE = 0x40
    HOOK = 0x80
    COMPRESS_PAGE = 0x100
    MULTIFD_FLUSH = 0x200


class PageKind(IntEnum):
    """How one page's content stands in a stream (column ``kind`` of an index)."""

    ZERO = 0
    NORMAL = 1
    XBZRLE = 2
    COMPRESSED = 3
    MULTIFD = 4
    MULTIFD_ZERO = 5
    MAPPED = 6
    FILLED = 7
    """A zero record with another fill byte than 0 (writers before 1.5)."""
    DISCARDED = 8
    """Dropped by POSTCOPY_RAM_DISCARD: no content until it is sent again."""


ZERO_KINDS = (PageKind.ZERO, PageKind.FILLED, PageKind.MULTIFD_ZERO)
"""Records that stand for a whole page with no content of its own."""

KIND_FLAGS = {
    PageKind.ZERO: RamFlag.ZERO,
    PageKind.NORMAL: RamFlag.PAGE,
    PageKind.XBZRLE: RamFlag.XBZRLE,
    PageKind.COMPRESSED: RamFlag.COMPRESS_PAGE,
    PageKind.FILLED: RamFlag.ZERO,
}


class RamTotal(msgspec.Struct, frozen=True):
    """The first record of the setup body: total of all used lengths, in bytes, with MEM_SIZE."""

    offset: int
    total: int

    def encode(self) -> bytes:
        return struct.pack(">Q", self.total | RamFlag.MEM_SIZE)


class RamBlock(msgspec.Struct, frozen=True):
    """One entry of the block list; optional parts are None where not on the wire."""

    offset: int
    name: str
    used_length: int
    """Bytes (be64)."""
    page_size: int | None = None
    """Host page size of the block (post-copy with huge pages, 2.9+)."""
    address: int | None = None
    """Guest-physical address (capability x-ignore-shared, 4.0+)."""
    ignored: int | None = None
    """The flag byte of x-ignore-shared that only 4.0 writes."""
    mapped: MappedRamHeader | None = None
    """Where the block's bitmap and pages stand in the file (mapped-ram, 9.0+)."""

    def encode(self) -> bytes:
        out = [counted(self.name), struct.pack(">Q", self.used_length)]
        if self.page_size is not None:
            out.append(struct.pack(">Q", self.page_size))
        if self.address is not None:
            out.append(struct.pack(">Q", self.address))
        if self.ignored is not None:
            out.append(bytes((self.ignored,)))
        if self.mapped is not None:
            out.append(self.mapped.encode())
        return b"".join(out)


class RamMark(msgspec.Struct, frozen=True):
    """A record without a page: EOS, HOOK or MULTIFD_FLUSH (be64)."""

    offset: int
    flag: RamFlag

    def encode(self) -> bytes:
        return struct.pack(">Q", self.flag)


class RunTable:
    """Runs of page records, as columns of equal length.

    A run is ``count`` consecutive pages of one block and kind whose records
    follow each other with nothing between. ``offset`` is where the payload of
    the first one stands; the next payloads stand ``stride`` bytes apart.
    """

    __slots__ = ("block", "count", "kind", "named", "offset", "page", "size")

    def __init__(self, capacity: int) -> None:
        self.size = capacity
        self.kind = np.empty(capacity, np.uint8)
        self.named = np.empty(capacity, np.uint8)
        self.block = np.empty(capacity, np.uint16)
        self.page = np.empty(capacity, np.uint32)
        self.count = np.empty(capacity, np.uint32)
        self.offset = np.empty(capacity, np.int64)

    def head(self, size: int) -> RunTable:
        """A copy of the first ``size`` runs."""
        part = RunTable(0)
        part.size = size
        for column in ("kind", "named", "block", "page", "count", "offset"):
            setattr(part, column, getattr(self, column)[:size].copy())
        return part


class Pages(msgspec.Struct, frozen=True):
    """A batch of page records, as runs.

    How many records stand in one batch depends on how the input was split;
    their concatenation does not.
    """

    offset: int
    size: int
    """Bytes of all records of the batch."""
    page_size: int
    names: Sequence[str]
    """Block names, indexed by the ``block`` column."""
    lengths: Sequence[int]
    """Their used lengths in bytes."""
    runs: RunTable
    view: memoryview
    """Bytes that hold every payload, valid as long as the piece fed; empty when passed over."""
    base: int
    """Stream offset of ``view[0]``."""
    flat: bool = False
    """RAM version 3 (0.10 to 0.12): addresses are flat and no record names a block."""

    def payload(self, offset: int, kind: int) -> memoryview:
        """The payload at a stream offset: page, fill byte, or encoded bytes."""
        at = offset - self.base
        match kind:
            case PageKind.ZERO | PageKind.FILLED:
                length = 1
            case PageKind.NORMAL:
                length = self.page_size
            case PageKind.XBZRLE:
                length = int.from_bytes(self.view[at - 2 : at], "big")
            case _:
                length = int.from_bytes(self.view[at - 4 : at], "big")
        return self.view[at : at + length]

    def encode(self) -> bytes:
        if self.size and not len(self.view):
            raise ValueError(f"{self.size} bytes at {self.offset:#x} were passed over, not read")
        runs = self.runs
        columns = (runs.kind, runs.named, runs.block, runs.page, runs.count, runs.offset)
        return b"".join(
            part
            for kind, named, block, page, count, offset in zip(
                *(column.tolist() for column in columns), strict=True
            )
            for part in self._encode_run(kind, named, block, page, count, offset)
        )

    def _encode_run(
        self, kind: int, named: int, block: int, page: int, count: int, offset: int
    ) -> list[bytes | memoryview]:
        flags = KIND_FLAGS[PageKind(kind)]
        address = page * self.page_size
        if self.flat:
            first = struct.pack(">Q", address | flags)
        elif named:
            first = struct.pack(">Q", address | flags) + counted(self.names[block])
        else:
            first = struct.pack(">Q", address | flags | RamFlag.CONTINUE)
        payload = self.payload(offset, kind)
        if kind == PageKind.XBZRLE:
            return [first, b"\x01", struct.pack(">H", len(payload)), payload]
        if kind == PageKind.COMPRESSED:
            return [first, struct.pack(">I", len(payload)), payload]
        if count == 1:
            return [first, payload]
        rest = flags if self.flat else flags | RamFlag.CONTINUE
        return [first, payload, self._encode_rest(rest, page + 1, count - 1, offset, len(payload))]

    def _encode_rest(self, flags: int, page: int, count: int, offset: int, length: int) -> bytes:
        """The second and later records of a run: header and payload at a fixed stride."""
        stride = 8 + length
        records = np.empty((count, stride), np.uint8)
        addresses = (np.arange(page, page + count, dtype=np.uint64) * self.page_size) | np.uint64(
            flags
        )
        records[:, :8] = addresses.astype(">u8").view(np.uint8).reshape(count, 8)
        at = offset - self.base + length + 8
        source = np.frombuffer(self.view, np.uint8, (count - 1) * stride + length, at)
        records[:, 8:] = np.lib.stride_tricks.as_strided(source, (count, length), (stride, 1))
        return records.tobytes()

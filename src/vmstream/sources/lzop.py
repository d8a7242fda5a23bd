"""The lzop container: blocks of LZO1X data with checksums.

Layout as lzop 1.04 writes it, all numbers big-endian. Header after the 9 magic
bytes: u16 version, u16 library version, u16 version needed (versions from
0x0940 on), u8 method, u8 level (from 0x0940 on), u32 flags, u32 filter (flag
0x800), u32 mode, u32 mtime, u32 mtime's upper half (from 0x0940 on), u8 length
and name, u32 checksum of all that (CRC-32 with flag 0x1000, else Adler-32);
with flag 0x40 an extra field: u32 length, bytes, u32 checksum. A block: u32
size (0 ends the member), u32 stored size, checksums of the content, checksums
of the stored bytes (only where they differ), bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from enum import IntFlag

import lzallright
import msgspec

from vmstream.errors import LimitExceeded, SourceError, Truncated, Unsupported
from vmstream.sources.reader import Reader
from vmstream.sources.source import Limits

__all__ = ["MAGIC", "Flags", "expand_member"]

MAGIC = b"\x89LZO\0\r\n\x1a\n"
LEVEL_SINCE = 0x0940
"""First version whose header has the version needed, the level and a 64-bit time."""
NEWEST = 0x1040
"""The newest version known; a member that needs a later one is refused."""
METHODS = (1, 2, 3)
"""LZO1X-1, LZO1X-1(15) and LZO1X-999: one decompressor reads all three."""
EXTRA_LIMIT = 1 << 16
"""Bytes of an extra field; no lzop writes one."""
SPLIT_MARK = 0xFFFFFFFF
"""A block size that says that the rest is in another file."""


class Flags(IntFlag):
    """Flags of an lzop header (lzop's F_*)."""

    ADLER32_D = 0x1
    ADLER32_C = 0x2
    EXTRA_FIELD = 0x40
    CRC32_D = 0x100
    CRC32_C = 0x200
    FILTER = 0x800
    HEADER_CRC32 = 0x1000


Checksum = Callable[[bytes], int]
CONTENT_SUMS: tuple[tuple[Flags, Checksum], ...] = (
    (Flags.ADLER32_D, zlib.adler32),
    (Flags.CRC32_D, zlib.crc32),
)
STORED_SUMS: tuple[tuple[Flags, Checksum], ...] = (
    (Flags.ADLER32_C, zlib.adler32),
    (Flags.CRC32_C, zlib.crc32),
)


def expand_member(reader: Reader, file: str, limits: Limits) -> Iterator[bytes]:
    """The content of the lzop member at the reader's position, block by block.

    Raises:
        Truncated: the member ends early.
        SourceError: a checksum differs, or a block is damaged.
        LimitExceeded: a block larger than ``limits.lzop_block``.
        Unsupported: a filter, an unknown method, or a split archive.
    """
    member = _Member(reader, file, limits)
    flags = member.header()
    while True:
        size = member.u32()
        if size == 0:
            return
        yield member.block(size, flags)


class _Member(msgspec.Struct, frozen=True):
    reader: Reader
    file: str
    limits: Limits

    def header(self) -> Flags:
        """Check the header; give its flags."""
        start = self.reader.position
        self.take(len(MAGIC))
        head = bytearray(self.take(4))
        version = struct.unpack_from(">H", head)[0]
        recent = version >= LEVEL_SINCE
        if recent:
            needed = self.take(2)
            head += needed
            if int.from_bytes(needed) > NEWEST:
                raise self.unsupported(start, f"it needs lzop version {needed.hex()}")
        method = self.take(1)
        head += method + self.take(1 if recent else 0)
        flag_bytes = self.take(4)
        flags = Flags(int.from_bytes(flag_bytes))
        head += flag_bytes
        if flags & Flags.FILTER:
            raise self.unsupported(start, "its content went through a filter")
        head += self.take(12 if recent else 8)
        length = self.take(1)
        head += length + self.take(length[0])
        checksum = zlib.crc32 if flags & Flags.HEADER_CRC32 else zlib.adler32
        self.compare("header", start, self.u32(), checksum(head))
        if method[0] not in METHODS:
            raise self.unsupported(start, f"method {method[0]} is not LZO1X")
        if flags & Flags.EXTRA_FIELD:
            self.skip_extra_field()
        return flags

    def skip_extra_field(self) -> None:
        start = self.reader.position
        length = self.u32()
        if length > EXTRA_LIMIT:
            raise LimitExceeded(
                f"an lzop extra field of {length} bytes, above {EXTRA_LIMIT}",
                offset=start,
                file=self.file,
                expected=EXTRA_LIMIT,
                found=length,
            )
        self.take(length + 4)

    def block(self, size: int, flags: Flags) -> bytes:
        """The content of one block, of ``size`` bytes once decompressed."""
        start = self.reader.position - 4
        if size == SPLIT_MARK:
            raise self.unsupported(start, "the archive is split over several files")
        if size > self.limits.lzop_block:
            raise LimitExceeded(
                f"an lzop block of {size} bytes, above {self.limits.lzop_block}",
                offset=start,
                file=self.file,
                expected=self.limits.lzop_block,
                found=size,
            )
        stored_size = self.u32()
        if not 0 < stored_size <= size:
            raise SourceError(
                f"an lzop block of {size} bytes is stored in {stored_size}",
                offset=start,
                file=self.file,
                expected=size,
                found=stored_size,
            )
        content_sums = [self.u32() for flag, _ in CONTENT_SUMS if flags & flag]
        stored_sums = []
        if stored_size < size:
            stored_sums = [self.u32() for flag, _ in STORED_SUMS if flags & flag]
        stored = self.take(stored_size)
        if stored_sums:
            self.verify(start, stored, STORED_SUMS, flags, stored_sums)
        content = self.decompress(start, stored, size) if stored_size < size else stored
        self.verify(start, content, CONTENT_SUMS, flags, content_sums)
        return content

    def verify(
        self,
        start: int,
        data: bytes,
        kinds: tuple[tuple[Flags, Checksum], ...],
        flags: Flags,
        sums: list[int],
    ) -> None:
        computed = [checksum(data) for flag, checksum in kinds if flags & flag]
        for expected, found in zip(sums, computed, strict=True):
            self.compare("block", start, expected, found)

    def decompress(self, start: int, stored: bytes, size: int) -> bytes:
        try:
            content = lzallright.LZOCompressor.decompress(stored, output_size_hint=size)
        except lzallright.LZOError as error:
            reason = str(error.args[0]).partition(".")[2]
            raise SourceError(
                f"the LZO data of this block is damaged ({reason})", offset=start, file=self.file
            ) from error
        if len(content) != size:
            raise SourceError(
                f"an lzop block of {size} bytes came out as {len(content)}",
                offset=start,
                file=self.file,
                expected=size,
                found=len(content),
            )
        return content

    def take(self, length: int) -> bytes:
        data = self.reader.read(length)
        if len(data) < length:
            raise self.reader.error or Truncated(
                "the lzop data ends before its end marker",
                offset=self.reader.position,
                file=self.file,
            )
        return data

    def u32(self) -> int:
        return int.from_bytes(self.take(4))

    def compare(self, what: str, start: int, expected: int, found: int) -> None:
        if expected != found:
            raise SourceError(
                f"the checksum of this lzop {what} is {found:#010x}, not {expected:#010x}",
                offset=start,
                file=self.file,
                expected=expected,
                found=found,
            )

    def unsupported(self, start: int, why: str) -> Unsupported:
        return Unsupported(f"this lzop file can not be read: {why}", offset=start, file=self.file)

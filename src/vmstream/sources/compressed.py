"""What stands in a compressed file: gzip, bzip2, xz, zstd, lzop.

QEMU has never compressed a whole stream itself; such files come from
``exec:gzip -c > FILE`` and from libvirt's save image formats.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec

from vmstream.errors import LimitExceeded, SourceError, Truncated
from vmstream.sources.reader import Reader
from vmstream.sources.sequential import Sequential
from vmstream.sources.source import KIB, Limits, Source

__all__ = ["CODECS", "Codec", "Decompressed", "codec_of"]

INPUT_CHUNK = 64 * KIB
"""Compressed bytes given to a decompressor at a time."""
OUTPUT_CHUNK = 256 * KIB
"""Decompressed bytes taken at a time; damage costs at most so much of what stands before it."""
MAGIC_SIZE = 9
"""Bytes that tell every codec from the others: lzop's is the longest magic."""


class Decompressor(Protocol):
    """The interface that bz2, lzma and zstd decompressors share."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: Any, max_length: int = ...) -> bytes: ...


class Compressor(Protocol):
    """The interface that zlib's and zstd's compressors share."""

    def compress(self, data: Any, /) -> bytes: ...

    def flush(self) -> bytes: ...


class DamagedMember(Exception):
    """A decompressor's own complaint: what it said, and whether it was about a limit."""

    def __init__(self, message: str, *, limit: bool = False) -> None:
        super().__init__(message)
        self.limit = limit


Expand = Callable[[Reader, str, Limits], Iterator[bytes]]
"""Reads one member to its end and gives what is in it."""


class Codec(msgspec.Struct, frozen=True):
    """One compressed format."""

    name: str
    matches: Callable[[bytes], bool]
    """Whether a member (a gzip member, an xz stream, a zstd frame) begins with these bytes."""
    expand: Expand


class Decompressed(Sequential):
    """The bytes in a compressed source.

    Members that follow one another are one stream, as for ``gzip -dc`` and its
    kin. Zero bytes after the last member are padding (a block device, an xz
    stream's own); anything else there is left alone and its place noted as
    ``trailing_offset``.
    """

    def __init__(self, outer: Source, codec: Codec, limits: Limits) -> None:
        super().__init__(outer.name)
        self.container = (*outer.container, codec.name)
        self.details = {**outer.details, codec.name: {"compressed_size": outer.size}}
        self.rewindable = outer.rewindable
        self._outer = outer
        self._codec = codec
        self._limits = limits

    def close(self) -> None:
        super().close()
        self._outer.close()

    def _begin(self) -> Iterator[memoryview]:
        reader = Reader(self._outer.pieces())
        while True:
            for piece in self._codec.expand(reader, self.name, self._limits):
                yield memoryview(piece)
            if not self._another_member(reader):
                break
        if reader.error is not None:
            raise reader.error

    def _another_member(self, reader: Reader) -> bool:
        reader.skip_zeros()
        head = reader.peek(MAGIC_SIZE)
        if self._codec.matches(head):
            return True
        if head:
            self.details[self._codec.name]["trailing_offset"] = reader.position
        return False


def codec_of(head: bytes) -> Codec | None:
    """The codec whose magic ``head`` begins with."""
    return next((codec for codec in CODECS if codec.matches(head)), None)


class _GzipMember:
    """zlib's decompressor behind the interface of the others."""

    def __init__(self) -> None:
        import zlib

        self._error = zlib.error
        self._inner = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: Any, max_length: int = 0) -> bytes:
        try:
            return self._inner.decompress(data or self._inner.unconsumed_tail, max_length)
        except self._error as error:
            raise DamagedMember(str(error)) from error


class _Guarded:
    """A decompressor whose complaints come as :class:`DamagedMember`."""

    def __init__(self, inner: Decompressor, complaint: type[Exception]) -> None:
        self._inner = inner
        self._complaint = complaint

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return self._inner.needs_input

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: Any, max_length: int = -1) -> bytes:
        try:
            return self._inner.decompress(data, max_length)
        except self._complaint as error:
            message = str(error)
            raise DamagedMember(message, limit="memory" in message.lower()) from error


def _gzip(limits: Limits) -> Decompressor:
    return _GzipMember()


def _bzip2(limits: Limits) -> Decompressor:
    import bz2

    return _Guarded(bz2.BZ2Decompressor(), OSError)


def _xz(limits: Limits) -> Decompressor:
    import lzma

    inner = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=limits.memory)
    return _Guarded(inner, lzma.LZMAError)


def zstd_decompressor(limits: Limits) -> Decompressor:
    """A streaming zstd decompressor whose window stays within the memory limit."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    window_log = max(limits.memory.bit_length() - 1, 10)
    options = {int(zstd.DecompressionParameter.window_log_max): window_log}
    return _Guarded(zstd.ZstdDecompressor(options=options), zstd.ZstdError)


def zstd_compressor() -> Compressor:
    """A streaming zstd compressor at zstd's own default level."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    return zstd.ZstdCompressor()


def _fed(name: str, start: Callable[[Limits], Decompressor]) -> Expand:
    """How a codec with a feeding decompressor reads one member."""

    def expand(reader: Reader, file: str, limits: Limits) -> Iterator[bytes]:
        member = start(limits)
        began = reader.position
        while not member.eof:
            at = reader.position
            data: Any = b""
            if member.needs_input:
                data = reader.some(INPUT_CHUNK)
                if not len(data):
                    raise reader.error or _truncated(name, file, reader.position)
            try:
                output = member.decompress(data, OUTPUT_CHUNK)
            except DamagedMember as error:
                raise _damaged(name, file, at, began, error, limits) from error
            if output:
                yield output
        reader.unread(member.unused_data)

    return expand


def _lzop(reader: Reader, file: str, limits: Limits) -> Iterator[bytes]:
    from vmstream.sources.lzop import expand_member

    return expand_member(reader, file, limits)


def _truncated(name: str, file: str, offset: int) -> Truncated:
    return Truncated(f"the {name} data ends before its end marker", offset=offset, file=file)


def _damaged(
    name: str, file: str, at: int, began: int, error: DamagedMember, limits: Limits
) -> SourceError | LimitExceeded:
    if error.limit:
        return LimitExceeded(
            f"the {name} data asks for more than {limits.memory} bytes of memory",
            offset=began,
            file=file,
            expected=limits.memory,
        )
    return SourceError(f"the {name} data is damaged near here: {error}", offset=at, file=file)


def _is_gzip(head: bytes) -> bool:
    return head.startswith(b"\x1f\x8b\x08")


def _is_bzip2(head: bytes) -> bool:
    # "BZh", the level, then the first digits of pi: a block (or of its root: no block at all).
    return (
        head.startswith(b"BZh")
        and head[3:4] in b"123456789"
        and head[4:6] in (b"1A", b"\x17r", b"")
    )


def _is_xz(head: bytes) -> bool:
    return head.startswith(b"\xfd7zXZ\0")


def _is_zstd(head: bytes) -> bool:
    # A skippable frame may come first: pzstd writes one before every frame.
    return head.startswith(b"\x28\xb5\x2f\xfd") or (
        head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50
    )


def _is_lzop(head: bytes) -> bool:
    return head.startswith(b"\x89LZO\0\r\n\x1a\n")


CODECS = (
    Codec("gzip", _is_gzip, _fed("gzip", _gzip)),
    Codec("bzip2", _is_bzip2, _fed("bzip2", _bzip2)),
    Codec("xz", _is_xz, _fed("xz", _xz)),
    Codec("zstd", _is_zstd, _fed("zstd", zstd_decompressor)),
    Codec("lzop", _is_lzop, _lzop),
)
"""Every codec that is known, by the names that libvirt uses."""

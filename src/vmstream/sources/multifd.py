"""The pages of a compressed multifd channel, as the bytes they were before."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Protocol

from vmstream.errors import Malformed, Truncated, Unsupported
from vmstream.sources.compressed import zstd_decompressor
from vmstream.sources.sequential import Sequential
from vmstream.sources.source import Limits
from vmstream.stream.index import Packet
from vmstream.stream.stream import ByteSource
from vmstream.wire.multifd import MultifdMethod

__all__ = ["UnpackedChannel"]

_GZIP = 16
"""Added to zlib's window bits: a gzip header is expected."""


class _Inflater(Protocol):
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Unpacker(Protocol):
    """Makes pages of the payloads of a channel's packets, in their order."""

    def unpack(self, payload: bytes, pages: int) -> bytes:
        """Content of a packet; raises whatever a decompressor raises where it is damaged."""


class UnpackedChannel(Sequential):
    """The decompressed pages of one channel, packet after packet.

    zlib and zstd keep one stream for the whole channel, flushed at the end of
    each packet (QEMU ``migration/multifd-zlib.c``, ``multifd-zstd.c``), so it
    is decompressed in order, once, into an unnamed temporary file. The methods
    of accelerators begin anew with each packet.

    Raises (while it is read):
        Unsupported: a method that is not known here.
        Malformed: a packet that does not decompress to its pages.
        Truncated: the channel ends inside a packet.
    """

    def __init__(self, channel: ByteSource, packets: Sequence[Packet], page_size: int) -> None:
        super().__init__(channel.name)
        self._channel = channel
        self._packets = packets
        self._page_size = page_size

    def _begin(self) -> Iterator[memoryview]:
        unpacker: _Unpacker | None = None
        method: MultifdMethod | None = None
        for packet in self._packets:
            if packet.method != method:
                method = packet.method
                unpacker = _unpacker(packet, self._page_size)
            assert unpacker is not None
            yield memoryview(self._unpack(unpacker, packet))

    def _unpack(self, unpacker: _Unpacker, packet: Packet) -> bytes:
        raw = bytes(self._channel.read_at(packet.offset, packet.size))
        if len(raw) < packet.size:
            raise Truncated(
                "the channel ends inside a packet",
                offset=packet.offset,
                section="multifd",
                expected=f"{packet.size} bytes",
                found=f"{len(raw)} bytes",
                file=self.name,
            )
        expected = packet.pages * self._page_size
        try:
            data = unpacker.unpack(raw, packet.pages)
        except Exception as error:  # zlib.error and ZstdError have no common base
            raise self._damaged(packet, f"does not decompress: {error}") from None
        if len(data) != expected:
            raise self._damaged(packet, f"holds {len(data)} bytes of pages, not {expected}")
        return data

    def _damaged(self, packet: Packet, what: str) -> Malformed:
        return Malformed(
            f"a {packet.method.name.lower()} packet {what}",
            offset=packet.offset,
            section="multifd",
            file=self.name,
        )


class _Streamed:
    """One stream for the whole channel."""

    def __init__(self, inflater: _Inflater, page_size: int) -> None:
        self._inflater = inflater
        self._page_size = page_size

    def unpack(self, payload: bytes, pages: int) -> bytes:
        return self._inflater.decompress(payload, pages * self._page_size + 1)


class _PageByPage:
    """Each page by itself: be32 lengths, then the pages; one of full length is as it was.

    QPL makes raw DEFLATE, UADK zlib streams (QEMU ``migration/multifd-qpl.c``,
    ``multifd-uadk.c``, 9.1).
    """

    def __init__(self, wbits: int, page_size: int) -> None:
        self._wbits = wbits
        self._page_size = page_size

    def unpack(self, payload: bytes, pages: int) -> bytes:
        at = 4 * pages
        lengths = struct.unpack_from(f">{pages}I", payload)
        if sum(lengths) != len(payload) - at or max(lengths, default=0) > self._page_size:
            raise ValueError("the lengths of its pages are not those of what follows")
        parts = []
        for length in lengths:
            parts.append(self._page(payload[at : at + length]))
            at += length
        return b"".join(parts)

    def _page(self, data: bytes) -> bytes:
        if len(data) == self._page_size:
            return data
        return zlib.decompressobj(self._wbits).decompress(data, self._page_size + 1)


class _Members:
    """All pages of a packet together, as gzip members one behind the other.

    QATzip's own default: gzip with an extra field in each header (QEMU
    ``migration/multifd-qatzip.c``, 9.2; QATzip's ``QZ_DEFLATE_GZIP_EXT``).
    """

    def __init__(self, page_size: int) -> None:
        self._page_size = page_size

    def unpack(self, payload: bytes, pages: int) -> bytes:
        room = pages * self._page_size + 1
        content = bytearray()
        while payload and len(content) < room:
            inflater = zlib.decompressobj(zlib.MAX_WBITS | _GZIP)
            content += inflater.decompress(payload, room - len(content))
            if not inflater.eof:
                break
            payload = inflater.unused_data
        return bytes(content)


def _unpacker(packet: Packet, page_size: int) -> _Unpacker:
    match packet.method:
        case MultifdMethod.ZLIB:
            return _Streamed(zlib.decompressobj(), page_size)
        case MultifdMethod.ZSTD:
            return _Streamed(zstd_decompressor(Limits()), page_size)
        case MultifdMethod.QPL:
            return _PageByPage(-zlib.MAX_WBITS, page_size)
        case MultifdMethod.UADK:
            return _PageByPage(zlib.MAX_WBITS, page_size)
        case MultifdMethod.QATZIP:
            return _Members(page_size)
    raise Unsupported(
        f"pages compressed with {packet.method.name.lower()} can not be read here",
        offset=packet.offset,
        section="multifd",
    )

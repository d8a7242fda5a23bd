"""The pages of a compressed multifd channel, as the bytes they were before."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from vmstream.errors import Malformed, Truncated, Unsupported
from vmstream.sources.compressed import zstd_decompressor
from vmstream.sources.sequential import Sequential
from vmstream.sources.source import Limits
from vmstream.stream.index import Packet
from vmstream.stream.stream import ByteSource
from vmstream.wire.multifd import MultifdMethod

__all__ = ["UnpackedChannel"]


class _Inflater(Protocol):
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class UnpackedChannel(Sequential):
    """The decompressed pages of one channel, packet after packet.

    zlib and zstd keep one stream for the whole channel, flushed at the end of
    each packet (QEMU ``migration/multifd-zlib.c``, ``multifd-zstd.c``), so it
    is decompressed in order, once, into an unnamed temporary file.

    Raises (while it is read):
        Unsupported: a method that is framed but whose content is opaque here.
        Malformed: a packet that does not decompress to its pages.
        Truncated: the channel ends inside a packet.
    """

    def __init__(self, channel: ByteSource, packets: Sequence[Packet], page_size: int) -> None:
        super().__init__(channel.name)
        self._channel = channel
        self._packets = packets
        self._page_size = page_size

    def _begin(self) -> Iterator[memoryview]:
        inflater: _Inflater | None = None
        method: MultifdMethod | None = None
        for packet in self._packets:
            if packet.method != method:
                method = packet.method
                inflater = _inflater(packet)
            assert inflater is not None
            yield memoryview(self._unpack(inflater, packet))

    def _unpack(self, inflater: _Inflater, packet: Packet) -> bytes:
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
            data = inflater.decompress(raw, expected + 1)
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


def _inflater(packet: Packet) -> _Inflater:
    start = _METHODS.get(packet.method)
    if start is None:
        raise Unsupported(
            f"pages compressed with {packet.method.name.lower()} can not be read here",
            offset=packet.offset,
            section="multifd",
            expected="none, zlib or zstd",
            found=packet.method.name.lower(),
        )
    return start()


def _zstd() -> _Inflater:
    return zstd_decompressor(Limits())


_METHODS: dict[MultifdMethod, Callable[[], _Inflater]] = {
    MultifdMethod.ZLIB: zlib.decompressobj,
    MultifdMethod.ZSTD: _zstd,
}

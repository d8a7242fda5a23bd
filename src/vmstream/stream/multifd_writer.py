"""RAM written to multifd channels: packets with pages, and the marks that order them.

Source of the forms: QEMU ``migration/multifd.c``, ``multifd-nocomp.c``,
``multifd-zlib.c``, ``multifd-zstd.c`` and ``ram.c``; how they changed is in
docs/format/multifd.md.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from vmstream.errors import Unsupported
from vmstream.stream.memory import Batch, Memory
from vmstream.stream.ram_writer import Buffer, Piece, RamWriter
from vmstream.stream.spans import PageState
from vmstream.wire.multifd import (
    PACKET_SIZE,
    InitialPacket,
    MultifdFlag,
    MultifdMethod,
    MultifdPacket,
)
from vmstream.wire.ram import RamBlock, RamFlag, RamMark
from vmstream.wire.reader import bytes_of

__all__ = ["MultifdWriter"]

MARKED_SINCE = (8, 1)
"""Machine types from this one on want a mark on the main channel for each SYNC."""
ZERO_LISTS_SINCE = (9, 0)
"""Machine types from this one on want zero pages listed in packets."""

_LEVEL = 1
"""QEMU's default for ``multifd-zlib-level`` and ``multifd-zstd-level``."""


class _Compressor(Protocol):
    def packet(self, pages: Buffer) -> bytes: ...


class MultifdWriter(RamWriter):
    """Writes pages as packets, the next channel's turn with each of them.

    Args:
        channels: how many, 1 to 255.
        method: none, zlib or zstd.
        version: of the machine type, which decides how a destination expects
            syncs and zero pages.
        uuid: the guest's, 16 bytes; the destination refuses another than its own.

    Raises:
        Unsupported: a method that is not written here, or a block whose name no packet holds.
    """

    def __init__(
        self,
        memory: Memory,
        blocks: list[RamBlock],
        *,
        channels: int,
        method: MultifdMethod,
        version: tuple[int, int],
        uuid: bytes,
    ) -> None:
        super().__init__(memory, blocks)
        self._uuid = uuid
        self._channels = channels
        self._method = method
        self._marked_syncs = version >= MARKED_SINCE
        self._zero_lists = version >= ZERO_LISTS_SINCE
        self._room = PACKET_SIZE // self.page_size
        self._batch = self._room * max(1, self._batch // self._room)
        self._turn = 0
        self._number = 0
        self._compressors = [_compressor(method) for _ in range(channels)]
        for block in blocks:
            if len(bytes_of(block.name)) > 255:
                raise Unsupported(f"no multifd packet holds the name {block.name!r}", section="ram")

    def opening(self) -> Iterator[Piece]:
        for channel in range(self._channels):
            yield Piece([InitialPacket(0, self._uuid, channel, bytes(32)).encode()], channel + 1)

    def setup(self, position: int) -> Iterator[Piece]:
        yield Piece([self._total() + b"".join(block.encode() for block in self.blocks)])
        yield from self.end()

    def pages(self) -> Iterator[Piece]:
        for number, block in self._present():
            name: str | None = block.name
            for batch in self._packets(number):
                if not self._zero_lists:
                    zero = np.where(batch.state == PageState.ZERO, batch.state, PageState.ABSENT)
                    records = self._records(batch, zero, name)
                    if records:
                        yield Piece(records)
                        name = None
                yield from self._packet(batch, block.name)
        yield from self.end()

    def _packets(self, number: int) -> Iterator[Batch]:
        """All pages of a block, so many at a time as one packet lists."""
        for batch in self._batches(number):
            for at in range(0, len(batch.state), self._room):
                part = slice(at, at + self._room)
                yield replace(
                    batch,
                    first=batch.first + at,
                    state=batch.state[part],
                    offsets=batch.offsets[part],
                )

    def end(self) -> Iterator[Piece]:
        """A sync of all channels, its mark, and EOS: so ends each of the three sections."""
        for channel in range(self._channels):
            # Since 9.0 the header of a SYNC packet holds nothing else.
            room = 0 if self._zero_lists else self._room
            packet = self._header(int(MultifdFlag.SYNC), room, b"", [], [], 0)
            yield Piece([packet], channel + 1)
        marks = [RamFlag.MULTIFD_FLUSH] if self._marked_syncs else []
        yield Piece([RamMark(0, flag).encode() for flag in (*marks, RamFlag.EOS)])

    def _packet(self, batch: Batch, name: str) -> Iterator[Piece]:
        """The packet of a batch, if there is anything for it."""
        content = np.flatnonzero(batch.state == PageState.CONTENT)
        zero = np.flatnonzero(batch.state == PageState.ZERO) if self._zero_lists else content[:0]
        if not len(content) and not len(zero):
            return
        channel = self._turn
        self._turn = (self._turn + 1) % self._channels
        payload = self._payload(channel, batch, content)
        header = self._header(
            int(self._method),
            self._room,
            bytes_of(name),
            ((batch.first + content) * self.page_size).tolist(),
            ((batch.first + zero) * self.page_size).tolist(),
            sum(map(len, payload)),
        )
        yield Piece([header, *payload], channel + 1)

    def _payload(self, channel: int, batch: Batch, pages: NDArray[np.int64]) -> list[Buffer]:
        if not len(pages):
            return []
        content = self._together(batch, batch.offsets[pages])
        compressor = self._compressors[channel]
        return [compressor.packet(content) if compressor is not None else content]

    def _header(
        self, flags: int, room: int, name: bytes, normal: list[int], zero: list[int], size: int
    ) -> bytes:
        offsets = (*normal, *zero, *(0,) * (self._room - len(normal) - len(zero)))
        packet = MultifdPacket(
            0, flags, room, len(normal), size, self._number, len(zero), bytes(28),
            name.ljust(256, b"\0"), offsets,
        )  # fmt: skip
        self._number += 1
        return packet.encode()


def _compressor(method: MultifdMethod) -> _Compressor | None:
    """What compresses one channel.

    Raises:
        Unsupported: a method of hardware.
    """
    if method == MultifdMethod.NONE:
        return None
    if method == MultifdMethod.ZLIB:
        return _Zlib()
    if method == MultifdMethod.ZSTD:
        return _Zstd()
    raise Unsupported(
        f"pages can not be compressed with {method.name.lower()} here",
        section="multifd",
        expected="none, zlib or zstd",
        found=method.name.lower(),
    )


class _Zlib:
    """One deflate stream for the channel, flushed at the end of each packet."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(_LEVEL)

    def packet(self, pages: Buffer) -> bytes:
        return self._deflate.compress(pages) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


class _Zstd:
    """One frame for the channel, flushed at the end of each packet and never ended."""

    def __init__(self) -> None:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd

        self._frame = zstd.ZstdCompressor(level=_LEVEL)

    def packet(self, pages: Buffer) -> bytes:
        return self._frame.compress(pages) + self._frame.flush(self._frame.FLUSH_BLOCK)

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
from numpy.typing import NDArray

from vmstream.errors import Unsupported
from vmstream.stream.memory import Batch, Memory
from vmstream.stream.parts import Parts
from vmstream.stream.ram_writer import Buffer, Piece, RamWriter
from vmstream.stream.spans import PageState
from vmstream.wire.multifd import (
    MULTIFD_MAGIC,
    PACKET_SIZE,
    InitialPacket,
    MultifdFlag,
    MultifdMethod,
    MultifdPacket,
    packet_head,
)
from vmstream.wire.ram import RamBlock, RamFlag, RamMark
from vmstream.wire.reader import bytes_of

__all__ = ["MultifdWriter"]

MARKED_SINCE = (8, 1)
"""Machine types from this one on want a mark on the main channel for each SYNC."""
ZERO_LISTS_SINCE = (9, 0)
"""Machine types from this one on want zero pages listed in packets."""

_PACKETS_READ = 4
_PACKETS_VIEWED = 16
"""Packets made together of pages that are read, and of such that only are looked at."""
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
        self._viewed = memory.viewable
        if self._viewed:
            # Those of two batches: what is looked at later than that is mapped anew.
            self.kept = 2 * min(channels, _PACKETS_VIEWED)
        self._batch = self._room * (_PACKETS_VIEWED if self._viewed else _PACKETS_READ)
        self._head = packet_head(self._room)
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
            for batch in self._batches(number):
                if not self._zero_lists and (batch.state == PageState.ZERO).any():
                    zero = np.where(batch.state == PageState.ZERO, batch.state, PageState.ABSENT)
                    yield Piece(self._records(batch, zero, name))
                    name = None
                yield from self._content(batch, bytes_of(block.name))
        yield from self.end()

    def end(self) -> Iterator[Piece]:
        """A sync of all channels, its mark, and EOS: so ends each of the three sections."""
        for channel in range(self._channels):
            # Since 9.0 the header of a SYNC packet holds nothing else.
            room = 0 if self._zero_lists else self._room
            packet = MultifdPacket(
                0, int(MultifdFlag.SYNC), room, 0, 0, self._number, 0, bytes(28),
                bytes(256), (0,) * self._room,
            )  # fmt: skip
            self._number += 1
            yield Piece([packet.encode()], channel + 1)
        marks = [RamFlag.MULTIFD_FLUSH] if self._marked_syncs else []
        yield Piece([RamMark(0, flag).encode() for flag in (*marks, RamFlag.EOS)])

    def _content(self, batch: Batch, name: bytes) -> Iterator[Piece]:
        """The packets of a batch, each of which lists so many pages as it has room for."""
        rows = -(-len(batch.state) // self._room)
        shape = (rows, self._room)
        state = np.zeros(shape, np.int8)
        state.reshape(-1)[: len(batch.state)] = batch.state
        places = np.full(shape, -1, np.int64)
        places.reshape(-1)[: len(batch.state)] = batch.offsets
        # Pages with content come first, then zero pages; each in their order.
        order = np.argsort(-state, axis=1, kind="stable")
        places = np.take_along_axis(places, order, axis=1)
        content = np.count_nonzero(state == PageState.CONTENT, axis=1)
        zero = np.count_nonzero(state == PageState.ZERO, axis=1) * self._zero_lists
        pages = batch.first + self._room * np.arange(rows)[:, np.newaxis] + order
        listed = np.arange(self._room) < (content + zero)[:, np.newaxis]
        sent = np.flatnonzero(content + zero)
        heads = np.zeros(rows, self._head)
        heads["magic"], heads["version"], heads["block_name"] = MULTIFD_MAGIC, 1, name
        heads["flags"], heads["pages_alloc"] = int(self._method), self._room
        heads["normal_pages"], heads["zero_pages"] = content, zero
        heads["next_packet_size"] = content * self.page_size
        heads["packet_num"][sent] = self._number + np.arange(len(sent))
        heads["page_offsets"] = np.where(listed, pages * self.page_size, 0)
        self._number += len(sent)
        for channel, mine in self._turns(sent):
            if self._method == MultifdMethod.NONE:
                yield self._as_they_stand(batch, heads[mine], places[mine], content[mine], channel)
                continue
            for row in mine.tolist():
                pages = places[row, : content[row]]
                yield self._packed(batch, heads[row : row + 1], pages, channel)

    def _turns(self, rows: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Which channel takes which packets: each has its turn, one by one."""
        turn = (self._turn + np.arange(len(rows))) % self._channels
        self._turn = (self._turn + len(rows)) % self._channels
        for channel in dict.fromkeys(turn.tolist()):
            yield channel, rows[turn == channel]

    def _as_they_stand(
        self,
        batch: Batch,
        heads: NDArray[np.void],
        places: NDArray[np.int64],
        content: NDArray[np.int64],
        channel: int,
    ) -> Piece:
        """Packets of one channel, each with its pages as they are."""
        size = self._head.itemsize
        begins = np.concatenate((~(size * np.arange(len(heads)))[:, np.newaxis], places), axis=1)
        lengths = np.full(begins.shape, self.page_size)
        lengths[:, 0] = size
        there = np.arange(self._room + 1) <= content[:, np.newaxis]
        parts = Parts(
            heads.view(np.uint8).data, batch.data, begins[there], np.cumsum(lengths[there])
        )
        return Piece([], channel + 1, behind=parts)

    def _packed(
        self, batch: Batch, head: NDArray[np.void], places: NDArray[np.int64], channel: int
    ) -> Piece:
        """One packet, its pages compressed."""
        compressor = self._compressors[channel]
        packed = b""
        if compressor is not None and len(places):
            packed = compressor.packet(self._together(batch, places))
            head["next_packet_size"] = len(packed)
        return Piece([head.view(np.uint8).data, packed], channel + 1)


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

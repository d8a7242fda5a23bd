"""Which pages have arrived, as post-copy needs to know."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vmstream.wire.ram import Pages, RamBlock

__all__ = ["ReceivedPages"]

_FULL = 0xFF
_CHUNK = 8192
"""Bytes of a bitmap looked at in one go: those of 256 MiB in pages of 4 KiB."""


class ReceivedPages:
    """One bit a page, by block; several channels may add to it.

    Attributes:
        page_size: of the target, in bytes; None until a page has shown it.
        lengths: used length in bytes of each block, in the order of the list.
    """

    def __init__(self) -> None:
        self.page_size: int | None = None
        self.lengths: dict[str, int] = {}
        self._bitmaps: dict[str, _Bitmap] = {}
        self._lock = threading.Lock()

    def add_block(self, block: RamBlock) -> None:
        """Take note of a block of the list."""
        self.lengths[block.name] = block.used_length

    def add(self, pages: Pages) -> None:
        """Take note of pages."""
        runs = pages.runs
        with self._lock:
            self.page_size = pages.page_size
            for block, page, count in zip(
                runs.block.tolist(), runs.page.tolist(), runs.count.tolist(), strict=True
            ):
                self._of(pages.names[block]).put(page, page + count)

    def discard(self, block: str, start: int, length: int) -> None:
        """Forget a range, in bytes."""
        with self._lock:
            if block in self.lengths and self.page_size:
                last = -(-(start + length) // self.page_size)
                self._of(block).take_out(start // self.page_size, last)

    def _of(self, block: str) -> _Bitmap:
        bitmap = self._bitmaps.get(block)
        if bitmap is None:
            assert self.page_size is not None
            bitmap = self._bitmaps[block] = _Bitmap(
                -(-self.lengths.get(block, 0) // self.page_size)
            )
        return bitmap

    def missing(self) -> Iterator[tuple[str, int, int]]:
        """Runs of pages that have not arrived: block, start and length in bytes."""
        if self.page_size is None:
            return
        for name, length in self.lengths.items():
            at = 0
            while True:
                with self._lock:
                    at, runs = self._of(name).missing(at)
                if not runs:
                    break
                for begin, end in runs:
                    start = begin * self.page_size
                    yield name, start, min(end * self.page_size, length) - start

    def bitmap(self, block: str) -> bytes:
        """The block's received bitmap as RECV_BITMAP has it: least significant bit first,
        to a multiple of 8 bytes (``migration/ram.c``, ``ramblock_recv_bitmap_send``)."""
        with self._lock:
            known = block in self.lengths and self.page_size
            packed = self._of(block).tobytes() if known else b""
        return packed.ljust(-(-len(packed) // 8) * 8, b"\0")


class _Bitmap:
    """A bit for each page of a block, least significant first; those behind the last are set."""

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self.bits: NDArray[np.uint8] = np.zeros(-(-pages // 8), np.uint8)
        self.first = 0
        """No byte before this one lacks a page."""
        if pages % 8:
            self.bits[-1] = _FULL << pages % 8 & _FULL

    def put(self, begin: int, end: int) -> None:
        """Set the bits from ``begin`` to before ``end``."""
        for at, mask in self._edges(begin, end):
            self.bits[at] |= mask
        self.bits[begin // 8 + 1 : end // 8] = _FULL

    def take_out(self, begin: int, end: int) -> None:
        """Clear them."""
        end = min(end, self.pages)
        for at, mask in self._edges(begin, end):
            self.bits[at] &= _FULL ^ mask
        self.bits[begin // 8 + 1 : end // 8] = 0
        self.first = min(self.first, begin // 8)

    @staticmethod
    def _edges(begin: int, end: int) -> Iterator[tuple[int, int]]:
        """The first and the last byte of a range, each with the bits that belong to it."""
        if begin >= end:
            return
        head, tail = _FULL << begin % 8 & _FULL, _FULL >> 8 - end % 8
        if begin // 8 == end // 8:
            yield begin // 8, head & tail
            return
        yield begin // 8, head
        if tail:
            yield end // 8, tail

    def missing(self, at: int) -> tuple[int, list[tuple[int, int]]]:
        """The next pages that lack, from byte ``at`` on, as (first, behind the last) pairs.

        Returns:
            the byte to go on at, and the pairs; none at the end.
        """
        whole = at <= self.first
        at = max(at, self.first)
        while at < len(self.bits):
            part = self.bits[at : at + _CHUNK]
            if (part != _FULL).any():
                lacking = np.unpackbits(part, bitorder="little") ^ 1
                edges = np.flatnonzero(np.diff(lacking, prepend=0, append=0)) + 8 * at
                pairs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
                return at + _CHUNK, list(pairs)
            at += len(part)
            if whole:
                self.first = at
        return at, []

    def tobytes(self) -> bytes:
        """The bits, those behind the last page cleared."""
        bits = self.bits.copy()
        if self.pages % 8:
            bits[-1] &= _FULL >> 8 - self.pages % 8
        return bits.tobytes()

"""Which pages have arrived, as post-copy needs to know."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vmstream.wire.ram import Pages, RamBlock

__all__ = ["ReceivedPages"]


class ReceivedPages:
    """One flag a page, by block.

    Attributes:
        page_size: of the target, in bytes; None until a page has shown it.
    """

    def __init__(self) -> None:
        self.page_size: int | None = None
        self._lengths: dict[str, int] = {}
        self._flags: dict[str, NDArray[np.bool_]] = {}

    def add_block(self, block: RamBlock) -> None:
        """Take note of a block of the list."""
        self._lengths[block.name] = block.used_length

    def add(self, pages: Pages) -> None:
        """Take note of pages."""
        self.page_size = pages.page_size
        runs = pages.runs
        for block, page, count in zip(
            runs.block.tolist(), runs.page.tolist(), runs.count.tolist(), strict=True
        ):
            flags = self._of(pages.names[block])
            flags[page : page + count] = True

    def discard(self, block: str, start: int, length: int) -> None:
        """Forget a range, in bytes."""
        if block in self._lengths and self.page_size:
            flags = self._of(block)
            flags[start // self.page_size : -(-(start + length) // self.page_size)] = False

    def _of(self, block: str) -> NDArray[np.bool_]:
        flags = self._flags.get(block)
        if flags is None:
            assert self.page_size is not None
            flags = np.zeros(-(-self._lengths[block] // self.page_size), bool)
            self._flags[block] = flags
        return flags

    def missing(self) -> Iterator[tuple[str, int, int]]:
        """Runs of pages that have not arrived: block, start and length in bytes."""
        if self.page_size is None:
            return
        for name, length in self._lengths.items():
            flags = self._of(name)
            edges = np.flatnonzero(np.diff(np.concatenate(([True], flags, [True])).astype(np.int8)))
            for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
                start = first * self.page_size
                yield name, start, min(last * self.page_size, length) - start

    def bitmap(self, block: str) -> bytes:
        """The block's received bitmap as RECV_BITMAP has it: least significant bit first,
        to a multiple of 8 bytes (``migration/ram.c``, ``ramblock_recv_bitmap_send``)."""
        flags = self._of(block) if block in self._lengths and self.page_size else np.zeros(0, bool)
        packed = np.packbits(flags, bitorder="little").tobytes()
        return packed.ljust(-(-len(packed) // 8) * 8, b"\0")

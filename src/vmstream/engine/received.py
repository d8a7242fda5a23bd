"""Which pages have arrived, as post-copy needs to know."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vmstream.wire.ram import Pages, RamBlock

__all__ = ["ReceivedPages"]


class ReceivedPages:
    """One flag a page, by block; several channels may add to it.

    Attributes:
        page_size: of the target, in bytes; None until a page has shown it.
        lengths: used length in bytes of each block, in the order of the list.
    """

    def __init__(self) -> None:
        self.page_size: int | None = None
        self.lengths: dict[str, int] = {}
        self._flags: dict[str, NDArray[np.bool_]] = {}
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
                self._of(pages.names[block])[page : page + count] = True

    def discard(self, block: str, start: int, length: int) -> None:
        """Forget a range, in bytes."""
        with self._lock:
            if block in self.lengths and self.page_size:
                last = -(-(start + length) // self.page_size)
                self._of(block)[start // self.page_size : last] = False

    def _of(self, block: str) -> NDArray[np.bool_]:
        flags = self._flags.get(block)
        if flags is None:
            assert self.page_size is not None
            flags = np.zeros(-(-self.lengths.get(block, 0) // self.page_size), bool)
            self._flags[block] = flags
        return flags

    def missing(self) -> Iterator[tuple[str, int, int]]:
        """Runs of pages that have not arrived: block, start and length in bytes."""
        if self.page_size is None:
            return
        for name, length in self.lengths.items():
            with self._lock:
                flags = self._of(name)
                # The whole comparison is worth it only where something is missing.
                first = int(np.argmin(flags)) if len(flags) else 0
                if not len(flags) or flags[first]:
                    continue
                edges = np.flatnonzero(np.diff(flags.view(np.int8), prepend=1, append=1))
            for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
                start = begin * self.page_size
                yield name, start, min(end * self.page_size, length) - start

    def bitmap(self, block: str) -> bytes:
        """The block's received bitmap as RECV_BITMAP has it: least significant bit first,
        to a multiple of 8 bytes (``migration/ram.c``, ``ramblock_recv_bitmap_send``)."""
        with self._lock:
            known = block in self.lengths and self.page_size
            flags = self._of(block) if known else np.zeros(0, bool)
            packed = np.packbits(flags, bitorder="little").tobytes()
        return packed.ljust(-(-len(packed) // 8) * 8, b"\0")

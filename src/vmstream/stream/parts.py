"""Many short buffers that are told by their places, not each by an object of its own."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = ["Parts"]


class Parts(msgspec.Struct, frozen=True):
    """Buffers that follow each other, each a part of one of two long ones.

    A packet with its pages is such: its header and 128 places in memory.
    """

    heads: memoryview
    data: memoryview
    places: NDArray[np.int64]
    """Where each part begins in ``data``; ``~place`` for one in ``heads``."""
    ends: NDArray[np.int64]
    """Where each part ends, counted in bytes from the beginning of the first one."""

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return int(self.ends[-1])

    def buffers(self, start: int = 0, stop: int | None = None) -> list[memoryview]:
        """Bytes ``start`` to ``stop - 1`` of all of them, as a buffer for each part."""
        begins = np.concatenate(([0], self.ends[:-1]))
        skipped = np.maximum(start - begins, 0)
        sizes = np.minimum(self.ends, self.size if stop is None else stop) - begins - skipped
        there = sizes > 0
        return [
            self.data[place + skip : place + skip + size]
            if place >= 0
            else self.heads[~place + skip : ~place + skip + size]
            for place, skip, size in zip(
                self.places[there].tolist(),
                skipped[there].tolist(),
                sizes[there].tolist(),
                strict=True,
            )
        ]

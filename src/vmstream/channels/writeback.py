"""Giving the disk work while there is more to come."""

from __future__ import annotations

import contextlib
import os

__all__ = ["Writeback"]

DIRTY = 32 << 20
"""Bytes written after which the disk is given work."""


class Writeback:
    """Has what was written to a file brought to the disk before anyone waits for it.

    Linux begins with that only when a tenth of memory waits to be written; a flush at the
    end of a large file then takes as long as the disk needs for all of it.
    """

    def __init__(self, descriptor: int) -> None:
        """For an open file."""
        self._descriptor = descriptor
        self._first = self._end = 0
        self._waiting = 0

    def wrote(self, offset: int, size: int) -> None:
        """Note ``size`` bytes written at ``offset``; now and then the disk begins with them."""
        self._first = min(self._first, offset) if self._waiting else offset
        self._end = max(self._end, offset + size) if self._waiting else offset + size
        self._waiting += size
        if self._waiting >= DIRTY:
            self._waiting = 0
            # Pages that are still to be written are not dropped by this, only begun with.
            with contextlib.suppress(OSError):
                length = self._end - self._first
                os.posix_fadvise(self._descriptor, self._first, length, os.POSIX_FADV_DONTNEED)

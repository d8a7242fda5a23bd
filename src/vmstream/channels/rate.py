"""How much may be sent in a while: QEMU's limit per window of 100 ms."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

__all__ = ["WINDOW", "RateLimit"]

WINDOW = 0.1
"""Seconds of a window (BUFFER_DELAY in QEMU's migration/migration.h)."""


class RateLimit:
    """A count of bytes against a quota per window, shared by all channels of a migration.

    As in QEMU, nothing is held back inside a window: who sends asks
    :meth:`exceeded` now and then, and rests. What went beyond the quota is taken
    from the windows that follow, so that the limit holds on average whatever the
    size of a piece.

    Attributes:
        bytes_per_second: the limit; 0 is none. May be changed at any time.
    """

    def __init__(
        self, bytes_per_second: int = 0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.bytes_per_second = bytes_per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._began = clock()
        self._spent = 0.0

    def spend(self, count: int) -> None:
        """Count bytes that were sent."""
        with self._lock:
            self._turn()
            self._spent += count

    def exceeded(self) -> bool:
        """Whether the quota of this window is used up."""
        return self.rest() > 0

    def rest(self) -> float:
        """Seconds until there is quota again: 0 while there is, else to a window's end."""
        with self._lock:
            quota = self.bytes_per_second * WINDOW
            if not quota:
                return 0.0
            now = self._turn()
            windows = math.floor(self._spent / quota)
            return max(0.0, self._began + windows * WINDOW - now) if windows else 0.0

    def _turn(self) -> float:
        """Forgive a quota for every window that has passed; returns the time."""
        now = self._clock()
        passed = math.floor((now - self._began) / WINDOW)
        if passed > 0:
            self._began += passed * WINDOW
            self._spent = max(0.0, self._spent - passed * self.bytes_per_second * WINDOW)
        return now

"""A decoder that is shown only what it has to see of what goes by.

Most of a migration is pages, one behind the other. That all of a run are there
is proven by the head of its last one, so nobody need look at the rest: who
passes them on (in the kernel, say) looks at a few bytes in a mebibyte.
"""

from __future__ import annotations

from vmstream.stream.decoder import Decoder
from vmstream.stream.events import Event
from vmstream.stream.ram import PageRun

__all__ = ["Skimmer"]

_FEW = 16
"""Pages that are rather decoded than left out."""


class Skimmer:
    """Feeds a decoder; for each piece that arrives, :meth:`skip`, :meth:`proves`, :meth:`feed`.

    The events are those of the decoder, but for pages that were left out: these come
    late, when the run has ended, and without their content.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._run: PageRun | None = None
        self._records = 0
        """Of the run, that the next piece must prove."""
        self._proven = 0
        """Of the run, for which no event was made yet."""
        self._arrived = 0
        """Bytes since the run began."""
        self._rest = b""
        """What came behind the records that are proven."""

    def skip(self, count: int) -> int:
        """How many of the next ``count`` bytes probably need not be looked at."""
        if self._run is None:
            self._run = self._decoder.run
            if self._run is None:
                return 0
        self._records = self._run.reach(self._arrived + count)
        if self._records - self._proven < _FEW:
            return 0
        return self._run.place(self._records) - self._arrived

    def proves(self, piece: memoryview) -> bool:
        """Whether what stands behind the bytes to be skipped shows that they can be."""
        return self._run is not None and piece[:8] == self._run.head(self._records)

    def feed(self, piece: memoryview, skipped: int = 0) -> list[Event]:
        """Decode a piece that comes behind ``skipped`` bytes which it proves."""
        if skipped:
            self._proven = self._records
            self._arrived += skipped + len(piece)
            self._rest = bytes(piece)
            return []
        return [*self._settle(), *self._decoder.feed(piece)]

    def close(self) -> list[Event]:
        """Say that no more bytes will come."""
        return [*self._settle(), *self._decoder.close()]

    def _settle(self) -> list[Event]:
        """Decode what was proven."""
        run, records, rest = self._run, self._proven, self._rest
        self._run, self._proven, self._arrived, self._rest = None, 0, 0, b""
        if run is None or not records:
            return []
        return [*self._decoder.pass_over(run, records), *self._decoder.feed(rest)]

"""A source from some byte of another one on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vmstream.errors import SourceError, StreamError
from vmstream.sources.source import Source

__all__ = ["Slice"]


class Slice(Source):
    """What stands from ``start`` to the end of another source."""

    def __init__(
        self,
        outer: Source,
        start: int,
        *,
        container: tuple[str, ...] = (),
        details: dict[str, Any] | None = None,
    ) -> None:
        """Take over ``outer``; ``container`` and ``details`` are what the bytes before say.

        Raises:
            SourceError: ``outer`` is known to be shorter than ``start``.
        """
        if outer.size is not None and outer.size < start:
            raise SourceError(
                f"the file has {outer.size} bytes: none from {start} on",
                offset=outer.size,
                file=outer.name,
                expected=start,
                found=outer.size,
            )
        self.name = outer.name
        self.container = (*outer.container, *container)
        self.details = {**outer.details, **(details or {})}
        self.origin = outer.origin + start
        self._outer = outer
        self._start = start

    # What becomes known of the outer source while it is read is known here too.

    @property
    def size(self) -> int | None:  # type: ignore[override]
        return None if self._outer.size is None else max(self._outer.size - self._start, 0)

    @property
    def seekable(self) -> bool:  # type: ignore[override]
        return self._outer.seekable

    @property
    def rewindable(self) -> bool:  # type: ignore[override]
        return self._outer.rewindable

    @property
    def damage(self) -> StreamError | None:  # type: ignore[override]
        return self._outer.damage

    def pieces(self, start: int = 0) -> Iterator[memoryview]:
        return self._outer.pieces(self._start + start)

    def read_at(self, offset: int, length: int) -> bytes | memoryview:
        return self._outer.read_at(self._start + offset, length)

    def view_at(self, offset: int, length: int) -> memoryview | None:
        return self._outer.view_at(self._start + offset, length)

    def peek(self, length: int) -> bytes:
        return self._outer.peek(self._start + length)[self._start :]

    def keep(self) -> None:
        self._outer.keep()

    def close(self) -> None:
        self._outer.close()

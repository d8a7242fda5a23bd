"""What every source of stream bytes offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

__all__ = ["Source"]


class Source(ABC):
    """A stream's bytes, from its first byte (``QEVM``) on.

    All offsets are stream offsets: 0 is the first byte of the stream, whatever
    container stands around it.
    """

    name: str
    """What to call it to a person: the path, the URL, ``<stdin>``."""
    container: tuple[str, ...] = ()
    """Containers from the outside in, e.g. ``("libvirt", "zstd")``; empty for a plain stream."""
    size: int | None = None
    """Bytes of the stream when known without reading it."""
    seekable: bool = False
    """True when :meth:`read_at` costs no more than the bytes read."""
    origin: int = 0
    """Position in the file of the stream's first byte (mapped-ram offsets are file positions)."""
    details: dict[str, Any]
    """Facts about the container for a report: libvirt header and XML, snapshot id and tag."""

    @abstractmethod
    def pieces(self, start: int = 0) -> Iterator[memoryview]:
        """The bytes from ``start`` to the end, in order, in pieces of any size.

        A piece is valid until the next one is asked for. A non-seekable source
        can be walked once, from 0.

        Raises:
            SourceError: the container is damaged or reading failed.
            Truncated: a compressed container ends early.
        """

    @abstractmethod
    def read_at(self, offset: int, length: int) -> bytes | memoryview:
        """Up to ``length`` bytes at ``offset`` (fewer only at the end).

        A source that can not seek keeps what went by in an unnamed temporary
        file and answers from there.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back files, maps and processes. Safe to call twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

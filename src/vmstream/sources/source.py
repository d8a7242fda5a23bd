"""What every source of stream bytes offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec

from vmstream.errors import StreamError

__all__ = ["Closeable", "Limits", "Source"]

KIB = 1 << 10
MIB = 1 << 20


class Limits(msgspec.Struct, frozen=True):
    """How far a container's own claims are believed."""

    containers: int = 4
    """Containers one inside the other: a libvirt image in a gzip file is two."""
    memory: int = 128 * MIB
    """Bytes a decompressor may hold: the window that a zstd or xz header asks for.

    ``zstd --ultra -22`` needs all of it, ``xz -9`` 65 MiB.
    """
    libvirt_data: int = 16 * MIB
    """Bytes between a libvirt header and the stream (domain XML, cookie, padding)."""
    lzop_block: int = 256 * KIB
    """Bytes of one lzop block; lzop writes 256 KiB. Damaged LZO data can grow 255-fold."""
    qcow2_l1: int = 32 * MIB
    """Bytes of a qcow2 L1 table; QEMU's own limit."""
    qcow2_snapshots: int = 65536
    """Entries of a qcow2 snapshot table; QEMU's own limit."""
    qcow2_expansion: int = 1024
    """VM state bytes per byte of the image: zero and compressed clusters cost little space."""


class Closeable(Protocol):
    """What a source of its own making closes in the end."""

    def close(self) -> object: ...


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
    rewindable: bool = True
    """True when :meth:`pieces` can be called again; a pipe's can only after :meth:`keep`."""
    origin: int = 0
    """Position in the file of the stream's first byte (mapped-ram offsets are file positions).

    The file is the innermost one: of a compressed file, what comes out of it.
    """
    details: dict[str, Any]
    """Facts for a report, by container: ``details["libvirt"]["xml"]``."""
    damage: StreamError | None = None
    """What cut short a source that had to be read ahead; :meth:`pieces` raises it at its end."""

    @abstractmethod
    def pieces(self, start: int = 0) -> Iterator[memoryview]:
        """The bytes from ``start`` to the end, in order, in pieces of any size.

        A piece is valid until the next one is asked for. Before an error is
        raised, everything that stands before the damage has been given.

        Raises:
            SourceError: the container is damaged or reading failed.
            Truncated: a compressed container ends early.
            ValueError: the source is not :attr:`rewindable` and was walked before.
        """

    @abstractmethod
    def read_at(self, offset: int, length: int) -> bytes | memoryview:
        """Up to ``length`` bytes at ``offset`` (fewer only at the end).

        A source that can not seek keeps what goes by in an unnamed temporary
        file and answers from there (see :meth:`keep`).
        """

    def read_into(self, offset: int, room: memoryview) -> int:
        """Fill ``room`` from ``offset``; returns the bytes read (fewer only at the end).

        Room that is used again and again costs no new pages of memory.
        """
        data = self.read_at(offset, len(room))
        room[: len(data)] = data
        return len(data)

    def view_at(self, offset: int, length: int) -> memoryview | None:
        """``length`` bytes at ``offset`` where they stand, not copied; None where that can not be.

        They are good as long as the source is open.

        Raises:
            SourceError: the source no longer has them.
        """
        return None

    @abstractmethod
    def close(self) -> None:
        """Give back files, maps and processes. Safe to call twice."""

    def peek(self, length: int) -> bytes:
        """The first ``length`` bytes (fewer only at the end), without using up a pipe."""
        return bytes(self.read_at(0, length))

    def keep(self) -> None:  # noqa: B027 - most sources have nothing to do
        """Make :meth:`read_at` work from here on, and :meth:`pieces` repeatable.

        Nothing for a source that can seek. One that can not begins to copy
        what goes by into an unnamed temporary file; a walk must not have begun
        unless the source is :attr:`rewindable`.

        Raises:
            ValueError: bytes of a pipe went by already.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

"""What arrives in a migration, and the files that keep it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from vmstream.stream.ram_writer import Buffer

__all__ = ["Arrived", "ChannelFile", "Reception"]


class Arrived(msgspec.Struct):
    """One channel's file."""

    kind: str
    """``main``, ``multifd``, ``preempt`` or ``return``."""
    path: Path
    size: int = 0


class Reception(msgspec.Struct):
    """How far it got; filled while it runs."""

    files: list[Arrived] = msgspec.field(default_factory=list)
    bytes: int = 0
    """On all channels."""
    iterations: int = 0
    """PART sections of RAM."""
    section: str | None = None
    """The last section that began."""
    machine: str | None = None
    ended: bool = False
    """The end mark arrived, and the source closed its channels."""
    return_path: bool = False
    postcopy: bool = False
    """The source switched: device state came before all of memory."""
    pages_requested: int = 0
    resumed: int = 0
    """How often a broken post-copy was taken up again."""
    error: str | None = None


class ChannelFile:
    """The file of one channel: written without a buffer, so that a full disk shows at once."""

    def __init__(self, arrived: Arrived, reception: Reception, lock: threading.Lock) -> None:
        """Make the file.

        Raises:
            OSError: it can not be made.
        """
        self.arrived = arrived
        self._reception = reception
        self._lock = lock
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(arrived.path, flags, 0o666)

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self.arrived.size

    def write(self, piece: Buffer) -> None:
        """Append what arrived.

        Raises:
            OSError: the disk is full, or another failure of writing; it names the file.
        """
        view = memoryview(piece)
        try:
            while view:
                count = os.write(self._descriptor, view)
                self._count(count)
                view = view[count:]
        except OSError as error:
            error.filename = str(self.arrived.path)
            raise

    def _count(self, count: int) -> None:
        self.arrived.size += count
        if self.arrived.kind != "return":
            with self._lock:
                self._reception.bytes += count

    def close(self) -> None:
        """Give the descriptor back. Safe to call twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

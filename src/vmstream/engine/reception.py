"""What arrives in a migration, and the files that keep it."""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from vmstream.channels.channel import Channel
from vmstream.channels.pieces import Conduit
from vmstream.stream.ram_writer import Buffer

__all__ = ["Arrived", "ChannelFile", "Reception"]


MAPPED = 8 << 20
"""Bytes appended, and then mapped and looked at, together: about as many."""


class Arrived(msgspec.Struct):
    """One channel's file."""

    kind: str
    """``main``, ``multifd``, ``preempt`` or ``return``."""
    path: Path
    size: int = 0


class Reception(msgspec.Struct):
    """How far it got; filled while it runs."""

    files: list[Arrived] = msgspec.field(default_factory=list)
    began: float | None = None
    """When the first connection stood, by the monotonic clock."""
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
    memory: int = 0
    """Bytes of all RAM blocks."""
    rounds: int = 0
    """How often the source began with its first page anew: the first round takes all of
    memory, each other what changed during the one before."""
    round_bytes: int = 0
    """Bytes of guest memory that came in this round."""
    round_size: int = 0
    """Bytes of guest memory that it is expected to take: those of all blocks in the first,
    in others what the round before took."""
    plain: bool = True
    """The main channel is a stream that a QEMU loads from a file, and there is no other."""
    dropped: list[str] = msgspec.field(default_factory=list)
    """Commands that were not kept, for only the connection had a use for them."""

    def begin_round(self, *, anew: bool) -> None:
        """Pages come: a round has begun if none has, or if the source begins anew."""
        if not self.rounds:
            self.rounds, self.round_size = 1, self.memory
        elif anew:
            self.rounds += 1
            self.round_size, self.round_bytes = self.round_bytes, 0

    @property
    def remaining(self) -> int:
        """Bytes of guest memory that this round is still expected to bring."""
        return max(0, self.round_size - self.round_bytes)

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
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(arrived.path, flags, 0o666)

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self.arrived.size

    def take(self, channel: Channel, conduit: Conduit) -> memoryview:
        """Append what has arrived without copying it here, waiting for the first byte.

        Returns:
            what was appended, mapped; empty at the end.

        Raises:
            NotPossible: not with such a channel.
            TimedOut, PeerClosed, ShutDown, ChannelError: as :meth:`Channel.read_into`.
            OSError: the disk is full, or another failure of writing; it names the file.
        """
        start = self.arrived.size
        try:
            count = conduit.to_file(channel, self._descriptor, MAPPED)
        except OSError as error:
            self._appended(os.fstat(self._descriptor).st_size - start)
            error.filename = str(self.arrived.path)
            raise
        self._appended(count)
        if not count:
            return memoryview(b"")
        base = start - start % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(
            self._descriptor, start + count - base, access=mmap.ACCESS_READ, offset=base
        )
        return memoryview(mapped)[start - base :]

    def _appended(self, count: int) -> None:
        self.arrived.size += count
        self.count(count)

    def count(self, count: int) -> None:
        """Note bytes that arrived."""
        if self.arrived.kind != "return":
            with self._lock:
                self._reception.bytes += count

    def take_back(self, count: int) -> None:
        """Cut off the last ``count`` bytes, which are not to be kept after all."""
        self.arrived.size -= count
        os.ftruncate(self._descriptor, self.arrived.size)
        os.lseek(self._descriptor, self.arrived.size, os.SEEK_SET)

    def write(self, piece: Buffer) -> None:
        """Append what arrived.

        Raises:
            OSError: the disk is full, or another failure of writing; it names the file.
        """
        view = memoryview(piece)
        try:
            while view:
                count = os.write(self._descriptor, view)
                self._appended(count)
                view = view[count:]
        except OSError as error:
            error.filename = str(self.arrived.path)
            raise

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

"""Receiving by pieces: in memory that is used again, or by way of a pipe, without copying."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from types import TracebackType
from typing import TYPE_CHECKING, Self

from vmstream._kernels import tee
from vmstream.channels.channel import Channel
from vmstream.channels.descriptor import DescriptorChannel
from vmstream.errors import ChannelError, PeerClosed, ShutDown, TimedOut

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Conduit", "NotPossible", "Pieces"]


class Pieces:
    """Takes what arrives, in large pieces.

    New memory for each piece would cost as much as the system call. So a piece
    is used again for the next one, unless something still refers to it.
    """

    def __init__(self, size: int) -> None:
        """Pieces of at most ``size`` bytes."""
        self._buffer = bytearray(size)

    def next(self, channel: Channel, limit: int | None = None) -> memoryview:
        """What has arrived, waiting for the first byte; empty at the end.

        Args:
            limit: bytes at most, if fewer than the size.

        Raises:
            TimedOut, PeerClosed, ShutDown, ChannelError: as :meth:`Channel.read_into`.
        """
        view = self._room()[:limit]
        return view[: channel.read_into(view)]

    def look(self, conduit: Conduit, start: int = 0) -> memoryview:
        """What a conduit holds from byte ``start`` on; it holds it still."""
        view = self._room()
        return view[: conduit.look_into(view, start)]

    def _room(self) -> memoryview:
        if not self._is_free():
            self._buffer = bytearray(len(self._buffer))
        return memoryview(self._buffer)

    def _is_free(self) -> bool:
        """Whether no view refers to the memory: only then can it change its size."""
        try:
            self._buffer.append(0)
        except BufferError:
            return False
        self._buffer.pop()
        return True


class Conduit:
    """A pipe through which the kernel moves bytes from a channel to a file or another channel.

    It saves copying them into this process and out again. For one thread at a time.

    Raises (from every method):
        NotPossible: the system can not do that with such a channel; nothing was received.
        TimedOut, PeerClosed, ShutDown, ChannelError: as :meth:`Channel.read_into` and
            :meth:`Channel.send`.
    """

    def __init__(self, size: int, *, looked_at: bool = False) -> None:
        """For ``size`` bytes at a time, or fewer where the system allows no larger pipe.

        Args:
            looked_at: whether :meth:`look_into` is to be used, which takes a second pipe.
        """
        self._held = 0
        self._size = size
        self._out, self._in = self._pipe()
        self._copy = self._pipe() if looked_at else None
        self._nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC) if looked_at else -1
        if self._copy is not None:  # which the system may have made smaller
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, self._size)
        os.set_blocking(self._in, False)

    def _pipe(self) -> tuple[int, int]:
        """A pipe of the size, which becomes smaller where that can not be."""
        out, into = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, self._size)
        self._size = min(self._size, fcntl.fcntl(into, fcntl.F_GETPIPE_SZ))
        return out, into

    def to_file(self, channel: Channel, descriptor: int, most: int) -> int:
        """Append to a file what has arrived, waiting for the first byte.

        Args:
            most: bytes after which it is enough for now.

        Returns:
            the count of bytes, 0 only at the end.

        Raises:
            OSError: the file can not be written; part of it may be.
        """
        count = 0
        while count < most:
            try:
                left = moved = self._take(channel, self._size, wait=not count)
            except ShutDown:
                if not count:
                    raise
                break  # what stands in the file already is told first
            while left:
                left -= os.splice(self._out, descriptor, left)
            count += moved
            if not moved:
                break
        return count

    def take(self, channel: Channel) -> int:
        """Hold what has arrived, waiting for the first byte.

        Returns:
            the count of bytes, 0 only at the end.
        """
        self._held = self._take(channel, self._size)
        return self._held

    def look_into(self, buffer: Buffer, start: int = 0) -> int:
        """Copy what is held, from byte ``start`` on, which stays held; returns the count.

        Raises:
            ValueError: it does not fit the buffer.
        """
        assert self._copy is not None, "made to be looked at"
        count = self._held - start
        view = memoryview(buffer)[:count]
        if len(view) < count:
            raise ValueError(f"{count} bytes are held")
        if not count:
            return 0
        out, into = self._copy
        copied = tee(self._out, into, self._held)
        assert copied == self._held, "the pipes have the same size"
        while start:
            start -= os.splice(out, self._nowhere, start)
        filled = 0
        while filled < count:
            filled += os.readv(out, [view[filled:]])
        return count

    def give(self, channel: Channel) -> None:
        """Send what is held.

        Raises:
            ChannelError: among others, the channel took nothing within its timeout.
        """
        held, self._held = self._held, 0
        try:
            self._give(channel, held)
        except TimedOut as error:
            # What was received is lost with this: it must not pass for an idle source.
            raise ChannelError(error.message, file=error.file) from error

    def _take(self, channel: Channel, size: int, *, wait: bool = True) -> int:
        if not isinstance(channel, DescriptorChannel):
            raise NotPossible
        try:
            return channel.splice_into(self._in, min(size, self._size), wait=wait)
        except OSError as error:
            raise NotPossible from error

    def _give(self, channel: Channel, count: int) -> None:
        try:
            if isinstance(channel, DescriptorChannel):
                channel.splice_from(self._out, count)
                return
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        given = 0
        while given < count:
            data = os.read(self._out, count - given)
            try:
                channel.send(data)
            except (PeerClosed, ShutDown) as error:
                error.sent += given
                raise
            given += len(data)

    def close(self) -> None:
        """Give the pipe back."""
        for descriptor in (self._in, self._out, *(self._copy or ()), self._nowhere):
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


class NotPossible(Exception):
    """The kernel can not move bytes between such descriptors."""

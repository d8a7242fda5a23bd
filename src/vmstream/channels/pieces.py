"""Receiving by pieces: in memory that is used again, or by way of a pipe, without copying."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from types import TracebackType
from typing import Self

from vmstream.channels.channel import Channel
from vmstream.channels.descriptor import DescriptorChannel
from vmstream.channels.sockets import SocketChannel
from vmstream.errors import ChannelError, ShutDown, TimedOut

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

    def peek(self, channel: SocketChannel) -> memoryview:
        """The same, and it can be received once more."""
        view = self._room()
        return view[: channel.peek_into(view)]

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

    def __init__(self, size: int) -> None:
        """For ``size`` bytes at a time, or fewer where the system allows no larger pipe."""
        self._out, self._in = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, size)
        self._size: int = fcntl.fcntl(self._in, fcntl.F_GETPIPE_SZ)
        os.set_blocking(self._in, False)

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

    def to_channel(self, source: Channel, sink: Channel, count: int | None = None) -> int:
        """Pass on what has arrived, waiting for the first byte.

        Args:
            count: bytes that are known to have arrived, all of which are passed on.

        Returns:
            the count of bytes, 0 only at the end.

        Raises:
            ChannelError: among others, the sink took nothing within its timeout.
        """
        passed = 0
        while count is None or passed < count:
            moved = self._take(source, self._size if count is None else count - passed)
            try:
                self._give(sink, moved)
            except TimedOut as error:
                # What was received is lost with this: it must not pass for an idle source.
                raise ChannelError(error.message, file=error.file) from error
            passed += moved
            if count is None or not moved:
                break
        return passed

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
        while count:
            data = os.read(self._out, count)
            channel.send(data)
            count -= len(data)

    def close(self) -> None:
        """Give the pipe back."""
        os.close(self._in)
        os.close(self._out)

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

"""Receiving by pieces, in memory that is used again."""

from __future__ import annotations

from vmstream.channels.channel import Channel

__all__ = ["Pieces"]


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
        if not self._is_free():
            self._buffer = bytearray(len(self._buffer))
        view = memoryview(self._buffer)[:limit]
        return view[: channel.read_into(view)]

    def _is_free(self) -> bool:
        """Whether no view refers to the memory: only then can it change its size."""
        try:
            self._buffer.append(0)
        except BufferError:
            return False
        self._buffer.pop()
        return True

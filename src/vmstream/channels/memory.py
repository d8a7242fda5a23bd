"""A channel to nowhere but memory: a buffer that grows, and can be read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmstream.channels.channel import Channel
from vmstream.errors import ShutDown

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["MemoryChannel"]


class MemoryChannel(Channel):
    """What is sent is kept, and received from :attr:`position` on.

    QEMU packs device state for postcopy in such a buffer (``qio_channel_buffer``).
    It never waits; its end is wherever the bytes end at the moment. For one
    thread at a time.

    Attributes:
        data: all bytes.
        position: index of the byte that is received next; set it to read again.
    """

    def __init__(self, data: Buffer = b"", *, name: str = "<memory>") -> None:
        """Begin with a copy of ``data``."""
        self.name = name
        self.timeout = 0.0
        self.readable = self.writable = True
        self.data = bytearray(data)
        self.position = 0
        self._shut_down = False

    def read_into(self, buffer: Buffer) -> int:
        self._check()
        view = memoryview(buffer).cast("B")
        with memoryview(self.data) as data:
            part = data[self.position : self.position + len(view)]
            view[: len(part)] = part
            count = len(part)
            part.release()
        self.position += count
        return count

    def send(self, *buffers: Buffer) -> None:
        self._check()
        for buffer in buffers:
            self.data += memoryview(buffer).cast("B")

    def finish(self) -> None:
        """Nothing: the end is where the bytes end."""

    def shutdown(self) -> None:
        self._shut_down = True

    def close(self) -> None:
        """Nothing is held but the bytes, which stay."""

    def _check(self) -> None:
        if self._shut_down:
            raise ShutDown("the channel was shut down at this end", file=self.name)

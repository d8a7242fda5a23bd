"""A buffered big-endian file over any channel: QEMU's ``QEMUFile``.

One direction each: :class:`StreamReader` gets, :class:`StreamWriter` puts, and
where the channel goes both ways each has the other as its return path. As in
QEMU the first error sticks: whatever is asked afterwards raises it again, so
that a series of puts needs one look at its end.

Source: QEMU's migration/qemu-file.c (10.0).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from vmstream.channels.channel import Channel
from vmstream.channels.rate import RateLimit
from vmstream.errors import ChannelError, ShutDown, StreamError, Truncated
from vmstream.wire.reader import counted, text_of

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["READ_SIZE", "StreamFile", "StreamReader", "StreamWriter"]

READ_SIZE = 256 * 1024
"""Bytes asked of a channel at a time, and the most that can be peeked at."""
FLUSH_SIZE = 256 * 1024
FLUSH_BUFFERS = 128
"""Bytes and buffers that a writer holds back before it sends them."""
SMALL = 512
"""Bytes from which on referring to a buffer costs less than copying it."""
_GULP = 1 << 20
"""Bytes of a large read that are made room for before they have arrived."""


class StreamFile:
    """What both directions share.

    Attributes:
        channel: what carries the bytes.
        error: the first error, which every later call raises again; None while all is well.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.error: StreamError | None = None
        self._position = 0

    def set_error(self, error: StreamError) -> None:
        """Make ``error`` the one that sticks, unless there is one already."""
        if self.error is None:
            self.error = error

    def shutdown(self) -> None:
        """Break the connection both ways; another thread that waits in it goes on at once."""
        self.set_error(ShutDown("the channel was shut down at this end", file=self.channel.name))
        self.channel.shutdown()

    def close(self) -> None:
        """Close the channel, and so the other direction too."""
        self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        # As for a channel: nothing is worth sending any more.
        self.shutdown()
        with contextlib.suppress(ChannelError):
            self.channel.close()

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    def _fail(self, error: StreamError) -> NoReturn:
        self.set_error(error)
        assert self.error is not None
        raise self.error

    def _return_channel(self) -> Channel:
        if not self.channel.bidirectional:
            raise ValueError(f"{self.channel.name}: this channel has no way back")
        return self.channel


class StreamReader(StreamFile):
    """Gets from a channel. Integers are big-endian.

    Every ``get_`` raises Truncated, with the offset, when the channel ends
    before it has all of its bytes.
    """

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._buffer = bytearray(READ_SIZE)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0

    def tell(self) -> int:
        """How many bytes have been got; those read ahead do not count."""
        return self._position

    def return_path(self) -> StreamWriter:
        """The way back to the source, over the same channel."""
        return StreamWriter(self._return_channel())

    def get_u8(self) -> int:
        return self._integer(1, signed=False)

    def get_be16(self) -> int:
        return self._integer(2, signed=False)

    def get_be32(self) -> int:
        return self._integer(4, signed=False)

    def get_be64(self) -> int:
        return self._integer(8, signed=False)

    def get_i8(self) -> int:
        return self._integer(1, signed=True)

    def get_i16(self) -> int:
        return self._integer(2, signed=True)

    def get_i32(self) -> int:
        return self._integer(4, signed=True)

    def get_i64(self) -> int:
        return self._integer(8, signed=True)

    def get_counted(self) -> str:
        """A name with its one-byte length before it."""
        return text_of(self.get_bytes(self.get_u8()))

    def get_bytes(self, count: int) -> bytes:
        """``count`` bytes; memory is taken for what arrives, not for what is asked."""
        self._check()
        if count <= READ_SIZE:
            self._need(count)
            return bytes(self._used(count))
        content = bytearray()
        while len(content) < count:
            room = bytearray(min(_GULP, count - len(content)))
            self._get_into(memoryview(room), count, len(content))
            content += room
        return bytes(content)

    def get_into(self, buffer: Buffer) -> None:
        """Fill ``buffer``; what is larger than the read-ahead goes there directly."""
        self._check()
        view = memoryview(buffer).cast("B")
        self._get_into(view, len(view), 0)

    def get_some(self, limit: int = READ_SIZE) -> bytes:
        """What has arrived, up to ``limit`` bytes, waiting for the first; empty at the end."""
        self._check()
        if self._end > self._start:
            return bytes(self._used(min(limit, self._end - self._start)))
        try:
            data = self.channel.recv(limit)
        except StreamError as error:
            self._fail(error)
        self._position += len(data)
        return data

    def pieces(self) -> Iterator[bytes]:
        """Everything from here to the end, as it arrives; each piece is the caller's to keep."""
        while piece := self.get_some():
            yield piece

    def peek(self, count: int) -> bytes:
        """The next ``count`` bytes without using them; fewer only at the end.

        Raises:
            ValueError: ``count`` is above :data:`READ_SIZE`.
        """
        if count > READ_SIZE:
            raise ValueError(f"at most {READ_SIZE} bytes can be peeked at")
        self._check()
        self._fill(count)
        return bytes(self._view[self._start : min(self._end, self._start + count)])

    def skip(self, count: int) -> None:
        """Use ``count`` bytes without looking at them."""
        done = 0
        while done < count:
            step = min(count - done, READ_SIZE)
            self._need(step, count, done)
            done += len(self._used(step))

    def _get_into(self, view: memoryview, whole: int, done: int) -> None:
        """Fill ``view``, a part of ``whole`` bytes of which ``done`` came already."""
        ready = self._used(min(len(view), self._end - self._start))
        view[: len(ready)] = ready
        view, done = view[len(ready) :], done + len(ready)
        while len(view) > READ_SIZE:
            count = self._read(view)
            if not count:
                self._truncated(whole, done)
            self._position += count
            view, done = view[count:], done + count
        if view:
            self._need(len(view), whole, done)
            view[:] = self._used(len(view))

    def _integer(self, width: int, *, signed: bool) -> int:
        if self._end - self._start < width or self.error is not None:
            self._need(width)
        return int.from_bytes(self._used(width), "big", signed=signed)

    def _used(self, count: int) -> memoryview:
        start = self._start
        self._start = start + count
        self._position += count
        return self._view[start : start + count]

    def _need(self, count: int, whole: int | None = None, done: int = 0) -> None:
        """See that ``count`` bytes are in the buffer, after ``done`` others of ``whole``."""
        self._check()
        if not self._fill(count):
            self._truncated(whole or count, done + self._end - self._start)

    def _fill(self, count: int) -> bool:
        if self._end - self._start >= count:
            return True
        if READ_SIZE - self._start < count or self._start == self._end:
            rest = bytes(self._view[self._start : self._end])
            self._view[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        while self._end - self._start < count:
            got = self._read(self._view[self._end :])
            if not got:
                return False
            self._end += got
        return True

    def _read(self, view: memoryview) -> int:
        self._check()
        try:
            return self.channel.read_into(view)
        except StreamError as error:
            self._fail(error)

    def _truncated(self, expected: int, found: int) -> NoReturn:
        self._fail(
            Truncated(
                "the channel ended in the middle of something",
                offset=self._position,
                file=self.channel.name,
                expected=f"{expected} bytes",
                found=f"{found} bytes",
            )
        )


class StreamWriter(StreamFile):
    """Puts to a channel. Integers are big-endian.

    Nothing is sent before there are :data:`FLUSH_SIZE` bytes of it, or
    :meth:`flush`. A value that does not fit its width raises OverflowError.
    """

    def __init__(self, channel: Channel, *, rate: RateLimit | None = None) -> None:
        """``rate`` is told of every byte that is sent, and is asked by :meth:`pace`."""
        super().__init__(channel)
        self.rate = rate or RateLimit()
        self._waiting: list[Buffer] = []
        self._tail = bytearray()
        self._held = 0
        self._stopped = threading.Event()

    def tell(self) -> int:
        """How many bytes have been put; those not sent yet count."""
        return self._position

    def return_path(self) -> StreamReader:
        """The way back from the destination, over the same channel."""
        return StreamReader(self._return_channel())

    def put_u8(self, value: int) -> None:
        self.put_bytes(value.to_bytes(1, "big"))

    def put_be16(self, value: int) -> None:
        self.put_bytes(value.to_bytes(2, "big"))

    def put_be32(self, value: int) -> None:
        self.put_bytes(value.to_bytes(4, "big"))

    def put_be64(self, value: int) -> None:
        self.put_bytes(value.to_bytes(8, "big"))

    def put_i8(self, value: int) -> None:
        self.put_bytes(value.to_bytes(1, "big", signed=True))

    def put_i16(self, value: int) -> None:
        self.put_bytes(value.to_bytes(2, "big", signed=True))

    def put_i32(self, value: int) -> None:
        self.put_bytes(value.to_bytes(4, "big", signed=True))

    def put_i64(self, value: int) -> None:
        self.put_bytes(value.to_bytes(8, "big", signed=True))

    def put_counted(self, text: str) -> None:
        """A name with its one-byte length before it; Malformed when it has over 255 bytes."""
        self.put_bytes(counted(text))

    def put_bytes(self, data: Buffer) -> None:
        """Copy ``data``, which may change as soon as this returns."""
        self._check()
        before = len(self._tail)
        self._tail += memoryview(data).cast("B")
        self._count(len(self._tail) - before)

    def put_buffers(self, *buffers: Buffer) -> None:
        """Refer to ``buffers`` instead of copying them, but for those below :data:`SMALL`.

        They must keep their content until :meth:`flush`; what changes before
        may be sent either way, which a migration of running memory puts up with.
        """
        self._check()
        for buffer in buffers:
            size = memoryview(buffer).nbytes
            if size < SMALL:
                self._tail += memoryview(buffer).cast("B")
            else:
                self._end_tail()
                self._waiting.append(buffer)
            self._count(size)

    def flush(self) -> None:
        """Send what was held back."""
        self._check()
        self._end_tail()
        waiting, held = self._waiting, self._held
        self._waiting, self._held = [], 0
        if not held:
            return
        try:
            self.channel.send(*waiting)
        except StreamError as error:
            self._fail(error)
        self.rate.spend(held)

    def pace(self) -> None:
        """Rest until the rate limit has quota again; :meth:`shutdown` ends the rest."""
        while (seconds := self.rate.rest()) > 0 and not self._stopped.wait(seconds):
            pass
        self._check()

    def finish(self) -> None:
        """Flush, and say that nothing more will be put.

        With TLS this says goodbye, without which QEMU from 10.0 on takes the end
        of a multifd channel for an attack.
        """
        self.flush()
        try:
            self.channel.finish()
        except StreamError as error:
            self._fail(error)

    def shutdown(self) -> None:
        super().shutdown()
        self._stopped.set()

    def close(self) -> None:
        """Flush where all is well, and close the channel, and so the other direction too."""
        try:
            if self.error is None:
                self.flush()
        finally:
            self.channel.close()

    def _end_tail(self) -> None:
        if self._tail:
            self._waiting.append(self._tail)
            self._tail = bytearray()

    def _count(self, count: int) -> None:
        self._position += count
        self._held += count
        if self._held >= FLUSH_SIZE or len(self._waiting) >= FLUSH_BUFFERS:
            self.flush()

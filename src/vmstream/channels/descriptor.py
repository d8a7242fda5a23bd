"""Channels over descriptors: what sockets, pipes and files have in common."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import threading
from typing import TYPE_CHECKING

from vmstream._kernels import send_parts
from vmstream.channels.channel import Channel
from vmstream.errors import ChannelError, PeerClosed, ShutDown, TimedOut

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from vmstream.stream.parts import Parts

__all__ = ["DescriptorChannel", "Interrupt", "describe", "milliseconds"]

VECTORS = 256
"""Buffers given to one writev; each call that sends a part looks at all of them anew."""
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED, errno.ENOTCONN, errno.ESHUTDOWN)


class Interrupt:
    """A waker: once :meth:`raised <raise_>`, no wait lasts any longer."""

    def __init__(self) -> None:
        self.raised = False
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()

    def raise_(self) -> None:
        """Wake every wait, now and from now on."""
        with self._lock:
            self.raised = True
            if self._descriptor >= 0:
                os.eventfd_write(self._descriptor, 1)

    def close(self) -> None:
        """Give the descriptor back; nothing may be waiting any more."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1

    def check(self, name: str) -> None:
        """Raise ShutDown when it has been raised."""
        if self.raised:
            raise ShutDown("the channel was shut down at this end", file=name)

    def wait(self, descriptor: int, events: int, timeout: float) -> bool:
        """Wait until ``descriptor`` is ready or the interrupt is raised; False: neither was."""
        poll = select.poll()
        poll.register(descriptor, events)
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(milliseconds(timeout)))


class DescriptorChannel(Channel):
    """A channel over a descriptor for each way, which may be one and the same.

    A descriptor that is shared with others (standard output) is non-blocking
    for them too until the channel is closed.
    """

    def __init__(
        self, name: str, timeout: float, *, reading: int | None, writing: int | None
    ) -> None:
        """Take over the descriptors."""
        self.name = name
        self.timeout = timeout
        self.readable = reading is not None
        self.writable = writing is not None
        self._input = -1 if reading is None else reading
        self._output = -1 if writing is None else writing
        self._blocking = [fd for fd in self._descriptors() if os.get_blocking(fd)]
        for descriptor in self._blocking:
            os.set_blocking(descriptor, False)
        self._interrupt = Interrupt()
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._closed = False
        self._finished = False
        self._broke: OSError | None = None

    def read_into(self, buffer: Buffer) -> int:
        view = memoryview(buffer).cast("B")
        with self._reading:
            self._check("read", self.readable)
            filled = 0
            # A socket gives what came in a packet or a few: a piece is worth more work.
            while filled < len(view) and self._broke is None:
                try:
                    count = os.readv(self._input, [view[filled:]])
                except BlockingIOError:
                    if filled:
                        break
                    self._await(self._input, select.POLLIN, "nothing arrived")
                except OSError as error:
                    self._broke = error  # the system says it only once
                else:
                    filled += count
                    if not count:
                        break
            if not filled and len(view):
                self._nothing_more()
            return filled

    def splice_into(self, pipe: int, size: int, *, wait: bool = True) -> int:
        """Like :meth:`read_into`, but into a pipe, within the kernel.

        Args:
            pipe: the end of an empty pipe that takes ``size`` bytes or more.
            wait: for the first byte; otherwise 0 can also mean that there is none now.

        Raises:
            OSError: the system can not do that with such a descriptor (``EINVAL``);
                nothing was received.
        """
        with self._reading:
            self._check("read", self.readable)
            filled = 0
            while filled < size and self._broke is None:
                try:
                    count = os.splice(self._input, pipe, size - filled)
                except BlockingIOError:
                    # It may be the pipe that has no room for another part.
                    if filled or not wait:
                        return filled
                    self._await(self._input, select.POLLIN, "nothing arrived")
                except OSError as error:
                    if error.errno == errno.EINVAL and not filled:
                        raise
                    self._broke = error
                else:
                    filled += count
                    if not count:
                        break
            if not filled and wait:
                self._nothing_more()
            return filled

    def splice_from(self, pipe: int, size: int) -> None:
        """Send ``size`` bytes that stand in a pipe, within the kernel.

        Raises:
            OSError: the system can not do that with such a descriptor (``EINVAL``);
                nothing was sent.
            TimedOut, PeerClosed, ShutDown, ChannelError: as :meth:`send`.
        """
        with self._writing:
            self._check("written", self.writable and not self._finished)
            sent = 0
            while sent < size:
                try:
                    sent += os.splice(pipe, self._output, size - sent)
                except BlockingIOError:
                    self._await_room(sent)
                except OSError as error:
                    if error.errno == errno.EINVAL and not sent:
                        raise
                    raise self._write_failure(error, sent) from error

    def _nothing_more(self) -> None:
        """The end, or what broke the connection."""
        broke, self._broke = self._broke, None
        if broke is not None:
            raise self._read_failure(broke) from broke
        self._at_end()

    def send(self, *buffers: Buffer) -> None:
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        with self._writing:
            self._check("written", self.writable and not self._finished)
            start = sent = 0
            while start < len(views):
                count = self._write_some(views[start : start + VECTORS], sent)
                sent += count
                while start < len(views) and count >= len(views[start]):
                    count -= len(views[start])
                    start += 1
                if count:
                    views[start] = views[start][count:]

    def send_parts(self, parts: Parts, start: int, stop: int) -> None:
        with self._writing:
            self._check("written", self.writable and not self._finished)
            begin = start
            while start < stop:
                sent = send_parts(
                    self._output, parts.heads, parts.data, parts.places, parts.ends, start, stop
                )
                if sent > 0:
                    start += sent
                elif -sent in (errno.EAGAIN, errno.EINTR):
                    self._await_room(start - begin)
                else:
                    error = OSError(-sent, os.strerror(-sent))
                    raise self._write_failure(error, start - begin) from error

    def finish(self) -> None:
        with self._writing:
            if not self.writable or self._finished or self._interrupt.raised:
                return
            self._finished = True
            self._end_output()

    def shutdown(self) -> None:
        self._interrupt.raise_()

    def close(self) -> None:
        # Whoever is inside a call leaves it first: a descriptor that is closed under a
        # waiting thread may be someone else's a moment later.
        self._interrupt.raise_()
        with self._reading, self._writing:
            if self._closed:
                return
            self._closed = True
            for descriptor in self._blocking:
                with contextlib.suppress(OSError):
                    os.set_blocking(descriptor, True)
            self._interrupt.close()
            self._release()

    # What the transports change

    def _write(self, views: list[memoryview]) -> int:
        return os.writev(self._output, views)

    def _at_end(self) -> None:
        """The other end will send nothing more."""

    def _broken(self, cause: str, sent: int) -> ChannelError:
        """The error for a connection that the other end gave up after so many bytes."""
        closed = PeerClosed(f"the other end closed the connection: {cause}", file=self.name)
        closed.sending, closed.sent = True, sent
        return closed

    def _end_output(self) -> None:
        if self._output != self._input:
            self._close_output()

    def _release(self) -> None:
        if self._input >= 0 and self._input != self._output:
            os.close(self._input)
        self._input = -1
        self._close_output()

    def _close_output(self) -> None:
        descriptor, self._output = self._output, -1
        if descriptor >= 0:
            self._blocking = [fd for fd in self._blocking if fd != descriptor]
            os.close(descriptor)

    # Inside

    def _descriptors(self) -> set[int]:
        return {fd for fd in (self._input, self._output) if fd >= 0}

    def _check(self, what: str, possible: bool) -> None:
        self._interrupt.check(self.name)
        if not possible:
            raise ValueError(f"{self.name}: this channel can not be {what}")

    def _await(self, descriptor: int, events: int, what: str) -> None:
        timeout = self.timeout
        ready = self._interrupt.wait(descriptor, events, timeout)
        self._interrupt.check(self.name)
        if not ready:
            raise TimedOut(f"{what} for {timeout:g} s", file=self.name)

    def _write_some(self, views: list[memoryview], sent: int) -> int:
        while True:
            try:
                return self._write(views)
            except BlockingIOError:
                self._await_room(sent)
            except OSError as error:
                raise self._write_failure(error, sent) from error

    def _await_room(self, sent: int) -> None:
        """Wait until more can be sent, after so many bytes."""
        try:
            self._await(self._output, select.POLLOUT, "nothing could be sent")
        except ShutDown as error:
            error.sent = sent
            raise

    def _write_failure(self, error: OSError, sent: int) -> ChannelError:
        if self._interrupt.raised:
            down = ShutDown("the channel was shut down at this end", file=self.name)
            down.sent = sent
            return down
        if error.errno in _GONE:
            return self._broken(describe(error), sent)
        return ChannelError(f"could not write: {describe(error)}", file=self.name)

    def _read_failure(self, error: OSError) -> ChannelError:
        self._interrupt.check(self.name)
        if error.errno in _GONE:
            return PeerClosed(
                f"the other end broke the connection: {describe(error)}", file=self.name
            )
        return ChannelError(f"could not read: {describe(error)}", file=self.name)


def milliseconds(seconds: float) -> int | None:
    """A timeout as ``poll`` wants it: never too short, None for no end."""
    return None if math.isinf(seconds) else max(0, math.ceil(min(seconds, 1e6) * 1000))


def describe(error: OSError) -> str:
    """What an operating system's error says, without its number."""
    return error.strerror or str(error)

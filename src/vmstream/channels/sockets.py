"""Channels over stream sockets: what tcp, unix and vsock have in common."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable

from vmstream.channels.channel import Channel, Listener
from vmstream.channels.descriptor import DescriptorChannel, Interrupt, describe, milliseconds
from vmstream.channels.uri import Address
from vmstream.errors import ChannelError, NobodyCame, TimedOut

__all__ = ["SocketChannel", "SocketListener", "connect_socket", "failure"]

BACKLOG = 256
"""Connections that may wait to be accepted: a main channel and 255 of multifd."""
Target = str | tuple[str | int, ...]
"""What ``socket`` calls an address."""
_RETRY = 0.02
"""Seconds between attempts at a unix socket whose queue of connections is full."""


class SocketChannel(DescriptorChannel):
    """A connected stream socket."""

    def __init__(self, connected: socket.socket, name: str, timeout: float) -> None:
        """Take over the socket."""
        self._socket = connected
        self._gone = threading.Lock()
        descriptor = connected.fileno()
        super().__init__(name, timeout, reading=descriptor, writing=descriptor)
        connected.setblocking(False)

    def shutdown(self) -> None:
        super().shutdown()
        # The lock keeps the socket from being closed, and its number reused, meanwhile.
        with self._gone, contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _write(self, views: list[memoryview]) -> int:
        return self._socket.sendmsg(views, (), socket.MSG_NOSIGNAL)

    def _end_output(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def _release(self) -> None:
        with self._gone:
            self._socket.close()


class SocketListener(Listener):
    """A listening stream socket."""

    def __init__(
        self,
        listening: socket.socket,
        address: Address,
        timeout: float,
        *,
        name_peer: Callable[[object], str] = lambda peer: "",
        prepare: Callable[[socket.socket], None] = lambda accepted: None,
    ) -> None:
        """Take over the socket, which is bound and not listening yet.

        Args:
            name_peer: what to call the peer whose socket address is given.
            prepare: sets the options of an accepted socket.
        """
        listening.setblocking(False)
        listening.listen(BACKLOG)
        self.address = address
        self.timeout = timeout
        self._socket = listening
        self._name_peer = name_peer
        self._prepare = prepare
        self._interrupt = Interrupt()
        self._accepting = threading.Lock()

    def accept(self, timeout: float | None = None) -> Channel:
        limit = self.timeout if timeout is None else timeout
        end = time.monotonic() + limit
        with self._accepting:
            self._interrupt.check(str(self.address))
            while True:
                try:
                    accepted, peer = self._socket.accept()
                except (BlockingIOError, ConnectionAbortedError):
                    self._await_connection(end, limit)
                except OSError as error:
                    raise failure("accept a connection", error, self.address) from error
                else:
                    return self._channel(accepted, peer)

    def shutdown(self) -> None:
        self._interrupt.raise_()

    def close(self) -> None:
        self._interrupt.raise_()
        with self._accepting:
            self._interrupt.close()
            self._socket.close()

    def _await_connection(self, end: float, limit: float) -> None:
        left = max(0.0, end - time.monotonic())
        ready = self._interrupt.wait(self._socket.fileno(), select.POLLIN, left)
        self._interrupt.check(str(self.address))
        if not ready:
            raise NobodyCame(f"no connection arrived for {limit:g} s", file=str(self.address))

    def _channel(self, accepted: socket.socket, peer: object) -> Channel:
        name = f"{self.address}{self._name_peer(peer)}"
        try:
            self._prepare(accepted)
            return SocketChannel(accepted, name, self.timeout)
        except BaseException:
            accepted.close()
            raise


def connect_socket(connecting: socket.socket, target: Target, address: Address, end: float) -> None:
    """Connect a socket until the monotonic time ``end``.

    Raises:
        OSError: the connection was refused, or there is no way.
        TimedOut: it did not come about in time.
    """
    connecting.setblocking(False)
    error = connecting.connect_ex(target)
    while error == errno.EAGAIN and time.monotonic() < end:
        # The listener's queue is full, and a unix socket then has nothing to wait for.
        time.sleep(_RETRY)
        error = connecting.connect_ex(target)
    if error == errno.EINPROGRESS:
        poll = select.poll()
        poll.register(connecting, select.POLLOUT)
        if poll.poll(milliseconds(end - time.monotonic())):
            error = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error in (errno.EAGAIN, errno.EINPROGRESS):
        raise TimedOut("could not connect in time", file=str(address))
    if error:
        raise OSError(error, os.strerror(error))


def failure(what: str, error: OSError, address: Address) -> ChannelError:
    """The error of something that the operating system refused."""
    return ChannelError(f"could not {what}: {describe(error)}", file=str(address))

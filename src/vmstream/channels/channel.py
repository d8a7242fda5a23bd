"""A connection to the other end of a migration, whatever carries it.

:func:`connect` opens one, as a source does; :func:`listen` waits for one, as a
destination does::

    with listen("tcp:127.0.0.1:0") as listener:
        print(listener.address)            # tcp:127.0.0.1:40123
        with listener.accept() as channel:
            first = channel.recv(4)

Every wait ends after ``timeout`` seconds at the latest (``math.inf``: never).
Every failure is a :class:`~vmstream.errors.ChannelError` that names the URI.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from vmstream.channels.uri import (
    Address,
    ExecAddress,
    FdAddress,
    FileAddress,
    InetAddress,
    RdmaAddress,
    UnixAddress,
    VsockAddress,
    parse_address,
)
from vmstream.errors import ChannelError, Unsupported

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from vmstream.channels.tls import Credentials
    from vmstream.stream.parts import Parts

__all__ = ["DEFAULT_TIMEOUT", "Channel", "Listener", "Place", "connect", "listen"]

DEFAULT_TIMEOUT = 30.0
"""Seconds that a wait lasts at most when nothing else is said."""

Place = Address | str | Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""An address, or what :func:`~vmstream.channels.uri.parse_address` makes one of."""


class Channel(ABC):
    """Bytes to and from the other end.

    One thread may receive while another sends. :meth:`shutdown` and
    :meth:`close` may be called from any thread at any time.

    Attributes:
        name: what to call it in messages: the URI, and the peer where one was accepted.
        timeout: seconds that each wait lasts at most; may be changed at any time.
        readable, writable: the ways it goes.
    """

    name: str
    timeout: float
    readable: bool
    writable: bool

    @property
    def bidirectional(self) -> bool:
        """Whether it goes both ways, so that it can carry a return path."""
        return self.readable and self.writable

    @abstractmethod
    def read_into(self, buffer: Buffer) -> int:
        """Receive into ``buffer`` what has arrived, waiting for the first byte.

        Returns:
            the count of bytes, 0 only at the end (or for an empty buffer).

        Raises:
            TimedOut, PeerClosed, ShutDown, ChannelError: as they say.
            ValueError: the channel is not :attr:`readable`.
        """

    def recv(self, size: int) -> bytes:
        """Up to ``size`` bytes, empty only at the end; otherwise like :meth:`read_into`."""
        buffer = bytearray(size)
        return bytes(memoryview(buffer)[: self.read_into(buffer)])

    @abstractmethod
    def send(self, *buffers: Buffer) -> None:
        """Send all bytes of all buffers, in order, without copying them.

        Raises:
            TimedOut, PeerClosed, ShutDown, ChannelError: as they say; how much
                was sent is then unknown.
            ValueError: the channel is not :attr:`writable`.
        """

    def send_parts(self, parts: Parts, start: int, stop: int) -> None:
        """Send bytes ``start`` to ``stop - 1`` of many parts; otherwise like :meth:`send`."""
        self.send(*parts.buffers(start, stop))

    @abstractmethod
    def finish(self) -> None:
        """Say that nothing more will be sent; the other end finds the end. Safe to call twice."""

    @abstractmethod
    def shutdown(self) -> None:
        """Break the connection both ways, at once.

        Whatever waits in another thread, and every later call, raises
        :class:`~vmstream.errors.ShutDown`. :meth:`close` is still needed.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back descriptors and processes. Safe to call twice.

        Raises:
            ChannelError: the command of an ``exec:`` failed, and no earlier call said so.
        """

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
        # Nothing is worth waiting for, and what went wrong first is what the caller must see.
        self.shutdown()
        with contextlib.suppress(ChannelError):
            self.close()


class Listener(ABC):
    """Where channels arrive.

    Attributes:
        address: where, with the port that was really taken.
        timeout: seconds, for :meth:`accept` and for each wait of the channels it gives.
    """

    address: Address
    timeout: float

    @abstractmethod
    def accept(self, timeout: float | None = None) -> Channel:
        """The next channel, with its TLS handshake done where there is one.

        Args:
            timeout: seconds to wait for it instead of :attr:`timeout`.

        Raises:
            NobodyCame: none arrived.
            ShutDown: :meth:`shutdown` or :meth:`close` was called meanwhile.
            ChannelError: it failed while it was set up; the next may succeed.
        """

    @abstractmethod
    def shutdown(self) -> None:
        """Make whatever waits in another thread, and every later accept, raise ShutDown."""

    @abstractmethod
    def close(self) -> None:
        """Stop listening, and remove a unix socket that was made. Safe to call twice.

        Channels that were accepted live on.
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


class OneChannel(Listener):
    """Where only one channel can come from: a descriptor, a command, a file."""

    def __init__(self, address: Address, channel: Channel) -> None:
        """Take over ``channel``, which :meth:`accept` gives."""
        self.address = address
        self.timeout = channel.timeout
        self._channel: Channel | None = channel

    def accept(self, timeout: float | None = None) -> Channel:
        channel, self._channel = self._channel, None
        if channel is None:
            raise ChannelError(
                "this carries one channel; several need tcp:, unix: or vsock:",
                file=str(self.address),
            )
        channel.timeout = self.timeout
        return channel

    def shutdown(self) -> None:
        if (channel := self._channel) is not None:
            channel.shutdown()

    def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            # Nobody wanted it: a command that has not ended yet must not be waited for.
            channel.shutdown()
            channel.close()


def connect(
    place: Place, *, timeout: float = DEFAULT_TIMEOUT, tls: Credentials | None = None
) -> Channel:
    """Open a channel to a destination.

    Args:
        place: a URI, a channel object or an address. ``fd:`` takes the
            descriptor over, ``exec:`` starts the command, ``file:`` makes the
            file and empties it from the offset on.
        timeout: seconds for the connection to stand, and for each of the channel's waits.
        tls: what a TLS session is to be made with, before any byte of the stream.

    Raises:
        BadAddress: ``place`` is no address.
        Unsupported: no channel can be opened there.
        TimedOut, ChannelError: no connection came about; the message has the cause.
    """
    address = _address(place)
    if tls is None:
        return _connect(address, timeout)
    from vmstream.channels.tls import TlsChannel

    context = tls.client_context()
    name = tls.peer_name(address.host if isinstance(address, InetAddress) else "")
    channel = _connect(address, timeout)
    return TlsChannel(channel, context, server_side=False, peer_name=name)


def listen(
    place: Place, *, timeout: float = DEFAULT_TIMEOUT, tls: Credentials | None = None
) -> Listener:
    """Wait for channels from a source.

    Args:
        place: as for :func:`connect`; ``file:`` reads the file.
        timeout: becomes the listener's :attr:`~Listener.timeout`.
        tls: as for :func:`connect`; every channel has its own handshake.

    Raises:
        BadAddress: ``place`` is no address.
        Unsupported: nothing can arrive there.
        ChannelError: the address can not be had (it is in use, it is not ours).
    """
    listener = _listen(_address(place), timeout)
    if tls is None:
        return listener
    from vmstream.channels.tls import TlsListener

    try:
        return TlsListener(listener, tls)
    except BaseException:
        listener.close()
        raise


def _address(place: Place) -> Address:
    if isinstance(place, str | Mapping | Sequence):
        return parse_address(place)
    return place


def _connect(address: Address, timeout: float) -> Channel:
    match address:
        case InetAddress():
            from vmstream.channels.tcp import connect_tcp

            return connect_tcp(address, timeout)
        case UnixAddress():
            from vmstream.channels.unix import connect_unix

            return connect_unix(address, timeout)
        case VsockAddress():
            from vmstream.channels.vsock import connect_vsock

            return connect_vsock(address, timeout)
        case FdAddress():
            from vmstream.channels.fd import open_fd

            return open_fd(address, timeout, writing=True)
        case ExecAddress():
            from vmstream.channels.command import start_command

            return start_command(address, timeout)
        case FileAddress():
            from vmstream.channels.stored import open_file

            return open_file(address, timeout, writing=True)
        case RdmaAddress():
            raise _no_rdma(address)


def _listen(address: Address, timeout: float) -> Listener:
    match address:
        case InetAddress():
            from vmstream.channels.tcp import listen_tcp

            return listen_tcp(address, timeout)
        case UnixAddress():
            from vmstream.channels.unix import listen_unix

            return listen_unix(address, timeout)
        case VsockAddress():
            from vmstream.channels.vsock import listen_vsock

            return listen_vsock(address, timeout)
        case FdAddress():
            from vmstream.channels.fd import open_fd

            return OneChannel(address, open_fd(address, timeout, writing=False))
        case ExecAddress():
            from vmstream.channels.command import start_command

            return OneChannel(address, start_command(address, timeout))
        case FileAddress():
            from vmstream.channels.stored import open_file

            return OneChannel(address, open_file(address, timeout, writing=False))
        case RdmaAddress():
            raise _no_rdma(address)


def _no_rdma(address: RdmaAddress) -> Unsupported:
    return Unsupported(
        "no channel is opened over RDMA: no verbs library is used, and no RDMA hardware",
        file=str(address),
    )

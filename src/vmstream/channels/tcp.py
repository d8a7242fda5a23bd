"""``tcp:HOST:PORT``."""

from __future__ import annotations

import errno
import socket
import time
from typing import Any

import msgspec

from vmstream.channels.channel import Channel, Listener
from vmstream.channels.sockets import (
    SocketChannel,
    SocketListener,
    Target,
    connect_socket,
    failure,
)
from vmstream.channels.uri import InetAddress
from vmstream.errors import ChannelError

__all__ = ["connect_tcp", "listen_tcp"]


def connect_tcp(address: InetAddress, timeout: float) -> Channel:
    """Connect to the first of the host's addresses that answers.

    The name is looked up by the system, as long as that takes.
    """
    end = time.monotonic() + timeout
    last = OSError(errno.ENOENT, "the name has no address")
    for family, target in _resolve(address, passive=False):
        connecting = socket.socket(family, socket.SOCK_STREAM)
        try:
            _prepare(connecting, address)
            connect_socket(connecting, target, address, end)
            return SocketChannel(connecting, str(address), timeout)
        except OSError as error:
            connecting.close()
            last = error
        except BaseException:
            connecting.close()
            raise
    raise failure("connect", last, address) from last


def listen_tcp(address: InetAddress, timeout: float) -> Listener:
    """Listen at the first port, from the one named to ``to``, that is free.

    An empty host is every interface, with IPv6 and IPv4 alike unless one was asked for.
    """
    last = OSError(errno.ENOENT, "the name has no address")
    for port in range(address.port, (address.to or address.port) + 1):
        for family, target in _resolve(address, passive=True):
            try:
                return _listen(address, family, (target[0], port, *target[2:]), timeout)
            except OSError as error:
                last = error
                if error.errno == errno.EADDRINUSE:
                    break
        if last.errno != errno.EADDRINUSE:
            break
    raise failure("listen", last, address) from last


def _listen(address: InetAddress, family: int, target: Target, timeout: float) -> Listener:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A port whose last connections are still in TIME_WAIT is free for a listener.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not _is_any(address))
        listening.bind(target)
        taken = listening.getsockname()[1]
        return SocketListener(
            listening,
            msgspec.structs.replace(address, port=taken, to=None),
            timeout,
            name_peer=_name_peer,
            prepare=lambda accepted: _prepare(accepted, address),
        )
    except BaseException:
        listening.close()
        raise


def _is_any(address: InetAddress) -> bool:
    """Whether every interface is meant, with both protocols."""
    return not address.host and _family(address) == socket.AF_UNSPEC


def _prepare(connection: socket.socket, address: InetAddress) -> None:
    # Small records (a ping, a request for pages) must not wait for more; QEMU does the same.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if address.keep_alive:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _resolve(address: InetAddress, *, passive: bool) -> list[tuple[int, tuple[Any, ...]]]:
    flags = socket.AI_PASSIVE if passive else 0
    kind = socket.SOCK_STREAM
    try:
        found = socket.getaddrinfo(
            address.host or None, address.port, _family(address), kind, flags=flags
        )
    except (OSError, UnicodeError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise ChannelError(f"could not find the host: {cause}", file=str(address)) from error
    targets = [(int(family), target) for family, _, _, _, target in found]
    if passive and _is_any(address):
        # A socket of IPv6 can take IPv4 too, the other way round it can not.
        targets.sort(key=lambda each: each[0] != socket.AF_INET6)
    return targets


def _family(address: InetAddress) -> int:
    """Which protocol may be used, as ``inet_ai_family_from_address`` has it (QEMU 10.0)."""
    if address.ipv4 and address.ipv6:
        return socket.AF_UNSPEC
    if address.ipv6 or address.ipv4 is False:
        return socket.AF_INET6
    if address.ipv4 or address.ipv6 is False:
        return socket.AF_INET
    return socket.AF_UNSPEC


def _name_peer(peer: object) -> str:
    host, port = peer[:2] if isinstance(peer, tuple) else ("?", 0)
    return f" (from [{host}]:{port})" if ":" in str(host) else f" (from {host}:{port})"

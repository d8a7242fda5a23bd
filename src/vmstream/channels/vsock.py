"""``vsock:CID:PORT``: between a guest and its host, where the kernel has it."""

from __future__ import annotations

import socket
import time

from vmstream.channels.channel import Channel, Listener
from vmstream.channels.sockets import SocketChannel, SocketListener, connect_socket, failure
from vmstream.channels.uri import VsockAddress

__all__ = ["connect_vsock", "listen_vsock"]


def connect_vsock(address: VsockAddress, timeout: float) -> Channel:
    """Connect to a port of a guest (context id from 3), the host (2) or this machine (1)."""
    end = time.monotonic() + timeout
    connecting = _socket(address)
    try:
        connect_socket(connecting, (address.cid, address.port), address, end)
        return SocketChannel(connecting, str(address), timeout)
    except OSError as error:
        connecting.close()
        raise failure("connect", error, address) from error
    except BaseException:
        connecting.close()
        raise


def listen_vsock(address: VsockAddress, timeout: float) -> Listener:
    """Listen at a port; port 4294967295 is any that is free."""
    listening = _socket(address)
    try:
        listening.bind((address.cid, address.port))
        cid, port = listening.getsockname()
        return SocketListener(
            listening, VsockAddress(cid, port), timeout, name_peer=lambda peer: f" (from {peer})"
        )
    except OSError as error:
        listening.close()
        raise failure("listen", error, address) from error
    except BaseException:
        listening.close()
        raise


def _socket(address: VsockAddress) -> socket.socket:
    try:
        return socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    except OSError as error:
        raise failure("make a vsock socket", error, address) from error

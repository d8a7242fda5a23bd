"""``unix:PATH``."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import time
from pathlib import Path

from vmstream.channels.channel import Channel, Listener
from vmstream.channels.sockets import SocketChannel, SocketListener, connect_socket, failure
from vmstream.channels.uri import UnixAddress

__all__ = ["connect_unix", "listen_unix"]


def connect_unix(address: UnixAddress, timeout: float) -> Channel:
    """Connect to the socket at a path."""
    end = time.monotonic() + timeout
    connecting = _socket()
    try:
        connect_socket(connecting, address.path, address, end)
        return SocketChannel(connecting, str(address), timeout)
    except OSError as error:
        connecting.close()
        raise failure("connect", error, address) from error
    except BaseException:
        connecting.close()
        raise


def listen_unix(address: UnixAddress, timeout: float) -> Listener:
    """Make a socket at a path; one that nobody listens at any more is replaced."""
    listening = _socket()
    try:
        _bind(listening, address.path)
        return _UnixListener(listening, address, timeout)
    except OSError as error:
        listening.close()
        raise failure("listen", error, address) from error
    except BaseException:
        listening.close()
        raise


class _UnixListener(SocketListener):
    """Removes its socket in the end, unless another has taken its place."""

    def __init__(self, listening: socket.socket, address: UnixAddress, timeout: float) -> None:
        # The path as it is now: the working directory may be another one by then.
        self._path = Path(address.path).absolute()
        self._made = _identity(self._path)
        super().__init__(listening, address, timeout)

    def close(self) -> None:
        super().close()
        made, self._made = self._made, None
        if made is not None and made == _identity(self._path):
            with contextlib.suppress(OSError):
                self._path.unlink()


def _socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)


def _bind(listening: socket.socket, path: str) -> None:
    try:
        listening.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not _is_abandoned(path):
            raise
        os.unlink(path)  # noqa: PTH108 - of a string, as bind takes it
        listening.bind(path)


def _is_abandoned(path: str) -> bool:
    """Whether a socket stands there that nobody listens at."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
    except OSError:
        return False
    # Of the wrong type, so that a listener who is there never sees a connection.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        return asking.connect_ex(path) == errno.ECONNREFUSED


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino

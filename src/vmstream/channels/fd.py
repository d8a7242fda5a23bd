"""``fd:NUMBER``, and Python's own binary files and pipes."""

from __future__ import annotations

import fcntl
import io
import os
import socket
import stat
from typing import BinaryIO

from vmstream.channels.channel import DEFAULT_TIMEOUT, Channel
from vmstream.channels.descriptor import DescriptorChannel
from vmstream.channels.sockets import SocketChannel, failure
from vmstream.channels.uri import FdAddress
from vmstream.errors import ChannelError

__all__ = ["channel_of", "open_fd"]

STANDARD = 3
"""Standard input, output and error come before; they are used but never closed."""


def open_fd(address: FdAddress, timeout: float, *, writing: bool) -> Channel:
    """Take over a descriptor: a stream socket goes both ways, a pipe or file one.

    Raises:
        ChannelError: there is no such descriptor, or it does not go the way asked for.
    """
    try:
        if address.number < STANDARD:
            return _open_copy(address.number, str(address), timeout, writing=writing)
        os.set_inheritable(address.number, False)
        return _open(address.number, str(address), timeout, writing=writing)
    except OSError as error:
        raise failure("use the descriptor", error, address) from error


def channel_of(file: BinaryIO, *, writing: bool, timeout: float = DEFAULT_TIMEOUT) -> Channel:
    """A channel over an open binary file or pipe of Python's, which stays open.

    A file is read or written from where it stands. What a buffered pipe has
    read ahead is not seen, so nothing may have been read from one.

    Raises:
        ChannelError: the file does not go the way asked for.
        TypeError: it is no file of the operating system (see MemoryChannel for memory).
    """
    raw = getattr(file, "raw", file)
    if not isinstance(raw, io.FileIO):
        raise TypeError(f"expected a binary file with a descriptor, not {type(file).__name__}")
    if file.writable():
        file.flush()
    if file.seekable():
        os.lseek(raw.fileno(), file.tell(), os.SEEK_SET)
    name = file.name if isinstance(file.name, str) else f"fd:{file.name}"
    return _open_copy(raw.fileno(), name, timeout, writing=writing)


def _open_copy(descriptor: int, name: str, timeout: float, *, writing: bool) -> Channel:
    copy = os.dup(descriptor)
    try:
        return _open(copy, name, timeout, writing=writing)
    except BaseException:
        os.close(copy)
        raise


def _open(descriptor: int, name: str, timeout: float, *, writing: bool) -> Channel:
    """Take over a descriptor, which stays open where this fails."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        return _open_socket(descriptor, name, timeout)
    access = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
    wrong = os.O_RDONLY if writing else os.O_WRONLY
    if access == wrong or stat.S_ISDIR(mode):
        need = "written" if writing else "read"
        raise ChannelError(f"the descriptor is not open to be {need}", file=name)
    if writing:
        return DescriptorChannel(name, timeout, reading=None, writing=descriptor)
    return DescriptorChannel(name, timeout, reading=descriptor, writing=None)


def _open_socket(descriptor: int, name: str, timeout: float) -> Channel:
    connected = socket.socket(fileno=descriptor)
    kind = connected.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
    listening = connected.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if kind != socket.SOCK_STREAM or listening:
        connected.detach()
        raise ChannelError("expected a connected stream socket", file=name)
    return SocketChannel(connected, name, timeout)

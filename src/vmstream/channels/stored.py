"""``file:PATH[,offset=SIZE]``: a stream that is kept instead of sent (QEMU 8.2)."""

from __future__ import annotations

import os
import stat

from vmstream.channels.channel import Channel
from vmstream.channels.descriptor import DescriptorChannel
from vmstream.channels.sockets import failure
from vmstream.channels.uri import FileAddress
from vmstream.errors import ChannelError

__all__ = ["open_file"]

PERMISSIONS = 0o600
"""Guest memory is its owner's alone; QEMU makes such files the same way."""


def open_file(address: FileAddress, timeout: float, *, writing: bool) -> Channel:
    """Open a file at its offset; one that is written ends there and is made where it is missing.

    What stands before the offset is someone else's (libvirt keeps its header
    there) and is left as it is.

    Raises:
        ChannelError: it can not be opened, or is no file or device.
    """
    # Non-blocking, or a pipe that nobody else has open would hold us up for ever.
    flags = os.O_CLOEXEC | os.O_NONBLOCK | (os.O_WRONLY | os.O_CREAT if writing else os.O_RDONLY)
    try:
        descriptor = os.open(address.path, flags, PERMISSIONS)
    except OSError as error:
        raise failure("open the file", error, address) from error
    try:
        _prepare(descriptor, address, writing=writing)
        reading, output = (None, descriptor) if writing else (descriptor, None)
        return DescriptorChannel(str(address), timeout, reading=reading, writing=output)
    except OSError as error:
        os.close(descriptor)
        raise failure("prepare the file", error, address) from error
    except BaseException:
        os.close(descriptor)
        raise


def _prepare(descriptor: int, address: FileAddress, *, writing: bool) -> None:
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode) or stat.S_ISCHR(mode)):
        raise ChannelError(
            "expected a file or a device; fd: and exec: take pipes", file=str(address)
        )
    if writing and stat.S_ISREG(mode):
        os.ftruncate(descriptor, address.offset)
    if address.offset:
        os.lseek(descriptor, address.offset, os.SEEK_SET)

"""From what a person names to the stream in it."""

from __future__ import annotations

import io
import os
import re
import stat
import sys
from typing import Any, BinaryIO, cast

from vmstream.errors import LimitExceeded, SourceError
from vmstream.sources.files import DeviceFile, MappedFile, MemorySource, ObjectFile
from vmstream.sources.sequential import ObjectPipe, Pipe
from vmstream.sources.slice import Slice
from vmstream.sources.source import Closeable, Limits, Source

__all__ = ["Target", "open_source"]

Target = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""A path, a URL, ``-`` for standard input, the bytes themselves, or a binary file object."""

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(://|::)")
"""How a URL that fsspec opens begins: ``s3://``, ``zip://``, ``simplecache::``."""
PASSWORD = re.compile(r"(?<=://)([^/@:]*):[^/@]*@")
HEAD = 16
"""Bytes that tell every container from the others: libvirt's magic is the longest."""
DEFAULT_LIMITS = Limits()


def open_source(
    target: Target,
    *,
    snapshot: str | None = None,
    offset: int = 0,
    limits: Limits = DEFAULT_LIMITS,
) -> Source:
    """Find the stream in ``target``, through whatever containers stand around it.

    Args:
        target: a path, ``-`` for standard input, a URL that fsspec opens
            (``s3://``, ``http://``, ``memory://``, ``zip://A::B``), the bytes, or
            a binary file object, which is read from where it stands and stays
            open. A :class:`os.PathLike` is always a path.
        snapshot: tag or id of the qcow2 internal snapshot; without it the image
            must have just one with VM state.
        offset: where the stream, or its container, begins (``file:PATH,offset=N``).
        limits: how far the containers' own claims are believed.

    Containers are told by their first bytes, not by names. Bytes in no known
    container are a plain source: whether they are a stream is the decoder's
    question.

    Raises:
        OSError: the path can not be opened.
        SourceError: the URL can not be opened, or a container is damaged.
        Truncated, Unsupported, LimitExceeded: as the containers say.
        TypeError: ``target`` is none of these.
    """
    if offset < 0:
        raise ValueError("offset must not be negative")
    source = _open_target(target)
    try:
        if offset:
            source = Slice(source, offset)
        return _unwrap(source, snapshot, limits)
    except BaseException:
        source.close()
        raise


def _unwrap(source: Source, snapshot: str | None, limits: Limits) -> Source:
    depth = 0
    while (inner := _open_container(source, snapshot, limits)) is not None:
        source = inner
        depth += 1
        if depth > limits.containers:
            raise LimitExceeded(
                f"more than {limits.containers} containers, one in the other",
                file=source.name,
                expected=limits.containers,
            )
    if snapshot is not None and "qcow2" not in source.container:
        raise SourceError(
            f"there is no snapshot {snapshot!r}: this is no qcow2 image", file=source.name
        )
    return source


def _open_container(source: Source, snapshot: str | None, limits: Limits) -> Source | None:
    """The source inside, or None when the bytes are in no container that is known."""
    head = source.peek(HEAD)
    # A plain stream, the usual case, needs no container's module.
    if not head or head.startswith(b"QEVM"):
        return None
    from vmstream.sources.compressed import Decompressed, codec_of
    from vmstream.sources.libvirt import is_libvirt, open_libvirt
    from vmstream.sources.qcow2 import is_qcow2, open_snapshot

    if is_libvirt(head):
        return open_libvirt(source, limits)
    if is_qcow2(head):
        return open_snapshot(source, snapshot, limits)
    codec = codec_of(head)
    return None if codec is None else Decompressed(source, codec, limits)


def _open_target(target: Any) -> Source:
    if isinstance(target, bytes | bytearray | memoryview):
        return MemorySource(target)
    if isinstance(target, str):
        if target == "-":
            return _open_standard_input()
        if URL.match(target):
            return _open_url(target)
    if isinstance(target, str | os.PathLike):
        path = os.fspath(target)
        return _open_descriptor(os.open(path, os.O_RDONLY | os.O_CLOEXEC), os.fsdecode(path))
    if hasattr(target, "read"):
        return _open_object(target)
    raise TypeError(f"a stream can not be read from {type(target).__name__}")


def _open_standard_input() -> Source:
    if sys.stdin is None or sys.stdin.closed:
        raise SourceError("standard input is closed", file="<stdin>")
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        # Replaced by an object without a descriptor.
        return _open_object(sys.stdin.buffer, name="<stdin>")
    return _open_descriptor(os.dup(descriptor), "<stdin>", inherited=True)


def _open_descriptor(descriptor: int, name: str, *, inherited: bool = False) -> Source:
    """Take over a descriptor; an inherited one is read from where it stands."""
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(21, os.strerror(21), name)
        source = _source_of(descriptor, status, name)
        start = os.lseek(descriptor, 0, os.SEEK_CUR) if inherited and source.seekable else 0
    except BaseException:
        os.close(descriptor)
        raise
    return Slice(source, start) if start else source


def _source_of(descriptor: int, status: os.stat_result, name: str) -> Source:
    if stat.S_ISBLK(status.st_mode):
        here = os.lseek(descriptor, 0, os.SEEK_CUR)
        size = os.lseek(descriptor, 0, os.SEEK_END)
        os.lseek(descriptor, here, os.SEEK_SET)
        return DeviceFile(descriptor, size, name)
    # Files of /proc and /sys claim no size whatever they hold.
    if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
        return Pipe(descriptor, name)
    try:
        return MappedFile(descriptor, status.st_size, name)
    except OSError:
        # Some network and user-space file systems have no maps.
        return DeviceFile(descriptor, status.st_size, name)


def _open_object(stream: Any, name: str | None = None, owner: Closeable | None = None) -> Source:
    if isinstance(stream, io.TextIOBase):
        raise TypeError("a stream is bytes: open the file in binary mode")
    if name is None:
        given = getattr(stream, "name", None)
        name = given if isinstance(given, str) else f"<{type(stream).__name__}>"
    binary = cast(BinaryIO, stream)
    if _can_seek(stream):
        return ObjectFile(binary, name, owner)
    return ObjectPipe(binary, name, owner)


def _can_seek(stream: Any) -> bool:
    try:
        return bool(stream.seekable())
    except AttributeError:
        return hasattr(stream, "seek") and hasattr(stream, "tell")


def _open_url(url: str) -> Source:
    import fsspec

    name = PASSWORD.sub(r"\1:***@", url)
    try:
        opened = fsspec.open(url, "rb")
        stream = opened.open()
    except OSError:
        raise
    except Exception as error:
        # An unknown protocol, a store's client that is not installed, or what that raises.
        raise SourceError(f"the URL could not be opened: {error}", file=name) from error
    # Not the stream alone: an archive around it is closed when ``opened`` goes.
    return _open_object(stream, name, owner=opened)

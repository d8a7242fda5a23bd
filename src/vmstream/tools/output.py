"""Results that appear only when they are complete, with holes where they are zero.

A file is written beside its place under another name, flushed to the disk and
renamed; a directory likewise. Whatever goes wrong before (a full disk, an
interrupt, a damaged stream), nothing stands at the place that looks whole.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vmstream._kernels import zero_pages
from vmstream.channels.writeback import Writeback

__all__ = ["Buffer", "SparseFile", "atomic_directory", "atomic_file", "data_runs"]

HOLE = 4096
"""Zeros that are left out: in whole blocks of so many bytes of the file."""
_PARTS = 1024
"""Buffers that one call takes (``IOV_MAX``)."""
_PIECE = 1 << 20

Buffer = bytes | bytearray | memoryview


class SparseFile:
    """A file written in any order, in which zeros take no room.

    Attributes:
        size: one more than the highest byte so far; the file's size at the end.
        data: bytes written, without the zeros left out.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0
        self._writeback = Writeback(descriptor)
        self.size = 0
        self.data = 0

    def write(self, data: Buffer) -> None:
        """Put bytes behind those of the last :meth:`write` or :meth:`skip`."""
        self.write_at(self._position, data)
        self._position += memoryview(data).nbytes

    def skip(self, length: int) -> None:
        """Put ``length`` zeros there instead."""
        self._position += length
        self.size = max(self.size, self._position)

    def write_at(self, offset: int, data: Buffer) -> None:
        """Put bytes at ``offset``, where nothing but zeros was put before.

        Raises:
            OSError: the disk is full, or another failure of writing.
        """
        view = memoryview(data).cast("B")
        self.size = max(self.size, offset + len(view))
        head = min(-offset % HOLE, len(view))
        self._put(offset, view[:head])
        body, offset = view[head:], offset + head
        for start, end in data_runs(body):
            part = body[start:end]
            written = os.pwrite(self._descriptor, part, offset + start)
            self.data += written
            self._writeback.wrote(offset + start, written)
            if written < end - start:
                self._put(offset + start + written, part[written:])

    def write_all_at(self, offset: int, parts: Sequence[Buffer]) -> int:
        """Put buffers one behind the other at ``offset``, as they are; returns where they end.

        Raises:
            OSError: as :meth:`write_at`.
        """
        start = offset
        for first in range(0, len(parts), _PARTS):
            some = parts[first : first + _PARTS]
            size = sum(map(len, some))
            written = os.pwritev(self._descriptor, some, offset)
            if written < size:
                self._put(offset + written, memoryview(b"".join(some))[written:])
            offset += size
        self.size = max(self.size, offset)
        self._writeback.wrote(start, offset - start)
        return offset

    def pieces(self) -> Iterator[bytes]:
        """What was written, from its start."""
        for at in range(0, self.size, _PIECE):
            yield os.pread(self._descriptor, min(_PIECE, self.size - at), at)

    @property
    def allocated(self) -> int:
        """Bytes that the file takes on the disk."""
        return os.fstat(self._descriptor).st_blocks * 512

    @property
    def path(self) -> str:
        """A name by which this process can open the file before it stands in its place."""
        return f"/proc/self/fd/{self._descriptor}"

    def extend(self, size: int) -> None:
        """Make the file at least ``size`` bytes long, with zeros."""
        self.size = max(self.size, size)

    def finish(self) -> None:
        """Give the file its size and have it on the disk."""
        os.ftruncate(self._descriptor, self.size)
        os.fsync(self._descriptor)

    def _put(self, offset: int, view: memoryview) -> None:
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            self.data += written
            view, offset = view[written:], offset + written


def data_runs(data: Buffer) -> Iterable[tuple[int, int]]:
    """Runs of blocks of 4 KiB that are not all zero, as (start, end), in bytes.

    The last block may be short.
    """
    size = memoryview(data).nbytes
    zero = np.ones(-(-size // HOLE) + 2, np.uint8)
    zero_pages(data, HOLE, zero[1:-1])
    edges = np.minimum(np.flatnonzero(np.diff(zero)) * HOLE, size).tolist()
    return zip(edges[::2], edges[1::2], strict=True)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[SparseFile]:
    """A file that takes its place when the block ends well; one that is there is replaced.

    Raises:
        IsADirectoryError: there is a directory.
        OSError: it can not be written; the place is as it was.
    """
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    beside = _beside(target)
    descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            file = SparseFile(descriptor)
            yield file
            file.finish()
        finally:
            os.close(descriptor)
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _flush_directory(target.parent)


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """A directory to fill, which takes its place when the block ends well.

    Raises:
        FileExistsError: something other than an empty directory is there.
        OSError: it can not be written; the place is as it was.
    """
    target = Path(path)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise FileExistsError(errno.EEXIST, "there is something already", str(target))
    beside = _beside(target)
    beside.mkdir()
    try:
        yield beside
        for folder, _, _ in os.walk(beside):
            _flush_directory(Path(folder))
        beside.rename(target)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    _flush_directory(target.parent)


def _beside(target: Path) -> Path:
    """A name that nothing has, in the same directory: renaming stays within one file system."""
    return target.with_name(f".{target.name[:200]}.{secrets.token_hex(6)}.partial")


def _flush_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

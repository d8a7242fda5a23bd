"""Sources that can be read at any place: a mapped file, a device, memory, a seekable object."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator
from typing import Any, BinaryIO

from vmstream.errors import SourceError
from vmstream.sources.source import MIB, Closeable, Source

__all__ = ["DeviceFile", "MappedFile", "MemorySource", "ObjectFile"]

WINDOW = 32 * MIB
"""Bytes of a mapped file given at a time, and so the most of it that is resident at once."""
VIEW = 4 * MIB
VIEWED = 8
"""Windows of this size that are resident for :meth:`MappedFile.view_at`."""
READ_SIZE = MIB
"""Bytes asked of a device or a file object at a time."""
MADV_POPULATE_READ = getattr(mmap, "MADV_POPULATE_READ", 22)
"""Linux 5.14: read pages in now, and fail where touching them would be a SIGBUS."""
LOST_PAGES = (errno.EFAULT, errno.EIO, getattr(errno, "EHWPOISON", errno.EIO))
"""How MADV_POPULATE_READ fails for pages that can not be read at all."""


class MemorySource(Source):
    """A stream that is in memory already."""

    seekable = True

    def __init__(self, data: bytes | bytearray | memoryview, name: str = "<bytes>") -> None:
        self.name = name
        self.details = {}
        self._view = memoryview(data).cast("B")
        self.size = len(self._view)

    def pieces(self, start: int = 0) -> Iterator[memoryview]:
        if start < len(self._view):
            yield self._view[start:]

    def read_at(self, offset: int, length: int) -> memoryview:
        return self._view[offset : offset + length]

    def view_at(self, offset: int, length: int) -> memoryview:
        return self._view[offset : offset + length]

    def close(self) -> None:
        """Nothing is held but the caller's buffer."""


class _Positioned(Source):
    """A source of known size that is read by position."""

    seekable = True
    size: int

    @abstractmethod
    def _read_some(self, offset: int, length: int) -> bytes:
        """Between 1 and ``length`` bytes at ``offset``; none only past the end."""

    def pieces(self, start: int = 0) -> Iterator[memoryview]:
        while start < self.size:
            piece = self.read_at(start, READ_SIZE)
            yield memoryview(piece)
            start += len(piece)

    def read_at(self, offset: int, length: int) -> bytes:
        end = min(offset + length, self.size)
        parts = []
        while offset < end:
            part = self._read_some(offset, end - offset)
            if not part:
                raise self._shrunk(offset)
            parts.append(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _shrunk(self, offset: int) -> SourceError:
        return SourceError(
            f"the file became shorter while it was read: it had {self.size} bytes",
            offset=offset,
            file=self.name,
            expected=self.size,
            found=offset,
        )


class DeviceFile(_Positioned):
    """A descriptor read by position: a block device, or a file that can not be mapped."""

    def __init__(self, descriptor: int, size: int, name: str) -> None:
        """Take over ``descriptor``, which holds ``size`` bytes."""
        self.name = name
        self.size = size
        self.details = {}
        self._descriptor = descriptor

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def read_into(self, offset: int, room: memoryview) -> int:
        done = 0
        while done < len(room) and offset + done < self.size:
            try:
                count = os.preadv(self._descriptor, [room[done:]], offset + done)
            except OSError as error:
                raise SourceError(
                    f"could not read: {error.strerror}", offset=offset + done, file=self.name
                ) from error
            if not count:
                raise self._shrunk(offset + done)
            done += count
        return done

    def _read_some(self, offset: int, length: int) -> bytes:
        try:
            return os.pread(self._descriptor, length, offset)
        except OSError as error:
            raise SourceError(
                f"could not read: {error.strerror}", offset=offset, file=self.name
            ) from error


class MappedFile(DeviceFile):
    """A regular file: walked through a map, read at random by position.

    A walk costs no copy and holds at most one window resident, however large
    the file: the pages behind it are given back. ``read_at`` copies just what
    was asked, so scattered reads leave nothing mapped either.

    Touching a mapped page that the file no longer has (it was truncated, or a
    network file system lost it) is a SIGBUS, which nothing can catch. So the
    file's size is looked at, and the pages are read in by a call that can fail
    (MADV_POPULATE_READ, Linux 5.14), before a window is given. What stays is a
    file that is truncated while its reader stands in the window.
    """

    def __init__(self, descriptor: int, size: int, name: str) -> None:
        self._map = mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
        self._viewed: deque[int] = deque(maxlen=VIEWED)
        super().__init__(descriptor, size, name)

    def pieces(self, start: int = 0) -> Iterator[memoryview]:
        view = memoryview(self._map)
        while start < self.size:
            window = start // WINDOW * WINDOW
            end = min(window + WINDOW, self.size)
            present = min(end, os.fstat(self._descriptor).st_size)
            if start >= present:
                raise self._shrunk(present)
            self._populate(start, present)
            try:
                yield view[start:present]
            finally:
                self._map.madvise(mmap.MADV_DONTNEED, window, end - window)
            start = present

    def view_at(self, offset: int, length: int) -> memoryview | None:
        end = offset + length
        if end > os.fstat(self._descriptor).st_size:
            raise self._shrunk(os.fstat(self._descriptor).st_size)
        for window in range(offset // VIEW * VIEW, end, VIEW):
            if window not in self._viewed:
                self._view(window)
        return memoryview(self._map)[offset:end]

    def _view(self, window: int) -> None:
        """Map a window's pages, and give those of the one viewed longest ago back."""
        if len(self._viewed) == VIEWED:
            old = self._viewed[0]
            self._map.madvise(mmap.MADV_DONTNEED, old, min(VIEW, self.size - old))
        self._viewed.append(window)
        self._populate(window, min(window + VIEW, self.size))

    def close(self) -> None:
        super().close()
        # While someone still looks at a piece, the map stays until the last view goes.
        with contextlib.suppress(BufferError):
            self._map.close()

    def _populate(self, start: int, end: int) -> None:
        page = start // mmap.PAGESIZE * mmap.PAGESIZE
        try:
            self._map.madvise(MADV_POPULATE_READ, page, end - page)
        except OSError as error:
            if error.errno not in LOST_PAGES:
                return  # an older kernel: the pages come when they are touched
            raise SourceError(
                f"could not read the {end - page} bytes from here on", offset=page, file=self.name
            ) from error


class ObjectFile(_Positioned):
    """A file object that can seek; read from where it stands when it is given."""

    def __init__(self, stream: BinaryIO, name: str, owner: Closeable | None) -> None:
        """Read ``stream``; close ``owner`` at the end, unless the caller keeps it."""
        self.name = name
        self.details = {}
        self._stream = stream
        self._owner = owner
        self.origin = self._call(stream.tell)
        self.size = max(self._call(stream.seek, 0, os.SEEK_END) - self.origin, 0)

    def close(self) -> None:
        if self._owner is not None:
            self._owner.close()
            self._owner = None

    def _read_some(self, offset: int, length: int) -> bytes:
        self._call(self._stream.seek, self.origin + offset)
        data: bytes = self._call(self._stream.read, length)
        return data

    def _call(self, method: Any, *arguments: int) -> Any:
        # A store's client raises what it likes (botocore, aiohttp, zipfile, ...).
        try:
            return method(*arguments)
        except Exception as error:
            raise SourceError(f"could not read: {error}", file=self.name) from error

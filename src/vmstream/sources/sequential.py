"""Sources that can only be read in order: pipes, and what comes out of a decompressor."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator
from io import FileIO
from typing import BinaryIO

from vmstream.errors import SourceError, StreamError
from vmstream.sources.source import MIB, Closeable, Source

__all__ = ["ObjectPipe", "Pipe", "Sequential"]

READ_SIZE = MIB
"""Bytes asked of a pipe at a time, and the size it is widened to where the system lets us."""


class Sequential(Source):
    """Bytes that arrive in order; kept in an unnamed temporary file when asked to.

    Subclasses say how a pass over the bytes begins. Memory holds no more than
    the piece at hand and what :meth:`peek` looked at.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.details = {}
        self._ahead: list[bytes] = []
        self._ahead_error: StreamError | None = None
        self._first_pass: Iterator[memoryview] | None = None
        self._walked = False
        self._kept: FileIO | None = None
        self._kept_size = 0
        self._kept_pass: Iterator[memoryview] = iter(())

    @abstractmethod
    def _begin(self) -> Iterator[memoryview]:
        """A new pass over the bytes, from the first one."""

    def pieces(self, start: int = 0) -> Iterator[memoryview]:
        if self._kept is not None:
            yield from self._kept_pieces(start)
            return
        position = 0
        for piece in self._pass():
            if position + len(piece) > start:
                yield piece[max(start - position, 0) :]
            position += len(piece)
        self.size = position

    def read_at(self, offset: int, length: int) -> bytes:
        self.keep()
        self.fill(offset + length)
        wanted = min(length, self._kept_size - offset)
        if wanted > 0:
            return self._kept_at(offset, wanted)
        if self.damage is not None and length > 0:
            raise self.damage
        return b""

    def peek(self, length: int) -> bytes:
        if self._kept is not None:
            self.fill(length)
            return self._kept_at(0, min(length, self._kept_size))
        if self._walked:
            raise ValueError(f"{self.name}: the bytes to look at have gone by")
        self._first_pass = self._first_pass or self._begin()
        have = sum(map(len, self._ahead))
        while have < length and self._ahead_error is None:
            try:
                piece = next(self._first_pass, None)
            except StreamError as error:
                self._ahead_error = error
                break
            if piece is None:
                break
            self._ahead.append(bytes(piece))
            have += len(piece)
        return b"".join(self._ahead)[:length]

    def keep(self) -> None:
        if self._kept is not None:
            return
        self._kept_pass = self._pass()
        self._kept = self._temporary_file()
        self.rewindable = True

    def fill(self, until: int | None = None) -> None:
        """Read on into the kept copy until it has ``until`` bytes, or to the end."""
        while (until is None or self._kept_size < until) and self._advance() is not None:
            pass

    def close(self) -> None:
        self._walked = True
        # A pass that stands still holds on to the piece it read last.
        self._first_pass, self._kept_pass = None, iter(())
        self._ahead = []
        if self._kept is not None:
            self._kept.close()

    def _pass(self) -> Iterator[memoryview]:
        if self._walked and not self.rewindable:
            raise ValueError(f"{self.name}: a pipe can be walked only once unless it is kept")
        if self._walked:
            return self._begin()
        self._walked = True
        return self._peeked_pass()

    def _peeked_pass(self) -> Iterator[memoryview]:
        ahead, self._ahead = self._ahead, []
        for piece in ahead:
            yield memoryview(piece)
        if self._ahead_error is not None:
            raise self._ahead_error
        yield from self._first_pass or self._begin()

    def _advance(self) -> memoryview | None:
        """The next piece of the kept pass, once it is in the kept copy; None at the end."""
        try:
            piece = next(self._kept_pass, None)
        except StreamError as error:
            self.damage = error
            piece = None
        if piece is None:
            self._kept_pass = iter(())
            self.size = self._kept_size
            self.seekable = True
            return None
        self._store(piece)
        return piece

    def _temporary_file(self) -> FileIO:
        # Imported here: it pulls in much that a plain file never needs.
        import tempfile

        try:
            return tempfile.TemporaryFile(prefix="vmstream-", buffering=0)
        except OSError as error:
            raise self._not_kept(error) from error

    def _not_kept(self, error: OSError) -> SourceError:
        return SourceError(
            f"could not keep a copy in a temporary file: {error.strerror}", file=self.name
        )

    def _store(self, piece: memoryview) -> None:
        assert self._kept is not None
        try:
            for start in range(0, len(piece), READ_SIZE):
                part = piece[start : start + READ_SIZE]
                written = 0
                while written < len(part):
                    here = self._kept_size
                    done = os.pwrite(self._kept.fileno(), part[written:], here)
                    written += done
                    self._kept_size += done
        except OSError as error:
            raise self._not_kept(error) from error

    def _kept_pieces(self, start: int) -> Iterator[memoryview]:
        while True:
            while start >= self._kept_size:
                if self._advance() is not None:
                    continue
                if self.damage is not None:
                    raise self.damage
                return
            piece = self._kept_at(start, min(READ_SIZE, self._kept_size - start))
            yield memoryview(piece)
            start += len(piece)

    def _kept_at(self, offset: int, length: int) -> bytes:
        assert self._kept is not None
        data = os.pread(self._kept.fileno(), length, offset)
        while len(data) < length:
            more = os.pread(self._kept.fileno(), length - len(data), offset + len(data))
            if not more:
                raise SourceError("the kept copy became shorter", offset=offset, file=self.name)
            data += more
        return data


class Pipe(Sequential):
    """A descriptor that can not seek: a pipe, a socket, a terminal, a tape."""

    rewindable = False

    def __init__(self, descriptor: int, name: str) -> None:
        """Take over ``descriptor``."""
        super().__init__(name)
        self._descriptor = descriptor
        _widen(descriptor)

    def close(self) -> None:
        super().close()
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _begin(self) -> Iterator[memoryview]:
        position = 0
        while data := self._read(position):
            yield memoryview(data)
            position += len(data)

    def _read(self, position: int) -> bytes:
        while True:
            try:
                return os.read(self._descriptor, READ_SIZE)
            except BlockingIOError:
                import select

                select.select([self._descriptor], [], [])
            except OSError as error:
                raise SourceError(
                    f"could not read: {error.strerror}", offset=position, file=self.name
                ) from error


class ObjectPipe(Sequential):
    """A file object that can not seek."""

    rewindable = False

    def __init__(self, stream: BinaryIO, name: str, owner: Closeable | None) -> None:
        """Read ``stream``; close ``owner`` at the end, unless the caller keeps it."""
        super().__init__(name)
        self._stream = stream
        self._owner = owner

    def close(self) -> None:
        super().close()
        if self._owner is not None:
            self._owner.close()
            self._owner = None

    def _begin(self) -> Iterator[memoryview]:
        # read1 gives what has arrived; read would wait for the whole megabyte.
        read = getattr(self._stream, "read1", self._stream.read)
        position = 0
        while True:
            try:
                data = read(READ_SIZE)
            except Exception as error:
                raise SourceError(
                    f"could not read: {error}", offset=position, file=self.name
                ) from error
            if data is None:
                raise SourceError(
                    "the file object does not wait for data (it is non-blocking)",
                    offset=position,
                    file=self.name,
                )
            if not data:
                return
            yield memoryview(data)
            position += len(data)


def _widen(descriptor: int) -> None:
    """Let a Linux pipe hold a megabyte, so that one read brings more than 64 KiB."""
    import fcntl

    command = getattr(fcntl, "F_SETPIPE_SZ", None)
    if command is None:
        return
    try:
        fcntl.fcntl(descriptor, command, READ_SIZE)
    except OSError:
        return  # not a pipe, or the user's pipe budget is spent: it works as it is

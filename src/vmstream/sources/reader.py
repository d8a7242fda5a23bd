"""Reading a source's pieces in amounts that the reader chooses."""

from __future__ import annotations

from collections.abc import Iterator

from vmstream.errors import StreamError

__all__ = ["Reader"]


class Reader:
    """A position in a walk over pieces.

    An error of the walk is held back until everything before it has been read,
    so that nothing that arrived is lost; it then stands in :attr:`error`.
    """

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self.position = 0
        """Offset of the next byte."""
        self.error: StreamError | None = None
        """What ended the walk, if it was not the end of the bytes."""
        self._pieces = pieces
        self._waiting: list[memoryview] = []
        """Pieces not read yet, the next one last."""

    def some(self, most: int) -> memoryview:
        """Between 1 and ``most`` bytes; none only at the end."""
        piece = self._take()
        if len(piece) > most:
            self._waiting.append(piece[most:])
            piece = piece[:most]
        self.position += len(piece)
        return piece

    def read(self, length: int) -> bytes:
        """The next ``length`` bytes, fewer only at the end."""
        data = bytearray()
        while len(data) < length and len(piece := self.some(length - len(data))):
            data += piece
        return bytes(data)

    def peek(self, length: int) -> bytes:
        """The next ``length`` bytes, fewer only at the end; the position stays."""
        data = self.read(length)
        self.unread(data)
        return data

    def unread(self, data: bytes) -> None:
        """Put back the bytes that were read last."""
        if data:
            self._waiting.append(memoryview(data))
            self.position -= len(data)

    def skip_zeros(self) -> None:
        """Pass over zero bytes, as many as there are."""
        while len(data := self.some(1 << 16)):
            content = bytes(data).lstrip(b"\0")
            if content:
                self.unread(content)
                return

    def _take(self) -> memoryview:
        if self._waiting:
            return self._waiting.pop()
        try:
            for piece in self._pieces:
                if len(piece):
                    return piece
        except StreamError as error:
            self.error = error
        self._pieces = iter(())
        return memoryview(b"")

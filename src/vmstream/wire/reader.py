"""Bytes that arrive in pieces, read as if they stood in one buffer.

A record's ``read_...`` function is a generator: where bytes are missing it
yields how many it wants, and goes on when :class:`Reader` has been fed. The
same function so serves a mapped file (one piece, never copied) and a socket.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import TypeVar

from vmstream.errors import LimitExceeded, Malformed, Truncated

__all__ = ["Parse", "Reader"]

T = TypeVar("T")
Parse = Generator[int, None, T]
"""A generator that yields how many bytes it wants in all and returns a ``T``."""

_BRIDGE = 1 << 17
"""Bytes taken over from the next piece to finish what the last one began."""


class Reader:
    """A cursor over the pieces fed so far.

    When a piece ends inside a record, the rest of it is joined with the
    beginning of the next piece only (the *bridge*), so that a piece of any
    size is never copied as a whole.

    Attributes:
        view: the bytes at hand; ``view[pos:]`` are not used yet.
        pos: index in ``view`` of the next byte.
        base: stream offset of ``view[0]``.
        closed: no more bytes will come.
    """

    __slots__ = ("_left", "_next", "_pieces", "_waiting", "base", "closed", "pos", "view")

    def __init__(self, offset: int = 0) -> None:
        self.view: memoryview = memoryview(b"")
        self.pos = 0
        self.base = offset
        self.closed = False
        self._next: memoryview | None = None
        self._left = 0  # bytes of the bridge that come from before ``_next``
        self._pieces: deque[memoryview] = deque()
        self._waiting = 0

    @property
    def offset(self) -> int:
        """Stream offset of the next byte."""
        return self.base + self.pos

    @property
    def available(self) -> int:
        """Bytes that have arrived and are not used yet."""
        rest = len(self.view) - self.pos
        if self._next is not None:
            rest = max(self._left - self.pos, 0) + len(self._next) - max(self.pos - self._left, 0)
        return rest + self._waiting

    @property
    def rest(self) -> memoryview | None:
        """What has arrived and is not used yet; None where it stands in several pieces."""
        if self._next is not None or self._pieces:
            return None
        return self.view[self.pos :]

    def feed(self, piece: memoryview) -> None:
        """Append bytes that follow everything fed before; the piece is kept, not copied."""
        if len(piece):
            self._pieces.append(piece)
            self._waiting += len(piece)

    def keep_rest(self) -> None:
        """Copy a short rest of the last piece and let go of it: its source may take it back.

        A mapped file does: to touch the rest again would map a large part of
        the window around it anew.
        """
        rest = len(self.view) - self.pos
        if rest <= _BRIDGE and self._next is None and not self._pieces:
            self.view = memoryview(bytes(self.view[self.pos :]))
            self.base += self.pos
            self.pos = 0

    def has(self, count: int) -> bool:
        """Whether ``view[pos:pos + count]`` stands in one buffer now."""
        return len(self.view) - self.pos >= count or self._grow(count)

    def _grow(self, count: int) -> bool:
        """Bring ``count`` contiguous bytes into ``view`` if they have arrived."""
        while len(self.view) - self.pos < count:
            if self._next is not None:
                if self.pos >= self._left:
                    self._cross()
                elif not self._widen(count):
                    self._next = None
            elif not self._begin(count):
                return False
        return True

    def _cross(self) -> None:
        """Leave the bridge: everything before the next piece is used up."""
        assert self._next is not None
        self.base += self._left
        self.pos -= self._left
        self.view = self._next
        self._next = None

    def _widen(self, count: int) -> bool:
        """Take more of the next piece into the bridge; False when it holds all of it."""
        assert self._next is not None
        taken = len(self.view) - self._left
        if taken >= len(self._next):
            return False
        rest = self.view[self.pos : self._left]
        wanted = max(count, 2 * taken, _BRIDGE)
        self._bridge(rest, self._next, wanted)
        return True

    def _bridge(self, rest: memoryview, piece: memoryview, wanted: int) -> None:
        self.base += self.pos
        self.pos = 0
        self._left = len(rest)
        self._next = piece
        self.view = memoryview(b"".join((rest, piece[:wanted])))

    def _begin(self, count: int) -> bool:
        """Go on to the pieces fed since; False when they do not reach ``count``."""
        rest = self.view[self.pos :]
        if not self._pieces or len(rest) + self._waiting < count:
            return False
        if not len(rest):
            self.base += self.pos
            self.pos = 0
            self.view = self._pieces.popleft()
            self._waiting -= len(self.view)
            return True
        if len(self._pieces) == 1:
            piece = self._pieces.pop()
            self._waiting = 0
            self._bridge(rest, piece, max(count, _BRIDGE))
            return True
        self._join(rest, count)
        return True

    def _join(self, rest: memoryview, count: int) -> None:
        """Make one buffer of the rest and as many waiting pieces as ``count`` asks for."""
        parts = [rest]
        total = len(rest)
        while self._pieces and total < count:
            piece = self._pieces[0]
            if total + len(piece) > count + _BRIDGE:
                break
            parts.append(self._pieces.popleft())
            total += len(piece)
        self._waiting -= total - len(rest)
        self.base += self.pos
        self.pos = 0
        if total >= count or not self._pieces:
            self.view = memoryview(b"".join(parts))
            return
        piece = self._pieces.popleft()
        self._waiting -= len(piece)
        self._bridge(memoryview(b"".join(parts)), piece, max(count, _BRIDGE))

    def skip_ahead(self, count: int) -> None:
        """Pass over ``count`` bytes that will never be fed (the caller sought past them).

        Only legal when everything fed has been used.
        """
        if self.available:
            raise ValueError("bytes that have arrived are still unused")
        self.base += self.pos + count
        self.pos = 0
        self.view = memoryview(b"")
        self._next = None

    # What records are read with

    def need(self, count: int) -> Parse[bool]:
        """Wait for ``count`` bytes; False when the input ends before."""
        while not self.has(count):
            if self.closed:
                return False
            yield count
        return True

    def take(self, count: int, what: str = "a record") -> Parse[memoryview]:
        """The next ``count`` bytes, used up.

        Raises:
            Truncated: the input ends inside them; ``what`` names them.
        """
        if not self.has(count) and not (yield from self.need(count)):
            raise Truncated(
                f"the input ends inside {what}",
                offset=self.offset,
                expected=f"{count} bytes",
                found=f"{self.available} bytes",
            )
        pos = self.pos
        self.pos = pos + count
        return self.view[pos : pos + count]

    def integer(self, width: int, what: str = "an integer") -> Parse[int]:
        """An unsigned big-endian integer of ``width`` bytes."""
        if len(self.view) - self.pos < width:
            return int.from_bytes((yield from self.take(width, what)), "big")
        pos = self.pos
        self.pos = pos + width
        return int.from_bytes(self.view[pos : pos + width], "big")

    def counted(self, what: str = "a name") -> Parse[str]:
        """A string with a one-byte length before it; undecodable bytes are kept as surrogates."""
        length = yield from self.integer(1, f"the length of {what}")
        return text_of((yield from self.take(length, what)))

    def bounded(self, length: int, limit: int, what: str) -> Parse[memoryview]:
        """``length`` bytes, refused when a stated limit is below.

        Raises:
            LimitExceeded: ``length`` is above ``limit``.
        """
        if length > limit:
            raise LimitExceeded(
                f"{what} has {length} bytes, more than the limit",
                offset=self.offset,
                expected=f"at most {limit} bytes",
                found=f"{length} bytes",
            )
        return (yield from self.take(length, what))

    def peek(self, count: int) -> Parse[memoryview]:
        """Up to ``count`` bytes without using them; fewer only where the input ends."""
        if not self.has(count) and not (yield from self.need(count)):
            count = self.available
            self.has(count)
        return self.view[self.pos : self.pos + count]

    def some(self, count: int) -> Parse[memoryview]:
        """One to ``count`` bytes, as many as stand in one buffer; none at the end."""
        if not self.has(1) and not (yield from self.need(1)):
            return memoryview(b"")
        if self._next is not None and self.pos >= self._left:
            self._cross()
        end = min(len(self.view), self.pos + count)
        piece = self.view[self.pos : end]
        self.pos = end
        return piece


def text_of(data: bytes | memoryview) -> str:
    """Bytes of a name as text, reversible for any bytes."""
    return bytes(data).decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """The bytes that :func:`text_of` made the text from."""
    return text.encode("utf-8", "surrogateescape")


def counted(text: str) -> bytes:
    """A string with its one-byte length before it.

    Raises:
        Malformed: the text has more than 255 bytes.
    """
    data = bytes_of(text)
    if len(data) > 255:
        raise Malformed(f"the name {text[:32]!r}... has {len(data)} bytes, more than 255")
    return bytes((len(data),)) + data

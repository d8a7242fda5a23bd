"""What can go wrong while a stream is read, as exceptions.

A stream is untrusted input, so every failure caused by its bytes is a
:class:`StreamError` that says where (offset, section), what was expected and
what was found. Misuse of the library by its caller is an ordinary
``TypeError`` or ``ValueError`` instead, never a ``StreamError``.

The hierarchy::

    StreamError             the bytes are not what the format asks for
      NotAStream            the input does not begin like any stream we know
      Truncated             the input ends inside something
      Malformed             a value that the format forbids
      LimitExceeded         a length above the stated limit
      Unsupported           legal, but not readable here (said, not guessed)
      SourceError           the container or file around the stream failed
      ChannelError          the connection to the other end of a migration failed
        BadAddress          what was given names no place that QEMU's grammar knows
        TimedOut            nothing happened for as long as a wait may last
        PeerClosed          the other end closed the connection or died
        ShutDown            this end was shut down, mostly by another thread
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BadAddress",
    "ChannelError",
    "LimitExceeded",
    "Malformed",
    "NobodyCame",
    "NotAStream",
    "PeerClosed",
    "ShutDown",
    "SourceError",
    "StreamError",
    "TimedOut",
    "Truncated",
    "Unsupported",
]


class StreamError(Exception):
    """A failure caused by a stream's bytes.

    Attributes:
        message: one sentence, saying what was expected.
        offset: byte offset in the stream (0 is the ``Q`` of ``QEVM``), or None
            when the failure has no place.
        section: the section in which it happened (``"ram"``,
            ``"0000:00:02.0/vga"``), or None.
        expected, found: the two sides of the disagreement, where there are two.
        file: the file the offset is in, when it is not the main stream.
    """

    code = "stream-error"

    def __init__(
        self,
        message: str,
        *,
        offset: int | None = None,
        section: str | None = None,
        expected: Any = None,
        found: Any = None,
        file: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.section = section
        self.expected = expected
        self.found = found
        self.file = file

    def __str__(self) -> str:
        where = []
        if self.file:
            where.append(self.file)
        if self.offset is not None:
            where.append(f"offset {self.offset:#x}")
        if self.section:
            where.append(f"section {self.section}")
        text = self.message
        if self.expected is not None and self.found is not None:
            text += f" (expected {self.expected}, found {self.found})"
        return f"{', '.join(where)}: {text}" if where else text


class NotAStream(StreamError):
    """The input does not begin like any stream or container that is known."""

    code = "not-a-stream"


class Truncated(StreamError):
    """The input ends in the middle of something."""

    code = "truncated"


class Malformed(StreamError):
    """A value that the format forbids."""

    code = "malformed"


class LimitExceeded(StreamError):
    """A length or count above the stated limit."""

    code = "limit-exceeded"


class Unsupported(StreamError):
    """Legal, but not readable here; said instead of guessed."""

    code = "unsupported"


class SourceError(StreamError):
    """The file or container around the stream could not be read."""

    code = "source-error"


class ChannelError(StreamError):
    """The connection to the other end of a migration failed; ``file`` is its URI."""

    code = "channel-error"


class BadAddress(ChannelError):
    """A URI or channel object that names no place; said with what was expected."""

    code = "bad-address"


class TimedOut(ChannelError):
    """Nothing happened for as long as a wait may last."""

    code = "timed-out"


class NobodyCame(TimedOut):
    """No connection arrived in time."""


class PeerClosed(ChannelError):
    """The other end closed the connection, or died.

    Attributes:
        sending: it showed when something was sent; what the other end said before it
            closed may still be received.
        sent: bytes that had gone by then of what was to be sent.
    """

    code = "peer-closed"
    sending = False
    sent = 0


class ShutDown(ChannelError):
    """This end was shut down, mostly by another thread.

    Attributes:
        sent: bytes that had gone by then of what was to be sent.
    """

    code = "shut-down"
    sent = 0

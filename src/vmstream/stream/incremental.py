"""What every decoder shares: bytes in, events out, split anywhere."""

from __future__ import annotations

from abc import ABC, abstractmethod

from vmstream.errors import StreamError, Truncated
from vmstream.stream.events import Event, Fault
from vmstream.wire.limits import DEFAULT_LIMITS, Limits
from vmstream.wire.reader import Parse, Reader
from vmstream.wire.sections import Raw

__all__ = ["Incremental"]


class Incremental(ABC):
    """A grammar run over bytes as they arrive.

    ``feed`` and ``close`` return the events that became known. A failure of
    the bytes is never raised: it is the last event, a fatal
    :class:`~vmstream.stream.events.Fault`, and what came before it stands.

    Events refer to the bytes fed instead of copying them: a mapped piece must
    stay mapped while its events are used.
    """

    def __init__(self, *, limits: Limits = DEFAULT_LIMITS, offset: int = 0) -> None:
        self.limits = limits
        self.reader = Reader(offset)
        self.finished = False
        """Nothing more will be read: the end was reached, or a fatal fault."""
        self.skippable = 0
        """Bytes to come whose content does not matter; see :meth:`skip`."""
        self.section: str | None = None
        """The section being read, for errors."""
        self._skipped = 0
        self._events: list[Event] = []
        self._wanted = 0
        self._grammar = self._run()

    @property
    def offset(self) -> int:
        """Stream offset of the next byte to be decoded."""
        return self.reader.offset

    def feed(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Decode more bytes; they must follow those fed before."""
        if not self.finished:
            self.reader.feed(memoryview(data).cast("B"))
            self._advance()
            self.reader.keep_rest()
        return self._drain()

    def skip(self, count: int) -> list[Event]:
        """Pass over up to :attr:`skippable` bytes that the source sought past."""
        if not 0 < count <= self.skippable:
            raise ValueError(f"{count} bytes can not be skipped here, at most {self.skippable}")
        self.reader.skip_ahead(count)
        self._skipped = count
        self._wanted = 0
        self._advance()
        return self._drain()

    def close(self) -> list[Event]:
        """Say that no more bytes will come."""
        if not self.finished:
            self.reader.closed = True
            self._wanted = 0
            self._advance()
        return self._drain()

    @abstractmethod
    def _run(self) -> Parse[None]:
        """The grammar."""

    def emit(self, event: Event) -> None:
        """Add an event to what the next ``feed`` returns."""
        self._events.append(event)

    def fault(self, error: StreamError) -> None:
        """Report a fault after which reading can go on."""
        self.emit(Fault(self._placed(error).offset or 0, error, fatal=False))

    def raw(self, size: int, role: str) -> Parse[None]:
        """Emit ``size`` bytes as they are, in whatever pieces they come.

        Raises:
            Truncated: the input ends inside them.
        """
        reader = self.reader
        while size:
            if not reader.available and not reader.closed:
                self.skippable = size
                yield 1
                self.skippable = 0
                skipped, self._skipped = self._skipped, 0
                if skipped:
                    self.emit(Raw(reader.offset - skipped, skipped, role, None))
                    size -= skipped
                    continue
            at = reader.offset
            piece = yield from reader.some(size)
            if not len(piece):
                raise Truncated(f"the input ends {size} bytes before the end of the {role}")
            self.emit(Raw(at, len(piece), role, piece))
            size -= len(piece)

    def _placed(self, error: StreamError) -> StreamError:
        if error.offset is None:
            error.offset = self.reader.offset
        if error.section is None:
            error.section = self.section
        return error

    def _advance(self) -> None:
        try:
            while not self.finished and (
                self.reader.closed or self._wanted <= self.reader.available
            ):
                self._wanted = next(self._grammar)
                if not self.reader.closed and self._wanted > self.reader.available:
                    return
        except StopIteration:
            self.finished = True
        except StreamError as error:
            self.finished = True
            self.emit(Fault(self._placed(error).offset or 0, error, fatal=True))

    def _drain(self) -> list[Event]:
        events, self._events = self._events, []
        return events

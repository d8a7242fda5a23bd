"""Between a real source and a real destination: every channel, both ways, unchanged.

Each connection that the source opens is passed to one of its own at the
destination. What goes by is decoded, and written down, but never changed unless
a fault was asked for; bytes that do not decode go by as well as others.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from vmstream.channels.channel import Channel, Listener
from vmstream.channels.rate import RateLimit
from vmstream.engine.faults import Fault, FaultKind, FaultWatch
from vmstream.engine.timeline import Timeline
from vmstream.errors import ChannelError, PeerClosed, ShutDown, StreamError, TimedOut
from vmstream.stream.channels import ReturnPathDecoder
from vmstream.stream.decoder import Decoder
from vmstream.stream.reading import live_decoder
from vmstream.wire.multifd import MULTIFD_MAGIC
from vmstream.wire.return_path import ReturnMessage, ReturnType
from vmstream.wire.sections import FILE_MAGIC, Element

__all__ = ["Connection", "Relay"]

PIECE = 1 << 18
"""Bytes passed on at a time."""


class Connection(msgspec.Struct):
    """One connection, as it went through."""

    number: int
    kind: str = "unknown"
    """``main``, ``multifd``, ``preempt`` or ``unknown``."""
    opened: float = 0.0
    closed: float | None = None
    forward: int = 0
    """Bytes from the source."""
    backward: int = 0
    """Bytes from the destination."""
    samples: list[tuple[float, int]] = msgspec.field(default_factory=list)
    """(seconds, bytes from the source so far), for a curve."""
    error: str | None = None


class Relay:
    """Passes one migration on.

    Args:
        listener: where the source connects.
        connect: opens a connection to the destination.
        record: a folder for what goes by, a file for each channel and way.
        fault: what to do wrong with the main channel, and where.
        rate: bytes a second that the source may send on all channels together; 0: any.
        watch: called as bytes go by.
    """

    def __init__(
        self,
        listener: Listener,
        connect: Callable[[], Channel],
        *,
        record: Path | None = None,
        fault: Fault | None = None,
        rate: int = 0,
        watch: Callable[[Relay], None] | None = None,
    ) -> None:
        self.listener = listener
        self.connect = connect
        self.record = record
        self.timeline = Timeline()
        self.messages: list[tuple[float, ReturnMessage]] = []
        self.connections: list[Connection] = []
        self.fault = FaultWatch(fault)
        self.faulted: str | None = None
        self.began = 0.0
        self._limit = RateLimit(rate)
        self._watch = watch
        self._open: list[Channel] = []
        self._threads: list[threading.Thread] = []
        self._over = threading.Event()
        self._error: BaseException | None = None

    @property
    def now(self) -> float:
        """Seconds since the first connection."""
        return time.monotonic() - self.began

    @property
    def bytes(self) -> int:
        """From the source, on all channels."""
        return sum(connection.forward for connection in self.connections)

    def run(self) -> None:
        """Pass everything on until both ends have closed all connections.

        Raises:
            StreamError: no source came, the destination could not be reached, or a
                connection broke.
        """
        try:
            self._accept(None)
            while not self._over.is_set():
                try:
                    self._accept(0.2)
                except TimedOut:
                    if not any(thread.is_alive() for thread in self._threads):
                        break
                except ShutDown:
                    break
                except ChannelError:
                    # One connection that can not be set up must not end the others; a
                    # listener that has only one channel says so here, too.
                    self._over.wait(0.2)
                    if not any(thread.is_alive() for thread in self._threads):
                        break
        finally:
            self._finish()
        if self._error is not None:
            raise self._error

    def _finish(self) -> None:
        broken = self._over.is_set()
        self._over.set()
        self.listener.shutdown()
        for channel in self._open:
            if broken:
                channel.shutdown()
        for thread in self._threads:
            thread.join()
        for channel in self._open:
            channel.shutdown()
            with contextlib.suppress(ChannelError):
                channel.close()

    def _accept(self, timeout: float | None) -> None:
        incoming = self.listener.accept(timeout)
        if not self.connections:
            self.began = time.monotonic()
        self._open.append(incoming)
        connection = Connection(len(self.connections), opened=self.now)
        self.connections.append(connection)
        if self.fault.refuses:
            self._break("the connection was refused on purpose")
            return
        try:
            outgoing = self.connect()
        except StreamError as error:
            connection.error = str(error)
            self.fail(error)
            return
        self._open.append(outgoing)
        ways = (
            _Forward(self, connection, incoming, outgoing),
            _Backward(self, connection, outgoing, incoming),
        )
        for way in ways:
            thread = threading.Thread(target=way.run, daemon=True)
            self._threads.append(thread)
            thread.start()

    @property
    def answered(self) -> bool:
        """Whether the destination has said its last word."""
        return any(message.type is ReturnType.SHUT for _, message in self.messages)

    def fail(self, error: BaseException) -> None:
        """End everything; :meth:`run` raises the error."""
        if self._error is None and not self._over.is_set():
            self._error = error
        self._break(None)

    def _break(self, why: str | None) -> None:
        self.faulted = self.faulted or why
        self._over.set()
        for channel in list(self._open):
            channel.shutdown()

    def pace(self, count: int) -> None:
        """Wait as long as the rate asks for ``count`` more bytes."""
        self._limit.spend(count)
        if rest := self._limit.rest():
            self._over.wait(rest)

    def inject(self, fault: Fault) -> None:
        """Do what a fault asks for: cut or stall."""
        at = next(each.forward for each in self.connections if each.kind == "main")
        if fault.kind is FaultKind.STALL:
            self.faulted = f"the main channel was held for {fault.seconds:g} s at byte {at}"
            self._over.wait(fault.seconds)
        else:
            self._break(f"the connection was cut on purpose at byte {at}")
            raise ShutDown("cut on purpose")

    def watched(self) -> None:
        """Tell how far it is."""
        if self._watch is not None:
            self._watch(self)


class _Way:
    """One direction of one connection."""

    def __init__(
        self, relay: Relay, connection: Connection, source: Channel, sink: Channel
    ) -> None:
        self.relay = relay
        self.connection = connection
        self.source = source
        self.sink = sink
        self.file: BinaryIO | None = None

    def run(self) -> None:
        """Pass pieces on until the sender closes."""
        try:
            while True:
                try:
                    piece = self.source.recv(PIECE)
                except TimedOut:
                    continue  # either end decides for itself how long it waits
                if not piece:
                    break
                self.pass_on(piece)
            self.sink.finish()
            self.at_end()
        except (ShutDown, PeerClosed):
            # Who lost the connection passes that on, and says so to nobody else.
            self.source.shutdown()
            self.sink.shutdown()
        except StreamError as error:
            self.connection.error = self.connection.error or str(error)
            self.source.shutdown()
            self.sink.shutdown()
        except OSError as error:
            what = f"what goes by can not be recorded in {self.relay.record}: {error.strerror}"
            self.relay.fail(StreamError(what))
        except BaseException as error:  # a thread's own end would leave the others waiting
            self.relay.fail(error)
        finally:
            self.connection.closed = self.relay.now
            if self.file is not None:
                self.file.close()

    def pass_on(self, piece: bytes) -> None:
        raise NotImplementedError

    def at_end(self) -> None:
        """The sender will send nothing more."""

    def keep(self, name: str, piece: bytes) -> None:
        if self.relay.record is None:
            return
        if self.file is None:
            self.file = (self.relay.record / name).open("wb")
        self.file.write(piece)


class _Forward(_Way):
    """From the source to the destination."""

    decoder: Decoder | None = None
    corrupt: int | None = None
    """Offset of the byte that is to be changed."""

    def pass_on(self, piece: bytes) -> None:
        if not self.connection.forward:
            self.tell_kind(piece)
        if self.decoder is None:
            self.send(piece)
            return
        start = self.connection.forward
        events = self.decoder.feed(piece)
        now = self.relay.now
        for event in events:
            self.relay.timeline.add(event, now)
        due = self.relay.fault.due(start + len(piece), events)
        if due is None:
            self.send(self.corrupted(piece))
            return
        fault, place = due
        if fault.kind is FaultKind.CORRUPT:
            self.corrupt = max(place, start)
            self.relay.faulted = f"the byte at {self.corrupt:#x} was changed on purpose"
            self.send(self.corrupted(piece))
            return
        head = max(0, place - start)
        if head:
            self.send(piece[:head])
        self.relay.inject(fault)
        self.send(piece[head:])

    def send(self, piece: bytes) -> None:
        relay, connection = self.relay, self.connection
        relay.pace(len(piece))
        self.sink.send(piece)
        connection.forward += len(piece)
        connection.samples.append((relay.now, connection.forward))
        self.keep(self.name, piece)
        relay.watched()

    def at_end(self) -> None:
        if self.decoder is not None:
            for event in self.decoder.close():
                self.relay.timeline.add(event, self.relay.now)
            if self.relay.answered:
                # QEMU 2.6 never closes its end of a post-copy, and has nothing more to say.
                self.sink.shutdown()

    def tell_kind(self, piece: bytes) -> None:
        magic = int.from_bytes(piece[:4], "big")
        others = any(other.kind == "main" for other in self.relay.connections)
        resumes = piece[:1] == bytes((Element.COMMAND,))
        if magic == FILE_MAGIC or resumes or (not others and len(piece) < 4):
            self.connection.kind = "main"
            self.decoder = live_decoder()
        elif magic == MULTIFD_MAGIC:
            self.connection.kind = "multifd"
        else:
            self.connection.kind = "preempt"

    @property
    def name(self) -> str:
        number = self.connection.number
        if self.connection.kind == "main":
            return "stream.mig"
        return f"channel-{number}.mig" if self.connection.kind == "multifd" else "preempt.mig"

    def corrupted(self, piece: bytes) -> bytes:
        """The piece, with one byte inverted if that is its place."""
        start = self.connection.forward
        if self.corrupt is None or not start <= self.corrupt < start + len(piece):
            return piece
        changed = bytearray(piece)
        changed[self.corrupt - start] ^= 0xFF
        self.corrupt = None
        return bytes(changed)


class _Backward(_Way):
    """From the destination to the source: the return path."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.decoder = ReturnPathDecoder()

    def pass_on(self, piece: bytes) -> None:
        # Noted first: the source closes as soon as it has the last word.
        for event in self.decoder.feed(piece):
            if isinstance(event, ReturnMessage):
                self.relay.messages.append((self.relay.now, event))
        self.sink.send(piece)
        self.connection.backward += len(piece)
        self.keep("return.mig", piece)

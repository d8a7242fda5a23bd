"""Between a real source and a real destination: every channel, both ways, unchanged.

Each connection that the source opens is passed to one of its own at the
destination. What goes by is decoded, and written down, but never changed unless
a fault was asked for; bytes that do not decode go by as well as others.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

import msgspec

from vmstream.channels.channel import Channel, Listener
from vmstream.channels.pieces import Conduit, NotPossible, Pieces
from vmstream.channels.rate import RateLimit
from vmstream.engine.faults import Fault, FaultKind, FaultWatch
from vmstream.engine.timeline import Timeline
from vmstream.errors import ChannelError, PeerClosed, ShutDown, StreamError, TimedOut
from vmstream.stream.channels import ReturnPathDecoder
from vmstream.stream.events import Event
from vmstream.stream.reading import live_decoder
from vmstream.stream.skimmer import Skimmer
from vmstream.wire.multifd import MULTIFD_MAGIC
from vmstream.wire.return_path import ReturnMessage, ReturnType
from vmstream.wire.sections import FILE_MAGIC, Element

__all__ = ["Connection", "Relay"]

PIECE = 1 << 20
"""Bytes passed on at a time, at most."""
AGAIN = 0.2
"""Seconds until the next connection is looked for, after one that could not be set up."""
SAMPLES = 4096
"""Points of a connection's curve: where there would be more, every other one goes."""


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
    ways: int = 0
    """Directions in which something may still go."""
    broken: bool = False
    _between: float = 0.0

    def sample(self, now: float) -> None:
        """Add a point to the curve, unless the last one is close enough."""
        if self.samples and now - self.samples[-1][0] < self._between:
            return
        self.samples.append((now, self.forward))
        if len(self.samples) == SAMPLES:
            self._between = 2 * (now - self.samples[0][0]) / SAMPLES
            del self.samples[1::2]


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
        self._lock = threading.Lock()
        self._ways = 0
        self._ended = threading.Event()
        """No connection is open any more."""
        self._over = threading.Event()
        self._error: BaseException | None = None

    @property
    def now(self) -> float:
        """Seconds since the first connection."""
        return time.monotonic() - self.began

    @property
    def changes(self) -> bool:
        """What goes by is held back, or changed, on purpose."""
        return self.fault.fault is not None or self._limit.bytes_per_second > 0

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
                    self._accept(math.inf)
                except ShutDown:
                    break
                except ChannelError:
                    # One connection that can not be set up, or none for a while, must not
                    # end the others; a listener that has only one channel says so here, too.
                    self._ended.wait(AGAIN)
                    if self._ended.is_set():
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
        with self._lock:
            self._ways += len(ways)
            self._ended.clear()
        connection.ways = len(ways)
        for way in ways:
            thread = threading.Thread(target=self._run_way, args=(way,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run_way(self, way: _Way) -> None:
        way.run()
        with self._lock:
            way.connection.ways -= 1
            if way.connection.broken and not way.connection.ways:
                way.source.shutdown()
                way.sink.shutdown()
            self._ways -= 1
            if not self._ways:
                self._ended.set()
                self.listener.shutdown()  # every connection is closed: no other will come

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
        self.pieces = Pieces(PIECE)
        self.conduit: Conduit | None = None
        self.file: BinaryIO | None = None

    def run(self) -> None:
        """Pass pieces on until the sender closes."""
        try:
            while self.pass_piece():
                pass
            self.sink.finish()
            self.at_end()
        except (ShutDown, PeerClosed) as error:
            # Who lost the connection passes that on, and says so to nobody else. What the
            # other end said before it closed may still be on its way back, and that way
            # comes to its end by itself.
            self.connection.broken = True
            if not (isinstance(error, PeerClosed) and error.sending):
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
            self.end_conduit()
            if self.file is not None:
                self.file.close()

    def pass_piece(self) -> bool:
        """Pass on what comes next; False at the end."""
        try:
            if self.conduit is not None:
                return self.pass_without_copying(self.conduit)
            piece = self.pieces.next(self.source)
        except NotPossible:
            self.end_conduit()
            return True
        except TimedOut:
            return True  # either end decides for itself how long it waits
        with piece:
            if piece:
                self.pass_on(piece)
            return bool(piece)

    def pass_without_copying(self, conduit: Conduit) -> bool:
        """The same, where nothing is to be changed."""
        raise NotImplementedError

    def end_conduit(self) -> None:
        """From now on every piece is received and sent."""
        conduit, self.conduit = self.conduit, None
        if conduit is not None:
            conduit.close()

    def pass_on(self, piece: memoryview) -> None:
        raise NotImplementedError

    def at_end(self) -> None:
        """The sender will send nothing more."""

    def keep(self, name: str, piece: memoryview) -> None:
        if self.relay.record is None:
            return
        if self.file is None:
            self.file = (self.relay.record / name).open("wb")
        self.file.write(piece)


class _Forward(_Way):
    """From the source to the destination."""

    skimmer: Skimmer | None = None
    corrupt: int | None = None
    """Offset of the byte that is to be changed."""

    def pass_on(self, piece: memoryview) -> None:
        if not self.connection.forward:
            self.tell_kind(piece)
        if self.skimmer is None:
            self.send(piece)
            return
        now = self.relay.now
        if self.corrupt is None and not self.relay.fault.waits:
            # Nothing hangs on what it is: the destination need not wait until we know.
            self.give(lambda: self.send(piece), self.skimmer, piece, now)
            return
        start = self.connection.forward
        events = self.skimmer.feed(piece)
        self.note(events, now)
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

    def pass_without_copying(self, conduit: Conduit) -> bool:
        count = conduit.take(self.source)
        now = self.relay.now
        if self.skimmer is None and self.relay.record is None:
            conduit.give(self.sink)
        else:
            skipped, piece = self.look(conduit, count)
            with piece:
                try:
                    if self.skimmer is None:
                        conduit.give(self.sink)
                    else:
                        self.give(
                            lambda: conduit.give(self.sink), self.skimmer, piece, now, skipped
                        )
                finally:
                    self.keep(self.name, piece)  # what arrived is not lost with the destination
        self.count(count)
        return bool(count)

    def give(
        self,
        send: Callable[[], None],
        skimmer: Skimmer,
        piece: memoryview,
        now: float,
        skipped: int = 0,
    ) -> None:
        """Send a piece and ``skipped`` bytes before it; then decode what went."""
        try:
            send()
        except (PeerClosed, ShutDown) as error:
            # A destination without a return path may close before it has read what
            # follows the end mark.
            if error.sent >= skipped:
                self.note(skimmer.feed(piece[: error.sent - skipped], skipped), now)
            raise
        self.note(skimmer.feed(piece, skipped), now)

    def look(self, conduit: Conduit, count: int) -> tuple[int, memoryview]:
        """What has to be seen of the bytes held, and how many before it need not be."""
        if self.skimmer is not None and self.relay.record is None:
            skipped = self.skimmer.skip(count)
            if skipped:
                piece = self.pieces.look(conduit, skipped)
                if self.skimmer.proves(piece):
                    return skipped, piece
                piece.release()
        return 0, self.pieces.look(conduit)

    def note(self, events: Iterable[Event], now: float) -> None:
        """Put events on the time line."""
        for event in events:
            self.relay.timeline.add(event, now)

    def send(self, piece: memoryview) -> None:
        self.relay.pace(len(piece))
        try:
            self.sink.send(piece)
        finally:
            self.keep(self.name, piece)
        self.count(len(piece))

    def count(self, size: int) -> None:
        """Note bytes that went by."""
        self.connection.forward += size
        self.connection.sample(self.relay.now)
        self.relay.watched()

    def at_end(self) -> None:
        if self.skimmer is not None:
            self.note(self.skimmer.close(), self.relay.now)
            if self.relay.answered:
                # QEMU 2.6 never closes its end of a post-copy, and has nothing more to say.
                self.sink.shutdown()

    def tell_kind(self, piece: memoryview) -> None:
        magic = int.from_bytes(piece[:4], "big")
        others = any(other.kind == "main" for other in self.relay.connections)
        resumes = piece[:1] == bytes((Element.COMMAND,))
        if magic == FILE_MAGIC or resumes or (not others and len(piece) < 4):
            self.connection.kind = "main"
            self.skimmer = Skimmer(live_decoder())
        elif magic == MULTIFD_MAGIC:
            self.connection.kind = "multifd"
        else:
            self.connection.kind = "preempt"
        if not self.relay.changes:
            self.conduit = Conduit(PIECE, looked_at=True)

    @property
    def name(self) -> str:
        number = self.connection.number
        if self.connection.kind == "main":
            return "stream.mig"
        return f"channel-{number}.mig" if self.connection.kind == "multifd" else "preempt.mig"

    def corrupted(self, piece: memoryview) -> memoryview:
        """The piece, with one byte inverted if that is its place."""
        start = self.connection.forward
        if self.corrupt is None or not start <= self.corrupt < start + len(piece):
            return piece
        changed = bytearray(piece)
        changed[self.corrupt - start] ^= 0xFF
        self.corrupt = None
        return memoryview(changed)


class _Backward(_Way):
    """From the destination to the source: the return path."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.decoder = ReturnPathDecoder()

    def pass_on(self, piece: memoryview) -> None:
        # Noted first: the source closes as soon as it has the last word.
        for event in self.decoder.feed(piece):
            if isinstance(event, ReturnMessage):
                self.relay.messages.append((self.relay.now, event))
        self.sink.send(piece)
        self.connection.backward += len(piece)
        self.keep("return.mig", piece)

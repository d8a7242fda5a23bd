"""The receiving end of a migration, at the level of the protocol.

A destination that loads nothing: it takes every channel that a source opens,
answers on the return path what QEMU's own destination answers
(``migration/savevm.c``, ``migration/migration.c``), asks for the pages that
post-copy leaves behind, and keeps every byte in the file of its channel. The
source ends ``completed``.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from vmstream.channels.channel import Channel, Listener
from vmstream.engine.faults import Fault as InjectedFault
from vmstream.engine.faults import FaultKind, FaultWatch
from vmstream.engine.received import ReceivedPages
from vmstream.errors import ChannelError, PeerClosed, ShutDown, StreamError, TimedOut
from vmstream.stream.decoder import Decoder
from vmstream.stream.events import Event, Fault
from vmstream.wire.commands import Command, CommandType, discard_ranges
from vmstream.wire.configuration import Configuration
from vmstream.wire.multifd import MULTIFD_MAGIC
from vmstream.wire.ram import Pages, RamBlock
from vmstream.wire.reader import bytes_of, text_of
from vmstream.wire.return_path import ReturnMessage, ReturnType
from vmstream.wire.sections import FILE_MAGIC, DescriptionText, Element, SectionStart

__all__ = ["Arrived", "Destination", "Reception"]

PIECE = 1 << 18
"""Bytes received at a time."""
GRACE = 0.5
"""Seconds after the end mark in which a description must begin to arrive."""
REQUEST = 1 << 16
"""Bytes asked for at a time in post-copy."""
FINISH = 10.0
"""Seconds for the source to close its channels once it knows that all arrived."""
SWITCHOVER_ACK_SINCE = (8, 1)


class Arrived(msgspec.Struct):
    """One channel's file."""

    kind: str
    """``main``, ``multifd``, ``preempt`` or ``return``."""
    path: Path
    size: int = 0


class Reception(msgspec.Struct):
    """How far it got; filled while it runs."""

    files: list[Arrived] = msgspec.field(default_factory=list)
    bytes: int = 0
    """On all channels."""
    iterations: int = 0
    """PART sections of RAM."""
    section: str | None = None
    """The last section that began."""
    machine: str | None = None
    ended: bool = False
    """The end mark arrived, and the source closed its channels."""
    return_path: bool = False
    postcopy: bool = False
    """The source switched: device state came before all of memory."""
    pages_requested: int = 0
    resumed: int = 0
    """How often a broken post-copy was taken up again."""
    error: str | None = None


Watch = Callable[[Reception], None]


class Destination:
    """Receives one migration into a folder.

    Args:
        listener: where the source connects.
        folder: for the files, one for each channel.
        fault: what to do wrong, and where.
        switchover_ack: acknowledge the switchover (8.1+); by default when the
            source's machine type says that it knows of this.
        watch: called as bytes arrive.
    """

    def __init__(
        self,
        listener: Listener,
        folder: Path,
        *,
        fault: InjectedFault | None = None,
        switchover_ack: bool | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.listener = listener
        self.folder = folder
        self.reception = Reception()
        self._fault = FaultWatch(fault)
        self._switchover_ack = switchover_ack
        self._watch = watch
        self._lock = threading.Lock()
        self._channels: list[Channel] = []
        self._threads: list[threading.Thread] = []
        self._main = threading.Event()
        self._over = threading.Event()
        self._error: StreamError | None = None
        self._multifd = 0

    # The whole

    def run(self) -> Reception:
        """Receive until the source is done.

        Raises:
            StreamError: it did not come to its end; what arrived is in the folder, and
                :attr:`reception` says how far it got.
        """
        acceptor = self._start(self._accept_all)
        try:
            # The first channel must come within the listener's own timeout.
            while not self._over.wait(0.05):
                pass
        finally:
            self._over.set()
            self.listener.shutdown()
            acceptor.join()
            failed = self._error is not None or not self.reception.ended
            for channel in list(self._channels):
                if failed:
                    channel.shutdown()
            for thread in self._threads:
                thread.join(FINISH)
            for channel in self._channels:
                channel.shutdown()
                with contextlib.suppress(ChannelError):
                    channel.close()
            self.listener.close()
        if self._error is not None:
            self.reception.error = str(self._error)
            raise self._error
        return self.reception

    def _start(self, target: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
        return thread

    def _fail(self, error: StreamError) -> None:
        with self._lock:
            if self._error is None and not self._over.is_set():
                self._error = error
        self._over.set()

    def _accept_all(self) -> None:
        first = True
        while not self._over.is_set():
            try:
                channel = self.listener.accept(None if first else 0.2)
            except TimedOut as error:
                if first:
                    self._fail(error)
                    return
                continue
            except ShutDown:
                return
            except ChannelError as error:
                # One connection that went wrong is no reason to send others away.
                if first:
                    self._fail(error)
                    return
                continue
            first = False
            self._channels.append(channel)
            if self._refused(channel):
                return
            self._threads.append(self._start(self._take, channel))
            if not hasattr(self.listener, "address") or not self._many(channel):
                return

    def _many(self, channel: Channel) -> bool:
        """Whether more channels can come: not through one pipe or descriptor."""
        return str(self.listener.address).split(":")[0] in ("tcp", "unix", "vsock")

    def _refused(self, channel: Channel) -> bool:
        fault = self._fault.fault
        if fault is None or fault.kind is not FaultKind.REFUSE:
            return False
        channel.shutdown()
        self._fail(StreamError("the connection was refused, as asked"))
        return True

    # One channel

    def _take(self, channel: Channel) -> None:
        """Tell a channel by its first bytes, and keep what arrives on it."""
        try:
            first = self._first(channel)
            kind = self._kind(first)
            if kind == "main":
                self._take_main(channel, first)
            else:
                self._keep(channel, kind, first)
        except ShutDown:
            return
        except StreamError as error:
            self._fail(error)
        except OSError as error:
            self._fail(StreamError(f"what arrives can not be kept: {error}"))

    def _first(self, channel: Channel) -> bytes:
        """The first four bytes, or fewer when it ends before; a preempt channel waits long."""
        got = b""
        while len(got) < 4:
            try:
                piece = channel.recv(4 - len(got))
            except TimedOut:
                if self._main.is_set() and not got:
                    continue
                raise
            if not piece:
                break
            got += piece
        return got

    def _kind(self, first: bytes) -> str:
        magic = int.from_bytes(first, "big")
        if magic == MULTIFD_MAGIC:
            return "multifd"
        if magic == FILE_MAGIC:
            return "main"
        if self._main.is_set():
            return "main" if self.reception.resumed else "preempt"
        if not first:
            raise PeerClosed("the source closed its connection before it sent anything")
        raise StreamError(
            "what arrives is no migration",
            offset=0,
            expected=f"{FILE_MAGIC:#x} (QEVM) or {MULTIFD_MAGIC:#x} (multifd)",
            found=first.hex(),
        )

    def _file(self, kind: str) -> tuple[Arrived, BinaryIO]:
        with self._lock:
            if kind == "main":
                again = sum(file.kind == "main" for file in self.reception.files)
                name = f"stream-{again}.mig" if again else "stream.mig"
            elif kind == "multifd":
                name = f"channel-{self._multifd}.mig"
                self._multifd += 1
            else:
                name = f"{kind}.mig"
            arrived = Arrived(kind, self.folder / name)
            self.reception.files.append(arrived)
        return arrived, arrived.path.open("wb")

    def _keep(self, channel: Channel, kind: str, first: bytes) -> None:
        """A channel that is only written down, to its end."""
        arrived, file = self._file(kind)
        with file:
            self._write(arrived, file, first)
            while True:
                try:
                    piece = channel.recv(PIECE)
                except TimedOut:
                    if self._over.is_set():
                        return
                    continue  # the main channel knows whether the source is alive
                except PeerClosed:
                    return
                if not piece:
                    return
                self._write(arrived, file, piece)

    def _write(self, arrived: Arrived, file: BinaryIO, piece: bytes) -> None:
        file.write(piece)
        arrived.size += len(piece)
        with self._lock:
            self.reception.bytes += len(piece)

    # The main channel

    def _take_main(self, channel: Channel, first: bytes) -> None:
        self._main.set()
        arrived, file = self._file("main")
        with file:
            main = _Main(self, channel, arrived, file)
            main.run(first)
        self.reception.ended = True
        self._over.set()

    def inject(self, fault: InjectedFault, main: _Main) -> None:
        """Do what a fault asks for."""
        if fault.kind is FaultKind.STALL:
            self._over.wait(fault.seconds)
            return
        if fault.kind is FaultKind.FAIL:
            main.answer(ReturnType.SHUT, struct.pack(">I", 1))
        for channel in list(self._channels):
            channel.shutdown()
        raise StreamError(
            f"the connection was {fault.kind} on purpose", offset=self.reception.bytes
        )

    @property
    def fault_watch(self) -> FaultWatch:
        """When the fault is due."""
        return self._fault

    def watched(self) -> None:
        """Tell how far it got."""
        if self._watch is not None:
            self._watch(self.reception)

    def acknowledges(self, machine: str | None) -> bool:
        """Whether the source can read a SWITCHOVER_ACK: others fail on it."""
        if self._switchover_ack is not None:
            return self._switchover_ack
        version = (machine or "").rpartition("-")[2].split(".")
        numbers = tuple(int(part) for part in version if part.isdigit())
        return len(numbers) == 2 and numbers >= SWITCHOVER_ACK_SINCE


class _Main:
    """The main channel: bytes to the file and the decoder, events to answers."""

    def __init__(
        self, destination: Destination, channel: Channel, arrived: Arrived, file: BinaryIO
    ) -> None:
        self.destination = destination
        self.reception = destination.reception
        self.channel = channel
        self.arrived = arrived
        self.file = file
        self.decoder = Decoder()
        self.pages = ReceivedPages()
        self.described = False
        self.shut = False
        self.fatal: StreamError | None = None
        self._return_file: BinaryIO | None = None
        self._return_arrived: Arrived | None = None
        self._asked: tuple[str, int, int] | None = None

    def run(self, first: bytes) -> None:
        """Until the source closes the channel.

        Raises:
            StreamError: it ends before the end mark, or the connection breaks.
        """
        try:
            self.take(first)
            while self.receive():
                pass
        finally:
            if self._return_file is not None:
                self._return_file.close()
        for event in self.decoder.close():
            self.event(event)
        if not self.decoder.ended:
            raise self.fatal or StreamError(
                "the source closed the channel before the end of the stream",
                offset=self.arrived.size,
                section=self.reception.section,
            )

    def receive(self) -> bool:
        """One piece; False at the end."""
        waits_for_description = self.decoder.ended and self.reception.return_path and not self.shut
        self.channel.timeout = GRACE if waits_for_description else self.channel.timeout
        if self.shut:
            self.channel.timeout = FINISH
        try:
            piece = self.channel.recv(PIECE)
        except TimedOut:
            if waits_for_description:
                self.send_shut()
                return True
            if self.shut:
                return False
            raise
        except PeerClosed:
            if self.decoder.ended:
                return False
            raise
        if not piece:
            return False
        self.take(piece)
        return True

    def take(self, piece: bytes) -> None:
        self.destination._write(self.arrived, self.file, piece)
        events = self.decoder.feed(piece)
        for event in events:
            self.event(event)
        fault = self.destination.fault_watch.due(self.arrived.size, events)
        if fault is not None:
            self.destination.inject(fault, self)
        self.destination.watched()
        if self.fatal is not None and not self.decoder.ended:
            raise self.fatal
        if self.decoder.ended and self.described and self.reception.return_path:
            self.send_shut()
        if self.reception.postcopy:
            self.request()

    def event(self, event: Event) -> None:
        match event:
            case Command():
                self.command(event)
            case Pages():
                self.pages.add(event)
            case RamBlock():
                self.pages.add_block(event)
            case SectionStart():
                self.reception.section = event.idstr
                if event.kind == Element.PART and event.idstr == "ram":
                    self.reception.iterations += 1
            case Configuration():
                self.reception.machine = event.machine
            case DescriptionText():
                self.described = True
            case Fault(fatal=True):
                self.fatal = event.error

    # What the source asks

    def command(self, command: Command) -> None:
        match command.command:
            case CommandType.OPEN_RETURN_PATH:
                self.open_return_path()
            case CommandType.PING:
                self.answer(ReturnType.PONG, command.payload)
            case CommandType.POSTCOPY_RAM_DISCARD:
                block, ranges = discard_ranges(command)
                for start, length in ranges:
                    self.pages.discard(block, start, length)
            case CommandType.POSTCOPY_LISTEN:
                self.reception.postcopy = True
            case CommandType.RECV_BITMAP:
                self.send_bitmap(text_of(command.payload[1 : 1 + command.payload[0]]))
            case CommandType.POSTCOPY_RESUME:
                self.answer(ReturnType.RESUME_ACK, struct.pack(">I", 1))

    def open_return_path(self) -> None:
        if not self.channel.bidirectional:
            raise StreamError(
                "the source asks for a return path, which this channel can not carry",
                offset=self.arrived.size,
            )
        self.reception.return_path = True
        if self.destination.acknowledges(self.reception.machine):
            self.answer(ReturnType.SWITCHOVER_ACK, b"")

    def send_bitmap(self, block: str) -> None:
        name = bytes_of(block)
        self.answer(
            ReturnType.RECV_BITMAP, bytes((len(name),)) + name, bitmap=self.pages.bitmap(block)
        )

    def send_shut(self) -> None:
        if not self.shut:
            self.shut = True
            self.answer(ReturnType.SHUT, struct.pack(">I", 0))

    def answer(self, kind: ReturnType, payload: bytes, bitmap: bytes | None = None) -> None:
        """Send a message on the return path, and keep it in its own file."""
        if not self.reception.return_path:
            return
        data = ReturnMessage(0, kind, payload, bitmap).encode()
        self.channel.send(data)
        if self._return_file is None:
            self._return_arrived, self._return_file = self.destination._file("return")
        self._return_file.write(data)
        assert self._return_arrived is not None
        self._return_arrived.size += len(data)

    # Post-copy

    def request(self) -> None:
        """Ask for the next pages that have not arrived, one request at a time."""
        if not self.reception.return_path or self.decoder.ended:
            return
        missing = next(self.pages.missing(), None)
        if missing is None or missing == self._asked or self.pages.page_size is None:
            return
        self._asked = missing
        block, start, length = missing
        length = min(length, REQUEST)
        name = bytes_of(block)
        payload = struct.pack(">QI", start, length) + bytes((len(name),)) + name
        self.answer(ReturnType.REQ_PAGES_ID, payload)
        self.reception.pages_requested += -(-length // self.pages.page_size)


def describe(reception: Reception, started: float) -> str:
    """A line for a person: how much, how fast, how far."""
    seconds = max(time.monotonic() - started, 1e-9)
    rate = reception.bytes / seconds / (1 << 20)
    return f"{reception.bytes >> 20} MiB at {rate:.0f} MiB/s, iteration {reception.iterations}"

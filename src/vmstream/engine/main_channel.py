"""The main channel of a migration that arrives: what the source says, and what it is answered.

A protocol-level destination: it answers what QEMU's own answers
(``migration/savevm.c``, ``loadvm_process_command``; ``migration/ram.c``).
"""

from __future__ import annotations

import struct
import threading
import time
from typing import Protocol

from vmstream.channels.channel import Channel
from vmstream.channels.pieces import Conduit, NotPossible, Pieces
from vmstream.engine.faults import Fault as InjectedFault
from vmstream.engine.faults import FaultWatch
from vmstream.engine.received import ReceivedPages
from vmstream.engine.reception import ChannelFile, Reception
from vmstream.errors import PeerClosed, StreamError, TimedOut
from vmstream.stream.channels import ResumedDecoder
from vmstream.stream.decoder import Decoder
from vmstream.stream.events import Event, Fault
from vmstream.stream.reading import live_decoder
from vmstream.stream.rewriting import CONNECTION, stays
from vmstream.vmstate.borrow import Borrowed
from vmstream.wire.commands import Command, CommandType, discard_ranges
from vmstream.wire.configuration import Configuration
from vmstream.wire.ram import PageKind, Pages, RamBlock, RamFlag, RamMark
from vmstream.wire.reader import bytes_of, text_of
from vmstream.wire.return_path import ReturnMessage, ReturnType
from vmstream.wire.sections import DescriptionText, Element, SectionStart

__all__ = ["PIECE", "MainChannel"]

PIECE = 1 << 20
"""Bytes received at a time, at most."""
GRACE = 0.5
"""Seconds after the end mark in which a description must begin to arrive."""
REQUEST = 1 << 16
"""Bytes asked for at a time in post-copy."""
FINISH = 10.0
"""Seconds for what is under way on other channels, or for the source to close them."""
_POLL = 0.005
_PLAIN = int(PageKind.NORMAL)
"""The last kind of those that any QEMU takes from a file; ZERO is the other."""


class Around(Protocol):
    """What the main channel needs of the destination."""

    reception: Reception
    fault_watch: FaultWatch

    def keep(self, kind: str) -> ChannelFile:
        """A new file for a channel."""

    def synchronised(self, marks: int) -> bool:
        """Whether every multifd channel has come to so many sync packets."""

    def lacks(self) -> StreamError | None:
        """What is missing because a connection could not be taken."""

    def inject(self, fault: InjectedFault, main: MainChannel) -> None:
        """Do what a fault asks for."""

    def watched(self) -> None:
        """Tell how far it got."""

    @property
    def drops_commands(self) -> bool:
        """Whether commands of the return path are left out of what is kept."""

    def acknowledges(self, machine: str | None) -> bool:
        """Whether to send a SWITCHOVER_ACK."""


class MainChannel:
    """Bytes to the file and the decoder, events to answers.

    It outlives its connection: a post-copy that broke goes on over another.
    """

    def __init__(self, around: Around) -> None:
        self.around = around
        self.reception = around.reception
        self.pages = ReceivedPages()
        self.decoder: Decoder = live_decoder()
        self._channel: Channel | None = None
        self._pieces = Pieces(PIECE)
        self._conduit: Conduit | None = Conduit(PIECE)
        self._received = 0
        self._last_page = (0, 0)
        self._asking = False
        self._file: ChannelFile | None = None
        self._return: ChannelFile | None = None
        self._last = b""
        self._paused = 0.0
        """Seconds since something came."""
        self._described = False
        self._shut = False
        self._fatal: StreamError | None = None
        self._asked: tuple[str, int, int] | None = None
        self._flushes = 0
        self._section_ends = 0
        self._answering = threading.RLock()

    def close(self) -> None:
        """Close the file of what was answered."""
        self._end_conduit()
        if self._return is not None:
            self._return.close()

    def _end_conduit(self) -> None:
        conduit, self._conduit = self._conduit, None
        if conduit is not None:
            conduit.close()

    def run(self, channel: Channel, file: ChannelFile, first: bytes) -> None:
        """Take what comes over one connection until the source closes it.

        Args:
            first: what was read already, to tell the channel's kind.

        Raises:
            PeerClosed, TimedOut: the connection broke before the end mark.
            StreamError: what arrives is no legal stream.
        """
        self._channel, self._file = channel, file
        self._received = 0
        patience = channel.timeout
        try:
            self._take(memoryview(first))
            while self._receive(patience):
                pass
        except (PeerClosed, TimedOut):
            self._finish_decoding()
            raise
        self._finish_decoding()
        if not self.decoder.ended and not self._seems_whole:
            raise PeerClosed(
                "the source closed the connection before the end of the stream",
                offset=self._received,
                section=self.reception.section,
                file=channel.name,
            )
        if (lacking := self.around.lacks()) is not None:
            raise lacking

    def resume(self) -> None:
        """Get ready for the connection on which the source takes up a broken post-copy."""
        lengths = self.pages.lengths
        self.decoder = ResumedDecoder(
            list(lengths), list(lengths.values()), self.pages.page_size or 4096
        )
        with self._answering:
            self._asked = None
            # Before its POSTCOPY_RESUME the source may have no channel for urgent pages yet,
            # and QEMU 10.0 aborts when it is asked for one.
            self._asking = False
        self._fatal = None

    def arrived(self, pages: Pages) -> None:
        """Pages came, on this channel or on that for urgent ones."""
        self.pages.add(pages)

    # Receiving

    @property
    def _seems_whole(self) -> bool:
        """Where nothing tells how long the last device's state is: the end mark is the last byte.

        A machine type up to 2.2 writes neither footers nor a description. A device
        whose layouts are known would have told.
        """
        held = self.decoder.holding
        if held is None or self._last != b"\0":
            return False
        return not any(Borrowed().candidates(held.idstr, held.instance_id, held.version_id))

    def _receive(self, patience: float) -> bool:
        """One piece; False at the end."""
        channel = self._channel
        assert channel is not None
        # The source waits for our word, which it gets at the end of the stream: that shows
        # in a pause where a description may follow, and where sections have no footers.
        may_be_over = self.decoder.ended or self.decoder.footers is False
        waited_for = may_be_over and self.reception.return_path and not self._shut
        channel.timeout = FINISH if self._shut else GRACE if waited_for else patience
        try:
            piece, kept = self._next(channel)
        except TimedOut:
            if self._shut:
                return False
            self._paused += channel.timeout
            if waited_for and self._is_over():
                self._send_shut()
            elif self._paused >= patience:
                raise
            return True
        except PeerClosed:
            if self.decoder.ended:
                return False
            raise
        self._paused = 0.0
        with piece:
            self._take(piece, kept=kept)
            return bool(piece)

    def _is_over(self) -> bool:
        """Whether all has come, in a pause of the source."""
        if self.decoder.would_end():
            return True
        return self._seems_whole and self._paused >= FINISH

    def _next(self, channel: Channel) -> tuple[memoryview, bool]:
        """What arrives next, and whether it stands in the file already."""
        watch, file = self.around.fault_watch, self._file
        assert file is not None
        if self._conduit is not None and not watch.waits and self.reception.section is not None:
            try:
                return file.take(channel, self._conduit), True
            except NotPossible:
                self._end_conduit()
        return self._pieces.next(channel, watch.limit(self._received, PIECE)), False

    def _take(self, piece: memoryview, *, kept: bool = False) -> None:
        """Decode a piece, keep it unless it is ``kept`` already, and do what it asks for."""
        start = self._received
        self._last = bytes(piece[-1:]) or self._last
        events = self.decoder.feed(piece)
        self._received += len(piece)
        due = self.around.fault_watch.due(self._received, events)
        if due is None:
            if not kept:
                self._keep(piece, start, events)
        else:
            events = self._go_wrong(due[0], piece, due[1], events)
        for event in events:
            self._event(event)
        self.around.watched()
        if self._fatal is not None and not self.decoder.ended:
            raise self._fatal
        if self.decoder.ended and self.reception.return_path:
            # After a post-copy no description follows.
            if self._described or self.reception.postcopy:
                self._send_shut()
        else:
            self.request()

    def _keep(self, piece: memoryview, start: int, events: list[Event]) -> None:
        """Write a piece down, without commands that only the connection has a use for."""
        file = self._file
        assert file is not None
        done = 0
        if self.around.drops_commands and self.reception.section is None:
            for event in events:
                if isinstance(event, SectionStart):
                    break
                if isinstance(event, Command) and event.command in CONNECTION:
                    begin, size = event.offset - start, len(event.encode())
                    if begin < done:  # it began in the piece before
                        file.take_back(done - begin)
                        size -= done - begin
                        begin = done
                    file.write(piece[done:begin])
                    done = begin + size
                    file.count(size)
                    self.reception.dropped.append(CommandType(event.command).name)
        file.write(piece[done:])

    def _go_wrong(
        self, fault: InjectedFault, piece: memoryview, place: int, events: list[Event]
    ) -> list[Event]:
        """A fault at a place of a piece; returns the events behind it, if it goes on."""
        file = self._file
        assert file is not None
        head = max(0, place - self._received + len(piece))
        file.write(piece[:head])
        for event in events:
            if event.offset < place:
                self._event(event)
        self.around.inject(fault, self)
        file.write(piece[head:])
        return [event for event in events if event.offset >= place]

    def _finish_decoding(self) -> None:
        for event in self.decoder.close():
            if not isinstance(event, Fault):
                self._event(event)

    def _event(self, event: Event) -> None:
        match event:
            case Pages():
                self.arrived(event)
                self._round(event)
            case RamMark(flag=RamFlag.MULTIFD_FLUSH):
                self._flushes += 1
            case RamMark(flag=RamFlag.EOS):
                self._section_ends += 1
            case Command():
                self._command(event)
            case RamBlock():
                self.pages.add_block(event)
                self.reception.memory += event.used_length
            case SectionStart():
                self.reception.section = event.idstr
                if event.kind == Element.PART and event.idstr == "ram":
                    self.reception.iterations += 1
            case Configuration():
                self.reception.machine = event.machine
            case DescriptionText():
                self._described = True
            case Fault(fatal=True):
                self._fatal = event.error

    def _round(self, pages: Pages) -> None:
        """See how far the source has come, and whether it began with its first page anew."""
        reception, runs = self.reception, pages.runs
        if runs.kind.max(initial=0) > _PLAIN:
            reception.plain = False
        first = int(runs.block[0]), int(runs.page[0])
        reception.begin_round(anew=first < self._last_page)
        self._last_page = int(runs.block[-1]), int(runs.page[-1])
        reception.round_bytes += int(runs.count.sum()) * pages.page_size

    # What the source asks

    def _command(self, command: Command) -> None:
        dropped = self.around.drops_commands and command.command in CONNECTION
        if not stays(command) and not (dropped and self.reception.section is None):
            self.reception.plain = False
        match command.command:
            case CommandType.OPEN_RETURN_PATH:
                self._open_return_path()
            case CommandType.PING:
                self.answer(ReturnType.PONG, command.payload)
            case CommandType.POSTCOPY_RAM_DISCARD:
                block, ranges = discard_ranges(command)
                for start, length in ranges:
                    self.pages.discard(block, start, length)
            case CommandType.POSTCOPY_LISTEN:
                self.reception.postcopy = self._asking = True
            case CommandType.RECV_BITMAP:
                self._send_bitmap(text_of(command.payload[1 : 1 + command.payload[0]]))
            case CommandType.POSTCOPY_RESUME:
                self._asking = True
                self.answer(ReturnType.RESUME_ACK, struct.pack(">I", 1))

    def _open_return_path(self) -> None:
        channel, file = self._channel, self._file
        assert channel is not None and file is not None
        if not channel.bidirectional:
            raise StreamError(
                "the source asks for a return path, which this channel can not carry",
                offset=file.size,
                file=channel.name,
            )
        self.reception.return_path = True
        if self.around.acknowledges(self.reception.machine):
            self.answer(ReturnType.SWITCHOVER_ACK, b"")

    def _send_bitmap(self, block: str) -> None:
        name = bytes_of(block)
        payload = bytes((len(name),)) + name
        self.answer(ReturnType.RECV_BITMAP, payload, bitmap=self.pages.bitmap(block))

    def _send_shut(self) -> None:
        """Say that all is well: the source then lets go of its guest."""
        if self._shut:
            return
        self._await_others()
        self._shut = True
        failed = self.around.lacks() is not None
        self.answer(ReturnType.SHUT, struct.pack(">I", failed))

    def _await_others(self) -> None:
        """Wait for what the source sent on other channels before what came here.

        Multifd: before the end of each RAM section up to machine type 8.0, and before
        each FLUSH mark after that, a sync packet went over every channel. Preempt: pages
        that are missing here were sent there.
        """
        marks = self._flushes or self._section_ends
        end = time.monotonic() + FINISH
        while time.monotonic() < end:
            missing = self.reception.postcopy and next(self.pages.missing(), None)
            if not missing and self.around.synchronised(marks):
                return
            time.sleep(_POLL)

    def answer(self, kind: ReturnType, payload: bytes, bitmap: bytes | None = None) -> None:
        """Send a message on the return path, where there is one, and keep it in its file."""
        if not self.reception.return_path:
            return
        assert self._channel is not None
        data = ReturnMessage(0, kind, payload, bitmap).encode()
        with self._answering:
            self._channel.send(data)
            if self._return is None:
                self._return = self.around.keep("return")
            self._return.write(data)

    # Post-copy

    def request(self) -> None:
        """Ask for the next pages that have not arrived, one request at a time."""
        with self._answering:
            if not self._asking or not self.reception.return_path:
                return
            missing = next(self.pages.missing(), None)
            if missing is None or missing == self._asked:
                return
            self._asked = missing
            block, start, length = missing
            length = min(length, REQUEST)
            name = bytes_of(block)
            payload = struct.pack(">QI", start, length) + bytes((len(name),)) + name
            self.answer(ReturnType.REQ_PAGES_ID, payload)
            assert self.pages.page_size is not None
            self.reception.pages_requested += -(-length // self.pages.page_size)

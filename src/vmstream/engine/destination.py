"""The receiving end of a migration, at the level of the protocol.

A destination that loads nothing: it takes every channel that a source opens,
answers on the return path what QEMU's own destination answers
(``migration/savevm.c``, ``migration/migration.c``), asks for the pages that
post-copy leaves behind, takes up a post-copy whose connection broke, and keeps
every byte in the file of its channel. The source ends ``completed``.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from vmstream.channels.channel import Channel, Listener
from vmstream.channels.pieces import Conduit, NotPossible, Pieces
from vmstream.engine.faults import Fault, FaultKind, FaultWatch
from vmstream.engine.main_channel import FINISH, MainChannel
from vmstream.engine.reception import Arrived, ChannelFile, Reception
from vmstream.errors import ChannelError, NobodyCame, PeerClosed, ShutDown, StreamError, TimedOut
from vmstream.stream.channels import MultifdDecoder, PreemptDecoder
from vmstream.stream.events import Event
from vmstream.wire.commands import COMMAND_NUMBERS
from vmstream.wire.multifd import MULTIFD_MAGIC, MultifdPacket, OldMultifdPacket
from vmstream.wire.ram import Pages
from vmstream.wire.return_path import ReturnType
from vmstream.wire.sections import FILE_MAGIC, Element

__all__ = ["Destination"]

SWITCHOVER_ACK_SINCE = (8, 1)
QUEUED = 0.05
"""Seconds to wait for another connection before looking whether all is over."""
OTHER_PIECE = 1 << 20
"""Bytes received at a time, at most, on each of what may be 255 channels."""
_USUAL_PAGE = 4096
_MANY = ("tcp:", "unix:", "vsock:")

Watch = Callable[[Reception], None]


class Destination:
    """Receives one migration into a folder.

    Args:
        listener: where the source connects.
        folder: for the files, one for each channel.
        fault: what to do wrong, and where.
        switchover_ack: acknowledge the switchover (8.1+); by default when the
            source's machine type says that it knows of this.
        drops_commands: do not keep commands that come before the guest and that only
            the connection has a use for: a QEMU that reads a file refuses them.
        watch: called as bytes arrive.
    """

    def __init__(
        self,
        listener: Listener,
        folder: Path,
        *,
        fault: Fault | None = None,
        switchover_ack: bool | None = None,
        drops_commands: bool = False,
        watch: Watch | None = None,
    ) -> None:
        self.listener = listener
        self.folder = folder
        self.reception = Reception()
        self.fault_watch = FaultWatch(fault)
        # What is kept of a migration that fails on purpose is all that came before.
        self.drops_commands = drops_commands and fault is None
        self._switchover_ack = switchover_ack
        self._watch = watch
        self._lock = threading.Lock()
        self._channels: list[Channel] = []
        self._threads: list[threading.Thread] = []
        self._main: MainChannel | None = None
        self._over = threading.Event()
        self._carrying: list[Channel] = []
        self._taken_up: tuple[Channel, bytes] | None = None
        self._again = threading.Event()
        self._error: BaseException | None = None
        self._lost: ChannelError | None = None
        """Why the first connection that could not be taken was not."""
        self._syncs: dict[Channel, int] = {}

    # The whole

    def run(self) -> Reception:
        """Receive until the source is done.

        Raises:
            StreamError: it did not come to its end; what arrived is in the folder, and
                :attr:`reception` says how far it got.
        """
        acceptor = self._start(self._accept_all)
        try:
            self._over.wait()
        finally:
            self._over.set()
            self._again.set()
            if not self.reception.ended:
                self.listener.shutdown()
            acceptor.join()
            self._stop_channels()
            self.listener.close()
        if self._error is not None:
            self.reception.error = str(self._error)
            raise self._error
        return self.reception

    def _stop_channels(self) -> None:
        """End every thread; those of a migration that went well come to their end first.

        Where the source waited for our word, everything had arrived by then.
        """
        if self.reception.ended:
            for thread in self._threads:
                thread.join(FINISH if self.reception.return_path else None)
        for channel in self._channels:
            channel.shutdown()
        for thread in self._threads:
            thread.join()
        for channel in self._channels:
            with contextlib.suppress(ChannelError):
                channel.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
        return thread

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self._error is None and not self._over.is_set():
                if isinstance(error, StreamError):
                    error.file = error.file or str(self.listener.address)
                self._error = error
        self._over.set()
        self._again.set()

    def _accept_all(self) -> None:
        """Take every connection; after the end those, too, that still wait in the queue."""
        while True:
            first = not self._channels
            try:
                channel = self.listener.accept(None if first else QUEUED)
            except ShutDown:
                return
            except ChannelError as error:
                if first:
                    self._fail(error)
                if self._over.is_set():
                    return
                if not isinstance(error, NobodyCame):
                    self._lost = self._lost or error
                continue  # one connection that went wrong is no reason to send others away
            self._channels.append(channel)
            self.reception.began = self.reception.began or time.monotonic()
            if self.fault_watch.refuses:
                channel.shutdown()
                self._fail(StreamError("the connection was refused on purpose"))
                return
            self._threads.append(self._start(self._take, channel))
            if not self._many:
                return

    @property
    def _many(self) -> bool:
        """Whether more channels can come: not through one pipe or descriptor."""
        return str(self.listener.address).startswith(_MANY)

    # One channel

    def _take(self, channel: Channel) -> None:
        """Tell a channel by its first bytes, and keep what arrives on it."""
        try:
            first = self._first(channel)
            kind = self._kind(first)
            if kind == "resumed":
                self._take_again(channel, first)
            elif kind == "main":
                self._take_main(channel, first)
            else:
                self._take_other(channel, kind, first)
                channel.shutdown()
        except ShutDown:
            return
        except StreamError as error:
            self._fail(error)
        except OSError as error:
            what = f"what arrives can not be kept in {error.filename}: {error.strerror}"
            self._fail(StreamError(what))
        except BaseException as error:  # a thread's own end would leave the others waiting
            self._fail(error)

    def _first(self, channel: Channel) -> bytes:
        """The first four bytes, or fewer when it ends before; a preempt channel waits long."""
        want = 4 if self._main is not None else self.fault_watch.limit(0, 4)
        got = b""
        while len(got) < want:
            try:
                piece = channel.recv(want - len(got))
            except TimedOut:
                if self._main is not None and not got:
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
        if self._main is not None:
            return "resumed" if _is_command(first) else "preempt"
        if not first:
            raise PeerClosed("the source closed its connection before it sent anything")
        if magic != FILE_MAGIC and (len(first) == 4 or not b"QEVM".startswith(first)):
            raise StreamError(
                "what arrives is no migration",
                offset=0,
                expected=f"{FILE_MAGIC:#x} (QEVM) or {MULTIFD_MAGIC:#x} (multifd)",
                found=first.hex(),
            )
        return "main"

    def keep(self, kind: str) -> ChannelFile:
        """A new file for a channel.

        Raises:
            OSError: it can not be made.
        """
        with self._lock:
            number = sum(file.kind == kind for file in self.reception.files)
            name = {"main": "stream", "multifd": f"channel-{number}"}.get(kind, kind)
            if number and kind != "multifd":
                name += f"-{number}"
            arrived = Arrived(kind, self.folder / f"{name}.mig")
            self.reception.files.append(arrived)
        return ChannelFile(arrived, self.reception, self._lock)

    def _take_other(self, channel: Channel, kind: str, first: bytes) -> None:
        """A multifd or preempt channel, to its end."""
        main = self._main
        if not first:
            return  # opened for post-copy, which never came
        self._carrying.append(channel)
        if kind == "multifd":
            self._syncs[channel] = 0
            decoder: MultifdDecoder | PreemptDecoder = MultifdDecoder(_USUAL_PAGE)
        else:
            assert main is not None
            lengths = main.pages.lengths
            size = main.pages.page_size or _USUAL_PAGE
            decoder = PreemptDecoder(list(lengths), list(lengths.values()), size)
        self.reception.plain = False
        with self.keep(kind) as file, Conduit(OTHER_PIECE) as conduit:
            file.write(first)
            self._look(channel, decoder.feed(first))
            arriving = _Arriving(channel, file, conduit)
            while piece := self._piece(arriving):
                with piece:
                    self._look(channel, decoder.feed(piece))

    def _piece(self, arriving: _Arriving) -> memoryview:
        """What comes next; nothing at the end. The main channel knows whether the source lives."""
        while True:
            try:
                return arriving.next()
            except TimedOut:
                if self._over.is_set():
                    break
            except PeerClosed:
                break
        return memoryview(b"")

    def _look(self, channel: Channel, events: Iterable[Event]) -> None:
        """Note what matters of a channel beside the main one."""
        urgent = False
        for event in events:
            if isinstance(event, MultifdPacket | OldMultifdPacket):
                self._syncs[channel] += event.sync
                self._count(event)
            elif isinstance(event, Pages) and self._main is not None:
                self._main.arrived(event)
                urgent = True
        if urgent and self._main is not None:
            with contextlib.suppress(ChannelError):  # the main channel's thread sees it, too
                self._main.request()

    def _count(self, packet: MultifdPacket | OldMultifdPacket) -> None:
        """Note the pages of a packet."""
        pages = packet.normal_pages + packet.zero_pages
        if not pages:
            return
        page_size = getattr(packet, "page_size", _USUAL_PAGE)
        with self._lock:
            self.reception.begin_round(anew=False)
            self.reception.round_bytes += pages * page_size

    def synchronised(self, marks: int) -> bool:
        """Whether every multifd channel has come to so many sync packets."""
        return all(count >= marks for count in self._syncs.values())

    def lacks(self) -> StreamError | None:
        """What is missing because a connection could not be taken.

        With TLS, multifd of QEMU 4.0 to 5.1 sends pages without it, and nothing on the
        main channel tells of them.
        """
        main = self._main
        if self._lost is None or self._syncs or main is None or not main.pages.lengths:
            return None
        if main.pages.page_size is not None and next(main.pages.missing(), None) is None:
            return None
        return StreamError(
            "memory is missing, and a connection that may have carried it could not be "
            f"taken: {self._lost}"
        )

    # The main channel

    def _take_main(self, channel: Channel, first: bytes) -> None:
        main = self._main = MainChannel(self)
        try:
            while True:
                self._carrying.append(channel)
                with self.keep("main") as file:
                    try:
                        main.run(channel, file, first)
                        break
                    except (PeerClosed, TimedOut, ShutDown) as error:
                        broken = error
                if self._over.is_set() or not self._recoverable:
                    raise broken
                channel, first = self._source_again(broken)
                main.resume()
                self.reception.resumed += 1
        finally:
            main.close()
        self.reception.ended = True
        self._over.set()

    @property
    def _recoverable(self) -> bool:
        """Whether the source can take up what broke: a post-copy (3.0+)."""
        return self.reception.postcopy and self.reception.return_path and self._many

    def _take_again(self, channel: Channel, first: bytes) -> None:
        """A connection that takes up a post-copy; the old one may not have been seen to break."""
        self._drop_connections()
        self._taken_up = (channel, first)
        self._again.set()

    def _drop_connections(self) -> None:
        carrying, self._carrying = self._carrying, []
        for channel in carrying:
            channel.shutdown()

    def _source_again(self, error: StreamError) -> tuple[Channel, bytes]:
        """Wait until the source takes up the post-copy whose connection broke.

        It keeps the guest's last state, so nothing may be given up before the time is over.
        """
        self._drop_connections()
        if not self._again.wait(self.listener.timeout):
            error.message += (
                f"; nothing took the post-copy up again within {self.listener.timeout:g} s "
                f"(in the source's monitor: migrate -r {self.listener.address})"
            )
            raise error
        if self._taken_up is None:
            raise error
        taken, self._taken_up = self._taken_up, None
        self._again.clear()
        return taken

    def inject(self, fault: Fault, main: MainChannel) -> None:
        """Do what a fault asks for.

        Raises:
            StreamError: always, unless it only stalls.
        """
        if fault.kind is FaultKind.STALL:
            self._over.wait(fault.seconds)
            return
        if fault.kind is FaultKind.FAIL:
            main.answer(ReturnType.SHUT, struct.pack(">I", 1))
        for channel in list(self._channels):
            channel.shutdown()
        what = "failure was told" if fault.kind is FaultKind.FAIL else "connection was cut"
        main_size = next(file.size for file in self.reception.files if file.kind == "main")
        raise StreamError(f"the {what} on purpose", offset=main_size)

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


class _Arriving:
    """Keeps what comes on a channel beside the main one, without copying it where that can be."""

    def __init__(self, channel: Channel, file: ChannelFile, conduit: Conduit) -> None:
        self._channel = channel
        self._file = file
        self._conduit = conduit
        self._pieces: Pieces | None = None

    def next(self) -> memoryview:
        """The next piece, which stands in the file; empty at the end."""
        if self._pieces is None:
            try:
                return self._file.take(self._channel, self._conduit)
            except NotPossible:
                self._pieces = Pieces(OTHER_PIECE)
        piece = self._pieces.next(self._channel)
        self._file.write(piece)
        return piece


def _is_command(first: bytes) -> bool:
    """Whether a channel begins with a command, as the main channel of a recovery does."""
    number = int.from_bytes(first[1:3], "big")
    return first[:1] == bytes((Element.COMMAND,)) and number in COMMAND_NUMBERS

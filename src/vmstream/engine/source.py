"""The sending end of a migration that is already a stream.

Opens the channels that a source of QEMU opens, sends pieces on them, and hears
on the return path whether the destination loaded them
(``migration/migration.c``, ``migration/savevm.c``).
"""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue

import msgspec

from vmstream.channels.channel import Channel
from vmstream.channels.rate import RateLimit
from vmstream.errors import (
    ChannelError,
    PeerClosed,
    ShutDown,
    StreamError,
    TimedOut,
    Truncated,
)
from vmstream.stream.channels import ReturnPathDecoder
from vmstream.stream.events import Fault
from vmstream.stream.ram_writer import Piece, Stored
from vmstream.stream.stream import ByteSource
from vmstream.wire.commands import Command, CommandType
from vmstream.wire.return_path import ReturnMessage, ReturnType

__all__ = ["Answers", "Source", "opening_commands"]

PIECE = 1 << 16
STEP = 1 << 18
"""Bytes of what stands behind a piece's buffers that are sent at a time."""
PARTS_STEP = 1 << 22
"""The same of parts that are sent from where they are, as fast as they go."""


def opening_commands() -> bytes:
    """What asks for a return path: OPEN_RETURN_PATH, then PING 1."""
    ping = Command(0, CommandType.PING, struct.pack(">I", 1))
    return Command(0, CommandType.OPEN_RETURN_PATH, b"").encode() + ping.encode()


class Answers(msgspec.Struct):
    """What the destination said on the return path."""

    messages: list[ReturnMessage] = msgspec.field(default_factory=list)
    status: int | None = None
    """The value of SHUT: 0 when everything was loaded; None when it did not say."""

    @property
    def refused(self) -> bool:
        """The destination says that it failed."""
        return bool(self.status)


class Source:
    """Sends pieces to a destination.

    Args:
        connect: opens one channel there.
        openings: what each channel beside the main one begins with. It is sent as soon
            as the channel stands: with TLS, QEMU 7.2 reads it before it answers the
            next handshake.
        return_path: whether to listen for answers; the stream then asks for them.
        rate: shared by all channels.
        stored: what pieces refer to that are sent as they stand there.
        timeout: seconds to wait for the destination's last word.
    """

    def __init__(
        self,
        connect: Callable[[], Channel],
        *,
        openings: Sequence[bytes] = (),
        return_path: bool = False,
        rate: RateLimit | None = None,
        stored: ByteSource | None = None,
        timeout: float,
    ) -> None:
        self.answers = Answers()
        self.sent = 0
        """Bytes on all channels."""
        self._rate = rate or RateLimit()
        self._stored = stored
        self._room = memoryview(bytearray(STEP if stored is not None else 0))
        self._timeout = timeout
        self._watch: Callable[[], None] | None = None
        self._ahead = threading.Semaphore(0)
        self._failure: BaseException | None = None
        self._counting = threading.Lock()
        self._broken = threading.Event()
        self._answered = threading.Event()
        self._channels: list[Channel] = []
        try:
            # QEMU before 8.0 takes the first connection for the main channel.
            self._channels.append(connect())
            for opening in openings:
                channel = connect()
                self._channels.append(channel)
                channel.send(opening)
                self.sent += len(opening)
        except BaseException:
            self.close()
            raise
        self._listener: threading.Thread | None = None
        if return_path:
            self._listener = threading.Thread(target=self._listen, daemon=True)
            self._listener.start()

    @property
    def bidirectional(self) -> bool:
        """Whether answers can come back."""
        return self._channels[0].bidirectional

    def send(
        self,
        pieces: Iterable[Piece],
        watch: Callable[[], None] | None = None,
        *,
        ahead: int = 1,
    ) -> None:
        """Send everything, each channel by a thread of its own.

        Args:
            watch: called as bytes are sent, by one thread at a time.
            ahead: pieces that wait or are being sent while the next one is made.

        Raises:
            StreamError: the connection broke, or the destination said that it failed;
                or content can not be read.
        """
        self._watch = watch
        self._ahead = threading.Semaphore(ahead)
        waiting = [SimpleQueue[Piece | None]() for _ in self._channels]
        senders = [
            threading.Thread(target=self._send_waiting, args=(queue,), daemon=True)
            for queue in waiting
        ]
        for sender in senders:
            sender.start()
        try:
            for piece in pieces:
                self._ahead.acquire()
                if self._over:
                    break
                waiting[piece.channel].put(piece)
        except BaseException:
            self._shutdown()  # no sender must wait for the other end any more
            raise
        finally:
            for queue in waiting:
                queue.put(None)
            for sender in senders:
                sender.join()
        if self.answers.refused:
            raise _refused(self.answers) from self._failure
        if self._failure is not None:
            raise self._failure

    @property
    def _over(self) -> bool:
        """What is left need not be sent any more."""
        return self._failure is not None or self.answers.refused

    def _send_waiting(self, waiting: SimpleQueue[Piece | None]) -> None:
        """Send the pieces of one channel, up to None."""
        while (piece := waiting.get()) is not None:
            try:
                if not self._over:
                    self._give(piece)
            except BaseException as error:  # raised by the thread that makes the pieces
                if self._failure is None:
                    self._failure = error
                    self._give_up(error)
            finally:
                self._ahead.release()

    def _give_up(self, error: BaseException) -> None:
        """Have every other sender end, too."""
        # What it says on the return path is the better reason, if it says anything.
        if self._listener is not None and isinstance(error, (PeerClosed, ShutDown)):
            self._answered.wait(1.0)
        self._shutdown()

    def _shutdown(self) -> None:
        for channel in self._channels:
            channel.shutdown()

    def _give(self, piece: Piece) -> None:
        """Send a piece, no faster than the rate."""
        channel = self._channels[piece.channel]
        if piece.buffers:
            channel.send(*piece.buffers)
            self._count(sum(map(len, piece.buffers)))
        if piece.behind is None:
            return
        apart = isinstance(piece.behind, Stored) or self._rate.bytes_per_second
        step = STEP if apart else PARTS_STEP
        for start in range(0, piece.behind.size, step):
            size = min(step, piece.behind.size - start)
            if isinstance(piece.behind, Stored):
                self._give_stored(channel, piece.behind.offset + start, size)
            else:
                channel.send_parts(piece.behind, start, start + size)
            self._count(size)

    def _give_stored(self, channel: Channel, offset: int, size: int) -> None:
        """Send a part as it stands.

        By way of a buffer that stays in the processor's cache: a destination that is
        given pages of a file's cache (``sendfile``) takes longer to read them.
        """
        assert self._stored is not None
        room = self._room[:size]
        if self._stored.read_into(offset, room) < size:
            raise Truncated("the input ends inside a section", offset=offset)
        channel.send(room)

    def _count(self, size: int) -> None:
        with self._counting:
            self.sent += size
            if self._watch is not None:
                self._watch()
        self._rate.spend(size)
        if rest := self._rate.rest():
            self._broken.wait(rest)

    def finish(self) -> None:
        """Say that all is sent, and wait for the destination's last word.

        Raises:
            StreamError: it failed, or it did not say in time.
        """
        if self._listener is None:
            for channel in self._channels:
                # A destination that has read the end need not wait for our goodbye.
                with contextlib.suppress(PeerClosed):
                    channel.finish()
            self._await_end()
            return
        if not self._answered.wait(self._timeout):
            raise TimedOut("the destination did not say whether it loaded the stream")
        if self.answers.status is None:
            raise PeerClosed("the destination closed the return path before it said how it went")
        if self.answers.refused:
            raise _refused(self.answers)
        for channel in self._channels:
            with contextlib.suppress(ChannelError):
                channel.finish()

    def _await_end(self) -> None:
        """Without a return path, wait until the destination closes: it has then read all."""
        main = self._channels[0]
        if not main.readable:
            return
        main.timeout = self._timeout
        with contextlib.suppress(PeerClosed, TimedOut):
            while main.recv(PIECE):
                pass

    def close(self) -> None:
        """Give everything back."""
        self._broken.set()
        self._shutdown()
        if getattr(self, "_listener", None) is not None:
            assert self._listener is not None
            self._listener.join()
        for channel in self._channels:
            with contextlib.suppress(ChannelError):
                channel.close()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self) -> None:
        decoder = ReturnPathDecoder()
        main = self._channels[0]
        try:
            while not self._broken.is_set():
                try:
                    piece = main.recv(PIECE)
                except TimedOut:
                    continue
                if not piece:
                    return
                for event in decoder.feed(piece):
                    if isinstance(event, Fault):
                        return
                    if isinstance(event, ReturnMessage):
                        self._heard(event)
        except ChannelError:
            return
        finally:
            self._answered.set()

    def _heard(self, message: ReturnMessage) -> None:
        self.answers.messages.append(message)
        if message.type is ReturnType.SHUT:
            self.answers.status = int.from_bytes(message.payload, "big")
            self._answered.set()


def _refused(answers: Answers) -> StreamError:
    return StreamError(
        "the destination says that loading failed; its own log tells why",
        expected="SHUT 0 on the return path",
        found=f"SHUT {answers.status}",
    )

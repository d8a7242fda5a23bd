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
from vmstream.stream.ram_writer import Piece
from vmstream.stream.stream import ByteSource
from vmstream.wire.commands import Command, CommandType
from vmstream.wire.return_path import ReturnMessage, ReturnType

__all__ = ["Answers", "Source", "opening_commands"]

PIECE = 1 << 16
STEP = 1 << 18
"""Bytes of a stored part that are read and sent at a time."""


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

    def send(self, pieces: Iterable[Piece], watch: Callable[[], None] | None = None) -> None:
        """Send everything.

        Raises:
            StreamError: the connection broke, or the destination said that it failed;
                or content can not be read.
        """
        self._watch = watch
        try:
            for piece in pieces:
                if self.answers.refused:
                    raise _refused(self.answers)
                self._give(piece)
        except (PeerClosed, ShutDown) as error:
            # What it says on the return path is the better reason, if it says anything.
            if self._listener is not None:
                self._answered.wait(1.0)
            if self.answers.refused:
                raise _refused(self.answers) from error
            raise

    def _give(self, piece: Piece) -> None:
        """Send a piece, no faster than the rate."""
        channel = self._channels[piece.channel]
        if piece.buffers:
            channel.send(*piece.buffers)
            self._count(sum(map(len, piece.buffers)))
        if piece.stored is not None:
            end = piece.stored.offset + piece.stored.size
            for at in range(piece.stored.offset, end, STEP):
                size = min(STEP, end - at)
                self._give_stored(channel, at, size)
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
        self.sent += size
        self._rate.spend(size)
        if rest := self._rate.rest():
            self._broken.wait(rest)
        if self._watch is not None:
            self._watch()

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
        for channel in self._channels:
            channel.shutdown()
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

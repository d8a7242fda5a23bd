"""``send``: a stream given to a real destination."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice

import msgspec

from vmstream.channels.channel import Place, connect
from vmstream.channels.rate import RateLimit
from vmstream.channels.tls import Credentials
from vmstream.channels.uri import FileAddress, parse_address
from vmstream.engine.source import Source, opening_commands
from vmstream.errors import StreamError
from vmstream.stream.ram_writer import Piece, RamWriter, Stored
from vmstream.stream.rewriting import check_convertible, configuration, is_plain, rewritten
from vmstream.stream.stream import Stream
from vmstream.tools.convert import Compression, Form, Options, ram_writer
from vmstream.tools.reports import file_of
from vmstream.wire.sections import DescriptionText

__all__ = ["RETURN_PATH_SINCE", "SendReport", "asks", "send"]

TIMEOUT = 300.0
NO_DEVICES = b'{"devices": []}'
"""The description of a guest of which none is known."""
RETURN_PATH_SINCE = (2, 10)
"""Machine types of which every QEMU says on a return path that it loaded the stream.

2.5 to 2.9 know the command that asks for one, and say so after a post-copy only
(``migration/migration.c``, ``migrate_send_rp_shut``).
"""

Advance = Callable[[int, int | None], None]


class SendReport(msgspec.Struct, frozen=True):
    """What was sent, and what the destination said."""

    file: str
    uri: str
    complete: bool
    """Everything was sent, and the destination said nothing to the contrary."""
    confirmed: bool
    """The destination said that it loaded the stream: not without a return path."""
    error: str | None
    seconds: float
    bytes: int
    """On all channels."""
    section: str | None
    """What was being sent when it ended."""
    channels: int
    """Beside the main one."""
    answers: tuple[str, ...]
    """Messages on the return path."""


def send(
    stream: Stream,
    place: Place,
    *,
    channels: int = 0,
    compression: Compression = Compression.NONE,
    return_path: bool | None = None,
    rate: int = 0,
    tls: Credentials | None = None,
    timeout: float = TIMEOUT,
    advance: Advance | None = None,
) -> SendReport:
    """Be the source of a migration of the guest in a stream.

    Args:
        channels: multifd channels; 0 sends pages on the main channel.
        compression: of multifd's packets.
        return_path: ask the destination to answer; by default where the channel
            goes both ways and its QEMU is new enough by the machine type.
        rate: bytes a second at most on all channels together; 0 is no limit.
        timeout: seconds to wait for a connection, for each write, and for the
            destination's last word.
        advance: called with bytes sent and in all: of guest memory, or of a plain stream.

    Raises:
        StreamError: the stream is not whole, or no connection came about.
    """
    check_convertible(stream)
    ram: RamWriter | None = None
    if channels or not is_plain(stream):
        form = Form.MULTIFD if channels else Form.PLAIN
        ram = ram_writer(stream, Options(form, channels or 1, compression), 0)

    def reach() -> object:
        return connect(place, timeout=timeout, tls=tls)

    answering = return_path if return_path is not None else asks(stream, place)
    began = time.monotonic()
    progress = _Progress()
    error: StreamError | None = None
    with Source(
        reach,  # type: ignore[arg-type]
        openings=[b"".join(piece.buffers) for piece in ram.opening()] if ram is not None else [],
        return_path=answering,
        rate=RateLimit(rate),
        stored=stream.source,
        timeout=timeout,
    ) as source:
        try:
            pieces = progress.follow(_pieces(stream, ram, answering))
            ahead = ram.kept - 1 if ram is not None else 1
            source.send(pieces, lambda: _tell(advance, stream, ram, source), ahead=ahead)
            progress.section = None
            source.finish()
        except StreamError as raised:
            error = raised
        answers = source.answers
    return SendReport(
        file_of(stream),
        str(place),
        error is None,
        error is None and answers.status == 0,
        str(error) if error is not None else None,
        time.monotonic() - began,
        source.sent,
        progress.section,
        channels,
        tuple(message.type.name for message in answers.messages),
    )


def _tell(advance: Advance | None, stream: Stream, ram: RamWriter | None, source: Source) -> None:
    """How far it is: by guest memory, or by bytes where memory is sent as it stands."""
    if advance is None:
        return
    if ram is None:
        advance(source.sent, stream.source.size)
    else:
        advance(ram.done, sum(block.size for block in stream.memory))


def asks(stream: Stream, place: Place) -> bool:
    """Whether a destination is asked for a return path when nobody says so."""
    address = parse_address(place) if isinstance(place, str) else place
    if isinstance(address, FileAddress) or str(address).startswith(("exec:", "file:", "fd:")):
        return False
    machine = stream.machine
    if machine is None:
        return False
    version = machine.rpartition("-")[2].split(".")
    numbers = tuple(int(part) for part in version if part.isdigit())
    return len(numbers) < 2 or numbers >= RETURN_PATH_SINCE


def _pieces(stream: Stream, ram: RamWriter | None, answering: bool) -> Iterator[Piece]:
    """The stream anew, with the commands that ask for answers behind its head."""
    head = configuration(stream, mapped=False)
    pieces = rewritten(stream, ram, head)
    for _ in ram.opening() if ram is not None else ():
        next(pieces)  # sent with the channel's connection
    yield from islice(pieces, 2 if head is not None else 1)
    if answering:
        yield Piece([opening_commands()])
    yield from pieces
    if stream.description_text is None and head is not None:
        # After a post-copy there is none; a destination (2.4+) waits for one unless its
        # machine leaves it out (``suppress-vmdesc``), reads it, and makes no use of it.
        yield Piece([DescriptionText(0, NO_DEVICES).encode()])


class _Progress:
    """Which section is on its way, by the headers that go by."""

    def __init__(self) -> None:
        self.section: str | None = None

    def follow(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            first = bytes(piece.buffers[0][:262]) if piece.buffers else b""
            if isinstance(piece.behind, Stored):
                self.section = "ram"
            if not piece.channel and len(first) > 6 and first[0] in (1, 4):
                name = first[6 : 6 + first[5]]
                if len(name) == first[5] and name.isascii() and name.decode().isprintable():
                    self.section = name.decode()
            yield piece

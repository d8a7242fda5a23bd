"""What is kept of a main channel, and what is answered on it."""

from __future__ import annotations

import struct
import threading
from pathlib import Path

import pytest

from corpus import case_named
from vmstream.channels.memory import MemoryChannel
from vmstream.engine.faults import FaultWatch
from vmstream.engine.main_channel import MainChannel
from vmstream.engine.reception import Arrived, ChannelFile, Reception
from vmstream.errors import PeerClosed, StreamError
from vmstream.stream.channels import ReturnPathDecoder
from vmstream.wire.commands import Command, CommandType
from vmstream.wire.ram import RamBlock
from vmstream.wire.return_path import ReturnMessage, ReturnType
from vmstream.wire.sections import EndOfStream, FileHeader

HEAD, END = FileHeader(0, 3).encode(), EndOfStream(0).encode()
OPENING = (
    Command(0, CommandType.OPEN_RETURN_PATH, b"").encode(),
    Command(0, CommandType.PING, struct.pack(">I", 1)).encode(),
)
LISTEN = Command(0, CommandType.POSTCOPY_LISTEN, b"").encode()
RESUME = Command(0, CommandType.POSTCOPY_RESUME, b"").encode()


class SmallPieces(FaultWatch):
    """Lets so many bytes arrive at a time."""

    def __init__(self, size: int) -> None:
        super().__init__(None)
        self.size = size

    def limit(self, received: int, most: int) -> int:
        return min(self.size, most)


class Around:
    """A destination of one channel."""

    def __init__(self, folder: Path, *, size: int = 1 << 20, drops: bool = True) -> None:
        self.reception = Reception()
        self.fault_watch = SmallPieces(size)
        self.drops_commands = drops
        self.folder = folder

    def keep(self, kind: str) -> ChannelFile:
        arrived = Arrived(kind, self.folder / kind)
        self.reception.files.append(arrived)
        return ChannelFile(arrived, self.reception, threading.Lock())

    def synchronised(self, marks: int) -> bool:
        return True

    def watched(self) -> None: ...

    def inject(self, fault: object, main: MainChannel) -> None: ...

    def lacks(self) -> StreamError | None:
        return None

    def acknowledges(self, machine: str | None) -> bool:
        return False


class Peer(MemoryChannel):
    """Gives what the source sends, and keeps apart what it is answered."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.answers = b""

    def send(self, *buffers: object) -> None:
        self.answers += b"".join(map(bytes, buffers))  # type: ignore[call-overload]

    @property
    def messages(self) -> list[ReturnMessage]:
        events = ReturnPathDecoder().feed(self.answers)
        return [event for event in events if isinstance(event, ReturnMessage)]


def taken(around: Around, data: bytes) -> tuple[bytes, Peer]:
    """What is in the file after ``data`` arrived, and who sent it."""
    main, peer = MainChannel(around), Peer(data)
    with around.keep("main") as file:
        main.run(peer, file, b"")
    main.close()
    return (around.folder / "main").read_bytes(), peer


@pytest.mark.parametrize("size", [1, 3, 7, 20, 1 << 20])
def test_commands_of_the_connection_are_not_kept(size: int, tmp_path: Path) -> None:
    """However they are split: a QEMU that reads a file refuses them."""
    around = Around(tmp_path, size=size)
    kept, peer = taken(around, HEAD + b"".join(OPENING) + END)
    assert kept == HEAD + END
    assert around.reception.dropped == ["OPEN_RETURN_PATH", "PING"]
    assert around.reception.bytes == len(HEAD + b"".join(OPENING) + END)
    assert around.reception.plain
    assert [message.type for message in peer.messages] == [ReturnType.PONG]


def test_every_command_is_kept_where_all_is_asked_for(tmp_path: Path) -> None:
    around = Around(tmp_path, drops=False)
    data = HEAD + b"".join(OPENING) + END
    kept, _ = taken(around, data)
    assert kept == data
    assert not around.reception.plain


@pytest.mark.parametrize("size", [100, 4096, 1 << 20])
def test_a_recorded_stream_is_kept_whole(size: int, tmp_path: Path) -> None:
    """From a source with a return path; what it was answered begins as QEMU's answers did."""
    data = case_named("return-path-10.0").main.read_bytes()
    around = Around(tmp_path, size=size)
    kept, peer = taken(around, data)
    opening = b"".join(OPENING)
    at = data.index(opening)
    assert kept == data[:at] + data[at + len(opening) :]
    assert around.reception.plain
    assert around.reception.memory > 0
    assert [message.type for message in peer.messages] == [ReturnType.PONG, ReturnType.SHUT]


def test_pages_are_asked_for_again_only_when_the_source_says_so(tmp_path: Path) -> None:
    """QEMU 10.0 aborts on a request before its POSTCOPY_RESUME, with the preempt capability."""
    around = Around(tmp_path)
    main, peer = MainChannel(around), Peer(b"")
    main.pages.page_size = 4096
    main.pages.add_block(RamBlock(0, "pc.ram", 1 << 20))
    with around.keep("main") as file, pytest.raises(PeerClosed):
        main.run(peer, file, b"".join((HEAD, *OPENING, LISTEN)))
    assert [message.type for message in peer.messages] == [
        ReturnType.PONG,
        ReturnType.REQ_PAGES_ID,
    ]

    main.resume()
    main.request()
    assert len(peer.messages) == 2
    peer = Peer(b"")
    (tmp_path / "main").unlink()
    with around.keep("main") as file, pytest.raises(PeerClosed):
        main.run(peer, file, OPENING[1] + RESUME)
    main.close()
    assert [message.type for message in peer.messages] == [
        ReturnType.PONG,
        ReturnType.RESUME_ACK,
        ReturnType.REQ_PAGES_ID,
    ]

"""A migration whose sections have no footers: machine types up to 2.3, as QEMU 2.3.1 sends them.

While it is under way nothing tells where a device's state ends. Its end must be
seen all the same: when the source closes, and when it waits for our word.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from leaks import nothing_leaks

from builders import (
    END,
    HEADER,
    PAGE,
    command,
    configuration,
    described,
    description,
    device,
    ram,
    section,
    zero,
)
from corpus import case_named
from vmstream.engine.main_channel import GRACE
from vmstream.engine.source import opening_commands
from vmstream.stream.channels import ReturnPathDecoder
from vmstream.stream.decoder import Decoder
from vmstream.stream.events import Boundary, DeviceState, Fault
from vmstream.stream.reading import live_decoder
from vmstream.tools.open import open_stream
from vmstream.tools.receive import ReceiveReport, receive
from vmstream.tools.relay import relay
from vmstream.wire.commands import CommandType
from vmstream.wire.ram import Pages
from vmstream.wire.return_path import ReturnMessage, ReturnType
from vmstream.wire.sections import Element, SectionStart

SOON = 20.0
RECORDED = {"described": "old-stream-7.2", "not described": "old-stream-no-vmdesc-7.2"}
BLOCKS = {"pc.ram": 4 * PAGE}
HEAD = HEADER + configuration("pc-i440fx-2.3")
RAM = ram(BLOCKS, zero(0, "pc.ram"), b"", footer=None)
UNKNOWN = device(5, "my-own", b"\1" * 30, footer=None)


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    with nothing_leaks():
        yield


@pytest.fixture(params=RECORDED)
def recorded(request: pytest.FixtureRequest) -> bytes:
    """A stream without footers, of machine type 2.3 and of one that describes nothing."""
    with open_stream(case_named(RECORDED[request.param]).main) as stream:
        return b"".join(bytes(piece) for piece in stream.source.pieces())


def taken(data: bytes, out: Path, *, waits: bool = False) -> tuple[ReceiveReport, bytes]:
    """Receive ``data`` from a source that then closes, or first waits for our last word."""
    ours, theirs = socket.socketpair()
    heard = bytearray()

    def source() -> None:
        with theirs:
            theirs.sendall(data)
            decoder = ReturnPathDecoder()
            while waits and (piece := theirs.recv(4096)):
                heard.extend(piece)
                events = decoder.feed(piece)
                if any(isinstance(e, ReturnMessage) and e.type is ReturnType.SHUT for e in events):
                    break

    thread = threading.Thread(target=source)
    thread.start()
    report = receive(f"fd:{ours.detach()}", out, timeout=SOON)
    thread.join()
    return report, bytes(heard)


def test_it_is_whole_when_the_source_closes(recorded: bytes, tmp_path: Path) -> None:
    report, _ = taken(recorded, tmp_path / "out")
    assert report.complete, report.error
    assert (tmp_path / "out").read_bytes() == recorded


def test_a_source_that_waits_for_our_word_gets_it(recorded: bytes, tmp_path: Path) -> None:
    """QEMU 2.5 and later have a return path for these machine types, too."""
    asking = recorded[:8] + opening_commands() + recorded[8:]
    report, heard = taken(asking, tmp_path / "out", waits=True)
    assert report.complete, report.error
    assert report.seconds < 10 * GRACE
    messages = [e for e in ReturnPathDecoder().feed(heard) if isinstance(e, ReturnMessage)]
    assert [message.type for message in messages] == [ReturnType.PONG, ReturnType.SHUT]


@pytest.mark.parametrize("left", ["most", "memory"])
def test_one_that_breaks_off_is_not_whole(recorded: bytes, tmp_path: Path, left: str) -> None:
    with open_stream(recorded) as stream:
        end = next(s.offset for s in stream.sections if s.name == "ram" and s.type == Element.END)
        last = stream.states[-1].offset
    # A page record of zeros ends like the end mark of a stream does.
    cut = last - 3 if left == "most" else recorded.rindex(b"\0", 0, end) + 1
    report, _ = taken(recorded[:cut], tmp_path / "out")
    assert not report.complete
    assert "before the end of the stream" in (report.error or "")


def test_a_device_that_nothing_describes_may_be_the_last(tmp_path: Path) -> None:
    report, _ = taken(HEAD + RAM + UNKNOWN + END, tmp_path / "out")
    assert report.complete, report.error


def test_a_relay_sees_the_end(recorded: bytes, tmp_path: Path) -> None:
    (ours, theirs), (from_us, to_us) = socket.socketpair(), socket.socketpair()
    arrived = bytearray()

    def drain() -> None:
        with to_us:
            while piece := to_us.recv(1 << 16):
                arrived.extend(piece)

    def source() -> None:
        with theirs:
            theirs.sendall(recorded)

    threads = [threading.Thread(target=work) for work in (drain, source)]
    for thread in threads:
        thread.start()
    report = relay(f"fd:{ours.detach()}", f"fd:{from_us.detach()}", timeout=SOON)
    for thread in threads:
        thread.join()
    assert report.complete, report.error
    assert report.downtime is not None
    assert arrived == recorded


# The decoder


def test_it_says_meanwhile_whether_the_stream_could_end_here() -> None:
    states = UNKNOWN + device(6, "last", b"\2" * 10, footer=None)
    told = description([described("my-own", 30), described("last", 10)])
    decoder = live_decoder()
    decoder.feed(HEAD + RAM)
    assert not decoder.would_end()
    for piece in (states, END, told[:-1]):
        decoder.feed(piece)
        assert not decoder.would_end()
    decoder.feed(told[-1:])
    assert decoder.would_end()
    events = decoder.close()
    assert not [event for event in events if isinstance(event, Fault)]
    sizes = [len(event.data) for event in events if isinstance(event, DeviceState)]
    assert sizes == [30, 10]


def test_a_package_ends_what_stands_in_it() -> None:
    """In post-copy pages follow the package, and are asked for while the connection is open."""
    package = b"".join(
        (
            command(CommandType.POSTCOPY_LISTEN),
            UNKNOWN,
            device(6, "last", b"\2" * 10, footer=None),
            command(CommandType.PING, b"\0\0\0\3"),
            command(CommandType.POSTCOPY_RUN),
        )
    )
    part = section(Element.PART, 1, "ram", zero(1, "pc.ram") + b"\0" * 7 + b"\x10", footer=None)
    head = HEAD + RAM + command(CommandType.PACKAGED, len(package).to_bytes(4, "big"))
    decoder = Decoder()
    events = [event for byte in head + package + part for event in decoder.feed(bytes((byte,)))]
    assert not [event for event in events if isinstance(event, Fault)]
    states = [(len(e.data), e.boundary) for e in events if isinstance(e, DeviceState)]
    assert states == [(30, Boundary.HEADER), (10, Boundary.HEADER)]
    names = [event.idstr for event in events if isinstance(event, SectionStart)]
    assert names[-3:] == ["my-own", "last", "ram"]
    assert sum(int(e.runs.count.sum()) for e in events if isinstance(e, Pages)) == 2

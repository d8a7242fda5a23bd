"""The buffered file: every width, peeking, counting, pacing, and errors that stick."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vmstream
from corpus import case_named
from vmstream.channels.channel import Channel, connect, listen
from vmstream.channels.fd import channel_of
from vmstream.channels.file import (
    FLUSH_SIZE,
    READ_SIZE,
    SMALL,
    StreamReader,
    StreamWriter,
)
from vmstream.channels.memory import MemoryChannel
from vmstream.channels.rate import RateLimit
from vmstream.errors import ChannelError, Malformed, PeerClosed, ShutDown, TimedOut, Truncated

CONTENT = random.Random(8).randbytes(3 * READ_SIZE + 777)
PAGE = CONTENT[:4096]
SOON = 5.0
WIDTHS = [
    *(("u8", 8, False), ("be16", 16, False), ("be32", 32, False), ("be64", 64, False)),
    *(("i8", 8, True), ("i16", 16, True), ("i32", 32, True), ("i64", 64, True)),
]


class Recorded(MemoryChannel):
    """Keeps the very buffers of each send, and receives in pieces of a size."""

    def __init__(self, data: bytes = b"", piece: int = 1 << 30) -> None:
        super().__init__(data)
        self.sends: list[tuple[Any, ...]] = []
        self.piece = piece

    def send(self, *buffers: Any) -> None:
        self.sends.append(buffers)
        super().send(*buffers)

    def read_into(self, buffer: Any) -> int:
        return super().read_into(memoryview(buffer)[: self.piece])


@contextlib.contextmanager
def pair() -> Iterator[tuple[Channel, Channel]]:
    """Two ends of a socket."""
    ours, theirs = socket.socketpair()
    with (
        connect(f"fd:{ours.detach()}", timeout=SOON) as source,
        listen(f"fd:{theirs.detach()}", timeout=SOON).accept() as destination,
    ):
        yield source, destination


# Values


@st.composite
def values(draw: st.DrawFn) -> tuple[str, Any]:
    name, bits, signed = draw(
        st.sampled_from([*WIDTHS, ("counted", 0, False), ("bytes", 0, False)])
    )
    if name == "counted":
        return name, draw(st.text(max_size=60))
    if name == "bytes":
        return name, draw(st.binary(max_size=3000))
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return name, draw(st.integers(low, high))


@given(st.lists(values(), max_size=40), st.integers(1, 5000))
def test_what_was_put_is_got(items: list[tuple[str, Any]], piece: int) -> None:
    channel = Recorded(piece=piece)
    writer = StreamWriter(channel)
    places = []
    for name, value in items:
        places.append(writer.tell())
        getattr(writer, f"put_{name}")(value)
    assert not channel.sends  # all of it fits the buffer
    writer.flush()
    assert writer.tell() == len(channel.data)
    reader = StreamReader(channel)
    for place, (name, value) in zip(places, items, strict=True):
        assert reader.tell() == place
        length = [len(value)] if name == "bytes" else []
        assert getattr(reader, f"get_{name}")(*length) == value
    assert reader.tell() == writer.tell()
    assert reader.peek(1) == b""


def test_integers_are_big_endian() -> None:
    writer = StreamWriter(channel := MemoryChannel())
    writer.put_u8(1)
    writer.put_be16(0x0203)
    writer.put_be32(0x04050607)
    writer.put_be64(0x08090A0B0C0D0E0F)
    writer.put_i16(-2)
    writer.put_counted("ram")
    writer.flush()
    assert channel.data == bytes(range(1, 16)) + b"\xff\xfe\3ram"


@pytest.mark.parametrize(("name", "bits", "signed"), WIDTHS)
def test_a_value_that_does_not_fit_puts_nothing(name: str, bits: int, signed: bool) -> None:
    writer = StreamWriter(MemoryChannel())
    for value in (1 << bits, -(1 << bits), *(() if signed else (-1,))):
        with pytest.raises(OverflowError):
            getattr(writer, f"put_{name}")(value)
    assert writer.tell() == 0


def test_a_name_of_more_than_255_bytes_puts_nothing() -> None:
    writer = StreamWriter(MemoryChannel())
    with pytest.raises(Malformed, match="more than 255"):
        writer.put_counted("x" * 256)
    assert writer.tell() == 0


# Reading

steps = st.lists(
    st.tuples(
        st.sampled_from(["bytes", "into", "skip", "peek", "some"]),
        st.one_of(st.integers(0, 300), st.integers(0, len(CONTENT))),
    ),
    max_size=12,
)


@given(steps, st.sampled_from([100, 4096, READ_SIZE - 1, 1 << 30]))
def test_every_way_of_reading_keeps_the_place(steps: list[tuple[str, int]], piece: int) -> None:
    reader = StreamReader(Recorded(CONTENT, piece))
    place = 0
    for step, size in steps:
        if step in ("bytes", "into", "skip"):
            size = min(size, len(CONTENT) - place)
        if step == "bytes":
            assert reader.get_bytes(size) == CONTENT[place : place + size]
        elif step == "into":
            buffer = bytearray(size)
            reader.get_into(buffer)
            assert buffer == CONTENT[place : place + size]
        elif step == "skip":
            reader.skip(size)
        elif step == "peek":
            size = min(size, READ_SIZE)
            assert reader.peek(size) == CONTENT[place : place + size]
            size = 0
        else:
            some = reader.get_some(size)
            assert some == CONTENT[place : place + len(some)]
            assert len(some) <= size
            size = len(some)
        place += size
        assert reader.tell() == place
    assert b"".join(reader.pieces()) == CONTENT[place:]


def test_a_piece_is_not_overwritten_by_the_next() -> None:
    reader = StreamReader(Recorded(CONTENT, 1000))
    reader.peek(10)
    kept = list(reader.pieces())
    assert len(kept) > 100
    assert b"".join(kept) == CONTENT


@pytest.mark.parametrize("read", ["get_bytes", "skip", "get_into"])
@pytest.mark.parametrize("size", [len(CONTENT) - 4, 10 * len(CONTENT)])
def test_an_end_inside_something_says_where(read: str, size: int) -> None:
    reader = StreamReader(MemoryChannel(CONTENT))
    reader.get_be64()
    with pytest.raises(Truncated) as caught:
        getattr(reader, read)(bytearray(size) if read == "get_into" else size)
    assert caught.value.expected == f"{size} bytes"
    assert caught.value.found == f"{len(CONTENT) - 8} bytes"
    assert caught.value.file == "<memory>"
    with pytest.raises(Truncated) as again:
        reader.get_u8()
    assert again.value is caught.value


def test_a_claimed_length_takes_no_memory_before_the_bytes_arrive() -> None:
    reader = StreamReader(MemoryChannel(b"short"))
    with pytest.raises(Truncated):
        reader.get_bytes(1 << 60)


def test_peeking_has_a_limit() -> None:
    with pytest.raises(ValueError, match="can be peeked at"):
        StreamReader(MemoryChannel()).peek(READ_SIZE + 1)


# Writing


def test_pages_are_not_copied() -> None:
    channel = Recorded()
    writer = StreamWriter(channel)
    pages = [bytearray(os.urandom(4096)) for _ in range(8)]
    for number, page in enumerate(pages):
        writer.put_be64(number)
        writer.put_buffers(page)
    assert not channel.sends
    assert writer.tell() == 8 * (8 + 4096)
    writer.flush()
    (sent,) = channel.sends
    assert [buffer for buffer in sent if any(buffer is page for page in pages)] == pages
    assert len(channel.data) == writer.tell()


def test_small_buffers_are_sent_together() -> None:
    channel = Recorded()
    writer = StreamWriter(channel)
    writer.put_buffers(*[b"x" * (SMALL - 1)] * 200)
    writer.flush()
    assert [len(sent) for sent in channel.sends] == [1]


def test_enough_is_sent_without_being_told() -> None:
    channel = Recorded()
    writer = StreamWriter(channel)
    while not channel.sends:
        assert writer.tell() < FLUSH_SIZE
        writer.put_buffers(PAGE)
    assert writer.tell() == len(channel.data) == FLUSH_SIZE


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2000)), max_size=60))
def test_copies_and_references_stay_in_order(items: list[tuple[bool, int]]) -> None:
    channel = Recorded()
    writer = StreamWriter(channel)
    expected = b""
    for number, (copied, size) in enumerate(items):
        data = bytes([number]) * size
        expected += data
        (writer.put_bytes if copied else writer.put_buffers)(data)
    writer.flush()
    assert channel.data == expected
    writer.flush()
    assert len(channel.sends) <= 1


# Errors


def test_the_first_error_sticks() -> None:
    with pair() as (source, destination):
        writer = StreamWriter(source)
        destination.close()
        writer.put_u8(1)
        with pytest.raises(PeerClosed) as caught:
            writer.flush()
        assert writer.error is caught.value
        for call in (writer.flush, writer.finish, writer.pace, lambda: writer.put_u8(2)):
            with pytest.raises(PeerClosed) as again:
                call()
            assert again.value is caught.value
        writer.close()


def test_a_timeout_sticks_too() -> None:
    with pair() as (_, destination):
        destination.timeout = 0.05
        reader = StreamReader(destination)
        with pytest.raises(TimedOut) as caught:
            reader.get_u8()
        with pytest.raises(TimedOut) as again:
            reader.get_some()
        assert again.value is caught.value


def test_an_error_can_be_set_from_outside() -> None:
    writer = StreamWriter(MemoryChannel())
    first, second = ChannelError("first"), ChannelError("second")
    writer.set_error(first)
    writer.set_error(second)
    with pytest.raises(ChannelError, match="first"):
        writer.put_u8(0)


@pytest.mark.parametrize("what", ["get", "put", "pace"])
def test_shutdown_unblocks_another_thread_at_once(what: str) -> None:
    rate = RateLimit(1)
    with pair() as (source, destination), ThreadPoolExecutor(1) as pool:
        writer, reader = StreamWriter(source, rate=rate), StreamReader(destination)
        if what == "pace":
            rate.spend(1000)
        calls = {
            "get": reader.get_u8,
            "put": lambda: writer.put_buffers(bytes(64 << 20)),
            "pace": writer.pace,
        }
        waiting = pool.submit(calls[what])
        time.sleep(0.1)
        assert not waiting.done()
        began = time.monotonic()
        (reader if what == "get" else writer).shutdown()
        assert isinstance(waiting.exception(SOON), ShutDown)
        assert time.monotonic() - began < 1.0


def test_a_failed_block_sends_nothing_more() -> None:
    channel = Recorded()
    with pytest.raises(RuntimeError, match="ours"), StreamWriter(channel) as writer:
        writer.put_u8(1)
        raise RuntimeError("ours")
    assert not channel.data
    with StreamWriter(channel := Recorded()) as writer:
        writer.put_u8(1)
    assert channel.data == b"\1"


# Return path


def test_the_return_path_is_the_other_direction() -> None:
    with pair() as (source, destination):
        writer, reader = StreamWriter(source), StreamReader(destination)
        answers, questions = writer.return_path(), reader.return_path()
        writer.put_be32(0x5145564D)
        writer.flush()
        assert reader.get_be32() == 0x5145564D
        questions.put_be16(3)
        questions.flush()
        assert answers.get_be16() == 3


def test_a_pipe_has_no_return_path() -> None:
    reading, writing = os.pipe()
    with (
        StreamWriter(connect(f"fd:{writing}")) as writer,
        StreamReader(listen(f"fd:{reading}").accept()) as reader,
    ):
        for end in (writer, reader):
            with pytest.raises(ValueError, match="no way back"):
                end.return_path()


# Memory and files


def test_memory_can_be_read_again() -> None:
    channel = MemoryChannel(b"abc")
    reader = StreamReader(channel)
    assert reader.get_bytes(3) == b"abc"
    assert reader.peek(1) == b""
    StreamWriter(channel).put_u8(1)  # not flushed
    channel.send(b"def")
    assert reader.get_bytes(3) == b"def"
    channel.position = 1
    assert StreamReader(channel).get_bytes(5) == b"bcdef"


def test_files_and_pipes_of_python(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        with StreamWriter(channel_of(file, writing=True)) as writer:
            writer.put_counted("ram")
            writer.put_buffers(PAGE)
        assert not file.closed
    with (
        (tmp_path / "x").open("rb") as file,
        StreamReader(channel_of(file, writing=False)) as reader,
    ):
        assert reader.get_counted() == "ram"
        assert reader.get_bytes(4096) == PAGE
    reading, writing = os.pipe()
    with (
        os.fdopen(reading, "rb") as output,
        os.fdopen(writing, "wb") as pipe,
        StreamReader(channel_of(output, writing=False)) as reader,
    ):
        with StreamWriter(channel_of(pipe, writing=True)) as writer:
            writer.put_u8(7)
        assert reader.get_u8() == 7


def test_a_recorded_stream_goes_through_a_socket_unchanged() -> None:
    data = case_named("pc-7.2").path("stream.mig").read_bytes()
    with pair() as (source, destination):

        def send() -> None:
            with StreamWriter(source) as writer:
                writer.put_buffers(*(data[at : at + 5000] for at in range(0, len(data), 5000)))

        sender = threading.Thread(target=send)
        sender.start()
        arrived = b"".join(StreamReader(destination).pieces())
        sender.join(SOON)
    assert arrived == data
    with vmstream.open(arrived) as stream:
        assert stream.complete


# Rate


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_quota_is_of_a_window_of_100_ms() -> None:
    clock = Clock()
    rate = RateLimit(10_000, clock=clock)
    rate.spend(999)
    assert not rate.exceeded()
    clock.now += 0.03
    rate.spend(1)
    assert rate.exceeded()
    assert rate.rest() == pytest.approx(0.07)
    clock.now += 0.071
    assert not rate.exceeded()
    rate.spend(999)
    assert not rate.exceeded()


def test_what_was_too_much_is_taken_from_later_windows() -> None:
    clock = Clock()
    rate = RateLimit(10_000, clock=clock)
    rate.spend(5500)
    assert rate.rest() == pytest.approx(0.5)
    clock.now += 0.501
    assert rate.rest() == 0
    rate.spend(500)
    assert rate.rest() == pytest.approx(0.099)


def test_a_quiet_time_is_not_saved_up() -> None:
    clock = Clock()
    rate = RateLimit(10_000, clock=clock)
    clock.now += 60
    rate.spend(1000)
    assert rate.exceeded()


def test_no_limit_is_never_exceeded() -> None:
    rate = RateLimit(0, clock=Clock())
    rate.spend(1 << 60)
    assert not rate.exceeded()
    rate.bytes_per_second = 1 << 20
    assert rate.exceeded()


@given(st.lists(st.integers(1, 50_000), min_size=1, max_size=50), st.integers(1000, 100_000))
def test_the_limit_holds_on_average(sizes: list[int], limit: int) -> None:
    clock = Clock()
    rate = RateLimit(limit, clock=clock)
    for size in sizes:
        rate.spend(size)
        while rest := rate.rest():
            clock.now += max(rest, 1e-6)
    # All but what the last window lets through at once.
    assert sum(sizes) <= limit * (clock.now - 1000 + 0.1001)


def test_a_writer_keeps_to_its_limit() -> None:
    channel = Recorded()
    writer = StreamWriter(channel, rate=RateLimit(1_000_000))
    began = time.monotonic()
    for _ in range(75):
        writer.put_buffers(PAGE)
        writer.flush()
        writer.pace()
    assert time.monotonic() - began >= 0.2
    assert len(channel.data) == 75 * 4096

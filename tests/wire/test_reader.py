"""Reading does not see where one piece ended and the next began.

:class:`~vmstream.wire.reader.Reader` joins what is split with a *bridge* over
the edge only. The bridge is made small here, so that everything happens at
its ends.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parsing import parse, pieces_of
from vmstream.errors import LimitExceeded, Malformed, Truncated
from vmstream.stream.events import Fault
from vmstream.stream.incremental import Incremental
from vmstream.wire import reader as reader_module
from vmstream.wire.reader import Parse, Reader, bytes_of, counted, text_of
from vmstream.wire.sections import Raw

DATA = bytes(range(251)) * 4
"""No period of a power of two: bytes taken from a wrong place differ."""

Step = tuple[str, int]
STEPS = st.tuples(
    st.sampled_from(["take", "peek", "some", "raw", "records", "gather", "integer"]),
    st.integers(0, 90),
)


class Script(Incremental):
    """Reads what a list of steps says and emits what it read."""

    def __init__(self, steps: list[Step]) -> None:
        self.steps = steps
        super().__init__()

    def _run(self) -> Parse[None]:
        for kind, size in self.steps:
            self.emit((kind, (yield from getattr(self, f"_{kind}")(size))))  # type: ignore[arg-type]

    def _take(self, size: int) -> Parse[bytes]:
        return bytes((yield from self.reader.take(size)))

    def _peek(self, size: int) -> Parse[bytes]:
        return bytes((yield from self.reader.peek(size)))

    def _integer(self, size: int) -> Parse[int]:
        return (yield from self.reader.integer(1 + size % 8))

    def _some(self, size: int) -> Parse[bytes]:
        out = b""
        while len(out) < size:
            piece = yield from self.reader.some(size - len(out))
            if not len(piece):
                break
            out += piece
        return out

    def _raw(self, size: int) -> Parse[int]:
        yield from self.raw(size, "payload")
        return size

    def _records(self, size: int) -> Parse[bytes]:
        """Like the page scan: use up whole records in the buffer at hand, then ask for more."""
        reader, out = self.reader, b""
        size = size % 23 + 1
        for _ in range(7):
            while len(reader.view) - reader.pos < size:
                if not (yield from reader.need(len(reader.view) - reader.pos + 1)):
                    return out
            out += reader.view[reader.pos : reader.pos + size]
            reader.pos += size
        return out

    def _gather(self, size: int) -> Parse[bytes]:
        """Like the search for a footer: everything that has come, in one buffer."""
        reader = self.reader
        while not reader.has(max(size, 1)) and not reader.closed:
            assert reader.has(reader.available) or not reader.available
            yield reader.available + 1
        assert reader.has(reader.available) or not reader.available
        assert len(reader.view) - reader.pos == reader.available
        return bytes(reader.view[reader.pos : reader.pos + size])


def model(steps: list[Step], data: bytes) -> Iterator[Any]:
    """What the steps give when all of the data stands in one buffer."""
    pos = 0
    for kind, size in steps:
        rest = len(data) - pos
        if kind == "integer":
            size = 1 + size % 8
        if kind in ("take", "integer", "raw") and size > rest:
            if kind == "raw" and rest:
                yield "bytes", data[pos:]
                pos = len(data)
            yield "truncated", pos
            return
        if kind == "take":
            yield kind, data[pos : pos + size]
        elif kind == "integer":
            yield kind, int.from_bytes(data[pos : pos + size], "big")
        elif kind == "raw":
            if size:
                yield "bytes", data[pos : pos + size]
            yield kind, size
        elif kind in ("peek", "gather"):
            yield kind, data[pos : pos + size]
            continue
        elif kind == "some":
            size = min(size, rest)
            yield kind, data[pos : pos + size]
        else:
            whole = size % 23 + 1
            size = min(7, rest // whole) * whole
            yield kind, data[pos : pos + size]
        pos += size


def run(steps: list[Step], data: bytes, cuts: list[int], bridge: int) -> list[Any]:
    """What the steps give when the data comes in pieces."""
    with mock.patch.object(reader_module, "_BRIDGE", bridge):
        script = Script(steps)
        events: list[Any] = []
        fed = 0
        for piece in pieces_of(data, cuts):
            events += script.feed(piece)
            fed += len(piece)
            if not script.finished:
                assert script.reader.offset + script.reader.available == fed
        events += script.close()
    out: list[Any] = []
    for event in events:
        if isinstance(event, Fault):
            assert isinstance(event.error, Truncated)
            out.append(("truncated", event.offset))
        elif isinstance(event, Raw):
            assert event.data is not None
            assert event.data == data[event.offset : event.offset + event.size]
            if out and out[-1][0] == "bytes":
                out[-1] = ("bytes", out[-1][1] + bytes(event.data))
            else:
                out.append(("bytes", bytes(event.data)))
        else:
            out.append(event)
    return out


@given(
    st.lists(STEPS, max_size=25),
    st.integers(0, 400),
    st.lists(st.integers(0, 400), max_size=30),
    st.integers(1, 40),
)
@example([("take", 3), ("peek", 9), ("take", 9)], 12, list(range(12)), 1)
@example([("records", 22), ("take", 1)], 400, [5, 6, 7, 200, 201], 3)
@example([("peek", 90), ("some", 3), ("raw", 80), ("gather", 90)], 300, [2, 60, 61, 90], 8)
def test_any_split_reads_the_same(
    steps: list[Step], size: int, cuts: list[int], bridge: int
) -> None:
    data = DATA[:size]
    assert run(steps, data, cuts, bridge) == list(model(steps, data))


@given(st.lists(STEPS, max_size=12), st.integers(0, 200), st.integers(1, 9))
def test_one_byte_at_a_time_reads_the_same(steps: list[Step], size: int, bridge: int) -> None:
    data = DATA[:size]
    assert run(steps, data, list(range(size)), bridge) == list(model(steps, data))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(0, 59), st.integers(1, 9))
def test_bytes_passed_over_count_in_the_offset(sizes: list[int], part: int, bridge: int) -> None:
    """Regions of which a part is fed and the rest sought past, with integers between."""
    steps = [step for size in sizes for step in (("integer", 1), ("raw", size))]
    data = DATA[: sum(sizes) + 2 * len(sizes)]
    with mock.patch.object(reader_module, "_BRIDGE", bridge):
        script = Script(steps)
        at, numbers, sizes_seen = 0, [], 0
        while at < len(data):
            if script.skippable > part:
                count = script.skippable - part
                events = script.skip(count)
                at += count
            else:
                events = script.feed(data[at : at + 1])
                at += 1
            assert script.offset == at - script.reader.available
            numbers += [
                event[1] for event in events if isinstance(event, tuple) and event[0] == "integer"
            ]
            sizes_seen += sum(event.size for event in events if isinstance(event, Raw))
    places = [sum(sizes[:n]) + 2 * n for n in range(len(sizes))]
    assert numbers == [int.from_bytes(data[place : place + 2], "big") for place in places]
    assert sizes_seen == sum(sizes)


def test_only_what_is_skippable_can_be_skipped() -> None:
    script = Script([("take", 4), ("raw", 10)])
    script.feed(b"1234")
    assert script.skippable == 10
    with pytest.raises(ValueError, match="at most 10"):
        script.skip(11)
    script.feed(b"12")
    with pytest.raises(ValueError, match="at most 8"):
        script.skip(9)


def test_a_piece_of_any_size_is_not_copied() -> None:
    piece = bytes(1 << 20)
    reader = Reader()
    reader.feed(memoryview(b"x"))
    reader.feed(memoryview(piece))
    assert reader.has(1 << 16)
    assert len(reader.view) < 1 << 18
    reader.pos += 1 << 18 if len(reader.view) > 1 << 18 else len(reader.view)
    assert reader.has(1)
    assert reader.view.obj is piece


def test_a_short_rest_is_kept_when_its_piece_is_taken_back() -> None:
    piece = bytearray(b"abcdef")
    reader = Reader()
    reader.feed(memoryview(piece))
    assert reader.has(1)
    reader.pos = 4
    reader.keep_rest()
    piece[:] = b"......"
    assert (reader.offset, bytes(reader.view[reader.pos :])) == (4, b"ef")


@pytest.mark.parametrize("size", [1 << 18, 1 << 19])
def test_joining_single_bytes_takes_linear_time(size: int) -> None:
    reader = Reader()
    began = time.process_time()
    for byte in memoryview(bytes(size)):
        reader.feed(memoryview(bytes((byte,))))
    assert reader.has(size)
    assert time.process_time() - began < 5


def test_what_is_cut_is_named_with_both_sizes() -> None:
    with pytest.raises(Truncated, match="inside a hat") as caught:
        parse(lambda reader: reader.take(8, "a hat"), b"abc")
    error = caught.value
    assert (error.offset, error.expected, error.found) == (0, "8 bytes", "3 bytes")


def test_a_length_above_its_limit_is_refused_before_its_bytes_come() -> None:
    with pytest.raises(LimitExceeded, match="more than the limit") as caught:
        parse(lambda reader: reader.bounded(1 << 60, 10, "a hat"), b"")
    assert caught.value.expected == "at most 10 bytes"


@given(st.binary(max_size=255), st.lists(st.integers(0, 260), max_size=5))
def test_names_of_any_bytes_come_back(name: bytes, cuts: list[int]) -> None:
    text = text_of(name)
    assert bytes_of(text) == name
    data = counted(text)
    assert data == bytes((len(name),)) + name
    assert parse(lambda reader: reader.counted(), data, cuts) == (text, len(data))


def test_a_name_has_at_most_255_bytes() -> None:
    with pytest.raises(Malformed, match="more than 255"):
        counted("x" * 256)


def test_pieces_cover_the_data() -> None:
    assert pieces_of(b"abc", [1, 1, 9]) == [b"a", b"", b"bc", b""]
    assert all(len(a) <= 1 for a, _ in pairwise(pieces_of(b"abc", [1, 2])))

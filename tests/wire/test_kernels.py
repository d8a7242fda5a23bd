"""Each kernel equals its plain twin, on random pages and on pages made to hurt."""

from __future__ import annotations

import errno
import itertools
import os
import socket

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import twins
from vmstream._kernels import (
    gather,
    is_zero,
    send_parts,
    xbzrle_decode,
    xbzrle_encode,
    xbzrle_encode_pages,
    zero_pages,
)

SIZES = st.sampled_from([1, 7, 8, 63, 64, 65, 127, 128, 200, 1024, 4096, 8192, 16384])


@st.composite
def pages(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Two pages that differ in runs, so that edges fall on and beside every boundary."""
    size = draw(SIZES)
    old = (draw(st.binary(min_size=1, max_size=64)) * size)[:size]
    lengths = st.one_of(st.integers(1, 3), st.integers(1, 130), st.just(64), st.integers(1, size))
    runs = draw(st.lists(st.tuples(lengths, lengths), min_size=1, max_size=8))
    new = bytearray(old)
    at = draw(st.integers(0, 70))
    for equal, changed in itertools.cycle(runs):
        if at >= size:
            break
        for position in range(at, min(at + changed, size)):
            new[position] ^= 0x80
        at += changed + equal
    return old, bytes(new)


def every_other(size: int) -> tuple[bytes, bytes]:
    return bytes(size), b"\1\0" * (size // 2)


@given(pages(), st.data())
@example(every_other(4096), None)
@example((bytes(4096), b"\1" * 4096), None)
@example((bytes(16384), b"\1" * 16384), None)
@example((bytes(4096), bytes(4096)), None)
@example((bytes(4096), bytes(4095) + b"\1"), None)
@example((bytes(4096), b"\1" + bytes(4095)), None)
def test_encode_equals_its_twin(pair: tuple[bytes, bytes], data: st.DataObject | None) -> None:
    old, new = pair
    limit = len(new) if data is None else data.draw(st.integers(0, len(new)))
    assert xbzrle_encode(old, new, limit) == twins.xbzrle_encode(old, new, limit)


@given(pages())
def test_every_limit_is_kept(pair: tuple[bytes, bytes]) -> None:
    old, new = pair
    whole = twins.xbzrle_encode(old, new, 1 << 15) or b""
    for limit in range(max(0, len(whole) - 5), min(len(whole) + 5, 16384)):
        assert xbzrle_encode(old, new, limit) == twins.xbzrle_encode(old, new, limit)


@given(st.lists(pages(), min_size=1, max_size=5), st.integers(1, 300))
def test_encoding_many_pages_is_encoding_each(pairs: list[tuple[bytes, bytes]], room: int) -> None:
    size = min(len(new) for _, new in pairs)
    old = np.array([np.frombuffer(o[:size], np.uint8) for o, _ in pairs])
    new = np.array([np.frombuffer(n[:size], np.uint8) for _, n in pairs])
    encoded = np.full((len(pairs), room), 0xAA, np.uint8)
    lengths = np.empty(len(pairs), np.int32)
    xbzrle_encode_pages(old, new, encoded, lengths)
    for row in range(len(pairs)):
        expected = twins.xbzrle_encode(old[row].tobytes(), new[row].tobytes(), room)
        if expected is None:
            assert lengths[row] == -1
        else:
            assert encoded[row, : lengths[row]].tobytes() == expected


@given(pages())
def test_decoding_gives_the_new_page_back(pair: tuple[bytes, bytes]) -> None:
    old, new = pair
    encoded = xbzrle_encode(old, new)
    if encoded is not None:
        page = bytearray(old)
        assert xbzrle_decode(page, encoded) == (0, len(encoded))
        assert page == new


@given(SIZES, st.data())
def test_decode_equals_its_twin_on_any_bytes(size: int, data: st.DataObject) -> None:
    page = bytes(range(256)) * 64
    page = page[:size]
    few = st.sampled_from([0, 1, 2, 3, 8, 15, 16, 17, 0x7F, 0x80, 0x81, 0xFF])
    encoded = bytes(data.draw(st.lists(few, max_size=60)))
    expected = twins.xbzrle_decode(page, encoded)
    changed = bytearray(page)
    refusal, reached = xbzrle_decode(changed, encoded)
    assert reached <= len(encoded)
    assert (refusal == 0) == (expected is not None)
    if expected is not None:
        assert changed == expected


def test_a_run_that_need_not_have_been_sent_is_legal() -> None:
    page = bytearray(b"abcdef")
    assert xbzrle_decode(page, b"\1\4bXdY") == (0, 6)
    assert page == b"abXdYf"


def test_pages_of_different_sizes_have_no_difference() -> None:
    with pytest.raises(ValueError, match="one size"):
        xbzrle_encode(bytes(64), bytes(65))


def test_a_page_beyond_14_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="16384"):
        xbzrle_encode(bytes(65536), bytes(65536))


@given(st.integers(0, 500), st.integers(1, 200), st.sets(st.integers(0, 499), max_size=3))
def test_zero_pages_equals_its_twin(size: int, page_size: int, set_at: set[int]) -> None:
    data = bytearray(size)
    for position in set_at:
        if position < size:
            data[position] = 0x80
    zero = np.full(-(-size // page_size), 2, np.uint8)
    zero_pages(data, page_size, zero)
    assert zero.tolist() == twins.zero_pages(bytes(data), page_size)
    assert is_zero(data) == (not any(data))


@given(st.binary(min_size=1, max_size=300), st.data())
def test_gather_equals_its_twin(source: bytes, data: st.DataObject) -> None:
    size = data.draw(st.integers(0, len(source)))
    offsets = data.draw(st.lists(st.integers(-1, len(source) - size), max_size=20))
    out = np.empty((len(offsets), size), np.uint8)
    gather(source, np.array(offsets, np.int64), out)
    assert [row.tobytes() for row in out] == twins.gather(source, offsets, size)


@pytest.mark.parametrize("offset", [-2, 5, 1 << 62, -(1 << 63)])
def test_gather_refuses_what_is_outside(offset: int) -> None:
    out = np.zeros((1, 4), np.uint8)
    with pytest.raises(ValueError, match="not within"):
        gather(bytes(8), np.array([offset], np.int64), out)


# Parts


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 90), st.integers(0, 10)), min_size=1),
    st.data(),
)
def test_parts_are_sent_as_they_stand(
    told: list[tuple[bool, int, int]], data: st.DataObject
) -> None:
    heads, body = bytes(range(100)), bytes(range(100, 200))
    places = np.array([~at if head else at for head, at, _ in told], np.int64)
    ends = np.cumsum(np.array([size for _, _, size in told], np.int64))
    whole = b"".join((heads if head else body)[at : at + size] for head, at, size in told)
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    with ours, theirs, os.fdopen(reading, "rb") as pipe:
        for descriptor in (ours.fileno(), writing):
            if start == stop:
                with pytest.raises(ValueError, match="no such bytes"):
                    send_parts(descriptor, heads, body, places, ends, start, stop)
            else:
                sent = send_parts(descriptor, heads, body, places, ends, start, stop)
                assert sent == stop - start
        ours.close()
        os.close(writing)
        assert theirs.makefile("rb").read() == whole[start:stop] == pipe.read()


def test_more_parts_than_one_call_takes_go_until_there_is_no_room() -> None:
    places = np.arange(1000, dtype=np.int64)[::-1].copy()
    ends = 4096 * np.arange(1, 1001, dtype=np.int64)
    body = np.random.default_rng(1).bytes(1000 + 4096)
    whole = b"".join(body[at : at + 4096] for at in places.tolist())
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        got, sent = b"", 0
        while sent < len(whole):
            count = send_parts(ours.fileno(), b"", body, places, ends, sent, len(whole))
            if count == -errno.EAGAIN:
                got += theirs.recv(1 << 20)
            else:
                assert count > 0
                sent += count
        ours.close()
        assert got + theirs.makefile("rb").read() == whole


@pytest.mark.parametrize("place", [-4, 11, 1 << 62, ~(1 << 62)])
def test_a_part_outside_its_bytes_is_refused(place: int) -> None:
    places, ends = np.array([0, place], np.int64), np.array([5, 15], np.int64)
    with pytest.raises(ValueError, match="part 1"):
        send_parts(-1, bytes(10), bytes(20), places, ends, 0, 15)
    with pytest.raises(ValueError, match="part 1"):
        send_parts(-1, bytes(10), bytes(20), places, np.array([5, 4]), 0, 4)


def test_a_system_error_is_a_number() -> None:
    places, ends = np.zeros(1, np.int64), np.ones(1, np.int64)
    assert send_parts(-1, b"", b"x", places, ends, 0, 1) == -errno.EBADF

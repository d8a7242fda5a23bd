"""XBZRLE pages and the cache that the source keeps of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vmstream
from corpus import Case, over_cases
from vmstream.errors import Malformed, Truncated
from vmstream.wire.ram import PageKind
from vmstream.wire.xbzrle import (
    LONGEST_RUN,
    PageCache,
    decode_count,
    decode_page,
    encode_count,
    encode_page,
)

PAGE = 4096


def page(**changes: int) -> bytes:
    content = bytearray(PAGE)
    for at, value in changes.items():
        content[int(at[1:])] = value
    return bytes(content)


@given(st.integers(0, LONGEST_RUN))
def test_a_count_survives(count: int) -> None:
    encoded = encode_count(count)
    assert len(encoded) == (1 if count < 128 else 2)
    assert decode_count(encoded + b"rest") == (count, len(encoded))


def test_a_count_has_14_bits() -> None:
    with pytest.raises(ValueError, match="14 bits"):
        encode_count(LONGEST_RUN + 1)
    with pytest.raises(Malformed, match="14 bits"):
        decode_count(b"\xff\x80")
    with pytest.raises(Truncated):
        decode_count(b"\x80")


def test_equal_pages_have_an_empty_difference() -> None:
    assert encode_page(page(_7=1), page(_7=1)) == b""


def test_the_bytes_are_new_ones_not_xored() -> None:
    assert encode_page(page(_4093=0x20), page(_4093=0x50)) == b"\xfd\x1f\x01\x50"


def test_an_equal_byte_ends_a_run() -> None:
    assert encode_page(page(), page(_0=1, _2=2)) == b"\0\1\1\1\1\2"


def test_a_page_with_nothing_equal_overflows() -> None:
    assert encode_page(bytes(PAGE), b"\1" * PAGE) is None


def test_two_bytes_must_be_left_even_for_equal_bytes() -> None:
    """QEMU asks for room before it looks whether the page ends in equal bytes."""
    changed = b"\1" * 10 + bytes(10)
    assert encode_page(bytes(20), changed, limit=13) is None
    assert encode_page(bytes(20), changed, limit=14) == b"\0\x0a" + b"\1" * 10


@pytest.mark.parametrize(
    ("encoded", "reason", "offset"),
    [
        (b"\0", "ends inside a run header", 0),
        (b"\5\1", "ends inside a run header", 1),
        (b"\x80\x80\1a", "more than 14 bits", 0),
        (b"\0\0", "ends inside a run header", 1),
        (b"\0\0a", "empty run", 1),
        (b"\0\1a\0\1a", "empty run", 3),
        (b"\xff\x1f\2ab", "past the end of the page", 2),
        (b"\x81\x20\1a", "past the end of the page", 0),
        (b"\0\5abc", "ends inside the bytes of a run", 1),
    ],
)
def test_what_the_decoder_refuses(encoded: bytes, reason: str, offset: int) -> None:
    with pytest.raises(Malformed, match=reason) as caught:
        decode_page(bytearray(PAGE), encoded)
    assert caught.value.offset is not None
    assert offset <= caught.value.offset <= offset + 2


@over_cases(lambda case: "xbzrle" in case.capabilities and not case.is_pair)
def test_encoding_again_gives_the_bytes_of_qemu(case: Case) -> None:
    held: dict[tuple[str, int], bytearray] = {}
    differences = 0
    with vmstream.open(case.main) as stream:
        for kind, block, number, offset, _ in stream.index.pages():
            key = (block, number)
            if kind == PageKind.ZERO:
                held[key] = bytearray(PAGE)
            elif kind == PageKind.NORMAL:
                held[key] = bytearray(stream.source.read_at(offset, PAGE))
            elif kind == PageKind.XBZRLE:
                length = int.from_bytes(stream.source.read_at(offset - 2, 2), "big")
                encoded = bytes(stream.source.read_at(offset, length))
                old = bytes(held[key])
                decode_page(held[key], encoded)
                assert encode_page(old, held[key]) == encoded
                differences += 1
    assert differences


def test_a_page_not_cached_is_sent_whole_and_remembered() -> None:
    cache = PageCache(8 * PAGE, PAGE)
    assert cache.difference(PAGE, page(_1=1), generation=2) is None
    assert PAGE in cache
    assert cache.misses == 1
    assert cache.difference(PAGE, page(_1=2), generation=3) == b"\1\1\2"


def test_the_cache_follows_what_was_sent() -> None:
    cache = PageCache(8 * PAGE, PAGE)
    cache.insert(0, page(), 1)
    assert cache.difference(0, page(_5=9), 2) == b"\5\1\x09"
    assert cache.difference(0, page(_5=9), 2) == b""
    assert cache.encoded_pages == 1
    assert cache.encoded_bytes == 3


def test_an_overflow_replaces_the_cached_page() -> None:
    cache = PageCache(8 * PAGE, PAGE)
    cache.insert(0, page(), 1)
    assert cache.difference(0, b"\7" * PAGE, 2) is None
    assert cache.overflows == 1
    assert cache.difference(0, b"\7" * PAGE, 2) == b""


def test_the_last_stage_leaves_the_cache_alone() -> None:
    cache = PageCache(8 * PAGE, PAGE)
    cache.insert(0, page(), 1)
    assert cache.difference(0, page(_5=9), 2, last_stage=True) == b"\5\1\x09"
    assert cache.difference(0, page(_5=9), 2, last_stage=True) == b"\5\1\x09"
    assert cache.difference(PAGE, page(), 2, last_stage=True) is None
    assert PAGE not in cache


def test_a_young_page_keeps_its_slot_for_two_generations() -> None:
    cache = PageCache(2 * PAGE, PAGE)
    assert cache.insert(0, page(), 5)
    assert not cache.insert(2 * PAGE, page(), 6)
    assert cache.insert(2 * PAGE, page(), 7)
    assert 0 not in cache


def test_a_hit_makes_a_page_young() -> None:
    cache = PageCache(2 * PAGE, PAGE)
    cache.insert(0, page(), 5)
    assert cache.lookup(0, 8) is not None
    assert not cache.insert(2 * PAGE, page(), 9)


@pytest.mark.parametrize("size", [0, PAGE - 1, 3 * PAGE])
def test_a_cache_holds_a_power_of_two_of_pages(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        PageCache(size, PAGE)

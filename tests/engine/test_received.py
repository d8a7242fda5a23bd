"""Which pages have arrived."""

from __future__ import annotations

from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vmstream.engine.received import ReceivedPages
from vmstream.wire.ram import Pages, RamBlock, RunTable

PAGE = 4096
PAGES = 61
"""The last byte of the bitmap has bits that are no page's."""


def _pages(first: int, count: int) -> Pages:
    runs = RunTable(1)
    for column, value in (("kind", 1), ("named", 0), ("block", 0), ("offset", 0)):
        getattr(runs, column)[0] = value
    runs.page[0], runs.count[0] = first, count
    return Pages(0, 0, PAGE, ["b"], [PAGES * PAGE], runs, memoryview(b""), 0)


def _received(runs: list[tuple[int, int]]) -> tuple[ReceivedPages, set[int]]:
    received = ReceivedPages()
    received.add_block(RamBlock(0, "b", PAGES * PAGE))
    there: set[int] = set()
    for first, count in runs:
        count = min(count, PAGES - first)
        received.add(_pages(first, count))
        there |= set(range(first, first + count))
    return received, there


RUNS = st.lists(st.tuples(st.integers(0, PAGES - 1), st.integers(1, 9)), min_size=1, max_size=8)


@given(RUNS, st.sampled_from([1, 3, 8192]))
def test_what_is_missing_is_what_did_not_come(runs: list[tuple[int, int]], chunk: int) -> None:
    received, there = _received(runs)
    missing = set()
    with mock.patch("vmstream.engine.received._CHUNK", chunk):
        for block, start, length in received.missing():
            assert block == "b"
            missing |= set(range(start // PAGE, (start + length) // PAGE))
    assert missing == set(range(PAGES)) - there


@given(RUNS)
def test_the_bitmap_has_a_bit_for_each_page(runs: list[tuple[int, int]]) -> None:
    received, there = _received(runs)
    bitmap = received.bitmap("b")
    assert len(bitmap) % 8 == 0
    bits = np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little")
    assert set(np.flatnonzero(bits).tolist()) == there


def test_a_discarded_page_is_missing_again() -> None:
    received, _ = _received([(0, PAGES)])
    assert list(received.missing()) == []
    received.discard("b", 3 * PAGE, 2 * PAGE)
    assert list(received.missing()) == [("b", 3 * PAGE, 2 * PAGE)]
    received.add(_pages(3, 2))
    assert list(received.missing()) == []
    received.discard("b", 0, PAGES * PAGE)
    assert list(received.missing()) == [("b", 0, PAGES * PAGE)]


def test_nothing_is_known_before_the_first_page() -> None:
    received = ReceivedPages()
    received.add_block(RamBlock(0, "b", PAGES * PAGE))
    assert list(received.missing()) == []
    assert received.bitmap("nothing of that name") == b""

"""Searching guest memory: matches across pages, chunks and stretches of zeros."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vmstream
from builders import END, HEADER, PAGE, page, ram, zero
from vmstream.stream.stream import Stream
from vmstream.tools.memory import LONGEST_MATCH, find, pattern_of

PAGES = 1024
NOISE = os.urandom(PAGES * PAGE)


def guest(content: bytes) -> Stream:
    """One RAM block with that content; its zero pages are zero records."""
    records = []
    for number in range(len(content) // PAGE):
        body = content[number * PAGE : (number + 1) * PAGE]
        named = None if number else "ram"
        records.append(page(number, body, named) if any(body) else zero(number, named))
    return vmstream.open(HEADER + ram({"ram": len(content)}, b"".join(records)) + END)


def found(stream: Stream, pattern: re.Pattern[bytes]) -> list[tuple[int, bytes]]:
    return [(match.offset, match.data) for match in find(stream, pattern)]


@given(
    st.lists(st.tuples(st.integers(0, PAGES * PAGE - 1), st.integers(1, LONGEST_MATCH)), max_size=4)
)
def test_a_match_of_up_to_64_kib_is_found_wherever_it_stands(places: list[tuple[int, int]]) -> None:
    content = bytearray(NOISE.replace(b"<", b"-").replace(b">", b"-"))
    for start, length in places:
        content[start : start + length] = (b"<" + b"." * (length - 2) + b">")[:length]
    del content[PAGES * PAGE :]
    pattern = re.compile(rb"<\.*>")
    expected = [(match.start(), match.group()) for match in pattern.finditer(content)]
    assert found(guest(bytes(content)), pattern) == expected


@pytest.mark.parametrize("zeros", [0, 1, 15])
def test_a_match_may_span_zero_pages(zeros: int) -> None:
    content = b"-" * PAGE + bytes(zeros * PAGE) + b"+" * PAGE
    pattern = re.compile(rb"-\0*\+")
    assert found(guest(content), pattern) == [(PAGE - 1, b"-" + bytes(zeros * PAGE) + b"+")]


@pytest.mark.parametrize("after", [1, 17, 300])
def test_zeros_beside_content_are_found_in_long_stretches_of_them(after: int) -> None:
    content = bytes(40 * PAGE) + b"x" * PAGE + bytes(after * PAGE)
    stream = guest(content)
    assert found(stream, pattern_of("0x0000000078")) == [(40 * PAGE - 4, b"\0\0\0\0x")]
    assert found(stream, pattern_of("0x7800000000")) == [(41 * PAGE - 1, b"x\0\0\0\0")]

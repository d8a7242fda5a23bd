"""Buffers that are told by their places: the same bytes, however they are asked for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vmstream.stream.parts import Parts

HEADS = bytes(range(100, 200))
DATA = bytes(range(100)) * 3


@st.composite
def parts(draw: st.DrawFn) -> tuple[Parts, bytes]:
    """Some parts, and the bytes that they are; empty ones, too."""
    places, sizes, whole = [], [], b""
    for in_heads in draw(st.lists(st.booleans(), min_size=1, max_size=20)):
        source = HEADS if in_heads else DATA
        place = draw(st.integers(0, len(source)))
        size = draw(st.integers(0, len(source) - place))
        places.append(~place if in_heads else place)
        sizes.append(size)
        whole += source[place : place + size]
    ends = np.cumsum(np.array(sizes, np.int64))
    told = Parts(memoryview(HEADS), memoryview(DATA), np.array(places, np.int64), ends)
    return told, whole


@given(parts(), st.data())
def test_parts_are_the_bytes_at_their_places(
    made: tuple[Parts, bytes], data: st.DataObject
) -> None:
    told, whole = made
    assert told.size == len(whole)
    assert b"".join(told.buffers()) == whole
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    assert b"".join(told.buffers(start, stop)) == whole[start:stop]

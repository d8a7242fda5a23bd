"""Running one ``read_...`` function of ``vmstream.wire`` over bytes that come in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

from vmstream.wire.reader import Parse, Reader

__all__ = ["parse", "pieces_of"]


def pieces_of(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """``data`` cut at the places given; pieces may be empty."""
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def parse(
    read: Callable[[Reader], Parse[Any]], data: bytes, cuts: Iterable[int] = ()
) -> tuple[Any, int]:
    """What ``read`` makes of ``data``, and how many bytes it used.

    The generator is resumed as soon as the bytes it asked for are there, and
    never before; the input is closed after the last piece.
    """
    reader = Reader()
    running = read(reader)
    wanted = 0
    try:
        for piece in pieces_of(data, cuts):
            reader.feed(memoryview(piece))
            while wanted <= reader.available:
                wanted = next(running)
                assert wanted > 0
        reader.closed = True
        while True:
            next(running)
    except StopIteration as stop:
        return stop.value, reader.offset

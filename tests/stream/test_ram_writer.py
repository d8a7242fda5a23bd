"""Memory written anew: the same pages, each once, in as few buffers as the source allows."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import END, HEADER, PAGE, configuration, page, ram, zero
from vmstream.stream.ram_writer import PIECES_KEPT, RamWriter
from vmstream.stream.rewriting import block_list, rewritten
from vmstream.stream.rewriting import configuration as head_of
from vmstream.tools.open import open_stream

PAGES = 700
"""More than are worked on together."""


def content(number: int) -> bytes:
    return bytes([1 + number % 250]) * PAGE


def stream_of(kinds: str, order: list[int] | None = None) -> bytes:
    """Pages of one block: ``z`` zero, ``p`` with content, ``-`` left out."""
    records = b""
    name: str | None = "pc.ram"
    for number in order or range(len(kinds)):
        if kinds[number] == "-":
            continue
        if kinds[number] == "z":
            records += zero(number, name)
        else:
            records += page(number, content(number), name)
        name = None
    blocks = {"pc.ram": len(kinds) * PAGE}
    return HEADER + configuration("pc-i440fx-7.2") + ram(blocks, records, b"") + END


def written(data: bytes) -> tuple[bytes, int]:
    """The stream anew, and in how many buffers."""
    out, count = b"", 0
    with open_stream(data) as stream:
        writer = RamWriter(stream.memory, block_list(stream))
        for piece in rewritten(stream, writer, head_of(stream, mapped=False)):
            out += b"".join(map(bytes, piece.buffers))
            count += len(piece.buffers)
    return out, count


KINDS = st.text("zp-", min_size=1, max_size=60)


@given(KINDS, st.randoms(use_true_random=False))
def test_the_order_of_records_does_not_matter(kinds: str, chance: random.Random) -> None:
    order = list(range(len(kinds)))
    chance.shuffle(order)
    assert written(stream_of(kinds, order))[0] == stream_of(kinds)


@given(KINDS)
def test_what_is_written_in_order_stays_as_it_is(kinds: str) -> None:
    data = stream_of(kinds)
    assert written(data)[0] == data


@pytest.mark.parametrize("kinds", ["p" * PAGES, "pzz" * (PAGES // 3), "zzp" * (PAGES // 3)])
def test_records_that_stand_together_are_one_buffer(kinds: str) -> None:
    data = stream_of(kinds)
    out, count = written(data)
    assert out == data
    # Of each batch: a head, the name, what stands together, and zero pages before it.
    assert count < 40


def test_a_piece_keeps_its_content_for_a_while() -> None:
    data = stream_of("p-" * PAGES)
    with open_stream(data) as stream:
        writer = RamWriter(stream.memory, block_list(stream))
        writer._batch = 64
        kept: list[tuple[list[object], bytes]] = []
        for piece in writer.pages():
            kept.append((list(piece.buffers), b"".join(map(bytes, piece.buffers))))
            for buffers, before in kept[-PIECES_KEPT:]:
                assert b"".join(map(bytes, buffers)) == before  # type: ignore[call-overload]

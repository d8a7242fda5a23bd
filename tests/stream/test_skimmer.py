"""What is not looked at changes nothing of what is known of a stream."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import END, HEADER, PAGE, configuration, device, page, ram, zero
from corpus import Case, over_cases
from vmstream.stream.decoder import Decoder
from vmstream.stream.events import Event, Fault
from vmstream.stream.reading import live_decoder
from vmstream.stream.skimmer import Skimmer
from vmstream.wire.ram import PageKind, Pages

LARGE = 1 << 25
CONTENT = np.random.default_rng(1).bytes(PAGE)
Record = tuple[int, int, int, int]


def told(events: list[Event]) -> tuple[bytes, list[str], list[Record]]:
    """Everything but pages; faults; and each page's kind, block, number and place."""
    others, faults, records = [], [], []
    for event in events:
        if isinstance(event, Fault):
            faults.append(str(event.error))
        if not isinstance(event, Pages):
            others.append(event.encode())
            continue
        runs = event.runs
        for kind, block, first, count, offset in zip(
            runs.kind.tolist(), runs.block.tolist(), runs.page.tolist(), runs.count.tolist(),
            runs.offset.tolist(), strict=True,
        ):  # fmt: skip
            stride = 9 if kind == PageKind.ZERO else 8 + event.page_size
            records += [(kind, block, first + n, offset + n * stride) for n in range(count)]
    return b"".join(others), faults, records


def skimmed(data: bytes, sizes: list[int]) -> tuple[list[Event], int]:
    """The events, and how many bytes were looked at."""
    skimmer, events, seen, at, turn = Skimmer(live_decoder()), [], 0, 0, 0
    while at < len(data):
        piece = memoryview(data)[at : at + sizes[turn % len(sizes)]]
        skipped = skimmer.skip(len(piece))
        rest = piece[skipped:]
        if skipped and not skimmer.proves(rest):
            skipped, rest = 0, piece
        events += skimmer.feed(rest, skipped)
        seen += len(rest)
        at += len(piece)
        turn += 1
    return events + skimmer.close(), seen


def decoded(data: bytes) -> list[Event]:
    decoder: Decoder = live_decoder()
    return decoder.feed(data) + decoder.close()


def stream_of(kinds: str) -> bytes:
    """``p`` a page, ``z`` a zero page, ``-`` one left out, ``|`` the end of a section."""
    bodies: list[list[bytes]] = [[]]
    number = 0
    for kind in kinds:
        if kind == "|":
            bodies.append([])
            continue
        named = None if bodies[-1] else "pc.ram"
        if kind == "p":
            bodies[-1].append(page(number, CONTENT, named))
        elif kind == "z":
            bodies[-1].append(zero(number, named))
        number += 1
    memory = ram({"pc.ram": max(number, 1) * PAGE}, *map(b"".join, bodies), b"")
    return HEADER + configuration("pc-i440fx-7.2") + memory + device(7, "toy", b"state") + END


KINDS = st.lists(
    st.tuples(st.sampled_from("pppz-|"), st.integers(1, 60)).map(lambda part: part[0] * part[1]),
    max_size=12,
).map(lambda parts: "".join(parts).replace("||", "|"))


@given(KINDS, st.lists(st.integers(500, 300_000), min_size=1, max_size=8))
def test_the_same_is_known_however_much_is_left_out(kinds: str, sizes: list[int]) -> None:
    data = stream_of(kinds)
    assert told(skimmed(data, sizes)[0]) == told(decoded(data))


def test_of_a_long_run_hardly_anything_is_looked_at() -> None:
    data = stream_of("p" * 5000)
    events, seen = skimmed(data, [1 << 20])
    assert told(events) == told(decoded(data))
    assert seen < 0.2 * len(data)


def test_what_was_left_out_can_not_be_encoded() -> None:
    events, _ = skimmed(stream_of("p" * 2000), [1 << 20])
    with pytest.raises(ValueError, match="passed over"):
        b"".join(event.encode() for event in events if isinstance(event, Pages))


@given(st.integers(0, 3_000_000), st.lists(st.integers(2000, 1 << 20), min_size=1, max_size=4))
def test_a_stream_that_ends_early_ends_with_the_same_fault(end: int, sizes: list[int]) -> None:
    data = stream_of("p" * 700 + "z" + "p" * 20)[:end]
    assert told(skimmed(data, sizes)[0]) == told(decoded(data))


@over_cases(lambda case: case.main.stat().st_size < LARGE)
@pytest.mark.parametrize("size", [1 << 16, 1 << 20])
def test_recorded_streams(case: Case, size: int) -> None:
    data = case.main.read_bytes()
    assert told(skimmed(data, [size])[0]) == told(decoded(data))

"""Decode then encode is the identity, and how the input is split does not matter."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest

from corpus import Case, cases, over_cases
from vmstream.stream.channels import MultifdDecoder, PreemptDecoder, ReturnPathDecoder
from vmstream.stream.decoder import Decoder
from vmstream.stream.encoder import encode
from vmstream.stream.events import Event, Fault
from vmstream.wire.ram import PageKind, Pages
from vmstream.wire.sections import Raw

PLAIN = [case for case in cases() if not case.is_snapshot]


def decode(data: bytes, cuts: list[int] | None = None) -> list[Event]:
    decoder = Decoder()
    events: list[Event] = []
    edges = [0, *(cuts or []), len(data)]
    for start, end in pairwise(edges):
        events += decoder.feed(data[start:end])
    return events + decoder.close()


def joined(events: list[Event]) -> list[Any]:
    """Events with batches of pages and raw pieces put together, as the split may not matter."""
    out: list[Any] = []
    for event in events:
        if isinstance(event, Pages):
            records = list(_records(event))
            if out and isinstance(out[-1], list):
                out[-1] += records
            else:
                out.append(records)
        elif isinstance(event, Raw):
            if out and isinstance(out[-1], tuple) and out[-1][0] == event.role:
                out[-1] = (event.role, out[-1][1] + bytes(event.data or b""))
            else:
                out.append((event.role, bytes(event.data or b"")))
        elif isinstance(event, Fault):
            out.append(("fault", str(event.error), event.fatal))
        else:
            out.append((type(event).__name__, event.offset, bytes(event.encode())))
    return out


def _records(event: Pages) -> list[tuple[int, int, int, int]]:
    runs = event.runs
    strides = {PageKind.ZERO: 9, PageKind.FILLED: 9, PageKind.NORMAL: 8 + event.page_size}
    return [
        (kind, block, page + step, offset + step * strides.get(PageKind(kind), 0))
        for kind, block, page, count, offset in zip(
            runs.kind.tolist(), runs.block.tolist(), runs.page.tolist(),
            runs.count.tolist(), runs.offset.tolist(), strict=True,
        )
        for step in range(count)
    ]  # fmt: skip


@over_cases(lambda case: not case.is_snapshot)
def test_decode_then_encode_is_the_identity(case: Case) -> None:
    data = case.main.read_bytes()
    assert b"".join(encode(decode(data))) == data


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.id)
def test_events_do_not_depend_on_how_the_input_is_split(case: Case) -> None:
    data = case.main.read_bytes()[: 3 << 20]
    whole = joined(decode(data))
    chance = random.Random(case.id)
    cuts = sorted(chance.sample(range(1, len(data)), min(40, len(data) - 1)))
    assert joined(decode(data, cuts)) == whole


def test_one_byte_at_a_time_gives_the_same_events() -> None:
    case = min(PLAIN, key=lambda case: case.main.stat().st_size)
    data = case.main.read_bytes()
    assert joined(decode(data, list(range(1, len(data))))) == joined(decode(data))


@over_cases(lambda case: bool(case.channels or case.reverse))
def test_other_channels_are_encoded_as_they_were(case: Case) -> None:
    ram = Decoder()
    ram.feed(case.main.read_bytes())
    names, lengths = ram.ram.names, ram.ram.lengths
    size = 1 << (ram.ram.page_bits or 12)
    for path in [*case.channels, *case.reverse]:
        data = path.read_bytes()
        decoder: MultifdDecoder | ReturnPathDecoder | PreemptDecoder
        if data[:4] == b"\x11\x22\x33\x44":
            decoder = MultifdDecoder(size)
        elif path in case.reverse:
            decoder = ReturnPathDecoder()
        else:
            decoder = PreemptDecoder(names, lengths, size)
        events = decoder.feed(data) + decoder.close()
        assert not [event for event in events if isinstance(event, Fault)], path
        assert b"".join(encode(events)) == data

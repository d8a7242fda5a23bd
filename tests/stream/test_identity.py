"""Decode then encode is the identity, and how the input is split does not matter."""

from __future__ import annotations

import random

import pytest

from corpus import Case, cases, over_cases
from decoding import decode, joined
from vmstream.stream.channels import MultifdDecoder, PreemptDecoder, ReturnPathDecoder
from vmstream.stream.decoder import Decoder
from vmstream.stream.encoder import encode
from vmstream.stream.events import Fault

PLAIN = [case for case in cases() if not case.is_snapshot]


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

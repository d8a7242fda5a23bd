"""Cut and flipped streams: what can be read is shown, the first fault is named."""

from __future__ import annotations

import json
import random

import pytest

import vmstream
from corpus import case_named
from vmstream.errors import StreamError
from vmstream.render.json import dump
from vmstream.tools.inspect import inspect
from vmstream.tools.verify import verify

DATA = case_named("pc-7.2").main.read_bytes()
CUTS = [*range(1, 64), *random.Random(1).sample(range(64, len(DATA)), 150)]


@pytest.mark.parametrize("cut", CUTS)
def test_a_stream_cut_anywhere_says_where(cut: int) -> None:
    try:
        stream = vmstream.open(DATA[:cut])
    except StreamError as error:
        assert cut <= 8
        assert error.offset == 0
        return
    report = json.loads(dump(inspect(stream)))
    described = DATA.rfind(b"\x06\x00", 0, DATA.rfind(b'{"page_size"'))
    if cut <= described:
        assert report["complete"] is False
        assert report["fault"]["offset"] <= cut
        assert report["fault"]["message"]
    assert not verify(stream).sound or cut >= described


def test_a_flipped_byte_in_a_page_header_is_named_and_the_devices_are_still_read() -> None:
    whole = vmstream.open(DATA)
    index = whole.index
    place = int(index.offset[len(index.offset) // 2]) - 8
    damaged = bytearray(DATA)
    damaged[place + 7] ^= 0x40 | 0x10
    stream = vmstream.open(bytes(damaged))
    assert not stream.complete
    error = stream.faults[0]
    assert error.section == "ram"
    assert error.offset is not None
    assert [s.key for s in stream.states] == [s.key for s in whole.states]
    assert stream.gap is not None


def test_missing_bytes_in_a_device_are_found_in_its_field() -> None:
    whole = vmstream.open(DATA)
    section = next(s for s in whole.states if s.name == "mc146818rtc")
    at = section.body_offset + 40
    stream = vmstream.open(DATA[:at] + DATA[at + 4 :])
    error = stream.faults[0]
    assert error.section == "mc146818rtc"
    assert section.body_offset <= (error.offset or 0) <= section.offset + section.size


@pytest.mark.parametrize("seed", range(60))
def test_a_flipped_byte_anywhere_gives_a_report_or_a_stream_error(seed: int) -> None:
    chance = random.Random(seed)
    damaged = bytearray(DATA)
    damaged[chance.randrange(len(DATA))] ^= 1 << chance.randrange(8)
    try:
        stream = vmstream.open(bytes(damaged))
    except StreamError:
        return
    report = inspect(stream)
    assert report.sound is (report.complete and not report.faults)
    verify(stream)

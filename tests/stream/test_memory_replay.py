"""Memory read through the index, against a plain replay of the records one by one."""

from __future__ import annotations

import random
import zlib

import pytest

from corpus import Case, cases
from opened import open_case
from twins import xbzrle_decode
from vmstream.stream.decoder import Decoder
from vmstream.wire.ram import PageKind, Pages, RamMark
from vmstream.wire.sections import SectionStart

ONE_CHANNEL = [
    case
    for case in cases()
    if not case.is_snapshot
    and not case.is_pair
    and not case.channels
    and case.main.stat().st_size < 4 << 20
    and not {"mapped-ram", "postcopy-ram"} & set(case.capabilities)
    and "dirty-bitmaps" not in case.name  # tens of thousands of idle sections
]


def replay(data: bytes) -> list[dict[tuple[str, int], bytes]]:
    """Pages by (block, number) after each RAM section."""
    decoder = Decoder()
    pages: dict[tuple[str, int], bytes] = {}
    states: list[dict[tuple[str, int], bytes]] = []
    in_ram = False
    for event in decoder.feed(data) + decoder.close():
        if isinstance(event, SectionStart):
            in_ram = event.idstr == "ram"
        elif isinstance(event, Pages):
            _apply(event, pages)
        elif isinstance(event, RamMark) and in_ram and event.flag == 0x10:
            states.append(dict(pages))
    return states


def _apply(event: Pages, pages: dict[tuple[str, int], bytes]) -> None:
    runs, size = event.runs, event.page_size
    for at in range(runs.size):
        kind = PageKind(int(runs.kind[at]))
        stride = {PageKind.NORMAL: 8 + size}.get(kind, 9)
        for step in range(int(runs.count[at])):
            raw = bytes(event.payload(int(runs.offset[at]) + step * stride, kind))
            key = event.names[int(runs.block[at])], int(runs.page[at]) + step
            if kind in (PageKind.ZERO, PageKind.FILLED):
                raw *= size
            elif kind == PageKind.COMPRESSED:
                raw = zlib.decompress(raw)
            elif kind == PageKind.XBZRLE:
                raw = bytes(xbzrle_decode(pages.get(key, bytes(size)), raw))
            pages[key] = raw


@pytest.mark.parametrize("case", ONE_CHANNEL, ids=lambda case: case.id)
def test_every_page_after_every_section_is_as_replayed(case: Case) -> None:
    stream = open_case(case)
    states = replay(case.main.read_bytes())
    chance = random.Random(case.id)
    chosen = sorted({0, len(states) - 1, *chance.sample(range(len(states)), min(3, len(states)))})
    for number in chosen:
        memory = stream.memory.at(number)
        size = memory.page_size
        for (block, page), content in states[number].items():
            if page % 7 == number % 7:  # a seventh of the pages, another one each time
                assert memory[block].read(page * size, size) == content, (number, block, page)


@pytest.mark.parametrize("case", ONE_CHANNEL[::6], ids=lambda case: case.id)
def test_any_range_is_part_of_the_whole(case: Case) -> None:
    block = next(iter(open_case(case).memory))
    whole = block.array().tobytes()
    chance = random.Random(case.id)
    for _ in range(50):
        start = chance.randrange(len(whole))
        length = chance.randrange(20000)
        assert block.read(start, length) == whole[start : start + length]


@pytest.mark.parametrize("case", ONE_CHANNEL[::6], ids=lambda case: case.id)
def test_runs_cover_the_block_and_zero_runs_are_zero(case: Case) -> None:
    for block in open_case(case).memory:
        at = 0
        for run in block.runs():
            assert run.start == at
            at += run.size
            if run.zero:
                assert not any(block.read(run.start, min(run.size, 1 << 16)))
        assert at == block.size

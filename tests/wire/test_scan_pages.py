"""The page scan equals its plain twin, on records as they come and on bytes made to hurt."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import twins
from vmstream._kernels import scan_pages
from vmstream.stream.ram import Stop
from vmstream.wire.ram import RunTable

BITS = 8
"""Smaller than any target's pages (10 bits), so that COMPRESS_PAGE is no flag but an address."""
NAME = b"\6pc.ram"
LONGEST = 300

Scan = tuple[int, list[tuple[int, bool, int, int, int]], int]


def scan(
    data: bytes,
    pos: int = 0,
    bits: int = 10,
    block: int = 0,
    pages: int = 1 << 20,
    name_size: int = 0,
    flat: bool = False,
    room: int = 64,
    base: int = 0,
) -> Scan:
    """The kernel, with its columns as a list of runs."""
    table = RunTable(room)
    end, count, stop = scan_pages(
        data, pos, base, bits, block, pages, name_size, flat, LONGEST,
        table.kind, table.named, table.block, table.page, table.count, table.offset,
    )  # fmt: skip
    columns = (table.kind, table.named, table.page, table.count, table.offset)
    runs = list(zip(*(column[:count].tolist() for column in columns), strict=True))
    assert all(table.block[:count] == block % (1 << 16))
    return end, [(k, bool(n), p, c, o - base) for k, n, p, c, o in runs], stop


@st.composite
def records(draw: st.DrawFn, bits: int, flat: bool) -> bytes:
    """Records one after another: mostly in page order, so that they form runs."""
    out = bytearray()
    page = draw(st.integers(0, 6))
    kinds = st.sampled_from(["zero", "zero", "normal", "normal", "filled", "xbzrle", "packed"])
    for _ in range(draw(st.integers(0, 14))):
        kind = draw(kinds)
        named = draw(st.integers(0, 7)) == 0 and not flat
        flag = {"zero": 2, "filled": 2, "normal": 8, "xbzrle": 0x40, "packed": 0x100}[kind]
        flag |= 0 if named or flat else 0x20
        out += struct.pack(">Q", page << bits | flag & ((1 << bits) - 1))
        out += NAME if named else b""
        match kind:
            case "zero":
                out += b"\0"
            case "filled":
                out.append(draw(st.integers(1, 2)))
            case "normal":
                out += bytes(1 << bits)
            case "xbzrle":
                size = draw(st.sampled_from([0, 1, 5, 1 << bits, (1 << bits) + 1]))
                out += struct.pack(">BH", draw(st.sampled_from([1, 1, 1, 0])), size) + bytes(size)
            case "packed":
                size = draw(st.sampled_from([0, 1, LONGEST, LONGEST + 1, 0xFFFFFFFF]))
                out += struct.pack(">I", size) + bytes(min(size, LONGEST + 1))
        page = page + 1 if draw(st.integers(0, 5)) else draw(st.integers(0, 30))
    out += draw(st.sampled_from([b"", b"", struct.pack(">Q", 0x10), b"\0" * 5, b"\xff" * 9]))
    return bytes(out)


@given(st.data())
def test_scan_equals_its_twin(data: st.DataObject) -> None:
    bits, flat = data.draw(st.sampled_from([BITS, 10, 12])), data.draw(st.booleans())
    stream = bytearray(data.draw(records(bits, flat)))
    if stream:
        for _ in range(data.draw(st.integers(0, 2))):
            at = data.draw(st.integers(0, len(stream) - 1))
            stream[at] = data.draw(st.integers(0, 255))
        del stream[data.draw(st.one_of(st.just(len(stream)), st.integers(0, len(stream)))) :]
    pos = data.draw(st.integers(0, min(20, len(stream))))
    block = data.draw(st.sampled_from([0, 0, 3, 65535, -1]))
    pages = data.draw(st.sampled_from([0, 1, 8, 1 << 20, 1 << 32]))
    name_size = data.draw(st.sampled_from([0, len(NAME), 256]))
    room = data.draw(st.sampled_from([0, 1, 2, 64]))
    raw = bytes(stream)
    expected = twins.scan_pages(raw, pos, bits, block, pages, name_size, flat, LONGEST, room)
    assert scan(raw, pos, bits, block, pages, name_size, flat, room, base=1 << 40) == expected


@given(st.binary(max_size=200), st.integers(0, 8), st.booleans())
@example(b"\xff" * 8, 0, False)
@example(bytes(8), 0, True)
def test_scan_equals_its_twin_on_any_bytes(raw: bytes, name_size: int, flat: bool) -> None:
    expected = twins.scan_pages(raw, 0, BITS, 0, 1 << 32, name_size, flat, LONGEST, 64)
    assert scan(raw, 0, BITS, 0, 1 << 32, name_size, flat) == expected


@given(st.data())
def test_scanning_goes_on_where_the_bytes_ended(data: st.DataObject) -> None:
    """A buffer cut anywhere, scanned again from the last whole record, gives the same pages."""
    stream = data.draw(records(10, False))
    cut = data.draw(st.integers(0, len(stream)))
    whole_end, whole, _ = scan(stream, name_size=0)
    part_end, part, _ = scan(stream[:cut])
    rest_end, rest, _ = scan(stream, pos=part_end)
    assert part_end <= whole_end
    assert rest_end == whole_end
    assert spread(part) + spread(rest) == spread(whole)


def spread(runs: list[tuple[int, bool, int, int, int]]) -> list[tuple[int, int, int]]:
    """Runs as single pages (kind, page, payload)."""
    strides = {0: 9, 7: 9, 1: 8 + 1024}
    return [
        (kind, page + step, offset + step * strides.get(kind, 0))
        for kind, _, page, count, offset in runs
        for step in range(count)
    ]


def record(flags: int, page: int = 0, body: bytes = b"") -> bytes:
    return struct.pack(">Q", page << 10 | flags) + body


ZERO = record(0x22, 0, b"\0")


@pytest.mark.parametrize(
    ("data", "options", "stop"),
    [
        pytest.param(b"", {}, Stop.NEED, id="nothing"),
        pytest.param(ZERO[:8], {}, Stop.NEED, id="no-fill-byte"),
        pytest.param(record(0x28) + bytes(1023), {}, Stop.NEED, id="no-whole-page"),
        pytest.param(record(0x60) + b"\1\0", {}, Stop.NEED, id="no-xbzrle-length"),
        pytest.param(record(0x120) + b"\0\0\0", {}, Stop.NEED, id="no-compressed-length"),
        pytest.param(ZERO, {"room": 0}, Stop.FULL, id="no-room"),
        pytest.param(record(0x02), {}, Stop.NAMED, id="named"),
        pytest.param(record(0x10), {}, Stop.MARK, id="eos"),
        pytest.param(record(0x0A), {}, Stop.MARK, id="two-kinds"),
        pytest.param(record(0x22, 0, b"\0"), {"flat": True}, Stop.MARK, id="continue-when-flat"),
        pytest.param(record(0x22, 7, b"\0"), {"pages": 7}, Stop.BEYOND, id="beyond"),
        pytest.param(record(0x60, 0, b"\0\0\0"), {}, Stop.XBZRLE, id="encoding-0"),
        pytest.param(record(0x60, 0, b"\1\x04\x01"), {}, Stop.XBZRLE, id="more-than-a-page"),
        pytest.param(record(0x120, 0, b"\0\0\x01\x2d"), {}, Stop.LENGTH, id="too-long"),
        pytest.param(record(0x120, 0, b"\xff\xff\xff\xff"), {}, Stop.LENGTH, id="32-bits"),
        pytest.param(ZERO, {"block": -1}, Stop.FIRST, id="continues-nothing"),
    ],
)
def test_why_a_scan_stops(data: bytes, options: dict[str, int], stop: Stop) -> None:
    assert scan(data, **options) == (0, [], stop)  # type: ignore[arg-type]


def test_neighbours_form_one_run_and_a_name_begins_another() -> None:
    data = ZERO + record(0x22, 1, b"\0") + record(0x02, 2, NAME + b"\0") + record(0x22, 3, b"\0")
    end, runs, stop = scan(data, name_size=0)
    assert (end, runs, stop) == (18, [(0, False, 0, 2, 8)], Stop.NAMED)
    end, runs, stop = scan(data, pos=18, name_size=len(NAME))
    assert (end, runs, stop) == (len(data), [(0, True, 2, 2, 18 + 8 + len(NAME))], Stop.NEED)


def test_a_table_is_cut_to_what_it_holds() -> None:
    table = RunTable(8)
    table.page[:] = np.arange(8)
    head = table.head(3)
    table.page[:] = 0
    assert (head.size, head.page.tolist()) == (3, [0, 1, 2])

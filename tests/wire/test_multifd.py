"""Packets of multifd channels: 4.0 and later, ``x-multifd`` of 3.0 and 3.1, device state."""

from __future__ import annotations

import struct
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsing import parse
from vmstream.errors import LimitExceeded, Malformed, StreamError, Truncated
from vmstream.stream.channels import MultifdDecoder
from vmstream.stream.encoder import encode
from vmstream.stream.events import Fault
from vmstream.wire.multifd import (
    MULTIFD_MAGIC,
    DeviceStatePacket,
    InitialPacket,
    MultifdFlag,
    MultifdMethod,
    MultifdPacket,
    OldInitialPacket,
    OldMultifdPacket,
    packet_head,
    pages_of,
    read_initial_packet,
    read_old_packet,
    read_packet,
)
from vmstream.wire.reader import text_of

PAGE = 65536
"""Large pages make small packets: room for 8."""
ROOM = 8
NAME = b"pc.ram".ljust(256, b"\0")
U32 = st.integers(0, 0xFFFFFFFF)
UUIDS = st.binary(min_size=16, max_size=16)
CUTS = st.lists(st.integers(0, 500), max_size=8)


@st.composite
def packets(draw: st.DrawFn) -> MultifdPacket:
    normal = draw(st.integers(0, ROOM))
    zero = draw(st.integers(0, ROOM - normal))
    flags = draw(st.sampled_from(MultifdMethod)) | draw(st.sampled_from([0, 1]))
    name = draw(st.binary(max_size=256)).ljust(256, b"\0")
    offsets = draw(st.lists(st.integers(0, 1 << 40), min_size=ROOM, max_size=ROOM))
    size = normal * PAGE if not flags & 0x3E else draw(U32)
    number = draw(st.integers(0, (1 << 64) - 1))
    return MultifdPacket(
        0, flags, ROOM, normal, size, number, zero, bytes(28), name, tuple(offsets)
    )


@given(packets())
def test_the_header_as_a_row_of_a_table(packet: MultifdPacket) -> None:
    row = np.zeros(1, packet_head(ROOM))
    row["magic"], row["version"], row["flags"] = MULTIFD_MAGIC, 1, packet.flags
    row["pages_alloc"], row["normal_pages"] = packet.pages_alloc, packet.normal_pages
    row["next_packet_size"], row["packet_num"] = packet.next_packet_size, packet.packet_num
    row["zero_pages"], row["block_name"] = packet.zero_pages, packet.block_name
    row["page_offsets"] = packet.page_offsets
    assert row.tobytes() == packet.encode()


@st.composite
def old_packets(draw: st.DrawFn) -> OldMultifdPacket:
    alloc = draw(st.integers(0, 20))
    offsets = draw(st.lists(st.integers(0, 1 << 40), min_size=alloc, max_size=alloc))
    used = draw(st.integers(0, alloc))
    return OldMultifdPacket(
        0, draw(st.sampled_from([0, 1])), alloc, used, draw(U32), NAME, tuple(offsets), PAGE
    )


DEVICE_STATES = st.builds(
    DeviceStatePacket,
    st.just(0),
    st.just(int(MultifdFlag.DEVICE_STATE)),
    st.binary(max_size=256).map(lambda name: text_of(name.rstrip(b"\0"))),
    U32,
    U32,
)
READERS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "packet": (partial(read_packet, page_size=PAGE), packets()),
    "device-state": (partial(read_packet, page_size=PAGE), DEVICE_STATES),
    "old": (partial(read_old_packet, page_size=PAGE), old_packets()),
    "initial": (
        read_initial_packet,
        st.builds(
            InitialPacket,
            st.just(0),
            UUIDS,
            st.integers(0, 255),
            st.binary(min_size=32, max_size=32),
        ),
    ),
}


@pytest.mark.parametrize("kind", READERS)
@given(st.data())
def test_what_is_written_is_read_in_any_split(kind: str, data: st.DataObject) -> None:
    read, records = READERS[kind]
    record = data.draw(records)
    wire = record.encode()
    assert parse(read, wire + bytes(8), data.draw(CUTS)) == (record, len(wire))


@pytest.mark.parametrize("kind", READERS)
@given(st.data())
def test_every_beginning_of_a_packet_is_a_truncation(kind: str, data: st.DataObject) -> None:
    read, records = READERS[kind]
    wire = data.draw(records).encode()
    cut = data.draw(st.integers(0, len(wire) - 1))
    if kind == "initial" and cut == 25:
        return  # an x-multifd channel without a packet
    with pytest.raises(Truncated):
        parse(read, wire[:cut])


@given(UUIDS, st.integers(0, 255), CUTS, st.booleans())
def test_the_old_initial_packet_is_known_by_what_follows(
    uuid: bytes, channel: int, cuts: list[int], alone: bool
) -> None:
    record = OldInitialPacket(0, uuid, channel)
    wire = record.encode()
    assert len(wire) == 25
    after = b"" if alone else struct.pack(">I", MULTIFD_MAGIC) + bytes(60)
    assert parse(read_initial_packet, wire + after, cuts) == (record, 25)


def header(
    flags: int = 0,
    alloc: int = ROOM,
    normal: int = 0,
    size: int = 0,
    zero: int = 0,
    magic: int = MULTIFD_MAGIC,
    version: int = 1,
    offsets: tuple[int, ...] = (0,) * ROOM,
) -> bytes:
    head = struct.pack(">IIIIIIQI28s", magic, version, flags, alloc, normal, size, 1, zero, b"")
    return head + NAME + struct.pack(f">{len(offsets)}Q", *offsets)


@pytest.mark.parametrize(
    ("wire", "message", "offset"),
    [
        (header(magic=7), "begin with its magic", 0),
        (header(version=2), "version 2", 4),
        (header(flags=0x06), "no known method", 8),
        (header(flags=0x80), "no known method", 8),
        (header(alloc=7, normal=1), "does not fit the page size", 12),
        (header(alloc=0xFFFFFFFF), "does not fit the page size", 12),
        (header(normal=9), "lists 9 normal", 16),
        (header(normal=5, zero=4), "5 normal and 4 zero", 16),
        (header(normal=1, zero=0xFFFFFFFF), "zero pages", 16),
        (header(normal=2, size=PAGE), "2 plain pages", 20),
    ],
)
def test_what_is_refused_is_named(wire: bytes, message: str, offset: int) -> None:
    with pytest.raises(Malformed, match=message) as caught:
        parse(partial(read_packet, page_size=PAGE), wire)
    assert caught.value.offset == offset


def test_an_old_packet_does_not_ask_for_memory() -> None:
    wire = struct.pack(">IIIIIQ256s", MULTIFD_MAGIC, 1, 0, 0xFFFFFFFF, 0, 0, NAME)
    with pytest.raises(LimitExceeded, match="more pages than the limit"):
        parse(partial(read_old_packet, page_size=PAGE), wire)


def test_a_packet_without_pages_has_no_payload() -> None:
    """8.2 and before repeat the size of the packet before."""
    packet, _ = parse(partial(read_packet, page_size=PAGE), header(flags=1, size=3 * PAGE))
    assert (packet.sync, packet.payload_size) == (True, 0)


def test_normal_pages_stand_before_zero_pages() -> None:
    offsets = tuple(page * PAGE for page in (4, 2, 9, 5, 0, 0, 0, 0))
    wire = header(normal=1, size=PAGE, zero=3, offsets=offsets)
    packet, _ = parse(partial(read_packet, page_size=PAGE), wire)
    assert pages_of(packet, PAGE) == ([4], [2, 9, 5])


def test_an_offset_is_a_multiple_of_the_page_size() -> None:
    wire = header(normal=2, size=2 * PAGE, offsets=(0, PAGE + 4096, *(0,) * 6))
    packet, _ = parse(partial(read_packet, page_size=PAGE), wire)
    with pytest.raises(Malformed, match="not a multiple") as caught:
        pages_of(packet, PAGE)
    assert caught.value.offset == len(wire) - 8 * (ROOM - 1)


@given(st.data())
def test_a_channel_is_the_same_in_any_split(data: st.DataObject) -> None:
    initial = data.draw(READERS["initial"][1])
    wire = initial.encode()
    sequence = data.draw(st.lists(packets() | DEVICE_STATES, max_size=3))
    for packet in sequence:
        if packet.payload_size > 1 << 20:
            packet = header(flags=1)
            wire += packet
            continue
        wire += packet.encode() + bytes(packet.payload_size)
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=8))
    decoder = MultifdDecoder(PAGE)
    events = []
    edges = [0, *sorted(cuts), len(wire)]
    for start, end in pairwise(edges):
        events += decoder.feed(wire[start:end])
    events += decoder.close()
    assert not [event for event in events if isinstance(event, Fault)]
    assert b"".join(encode(events)) == wire


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_packets_or_one_fault(junk: bytes, begins_well: bool) -> None:
    begin = InitialPacket(0, bytes(16), 1, bytes(32)).encode() if begins_well else b""
    decoder = MultifdDecoder(PAGE)
    events = decoder.feed(begin + junk) + decoder.close()
    for event in events[:-1]:
        assert not isinstance(event, Fault)
    if events and isinstance(events[-1], Fault):
        assert isinstance(events[-1].error, StreamError)

"""Every record: what is written is what is read, in any split; what is wrong is named."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from parsing import parse
from vmstream.errors import LimitExceeded, Malformed, StreamError, Truncated
from vmstream.wire.bitmaps import BitmapChunk, BitmapFlag, read_bitmap_chunk
from vmstream.wire.block import CHUNK_SIZE, BlockFlag, BlockRecord, read_block_record
from vmstream.wire.colo import ColoMessage, ColoType, read_colo_message
from vmstream.wire.commands import Command, CommandType, discard_ranges, encode_discard
from vmstream.wire.commands import read_command as _read_command
from vmstream.wire.compat import CompatSection, read_compat_section
from vmstream.wire.configuration import Configuration
from vmstream.wire.configuration import read_configuration as _read_configuration
from vmstream.wire.htab import HtabChunk, HtabHeader, read_htab_chunk, read_htab_header
from vmstream.wire.limits import DEFAULT_LIMITS, Limits
from vmstream.wire.mapped_ram import MappedRamHeader, read_mapped_header
from vmstream.wire.proxmox import PbsState, read_pbs_state
from vmstream.wire.reader import Parse, Reader, counted, text_of
from vmstream.wire.return_path import (
    BITMAP_END,
    ReturnMessage,
    ReturnType,
    read_return_message,
)
from vmstream.wire.storage import StorageFlag, StorageRecord, read_storage_record
from vmstream.wire.vfio import VfioMark, VfioRecord, read_vfio_record

Read = Callable[[Reader], Parse[Any]]

SMALL = Limits(machine_name=40, capabilities=4, bitmap=200, bitmap_chunk=100, device_state=300)


def read_configuration(reader: Reader) -> Parse[Configuration]:
    """With the 0x07 that the decoder takes."""
    yield from reader.take(1)
    return (yield from _read_configuration(reader, SMALL))


def read_command(reader: Reader) -> Parse[Command]:
    """With the 0x08 that the decoder takes."""
    yield from reader.take(1)
    return (yield from _read_command(reader))


def limited(read: Callable[[Reader, Limits], Parse[Any]]) -> Read:
    return partial(read, limits=SMALL)


def mapped(reader: Reader) -> Parse[MappedRamHeader]:
    return read_mapped_header(reader, 1 << 20, SMALL)


U16, U32, U64 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.integers(0, (1 << 64) - 1)
NAMES = st.binary(max_size=30).map(text_of)

CONFIGURATIONS = st.builds(
    Configuration,
    st.just(0),
    NAMES,
    st.none() | st.integers(8, 20),
    st.none() | st.lists(NAMES, max_size=4).map(tuple),
    st.none() | st.binary(min_size=16, max_size=16),
)
PAYLOADS = {
    CommandType.OPEN_RETURN_PATH: st.just(b""),
    CommandType.PING: st.binary(min_size=4, max_size=4),
    CommandType.POSTCOPY_ADVISE: st.just(b"") | st.binary(min_size=16, max_size=16),
    CommandType.POSTCOPY_LISTEN: st.just(b""),
    CommandType.POSTCOPY_RUN: st.just(b""),
    CommandType.POSTCOPY_RAM_DISCARD: st.builds(
        encode_discard, NAMES, st.lists(st.tuples(U64, U64), max_size=12)
    ),
    CommandType.PACKAGED: st.binary(min_size=4, max_size=4),
    CommandType.ENABLE_COLO: st.just(b""),
    CommandType.POSTCOPY_RESUME: st.just(b""),
    CommandType.RECV_BITMAP: NAMES.map(counted),
    CommandType.SWITCHOVER_START: st.just(b""),
}
COMMANDS = st.sampled_from(sorted(PAYLOADS)).flatmap(
    lambda kind: st.builds(Command, st.just(0), st.just(int(kind)), PAYLOADS[kind])
)


@st.composite
def return_messages(draw: st.DrawFn) -> ReturnMessage:
    kind = draw(st.sampled_from(ReturnType))
    match kind:
        case ReturnType.REQ_PAGES_ID:
            name = draw(st.binary(max_size=255))
            payload = struct.pack(">QIB", draw(U64), draw(U32), len(name)) + name
        case ReturnType.REQ_PAGES:
            payload = draw(st.binary(min_size=12, max_size=12))
        case ReturnType.RECV_BITMAP:
            name = draw(st.binary(max_size=255))
            payload = bytes((len(name),)) + name
            return ReturnMessage(0, kind, payload, draw(st.binary(max_size=200)))
        case ReturnType.SWITCHOVER_ACK:
            payload = b""
        case _:
            payload = draw(st.binary(min_size=4, max_size=4))
    return ReturnMessage(0, kind, payload)


@st.composite
def bitmap_chunks(draw: st.DrawFn) -> BitmapChunk:
    kind = draw(st.sampled_from([1, 0x10, 0x20, 0x40]))
    if kind == BitmapFlag.EOS:
        return BitmapChunk(0, BitmapFlag.EOS)
    named = draw(st.sampled_from([0, 4, 8, 12]))
    device = draw(NAMES) if named & 8 else None
    bitmap = draw(NAMES) if named & 4 else None
    if kind == BitmapFlag.START:
        parts = (draw(U32), draw(st.integers(0, 255)))
        return BitmapChunk(0, BitmapFlag(kind | named), device, bitmap, *parts)
    if kind == BitmapFlag.COMPLETE:
        return BitmapChunk(0, BitmapFlag(kind | named), device, bitmap)
    zeroes = draw(st.sampled_from([0, 2]))
    data = None if zeroes else draw(st.binary(max_size=100))
    flags = BitmapFlag(kind | named | zeroes)
    return BitmapChunk(0, flags, device, bitmap, None, None, draw(U64), draw(U32), data)


@st.composite
def htab_chunks(draw: st.DrawFn) -> HtabChunk:
    data = draw(st.binary(max_size=3)) * 16
    return HtabChunk(0, draw(U32), len(data) // 16, draw(U16), data)


STORAGE = st.one_of(
    st.builds(
        StorageRecord,
        st.just(0),
        st.integers(0, (1 << 52) - 1).map(lambda page: page << 12),
        st.just(StorageFlag.DATA),
        st.binary(max_size=300),
    ),
    st.builds(
        StorageRecord, st.just(0), st.just(0), st.sampled_from([StorageFlag.EOS, StorageFlag.DONE])
    ),
)
VFIO = st.one_of(
    st.builds(VfioRecord, st.just(0), st.just(VfioMark.DEV_DATA_STATE), U64),
    st.sampled_from(sorted(set(VfioMark) - {VfioMark.DEV_DATA_STATE})).map(
        lambda mark: VfioRecord(0, mark)
    ),
)
COLO = st.one_of(
    st.builds(ColoMessage, st.just(0), st.just(ColoType.VMSTATE_SIZE), U64),
    st.sampled_from(sorted(set(ColoType) - {ColoType.VMSTATE_SIZE})).map(
        lambda kind: ColoMessage(0, kind)
    ),
)
BLOCKS = st.one_of(
    st.builds(
        BlockRecord,
        st.just(0),
        st.integers(0, (1 << 55) - 1),
        st.just(BlockFlag.DEVICE_BLOCK | BlockFlag.ZERO_BLOCK),
        NAMES,
    ),
    st.builds(
        BlockRecord,
        st.just(0),
        st.integers(0, 200),
        st.sampled_from([BlockFlag.EOS, BlockFlag.PROGRESS]),
    ),
    st.just(BlockRecord(0, 3, BlockFlag.DEVICE_BLOCK, "disk", memoryview(b"\x5a" * CHUNK_SIZE))),
)
MAPPED = st.builds(
    MappedRamHeader,
    st.integers(0, 1),
    st.sampled_from([4096, 65536]),
    U64,
    st.integers(0, 1 << 40).map(lambda page: page << 16),
)

RECORDS: dict[str, tuple[Read, st.SearchStrategy[Any]]] = {
    "bitmap": (limited(read_bitmap_chunk), bitmap_chunks()),
    "block": (read_block_record, BLOCKS),
    "colo": (read_colo_message, COLO),
    "command": (read_command, COMMANDS),
    "compat": (read_compat_section, st.builds(CompatSection, st.just(0), NAMES, U32, U32, U32)),
    "configuration": (read_configuration, CONFIGURATIONS),
    "htab-chunk": (read_htab_chunk, htab_chunks()),
    "htab-header": (read_htab_header, st.builds(HtabHeader, st.just(0), U32)),
    "mapped": (mapped, MAPPED),
    "pbs": (read_pbs_state, st.builds(PbsState, st.just(0), U64)),
    "return": (limited(read_return_message), return_messages()),
    "storage": (limited(read_storage_record), STORAGE),
    "vfio": (read_vfio_record, VFIO),
}
EACH = pytest.mark.parametrize("kind", RECORDS)
CUTS = st.lists(st.integers(0, 120), max_size=8)


@EACH
@given(st.data())
def test_what_is_written_is_read_in_any_split(kind: str, data: st.DataObject) -> None:
    read, records = RECORDS[kind]
    record = data.draw(records)
    wire = record.encode()
    assert parse(read, wire + b"\0", data.draw(CUTS)) == (record, len(wire))


@EACH
@given(st.data())
def test_every_beginning_of_a_record_is_a_truncation(kind: str, data: st.DataObject) -> None:
    read, records = RECORDS[kind]
    wire = data.draw(records.filter(lambda record: len(record.encode()) < 2000)).encode()
    cut = data.draw(st.integers(0, len(wire) - 1))
    try:
        record, used = parse(read, wire[:cut])
    except Truncated as error:
        assert error.offset is not None
        assert error.offset <= cut
        assert error.expected
    else:  # a configuration may end before any of its subsections
        assert kind == "configuration"
        assert record.encode() == wire[:used]


@EACH
@given(st.data())
def test_any_bytes_are_a_record_or_refused(kind: str, data: st.DataObject) -> None:
    """What is taken encodes to the bytes it was read from."""
    read, records = RECORDS[kind]
    wire = bytearray(data.draw(st.binary(max_size=80)))
    if data.draw(st.booleans()):
        wire = bytearray(data.draw(records).encode()[:2000])
        for _ in range(data.draw(st.integers(1, 3))):
            wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    try:
        record, used = parse(read, bytes(wire))
    except StreamError as error:
        assert error.message
        if error.offset is not None:
            assert 0 <= error.offset <= len(wire)
        return
    if kind in ("command", "configuration"):  # the first byte is the decoder's
        wire[0] = record.encode()[0]
    assert record.encode() == wire[:used]


def u16(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


def u32(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def u64(*values: int) -> bytes:
    return struct.pack(f">{len(values)}Q", *values)


def part(name: str, body: bytes, version: int = 1) -> bytes:
    """A configuration with one subsection."""
    return b"\7" + u32(1) + b"m\5" + bytes((len(name),)) + name.encode() + u32(version) + body


REFUSALS = [
    ("bitmap", b"\x80", Malformed, "flags 0x80", 0),
    ("bitmap", b"\x11", Malformed, "exactly one of", 0),
    ("bitmap", b"\x0c", Malformed, "exactly one of", 0),
    ("bitmap", b"\x40" + u64(0) + u32(8) + u64(101), LimitExceeded, "101 bytes", 21),
    ("block", u64(3), Malformed, "flags 0x3", 0),
    ("block", u64(0x200 | 0x100), Malformed, "flags 0x100", 0),
    ("colo", u32(7), Malformed, "message 7", 0),
    ("command", b"\x08" + u16(0, 0), Malformed, "command 0x0", 0),
    ("command", b"\x08" + u16(12, 0), Malformed, "command 0xc", 0),
    ("command", b"\x08" + u16(2, 3), Malformed, "PING has a bad length", 0),
    ("command", b"\x08" + u16(3, 8), Malformed, "POSTCOPY_ADVISE has a bad length", 0),
    ("command", b"\x08" + u16(7, 0), Malformed, "PACKAGED has a bad length", 0),
    ("command", b"\x08" + u16(6, 4) + b"\1\1a\0", Malformed, "must hold version 0", 0),
    ("command", b"\x08" + u16(6, 5) + b"\0\1a\0!", Malformed, "pairs of 64-bit", 0),
    ("command", b"\x08" + u16(6, 0), Malformed, "must hold version 0", 0),
    ("configuration", b"\7" + u32(41), LimitExceeded, "41 bytes", 5),
    ("configuration", b"\7" + u32(0xFFFFFFFF), LimitExceeded, "4294967295 bytes", 5),
    ("configuration", part("configuration/hat", b""), Malformed, "unknown subsection", 6),
    (
        "configuration",
        part("configuration/uuid", bytes(16)) + part("configuration/uuid", bytes(16))[6:],
        Malformed,
        "uuid twice",
        46,
    ),
    (
        "configuration",
        part("configuration/target-page-bits", u32(12), 2),
        Malformed,
        "has version 2",
        6,
    ),
    (
        "configuration",
        part("configuration/target-page-bits", u32(31)),
        Malformed,
        "target page bits 31",
        6,
    ),
    (
        "configuration",
        part("configuration/capabilities", u32(0xFFFFFFFF)),
        LimitExceeded,
        "4294967295 capabilities",
        38,
    ),
    ("mapped", u32(2) + u64(4096, 0, 0), Malformed, "header version 2", 0),
    ("mapped", u32(1) + u64(4095, 0, 0), Malformed, "not a power of two", 4),
    ("mapped", u32(1) + u64(0, 0, 0), Malformed, "not a power of two", 4),
    ("mapped", u32(1) + u64(4096, 512, 5000), Malformed, "not aligned", 20),
    ("mapped", u32(1) + u64(256, 512, 4096), LimitExceeded, "bitmap is larger", 0),
    ("return", u16(0, 0), Malformed, "message 0x0", 0),
    ("return", u16(8, 0), Malformed, "message 0x8", 0),
    ("return", u16(1, 5), Malformed, "SHUT has a bad length", 2),
    ("return", u16(3, 513), Malformed, "REQ_PAGES_ID has a bad length", 2),
    ("return", u16(3, 13) + bytes(12) + b"\1", Malformed, "counted block name", 0),
    ("return", u16(3, 12) + bytes(12), Malformed, "counted block name", 0),
    ("return", u16(5, 2) + b"\1a" + u64(1 << 62), LimitExceeded, "larger than the limit", 14),
    ("return", u16(5, 2) + b"\1a" + u64(1) + b"\1" + u64(7), Malformed, "end with its mark", 15),
    ("storage", u64(4), Malformed, "incomplete", 0),
    ("storage", u64(3), Malformed, "flags 0x3", 0),
    ("storage", u64(2, 1 << 63), LimitExceeded, "a storage record", 16),
    ("vfio", u64(0), Malformed, "no vfio marker", 0),
]


@pytest.mark.parametrize(
    ("kind", "wire", "error", "message", "offset"),
    REFUSALS,
    ids=[f"{kind}: {message}" for kind, _, _, message, _ in REFUSALS],
)
def test_what_is_refused_is_named(
    kind: str, wire: bytes, error: type[StreamError], message: str, offset: int
) -> None:
    with pytest.raises(error, match=message) as caught:
        parse(RECORDS[kind][0], wire)
    assert caught.value.offset == offset


@given(CONFIGURATIONS, st.permutations(Configuration(0, "").order))
def test_parts_of_a_configuration_stand_in_any_order(
    record: Configuration, order: list[str]
) -> None:
    wire = structs.replace(record, order=tuple(order)).encode()
    read, _ = parse(read_configuration, wire)
    assert read.encode() == wire
    assert structs.replace(read, order=record.order) == record


def test_a_bitmap_of_received_pages_follows_its_message() -> None:
    message = ReturnMessage(0, ReturnType.RECV_BITMAP, b"\6pc.ram", b"\xff\1" + bytes(6))
    wire = message.encode()
    assert wire == u16(5, 7) + b"\6pc.ram" + u64(8) + b"\xff\1" + bytes(6) + u64(BITMAP_END)


@given(NAMES, st.lists(st.tuples(U64, U64), max_size=12))
def test_discarded_ranges_come_back(name: str, ranges: list[tuple[int, int]]) -> None:
    command = Command(0, CommandType.POSTCOPY_RAM_DISCARD, encode_discard(name, ranges))
    assert discard_ranges(command) == (name, ranges)


def test_limits_are_generous_enough_for_qemu() -> None:
    """QEMU: 255 bytes of names, 1 << 28 granules of bitmaps, packages of device state."""
    assert DEFAULT_LIMITS.machine_name >= 255
    assert DEFAULT_LIMITS.bitmap_chunk >= 10240
    assert DEFAULT_LIMITS.description >= 16 << 20

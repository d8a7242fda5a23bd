"""What the decoder takes and what it refuses, on streams built for the purpose."""

from __future__ import annotations

import random
import struct
import zlib

import pytest

import vmstream
from builders import (
    END,
    HEADER,
    PAGE,
    command,
    compressed,
    configuration,
    described,
    description,
    device,
    eos,
    page,
    ram,
    ram_setup,
    section,
    xbzrle,
    zero,
)
from vmstream.errors import Malformed, NotAStream, StreamError, Truncated
from vmstream.stream.decoder import Decoder
from vmstream.stream.encoder import encode
from vmstream.stream.events import Fault
from vmstream.stream.stream import Stream
from vmstream.wire.block import CHUNK_SIZE
from vmstream.wire.commands import CommandType
from vmstream.wire.sections import Element

ONE_BLOCK = {"pc.ram": 16 * PAGE}
CONTENT = random.Random(7).randbytes(PAGE)


def read(*parts: bytes) -> Stream:
    data = b"".join(parts)
    decoder = Decoder()
    events = decoder.feed(data) + decoder.close()
    if not any(isinstance(event, Fault) for event in events):
        assert b"".join(encode(events)) == data
    return vmstream.open(data)


def fault(*parts: bytes) -> StreamError:
    stream = read(*parts)
    assert stream.faults
    return stream.faults[0]


def test_what_does_not_begin_with_its_magic_is_no_stream() -> None:
    with pytest.raises(NotAStream, match="must begin with 'QEVM'"):
        vmstream.open(b"LibvirtQ" + bytes(100))
    with pytest.raises(NotAStream, match="empty"):
        vmstream.open(b"")


def test_an_unknown_file_version_is_refused() -> None:
    with pytest.raises(NotAStream, match="file version 4"):
        vmstream.open(b"QEVM\0\0\0\4" + END)


def test_file_version_2_has_records_with_lengths() -> None:
    body = b"\5timer" + struct.pack(">III", 0, 2, 3) + b"abc"
    body += b"\3ram" + struct.pack(">III", 0, 2, 5) + b"vwxyz"
    stream = read(b"QEVM\0\0\0\2", struct.pack(">Q", len(body)), body)
    assert stream.file_version == 2
    assert [(s.name, s.version, s.body_size) for s in stream.sections] == [
        ("timer", 2, 3),
        ("ram", 2, 5),
    ]
    assert stream.complete


def test_configuration_says_machine_page_bits_capabilities_and_uuid() -> None:
    uuid = bytes(range(16))
    element = configuration(
        "virt-9.0", target_page_bits=14, capabilities=("mapped-ram",), uuid=uuid
    )
    stream = read(HEADER, element, END)
    assert stream.machine == "virt-9.0"
    assert stream.page_size == 1 << 14
    assert stream.configuration is not None
    assert stream.configuration.uuid == uuid
    assert "mapped-ram" in stream.capabilities


def test_an_unknown_subsection_of_the_configuration_is_refused() -> None:
    name = b"configuration/surprise"
    part = b"\5" + bytes((len(name),)) + name + b"\0\0\0\1"
    error = fault(HEADER, configuration(), part, END)
    assert "unknown subsection" in error.message
    assert error.section == "configuration"


def test_an_unknown_section_type_is_named_with_its_place() -> None:
    error = fault(HEADER, configuration("m"), b"\x55")
    assert (error.offset, error.found) == (len(HEADER + configuration("m")), "0x55")


def test_a_part_needs_its_start() -> None:
    error = fault(HEADER, section(Element.PART, 9, "ram", eos()))
    assert error.message == "section 9 was never started"


def test_sections_without_footers_are_found_by_the_description() -> None:
    parts = [device(1, "timer", b"t" * 24, footer=None), device(2, "cpu", b"c" * 9, footer=None)]
    tail = description([described("timer", 24), described("cpu", 9)])
    stream = read(HEADER, *parts, END, tail)
    assert [s.body_size for s in stream.states] == [24, 9]
    assert stream.footers is False
    assert stream.complete


def test_a_footer_in_the_middle_of_state_is_not_taken_for_the_end() -> None:
    state = b"a" + b"\x7e\0\0\0\1" + b"b" * 20
    stream = read(HEADER, device(1, "timer", state), END)
    assert stream.states[0].data == state


def test_a_wrong_footer_is_named_and_reading_goes_on() -> None:
    tail = description([described("timer", 4), described("cpu", 4)])
    stream = read(
        HEADER, device(1, "timer", b"tttt", footer=3), device(2, "cpu", b"cccc"), END, tail
    )
    error = stream.faults[0]
    assert (error.section, error.expected, error.found) == ("timer", "0x1", "0x3")
    assert [s.name for s in stream.states] == ["timer", "cpu"]
    assert stream.ended


def test_padding_after_the_description_belongs_to_no_stream() -> None:
    stream = read(HEADER, device(1, "t", b"x"), END, description([described("t", 1)]), bytes(99))
    assert (stream.trailing, stream.trailing_is_zero, stream.complete) == (99, True, True)


@pytest.mark.parametrize("size", [1 << 10, 1 << 12, 1 << 13, 1 << 14, 1 << 16])
def test_the_page_size_is_seen_from_the_records(size: int) -> None:
    blocks = {"ram": 8 * size}
    body = page(0, bytes(size), "ram", size) + zero(1, None, 0, size) + zero(2, None, 0, size)
    body += page(3, CONTENT[:1024] * (size // 1024), None, size)
    stream = read(HEADER, ram(blocks, body), END)
    assert stream.page_size == size
    assert stream.page_size_guessed
    assert stream.index.records == 4


def test_a_page_must_lie_within_its_block() -> None:
    error = fault(HEADER, ram(ONE_BLOCK, zero(16, "pc.ram")), END)
    assert "outside RAM block 'pc.ram'" in error.message


def test_a_page_must_name_a_block_of_the_list() -> None:
    assert "does not have" in fault(HEADER, ram(ONE_BLOCK, zero(0, "vga")), END).message
    assert "must name its block" in fault(HEADER, ram(ONE_BLOCK, zero(0)), END).message


def test_blocks_must_not_exceed_the_total() -> None:
    body = ram_setup(ONE_BLOCK, total=PAGE)
    error = fault(HEADER, section(Element.START, 1, "ram", body, version=4))
    assert "longer than what is left" in error.message


def test_the_block_list_of_ignore_shared_has_addresses() -> None:
    body = ram_setup(ONE_BLOCK, extra=struct.pack(">Q", 1 << 32))
    start = section(Element.START, 1, "ram", body, version=4)
    stream = read(HEADER, configuration(capabilities=("x-ignore-shared",)), start, END)
    assert stream.index.blocks[0].address == 1 << 32
    assert stream.index.blocks[0].ignored is None


def test_the_block_list_of_4_0_has_a_flag_after_the_address() -> None:
    body = ram_setup({"a.ram": PAGE, "b.ram": PAGE}, extra=struct.pack(">QB", 0x1000, 0))
    start = section(Element.START, 1, "ram", body, version=4)
    stream = read(HEADER, configuration(capabilities=("x-ignore-shared",)), start, END)
    assert [block.ignored for block in stream.index.blocks] == [0, 0]


def test_postcopy_with_huge_pages_adds_a_page_size() -> None:
    advise = command(CommandType.POSTCOPY_ADVISE, struct.pack(">QQ", 0x201000, PAGE))
    size = 2 << 20
    body = struct.pack(">Q", (size + PAGE) | 4)
    body += b"\3mem" + struct.pack(">QQ", size, size) + b"\3rom" + struct.pack(">Q", PAGE) + eos()
    stream = read(HEADER, advise, section(Element.START, 1, "ram", body, version=4), END)
    assert [block.page_size for block in stream.index.blocks] == [size, None]


def test_packaged_data_is_decoded_like_the_rest() -> None:
    inner = command(CommandType.POSTCOPY_LISTEN) + device(3, "timer", b"ttt")
    inner += command(CommandType.POSTCOPY_RUN)
    outer = command(CommandType.PACKAGED, struct.pack(">I", len(inner)))
    stream = read(HEADER, outer, inner, device(4, "cpu", b"c"), END)
    assert [(s.name, s.packaged) for s in stream.states] == [("timer", True), ("cpu", False)]


def test_a_package_must_end_where_an_element_ends() -> None:
    inner = device(3, "timer", b"ttt")
    outer = command(CommandType.PACKAGED, struct.pack(">I", len(inner) - 2))
    assert "runs past the package's end" in fault(HEADER, outer, inner, END).message


def test_packages_do_not_nest_without_end() -> None:
    nested = b"".join(command(CommandType.PACKAGED, struct.pack(">I", 1 << 20)) for _ in range(9))
    assert fault(HEADER, nested).code in ("limit-exceeded", "malformed")


@pytest.mark.parametrize(
    ("kind", "payload"), [(CommandType.PING, b"12"), (CommandType.OPEN_RETURN_PATH, b"x")]
)
def test_a_command_has_its_length(kind: CommandType, payload: bytes) -> None:
    assert "bad length" in fault(HEADER, command(kind, payload), END).message


def test_a_resumed_postcopy_stream_has_no_file_header() -> None:
    begin = command(CommandType.POSTCOPY_RESUME)
    part = section(Element.PART, 2, "ram", page(5, CONTENT, "pc.ram") + eos(), version=4)
    stream = read(begin, part, section(Element.END, 2, "ram", eos(), version=4), END)
    assert stream.index.records == 1
    assert stream.memory["pc.ram"]


def test_every_kind_of_record_is_indexed() -> None:
    packed = zlib.compress(CONTENT)
    first = page(0, CONTENT, "pc.ram") + zero(1) + zero(2, None, 0x5A) + compressed(3, packed)
    second = xbzrle(0, b"\x01\x01\xff", "pc.ram") + struct.pack(">Q", 0x200)
    stream = read(HEADER, ram(ONE_BLOCK, first, second), END)
    kinds = [kind.name for kind, *_ in stream.index.pages()]
    assert kinds == ["NORMAL", "ZERO", "FILLED", "COMPRESSED", "XBZRLE"]
    memory = stream.memory["pc.ram"]
    changed = CONTENT[:1] + b"\xff" + CONTENT[2:]
    assert memory.read(0, PAGE) == changed
    assert memory.read(2 * PAGE, 2) == b"\x5a\x5a"
    assert memory.read(3 * PAGE, PAGE) == CONTENT
    assert stream.memory.at(1)["pc.ram"].read(0, PAGE) == CONTENT


def test_ram_version_3_has_flat_addresses_and_no_names() -> None:
    setup = struct.pack(">Q", 4 * PAGE | 4) + eos()
    records = struct.pack(">Q", 0x08) + CONTENT + struct.pack(">QB", PAGE | 2, 0) + eos()
    stream = read(
        HEADER,
        section(Element.START, 1, "ram", setup, version=3, footer=None),
        section(Element.END, 1, "ram", records, version=3, footer=None),
        END,
    )
    assert stream.index.records == 2
    assert stream.memory["ram"].read(0, PAGE) == CONTENT


def test_other_live_sections_delimit_themselves() -> None:
    bodies = {
        "block": struct.pack(">Q", 1) + b"\4disk" + bytes(CHUNK_SIZE) + struct.pack(">Q", 2),
        "dirty-bitmap": b"\x1c\4node\3map" + struct.pack(">IB", 65536, 3) + b"\1",
        "spapr/htab": struct.pack(">I", 24),
        "s390-storage_attributes": struct.pack(">QQ", 2, 3) + b"abc" + struct.pack(">Q", 1),
        "0000:00:04.0/vfio": struct.pack(">QQ", 0xFFFFFFFFEF100004, 3)
        + b"xyz"
        + struct.pack(">Q", 0xFFFFFFFFEF100001),
        "pbs-state": struct.pack(">Q", 4) + b"abcd",
    }
    parts = [
        section(Element.START, number, name, body)
        for number, (name, body) in enumerate(bodies.items(), 1)
    ]
    keys = struct.pack(">QQ", 2, 2) + b"\x07\x08" + struct.pack(">Q", 1)
    htab = struct.pack(">I", 0) + struct.pack(">IHH", 1, 1, 0) + bytes(16) + bytes(8)
    stream = read(
        HEADER,
        *parts,
        section(Element.END, 3, "spapr/htab", htab),
        device(9, "s390-skeys", keys),
        END,
    )
    assert stream.complete
    assert [s.body_size for s in stream.sections] == [*map(len, bodies.values()), 36, 26]


def test_colo_goes_on_with_checkpoints() -> None:
    begin = HEADER + command(CommandType.ENABLE_COLO) + ram(ONE_BLOCK, zero(0, "pc.ram")) + END
    again = section(Element.END, 1, "ram", zero(1, "pc.ram") + eos(), version=4) + END
    state = device(2, "timer", b"t") + END
    checkpoint = struct.pack(">II", 1, 3) + again
    checkpoint += struct.pack(">IQ", 4, len(state)) + state
    stream = read(begin, checkpoint, checkpoint)
    assert stream.complete
    assert [s.name for s in stream.sections].count("timer") == 2


def test_section_ids_are_not_shared() -> None:
    stream = read(HEADER, device(1, "timer", b"t"), device(1, "cpu", b"c"), END)
    assert isinstance(stream.faults[0], Malformed)
    assert "used again" in stream.faults[0].message


def test_a_stream_without_end_mark_is_incomplete() -> None:
    stream = read(HEADER, ram(ONE_BLOCK, zero(0, "pc.ram")))
    assert not stream.complete
    assert isinstance(stream.fatal, Truncated)

"""Streams of every shape, made at random from legal parts: all of it is taken, in any split."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

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
from decoding import decode, joined
from vmstream.errors import LimitExceeded, Malformed, StreamError, Truncated
from vmstream.stream.decoder import Decoder
from vmstream.stream.encoder import encode
from vmstream.stream.events import Boundary, DeviceState, Event, Fault
from vmstream.wire.commands import CommandType, encode_discard
from vmstream.wire.limits import DEFAULT_LIMITS, Limits
from vmstream.wire.mapped_ram import MappedBitmap, MappedRamHeader, bitmap_size
from vmstream.wire.ram import Pages, RamBlock
from vmstream.wire.reader import counted
from vmstream.wire.sections import Element, Raw, SectionStart

U32, U64 = struct.Struct(">I").pack, struct.Struct(">Q").pack
BLOCKS = {"pc.ram": 12 * PAGE, "vga": 3 * PAGE}


# Random streams


@dataclass
class Recipe:
    """A stream as its parts, and what must be found in it.

    ``sections`` are (type, name, body) in stream order.
    """

    parts: list[bytes] = field(default_factory=lambda: [HEADER])
    sections: list[tuple[Element, str, bytes]] = field(default_factory=list)
    footers: bool = True

    @property
    def data(self) -> bytes:
        return b"".join(self.parts)

    def add(self, kind: Element, number: int, name: str, body: bytes, version: int = 1) -> None:
        footer = -1 if self.footers else None
        self.parts.append(section(kind, number, name, body, version=version, footer=footer))
        self.sections.append((kind, name, body))


NAMES = st.sampled_from(["timer", "cpu", "0000:00:01.0/vga", "a" * 255, "slirp"])
COMMANDS = st.sampled_from(
    [
        command(CommandType.OPEN_RETURN_PATH),
        command(CommandType.PING, U32(1)),
        command(CommandType.SWITCHOVER_START),
        command(CommandType.POSTCOPY_RAM_DISCARD, encode_discard("vga", [(0, PAGE)])),
        command(CommandType.RECV_BITMAP, counted("pc.ram")),
    ]
)


@st.composite
def page_records(draw: st.DrawFn) -> bytes:
    """Records of one RAM section."""
    out = []
    block: str | None = None
    for _ in range(draw(st.integers(0, 6))):
        named = draw(st.booleans()) or block is None
        if named:
            block = draw(st.sampled_from(list(BLOCKS)))
        assert block is not None
        number = draw(st.integers(0, BLOCKS[block] // PAGE - 1))
        name = block if named else None
        kind = draw(st.sampled_from(["zero", "zero", "filled", "page", "xbzrle", "packed"]))
        match kind:
            case "zero":
                out.append(zero(number, name))
            case "filled":
                out.append(zero(number, name, 0x55))
            case "page":
                out.append(page(number, bytes(PAGE - 1) + b"x", name))
            case "xbzrle":
                out.append(xbzrle(number, draw(st.binary(max_size=20)), name))
            case "packed":
                out.append(compressed(number, draw(st.binary(max_size=20)), name))
        if draw(st.integers(0, 4)) == 0:
            out.append(U64(draw(st.sampled_from([0x80, 0x200]))))
    return b"".join(out) + eos()


@st.composite
def live_bodies(draw: st.DrawFn, name: str, first: bool) -> bytes:
    """A body of another live section."""
    blob = draw(st.binary(max_size=12))
    match name:
        case "block":
            chunk = U64(7 << 9 | 9) + counted("disk")
            return chunk * draw(st.integers(0, 3)) + U64(50 << 9 | 4) + U64(2)
        case "dirty-bitmap":
            start = b"\x1c" + counted("node") + counted("map") + U32(65536) + b"\1"
            bits = b"\x40" + U64(8) + U32(8) + U64(len(blob)) + blob
            return draw(st.sampled_from([b"", start, bits, b"\x42" + bytes(12)])) + b"\1"
        case "spapr/htab":
            if first:
                return U32(24)
            chunk = struct.pack(">IHH", 5, 1, 9) + bytes(16)
            return U32(0) + chunk * draw(st.integers(0, 2)) + bytes(8)
        case "s390-storage_attributes":
            return (U64(2) + U64(len(blob)) + blob) * draw(st.integers(0, 2)) + U64(1)
        case _:
            state = U64(0xFFFFFFFFEF100004) + U64(len(blob)) + blob
            return state * draw(st.integers(0, 2)) + U64(0xFFFFFFFFEF100001)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """A precopy stream: configuration, live sections, devices, a package, the end."""
    recipe = Recipe(footers=draw(st.booleans()))
    recipe.parts.append(configuration("toy", target_page_bits=12))
    live = draw(
        st.lists(
            st.sampled_from(["block", "dirty-bitmap", "spapr/htab", "s390-storage_attributes"]),
            unique=True,
            max_size=2,
        )
    )
    live.append(draw(st.sampled_from(["0000:00:05.0/vfio", "vfio-x/vfio"])))
    recipe.add(Element.START, 2, "ram", ram_setup(BLOCKS), version=4)
    for number, name in enumerate(live, 10):
        recipe.add(Element.START, number, name, draw(live_bodies(name, True)))
    for kind in (*[Element.PART] * draw(st.integers(0, 2)), Element.END):
        recipe.parts.append(b"".join(draw(st.lists(COMMANDS, max_size=1))))
        recipe.add(kind, 2, "ram", draw(page_records()), version=4)
        for number, name in enumerate(live, 10):
            recipe.add(kind, number, name, draw(live_bodies(name, False)))
    devices = []
    if recipe.footers:
        for number in range(30, 30 + draw(st.integers(0, 4))):
            body = draw(st.binary(max_size=40))
            name = f"{draw(NAMES)[:250]}{number}"
            packaged = draw(st.integers(0, 4)) == 0
            recipe.add(Element.FULL, number, name, body)
            if packaged:
                inner = recipe.parts.pop()
                recipe.parts.append(command(CommandType.PACKAGED, U32(len(inner))) + inner)
            devices.append(described(name, len(body)))
    recipe.parts.append(END)
    recipe.parts.append(draw(st.sampled_from([b"", description(devices)])))
    recipe.parts.append(draw(st.sampled_from([b"", bytes(5000)])))
    return recipe


@given(recipes(), st.lists(st.integers(0, 40000), max_size=12))
def test_any_legal_stream_is_taken_whole_in_any_split(recipe: Recipe, cuts: list[int]) -> None:
    data = recipe.data
    whole = decode(data)
    assert not [event for event in whole if isinstance(event, Fault)]
    assert b"".join(encode(whole)) == data
    assert joined(decode(data, [min(cut, len(data)) for cut in cuts])) == joined(whole)


@given(recipes())
@settings(max_examples=20)
def test_any_legal_stream_is_taken_byte_by_byte(recipe: Recipe) -> None:
    data = recipe.data[:6000]
    assert joined(decode(data, range(1, len(data)))) == joined(decode(data))


@given(recipes())
def test_every_section_is_found_with_its_extent(recipe: Recipe) -> None:
    data = recipe.data
    stream = vmstream.open(data)
    found = [(section.type, section.name) for section in stream.sections]
    assert found == [(kind, name) for kind, name, _ in recipe.sections]
    for section_, (_, _, body) in zip(stream.sections, recipe.sections, strict=True):
        start = section_.body_offset
        assert data[start : start + section_.body_size] == body
        if section_.data is not None:
            assert section_.data == body
        assert section_.size == start - section_.offset + len(body) + 5 * recipe.footers
    assert stream.complete
    assert stream.footers is recipe.footers


@given(recipes(), st.data())
def test_a_cut_stream_has_the_events_of_its_beginning(recipe: Recipe, data: st.DataObject) -> None:
    """Up to where the cut shows; then comes one fatal fault, placed within what was there."""
    whole = recipe.data
    cut = data.draw(st.integers(1, len(whole) - 1))
    events = decode(whole[:cut])
    *before, last = events
    assert not [event for event in before if isinstance(event, Fault)]
    encoded = b"".join(encode(events))
    assert whole.startswith(encoded)
    if isinstance(last, Fault):
        assert last.fatal
        assert last.error.offset is not None
        assert last.error.offset <= cut
    else:
        assert encoded == whole[:cut]


@given(recipes(), st.data())
def test_changed_bytes_give_events_that_encode_to_what_was_read(
    recipe: Recipe, data: st.DataObject
) -> None:
    """A fault that can be passed leaves no byte out; a fatal one ends the events."""
    stream = bytearray(recipe.data)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(stream) - 1))
        stream[at] = data.draw(st.integers(0, 255))
    raw = bytes(stream)
    events = decode(raw)
    fatal = [n for n, event in enumerate(events) if isinstance(event, Fault) and event.fatal]
    assert fatal in ([], [len(events) - 1])
    encoded = b"".join(encode(events))
    assert raw.startswith(encoded)
    assert fatal or encoded == raw
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=6))
    assert joined(decode(raw, cuts)) == joined(events)


# Parts on their own


def events_of(*parts: bytes, **options: object) -> list[Event]:
    decoder = Decoder(**options)  # type: ignore[arg-type]
    return decoder.feed(b"".join(parts)) + decoder.close()


def fault_of(*parts: bytes, **options: object) -> StreamError:
    last = events_of(*parts, **options)[-1]
    assert isinstance(last, Fault)
    assert last.fatal
    return last.error


def test_a_missing_footer_is_named_where_others_have_one() -> None:
    start = section(Element.START, 2, "ram", ram_setup(BLOCKS), version=4)
    part = section(Element.PART, 2, "ram", eos(), footer=None)
    error = next(
        event.error for event in events_of(HEADER, start, part, part) if isinstance(event, Fault)
    )
    assert error.section == "ram"
    assert error.offset == len(HEADER + start + part)
    assert error.expected == "7e"


def test_footers_are_settled_by_the_first_section() -> None:
    start = section(Element.START, 2, "ram", ram_setup(BLOCKS), version=4, footer=None)
    decoder = Decoder()
    decoder.feed(HEADER + start + END)
    decoder.close()
    assert decoder.footers is False


def test_an_empty_name_is_no_section() -> None:
    assert "must have a name" in fault_of(HEADER, device(1, "", b"x"), END).message


def test_a_ram_version_that_is_unknown_is_said_to_be() -> None:
    error = fault_of(HEADER, section(Element.START, 1, "ram", ram_setup(BLOCKS), version=5))
    assert (error.code, error.found) == ("unsupported", 5)


def test_ram_in_a_full_section_is_device_state() -> None:
    """Only live sections hold page records; ``xen`` and others may send a FULL one."""
    events = events_of(HEADER, device(1, "ram", b"whatever"), END)
    assert [bytes(event.data) for event in events if isinstance(event, DeviceState)] == [
        b"whatever"
    ]


def test_the_any_instance_belongs_to_no_device() -> None:
    events = events_of(HEADER, device(1, "timer", b"x", instance=0xFFFFFFFF), END)
    faults = [event for event in events if isinstance(event, Fault)]
    assert [fault.fatal for fault in faults] == [False]
    assert "never for a device" in faults[0].error.message


def test_device_state_longer_than_its_limit_is_not_held() -> None:
    limits = replace_limits(device_state=1000)
    decoder = Decoder(limits=limits)
    head = HEADER + section(Element.FULL, 1, "timer", b"", footer=None)
    decoder.feed(head)
    for _ in range(200):
        events = decoder.feed(bytes(100))
        if decoder.finished:
            break
    assert decoder.reader.available < 3000
    error = events[-1]
    assert isinstance(error, Fault)
    assert isinstance(error.error, LimitExceeded)


def replace_limits(**changes: int) -> Limits:
    return structs.replace(DEFAULT_LIMITS, **changes)


def test_a_description_longer_than_its_limit_is_refused() -> None:
    error = fault_of(HEADER, END, b"\6\xff\xff\xff\xff{}")
    assert isinstance(error, LimitExceeded)
    assert error.section == "description"


def test_more_blocks_than_the_limit_are_refused() -> None:
    blocks = {f"block{number}": PAGE for number in range(9)}
    limits = replace_limits(ram_blocks=8)
    start = section(Element.START, 1, "ram", ram_setup(blocks), version=4)
    assert isinstance(fault_of(HEADER, start, limits=limits), LimitExceeded)


def test_a_block_list_of_empty_blocks_ends() -> None:
    """Blocks of no length never use up the total."""
    body = U64(PAGE | 4) + b"".join(counted(f"b{n}") + U64(0) for n in range(50))
    error = fault_of(HEADER, section(Element.START, 1, "ram", body, version=4, footer=None))
    assert isinstance(error, StreamError)


@pytest.mark.parametrize("name", ["", "pc.ram"])
def test_block_names_are_there_and_of_their_own(name: str) -> None:
    body = U64(3 * PAGE | 4) + counted("pc.ram") + U64(PAGE) + counted(name) + U64(PAGE)
    error = fault_of(HEADER, section(Element.START, 1, "ram", body, version=4, footer=None))
    assert isinstance(error, Malformed)
    assert error.section == "ram"


@pytest.mark.parametrize("word", [0x04 | 1 << 40, 0x0A, 0x30, 0x01, 0x1000, 0x3FF])
def test_flags_that_do_not_go_together_are_refused(word: int) -> None:
    start = section(Element.START, 1, "ram", ram_setup(BLOCKS), version=4)
    part = section(Element.PART, 1, "ram", zero(0, "vga") + U64(word), footer=None)
    error = fault_of(HEADER, start, part)
    assert isinstance(error, Malformed | Truncated | LimitExceeded)
    assert error.offset is not None
    assert error.offset >= len(HEADER + start)


def test_marks_and_pages_at_0_do_not_make_pages_large() -> None:
    start = section(Element.START, 1, "ram", ram_setup(BLOCKS), version=4)
    flush = U64(0x200)
    first = section(Element.PART, 1, "ram", flush + zero(0, "vga") + flush + zero(0) + eos())
    second = section(Element.PART, 1, "ram", zero(1, "vga") + eos())
    for part in (first, section(Element.PART, 1, "ram", zero(0, "vga") + zero(0) + eos())):
        assert not [e for e in events_of(HEADER, start, part, second, END) if isinstance(e, Fault)]


def test_a_second_block_list_is_refused() -> None:
    start = section(Element.START, 1, "ram", ram_setup(BLOCKS), version=4)
    assert "a second time" in fault_of(HEADER, start, start).message


# mapped-ram


def mapped(origin: int, *, gap: int = 0, overlap: int = 0) -> tuple[bytes, bytes]:
    """A mapped-ram stream of one block that begins at ``origin`` of its file, and its pages."""
    pages = 5
    content = bytes(range(1, pages + 1))
    setup = U64(pages * PAGE | 4) + counted("pc.ram") + U64(pages * PAGE)
    head = HEADER + configuration("toy", capabilities=("mapped-ram",))
    head += section(Element.START, 2, "ram", setup, version=4, footer=None)
    bitmap_at = origin + len(head) + 28 + gap - overlap
    pages_at = -(-(bitmap_at + bitmap_size(pages)) // PAGE) * PAGE
    out = head + MappedRamHeader(1, PAGE, bitmap_at, pages_at).encode()
    out += b"\xee" * gap + (0b10110).to_bytes(8, "little")
    out += b"\xdd" * (pages_at - origin - len(out))
    out += b"".join(bytes((byte,)) * PAGE for byte in content)
    out += eos() + b"\x7e" + U32(2)
    out += section(Element.END, 2, "ram", eos(), version=4) + END
    return out, content


@pytest.mark.parametrize("origin", [0, 92, 1 << 16])
@pytest.mark.parametrize("gap", [0, 1000])
def test_mapped_regions_stand_at_places_of_the_file(origin: int, gap: int) -> None:
    data, _ = mapped(origin, gap=gap)
    events = events_of(data, origin=origin)
    assert not [event for event in events if isinstance(event, Fault)]
    assert b"".join(encode(events)) == data
    bitmap = next(event for event in events if isinstance(event, MappedBitmap))
    assert (bitmap.pages, bitmap.data) == (5, b"\x16" + bytes(7))
    regions = {event.role: event for event in events if isinstance(event, Raw)}
    assert regions["pages"].offset == bitmap.pages_offset
    assert bitmap.pages_offset % PAGE == -origin % PAGE


def test_mapped_pages_that_are_not_set_are_zero() -> None:
    data, content = mapped(0)
    stream = vmstream.open(data)
    memory = stream.memory["pc.ram"]
    held = [memory.read(number * PAGE, 1)[0] for number in range(5)]
    assert held == [byte if number in (1, 2, 4) else 0 for number, byte in enumerate(content)]
    assert stream.complete


def test_mapped_regions_do_not_overlap_what_stands_before() -> None:
    data, _ = mapped(0, overlap=8)
    assert "overlap" in fault_of(data).message


def test_a_mapped_region_of_any_size_is_not_allocated() -> None:
    size = 1 << 50
    setup = U64(size | 4) + counted("pc.ram") + U64(size)
    head = HEADER + configuration("toy", capabilities=("mapped-ram",))
    head += section(Element.START, 2, "ram", setup, version=4, footer=None)
    head += MappedRamHeader(1, PAGE, len(head) + 28, 1 << 40).encode()
    assert isinstance(fault_of(head, bytes(100)), LimitExceeded | Truncated)


# Post-copy


def test_a_package_holds_what_it_says_and_no_more() -> None:
    inner = command(CommandType.POSTCOPY_LISTEN) + device(3, "timer", b"ttt")
    outer = command(CommandType.PACKAGED, U32(len(inner) + 3))
    error = fault_of(HEADER, outer, inner, device(4, "cpu", b"c"), END)
    assert "runs past the package's end" in error.message


def test_a_package_larger_than_the_one_around_it_is_refused() -> None:
    inner = command(CommandType.PACKAGED, U32(100))
    error = fault_of(HEADER, command(CommandType.PACKAGED, U32(len(inner))), inner, bytes(200))
    assert "longer than the one around it" in error.message


def test_packages_may_be_empty_and_nest_up_to_a_limit() -> None:
    data = b""
    for _ in range(DEFAULT_LIMITS.package_depth):
        data = command(CommandType.PACKAGED, U32(len(data))) + data
    events = events_of(HEADER, data, END)
    assert not [event for event in events if isinstance(event, Fault)]
    assert b"".join(encode(events)) == HEADER + data + END
    data = command(CommandType.PACKAGED, U32(len(data))) + data
    assert isinstance(fault_of(HEADER, data, END), LimitExceeded)


def test_after_the_switch_the_first_page_may_continue_a_block() -> None:
    """QEMU 2.5 to 2.9 go on with the block of the last page before it."""
    start = section(Element.START, 1, "ram", ram_setup(BLOCKS), version=4)
    part = section(Element.PART, 1, "ram", zero(0, "vga") + eos())
    listen = command(CommandType.POSTCOPY_LISTEN)
    again = section(Element.PART, 1, "ram", zero(1) + eos())
    events = events_of(HEADER, start, part, listen, again)
    pages = [event for event in events if isinstance(event, Pages)]
    assert [(e.names[int(e.runs.block[0])], int(e.runs.page[0])) for e in pages] == [
        ("vga", 0),
        ("vga", 1),
    ]


@pytest.mark.parametrize("huge", [2 << 20, 1 << 30, 64 << 10])
def test_blocks_of_huge_pages_stand_beside_others(huge: int) -> None:
    advise = command(CommandType.POSTCOPY_ADVISE, U64(huge | PAGE) + U64(PAGE))
    body = U64(2 * huge + 2 * PAGE | 4)
    body += counted("rom") + U64(PAGE) + counted("mem") + U64(huge) + U64(huge)
    body += counted("b") + U64(PAGE) + counted("last") + U64(huge) + U64(huge) + eos()
    events = events_of(HEADER, advise, section(Element.START, 1, "ram", body, version=4), END)
    assert not [event for event in events if isinstance(event, Fault)]
    sizes = [event.page_size for event in events if isinstance(event, RamBlock)]
    assert sizes == [None, huge, None, huge]


def test_a_recovered_stream_goes_on_with_blocks_as_they_come() -> None:
    begin = command(CommandType.RECV_BITMAP, counted("pc.ram"))
    begin += command(CommandType.POSTCOPY_RESUME)
    parts = [
        section(Element.PART, 2, "ram", page(5, bytes(PAGE), "pc.ram") + zero(6) + eos()),
        section(Element.PART, 2, "ram", zero(1, "vga") + eos()),
        section(Element.END, 2, "ram", eos()),
    ]
    events = events_of(begin, *parts, END)
    assert not [event for event in events if isinstance(event, Fault)]
    stream = vmstream.open(b"".join([begin, *parts, END]))
    assert stream.file_version is None
    assert [block.name for block in stream.index.blocks] == ["pc.ram", "vga"]
    assert [page_[1:3] for page_ in stream.index.pages()] == [
        ("pc.ram", 5),
        ("pc.ram", 6),
        ("vga", 1),
    ]


# Where device state ends


def test_without_footers_the_next_header_is_an_inference_and_said_to_be() -> None:
    first = device(5, "timer", b"t" * 30, footer=None)
    second = device(6, "cpu", b"c" * 10, footer=None)
    start = section(Element.START, 2, "ram", ram_setup(BLOCKS), version=4, footer=None)
    events = events_of(HEADER, start, first, second, END)
    states = [event for event in events if isinstance(event, DeviceState)]
    assert bytes(states[0].data) == b"t" * 30
    assert [state.boundary for state in states] == [Boundary.HEADER, Boundary.END]


class _Layouts:
    """Sizes that layouts from elsewhere give, best first."""

    def __init__(self, **sizes: list[int]) -> None:
        self.sizes = sizes

    def own(self, idstr: str, instance_id: int) -> list[int]:
        return []

    def learn(self, tail: memoryview) -> None:
        pass

    def borrowed(
        self, idstr: str, instance_id: int, version_id: int, data: memoryview
    ) -> list[int]:
        return self.sizes.get(idstr, [])


@pytest.mark.parametrize("known", [True, False])
def test_a_layout_that_swallows_the_next_section_is_not_believed(known: bool) -> None:
    """The layout with 256 slots ends at the end mark, and so do both devices."""
    first = device(5, "hotplug", b"t" * 30, footer=None)
    second = device(6, "last", b"c" * 10, footer=None)
    start = section(Element.START, 2, "ram", ram_setup(BLOCKS), version=4, footer=None)
    sizes = [30 + len(second), *([30] if known else [])]
    decoder = Decoder(extents=_Layouts(hotplug=sizes, last=[10]))
    events = decoder.feed(HEADER + start + first + second + END) + decoder.close()
    assert not [event for event in events if isinstance(event, Fault)]
    states = [(len(e.data), e.boundary) for e in events if isinstance(e, DeviceState)]
    assert states == [(30, Boundary.LAYOUT if known else Boundary.HEADER), (10, Boundary.LAYOUT)]


def test_what_looks_like_a_footer_counts_only_before_an_element() -> None:
    mark = b"\x7e" + U32(1)
    for body in (mark * 3, mark + b"\x01", mark + b"\x08\xff\xff\0\0", mark + b"\x02" + U32(9)):
        stream = vmstream.open(HEADER + device(1, "timer", body) + END)
        assert [state.data for state in stream.states] == [body]
        assert stream.complete


def test_a_description_settles_what_footers_leave_open() -> None:
    """State that holds a whole section, footer and all: only its described size tells."""
    body = b"a" + b"\x7e" + U32(1) + device(2, "cpu", b"c")
    data = HEADER + device(1, "timer", body) + END + description([described("timer", len(body))])
    stream = vmstream.open(data)
    assert [(state.name, state.data) for state in stream.states] == [("timer", body)]
    assert stream.states[0].boundary == Boundary.DESCRIPTION


def test_section_ids_of_one_device_may_come_again() -> None:
    part = device(1, "timer", b"x")
    assert not [e for e in events_of(HEADER, part, part, END) if isinstance(e, Fault)]


def test_headers_remember_what_start_said() -> None:
    events = events_of(HEADER, ram(BLOCKS, zero(0, "vga"), b""), END)
    starts = [event for event in events if isinstance(event, SectionStart)]
    assert {(start.section_id, start.idstr, start.version_id) for start in starts} == {
        (1, "ram", 4)
    }
    offsets = [event.offset for event in events]
    assert all(before <= after for before, after in pairwise(offsets))

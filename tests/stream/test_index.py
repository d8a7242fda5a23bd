"""The index says of every page what a plain table of records says."""

from __future__ import annotations

import random
import struct
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

import vmstream
from builders import (
    END,
    HEADER,
    PAGE,
    command,
    configuration,
    eos,
    page,
    ram,
    ram_setup,
    section,
    xbzrle,
    zero,
)
from corpus import Case, over_cases
from opened import open_case
from vmstream.stream.index import Index, IndexBuilder
from vmstream.stream.stream import Stream
from vmstream.wire.commands import CommandType, encode_discard
from vmstream.wire.multifd import InitialPacket, MultifdMethod, MultifdPacket
from vmstream.wire.ram import PageKind, RamBlock
from vmstream.wire.sections import Element

BLOCKS = {"pc.ram": 40 * PAGE, "vga": 9 * PAGE, "rom": 2 * PAGE}
PAGES = {"pc.ram": 40, "vga": 9, "rom": 2}
Record = tuple[str, str, int]
RECORDS = st.sampled_from(sorted(BLOCKS)).flatmap(
    lambda block: st.tuples(
        st.sampled_from(["zero", "normal", "filled", "xbzrle"]),
        st.just(block),
        st.integers(0, PAGES[block] - 1),
    )
)


def wire(records: list[Record]) -> bytes:
    out = []
    before = None
    for kind, block, number in records:
        name = block if block != before else None
        before = block
        match kind:
            case "zero":
                out.append(zero(number, name))
            case "filled":
                out.append(zero(number, name, 7))
            case "normal":
                out.append(page(number, bytes((number,)) * PAGE, name))
            case _:
                out.append(xbzrle(number, b"\1\1\xff", name))
    return b"".join(out)


def stream_of(records: list[Record]) -> tuple[Stream, bytes]:
    head = HEADER + configuration("toy", target_page_bits=12)
    data = head + ram(BLOCKS, wire(records)) + END
    return vmstream.open(data), data


@given(st.lists(RECORDS, max_size=40))
def test_every_record_is_indexed_in_order_with_its_content(records: list[Record]) -> None:
    stream, data = stream_of(records)
    found = list(stream.index.pages())
    assert [(kind.name.lower(), block, number) for kind, block, number, *_ in found] == records
    for kind, _, number, offset, channel in found:
        assert channel == 0
        if kind == PageKind.NORMAL:
            assert data[offset : offset + PAGE] == bytes((number,)) * PAGE
        elif kind == PageKind.ZERO:
            assert data[offset] == 0


@given(st.lists(RECORDS, max_size=60))
def test_counts_and_covered_pages_are_those_of_the_records(records: list[Record]) -> None:
    index = stream_of(records)[0].index
    kinds = Counter((block, kind) for kind, block, _ in records)
    table = index.counts()
    for number, block in enumerate(index.blocks):
        for kind in PageKind:
            assert table[number, kind] == kinds[block.name, kind.name.lower()]
        held = {page_ for _, name, page_ in records if name == block.name}
        assert index.covered()[number] == len(held)
    assert index.records == len(records)


@given(st.lists(RECORDS, max_size=60), st.data())
def test_the_index_does_not_depend_on_the_split(records: list[Record], data: st.DataObject) -> None:
    whole, wire_ = stream_of(records)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire_)), max_size=8)))
    source = Pieces(wire_, cuts)
    split = vmstream.open(source).index
    for name in ("kind", "block", "page", "count", "offset"):
        # A run that a cut divides may stand as two.
        assert spread(split) == spread(whole.index), name


def spread(index: Index) -> list[tuple[PageKind, str, int, int, int]]:
    return list(index.pages())


class Pieces:
    """A file object that gives what it holds in uneven pieces."""

    def __init__(self, data: bytes, cuts: list[int]) -> None:
        self._data = data
        self._cuts = [*cuts, len(data)]
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        end = next((cut for cut in self._cuts if cut > self._at), len(self._data))
        end = min(end, self._at + size) if size >= 0 else end
        piece, self._at = self._data[self._at : end], end
        return piece

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


def test_discarded_pages_are_held_by_no_record() -> None:
    setup = section(Element.START, 1, "ram", ram_setup(BLOCKS), version=4)
    part = section(Element.PART, 1, "ram", wire([("zero", "vga", n) for n in range(9)]) + eos())
    discard = command(CommandType.POSTCOPY_RAM_DISCARD, encode_discard("vga", [(PAGE, 3 * PAGE)]))
    index = vmstream.open(HEADER + setup + part + discard + END).index
    assert index.records == 9
    assert [kind for kind, *_ in index.pages()][-3:] == [PageKind.DISCARDED] * 3


def test_a_discard_outside_its_block_is_a_fault_and_no_index() -> None:
    setup = section(Element.START, 1, "ram", ram_setup(BLOCKS), version=4)
    for name, start, length in (("vga", 8 * PAGE, 2 * PAGE), ("vga", 0, 1 << 63), ("hat", 0, PAGE)):
        payload = encode_discard(name, [(start, length)])
        discard = command(CommandType.POSTCOPY_RAM_DISCARD, payload)
        stream = vmstream.open(HEADER + setup + discard + END)
        assert [fault.offset for fault in stream.faults] == [len(HEADER + setup)]
        assert not len(stream.index.kind)
        assert stream.ended


# Packets


def channel(*packets: MultifdPacket, number: int = 0) -> bytes:
    out = InitialPacket(0, bytes(16), number, bytes(32)).encode()
    for packet in packets:
        out += packet.encode() + b"".join(
            bytes((offset // PAGE % 251,)) * PAGE
            for offset in packet.page_offsets[: packet.normal_pages]
        )
    return out


def packet(
    normal: list[int], zeros: list[int], block: str = "pc.ram", flags: int = 0
) -> MultifdPacket:
    offsets = [number * PAGE for number in (*normal, *zeros)]
    offsets += [0] * (128 - len(offsets))
    return MultifdPacket(
        0, flags | MultifdMethod.NONE, 128, len(normal), len(normal) * PAGE, 0, len(zeros),
        bytes(28), block.encode().ljust(256, b"\0"), tuple(offsets),
    )  # fmt: skip


MAIN = HEADER + ram(BLOCKS, struct.pack(">Q", 0x200)) + END


@given(st.lists(st.integers(0, 39), max_size=20, unique=True), st.integers(0, 20), st.booleans())
def test_pages_of_a_packet_are_indexed(numbers: list[int], normal: int, compact: bool) -> None:
    numbers = sorted(numbers) if compact else numbers
    sent, zeros = numbers[:normal], numbers[normal:]
    side = channel(packet(sent, zeros), packet([], [], flags=1))
    stream = vmstream.open(MAIN, side)
    assert not stream.faults
    found = list(stream.index.pages())
    assert [n for kind, _, n, *_ in found if kind == PageKind.MULTIFD] == sent
    assert [n for kind, _, n, *_ in found if kind == PageKind.MULTIFD_ZERO] == zeros
    for kind, _, number, offset, _ in found:
        if kind == PageKind.MULTIFD:
            assert side[offset : offset + PAGE] == bytes((number % 251,)) * PAGE


def test_a_packet_for_what_is_not_there_is_a_fault_of_its_channel() -> None:
    for wrong in (
        packet([0], [], "hat"),
        packet([40], []),
        packet([], [40]),
        packet([1 << 50], []),
    ):
        stream = vmstream.open(MAIN, channel(wrong, packet([3], []), packet([], [], flags=1)))
        assert len(stream.faults) == 1
        assert stream.faults[0].offset == 64  # right after the initial packet
        assert stream.faults[0].file
        assert [number for _, _, number, *_ in stream.index.pages()] == [3]


def test_builder_numbers_blocks_in_order() -> None:
    builder = IndexBuilder()
    assert [builder.add_block(RamBlock(0, name, PAGE)) for name in "abc"] == [0, 1, 2]
    assert [block.name for block in builder.finish().blocks] == ["a", "b", "c"]


# Recorded streams


@over_cases(lambda case: len(case.channels) + len(case.reverse) > 1)
def test_channels_may_be_given_in_any_order(case: Case) -> None:
    """Their own first bytes say which is which; the main channel may come last."""
    whole = open_case(case)
    files = [case.main, *case.channels, *case.reverse]
    random.Random(case.id).shuffle(files)
    with vmstream.open(*files) as stream:
        assert stream.faults == whole.faults == []
        assert stream.machine == whole.machine
        assert stream.index.records == whole.index.records
        assert (stream.index.covered() == whole.index.covered()).all()
        assert (stream.index.counts() == whole.index.counts()).all()
        kinds = [sorted(c.kind for c in s.channels) for s in (stream, whole)]
        assert kinds[0] == kinds[1]


@over_cases(lambda case: bool(case.reverse))
def test_what_the_destination_sent_back_is_read_whole(case: Case) -> None:
    stream = open_case(case)
    for channel_ in stream.channels:
        if channel_.kind == "return":
            assert channel_.messages
            assert sum(len(message.encode()) for message in channel_.messages) == channel_.size

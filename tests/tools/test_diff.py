"""Two streams compared: what differs is found, at its place, and nothing else is."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vmstream
from builders import (
    END,
    HEADER,
    PAGE,
    configuration,
    described,
    description,
    device,
    page,
    ram,
    section,
    zero,
)
from corpus import Case, case_named, over_cases
from opened import open_case
from vmstream.render.json import dump
from vmstream.stream.stream import Stream
from vmstream.tools.diff import diff
from vmstream.tools.diff_memory import hex_lines
from vmstream.tools.diff_report import ChangeKind, SectionKind, Side, StreamDiff
from vmstream.vmstate.values import walk
from vmstream.wire.ram import PageKind
from vmstream.wire.reader import counted
from vmstream.wire.sections import Element

PC = case_named("pc-7.2")


def opened_anew(case: Case) -> Stream:
    """The same stream out of memory, so that nothing is known of its being the same."""
    files = (case.main, *case.channels, *case.reverse)
    return vmstream.open(*(path.read_bytes() for path in files))


def toy(*parts: bytes, machine: str = "toy", devices: Sequence[dict[str, object]] = ()) -> Stream:
    """A stream of some sections."""
    tail = description(devices) if devices else b""
    return vmstream.open(HEADER + configuration(machine) + b"".join(parts) + END + tail)


def changed(case: Case, *places: int) -> Stream:
    """A case with the lowest bit of some bytes turned."""
    data = bytearray(case.main.read_bytes())
    for place in places:
        data[place] ^= 1
    return vmstream.open(bytes(data))


def paths(report: StreamDiff) -> list[tuple[str, str]]:
    return [(each.device, change.path) for each in report.devices for change in each.changes]


@over_cases()
def test_a_stream_is_identical_with_itself(case: Case) -> None:
    report = diff(open_case(case), opened_anew(case), all=True)
    assert report.identical, report.summary
    assert report.summary.startswith("identical")
    assert not report.quieted
    assert json.loads(dump(report))["identical"] is True


@pytest.mark.parametrize("seed", range(20))
def test_a_changed_byte_of_a_page_is_found_there_and_nowhere_else(seed: int) -> None:
    stream = open_case(PC)
    index = stream.index
    chance = random.Random(seed)
    run = chance.choice([n for n, kind in enumerate(index.kind) if kind == PageKind.NORMAL])
    step, byte = chance.randrange(int(index.count[run])), chance.randrange(PAGE)
    other = changed(PC, int(index.offset[run]) + step * (8 + PAGE) + byte)
    report = diff(stream, other)
    assert not report.devices
    assert not report.sections
    assert report.memory is not None
    (block,) = report.memory.blocks
    assert block.name == index.blocks[int(index.block[run])].name
    assert (block.pages, block.bytes, block.runs) == (1, 1, 1)
    place = (int(index.page[run]) + step) * PAGE
    assert (block.first[0].start, block.first[0].size) == (place, PAGE)
    (line,) = hex_lines(stream, other, report.memory)
    assert line.offset == place + byte // 16 * 16
    assert [x != y for x, y in zip(line.old, line.new, strict=True)].index(True) == byte % 16
    assert report.summary == "the same guest at another moment: 1 page differs"


@pytest.mark.parametrize("name", ["pc-7.2", "devices-q35-10.0", "ppc64-pseries-7.2"])
@pytest.mark.parametrize("seed", range(30))
def test_a_changed_byte_of_a_field_is_found_there_and_nowhere_else(name: str, seed: int) -> None:
    case = case_named(name)
    stream = open_case(case)
    chance = random.Random(seed)
    item = chance.choice([d for d in stream.devices if d.decoded is not None and d.data])
    assert item.decoded is not None
    leaves = [leaf for leaf in walk(item.decoded.value) if len(leaf[2]) and leaf[3].type != "bool"]
    if not leaves:
        return
    path, offset, raw, _ = chance.choice(leaves)
    other = changed(case, offset + len(raw) - 1)
    if other.faults:  # the byte decides on the layout of what follows
        return
    report = diff(stream, other, all=True)
    assert [each.device for each in report.devices] == [item.key]
    assert all(found.startswith(path) for _, found in paths(report)), paths(report)
    assert not report.sections
    assert report.memory is not None
    assert not report.memory.blocks


def test_what_always_moves_is_counted_and_not_shown() -> None:
    stream = open_case(PC)
    node = stream.devices["timer"].decoded.value.at("cpu_clock_offset")  # type: ignore[union-attr]
    other = changed(PC, node.offset + 7)
    report = diff(stream, other)
    assert report.identical
    assert [(q.device, q.path) for q in report.quieted] == [("timer:0", "cpu_clock_offset")]
    assert report.summary == "identical but for 1 field that always moves"
    assert paths(diff(stream, other, all=True)) == [("timer:0", "cpu_clock_offset")]


def test_any_timer_always_moves_by_its_type() -> None:
    stream = open_case(PC)
    timers = [
        (item.key, path, offset)
        for item in stream.devices
        if item.decoded is not None
        for path, offset, _, node in walk(item.decoded.value)
        if node.type == "timer"
    ]
    assert len(timers) > 5
    report = diff(stream, changed(PC, *(offset + 7 for _, _, offset in timers)))
    assert report.identical
    assert [(q.device, q.path) for q in report.quieted] == [(key, path) for key, path, _ in timers]


@pytest.mark.parametrize(
    "pattern", ["fdc:0/state.timer0", "fdc:0", "fdc:0/*", "*/state.timer0", "fdc*"]
)
def test_a_pattern_leaves_out_a_field_or_a_device(pattern: str) -> None:
    stream = open_case(PC)
    node = stream.devices["fdc"].decoded.value.at("state.timer0")  # type: ignore[union-attr]
    report = diff(stream, changed(PC, node.offset), ignore=["nothing", pattern])
    assert report.identical
    assert report.ignored == 1
    assert report.summary == "identical but for 1 ignored"


def test_a_pattern_may_leave_out_the_address_of_the_device() -> None:
    stream = open_case(PC)
    item = stream.devices.matching("piix4_pm")[0]
    assert item.decoded is not None
    other = changed(PC, item.decoded.value.at("ar.pm1.evt.sts").offset)
    assert "/" in item.key
    assert paths(diff(stream, other)) == [(item.key, "ar.pm1.evt.sts")]
    assert diff(stream, other, ignore=["piix4_pm:0/ar.pm1.*"]).identical


def test_a_pattern_leaves_out_a_ram_block() -> None:
    one = toy(ram({"a": PAGE, "b": PAGE}, page(0, bytes(PAGE), "a") + zero(0, "b")))
    other = toy(ram({"a": PAGE, "b": PAGE}, page(0, b"\1" * PAGE, "a") + zero(0, "b")))
    assert not diff(one, other).identical
    assert diff(one, other, ignore=["ram:0/a"]).identical
    assert not diff(one, other, ignore=["ram:0/b"]).identical


def test_another_machine_is_said_first() -> None:
    report = diff(toy(machine="pc-i440fx-7.2"), toy(machine="pc-q35-7.2"))
    assert report.summary == "not the same machine: pc-i440fx-7.2 against pc-q35-7.2"
    assert [head.path for head in report.heads] == ["machine"]


def test_a_section_of_another_version_is_found() -> None:
    state = [described("uart", 4)]
    one = toy(device(1, "uart", b"abcd"), devices=state)
    other = toy(device(1, "uart", b"abcd", version=2), devices=state)
    report = diff(one, other)
    (found,) = report.sections
    assert (found.section, found.kind, found.old, found.new) == (
        "uart:0", SectionKind.VERSION, 1, 2,
    )  # fmt: skip
    assert not report.devices


def test_a_section_of_one_side_only_is_found() -> None:
    one, other = device(1, "uart", b"abcd"), device(2, "rng", b"1")
    states = [described("uart", 4), described("rng", 1)]
    report = diff(toy(one, other, devices=states), toy(one, devices=states))
    (found,) = report.sections
    assert (found.section, found.kind, found.only) == ("rng:0", SectionKind.ONLY, Side.A)
    assert report.summary == "the machine is set up differently: 1 section only in A"


def test_a_device_at_another_address_has_moved() -> None:
    one = toy(device(1, "0000:00:03.0/nic", b"abcd"), devices=[described("0000:00:03.0/nic", 4)])
    other = toy(device(1, "0000:00:04.0/nic", b"abXd"), devices=[described("0000:00:04.0/nic", 4)])
    report = diff(one, other)
    (found,) = report.sections
    assert (found.kind, found.old, found.new) == (
        SectionKind.MOVED, "0000:00:03.0/nic:0", "0000:00:04.0/nic:0",
    )  # fmt: skip
    assert paths(report) == [("0000:00:03.0/nic:0", "state")]
    assert report.devices[0].changes[0].ranges == ((2, 2),)


def test_a_device_of_another_instance_is_renumbered() -> None:
    one = toy(device(1, "nic", b"a"), devices=[described("nic", 1)])
    other = toy(device(1, "nic", b"a", instance=7), devices=[described("nic", 1, 7)])
    (found,) = diff(one, other).sections
    assert (found.kind, found.old, found.new) == (SectionKind.INSTANCE, 0, 7)


def test_which_of_several_devices_moved_is_not_guessed() -> None:
    one = toy(*(device(n, f"{n}/nic", b"a") for n in (1, 2)))
    other = toy(*(device(n, f"{n}/nic", b"a") for n in (3, 4)))
    assert [found.kind for found in diff(one, other).sections] == [SectionKind.ONLY] * 4


def test_another_order_of_sections_is_found() -> None:
    first, second = device(1, "uart", b"abcd"), device(2, "rng", b"1")
    report = diff(toy(first, second), toy(second, first))
    (found,) = report.sections
    assert (found.section, found.kind, found.new) == ("uart:0", SectionKind.ORDER, "rng:0")


def test_bytes_that_nothing_describes_are_compared_as_bytes() -> None:
    report = diff(toy(device(1, "odd", b"abcdef")), toy(device(1, "odd", b"aXcdYZ")))
    (found,) = report.devices
    assert not found.decoded
    (change,) = found.changes
    assert (change.kind, change.ranges, change.differing, change.size) == (
        ChangeKind.BYTES, ((1, 1), (4, 5)), 3, 6,
    )  # fmt: skip


def test_one_description_serves_both_streams() -> None:
    one = toy(device(1, "odd", b"abcdef"), devices=[described("odd", 6)])
    report = diff(one, toy(device(1, "odd", b"abcdeX")))
    assert paths(report) == [("odd:0", "state")]
    assert report.devices[0].decoded


def test_a_subsection_of_one_side_only_is_told_once() -> None:
    plain = described("uart", 4)
    fifo = {
        "vmsd_name": "uart/fifo",
        "version": 1,
        "fields": [{"name": name, "type": "uint8", "size": 1} for name in ("head", "tail")],
    }
    head = b"\5" + counted("uart/fifo") + (1).to_bytes(4, "big")
    one = toy(device(1, "uart", b"abcd"), devices=[plain])
    other = toy(
        device(1, "uart", b"abcd" + head + b"\1\2"), devices=[plain | {"subsections": [fifo]}]
    )
    (change,) = diff(one, other).devices[0].changes
    assert (change.path, change.kind, change.only) == (
        "uart/fifo", ChangeKind.SUBSECTION, Side.B,
    )  # fmt: skip
    assert change.new == {"head": 1, "tail": 2}


def test_a_live_section_is_compared_by_its_bytes() -> None:
    def live(body: bytes) -> Stream:
        return toy(
            section(Element.START, 3, "odd-live", b"", version=1),
            section(Element.END, 3, "odd-live", body),
        )

    assert diff(live(b"1234"), live(b"1234")).identical
    report = diff(live(b"1234"), live(b"1235"))
    assert not report.identical


CONTENT = st.sampled_from([bytes(PAGE), b"\1" * PAGE, b"\1" * (PAGE - 1) + b"\2"])


@given(st.lists(st.tuples(CONTENT, CONTENT, st.booleans(), st.booleans()), min_size=1, max_size=9))
def test_pages_that_differ_are_those_whose_content_does(
    pages: list[tuple[bytes, bytes, bool, bool]],
) -> None:
    """However zeros are sent: as zero records, as whole pages of zeros, or not at all."""

    def sent(number: int, content: bytes, absent: bool) -> bytes:
        if absent and not any(content):
            return b""
        return page(number, content, "a")

    size = {"a": len(pages) * PAGE}
    one = toy(ram(size, b"".join(sent(n, old, gone) for n, (old, _, gone, _) in enumerate(pages))))
    other = toy(
        ram(
            size,
            b"".join(
                zero(n, "a") if zeroed and not any(new) else page(n, new, "a")
                for n, (_, new, _, zeroed) in enumerate(pages)
            ),
        )
    )
    unlike = [n for n, (old, new, _, _) in enumerate(pages) if old != new]
    report = diff(one, other)
    assert report.memory is not None
    assert report.memory.differing == len(unlike)
    found = [
        number
        for block in report.memory.blocks
        for run in block.first
        for number in range(run.start // PAGE, (run.start + run.size) // PAGE)
    ]
    assert found == unlike
    assert report.memory.runs == len([n for n in unlike if n - 1 not in unlike])
    assert report.memory.bytes == sum(
        x != y for old, new, _, _ in pages for x, y in zip(old, new, strict=True)
    )


def test_blocks_of_one_side_only_and_of_another_size_are_found() -> None:
    one = toy(ram({"a": PAGE, "b": PAGE}, page(0, b"\1" * PAGE, "a") + zero(0, "b")))
    other = toy(ram({"a": 2 * PAGE}, page(0, b"\1" * PAGE, "a") + page(1, b"\1" * PAGE, "a")))
    report = diff(one, other)
    assert report.memory is not None
    assert [(b.name, b.old_size, b.new_size, b.pages) for b in report.memory.blocks] == [
        ("a", PAGE, 2 * PAGE, 0),
        ("b", PAGE, None, 0),
    ]
    assert "1 RAM block only in A, 1 RAM block of another size" in report.summary


def test_page_sizes_may_differ() -> None:
    content = random.Random(1).randbytes(4 * PAGE)
    small = b"".join(page(n, content[n * PAGE : (n + 1) * PAGE], "a") for n in range(4))
    large = page(0, content, "a", size=4 * PAGE)
    one = toy(ram({"a": 4 * PAGE}, small), devices=[described("odd", 1)])
    two = vmstream.open(
        HEADER + configuration("toy") + ram({"a": 4 * PAGE}, large) + END, page_size=4 * PAGE
    )
    report = diff(one, two)
    assert report.memory is not None
    assert not report.memory.blocks
    assert "page size" in [head.path for head in report.heads]


def test_what_no_record_holds_costs_no_time() -> None:
    """A block list may claim more memory than anyone could walk through."""
    blocks = {"a": 1 << 42}
    far = (1 << 42) // PAGE - 1
    one = toy(ram(blocks, zero(0, "a") + page(far, b"\1" * PAGE, "a")))
    other = toy(ram(blocks, zero(0, "a") + page(far, b"\2" * PAGE, "a")))
    memory = diff(one, other).memory
    assert memory is not None
    assert (memory.differing, memory.content) == (1, 1)
    assert memory.blocks[0].first[0].start == far * PAGE


def test_registers_are_told_of_processors_that_differ() -> None:
    stream = open_case(PC)
    node = stream.devices["cpu"].decoded.value.at("env.eip")  # type: ignore[union-attr]
    report = diff(stream, changed(PC, node.offset + 7))
    assert [(r.cpu, r.register, r.old ^ r.new) for r in report.registers if r.old and r.new] == [  # type: ignore[operator]
        ("cpu:0", "rip", 1)
    ]
    assert paths(report) == [("cpu:0", "env.eip")]


def test_memory_is_left_out_when_it_is_not_asked_for() -> None:
    report = diff(open_case(PC), opened_anew(PC), ram=False)
    assert report.memory is None
    assert report.summary == "identical, memory not compared"

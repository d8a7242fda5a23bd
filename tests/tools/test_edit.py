"""Edited streams: what was asked is different, and nothing else."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vmstream
from builders import PAGE
from corpus import Case, case_named, over_cases
from editing import blocks, bytes_of, edited, states, unchanged
from opened import open_case
from vmstream.cli import main
from vmstream.errors import StreamError, Unsupported
from vmstream.stream.stream import Stream
from vmstream.tools.diff import diff
from vmstream.tools.edit import edit
from vmstream.tools.edits.encoding import encode_value
from vmstream.tools.edits.records import (
    AddConfiguration,
    AddField,
    AddSubsection,
    AnyEdit,
    DropBlock,
    DropCapability,
    DropConfiguration,
    DropDescription,
    DropDevice,
    DropField,
    DropSubsection,
    EditError,
    Footers,
    Machine,
    NewField,
    Poke,
    RebuildDescription,
    Rename,
    RenameBlock,
    Renumber,
    SectionVersion,
    SetField,
)
from vmstream.tools.verify import verify
from vmstream.vmstate.values import INTEGERS, Scalar, walk
from vmstream.vmstate.vmdesc import wire_sizes

PC = case_named("pc-7.2")


# Nothing asked


@over_cases(lambda case: case.origin == "data")
def test_editing_nothing_is_the_identity(case: Case, tmp_path: Path) -> None:
    stream = open_case(case)
    report = edit(stream, [], tmp_path / "same")
    assert (tmp_path / "same").read_bytes() == bytes_of(stream)
    assert report.changes == ()
    assert report.size == (tmp_path / "same").stat().st_size


@over_cases(lambda case: case.origin == "data" and open_case(case).description is not None)
def test_a_value_set_to_itself_is_no_change(case: Case, tmp_path: Path) -> None:
    stream = open_case(case)
    edits = [
        SetField(f"{device.key}/{path}", bytes(raw).hex())
        for device in list(stream.devices)[:4]
        if device.decoded is not None and "#" not in device.key
        for path, _, raw, node in list(walk(device.decoded.value))[:5]
        if isinstance(node, Scalar) and isinstance(node.value, bytes) and len(raw)
    ]
    report = edit(stream, edits, tmp_path / "same")
    assert (tmp_path / "same").read_bytes() == bytes_of(stream)
    assert report.changes == ()


def test_a_dry_run_writes_nothing_and_tells_what_would_be(tmp_path: Path) -> None:
    stream = open_case(PC)
    edits = [SetField("cpu:0/env.eip", 0x1234), DropDescription()]
    dry = edit(stream, edits, None)
    wet = edit(stream, edits, tmp_path / "out")
    assert dry.changes == wet.changes
    assert dry.size == wet.size == (tmp_path / "out").stat().st_size
    assert dry.out is None


def test_diff_shows_what_was_asked_and_nothing_else(tmp_path: Path) -> None:
    before = open_case(PC)
    edits = [
        SetField("cpu:0/env.eip", 0x1234),
        DropDevice("i2c_bus"),
        Machine("pc-i440fx-7.1"),
        Poke("pc.ram+0x2001", "ff" * 3),
    ]
    found = diff(before, edited(before, tmp_path, *edits), all=True)
    assert [(head.path, head.old, head.new) for head in found.heads] == [
        ("machine", "pc-i440fx-7.2", "pc-i440fx-7.1")
    ]
    assert [(s.section, s.kind, s.only) for s in found.sections] == [("i2c_bus:0", "only", "a")]
    (device,) = found.devices
    (change,) = device.changes
    assert (device.device, change.path, change.new) == ("cpu:0", "env.eip", 0x1234)
    (block,) = found.memory.blocks
    assert (block.name, block.pages) == ("pc.ram", 1)
    assert [(run.start, run.size) for run in block.first] == [(0x2000, PAGE)]


# Device state


def test_a_field_is_set(tmp_path: Path) -> None:
    before = open_case(PC)
    after = edited(before, tmp_path, SetField("cpu:0/env.eip", "0x1234"))
    unchanged(before, after, {"cpu:0"})
    assert after.devices["cpu:0"]["env.eip"] == 0x1234
    old, new = before.devices["cpu:0"], after.devices["cpu:0"]
    at = old.decoded.value.at("env.eip").offset - old.section.body_offset
    assert old.data[:at] + new.data[at : at + 8] + old.data[at + 8 :] == new.data
    assert after.description_text == before.description_text


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        ("env.regs[4]", 7, 7),
        ("env.eip", "-0", 0),
        ("env.hflags", "0b101", 5),
        ("env.halted", "0x1", 1),
    ],
)
def test_numbers_are_written_in_any_base(path: str, value: Any, found: int, tmp_path: Path) -> None:
    before = open_case(PC)
    if path not in before.devices["cpu:0"].decoded.value:
        path = "env.tr.selector"
    after = edited(before, tmp_path, SetField(f"cpu:0/{path}", value))
    assert after.devices["cpu:0"][path] == found
    unchanged(before, after, {"cpu:0"})


def test_bytes_of_a_buffer_are_set_one_by_one_and_in_a_row(tmp_path: Path) -> None:
    before = open_case(PC)
    name = next(d.key for d in before.devices if d.key.endswith("/I440FX:0"))
    path = next(p for p, _, raw, _ in walk(before.devices[name].decoded.value) if len(raw) == 256)
    one, row = SetField(f"{name}/{path}[0x2c]", 0xAB), SetField(f"{name}/{path}[4:8]", "01020304")
    after = edited(before, tmp_path, one, row)
    expected = bytearray(before.devices[name][path])
    expected[0x2C], expected[4:8] = 0xAB, b"\1\2\3\4"
    assert after.devices[name][path] == bytes(expected)
    unchanged(before, after, {name})


@pytest.mark.parametrize(
    ("target", "value", "said"),
    [
        ("cpu:0/env.eip", 1 << 64, "is no uint64"),
        ("cpu:0/env.eip", "fast", "no whole number"),
        ("cpu:0/env.eix", 1, r"there is no env\.eix; there are .*env\.eip"),
        ("cpux:0/env.eip", 1, "no device is named"),
        ("cpu:0/env.regs", "00", "were given for an array"),
        ("cpu:0/env.regs[99]", 1, "there is no env.regs"),
        ("cpu:0/env.segs", 1, "has parts of its own"),
    ],
)
def test_what_does_not_fit_is_refused(target: str, value: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(EditError, match=said):
        edit(open_case(PC), [SetField(target, value)], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_optional_edit_may_match_nothing(tmp_path: Path) -> None:
    before = open_case(PC)
    after = edited(before, tmp_path, DropDevice("no-such-device", optional=True))
    assert bytes_of(after) == bytes_of(before)


def subsections(stream: Stream) -> list[tuple[str, str]]:
    """Subsections by (device, path), in nested structs too."""
    found = []
    for each in stream.devices:
        if each.decoded is None or not each.decoded.exact:
            continue
        pending = [(each.decoded.value, "")]
        while pending:
            node, path = pending.pop()
            dot = "." if path else ""
            for name, member in node.subsections.items():
                found.append((each.key, f"{path}{dot}{name}"))
                pending.append((member, f"{path}{dot}{name}"))
            for name, member in node.members.items():
                if hasattr(member, "subsections"):
                    pending.append((member, f"{path}{dot}{name}"))
    return found


@pytest.mark.parametrize("name", ["pc-7.2", "devices-q35-10.0", "isapc-7.2"])
def test_every_subsection_can_be_dropped_and_put_back(name: str, tmp_path: Path) -> None:
    before = open_case(case_named(name))
    lender = case_named(name).main
    chosen = subsections(before)
    assert chosen
    for key, path in chosen[:4]:
        less = edited(before, tmp_path, DropSubsection(f"{key}/{path}"))
        unchanged(before, less, {key})
        assert path not in less.devices[key].decoded.value
        assert less.devices[key].decoded.exact
        assert len(less.devices[key].data) < len(before.devices[key].data)
        (tmp_path / "more").mkdir(exist_ok=True)
        more = edited(less, tmp_path / "more", AddSubsection(f"{key}/{path}", str(lender)))
        unchanged(before, more, {key})
        assert sorted(states(more)[key][1]) == sorted(states(before)[key][1])
        assert path in more.devices[key].decoded.value


def test_the_last_subsection_comes_back_byte_for_byte(tmp_path: Path) -> None:
    before = open_case(PC)
    device = before.devices["cpu:0"]
    name = list(device.decoded.value.subsections)[-1]
    less = edited(before, tmp_path, DropSubsection(f"cpu:0/{name}"))
    (tmp_path / "more").mkdir()
    more = edited(less, tmp_path / "more", AddSubsection(f"cpu:0/{name}", str(PC.main)))
    assert bytes_of(more) == bytes_of(before)


def test_a_subsection_is_made_of_given_fields(tmp_path: Path) -> None:
    before = open_case(PC)
    fields = (NewField("a", "uint32", 7), NewField("b", "buffer", "0011"))
    new = AddSubsection("cpu:0/cpu/new", None, 3, fields)
    after = edited(before, tmp_path, new)
    unchanged(before, after, {"cpu:0"})
    made = after.devices["cpu:0"].decoded.value.at("cpu/new")
    assert (made.version, made["a"], made["b"]) == (3, 7, b"\0\x11")
    with pytest.raises(EditError, match="there already"):
        edit(after, [new], tmp_path / "twice")


def test_a_version_with_fields_less_and_more(tmp_path: Path) -> None:
    before = open_case(PC)
    last = list(before.devices["cpu:0"].decoded.value.members)[-1]
    edits = [
        SectionVersion("cpu:0", 13),
        DropField(f"cpu:0/{last}"),
        AddField("cpu:0/env.first", "uint16", "0xbeef", "env.eip"),
        AddField("cpu:0/env.last", "bool", "true"),
    ]
    after = edited(before, tmp_path, *edits)
    unchanged(before, after, {"cpu:0"})
    device = after.devices["cpu:0"]
    members = list(device.decoded.value.members)
    assert device.section.version == 13
    assert last not in members
    assert members[members.index("env.eip") + 1] == "env.first"
    assert members[-1] == "env.last"
    assert (device["env.first"], device["env.last"]) == (0xBEEF, True)
    described = next(d for d in after.description.devices if d.name == "cpu")
    assert described.description.version == 13


def test_sizes_follow_in_the_structs_around(tmp_path: Path) -> None:
    before = open_case(case_named("devices-q35-7.2"))
    key, path = next(
        (key, path)
        for key, path in subsections(before)
        if "." in path.partition("/")[0] or path.count("/") > 1
    )
    after = edited(before, tmp_path, DropSubsection(f"{key}/{path}"))
    unchanged(before, after, {key})
    assert after.devices[key].decoded.exact


# Sections


def test_a_device_is_dropped(tmp_path: Path) -> None:
    before = open_case(PC)
    after = edited(before, tmp_path, DropDevice("*/piix4_pm"))
    gone = set(states(before)) - set(states(after))
    assert len(gone) == 1
    assert gone.pop().endswith("/piix4_pm:0")
    unchanged(before, after, set(states(before)) - set(states(after)))
    assert len(after.description.devices) == len(before.description.devices) - 1


def test_a_device_is_renamed_and_renumbered(tmp_path: Path) -> None:
    before = open_case(PC)
    after = edited(before, tmp_path, Rename("i2c_bus", "i3c_bus"), Renumber("i2c_bus:0", 5))
    old, new = states(before), states(after)
    assert new.pop("i3c_bus:5") == old.pop("i2c_bus:0")
    assert new == old
    assert blocks(after) == blocks(before)
    assert ("i3c_bus", 5) in [(d.name, d.instance_id) for d in after.description.devices]


def test_two_sections_never_get_one_name(tmp_path: Path) -> None:
    stream = open_case(case_named("smp2-7.2"))
    for old, new in ((0, 1), (1, 0)):
        with pytest.raises(EditError, match="two sections would be cpu:"):
            edit(stream, [Renumber(f"cpu:{old}", new)], tmp_path / "out")
    swapped = edited(stream, tmp_path, Renumber("cpu:0", 1), Renumber("cpu:1", 0))
    assert states(swapped)["cpu:0"] == states(stream)["cpu:1"]


def test_what_there_is_not_is_named_with_what_there_is(tmp_path: Path) -> None:
    cases: list[tuple[AnyEdit, str]] = [
        (DropDevice("piix4"), "no device is piix4; there are .*piix4_pm"),
        (RenameBlock("pc.rum", "x"), r"no RAM block is 'pc\.rum'; there are .*pc\.ram"),
        (DropCapability("multifd"), "capability multifd is not stated"),
        (AddConfiguration("x"), "has a configuration, of pc-i440fx-7.2"),
        (Footers(True), "has its footers already"),
        (DropSubsection("cpu:0/cpu/none"), "there is no cpu/none"),
        (Poke("0xfffffffff000", "00"), "backed by a RAM block"),
        (Poke("pc.ram+0xffffffff", "00"), "reaches beyond"),
        (Poke("0", "xyz"), "no hex"),
        (Rename("cpu", "x" * 256), "1 to 255 bytes"),
        (Machine(""), "no name of a machine type"),
    ]
    for each, said in cases:
        with pytest.raises(EditError, match=said):
            edit(open_case(PC), [each], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# Configuration, framing, description


@pytest.mark.parametrize("name", ["pc-7.2", "pc-10.0", "aarch64-virt-7.2", "postcopy-7.2"])
def test_the_machine_type_is_another(name: str, tmp_path: Path) -> None:
    before = open_case(case_named(name))
    after = edited(before, tmp_path, Machine("a-much-longer-name-of-a-machine-type"))
    assert after.machine == "a-much-longer-name-of-a-machine-type"
    unchanged(before, after)
    stated = after.description.configuration if after.description else None
    if stated is not None:
        assert stated.fields[1].size == len(after.machine)


def test_the_configuration_is_dropped_and_added(tmp_path: Path) -> None:
    before = open_case(PC)
    without = edited(before, tmp_path, DropConfiguration())
    assert without.configuration is None
    unchanged(before, without)
    (tmp_path / "again").mkdir()
    again = edited(without, tmp_path / "again", AddConfiguration("pc-i440fx-7.2"))
    assert bytes_of(again) == bytes_of(before)


@over_cases(lambda case: case.origin == "data" and not case.channels)
def test_footers_off_and_on_again_is_the_identity(case: Case, tmp_path: Path) -> None:
    before = open_case(case)
    was = bool(before.footers)
    out = tmp_path / "other"
    edit(before, [Footers(not was)], out)
    with vmstream.open(out) as other:
        assert bool(other.footers) != was
        if other.faults or states(other) != states(before):
            # Without footers, a description that falls short of the bytes tells no end.
            assert before.description is None or any(
                device.described and len(device.data) not in wire_sizes(device.description)
                for device in before.devices
            )
            return
        edit(other, [Footers(was)], tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == bytes_of(before)


def test_the_description_is_dropped_and_rebuilt(tmp_path: Path) -> None:
    before = open_case(PC)
    without = edited(before, tmp_path, DropDescription())
    assert without.description_text is None
    unchanged(before, without)
    lent = vmstream.open(tmp_path / "edited.mig", describe_with=PC.main)
    edit(lent, [RebuildDescription()], tmp_path / "rebuilt")
    assert (tmp_path / "rebuilt").read_bytes() == bytes_of(before)


@over_cases(lambda case: case.origin == "data" and open_case(case).description_text is not None)
def test_a_rebuilt_description_says_what_qemu_wrote(case: Case, tmp_path: Path) -> None:
    before = open_case(case)
    edit(before, [RebuildDescription()], tmp_path / "out")
    with vmstream.open(tmp_path / "out") as after:
        assert after.description == before.description
        assert after.description_text == before.description_text


@over_cases(lambda case: case.name in ("pair-ok-5.2-to-10.0.2", "bios-pc-2.12.1", "bios-pc-2.3.1"))
def test_a_description_keeps_the_style_of_its_writer(case: Case, tmp_path: Path) -> None:
    before = open_case(case)
    assert not before.description.compact
    after = edited(before, tmp_path, Rename("i2c_bus", "other"))
    assert after.description_text.startswith(b'{ "')
    assert after.description_text == before.description_text.replace(
        b'"i2c_bus", "instance', (b'"other", "instance')
    )


def test_a_description_of_an_unknown_kind_is_not_rewritten_in_silence(tmp_path: Path) -> None:
    data = PC.main.read_bytes()
    stream = vmstream.open(data)
    text = stream.description_text
    other = text.replace(b'"page_size": 4096', b'"page_size": 4096, "news": 1', 1)
    data = data[: stream.size - len(text) - 4] + len(other).to_bytes(4, "big") + other
    odd = vmstream.open(data)
    edit(odd, [SetField("cpu:0/env.eip", 1)], tmp_path / "set")
    with pytest.raises(Unsupported, match="rebuild-description"):
        edit(odd, [Rename("i2c_bus", "x")], tmp_path / "out")


def test_a_capability_is_dropped_with_its_addresses(tmp_path: Path) -> None:
    before = open_case(case_named("pair-fail-x-ignore-shared-cap-10.0.2"))
    after = edited(before, tmp_path, DropCapability("x-ignore-shared"))
    unchanged(before, after)
    assert after.configuration.capabilities is None
    assert {block.address for block in after.index.blocks} == {None}
    shared = open_case(case_named("x-ignore-shared-7.2"))
    with pytest.raises(EditError, match="is not in the stream"):
        edit(shared, [DropCapability("x-ignore-shared")], tmp_path / "out")


def test_a_damaged_stream_is_not_edited(tmp_path: Path) -> None:
    cut = vmstream.open(PC.main.read_bytes()[:200_000])
    with pytest.raises(StreamError):
        edit(cut, [Machine("x")], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_live_sections_are_dropped_with_all_their_parts(tmp_path: Path) -> None:
    before = open_case(case_named("block-migration-7.2"))
    assert sum(s.name == "block" for s in before.sections) > 1
    after = edited(before, tmp_path, DropDevice("block"))
    assert not [s for s in after.sections if s.name == "block"]
    assert states(after) == states(before)
    assert blocks(after) == blocks(before)


def test_the_input_may_be_replaced_by_the_output(tmp_path: Path) -> None:
    path = tmp_path / "guest.mig"
    path.write_bytes(PC.main.read_bytes())
    with vmstream.open(path) as stream:
        edit(stream, [Machine("pc-i440fx-7.1")], path)
    with vmstream.open(path) as after:
        assert after.machine == "pc-i440fx-7.1"
        assert verify(after).sound


# Properties


FIELDS = [
    (device.key, path, node.type)
    for device in open_case(PC).devices
    if device.decoded is not None and device.decoded.exact and "#" not in device.key
    for path, _, raw, node in walk(device.decoded.value)
    if isinstance(node, Scalar) and INTEGERS.get(node.type, (0, False))[0] == len(raw) > 0
]


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_number_is_set_and_read_back(data: st.DataObject) -> None:
    key, path, type_ = data.draw(st.sampled_from(FIELDS))
    size, signed = INTEGERS[type_]
    low = -(1 << 8 * size - 1) if signed else 0
    value = data.draw(st.integers(low, low + (1 << 8 * size) - 1))
    before = open_case(PC)
    with tempfile.TemporaryDirectory() as folder:
        edit(before, [SetField(f"{key}/{path}", value)], Path(folder, "out"))
        with vmstream.open(Path(folder, "out")) as after:
            assert after.devices[key][path] == value
            assert after.size == before.size
            old, new = bytes_of(before), bytes_of(after)
    differing = [n for n, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
    assert not differing or differing[-1] - differing[0] < size


WILD: list[AnyEdit] = [
    DropDevice("i2c_bus", optional=True),
    Machine("other", optional=True),
    RenameBlock("pc.ram", "y", optional=True),
    DropBlock("pc.bios", optional=True),
    Poke("pc.ram+0x1ff0", "00" * 64, optional=True),
    SetField("cpu:0/env.eip", 1, optional=True),
    DropSubsection("cpu:0/cpu/xsave", optional=True),
    AddField("cpu:0/new", "uint8", 1, optional=True),
    Renumber("apic:0", 4, optional=True),
    RebuildDescription(),
]


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_stream_is_edited_or_refused(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    names = ["pc-7.2", "xbzrle-7.2", "compress-7.2", "postcopy-7.2", "mapped-ram-10.0", "isapc-7.2"]
    data = bytearray(case_named(chance.choice(names)).main.read_bytes())
    start = chance.choice([0, max(0, len(data) - 200_000), len(data) // 2])
    for _ in range(chance.choice([1, 1, 3])):
        at = min(start + chance.randrange(chance.choice([100, 2000, 200_000])), len(data) - 1)
        if chance.random() < 0.7:
            data[at] = chance.randrange(256)
        else:
            data[at : at + chance.randrange(20)] = chance.randbytes(chance.randrange(20))
    try:
        with vmstream.open(bytes(data)) as stream:
            edit(stream, WILD, tmp_path / "out")
    except (StreamError, EditError):
        assert list(tmp_path.iterdir()) == []


DEVICES = [d.key for d in open_case(PC).devices if "#" not in d.key]
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    dropped=st.sets(st.sampled_from(DEVICES), max_size=4),
    machine=NAMES.filter(lambda name: name.isprintable()),
    block=NAMES.filter(lambda name: name.isprintable()),
    footers=st.booleans(),
    pokes=st.lists(
        st.tuples(st.integers(0, (1 << 20) - 64), st.binary(min_size=1, max_size=64)), max_size=5
    ),
)
def test_edits_do_not_disturb_each_other(
    dropped: set[str], machine: str, block: str, footers: bool, pokes: list[tuple[int, bytes]]
) -> None:
    before = open_case(PC)
    edits: list[AnyEdit] = [DropDevice(key) for key in dropped]
    edits += [Machine(machine), Poke("pc.ram+0", "00")]
    edits += [Poke(f"pc.ram+{at:#x}", data.hex()) for at, data in pokes]
    if block not in blocks(before):
        edits.append(RenameBlock("pc.bios", block))
    if not footers:
        edits.append(Footers(False))
    wanted = bytearray(before.memory["pc.ram"].read(0, 1 << 20))
    wanted[0] = 0
    for at, data in pokes:
        wanted[at : at + len(data)] = data
    with tempfile.TemporaryDirectory() as folder:
        edit(before, edits, Path(folder, "out"))
        with vmstream.open(Path(folder, "out")) as after:
            assert not after.faults
            assert verify(after).sound
            assert after.machine == machine
            old = {k: v for k, v in states(before).items() if k not in dropped}
            assert states(after) == old
            assert after.memory["pc.ram"].read(0, 1 << 20) == bytes(wanted)
            assert after.memory["pc.ram"].read(1 << 20, 1 << 20) == before.memory["pc.ram"].read(
                1 << 20, 1 << 20
            )


@given(st.sampled_from(sorted(INTEGERS)), st.integers())
def test_numbers_are_encoded_or_refused(type_: str, value: int) -> None:
    size, signed = INTEGERS[type_]
    try:
        data = encode_value(type_, value)
    except EditError:
        assert not -(1 << 8 * size - 1) <= value < 1 << 8 * size - 1 or (value < 0 and not signed)
        return
    assert int.from_bytes(data, "big", signed=signed) == value


# The command


def test_the_command_writes_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.mig"
    words = ["edit", str(PC.main), "-o", str(out), "--set", "cpu:0/env.eip=0x10"]
    assert main([*words, "--footers", "off", "--drop-device", "i2c_bus"]) == 0
    said = capsys.readouterr().out
    assert "cpu:0/env.eip: " in said
    assert "-> 0x10" in said
    assert "- i2c_bus:0: " in said
    with vmstream.open(out) as after:
        assert after.footers is False


def test_the_command_refuses_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mig"
    for more in (
        ["--drop-device", "nothing"],
        ["--set", "cpu:0/env.eip"],
        ["--recipe", "nothing"],
        ["--recipe", str(tmp_path / "nothing.toml")],
        ["--add-subsection", "cpu:0/cpu/x"],
        ["--add-subsection", "cpu:0/cpu/x={"],
        ["--section-version", "cpu:0=many"],
    ):
        assert main(["edit", str(PC.main), "-o", str(out), *more]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert main(["edit", str(PC.main)]) == 2
    assert not list(tmp_path.iterdir())


def test_the_command_tells_and_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["edit", str(PC.main), "--dry-run", "--machine", "other"]) == 0
    said = capsys.readouterr().out
    assert "configuration/machine: pc-i440fx-7.2 -> other" in said
    assert "nothing was written" in said
    assert main(["edit", "--recipes"]) == 0
    assert all(name in capsys.readouterr().out for name in ["footers"])


def test_a_pipe_is_edited(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "vmstream", "edit", "-", "-o", str(tmp_path / "out")]
    with PC.main.open("rb") as file:
        data = file.read()
    subprocess.run([*words, "--rename-block", "pc.ram=x"], input=data, check=True)
    with vmstream.open(tmp_path / "out") as after:
        assert "x" in blocks(after)

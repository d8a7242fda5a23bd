"""Where machines put their RAM blocks: against QEMU's own view, and against recorded memory."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vmstream
from corpus import Case, over_cases
from vmstream.errors import StreamError, Unsupported
from vmstream.stream.boards import BOARDS
from vmstream.stream.physical import (
    PhysicalMap,
    PhysicalRange,
    board_of,
    parse_place,
    physical_map,
)
from vmstream.stream.stream import Stream

GIB = 1 << 30
MIB = 1 << 20
ROMS = {"pc.bios": 0x40000, "pc.rom": 0x20000, "vga.vram": 16 * MIB}
I440FX = bytes.fromhex("86803712")
Q35 = bytes.fromhex("8680c029")


def pc(machine: str = "pc", ram: int = 16 * MIB, **options: Any) -> PhysicalMap:
    return physical_map(machine, {"pc.ram": ram, **ROMS}, **options)


def bridge(identity: bytes, **registers: int) -> bytes:
    """Configuration space in which the named offsets (``x59``) hold values."""
    content = bytearray(identity.ljust(256, b"\0"))
    for name, value in registers.items():
        content[int(name[1:], 16)] = value
    return bytes(content)


def shown(layout: PhysicalMap) -> list[tuple[int, int, str, int]]:
    return [(r.start, r.end, r.block, r.offset) for r in layout.ranges]


# Against QEMU's own view

RANGE = re.compile(
    r"^ {2}([0-9a-f]{16})-([0-9a-f]{16}) \(prio \d+, (?:ram|rom|romd)\): "
    r"(pc\.ram|microvm\.ram|pc\.bios|pc\.rom|m\d)(?: @([0-9a-f]+))?"
)


def flat_view(qemu: Path, arguments: str) -> list[tuple[int, int, str, int]]:
    """What QEMU says of its main address space before the guest runs."""
    command = [qemu, *arguments.split(), "-S", "-display", "none", "-monitor", "stdio"]
    said = subprocess.run(
        [*command, "-net", "none", "-accel", "tcg"],
        input="info mtree -f\nquit\n",
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.replace("\r", "")
    (view,) = [part for part in said.split("FlatView #") if 'AS "memory"' in part]
    found = [match for line in view.splitlines() if (match := RANGE.match(line))]
    return [(int(m[1], 16), int(m[2], 16) + 1, m[3], int(m[4] or "0", 16)) for m in found]


@pytest.mark.parametrize(
    ("machine", "option"),
    [
        ("pc-i440fx-7.2", None),
        ("pc-i440fx-2.0", None),
        ("pc-i440fx-1.7", None),
        ("pc-q35-7.2", None),
        ("pc-q35-2.4", None),
        ("isapc", None),
        ("microvm", None),
        ("pc-i440fx-7.2", 2 * GIB),
        ("pc-i440fx-7.2", 4 * GIB - 128 * MIB),
        ("pc-q35-7.2", 1 * GIB),
        ("pc-q35-7.2", 3 * GIB),
    ],
)
@pytest.mark.parametrize("mib", [16, 2815, 2816, 3072, 3583, 3584, 5120])
def test_a_pc_is_split_as_qemu_splits_it(
    qemu72: Path, machine: str, option: int | None, mib: int
) -> None:
    options = f"{machine},max-ram-below-4g={option}" if option else machine
    expected = flat_view(qemu72, f"-M {options} -m {mib}M")
    blocks = {"microvm.ram": mib * MIB} if machine == "microvm" else {"pc.ram": mib * MIB, **ROMS}
    blocks["pc.bios"] = sum(
        end - at for at, end, name, _ in expected if at > MIB and "bios" in name
    )
    identity = Q35 if "q35" in machine else I440FX
    layout = physical_map(machine, blocks, bridge=bridge(identity), max_ram_below_4g=option)
    assert shown(layout) == expected


def test_two_backends_stand_one_behind_the_other_as_in_qemu(qemu72: Path) -> None:
    nodes = " ".join(
        f"-object memory-backend-ram,id=m{i},size={size}M -numa node,memdev=m{i}"
        for i, size in enumerate((1024, 4096))
    )
    expected = flat_view(qemu72, f"-M pc -m 5120M {nodes}")
    layout = physical_map("pc", {"m1": 4096 * MIB, "m0": 1024 * MIB, **ROMS}, bridge=bridge(I440FX))
    assert shown(layout) == expected
    assert any("m0, m1" in note for note in layout.notes)


# The first MiB


def test_without_vga_there_is_no_hole() -> None:
    layout = physical_map("pc", {"pc.ram": 16 * MIB})
    assert layout.at(0xA0000) == PhysicalRange(0, 16 * MIB, "pc.ram", 0)


def test_video_memory_hides_ram() -> None:
    assert pc().at(0xA0000) is None
    assert pc().at(0xBFFFF) is None
    assert pc().at(0x9FFFF) == PhysicalRange(0, 0xA0000, "pc.ram", 0)


def test_open_smram_shows_the_ram_below_video_memory() -> None:
    layout = pc(bridge=bridge(I440FX, x72=0x4A))
    assert layout.at(0xA0000) == PhysicalRange(0, 0xC0000, "pc.ram", 0)


def test_without_the_bridge_the_first_mib_reads_as_ram_and_that_is_said() -> None:
    layout = pc()
    assert layout.at(0xF0000) == PhysicalRange(0xC0000, 15 * MIB + 0x40000, "pc.ram", 0xC0000)
    assert any("first MiB" in note for note in layout.notes)


@pytest.mark.parametrize(("machine", "identity", "pam"), [("pc", I440FX, 0x59), ("q35", Q35, 0x90)])
def test_each_pam_register_chooses_ram_for_its_part(
    machine: str, identity: bytes, pam: int
) -> None:
    for number in range(13):
        content = bytearray(bridge(identity))
        content[pam + (number + 1) // 2] = 0x1 if number & 1 else 0x10
        layout = pc(machine, bridge=bytes(content))
        start = 0xC0000 + 0x4000 * (number - 1) if number else 0xF0000
        ram = [r for r in layout.ranges if r.block == "pc.ram" and 0xC0000 <= r.start < MIB]
        size = 0x4000 if number else 0x10000
        if number == 0:
            size = layout.at(start).size  # type: ignore[union-attr]  # joined with what follows
        assert ram == [PhysicalRange(start, size, "pc.ram", start)]


def test_the_last_128_kib_of_firmware_stand_below_1_mib() -> None:
    layout = pc(bridge=bridge(I440FX))
    assert layout.at(0xFFFF0) == PhysicalRange(0xE0000, 0x20000, "pc.bios", 0x20000, rom=True)
    assert layout.at(0xFFFFFFF0) == PhysicalRange(0xFFFC0000, 0x40000, "pc.bios", 0, rom=True)
    assert layout.at(0xC0000) == PhysicalRange(0xC0000, 0x20000, "pc.rom", 0, rom=True)


def test_flash_stands_below_4_gib_the_code_above_the_variables() -> None:
    blocks = {
        "pc.ram": 16 * MIB,
        "system.flash0": 3 * MIB,
        "system.flash1": MIB,
        "isa-bios": 0x20000,
    }
    layout = physical_map("pc-q35-7.2", blocks, bridge=bridge(Q35))
    assert layout.at(0xFFFFFFFF) == PhysicalRange(0xFFD00000, 3 * MIB, "system.flash0", 0, rom=True)
    assert layout.at(0xFFCFFFFF) == PhysicalRange(0xFFC00000, MIB, "system.flash1", 0, rom=True)
    assert layout.at(0xE0000) == PhysicalRange(0xE0000, 0x20000, "isa-bios", 0, rom=True)


@pytest.mark.parametrize(("bits", "mib"), [(0x01, 1), (0x03, 2), (0x05, 8), (0x07, 16)])
def test_tseg_is_hidden(bits: int, mib: int) -> None:
    layout = pc("q35", 64 * MIB, bridge=bridge(Q35, x9e=bits, x50=16))
    assert layout.at((64 - mib) * MIB) is None
    assert layout.at((64 - mib) * MIB - 1) is not None


# Names


def test_an_old_pc_splits_at_3584_mib() -> None:
    assert pc("pc-1.3", 4 * GIB).at(0xD0000000) is not None
    assert pc("pc-i440fx-7.2", 4 * GIB).at(0xD0000000) is None


@pytest.mark.parametrize("machine", ["pc-i440fx-rhel7.6.0", "pc-i440fx-focal", "pc"])
def test_machine_types_of_distributions_are_new_ones(machine: str) -> None:
    assert pc(machine, 4 * GIB).at(0xD0000000) is None


def test_a_stream_without_a_machine_is_known_by_its_ram_and_its_bridge() -> None:
    big = {"pc.ram": 3 * GIB, **ROMS}
    assert physical_map(None, big, bridge=bridge(Q35)).at(0x90000000) is None
    assert physical_map(None, big, bridge=bridge(I440FX)).at(0x90000000) is not None
    assert board_of(None, {"s390.ram": GIB}).source.startswith("hw/s390x")


def test_virt_is_told_apart_by_its_ram_or_by_the_architecture() -> None:
    assert board_of("virt", {"mach-virt.ram": GIB}).architecture == "aarch64|arm"
    assert board_of("virt", {"ram0": GIB}, "riscv64").places[0].start == 0x80000000
    with pytest.raises(Unsupported, match="several architectures"):
        board_of("virt", {"ram0": GIB})


def test_an_unknown_machine_needs_a_map() -> None:
    with pytest.raises(Unsupported, match="--map"):
        physical_map("integratorcp", {"integrator.ram": MIB})
    layout = physical_map("integratorcp", {"integrator.ram": MIB}, placed=[("integrator.ram", 0)])
    assert layout.ranges == (PhysicalRange(0, MIB, "integrator.ram", 0),)


def test_a_dimm_has_no_known_address_until_it_is_given() -> None:
    blocks = {"m0": 64 * MIB, "pc.ram": 16 * MIB, **ROMS}
    assert physical_map("pc", blocks).unplaced == ("m0", "pc.rom", "vga.vram")
    layout = physical_map("pc", blocks, placed=[("m0", 4 * GIB)])
    assert layout.at(4 * GIB) == PhysicalRange(4 * GIB, 64 * MIB, "m0", 0)


def test_a_block_placed_by_hand_lies_on_top() -> None:
    layout = physical_map("none", {"ram": 4 * MIB, "x": MIB}, placed=[("x", MIB)])
    assert shown(layout) == [
        (0, MIB, "ram", 0),
        (MIB, 2 * MIB, "x", 0),
        (2 * MIB, 4 * MIB, "ram", 2 * MIB),
    ]


def test_a_map_names_a_block_that_is_there() -> None:
    with pytest.raises(ValueError, match="no RAM block"):
        physical_map("none", {"ram": MIB}, placed=[("m0", 0)])


def test_a_place_is_a_block_and_an_address() -> None:
    assert parse_place("0000:00:02.0/vm0@0x140000000") == ("0000:00:02.0/vm0", 0x140000000)
    for text in ("ram", "@5", "ram@", "ram@x", "ram@-1"):
        with pytest.raises(ValueError, match="BLOCK@ADDRESS"):
            parse_place(text)


# Laws

SIZES = st.integers(1, 6 * GIB // 4096).map(lambda pages: pages * 4096)


@given(st.sampled_from(BOARDS), SIZES, st.binary(min_size=252, max_size=252))
def test_ranges_are_sorted_apart_and_inside_their_blocks(
    board: Any, ram: int, registers: bytes
) -> None:
    machine = re.sub(r"\|.*|\.\*|\\d", "", board.machines).replace("[78]", "8")
    blocks = {board.ram[0]: ram, **ROMS} | {name: MIB for name, _ in board.roms}
    architecture = board.architecture.split("|")[0].replace(".*", "x")
    layout = physical_map(machine, blocks, architecture=architecture, bridge=I440FX + registers)
    for before, after in zip(layout.ranges, layout.ranges[1:], strict=False):
        assert before.end <= after.start
    for item in layout.ranges:
        assert item.size > 0
        assert 0 <= item.offset <= blocks[item.block] - item.size
        assert layout.at(item.start) == layout.at(item.end - 1) == item


@given(SIZES, st.integers(0, 8 * GIB), st.integers(1, 2 * GIB))
def test_parts_within_are_what_is_at_each_address(ram: int, start: int, size: int) -> None:
    layout = pc("pc", ram)
    parts = list(layout.within(start, size))
    assert sum(part.size for part in parts) == sum(
        max(0, min(r.end, start + size) - max(r.start, start)) for r in layout.ranges
    )
    for part in parts:
        whole = layout.at(part.start)
        assert whole is not None
        assert part.start - part.offset == whole.start - whole.offset


# Recorded memory

NOT_RAM = {
    "arm-versatilepb-7.2",  # the board has nothing at the address that was recorded
    "rx-gdbsim-r5f562n8-7.2",  # registers of devices stand between RAM and flash
}


def layout_of(stream: Stream, case: Case) -> PhysicalMap:
    machine = case.truth["machine"].split(",")[0]
    blocks = {block.name: block.size for block in stream.memory}
    return physical_map(machine, blocks, architecture=case.truth["arch"])


@over_cases(
    lambda case: bool(case.truth.get("phys_ram")) and not case.is_pair and case.name not in NOT_RAM
)
def test_the_map_gives_the_memory_that_the_guest_had(case: Case) -> None:
    with vmstream.open(case.main, *case.channels) as stream:
        layout = layout_of(stream, case)
        for area in case.truth["phys_ram"]:
            try:
                found = digest(stream, layout, area["addr"], area["size"])
            except StreamError:
                assert "x-ignore-shared" in case.capabilities or not stream.complete
                return
            if stream.complete:
                assert found == area["sha256"]


def digest(stream: Stream, layout: PhysicalMap, start: int, size: int) -> str:
    """Of an area, what no block holds being zero."""
    sha = hashlib.sha256()
    at = start
    for part in layout.within(start, size):
        sha.update(bytes(part.start - at))
        block = stream.memory[part.block]
        for offset in range(0, part.size, 1 << 24):
            sha.update(block.read(part.offset + offset, min(1 << 24, part.size - offset)))
        at = part.end
    sha.update(bytes(start + size - at))
    return sha.hexdigest()

"""ELF cores: what readelf and gdb make of them, and where each architecture has its registers."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from vmstream.tools.elf import ARCHITECTURES, write_elf
from vmstream.tools.elf_notes import register_notes
from vmstream.tools.output import atomic_file
from vmstream.tools.segments import Segment

MIB = 1 << 20
SEGMENTS = [Segment(0, 0xA0000), Segment(0x100000, MIB), Segment(1 << 32, 2 * MIB)]
LOW = SEGMENTS[:2]
PRSTATUS = {
    "x86_64": 336,
    "i386": 144,
    "aarch64": 392,
    "arm": 148,
    "ppc64": 504,
    "s390x": 336,
    "riscv64": 376,
    "riscv32": 204,
}
"""``sizeof(struct elf_prstatus)`` of Linux."""
PC = {
    "x86_64": ("rip", 112 + 16 * 8),
    "i386": ("eip", 72 + 12 * 4),
    "aarch64": ("pc", 112 + 32 * 8),
    "arm": ("pc", 72 + 15 * 4),
    "ppc64": ("pc", 112 + 32 * 8),
    "s390x": ("pswa", 112 + 8),
    "riscv64": ("pc", 112),
    "riscv32": ("pc", 72),
}
"""The program counter's register and its offset in that."""

needs_readelf = pytest.mark.skipif(not shutil.which("readelf"), reason="no readelf here")


def core(
    path: Path,
    architecture: str = "x86_64",
    segments: list[Segment] = SEGMENTS,
    chunks: Iterable[tuple[int, bytes]] = (),
    **options: object,
) -> Path:
    with atomic_file(path) as out:
        write_elf(out, architecture, segments, chunks, **options)  # type: ignore[arg-type]
    return path


def readelf(path: Path, *options: str) -> str:
    done = subprocess.run(
        ["readelf", "-W", *options, path], capture_output=True, text=True, check=True
    )
    assert not done.stderr
    return done.stdout


def notes_of(content: bytes, order: str) -> list[tuple[str, int, bytes]]:
    """ELF notes, taken apart."""
    found = []
    while content:
        name, size, kind = struct.unpack_from(f"{order}III", content)
        begin = 12 + (name + 3) // 4 * 4
        found.append((content[12 : 12 + name - 1].decode(), kind, content[begin : begin + size]))
        content = content[begin + (size + 3) // 4 * 4 :]
    return found


@needs_readelf
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("big_endian", [False, True])
def test_readelf_has_no_complaint(tmp_path: Path, architecture: str, big_endian: bool) -> None:
    path = core(
        tmp_path / "core", architecture, LOW, cpus=[{}, {}], vmcoreinfo=b"OSRELEASE=6.1\n",
        big_endian=big_endian,
    )  # fmt: skip
    said = readelf(path, "-h", "-l", "-n", "-S")
    assert "CORE (Core file)" in said
    assert len(re.findall(r"^ +LOAD ", said, re.M)) == 2
    assert said.count("NT_PRSTATUS") == 2
    assert "VMCOREINFO" in said
    assert ("big endian" if big_endian else "little endian") in said


@needs_readelf
def test_segments_are_the_physical_ranges(tmp_path: Path) -> None:
    said = readelf(core(tmp_path / "core"), "-l")
    loads = re.findall(r"LOAD +(0x\w+) (0x\w+) (0x\w+) (0x\w+) (0x\w+)", said)
    assert [(int(p, 16), int(f, 16), int(m, 16)) for _, _, p, f, m in loads] == [
        (s.address, s.size, s.size) for s in SEGMENTS
    ]
    assert all((int(o, 16) - int(p, 16)) % 4096 == 0 for o, _, p, _, _ in loads)


@needs_readelf
def test_segments_are_aligned_and_state_it_not(tmp_path: Path) -> None:
    """crash takes a core whose second program header states an alignment for one of netdump."""
    path = tmp_path / "core"
    with atomic_file(path) as out:
        write_elf(out, "x86_64", [Segment(0, 4096), Segment(1 << 20, 4096)], ())
    data = path.read_bytes()
    for number in (1, 2):  # behind the notes
        values = struct.unpack_from("<IIQQQQQQ", data, 64 + 56 * number)
        assert values[0] == 1, "PT_LOAD"
        assert values[2] % 4096 == 0
        assert values[-1] == 0


def test_more_segments_than_a_header_can_count(tmp_path: Path) -> None:
    segments = [Segment(number * 0x2000, 0x1000) for number in range(0x10001)]
    path = core(tmp_path / "core", segments=segments, cpus=[{"rip": 1}])
    assert "65535 (65538)" in readelf(path, "-h")
    assert readelf(path, "-l").count(" LOAD ") == 0x10001
    assert path.stat().st_blocks * 512 < 8 * MIB


def test_memory_above_4_gib_needs_the_wide_class(tmp_path: Path) -> None:
    assert core(tmp_path / "a", "i386", LOW).read_bytes()[4] == 1
    assert core(tmp_path / "b", "i386", SEGMENTS).read_bytes()[4] == 2


def test_what_is_not_given_is_zero_and_takes_no_room(tmp_path: Path) -> None:
    path = core(tmp_path / "core", chunks=[(0x100000, b"x" * 4096)])
    assert path.stat().st_size > 3 * MIB
    assert path.stat().st_blocks * 512 <= 64 << 10


def test_an_architecture_without_cores_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x86_64"):
        core(tmp_path / "core", "avr")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_registers_stand_where_linux_has_them(architecture: str) -> None:
    arch = ARCHITECTURES[architecture]
    order, endian = (">", "big") if arch.big_endian else ("<", "little")
    name, at = PC[architecture]
    value = 0x1122334455667788 & ((1 << arch.bits) - 1)
    notes = notes_of(register_notes(arch, order, [{name: 1}, {name: value}]), order)
    statuses = [content for label, kind, content in notes if (label, kind) == ("CORE", 1)]
    assert [len(status) for status in statuses] == [PRSTATUS[architecture]] * 2
    found = statuses[1][at : at + arch.bits // 8]
    assert int.from_bytes(found, endian) == value  # type: ignore[arg-type]
    pid = 32 if arch.bits == 64 else 24
    assert int.from_bytes(statuses[1][pid : pid + 4], endian) == 2  # type: ignore[arg-type]


def test_the_qemu_note_holds_what_prstatus_does_not() -> None:
    registers = {
        "rip": 7, "cr3": 0x1AA000, "cr4": 0x6F0, "cs": 0x10, "cs_base": 5, "cs_limit": 0xFFFFFFFF,
        "cs_flags": 0xA09B00, "idt_base": 0xFFFFFE0000000000, "idt_limit": 0xFFF, "k_gs_base": 9,
    }  # fmt: skip
    notes = notes_of(register_notes(ARCHITECTURES["x86_64"], "<", [registers]), "<")
    label, kind, state = notes[-1]
    assert (label, kind, len(state)) == ("QEMU", 0, 440)
    assert struct.unpack_from("<II", state) == (1, 440)
    assert struct.unpack_from("<Q", state, 8 + 16 * 8) == (7,)
    assert struct.unpack_from("<IIIIQ", state, 152) == (0x10, 0xFFFFFFFF, 0xA09B00, 0, 5)
    assert struct.unpack_from("<IIIIQ", state, 152 + 9 * 24) == (0, 0xFFF, 0, 0, 0xFFFFFE0000000000)
    assert struct.unpack_from("<6Q", state, 392) == (0, 0, 0, 0x1AA000, 0x6F0, 9)


def test_qemu_notes_follow_the_registers_of_all_cpus() -> None:
    notes = notes_of(register_notes(ARCHITECTURES["x86_64"], "<", [{}, {}]), "<")
    assert [label for label, _, _ in notes] == ["CORE", "CORE", "QEMU", "QEMU"]


def test_s390x_has_control_registers_and_prefix() -> None:
    arch = ARCHITECTURES["s390x"]
    registers = {"prefix": 0x8000, "cr1": 5, "v3": (7 << 64) | 8, "v17": (7 << 64) | 8}
    notes = {
        (label, kind): content
        for label, kind, content in notes_of(register_notes(arch, ">", [registers]), ">")
    }
    assert notes["LINUX", 0x305] == b"\0\0\x80\0"
    assert notes["LINUX", 0x304][8:16] == (5).to_bytes(8, "big")
    assert notes["LINUX", 0x309][24:32] == (8).to_bytes(8, "big")
    assert notes["LINUX", 0x30A][16:32] == registers["v17"].to_bytes(16, "big")


def test_other_names_of_a_register_do() -> None:
    arch = ARCHITECTURES["riscv64"]
    assert register_notes(arch, "<", [{"x2": 5}]) == register_notes(arch, "<", [{"sp": 5}])


# gdb

REGISTERS = {
    "rax": 0x1111, "rbx": 0xFFFFFFFF81000000, "rcx": 3, "rdx": 4, "rsi": 5, "rdi": 6, "rbp": 7,
    "rsp": 0x100800, "rip": 0x100010, "cs": 0x10, "ss": 0x18, "ds": 0, "es": 0,
    "fs": 0, "gs": 0, "fs_base": 0x7F0000001000, "gs_base": 0xFFFF888000000000,
} | {f"r{number}": number << 40 for number in range(8, 16)}  # fmt: skip


@pytest.mark.skipif(not shutil.which("gdb"), reason="no gdb here")
def test_gdb_reads_registers_and_memory(tmp_path: Path) -> None:
    content = bytes(range(256)) * 16
    second = {name: value ^ 0xFF for name, value in REGISTERS.items() if name.startswith("r")}
    path = core(
        tmp_path / "core",
        chunks=[(0x100000, content), ((1 << 32) + 0x1000, b"above four gibibytes")],
        cpus=[REGISTERS, second],
    )
    commands = [
        "set pagination off",
        "thread 1",
        *(f'printf "{name}=%llx\\n", (unsigned long long)${name}' for name in REGISTERS),
        "thread 2",
        *(f'printf "2{name}=%llx\\n", (unsigned long long)${name}' for name in second),
        f"dump binary memory {tmp_path / 'low'} 0x100000 0x101000",
        f"dump binary memory {tmp_path / 'high'} 0x100001000 0x100001014",
        f"dump binary memory {tmp_path / 'zero'} 0x0 0x1000",
    ]
    arguments = [part for command in commands for part in ("-ex", command)]
    done = subprocess.run(
        ["gdb", "-nx", "-batch", "-core", path, *arguments], capture_output=True, text=True
    )
    said = dict(line.split("=") for line in done.stdout.splitlines() if re.match(r"2?\w+=", line))
    for name, value in REGISTERS.items():
        assert int(said[name], 16) == value, name
    for name, value in second.items():
        assert int(said[f"2{name}"], 16) == value, name
    assert (tmp_path / "low").read_bytes() == content
    assert (tmp_path / "high").read_bytes() == b"above four gibibytes"
    assert (tmp_path / "zero").read_bytes() == bytes(0x1000)

"""Extracted memory: formats, names, holes, and nothing half-written."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

import vmstream
from builders import END, HEADER, PAGE, configuration, page, ram
from corpus import case_named
from opened import open_case
from vmstream.errors import Unsupported
from vmstream.stream.physical_memory import PhysicalMemory
from vmstream.stream.registers import registers
from vmstream.tools.extract import Format, extract
from vmstream.tools.memory import find, pattern_of, read

CASE = case_named("pc-7.2")


def test_blocks_are_files_with_a_manifest(tmp_path: Path) -> None:
    stream = open_case(CASE)
    extract(stream, tmp_path / "out", Format.BLOCKS)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [block["name"] for block in manifest["blocks"]] == [b.name for b in stream.memory]
    for block in manifest["blocks"]:
        data = (tmp_path / "out" / block["file"]).read_bytes()
        assert len(data) == block["size"]
        assert hashlib.sha256(data).hexdigest() == block["sha256"]


def test_no_path_comes_from_the_stream(tmp_path: Path) -> None:
    names = {"../../evil": PAGE, "/rom@etc/passwd": PAGE, "..": PAGE, "a\0b": PAGE}
    body = b"".join(page(0, bytes([65 + n]) * PAGE, name) for n, name in enumerate(names))
    stream = vmstream.open(HEADER + configuration() + ram(names, body) + END)
    extract(stream, tmp_path / "out", Format.BLOCKS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(files) == len(names) + 1
    assert not any("/" in name or name.startswith(".") for name in files)


def test_raw_is_physical_memory_with_holes(tmp_path: Path) -> None:
    stream = open_case(CASE)
    out = tmp_path / "raw"
    report = extract(stream, out, Format.RAW)
    guest = PhysicalMemory(stream, stream.memory)
    assert out.stat().st_size == guest.ranges[-1].end
    assert out.stat().st_blocks * 512 < report.size
    with out.open("rb") as file:
        for item in guest.ranges:
            file.seek(item.start)
            assert file.read(min(item.size, 1 << 20)) == guest.read(
                item.start, min(item.size, 1 << 20)
            )


def test_a_window_is_a_part(tmp_path: Path) -> None:
    stream = open_case(CASE)
    extract(stream, tmp_path / "part", Format.RAW, window=(0x1000, 0x9000))
    guest = PhysicalMemory(stream, stream.memory)
    assert (tmp_path / "part").read_bytes() == guest.read(0x1000, 0x8000)


@pytest.mark.skipif(shutil.which("readelf") is None, reason="binutils is not here")
def test_the_core_is_an_elf_file_with_registers(tmp_path: Path) -> None:
    stream = open_case(CASE)
    report = extract(stream, tmp_path / "core", Format.ELF)
    shown = subprocess.run(
        ["readelf", "-hlnW", tmp_path / "core"], capture_output=True, text=True, check=True
    )
    assert not shown.stderr
    assert shown.stdout.count("NT_PRSTATUS") == report.vcpus == len(registers(stream))


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not here")
def test_gdb_reads_registers_and_memory_from_the_core(tmp_path: Path) -> None:
    stream = open_case(CASE)
    extract(stream, tmp_path / "core", Format.ELF)
    address = 0xFFFF0
    commands = ["info registers", f"x/16xb {address}"]
    words = ["gdb", "-batch", "-nx", "-ex", f"core-file {tmp_path / 'core'}"]
    for text in commands:
        words += ["-ex", text]
    shown = subprocess.run(words, capture_output=True, text=True, timeout=120).stdout
    named = registers(stream)["cpu:0"]
    name = "rip" if "rip" in named else "eip"
    assert f"{named[name]:#x}" in shown
    data = PhysicalMemory(stream, stream.memory).read(address, 16)
    assert all(f"{byte:#04x}" in shown for byte in data)


def test_lime_has_a_header_for_each_range(tmp_path: Path) -> None:
    stream = open_case(CASE)
    extract(stream, tmp_path / "lime", Format.LIME)
    magic, version, first, last = struct.unpack("<IIQQ", (tmp_path / "lime").read_bytes()[:24])
    ranges = PhysicalMemory(stream, stream.memory).ranges
    assert (magic, version) == (0x4C694D45, 1)
    assert (first, last) == (ranges[0].start, ranges[0].end - 1)


def test_json_has_registers_as_numbers(tmp_path: Path) -> None:
    extract(open_case(CASE), tmp_path / "out", Format.JSON)
    facts = json.loads((tmp_path / "out" / "registers.json").read_text())
    assert isinstance(facts["cpus"]["cpu:0"]["cr0"], int)
    assert (tmp_path / "out" / "memory.raw").stat().st_size


def test_nothing_is_left_when_content_can_not_be_read(tmp_path: Path) -> None:
    case = case_named("x-ignore-shared-7.2")
    with pytest.raises(Unsupported, match="x-ignore-shared"):
        extract(open_case(case), tmp_path / "raw", Format.RAW)
    assert list(tmp_path.iterdir()) == []


def test_reading_and_finding() -> None:
    stream = open_case(CASE)
    guest = PhysicalMemory(stream, stream.memory)
    start = guest.ranges[0].start
    (piece,) = read(stream, hex(start), "0x40")
    assert piece.data == guest.read(start, 0x40)
    bios = stream.memory["pc.bios"]
    needle = bios.read(bios.size - 16, 16)
    places = {(m.block, m.offset) for m in find(stream, pattern_of("0x" + needle.hex()))}
    assert ("pc.bios", bios.size - 16) in places
    for wrong in ("0xabc", "/(/"):
        with pytest.raises(ValueError, match="is no"):
            pattern_of(wrong)

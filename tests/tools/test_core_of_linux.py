"""The core of a recorded Linux guest, opened by the tools that people use."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vmstream
from corpus import Case, case_named
from vmstream.stream.physical import physical_map
from vmstream.tools.elf import write_elf
from vmstream.tools.output import Buffer, atomic_file
from vmstream.tools.segments import Segment
from vmstream.tools.vmcoreinfo import fields_of, find_vmcoreinfo

CHUNK = 1 << 20
RELEASE = "5.10.0-32-cloud-amd64"


@pytest.fixture(scope="module")
def linux() -> Case:
    return case_named("linux-smp2-xbzrle-running-10.0.2")


@pytest.fixture(scope="module")
def core(linux: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written from the stream's memory, with the registers that QEMU showed."""
    path = tmp_path_factory.mktemp("linux") / "core"
    with vmstream.open(linux.main, *linux.channels) as stream:
        blocks = {block.name: block.size for block in stream.memory}
        ranges = [r for r in physical_map("pc-q35-10.0", blocks).ranges if not r.rom]

        def chunks() -> Iterator[tuple[int, Buffer]]:
            for item in ranges:
                block = stream.memory[item.block]
                for step in range(0, item.size, CHUNK):
                    length = min(CHUNK, item.size - step)
                    yield item.start + step, block.read(item.offset + step, length)

        cpus = [gdb_names(state) for state in linux.truth["cpu_state"]]
        segments = [Segment(item.start, item.size) for item in ranges]
        with atomic_file(path) as out:
            write_elf(out, "x86_64", segments, chunks(), cpus, find_vmcoreinfo(chunks()))
    return path


def gdb_names(state: dict[str, Any]) -> dict[str, int]:
    """``info registers`` of QEMU by the names that gdb has."""
    named = {"eflags": state["rfl"]}
    for name, value in state.items():
        if isinstance(value, int):
            named[name] = value
        elif "base" in value:
            named[f"{name}_base"], named[f"{name}_limit"] = value["base"], value["limit"]
            named[name], named[f"{name}_flags"] = value.get("selector", 0), value.get("flags", 0)
    return named


@pytest.mark.skipif(not shutil.which("gdb"), reason="no gdb here")
def test_gdb_shows_the_registers_that_qemu_showed(linux: Case, core: Path) -> None:
    states = linux.truth["cpu_state"]
    names = [f"r{number}" for number in range(8, 16)] + ["rip", "rsp", "rax", "rdi", "rbp"]
    commands = [
        part
        for number in range(len(states))
        for part in ("-ex", f"thread {number + 1}", "-ex", f"info registers {' '.join(names)}")
    ]
    said = subprocess.run(
        ["gdb", "-nx", "-batch", "-core", core, *commands], capture_output=True, text=True
    ).stdout
    found = [int(value, 16) for value in re.findall(r"^r\w+ +(0x\w+)", said, re.M)]
    assert found == [state[name] for state in states for name in names]


def test_drgn_reads_the_kernel_through_its_page_tables(core: Path) -> None:
    import drgn

    program = drgn.Program()
    program.set_core_dump(core)
    assert program.flags & drgn.ProgramFlags.IS_LINUX_KERNEL
    fields = fields_of(program["VMCOREINFO"].string_())
    assert fields["OSRELEASE"] == RELEASE
    names = program.read(int(fields["SYMBOL(init_uts_ns)"], 16), 400)
    assert b"Linux\0" in names
    assert RELEASE.encode() in names

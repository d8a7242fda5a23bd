"""A Linux guest, booted, captured, extracted and opened by the tools that people use.

What they find is compared with what QEMU's monitor shows and with what the
guest itself keeps.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import vmstream
from corpus import REPOSITORY
from linux_guest import MARK, MEMORY, Kernel, booted
from needed import missing
from vmstream.tools.extract import Format, extract
from vmstream.tools.memory import find, pattern_of

pytestmark = pytest.mark.interop

MIB = 1 << 20
NAMES = {
    "init_pid_ns": "struct pid_namespace",
    "init_task": "struct task_struct",
    "init_uts_ns": "struct uts_namespace",
    "PIDTYPE_PID": "enum pid_type",
}


@dataclass(frozen=True, slots=True)
class Captured:
    """A stopped guest: what was captured of it, and what its monitor said of it."""

    folder: Path
    counter: int
    """Address of the mark and the count in the memory of the guest's process."""
    registers: str

    @property
    def stream(self) -> Path:
        return self.folder / "stream.mig"

    @property
    def core(self) -> Path:
        return self.folder / "core"

    @property
    def memory(self) -> np.ndarray:
        """Physical memory, as the monitor saved it."""
        return np.memmap(self.folder / "memory.monitor", np.uint8, "r")

    def registers_named(self, name: str) -> list[int]:
        """One register of each processor, as the monitor showed it."""
        return [int(v, 16) for v in re.findall(rf"\b{name} ?=([0-9a-f]+)", self.registers)]


@pytest.fixture(scope="module", params=["qemu72", "qemu100"])
def guest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Captured:
    """Booted, stopped while it counts, migrated to a file, and extracted to a core."""
    try:
        kernel = Kernel(REPOSITORY / ".qemu" / "linux")
    except FileNotFoundError as error:
        missing(f"{error}; tools/install_qemu.sh unpacks it")
    folder = tmp_path_factory.mktemp("linux")
    captured = asyncio.run(_captured(request.getfixturevalue(request.param), kernel, folder))
    with vmstream.open(captured.stream) as stream:
        report = extract(stream, captured.core, Format.ELF)
    assert report.vcpus == 2
    assert report.vmcoreinfo
    return captured


async def _captured(qemu: Path, kernel: Kernel, folder: Path) -> Captured:
    async with booted(qemu, kernel, folder) as (machine, counter):
        await machine.execute("stop")
        registers = await machine.monitor("info registers -a")
        (folder / "memory.monitor").write_bytes(await machine.read_physical(0, MEMORY))
        await machine.execute("migrate", {"uri": "exec:cat > stream.mig"})
        await machine.migration_completed()
    return Captured(folder, counter, registers)


def program(name: str) -> str:
    found = shutil.which(name)
    return found or missing(f"no {name} here; tools/install_qemu.sh installs it")


def test_physical_memory_is_what_the_monitor_saved(guest: Captured) -> None:
    raw = guest.folder / "memory.raw"
    with vmstream.open(guest.stream) as stream:
        extract(stream, raw, Format.RAW, window=(0, MEMORY))
    assert np.array_equal(np.memmap(raw, np.uint8, "r"), guest.memory)


def test_readelf_has_no_complaint(guest: Captured) -> None:
    done = subprocess.run(
        [program("readelf"), "-a", "-W", guest.core], capture_output=True, text=True, check=True
    )
    assert not done.stderr
    assert "arning" not in done.stdout
    assert done.stdout.count("NT_PRSTATUS") == 2


def test_gdb_reads_registers_and_memory(guest: Captured) -> None:
    address = 16 * MIB
    commands = ["thread 1", "p/x $rip", "p/x $rsp", "thread 2", "p/x $rip", "p/x $rsp"]
    commands += [f"x/16xb {address:#x}"]
    done = subprocess.run(
        [
            *(program("gdb"), "-nx", "-batch", "-core", guest.core),
            *(part for command in commands for part in ("-ex", command)),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    shown = [int(value, 16) for value in re.findall(r"^\$\d+ = 0x(\w+)", done.stdout, re.M)]
    assert shown[::2] == guest.registers_named("RIP")
    assert shown[1::2] == guest.registers_named("RSP")
    dumped = re.findall(r"\t0x([0-9a-f]{2})\b", done.stdout)
    assert bytes.fromhex("".join(dumped)) == guest.memory[address : address + 16].tobytes()


def test_the_count_of_the_guest_is_found(guest: Captured) -> None:
    """The process counts once a millisecond; its binary's own copy of the mark has a 0 after it."""
    with vmstream.open(guest.stream) as stream:
        places = [m.offset for m in find(stream, pattern_of("0x" + MARK.hex()), "pc.ram")]
        counts = [
            int.from_bytes(stream.memory["pc.ram"].read(at + len(MARK), 8), "little")
            for at in places
            if at % 4096 == guest.counter % 4096
        ]
    saved = guest.memory.tobytes()
    assert places == [match.start() for match in re.finditer(re.escape(MARK), saved)]
    assert max(counts) > 0


@pytest.mark.skipif(sys.platform != "linux", reason="drgn is for Linux")
def test_drgn_lists_the_tasks_and_reads_the_count(guest: Captured) -> None:
    """Without debug symbols: by the kernel's own symbol table and type information."""
    from drgn.helpers.linux.mm import access_process_vm
    from drgn.helpers.linux.pid import find_task, for_each_task

    from btf import open_core

    kernel = open_core(guest.core, NAMES)
    release = kernel["init_uts_ns"].name.release.string_().decode()
    assert f"OSRELEASE={release}\n" in kernel["VMCOREINFO"].string_().decode()
    names = {task.pid.value_(): task.comm.string_() for task in for_each_task(kernel)}
    assert names[1] == b"vmstream-init"
    assert names[2] == b"kthreadd"
    kept = access_process_vm(find_task(kernel, 1), guest.counter, len(MARK) + 8)
    assert kept[: len(MARK)] == MARK
    assert int.from_bytes(kept[len(MARK) :], "little") > 0


def test_volatility_finds_the_banner(guest: Captured) -> None:
    found = json.loads(volatility(guest.folder, "core", "-r", "json", "banners.Banners"))
    banners = {row["Offset"]: row["Banner"] for row in found}
    memory = guest.memory.tobytes()
    for at, banner in banners.items():
        assert memory[at : at + len(banner)] == banner.encode()
    assert any(re.match(r"Linux version \d+\.\d+.* #1 SMP", banner) for banner in banners.values())


@pytest.mark.slow
@pytest.mark.parametrize("guest", ["qemu72"], indirect=True)
def test_volatility_writes_the_same_memory(guest: Captured) -> None:
    """By its own reader of QEMU's format, which knows machine versions of one digit."""
    out = guest.folder / "volatility"
    out.mkdir()
    plugin = ["layerwriter.LayerWriter", "--layers", "primary"]
    volatility(guest.folder, "stream.mig", "-o", str(out), *plugin)
    assert np.array_equal(np.memmap(out / "primary.raw", np.uint8, "r"), guest.memory)


def volatility(folder: Path, file: str, *arguments: str) -> str:
    """Volatility 3, without a look at the network; what it printed."""
    cache = folder / "cache"
    cache.mkdir(exist_ok=True)
    start = Path(sysconfig.get_path("scripts")) / "vol"
    command = [start, "-q", "--offline", "--cache-path", cache]
    return subprocess.run(
        [*command, "-f", folder / file, *arguments], capture_output=True, text=True, check=True
    ).stdout

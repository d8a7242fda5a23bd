"""Memory devices: where virtio-mem says that it is, and what no stream says of pc-dimm."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import vmstream
from corpus import case_named
from guests import firmware, started
from vmstream.stream.memory_devices import plugged_memory
from vmstream.stream.physical_memory import PhysicalMemory

MIB = 1 << 20
SIZE = 128 * MIB


@pytest.mark.interop
@pytest.mark.parametrize("qemu", ["qemu72", "qemu100"])
def test_virtio_mem_stands_where_the_monitor_says(
    qemu: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """10.0 sends the address before the memory, 7.2 behind it."""
    told = asyncio.run(recorded(request.getfixturevalue(qemu), tmp_path))
    with vmstream.open(tmp_path / "stream.mig") as stream:
        guest = PhysicalMemory(stream, stream.memory)
        ranges = [r for r in guest.ranges if r.block.endswith("/vm0")]
        assert [(r.start, r.size, r.offset) for r in ranges] == [(told["memaddr"], SIZE, 0)]
        assert not any(name.endswith("/vm0") for name in guest.map.unplaced)


async def recorded(qemu: Path, folder: Path) -> dict[str, Any]:
    """Record a guest with a memory device; what the monitor says of the device."""
    (folder / "firmware.bin").write_bytes(firmware())
    arguments = (
        "-M q35 -m 16M,maxmem=512M -bios firmware.bin -nic none -vga none"
        f" -object memory-backend-ram,id=vm0,size={SIZE >> 20}M"
        " -device virtio-mem-pci,id=vmem0,memdev=vm0,requested-size=0"
    )
    async with started(qemu, arguments.split(), folder) as guest:
        (device,) = await guest.execute("query-memory-devices")
        await guest.execute("migrate", {"uri": "exec:cat > stream.mig"})
        await guest.migration_completed()
    told: dict[str, Any] = device["data"]
    return told


def test_the_caller_moves_a_device() -> None:
    with vmstream.open(case_named("virtio-mem-7.2").main) as stream:
        ((name, start),) = plugged_memory(stream)
        guest = PhysicalMemory(stream, stream.memory, [(name, 1 << 36)])
        assert start != 1 << 36
        assert [r.start for r in guest.ranges if r.block == name] == [1 << 36]


def test_no_stream_says_where_a_dimm_is() -> None:
    with vmstream.open(case_named("pc-dimm-7.2").main) as stream:
        assert not plugged_memory(stream)
        assert "m0" in PhysicalMemory(stream, stream.memory).map.unplaced

#!/usr/bin/env python3
"""Make ``tests/data``: small migration streams with ground truth, from real QEMUs.

Each case is one folder with the recorded bytes (zstd) and ``truth.json``: what
QMP, the human monitor and the host's view of guest memory said, independently
of the stream. The shape is described in ``tests/corpus.py``. Run it as root on
a machine where ``tools/install_qemu.sh`` has been run, and for the other
architectures with Debian's qemu-system-arm, -misc and -ppc::

    python tools/make_corpus.py [CASE...]

The guests run our own firmware and no option ROMs, so that the repository
carries no one else's code, and the streams stay small.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from boards import BOARDS, Board
from guests import ROUNDS, Guest, Recorder, firmware, started, until

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = REPOSITORY / "tests" / "data"
QEMUS = {
    "7.2": Path("/usr/bin/qemu-system-x86_64"),
    "10.0": REPOSITORY / ".qemu" / "10.0" / "qemu-system-x86_64",
}
MEMORY = 2 << 20
LOW_MEMORY_END, HIGH_MEMORY_START = 0xA0000, 0x100000
ITERATIONS = 4
"""A migration of a running guest goes on at least until this many dirty bitmap syncs."""
POSTCOPY_ITERATIONS = 2
"""The same before a switch to post-copy: early, so that pages are left to be asked for."""
SNAPSHOT = "snap-one"


@dataclass(frozen=True, slots=True)
class Plan:
    """How one case is made.

    Attributes:
        how: ``file`` to a file, ``channels`` to a socket that keeps one file per
            connection, ``proxy`` through a recorder to a destination,
            ``postcopy`` likewise but switched to post-copy, ``savevm`` into a
            qcow2 image.
        running: the guest goes on changing its pages while it is migrated.
        destination_runs: the destination's guest is started and changes memory.
        arch: the guest's architecture, as QEMU names its targets.
    """

    version: str
    machine: str
    how: Literal["file", "channels", "proxy", "postcopy", "savevm"]
    features: tuple[str, ...]
    devices: str = ""
    capabilities: tuple[str, ...] = ()
    parameters: Mapping[str, object] = field(default_factory=dict)
    running: bool = False
    destination_runs: bool = False
    block_migration: bool = False
    arch: str = "x86_64"

    @property
    def board(self) -> Board | None:
        """What the machine of another architecture than x86 is like."""
        return BOARDS.get(self.arch)

    @property
    def qemu(self) -> Path:
        return self.board.qemu if self.board else QEMUS[self.version]

    @property
    def ram_id(self) -> str:
        """The RAM block of the guest's memory."""
        if self.board:
            return self.board.ram_id
        return "microvm.ram" if self.machine == "microvm" else "pc.ram"

    @property
    def memory(self) -> int:
        return self.board.size if self.board else MEMORY

    @property
    def firmware(self) -> bytes:
        return self.board.firmware() if self.board else firmware()


DISPLAY = "-vga none -net none"
PLAIN = f"{DISPLAY} -device VGA,vgamem_mb=1,romfile="
OLD_STREAM = (
    "-global migration.send-configuration=off -global migration.send-section-footer=off"
    " -global migration.store-global-state=off"
)
NULL_DISK = "driver=null-co,size=1048576,read-zeroes=on"
MANY = (
    f"{PLAIN} -smp 2"
    " -device virtio-net-pci,romfile= -device e1000,romfile= -device e1000e,romfile="
    f" -blockdev {NULL_DISK},node-name=d0 -device virtio-blk-pci,drive=d0"
    f" -blockdev {NULL_DISK},node-name=d1 -device ide-hd,drive=d1,bus=ide.0"
    f" -blockdev {NULL_DISK},node-name=d2 -device virtio-scsi-pci -device scsi-hd,drive=d2"
    " -device virtio-rng-pci -device virtio-balloon-pci -device virtio-serial-pci"
    " -device pcie-root-port,id=root1,chassis=1 -device ich9-usb-ehci1 -device qemu-xhci"
    " -device usb-kbd -device usb-tablet -device intel-hda -device hda-duplex"
    " -device i6300esb -device pci-serial -device vmcoreinfo -device vmgenid"
)
DISK = "-drive file=disk.raw,format=raw,if=none,id=bd0 -device virtio-blk-pci,drive=bd0"
IMAGE = "-drive file=disk.qcow2,format=qcow2,if=none,id=q0 -device virtio-blk-pci,drive=q0"
ONE_ZSTD: Mapping[str, object] = {"multifd-channels": 2, "multifd-compression": "zstd"}

PLANS = {
    "pc-7.2": Plan("7.2", "pc", "file", ("plain",), PLAIN),
    "pc-10.0": Plan("10.0", "pc", "file", ("plain",), PLAIN),
    "q35-7.2": Plan("7.2", "q35", "file", ("plain",), PLAIN),
    "microvm-7.2": Plan("7.2", "microvm", "file", ("microvm",)),
    "microvm-10.0": Plan("10.0", "microvm", "file", ("microvm",)),
    "isapc-7.2": Plan("7.2", "isapc", "file", ("isapc",), DISPLAY + " -cpu 486"),
    "devices-q35-7.2": Plan("7.2", "q35", "file", ("many devices", "smp 2"), MANY),
    "devices-q35-10.0": Plan("10.0", "q35", "file", ("many devices", "smp 2"), MANY),
    "no-vmdesc-7.2": Plan("7.2", "pc,suppress-vmdesc=on", "file", ("no vmdesc",), PLAIN),
    "no-vmdesc-10.0": Plan("10.0", "q35,suppress-vmdesc=on", "file", ("no vmdesc",), PLAIN),
    "old-stream-7.2": Plan(
        "7.2", "pc", "file", ("no configuration", "no footers"), f"{PLAIN} {OLD_STREAM}"
    ),
    "old-stream-no-vmdesc-7.2": Plan(
        "7.2",
        "pc,suppress-vmdesc=on",
        "file",
        ("no configuration", "no footers", "no vmdesc"),
        f"{PLAIN} {OLD_STREAM}",
    ),
    "running-10.0": Plan("10.0", "pc", "file", ("guest running",), DISPLAY, running=True),
    "xbzrle-7.2": Plan(
        "7.2", "pc", "file", ("xbzrle", "guest running"), DISPLAY, ("xbzrle",), running=True
    ),
    "xbzrle-10.0": Plan(
        "10.0", "pc", "file", ("xbzrle", "guest running"), DISPLAY, ("xbzrle",), running=True
    ),
    "compress-7.2": Plan("7.2", "pc", "file", ("compress",), DISPLAY, ("compress",)),
    "multifd-7.2": Plan(
        "7.2", "pc", "channels", ("multifd",), DISPLAY, ("multifd",), {"multifd-channels": 2}
    ),
    "multifd-zlib-7.2": Plan(
        "7.2",
        "pc",
        "channels",
        ("multifd", "zlib"),
        DISPLAY,
        ("multifd",),
        {"multifd-channels": 3, "multifd-compression": "zlib"},
    ),
    "multifd-10.0": Plan(
        "10.0",
        "pc",
        "channels",
        ("multifd", "guest running"),
        DISPLAY,
        ("multifd",),
        {"multifd-channels": 2},
        running=True,
    ),
    "multifd-zstd-10.0": Plan(
        "10.0", "pc", "channels", ("multifd", "zstd"), DISPLAY, ("multifd",), ONE_ZSTD
    ),
    "mapped-ram-10.0": Plan("10.0", "pc", "file", ("mapped-ram",), DISPLAY, ("mapped-ram",)),
    "mapped-ram-multifd-10.0": Plan(
        "10.0",
        "pc",
        "file",
        ("mapped-ram", "multifd", "guest running"),
        DISPLAY,
        ("mapped-ram", "multifd"),
        {"multifd-channels": 2},
        running=True,
    ),
    "savevm-7.2": Plan("7.2", "pc", "savevm", ("internal snapshot",), f"{DISPLAY} {IMAGE}"),
    "savevm-10.0": Plan("10.0", "q35", "savevm", ("internal snapshot",), f"{DISPLAY} {IMAGE}"),
    "block-migration-7.2": Plan(
        "7.2", "pc", "file", ("block migration",), f"{DISPLAY} {DISK}", block_migration=True
    ),
    "return-path-10.0": Plan(
        "10.0",
        "pc",
        "proxy",
        ("return-path", "guest running"),
        DISPLAY,
        ("return-path",),
        running=True,
    ),
    "postcopy-7.2": Plan(
        "7.2",
        "pc",
        "postcopy",
        ("postcopy", "guest running"),
        DISPLAY,
        ("postcopy-ram",),
        running=True,
    ),
    "postcopy-preempt-10.0": Plan(
        "10.0",
        "pc",
        "postcopy",
        ("postcopy", "preempt", "page requests", "guest running"),
        DISPLAY,
        ("postcopy-ram", "postcopy-preempt"),
        running=True,
        destination_runs=True,
    ),
    **{
        f"{arch}-{board.machine.removeprefix('s390-').removesuffix('-virtio')}-7.2": Plan(
            "7.2",
            board.machine,
            "file",
            ("plain", "smp 2"),
            f"-nodefaults -smp 2 {board.devices}",
            arch=arch,
        )
        for arch, board in BOARDS.items()
    },
}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def make(name: str, plan: Plan, folder: Path) -> dict[str, Any]:
    """Record one case in ``folder``; what it leaves there to keep is named in ``files``."""
    (folder / "firmware.bin").write_bytes(plan.firmware)
    prepare_disks(plan, folder)
    ram_id = plan.ram_id
    ram_file = (
        f"-object memory-backend-file,id={ram_id},size={plan.memory},share=on,mem-path=ram.bin"
    )
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(
            started(
                plan.qemu,
                f"{machine_arguments(plan, ram_id)} {ram_file}".split(),
                folder,
            )
        )
        await source.set_migration(plan.capabilities, plan.parameters)
        await source.run_firmware(plan.board.rounds if plan.board else ROUNDS)
        if not plan.running:
            await source.execute("stop")
        record = {"file": to_file, "channels": to_channels, "savevm": to_image}.get(
            plan.how, through_proxy
        )
        facts = await record(plan, source, folder)
        facts |= await ground_truth(source, plan, ram_id, folder)
    if plan.how == "file":
        facts |= await loaded_again(plan, ram_id, folder, facts["phys_ram"])
    if plan.block_migration:
        facts |= disk_truth(folder / "disk.raw")
    return {
        "case": name,
        "arch": plan.arch,
        "machine": plan.machine,
        "guest": "firmware",
        "features": list(plan.features),
        "capabilities": sorted(plan.capabilities),
        "parameters_set": dict(plan.parameters),
        "guest_was_running": plan.running,
        "destination_ran": plan.destination_runs,
        **facts,
    }


def machine_arguments(plan: Plan, ram_id: str) -> str:
    machine = f"{plan.machine},memory-backend={ram_id}"
    loaded_by = plan.board.loaded_by if plan.board else "-bios"
    return f"-M {machine} -m {plan.memory >> 20} {loaded_by} firmware.bin {plan.devices}"


def prepare_disks(plan: Plan, folder: Path) -> None:
    if "disk.raw" in plan.devices:
        # Two chunks of block migration with content, one of zeros between them.
        chunk = 1 << 20
        content = b"vmstream" * (chunk // 8) + bytes(chunk) + bytes(range(256)) * (chunk // 256)
        (folder / "disk.raw").write_bytes(content)
    if "disk.qcow2" in plan.devices:
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "disk.qcow2", "4M"]
        subprocess.run(create, cwd=folder, check=True)


async def start_migration(plan: Plan, source: Guest, uri: str) -> None:
    """Begin to migrate; a running guest slowly, until it has gone through some iterations."""
    if plan.running:
        slow = {
            "max-bandwidth": 1 << 19,
            "max-postcopy-bandwidth": 1 << 17,
            "downtime-limit": 1,
        }
        await source.execute("migrate-set-parameters", slow)
    arguments: dict[str, object] = {"uri": uri}
    if plan.block_migration:
        arguments["blk"] = True
    await source.execute("migrate", arguments)
    if not plan.running:
        return

    wanted = POSTCOPY_ITERATIONS if plan.how == "postcopy" else ITERATIONS

    async def iterated() -> bool:
        answer = await source.query_migrate()
        count: int = answer.get("ram", {}).get("dirty-sync-count", 0)
        if answer["status"] == "completed" and count < wanted:
            raise RuntimeError(f"completed after {count} of {wanted} iterations; run it again")
        return count >= wanted

    await until(iterated, f"{wanted} iterations")
    if plan.how != "postcopy":
        quick = {"max-bandwidth": 1 << 30, "downtime-limit": 2_000_000}
        await source.execute("migrate-set-parameters", quick)


async def to_file(plan: Plan, source: Guest, folder: Path) -> dict[str, Any]:
    uri = "exec:cat > stream.mig" if plan.version == "7.2" else "file:stream.mig"
    await start_migration(plan, source, uri)
    completed = await source.migration_completed()
    return {"how": uri, "query_migrate": completed, "files": ["stream.mig"]}


async def to_channels(plan: Plan, source: Guest, folder: Path) -> dict[str, Any]:
    async with Recorder(folder).listening() as recorder:
        await start_migration(plan, source, f"unix:{recorder.socket}")
        completed = await source.migration_completed()
        await recorder.finished()
    files = ["stream.mig", *(f"channel-{n}.mig" for n in range(1, len(recorder.received)))]
    for recorded, name in zip(recorder.received, files, strict=True):
        recorded.rename(folder / name)
    how = "unix, one file per connection in the order accepted"
    return {"how": how, "query_migrate": completed, "files": files}


async def through_proxy(plan: Plan, source: Guest, folder: Path) -> dict[str, Any]:
    ram_id = "pc.ram"
    ram = f"-object memory-backend-ram,id={ram_id},size={plan.memory} -incoming defer"
    arguments = f"{machine_arguments(plan, ram_id)} {ram}".split()
    recorder = Recorder(folder, forward="destination.sock")
    async with (
        started(plan.qemu, arguments, folder, "destination") as destination,
        recorder.listening(),
    ):
        await destination.set_migration(plan.capabilities, plan.parameters)
        await destination.execute("migrate-incoming", {"uri": "unix:destination.sock"})
        if plan.destination_runs:
            await destination.execute("cont")
        await start_migration(plan, source, f"unix:{recorder.socket}")
        if plan.how == "postcopy":
            await source.execute("migrate-start-postcopy")
        completed = await source.migration_completed()
        await destination.migration_completed()
        await recorder.finished()
        facts = {
            "query_migrate": completed,
            "load_ok": True,
            "load_status": (await destination.execute("query-status"))["status"],
        }
        if not plan.destination_runs:
            there = await physical_memory(destination, plan)
            facts["load_ram_match"] = there == await physical_memory(source, plan)
    files = ["stream.mig"]
    files += [f"conn-{n}.fwd.mig" for n in range(1, len(recorder.received))]
    files += [f"conn-{n}.rev.mig" for n in range(len(recorder.sent))]
    for recorded, name in zip([*recorder.received, *recorder.sent], files, strict=True):
        recorded.rename(folder / name)
    how = (
        "unix through a proxy; connection N: conn-N.fwd = source to destination"
        " (conn-0.fwd is stream.mig), conn-N.rev = destination to source"
    )
    return {"how": how, **facts, "files": files}


async def to_image(plan: Plan, source: Guest, folder: Path) -> dict[str, Any]:
    said = await source.monitor(f"savevm {SNAPSHOT}")
    if said.strip():
        raise RuntimeError(f"savevm: {said}")
    return {
        "how": f"HMP savevm {SNAPSHOT}; the whole qcow2 is kept",
        "info_snapshots": await source.monitor("info snapshots"),
        "files": ["disk.qcow2"],
    }


async def ground_truth(source: Guest, plan: Plan, ram_id: str, folder: Path) -> dict[str, Any]:
    """What the stopped source says of itself when its stream has been written."""
    qemu_version = await source.execute("query-version")
    numbers = qemu_version["qemu"]
    # Debian's 7.2 counts stable releases in the micro number; the stream's format is 7.2's.
    version = "7.2" if plan.version == "7.2" else "{major}.{minor}.{micro}".format(**numbers)
    contents = {ram_id: (folder / "ram.bin").read_bytes(), "pc.bios": firmware()}
    blocks = {}
    for block in await source.ram_blocks():
        if block.name not in contents and block.host is not None:
            contents[block.name] = source.read_host(block.host, block.used)
        facts: dict[str, object] = {
            "page_size": block.page_size,
            "used": block.used,
            "size": block.size,
        }
        if block.name in contents:
            facts["sha256"] = sha256(contents[block.name])
        blocks[block.name] = facts
    return {
        "version": version,
        "qemu_version": qemu_version,
        "command_line": source.command_line,
        "source_state": (await source.execute("query-status"))["status"],
        "parameters": await source.execute("query-migrate-parameters"),
        "registers": await source.monitor("info registers -a"),
        "phys_ram": await physical_memory(source, plan),
        "ram_blocks": blocks,
        "schema": f"_schemas/{schema_name(plan)}.zst",
    }


async def physical_memory(guest: Guest, plan: Plan) -> list[dict[str, object]]:
    """Guest-physical RAM without the hole for video memory and ROMs, which microvm has not."""
    ranges = [(0, LOW_MEMORY_END), (HIGH_MEMORY_START, MEMORY)]
    if plan.board:
        ranges = [(plan.board.ram, plan.board.ram + plan.board.size)]
    elif plan.machine == "microvm":
        ranges = [(0, LOW_MEMORY_END)]
    found = []
    for start, end in ranges:
        content = await guest.read_physical(start, end - start)
        pages = (content[at : at + 4096] for at in range(0, len(content), 4096))
        found.append(
            {
                "addr": start,
                "size": len(content),
                "sha256": sha256(content),
                "nonzero_4k_pages": sum(any(page) for page in pages),
            }
        )
    return found


async def loaded_again(
    plan: Plan, ram_id: str, folder: Path, expected: list[dict[str, object]]
) -> dict[str, Any]:
    """Give the recorded bytes to a fresh QEMU of the same kind."""
    ram = f"-object memory-backend-ram,id={ram_id},size={plan.memory} -incoming defer"
    arguments = f"{machine_arguments(plan, ram_id)} {ram}".split()
    uri = "exec:cat stream.mig" if plan.version == "7.2" else "file:stream.mig"
    if plan.block_migration:
        (folder / "disk.raw").rename(folder / "source-disk.raw")
        (folder / "disk.raw").write_bytes(bytes((folder / "source-disk.raw").stat().st_size))
    async with started(plan.qemu, arguments, folder, "destination") as destination:
        await destination.set_migration(plan.capabilities, plan.parameters)
        await destination.execute("migrate-incoming", {"uri": uri})
        await destination.migration_completed()
        state = (await destination.execute("query-status"))["status"]
        same = await physical_memory(destination, plan) == expected
    facts = {"load_ok": True, "load_status": state, "load_ram_match": same}
    if plan.block_migration:
        same_disk = (folder / "disk.raw").read_bytes() == (folder / "source-disk.raw").read_bytes()
        facts["dest_disk_match"] = same_disk
    return facts


def disk_truth(disk: Path) -> dict[str, Any]:
    content = disk.read_bytes()
    facts = {
        "device": "bd0",
        "format": "raw",
        "virtual_size": len(content),
        "sha256_of_guest_content": sha256(content),
    }
    return {"disk": facts}


def schema_name(plan: Plan) -> str:
    return f"{plan.version}-{plan.arch}-{plan.machine.split(',')[0]}.json"


def write_schema(plan: Plan) -> None:
    """The ``-dump-vmstate`` of the case's binary and machine, shared between cases."""
    target = DATA / "_schemas" / f"{schema_name(plan)}.zst"
    if target.exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        dumped = Path(folder) / "schema.json"
        machine = plan.machine.split(",")[0]
        dump = ["-M", machine, "-display", "none", "-dump-vmstate", str(dumped)]
        command = [str(plan.qemu), *dump]
        subprocess.run(command, check=True, capture_output=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(zstd.compress(dumped.read_bytes(), level=19))


def store(truth: dict[str, Any], folder: Path) -> int:
    """Write one case into ``tests/data`` and return its size in bytes."""
    target = DATA / truth["case"]
    target.mkdir(parents=True, exist_ok=True)
    for stale in target.iterdir():
        stale.unlink()
    files = {}
    for name in truth["files"]:
        raw = (folder / name).read_bytes()
        packed = zstd.compress(raw, level=19)
        (target / f"{name}.zst").write_bytes(packed)
        files[f"{name}.zst"] = {
            "raw_size": len(raw),
            "zst_size": len(packed),
            "sha256_raw": sha256(raw),
        }
    text = json.dumps({**truth, "files": files}, indent=1, sort_keys=True)
    (target / "truth.json").write_text(text + "\n")
    return sum(path.stat().st_size for path in target.iterdir())


def main() -> int:
    parser = argparse.ArgumentParser(description="Make tests/data from installed QEMUs.")
    parser.add_argument("case", nargs="*", help="only these (default: all)", metavar="CASE")
    chosen = parser.parse_args().case or list(PLANS)
    if unknown := sorted(set(chosen) - set(PLANS)):
        parser.error(f"no such case: {', '.join(unknown)}; known: {', '.join(PLANS)}")
    for name in chosen:
        plan = PLANS[name]
        if not plan.qemu.exists():
            print(f"{name}: no {plan.qemu} here", file=sys.stderr)
            return 1
        with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
            truth = asyncio.run(make(name, plan, Path(folder)))
            if truth.get("load_ram_match") is False or truth.get("dest_disk_match") is False:
                raise RuntimeError(f"{name}: the stream does not load with the same content")
            size = store(truth, Path(folder))
        write_schema(plan)
        print(f"{name}: {size} bytes, loaded again: {truth.get('load_status', 'not tried')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

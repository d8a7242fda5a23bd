"""Streams of real guests compared: another moment, and another form of the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import vmstream
from guests import PATTERN_END, PATTERN_START, ROUNDS, Guest, Recorder, firmware, started, until
from vmstream.tools.diff import diff
from vmstream.tools.diff_report import StreamDiff

PAGE = 4096
ARGUMENTS = ("-M", "pc", "-m", "2M", "-bios", "firmware.bin", "-vga", "none", "-net", "none")


async def captured(
    guest: Guest,
    name: str,
    capabilities: Sequence[str] = (),
    parameters: Mapping[str, object] | None = None,
) -> list[Path]:
    """Migrate the guest into files, one for each connection; it stands still afterwards."""
    await guest.set_migration(capabilities, parameters or {})
    recorder = Recorder(guest.folder, socket=f"{name}.sock")
    async with recorder.listening():
        await guest.execute("migrate", {"uri": f"unix:{name}.sock"})
        await guest.migration_completed()
        await recorder.finished()
    switches = [{"capability": capability, "state": False} for capability in capabilities]
    await guest.execute("migrate-set-capabilities", {"capabilities": switches})
    return [
        path.rename(guest.folder / f"{name}-{n}.mig") for n, path in enumerate(recorder.received)
    ]


def compared(a: Sequence[Path], b: Sequence[Path]) -> StreamDiff:
    with vmstream.open(*a) as old, vmstream.open(*b) as new:
        return diff(old, new)


def test_only_what_ran_differs_between_two_moments(qemu72: Path, tmp_path: Path) -> None:
    (tmp_path / "firmware.bin").write_bytes(firmware())

    async def run() -> tuple[list[Path], list[Path]]:
        async with started(qemu72, ARGUMENTS, tmp_path) as guest:
            await guest.run_firmware()
            first = await captured(guest, "first")
            before = await guest.rounds()
            await guest.execute("cont")
            while await guest.rounds() == before:
                await asyncio.sleep(0.02)
            return first, await captured(guest, "second")

    report = compared(*asyncio.run(run()))
    assert report.summary.startswith("the same guest at another moment: ")
    assert not report.heads
    assert not report.sections
    interrupts = {"cpu_common:0", "i8259:0", "ioapic:0", "apic:0"}
    assert {device.device for device in report.devices} - interrupts == {"cpu:0"}
    assert {"rcx", "rip", "rdx", "es", "cr0"} & {change.register for change in report.registers}
    assert report.quieted
    assert {quieted.device.rpartition("/")[2] for quieted in report.quieted} <= {
        "timer:0", "cpu:0", "apic:0", "hpet:0", "i8254:0", "mc146818rtc:0", "piix4_pm:0",
    }  # fmt: skip
    assert report.memory is not None
    (block,) = report.memory.blocks
    touched = {ROUNDS // PAGE, *range(PATTERN_START // PAGE, PATTERN_END // PAGE)}
    found = {
        page
        for run_ in block.first
        for page in range(run_.start // PAGE, (run_.start + run_.size) // PAGE)
    }
    assert block.name == "pc.ram"
    assert found <= touched
    assert ROUNDS // PAGE in found
    assert block.bytes <= 2 * block.pages


FORMS: Mapping[str, tuple[tuple[str, ...], Mapping[str, object]]] = {
    "plain": ((), {}),
    "compress": (("compress",), {}),
    **{
        f"multifd-{method}": (
            ("multifd",),
            {"multifd-channels": channels, "multifd-compression": method},
        )
        for channels, method in enumerate(("none", "zlib", "zstd"), 1)
    },
}


def test_every_form_of_the_same_moment_has_the_same_memory(qemu72: Path, tmp_path: Path) -> None:
    """A guest migrated as it ran, with XBZRLE; then loaded and saved again in each form."""
    (tmp_path / "firmware.bin").write_bytes(firmware())

    async def ran() -> list[Path]:
        async with started(qemu72, ARGUMENTS, tmp_path) as guest:
            await guest.run_firmware()
            slow = {"max-bandwidth": 1 << 21, "downtime-limit": 50}
            return await captured(guest, "xbzrle", ("xbzrle",), slow)

    async def saved_again(form: str) -> list[Path]:
        incoming = (*ARGUMENTS, "-incoming", "exec:cat xbzrle-0.mig")
        async with started(qemu72, incoming, tmp_path, form) as guest:

            async def loaded() -> bool:
                status = await guest.execute("query-status")
                return bool(status["status"] in ("paused", "prelaunch"))

            await until(loaded, "the stream to be loaded")
            return await captured(guest, form, *FORMS[form])

    xbzrle = asyncio.run(ran())
    with vmstream.open(*xbzrle) as stream:
        assert "xbzrle" in stream.capabilities, "the guest did not run long enough"
    for form in FORMS:
        report = compared(xbzrle, asyncio.run(saved_again(form)))
        assert report.memory is not None
        assert not report.memory.blocks, (form, report.summary)
        assert {device.device for device in report.devices} <= {"globalstate:0"}, form
        assert not report.sections

"""Registers of recorded guests are those that QEMU's monitor told of them."""

from __future__ import annotations

from pathlib import Path

import pytest

import vmstream
from corpus import Case, case_named, over_cases
from hmp import Said, registers_said
from vmstream.errors import Unsupported
from vmstream.stream.registers import processors, registers

NOT_SAVED = ("nios2", "rx", "microblaze", "microblazeel")
"""Targets of 7.2 whose processors' registers are not migrated at all."""

NAMES = {"mipsel": "mips", "mips64el": "mips64"}
"""Architectures whose byte order no description tells."""

CONDITION_CODE = 3 << 44
"""Of the PSW's mask: TCG keeps it elsewhere, and does not save it."""


NOT_MIGRATED = {"i386": {"efer"}}
"""What the monitor shows although the section has no field for it."""


def has_registers(case: Case) -> bool:
    """Whether the monitor told of the registers when the stream had its device state."""
    truth = case.truth
    told = "CPU#0" in truth.get("registers", "") and truth["arch"] not in NOT_SAVED
    cancelled = truth.get("query_migrate", {}).get("status") == "cancelled"
    earlier = "the guest ran until the switchover" in truth.get("notes", "")
    return told and not cancelled and not earlier


def said(case: Case) -> str:
    text: str = case.truth["registers"]
    return text


def unlike(architecture: str, ours: dict[str, int], theirs: Said) -> dict[str, object]:
    """Registers that the monitor gives another value, or that we lack."""
    found: dict[str, object] = {}
    for name, (value, bits) in theirs.items():
        mine = ours.get(name, 0 if architecture.startswith("ppc") else None)
        if name in NOT_MIGRATED.get(architecture, ()):
            continue
        mask = (1 << bits) - 1
        if name == "pswm":
            mask &= ~CONDITION_CODE
        if mine is None or mine & mask != value & mask:
            found[name] = (mine, value)
    return found


@over_cases(has_registers)
def test_registers_are_what_the_monitor_told(case: Case) -> None:
    with vmstream.open(case.main, *case.channels) as stream:
        ours = registers(stream)
        architecture = vmstream.architecture(stream)
    arch = case.truth["arch"]
    assert architecture == NAMES.get(arch, arch)
    theirs = registers_said(architecture, said(case))
    assert list(ours) == [f"cpu:{number}" for number in range(len(theirs))]
    for mine, told in zip(ours.values(), theirs, strict=True):
        assert len(told) > (16 if architecture == "arm" else 30)
        assert unlike(architecture, mine, told) == {}


@over_cases(lambda case: case.truth.get("arch") in NOT_SAVED)
def test_a_target_that_does_not_save_its_registers_is_said_to_be_unsupported(case: Case) -> None:
    with vmstream.open(case.main) as stream, pytest.raises(Unsupported, match="registers"):
        registers(stream)


def test_without_processors_there_is_nothing_to_guess() -> None:
    with (
        vmstream.open(case_named("x86_64-none-7.2").main) as stream,
        pytest.raises(Unsupported, match="no section 'cpu'"),
    ):
        registers(stream)


def test_the_file_name_tells_nothing(tmp_path: Path) -> None:
    renamed = tmp_path / "s390x.mig"
    renamed.write_bytes(case_named("pc-7.2").main.read_bytes())
    with vmstream.open(renamed) as stream:
        assert vmstream.architecture(stream) == "x86_64"


def test_registers_of_a_stream_without_description_come_by_a_borrowed_one() -> None:
    borrowed_from = case_named("pc-10.0").main
    with vmstream.open(case_named("no-vmdesc-10.0").main, describe_with=borrowed_from) as stream:
        assert stream.devices["cpu", 0].origin == "borrowed"
        assert "rip" in registers(stream)["cpu:0"]


def test_cr8_and_the_apic_base_come_from_the_processors_own_apic() -> None:
    with vmstream.open(case_named("devices-q35-7.2").main) as stream:
        found = registers(stream)
    boot_processor = 1 << 8
    assert found["cpu:0"]["apic_base"] & boot_processor
    assert not found["cpu:1"]["apic_base"] & boot_processor
    assert {cpu["cr8"] for cpu in found.values()} == {0}


def test_flags_are_named() -> None:
    with vmstream.open(case_named("pc-7.2").main) as stream:
        by_name = {r.name: r for r in processors(stream)["cpu:0"].registers}
    assert by_name["eflags"].flags is not None
    assert ("PF" in by_name["eflags"].flags) == bool(by_name["eflags"].value & 4)
    assert by_name["cr0"].flags is not None and "ET" in by_name["cr0"].flags


def test_vector_registers_of_ppc64_hold_what_its_guest_loaded() -> None:
    """The guest loads vs0 and vr0 from its code; the monitor shows only half of the one."""
    case = case_named("ppc64-pseries-7.2")
    with vmstream.open(case.main) as stream:
        cpu = registers(stream)["cpu:0"]
        code = stream.memory["ppc_spapr.ram"].read(0x100, 0x300)
    for number in range(32):
        # lxvd2x of the first 32, lvx of the others, from 16 bytes further each.
        assert cpu[f"vs{number}"] == int.from_bytes(code[16 * number :][:16], "big")
        if number < 32:
            loaded = code[0x100 + 16 * number :][:16]
            assert cpu[f"vr{number}"] == int.from_bytes(loaded, "big")


def test_system_registers_of_aarch64_have_the_values_that_its_guest_wrote() -> None:
    with vmstream.open(case_named("aarch64-virt-7.2").main) as stream:
        cpu = registers(stream)["cpu:0"]
    assert cpu["sp_el0"] == cpu["x4"]
    assert cpu["tpidr_el0"] == cpu["x5"]
    assert cpu["tpidr_el1"] == cpu["x6"]
    assert cpu["elr_el1"] == cpu["x7"]
    assert cpu["spsr_el1"] == 0x3C4
    assert cpu["vbar_el1"] == 0x4000_0800
    assert cpu["sp_el1"] == cpu["sp"]
    assert cpu["cpacr_el1"] == 3 << 20


@over_cases(has_registers)
def test_each_register_has_one_name(case: Case) -> None:
    with vmstream.open(case.main, *case.channels) as stream:
        for processor in processors(stream).values():
            names = [register.name for register in processor.registers]
            assert len(set(names)) == len(names)
            assert all(0 <= r.value < 1 << r.bits for r in processor.registers)


def test_riscv_status_has_its_dirty_summary_bit() -> None:
    with vmstream.open(case_named("riscv64-virt-7.2").main) as stream:
        found = registers(stream)
        saved = stream.devices["cpu", 0]["env.mstatus"]
    assert saved >> 63 == 0
    assert found["cpu:0"]["mstatus"] == saved | 1 << 63
    assert found["cpu:1"]["mstatus"] >> 63 == 0
    assert found["cpu:0"]["frm"] == 2


def test_access_registers_of_s390x_are_what_its_guest_loaded() -> None:
    with vmstream.open(case_named("s390x-ccw-7.2").main) as stream:
        cpu = registers(stream)["cpu:0"]
        code = stream.memory["s390.ram"].read(0x2000, 64)
    loaded = [int.from_bytes(code[at : at + 4], "big") for at in range(0, 64, 4)]
    assert [cpu[f"acr{number}"] for number in range(16)] == loaded
    assert cpu["fpc"] == 1
    assert cpu["f1"] == cpu["v1"] >> 64

"""Arm of 32 and 64 bits, section ``cpu`` (QEMU ``target/arm/machine.c``).

One layout serves both; which half of it counts is told by the state the
processor was executing in (bit 4 of ``cpsr``, clear in AArch64). A 64-bit
processor that was executing AArch32 is shown by its AArch32 registers.

A register of the current mode or exception level that is also banked has its
live value: the bank is stale until the mode is left. System registers stand in
the stream as two lists, of KVM's register ids and of values; those without a
name here bear the architecture's generic one (``s3_0_c15_c2_0``,
``p15_0_c9_c0_1``).
"""

from __future__ import annotations

from vmstream.vmstate.registers.register import Fields, Group, numbered
from vmstream.vmstate.registers.sysregs import system_registers

__all__ = ["is_64_bit", "read"]

_AARCH32 = 1 << 4
_FPSR, _FPCR = 0xF800009F, 0x07FF9F00
"""The parts of ``fpscr`` that AArch64 has as two registers."""

_CPSR64 = {31: "N", 30: "Z", 29: "C", 28: "V", 21: "SS", 20: "IL", 9: "D", 8: "A", 7: "I", 6: "F"}
_CPSR32 = {31: "N", 30: "Z", 29: "C", 28: "V", 27: "Q", 9: "E", 8: "A", 7: "I", 6: "F", 5: "T"}

_BANKS = ("usr", "svc", "abt", "und", "irq", "fiq", "hyp", "mon")
"""In the order of the arrays (QEMU ``target/arm/internals.h``)."""
_MODES = {
    0x10: "usr",
    0x11: "fiq",
    0x12: "irq",
    0x13: "svc",
    0x16: "mon",
    0x17: "abt",
    0x1A: "hyp",
    0x1B: "und",
    0x1F: "usr",
}
_SPSR_OF_LEVEL = {1: 1, 2: 6, 3: 7}
"""Where ``spsr_elN`` stands among the banks."""


def is_64_bit(fields: Fields) -> bool:
    """Whether the processor has AArch64, whatever it was executing.

    It has when an AArch64 ID register is not zero; 32-bit processors lack them
    or have zeros.
    """
    status = fields.integer("cpsr")
    if status is None or "env.xregs" not in fields:
        return False
    if not status & _AARCH32 and "cpu/m" not in fields:
        return True
    return any(value for name, value, _ in system_registers(fields) if name.startswith("id_aa64"))


def read(fields: Fields, bits: int) -> None:
    """Every register that the section holds."""
    status = fields.integer("cpsr") or 0
    if bits == 64 and not status & _AARCH32:
        _read_aarch64(fields, status)
    else:
        _read_aarch32(fields, status)
    for name, value, width in system_registers(fields):
        fields.put(name, value, width, Group.SYSTEM)


def _read_aarch64(fields: Fields, status: int) -> None:
    fields.take_array(numbered("x", 31), "env.xregs")
    fields.take_array(["sp"], "env.xregs", start=31)
    fields.take("pc", "env.pc")
    fields.put("cpsr", status, 32, flags=_CPSR64)
    level = status >> 2 & 3
    own_stack = level if status & 1 else 0
    live = fields.array("env.xregs", 32)
    for number, (value, bits) in enumerate(fields.array("env.sp_el", 4)):
        current = live[31][0] if live and number == own_stack else value
        fields.put(f"sp_el{number}", current, bits, Group.BANKED)
    fields.take_array(numbered("elr_el", 3, 1), "env.elr_el", Group.BANKED, start=1)
    banked = fields.array("env.banked_spsr", len(_BANKS))
    for number, place in _SPSR_OF_LEVEL.items() if banked else ():
        fields.put(f"spsr_el{number}", *banked[place], Group.BANKED)
    for name, place in (("abt", 2), ("und", 3), ("irq", 4), ("fiq", 5)) if banked else ():
        fields.put(f"spsr_{name}", *banked[place], Group.BANKED)
    _float_status(fields)
    for number in range(32):
        low, high = _double(fields, 2 * number), _double(fields, 2 * number + 1)
        if low is not None and high is not None:
            fields.put(f"v{number}", high << 64 | low, 128, Group.VECTOR)


def _read_aarch32(fields: Fields, status: int) -> None:
    fields.take_array((*numbered("r", 13), "sp", "lr", "pc"), "env.regs")
    profile_m = "cpu/m" in fields
    fields.put("xpsr" if profile_m else "cpsr", status, 32, flags=_CPSR32)
    if not profile_m:
        _banks(fields, _MODES.get(status & 0x1F))
    fields.put("fpscr", fields.integer("cpu/vfp.fpscr"), 32, Group.FLOAT)
    for number in range(32):
        fields.put(f"d{number}", _double(fields, number), 64, Group.FLOAT)


def _banks(fields: Fields, mode: str | None) -> None:
    current = {
        "sp": fields.array("env.regs", 16)[13:14],
        "lr": fields.array("env.regs", 16)[14:15],
        "spsr": [element] if (element := fields.element("env.spsr")) else [],
    }
    paths = {"sp": "env.banked_r13", "lr": "env.banked_r14", "spsr": "env.banked_spsr"}
    values = {name: fields.array(path, len(_BANKS)) for name, path in paths.items()}
    for place, bank in enumerate(_BANKS):
        for name, banked in values.items():
            # User mode has no SPSR, and Hyp returns by ELR_hyp, with user mode's LR.
            if (name, bank) in (("spsr", "usr"), ("lr", "hyp")) or not banked:
                continue
            live = current[name] if bank == mode else []
            fields.put(f"{name}_{bank}", *(live or banked[place : place + 1])[0], Group.BANKED)
    outer = "env.usr_regs" if mode == "fiq" else "env.fiq_regs"
    other = "usr" if mode == "fiq" else "fiq"
    fields.take_array([f"r{n}_{other}" for n in range(8, 13)], outer, Group.BANKED)


def _float_status(fields: Fields) -> None:
    """``fpsr`` and ``fpcr``: one 32-bit value until 9.1, a subsection of two since."""
    both = fields.integer("cpu/vfp.fpscr")
    part = "cpu/vfp.cpu/vfp/fpcr_fpsr"
    status = fields.integer(f"{part}.fpsr")
    control = fields.integer(f"{part}.fpcr")
    if both is not None:
        status = both & _FPSR if status is None else status
        control = both & _FPCR if control is None else control
    fields.put("fpsr", status, 32, Group.FLOAT)
    fields.put("fpcr", control, 32, Group.FLOAT)


def _double(fields: Fields, number: int) -> int | None:
    """The 64-bit register of a number: halves of ``zregs`` since 2.12, ``regs`` before."""
    return fields.integer(
        f"cpu/vfp.env.vfp.zregs[{number // 2}].d[{number % 2}]",
        f"cpu/vfp.env.vfp.regs[{number}]",
    )

"""Processor registers from decoded device state, typed by architecture.

Which architecture it is shows in the names and widths of the fields that the
description gives to the section ``cpu``, so a description borrowed from
elsewhere serves as well as the stream's own.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vmstream.vmstate.registers import arm, others, ppc, riscv, s390x, x86
from vmstream.vmstate.registers.register import Fields, Group, Register
from vmstream.vmstate.values import Struct

__all__ = ["Group", "Processor", "Register", "read_processor"]


class Processor(msgspec.Struct, frozen=True):
    """The registers of one virtual processor."""

    architecture: str
    """As QEMU names its targets: ``x86_64``, ``i386``, ``aarch64``, ``ppc64``, ...

    The byte order of MIPS is in no description; ``mips`` and ``mips64`` stand
    for both.
    """
    registers: tuple[Register, ...]


class _Family(msgspec.Struct, frozen=True):
    """How one layout of the section is told from the others, and read."""

    signs: tuple[str, ...]
    """Fields that it alone has together."""
    width: str
    """The field, or array, whose elements are as wide as a general register."""
    names: tuple[str, str]
    """Of the architecture with 32 and with 64 bits."""
    read: Callable[[Fields, int], None]


_FAMILIES = (
    _Family(("env.eip", "env.segs"), "env.regs", ("i386", "x86_64"), x86.read),
    _Family(("env.psw.mask", "env.cregs"), "env.regs", ("", "s390x"), s390x.read),
    _Family(("env.nip", "env.crf"), "env.gpr", ("ppc", "ppc64"), ppc.read),
    _Family(("env.mstatus", "env.gpr"), "env.gpr", ("riscv32", "riscv64"), riscv.read),
    _Family(("env.active_tc.gpr",), "env.active_tc.gpr", ("mips", "mips64"), others.read_mips),
    _Family(("env.regbase",), "env.gregs", ("sparc", "sparc64"), others.read_sparc),
    _Family(("env.dregs", "env.aregs"), "env.dregs", ("m68k", ""), others.read_m68k),
    _Family(("env.ir", "env.palbr"), "env.ir", ("", "alpha"), others.read_alpha),
    _Family(("env.gr", "env.iaoq_f"), "env.gr", ("hppa", "hppa"), others.read_hppa),
    _Family(("env.shadow_gpr",), "env.shadow_gpr", ("or1k", ""), others.read_or1k),
)


def read_processor(state: Struct) -> Processor | None:
    """The registers in a decoded section ``cpu``; None when it is of no known layout."""
    fields = Fields(state)
    if "cpsr" in fields and "env.regs" in fields:
        wide = arm.is_64_bit(fields)
        return _processor("aarch64" if wide else "arm", arm.read, fields, 64 if wide else 32)
    for family in _FAMILIES:
        if not all(sign in fields for sign in family.signs):
            continue
        element = fields.array(family.width, 1)
        bits = element[0][1] if element else 0
        if bits not in (32, 64):
            return None
        name = family.names[bits == 64]
        return _processor(name, family.read, fields, bits) if name else None
    return None


def _processor(
    name: str, read: Callable[[Fields, int], None], fields: Fields, bits: int
) -> Processor:
    read(fields, bits)
    return Processor(name, tuple(fields.found))

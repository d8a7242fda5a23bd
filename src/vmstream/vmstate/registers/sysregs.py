"""Arm's system registers, by the ids that KVM gives them.

The id of an AArch64 register holds op0, op1, CRn, CRm and op2, that of an
AArch32 one the coprocessor and the operands of MRC or MRRC (Linux
``Documentation/virt/kvm/api.rst``, KVM_SET_ONE_REG; QEMU ``target/arm/cpregs.h``,
``cpreg_to_kvm_id``). QEMU lists under TCG both views that a processor has.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmstream.vmstate.registers.register import Fields

__all__ = ["register_name", "system_registers"]

_ARM, _ARM64 = 0x40, 0x60
_SYSREG = 0x13
"""The id's coprocessor field for a system register of AArch64."""
_NON_SECURE = 1 << 29
_MOST = 1 << 12
"""System registers at most; processors have some hundreds."""

_AARCH64 = {
    (2, 0, 0, 2, 2): "mdscr_el1",
    (3, 0, 0, 0, 0): "midr_el1",
    (3, 0, 0, 0, 5): "mpidr_el1",
    (3, 0, 0, 0, 6): "revidr_el1",
    (3, 0, 0, 4, 0): "id_aa64pfr0_el1",
    (3, 0, 0, 4, 1): "id_aa64pfr1_el1",
    (3, 0, 0, 4, 4): "id_aa64zfr0_el1",
    (3, 0, 0, 4, 5): "id_aa64smfr0_el1",
    (3, 0, 0, 5, 0): "id_aa64dfr0_el1",
    (3, 0, 0, 5, 1): "id_aa64dfr1_el1",
    (3, 0, 0, 6, 0): "id_aa64isar0_el1",
    (3, 0, 0, 6, 1): "id_aa64isar1_el1",
    (3, 0, 0, 6, 2): "id_aa64isar2_el1",
    (3, 0, 0, 7, 0): "id_aa64mmfr0_el1",
    (3, 0, 0, 7, 1): "id_aa64mmfr1_el1",
    (3, 0, 0, 7, 2): "id_aa64mmfr2_el1",
    (3, 0, 1, 0, 0): "sctlr_el1",
    (3, 0, 1, 0, 1): "actlr_el1",
    (3, 0, 1, 0, 2): "cpacr_el1",
    (3, 0, 2, 0, 0): "ttbr0_el1",
    (3, 0, 2, 0, 1): "ttbr1_el1",
    (3, 0, 2, 0, 2): "tcr_el1",
    (3, 0, 2, 1, 0): "apiakeylo_el1",
    (3, 0, 2, 1, 1): "apiakeyhi_el1",
    (3, 0, 5, 1, 0): "afsr0_el1",
    (3, 0, 5, 1, 1): "afsr1_el1",
    (3, 0, 5, 2, 0): "esr_el1",
    (3, 0, 6, 0, 0): "far_el1",
    (3, 0, 7, 4, 0): "par_el1",
    (3, 0, 10, 2, 0): "mair_el1",
    (3, 0, 10, 3, 0): "amair_el1",
    (3, 0, 12, 0, 0): "vbar_el1",
    (3, 0, 12, 1, 1): "disr_el1",
    (3, 0, 13, 0, 1): "contextidr_el1",
    (3, 0, 13, 0, 4): "tpidr_el1",
    (3, 0, 14, 1, 0): "cntkctl_el1",
    (3, 1, 0, 0, 0): "ccsidr_el1",
    (3, 1, 0, 0, 1): "clidr_el1",
    (3, 2, 0, 0, 0): "csselr_el1",
    (3, 3, 0, 0, 1): "ctr_el0",
    (3, 3, 0, 0, 7): "dczid_el0",
    (3, 3, 9, 12, 0): "pmcr_el0",
    (3, 3, 9, 12, 1): "pmcntenset_el0",
    (3, 3, 9, 12, 3): "pmovsclr_el0",
    (3, 3, 9, 12, 5): "pmselr_el0",
    (3, 3, 9, 13, 0): "pmccntr_el0",
    (3, 3, 9, 14, 0): "pmuserenr_el0",
    (3, 3, 13, 0, 2): "tpidr_el0",
    (3, 3, 13, 0, 3): "tpidrro_el0",
    (3, 3, 14, 0, 0): "cntfrq_el0",
    (3, 3, 14, 0, 1): "cntpct_el0",
    (3, 3, 14, 0, 2): "cntvct_el0",
    (3, 3, 14, 2, 1): "cntp_ctl_el0",
    (3, 3, 14, 2, 2): "cntp_cval_el0",
    (3, 3, 14, 3, 1): "cntv_ctl_el0",
    (3, 3, 14, 3, 2): "cntv_cval_el0",
    (3, 4, 0, 0, 0): "vpidr_el2",
    (3, 4, 0, 0, 5): "vmpidr_el2",
    (3, 4, 1, 0, 0): "sctlr_el2",
    (3, 4, 1, 1, 0): "hcr_el2",
    (3, 4, 1, 1, 1): "mdcr_el2",
    (3, 4, 1, 1, 2): "cptr_el2",
    (3, 4, 2, 0, 0): "ttbr0_el2",
    (3, 4, 2, 0, 2): "tcr_el2",
    (3, 4, 2, 1, 0): "vttbr_el2",
    (3, 4, 2, 1, 2): "vtcr_el2",
    (3, 4, 5, 2, 0): "esr_el2",
    (3, 4, 6, 0, 0): "far_el2",
    (3, 4, 6, 0, 4): "hpfar_el2",
    (3, 4, 10, 2, 0): "mair_el2",
    (3, 4, 12, 0, 0): "vbar_el2",
    (3, 4, 13, 0, 2): "tpidr_el2",
    (3, 4, 14, 0, 3): "cntvoff_el2",
    (3, 4, 14, 1, 0): "cnthctl_el2",
    (3, 6, 1, 0, 0): "sctlr_el3",
    (3, 6, 1, 1, 0): "scr_el3",
    (3, 6, 2, 0, 0): "ttbr0_el3",
    (3, 6, 2, 0, 2): "tcr_el3",
    (3, 6, 5, 2, 0): "esr_el3",
    (3, 6, 6, 0, 0): "far_el3",
    (3, 6, 10, 2, 0): "mair_el3",
    (3, 6, 12, 0, 0): "vbar_el3",
    (3, 6, 13, 0, 2): "tpidr_el3",
}
"""(op0, op1, CRn, CRm, op2) to name (Arm Architecture Reference Manual, D19)."""

_CP15 = {
    (0, 0, 0, 0): "midr",
    (0, 0, 0, 5): "mpidr",
    (0, 0, 2, 0): "csselr",
    (1, 0, 0, 0): "sctlr",
    (1, 0, 0, 1): "actlr",
    (1, 0, 0, 2): "cpacr",
    (2, 0, 0, 0): "ttbr0",
    (2, 0, 0, 1): "ttbr1",
    (2, 0, 0, 2): "ttbcr",
    (3, 0, 0, 0): "dacr",
    (5, 0, 0, 0): "dfsr",
    (5, 0, 0, 1): "ifsr",
    (6, 0, 0, 0): "dfar",
    (6, 0, 0, 2): "ifar",
    (7, 4, 0, 0): "par",
    (10, 2, 0, 0): "prrr",
    (10, 2, 0, 1): "nmrr",
    (12, 0, 0, 0): "vbar",
    (13, 0, 0, 0): "fcseidr",
    (13, 0, 0, 1): "contextidr",
    (13, 0, 0, 2): "tpidrurw",
    (13, 0, 0, 3): "tpidruro",
    (13, 0, 0, 4): "tpidrprw",
    (14, 0, 0, 0): "cntfrq",
}
"""(CRn, CRm, opc1, opc2) to name, of coprocessor 15's 32-bit registers."""


def system_registers(fields: Fields) -> Iterator[tuple[str, int, int]]:
    """(name, value, bits) in the stream's order.

    An AArch32 register that is banked between the worlds has ``_s`` after its
    secure copy's name.
    """
    count = fields.integer("cpreg_vmstate_array_len")
    if count is None or count > _MOST:
        return
    ids = fields.array("cpreg_vmstate_indexes", count)
    values = fields.array("cpreg_vmstate_values", count)
    for (register, _), (value, _) in zip(ids, values, strict=False):
        name = register_name(register)
        if name is not None:
            yield name, value, 8 << (register >> 52 & 0xF)


def register_name(register: int) -> str | None:
    """The name of a register by its KVM id; None where it is no system register."""
    kind, bits = register >> 56, 8 << (register >> 52 & 0xF)
    if kind == _ARM64 and register >> 16 & 0xFFF == _SYSREG:
        return _name64(register)
    return _name32(register, bits) if kind == _ARM else None


def _name64(register: int) -> str:
    op0, op1 = register >> 14 & 3, register >> 11 & 7
    crn, crm, op2 = register >> 7 & 15, register >> 3 & 15, register & 7
    generic = f"s{op0}_{op1}_c{crn}_c{crm}_{op2}"
    return _AARCH64.get((op0, op1, crn, crm, op2), generic)


def _name32(register: int, bits: int) -> str:
    coprocessor = register >> 16 & 0xFFF
    crn, crm = register >> 11 & 15, register >> 7 & 15
    opc1, opc2 = register >> 3 & 15, register & 7
    world = "" if register & _NON_SECURE else "_s"
    if bits == 64:
        return f"p{coprocessor}_{opc1}_c{crm}{world}"
    generic = f"p{coprocessor}_{opc1}_c{crn}_c{crm}_{opc2}"
    known = _CP15.get((crn, crm, opc1, opc2)) if coprocessor == 15 else None
    return (known or generic) + world

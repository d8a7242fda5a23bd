"""RISC-V, section ``cpu`` (QEMU ``target/riscv/machine.c``).

General and floating-point registers bear their ABI names, CSRs the manual's.
``mstatus`` has its SD bit, and ``hstatus`` of 64 bits its VSXL, which QEMU
works out when they are read and does not keep. The accrued exceptions of
``fcsr`` are not in the stream.
"""

from __future__ import annotations

from vmstream.vmstate.registers.register import Fields, Group, numbered

__all__ = ["read"]

_GENERAL = (
    *("zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "fp", "s1"),
    *numbered("a", 8),
    *numbered("s", 10, 2),
    *numbered("t", 4, 3),
)
_FLOAT = (
    *numbered("ft", 8),
    "fs0",
    "fs1",
    *numbered("fa", 8),
    *numbered("fs", 10, 2),
    *numbered("ft", 4, 8),
)
_FS, _VS, _XS = 0x6000, 0x600, 0x18000
"""Two bits each: the state of floating point, vectors and extensions; both set is dirty."""

_CSRS = (
    *("mhartid", "misa", "mie", "mip", "mideleg", "medeleg", "mtvec", "mepc", "mcause"),
    *("mtval", "mscratch", "mcounteren", "mcountinhibit"),
    *("stvec", "sepc", "scause", "stval", "sscratch", "satp", "scounteren", "stimecmp"),
    "frm",
)
_HYPERVISOR = (
    *("hedeleg", "hideleg", "hcounteren", "htval", "htinst", "hgatp", "hgeie"),
    *("hgeip", "htimedelta", "vsstatus", "vstvec", "vsscratch", "vsepc", "vscause"),
    *("vstval", "vsatp", "vstimecmp", "mtval2", "mtinst"),
)
_PARTS = {
    "cpu/hyper": _HYPERVISOR,
    "cpu/envcfg": ("menvcfg", "senvcfg", "henvcfg"),
    "cpu/vector": ("vstart", "vl", "vtype", "vxrm", "vxsat"),
}
_VSXL_64 = 2 << 32
_OLD_NAMES = {"stval": "env.sbadaddr", "mtval": "env.mbadaddr"}
"""Before 6.0."""


def read(fields: Fields, bits: int) -> None:
    """Every register that the section holds; ``bits`` is 32 or 64."""
    fields.take_array(_GENERAL, "env.gpr")
    fields.take("pc", "env.pc")
    fields.take_array(_FLOAT, "env.fpr", Group.FLOAT)
    fields.take("priv", "env.priv", group=Group.CONTROL)
    fields.take("virt", "env.virt", "env.virt_enabled", group=Group.CONTROL)
    status = fields.integer("env.mstatus")
    if status is not None:
        if any(status & dirty == dirty for dirty in (_FS, _VS, _XS)):
            status |= 1 << bits - 1
        fields.put("mstatus", status, bits, Group.CONTROL)
    hypervisor = fields.integer("cpu/hyper.env.hstatus")
    if hypervisor is not None:
        fields.put("hstatus", hypervisor | (_VSXL_64 if bits == 64 else 0), bits, Group.SYSTEM)
    for name in _CSRS:
        fields.take(name, f"env.{name}", _OLD_NAMES.get(name, ""), group=Group.SYSTEM)
    for part, names in _PARTS.items():
        for name in names:
            fields.take(name, f"{part}.env.{name}", group=Group.SYSTEM)
    for number in range(16):
        path = f"cpu/pmp.env.pmp_state.pmp[{number}]"
        fields.take(f"pmpaddr{number}", f"{path}.addr_reg", group=Group.SYSTEM)
        fields.take(f"pmpcfg{number}", f"{path}.cfg_reg", group=Group.SYSTEM)

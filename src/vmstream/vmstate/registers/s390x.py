"""s390x, section ``cpu`` (QEMU ``target/s390x/machine.c``).

``pswm`` and ``pswa`` are the mask and address of the PSW. A guest of TCG has
its condition code (bits 18 and 19 of the mask, counted from the left) outside
of the saved mask, and the stream lacks it; KVM saves it. A floating-point
register is the left half of the vector register of its number.
"""

from __future__ import annotations

from vmstream.vmstate.registers.register import Fields, Group, numbered

__all__ = ["read"]

_SYSTEM = {
    "prefix": "env.psa",
    "fpc": "cpu/fpu.env.fpc",
    "todpr": "env.todpr",
    "cpu_timer": "env.cputm",
    "clock_comparator": "env.ckc",
    "last_break": "env.gbea",
    "pp": "env.pp",
    "bpbc": "cpu/bpbc.env.bpbc",
    "etoken": "cpu/etoken.env.etoken",
    "etoken_extension": "cpu/etoken.env.etoken_extension",
}


def read(fields: Fields, bits: int) -> None:
    """Every register that the section holds."""
    fields.take("pswm", "env.psw.mask")
    fields.take("pswa", "env.psw.addr")
    fields.take_array(numbered("r", 16), "env.regs")
    fields.take_array(numbered("acr", 16), "env.aregs", Group.SEGMENT)
    fields.take_array(numbered("cr", 16), "env.cregs", Group.CONTROL)
    for number in range(16):
        fields.put(f"f{number}", _left(fields, number), 64, Group.FLOAT)
    for number in range(32):
        left, right = _left(fields, number), _right(fields, number)
        if left is not None and right is not None:
            fields.put(f"v{number}", left << 64 | right, 128, Group.VECTOR)
    fields.take_all(_SYSTEM, Group.SYSTEM)


def _left(fields: Fields, number: int) -> int | None:
    """The left 64 bits: the name changed in 4.1 (``env.vregs[n][0].ll`` before)."""
    place = "cpu/fpu" if number < 16 else "cpu/vregs"
    path = f"{place}.env.vregs[{number}][0]"
    return fields.integer(path, f"{path}.ll")


def _right(fields: Fields, number: int) -> int | None:
    path = f"cpu/vregs.env.vregs[{number}][1]"
    return fields.integer(path, f"{path}.ll")

"""PowerPC of 32 and 64 bits, section ``cpu`` (QEMU ``target/ppc/machine.c``).

``lr``, ``ctr`` and ``xer`` stand among the special-purpose registers, where
QEMU stores them before it saves. Of the other 1024 SPRs a processor has few,
and nothing tells which: those that are zero are left out, but for some that
every processor has. SPRs without a name here are ``sprN``.

An AltiVec register is written as its two halves in the order of the source
host's memory (``put_avr``), the lower first on the usual little-endian host;
a stream from a big-endian host has ``vrN`` with halves swapped.
"""

from __future__ import annotations

from vmstream.vmstate.registers.register import Fields, Group, numbered

__all__ = ["read"]

_SPRS = 1024
_XER, _LR, _CTR = 1, 8, 9
_ALWAYS = frozenset((18, 19, 22, 26, 27, 256, 272, 273, 274, 275, 287))
_NAMED = {
    18: "dsisr",
    19: "dar",
    22: "dec",
    25: "sdr1",
    26: "srr0",
    27: "srr1",
    28: "cfar",
    29: "amr",
    48: "pid",
    54: "decar",
    58: "csrr0",
    59: "csrr1",
    62: "esr",
    63: "ivpr",
    157: "uamor",
    159: "pspb",
    256: "vrsave",
    **{272 + number: f"sprg{number}" for number in range(8)},
    268: "tbl",
    269: "tbu",
    286: "pir",
    287: "pvr",
    304: "hsprg0",
    305: "hsprg1",
    306: "hdsisr",
    307: "hdar",
    310: "hdec",
    313: "hrmor",
    314: "hsrr0",
    315: "hsrr1",
    318: "lpcr",
    319: "lpidr",
    336: "tsr",
    340: "tcr",
    464: "ptcr",
    570: "mcsrr0",
    571: "mcsrr1",
    815: "tar",
    1008: "hid0",
    1009: "hid1",
}
_MSR = {
    63: "SF",
    60: "HV",
    33: "TS0",
    34: "TS1",
    25: "VEC",
    23: "VSX",
    15: "EE",
    14: "PR",
    13: "FP",
    12: "ME",
    11: "FE0",
    10: "SE",
    9: "BE",
    8: "FE1",
    6: "IP",
    5: "IR",
    4: "DR",
    1: "RI",
    0: "LE",
}


def read(fields: Fields, bits: int) -> None:
    """Every register that the section holds; ``bits`` is 32 or 64."""
    fields.take_array(numbered("r", 32), "env.gpr")
    fields.take("pc", "env.nip")
    fields.take("msr", "env.msr", flags=_MSR)
    condition = fields.array("env.crf", 8)
    if condition:
        packed = sum((value & 0xF) << 28 - 4 * n for n, (value, _) in enumerate(condition))
        fields.put("cr", packed, 32)
    special = fields.array("env.spr", _SPRS)
    for common, place in (("lr", _LR), ("ctr", _CTR), ("xer", _XER)) if special else ():
        fields.put(common, *special[place])
    _float(fields)
    for number, (value, width) in enumerate(special):
        if number not in (_XER, _LR, _CTR) and (value or number in _ALWAYS):
            name = _NAMED.get(number, f"spr{number}")
            fields.put(name, value, width, Group.SYSTEM)
    fields.take_array(numbered("sr", 32), "cpu/sr.env.sr", Group.SEGMENT)


def _float(fields: Fields) -> None:
    """``fN`` is the upper half of ``vsN``, and ``vrN`` is ``vs(N+32)``."""
    fields.take_array(
        numbered("f", 32),
        "cpu/fpu.env.vsr" if "cpu/fpu.env.vsr" in fields else "cpu/fpu.env.fpr",
        Group.FLOAT,
    )
    fields.take("fpscr", "cpu/fpu.env.fpscr", group=Group.FLOAT)
    upper = fields.array("cpu/fpu.env.vsr", 32)
    lower = fields.array("cpu/vsx.env.vsr", 32)
    for number, ((high, _), (low, _)) in enumerate(zip(upper, lower, strict=False)):
        fields.put(f"vs{number}", high << 64 | low, 128, Group.VECTOR)
    vectors = fields.array("cpu/altivec.env.vsr", 32) or fields.array("cpu/altivec.env.avr", 32)
    for number, (value, bits) in enumerate(vectors):
        if bits == 128:
            swapped = (value & (1 << 64) - 1) << 64 | value >> 64
            fields.put(f"vr{number}", swapped, bits, Group.VECTOR)
    fields.take("vscr", "cpu/altivec.vscr", "cpu/altivec.env.vscr", group=Group.FLOAT)

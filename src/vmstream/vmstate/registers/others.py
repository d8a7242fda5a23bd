"""The integer registers of MIPS, SPARC, m68k, Alpha, PA-RISC and OpenRISC.

Their sections are all called ``cpu`` (QEMU ``target/*/machine.c``).
"""

from __future__ import annotations

from vmstream.vmstate.registers.register import Fields, Group, numbered

__all__ = ["read_alpha", "read_hppa", "read_m68k", "read_mips", "read_or1k", "read_sparc"]

_MIPS = (
    *("zero", "at", "v0", "v1"),
    *numbered("a", 4),
    *numbered("t", 8),
    *numbered("s", 8),
    *("t8", "t9", "k0", "k1", "gp", "sp", "s8", "ra"),
)
_MIPS_SYSTEM = {
    "index": "env.CP0_Index",
    "entrylo0": "env.CP0_EntryLo0",
    "entrylo1": "env.CP0_EntryLo1",
    "context": "env.CP0_Context",
    "pagemask": "env.CP0_PageMask",
    "wired": "env.CP0_Wired",
    "count": "env.CP0_Count",
    "entryhi": "env.CP0_EntryHi",
    "compare": "env.CP0_Compare",
    "epc": "env.CP0_EPC",
    "prid": "env.CP0_PRid",
    "ebase": "env.CP0_EBase",
    **{f"config{number}": f"env.CP0_Config{number}" for number in range(8)},
    "lladdr": "env.CP0_LLAddr",
    "errorepc": "env.CP0_ErrorEPC",
}
_SPARC_WINDOWS = 32
"""The architecture's limit."""
_ALPHA = (
    "v0",
    *numbered("t", 8),
    *numbered("s", 6),
    "fp",
    *numbered("a", 6),
    *numbered("t", 4, 8),
    *("ra", "t12", "at", "gp", "sp"),
)
_ALPHA_PAL_MODE = 1
_ALPHA_SHADOWED = (*range(8, 15), 25)
"""Registers that PAL mode has a second set of."""
_ALPHA_PS_SHIFT = 8
_M68K_CC_FLAGS = 1
"""``cc_op`` when the condition codes stand in the five fields as they are."""
_HPPA_NAMED = {11: "sar", 15: "eiem", 19: "iir", 20: "isr", 21: "ior", 22: "ipsw"}


def read_mips(fields: Fields, bits: int) -> None:
    """The active thread context, then CP0."""
    fields.take_array(_MIPS, "env.active_tc.gpr")
    fields.take("sr", "env.CP0_Status")
    fields.take_array(["lo"], "env.active_tc.LO")
    fields.take_array(["hi"], "env.active_tc.HI")
    fields.take("bad", "env.CP0_BadVAddr")
    fields.take("cause", "env.CP0_Cause")
    fields.take("pc", "env.active_tc.PC")
    fields.take("fsr", "env.active_fpu.fcr31", group=Group.FLOAT)
    fields.take("fir", "env.active_fpu.fcr0", group=Group.FLOAT)
    fields.take_all(_MIPS_SYSTEM, Group.SYSTEM)


def read_sparc(fields: Fields, bits: int) -> None:
    """The globals and the current register window.

    A window begins with its outs; its ins are the outs of the next one, and the
    last window's are the first one's.
    """
    fields.take_array(numbered("g", 8), "env.gregs")
    status = fields.integer("psr")
    window = fields.integer("env.cwp") if bits == 64 else status and status & 0x1F
    windows = fields.integer("env.nwindows")
    if window is not None and windows is not None and 0 < windows <= _SPARC_WINDOWS:
        _window(fields, fields.array("env.regbase", 16 * windows), window)
        if bits == 64:
            # QEMU numbers windows downwards, the other way round than the architecture.
            fields.put("cwp", (windows - 1 - window) & 0x1F, 32, Group.SYSTEM)
    fields.take("pc", "env.pc")
    fields.take("npc", "env.npc")
    fields.take("y", "env.y")
    doubles = fields.array("env.fpr", 32 if bits == 64 else 16)
    for number, element in enumerate(doubles):
        fields.put(f"d{2 * number}", *element, Group.FLOAT)
    fields.take("fsr", "env.fsr", group=Group.FLOAT)
    if bits == 64:
        names = ("pstate", "asi", "tl", "fprs", "gl", "cansave", "canrestore")
        more = ("otherwin", "wstate", "cleanwin", "tbr", "hpstate", "htba", "gsr")
        fields.take_all({name: f"env.{name}" for name in (*names, *more)}, Group.SYSTEM)
        return
    fields.put("psr", status, 32)
    fields.take_all({name: f"env.{name}" for name in ("wim", "tbr")}, Group.SYSTEM)


def _window(fields: Fields, slots: list[tuple[int, int]], window: int) -> None:
    for first, prefix in ((0, "o"), (8, "l"), (16, "i")) if slots else ():
        for number in range(8):
            place = (16 * window + first + number) % len(slots)
            fields.put(f"{prefix}{number}", *slots[place])


def read_m68k(fields: Fields, bits: int) -> None:
    """Data and address registers; ``ps`` where the condition codes are not deferred.

    QEMU saves them as operands of a deferred computation when it has not been
    made (``cc_op``); they are left out then.
    """
    fields.take_array(numbered("d", 8), "env.dregs")
    fields.take_array((*numbered("a", 6), "fp", "sp"), "env.aregs")
    status = fields.integer("env.sr")
    if status is not None and fields.integer("env.cc_op") == _M68K_CC_FLAGS:
        x, n, v, c, z = (fields.integer(f"env.cc_{flag}") or 0 for flag in "xnvcz")
        codes = x << 4 | (n >> 31) << 3 | (z == 0) << 2 | (v >> 31) << 1 | c
        fields.put("ps", status | codes & 0x1F, 32)
    fields.take("pc", "env.pc")
    for number in range(8):
        path = f"cpu/fpu.env.fregs[{number}].tmp"
        mantissa = fields.integer(f"{path}.tmp_mant")
        exponent = fields.integer(f"{path}.tmp_exp")
        if mantissa is not None and exponent is not None:
            fields.put(f"fp{number}", exponent << 64 | mantissa, 80, Group.FLOAT)
    fields.take("fpcontrol", "cpu/fpu.env.fpcr", group=Group.FLOAT)
    fields.take("fpstatus", "cpu/fpu.env.fpsr", group=Group.FLOAT)
    fields.take_array(("msp", "usp", "isp"), "env.sp", Group.SYSTEM)
    for name in ("vbr", "cacr", "sfc", "dfc"):
        fields.take(name, f"cpu/68040_spregs.env.{name}", group=Group.SYSTEM)
    for name in ("tcr", "urp", "srp", "mmusr"):
        fields.take(name, f"cpu/68040_mmu.env.mmu.{name}", group=Group.SYSTEM)


def read_alpha(fields: Fields, bits: int) -> None:
    """General registers as the running code sees them: PAL mode shadows eight of them."""
    values = fields.array("env.ir", len(_ALPHA))
    flags = fields.integer("env.flags") or 0
    shadow = fields.array("env.shadow", len(_ALPHA_SHADOWED))
    if flags & _ALPHA_PAL_MODE and values and shadow:
        for place, element in zip(_ALPHA_SHADOWED, shadow, strict=True):
            values[place] = element
    for name, element in zip(_ALPHA, values, strict=False):
        fields.put(name, *element)
    fields.take("pc", "env.pc")
    fields.put("ps", flags >> _ALPHA_PS_SHIFT & 0xFF, 8)
    fields.take("unique", "env.unique")
    fields.take_array(numbered("f", 31), "env.fir", Group.FLOAT)
    fields.take("fpcr", "env.fpcr", group=Group.FLOAT)
    names = ("exc_addr", "palbr", "ptbr", "vptptr", "sysval", "usp", "lock_addr", "lock_value")
    fields.take_all({name: f"env.{name}" for name in names}, Group.SYSTEM)


def read_hppa(fields: Fields, bits: int) -> None:
    """General registers, the two instruction addresses, space and control registers."""
    fields.take_array(numbered("r", 32), "env.gr")
    fields.take("pcoqh", "env.iaoq_f")
    fields.take("pcoqt", "env.iaoq_b")
    fields.take("psw", "env.psw")
    for name, path in (("pcsqh", "env.iasq_f"), ("pcsqt", "env.iasq_b")):
        fields.put(name, _space(fields.integer(path)), 32, Group.SEGMENT)
    for number, (value, _) in enumerate(fields.array("env.sr", 8)):
        fields.put(f"sr{number}", _space(value), 32, Group.SEGMENT)
    for number, element in enumerate(fields.array("env.cr", 32)):
        fields.put(_HPPA_NAMED.get(number, f"cr{number}"), *element, Group.SYSTEM)
    fields.take_array(numbered("fr", 32), "env.fr", Group.FLOAT)


def _space(value: int | None) -> int | None:
    """A space id; QEMU keeps it shifted to where it stands in a global address."""
    return None if value is None else value >> 32


def read_or1k(fields: Fields, bits: int) -> None:
    """The first of sixteen sets of general registers, which is the live one."""
    fields.take_array(numbered("r", 32), "env.shadow_gpr")
    fields.take("ppc", "env.ppc")
    fields.take("npc", "env.pc")
    fields.take("sr", "env.sr")
    names = ("epcr", "eear", "esr", "vr", "upr", "cpucfgr", "evbar", "fpcsr", "ttmr", "picmr")
    fields.take_all({name: f"env.{name}" for name in (*names, "picsr")}, Group.SYSTEM)

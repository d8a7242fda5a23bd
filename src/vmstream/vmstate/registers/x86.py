"""x86, section ``cpu`` (QEMU ``target/i386/machine.c``), 32 and 64 bits wide.

Names are gdb's, and for descriptor tables and MSRs the manuals'. Of a segment
the stream holds the hidden part too: ``cs`` is the selector, ``cs_base``,
``cs_limit`` and ``cs_flags`` the descriptor (flags as in its second word).

The condition codes stand in ``eflags``: QEMU folds its lazy ones in when a
processor leaves its loop, before anything is saved. ``st0`` to ``st7`` are
QEMU's registers in its own order, as its gdb server shows them; which of them
is the top of the stack stands in ``fstat``. ``ftw`` is the tag word as FXSAVE
has it, a bit for each register in use.
"""

from __future__ import annotations

from vmstream.vmstate.registers.register import Fields, Group, numbered

__all__ = ["read"]

_LEGACY = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
"""General registers in the order of their numbers, which is the stream's."""
_SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")

EFLAGS = {
    0: "CF",
    2: "PF",
    4: "AF",
    6: "ZF",
    7: "SF",
    8: "TF",
    9: "IF",
    10: "DF",
    11: "OF",
    14: "NT",
    16: "RF",
    17: "VM",
    18: "AC",
    19: "VIF",
    20: "VIP",
    21: "ID",
}
_CR0 = {
    0: "PE",
    1: "MP",
    2: "EM",
    3: "TS",
    4: "ET",
    5: "NE",
    16: "WP",
    18: "AM",
    29: "NW",
    30: "CD",
    31: "PG",
}
_CR4 = {
    0: "VME",
    1: "PVI",
    2: "TSD",
    3: "DE",
    4: "PSE",
    5: "PAE",
    6: "MCE",
    7: "PGE",
    8: "PCE",
    9: "OSFXSR",
    10: "OSXMMEXCPT",
    11: "UMIP",
    12: "LA57",
    13: "VMXE",
    14: "SMXE",
    16: "FSGSBASE",
    17: "PCIDE",
    18: "OSXSAVE",
    20: "SMEP",
    21: "SMAP",
    22: "PKE",
    23: "CET",
    24: "PKS",
}
_EFER = {0: "SCE", 8: "LME", 10: "LMA", 11: "NXE", 12: "SVME", 14: "FFXSR"}
_MXCSR = {
    0: "IE",
    1: "DE",
    2: "ZE",
    3: "OE",
    4: "UE",
    5: "PE",
    6: "DAZ",
    7: "IM",
    8: "DM",
    9: "ZM",
    10: "OM",
    11: "UM",
    12: "PM",
    15: "FZ",
}

_MSRS = {
    "star": "env.star",
    "lstar": "env.lstar",
    "cstar": "env.cstar",
    "fmask": "env.fmask",
    "k_gs_base": "env.kernelgsbase",
    "sysenter_cs": "env.sysenter_cs",
    "tsc": "env.tsc",
    "tsc_aux": "env.tsc_aux",
    "tsc_adjust": "cpu/msr_tsc_adjust.env.tsc_adjust",
    "tsc_deadline": "cpu/msr_tscdeadline.env.tsc_deadline",
    "pat": "env.pat",
    "misc_enable": "cpu/msr_ia32_misc_enable.env.msr_ia32_misc_enable",
    "feature_control": "cpu/feature_control.env.msr_ia32_feature_control",
    "spec_ctrl": "cpu/spec_ctrl.env.spec_ctrl",
    "virt_ssbd": "cpu/virt_ssbd.env.virt_ssbd",
    "smbase": "env.smbase",
    "smi_count": "cpu/msr_smi_count.env.msr_smi_count",
    "vm_hsave_pa": "env.vm_hsave",
    "mcg_cap": "env.mcg_cap",
    "mcg_status": "env.mcg_status",
    "mcg_ctl": "env.mcg_ctl",
    "xcr0": "env.xcr0",
    "xss": "cpu/xss.env.xss",
    "pkru": "cpu/pkru.env.pkru",
    "pkrs": "cpu/pkrs.env.pkrs",
    "kvm_system_time": "env.system_time_msr",
    "kvm_wall_clock": "env.wall_clock_msr",
    "kvm_poll_control": "cpu/poll_control_msr.env.poll_control_msr",
    "mtrr_def_type": "env.mtrr_deftype",
}
"""Model-specific registers, by the field that keeps them."""

_MTRR_FIXED = (
    "mtrr_fix64k_00000",
    "mtrr_fix16k_80000",
    "mtrr_fix16k_a0000",
    *(f"mtrr_fix4k_{address:05x}" for address in range(0xC0000, 0x100000, 0x8000)),
)
_MTRR_VARIABLE = 8


def read(fields: Fields, bits: int) -> None:
    """Every register that the section holds; ``bits`` is 32 or 64."""
    prefix = "r" if bits == 64 else "e"
    names = [f"{prefix}{name}" for name in _LEGACY]
    if bits == 64:
        names += numbered("r", 8, 8)
    order = {name: place for place, name in enumerate(names)}
    values = fields.array("env.regs", len(names))
    shown = [f"{prefix}{name}" for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")]
    if values:
        for name in (*shown, *names[8:]):
            fields.put(name, *values[order[name]])
    fields.take(f"{prefix}ip", "env.eip")
    eflags = fields.integer("env.eflags")
    fields.put("eflags", eflags, 32, flags=EFLAGS)
    _segments(fields)
    for number in (0, 2, 3, 4):
        flags = {0: _CR0, 4: _CR4}.get(number)
        fields.take(f"cr{number}", f"env.cr[{number}]", group=Group.CONTROL, flags=flags)
    fields.take("efer", "env.efer", group=Group.CONTROL, flags=_EFER)
    debug = fields.array("env.dr", 8)
    for number in (0, 1, 2, 3, 6, 7) if debug else ():
        fields.put(f"dr{number}", *debug[number], Group.DEBUG)
    _float(fields)
    _vectors(fields)
    _model_specific(fields)


def _segments(fields: Fields) -> None:
    places = {name: f"env.segs[{number}]" for number, name in enumerate(_SEGMENTS)}
    for name in ("cs", "ss", "ds", "es", "fs", "gs"):
        _descriptor(fields, name, places[name])
    _descriptor(fields, "ldtr", "env.ldt")
    _descriptor(fields, "tr", "env.tr")
    for name, path in (("gdtr", "env.gdt"), ("idtr", "env.idt")):
        fields.take(f"{name}_base", f"{path}.base", group=Group.SEGMENT)
        fields.take(f"{name}_limit", f"{path}.limit", group=Group.SEGMENT)


def _descriptor(fields: Fields, name: str, path: str) -> None:
    fields.take(name, f"{path}.selector", group=Group.SEGMENT)
    for part in ("base", "limit", "flags"):
        fields.take(f"{name}_{part}", f"{path}.{part}", group=Group.SEGMENT)


def _float(fields: Fields) -> None:
    if fields.integer("env.fpregs_format_vmstate") == 0:
        for number in range(8):
            _extended(fields, number)
    fields.take("fctrl", "env.fpuc", group=Group.FLOAT)
    fields.take("fstat", "env.fpus_vmstate", group=Group.FLOAT)
    fields.put("ftw", fields.integer("env.fptag_vmstate"), 8, Group.FLOAT)
    for name, field in (("fop", "fpop"), ("fioff", "fpip"), ("fooff", "fpdp")):
        fields.take(name, f"cpu/fpop_ip_dp.env.{field}", group=Group.FLOAT)


def _extended(fields: Fields, number: int) -> None:
    """A register of 80 bits: 64 of mantissa below 16 of sign and exponent.

    The wire has the mantissa first, in two fields since 2.4 and in one opaque
    element of ten bytes before.
    """
    mantissa = fields.integer(f"env.fpregs[{number}].tmp.tmp_mant")
    exponent = fields.integer(f"env.fpregs[{number}].tmp.tmp_exp")
    old = fields.element(f"env.fpregs[{number}]", f"env.fpregs[0][{number}]")
    if mantissa is not None and exponent is not None:
        fields.put(f"st{number}", exponent << 64 | mantissa, 80, Group.FLOAT)
    elif old is not None and old[1] == 80:
        fields.put(f"st{number}", (old[0] & 0xFFFF) << 64 | old[0] >> 16, 80, Group.FLOAT)


def _quadwords(fields: Fields, paths: tuple[str, ...], first: int, count: int) -> int | None:
    """Neighbouring 64-bit parts of a vector register, the lowest first.

    Its element is ``_q_ZMMReg`` since 2.6, ``_q`` before.
    """
    for path in paths:
        for member in ("_q_ZMMReg", "_q"):
            parts = [fields.integer(f"{path}.{member}[{n}]") for n in range(first, first + count)]
            if None not in parts:
                return sum(part << 64 * n for n, part in enumerate(parts) if part is not None)
    return None


def _vectors(fields: Fields) -> None:
    """SSE, then AVX where the upper halves are there, then AVX-512.

    One field name stands for several: ``env.xmm_regs`` is the lower half, its
    second occurrence the upper; a subsection has the rest.
    """
    fields.take("mxcsr", "env.mxcsr", group=Group.FLOAT, flags=_MXCSR)
    for number in range(16):
        lower = _quadwords(fields, (f"env.xmm_regs[0][{number}]", f"env.xmm_regs[{number}]"), 0, 2)
        if lower is None:
            break
        fields.put(f"xmm{number}", lower, 128, Group.VECTOR)
        upper = _quadwords(fields, (f"env.xmm_regs[1][{number}]", f"env.ymmh_regs[{number}]"), 2, 2)
        if upper is None:
            continue
        fields.put(f"ymm{number}", upper << 128 | lower, 256, Group.VECTOR)
        highest = _avx512_part(fields, 0, number, 4, 4)
        if highest is not None:
            whole = highest << 256 | upper << 128 | lower
            fields.put(f"zmm{number}", whole, 512, Group.VECTOR)
    for number in range(16):
        fields.put(f"zmm{number + 16}", _avx512_part(fields, 1, number, 0, 8), 512, Group.VECTOR)
    fields.take_array(numbered("k", 8), "cpu/avx512.env.opmask_regs", Group.VECTOR)


def _avx512_part(fields: Fields, which: int, number: int, first: int, count: int) -> int | None:
    """From ``cpu/avx512``: the upper halves of zmm0-15 (0), then zmm16-31 (1)."""
    place = number if which == 0 else number + 16
    paths = (
        f"cpu/avx512.env.xmm_regs[{which}][{number}]",
        f"cpu/avx512.env.xmm_regs[{which}][{place}]",
    )
    return _quadwords(fields, paths, first, count)


def _model_specific(fields: Fields) -> None:
    fields.take_all(_MSRS, Group.SYSTEM)
    for name in ("sysenter_esp", "sysenter_eip"):
        # Until 2.3 the description counts an unused predecessor as element 0.
        fields.take(name, f"env.{name}", f"env.{name}[1]", group=Group.SYSTEM)
    fields.take_array(_MTRR_FIXED, "env.mtrr_fixed", Group.SYSTEM)
    for number in range(_MTRR_VARIABLE):
        for name, field in (("base", "base"), ("mask", "mask")):
            path = f"env.mtrr_var[{number}].{field}"
            fields.take(f"mtrr_phys{name}{number}", path, group=Group.SYSTEM)

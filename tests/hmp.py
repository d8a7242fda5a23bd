"""What QEMU's monitor said of a guest's processors (``info registers -a``), by gdb's names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

__all__ = ["Said", "registers_said"]

Said = dict[str, tuple[int, int]]
"""Name to (value, bits printed): the monitor cuts registers to the current mode's width."""

_Found = Iterator[tuple[str, str]]
_LEGACY = frozenset(("ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "ip"))


def registers_said(architecture: str, text: str) -> list[Said]:
    """One dict for each processor, in the monitor's order."""
    parts = re.split(r"^CPU#\d+\s*$", text.replace("\r", ""), flags=re.MULTILINE)
    parse = _PARSERS[architecture]
    return [
        {name: (int(digits, 16), 4 * len(digits)) for name, digits in parse(part)}
        for part in parts[1:]
    ]


def _x86(prefix: str) -> Callable[[str], _Found]:
    def parse(text: str) -> _Found:
        for name, digits in re.findall(r"\b([ER][A-Z]{2}|R\d+)\s*=([0-9a-f]{8,16})\b", text):
            name = name.lower()
            if name[1:] in _LEGACY:
                yield prefix + name[1:], digits
            else:
                yield ("eflags" if name in ("efl", "rfl") else name), digits
        segment = r"^(ES|CS|SS|DS|FS|GS|LDT|TR) ?=(\w+) (\w+) (\w+) (\w+)"
        for name, selector, base, limit, _ in re.findall(segment, text, re.MULTILINE):
            name = {"LDT": "ldtr"}.get(name, name.lower())
            yield from ((name, selector), (f"{name}_base", base), (f"{name}_limit", limit))
        for name, base, limit in re.findall(r"^([GI]DT)=\s+(\w+) (\w+)", text, re.MULTILINE):
            yield f"{name.lower()}r_base", base
            yield f"{name.lower()}r_limit", limit
        for name, digits in re.findall(r"\b(CR\d|DR\d|EFER|MXCSR)=(\w+)", text):
            yield name.lower(), digits
        for name, digits in re.findall(r"\b(FCW|FSW|FTW)=(\w+)", text):
            yield {"FCW": "fctrl", "FSW": "fstat", "FTW": "ftw"}[name], digits
        for number, mantissa, exponent in re.findall(r"FPR(\d)=(\w{16}) (\w{4})", text):
            yield f"st{number}", exponent + mantissa
        for number, high, low in re.findall(r"XMM(\d\d)=(\w{16}) (\w{16})", text):
            yield f"xmm{int(number)}", high + low
        for number, digits in re.findall(r"XMM(\d\d)=(\w{32})\b", text):
            yield f"xmm{int(number)}", digits

    return parse


def _aarch64(text: str) -> _Found:
    for number, digits in re.findall(r"\bX(\d\d)=(\w{16})", text):
        yield f"x{int(number)}", digits
    for name, digits in re.findall(r"\b(PC|SP|FPCR|FPSR)=(\w+)", text):
        yield name.lower(), digits
    yield "cpsr", re.findall(r"PSTATE=(\w+)", text)[0]
    for number, high, low in re.findall(r"\bQ(\d\d)=(\w{16}):(\w{16})", text):
        yield f"v{int(number)}", high + low


def _arm(text: str) -> _Found:
    names = {13: "sp", 14: "lr", 15: "pc"}
    for number, digits in re.findall(r"\bR(\d\d)=(\w{8})", text):
        yield names.get(int(number), f"r{int(number)}"), digits
    yield "cpsr", re.findall(r"PSR=(\w+)", text)[0]
    for number, digits in re.findall(r"\bd(\d\d)=(\w{16})", text):
        yield f"d{int(number)}", digits


def _ppc(text: str) -> _Found:
    common = "NIP|LR|CTR|XER|MSR|CR|FPSCR|HID0|SRR[01]|PVR|VRSAVE|SPRG[0-7]|SDR1|DAR|DSISR"
    others = "HSRR[01]|CFAR|LPCR|PTCR|M?CSRR[01]|TCR|TSR|ESR|PIR|DECAR|IVPR"
    for name, digits in re.findall(rf"\b({common}|{others}) +([0-9a-f]+)", text):
        yield {"NIP": "pc"}.get(name, name.lower()), digits
    for kind, prefix in (("GPR", "r"), ("FPR", "f")):
        for first, row in re.findall(rf"{kind}(\d\d)((?: \w{{16}}){{4}})", text):
            for place, digits in enumerate(row.split()):
                yield f"{prefix}{int(first) + place}", digits


def _s390x(text: str) -> _Found:
    mask, address = re.findall(r"PSW=mask (\w+) addr (\w+)", text)[0]
    yield from (("pswm", mask), ("pswa", address))
    for kind, prefix in (("R", "r"), ("C", "cr"), ("V", "v")):
        for number, digits in re.findall(rf"\b{kind}(\d\d)=(\w+)", text):
            yield f"{prefix}{int(number)}", digits


def _riscv(text: str) -> _Found:
    for name, digits in re.findall(r"^ ([a-z]\w+) +(\w{16})$", text, re.MULTILINE):
        yield name, digits
    for name, digits in re.findall(r"\b[xf]\d+/(\w+) +(\w{16})", text):
        yield {"s0": "fp"}.get(name, name), digits


def _mips(text: str) -> _Found:
    for name, digits in re.findall(r"\b(pc|HI|LO)=0x(\w+)", text):
        yield name.lower(), digits
    rows = " ".join(re.findall(r"GPR\d\d: (.*)", text))
    for name, digits in re.findall(r"(\w\w) (\w+)", rows):
        yield {"r0": "zero"}.get(name, name), digits
    names = {"Status": "sr"}
    for name, digits in re.findall(r"(Status|Cause|EPC|Config\d|LLAddr) +0x(\w+)", text):
        yield names.get(name, name.lower()), digits


def _sparc(text: str) -> _Found:
    for name, digits in re.findall(r"\b(npc|pc|psr|wim|fsr|y|tbr): (\w+)", text):
        yield name, digits
    for name, first, row in re.findall(r"^%([goli])(\d)-\d: (.*)$", text, re.MULTILINE):
        for place, digits in enumerate(row.split()):
            yield f"{name}{int(first) + place}", digits
    for first, row in re.findall(r"^%f(\d\d):  (.*)$", text, re.MULTILINE):
        for place, digits in enumerate(row.split()):
            yield f"d{int(first) + 2 * place}", digits
    state = (
        r"\b(pstate|asi|tl|gl|hpstate|htba|cansave|canrestore|otherwin|wstate|cleanwin|cwp|fprs)"
    )
    for name, digits in re.findall(rf"{state}: (\w+)", text):
        yield name, digits


def _m68k(text: str) -> _Found:
    names = {"A6": "fp", "A7": "sp"}
    for name, digits in re.findall(r"\b([DA]\d) = (\w{8})", text):
        yield names.get(name, name.lower()), digits
    for name, digits in re.findall(r"\b(PC|FPSR|FPCR) = +(\w+)", text):
        yield {"FPSR": "fpstatus", "FPCR": "fpcontrol"}.get(name, name.lower()), digits
    yield "ps", re.findall(r"SR = (\w+)", text)[0]
    for number, exponent, mantissa in re.findall(r"\bF(\d) = (\w{4}) (\w{16})", text):
        yield f"fp{number}", exponent + mantissa
    yield "vbr", re.findall(r"VBR = 0x(\w+)", text)[0]
    for name, digits in re.findall(r"A7\((MSP|USP|ISP)\) = (\w{8})", text):
        yield name.lower(), digits


def _alpha(text: str) -> _Found:
    names = {"lock_a": "lock_addr", "lock_v": "lock_value"}
    for name, digits in re.findall(r"\b([a-z_]+\d*) +(\w{16})", text):
        yield names.get(name, name), digits
    yield "pc", re.findall(r"\bPC +(\w{16})", text)[0]
    yield "ps", re.findall(r"\bPS +(\w+)", text)[0]


def _hppa(text: str) -> _Found:
    for name, digits in re.findall(r"\b(IA_F|IA_B) \w{8}(\w{8})", text):
        yield {"IA_F": "pcoqh", "IA_B": "pcoqt"}[name], digits
    for name, digits in re.findall(r"\b(IIR|PSW) +(\w{8})", text):
        yield name.lower(), digits
    for kind, prefix in (("GR", "r"), ("SR", "sr")):
        for number, digits in re.findall(rf"\b{kind}(\d\d) (\w{{8}})", text):
            yield f"{prefix}{int(number)}", digits


def _or1k(text: str) -> _Found:
    yield "npc", re.findall(r"\bPC=(\w+)", text)[0]
    for number, digits in re.findall(r"\bR(\d\d)=(\w+)", text):
        yield f"r{int(number)}", digits


_PARSERS: dict[str, Callable[[str], _Found]] = {
    "x86_64": _x86("r"),
    "i386": _x86("e"),
    "aarch64": _aarch64,
    "arm": _arm,
    "ppc": _ppc,
    "ppc64": _ppc,
    "s390x": _s390x,
    "riscv64": _riscv,
    "mips": _mips,
    "mips64": _mips,
    "sparc": _sparc,
    "sparc64": _sparc,
    "m68k": _m68k,
    "alpha": _alpha,
    "hppa": _hppa,
    "or1k": _or1k,
}

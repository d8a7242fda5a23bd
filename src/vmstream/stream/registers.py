"""CPU registers out of the described ``cpu`` state, by the names that gdb has for them.

Sources: QEMU ``target/i386/machine.c``, ``target/arm/machine.c``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vmstream.errors import Unsupported

if TYPE_CHECKING:
    from vmstream.stream.devices import Device
    from vmstream.stream.stream import Stream

__all__ = ["Registers", "architecture", "registers"]

Registers = dict[str, int]

_X86 = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
_X86_32 = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
_SEGMENTS = ["es", "cs", "ss", "ds", "fs", "gs"]
_LONG_MODE = 1 << 10
"""EFER.LMA."""


def architecture(stream: Stream) -> str:
    """What the guest's processor runs: ``x86_64``, ``i386``, ``aarch64`` or ``arm``.

    Raises:
        Unsupported: the stream has no processor state that is known here.
    """
    return _kind(_processors(stream)[0])


def registers(stream: Stream) -> dict[str, Registers]:
    """Registers of every vCPU: ``{"cpu:0": {"rip": 0xfff0, ...}}``.

    Values are unsigned, as wide as the register; vector registers have up to 256 bits.

    Raises:
        Unsupported: the stream has no processor state that is known here.
    """
    return {cpu.key: _READERS[_kind(cpu)](cpu) for cpu in _processors(stream)}


def _processors(stream: Stream) -> list[Device]:
    found = [device for device in stream.devices if device.section.name == "cpu"]
    if not found:
        raise Unsupported("the stream has no 'cpu' section to read registers from")
    return sorted(found, key=lambda device: device.section.instance_id)


def _kind(cpu: Device) -> str:
    state = cpu.decoded.value if cpu.decoded is not None else None
    if state is None:
        raise Unsupported(
            "nothing describes the processor's state; --describe-with may", section="cpu"
        )
    if "env.xregs" in state:
        # PSTATE.nRW is clear in AArch64 state; a CPU without it has no such bit set.
        return "arm" if _be(state.at("cpsr")) & 0x10 else "aarch64"
    if "env.eip" in state:
        wide = "env.efer" in state and state["env.efer"] & _LONG_MODE
        return "x86_64" if wide else "i386"
    raise Unsupported("registers of this processor are not known here", section="cpu")


def _be(node: Any) -> int:
    return int.from_bytes(node.raw, "big")


def _x86(cpu: Device) -> Registers:
    general = [int(value) for value in cpu["env.regs"]]
    wide = _kind(cpu) == "x86_64"
    named = dict(zip(_X86 if wide else _X86_32, general, strict=False))
    named["rip" if wide else "eip"] = cpu["env.eip"]
    named["eflags"] = cpu["env.eflags"]
    for number, name in enumerate(_SEGMENTS):
        named |= _segment(name, cpu[f"env.segs[{number}]"])
    for name, path in (
        ("ldt", "env.ldt"),
        ("tr", "env.tr"),
        ("gdt", "env.gdt"),
        ("idt", "env.idt"),
    ):
        named |= _segment(name, cpu[path])
    for number in (0, 2, 3, 4):
        named[f"cr{number}"] = cpu[f"env.cr[{number}]"]
    named |= {f"dr{number}": int(value) for number, value in enumerate(cpu["env.dr"])}
    named |= _x86_float(cpu)
    named |= _x86_msrs(cpu)
    return named


def _segment(name: str, segment: Any) -> Registers:
    return {
        name: segment["selector"],
        f"{name}_base": segment["base"],
        f"{name}_limit": segment["limit"],
        f"{name}_flags": segment["flags"],
    }


def _x86_float(cpu: Device) -> Registers:
    named = {
        "fctrl": cpu["env.fpuc"],
        "fstat": cpu["env.fpus_vmstate"],
        "ftag": cpu["env.fptag_vmstate"],
        "mxcsr": cpu["env.mxcsr"],
    }
    assert cpu.decoded is not None
    state = cpu.decoded.value
    for number in range(8):
        path = f"env.fpregs[{number}]" if "env.fpregs" in state else f"env.fpregs[0][{number}]"
        if path in state:
            raw = _be(state.at(path))  # be64 mantissa, be16 sign and exponent
            named[f"st{number}"] = (raw & 0xFFFF) << 64 | raw >> 16
    for number, low in enumerate(_items(state, "env.xmm_regs[0]")):
        words = [_be(member) for member in low.members.values()]
        named[f"xmm{number}"] = words[0] | words[1] << 64
    for number, high in enumerate(_items(state, "env.xmm_regs[1]")):
        words = [_be(member) for member in high.members.values()]
        named[f"ymm{number}h"] = words[0] | words[1] << 64
    return named


def _items(state: Any, path: str) -> list[Any]:
    return list(state.at(path)) if path in state else []


_MSRS = {
    "efer": "env.efer",
    "star": "env.star",
    "lstar": "env.lstar",
    "cstar": "env.cstar",
    "fmask": "env.fmask",
    "k_gs_base": "env.kernelgsbase",
    "sysenter_cs": "env.sysenter_cs",
    "tsc": "env.tsc",
    "pat": "env.pat",
    "tsc_aux": "env.tsc_aux",
    "smbase": "env.smbase",
    "xcr0": "env.xcr0",
}


def _x86_msrs(cpu: Device) -> Registers:
    assert cpu.decoded is not None
    state = cpu.decoded.value
    return {name: state[path] for name, path in _MSRS.items() if path in state}


def _aarch64(cpu: Device) -> Registers:
    values = [int(value) for value in cpu["env.xregs"]]
    assert cpu.decoded is not None
    named = {f"x{number}": values[number] for number in range(31)}
    named |= {"sp": values[31], "pc": cpu["env.pc"]}
    named["pstate"] = _be(cpu.decoded.value.at("cpsr"))
    for name, path in (("elr_el", "env.elr_el"), ("sp_el", "env.sp_el")):
        named |= {f"{name}{n}": int(value) for n, value in enumerate(cpu[path])}
    return named


def _arm(cpu: Device) -> Registers:
    values = [int(value) for value in cpu["env.regs"]]
    assert cpu.decoded is not None
    names = [*(f"r{number}" for number in range(13)), "sp", "lr", "pc"]
    named = dict(zip(names, values, strict=True))
    named["cpsr"] = _be(cpu.decoded.value.at("cpsr"))
    return named


_READERS: dict[str, Callable[[Device], Registers]] = {
    "x86_64": _x86,
    "i386": _x86,
    "aarch64": _aarch64,
    "arm": _arm,
}

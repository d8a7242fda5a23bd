"""Notes of ELF cores: the registers of each vCPU, and what the guest says of itself.

Layouts: ``struct elf_prstatus`` of Linux as QEMU's ``target/*/arch_dump.c`` (7.2)
fills it. Register names are gdb's; of alternatives like ``pstate|cpsr`` the first
that is there is taken.

============ ====================================================================
x86_64       rax rbx rcx rdx rsi rdi rbp rsp r8 .. r15 rip eflags, the selectors
             cs ds es fs gs ss ldt tr, ``cs_base`` ``cs_limit`` ``cs_flags`` and
             so on for each of them and for gdt and idt, fs_base, gs_base,
             k_gs_base, cr0 cr2 cr3 cr4
i386         the same with eax .. edi, ebp, esp, eip
aarch64      x0 .. x30 sp pc pstate|cpsr, v0 .. v31 (128 bits), fpsr fpcr
arm          r0 .. r12 sp lr pc cpsr, d0 .. d31, fpscr
ppc64        r0 .. r31 pc msr orig_r3 ctr lr xer cr trap, f0 .. f31 fpscr,
             vr0 .. vr31 (128 bits), vscr, vsr0 .. vsr31 (their low 64 bits)
s390x        pswm pswa r0 .. r15 acr0 .. acr15, fpc f0 .. f15, cr0 .. cr15,
             prefix timer todcmp todpreg, v0 .. v31 (128 bits), gsc0 .. gsc3
riscv64      pc x1 .. x31 (or their ABI names)
riscv32      likewise
============ ====================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

__all__ = ["ARCHITECTURES", "Architecture", "guest_note", "register_notes"]

NT_PRSTATUS, NT_FPREGSET = 1, 2

Item = tuple[str, int]
"""A register and its bytes; an empty name is padding."""


class Note(msgspec.Struct, frozen=True):
    """One note for each vCPU."""

    name: str
    type: int
    items: tuple[Item, ...]


class Architecture(msgspec.Struct, frozen=True):
    """How the cores of an architecture look."""

    machine: int
    """``e_machine``."""
    bits: int
    notes: tuple[Note, ...]
    big_endian: bool = False
    qemu_note: bool = False
    """Each vCPU has a note ``QEMU`` with what NT_PRSTATUS does not hold."""


def _each(names: str, size: int) -> tuple[Item, ...]:
    """``"x0:31 sp"`` is x0 to x30 and sp, each of ``size`` bytes."""
    items: list[Item] = []
    for name in names.split():
        stem, _, stop = name.partition(":")
        if not stop:
            items.append((stem, size))
            continue
        letters = stem.rstrip("0123456789")
        first = int(stem[len(letters) :])
        items += [(f"{letters}{number}", size) for number in range(first, int(stop))]
    return tuple(items)


def _pad(size: int) -> tuple[Item, ...]:
    return (("", size),)


def _prstatus(bits: int, registers: tuple[Item, ...], tail: tuple[Item, ...]) -> Note:
    """``struct elf_prstatus``: of what stands around the registers only ``pr_pid`` is filled."""
    before, between = (32, 76) if bits == 64 else (24, 44)
    items = (*_pad(before), ("pid", 4), *_pad(between), *registers, *tail)
    return Note("CORE", NT_PRSTATUS, items)


_I386_SELECTORS = tuple((name, 4) for name in ("ds", "es", "fs", "gs"))
_RISCV_ABI = [name for name, _ in _each("ra sp gp tp t0:3 fp s1 a0:8 s2:12 t3:7", 0)]


def _riscv(size: int) -> tuple[Item, ...]:
    names = [f"x{number}|{abi}" for number, abi in enumerate(_RISCV_ABI, 1)]
    return (("pc", size), *((name, size) for name in names))


ARCHITECTURES: Mapping[str, Architecture] = {
    "x86_64": Architecture(
        62,
        64,
        (
            _prstatus(
                64,
                _each(
                    "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs "
                    "eflags rsp ss fs_base gs_base ds es fs gs",
                    8,
                ),
                _pad(8),
            ),
        ),
        qemu_note=True,
    ),
    "i386": Architecture(
        3,
        32,
        (
            _prstatus(
                32,
                (
                    *_each("ebx ecx edx esi edi ebp eax", 4),
                    *_I386_SELECTORS,
                    *_each("orig_eax eip cs eflags esp ss", 4),
                ),
                _pad(4),
            ),
        ),
        qemu_note=True,
    ),
    "aarch64": Architecture(
        183,
        64,
        (
            _prstatus(64, _each("x0:31 sp pc pstate|cpsr", 8), (("fpvalid", 4), *_pad(4))),
            Note("CORE", NT_FPREGSET, (*_each("v0:32", 16), *_each("fpsr fpcr", 4), *_pad(8))),
        ),
    ),
    "arm": Architecture(
        40,
        32,
        (
            _prstatus(32, (*_each("r0:13 sp lr pc cpsr", 4), *_pad(4)), (("fpvalid", 4),)),
            Note("LINUX", 0x400, (*_each("d0:32", 8), ("fpscr", 4))),
        ),
    ),
    "ppc64": Architecture(
        21,
        64,
        (
            _prstatus(
                64,
                _each("r0:32 pc msr orig_r3 ctr lr xer cr softe trap dar dsisr result", 8),
                _pad(40),
            ),
            Note("CORE", NT_FPREGSET, _each("f0:32 fpscr", 8)),
            Note("CORE", 0x100, _each("vr0:32 vscr vrsave", 16)),
            Note("CORE", 0x102, _each("vsr0:32", 8)),
            Note("CORE", 0x101, (*_pad(128), ("spe_acc", 8), ("spe_fscr", 4))),
        ),
        big_endian=True,
    ),
    "s390x": Architecture(
        22,
        64,
        (
            _prstatus(64, (*_each("pswm pswa r0:16", 8), *_each("acr0:16", 4)), _pad(16)),
            Note("CORE", NT_FPREGSET, (("fpc", 4), *_pad(4), *_each("f0:16", 8))),
            Note("LINUX", 0x305, (("prefix", 4),)),
            Note("LINUX", 0x304, _each("cr0:16", 8)),
            Note("LINUX", 0x301, (("timer", 8),)),
            Note("LINUX", 0x302, (("todcmp", 8),)),
            Note("LINUX", 0x303, (("todpreg", 4),)),
            Note("LINUX", 0x309, _each("v0:16", 8)),
            Note("LINUX", 0x30A, _each("v16:32", 16)),
            Note("LINUX", 0x30B, _each("gsc0:4", 8)),
        ),
        big_endian=True,
    ),
    "riscv64": Architecture(243, 64, (_prstatus(64, _riscv(8), _pad(8)),)),
    "riscv32": Architecture(243, 32, (_prstatus(32, _riscv(4), _pad(4)),)),
}
"""By QEMU's name of the target."""

_QEMU_VERSION = 1
_SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "ldt", "tr", "gdt", "idt")
_QEMU_STATE: tuple[Item, ...] = (
    *_each("version size", 4),
    *_each("rax|eax rbx|ebx rcx|ecx rdx|edx rsi|esi rdi|edi rsp|esp rbp|ebp", 8),
    *_each("r8:16 rip|eip eflags", 8),
    *(
        item
        for name in _SEGMENTS
        for item in (*_each(f"{name} {name}_limit {name}_flags", 4), *_pad(4), (f"{name}_base", 8))
    ),
    *_each("cr0 cr1 cr2 cr3 cr4 k_gs_base", 8),
)
"""``QEMUCPUState`` of ``target/i386/arch_dump.c``; ``k_gs_base`` since 3.0."""


def register_notes(
    architecture: Architecture, order: str, cpus: Sequence[Mapping[str, int]]
) -> bytes:
    """The notes of all vCPUs, in QEMU's order; ``order`` is ``<`` or ``>``."""
    notes = []
    for number, registers in enumerate(cpus, 1):
        given = {**registers, "pid": number, "fpvalid": 1}
        notes += [
            _note(order, note.name, note.type, _packed(order, note.items, given))
            for note in architecture.notes
        ]
    if architecture.qemu_note:
        size = sum(size for _, size in _QEMU_STATE)
        for registers in cpus:
            given = {**registers, "version": _QEMU_VERSION, "size": size}
            notes.append(_note(order, "QEMU", 0, _packed(order, _QEMU_STATE, given)))
    return b"".join(notes)


def guest_note(order: str, vmcoreinfo: bytes) -> bytes:
    """The guest's own note."""
    return _note(order, "VMCOREINFO", 0, vmcoreinfo)


def _note(order: str, name: str, kind: int, content: bytes) -> bytes:
    """Header, name and content, the latter two padded to 4 bytes (``Elf32_Nhdr``)."""
    label = name.encode() + b"\0"
    head = b"".join(value.to_bytes(4, _endian(order)) for value in (len(label), len(content), kind))
    return head + label + bytes(-len(label) % 4) + content + bytes(-len(content) % 4)


def _packed(order: str, items: Sequence[Item], given: Mapping[str, int]) -> bytes:
    """Registers side by side, cut to their sizes."""
    endian = _endian(order)
    parts = []
    for names, size in items:
        value = next((given[name] for name in names.split("|") if name in given), 0)
        parts.append((value & ((1 << 8 * size) - 1)).to_bytes(size, endian))
    return b"".join(parts)


def _endian(order: str) -> Literal["little", "big"]:
    return "little" if order == "<" else "big"

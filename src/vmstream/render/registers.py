"""``registers`` as gdb prints them."""

from __future__ import annotations

from collections.abc import Mapping

from vmstream.render.text import console
from vmstream.vmstate.registers import Group, Processor, Register

__all__ = ["render"]

_USUAL = (Group.GENERAL, Group.SEGMENT, Group.CONTROL)
_ADDRESSES = ("rip", "eip", "pc", "nip")


def render(processors: Mapping[str, Processor], *, everything: bool) -> None:
    """Print name, hex, and flags or decimal value of each register, group by group."""
    out = console()
    for key, processor in processors.items():
        out.print(f"{key} {processor.architecture}", style="bold")
        for group in Group if everything else _USUAL:
            for register in processor.registers:
                if register.group == group:
                    out.print(f"{register.name:<14} {register.value:<#20x} {_natural(register)}")


def _natural(register: Register) -> str:
    """Flags by name, addresses as they are, other numbers in decimal with their sign."""
    if register.flags is not None:
        return f"[ {' '.join(register.flags)} ]"
    if register.name in _ADDRESSES or register.bits > 64:
        return ""
    sign = 1 << (register.bits - 1)
    return str(register.value - 2 * sign if register.value & sign else register.value)

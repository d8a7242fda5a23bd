"""``registers`` as gdb prints them."""

from __future__ import annotations

from collections.abc import Mapping

from vmstream.render.text import console

__all__ = ["render"]

_FLAGS = ["CF", "?", "PF", "?", "AF", "?", "ZF", "SF", "TF", "IF", "DF", "OF"]
_SIGNED = 1 << 63


def render(cpus: Mapping[str, Mapping[str, int]]) -> None:
    """Print name, hex and decimal value of each register."""
    out = console()
    for key, named in cpus.items():
        out.print(f"{key}", style="bold")
        for name, value in named.items():
            out.print(f"{name:<14} {value:<#20x} {_natural(name, value)}")


def _natural(name: str, value: int) -> str:
    """Flags by name, addresses as they are, other numbers in decimal."""
    if name == "eflags":
        shown = [flag for bit, flag in enumerate(_FLAGS) if value >> bit & 1 and flag != "?"]
        return f"[ {' '.join(shown)} ]"
    if name in ("rip", "eip", "pc") or value >= 1 << 64:
        return ""
    return str(value - (1 << 64) if value & _SIGNED else value)

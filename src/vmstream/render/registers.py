"""``registers`` as gdb's ``info registers`` prints them, or as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.text import Text

from vmstream.render.text import console, printable
from vmstream.tools.registers import RegistersReport
from vmstream.vmstate.registers import Group, Processor, Register

__all__ = ["plain", "render"]

_NAME, _HEX = 15, 19
"""Columns, as wide as gdb's."""
_USUAL = (Group.GENERAL, Group.SEGMENT, Group.CONTROL)
"""Groups shown unless all are asked for."""
_ADDRESSES = frozenset(
    ("rip", "eip", "rsp", "esp", "rbp", "ebp", "pc", "sp", "npc", "pswa", "pcoqh", "pcoqt")
)
"""Registers whose natural value is an address."""
_WIDEST_NUMBER = 64
"""Bits of a register that is a number in JSON; wider ones are strings of hex."""


def plain(report: RegistersReport) -> dict[str, Any]:
    """``{"cpu:0": {"rip": 4096, ...}, ...}``, every register whatever is shown on a terminal.

    A register of at most 64 bits is a number without sign, a wider one a string
    (``"0x3f80..."``), by its width and not by its value. What is wrong with the
    stream stands under ``""``.
    """
    cpus: dict[str, Any] = {
        key: {register.name: _plain(register) for register in processor.registers}
        for key, processor in report.processors.items()
    }
    if report.sound:
        return cpus
    faults = {
        "complete": report.complete,
        "faults": report.faults,
        "missing": [f"cpu:{number}" for number in report.missing],
    }
    return {**cpus, "": faults}


def _plain(register: Register) -> int | str:
    return register.value if register.bits <= _WIDEST_NUMBER else _hex(register)


def render(report: RegistersReport, *, everything: bool) -> None:
    """Print each processor's registers by group, what is wrong first."""
    out = console()
    for number in report.missing:
        out.print(Text.assemble(("! ", "bold yellow"), f"there is no cpu:{number}"))
    for fault in report.faults:
        at = f"offset {fault.offset:#x}: " if fault.offset is not None else ""
        out.print(Text.assemble(("! ", "bold yellow"), printable(f"{at}{fault.message}")))
    for key, processor in report.processors.items():
        out.print(Text.assemble((printable(key), "bold"), f" {processor.architecture}"))
        for line in _lines(processor, everything):
            out.print(line)


def _lines(processor: Processor, everything: bool) -> Iterator[Text]:
    hidden = 0
    for group in Group:
        members = [register for register in processor.registers if register.group == group]
        if not members:
            continue
        if not everything and group not in _USUAL:
            hidden += len(members)
            continue
        yield Text(f"{group}:", "dim")
        for register in members:
            yield _line(register)
    if hidden:
        yield Text(f"{hidden} more with --all", "dim")


def _line(register: Register) -> Text:
    return Text.assemble(
        (f"{register.name:<{_NAME - 1}} ", "cyan"),
        f"{_short(register):<{_HEX - 1}} ",
        _natural(register),
    )


def _short(register: Register) -> str:
    return f"{register.value:#x}" if register.bits <= _WIDEST_NUMBER else _hex(register)


def _hex(register: Register) -> str:
    """In hex, with every digit of its width."""
    return f"{register.value:#0{-(-register.bits // 4) + 2}x}"


def _natural(register: Register) -> str:
    """The set flags, an address, or the number in decimal, signed where it is a general one."""
    if register.flags is not None:
        return " ".join(("[", *register.flags, "]"))
    if register.bits > _WIDEST_NUMBER:
        return ""
    if register.name in _ADDRESSES or register.name.endswith("_base"):
        return f"{register.value:#x}"
    value = register.value
    if register.group == Group.GENERAL and value >> register.bits - 1:
        value -= 1 << register.bits
    return str(value)

"""``show`` as a tree on a terminal."""

from __future__ import annotations

from typing import Any

from rich.text import Text
from rich.tree import Tree

from vmstream.render.text import console, count, printable, size
from vmstream.tools.show import DeviceState, ShowReport
from vmstream.vmstate.values import Array, List, Scalar, Struct, Value

__all__ = ["render"]

_ITEMS = 8
"""Elements of an array shown before it is abbreviated."""
_BYTES = 16
"""Bytes of a buffer shown before it is abbreviated."""


def render(report: ShowReport, *, raw: bool, full: bool) -> None:
    """Print a tree for each device; what is wrong first."""
    out = console()
    for name in report.missing:
        out.print(Text.assemble(("! ", "bold yellow"), f"nothing here is called {printable(name)}"))
    for fault in report.faults:
        at = f"offset {fault.offset:#x}: " if fault.offset is not None else ""
        out.print(Text.assemble(("! ", "bold yellow"), printable(f"{at}{fault.message}")))
    for device in report.devices:
        for problem in device.problems:
            where = f"{device.key} {problem.path}".rstrip()
            text = f"{where}, offset {problem.offset:#x}: {problem.message}"
            out.print(Text.assemble(("! ", "bold yellow"), printable(text)))
    for device in report.devices:
        out.print(_raw_tree(device, full) if raw else _tree(device, full))


def _title(device: DeviceState) -> Text:
    notes = {
        "borrowed": ", by a borrowed description",
        "ambiguous": f", {len(device.readings)} borrowed descriptions fit",
        "none": ", described nowhere",
    }
    detail = f" version {device.version}, {count(device.size, 'byte')} at {device.offset:#x}"
    return Text.assemble(
        (printable(device.key), "bold"), detail, (notes.get(device.origin, ""), "yellow")
    )


def _tree(device: DeviceState, full: bool) -> Tree:
    tree = Tree(_title(device), guide_style="dim")
    if device.value is None:
        tree.add(_hex(device.data, full))
        for number, reading in enumerate(device.readings, 1):
            _add(tree, f"reading {number}", reading, full)
    elif isinstance(device.value, Struct):
        _add_members(tree, device.value, full)
    else:
        _add(tree, "", device.value, full)
    return tree


def _add_members(tree: Tree, struct: Struct, full: bool) -> None:
    for name, member in struct.members.items():
        _add(tree, name, member, full)
    for name, subsection in struct.subsections.items():
        branch = tree.add(Text.assemble((printable(name), "cyan"), " subsection"))
        _add_members(branch, subsection, full)


def _add(tree: Tree, name: str, value: Value, full: bool) -> None:
    label = (f"{printable(name)} ", "cyan") if name else ""
    if isinstance(value, Struct):
        _add_members(tree.add(Text.assemble(label)), value, full)
    elif isinstance(value, List):
        branch = tree.add(Text.assemble(label, (f"{len(value.items)} x {value.type}", "dim")))
        shown = value.items if full else value.items[:_ITEMS]
        for number, item in enumerate(shown):
            _add(branch, f"[{number}]", item, full)
        if len(shown) < len(value.items):
            branch.add(Text(f"... {len(value.items) - len(shown)} more", "dim"))
    elif isinstance(value, Array):
        tree.add(Text.assemble(label, _elements(value, full), (f"  {value.type}", "dim")))
    else:
        tree.add(Text.assemble(label, _scalar(value, full), (f"  {value.type}", "dim")))


def _elements(array: Array, full: bool) -> str:
    shown = len(array) if full else min(len(array), _ITEMS)
    text = ", ".join(_scalar(array[index], full) for index in range(shown))
    rest = f", ... {len(array) - shown} more" if shown < len(array) else ""
    return f"[{text}{rest}]"


def _scalar(scalar: Scalar, full: bool) -> str:
    value = scalar.value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _integer(scalar, value)
    if isinstance(value, bytes):
        return _hex(value, full)
    if value is None:
        return "NULL"
    return printable(str(value))


def _integer(scalar: Scalar, value: int) -> str:
    """Small numbers in decimal, others in hex of their width."""
    if scalar.type == "timer" and scalar.raw == b"\xff" * 8:
        return "not pending"
    if -10 < value < 10:
        return str(value)
    if value < 0:
        return f"{value}"
    return f"{value:#0{2 * len(scalar.raw) + 2}x}" if scalar.type != "timer" else f"{value} ns"


def _hex(data: bytes, full: bool) -> str:
    if full or len(data) <= _BYTES:
        return data.hex(" ", -4) or "empty"
    if not any(data):
        return f"zero, {size(len(data))}"
    return f"{data[:_BYTES].hex(' ', -4)} ... {size(len(data))}"


def _raw_tree(device: DeviceState, full: bool) -> Tree:
    """Every leaf on a line: offset, bytes, path, value."""
    tree = Tree(_title(device), guide_style="dim", hide_root=False)
    for field in device.fields(full):
        shown = field.raw if full else field.raw[:_BYTES]
        rest = "" if len(shown) == len(field.raw) else f"... {size(len(field.raw))}"
        tree.add(
            Text.assemble(
                (f"{field.offset:#010x} ", "dim"),
                f"{shown.hex()}{rest} ",
                (printable(field.path), "cyan"),
                f" {_short(field.value)}",
            )
        )
    return tree


def _short(value: Any, limit: int = 60) -> str:
    text = printable(str(value))
    return text if len(text) <= limit else f"{text[:limit]}..."

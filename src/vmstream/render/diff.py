"""``diff`` on a terminal: what matters first, then what differs, the odd before the usual."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from rich.text import Text

from vmstream.render.text import console, count, plain_table, printable, size
from vmstream.tools.diff_memory import HexLine
from vmstream.tools.diff_report import (
    BlockDiff,
    Change,
    ChangeKind,
    DeviceDiff,
    MemoryDiff,
    PageRun,
    RegisterChange,
    SectionChange,
    SectionKind,
    Side,
    StreamDiff,
)
from vmstream.tools.reports import FaultReport

__all__ = ["render", "render_hex"]

_FIELDS = 12
"""Fields of a device, or registers of a processor, that are shown unless all are asked for."""
_RANGES = 4
"""Ranges of elements, bytes or pages that are shown."""
_VALUES = 4
"""Elements that are shown of a change in many."""
_WIDEST = 40
"""Characters of a value."""
_WIDEST_PATH = 40
_TEXT = 4
"""Bytes from which on printable ones are shown as text."""
_DECIMAL = 256
"""Numbers from here on are shown in hex."""
_ARROW = ("  ->  ", "dim")


def render(report: StreamDiff, *, full: bool) -> None:
    """Print the report; of long lists the first, unless ``full``."""
    out = console()
    style = "bold green" if report.identical and report.sound else "bold"
    out.print(Text(printable(report.summary), style))
    for side, name in (("A", report.a), ("B", report.b)):
        out.print(Text.assemble((f"{side}  ", "dim"), printable(name)))
    for line in _faults(report):
        out.print(line)
    lines = [
        *map(_head, report.heads),
        *_sections(report.sections),
        *_devices(report.devices, full),
        *_registers(report.registers, full),
    ]
    if lines:
        out.print()
    for line in lines:
        out.print(line)
    if report.memory is not None:
        _memory(report.memory)
    _left_out(report)


def _faults(report: StreamDiff) -> Iterator[Text]:
    sides = (
        ("A", report.old_complete, report.old_faults),
        ("B", report.new_complete, report.new_faults),
    )
    for side, complete, faults in sides:
        if not complete:
            yield Text.assemble(("! ", "bold yellow"), f"{side} is incomplete")
        for fault in faults:
            yield Text.assemble(("! ", "bold yellow"), f"{side}: {_fault(fault)}")


def _fault(fault: FaultReport) -> str:
    at = f"offset {fault.offset:#x}: " if fault.offset is not None else ""
    return printable(f"{at}{fault.message}")


def _head(change: Change) -> Text:
    if change.only is not None:
        return Text.assemble((change.path, "cyan"), f" only in {change.only.upper()}")
    return Text.assemble((change.path, "cyan"), " ", *_values(change.old, change.new))


def _values(old: Any, new: Any) -> tuple[str | tuple[str, str], ...]:
    return (_value(old), _ARROW, _value(new))


def _value(value: Any) -> str:
    """A value as short as it is clear."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:#x}" if abs(value) >= _DECIMAL else str(value)
    if isinstance(value, list):
        shown = " ".join(map(_value, value[:_VALUES]))
        return f"{shown} ..." if len(value) > _VALUES else shown
    if value is None:
        return "-"
    text = printable(str(value))
    return text if len(text) <= _WIDEST else f"{text[:_WIDEST]}..."


# Sections


def _sections(changes: Sequence[SectionChange]) -> Iterator[Text]:
    for side in Side:
        alone = [c for c in changes if c.kind is SectionKind.ONLY and c.only is side]
        if alone:
            names = ", ".join(printable(change.section) for change in alone)
            yield Text.assemble((f"only in {side.upper()}: ", "bold yellow"), names)
    for change in changes:
        if change.kind is not SectionKind.ONLY:
            yield Text.assemble((printable(change.section), "cyan"), " ", *_section(change))


def _section(change: SectionChange) -> tuple[str | tuple[str, str], ...]:
    match change.kind:
        case SectionKind.MOVED:
            return ("moved to ", printable(str(change.new)))
        case SectionKind.INSTANCE:
            return ("renumbered, instance ", *_values(change.old, change.new))
        case SectionKind.VERSION:
            return ("version ", *_values(change.old, change.new))
        case SectionKind.ORDER:
            return (f"stands where B has {printable(str(change.new))}: another order",)
        case _:
            return ("has other content: ", size(change.old), _ARROW, size(change.new))


# Devices and registers


def _devices(devices: Sequence[DeviceDiff], full: bool) -> Iterator[Text]:
    for device in devices:
        moved = "" if device.device == device.other else f" ({printable(device.other)} in B)"
        bare = "" if device.decoded else "  nothing describes its fields"
        yield Text.assemble((printable(device.device), "bold"), moved, (bare, "dim"))
        shown = device.changes if full else device.changes[:_FIELDS]
        width = min(max(len(change.path) for change in shown), _WIDEST_PATH)
        for change in shown:
            yield _change(change, width)
        yield from _more(len(device.changes) - len(shown))


def _more(number: int) -> Iterator[Text]:
    if number:
        yield Text(f"  and {number:,} more (--full)", "dim")


def _change(change: Change, width: int) -> Text:
    return Text.assemble((f"  {printable(change.path):<{width}}  ", "cyan"), *_said(change))


def _said(change: Change) -> tuple[str | tuple[str, str], ...]:
    if change.only is not None:
        what = "subsection " if change.kind is ChangeKind.SUBSECTION else ""
        value = change.old if change.only is Side.A else change.new
        shown = "" if isinstance(value, dict) else f": {_value(value)}"
        return (f"{what}only in {change.only.upper()}{shown}",)
    values = _values(change.old, change.new)
    match change.kind:
        case ChangeKind.LENGTH:
            return ("elements: ", *values)
        case ChangeKind.VERSION:
            return ("version ", *values)
        case ChangeKind.TYPE:
            types = (f" ({change.old_type}", _ARROW, f"{change.new_type})")
            return (*values, *types) if change.old_type != change.new_type else values
    if change.unit is None:
        return values
    where = ", ".join(_range(first, last) for first, last in change.ranges[:_RANGES])
    rest = ", ..." if len(change.ranges) > _RANGES else ""
    if change.unit == "byte":
        values = _values(_text(change.old), _text(change.new))
    noun = f"{count(change.differing, change.unit)} of {change.size:,} [{where}{rest}]: "
    return ((noun, "dim"), *values)


def _text(digits: str) -> str:
    """Bytes as text where they are some."""
    text = bytes.fromhex(digits).rstrip(b"\0")
    printable_text = len(text) >= _TEXT and all(0x20 <= byte < 0x7F for byte in text)
    return repr(text.decode()) if printable_text else digits


def _range(first: int, last: int) -> str:
    return f"{first:#x}" if first == last else f"{first:#x}-{last:#x}"


def _registers(changes: Sequence[RegisterChange], full: bool) -> Iterator[Text]:
    for cpu, group in groupby(changes, key=lambda change: change.cpu):
        members = list(group)
        yield Text.assemble((printable(cpu), "bold"), " registers")
        shown = members if full else members[:_FIELDS]
        names = max(len(change.register) for change in shown)
        digits = min(max(len(_register(change.old)) for change in shown), _WIDEST)
        for change in shown:
            yield Text.assemble(
                (f"  {change.register:<{names}}  ", "cyan"),
                f"{_register(change.old):<{digits}}",
                _ARROW,
                _register(change.new),
            )
        yield from _more(len(members) - len(shown))


def _register(value: int | None) -> str:
    return "-" if value is None else f"{value:#x}"


# Memory


def _memory(memory: MemoryDiff) -> None:
    if not memory.blocks:
        return
    out = console()
    out.print()
    table = plain_table(
        ("RAM block", "left"), ("pages", "right"), ("bytes", "right"), ("runs", "right"),
        ("where", "left"),
    )  # fmt: skip
    for block in memory.blocks:
        table.add_row(
            printable(block.name),
            *(f"{number:,}" if number else "" for number in (block.pages, block.bytes, block.runs)),
            _where(block),
        )
    out.print(table)
    same = memory.content - memory.differing
    out.print(
        f"{memory.differing:,} of {count(memory.content, 'page')} with content differ,"
        f" {count(same, 'page')} {'is' if same == 1 else 'are'} the same"
    )


def _where(block: BlockDiff) -> Text:
    said: list[str | tuple[str, str]] = []
    if block.old_size is None or block.new_size is None:
        side, held = ("B", block.new_size) if block.old_size is None else ("A", block.old_size)
        said.append((f"only in {side}, {size(held)}  ", "yellow"))
    elif block.resized:
        said += [(size(block.old_size), "yellow"), _ARROW, (f"{size(block.new_size)}  ", "yellow")]
    if block.fault is not None:
        said.append((f"{_fault(block.fault)}  ", "yellow"))
    said.append(", ".join(map(_run, block.first[:_RANGES])))
    if block.runs > _RANGES:
        said.append(", ...")
    return Text.assemble(*said)


def _run(run: PageRun) -> str:
    return f"{run.start:#x}+{run.size:#x}"


def render_hex(lines: Iterable[HexLine]) -> None:
    """Print the old and the new bytes below each other, the ones that differ standing out."""
    out = console()
    out.print()
    for line in lines:
        unlike = [x != y for x, y in zip(line.old, line.new, strict=True)]
        name = printable(line.block)
        for mark, data, style in (("-", line.old, "red"), ("+", line.new, "green")):
            text = Text(f"{mark} {name} {line.offset:012x} ")
            for byte, differs in zip(data, unlike, strict=True):
                text.append(f" {byte:02x}", style if differs else "")
            out.print(text)


def _left_out(report: StreamDiff) -> None:
    said = []
    if report.quieted:
        verb = "moves" if len(report.quieted) == 1 else "move"
        said.append(f"{count(len(report.quieted), 'field')} that always {verb} (--all)")
    if report.ignored:
        said.append(f"{count(report.ignored, 'difference')} by --ignore")
    if said and not report.identical:
        console().print(Text(f"left out: {', '.join(said)}", "dim"))

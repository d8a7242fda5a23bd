"""``inspect`` on a terminal: what is odd first, then one screen of the stream."""

from __future__ import annotations

from collections import Counter

from rich.text import Text

from vmstream.render.text import console, count, plain_table, printable, size
from vmstream.tools.inspect import BlockReport, InspectReport

__all__ = ["render"]

_DEVICE_LINES = 16
_WARNING_LINES = 8


def render(report: InspectReport) -> None:
    """Print the report."""
    out = console()
    out.print(_verdict(report))
    for warning in report.warnings[:_WARNING_LINES]:
        out.print(Text.assemble(("! ", "bold yellow"), printable(warning)))
    if len(report.warnings) > _WARNING_LINES:
        out.print(f"  ... and {len(report.warnings) - _WARNING_LINES} more (--json has all)")
    out.print()
    _facts(report)
    if report.ram.blocks:
        out.print()
        _blocks(report)
    if report.devices:
        out.print()
        _devices(report)


def _verdict(report: InspectReport) -> Text:
    """The first line: whether the stream is whole."""
    if report.sound:
        state = ("complete", "bold green")
    elif report.complete:
        state = ("complete, with faults", "bold yellow")
    else:
        state = ("incomplete", "bold red")
    return Text.assemble(f"{printable(report.file)}: ", state, ", ", size(report.size))


def _facts(report: InspectReport) -> None:
    rows = [
        ("machine", printable(report.machine or "not stated (before QEMU 2.4, or switched off)")),
        ("state", report.run_state or "not stated"),
        ("page size", size(report.page_size)),
        ("capabilities", printable(", ".join(report.capabilities)) or "none that shows"),
        ("container", _container(report)),
        ("sections", _sections(report)),
        ("commands", _commands(report)),
        ("channels", _channels(report)),
    ]
    table = plain_table(("", "left"), ("", "left"))
    table.show_header = False
    table.columns[1].no_wrap = False
    for name, value in rows:
        if value:
            table.add_row(Text(name, "bold"), value)
    console().print(table)


def _container(report: InspectReport) -> str:
    details = [
        f"{key} {printable(str(report.container[key]))}"
        for key in ("snapshot", "tag", "id", "name", "version")
        if key in report.container and not isinstance(report.container[key], dict | list)
    ]
    if report.source == "plain":
        return ""
    return ", ".join([report.source, *details])


def _sections(report: InspectReport) -> str:
    kinds = Counter(section.type for section in report.sections)
    parts = [f"{number} {kind}" for kind, number in kinds.items()]
    text = f"{len(report.sections):,} ({', '.join(parts)})" if parts else "none"
    footers = {True: "footers", False: "no footers", None: ""}[report.has_footers]
    description = "description" if report.has_description else "no description"
    return ", ".join(part for part in (text, footers, description) if part)


def _commands(report: InspectReport) -> str:
    kinds = Counter(command.name.lower().replace("_", " ") for command in report.commands)
    return ", ".join(name if n == 1 else f"{name} x{n}" for name, n in kinds.items())


def _channels(report: InspectReport) -> str:
    parts = []
    for channel in report.channels:
        if channel.kind == "multifd":
            parts.append(f"multifd {channel.channel}: {channel.packets} packets")
        elif channel.kind == "return":
            parts.append(f"return path: {count(len(channel.messages), 'message')}")
        else:
            parts.append(f"{channel.kind}: {size(channel.size)}")
    return "; ".join(parts)


_KINDS = ("zero", "normal", "xbzrle", "compressed", "multifd", "mapped")


def _blocks(report: InspectReport) -> None:
    """RAM blocks with page records by kind; kinds that do not occur have no column."""
    shown = [kind for kind in _KINDS if any(getattr(b.pages, kind) for b in report.ram.blocks)]
    missing = any(block.missing for block in report.ram.blocks)
    headings = [("RAM block", "left"), ("size", "right"), *((kind, "right") for kind in shown)]
    if missing:
        headings.append(("in no record", "right"))
    table = plain_table(*headings)
    for block in report.ram.blocks:
        table.add_row(*_block_row(block, shown, missing))
    console().print(table)
    rounds = f", about {count(report.rounds, 'round')}" if report.rounds > 1 else ""
    console().print(
        Text(f"{size(report.ram.total)} in {count(len(report.ram.blocks), 'block')}, ")
        + Text(f"{count(report.iterations, 'iteration')}{rounds}")
    )


def _block_row(block: BlockReport, shown: list[str], missing: bool) -> list[str | Text]:
    row: list[str | Text] = [printable(block.name), size(block.size)]
    row += [
        f"{getattr(block.pages, kind):,}" if getattr(block.pages, kind) else "" for kind in shown
    ]
    if missing:
        row.append(Text(f"{block.missing:,}" if block.missing else "", "yellow"))
    return row


def _devices(report: InspectReport) -> None:
    """The largest devices by state; the rest by number."""
    table = plain_table(
        ("device", "left"), ("version", "right"), ("state", "right"), ("at", "right")
    )
    largest = sorted(report.devices, key=lambda device: -device.state_size)[:_DEVICE_LINES]
    for device in sorted(largest, key=lambda device: device.offset):
        name = f"{printable(device.name)}:{device.instance_id}"
        table.add_row(name, str(device.version), size(device.state_size), f"{device.offset:#x}")
    console().print(table)
    total = sum(device.state_size for device in report.devices)
    rest = len(report.devices) - len(largest)
    more = f" (the {len(largest)} largest shown)" if rest else ""
    console().print(f"{size(total)} of state in {count(len(report.devices), 'device')}{more}")

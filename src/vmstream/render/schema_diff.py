"""``schema diff`` on a terminal: the verdict both ways, then the findings, gravest first."""

from __future__ import annotations

from rich.text import Text

from vmstream.render.text import console, count, printable
from vmstream.tools.schema_diff import Direction, Finding, Kind, SchemaDiff, Severity

__all__ = ["render"]

_NAMED = 3
"""Devices named before their number is told instead."""
_DEVICE_KINDS = (Kind.DEVICE_REMOVED, Kind.DEVICE_ADDED)
_FIELD_KINDS = (Kind.FIELD_REMOVED, Kind.FIELD_ADDED)
_MARKS = {(True, True): "<->", (True, False): " ->", (False, True): "<- "}
_STYLES = {Severity.BREAKS: "bold red", Severity.MAY_BREAK: "yellow", Severity.HARMLESS: "dim"}


def render(report: SchemaDiff, direction: Direction, *, full: bool) -> None:
    """Print the report; ``direction`` is the one asked about, told first.

    Harmless changes are only counted unless ``full``.
    """
    out = console()
    machines = f"{printable(report.old_machine)} -> {printable(report.new_machine)}"
    devices = count(report.devices, "device type")
    out.print(f"{machines}: {devices} on both sides, {report.identical} identical")
    other = next(way for way in Direction if way is not direction)
    for way in (direction, other):
        out.print(_verdict(report, way))
    shown = Severity if full else (Severity.BREAKS, Severity.MAY_BREAK)
    for severity in shown:
        found = [finding for finding in report.findings if finding.severity is severity]
        if found:
            out.print(Text(f"\n{_HEADINGS[severity]}", style="bold"))
        for line in _lines(found):
            out.print(line)
    if not full:
        harmless = sum(finding.severity is Severity.HARMLESS for finding in report.findings)
        out.print(f"\n{count(harmless, 'harmless change')} (--full lists them)")


_HEADINGS = {
    Severity.BREAKS: "breaks (<- -> for which way)",
    Severity.MAY_BREAK: "may break, by conditions that no schema tells",
    Severity.HARMLESS: "changed, and harmless",
}


def _verdict(report: SchemaDiff, way: Direction) -> Text:
    breaks = report.count(way, Severity.BREAKS)
    may = report.count(way, Severity.MAY_BREAK)
    words = "old to new" if way is Direction.OLD_TO_NEW else "new to old"
    style = _STYLES[Severity.BREAKS] if breaks else "bold green"
    verb = "break" if breaks > 1 else "breaks"
    return Text.assemble(f"{words}: ", (f"{breaks or 'nothing'} {verb}", style), f", {may} may")


def _lines(findings: list[Finding]) -> list[Text]:
    """A line for each finding; fields, and device types, of one side only share one."""
    groups: dict[object, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(_group(finding), []).append(finding)
    return [_line(group) for group in groups.values()]


def _group(finding: Finding) -> object:
    severities = (finding.kind, finding.old_to_new, finding.new_to_old)
    if finding.kind in _DEVICE_KINDS:
        return severities
    if finding.kind in _FIELD_KINDS:
        return (*severities, finding.description, tuple(_devices(finding)))
    return id(finding)


def _line(group: list[Finding]) -> Text:
    finding = group[0]
    worst = finding.severity
    mark = "   "
    if worst is not Severity.HARMLESS:
        mark = _MARKS[finding.old_to_new is worst, finding.new_to_old is worst]
    side = "old" if finding.old is not None else "new"
    only = f"only in the {side} schema"
    if finding.kind in _DEVICE_KINDS:
        names = ", ".join(name for each in group for name in _devices(each))
        return Text.assemble((f"{mark} ", _STYLES[worst]), f"device types {only}: {names}")
    message = printable(finding.message)
    if len(group) > 1:
        message = f"fields {only}: {', '.join(printable(each.field) for each in group)}"
    devices = _devices(finding)
    rest = f" and {len(devices) - _NAMED} more" if len(devices) > _NAMED else ""
    told = devices == [finding.description] or finding.kind is Kind.DEVICE_RENAMED
    where = "" if told else f"  ({', '.join(devices[:_NAMED])}{rest})"
    return Text.assemble(
        (f"{mark} ", _STYLES[worst]),
        (f"{printable(finding.description)}: ", "cyan"),
        message,
        (where, "dim"),
    )


def _devices(finding: Finding) -> list[str]:
    return list(dict.fromkeys(printable(place.device) for place in finding.places))

"""``schema diff`` on a terminal: the verdict both ways, then the findings, gravest first."""

from __future__ import annotations

from rich.text import Text

from vmstream.render.text import console, count, printable
from vmstream.tools.schema_diff import Direction, Finding, Kind, SchemaDiff, Severity

__all__ = ["render"]

_DEVICES = 3
"""Devices named before their number is told instead."""
_MARKS = {
    (True, True): ("<->", "both ways"),
    (True, False): (" ->", "old to new"),
    (False, True): ("<- ", "new to old"),
}
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
    verb = "break" if breaks != 1 else "breaks"
    return Text.assemble(f"{words}: ", (f"{breaks or 'nothing'} {verb}", style), f", {may} may")


def _lines(findings: list[Finding]) -> list[Text]:
    """A line for each finding; device types of one side only share one."""
    lines = []
    lone: dict[str, list[str]] = {}
    for finding in findings:
        if finding.kind in (Kind.DEVICE_REMOVED, Kind.DEVICE_ADDED):
            side = "old" if finding.old is not None else "new"
            lone.setdefault(side, []).append(printable(finding.places[0].device))
        else:
            lines.append(_line(finding))
    for side, names in lone.items():
        mark = _MARKS[side == "old", side == "new"][0]
        style = _STYLES[findings[0].severity]
        text = f"only in the {side} schema: {', '.join(names)}"
        lines.append(Text.assemble((f"{mark} ", style), text))
    return lines


def _line(finding: Finding) -> Text:
    worst = finding.severity
    mark = (
        "   "
        if worst is Severity.HARMLESS
        else _MARKS[finding.old_to_new is worst, finding.new_to_old is worst][0]
    )
    devices = list(dict.fromkeys(printable(place.device) for place in finding.places))
    named = ", ".join(devices[:_DEVICES])
    rest = f" and {len(devices) - _DEVICES} more" if len(devices) > _DEVICES else ""
    told = devices == [finding.description] or finding.kind is Kind.DEVICE_RENAMED
    where = "" if told else f"  ({named}{rest})"
    return Text.assemble(
        (f"{mark} ", _STYLES[worst]),
        (f"{printable(finding.description)}: ", "cyan"),
        printable(finding.message),
        (where, "dim"),
    )

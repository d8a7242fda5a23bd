"""Findings on a terminal: what is wrong, where, what each side has, what to do."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from vmstream.render.text import printable
from vmstream.tools.findings import Finding, Severity

__all__ = ["STYLES", "print_findings"]

STYLES = {Severity.BREAKS: "bold red", Severity.MAY_BREAK: "yellow", Severity.HARMLESS: "dim"}
_MARKS = {Severity.BREAKS: "!", Severity.MAY_BREAK: "?", Severity.HARMLESS: "-"}
_SHOWN = 12


def print_findings(out: Console, findings: Iterable[Finding], *, full: bool = False) -> None:
    """The gravest first; later ones are counted unless ``full``."""
    listed = list(findings)
    for number, finding in enumerate(listed):
        if number == _SHOWN and not full:
            out.print(f"... and {len(listed) - _SHOWN} more (--json tells all)")
            return
        for line in _lines(finding):
            out.print(line)


def _lines(finding: Finding) -> list[Text]:
    mark = (f"{_MARKS[finding.severity]} ", STYLES[finding.severity])
    place = finding.device or ""
    if finding.field and finding.field not in (finding.message, place):
        place += f" {finding.field}"
    where = (f"{printable(place)}: ", "cyan") if place else ""
    offset = (f"  (offset {finding.offset:#x})", "dim") if finding.offset is not None else ""
    lines = [Text.assemble(mark, where, printable(finding.message), offset)]
    lines += [Text(f"    {printable(detail)}") for detail in finding.details]
    if finding.qemu_text:
        lines.append(Text(f"    QEMU says: {printable(finding.qemu_text)}", style="dim"))
    if finding.remedy:
        lines.append(Text.assemble(("    remedy: ", "green"), printable(finding.remedy)))
    return lines

"""``verify`` on a terminal: the verdict, then one line a check."""

from __future__ import annotations

from rich.text import Text

from vmstream.render.text import console, plain_table, printable
from vmstream.tools.verify import Finding, VerifyReport

__all__ = ["render"]

_FINDINGS = 10
_MARKS = {True: ("held", "green"), False: ("NOT HELD", "bold red"), None: ("-", "dim")}


def render(report: VerifyReport) -> None:
    """Print the report."""
    out = console()
    broken = [check for check in report.checks if check.held is False]
    if report.sound:
        verdict = ("sound", "bold green")
    else:
        verdict = (f"{len(broken)} of {len(report.checks)} checks do not hold", "bold red")
    out.print(Text.assemble(f"{printable(report.file)}: ", verdict))
    for check in broken:
        for finding in check.findings[:_FINDINGS]:
            out.print(Text.assemble(("! ", "bold yellow"), _sentence(finding)))
        if len(check.findings) > _FINDINGS:
            out.print(f"  ... and {len(check.findings) - _FINDINGS} more of {check.name}")
    out.print()
    table = plain_table(("check", "left"), ("", "left"), ("over", "left"))
    for check in report.checks:
        table.add_row(check.name, Text(*_MARKS[check.held]), printable(check.detail))
    out.print(table)


def _sentence(finding: Finding) -> str:
    where = []
    if finding.offset is not None:
        where.append(f"offset {finding.offset:#x}")
    if finding.section:
        where.append(f"section {finding.section}")
    text = f"{', '.join(where)}: {finding.message}" if where else finding.message
    if finding.expected is not None:
        text += f" (expected {finding.expected}, found {finding.found})"
    elif finding.found is not None:
        text += f" (found {finding.found})"
    return printable(text)

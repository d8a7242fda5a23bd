"""``check`` on a terminal: the verdict first, then what it rests on."""

from __future__ import annotations

from rich.text import Text

from vmstream.render.findings import print_findings
from vmstream.render.text import console, printable
from vmstream.tools.check.check import CheckReport, Level
from vmstream.tools.findings import Basis, Verdict

__all__ = ["render"]

_STYLES = {Verdict.LOADS: "bold green", Verdict.FAILS: "bold red", Verdict.UNKNOWN: "bold yellow"}
_BASES = {
    Basis.SCHEMA: "the destination's schema",
    Basis.STREAM: "the destination's stream",
    Basis.QEMU: "the destination itself",
}


def render(report: CheckReport) -> None:
    """Print the report."""
    out = console()
    out.print(
        Text.assemble(f"{printable(report.file)}: ", (str(report.verdict), _STYLES[report.verdict]))
    )
    if report.settled_by:
        out.print(f"what would tell: {report.settled_by}")
    if report.findings:
        out.print()
        print_findings(out, report.findings)
    out.print()
    for level in report.levels:
        out.print(_level(level))
    if report.left_out:
        out.print(f"not looked at: {printable(', '.join(report.left_out))}")


def _level(level: Level) -> Text:
    asked = _BASES[level.basis]
    if level.version:
        asked += f", QEMU {level.version}"
    if level.seconds is not None:
        asked += f", in {level.seconds:.2f} s"
    return Text.assemble((f"{level.verdict:8}", _STYLES[level.verdict]), f"by {asked}")

"""``explain`` on a terminal: the cause first."""

from __future__ import annotations

from rich.text import Text

from vmstream.render.findings import print_findings
from vmstream.render.text import console, printable
from vmstream.tools.explain import ExplainReport

__all__ = ["render"]


def render(report: ExplainReport) -> None:
    """Print the report."""
    out = console()
    if not report.findings:
        found = "nothing that is known to be wrong" if not report.unrecognised else "nothing known"
        out.print(found)
    print_findings(out, report.findings)
    if report.unrecognised:
        out.print("\nnot recognised:")
        for line in report.unrecognised:
            out.print(Text(f"  {printable(line)}"))
    if report.warnings:
        out.print("\nwarnings:")
        for warning in report.warnings:
            out.print(Text(f"  {printable(warning.qemu_text or '')}: {warning.message}", "dim"))
    if report.findings and report.collect:
        out.print("\nto know more, give")
        for what in report.collect:
            out.print(f"  {what}")

"""``restore`` on a terminal."""

from __future__ import annotations

from rich.text import Text

from vmstream.render.findings import print_findings
from vmstream.render.text import console, printable, size
from vmstream.tools.restore import RestoreReport

__all__ = ["render"]


def render(report: RestoreReport) -> None:
    """Print the report."""
    out = console()
    verdict = ("restored", "bold green") if report.complete else ("not restored", "bold red")
    out.print(
        Text.assemble(f"{printable(report.file)} to {printable(report.destination)}: ", verdict)
    )
    if report.error is not None:
        out.print(Text.assemble(("! ", "bold yellow"), printable(report.error)))
    print_findings(out, report.findings)
    version = f"QEMU {report.version}: " if report.version else ""
    out.print(f"{version}{size(report.bytes)} in {report.seconds:.2f} s")
    if report.state is not None:
        process = f", process {report.process}" if report.process is not None else ""
        out.print(f"guest: {report.state}{process}")

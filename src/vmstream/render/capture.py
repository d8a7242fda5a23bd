"""``capture`` on a terminal."""

from __future__ import annotations

from rich.text import Text

from vmstream.render.text import console, printable, size
from vmstream.tools.capture import CaptureReport

__all__ = ["render"]


def render(report: CaptureReport) -> None:
    """Print the report."""
    out = console()
    verdict = ("captured", "bold green") if report.complete else ("not captured", "bold red")
    out.print(Text.assemble(f"{printable(report.qmp)} to {printable(report.out)}: ", verdict))
    if report.error is not None:
        out.print(Text.assemble(("! ", "bold yellow"), printable(report.error)))
    for setting in report.not_put_back:
        out.print(Text.assemble(("! not set as it was: ", "bold yellow"), printable(setting)))
    machine = f"{printable(report.machine)}, " if report.machine else ""
    downtime = f", downtime {report.downtime} ms" if report.downtime is not None else ""
    out.print(
        f"{machine}QEMU {report.version}: {size(report.bytes)} in {report.seconds:.2f} s{downtime}"
    )
    out.print(f"guest: {report.before} before, {report.after} now")

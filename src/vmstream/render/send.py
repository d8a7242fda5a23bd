"""``send`` on a terminal."""

from __future__ import annotations

from rich.text import Text

from vmstream.render.text import console, printable, size
from vmstream.tools.send import SendReport

__all__ = ["render"]


def render(report: SendReport) -> None:
    """Print the report."""
    out = console()
    if report.confirmed:
        verdict = ("loaded", "bold green")
    elif report.complete:
        verdict = ("sent", "green")
    else:
        verdict = ("not taken", "bold red")
    out.print(Text.assemble(f"{printable(report.file)} to {printable(report.uri)}: ", verdict))
    if report.error is not None:
        where = f" while {printable(report.section)} was sent" if report.section else ""
        out.print(Text.assemble(("! ", "bold yellow"), printable(report.error), where))
        if report.bytes:
            out.print("the destination's own log tells why; `vmstream explain LOG` says more of it")
    rate = size(int(report.bytes / max(report.seconds, 1e-9)))
    out.print(f"{size(report.bytes)} in {report.seconds:.1f} s ({rate}/s)")
    if report.complete and not report.confirmed:
        out.print("without a return path the destination does not say whether it loaded")

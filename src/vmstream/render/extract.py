"""``extract`` on a terminal."""

from __future__ import annotations

from rich.text import Text

from vmstream.render.text import console, count, printable, size
from vmstream.tools.extract import ExtractReport

__all__ = ["render"]


def render(report: ExtractReport, sound: bool) -> None:
    """Print what was written, what is odd first."""
    out = console()
    if not sound:
        text = "the stream is incomplete or damaged: pages may be missing from what was written"
        out.print(Text.assemble(("! ", "bold yellow"), text))
    for note in report.notes:
        out.print(Text.assemble(("! ", "bold yellow"), printable(note)))
    if report.unplaced:
        names = ", ".join(map(printable, report.unplaced))
        out.print(
            f"not in it, for their address is not known (--map BLOCK@ADDRESS places them): {names}"
        )
    parts = [f"{size(report.size)} of memory", f"{size(report.data)} with content"]
    if report.vcpus:
        parts.append(f"registers of {count(report.vcpus, 'vCPU')}")
    if report.vmcoreinfo:
        parts.append("VMCOREINFO")
    out.print(f"{report.out}: {', '.join(parts)}")

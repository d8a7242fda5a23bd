"""``convert`` on a terminal."""

from __future__ import annotations

from collections import Counter

from rich.text import Text

from vmstream.render.text import console, count, printable, size
from vmstream.tools.convert import ConvertReport

__all__ = ["render"]


def render(report: ConvertReport) -> None:
    """Print what was written, what is odd first."""
    out = console()
    for note in report.notes:
        out.print(Text.assemble(("! ", "bold yellow"), printable(note)))
    if report.dropped:
        names = Counter(report.dropped)
        said = ", ".join(f"{name} ({n})" if n > 1 else name for name, n in names.items())
        out.print(f"left out, for only a live connection has a use for them: {said}")
    for file in report.files:
        out.print(f"{file.path}: {size(file.size)}, {size(file.allocated)} on the disk")
    parts = [report.form, f"{size(report.memory)} of memory"]
    if report.checked:
        same = sum(block.sha256 is not None for block in report.blocks)
        parts.append(f"decoded again: {count(same, 'block')} and every section the same")
    else:
        parts.append("not checked (--check)")
    out.print(", ".join(parts))

"""Words and numbers as a person reads them."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["console", "count", "plain_table", "printable", "size"]

_NO_TERMINAL = 1 << 16
"""Columns of a line where the output is no terminal."""
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(value: int | None) -> str:
    """Bytes with a binary unit: ``16 MiB``, ``1.5 GiB``, ``300 B``."""
    if value is None:
        return "?"
    amount = float(value)
    for unit in _UNITS:
        if amount < 1024 or unit == _UNITS[-1]:
            break
        amount /= 1024
    return (
        f"{amount:.0f} {unit}" if amount >= 100 or amount == int(amount) else f"{amount:.1f} {unit}"
    )


def count(number: int, noun: str) -> str:
    """``1 device``, ``3 devices``."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number:,} {noun if number == 1 else plural}"


def printable(text: str) -> str:
    """Text from a stream without anything that could steer a terminal."""
    shown = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in shown)


@cache
def console() -> Console:
    """Where reports go: standard output, without interpreting what a stream holds.

    What is no terminal has no width: nothing of a line is cut there.
    """
    from rich.console import Console

    width = None if sys.stdout.isatty() else _NO_TERMINAL
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)


def plain_table(*headings: tuple[str, str]) -> Table:
    """A table without lines; each heading with how its column is aligned."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading, align in headings:
        table.add_column(heading, justify="right" if align == "right" else "left", no_wrap=True)
    return table

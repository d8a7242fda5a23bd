"""``memory`` on a terminal, or as JSON: blocks, hex dumps, matches."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich.text import Text

from vmstream.render.json import dump
from vmstream.render.progress import Progress
from vmstream.render.text import console, plain_table, printable, size
from vmstream.stream.stream import Stream
from vmstream.tools.memory import Match, MemoryReport, Piece, memory

__all__ = ["measured", "render", "show_dump", "show_matches"]

_WIDTH = 16
_SHOWN = 32
"""Digits of a hash that a person needs; --json has all."""


def measured(stream: Stream, iteration: int | None) -> MemoryReport:
    """Hash every block, with progress."""
    with Progress("hashing") as progress:
        return memory(stream, iteration, progress.advance)


def render(report: MemoryReport) -> None:
    """Print a line for each block; what is odd first."""
    out = console()
    for fault in report.faults:
        at = f"offset {fault.offset:#x}: " if fault.offset is not None else ""
        out.print(Text.assemble(("! ", "bold yellow"), printable(f"{at}{fault.message}")))
    table = plain_table(
        ("RAM block", "left"), ("size", "right"), ("zero", "right"), ("sha256", "left")
    )
    for block in report.blocks:
        content = block.sha256[:_SHOWN] if block.sha256 else "?"
        if block.fault is not None:
            content = block.fault.message
        table.add_row(printable(block.name), size(block.size), size(block.zero_bytes), content)
    out.print(table)


def show_dump(pieces: Iterable[Piece], as_json: bool) -> int:
    """Print bytes as ``xxd`` does, or as JSON; 1 when nothing stands there."""
    found = list(pieces)
    if as_json:
        sys.stdout.buffer.write(dump([{"address": p.address, "data": p.data} for p in found]))
        return 0 if found else 1
    for piece in found:
        for at in range(0, len(piece.data), _WIDTH):
            print(_line(piece.address + at, piece.data[at : at + _WIDTH]))
    if not found:
        print("no memory stands there")
    return 0 if found else 1


def _line(address: int, data: bytes) -> str:
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data)
    return f"{address:012x}  {data.hex(' ', 2):{_WIDTH * 5 // 2}} {text}"


def show_matches(matches: Iterable[Match], as_json: bool) -> int:
    """Print every match as it is found; 1 when there is none."""
    rows: list[dict[str, Any]] = []
    for match in matches:
        if as_json:
            rows.append({"block": match.block, "offset": match.offset, "data": match.data})
        else:
            rows.append({})
            shown = "".join(chr(b) if 0x20 <= b < 0x7F else "." for b in match.data[:60])
            print(f"{printable(match.block)} {match.offset:#x}  {shown}")
    if as_json:
        sys.stdout.buffer.write(dump(rows))
    return 0 if rows else 1

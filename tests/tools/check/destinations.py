"""What is known of a destination, and what really came of a stream there."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path

from corpus import Case
from vmstream.tools.check.dry_run import DryRun, offer

__all__ = ["TRUTH", "command_of", "given_whole"]

TRUTH = {"ok": "loads", "fail": "fails"}
"""Outcomes as the recordings call them, to verdicts."""


def command_of(case: Case, qemu: Path, folder: Path) -> list[str]:
    """The destination's command line of a recorded pair, with an empty disk in ``folder``."""
    words = shlex.split(str(case.destination["command_line"]))
    disk = folder / "boot.img"
    if not disk.exists():
        with disk.open("wb") as file:
            file.truncate(1 << 20)
    return [str(qemu), *(word.replace("file=boot.img", f"file={disk}") for word in words[1:])]


def given_whole(
    words: list[str], data: bytes, capabilities: frozenset[str] = frozenset()
) -> DryRun:
    """What a real destination makes of a stream as it is, with all of its memory."""
    return asyncio.run(offer(words, [data], set(capabilities)))

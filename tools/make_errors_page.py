#!/usr/bin/env python3
"""Write docs/errors.md from the catalogue of messages."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from vmstream.tools.explain.catalogue import CATALOGUE
from vmstream.tools.explain.message import Message

OUTPUT = Path(__file__).parent.parent / "docs" / "errors.md"

HEAD = """# What QEMU prints, and what it means

Every message of QEMU's load path that `vmstream explain` knows, by the code that
`--json` gives it. `{...}` stands for what differs. A *symptom* follows from a cause
that was printed before it.

This page is written by `tools/make_errors_page.py`.
"""


def page() -> str:
    """The page's text."""
    parts = [HEAD]
    ordered = sorted(CATALOGUE, key=lambda message: message.code)
    for code, messages in groupby(ordered, lambda message: message.code):
        parts.append(f"\n## {code}\n")
        parts.extend(entry(message) for message in messages)
    return "".join(parts)


def entry(message: Message) -> str:
    role = "" if message.role == "cause" else f" *({message.role})*"
    return (
        f"\n`{message.shown}`{role}\n"
        f": {message.meaning[0].upper()}{message.meaning[1:]}.\n"
        f"  *What to do*: {message.remedy}. *Source*: {message.source}.\n"
    )


def main() -> None:
    OUTPUT.write_text(page())


if __name__ == "__main__":
    main()

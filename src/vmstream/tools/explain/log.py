"""Messages out of whatever they come in: a terminal, a libvirt log, QMP."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from vmstream.tools.explain.catalogue import CATALOGUE
from vmstream.tools.explain.message import Message, Role

__all__ = ["MAX_LOG", "Line", "command_line", "lines_of", "suspicious"]

MAX_LOG = 16 << 20
"""Characters looked at, from the end."""
MAX_LINE = 4096
"""Characters of a line looked at."""

_STARTS = re.compile(r": starting up|libvirt version: |^LC_ALL=C ")
"""Lines with which libvirt begins a new run of a guest in the same log."""
_TIME = re.compile(r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[\d.,]*(?:Z|[+-]\d{4})?:?\s*")
_WRONG = re.compile(
    r"error|fail|unable|cannot|can't|could not|invalid|unsupported|unknown|mismatch|missing",
    re.IGNORECASE,
)
_HARMLESS = re.compile(r"\bwarning\b|error-report|werror=|rerror=", re.IGNORECASE)


class Line(msgspec.Struct, frozen=True):
    """A line that a message was found in."""

    number: int
    text: str
    message: Message
    values: dict[str, str]

    @property
    def role(self) -> Role:
        return self.message.role


def lines_of(log: str) -> tuple[list[Line], list[str]]:
    """Recognised lines of the last run that has any, and others that look like errors."""
    runs: list[tuple[list[Line], list[str]]] = [([], [])]
    for number, text in enumerate(log[-MAX_LOG:].splitlines(), 1):
        text = _TIME.sub("", text[:MAX_LINE].strip())
        if _STARTS.search(text):
            runs.append(([], []))
            continue
        found, unknown = runs[-1]
        for part in _unwrapped(text):
            line = _recognised(number, part)
            if line is not None:
                found.append(line)
            elif suspicious(part):
                unknown.append(part)
    return next((run for run in reversed(runs) if run[0] or run[1]), ([], []))


def _recognised(number: int, text: str) -> Line | None:
    for message in CATALOGUE:
        if message.anchor in text:
            match = message.pattern.search(text)
            if match is not None:
                return Line(number, text, message, match.groupdict())
    return None


def suspicious(text: str) -> bool:
    """Whether a line that is not known looks like an error."""
    return _WRONG.search(text) is not None and _HARMLESS.search(text) is None


def _unwrapped(text: str) -> Iterator[str]:
    """The line, or the messages in the JSON that it is."""
    if text.startswith("{") and text.endswith("}"):
        try:
            yield from _described(json.loads(text))
            return
        except (ValueError, RecursionError):
            pass
    yield text


def _described(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("desc", "error-desc") and isinstance(item, str):
                yield item[:MAX_LINE]
            else:
                yield from _described(item)
    elif isinstance(value, list):
        for item in value:
            yield from _described(item)


def command_line(log: str) -> list[str] | None:
    """The last QEMU command that a libvirt log tells; None where there is none."""
    from vmstream.engine.command_line import words_of

    text = log[-MAX_LOG:]
    start = text.rfind("\nLC_ALL=C ")
    if start < 0 and text.startswith("LC_ALL=C "):
        start = 0
    if start < 0:
        return None
    words = []
    for line in text[start:].lstrip("\n").splitlines():
        words.append(line.rstrip("\\"))
        if not line.endswith("\\"):
            break
    try:
        return words_of(" ".join(words))
    except ValueError:
        return None

"""Messages of QEMU as data: how they are recognised, and what they mean."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cached_property

__all__ = ["Message", "Role"]


class Role(StrEnum):
    """What a message is in the chain from the cause to the end."""

    CAUSE = "cause"
    """What went wrong."""
    SYMPTOM = "symptom"
    """What follows from a cause that was printed before."""
    WARNING = "warning"
    """Worth knowing, and no reason to fail."""


SHOWN = re.compile(r"\{(\w+):\w\}")
"""A hole with its kind, which is no part of what is shown."""
_HOLE = re.compile(r"\{(\w+)(?::(\w))?\}")
_KINDS = {
    None: r".{1,200}?",
    "x": r"(?:0x)?[0-9a-fA-F]{1,16}",
    "d": r"-?\d{1,20}",
    "w": r"[^\s'\",]{1,200}",
    "n": r"[^'\"]{0,255}",
}
"""What stands in a hole: anything short, a hexadecimal or decimal number, a word, a name."""


class Message:
    """One text that QEMU prints.

    ``text`` has the words as printed with named holes: ``Unknown ramblock
    "{block:n}", cannot accept migration``.
    """

    def __init__(
        self,
        code: str,
        text: str,
        meaning: str,
        remedy: str,
        *,
        role: Role = Role.CAUSE,
        source: str,
        example: str | None = None,
    ) -> None:
        self.code = code
        self.text = text
        self.meaning = meaning
        self.remedy = remedy
        self.role = role
        self.source = source
        self._example = example

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches the words wherever they stand in a line; linear in its length."""
        parts: list[str] = []
        end = 0
        for hole in _HOLE.finditer(self.text):
            parts += [re.escape(self.text[end : hole.start()]), f"(?P<{hole[1]}>{_KINDS[hole[2]]})"]
            end = hole.end()
        tail = self.text[end:]
        if tail:
            return re.compile("".join(parts) + re.escape(tail))
        # A hole at the end takes all that it can.
        parts[-1] = parts[-1].replace("{1,200}?", "{1,200}")
        return re.compile("".join(parts))

    @property
    def shown(self) -> str:
        """The words with the names of the holes."""
        return SHOWN.sub(r"{\1}", self.text)

    @property
    def anchor(self) -> str:
        """The longest run of plain words: a line without it can not match."""
        return max(_HOLE.sub("\0", self.text).split("\0"), key=len)

    @property
    def example(self) -> str:
        """The text with something in every hole."""
        if self._example is not None:
            return self._example
        fill = {None: "something", "x": "0x1f", "d": "7", "w": "word", "n": "name"}
        return _HOLE.sub(lambda hole: fill[hole[2]], self.text)

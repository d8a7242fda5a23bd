"""Where a device section's body ends.

No section carries its length. The decoder tries, in this order: the size that
the stream's own description gives (when its caller had it in advance), the
section's footer, a layout known from elsewhere, the next section header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Protocol

from vmstream.wire.commands import COMMAND_NUMBERS
from vmstream.wire.sections import Element

__all__ = ["Extents", "find_footer", "find_header", "find_package_end", "is_element"]

_LOOKAHEAD = 300
"""Bytes after a candidate end that decide whether an element begins there."""
_FIRST_STEP = 1 << 12
_LAST_STEP = 1 << 20
"""Bytes searched at a time: most bodies are short, and what is searched is copied."""

_PACKAGE_END = re.compile(rb"(?:\x08\x00\x02\x00\x04.{4})?\x08\x00\x05\x00\x00\Z", re.DOTALL)
"""PING, then POSTCOPY_RUN: what every package ends with (``migration.c``, ``postcopy_start``)."""


class Extents(Protocol):
    """Sizes that a body may have, best first."""

    def own(self, idstr: str, instance_id: int) -> Sequence[int]:
        """Bytes by the description of this very stream, when it is known."""

    def learn(self, tail: memoryview) -> None:
        """Look for this stream's description in its last bytes."""

    def borrowed(
        self, idstr: str, instance_id: int, version_id: int, data: memoryview
    ) -> Iterable[int]:
        """Bytes by layouts from elsewhere, walked over what follows the header."""


def is_element(
    data: memoryview, closed: bool, known: Iterable[int], colo: bool = False
) -> bool | None:
    """Whether an element can begin with ``data``; None when more bytes are needed to tell.

    ``known`` are the ids of sections that PART and END may name. With ``colo``
    messages may follow an end mark.
    """
    if not len(data):
        return closed or None
    kind = data[0]
    if kind in (Element.START, Element.FULL):
        return _is_header(data, closed)
    if kind in (Element.PART, Element.END):
        if len(data) < 5:
            return False if closed else None
        return int.from_bytes(data[1:5], "big") in known
    if kind == Element.COMMAND:
        if len(data) < 5:
            return False if closed else None
        number, length = int.from_bytes(data[1:3], "big"), int.from_bytes(data[3:5], "big")
        return number in COMMAND_NUMBERS and length <= 4096
    if kind == Element.EOF:
        return colo or _is_end(data, closed)
    return False


def _is_header(data: memoryview, closed: bool) -> bool | None:
    if len(data) < 6:
        return False if closed else None
    length = data[5]
    if not length:
        return False
    name = bytes(data[6 : 6 + length])
    if not all(0x20 <= byte != 0x7F for byte in name):
        return False
    if len(data) < 6 + length + 8:
        return False if closed else None
    version = int.from_bytes(data[10 + length : 14 + length], "big")
    return version < 1 << 28  # some devices count by date, like 20061112


def _is_end(data: memoryview, closed: bool) -> bool | None:
    """After EOF stands nothing, the description, or padding."""
    if len(data) < 7 and not closed:
        return None if bytes(data[1:2]) in (b"", b"\x06", b"\0") else False
    if bytes(data[1:2]) == b"\x06":
        return bytes(data[6:7]) in (b"{", b"")
    return not any(data[1:])


def find_footer(
    data: memoryview,
    start: int,
    section_id: int,
    closed: bool,
    known: Iterable[int],
    colo: bool = False,
) -> tuple[int | None, int]:
    """The first footer of a section in ``data[start:]`` that a legal element follows.

    Returns (its index or None, where to go on searching when more has come).
    """
    mark = bytes((Element.FOOTER,)) + section_id.to_bytes(4, "big")
    step = _FIRST_STEP
    while start + len(mark) <= len(data):
        chunk = bytes(data[start : start + step])
        at = chunk.find(mark)
        if at < 0:
            start += len(chunk) - len(mark) + 1
            step = min(2 * step, _LAST_STEP)
            continue
        start += at
        verdict = is_element(data[start + 5 : start + 5 + _LOOKAHEAD], closed, known, colo)
        if verdict is None:
            return None, start
        if verdict:
            return start, start
        start += 1
    return None, start


def find_header(data: memoryview, start: int, after_id: int) -> int | None:
    """The next place in ``data[start:]`` that looks like the header of a FULL section.

    Only for streams without footers and description. The id must be above
    ``after_id``, the name printable with at least two letters, and instance and
    version small: an inference, and reported as one.
    """
    raw = bytes(data)
    at = start - 1
    while (at := raw.find(b"\x04", at + 1)) >= 0:
        section_id = int.from_bytes(raw[at + 1 : at + 5], "big")
        if not after_id < section_id <= after_id + 4096 or at + 6 > len(raw):
            continue
        length = raw[at + 5]
        name = raw[at + 6 : at + 6 + length]
        tail = raw[at + 6 + length : at + 14 + length]
        if length < 2 or len(name) != length or len(tail) != 8:
            continue
        if not all(0x20 <= byte < 0x7F for byte in name):
            continue
        if sum(chr(byte).isalpha() for byte in name) < 2:
            continue
        if int.from_bytes(tail[:4], "big") < 0x10000 and int.from_bytes(tail[4:], "big") < 0x1000:
            return at
    return None


def find_package_end(data: memoryview) -> int | None:
    """Where the commands begin that end a post-copy's package, whose last bytes are ``data``."""
    found = _PACKAGE_END.search(data, max(0, len(data) - 14))
    return found.start() if found else None

"""One register, and the fields of a processor's decoded state as plain integers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from vmstream.vmstate.values import Array, List, Scalar, Struct

__all__ = ["Fields", "Group", "Register", "flags_of", "numbered"]

_WIDEST = 256
"""Bytes of one register at most (an SVE register); what is longer is no register."""

Bits = Mapping[int, str]
"""Bit number to the flag's name."""


class Group(StrEnum):
    """What a register is for; groups are printed in this order."""

    GENERAL = "general"
    SEGMENT = "segment"
    CONTROL = "control"
    DEBUG = "debug"
    FLOAT = "float"
    VECTOR = "vector"
    BANKED = "banked"
    SYSTEM = "system"


class Register(msgspec.Struct, frozen=True):
    """A register's value, without sign; its name is gdb's wherever gdb has one."""

    name: str
    value: int
    bits: int
    """Its width as the stream holds it."""
    group: Group = Group.GENERAL
    flags: tuple[str, ...] | None = None
    """The names of the bits that are set, for registers of flags."""


def flags_of(value: int, names: Bits) -> tuple[str, ...]:
    """Names of the bits that are set, the lowest first."""
    return tuple(name for bit, name in names.items() if value >> bit & 1)


class Fields:
    """A processor's state, collecting registers from it.

    Every element counts as an unsigned big-endian integer of its own width,
    which is how ``migration/vmstate-types.c`` writes numbers and how targets
    write the registers that have a type of their own. A field that is absent,
    or no number, leaves its register out.
    """

    def __init__(self, state: Struct) -> None:
        self.state = state
        self.found: list[Register] = []

    def __contains__(self, path: str) -> bool:
        return path in self.state

    def element(self, *paths: str) -> tuple[int, int] | None:
        """(value, bits) at the first of several paths that holds a number.

        A name that two fields bear (one of them for old versions) is the field
        that was in the stream.
        """
        for path in paths:
            if path not in self.state:
                continue
            node = self.state.at(path)
            if isinstance(node, List):
                node = next((item for item in node if len(item.raw)), node)
            if isinstance(node, Array) and len(node) == 1:
                node = node[0]
            if isinstance(node, Scalar) and 0 < len(node.raw) <= _WIDEST:
                return int.from_bytes(node.raw, "big"), 8 * len(node.raw)
        return None

    def integer(self, *paths: str) -> int | None:
        """The value at the first of several paths that holds a number."""
        element = self.element(*paths)
        return None if element is None else element[0]

    def array(self, path: str, count: int) -> list[tuple[int, int]]:
        """(value, bits) of the first ``count`` elements; empty when there are fewer."""
        if path not in self.state:
            return []
        node = self.state.at(path)
        if isinstance(node, List) and len(node) == 1:
            node = node[0]
        if not isinstance(node, Array | List) or len(node) < count:
            return []
        elements = [node[index] for index in range(count)]
        if not all(isinstance(e, Scalar) and 0 < len(e.raw) <= _WIDEST for e in elements):
            return []
        return [(int.from_bytes(e.raw, "big"), 8 * len(e.raw)) for e in elements]

    def put(
        self,
        name: str,
        value: int | None,
        bits: int,
        group: Group = Group.GENERAL,
        flags: Bits | None = None,
    ) -> None:
        """A register by its value; none where there is no value."""
        if value is not None:
            shown = None if flags is None else flags_of(value, flags)
            # A damaged value may need more bits than its register has.
            bits = max(bits, value.bit_length())
            self.found.append(Register(name, value, bits, group, shown))

    def take(
        self,
        name: str,
        *paths: str,
        group: Group = Group.GENERAL,
        flags: Bits | None = None,
    ) -> None:
        """A register from the first path that holds a number."""
        element = self.element(*paths)
        if element is not None:
            self.put(name, *element, group, flags)

    def take_all(self, table: Mapping[str, str], group: Group) -> None:
        """Registers by a table of name to path."""
        for name, path in table.items():
            self.take(name, path, group=group)

    def take_array(
        self, names: Iterable[str], path: str, group: Group = Group.GENERAL, start: int = 0
    ) -> None:
        """Registers from neighbouring elements of an array, beginning at ``start``."""
        named = list(names)
        elements = self.array(path, start + len(named))[start:]
        for name, element in zip(named, elements, strict=False):
            self.put(name, *element, group)


def numbered(prefix: str, count: int, start: int = 0) -> list[str]:
    """``r0``, ``r1``, ... as many as asked for."""
    return [f"{prefix}{number}" for number in range(start, start + count)]

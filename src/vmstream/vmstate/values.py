"""Decoded device state: typed values that know where their bytes are.

Four shapes make a tree:

========== ==========================================================
`Scalar`   one element of a wire type
`Array`    elements of one wire type, side by side; numpy when numbers
`List`     structs, container elements, or pointers that may be NULL
`Struct`   members by name, and subsections by their full name
========== ==========================================================

Every node has ``offset`` (of its first byte, in the stream) and ``raw`` (its
bytes, a view that copies nothing); what the bytes mean is worked out when
``value`` is asked for. Wire types: QEMU ``migration/vmstate-types.c``.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vmstream.vmstate.description import Description

__all__ = ["INTEGERS", "Array", "List", "Scalar", "Struct", "Value", "to_plain", "walk"]

NULL_MARKER = b"0"
"""What stands for a NULL pointer (``VMS_NULLPTR_MARKER``)."""

INTEGERS: dict[str, tuple[int, bool]] = {
    "int8": (1, True),
    "int16": (2, True),
    "int32": (4, True),
    "int64": (8, True),
    "uint8": (1, False),
    "uint16": (2, False),
    "uint32": (4, False),
    "uint64": (8, False),
    "int32 equal": (4, True),
    "int32 le": (4, True),
    "uint8 equal": (1, False),
    "uint16 equal": (2, False),
    "uint32 equal": (4, False),
    "int64 equal": (8, False),
    "timer": (8, True),
}
"""Wire type to (bytes, signed), all big-endian.

``int32 le`` means *less or equal*. ``int64 equal`` is QEMU's name of the
uint64 that must match. A ``timer`` is its expiry in ns, -1 when not pending.
"""

_FLOATS = frozenset({"float64", "CPU_Double_U"})
_DTYPES: dict[str, npt.DTypeLike] = {
    **{name: f">{'i' if signed else 'u'}{size}" for name, (size, signed) in INTEGERS.items()},
    **dict.fromkeys(_FLOATS, ">f8"),
    "bool": ">u1",
}
ABBREVIATED_BYTES = 32
"""Bytes of a buffer that :func:`to_plain` shows unless asked for all."""


def _bitmap(raw: memoryview) -> int:
    """Bit i of the result is bit i of the bitmap: be64 words, lowest word first."""
    words = np.frombuffer(raw, ">u8").astype("<u8")
    return int.from_bytes(words.tobytes(), "little")


def _capability(raw: memoryview) -> str:
    return bytes(raw[1:]).decode("utf-8", "surrogateescape")


def _of_schema(raw: memoryview) -> int | bytes:
    """Of a field whose C size is all that is known, a schema's: unsigned if a number."""
    return int.from_bytes(raw, "big") if len(raw) in (1, 2, 4, 8) else bytes(raw)


_CONVERTERS: dict[str, Callable[[memoryview], Any]] = {
    "capability": _capability,
    "nullptr": lambda raw: None,
    "schema": _of_schema,
}


def convert(type_: str, raw: memoryview) -> Any:
    """The Python value of one element; bytes for every type that is opaque.

    A number whose bytes are not as many as its type asks for stays bytes.
    """
    integer = INTEGERS.get(type_)
    if integer is not None and integer[0] == len(raw):
        return int.from_bytes(raw, "big", signed=integer[1])
    if type_ == "bool" and len(raw) == 1:
        return raw[0] != 0
    if type_ in _FLOATS and len(raw) == 8:
        return struct.unpack(">d", raw)[0]
    if type_ == "bitmap" and len(raw) % 8 == 0:
        return _bitmap(raw)
    converter = _CONVERTERS.get(type_)
    return bytes(raw) if converter is None else converter(raw)


class Scalar(msgspec.Struct):
    """One element: a number, a flag, a buffer, an opaque blob."""

    type: str
    """Its wire type; the private name of an opaque one (``"msix state"``)."""
    offset: int
    raw: memoryview

    @property
    def value(self) -> Any:
        """int, bool, float, str (capability), None (NULL pointer) or bytes.

        A bitmap is an int whose bit i is the bitmap's bit i.
        """
        return convert(self.type, self.raw)


class Array(msgspec.Struct):
    """``count`` elements of one wire type, side by side."""

    type: str
    offset: int
    raw: memoryview
    count: int

    @property
    def value(self) -> Any:
        """A numpy array (``bool`` or big-endian numbers), else a list."""
        dtype = _DTYPES.get(self.type)
        if dtype is None or np.dtype(dtype).itemsize * self.count != len(self.raw):
            return [item.value for item in self]
        numbers: npt.NDArray[Any] = np.frombuffer(self.raw, dtype)
        return numbers != 0 if self.type == "bool" else numbers

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Scalar:
        if not 0 <= index < self.count:
            raise IndexError(index)
        size = len(self.raw) // self.count
        start = index * size
        return Scalar(self.type, self.offset + start, self.raw[start : start + size])

    def __iter__(self) -> Iterator[Scalar]:
        return (self[index] for index in range(self.count))


class List(msgspec.Struct):
    """Elements that are no plain numbers, or not all alike."""

    type: str
    """``qtailq``, ``qlist``, ``gtree``; ``array`` for entries of one name."""
    offset: int
    raw: memoryview
    items: list[Value] = msgspec.field(default_factory=list)

    @property
    def value(self) -> list[Any]:
        return [item.value for item in self.items]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Value:
        return self.items[index]

    def __iter__(self) -> Iterator[Value]:
        return iter(self.items)


class Struct(msgspec.Struct):
    """A device, a nested struct or a subsection.

    ``struct["env.regs[4]"]`` is a Python value (a nested struct is itself);
    :meth:`at` takes the same path to the node, which has offset and bytes.
    A path is member names joined with ``.``, elements in ``[]``. Names are C
    expressions with dots and brackets of their own, so the longest member name
    that the path begins with is tried first. A subsection is a member under
    its full name: ``cpu/msr_tsc_adjust.env.tsc_adjust``.
    """

    description: Description
    offset: int
    raw: memoryview
    version: int
    members: dict[str, Value] = msgspec.field(default_factory=dict)
    subsections: dict[str, Struct] = msgspec.field(default_factory=dict)

    @property
    def type(self) -> str:
        """The description's name (QEMU's vmsd name)."""
        return self.description.name

    @property
    def value(self) -> Struct:
        return self

    def __getitem__(self, path: str) -> Any:
        return self.at(path).value

    def __contains__(self, path: str) -> bool:
        return _resolve(self, path) is not None

    def __iter__(self) -> Iterator[str]:
        yield from self.members
        yield from self.subsections

    def at(self, path: str) -> Value:
        """The node at a path.

        Raises:
            KeyError: nothing stands there.
        """
        found = _resolve(self, path)
        if found is None:
            raise KeyError(path)
        return found

    def get(self, path: str, default: Any = None) -> Any:
        """The Python value at a path, or ``default``."""
        found = _resolve(self, path)
        return default if found is None else found.value


Value = Scalar | Array | List | Struct

_INDEX = re.compile(r"\[(0[xX][0-9a-fA-F]{1,8}|[0-9]{1,9})\]")


def _resolve(start: Value, path: str) -> Value | None:
    """Try literal names, longest first, and step back where the rest fails."""
    pending: list[tuple[Value, str]] = [(start, f".{path}" if path else "")]
    while pending:
        node, rest = pending.pop()
        if not rest:
            return node
        if isinstance(node, Struct):
            pending.extend(_members_matching(node, rest))
        elif isinstance(node, Array | List):
            index = _INDEX.match(rest)
            if index and (position := int(index[1], 0 if "x" in index[1].lower() else 10)) < len(
                node
            ):
                pending.append((node[position], rest[index.end() :]))
    return None


def _members_matching(node: Struct, path: str) -> list[tuple[Value, str]]:
    """Members that the path begins with, with what is left; the longest last."""
    if path[0] != ".":
        return []
    path = path[1:]
    matching: list[tuple[int, Value]] = []
    named: tuple[dict[str, Any], ...] = (node.members, node.subsections)
    for members in named:
        if path in members:
            matching.append((len(path), members[path]))
        matching.extend(
            (len(name), member)
            for name, member in members.items()
            if len(name) < len(path) and path[len(name)] in ".[" and path.startswith(name)
        )
    matching.sort(key=lambda match: match[0])
    return [(member, path[length:]) for length, member in matching]


def to_plain(value: Value, full: bool = False) -> Any:
    """What JSON can hold: dicts, lists, numbers, flags, None and strings.

    Buffers and opaque types become hex, of the first 32 bytes with the length
    after it unless ``full``; a bitmap becomes the hex of its number; a float
    that JSON has no word for becomes a string.
    """
    if isinstance(value, Struct):
        plain = {name: to_plain(member, full) for name, member in value.members.items()}
        for name, subsection in value.subsections.items():
            plain[name] = to_plain(subsection, full)
        return plain
    if isinstance(value, List):
        return [to_plain(item, full) for item in value.items]
    content = value.value
    if isinstance(content, np.ndarray):
        if content.dtype.kind != "f":
            return content.tolist()
        return [_plain_scalar(item, full) for item in content.tolist()]
    if isinstance(value, Array):
        return [_plain_item(item, full) for item in value]
    return _plain_item(value, full)


def _plain_item(item: Scalar, full: bool) -> Any:
    content = item.value
    if item.type == "bitmap" and isinstance(content, int):
        return _hex(content.to_bytes(len(item.raw), "big"), full)
    return _plain_scalar(content, full)


def _plain_scalar(content: Any, full: bool) -> Any:
    if isinstance(content, bytes):
        return _hex(content, full)
    if isinstance(content, float) and not math.isfinite(content):
        return str(content)
    return content


def _hex(data: bytes, full: bool) -> str:
    if full or len(data) <= ABBREVIATED_BYTES:
        return data.hex()
    return f"{data[:ABBREVIATED_BYTES].hex()}... ({len(data)} bytes)"


def walk(value: Value, path: str = "") -> Iterator[tuple[str, int, memoryview, Scalar | Array]]:
    """Every leaf in stream order: (path, offset, bytes, node).

    An array of plain elements is one leaf. Marker bytes of containers and the
    headers of subsections belong to no leaf.
    """
    if isinstance(value, Struct):
        for members in (value.members, value.subsections):
            for name, member in members.items():
                yield from walk(member, f"{path}.{name}" if path else name)
    elif isinstance(value, List):
        for index, item in enumerate(value.items):
            yield from walk(item, f"{path}[{index}]")
    else:
        yield path, value.offset, value.raw, value

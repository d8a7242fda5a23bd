"""Values as a person writes them, to the bytes of a wire type."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from difflib import get_close_matches

from vmstream.tools.edits.records import EditError, Plain
from vmstream.vmstate.values import INTEGERS

__all__ = ["encode_array", "encode_value", "hex_bytes", "listed", "whole_number"]

FLOATS = frozenset({"float64", "CPU_Double_U"})
FLAGS = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
UNWRITABLE = frozenset(
    {"nullptr", "capability", "struct", "vstruct", "tmp", "qtailq", "qlist", "gtree"}
)
"""Types that are no single value."""
_LISTED = 8
"""Names that an error shows."""
_COMPARED = 1000
"""Names that are compared with one that is not there."""


def encode_value(type_: str, value: Plain, size: int | None = None) -> bytes:
    """The bytes of one element.

    Args:
        type_: its wire type; what is neither number nor flag takes hex.
        value: what it shall be; text is read as the type asks.
        size: bytes that it must have; None for a new field, whose type or hex decides.

    Raises:
        EditError: the value does not fit the type or the size.
    """
    if type_ in UNWRITABLE:
        raise EditError(f"a {type_} is no single value")
    integer = INTEGERS.get(type_)
    if integer is not None and size in (None, integer[0]):
        return _integer(type_, whole_number(value), *integer)
    if type_ == "bool" and size in (None, 1):
        return bytes((_flag(value),))
    if type_ in FLOATS and size in (None, 8):
        return struct.pack(">d", _float(value))
    if type_ == "bitmap" and isinstance(value, int):
        return _bitmap(value, size)
    data = hex_bytes(value)
    if size is not None and len(data) != size:
        raise EditError(f"{len(data)} bytes were given for a {type_} of {size}")
    return data


def encode_array(type_: str, value: Plain, size: int, count: int) -> bytes:
    """The bytes of an array: numbers one by one, or hex of the whole.

    Raises:
        EditError: there are more or fewer than ``count``, or one does not fit.
    """
    if isinstance(value, str) and "," in value:
        return _elements(type_, [part.strip() for part in value.split(",")], size, count)
    if isinstance(value, tuple):
        return _elements(type_, value, size, count)
    data = hex_bytes(value)
    if len(data) != size:
        raise EditError(f"{len(data)} bytes were given for an array of {size} ({count} x {type_})")
    return data


def _elements(type_: str, values: Sequence[str | int], size: int, count: int) -> bytes:
    if len(values) != count:
        raise EditError(f"{len(values)} values were given for an array of {count}")
    return b"".join(encode_value(type_, value, size // count) for value in values)


def _integer(type_: str, value: int, size: int, signed: bool) -> bytes:
    try:
        return value.to_bytes(size, "big", signed=signed)
    except OverflowError:
        low, high = (
            (-(1 << 8 * size - 1), (1 << 8 * size - 1) - 1)
            if signed
            else (
                0,
                (1 << 8 * size) - 1,
            )
        )
        raise EditError(f"{value:#x} is no {type_}: it takes {low:#x} to {high:#x}") from None


def _bitmap(value: int, size: int | None) -> bytes:
    """be64 words, lowest word first; bit i of the number is bit i of the bitmap."""
    if size is None or size % 8 or value < 0 or value.bit_length() > 8 * size:
        raise EditError(f"{value:#x} does not fit a bitmap of {size} bytes")
    words = [value >> shift & (1 << 64) - 1 for shift in range(0, 8 * size, 64)]
    return struct.pack(f">{len(words)}Q", *words)


def whole_number(value: Plain) -> int:
    """A number, or text of one in any of Python's bases.

    Raises:
        EditError: it is none.
    """
    if isinstance(value, int):
        return int(value)
    try:
        return int(str(value), 0)
    except ValueError:
        raise EditError(f"{str(value)[:40]!r} is no whole number") from None


def _flag(value: Plain) -> bool:
    flag = FLAGS.get(str(value).lower())
    if flag is None:
        raise EditError(f"{str(value)[:40]!r} is neither true nor false")
    return flag


def _float(value: Plain) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise EditError(f"{str(value)[:40]!r} is no number") from None


def hex_bytes(value: Plain) -> bytes:
    """Bytes written as hex, with or without ``0x`` before.

    Raises:
        EditError: it is no hex.
    """
    if isinstance(value, str):
        try:
            return bytes.fromhex(value.removeprefix("0x"))
        except ValueError:
            pass
    raise EditError(f"{str(value)[:40]!r} is no hex, as bytes are written")


def listed(names: Sequence[str], wanted: str = "") -> str:
    """Names for an error: those like the one that was wanted, else the first."""
    shown = get_close_matches(wanted, names[:_COMPARED], _LISTED, 0.5) if wanted else []
    if not shown:
        shown = list(names[:_LISTED])
    rest = len(names) - len(shown)
    text = ", ".join(shown) or "nothing"
    return f"{text} and {rest} more" if rest else text

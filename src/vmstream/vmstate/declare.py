"""The words in which device state is declared.

>>> from vmstream import vmstate
>>> class Uart(vmstate.State, name="serial", version=3, minimum_version=2):
...     divider: int = vmstate.uint16()
...     fifo: bytes = vmstate.buffer(16, since=3)

Every word takes ``wire_name`` (a name, or names by QEMU version), ``since``
(the version that introduced the field) and ``exists`` (a condition that decides
alone); those that hold states take ``given`` (attributes that the states inside
are handed for conditions of their own). Type names and layouts: QEMU ``migration/vmstate-types.c``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vmstream.vmstate.containers import Queue, Tmp, Tree, Validation
from vmstream.vmstate.fields import (
    Bitmap,
    Field,
    FixedArray,
    Opaque,
    Pointers,
    Private,
    Scalar,
    Struct,
    Unused,
    VariableArray,
    VariableBuffer,
)
from vmstream.vmstate.state import State, Subsection

__all__ = [
    "array",
    "bitmap",
    "boolean",
    "buffer",
    "cpu_double",
    "float64",
    "gtree",
    "int8",
    "int16",
    "int32",
    "int32_equal",
    "int32_le",
    "int64",
    "opaque",
    "pointers",
    "private",
    "qlist",
    "qtailq",
    "struct",
    "subsection",
    "timer",
    "tmp",
    "uint8",
    "uint8_equal",
    "uint16",
    "uint16_equal",
    "uint32",
    "uint32_equal",
    "uint64",
    "uint64_equal",
    "unused",
    "validate",
    "vstruct",
]

NOT_PENDING = -1
"""A timer's value while it is not armed."""


def int8(**common: Any) -> Any:
    """A signed byte."""
    return Scalar("int8", "b", **common)


def int16(**common: Any) -> Any:
    """be16, two's complement."""
    return Scalar("int16", "h", **common)


def int32(**common: Any) -> Any:
    """be32, two's complement."""
    return Scalar("int32", "i", **common)


def int64(**common: Any) -> Any:
    """be64, two's complement."""
    return Scalar("int64", "q", **common)


def uint8(**common: Any) -> Any:
    """A byte."""
    return Scalar("uint8", "B", **common)


def uint16(**common: Any) -> Any:
    """be16."""
    return Scalar("uint16", "H", **common)


def uint32(**common: Any) -> Any:
    """be32."""
    return Scalar("uint32", "I", **common)


def uint64(**common: Any) -> Any:
    """be64."""
    return Scalar("uint64", "Q", **common)


def int32_equal(default: int = 0, **common: Any) -> Any:
    """be32 that must have the destination's own value."""
    return Scalar("int32 equal", "i", rule="equal", default=default, **common)


def uint8_equal(default: int = 0, **common: Any) -> Any:
    """A byte that must have the destination's own value."""
    return Scalar("uint8 equal", "B", rule="equal", default=default, **common)


def uint16_equal(default: int = 0, **common: Any) -> Any:
    """be16 that must have the destination's own value."""
    return Scalar("uint16 equal", "H", rule="equal", default=default, **common)


def uint32_equal(default: int = 0, **common: Any) -> Any:
    """be32 that must have the destination's own value."""
    return Scalar("uint32 equal", "I", rule="equal", default=default, **common)


def uint64_equal(default: int = 0, **common: Any) -> Any:
    """be64 that must have the destination's own value; QEMU calls its type ``int64 equal``."""
    return Scalar("int64 equal", "Q", rule="equal", default=default, **common)


def int32_le(default: int = 0, **common: Any) -> Any:
    """be32 from 0 to the destination's own value: ``le`` is less-or-equal, not little-endian."""
    return Scalar("int32 le", "i", rule="at most", default=default, **common)


def boolean(**common: Any) -> Any:
    """One byte; any but 0 loads as true."""
    return Scalar("bool", "?", default=False, **common)


def float64(**common: Any) -> Any:
    """An IEEE double, be64 (QEMU up to 5.2)."""
    return Scalar("float64", "d", default=0.0, **common)


def cpu_double(**common: Any) -> Any:
    """The bits of a double as be32 upper, be32 lower: a be64 (``CPU_DoubleU``)."""
    return Scalar("CPU_Double_U", "Q", **common)


def timer(**common: Any) -> Any:
    """be64 nanoseconds of the timer's clock at which it fires; -1 when it is not armed."""
    return Scalar("timer", "q", default=NOT_PENDING, **common)


def buffer(size: int | str, *, maximum: int | None = None, **common: Any) -> Any:
    """Raw bytes: a fixed number, or as many as another field says."""
    if isinstance(size, str):
        return VariableBuffer(size, maximum=maximum, **common)
    return Opaque(size, **common)


def opaque(type_: str, size: int | str, **common: Any) -> Any:
    """Bytes under a private type's name, such as ``pci config`` or ``msix state``."""
    if isinstance(size, str):
        return VariableBuffer(size, type_=type_, **common)
    return Opaque(size, type_, **common)


def unused(size: int, **common: Any) -> Any:
    """Padding."""
    return Unused(size, **common)


def bitmap(bits: int | str, **common: Any) -> Any:
    """Bits as be64 words; the value is an int whose bit i is bit i."""
    return Bitmap(bits, **common)


def array(element: Any, count: int | str, **common: Any) -> Any:
    """An array of numbers, buffers or states: of constant length, or as another field says.

    ``multiply`` and ``maximum`` go with a count field.
    """
    if isinstance(count, str):
        return VariableArray(element, count, **common)
    return FixedArray(element, count, **common)


def pointers(element: Any, count: int | str, **common: Any) -> Any:
    """An array of pointers; None is a NULL pointer."""
    return Pointers(element, count, **common)


def struct(state: type[State], **common: Any) -> Any:
    """A state inside the state, without header or version."""
    return Struct(state, **common)


def private(type_: str, state: type[State], **common: Any) -> Any:
    """A state that QEMU writes by code of its own (``get`` and ``put``, such as ``virtio``).

    The description has its type's name and its size, and nothing of what is inside.
    """
    return Private(type_, state, **common)


def vstruct(state: type[State], version: int, **common: Any) -> Any:
    """A state inside the state, at a version that is not its own (3.0+)."""
    return Struct(state, version, **common)


def qtailq(state: type[State], **common: Any) -> Any:
    """A list of states that counts itself (2.9+)."""
    return Queue(state, "qtailq", **common)


def qlist(state: type[State], **common: Any) -> Any:
    """A list of states that counts itself (5.0+)."""
    return Queue(state, "qlist", **common)


def gtree(key: type[State] | None, value: type[State], **common: Any) -> Any:
    """A tree as (key, value) pairs; ``key`` None stands for be64 numbers (4.2+)."""
    return Tree(key, value, **common)


def tmp(
    state: type[State],
    *,
    gather: Callable[[Any, Any], None],
    scatter: Callable[[Any, Any], None],
    **common: Any,
) -> Any:
    """A state made for the wire: ``gather(parent, made)`` before, ``scatter`` after (2.9+)."""
    return Tmp(state, gather=gather, scatter=scatter, **common)


def validate(holds: Callable[[Any, int], bool], name: str) -> Any:
    """A condition on (state, version) that a load must meet; nothing on the wire."""
    field: Field = Validation(holds, name)
    return field


def subsection(state: type[State], needed: Callable[[Any], bool] | None = None) -> Any:
    """An optional part of its own name and version; None while absent."""
    return Subsection(state, needed)

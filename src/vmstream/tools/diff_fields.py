"""The fields of one device in two streams, beside each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from vmstream.stream.devices import Device
from vmstream.tools.diff_report import Change, ChangeKind, Side
from vmstream.vmstate.decode import Decoded, fits
from vmstream.vmstate.values import Array, List, Scalar, Struct, Value, to_plain

__all__ = ["changes_of"]

_APART = 4
"""Elements of an array that are told one by one; of more, the ranges are told."""
_TOLD = 16
"""Bytes, or elements, of a change in ranges whose values are given."""
_MAX_RANGES = 256
"""Ranges of one change that are given; ``differing`` counts them all."""
_SIFTED = 4096
"""Elements that are looked up one by one in what to leave out; of more, the array as a whole is."""
_BODY = "body"
"""The type of bytes that belong to no field."""

Keep = Callable[[str, str | None], bool]
"""Whether a difference at (path, wire type) counts."""


class _Pair(msgspec.Struct, frozen=True):
    """What stands at one path in either stream."""

    path: str
    a: Value | None
    b: Value | None
    subsection: bool = False


def changes_of(a: Device, b: Device, keep: Keep) -> tuple[tuple[Change, ...], bool]:
    """What differs in a device's state, in the order of its fields, and whether these are known.

    Bytes that no field accounts for are compared as bytes; so is everything
    where nothing describes the device.
    """
    if a.data == b.data:
        return (), True
    old, new = _decoded_pair(a, b)
    if old is None or new is None:
        return tuple(_body(a, b, 0, 0, keep)), False
    seen: list[str] = []

    def noted(path: str, type_: str | None) -> bool:
        seen.append(path)
        return keep(path, type_)

    changes = list(_walk(old.value, new.value, noted))
    if not (old.exact and new.exact):
        changes += _body(a, b, old.size, new.size, noted)
    if not seen:  # marks and lengths, which belong to no field
        changes += _body(a, b, 0, 0, keep)
    return tuple(changes), True


def _decoded_pair(a: Device, b: Device) -> tuple[Decoded | None, Decoded | None]:
    """Either device's values; where only one can be decoded, its description serves the other."""
    old, new = a.decoded, b.decoded
    if old is None and new is not None:
        return _by(new, a), new
    if new is None and old is not None:
        return old, _by(old, b)
    return old, new


def _by(other: Decoded, device: Device) -> Decoded | None:
    """A device by another stream's description, if that accounts for every byte."""
    section = device.section
    found = fits(
        (other.value.description,),
        device.data,
        section.body_offset,
        size=len(device.data),
        version=section.version,
    )
    return found[0] if found else None


def _body(a: Device, b: Device, start: int, other: int, keep: Keep) -> Iterator[Change]:
    """The bytes of the body from ``start`` in a and ``other`` in b on."""
    sides = [
        Scalar(_BODY, device.section.body_offset + at, memoryview(device.data)[at:])
        for device, at in ((a, start), (b, other))
    ]
    if sides[0].raw != sides[1].raw:
        yield from _bytes("", sides[0], sides[1], keep)


def _walk(old: Struct, new: Struct, keep: Keep) -> Iterator[Change]:
    """Every difference, in the order of the fields of ``old``."""
    pending = [_Pair("", old, new)]
    while pending:
        pair = pending.pop()
        path, a, b = pair.path, pair.a, pair.b
        if a is None or b is None:
            yield from _only(pair, keep)
        elif isinstance(a, Struct) and isinstance(b, Struct):
            if pair.subsection and a.version != b.version and keep(path, None):
                yield _change(path, ChangeKind.VERSION, a, b, a.version, b.version)
            pending.extend(reversed(_members(path, a, b)))
        elif isinstance(a, List) and isinstance(b, List):
            if len(a) != len(b) and keep(path, a.type):
                yield _change(path, ChangeKind.LENGTH, a, b, len(a), len(b))
            shared = enumerate(zip(a.items, b.items, strict=False))
            pending.extend(reversed([_Pair(f"{path}[{n}]", x, y) for n, (x, y) in shared]))
        elif a.raw != b.raw:  # the same bytes are the same, whatever their type is called
            yield from _leaf(path, a, b, keep)


def _members(path: str, a: Struct, b: Struct) -> list[_Pair]:
    """Members, then subsections, of either; what only ``b`` has comes last of each."""
    prefix = f"{path}." if path else ""
    other_names = _renamed(a.members, b.members)
    taken = set(other_names.values())
    paired = {name: b.members.get(other_names.get(name, name)) for name in a.members}
    fields = [_Pair(prefix + name, a.members[name], member) for name, member in paired.items()]
    fields += [
        _Pair(prefix + name, None, member)
        for name, member in b.members.items()
        if name not in a.members and name not in taken
    ]
    subsections = [
        _Pair(prefix + name, a.subsections.get(name), b.subsections.get(name), subsection=True)
        for name in dict.fromkeys((*a.subsections, *b.subsections))
    ]
    return fields + subsections


def _renamed(mine: dict[str, Value], theirs: dict[str, Value]) -> dict[str, str]:
    """Members that QEMU called otherwise when it wrote ``theirs``: names there by names here.

    Of those without a namesake, in their order: structs of one type, or fields of
    the same bytes.
    """
    lone = [name for name in mine if name not in theirs]
    others = [name for name in theirs if name not in mine]
    return {
        name: other
        for name, other in zip(lone, others, strict=False)
        if _same_thing(mine[name], theirs[other])
    }


def _same_thing(a: Value, b: Value) -> bool:
    if isinstance(a, Struct) and isinstance(b, Struct):
        return a.type == b.type
    return len(a.raw) > 0 and a.raw == b.raw


def _only(pair: _Pair, keep: Keep) -> Iterator[Change]:
    """What one side has: a subsection as a whole, or a field that has bytes."""
    node = pair.a if pair.a is not None else pair.b
    assert node is not None
    if not pair.subsection and not len(node.raw):
        return
    if not keep(pair.path, node.type):
        return
    kind = ChangeKind.SUBSECTION if pair.subsection else ChangeKind.FIELD
    value = to_plain(node)
    if pair.a is not None:
        yield Change(
            pair.path, kind, value, None, Side.A, old_type=node.type, old_offset=node.offset
        )
    else:
        yield Change(
            pair.path, kind, None, value, Side.B, new_type=node.type, new_offset=node.offset
        )


def _leaf(path: str, a: Value, b: Value, keep: Keep) -> Iterator[Change]:
    """Two nodes of other bytes, of which at least one has no members."""
    if isinstance(a, Array) and isinstance(b, Array) and a.type == b.type:
        yield from _array(path, a, b, keep)
    elif isinstance(a, Scalar) and isinstance(b, Scalar) and a.type == b.type:
        if len(a.raw) != len(b.raw):
            if keep(path, a.type):
                yield _change(path, ChangeKind.TYPE, a, b, to_plain(a), to_plain(b))
        elif isinstance(a.value, bytes):
            yield from _bytes(path, a, b, keep)
        elif keep(path, a.type):
            yield _change(path, ChangeKind.VALUE, a, b, to_plain(a), to_plain(b))
    elif keep(path, a.type):
        yield _change(path, ChangeKind.TYPE, a, b, to_plain(a), to_plain(b))


def _array(path: str, a: Array, b: Array, keep: Keep) -> Iterator[Change]:
    if len(a) != len(b) and keep(path, a.type):
        yield _change(path, ChangeKind.LENGTH, a, b, len(a), len(b))
    shared = min(len(a), len(b))
    if not shared:
        return
    width = len(a.raw) // len(a)
    if width != len(b.raw) // len(b):
        if keep(path, a.type):
            yield _change(path, ChangeKind.TYPE, a, b, to_plain(a), to_plain(b))
        return
    unlike = _elements(a, shared, width) != _elements(b, shared, width)
    where = _kept(path, a.type, np.flatnonzero(unlike.any(axis=1)), keep)
    if len(where) <= _APART:
        for at in where.tolist():
            old, new = to_plain(a[at]), to_plain(b[at])
            yield _change(f"{path}[{at}]", ChangeKind.VALUE, a[at], b[at], old, new)
        return
    told = where[:_TOLD].tolist()
    values = ([to_plain(side[at]) for at in told] for side in (a, b))
    change = _change(path, ChangeKind.VALUE, a, b, *values)
    yield _ranged(change, "element", where, shared)


def _elements(array: Array, count: int, width: int) -> NDArray[np.uint8]:
    return np.frombuffer(array.raw, np.uint8)[: count * width].reshape(count, width)


def _kept(path: str, type_: str, where: NDArray[np.int64], keep: Keep) -> NDArray[np.int64]:
    """The elements, or bytes, whose difference counts."""
    if not len(where) or len(where) > _SIFTED:
        return where if not len(where) or keep(path, type_) else where[:0]
    counts = np.array([keep(f"{path}[{at}]", type_) for at in where.tolist()], bool)
    kept: NDArray[np.int64] = where[counts]
    return kept


def _bytes(path: str, a: Scalar, b: Scalar, keep: Keep) -> Iterator[Change]:
    """Opaque bytes: which of them differ, those of the longer side alone included."""
    shared, longer = sorted((len(a.raw), len(b.raw)))
    old, new = (np.frombuffer(node.raw, np.uint8)[:shared] for node in (a, b))
    unlike = np.concatenate((np.flatnonzero(old != new), np.arange(shared, longer)))
    where = _kept(path, a.type, unlike, keep)
    if not len(where):
        return
    first = int(where[0])
    told = slice(first, min(first + _TOLD, int(where[-1]) + 1))
    values = (bytes(node.raw[told]).hex() for node in (a, b))
    yield _ranged(_change(path, ChangeKind.BYTES, a, b, *values), "byte", where, longer)


def _ranged(change: Change, unit: str, where: NDArray[np.int64], size: int) -> Change:
    return replace(change, unit=unit, ranges=_ranges(where), differing=len(where), size=size)


def _ranges(numbers: NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    """Sorted numbers as (first, last) of what is consecutive; the first of them."""
    starts = np.concatenate(([0], np.flatnonzero(np.diff(numbers) != 1) + 1))
    stops = np.append(starts[1:], len(numbers)) - 1
    first, last = numbers[starts[:_MAX_RANGES]], numbers[stops[:_MAX_RANGES]]
    return tuple(zip(first.tolist(), last.tolist(), strict=True))


def _change(path: str, kind: ChangeKind, a: Value, b: Value, old: Any, new: Any) -> Change:
    return Change(
        path,
        kind,
        old,
        new,
        old_type=a.type,
        new_type=b.type,
        old_offset=a.offset,
        new_offset=b.offset,
    )

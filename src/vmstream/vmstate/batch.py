"""Neighbouring plain numbers of a declared state, read and written in one go.

A plain number is a big-endian :class:`Scalar` with neither condition nor rule,
so that neighbours are one format of the ``struct`` module.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from keyword import iskeyword
from typing import Any, cast

from vmstream.vmstate.fields import Field, Scalar
from vmstream.vmstate.state import State

__all__ = ["Batch", "Layout", "layout"]

_HOOKS = ("before_save", "after_save", "before_load", "after_load")


class Batch:
    """Plain numbers side by side.

    Attributes:
        codec: all of them, big-endian.
        pack: the bytes of a state's numbers; raises what ``struct.pack`` raises.
        assign: sets the numbers in a state, to as many values.
    """

    def __init__(self, fields: Sequence[Scalar]) -> None:
        self.fields = fields
        self.codec = struct.Struct(">" + "".join(field.format for field in fields))
        self.pack, self.assign = _compiled(self.codec, [field.attribute for field in fields])


def _compiled(
    codec: struct.Struct, attributes: Sequence[str]
) -> tuple[Callable[[State], bytes], Callable[[State, tuple[Any, ...]], None]]:
    """Functions that get and set attributes, which are identifiers.

    They are made from source text, as those of dataclasses are: the interpreter
    specializes plain attribute access, which makes it several times faster than
    ``attrgetter`` and twice as fast as the update of a dict.
    """
    members = "".join(f"state.{attribute}, " for attribute in attributes)
    source = (
        f"def pack(state): return pack_values({members})\n"
        f"def assign(state, values): ({members}) = values\n"
    )
    made: dict[str, Any] = {"pack_values": codec.pack}
    exec(source, made)
    return made["pack"], made["assign"]


class Layout:
    """What is on the wire of a state at one version.

    Attributes:
        groups: in order, batches and fields with rules of their own.
        sole: the batch that is all of it; None where there is more to do, as there is
            with subsections, hooks, or a version that the state itself refuses.
    """

    def __init__(self, declared: type[State], version: int) -> None:
        self.groups = tuple(_groups(declared, version))
        self.sole: Batch | None = None
        if len(self.groups) == 1 and _is_simple(declared, version):
            (only,) = self.groups
            self.sole = only if isinstance(only, Batch) else None


def _groups(declared: type[State], version: int) -> Iterator[Field | Batch]:
    present = [f for f in declared.fields if f.exists is not None or f.since <= version]
    for plain, run in groupby(present, _is_plain):
        fields = list(run)
        if plain and len(fields) > 1:
            yield Batch(cast(list[Scalar], fields))
        else:
            yield from fields


def _is_plain(field: Field) -> bool:
    attribute = field.attribute
    named = attribute.isidentifier() and not iskeyword(attribute)
    return isinstance(field, Scalar) and field.plain and named


def _is_simple(declared: type[State], version: int) -> bool:
    if declared.unmigratable or declared.subsection_fields:
        return False
    accepted = declared.minimum_version <= version <= declared.version
    return accepted and all(getattr(declared, hook) is getattr(State, hook) for hook in _HOOKS)


_LAYOUTS: dict[tuple[type[State], int], Layout] = {}


def layout(declared: type[State], version: int | None) -> Layout:
    """The layout of a state at a version, its own by default; made once."""
    key = declared, declared.version if version is None else version
    if key not in _LAYOUTS:
        _LAYOUTS[key] = Layout(*key)
    return _LAYOUTS[key]

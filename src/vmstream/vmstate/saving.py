"""Declared state to bytes, and to the description of those bytes.

Follows QEMU ``migration/vmstate.c`` (``vmstate_save_state_v`` and
``vmsd_desc_field_*``).
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, cast

from vmstream.errors import Unsupported
from vmstream.vmstate.batch import Batch, layout
from vmstream.vmstate.containers import Queue, Tmp, Tree
from vmstream.vmstate.description import Description
from vmstream.vmstate.description import Field as Entry
from vmstream.vmstate.dialect import NEWEST, Dialect
from vmstream.vmstate.fields import Field, Names, Opaque, Private, Scalar, Struct, named
from vmstream.vmstate.state import State

__all__ = ["Saving", "save", "save_described"]

NULL_MARKER = b"0"
_SUBSECTION = 0x05


def save(state: State, version: int | None = None) -> bytes:
    """The bytes of a state's body, subsections included.

    Raises:
        Unsupported: the state, or a part of it, is declared unmigratable.
        ValueError: a value does not fit its field, or a hook refused.
    """
    saving = Saving(None)
    saving.body(state, version)
    return bytes(saving.out)


def save_described(
    state: State, dialect: Dialect = NEWEST, version: int | None = None
) -> tuple[bytes, Description]:
    """The bytes, with the description that a QEMU version writes of them."""
    declared = type(state)
    if dialect.version < declared.described_since:
        data = save(state, version)
        return data, Description(declared.name, 0, (Entry("data", "buffer", len(data)),))
    saving = Saving(dialect)
    description = saving.body(state, version)
    return bytes(saving.out), description


class Saving:
    """One pass over a state and what it contains.

    Attributes:
        out: the bytes so far.
        version: of the state being saved.
    """

    def __init__(self, dialect: Dialect | None) -> None:
        self.out = bytearray()
        self.version = 0
        self.dialect = dialect
        self._entries: list[Entry] = []
        self._names: dict[int, str] = {}
        self._path: list[str] = []

    def path(self, attribute: str) -> str:
        """Where a field stands, for errors."""
        return ".".join([*self._path, attribute])

    def count(self, state: State, attribute: str) -> int:
        """The value of a count field; negative ones count none, as in QEMU."""
        return max(int(getattr(state, attribute)), 0)

    # Bodies

    def body(self, state: State, version: int | None = None) -> Description:
        """Save fields and subsections; the description is empty when none is wanted.

        Raises:
            Unsupported: the state is declared unmigratable.
        """
        declared = type(state)
        if declared.unmigratable:
            raise Unsupported(
                f"State blocked by non-migratable device '{declared.name}'", section=declared.name
            )
        outer = self.version, self._entries, self._names
        self.version = declared.version if version is None else version
        self._entries = []
        self._names = {} if self.dialect is None else _entry_names(declared, self.dialect)
        state.before_save()
        for group in layout(declared, self.version).groups:
            if isinstance(group, Batch):
                self._batch(group, state)
            elif group.present(state, self.version):
                group.save(self, state)
        entries = self._entries
        parts = self._subsections(state)
        state.after_save()
        shown = self.version
        self.version, self._entries, self._names = outer
        return Description(declared.name, shown, tuple(entries), parts)

    def _batch(self, batch: Batch, state: State) -> None:
        if not self._packed(batch, (state,)):
            for field in batch.fields:
                field.put(self, getattr(state, field.attribute))  # names the one that is wrong
        if self.dialect is not None:
            for field in batch.fields:
                self.describe(field, field.type, field.codec.size)

    def _packed(self, batch: Batch, states: Iterable[State]) -> bool:
        """Append plain numbers; False, with nothing appended, where a value does not fit."""
        try:
            self.out += b"".join(map(batch.pack, states))
        except struct.error:
            return False
        return True

    def _subsections(self, state: State) -> tuple[Description, ...]:
        parts = []
        for declared in type(state).subsection_fields:
            if not declared.wanted(state):
                continue
            part: State | None = getattr(state, declared.attribute)
            if part is None:
                raise ValueError(
                    f"{self.path(declared.attribute)}: it is needed, but there is none"
                )
            name = part.name.encode()
            self.out += bytes((_SUBSECTION, len(name))) + name + struct.pack(">I", part.version)
            self._path.append(declared.attribute)
            parts.append(self.body(part))
            self._path.pop()
        return tuple(parts)

    # Descriptions

    def describe(
        self, field: Field, type_: Names, size: int, *, array_len: int | None = None, **more: Any
    ) -> None:
        """Add the field's entry, when a description is wanted."""
        if self.dialect is not None:
            type_ = self._type(type_)
            name = self._names.get(id(field), field.attribute)
            self._entries.append(Entry(name, type_, size, array_len=array_len, **more))

    def _type(self, names: Names) -> str:
        assert self.dialect is not None
        return named(names, self.dialect) or "unknown"

    def struct(self, field: Struct, state: State, version: int | None, **place: Any) -> None:
        """Save a struct and describe it; ``place`` is ``array_len`` or ``index``."""
        start = len(self.out)
        self._path.append(field.attribute)
        body = self.body(state, version)
        self._path.pop()
        self.describe(field, field.type, len(self.out) - start, struct=body, **place)

    def private(self, field: Private, state: State) -> None:
        """Save a state of which nothing but its size is described."""
        start = len(self.out)
        dialect, self.dialect = self.dialect, None
        self._path.append(field.attribute)
        self.body(state)
        self._path.pop()
        self.dialect = dialect
        self.describe(field, field.type, len(self.out) - start)

    def describe_elements(self, field: Field, values: Sequence[Any], element: Field) -> None:
        """Save an array's elements: one entry for all, or one for each."""
        total = len(values)
        compress = field.compressible
        for number, value in enumerate(values):
            if number == 1 and compress and self._described(element, values[1:]):
                return
            self._element(field, element, value, self._place(number, total, compress))

    def _described(self, element: Field, values: Sequence[Any]) -> bool:
        """Save what the first element described, if it is plain numbers alone and they fit."""
        if not isinstance(element, Struct) or {*map(type, values)} != {element.state}:
            return False
        batch = layout(element.state, element.version).sole
        return batch is not None and self._packed(batch, values)

    def _place(self, number: int, total: int, compress: bool) -> dict[str, int] | None:
        """The key that tells an element's place; None for one that is not described."""
        if total <= 1:
            return {}
        if compress:
            return {"array_len": total} if number == 0 else None
        assert self.dialect is None or total > 1
        last_is_bare = self.dialect is not None and self.dialect.runs and number == total - 1
        return {} if last_is_bare else {"index": number}

    def _element(
        self, field: Field, element: Field, value: Any, place: dict[str, int] | None
    ) -> None:
        """Save one element; describe it where ``place`` is not None."""
        start = len(self.out)
        body: Description | None = None
        if isinstance(element, Struct):
            body = self.body(value, element.version)
        elif isinstance(element, Scalar):
            element.put(self, value)
        else:
            self.out += value
        if place is None or self.dialect is None:
            return
        size = len(self.out) - start
        type_ = self._type(cast(Scalar | Opaque | Struct, element).type)
        self._entries.append(
            Entry(
                self._names.get(id(field), field.attribute),
                type_,
                size,
                struct=body,
                **cast(Any, place),
            )
        )

    def describe_pointers(self, field: Field, values: Sequence[Any], element: Field) -> None:
        """Save an array of pointers, NULL ones as a marker byte."""
        if self.dialect is not None and self.dialect.runs:
            self._pointer_runs(field, values, element)
            return
        total = len(values)
        compress = field.compressible
        for number, value in enumerate(values):
            place = self._place(number, total, compress)
            if value is not None:
                self._element(field, element, value, place)
                continue
            self.out += NULL_MARKER
            if place is not None and self.dialect is not None:
                type_ = self._type(cast(Scalar | Opaque | Struct, element).type)
                empty = Description("", 0) if type_ == "struct" else None
                entry = Entry(
                    self._names.get(id(field), field.attribute),
                    type_,
                    1,
                    struct=empty,
                    **cast(Any, place),
                )
                self._entries.append(entry)

    def _pointer_runs(self, field: Field, values: Sequence[Any], element: Field) -> None:
        """10.0 and later: an entry for each run of NULL or other pointers.

        The first run, unless it is of NULLs, carries the length of the whole array.
        """
        total = len(values)
        at = 0
        while at < total:
            null = values[at] is None
            end = at
            while end < total and (values[end] is None) == null:
                end += 1
            length = total if at == 0 and not null else end - at
            for number in range(at, end):
                place: dict[str, int] | None
                if field.compressible:
                    place = ({"array_len": length} if length > 1 else {}) if number == at else None
                else:
                    place = self._place(number, total, False)
                if null:
                    self.out += NULL_MARKER
                    if place is not None and self.dialect is not None:
                        entry = Entry(
                            self._names.get(id(field), field.attribute),
                            "nullptr",
                            1,
                            **cast(Any, place),
                        )
                        self._entries.append(entry)
                else:
                    self._element(field, element, values[number], place)
            at = end

    # Containers

    def queue(self, field: Queue, values: Iterable[State]) -> None:
        """0x01 before each element, 0x00 after the last."""
        start = len(self.out)
        bodies = []
        for value in values:
            self.out.append(1)
            bodies.append(self.body(value))
        self.out.append(0)
        self.describe(field, field.type, len(self.out) - start, elements=tuple(bodies))

    def tree(self, field: Tree, nodes: Sequence[tuple[Any, State]]) -> None:
        """be32 count, then 0x01, key and value of each node, 0x00 after the last."""
        start = len(self.out)
        bodies = []
        self.out += struct.pack(">I", len(nodes))
        for key, value in nodes:
            self.out.append(1)
            if field.key is None:
                self.out += struct.pack(">Q", key)
            else:
                bodies.append(self.body(key))
            bodies.append(self.body(value))
        self.out.append(0)
        self.describe(field, "gtree", len(self.out) - start, elements=tuple(bodies))

    def tmp(self, field: Tmp, made: State) -> None:
        """A state that exists only for the wire."""
        start = len(self.out)
        self._path.append(field.attribute)
        body = self.body(made)
        self._path.pop()
        self.describe(field, "tmp", len(self.out) - start, struct=body)


def _entry_names(declared: type[State], dialect: Dialect) -> dict[int, str]:
    """Names of fields in the description; equal ones get their ordinal, as ``config[1]``."""
    found = [(field, field.wire_name(dialect)) for field in declared.fields]
    names = [(field, name) for field, name in found if name is not None]
    often = Counter(name for _, name in names)
    seen: Counter[str] = Counter()
    shown = {}
    for field, name in names:
        shown[id(field)] = f"{name}[{seen[name]}]" if often[name] > 1 else name
        seen[name] += 1
    return shown

"""A stream's description of a device, against what a destination's schema declares of it.

The stream describes what it sends: every field and subsection in it is on the
wire, whatever condition it once was under. So it stands for a schema in which
nothing is conditional, and the comparison of two schemas
(:mod:`vmstream.tools.schema_fields`) says what the destination makes of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from msgspec.structs import replace

from vmstream.tools.schema_changes import Change, Kind, Severity
from vmstream.tools.schema_fields import Comparison
from vmstream.vmstate.description import Description, Field
from vmstream.vmstate.schema_layouts import named_once
from vmstream.vmstate.values import INTEGERS

__all__ = ["Found", "differences", "stands_for"]

Found = tuple[Change, str]
"""A change, and its path from the device."""

C_SIZED = frozenset({*INTEGERS, "bool", "unused_buffer", "float64"} - {"timer"})
"""Wire types that have as many bytes in C, where a schema takes its sizes from.

A buffer's length may be another field's value; a timer may be a struct or a pointer to it.
"""


def differences(sent: Description, declared: Description) -> list[Found]:
    """What keeps, or may keep, ``declared`` from reading what ``sent`` describes.

    Compared are names and order, and sizes where a schema tells those of the
    wire. A subsection that is sent and not declared breaks: between two schemas
    it only may, because a schema does not say that it is sent.
    """
    comparison = Comparison(old_arrays=False, new_arrays=False)
    ours = _as_declared(sent, declared)
    theirs = _named_once_throughout(declared)
    changes = (
        (replace(change, old_to_new=_severity(change)), path)
        for change, path in comparison.devices(ours, theirs)
    )
    return [found for found in changes if found[0].old_to_new is not Severity.HARMLESS]


def stands_for(description: Description) -> Description:
    """What another stream's description tells of the declaration behind it.

    That is what was sent: what a condition or a property left out is not in it.
    """
    return _as_declared(description, _NOTHING)


def _severity(change: Change) -> Severity:
    if change.kind in (Kind.SUBSECTION_REMOVED, Kind.SUBSECTION_RENAMED):
        return Severity.BREAKS
    if change.kind is Kind.FIELD_ADDED and change.old_to_new is Severity.BREAKS:
        # An array of no elements is not described, and no schema tells which are arrays.
        return Severity.MAY_BREAK
    return change.old_to_new


def _as_declared(sent: Description, declared: Description) -> Description:
    """``sent`` as a schema would declare it, as far as ``declared`` can be compared with it."""
    fields = {field.name: field for field in named_once(declared.fields)}
    sent = replace(sent, fields=tuple(_numbered(field, fields) for field in sent.fields))
    subsections = {subsection.name: subsection for subsection in declared.subsections}
    return Description(
        sent.name,
        sent.version,
        tuple(
            _field(_telling(entries), fields.get(name)) for name, entries in _by_name(sent.fields)
        ),
        tuple(
            _as_declared(subsection, subsections.get(subsection.name, _NOTHING))
            for subsection in sent.subsections
        ),
        declared.minimum_version if sent.version >= (declared.minimum_version or 0) else None,
    )


_NOTHING = Description("", 0)


def _numbered(entry: Field, declared: dict[str, Field]) -> Field:
    """An entry under the name it has now, if the name became one of several.

    Fields of one name are told apart as ``config[0]``, ``config[1]``; one that
    was alone in its description, as in 2.3, is the one of its size.
    """
    if entry.name in declared:
        return entry
    for number in range(len(declared)):
        alike = declared.get(f"{entry.name}[{number}]")
        if alike is None:
            break
        if alike.memory_size == entry.size:
            return replace(entry, name=alike.name)
    return entry


def _by_name(fields: tuple[Field, ...]) -> Iterator[tuple[str, list[Field]]]:
    """Elements that are described one by one are entries of one name."""
    for name, entries in groupby(fields, lambda field: field.name):
        yield name, list(entries)


def _telling(entries: list[Field]) -> Field:
    return next((entry for entry in entries if entry.struct is not None), entries[0])


def _field(entry: Field, declared: Field | None) -> Field:
    if entry.struct is not None and (declared is None or declared.struct is not None):
        below = declared.struct if declared is not None and declared.struct else _NOTHING
        return Field(entry.name, "struct", None, struct=_as_declared(entry.struct, below))
    if declared is not None and entry.type not in C_SIZED:
        # How it is coded is nothing that a schema tells: the name must do.
        return replace(declared, version=0, conditional=False)
    return Field(entry.name, entry.type, None, memory_size=entry.size)


def _named_once_throughout(declared: Description) -> Description:
    return replace(
        declared,
        fields=tuple(
            replace(field, array_len=None, struct=_named_once_throughout(field.struct))
            if field.struct is not None
            else replace(field, array_len=None)
            for field in named_once(declared.fields)
        ),
        subsections=tuple(map(_named_once_throughout, declared.subsections)),
    )

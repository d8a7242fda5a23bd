"""What a schema lets a section's bytes be, where the stream does not describe them.

A schema names the fields, so of layouts seen in other streams it tells those
that its device writes: :func:`agrees`. By itself it tells C sizes and no wire
types, so what :func:`schema_layouts` makes of it is the weakest of the origins:

- the C size of a field that is no struct stands for its size on the wire, which
  holds for integers, flags and fixed buffers, not for embedded timers, containers
  and fields with a coder of their own;
- a field on a condition is there or not: each combination is one layout;
- arrays have the length the schema tells (8.1 and later), else one element;
- values have the type ``schema``: an unsigned number of 1, 2, 4 or 8 bytes
  (whether it is signed is not known), else bytes.

A layout means something only where it accounts for every byte of a section.
"""

from __future__ import annotations

from collections import Counter
from itertools import product

from msgspec.structs import replace

from vmstream.vmstate.description import Description, Field
from vmstream.vmstate.schema import Schema
from vmstream.vmstate.values import INTEGERS

__all__ = ["MAX_LAYOUTS", "agrees", "named_once", "schema_layouts"]

WIDTHS = (1, 2, 4, 8)
MAX_LAYOUTS = 256
"""Layouts made for one section; a schema that allows more is of no use for it."""


def schema_layouts(schema: Schema, vmsd_name: str, version: int) -> list[Description]:
    """Layouts for a section of that name (the last part of its idstr) and version.

    Only what this version sends is in them: a schema of a later version serves
    as far as it still loads this one.
    """
    found: list[Description] = []
    for description in schema.named(vmsd_name):
        oldest = description.minimum_version or 0
        if oldest <= version <= description.version:
            found.extend(_layouts(description, version))
        if len(found) > MAX_LAYOUTS:
            return []
    return found


def _layouts(description: Description, version: int) -> list[Description]:
    """Every combination of what its fields may be; none when one can not be told."""
    choices: list[list[Field | None]] = []
    number = 1
    for field in named_once(description.fields):
        if field.version > version:
            continue
        options: list[Field | None] = [*_field_layouts(field)]
        if field.conditional:
            options.append(None)
        number *= len(options)
        if not 0 < number <= MAX_LAYOUTS:
            return []
        choices.append(options)
    # A subsection shows by its header whether it is there; it must have one layout.
    subsections = [
        layouts[0]
        for subsection in description.subsections
        if len(layouts := _layouts(subsection, subsection.version)) == 1
    ]
    return [
        Description(
            description.name,
            version,
            tuple(field for field in fields if field is not None),
            tuple(subsections),
        )
        for fields in product(*choices)
    ]


def _field_layouts(field: Field) -> list[Field]:
    plain = replace(field, version=0, conditional=False)
    if field.struct is None:
        return [replace(plain, size=field.memory_size)] if field.memory_size else []
    # The size of a borrowed struct is what its fields take.
    return [
        replace(plain, size=0, struct=struct)
        for struct in _layouts(field.struct, field.struct.version)
    ]


def agrees(schema: Schema, vmsd_name: str, layout: Description) -> bool:
    """Whether a device that the schema declares may have written a layout.

    Its fields must be the declared ones in their order, numbers of the declared
    size; those on a condition and arrays may be absent.
    """
    return any(_agrees(layout, declared) for declared in schema.named(vmsd_name))


def _agrees(layout: Description, declared: Description) -> bool:
    fields = iter(named_once(declared.fields))
    field: Field | None = None
    for entry in layout.fields:
        # Elements that are described one by one are entries of one name.
        while field is None or field.name != entry.name:
            field = next(fields, None)
            if field is None:
                return False
        if not _may_be(entry, field):
            return False
    return True


def _may_be(entry: Field, declared: Field) -> bool:
    if entry.type in INTEGERS and declared.struct is None and declared.memory_size in WIDTHS:
        return entry.size == declared.memory_size or entry.type == "timer"
    if entry.struct is None or declared.struct is None:
        return True
    return entry.struct.name == declared.struct.name and _agrees(entry.struct, declared.struct)


def named_once(fields: tuple[Field, ...]) -> list[Field]:
    """Fields of one name are told apart as a stream's description does: ``config[0]``."""
    often = Counter(field.name for field in fields)
    seen: Counter[str] = Counter()
    named = []
    for field in fields:
        if often[field.name] > 1:
            name = f"{field.name}[{seen[field.name]}]"
            seen[field.name] += 1
            field = replace(field, name=name)
        named.append(field)
    return named

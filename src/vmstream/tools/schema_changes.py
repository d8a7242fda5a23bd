"""What the comparison of two schemas is made of: severities, kinds, changes, layouts."""

from __future__ import annotations

from collections.abc import Hashable
from enum import StrEnum

import msgspec

from vmstream.vmstate.description import Description, Field
from vmstream.vmstate.schema import Schema

__all__ = [
    "HARMLESS",
    "UNCERTAIN",
    "Change",
    "Kind",
    "Severities",
    "Severity",
    "arrays_told",
    "gravest",
    "layout",
    "leaves",
    "shape",
]


class Severity(StrEnum):
    """What a difference does to a guest that has the device."""

    BREAKS = "breaks"
    """The state does not load, or values end up in other fields."""
    MAY_BREAK = "may break"
    """The same, if a condition that no schema tells comes true."""
    HARMLESS = "harmless"
    """The same bytes are sent and read."""

    @property
    def rank(self) -> int:
        """The graver the higher."""
        return _RANKS[self]


_RANKS = {Severity.HARMLESS: 0, Severity.MAY_BREAK: 1, Severity.BREAKS: 2}
Severities = tuple[Severity, Severity]
"""What a difference does old to new, and new to old."""
HARMLESS: Severities = (Severity.HARMLESS, Severity.HARMLESS)
UNCERTAIN: Severities = (Severity.MAY_BREAK, Severity.MAY_BREAK)


def gravest(*severities: Severity) -> Severity:
    """The gravest of some."""
    return max(severities, key=lambda severity: severity.rank, default=Severity.HARMLESS)


class Kind(StrEnum):
    """What differs."""

    DEVICE_REMOVED = "device-removed"
    DEVICE_ADDED = "device-added"
    DEVICE_RENAMED = "device-renamed"
    DESCRIPTION_RENAMED = "description-renamed"
    VERSION = "version"
    MINIMUM_VERSION = "minimum-version"
    FIELD_REMOVED = "field-removed"
    FIELD_ADDED = "field-added"
    FIELD_RENAMED = "field-renamed"
    FIELD_MOVED = "field-moved"
    FIELD_SIZE = "field-size"
    FIELD_TYPE = "field-type"
    FIELD_VERSION = "field-version"
    CONDITION = "condition"
    STRUCT_OPENED = "struct-opened"
    STRUCT_WRAPPED = "struct-wrapped"
    PADDING = "padding"
    SUBSECTION_REMOVED = "subsection-removed"
    SUBSECTION_ADDED = "subsection-added"
    SUBSECTION_RENAMED = "subsection-renamed"


class Change(msgspec.Struct, frozen=True):
    """One difference between two descriptions, wherever they are used."""

    kind: Kind
    old_to_new: Severity
    new_to_old: Severity
    description: str
    field: str
    old: str | int | None
    new: str | int | None
    message: str


def arrays_told(schema: Schema) -> bool:
    """Whether the schema tells the lengths of fixed arrays (QEMU 8.1 and later)."""
    pending = list(schema.devices.values())
    seen = set(map(id, pending))
    while pending:
        description = pending.pop()
        inner = list(description.subsections)
        for field in description.fields:
            if field.array_len is not None:
                return True
            if field.struct is not None:
                inner.append(field.struct)
        for nested in inner:
            if id(nested) not in seen:
                seen.add(id(nested))
                pending.append(nested)
    return False


def layout(description: Description) -> Hashable:
    """Field names and sizes, as a key: what is left of a description under another name."""
    return (
        tuple(
            (
                field.name,
                field.array_len,
                field.memory_size if field.struct is None else layout(field.struct),
            )
            for field in description.fields
        ),
        tuple(layout(subsection) for subsection in description.subsections),
    )


def leaves(description: Description) -> int:
    """Fields that are no structs, in it and in its structs."""
    return sum(1 if field.struct is None else leaves(field.struct) for field in description.fields)


def shape(field: Field | None) -> str | None:
    """``4 bytes``, ``8 x 4 bytes``, ``struct PCIDevice``."""
    if field is None:
        return None
    shape = f"struct {field.struct.name}" if field.struct else f"{field.memory_size} bytes"
    return shape if field.array_len is None else f"{field.array_len} x {shape}"

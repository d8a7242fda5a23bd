"""``schema diff``: what one QEMU would make of the device state of another.

Two schemas are compared as loading does (QEMU ``migration/vmstate.c``
``vmstate_load_state``): which fields the sending side sends at its version,
and which the receiving side then reads. What is on the wire decides, so a
field under another name, inside another struct, or in the place of padding of
its size is told but is no break.

The wire carries the version of a device and of each subsection, and no other:
a nested struct is read by the receiver's own version, whatever it was sent by.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

import msgspec

from vmstream.tools.schema_changes import (
    HARMLESS,
    Change,
    Kind,
    Severity,
    arrays_told,
    gravest,
    layout,
    leaves,
)
from vmstream.tools.schema_fields import Comparison
from vmstream.vmstate.description import Description
from vmstream.vmstate.schema import Schema

__all__ = ["Direction", "Finding", "Kind", "Place", "SchemaDiff", "Severity", "schema_diff"]

KNOWN_RENAMES = {"ICH9 LPC": "ICH9-LPC", "e1000": "e1000-82540em"}
"""Device types that QEMU renamed, old to new; tried in both directions."""

TELLING_LEAVES = 3
"""Fields a layout must have before another device of the same layout is taken
for the same under a new name; smaller ones are alike by chance."""


class Direction(StrEnum):
    """Which way a guest moves."""

    OLD_TO_NEW = "old-to-new"
    NEW_TO_OLD = "new-to-old"


class Place(msgspec.Struct, frozen=True):
    """Where a finding applies."""

    device: str
    """The QOM type, by its name in the old schema where it is there."""
    path: str
    """Fields from the device down to it, joined with ``.``; empty for the device itself."""


class Finding(msgspec.Struct, frozen=True):
    """One difference, and what it does in each direction."""

    kind: Kind
    severity: Severity
    """The graver of both directions."""
    old_to_new: Severity
    new_to_old: Severity
    description: str
    """Name of the description (vmsd) that differs."""
    field: str
    """Name of the field or subsection in it; empty when it is the description itself."""
    old: str | int | None
    new: str | int | None
    message: str
    places: tuple[Place, ...]
    """Every device that it concerns: one description may be part of many."""

    def towards(self, direction: Direction) -> Severity:
        """What it does to a guest that moves that way."""
        return self.old_to_new if direction is Direction.OLD_TO_NEW else self.new_to_old


class SchemaDiff(msgspec.Struct, frozen=True):
    """Everything that differs between two schemas, the gravest first."""

    old_machine: str
    new_machine: str
    devices: int
    """Device types on both sides, renamed ones included."""
    identical: int
    """Those of them without any difference."""
    findings: tuple[Finding, ...]

    def count(self, direction: Direction, severity: Severity) -> int:
        """How many findings of that severity concern that direction."""
        return sum(finding.towards(direction) is severity for finding in self.findings)

    def breaks(self, direction: Direction) -> bool:
        """Whether some device's state is sure not to load that way."""
        return self.count(direction, Severity.BREAKS) > 0


def schema_diff(old: Schema, new: Schema) -> SchemaDiff:
    """Compare the device state that two QEMUs declare.

    A device type that stands on one side only is a finding; whether a guest
    has it is not in a schema.
    """
    return _Diff(old, new).report()


class _Diff:
    def __init__(self, old: Schema, new: Schema) -> None:
        self.old = old
        self.new = new
        self.fields = Comparison(arrays_told(old), arrays_told(new))
        self.places: dict[Change, list[Place]] = {}

    def report(self) -> SchemaDiff:
        pairs = self.pair_devices()
        identical = 0
        for old_name, new_name, shown in pairs:
            changes = self.fields.devices(self.old.devices[old_name], self.new.devices[new_name])
            identical += not changes
            for change, path in changes:
                self.add(change, Place(shown, path))
        findings = [_finding(change, places) for change, places in self.places.items()]
        findings.sort(key=_gravity)
        return SchemaDiff(
            self.old.machine, self.new.machine, len(pairs), identical, tuple(findings)
        )

    def add(self, change: Change, place: Place) -> None:
        self.places.setdefault(change, []).append(place)

    def pair_devices(self) -> list[tuple[str, str, str]]:
        """Types to compare: the old one, the new one, and which of the two to show.

        Says of each type that is on one side only what became of it.
        """
        old, new = self.old.devices, self.new.devices
        pairs = [(name, name, name) for name in old if name in new]
        removed = [name for name in old if name not in new]
        added = [name for name in new if name not in old]
        renamed = dict(_renames(self.old, removed, self.new, added))
        for name, successor in renamed.items():
            pairs.append((name, successor, name))
            self.add(_renamed(name, successor, old[name]), Place(name, ""))
        for name in removed:
            if name not in renamed:
                self.add(_lone(Kind.DEVICE_REMOVED, name, old[name]), Place(name, ""))
        taken = set(renamed.values())
        fresh = [name for name in added if name not in taken]
        siblings = dict(_same_wire_name(self.new, fresh, self.old))
        for name, sibling in siblings.items():
            pairs.append((sibling, name, name))
            self.add(_renamed(sibling, name, new[name]), Place(name, ""))
        for name in fresh:
            if name not in siblings:
                self.add(_lone(Kind.DEVICE_ADDED, name, new[name]), Place(name, ""))
        return pairs


def _renamed(old: str, new: str, description: Description) -> Change:
    message = f"device type {new} of the new schema has the name of the old one's {old} in a stream"
    return Change(Kind.DEVICE_RENAMED, *HARMLESS, description.name, "", old, new, message)


def _renames(
    old: Schema, removed: list[str], new: Schema, added: list[str]
) -> Iterator[tuple[str, str]]:
    """Removed types with what they became: known, of one name on the wire, or of one layout."""
    known = {**KNOWN_RENAMES, **{to: name for name, to in KNOWN_RENAMES.items()}}
    left = []
    free = set(added)
    for name in removed:
        successor = known.get(name)
        if successor in free:
            free.discard(successor)
            yield name, successor
        else:
            left.append(name)
    by_name = dict(_same_wire_name(old, left, new, prefer=sorted(free)))
    yield from by_name.items()
    free -= set(by_name.values())
    by_layout: dict[object, list[str]] = {}
    for name in sorted(free):
        by_layout.setdefault(layout(new.devices[name]), []).append(name)
    for name in left:
        description = old.devices[name]
        alike = by_layout.get(layout(description), [])
        if name not in by_name and len(alike) == 1 and leaves(description) >= TELLING_LEAVES:
            yield name, by_layout.pop(layout(description))[0]


def _same_wire_name(
    schema: Schema, names: Iterable[str], other: Schema, prefer: Iterable[str] = ()
) -> Iterator[tuple[str, str]]:
    """Types with one of the other schema whose state has the same name in a stream."""
    by_name: dict[str, str] = {}
    for name in (*prefer, *other.devices):
        by_name.setdefault(other.devices[name].name, name)
    for name in names:
        alike = by_name.get(schema.devices[name].name)
        if alike is not None:
            yield name, alike


def _lone(kind: Kind, name: str, description: Description) -> Change:
    if kind is Kind.DEVICE_REMOVED:
        message = f"device type {name} is only in the old schema"
        severities = (Severity.BREAKS, Severity.HARMLESS)
        return Change(kind, *severities, description.name, "", name, None, message)
    message = f"device type {name} is only in the new schema"
    severities = (Severity.HARMLESS, Severity.BREAKS)
    return Change(kind, *severities, description.name, "", None, name, message)


def _finding(change: Change, places: list[Place]) -> Finding:
    return Finding(
        change.kind,
        gravest(change.old_to_new, change.new_to_old),
        change.old_to_new,
        change.new_to_old,
        change.description,
        change.field,
        change.old,
        change.new,
        change.message,
        tuple(places),
    )


def _gravity(finding: Finding) -> tuple[int, int, int]:
    return (
        -finding.severity.rank,
        -(finding.old_to_new.rank + finding.new_to_old.rank),
        -len(finding.places),
    )

"""Edits of device state."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vmstream.tools.edits.draft import DeviceDraft, Draft, SectionDraft
from vmstream.tools.edits.encoding import encode_value
from vmstream.tools.edits.layout import Layout, Place
from vmstream.tools.edits.records import (
    AddField,
    AddSubsection,
    Change,
    DropDevice,
    DropField,
    DropSubsection,
    EditError,
    NewField,
    Rename,
    Renumber,
    SectionVersion,
    SetField,
)
from vmstream.vmstate.description import Description, Field
from vmstream.vmstate.values import Struct, convert

__all__ = [
    "add_field",
    "add_subsection",
    "drop_device",
    "drop_field",
    "drop_subsection",
    "rename",
    "renumber",
    "section_version",
    "set_field",
]

_SHOWN = 24
"""Bytes of a value that a change shows."""
Lend = Callable[[str], Draft]
"""Opens the stream of a name, to take a subsection from."""


def set_field(draft: Draft, edit: SetField) -> list[Change]:
    """Other values of the same size."""

    def change(layout: Layout, path: str, place: str) -> tuple[Layout, Change]:
        where = layout.place(path)
        data = where.encode(edit.value)
        old = layout.data[where.offset : where.offset + where.size]
        said = Change(place, _shown(where, old), _shown(where, data))
        return layout.with_value(where, data), said

    return _each(draft, edit.target, change)


def drop_subsection(draft: Draft, edit: DropSubsection) -> list[Change]:
    """Without a subsection, header and all."""

    def change(layout: Layout, path: str, place: str) -> tuple[Layout, Change]:
        new = layout.without_subsection(path)
        return new, Change(place, _bytes(len(layout.data) - len(new.data)), None)

    return _each(draft, edit.target, change)


def add_subsection(draft: Draft, edit: AddSubsection, lend: Lend) -> list[Change]:
    """With a subsection of another stream, or of given fields."""
    lender = None if edit.source is None else lend(edit.source)

    def change(layout: Layout, path: str, place: str) -> tuple[Layout, Change]:
        if lender is None:
            name, description, body = _made(layout, path, edit)
        else:
            name, description, body = _lent(lender, place, edit.source or "")
        new = layout.with_subsection(layout.parent_of(path, name), description, body)
        return new, Change(place, None, _bytes(len(new.data) - len(layout.data)))

    return _each(draft, edit.target, change)


def _made(layout: Layout, path: str, edit: AddSubsection) -> tuple[str, Description, bytes]:
    """A subsection of given fields; its name is the path behind the struct that exists."""
    if not edit.fields:
        raise EditError("a subsection needs fields, or a stream to take it from")
    name = path
    for at, char in enumerate(path):
        if char == "." and layout.is_struct(path[:at]):
            name = path[at + 1 :]
    entries = []
    body = b""
    for field in edit.fields:
        data = _encoded(field)
        entries.append(Field(field.name, field.type, len(data)))
        body += data
    return name, Description(name, edit.version, tuple(entries)), body


def _encoded(field: NewField) -> bytes:
    try:
        return encode_value(field.type, field.value)
    except EditError as error:
        raise EditError(f"{field.name}: {error}") from None


def _lent(lender: Draft, place: str, source: str) -> tuple[str, Description, bytes]:
    try:
        devices, path = lender.split(place)
        node = devices[0].layout.value.at(path)
    except (EditError, KeyError):
        raise EditError(f"{source} has no {place} either") from None
    if not isinstance(node, Struct) or not path.endswith(node.description.name):
        raise EditError(f"{place} is no subsection in {source}")
    return node.description.name, node.description, bytes(node.raw)


def drop_field(draft: Draft, edit: DropField) -> list[Change]:
    """Without a field and its bytes."""

    def change(layout: Layout, path: str, place: str) -> tuple[Layout, Change]:
        new = layout.without_field(path)
        return new, Change(place, _bytes(len(layout.data) - len(new.data)), None)

    return _each(draft, edit.target, change)


def add_field(draft: Draft, edit: AddField) -> list[Change]:
    """With a new field."""
    data = encode_value(edit.type, edit.value)

    def change(layout: Layout, path: str, place: str) -> tuple[Layout, Change]:
        said = Change(place, None, _shown(Place(edit.type, 0, len(data)), data))
        return layout.with_field(path, edit.type, data, edit.after), said

    return _each(draft, edit.target, change)


def section_version(draft: Draft, edit: SectionVersion) -> list[Change]:
    """Another version in the header."""
    changes = []
    for section in draft.matching(edit.device):
        changes.append(Change(f"{section.key}/version", str(section.version), str(edit.version)))
        section.version = edit.version
    return changes


def drop_device(draft: Draft, edit: DropDevice) -> list[Change]:
    """Without whole sections."""
    changes = []
    for section in draft.matching(edit.device):
        section.dropped = True
        size = sum(part.size for part in section.sections)
        changes.append(Change(section.key, _bytes(size), None))
    return changes


def renumber(draft: Draft, edit: Renumber) -> list[Change]:
    """Another instance id.

    Raises:
        EditError: several devices match.
    """
    found = draft.matching(edit.device)
    if len(found) > 1:
        keys = ", ".join(section.key for section in found[:4])
        raise EditError(f"{edit.device} are several: {keys}; one is renumbered at a time")
    (section,) = found
    before, section.instance_id = section.instance_id, edit.instance
    return [Change(f"{section.key}/instance", str(before), str(edit.instance))]


def rename(draft: Draft, edit: Rename) -> list[Change]:
    """Another idstr for every section of one."""
    found = [section for section in draft.sections if section.name == edit.idstr]
    if not found:
        draft.matching(edit.idstr)  # says what there is
        raise EditError(f"no section's name is exactly {edit.idstr!r}")
    return [_renamed(section, edit.to) for section in found]


def _renamed(section: SectionDraft, to: str) -> Change:
    before, section.idstr = section.idstr, to
    return Change(f"{section.key}/name", before, to)


# What the edits share


def _each(
    draft: Draft, target: str, change: Callable[[Layout, str, str], tuple[Layout, Change]]
) -> list[Change]:
    """Change every device that a target names."""
    devices, path = draft.split(target)
    if len(devices) > 1:
        devices = _concerned(devices, path)
    changes = []
    for device in devices:
        place = f"{device.key}/{path}"
        try:
            layout, said = change(device.layout, path, place)
        except EditError as error:
            raise EditError(f"{device.key}: {error}") from None
        if layout.data != device.data or layout.description != device.layout.description:
            device.layout = layout
            changes.append(said)
    return changes


def _concerned(devices: Sequence[DeviceDraft], path: str) -> list[DeviceDraft]:
    """Of several devices that a pattern names those that have the path, if any has."""
    having = [device for device in devices if device.has(path)]
    return having or list(devices)


def _bytes(count: int) -> str:
    return f"{count} bytes"


def _shown(place: Place, data: bytes) -> str:
    if place.count is None:
        value = convert(place.type, memoryview(data))
        if isinstance(value, bool | float):
            return str(value).lower()
        if isinstance(value, int):
            return hex(value)
    text = data[:_SHOWN].hex()
    return f"{text}... ({len(data)} bytes)" if len(data) > _SHOWN else text

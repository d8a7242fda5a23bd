"""Edits as data: what the command line and a recipe file both say.

Names of devices, blocks and fields are those of the stream as it is read,
whatever other edits of the same list do to them. A *target* is
``DEVICE:INSTANCE/PATH``; DEVICE is a name, its last part or a shell pattern,
``:INSTANCE`` may be left out where the edit may concern several, and PATH is
what ``show --field`` takes.
"""

from __future__ import annotations

import msgspec

__all__ = [
    "AddConfiguration",
    "AddField",
    "AddSubsection",
    "AnyEdit",
    "AppliesTo",
    "Change",
    "DropBlock",
    "DropCapability",
    "DropConfiguration",
    "DropDescription",
    "DropDevice",
    "DropField",
    "DropSubsection",
    "Edit",
    "EditError",
    "Footers",
    "Machine",
    "NewField",
    "Plain",
    "Poke",
    "RebuildDescription",
    "Recipe",
    "Rename",
    "RenameBlock",
    "Renumber",
    "SectionVersion",
    "SetField",
]

Plain = bool | int | float | str | tuple[int, ...]
"""A value as text has it: numbers, flags, hex for bytes, numbers of an array."""


class EditError(ValueError):
    """An edit that can not be done: it matches nothing, or the format can not say it."""


class Change(msgspec.Struct, frozen=True):
    """One thing that is different afterwards."""

    place: str
    """Like ``cpu:0/env.eip`` or ``configuration/machine``."""
    before: str | None
    """None for what is added."""
    after: str | None
    """None for what is removed."""


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="edit", kw_only=True):
    """One edit; each kind is named by its tag, as on the command line."""

    optional: bool = False
    """Matching nothing is no error."""


class SetField(Edit, frozen=True, tag="set"):
    """Give a field another value of the same size."""

    target: str
    value: Plain


class DropSubsection(Edit, frozen=True, tag="drop-subsection"):
    """Leave a subsection out; the target's path ends with its full name."""

    target: str


class NewField(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A field with its value, for what is added."""

    name: str
    type: str
    """The wire type that the description names: ``uint32``, ``bool``, ``buffer``."""
    value: Plain


class AddSubsection(Edit, frozen=True, tag="add-subsection"):
    """Put a subsection behind the others: from another stream, or of given fields."""

    target: str
    source: str | None = None
    """Path of a stream that has it at the same place."""
    version: int = 1
    fields: tuple[NewField, ...] = ()


class DropField(Edit, frozen=True, tag="drop-field"):
    """Leave a field out, as a version without it would."""

    target: str


class AddField(Edit, frozen=True, tag="add-field"):
    """Put a field in, as a version with it would."""

    target: str
    type: str
    value: Plain
    after: str | None = None
    """Name of the field before it; by default the last one."""


class SectionVersion(Edit, frozen=True, tag="section-version"):
    """State another version in the section's header."""

    device: str
    version: int


class DropDevice(Edit, frozen=True, tag="drop-device"):
    """Leave whole sections out."""

    device: str


class Renumber(Edit, frozen=True, tag="renumber"):
    """Give a section another instance id."""

    device: str
    instance: int


class Rename(Edit, frozen=True, tag="rename"):
    """Give every section of one idstr another."""

    idstr: str
    to: str


class Machine(Edit, frozen=True, tag="machine"):
    """State another machine type in the configuration."""

    name: str


class AddConfiguration(Edit, frozen=True, tag="add-configuration"):
    """Put a configuration section in, for a stream without."""

    machine: str


class DropConfiguration(Edit, frozen=True, tag="drop-configuration"):
    """Leave the configuration section out."""


class DropCapability(Edit, frozen=True, tag="drop-capability"):
    """Take a capability out of the configuration, and what it adds to the block list."""

    name: str


class Footers(Edit, frozen=True, tag="footers"):
    """End every section with a footer, or none."""

    on: bool


class DropDescription(Edit, frozen=True, tag="drop-description"):
    """Leave out the JSON after the end mark."""


class RebuildDescription(Edit, frozen=True, tag="rebuild-description"):
    """Write the JSON after the end mark from what is known of each device."""


class RenameBlock(Edit, frozen=True, tag="rename-block"):
    """Give a RAM block another name, wherever it is named."""

    block: str
    to: str


class DropBlock(Edit, frozen=True, tag="drop-block"):
    """Leave a RAM block out: its entry, its pages."""

    block: str


class Poke(Edit, frozen=True, tag="poke"):
    """Write bytes into guest memory."""

    address: str
    """A guest-physical address, or ``BLOCK+OFFSET``."""
    data: str
    """Hex."""


AnyEdit = (
    SetField
    | DropSubsection
    | AddSubsection
    | DropField
    | AddField
    | SectionVersion
    | DropDevice
    | Renumber
    | Rename
    | Machine
    | AddConfiguration
    | DropConfiguration
    | DropCapability
    | Footers
    | DropDescription
    | RebuildDescription
    | RenameBlock
    | DropBlock
    | Poke
)


class AppliesTo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Between which QEMUs a recipe helps."""

    source: str
    """Versions that wrote the stream, for people."""
    destination: str
    """Versions that refuse it without the recipe, for people."""
    machine: str = "*"
    """Shell pattern of the stream's machine type; a stream that names none always matches."""


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Edits that mend one known incompatibility."""

    title: str
    why: str
    """What goes wrong without it, and what the guest may notice of the cure."""
    applies_to: AppliesTo
    edits: tuple[AnyEdit, ...]

"""The JSON that ``qemu-system-* -M MACHINE -dump-vmstate FILE`` writes, to the model.

A schema tells of every device type of a binary what its state is declared as
(QEMU ``migration/savevm.c`` ``dump_vmstate_json_to_file``, since 2.1). It is not
what a stream holds: sizes are C ``sizeof``, a field's wire type and the length
of variable arrays are not told, and neither are global descriptions (``timer``,
``cpu_common``) or old-style devices. Fixed array lengths are there since 8.1.

=====================  ================================================
JSON                   model
=====================  ================================================
``field``              :attr:`Field.name`
``version_id``         :attr:`Field.version`, :attr:`Description.version`
``field_exists``       :attr:`Field.conditional`
``num``                :attr:`Field.array_len`
``size``               :attr:`Field.memory_size`; :attr:`Field.size` is None
``Description``        :attr:`Field.struct`, with type ``struct``
=====================  ================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, NoReturn

import msgspec
from msgspec import Meta, Struct

from vmstream.errors import LimitExceeded, Malformed
from vmstream.vmstate.description import Description, Field
from vmstream.vmstate.vmdesc import MAX_DEPTH, MAX_NUMBER

__all__ = ["MAX_SCHEMA_SIZE", "SCHEMA_TYPE", "Schema", "parse_schema"]

MAX_SCHEMA_SIZE = 64 << 20
"""Bytes of JSON that are accepted; real ones measure 2 KB to 2 MB."""

SCHEMA_TYPE = "schema"
"""Type of a field of which only the C size is known."""

MACHINE = "vmschkmachine"
"""The one entry that is no device type: its ``Name`` is the machine type's."""


class Schema(Struct, frozen=True):
    """What one QEMU binary and machine type declare."""

    machine: str
    """The machine type's name, with its version: ``pc-i440fx-7.2``."""
    devices: dict[str, Description]
    """QOM type (``piix3-ide``) to its description (whose name is the idstr's end)."""

    def named(self, vmsd_name: str) -> Iterator[Description]:
        """The different descriptions of that name, which several types may share."""
        alike = [device for device in self.devices.values() if device.name == vmsd_name]
        yield from dict.fromkeys(alike)


def parse_schema(text: bytes, *, file: str | None = None) -> Schema:
    """Read a schema of any QEMU from 2.1 on.

    Keys that are not known are passed over, so that a newer QEMU's stays usable.
    Equal descriptions are one object.

    Raises:
        LimitExceeded: the text is longer than :data:`MAX_SCHEMA_SIZE`.
        Malformed: it is not such JSON, or a key stands twice in one object.
    """
    if len(text) > MAX_SCHEMA_SIZE:
        raise LimitExceeded(
            f"the schema has {len(text)} bytes, at most {MAX_SCHEMA_SIZE} are accepted",
            expected=MAX_SCHEMA_SIZE,
            found=len(text),
            file=file,
        )
    try:
        return _parse(text)
    except Malformed as error:
        error.file = file
        raise


def _parse(text: bytes) -> Schema:
    try:
        types = _DECODER.decode(text)
    except RecursionError:
        _refuse(f"nests deeper than {MAX_DEPTH} descriptions")
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        _refuse(f"is no -dump-vmstate JSON: {error}")
    machine = types.pop(MACHINE, None)
    if machine is None:
        _refuse(f"has no {MACHINE} entry")
    model = _Model()
    devices = {name: model.device(name, type_) for name, type_ in types.items()}
    # Any quotes beside those of what was read are of keys that stand twice, of
    # keys that are not known, or escaped: rare, and then worth a slower look.
    if text.count(b'"') != model.quotes:
        _refuse_repeated_keys(text)
    return Schema(machine.Name, devices)


def _refuse(message: str) -> NoReturn:
    raise Malformed(f"the schema {message}")


def _refuse_repeated_keys(text: bytes) -> None:
    def check(pairs: list[tuple[str, Any]]) -> None:
        if len({key for key, _ in pairs}) < len(pairs):
            _refuse("repeats a key in one object")

    try:
        json.loads(text, object_pairs_hook=check)
    except (ValueError, RecursionError) as error:
        _refuse(f"is no -dump-vmstate JSON: {error}")


# The JSON as it stands

_Version = Annotated[int, Meta(ge=0, le=(1 << 31) - 1)]
_Size = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]


class _Field(Struct, frozen=True, gc=False):
    field: str
    version_id: _Version
    field_exists: bool
    size: _Size
    num: _Size | None = None
    Description: _Description | None = None


class _Description(Struct, frozen=True, gc=False):
    name: str
    version_id: _Version
    minimum_version_id: _Version
    Fields: tuple[_Field, ...] | None = None
    Subsections: tuple[_Description, ...] | None = None


class _Type(Struct, frozen=True, gc=False):
    Name: str
    version_id: _Version | None = None
    minimum_version_id: _Version | None = None
    Description: _Description | None = None


_DECODER = msgspec.json.Decoder(dict[str, _Type])


class _Model:
    """Makes the model's records; equal descriptions once (``PCIDevice`` stands a hundred times).

    Attributes:
        quotes: how many quotes the keys and strings met so far have in the text.
    """

    def __init__(self) -> None:
        # The machine's key, Name, and its value.
        self.quotes = 2 * 3
        self.known: dict[_Description, tuple[Description, int, int]] = {}
        """With quotes in its text, and how deep it nests."""

    def device(self, name: str, type_: _Type) -> Description:
        if type_.Description is None or type_.minimum_version_id is None:
            _refuse(f"has no description of {name[:80]!r}")
        description, quotes, _ = self.description(type_.Description, 1)
        # Its key, Name and value, two versions, and the key Description.
        self.quotes += 2 * 6 + quotes
        return description

    def description(self, read: _Description, depth: int) -> tuple[Description, int, int]:
        """The record, the quotes in its text without its own key, and its height."""
        known = self.known.get(read)
        if known is None:
            if depth > MAX_DEPTH:
                _refuse(f"nests deeper than {MAX_DEPTH} descriptions")
            known = self.known[read] = self.make(read, depth)
        if depth + known[2] - 1 > MAX_DEPTH:
            _refuse(f"nests deeper than {MAX_DEPTH} descriptions")
        return known

    def make(self, read: _Description, depth: int) -> tuple[Description, int, int]:
        # Three keys and the name.
        quotes = 8
        height = 0
        fields = []
        for item in read.Fields or ():
            # Four keys and the name.
            quotes += 10 if item.num is None else 12
            struct = None
            if item.Description is not None:
                struct, inner, below = self.description(item.Description, depth + 1)
                quotes += 2 + inner
                height = max(height, below)
            fields.append(_field(item, struct))
        subsections = []
        for sub in read.Subsections or ():
            subsection, inner, below = self.description(sub, depth + 1)
            quotes += inner
            height = max(height, below)
            subsections.append(subsection)
        quotes += 2 * (read.Fields is not None) + 2 * (read.Subsections is not None)
        description = Description(
            read.name,
            read.version_id,
            tuple(fields),
            tuple(subsections),
            read.minimum_version_id,
        )
        return description, quotes, 1 + height


def _field(read: _Field, struct: Description | None) -> Field:
    return Field(
        read.field,
        "struct" if struct is not None else SCHEMA_TYPE,
        None,
        read.num,
        struct=struct,
        version=read.version_id,
        conditional=read.field_exists,
        memory_size=read.size,
    )

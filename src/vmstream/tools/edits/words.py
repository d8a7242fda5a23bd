"""Edits as words of a command line."""

from __future__ import annotations

from pathlib import Path

import msgspec

from vmstream.tools.edits.encoding import whole_number
from vmstream.tools.edits.records import (
    AddField,
    AddSubsection,
    EditError,
    NewField,
    Poke,
    Rename,
    RenameBlock,
    Renumber,
    SectionVersion,
    SetField,
)

__all__ = [
    "add_field",
    "add_subsection",
    "poke",
    "rename",
    "rename_block",
    "renumber",
    "section_version",
    "set_field",
]


MAX_FILE = 16 << 20
"""Bytes of a file that are written into memory."""


class _Subsection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON of a subsection."""

    fields: tuple[NewField, ...]
    version: int = 1


def _split(text: str, form: str, separator: str = "=") -> tuple[str, str]:
    left, found, right = text.partition(separator)
    if not found or not left or not right:
        raise EditError(f"{text!r} is not {form}")
    return left, right


def set_field(text: str) -> SetField:
    """``DEVICE:INSTANCE/PATH=VALUE``.

    Raises:
        EditError: it is not of that form; so for all functions here.
    """
    return SetField(*_split(text, "DEVICE:INSTANCE/PATH=VALUE"))


def add_subsection(text: str, source: str | None) -> AddSubsection:
    """``DEVICE:INSTANCE/NAME``, of another stream, or with ``={"fields": [...]}``."""
    target, equals, fields = text.partition("=")
    if not equals:
        if source is None:
            raise EditError(
                f"{text}: --from OTHER.mig names the stream to take it from, "
                'or ={"version": 1, "fields": [{"name": ..., "type": ..., "value": ...}]} is given'
            )
        return AddSubsection(target, source)
    try:
        made = msgspec.json.decode(fields, type=_Subsection)
    except (msgspec.DecodeError, RecursionError) as error:
        raise EditError(f"{target}: no subsection as JSON: {error}") from None
    return AddSubsection(target, None, made.version, made.fields)


def add_field(text: str) -> AddField:
    """``DEVICE:INSTANCE/PATH=TYPE:VALUE``, and ``@after NAME`` behind it."""
    form = "DEVICE:INSTANCE/PATH=TYPE:VALUE[@after NAME]"
    target, rest = _split(text, form)
    what, _, after = rest.partition("@after ")
    type_, value = _split(what.strip(), form, ":")
    return AddField(target, type_, value, after.strip() or None)


def section_version(text: str) -> SectionVersion:
    """``DEVICE:INSTANCE=VERSION``."""
    device, version = _split(text, "DEVICE:INSTANCE=VERSION")
    return SectionVersion(device, whole_number(version))


def renumber(text: str) -> Renumber:
    """``DEVICE:INSTANCE=INSTANCE``."""
    device, instance = _split(text, "DEVICE:INSTANCE=INSTANCE")
    return Renumber(device, whole_number(instance))


def rename(text: str) -> Rename:
    """``IDSTR=IDSTR``."""
    return Rename(*_split(text, "IDSTR=IDSTR"))


def rename_block(text: str) -> RenameBlock:
    """``OLD=NEW``."""
    return RenameBlock(*_split(text, "OLD=NEW"))


def poke(text: str) -> Poke:
    """``ADDRESS=HEX`` or ``BLOCK+OFFSET=HEX``; ``@FILE`` for the content of a file.

    Raises:
        EditError: it is not of that form, or the file is too large.
        OSError: the file can not be read.
    """
    address, data = _split(text, "ADDRESS=HEX or BLOCK+OFFSET=HEX")
    return Poke(address, _content(data[1:]) if data.startswith("@") else data)


def _content(path: str) -> str:
    with Path(path).open("rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise EditError(f"{path} has more than {MAX_FILE} bytes")
    return data.hex()

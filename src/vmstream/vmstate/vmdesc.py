"""The JSON after a stream's end marker, to the model and back.

The text is one JSON object on one line (QEMU ``migration/savevm.c``
``qemu_savevm_state_complete_precopy``, since 2.3). Two writers made it:

====================  =====================================  ====================
QEMU                  style                                  strings
====================  =====================================  ====================
2.3 to 5.2 (QJSON)    ``{ "page_size" : 4096, ... }``        taken as they are
6.0 and later         ``{"page_size": 4096, ...}``           escaped, ASCII
====================  =====================================  ====================

Keys repeat inside one object: a ``qtailq``, ``qlist`` or ``gtree`` writes
``vmsd_name``, ``version`` and ``fields`` once for each element; all are kept.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn, TypeVar

from vmstream.errors import LimitExceeded, Malformed
from vmstream.vmstate.description import (
    Description,
    DeviceDescription,
    Field,
    StreamDescription,
)

__all__ = [
    "MAX_DEPTH",
    "MAX_DESCRIPTION_SIZE",
    "MAX_NUMBER",
    "dump",
    "parse",
    "wire_size",
    "wire_sizes",
]

MAX_DESCRIPTION_SIZE = 64 << 20
"""Bytes of JSON that are accepted; real ones measure 0.6 KB to 1 MB."""

MAX_DEPTH = 32
"""Descriptions nested in each other; real devices stay below ten."""

MAX_NUMBER = (1 << 63) - 1
"""Largest number accepted; QEMU prints every one as an int64."""

Record = TypeVar("Record")

INLINE_STRUCTS = frozenset({"tmp", "vstruct"})
"""Types whose one description stands among the field's own keys."""


LEAF_KEYS = ("name", "type", "size")


def parse(
    text: bytes | str, *, offset: int = 0, limit: int = MAX_DESCRIPTION_SIZE
) -> StreamDescription:
    """Read the description of a stream.

    ``offset`` is where the text begins in the stream, for errors. Keys that are
    not known are passed over, so that a newer QEMU's description stays usable.

    Raises:
        LimitExceeded: the text is longer than ``limit`` bytes.
        Malformed: it is not the JSON of a description.
    """
    if len(text) > limit:
        raise LimitExceeded(
            f"the description has {len(text)} bytes, at most {limit} are accepted",
            offset=offset,
            expected=limit,
            found=len(text),
        )
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    compact = not text.startswith("{ ")
    source = text if compact or "\\" not in text else _requote(text)
    try:
        top = _load(source, compact)
    except json.JSONDecodeError as error:
        if compact:
            _refuse(f"is not JSON: {error.msg}", offset + error.pos)
        try:
            top = _load(_requote(text), compact)
        except (ValueError, RecursionError) as again:
            _refuse(f"is not JSON: {again}", offset)
    except Malformed as error:
        _refuse(error.message.removeprefix(_SUBJECT), offset)
    except RecursionError:
        _refuse(f"nests deeper than {MAX_DEPTH} descriptions", offset)
    except ValueError as error:
        _refuse(f"is not JSON: {error}", offset)
    if not isinstance(top, StreamDescription):
        _refuse("is not one object with page_size and devices", offset)
    return top


def dump(description: StreamDescription) -> bytes:
    """Write the text as QEMU writes it, in the style ``compact`` names.

    ``dump(parse(text)) == text`` for every text that a QEMU wrote.

    Raises:
        ValueError: a field has no wire size (it came from a schema).
    """
    return _Writer(description.compact).stream(description)


def wire_size(description: Description) -> int | None:
    """Bytes that a body of this description takes, its subsections included.

    None when a field has no wire size. Where two readings of the description
    differ (see :func:`wire_sizes`), that of today's QEMU.
    """
    sizes = wire_sizes(description)
    return sizes[0] if sizes else None


def wire_sizes(description: Description) -> tuple[int, ...]:
    """Every size the body may have, the likeliest first; empty when unknown.

    More than one only for an array of pointers that begins with non-NULL
    elements: QEMU 10.0 and later give its first run the length of the whole
    array (``migration/vmstate.c`` ``vmstate_save_state_v``).
    """
    corrected = _body_size(description, corrected=True)
    literal = _body_size(description, corrected=False)
    if corrected is None or literal is None:
        return ()
    return (corrected,) if corrected == literal else (corrected, literal)


def counts(description: Description, *, corrected: bool = True) -> list[int]:
    """Elements that each entry of ``fields`` stands for.

    With ``corrected``, the first run of an array of pointers counts the whole
    array less the runs that follow under the same name.
    """
    lengths = [1 if field.array_len is None else field.array_len for field in description.fields]
    if not corrected:
        return lengths
    first: dict[str, int] = {}
    rest: dict[str, int] = {}
    for position, field in enumerate(description.fields):
        if field.index is not None:
            continue
        if field.name in first:
            rest[field.name] = rest.get(field.name, 0) + lengths[position]
        else:
            first[field.name] = position
    for name, others in rest.items():
        position = first[name]
        field = description.fields[position]
        if field.array_len is not None and field.type != "nullptr" and field.array_len > others:
            lengths[position] = field.array_len - others
    return lengths


def _body_size(description: Description, *, corrected: bool) -> int | None:
    total = 0
    stack = [description]
    while stack:
        current = stack.pop()
        for field, count in zip(current.fields, counts(current, corrected=corrected), strict=True):
            if field.size is None:
                return None
            total += field.size * count
        for subsection in current.subsections:
            total += 6 + len(subsection.name.encode("utf-8", "surrogateescape"))
            stack.append(subsection)
    return total


# Reading

_SUBJECT = "the description "
_CLOSES = re.compile(r' : |, "| \}')


def _refuse(what: str, offset: int | None = None) -> NoReturn:
    raise Malformed(f"{_SUBJECT}{what}", offset=offset) from None


def _load(text: str, compact: bool) -> Any:
    return json.loads(
        text,
        object_pairs_hook=_Builder(compact).object,
        parse_float=lambda digits: _refuse(f"holds {digits[:40]} where a whole number stands"),
        strict=False,
    )


def _requote(text: str) -> str:
    """Escape what QJSON left unescaped: quotes and backslashes inside names.

    A quote ends a string only where the style's next token follows.
    """
    parts = []
    start = 0
    inside = False
    for quote in re.finditer('"', text):
        if not inside:
            inside = True
            parts.append(text[start : quote.end()])
            start = quote.end()
        elif _CLOSES.match(text, quote.end()):
            inside = False
            parts.append(text[start : quote.start()].replace("\\", "\\\\").replace('"', '\\"'))
            start = quote.start()
    parts.append(text[start:])
    return "".join(parts)


class _Builder:
    """Turns each JSON object into its record as soon as it closes.

    Objects close innermost first, so no recursion is needed; equal fields and
    descriptions are made once (a machine repeats most of them hundreds of times).
    """

    def __init__(self, compact: bool) -> None:
        self.compact = compact
        self.leaves: dict[tuple[str, str, int], Field] = {}
        self.fields: dict[Any, Field] = {}
        self.descriptions: dict[Any, Description] = {}
        self.depths: dict[int, int] = {}

    def object(self, pairs: list[tuple[str, Any]]) -> Any:
        if len(pairs) == 3:
            # More than half of all objects are such leaves; most repeat an earlier one.
            (first, name), (second, type_), (third, size) = pairs
            if (
                (first, second, third) == LEAF_KEYS
                and type(size) is int
                and type(name) is type(type_) is str
            ):
                return self.leaves.get((name, type_, size)) or self.field(pairs)
        members = dict(pairs)
        if "type" in members:
            return self.field(pairs)
        if len(members) < len(pairs):
            _refuse("repeats a key outside a container")
        if "instance_id" in members:
            return self.device(members)
        if "vmsd_name" in members:
            return self.description(members)
        if "devices" in members:
            return self.stream(members)
        return None

    def field(self, pairs: list[tuple[str, Any]]) -> Field:
        members = dict(pairs)
        name = _text(members, "name")
        type_ = _text(members, "type")
        size = _number(members, "size")
        if tuple(members) == LEAF_KEYS:
            leaf = self.leaves[name, type_, size] = Field(name, type_, size)
            return leaf
        array_len = _optional_number(members, "array_len")
        index = _optional_number(members, "index")
        struct = members.get("struct")
        if struct is not None and not isinstance(struct, Description):
            _refuse(f"has a struct that is none in field {name!r}")
        elements = self.inline(pairs) if "vmsd_name" in members else ()
        if type_ in INLINE_STRUCTS and len(elements) == 1 and struct is None:
            struct, elements = elements[0], ()
        key = (name, type_, size, array_len, index, id(struct), *map(id, elements))
        known = self.fields.get(key)
        if known is None:
            known = Field(name, type_, size, array_len, index, struct, elements)
            self.fields[key] = known
        return known

    def inline(self, pairs: list[tuple[str, Any]]) -> tuple[Description, ...]:
        """The descriptions among an object's keys: one for each ``vmsd_name``."""
        groups: list[dict[str, Any]] = []
        for key, value in pairs:
            if key == "vmsd_name":
                groups.append({})
            elif not groups or key in ("size", "type", "name"):
                continue
            elif key in groups[-1]:
                _refuse(f"repeats {key} in {groups[-1].get('vmsd_name')!r}")
            if groups:
                groups[-1][key] = value
        return tuple(self.description(group) for group in groups)

    def description(self, members: dict[str, Any]) -> Description:
        name = _text(members, "vmsd_name")
        version = _number(members, "version")
        fields = _records(members, "fields", Field)
        subsections = _records(members, "subsections", Description, required=False)
        key = (name, version, tuple(map(id, fields)), tuple(map(id, subsections)))
        known = self.descriptions.get(key)
        if known is None:
            known = self.descriptions[key] = Description(name, version, fields, subsections)
            self.depths[id(known)] = self.depth(known)
        return known

    def depth(self, description: Description) -> int:
        below = [self.depths[id(subsection)] for subsection in description.subsections]
        for field in description.fields:
            if field.struct is not None:
                below.append(self.depths[id(field.struct)])
            below.extend(self.depths[id(element)] for element in field.elements)
        depth = 1 + max(below, default=0)
        if depth > MAX_DEPTH:
            _refuse(f"nests deeper than {MAX_DEPTH} descriptions")
        return depth

    def device(self, members: dict[str, Any]) -> DeviceDescription:
        name = _text(members, "name")
        # An int64 printed from an unsigned 32-bit number.
        instance_id = _number(members, "instance_id")
        if "vmsd_name" in members:
            description = self.description(members)
            return DeviceDescription(name, instance_id, description)
        fields = _records(members, "fields", Field)
        return DeviceDescription(name, instance_id, Description(name, 0, fields), old_style=True)

    def stream(self, members: dict[str, Any]) -> StreamDescription:
        configuration = members.get("configuration")
        if configuration is not None and not isinstance(configuration, Description):
            _refuse("has a configuration that describes nothing")
        devices = _records(members, "devices", DeviceDescription)
        page_size = _number(members, "page_size")
        return StreamDescription(page_size, devices, configuration, self.compact)


def _text(members: dict[str, Any], key: str) -> str:
    value = members.get(key)
    if isinstance(value, str):
        return value
    _refuse(f"has no text under {key}, where a name stands")


def _number(members: dict[str, Any], key: str) -> int:
    value = members.get(key)
    if type(value) is int and 0 <= value <= MAX_NUMBER:
        return value
    _refuse(f"has no number from 0 to 2^63-1 under {key} of {str(members.get('name'))[:80]!r}")


def _optional_number(members: dict[str, Any], key: str) -> int | None:
    return _number(members, key) if key in members else None


def _records(
    members: dict[str, Any], key: str, kind: type[Record], *, required: bool = True
) -> tuple[Record, ...]:
    value = members.get(key)
    if value is None and not required:
        return ()
    if isinstance(value, list) and all(isinstance(item, kind) for item in value):
        return tuple(value)
    _refuse(f"has no list of the right records under {key}")


# Writing

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n"} | {
    "\r": "\\r",
    "\t": "\\t",
}
_ESCAPED = re.compile(r'["\\]|[^ -~]')


def _escape(match: re.Match[str]) -> str:
    """As ``qobject/json-writer.c`` does: upper-case hex, UTF-16 surrogates."""
    character = match.group()
    if character in _ESCAPES:
        return _ESCAPES[character]
    units = character.encode("utf-16-be", "surrogatepass").hex().upper()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


class _Writer:
    def __init__(self, compact: bool) -> None:
        self.compact = compact
        self.pad = "" if compact else " "
        self.colon = '": ' if compact else '" : '
        self.written: dict[int, str] = {}

    def stream(self, stream: StreamDescription) -> bytes:
        members = []
        if stream.configuration is not None:
            members.append(self.member("configuration", self.body(stream.configuration)))
        members.append(self.member("page_size", str(stream.page_size)))
        members.append(self.array("devices", [self.device(device) for device in stream.devices]))
        return self.object(members).encode("utf-8", "surrogateescape")

    def device(self, device: DeviceDescription) -> str:
        head = [self.name(device.name), self.member("instance_id", str(device.instance_id))]
        if not device.old_style:
            return self.object([*head, self.keys(device.description)])
        fields = device.description.fields
        size = sum(_known_size(field) for field in fields)
        bodies = [
            self.object(
                [
                    self.name(field.name),
                    self.member("size", str(_known_size(field))),
                    self.member("type", self.string(field.type)),
                ]
            )
            for field in fields
        ]
        return self.object([*head, self.member("size", str(size)), self.array("fields", bodies)])

    def body(self, description: Description) -> str:
        known = self.written.get(id(description))
        if known is None:
            known = self.written[id(description)] = self.object([self.keys(description)])
        return known

    def keys(self, description: Description) -> str:
        members = [
            self.member("vmsd_name", self.string(description.name)),
            self.member("version", str(description.version)),
            self.array("fields", [self.field(field) for field in description.fields]),
        ]
        if description.subsections:
            members.append(self.array("subsections", [*map(self.body, description.subsections)]))
        return ", ".join(members)

    def field(self, field: Field) -> str:
        members = [self.name(field.name)]
        if field.array_len is not None:
            members.append(self.member("array_len", str(field.array_len)))
        if field.index is not None:
            members.append(self.member("index", str(field.index)))
        members.append(self.member("type", self.string(field.type)))
        if field.type == "struct":
            members.append(self.member("struct", self.struct(field.struct)))
        elif field.struct is not None:
            members.append(self.keys(field.struct))
        members.extend(self.keys(element) for element in field.elements)
        members.append(self.member("size", str(_known_size(field))))
        return self.object(members)

    def struct(self, struct: Description | None) -> str:
        # A NULL first element leaves an object without keys (2.9 to 9.2).
        return self.object([]) if struct is None else self.body(struct)

    def name(self, name: str) -> str:
        return self.member("name", self.string(name))

    def string(self, text: str) -> str:
        return f'"{_ESCAPED.sub(_escape, text) if self.compact else text}"'

    def member(self, key: str, value: str) -> str:
        return f'"{key}{self.colon}{value}'

    def array(self, key: str, items: list[str]) -> str:
        return self.member(key, f"[{self.pad}{', '.join(items)}{self.pad}]")

    def object(self, members: list[str]) -> str:
        return f"{{{self.pad}{', '.join(members)}{self.pad}}}"


def _known_size(field: Field) -> int:
    if field.size is None:
        raise ValueError(f"field {field.name!r} has no wire size")
    return field.size

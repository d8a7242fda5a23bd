"""A device's fields changed together with the description of them.

A :class:`Layout` is a body's bytes and the description that accounts for every
one of them. Each change gives a new layout, in which that is so again: the
sizes of all structs around the change follow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec
from msgspec.structs import replace

from vmstream.tools.edits.encoding import encode_array, encode_value, listed
from vmstream.tools.edits.records import EditError, Plain
from vmstream.vmstate.decode import decode
from vmstream.vmstate.description import Description, Field
from vmstream.vmstate.values import Array, List, Scalar, Struct, Value

__all__ = ["Layout", "Place", "measured"]

SUBSECTION = 0x05
_PART = re.compile(
    r"(?P<base>.+)\[(?P<first>0[xX][0-9a-fA-F]+|[0-9]+)(?::(?P<last>0[xX][0-9a-fA-F]+|[0-9]+))?\]"
)


class Place(msgspec.Struct, frozen=True):
    """Where a value stands in a body."""

    type: str
    offset: int
    size: int
    count: int | None = None
    """Elements of an array; None for a single value."""

    def encode(self, value: Plain) -> bytes:
        """The value as the bytes that stand here.

        Raises:
            EditError: it does not fit.
        """
        if self.count is None:
            return encode_value(self.type, value, self.size)
        return encode_array(self.type, value, self.size, self.count)


class Layout:
    """A body with its description.

    Attributes:
        data: the body's bytes.
        description: what they mean.
        value: the two together; offsets in it are positions in ``data``.
        exact: whether the description accounts for every byte.
    """

    def __init__(self, description: Description, data: bytes) -> None:
        self.description = description
        self.data = data
        decoded = decode(description, data, 0, size=len(data))
        self.value = decoded.value
        self.exact = decoded.exact

    # What there is

    def has(self, path: str) -> bool:
        """Whether a node stands at a path; the empty one is the device itself."""
        return path in self.value

    def is_struct(self, path: str) -> bool:
        """Whether what stands at a path has members."""
        return isinstance(self._node(path), Struct)

    def names(self, path: str) -> list[str]:
        """What stands in the innermost struct that a path begins with, for errors.

        Subsections, whose names have slashes, come first where the path has one.
        """
        wanted = path
        while path and not isinstance(self._node(path), Struct):
            path = path.rpartition(".")[0]
        node = self._node(path)
        if not isinstance(node, Struct):
            return []
        if "/" in wanted:
            return [*node.subsections, *node.members]
        return list(node)

    def _node(self, path: str) -> Value | None:
        return self.value.at(path) if path in self.value else None

    def place(self, path: str) -> Place:
        """Where the value at a path stands; ``[n]`` or ``[n:m]`` of a buffer is bytes of it.

        Raises:
            EditError: nothing stands there, or something with parts of its own.
        """
        node = self._node(path)
        if node is None:
            return self._part(path)
        if isinstance(node, Scalar):
            return Place(node.type, node.offset, len(node.raw))
        if isinstance(node, Array):
            return Place(node.type, node.offset, len(node.raw), node.count)
        members = list(node) if isinstance(node, Struct) else [f"[{n}]" for n in range(len(node))]
        raise EditError(f"{path} has parts of its own: {listed(members)}")

    def _part(self, path: str) -> Place:
        match = _PART.fullmatch(path)
        base = self._node(match["base"]) if match else None
        if match is None or not isinstance(base, Scalar) or not isinstance(base.value, bytes):
            raise EditError(f"there is no {path}; there are {listed(self.names(path), path)}")
        first = int(match["first"], 0)
        last = int(match["last"], 0) if match["last"] else first + 1
        if not first < last <= len(base.raw):
            raise EditError(f"{match['base']} has {len(base.raw)} bytes, not {path}")
        single = match["last"] is None
        return Place("uint8" if single else base.type, base.offset + first, last - first)

    # What can be changed

    def with_value(self, place: Place, data: bytes) -> Layout:
        """Other bytes of the same size."""
        end = place.offset + place.size
        return Layout(self.description, self.data[: place.offset] + data + self.data[end:])

    def without_subsection(self, path: str) -> Layout:
        """Without the subsection whose full name the path ends with.

        Raises:
            EditError: there is none.
        """
        chain = self._chain(path)
        node = chain[-1]
        parent = chain[-2] if len(chain) > 1 else None
        if not isinstance(parent, Struct) or not _is_subsection(parent, node):
            raise EditError(f"{path} is no subsection")
        assert isinstance(node, Struct)
        start = node.offset - len(_header(node.description))
        kept = tuple(d for d in parent.description.subsections if d.name != node.description.name)
        description = replace(parent.description, subsections=kept)
        return self._changed(chain[:-1], description, start, node.offset + len(node.raw), b"")

    def with_subsection(self, parent: str, description: Description, body: bytes) -> Layout:
        """With a subsection behind the others of the struct at ``parent``.

        Raises:
            EditError: it has that one, or is no struct.
        """
        chain = self._chain(parent)
        node = chain[-1]
        if not isinstance(node, Struct):
            raise EditError(f"{parent} is no struct, and has no subsections")
        if description.name in node.subsections:
            raise EditError(f"subsection {description.name} is there already")
        changed = replace(
            node.description, subsections=(*node.description.subsections, description)
        )
        end = node.offset + len(node.raw)
        return self._changed(chain, changed, end, end, _header(description) + body)

    def without_field(self, path: str) -> Layout:
        """Without a field and its bytes.

        Raises:
            EditError: there is none, or it is an element of one.
        """
        chain = self._chain(path)
        node = chain[-1]
        parent = chain[-2] if len(chain) > 1 else None
        name = _name_in(parent, node) if isinstance(parent, Struct) else None
        if name is None or not isinstance(parent, Struct) or _is_subsection(parent, node):
            raise EditError(f"{path} is no field: a subsection, or an element of an array")
        kept = tuple(field for field in parent.description.fields if field.name != name)
        description = replace(parent.description, fields=kept)
        end = node.offset + len(node.raw)
        return self._changed(chain[:-1], description, node.offset, end, b"")

    def with_field(self, path: str, type_: str, data: bytes, after: str | None) -> Layout:
        """With a field behind the one named ``after``, or behind the last.

        Raises:
            EditError: a field of that name is there, or none of the name ``after``.
        """
        parent, name = self._parent(path)
        chain = self._chain(parent)
        node = chain[-1]
        assert isinstance(node, Struct)
        if name in node.members:
            raise EditError(f"{path} is there already")
        members = list(node.members)
        if after is not None and after not in node.members:
            raise EditError(f"there is no field {after}; there are {listed(members, after)}")
        before = after if after is not None else (members[-1] if members else None)
        at = node.offset
        if before is not None:
            at = node.members[before].offset + len(node.members[before].raw)
        fields = node.description.fields
        index = max((n for n, field in enumerate(fields) if field.name == before), default=-1) + 1
        entry = Field(name, type_, len(data))
        description = replace(node.description, fields=(*fields[:index], entry, *fields[index:]))
        return self._changed(chain, description, at, at, data)

    def _parent(self, path: str) -> tuple[str, str]:
        """The longest part of a path that is a struct, and the name that is left."""
        for at in reversed([n for n, char in enumerate(path) if char == "."]):
            if isinstance(self._node(path[:at]), Struct):
                return path[:at], path[at + 1 :]
        return "", path

    def parent_of(self, path: str, name: str) -> str:
        """The path of the struct in which ``name`` is the path's last member."""
        return path.removesuffix(name).removesuffix(".")

    # How sizes follow

    def _chain(self, path: str) -> list[Value]:
        """Every node from the device down to the one at a path.

        Raises:
            EditError: nothing stands there, or the description does not fit the bytes.
        """
        if not self.exact:
            raise EditError("the description does not account for every byte of the device")
        node = self._node(path)
        chain = None if node is None else _chain(self.value, node)
        if chain is None:
            raise EditError(f"there is no {path}; there are {listed(self.names(path), path)}")
        return chain

    def _changed(
        self, chain: Sequence[Value], description: Description, start: int, end: int, data: bytes
    ) -> Layout:
        """Other bytes from ``start`` to ``end``, and another description of the chain's last.

        Raises:
            EditError: the description can not tell what would stand there.
        """
        root = _rebuilt(chain, description, len(data) - (end - start))
        layout = Layout(root, self.data[:start] + data + self.data[end:])
        if not layout.exact:
            raise EditError("a description can not tell what would stand there")
        return layout


def _header(description: Description) -> bytes:
    name = description.name.encode("utf-8", "surrogateescape")
    if len(name) > 255:
        raise EditError(f"the name {description.name[:32]!r}... is longer than 255 bytes")
    if not 0 <= description.version < 1 << 32:
        raise EditError(f"{description.version} is no version: it takes 0 to 0xffffffff")
    return bytes((SUBSECTION, len(name))) + name + description.version.to_bytes(4, "big")


def _children(node: Value) -> Iterator[Value]:
    if isinstance(node, Struct):
        yield from node.members.values()
        yield from node.subsections.values()
    elif isinstance(node, List):
        yield from node.items


def _chain(root: Value, target: Value) -> list[Value] | None:
    """Nodes from the root to the one that is ``target`` itself; None for part of an array."""
    parents: dict[int, Value] = {}
    pending = [root]
    while pending:
        node = pending.pop()
        if node is target:
            break
        for child in _children(node):
            parents[id(child)] = node
            pending.append(child)
    else:
        return None
    chain = [target]
    while chain[-1] is not root:
        chain.append(parents[id(chain[-1])])
    return chain[::-1]


def _is_subsection(parent: Struct, node: Value) -> bool:
    return any(node is subsection for subsection in parent.subsections.values())


def _name_in(parent: Struct, node: Value) -> str | None:
    return next((name for name, member in parent.members.items() if member is node), None)


def _rebuilt(chain: Sequence[Value], description: Description, delta: int) -> Description:
    """The root's description, when the last node of a chain has a new one."""
    child = chain[-1]
    position = 0
    for parent in reversed(chain[:-1]):
        if isinstance(parent, List):
            position = next(n for n, item in enumerate(parent.items) if item is child)
        elif isinstance(parent, Struct):
            description = _replaced(parent, child, position, description, delta)
        child = parent
    return description


def _replaced(
    parent: Struct, child: Value, position: int, description: Description, delta: int
) -> Description:
    """The description of a struct in which that of one member is another.

    Raises:
        EditError: one entry describes several elements, which would now differ.
    """
    whole = parent.description
    if isinstance(child, Struct) and _is_subsection(parent, child):
        parts = tuple(
            description if part.name == child.description.name else part
            for part in whole.subsections
        )
        return replace(whole, subsections=parts)
    name = _name_in(parent, child)
    entries = [n for n, field in enumerate(whole.fields) if field.name == name]
    many = len(child) if isinstance(child, List) else 1
    first = whole.fields[entries[0]] if entries else None
    if first is None or any(whole.fields[n].array_len is not None for n in entries):
        raise EditError(f"{name} is described by its first element: all would have to change")
    size = first.size or 0
    if len(entries) == 1 and first.elements and len(first.elements) == many:
        elements = list(first.elements)
        elements[position] = description
        changed = replace(first, elements=tuple(elements), size=size + delta)
        return _with_entry(whole, entries[0], changed)
    if len(entries) != many or first.elements:
        raise EditError(f"the elements of {name} are not described one by one")
    chosen = entries[position] if isinstance(child, List) else entries[0]
    entry = whole.fields[chosen]
    return _with_entry(
        whole, chosen, replace(entry, struct=description, size=(entry.size or 0) + delta)
    )


def _with_entry(whole: Description, number: int, entry: Field) -> Description:
    return replace(whole, fields=(*whole.fields[:number], entry, *whole.fields[number + 1 :]))


# Descriptions that were made for another stream


def measured(value: Struct) -> Description:
    """What describes decoded values, with the sizes that they have here."""
    description = value.description
    fields = tuple(_measured_field(field, value) for field in description.fields)
    subsections = tuple(map(measured, value.subsections.values()))
    return replace(description, fields=fields, subsections=subsections)


def _measured_field(field: Field, value: Struct) -> Field:
    member = value.members.get(field.name)
    if isinstance(member, Struct):
        return replace(field, struct=measured(member), size=len(member.raw))
    if not isinstance(member, List) or field.index is not None:
        return field
    if field.array_len is None and member.type == field.type:
        items = [measured(item) for item in member.items if isinstance(item, Struct)]
        return replace(field, elements=tuple(items), size=len(member.raw))
    first = member.items[0] if member.items else None
    if isinstance(first, Struct):
        return replace(field, struct=measured(first), size=len(first.raw))
    return field

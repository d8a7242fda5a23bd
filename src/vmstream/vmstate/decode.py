"""A section's bytes, decoded by their description.

The walk follows QEMU's ``vmstate_save_state_v`` (``migration/vmstate.c``): the
fields in order, then each subsection behind its header. Where a description
says less than the bytes hold, the readings it allows are tried against the
section's known size; when no reading or more than one fits, that is reported
and nothing is guessed. The known gaps:

- 10.0 and later give the first run of a pointer array the whole array's length;
- 2.9 to 9.2 describe a pointer array by its first element, NULL or not;
- an array is described by its first element even when containers inside the
  elements differ in length.
"""

from __future__ import annotations

from typing import Any, NoReturn

import msgspec
from msgspec.structs import replace

from vmstream.vmstate.description import Description, Field
from vmstream.vmstate.values import NULL_MARKER, Array, List, Scalar, Struct, Value
from vmstream.vmstate.vmdesc import MAX_DEPTH, counts, wire_size

__all__ = [
    "MAX_READINGS",
    "MAX_SEARCH",
    "MAX_VALUES",
    "Decoded",
    "Problem",
    "decode",
    "extent",
    "fits",
]

SUBSECTION = 0x05
ELEMENT = 0x01
END = 0x00
"""Marker bytes: QEMU_VM_SUBSECTION, and those before and after container elements."""

MAX_VALUES = 1 << 20
"""Nodes made for one section; arrays of plain numbers count as one."""

VALUES_AT_LEAST = 4096
VALUES_PER_BYTE = 8
"""How many nodes a section of so many bytes may make, below that bound."""

MAX_SEARCH = 1 << 17
"""Nodes made in all while the readings of an ambiguous section are tried."""

MAX_READINGS = 256
"""Readings of an ambiguous section that are tried."""

CONTAINERS = frozenset({"qtailq", "qlist"})


class Problem(msgspec.Struct, frozen=True):
    """Where description and bytes part."""

    path: str
    """The field, as :meth:`vmstream.vmstate.values.Struct.at` takes it; empty
    when it concerns the whole section."""
    offset: int
    """Of the first byte that does not fit, in the stream."""
    message: str
    expected: Any = None
    found: Any = None


class Decoded(msgspec.Struct, frozen=True):
    """A section's values and how well they fitted its bytes."""

    value: Struct
    """Everything decoded; with a problem, what came before it."""
    size: int
    """Bytes that the walk used."""
    problems: tuple[Problem, ...] = ()

    @property
    def exact(self) -> bool:
        """Every byte is accounted for, and every check held."""
        return not self.problems


def decode(
    description: Description,
    data: memoryview | bytes,
    offset: int = 0,
    *,
    size: int | None = None,
    version: int | None = None,
    borrowed: bool = False,
) -> Decoded:
    """Decode one section's body.

    Args:
        description: what the body means.
        data: bytes from the body's first one on; more may follow.
        offset: of that byte in the stream.
        size: bytes in the body, when its end is known; it settles readings
            that the description leaves open.
        version: of the section's header; the description's own by default.
        borrowed: the description was made for another stream: each subsection
            may be absent and containers may hold another number of elements.

    Never raises for what the bytes hold: see :attr:`Decoded.problems`.
    """
    view = memoryview(data).toreadonly()
    if size is not None:
        view = view[:size]
    context = _Context(view, offset, size, borrowed)
    shown = description.version if version is None else version
    first = _Walk(context, _Reading()).read(description, shown)
    if first.exact:
        return first
    literal = _Walk(context, _Reading(corrected=False)).read(description, shown)
    if literal.exact:
        return literal
    if size is None or borrowed:
        return first
    return _with_nulls(context, description, shown, first)


def fits(
    descriptions: list[Description] | tuple[Description, ...],
    data: memoryview | bytes,
    offset: int = 0,
    *,
    size: int,
    version: int | None = None,
) -> list[Decoded]:
    """Decode by each borrowed description; those that account for every byte.

    More than one may fit: the caller says so, or shows bytes.
    """
    decoded = (
        decode(description, data, offset, size=size, version=version, borrowed=True)
        for description in descriptions
    )
    return [candidate for candidate in decoded if candidate.exact]


def extent(description: Description, data: memoryview | bytes) -> int | None:
    """Bytes of a body whose end is unknown, by a borrowed description.

    None when the bytes contradict it or end too early.
    """
    decoded = decode(description, data, borrowed=True)
    return decoded.size if decoded.exact else None


class _Reading(msgspec.Struct, frozen=True):
    """One way to read what the description leaves open."""

    corrected: bool = True
    """Take the first run of a pointer array for shorter than it says."""
    nulls: tuple[bool, ...] | None = None
    """Whether each element that may be NULL is, for arrays described by their
    first element; True for those that follow. None: none is."""


class _Context(msgspec.Struct, frozen=True):
    """What :func:`decode` was asked."""

    data: memoryview
    offset: int
    size: int | None
    borrowed: bool


class _Stop(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class _Walk:
    """One pass over the bytes. Every node is attached before it is filled, so
    that what was decoded before a problem stays."""

    def __init__(self, context: _Context, reading: _Reading) -> None:
        self.data = context.data
        self.limit = len(context.data)
        self.base = context.offset
        self.size = context.size
        self.borrowed = context.borrowed
        self.reading = reading
        self.position = 0
        self.path: list[str] = []
        self.depth = 0
        self.values = 0
        self.repeated = 0
        """Above zero inside elements that only an earlier one describes."""
        self.repeats: list[str] = []
        self.counts: dict[int, list[int]] = {}
        self.listings: set[int] = set()
        """Identities of the lists made here of entries of one name."""
        self.choices: list[bool] = []
        self.budget = min(MAX_VALUES, VALUES_AT_LEAST + VALUES_PER_BYTE * self.limit)

    def read(self, description: Description, version: int) -> Decoded:
        top = Struct(description, self.base, self.data[:0], version)
        try:
            self.body(top)
            if self.size is not None and self.position != self.size:
                self.stop(
                    f"the description accounts for {self.position} bytes, "
                    f"the section has {self.size}{self.suspects()}",
                    expected=self.position,
                    found=self.size,
                )
        except _Stop as stop:
            return Decoded(top, self.position, (stop.problem,))
        return Decoded(top, self.position)

    # What is asked of the bytes

    def stop(self, message: str, expected: Any = None, found: Any = None) -> NoReturn:
        raise _Stop(Problem(self.where(), self.base + self.position, message, expected, found))

    def where(self) -> str:
        return ".".join(self.path).replace(".[", "[")

    def take(self, size: int) -> memoryview:
        start = self.position
        end = start + size
        if end > self.limit:
            left = self.limit - start
            self.stop(f"{size} bytes are described, {left} are left", size, left)
        self.position = end
        return self.data[start:end]

    def marker(self, expected: int, what: str) -> None:
        found = self.take(1)[0]
        if found != expected:
            self.position -= 1
            self.stop(f"{what} begins with {expected:#04x}, not {found:#04x}", expected, found)

    def count_values(self, number: int = 1) -> None:
        self.values += number
        if self.values > self.budget:
            self.stop(f"more than {self.budget} values in the section", self.budget)

    # The walk

    def body(self, struct: Struct) -> None:
        """Fill a struct with its fields and subsections."""
        start = self.position
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.stop(f"descriptions nest deeper than {MAX_DEPTH}", MAX_DEPTH)
        try:
            self.fields(struct)
            for subsection in struct.description.subsections:
                self.subsection(struct, subsection)
        finally:
            struct.raw = self.data[start : self.position]
        self.depth -= 1

    def fields(self, struct: Struct) -> None:
        description = struct.description
        lengths = self.counts.get(id(description))
        if lengths is None:
            lengths = counts(description, corrected=self.reading.corrected)
            self.counts[id(description)] = lengths
        for entry, length in zip(description.fields, lengths, strict=True):
            self.path.append(entry.name)
            if entry.size is None:
                self.stop("the description has no wire size for it")
            if entry.array_len is None:
                self.single(struct, entry, entry.size)
            elif entry.struct is None and not entry.elements and not _is_container(entry):
                self.array(struct, entry, entry.size, length)
            else:
                self.repeated_entry(struct, entry, entry.size, length)
            self.close(struct, entry.name)
            self.path.pop()

    def single(self, struct: Struct, entry: Field, size: int) -> None:
        value = self.element(entry, size)
        self.attach(struct, entry.name, value, listed=entry.index is not None)
        self.fill(value, entry, size)

    def array(self, struct: Struct, entry: Field, size: int, length: int) -> None:
        """Elements of a plain type: one node, whatever their number."""
        offset = self.base + self.position
        self.count_values(1 if size else length)
        if _is_null(entry) and self.undescribed(struct, entry, length):
            return
        raw = self.take(size * length)
        if _is_null(entry):
            self.check_nulls(raw)
        type_ = "nullptr" if _is_null(entry) else entry.type
        self.attach(struct, entry.name, Array(type_, offset, raw, length))

    def repeated_entry(self, struct: Struct, entry: Field, size: int, length: int) -> None:
        """Structs or containers, all described by the first."""
        self.repeats.append(self.where())
        for index in range(length):
            self.path.append(f"[{index}]")
            if index and self.chosen_null():
                self.count_values()
                null = Scalar("nullptr", self.base + self.position, self.take(1))
                self.attach(struct, entry.name, null, listed=True)
            else:
                value = self.element(entry, size)
                self.attach(struct, entry.name, value, listed=True)
                self.repeated += index > 0
                self.fill(value, entry, size)
                self.repeated -= index > 0
            self.path.pop()

    def chosen_null(self) -> bool:
        """Whether the next element is read as a NULL pointer, where it may be."""
        nulls = self.reading.nulls
        if nulls is None or self.data[self.position : self.position + 1] != NULL_MARKER:
            return False
        chosen = nulls[len(self.choices)] if len(self.choices) < len(nulls) else True
        self.choices.append(chosen)
        return chosen

    def element(self, entry: Field, size: int) -> Value:
        """The node of one element: complete if plain, to be filled if not."""
        self.count_values()
        offset = self.base + self.position
        if entry.struct is not None:
            return Struct(entry.struct, offset, self.data[:0], entry.struct.version)
        if _is_container(entry):
            return List(entry.type, offset, self.data[:0])
        raw = self.take(size)
        if _is_null(entry):
            self.check_nulls(raw)
            return Scalar("nullptr", offset, raw)
        return Scalar(entry.type, offset, raw)

    def fill(self, value: Value, entry: Field, size: int) -> None:
        if isinstance(value, Scalar | Array):
            return
        start = self.position
        if isinstance(value, Struct):
            self.body(value)
        else:
            try:
                self.container(value, entry)
            finally:
                value.raw = self.data[start : self.position]
        used = self.position - start
        if used != size and not self.borrowed and not self.repeated:
            self.stop(f"its members take {used} bytes, {size} are described", size, used)

    def attach(self, struct: Struct, name: str, value: Value, listed: bool = False) -> None:
        """Entries of one name are the elements of one array."""
        known = struct.members.get(name)
        if known is None and not listed:
            struct.members[name] = value
            return
        if not isinstance(known, List) or id(known) not in self.listings:
            listing = List("array", value.offset, self.data[:0])
            self.listings.add(id(listing))
            struct.members[name] = listing
            if known is not None:
                listing.offset = known.offset
                self.extend(listing, known)
            known = listing
        self.extend(known, value)

    def extend(self, listing: List, value: Value) -> None:
        if isinstance(value, Array):
            self.count_values(len(value))
            listing.items.extend(value)
        else:
            listing.items.append(value)

    def close(self, struct: Struct, name: str) -> None:
        """Let a list of entries end where the last of them did."""
        member = struct.members.get(name)
        if isinstance(member, List) and id(member) in self.listings:
            member.raw = self.data[member.offset - self.base : self.position]

    def undescribed(self, struct: Struct, entry: Field, length: int) -> bool:
        """Take a pointer array that the description can not tell, as opaque bytes.

        Up to 9.2 it describes element 0 alone. Where that is NULL and others are
        not, only the extent of the whole is known: what the other fields leave.
        """
        rest = self.data[self.position : self.position + length]
        if self.size is None or len(self.path) != 1 or not bytes(rest).strip(NULL_MARKER):
            return False
        fields = struct.description.fields
        later = fields[[id(field) for field in fields].index(id(entry)) + 1 :]
        after = wire_size(Description("", 0, later, struct.description.subsections))
        if after is None or self.size - self.position - after <= length:
            return False
        offset = self.base + self.position
        raw = self.take(self.size - self.position - after)
        self.attach(struct, entry.name, Scalar(entry.type, offset, raw))
        return True

    def check_nulls(self, raw: memoryview) -> None:
        right = len(raw) - len(bytes(raw).lstrip(NULL_MARKER))
        if right < len(raw):
            self.position -= len(raw) - right
            found = raw[right]
            self.stop(f"a NULL pointer is 0x30, not {found:#04x}", NULL_MARKER[0], found)

    # Containers that count themselves

    def container(self, value: List, entry: Field) -> None:
        if entry.type == "gtree":
            self.tree(value, entry)
            return
        adaptive = self.borrowed or self.repeated > 0
        index = 0
        while self.more(index, len(entry.elements), adaptive):
            self.marker(ELEMENT, "an element")
            description = self.describing(entry.elements, index, adaptive)
            self.node(value, description, index)
            index += 1
        self.marker(END, f"the end of a {entry.type}")

    def more(self, index: int, described: int, adaptive: bool) -> bool:
        if not adaptive:
            return index < described
        return self.position < self.limit and self.data[self.position] == ELEMENT

    def describing(
        self, elements: tuple[Description, ...], index: int, adaptive: bool
    ) -> Description:
        if index >= len(elements) and not (adaptive and elements):
            self.stop("an element that the description says nothing of")
        return elements[min(index, len(elements) - 1)]

    def node(self, value: List, description: Description, index: int) -> None:
        self.path.append(f"[{index}]")
        self.count_values()
        item = Struct(description, self.base + self.position, self.data[:0], description.version)
        value.items.append(item)
        self.body(item)
        self.path.pop()

    def tree(self, value: List, entry: Field) -> None:
        """be32 nodes; each 0x01, key, value; 0x00. A direct key is a be64 that
        the description leaves out (``VMSTATE_GTREE_DIRECT_KEY_V``)."""
        nodes = int.from_bytes(self.take(4), "big")
        described = len(entry.elements)
        keyed = described > 0 and described == 2 * nodes
        empty = nodes == 0 and (self.borrowed or self.repeated > 0)
        if nodes != described and not keyed and not empty:
            self.position -= 4
            self.stop(f"{nodes} nodes, {described} descriptions", described, nodes)
        for index in range(nodes):
            self.marker(ELEMENT, "a node")
            self.path.append(f"[{index}]")
            self.count_values()
            item = Struct(_NODE, self.base + self.position, self.data[:0], 0)
            value.items.append(item)
            start = self.position
            if keyed:
                self.tree_part(item, "key", entry.elements[2 * index])
                self.tree_part(item, "value", entry.elements[2 * index + 1])
            else:
                item.members["key"] = Scalar("uint64", self.base + start, self.take(8))
                self.tree_part(item, "value", entry.elements[index])
            item.raw = self.data[start : self.position]
            self.path.pop()
        self.marker(END, "the end of a gtree")

    def tree_part(self, item: Struct, name: str, description: Description) -> None:
        part = Struct(description, self.base + self.position, self.data[:0], description.version)
        item.members[name] = part
        self.path.append(name)
        self.body(part)
        self.path.pop()

    # Subsections

    def subsection(self, parent: Struct, description: Description) -> None:
        name = description.name.encode("utf-8", "surrogateescape")
        header = bytes((SUBSECTION, len(name) & 0xFF)) + name
        start = self.position
        found = bytes(self.data[start : start + len(header)])
        if found != header:
            if self.borrowed:
                return
            self.path.append(description.name)
            self.stop("its subsection header is expected here", header.hex(), found.hex())
        self.path.append(description.name)
        self.position += len(header)
        version = int.from_bytes(self.take(4), "big")
        if version != description.version:
            self.position -= 4
            self.stop(
                f"subsection version {version}, described as {description.version}",
                description.version,
                version,
            )
        self.count_values()
        value = Struct(description, self.base + self.position, self.data[:0], version)
        parent.subsections[description.name] = value
        self.body(value)
        self.path.pop()

    def suspects(self) -> str:
        """Name the arrays whose later elements may differ from the first."""
        names = list(dict.fromkeys(self.repeats))[:3]
        if not names:
            return ""
        return f"; only the first element is described of {', '.join(names)}"


_NODE = Description("gtree node", 0)


def _is_container(entry: Field) -> bool:
    return entry.type in CONTAINERS or entry.type == "gtree"


def _is_null(entry: Field) -> bool:
    """Described so, or as ``"struct": {}``: the first element was NULL (2.9 to 9.2)."""
    return entry.type == "nullptr" or (entry.type == "struct" and entry.struct is None)


# Pointer arrays described by their first element (2.9 to 9.2)


def _with_nulls(
    context: _Context, description: Description, version: int, first: Decoded
) -> Decoded:
    """Find the NULL elements that make the section end where it ends.

    Every later element that begins with 0x30 may be NULL. The placements are
    tried in turn, each by a pass over the bytes; only a single one that fits,
    with all others excluded, is taken.
    """
    found: list[Decoded] = []
    choices: list[bool] | None = []
    budget = MAX_SEARCH
    for _ in range(MAX_READINGS):
        if choices is None or len(found) > 1 or budget <= 0:
            break
        walk = _Walk(context, _Reading(nulls=tuple(choices)))
        decoded = walk.read(description, version)
        if decoded.exact:
            found.append(decoded)
        budget -= walk.values
        choices = _next_choices(walk.choices)
    if not found:
        return first
    if len(found) == 1 and choices is None:
        return found[0]
    problem = Problem(
        "",
        context.offset,
        "NULL elements of a pointer array can be placed in more than one way",
        expected=1,
        found=len(found),
    )
    return replace(first, problems=(*first.problems, problem))


def _next_choices(made: list[bool]) -> list[bool] | None:
    """The next branch of the tree of choices, each tried True first."""
    while made and not made[-1]:
        made = made[:-1]
    return [*made[:-1], False] if made else None

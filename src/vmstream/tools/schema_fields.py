"""How the fields of one description became those of another."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

import msgspec
from msgspec.structs import replace

from vmstream.tools.schema_changes import (
    HARMLESS,
    UNCERTAIN,
    Change,
    Kind,
    Severities,
    Severity,
    gravest,
    layout,
    shape,
)
from vmstream.vmstate.description import Description, Field

__all__ = ["Comparison"]

UNUSED = "unused"
"""Field name of padding (``VMSTATE_UNUSED``); its size is that on the wire."""

MAX_OPENED = 4096
"""Structs unfolded while one run of fields is compared byte by byte."""


Found = tuple[Change, str]
"""A change, and its path from the description that was asked about."""


class _Sides(msgspec.Struct, frozen=True):
    """The two descriptions whose fields are compared, and what decides who reads what."""

    old: Description
    new: Description
    on_wire: bool
    """The stream carries the version (devices, subsections), else the receiver uses its own."""

    def sent(self, field: Field | None) -> bool:
        """Whether the old side sends it."""
        return field is not None and field.version <= self.old.version

    def read(self, field: Field | None) -> bool:
        """Whether the new side reads it from an old stream."""
        version = self.old.version if self.on_wire else self.new.version
        return field is not None and field.version <= version

    def always(self, field: Field) -> bool:
        """Whether its version never keeps it out, whoever sends."""
        return field.version <= min(self.old.version, self.new.version)

    def turned(self) -> _Sides:
        """The same in the other direction."""
        return _Sides(self.new, self.old, self.on_wire)


class Comparison:
    """Compares descriptions of two schemas; each pair once, however many devices use it.

    Args:
        old_arrays: the old schema tells array lengths.
        new_arrays: the new one does.
    """

    def __init__(self, old_arrays: bool, new_arrays: bool) -> None:
        self.arrays = old_arrays and new_arrays
        self.old_arrays = old_arrays
        self.new_arrays = new_arrays
        self.known: dict[tuple[int, int, bool], tuple[Found, ...]] = {}

    def devices(self, old: Description, new: Description) -> tuple[Found, ...]:
        """Everything that differs between two devices' state."""
        found = self.descriptions(old, new, on_wire=True)
        if old.name == new.name:
            return found
        message = f"its name in the stream was {old.name} and is {new.name}"
        return ((self.renamed_description(old, new, message, Severity.BREAKS), ""), *found)

    def descriptions(self, old: Description, new: Description, on_wire: bool) -> tuple[Found, ...]:
        key = (id(old), id(new), on_wire)
        known = self.known.get(key)
        if known is None:
            known = () if old == new else tuple(self.compare(_Sides(old, new, on_wire)))
            self.known[key] = known
        return known

    def compare(self, sides: _Sides) -> Iterator[Found]:
        yield from _versions(sides)
        found = list(_Fields(self, sides).compare(sides.old.fields, sides.new.fields))
        found.extend(self.subsections(sides))
        yield from _moved(found, sides)

    def renamed_description(
        self, old: Description, new: Description, message: str, severity: Severity
    ) -> Change:
        kind = Kind.DESCRIPTION_RENAMED
        return Change(kind, severity, severity, old.name, "", old.name, new.name, message)

    def subsections(self, sides: _Sides) -> Iterator[Found]:
        old = {subsection.name: subsection for subsection in sides.old.subsections}
        new = {subsection.name: subsection for subsection in sides.new.subsections}
        lost = [subsection for name, subsection in old.items() if name not in new]
        fresh = [subsection for name, subsection in new.items() if name not in old]
        for name, subsection in old.items():
            if name in new:
                yield from _below(name, self.descriptions(subsection, new[name], on_wire=True))
        by_layout = {layout(subsection): subsection for subsection in fresh} if lost else {}
        for subsection in lost:
            successor = by_layout.pop(layout(subsection), None)
            if successor is not None:
                del new[successor.name]
                yield _subsection(sides, Kind.SUBSECTION_RENAMED, subsection, successor)
            else:
                yield _subsection(sides, Kind.SUBSECTION_REMOVED, subsection, None)
        for subsection in new.values():
            if subsection.name not in old:
                yield _subsection(sides, Kind.SUBSECTION_ADDED, None, subsection)


def _versions(sides: _Sides) -> Iterator[Found]:
    old, new = sides.old, sides.new
    if old.version != new.version:
        message = f"version {old.version} became {new.version}"
        yield _version_change(Kind.VERSION, sides, old.version, new.version, message)
    if old.minimum_version != new.minimum_version:
        message = (
            f"versions are read from {new.minimum_version} on, before from {old.minimum_version}"
        )
        yield _version_change(
            Kind.MINIMUM_VERSION, sides, old.minimum_version, new.minimum_version, message
        )


def _version_change(
    kind: Kind, sides: _Sides, old: int | None, new: int | None, message: str
) -> Found:
    if not sides.on_wire:
        change = Change(
            kind, *HARMLESS, sides.old.name, "", old, new, f"{message}; it is not in the stream"
        )
        return change, ""

    def refused(sender: Description, receiver: Description) -> Severity:
        if kind is Kind.VERSION:
            breaks = sender.version > receiver.version
        else:
            breaks = sender.version < (receiver.minimum_version or 0)
        return Severity.BREAKS if breaks else Severity.HARMLESS

    forward = refused(sides.old, sides.new)
    backward = refused(sides.new, sides.old)
    return Change(kind, forward, backward, sides.old.name, "", old, new, message), ""


def _subsection(
    sides: _Sides, kind: Kind, old: Description | None, new: Description | None
) -> Found:
    """A subsection breaks when it is sent to a side that does not know it."""
    forward = Severity.MAY_BREAK if old is not None else Severity.HARMLESS
    backward = Severity.MAY_BREAK if new is not None else Severity.HARMLESS
    if old is not None and new is not None:
        message = f"subsection {old.name} has the fields of {new.name}"
    elif old is not None:
        message = f"subsection {old.name} is only in the old schema"
    else:
        assert new is not None
        message = f"subsection {new.name} is only in the new schema"
    name = (old or new or sides.old).name
    change = Change(
        kind,
        forward,
        backward,
        sides.old.name,
        name,
        old.name if old else None,
        new.name if new else None,
        message,
    )
    return change, name


def _below(name: str, found: Iterable[Found]) -> Iterator[Found]:
    for change, path in found:
        yield change, f"{name}.{path}" if path else name


def _moved(found: list[Found], sides: _Sides) -> Iterator[Found]:
    """Turn a field removed here and added there into one that moved."""
    removed = {
        change.field: (change, path) for change, path in found if change.kind is Kind.FIELD_REMOVED
    }
    taken: set[str] = set()
    moved: dict[str, Change] = {}
    for change, _ in found:
        other = removed.get(change.field)
        if change.kind is Kind.FIELD_ADDED and other is not None and change.field not in taken:
            taken.add(change.field)
            moved[change.field] = replace(
                other[0],
                kind=Kind.FIELD_MOVED,
                old_to_new=gravest(change.old_to_new, other[0].old_to_new),
                new_to_old=gravest(change.new_to_old, other[0].new_to_old),
                new=change.new,
                message=f"field {change.field} stands at another place",
            )
    before = {subsection.name for subsection in sides.old.subsections}
    into = {
        field.name: subsection.name
        for subsection in sides.new.subsections
        if subsection.name not in before
        for field in subsection.fields
    }
    for change, path in found:
        if change.kind is Kind.FIELD_ADDED and change.field in moved:
            continue
        if change.kind is Kind.FIELD_REMOVED and change.field in moved:
            yield moved[change.field], path
        elif change.kind is Kind.FIELD_REMOVED and change.field in into:
            name = into[change.field]
            message = f"field {change.field} moved into subsection {name}"
            yield replace(change, kind=Kind.FIELD_MOVED, new=name, message=message), path
        else:
            yield change, path


class _Fields:
    """Compares the fields of one pair of descriptions."""

    def __init__(self, comparison: Comparison, sides: _Sides) -> None:
        self.comparison = comparison
        self.sides = sides

    def compare(self, old: Sequence[Field], new: Sequence[Field]) -> Iterator[Found]:
        """Align by name and size; what is between is compared byte by byte, then by name."""
        for same, ours, theirs in _aligned(old, new, _name_and_size):
            if same:
                for before, after in zip(ours, theirs, strict=True):
                    yield from self.pair(before, after)
                continue
            read = _Bytes(self, ours, theirs).read()
            if read is not None:
                yield from read
                continue
            for named, left, right in _aligned(ours, theirs, _name):
                if named:
                    for before, after in zip(left, right, strict=True):
                        yield from self.pair(before, after)
                    continue
                read = _Bytes(self, left, right).read()
                yield from self.apart(left, right) if read is None else read

    def apart(self, old: Iterable[Field], new: Iterable[Field]) -> Iterator[Found]:
        for field in old:
            yield self.lone(Kind.FIELD_REMOVED, field, None), field.name
        for field in new:
            yield self.lone(Kind.FIELD_ADDED, None, field), field.name

    def lone(self, kind: Kind, old: Field | None, new: Field | None) -> Change:
        field = old or new
        assert field is not None
        forward, backward = self.severities(old, new)
        side = "old" if old is not None else "new"
        message = f"field {field.name} is only in the {side} schema"
        if gravest(forward, backward) is Severity.HARMLESS:
            message += f", from version {field.version} on"
        return self.change(kind, (forward, backward), field.name, shape(old), shape(new), message)

    def change(
        self,
        kind: Kind,
        severities: Severities,
        field: str,
        old: str | int | None,
        new: str | int | None,
        message: str,
    ) -> Change:
        return Change(kind, *severities, self.sides.old.name, field, old, new, message)

    def severities(self, old: Field | None, new: Field | None, alike: bool = False) -> Severities:
        """What sending one and reading the other does; ``alike`` when their bytes are."""
        sides = self.sides
        turned = sides.turned()
        return (
            _severity(sides.sent(old), sides.read(new), old, new, alike),
            _severity(turned.sent(new), turned.read(old), new, old, alike),
        )

    def pair(self, old: Field, new: Field) -> Iterator[Found]:
        """Two fields that stand for each other."""
        name = old.name
        if old.name != new.name:
            yield self.renamed(old, new), name
        if old.version != new.version:
            severities = self.severities(old, new, alike=True)
            message = f"field {name} is there from version {new.version} on, not {old.version}"
            yield (
                self.change(
                    Kind.FIELD_VERSION, severities, name, old.version, new.version, message
                ),
                name,
            )
        if old.conditional != new.conditional:
            was, now = ("always", "on a condition")[:: -1 if old.conditional else 1]
            message = f"field {name} was sent {was}, now {now}"
            yield self.change(Kind.CONDITION, UNCERTAIN, name, was, now, message), name
        yield from self.content(old, new)

    def content(self, old: Field, new: Field) -> Iterator[Found]:
        name = old.name
        if (old.struct is None) != (new.struct is None):
            message = f"field {name} was {shape(old)}, now {shape(new)}"
            severities = self.severities(old, new)
            yield (
                self.change(Kind.FIELD_TYPE, severities, name, shape(old), shape(new), message),
                name,
            )
            return
        if not self.same_length(old, new):
            message = f"field {name} had {shape(old)}, now {shape(new)}"
            severities = self.severities(old, new)
            yield (
                self.change(Kind.FIELD_SIZE, severities, name, shape(old), shape(new), message),
                name,
            )
        if old.struct is None or new.struct is None:
            return
        if old.struct.name != new.struct.name:
            message = f"struct {old.struct.name} is called {new.struct.name}"
            change = self.comparison.renamed_description(
                old.struct, new.struct, message, Severity.HARMLESS
            )
            yield change, name
        yield from _below(name, self.comparison.descriptions(old.struct, new.struct, on_wire=False))

    def renamed(self, old: Field, new: Field) -> Change:
        """A rename is certain by the name's last part or by what is inside; else it may be
        another value in the same place."""
        message = f"field {old.name} is called {new.name}"
        severities = HARMLESS
        if old.struct is None and not _similar(old.name, new.name):
            message = f"in the place of field {old.name} stands {new.name} of the same size"
            severities = UNCERTAIN
        return self.change(Kind.FIELD_RENAMED, severities, old.name, old.name, new.name, message)

    def same_length(self, old: Field, new: Field) -> bool:
        """Whether as many bytes stand on the wire, as far as it is told.

        A struct's C size is not its size on the wire; neither says how long a
        variable array is, and before 8.1 no array's length is told.
        """
        if old.struct is not None:
            return not self.comparison.arrays or old.array_len == new.array_len
        if _bytes(old) == _bytes(new):
            return True
        return not self.comparison.arrays and old.memory_size == new.memory_size


def _severity(
    sent: bool, read: bool, sender: Field | None, receiver: Field | None, alike: bool
) -> Severity:
    if sent == read and (alike or not sent):
        return Severity.HARMLESS
    present = [field for field, there in ((sender, sent), (receiver, read)) if there]
    conditional = any(field is not None and field.conditional for field in present)
    return Severity.MAY_BREAK if conditional else Severity.BREAKS


Key = Callable[[Field], Hashable]
Run = tuple[bool, Sequence[Field], Sequence[Field]]


def _aligned(old: Sequence[Field], new: Sequence[Field], key: Key) -> Iterator[Run]:
    """Runs that are the same by ``key``, and what stands between them, in order.

    Keys that stand once on both sides are the anchors; between two of them runs
    are extended from both ends.
    """
    ours = [key(field) for field in old]
    theirs = [key(field) for field in new]
    i = j = 0
    for a, b in [*_anchors(ours, theirs), (len(ours), len(theirs))]:
        start, end = _common(ours[i:a], theirs[j:b])
        yield True, old[i : i + start], new[j : j + start]
        yield False, old[i + start : a - end], new[j + start : b - end]
        # With the anchor itself, where this is not the end of the lists.
        yield True, old[a - end : a + 1], new[b - end : b + 1]
        i, j = a + 1, b + 1


def _common(ours: Sequence[Hashable], theirs: Sequence[Hashable]) -> tuple[int, int]:
    """How many keys are the same at the beginning, and at the end of what is left."""
    shorter = min(len(ours), len(theirs))
    start = 0
    while start < shorter and ours[start] == theirs[start]:
        start += 1
    end = 0
    while end < shorter - start and ours[-1 - end] == theirs[-1 - end]:
        end += 1
    return start, end


def _anchors(ours: list[Hashable], theirs: list[Hashable]) -> list[tuple[int, int]]:
    """The longest chain of keys, unique on both sides, that keep their order.

    A longest increasing subsequence, so long lists take n log n steps.
    """
    here, there = Counter(ours), Counter(theirs)
    position = {key: number for number, key in enumerate(theirs) if there[key] == 1}
    pairs = [
        (number, position[key])
        for number, key in enumerate(ours)
        if here[key] == 1 and key in position
    ]
    tails: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for number, (_, wanted) in enumerate(pairs):
        length = bisect_left(tails, wanted)
        before.append(ends[length - 1] if length else -1)
        tails[length : length + 1] = [wanted]
        ends[length : length + 1] = [number]
    chain = []
    number = ends[-1] if ends else -1
    while number >= 0:
        chain.append(pairs[number])
        number = before[number]
    return chain[::-1]


def _name(field: Field) -> str:
    return field.name


def _name_and_size(field: Field) -> tuple[str, int | None]:
    return field.name, field.memory_size if field.struct is None else -1


def _bytes(field: Field) -> int:
    return (field.memory_size or 0) * (field.array_len or 1)


def _similar(old: str, new: str) -> bool:
    """Whether one name's last part is in the other's: ``tmr.timer``, ``timer_expiry``."""
    ours, theirs = _last_part(old), _last_part(new)
    return bool(ours and theirs) and (ours in theirs or theirs in ours)


def _last_part(name: str) -> str:
    return re.split(r"\.|->", re.sub(r"\[[^\]]*\]", "", name))[-1]


class _Bytes:
    """Reads two runs of fields side by side, to find the same bytes under other names."""

    def __init__(self, fields: _Fields, old: Sequence[Field], new: Sequence[Field]) -> None:
        self.fields = fields
        self.old = list(reversed(old))
        self.new = list(reversed(new))
        self.found: list[Found] = []
        self.opened = 0

    def read(self) -> list[Found] | None:
        """What changed; None when the bytes at the versions that both know are not the same."""
        if not self.old or not self.new:
            return None
        while self.old and self.new:
            if not self.step(self.old[-1], self.new[-1]):
                return None
        return None if self.old or self.new else self.found

    def step(self, old: Field, new: Field) -> bool:
        if self.pads(old, new):
            return self.padding()
        if self.same(old, new):
            self.old.pop()
            self.new.pop()
            self.found.extend(self.fields.pair(old, new))
            return True
        if self.later(old, new):
            return True
        # Open the struct that begins with the other's field, or else the only struct.
        if _begins_with(new, old.name) or (new.struct is not None and old.struct is None):
            return self.open(new, self.new, Kind.STRUCT_WRAPPED)
        if old.struct is not None:
            return self.open(old, self.old, Kind.STRUCT_OPENED)
        return False

    def pads(self, old: Field, new: Field) -> bool:
        return (
            (old.name == UNUSED) != (new.name == UNUSED)
            and old.struct is None
            and new.struct is None
            and not old.conditional
            and not new.conditional
        )

    def later(self, old: Field, new: Field) -> bool:
        """Pass over a field that one side sends only from a version on that the other lacks."""
        sides = self.fields.sides
        if sides.always(old) == sides.always(new):
            return False
        if sides.always(old):
            change = self.fields.lone(Kind.FIELD_ADDED, None, self.new.pop())
        else:
            change = self.fields.lone(Kind.FIELD_REMOVED, self.old.pop(), None)
        self.found.append((change, change.field))
        return True

    def same(self, old: Field, new: Field) -> bool:
        if old.struct is not None and new.struct is not None:
            return old.struct.name == new.struct.name or (
                not _begins_with(old, new.name)
                and not _begins_with(new, old.name)
                and layout(old.struct) == layout(new.struct)
            )
        if old.struct is not None or new.struct is not None:
            return False
        sides = self.fields.sides
        alike = old.conditional == new.conditional and sides.always(old) == sides.always(new)
        return alike and _bytes(old) > 0 and _bytes(old) == _bytes(new)

    def open(self, field: Field, fields: list[Field], kind: Kind) -> bool:
        """Take a struct's own fields in its place: nothing of it is on the wire."""
        struct = field.struct
        plain = (
            not field.conditional and field.array_len is None and self.fields.sides.always(field)
        )
        self.opened += 1
        if struct is None or not plain or struct.subsections or self.opened > MAX_OPENED:
            return False
        fields.pop()
        fields.extend(
            reversed([replace(f, version=0) for f in struct.fields if f.version <= struct.version])
        )
        wrapped = kind is Kind.STRUCT_WRAPPED
        message = (
            f"the fields of {field.name} stand in a struct"
            if wrapped
            else f"the fields of struct {field.name} stand by themselves"
        )
        before, after = (None, field.name) if wrapped else (field.name, None)
        change = self.fields.change(kind, HARMLESS, field.name, before, after, message)
        self.found.append((change, field.name))
        return True

    def padding(self) -> bool:
        """Padding on one side against fields of the same size on the other."""
        from_old = self.new[-1].name == UNUSED
        padded, others = (self.new, self.old) if from_old else (self.old, self.new)
        comparison = self.fields.comparison
        told = comparison.old_arrays if from_old else comparison.new_arrays
        room = _bytes(padded.pop())
        while room > 0:
            if not others or others[-1].struct is not None or others[-1].conditional:
                return False
            field = others.pop()
            size = _bytes(field)
            severities = HARMLESS
            if 0 < size < room and not told and not others and room % size == 0:
                # An array, if its untold length is such that the sizes agree.
                size, severities = room, UNCERTAIN
            room -= size
            message = f"field {field.name} and padding of its size stand for each other"
            before, after = (field.name, UNUSED) if from_old else (UNUSED, field.name)
            change = self.fields.change(
                Kind.PADDING, severities, field.name, before, after, message
            )
            self.found.append((change, field.name))
        return room == 0


def _begins_with(field: Field, name: str) -> bool:
    return field.struct is not None and bool(
        field.struct.fields and field.struct.fields[0].name == name
    )

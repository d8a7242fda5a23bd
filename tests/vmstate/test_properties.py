"""Random declarations: what they save, describe, decode and load is one and the same."""

from __future__ import annotations

import tracemalloc
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from vmstream import vmstate
from vmstream.errors import StreamError
from vmstream.vmstate import containers, fields
from vmstream.vmstate import values as decoded
from vmstream.vmstate.decode import decode
from vmstream.vmstate.description import DeviceDescription, StreamDescription
from vmstream.vmstate.dialect import Dialect
from vmstream.vmstate.loading import load
from vmstream.vmstate.saving import save, save_described
from vmstream.vmstate.state import State
from vmstream.vmstate.vmdesc import dump, parse

DIALECTS = [Dialect((5, 2)), Dialect((7, 2)), Dialect((10, 0))]
"""Writers of descriptions: before 6.0, before 10.0, and since."""
MAX_DEPTH = 2
QUICK = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])

INTEGERS: list[tuple[Callable[..., Any], int, int]] = [
    (vmstate.int8, -(1 << 7), (1 << 7) - 1),
    (vmstate.int16, -(1 << 15), (1 << 15) - 1),
    (vmstate.int32, -(1 << 31), (1 << 31) - 1),
    (vmstate.int64, -(1 << 63), (1 << 63) - 1),
    (vmstate.uint8, 0, (1 << 8) - 1),
    (vmstate.uint16, 0, (1 << 16) - 1),
    (vmstate.uint32, 0, (1 << 32) - 1),
    (vmstate.uint64, 0, (1 << 64) - 1),
    (vmstate.timer, -1, (1 << 63) - 1),
    (vmstate.cpu_double, 0, (1 << 64) - 1),
]
EQUALS = [
    (vmstate.int32_equal, 31),
    (vmstate.uint8_equal, 8),
    (vmstate.uint16_equal, 16),
    (vmstate.uint32_equal, 32),
    (vmstate.uint64_equal, 64),
]
COUNTS = [vmstate.uint8, vmstate.uint16, vmstate.uint32, vmstate.uint64, vmstate.int32]


# Random declarations, each with values that it may have


@dataclass
class Sketch:
    """A class in the making, and the values of one of its states."""

    version: int
    """The one at which the state is saved."""
    depth: int
    single: bool = True
    """No array holds it: every state of the class has the same pointers."""
    fixed: bool = False
    """States of the class have one size, for arrays that describe the first only."""
    names: Iterator[int] = field(default_factory=count)
    """Numbers for the names of classes: none may begin like another's."""
    members: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    present: dict[str, bool] = field(default_factory=dict)
    """Whether what depends on a flag is on the wire."""

    def add(self, item: Any, value: Any) -> str:
        name = f"f{len(self.members)}"
        self.members[name] = item
        if value is not None:
            self.values[name] = value
        return name


Draw = Callable[[st.SearchStrategy[Any]], Any]


def integers(draw: Draw) -> tuple[Callable[..., Any], int, int]:
    return draw(st.sampled_from(INTEGERS))


def number(draw: Draw, sketch: Sketch, common: dict[str, Any]) -> tuple[Any, Any]:
    word, low, high = integers(draw)
    if word in (vmstate.uint16, vmstate.uint32) and draw(st.booleans()):
        common |= {"little_endian": True}
    return word(**common), draw(st.integers(low, high))


def flag(draw: Draw, sketch: Sketch, common: dict[str, Any]) -> tuple[Any, Any]:
    return vmstate.boolean(**common), draw(st.booleans())


def real(draw: Draw, sketch: Sketch, common: dict[str, Any]) -> tuple[Any, Any]:
    return vmstate.float64(**common), draw(st.floats(allow_nan=False))


def equal(draw: Draw, sketch: Sketch, common: dict[str, Any]) -> tuple[Any, Any]:
    word, bits = draw(st.sampled_from(EQUALS))
    own = draw(st.integers(0, (1 << bits) - 1))
    return word(own, **common), own


def at_most(draw: Draw, sketch: Sketch, common: dict[str, Any]) -> tuple[Any, Any]:
    own = draw(st.integers(0, (1 << 31) - 1))
    return vmstate.int32_le(own, **common), draw(st.integers(0, own))


def fixed_buffer(draw: Draw, sketch: Sketch, common: dict[str, Any]) -> tuple[Any, Any]:
    value = draw(st.binary(min_size=1, max_size=9))
    if draw(st.booleans()):
        return vmstate.opaque("private bytes", len(value), **common), value
    return vmstate.buffer(len(value), **common), value


def padding(draw: Draw, sketch: Sketch, common: dict[str, Any]) -> tuple[Any, Any]:
    return vmstate.unused(draw(st.integers(1, 5)), **common), None


def fixed_bitmap(draw: Draw, sketch: Sketch, common: dict[str, Any]) -> tuple[Any, Any]:
    bits = draw(st.integers(1, 130))
    return vmstate.bitmap(bits, **common), draw(st.integers(0, (1 << bits) - 1))


def fixed_array(draw: Draw, sketch: Sketch, common: dict[str, Any]) -> tuple[Any, Any]:
    word, low, high = integers(draw)
    value = draw(st.lists(st.integers(low, high), min_size=1, max_size=4))
    return vmstate.array(word(), len(value), **common), value


def buffer_array(draw: Draw, sketch: Sketch, common: dict[str, Any]) -> tuple[Any, Any]:
    value = draw(st.lists(st.binary(min_size=3, max_size=3), min_size=1, max_size=3))
    return vmstate.array(vmstate.buffer(3), len(value), **common), value


def always(draw: Draw, sketch: Sketch, common: dict[str, Any]) -> tuple[Any, Any]:
    return vmstate.validate(lambda state, version: True, "holds"), None


def count_field(draw: Draw, sketch: Sketch, length: int, common: dict[str, Any]) -> str:
    """A field that counts; it is there even when what it counts is not."""
    word = draw(st.sampled_from(COUNTS))
    return sketch.add(word(), length if absent(sketch, common) is False else 0)


def absent(sketch: Sketch, common: dict[str, Any]) -> bool:
    if "exists" in common:
        return not sketch.present[common["exists"].__name__]
    return bool(common.get("since", 0) > sketch.version)


def counted_buffer(draw: Draw, sketch: Sketch, common: dict[str, Any]) -> tuple[Any, Any]:
    multiply = draw(st.integers(1, 3))
    length = draw(st.integers(0, 4))
    value = draw(st.binary(min_size=length * multiply, max_size=length * multiply))
    name = count_field(draw, sketch, length, common)
    return vmstate.buffer(name, multiply=multiply, maximum=12, **common), value


def counted_bitmap(draw: Draw, sketch: Sketch, common: dict[str, Any]) -> tuple[Any, Any]:
    bits = draw(st.integers(0, 130))
    name = count_field(draw, sketch, bits, common)
    maximum = draw(st.sampled_from([None, 130]))
    value = draw(st.integers(0, (1 << bits) - 1))
    return vmstate.bitmap(name, maximum=maximum, **common), value


def counted_array(draw: Draw, sketch: Sketch, common: dict[str, Any]) -> tuple[Any, Any]:
    word, low, high = integers(draw)
    multiply = draw(st.integers(1, 2))
    length = draw(st.integers(0, 3))
    size = length * multiply
    value = draw(st.lists(st.integers(low, high), min_size=size, max_size=size))
    name = count_field(draw, sketch, length, common)
    maximum = draw(st.sampled_from([None, 6]))
    return vmstate.array(word(), name, multiply=multiply, maximum=maximum, **common), value


def nested(draw: Draw, sketch: Sketch, common: dict[str, Any]) -> tuple[Any, Any]:
    (value,) = states(draw, sketch, single=sketch.single, fixed=sketch.fixed)
    return vmstate.struct(type(value), **common), value


def versioned(draw: Draw, sketch: Sketch, common: dict[str, Any]) -> tuple[Any, Any]:
    version = draw(st.integers(1, 3))
    (value,) = states(draw, sketch, version, single=sketch.single, fixed=sketch.fixed)
    return vmstate.vstruct(type(value), version, **common), value


def hidden(draw: Draw, sketch: Sketch, common: dict[str, Any]) -> tuple[Any, Any]:
    (value,) = states(draw, sketch, single=sketch.single, fixed=sketch.fixed)
    return vmstate.private("virtio", type(value), **common), value


def computed(draw: Draw, sketch: Sketch, common: dict[str, Any]) -> tuple[Any, Any]:
    word, low, high = integers(draw)
    made = declare("made", {"value": word()}, 1)
    name = sketch.add(0, draw(st.integers(low, high)))  # a property: the field only shows it
    shown = vmstate.tmp(
        made,
        gather=lambda parent, part: setattr(part, "value", getattr(parent, name)),
        scatter=lambda parent, part: setattr(parent, name, part.value),
        **common,
    )
    if absent(sketch, common):
        del sketch.values[name]
    return shown, None


def struct_array(draw: Draw, sketch: Sketch, common: dict[str, Any]) -> tuple[Any, Any]:
    length = draw(st.integers(1, 3))
    value = states(draw, sketch, number=length, single=False, fixed=True)
    if sketch.fixed or draw(st.booleans()):
        return vmstate.array(type(value[0]), length, **common), value
    name = count_field(draw, sketch, length, common)
    return vmstate.array(type(value[0]), name, maximum=3, **common), value


def pointer_array(draw: Draw, sketch: Sketch, common: dict[str, Any]) -> tuple[Any, Any]:
    length = draw(st.integers(1, 4))
    there = states(draw, sketch, number=length, single=False, fixed=True)
    value = [state if draw(st.booleans()) else None for state in there]
    return vmstate.pointers(type(there[0]), length, **common), value


def queue(draw: Draw, sketch: Sketch, common: dict[str, Any]) -> tuple[Any, Any]:
    length = draw(st.integers(0, 2))
    value = states(draw, sketch, number=length + 1, single=False)
    word = draw(st.sampled_from([vmstate.qtailq, vmstate.qlist]))
    return word(type(value[0]), **common), value[1:]


def tree(draw: Draw, sketch: Sketch, common: dict[str, Any]) -> tuple[Any, Any]:
    length = draw(st.integers(0, 2))
    value = states(draw, sketch, number=length + 1, single=False)
    key: type[State] | None = None
    keys: Sequence[Any] = [draw(st.integers(0, (1 << 64) - 1)) for _ in range(length)]
    if draw(st.booleans()):
        made = states(draw, sketch, number=length + 1, single=False)
        key, keys = type(made[0]), made[1:]
    return vmstate.gtree(key, type(value[0]), **common), list(zip(keys, value[1:], strict=True))


Kind = Callable[[Draw, Sketch, dict[str, Any]], tuple[Any, Any]]
PLAIN: list[Kind] = [
    number, flag, real, equal, at_most, fixed_buffer, padding, fixed_bitmap, fixed_array,
    buffer_array, always,
]  # fmt: skip
VARYING: list[Kind] = [counted_buffer, counted_bitmap, counted_array, queue, tree]
HOLDING: list[Kind] = [nested, versioned, hidden, struct_array]


def kinds(sketch: Sketch) -> list[Kind]:
    found = list(PLAIN)
    if not sketch.fixed:
        found += [*VARYING[:3], computed]
    if sketch.depth < MAX_DEPTH:
        found += HOLDING
        if not sketch.fixed:
            found += VARYING[3:]
            if sketch.single:
                found.append(pointer_array)
    return found


def declare(name: str, members: dict[str, Any], version: int) -> type[State]:
    options = {"name": name, "version": version}
    return types.new_class("Random", (State,), options, lambda body: body.update(members))


def conditions(draw: Draw, sketch: Sketch) -> dict[str, Any]:
    """``since``, ``exists`` or neither; what is fixed has the same fields always."""
    choice = draw(st.sampled_from(["plain", "plain", "since", "exists"]))
    if choice == "since":
        return {"since": draw(st.integers(0, 3))}
    if choice == "exists" and not sketch.fixed:
        shown = draw(st.booleans())
        name = sketch.add(vmstate.boolean(), shown)

        def exists(state: Any, version: int) -> bool:
            return bool(getattr(state, name))

        exists.__name__ = name
        sketch.present[name] = shown
        return {"exists": exists}
    return {}


def states(
    draw: Draw,
    outer: Sketch | None,
    version: int = 3,
    *,
    number: int = 1,
    single: bool = True,
    fixed: bool = False,
) -> list[Any]:
    """States of one random class, saved at ``version``; the class has version 3.

    Further states differ in the numbers among the fields of the first.
    """
    depth = 0 if outer is None else outer.depth + 1
    sketch = Sketch(version, depth, single, fixed)
    if outer is not None:
        sketch.names = outer.names
    own_name = f"random{next(sketch.names):03}"
    for _ in range(draw(st.integers(1, 4))):
        common = conditions(draw, sketch)
        kind = draw(st.sampled_from(kinds(sketch)))
        if draw(st.sampled_from([False, False, True])):
            common["wire_name"] = draw(st.sampled_from(["twin", "env.regs[2]"]))
        item, value = kind(draw, sketch, dict(common))
        name = f"f{len(sketch.members)}"
        unconditional = kind is always
        if not unconditional and absent(sketch, common):
            value = None
        sketch.add(item, value)
        assert name in sketch.members
    if not fixed and depth < MAX_DEPTH:
        for number_ in range(draw(st.integers(0, 2))):
            add_subsection(draw, sketch, f"{own_name}/{number_}")
    cls = declare(own_name, sketch.members, 3)
    made = [cls(**sketch.values)]
    while len(made) < number:
        made.append(vary(draw, cls, sketch))
    return made


def add_subsection(draw: Draw, sketch: Sketch, name: str) -> None:
    inner = Sketch(3, sketch.depth + 1, sketch.single, names=sketch.names)
    for _ in range(draw(st.integers(0, 2))):
        kind = draw(st.sampled_from(kinds(inner)))
        inner.add(*kind(draw, inner, {}))
    part = declare(name, inner.members, draw(st.integers(0, 255)))
    value = draw(st.sampled_from([None, part(**inner.values)]))
    if draw(st.booleans()):
        sketch.add(vmstate.subsection(part), value)
        return
    attribute = f"f{len(sketch.members)}"
    wanted = value is not None
    needed = sketch.add(vmstate.subsection(part, lambda state: wanted), value)
    assert needed == attribute


def vary(draw: Draw, cls: type[State], sketch: Sketch) -> Any:
    """Another state of the class: other bytes and flags where no other field depends on them."""
    values = dict(sketch.values)
    for item in cls.fields:
        name = item.attribute
        if isinstance(item, fields.Opaque) and name in values:
            values[name] = draw(st.binary(min_size=item.size, max_size=item.size))
    return cls(**values)


@st.composite
def saved(draw: Draw) -> tuple[Any, int]:
    """A state, and the version at which it is saved."""
    version = draw(st.integers(1, 3))
    return states(draw, None, version)[0], version


# The destination's own state, and what a decoded section must hold


def blank(state: Any) -> Any:
    """A destination configured alike: the same pointers are NULL, nothing is loaded yet."""
    fresh = type(state)()
    for item in state.fields:
        value = getattr(state, item.attribute)
        if isinstance(item, fields.Struct):
            setattr(fresh, item.attribute, blank(value))
        elif isinstance(item, fields.Pointers):
            own = [None if one is None else blank(one) for one in value]
            setattr(fresh, item.attribute, own)
    for part in state.subsection_fields:
        value = getattr(state, part.attribute)
        setattr(fresh, part.attribute, None if value is None else blank(value))
    return fresh


def within(state: Any) -> Iterator[Any]:
    """A state and all states inside it."""
    yield state
    for item in state.fields:
        value = getattr(state, item.attribute)
        inside = value if isinstance(value, list) else [value]
        for one in inside:
            for part in one if isinstance(one, tuple) else (one,):
                if isinstance(part, State):
                    yield from within(part)
    for part in state.subsection_fields:
        value = getattr(state, part.attribute)
        if value is not None:
            yield from within(value)


def mixes_null(state: Any) -> bool:
    """Whether pointers are NULL, which descriptions before 10.0 can not tell."""
    return any(
        isinstance(item, fields.Pointers) and None in getattr(one, item.attribute)
        for one in within(state)
        for item in one.fields
    )


def shown_names(state: Any) -> list[str]:
    """Names of all fields as a description has them: equal ones with an ordinal."""
    names = [item.wire_name(DIALECTS[-1]) for item in state.fields]
    return [
        f"{name}[{names[:at].count(name)}]" if names.count(name) > 1 else name
        for at, name in enumerate(names)
    ]


def holds(node: decoded.Struct, state: Any, version: int) -> None:
    """Assert that a decoded struct has a state's values."""
    shown = 0
    for item, name in zip(state.fields, shown_names(state), strict=True):
        value = getattr(state, item.attribute)
        empty = isinstance(item, fields.VariableArray) and not value
        if isinstance(item, containers.Validation) or empty or not item.present(state, version):
            continue
        shown += 1
        agrees(node.members[name], item, value, state)
    assert len(node.members) == shown
    parts = {
        part.state.name: getattr(state, part.attribute)
        for part in state.subsection_fields
        if getattr(state, part.attribute) is not None
    }
    assert node.subsections.keys() == parts.keys()
    for name, part in parts.items():
        holds(node.subsections[name], part, type(part).version)


def agrees(node: Any, item: Any, value: Any, state: Any) -> None:
    """Assert that a decoded member has a field's value."""
    if isinstance(item, fields.Private):
        assert node.value == save(value)
    elif isinstance(item, fields.Struct):
        holds(node, value, item.version or type(value).version)
    elif isinstance(item, containers.Tmp):
        assert len(node.members) == 1
    elif isinstance(item, containers.Queue):
        for inner, one in zip(node, value, strict=True):
            holds(inner, one, type(one).version)
    elif isinstance(item, containers.Tree):
        for inner, (key, one) in zip(node, value, strict=True):
            holds(inner.members["value"], one, type(one).version)
            if isinstance(key, State):
                holds(inner.members["key"], key, type(key).version)
            else:
                assert inner.members["key"].value == key
    elif isinstance(item, fields.FixedArray | fields.VariableArray | fields.Pointers):
        nodes = [node] if isinstance(node, decoded.Scalar | decoded.Struct) else list(node)
        for inner, one in zip(nodes, value, strict=True):
            if one is None:
                assert inner.value is None
            else:
                agrees(inner, item.element, one, state)
    elif isinstance(item, fields.Scalar):
        assert bytes(node.raw) == item.codec.pack(value)
        if node.type in decoded.INTEGERS or node.type in ("bool", "float64"):
            assert node.value == value
    elif isinstance(item, fields.Unused):
        assert bytes(node.raw) == bytes(item.size)
    else:
        assert node.value == value


@QUICK
@given(saved(), st.sampled_from(DIALECTS))
def test_saved_values_are_described_decoded_and_loaded(
    made: tuple[Any, int], dialect: Dialect
) -> None:
    state, version = made
    data, description = save_described(state, dialect, version)
    assert data == save(state, version)
    fresh = blank(state)
    assert load(fresh, data, version) == len(data)
    assert fresh == state
    assert save(fresh, version) == data
    entry = DeviceDescription("random", 0, description)
    text = dump(StreamDescription(4096, (entry,), compact=dialect.compact))
    (again,) = parse(text).devices
    assert again.description == description
    if mixes_null(state) and not dialect.runs:
        return
    found = decode(again.description, data, size=len(data), version=version)
    assert found.exact, found.problems
    holds(found.value, state, version)


@QUICK
@given(saved(), st.integers(4, 1 << 32))
def test_versions_that_are_not_known_are_refused(made: tuple[Any, int], newer: int) -> None:
    state, version = made
    wire = save(state, version)
    with pytest.raises(StreamError):
        load(blank(state), wire, newer)


# Damage


@st.composite
def damaged(draw: Draw, data: bytes) -> bytes:
    """Bytes with one to three of them flipped, put in, taken out, or cut off."""
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(out) - 1, 0)))
        change = draw(st.sampled_from(["small", "flip", "insert", "delete", "truncate", "ones"]))
        if change == "small" and out:  # a count that is only a little wrong
            out[at] = draw(st.integers(0, 15))
        elif change == "flip" and out:
            out[at] ^= 1 << draw(st.integers(0, 7))
        elif change == "insert":
            out[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif change == "delete":
            del out[at : at + draw(st.integers(1, 8))]
        elif change == "truncate":
            del out[at:]
        else:
            out[at : at + 4] = b"\xff" * len(out[at : at + 4])
    return bytes(out)


def check_bounds(state: Any) -> None:
    """Assert that every value is one that its declaration allows."""
    for item in state.fields:
        value = getattr(state, item.attribute)
        if isinstance(item, fields.VariableArray | fields.VariableBuffer):
            assert item.maximum is None or len(value) <= item.maximum
        elif isinstance(item, fields.Opaque):
            assert len(value) == item.size
        elif isinstance(item, fields.FixedArray | fields.Pointers):
            assert len(value) == item.count
        elif isinstance(item, fields.Bitmap):
            bits = item.bits if isinstance(item.bits, int) else getattr(state, item.bits)
            assert not value >> max(bits, 0)
        elif isinstance(item, fields.Scalar):
            item.codec.pack(value)


@QUICK
@given(st.data())
def test_damaged_bytes_are_refused_or_stay_within_the_declared_bounds(
    data: st.DataObject,
) -> None:
    state, version = data.draw(saved())
    wire, description = save_described(state, version=version)
    broken = data.draw(damaged(wire))
    assume(broken != wire)
    assert decode(description, broken, size=len(broken), version=version).size <= len(broken)
    fresh = blank(state)
    tracemalloc.start()
    try:
        load(fresh, broken, version)
    except StreamError as error:
        assert error.offset is not None
        assert 0 <= error.offset <= len(broken)
        return
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 << 20
    for one in within(fresh):
        check_bounds(one)


NOTHING = declare("nothing", {}, 1)
PAIR = declare("pair", {"a": vmstate.uint8(), "b": vmstate.uint16()}, 1)
COUNTED = [
    (lambda **common: vmstate.buffer("number", **common), 8),
    (lambda **common: vmstate.array(vmstate.uint32(), "number", **common), 32),
    (lambda **common: vmstate.array(vmstate.buffer(3), "number", **common), 24),
    (lambda **common: vmstate.array(PAIR, "number", **common), 24),
    (lambda **common: vmstate.array(NOTHING, "number", **common), 0),
]
"""Fields with a count, and the bits that one of what they count takes."""


@given(
    st.sampled_from(COUNTS),
    st.sampled_from(COUNTED),
    st.integers(1, 3),
    st.sampled_from([None, 4, 40]),
    st.one_of(st.integers(0, 50), st.integers(0, (1 << 64) - 1)),
    st.binary(max_size=100),
)
def test_a_count_is_believed_as_far_as_room_and_bytes_go(
    word: Any,
    counted: tuple[Callable[..., Any], int],
    multiply: int,
    maximum: int | None,
    wanted: int,
    rest: bytes,
) -> None:
    make, bits = counted
    number_field = word()
    members = {"number": number_field, "items": make(multiply=multiply, maximum=maximum)}
    size = number_field.codec.size
    state: Any = declare("counted", members, 1)()
    tracemalloc.start()
    try:
        load(state, (wanted & (1 << 8 * size) - 1).to_bytes(size, "big") + rest, exact=False)
        refused = False
    except StreamError:
        refused = True
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1 << 20
    total = max(state.number, 0) * multiply
    fits = (maximum is None or total <= maximum) and total * bits <= 8 * len(rest)
    if bits:
        assert refused != fits
    else:
        assert refused or total <= (maximum or len(rest) + 7)
    assert len(state.items) == (0 if refused else total)


@given(st.integers(0, 300), st.sampled_from([None, 70]), st.binary(max_size=48))
def test_a_bitmap_has_no_bit_above_those_it_declares(
    bits: int, maximum: int | None, words: bytes
) -> None:
    members = {"bits": vmstate.uint16(), "map": vmstate.bitmap("bits", maximum=maximum)}
    state: Any = declare("mapped", members, 1)()
    try:
        load(state, bits.to_bytes(2, "big") + words, exact=False)
    except StreamError:
        assert (maximum is not None and bits > maximum) or (bits + 63) // 64 * 8 > len(words)
        return
    assert state.map < 1 << bits
    assert maximum is None or bits <= maximum

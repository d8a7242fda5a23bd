"""Numbers that are read and written in one go: as they would be one by one, and refused alike."""

from __future__ import annotations

import types
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmstream import vmstate
from vmstream.vmstate import refusals
from vmstream.vmstate.batch import Batch, layout
from vmstream.vmstate.loading import load
from vmstream.vmstate.saving import save
from vmstream.vmstate.state import State

INTEGERS = {
    vmstate.uint8: (1, False),
    vmstate.int8: (1, True),
    vmstate.uint16: (2, False),
    vmstate.int32: (4, True),
    vmstate.uint64: (8, False),
    vmstate.timer: (8, True),
}
WORDS = st.lists(st.sampled_from(list(INTEGERS)), min_size=2, max_size=6)


def declare(words: list[Any], name: str = "toy", **common: Any) -> type[State]:
    """A state of fields ``a``, ``b``..."""
    members = {chr(97 + n): word(**common) for n, word in enumerate(words)}
    return types.new_class("Toy", (State,), {"name": name}, lambda body: body.update(members))


def together_and_apart(words: list[Any]) -> tuple[type[State], type[State]]:
    """The same declaration as one batch, and with a condition that keeps fields apart."""
    together, apart = declare(words), declare(words, exists=lambda state, version: True)
    assert layout(together, 0).sole is not None
    assert not any(isinstance(group, Batch) for group in layout(apart, 0).groups)
    return together, apart


def array_of(element: type[State], count: int = 3, name: str = "parent") -> type[State]:
    members = {"head": vmstate.uint8(), "items": vmstate.array(vmstate.struct(element), count)}
    return types.new_class("Parent", (State,), {"name": name}, lambda body: body.update(members))


def refusal(state: State, data: bytes) -> tuple[Any, ...]:
    with pytest.raises(refusals.LoadRefused) as caught:
        load(state, data, offset=0x100)
    error = caught.value
    return type(error), str(error), error.offset, error.path, error.device, error.qemu_text


@given(WORDS, st.data())
def test_values_are_the_same_together_and_one_by_one(words: list[Any], data: st.DataObject) -> None:
    values = {}
    for number, word in enumerate(words):
        size, signed = INTEGERS[word]
        low = -(1 << (8 * size - 1)) if signed else 0
        values[chr(97 + number)] = data.draw(st.integers(low, low + (1 << 8 * size) - 1))
    together, apart = together_and_apart(words)
    wire = save(together(**values))
    assert wire == save(apart(**values))
    loaded = together(), apart()
    for state in loaded:
        load(state, wire)
        assert {name: getattr(state, name) for name in values} == values
    for kind, state in ((together, together(**values)), (apart, apart(**values))):
        parent = array_of(kind)
        whole = save(parent(items=[state, kind(), state]))
        assert whole == b"\0" + wire + bytes(save(kind())) + wire
        again = parent()
        load(again, whole)
        assert again == parent(items=[state, kind(), state])


@given(WORDS, st.data())
def test_a_section_that_is_cut_is_refused_at_the_same_field(
    words: list[Any], data: st.DataObject
) -> None:
    together, apart = together_and_apart(words)
    wire = save(together())
    cut = data.draw(st.integers(0, len(wire) - 1))
    assert refusal(together(), wire[:cut]) == refusal(apart(), wire[:cut])
    whole = bytes(1 + 3 * len(wire))
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert refusal(array_of(together)(), whole[:cut]) == refusal(array_of(apart)(), whole[:cut])


@pytest.mark.parametrize("wrong", [256, -1, "text", None])
def test_a_value_that_does_not_fit_is_named(wrong: Any) -> None:
    for kind in together_and_apart([vmstate.uint16, vmstate.uint8, vmstate.uint32]):
        with pytest.raises(ValueError, match=f"^b: {wrong!r}: "):
            save(kind(b=wrong))
        with pytest.raises(ValueError, match=f"b: {wrong!r}: "):
            save(array_of(kind)(items=[kind(), kind(), kind(b=wrong)]))


def test_a_subsection_between_elements_is_seen() -> None:
    toy = declare([vmstate.uint8, vmstate.uint8])
    parent = array_of(toy)
    plain = b"\0" + b"\1\2" + b"\5\1" + b"\3\4"
    load(parent(), plain)  # 0x05 is a value where no name follows
    error = refusal(parent(), plain[:3] + b"\5\x05toy/x\0\0\0\1" + plain[3:])
    assert error[0] is refusals.SubsectionUnknown
    assert error[2:4] == (0x103, "items[0]")


def test_elements_are_loaded_into_the_destination_s_own() -> None:
    """As QEMU loads them: what does not travel stays, and equal-fields are held against them."""

    class Port(vmstate.State, name="port"):
        speed = 1
        a: int = vmstate.uint8()
        b: int = vmstate.uint8()

    ports: Any = array_of(Port)(items=[Port(speed=9), Port(), Port()])
    first = ports.items[0]
    load(ports, bytes(1) + bytes(range(6)))
    assert ports.items[0] is first
    assert (first.speed, first.a, first.b) == (9, 0, 1)
    numbered = declare([vmstate.uint8_equal, vmstate.uint8])
    parent = array_of(numbered, 2)
    load(parent(items=[numbered(a=1), numbered(a=2)]), b"\0" + b"\1\0\2\0")
    error = refusal(parent(items=[numbered(a=1), numbered(a=2)]), b"\0" + b"\1\0\1\0")
    assert error[0] is refusals.NotEqual
    assert error[3] == "items[1].a"


def test_hooks_and_other_classes_keep_elements_apart() -> None:
    class Counted(vmstate.State, name="counted"):
        loads = 0
        a: int = vmstate.uint8()
        b: int = vmstate.uint8()

        def after_load(self, version: int) -> None:
            self.loads += 1

    parent = array_of(Counted, 2)
    state: Any = parent()
    load(state, bytes(5))
    assert [item.loads for item in state.items] == [1, 1]

    class Wider(declare([vmstate.uint8, vmstate.uint8])):  # type: ignore[misc]
        c: int = vmstate.uint8()

    narrow = Wider.__mro__[1]
    mixed: Any = array_of(narrow, 2)(items=[narrow(), Wider(c=7)])
    wire = save(mixed)
    assert wire == bytes(5) + b"\7"
    load(mixed, wire[:-1] + b"\x08")
    assert mixed.items[1].c == 8


def test_a_name_that_is_no_identifier_stands_apart() -> None:
    members = {"env.eip": vmstate.uint8(), "class": vmstate.uint8(), "a": vmstate.uint8()}
    toy = types.new_class("Toy", (State,), {}, lambda body: body.update(members))
    assert save(toy(**{"env.eip": 1, "class": 2, "a": 3})) == b"\1\2\3"

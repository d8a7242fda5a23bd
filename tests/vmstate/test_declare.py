"""What declarations put on the wire, refuse to load, and refuse to be."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import pytest

from vmstream import vmstate
from vmstream.errors import Unsupported
from vmstream.vmstate import refusals
from vmstream.vmstate.dialect import Dialect
from vmstream.vmstate.fields import Opaque
from vmstream.vmstate.loading import load
from vmstream.vmstate.registry import Registry
from vmstream.vmstate.saving import save, save_described
from vmstream.vmstate.state import Priority, State


def declare(name: str = "toy", version: int = 1, **members: Any) -> type[State]:
    """A state class made on the spot."""
    import types

    options = {"name": name, "version": version}
    return types.new_class("Toy", (State,), options, lambda body: body.update(members))


@pytest.mark.parametrize(
    ("field", "value", "wire"),
    [
        (vmstate.uint8(), 0xAB, b"\xab"),
        (vmstate.int8(), -2, b"\xfe"),
        (vmstate.uint16(), 0x1234, b"\x12\x34"),
        (vmstate.uint16(little_endian=True), 0x1234, b"\x34\x12"),
        (vmstate.int32(), -1, b"\xff" * 4),
        (vmstate.uint64(), 1, bytes(7) + b"\x01"),
        (vmstate.boolean(), True, b"\x01"),
        (vmstate.float64(), 1.5, struct.pack(">d", 1.5)),
        (vmstate.timer(), -1, b"\xff" * 8),
        (vmstate.buffer(3), b"abc", b"abc"),
        (vmstate.bitmap(70), 1 << 65 | 1, bytes(7) + b"\x01" + bytes(7) + b"\x02"),
        (vmstate.array(vmstate.uint16(), 2), [1, 2], b"\0\1\0\2"),
    ],
)
def test_a_field_saves_and_loads_its_bytes(field: Any, value: Any, wire: bytes) -> None:
    toy = declare(value=field)
    assert save(toy(value=value)) == wire
    state: Any = toy()
    load(state, wire)
    assert state.value == value


def test_a_field_of_a_later_version_is_absent_before() -> None:
    toy = declare(version=2, old=vmstate.uint8(), new=vmstate.uint8(since=2))
    state: Any = toy(new=9)
    assert load(state, b"\1", 1) == 1
    assert (state.old, state.new) == (1, 9)
    assert load(state, b"\1\2", 2) == 2


def test_containers_count_themselves() -> None:
    item = declare("item", value=vmstate.uint8())
    toy = declare(
        queue=vmstate.qtailq(item),
        numbers=vmstate.gtree(None, item),
        keyed=vmstate.gtree(item, item),
    )
    state = toy(
        queue=[item(value=1), item(value=2)],
        numbers=[(7, item(value=3))],
        keyed=[(item(value=4), item(value=5))],
    )
    data = save(state)
    assert data == (
        b"\1\1\1\2\0" + b"\0\0\0\1\1" + struct.pack(">Q", 7) + b"\3\0" + b"\0\0\0\1\1\4\5\0"
    )
    again = toy()
    load(again, data)
    assert again == state


def test_null_pointers_are_markers_and_described_by_runs_since_10() -> None:
    item = declare("item", value=vmstate.uint16())
    toy = declare(items=vmstate.pointers(item, 4))
    state = toy(items=[item(value=1), None, None, item(value=2)])
    data, old = save_described(state, Dialect((7, 2)))
    assert data == b"\0\1" + b"00" + b"\0\2"
    assert [(f.type, f.array_len) for f in old.fields] == [("struct", 4)]
    _, new = save_described(state, Dialect((10, 0)))
    assert [(f.type, f.array_len) for f in new.fields] == [
        ("struct", 4), ("nullptr", 2), ("struct", None)
    ]  # fmt: skip
    own = toy(items=[item(), None, None, item()])
    load(own, data)
    assert own == state
    with pytest.raises(refusals.NullMismatch):
        load(toy(items=[item(), None, item(), item()]), data[:2] + b"x" + data[3:])


def test_subsections_come_when_needed_and_unknown_ones_are_refused() -> None:
    part = declare("toy/part", 3, value=vmstate.uint8())
    toy = declare(value=vmstate.uint8(), part=vmstate.subsection(part))
    assert save(toy(value=1)) == b"\1"
    data = save(toy(value=1, part=part(value=2)))
    assert data == b"\1\5\x08toy/part\0\0\0\3\2"
    state: Any = toy()
    load(state, data)
    assert state.part.value == 2
    bare = declare(value=vmstate.uint8())
    with pytest.raises(refusals.SubsectionUnknown) as error:
        load(bare(), data, offset=100)
    assert error.value.offset == 101
    assert error.value.qemu_text == "VM subsection 'toy/part' in 'toy' does not exist"


@pytest.mark.parametrize(
    ("version", "kind", "text"),
    [
        (4, refusals.VersionTooNew, "toy: incoming version_id 4 is too new"),
        (1, refusals.VersionTooOld, "toy: incoming version_id 1 is too old"),
    ],
)
def test_versions_outside_the_window_are_refused(version: int, kind: type, text: str) -> None:
    class Toy(State, name="toy", version=3, minimum_version=2):
        value = vmstate.uint8()

    with pytest.raises(kind) as error:
        load(Toy(), b"\1", version)
    assert str(error.value.qemu_text).startswith(text)  # type: ignore[attr-defined]
    assert error.value.found == version  # type: ignore[attr-defined]


def test_equal_and_less_or_equal_are_held_against_the_destination() -> None:
    toy = declare(ports=vmstate.uint32_equal(6), level=vmstate.int32_le(2))
    load(toy(), struct.pack(">Ii", 6, 2))
    with pytest.raises(refusals.NotEqual) as error:
        load(toy(), struct.pack(">Ii", 4, 2), offset=0x40)
    assert (error.value.path, error.value.expected, error.value.found) == ("ports", 6, 4)
    for value in (3, -1):
        with pytest.raises(refusals.OutOfRange):
            load(toy(), struct.pack(">Ii", 6, value))


def test_a_condition_that_does_not_hold_is_refused() -> None:
    toy = declare(
        count=vmstate.uint8(), few=vmstate.validate(lambda self, version: self.count < 9, "few")
    )
    load(toy(), b"\1")
    with pytest.raises(refusals.ValidationFailed):
        load(toy(), b"\x09")


@pytest.mark.parametrize("width", [vmstate.uint8, vmstate.uint16, vmstate.uint32, vmstate.int32])
def test_arrays_have_counts_of_every_width(width: Any) -> None:
    toy = declare(count=width(), values=vmstate.array(vmstate.uint16(), "count"))
    state = toy(count=3, values=[1, 2, 3])
    again = toy()
    load(again, save(state))
    assert again == state


def test_hostile_counts_never_allocate() -> None:
    item = declare("item", value=vmstate.uint64())
    toy = declare(
        count=vmstate.uint32(), data=vmstate.buffer("count"), items=vmstate.array(item, "count")
    )
    tracemalloc.start()
    try:
        with pytest.raises(refusals.CountTooLarge):
            load(toy(), b"\x7f\xff\xff\xff" + bytes(64))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_section_that_ends_early_or_late_is_refused_with_its_place() -> None:
    toy = declare(first=vmstate.uint8(), second=vmstate.uint64())
    with pytest.raises(refusals.EndsEarly) as error:
        load(toy(), b"\1\2\3", offset=0x10, device="0000:00:01.0/toy")
    assert error.value.offset == 0x11
    assert (error.value.path, error.value.device) == ("second", "0000:00:01.0/toy")
    with pytest.raises(refusals.LoadRefused, match="left behind"):
        load(toy(), bytes(12))


def test_what_can_never_work_is_an_error_when_the_class_is_made() -> None:
    part = declare("other/part", value=vmstate.uint8())
    wrong: list[dict[str, Any]] = [
        {"values": vmstate.array(vmstate.uint8(), "count")},
        {"values": vmstate.array(vmstate.uint8(), "count"), "count": vmstate.uint8()},
        {"name_": vmstate.buffer(4), "values": vmstate.buffer("name_")},
        {"late": vmstate.uint8(since=2)},
        {"part": vmstate.subsection(part)},
        {"values": vmstate.array(vmstate.uint8(since=1), 4)},
    ]
    for members in wrong:
        with pytest.raises(TypeError):
            declare(**members)
    for make in (lambda: vmstate.buffer(0), lambda: Opaque(-1), lambda: vmstate.array(part, 0)):
        with pytest.raises(TypeError):
            make()


def test_unmigratable_state_is_neither_saved_nor_loaded() -> None:
    class Pinned(State, name="pinned", version=1, unmigratable=True):
        value = vmstate.uint8()

    with pytest.raises(Unsupported, match="non-migratable"):
        save(Pinned())
    with pytest.raises(refusals.Unmigratable):
        load(Pinned(), b"\1")


def test_the_registry_numbers_names_and_orders() -> None:
    class Early(State, name="apic", version=1, priority=Priority.APIC):
        value = vmstate.uint8()

    toy = declare(value=vmstate.uint8())
    registry = Registry()
    first = registry.register(toy())
    second = registry.register(toy())
    placed = registry.register(toy(), path="0000:00:02.0", instance_id=0, alias_id=9)
    apic = registry.register(Early())
    assert (first.instance_id, second.instance_id) == (0, 1)
    assert placed.idstr == "0000:00:02.0/toy"
    assert next(iter(registry)) is apic
    assert registry.find("0000:00:02.0/toy", 9) is placed
    assert registry.find("toy", 7) is None
    with pytest.raises(ValueError, match="registered already"):
        registry.register(toy(), instance_id=0)
    with pytest.raises(ValueError, match="alias needs"):
        registry.register(toy(), alias_id=3)


def test_a_subsection_that_is_needed_must_be_there() -> None:
    part = declare("toy/part", value=vmstate.uint8())
    toy = declare(part=vmstate.subsection(part, needed=lambda self: True))
    with pytest.raises(ValueError, match="part: it is needed"):
        save(toy())

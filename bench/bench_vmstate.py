"""Declared state beside ``struct``, and decoding by description beside analyze-migration.py.

Every figure stands beside its reference, measured in the same run.
``VMSTREAM_ANALYZE_MIGRATION`` may name a copy of QEMU's
``scripts/analyze-migration.py``; without it that comparison is left out.
"""

from __future__ import annotations

import random
import struct
import types
from collections.abc import Callable
from dataclasses import dataclass
from timeit import repeat
from typing import Any

import pytest

from figures import Figures
from vmstream import vmstate

Benchmark = Any

FIELDS = 10_000
STRUCTS = 1_000
ROUNDS = 100
STRUCT_LIMIT = 3.0
"""Times what ``struct`` takes for the same values, ready in a tuple, by one compiled format."""
OBJECTS_LIMIT = 6.0
"""The same where 1,000 objects hold the values, which ``struct`` alone does not touch."""

WORDS: dict[str, Callable[..., Any]] = {
    "B": vmstate.uint8,
    "H": vmstate.uint16,
    "i": vmstate.int32,
    "I": vmstate.uint32,
    "q": vmstate.int64,
    "Q": vmstate.uint64,
}
MEMBER = "IIIIIHHBBQ"
"""The fields of each of the structs in an array."""


@dataclass(frozen=True, slots=True)
class Device:
    """A declared device with values, and the same values for ``struct``."""

    state: Any
    codec: struct.Struct
    values: tuple[int, ...]


def numbers(formats: str) -> tuple[int, ...]:
    """Values over the whole range of each format."""
    chance = random.Random(4)
    size = struct.calcsize(f">{formats}")
    return struct.unpack(f">{formats}", chance.randbytes(size))


def declared(name: str, members: dict[str, Any]) -> type[vmstate.State]:
    return types.new_class(name, (vmstate.State,), {}, lambda body: body.update(members))


def scalars() -> Device:
    """10,000 fields of six kinds"""
    formats = "".join(WORDS) * (FIELDS // len(WORDS)) + "IIII"
    names = [f"field_{number}" for number in range(FIELDS)]
    members = {name: WORDS[f]() for name, f in zip(names, formats, strict=True)}
    values = numbers(formats)
    state = declared("Scalars", members)(**dict(zip(names, values, strict=True)))
    return Device(state, struct.Struct(f">{formats}"), values)


def array() -> Device:
    """array of 10,000 uint32"""
    members = {"numbers": vmstate.array(vmstate.uint32(), FIELDS)}
    values = numbers("I" * FIELDS)
    state = declared("Numbers", members)(numbers=list(values))
    return Device(state, struct.Struct(f">{FIELDS}I"), values)


def structs() -> Device:
    """array of 1,000 structs of 10 fields"""
    names = [f"field_{number}" for number in range(len(MEMBER))]
    member = declared("Member", {n: WORDS[f]() for n, f in zip(names, MEMBER, strict=True)})
    values = numbers(MEMBER * STRUCTS)
    rows = [values[at : at + len(MEMBER)] for at in range(0, len(values), len(MEMBER))]
    items = [member(**dict(zip(names, row, strict=True))) for row in rows]
    made = declared("Structs", {"items": vmstate.array(vmstate.struct(member), STRUCTS)})
    return Device(made(items=items), struct.Struct(f">{MEMBER * STRUCTS}"), values)


def best(call: Callable[[], object]) -> float:
    """The least of several times, in seconds."""
    return min(repeat(call, number=1, repeat=ROUNDS))


@pytest.mark.parametrize("make", [scalars, array, structs])
def test_save(benchmark: Benchmark, figures: Figures, make: Callable[[], Device]) -> None:
    device = make()
    wire = benchmark.pedantic(vmstate.save, (device.state,), rounds=ROUNDS, warmup_rounds=5)
    assert wire == device.codec.pack(*device.values)
    packed = best(lambda: device.codec.pack(*device.values))
    seconds = best(lambda: vmstate.save(device.state))
    _compare(figures, "save", make, seconds, packed)


@pytest.mark.parametrize("make", [scalars, array, structs])
def test_load(benchmark: Benchmark, figures: Figures, make: Callable[[], Device]) -> None:
    device = make()
    wire = device.codec.pack(*device.values)
    state = type(device.state)()
    benchmark.pedantic(vmstate.load, (state, wire), rounds=ROUNDS, warmup_rounds=5)
    assert state == device.state
    unpacked = best(lambda: device.codec.unpack(wire))
    seconds = best(lambda: vmstate.load(state, wire))
    _compare(figures, "load", make, seconds, unpacked)


def _compare(
    figures: Figures, verb: str, make: Callable[[], Device], seconds: float, reference: float
) -> None:
    name = f"{verb} of {make.__doc__}"
    figure = figures.add(name, seconds * 1e6, "us", "struct", reference * 1e6)
    assert figure.ratio is not None
    assert figure.ratio <= (OBJECTS_LIMIT if make is structs else STRUCT_LIMIT)

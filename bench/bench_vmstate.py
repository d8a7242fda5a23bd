"""Declared state beside ``struct``, and decoding by description beside analyze-migration.py.

Every figure stands beside its reference, measured in the same run.
``VMSTREAM_ANALYZE_MIGRATION`` may name a copy of QEMU's
``scripts/analyze-migration.py``; without it that comparison is left out.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import runpy
import struct
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from timeit import repeat
from typing import Any

import pytest

from corpus import Case, cases
from figures import Figures
from measuring import Measure
from vmstream import open as open_stream
from vmstream import vmstate
from vmstream.tools.show import show

Benchmark = Any

FIELDS = 10_000
STRUCTS = 1_000
ROUNDS = 100
DECODINGS = 10
PEER_DECODINGS = 3
DECODE_TIMES = 5.0
"""How many times faster than analyze-migration.py all devices are decoded, in one process."""
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


def richest() -> Case:
    """The recorded stream with most bytes of device state."""

    def size(case: Case) -> int:
        with open_stream(case.main) as stream:
            return sum(len(device.data) for device in stream.devices)

    return max((case for case in cases() if case.name.startswith("devices-")), key=size)


def decode_devices(path: Path) -> dict[str, Any]:
    """From the file to the values of every field of every device."""
    with open_stream(path) as stream:
        report = show(stream)
    assert report.sound
    return {device.key: device.plain(full=True) for device in report.devices}


def test_decoding_of_the_richest_stream(
    benchmark: Benchmark, figures: Figures, measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = richest()
    devices = benchmark.pedantic(decode_devices, (case.main,), rounds=DECODINGS, warmup_rounds=1)
    ours = min(repeat(lambda: decode_devices(case.main), number=1, repeat=DECODINGS))
    name = f"decoding of {case.name} ({len(devices)} devices)"
    peer = os.environ.get("VMSTREAM_ANALYZE_MIGRATION")
    if not peer:
        figures.add(name, ours * 1e3, "ms")
        pytest.skip("VMSTREAM_ANALYZE_MIGRATION names no copy of analyze-migration.py")
    # The script does what it is told while it is imported: here the least, to have its class.
    monkeypatch.setattr(sys, "argv", [peer, "-d", "desc", "-f", str(case.main)])
    with contextlib.redirect_stdout(io.StringIO()):
        analyze = runpy.run_path(peer)["MigrationDump"]

    def their_decoding() -> None:
        dump = analyze(str(case.main))
        dump.read()
        assert len(dump.getDict()) >= len(devices)

    theirs = min(repeat(their_decoding, number=1, repeat=PEER_DECODINGS))
    figures.add(name, ours * 1e3, "ms", "analyze-migration.py", theirs * 1e3)
    command = [sys.executable, "-m", "vmstream", "show", case.main, "--json"]
    whole = min(measure(command).cpu_seconds for _ in range(DECODINGS))
    peer_command = [sys.executable, peer, "-f", case.main]
    peer_whole = min(measure(peer_command).cpu_seconds for _ in range(PEER_DECODINGS))
    figures.add(
        f"show of {case.name}, CPU", whole * 1e3, "ms", "analyze-migration.py", peer_whole * 1e3
    )
    assert theirs >= DECODE_TIMES * ours

"""Registers from processor state that nobody vouches for."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmstream
from corpus import case_named
from vmstream.vmstate.decode import decode
from vmstream.vmstate.description import Description
from vmstream.vmstate.registers import read_processor
from vmstream.vmstate.registers.register import flags_of
from vmstream.vmstate.registers.x86 import EFLAGS

GUESTS = ("pc-7.2", "aarch64-virt-7.2", "ppc64-pseries-7.2", "riscv64-virt-7.2", "s390x-ccw-7.2")


@cache
def described(name: str) -> tuple[Description, bytes, int]:
    """A processor's description, its bytes and its section's version."""
    with vmstream.open(case_named(name).main) as stream:
        device = stream.devices["cpu", 0]
        assert device.decoded is not None
        return device.decoded.value.description, bytes(device.data), device.section.version


@pytest.mark.parametrize("name", GUESTS)
@settings(max_examples=40)
@given(data=st.data())
def test_damaged_state_gives_registers_in_range_or_none(name: str, data: st.DataObject) -> None:
    description, content, version = described(name)
    damaged = bytearray(content[: data.draw(st.integers(0, len(content)))])
    for _ in range(8 if damaged else 0):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    decoded = decode(description, bytes(damaged), 0, size=len(damaged), version=version)
    processor = read_processor(decoded.value)
    if processor is not None:
        assert all(0 <= r.value < 1 << r.bits for r in processor.registers)


@given(st.integers(0, 2**32 - 1))
def test_a_flag_is_named_exactly_when_its_bit_is_set(value: int) -> None:
    assert set(flags_of(value, EFLAGS)) == {
        name for bit, name in EFLAGS.items() if value & 1 << bit
    }

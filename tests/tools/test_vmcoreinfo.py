"""VMCOREINFO, from the device that names it and from memory."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmstream.tools.vmcoreinfo import fields_of, find_vmcoreinfo, note_text, vmcoreinfo_of_device

TEXT = (
    b"OSRELEASE=6.1.0-17-amd64\nBUILD-ID=00112233\nPAGESIZE=4096\n"
    b"SYMBOL(init_uts_ns)=ffffffff82c1b440\nNUMBER(phys_base)=-12345\nKERNELOFFSET=1c00000\n"
)


def note(text: bytes = TEXT, name: bytes = b"VMCOREINFO\0", order: str = "<") -> bytes:
    head = struct.pack(f"{order}III", len(name), len(text), 0)
    return head + name + bytes(-len(name) % 4) + text + bytes(-len(text) % 4)


STATE = {
    "has_vmcoreinfo": 1,
    "vmcoreinfo.host_format": 1,
    "vmcoreinfo.guest_format": 1,
    "vmcoreinfo.size": len(note()),
    "vmcoreinfo.paddr": 0x5000,
}


def read(address: int, length: int) -> bytes:
    memory = bytes(0x5000) + note() + bytes(0x1000)
    return memory[address : address + length]


def test_the_device_says_where_the_note_is() -> None:
    assert vmcoreinfo_of_device(STATE, read) == TEXT


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("has_vmcoreinfo", 0),
        ("vmcoreinfo.guest_format", 0),
        ("vmcoreinfo.size", 12),
        ("vmcoreinfo.size", 1 << 31),
        ("vmcoreinfo.paddr", 0x1000),
        ("vmcoreinfo.paddr", 1 << 60),
    ],
)
def test_a_device_that_names_no_note_gives_nothing(field: str, value: int) -> None:
    assert vmcoreinfo_of_device({**STATE, field: value}, read) is None


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_note_has_the_byte_order_of_the_guest(order: str) -> None:
    assert note_text(note(order=order)) == TEXT


def test_a_note_of_another_name_or_cut_short_is_none() -> None:
    assert note_text(note(name=b"CORE\0")) is None
    assert note_text(note()[:-9]) is None
    assert note_text(b"") is None


@given(st.integers(0, 3000), st.integers(1, 3000))
def test_it_is_found_wherever_chunks_begin(where: int, step: int) -> None:
    memory = bytes(where) + TEXT + bytes(100)
    chunks = [(at, memory[at : at + step]) for at in range(0, len(memory), step)]
    assert find_vmcoreinfo(chunks) == TEXT


def test_one_in_a_note_is_preferred_to_a_longer_one_outside() -> None:
    longer = TEXT + b"SYMBOL(_text)=ffffffff81000000\n"
    memory = longer + bytes(64) + note() + bytes(64)
    assert find_vmcoreinfo([(0, memory)]) == TEXT
    assert find_vmcoreinfo([(0, longer + bytes(64) + TEXT + bytes(9))]) == longer


def test_text_does_not_go_on_over_a_gap_in_memory() -> None:
    half = len(TEXT) // 2
    assert find_vmcoreinfo([(0, TEXT[:half]), (0x10000, TEXT[half:] + bytes(9))]) is None


def test_mentions_of_a_release_are_not_taken_for_it() -> None:
    assert find_vmcoreinfo([(0, b"OSRELEASE=x\nA=1\nB=2\nC=3\n\0")]) is None
    assert find_vmcoreinfo([(0, b"OSRELEASE=%s\n\0PAGESIZE=%ld\n\0")]) is None


def test_fields_are_names_and_values() -> None:
    fields = fields_of(TEXT)
    assert fields["OSRELEASE"] == "6.1.0-17-amd64"
    assert fields["SYMBOL(init_uts_ns)"] == "ffffffff82c1b440"
    assert fields["NUMBER(phys_base)"] == "-12345"

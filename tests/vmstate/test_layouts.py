"""Layouts for streams without a description: shipped, and borrowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorded import CASES, read
from vmstream.vmstate.decode import extent, fits
from vmstream.vmstate.description import Description, DeviceDescription, Field, StreamDescription
from vmstream.vmstate.layouts import borrow, lookup, suffix


def test_suffix_is_the_name_behind_the_device_path() -> None:
    assert suffix("0000:00:01.3/piix4_pm") == "piix4_pm"
    assert suffix("0000:00:04.0/1/usb-ptr") == "usb-ptr"
    assert suffix("timer") == "timer"


def test_global_state_tells_the_run_state() -> None:
    data = (8).to_bytes(4, "big") + b"running\0" + bytes(92)
    found = fits(lookup("globalstate", 1), data, size=len(data))
    assert found
    assert all(bytes(each.value["runstate"]).startswith(b"running\0") for each in found)


def test_timer_counts_ticks_and_clock() -> None:
    data = (5).to_bytes(8, "big") + bytes(8) + (7).to_bytes(8, "big")
    found = fits(lookup("timer", 2), data, size=len(data))
    assert {each.value["cpu_clock_offset"] for each in found} == {7}


def test_common_cpu_state_may_carry_an_exception() -> None:
    name = b"cpu_common/exception_index"
    data = bytes(8) + bytes([5, len(name)]) + name + b"\0\0\0\1" + b"\0\1\0\1"
    (found,) = fits(lookup("cpu_common", 1), data, size=len(data))
    assert found.value["cpu_common/exception_index.exception_index"] == 0x10001


def test_old_style_layout_fits_any_version() -> None:
    assert lookup("slirp", 4)
    assert lookup("slirp", 4) == lookup("slirp", 3)


@given(st.text(max_size=20), st.integers(0, 1 << 32))
def test_unknown_device_has_no_layout(name: str, version: int) -> None:
    assert all(layout.version in (version, 0) for layout in lookup(name, version))
    assert lookup("no such device" + name, version) == []


def test_table_knows_no_layout_of_another_version() -> None:
    assert lookup("timer", 99) == []


def device(name: str, instance_id: int, size: int, version: int = 1) -> DeviceDescription:
    description = Description(suffix(name), version, (Field("x", "buffer", size),))
    return DeviceDescription(name, instance_id, description)


OTHER = StreamDescription(
    4096,
    (
        device("0000:00:02.0/vga", 0, 1),
        device("cpu", 0, 2),
        device("cpu", 1, 3),
        device("cpu", 2, 2),
        device("cpu", 3, 9, version=2),
    ),
)


def sizes(layouts: list[Description]) -> list[int | None]:
    return [layout.fields[0].size for layout in layouts]


def test_borrowing_prefers_the_same_instance() -> None:
    assert sizes(borrow(OTHER, "cpu", 1)) == [3, 2, 9]
    assert sizes(borrow(OTHER, "cpu", 7)) == [2, 3, 9]


def test_borrowing_takes_the_same_device_at_another_address() -> None:
    assert sizes(borrow(OTHER, "0000:00:05.0/vga", 0)) == [1]
    assert borrow(OTHER, "0000:00:05.0/e1000", 0) == []


def test_borrowing_can_ask_for_a_version() -> None:
    assert sizes(borrow(OTHER, "cpu", 0, version=2)) == [9]


SUPPRESSED = ["suppress-vmdesc-7.2", "suppress-vmdesc-10.0.2"]


@pytest.mark.skipif(not set(SUPPRESSED) <= set(CASES), reason="no recorded streams")
@pytest.mark.parametrize("case", SUPPRESSED)
def test_table_delimits_every_section_of_a_recorded_stream_without_description(case: str) -> None:
    data = read(case)
    position = data.index(b"\x05timer\0\0\0\0") - 5
    passed = 0
    while data[position] == 0x04:
        section_id = data[position + 1 : position + 5]
        start = position + 6 + data[position + 5]
        name = data[position + 6 : start].decode()
        version = int.from_bytes(data[start + 4 : start + 8], "big")
        body = memoryview(data)[start + 8 :]
        ends = {
            end
            for layout in lookup(name, version)
            if (end := extent(layout, body)) is not None
            and body[end : end + 5] == b"\x7e" + section_id
        }
        assert len(ends) == 1, name
        position = start + 8 + ends.pop() + 5
        passed += 1
    assert data[position] == 0x00
    assert passed > 30

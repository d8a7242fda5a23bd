"""Layouts that a schema allows, against sections whose own description is known."""

from __future__ import annotations

import pytest

from corpus import Case, case_named, over_cases
from schema_builders import described, field, schema
from vmstream import open as open_stream
from vmstream.tools.schema import read_schema
from vmstream.vmstate.decode import Decoded, fits
from vmstream.vmstate.description import Description, Field
from vmstream.vmstate.layouts import suffix
from vmstream.vmstate.schema import Schema
from vmstream.vmstate.schema_layouts import MAX_LAYOUTS, agrees, schema_layouts
from vmstream.vmstate.values import walk


def exact(declared: Schema, data: bytes, version: int = 1) -> list[dict[str, object]]:
    """Values by path, of each reading that accounts for every byte."""
    layouts = schema_layouts(declared, "dev", version)
    found = fits(layouts, data, size=len(data), version=version)
    return [{path: node.value for path, _, _, node in walk(d.value)} for d in found]


def test_a_scalar_is_an_unsigned_number_of_its_c_size() -> None:
    declared = schema(t=described("dev", field("a", 1), field("b", 2), field("c", 8)))
    data = bytes.fromhex("ff fffe 8000000000000001")
    assert exact(declared, data) == [{"a": 0xFF, "b": 0xFFFE, "c": (1 << 63) + 1}]


def test_other_sizes_are_bytes() -> None:
    assert exact(schema(t=described("dev", field("a", 3))), b"abc") == [{"a": b"abc"}]


def test_an_array_has_the_length_that_is_told() -> None:
    declared = schema(t=described("dev", field("regs", 2, num=3)))
    assert exact(declared, bytes.fromhex("0001 0002 0003")) == [{"regs": [1, 2, 3]}]


def test_a_field_on_a_condition_may_be_absent() -> None:
    declared = schema(t=described("dev", field("a", 1), field("b", 2, conditional=True)))
    assert exact(declared, b"\1") == [{"a": 1}]
    assert exact(declared, b"\1\0\2") == [{"a": 1, "b": 2}]


def test_two_conditions_that_explain_the_same_bytes_are_two_readings() -> None:
    declared = schema(
        t=described("dev", field("a", 2, conditional=True), field("b", 2, conditional=True))
    )
    assert exact(declared, b"\0\1") == [{"a": 1}, {"b": 1}]


def test_fields_of_one_name_are_told_apart() -> None:
    declared = schema(t=described("dev", field("config", 1), field("config", 2)))
    assert exact(declared, b"\1\0\2") == [{"config[0]": 1, "config[1]": 2}]


def test_a_field_of_a_later_version_is_not_there() -> None:
    device = described("dev", field("a", 1), field("b", 1, version=2), version=2)
    assert exact(schema(t=device), b"\1") == [{"a": 1}]
    assert exact(schema(t=device), b"\1\2", version=2) == [{"a": 1, "b": 2}]
    assert schema_layouts(schema(t=device), "dev", 3) == []


def test_a_subsection_shows_by_its_header() -> None:
    sub = described("dev/sub", field("x", 1))
    declared = schema(t=described("dev", field("a", 1), subsections=(sub,)))
    header = b"\x05\x07dev/sub" + (1).to_bytes(4, "big")
    assert exact(declared, b"\1" + header + b"\2") == [{"a": 1, "dev/sub.x": 2}]
    assert exact(declared, b"\1") == [{"a": 1}]


def test_bytes_left_over_are_not_explained() -> None:
    assert exact(schema(t=described("dev", field("a", 1))), b"\1\2") == []


def test_a_field_of_no_c_size_can_not_be_told() -> None:
    assert schema_layouts(schema(t=described("dev", field("virtio", 0))), "dev", 1) == []


def test_combinations_have_a_limit() -> None:
    optional = [field(f"f{number}", 1, conditional=True) for number in range(8)]
    assert len(schema_layouts(schema(t=described("dev", *optional)), "dev", 1)) == MAX_LAYOUTS
    optional.append(field("one more", 1, conditional=True))
    assert schema_layouts(schema(t=described("dev", *optional)), "dev", 1) == []


def test_a_layout_agrees_by_names_order_and_size_of_numbers() -> None:
    declared = schema(t=described("dev", field("a", 4), field("b", 2, conditional=True)))

    def layout(*fields: tuple[str, str, int]) -> Description:
        return Description("dev", 1, tuple(Field(*each) for each in fields))

    assert agrees(declared, "dev", layout(("a", "int32", 4), ("b", "uint16", 2)))
    assert agrees(declared, "dev", layout(("a", "int32", 4)))
    assert not agrees(declared, "dev", layout(("b", "uint16", 2), ("a", "int32", 4)))
    assert not agrees(declared, "dev", layout(("a", "uint8", 1)))
    assert not agrees(declared, "dev", layout(("c", "int32", 4)))
    assert not agrees(declared, "other", layout(("a", "int32", 4)))


def has_schema(case: Case) -> bool:
    return case.schema is not None and not case.is_pair and not case.is_snapshot


def cuts(decoded: Decoded) -> list[int]:
    """Where each leaf begins."""
    return sorted(offset for _, offset, _, _ in walk(decoded.value))


@over_cases(has_schema)
def test_a_single_reading_cuts_the_bytes_as_the_stream_describes_them(case: Case) -> None:
    assert case.schema is not None
    declared = read_schema(case.schema)
    compared = 0
    with open_stream(case.main) as stream:
        described = [d for d in stream.devices if d.described and d.decoded and d.decoded.exact]
        for device in described:
            section = device.section
            layouts = schema_layouts(declared, suffix(section.name), section.version)
            data = device.data
            found = fits(
                layouts, data, section.body_offset, size=len(data), version=section.version
            )
            if len(found) == 1 and device.decoded is not None:
                assert cuts(found[0]) == cuts(device.decoded), device.key
                compared += 1
    assert compared > 0 or len(described) < 20 or case.truth["arch"] != "x86_64"


@pytest.mark.parametrize(
    ("name", "alone", "described"),
    [
        ("suppress-vmdesc-7.2", 23, 29),
        ("bios-pc-2.2.1", 18, 25),
        ("suppress-vmdesc-10.0.2", 24, 30),
    ],
)
def test_a_schema_settles_which_known_layout_it_is(name: str, alone: int, described: int) -> None:
    case = case_named(name)
    if case.schema is None:
        pytest.skip("no recorded schema of that binary")
    for lent, expected in ((None, alone), (str(case.schema), described)):
        with open_stream(case.main, describe_with=lent) as stream:
            settled = [device for device in stream.devices if device.origin == "borrowed"]
            assert len(settled) >= expected
            assert all(device.decoded and device.decoded.exact for device in settled)

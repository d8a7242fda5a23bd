"""Typed values: numbers with width and sign, buffers, paths, plain forms."""

from __future__ import annotations

import json
import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmstream.vmstate.decode import decode
from vmstream.vmstate.description import Description, Field
from vmstream.vmstate.values import INTEGERS, Array, Struct, convert, to_plain, walk


def value_of(type_: str, data: bytes) -> object:
    return convert(type_, memoryview(data))


def decoded(data: bytes, *fields: Field, subsections: tuple[Description, ...] = ()) -> Struct:
    result = decode(Description("d", 1, fields, subsections), data, 0x1000, size=len(data))
    assert result.exact, result.problems
    return result.value


@given(st.sampled_from(sorted(INTEGERS)), st.data())
def test_integers_are_big_endian_with_the_width_and_sign_of_their_type(
    type_: str, data: st.DataObject
) -> None:
    size, signed = INTEGERS[type_]
    low = -(1 << (8 * size - 1)) if signed else 0
    number = data.draw(st.integers(low, low + (1 << (8 * size)) - 1))
    assert value_of(type_, number.to_bytes(size, "big", signed=signed)) == number


def test_int64_equal_is_an_unsigned_number() -> None:
    assert value_of("int64 equal", b"\xff" * 8) == (1 << 64) - 1


def test_int32_le_means_less_or_equal_and_is_big_endian() -> None:
    assert value_of("int32 le", b"\0\0\1\0") == 256


def test_timer_that_is_not_pending_is_minus_one() -> None:
    assert value_of("timer", b"\xff" * 8) == -1


def test_any_non_zero_byte_is_true() -> None:
    assert value_of("bool", b"\x02") is True
    assert value_of("bool", b"\0") is False


@pytest.mark.parametrize("type_", ["float64", "CPU_Double_U"])
def test_floats_travel_as_their_64_bits(type_: str) -> None:
    assert value_of(type_, struct.pack(">d", -1.5)) == -1.5


def test_bitmap_words_are_big_endian_and_the_lowest_comes_first() -> None:
    words = struct.pack(">QQ", 1 << 3, 1 << 1)
    assert value_of("bitmap", words) == (1 << 3) | (1 << 65)


def test_capability_is_a_counted_name() -> None:
    assert value_of("capability", b"\x0amapped-ram") == "mapped-ram"


def test_null_pointer_is_none() -> None:
    assert value_of("nullptr", b"0") is None


@pytest.mark.parametrize("type_", ["buffer", "unused_buffer", "msix state", "virtio", "novel"])
def test_opaque_types_are_bytes(type_: str) -> None:
    assert value_of(type_, b"\1\2\3") == b"\1\2\3"


def test_number_of_another_width_stays_bytes() -> None:
    assert value_of("uint32", b"0") == b"0"


def test_integer_array_is_a_numpy_view() -> None:
    device = decoded(b"\0\1\xff\xff", Field("a", "int16", 2, array_len=2))
    array = device["a"]
    assert array.dtype == np.dtype(">i2")
    assert array.tolist() == [1, -1]
    node = device.at("a")
    assert isinstance(node, Array)
    assert [item.offset for item in node] == [0x1000, 0x1002]


def test_bool_array_is_numpy_bool() -> None:
    device = decoded(b"\0\2", Field("a", "bool", 1, array_len=2))
    assert device["a"].tolist() == [False, True]


def test_array_of_buffers_is_a_list_of_bytes() -> None:
    device = decoded(b"abcd", Field("a", "buffer", 2, array_len=2))
    assert device["a"] == [b"ab", b"cd"]


INNER = Description("inner", 0, (Field("x", "uint8", 1), Field("y[0]", "uint8", 1)))
DEVICE = (
    Field("env.regs", "uint16", 2, array_len=4),
    Field("config[0]", "uint8", 1),
    Field("config[1]", "uint8", 1),
    Field("acpi.status[0x0]", "struct", 2, struct=INNER),
    Field("acpi", "struct", 2, struct=INNER),
    Field("list", "struct", 2, array_len=2, struct=INNER),
)
SUBSECTION = Description("d/extra", 1, (Field("env.msr", "uint8", 1),))


@pytest.fixture
def device() -> Struct:
    data = bytes(range(8)) + bytes(range(10, 20))
    return decoded(data + b"\x05\x07d/extra\0\0\0\1" + b"\x63", *DEVICE, subsections=(SUBSECTION,))


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("env.regs[3]", 0x0607),
        ("env.regs[0x1]", 0x0203),
        ("config[0]", 10),
        ("config[1]", 11),
        ("acpi.status[0x0].x", 12),
        ("acpi.status[0x0].y[0]", 13),
        ("acpi.x", 14),
        ("acpi.y[0]", 15),
        ("list[1].x", 18),
        ("list[1].y[0]", 19),
        ("d/extra.env.msr", 0x63),
    ],
)
def test_path_tries_literal_names_before_syntax(device: Struct, path: str, number: int) -> None:
    assert device[path] == number
    assert path in device


@pytest.mark.parametrize(
    "path", ["env", "env.regs[4]", "env.regs[", "regs", "config", "list[0]x", "acpi.", "list[-1]"]
)
def test_path_to_nothing_is_a_key_error(device: Struct, path: str) -> None:
    with pytest.raises(KeyError):
        device[path]
    assert path not in device
    assert device.get(path, 5) == 5


def test_every_walked_path_leads_to_its_node(device: Struct) -> None:
    seen = 0
    for path, offset, raw, node in walk(device):
        found = device.at(path)
        assert (found.offset, found.raw) == (offset, raw) == (node.offset, node.raw)
        seen += 1
    assert seen == 12


def test_nested_struct_is_its_own_value(device: Struct) -> None:
    inner = device["acpi"]
    assert isinstance(inner, Struct)
    assert bytes(inner.raw) == bytes([14, 15])
    assert inner.offset == 0x1000 + 12


def test_plain_form_is_json(device: Struct) -> None:
    plain = to_plain(device)
    assert json.loads(json.dumps(plain)) == plain
    assert plain["env.regs"] == [0x0001, 0x0203, 0x0405, 0x0607]
    assert plain["list"][0] == {"x": 16, "y[0]": 17}
    assert plain["d/extra"] == {"env.msr": 0x63}


def test_plain_buffers_are_abbreviated_unless_full() -> None:
    blob = decoded(bytes(40), Field("b", "buffer", 40))
    assert to_plain(blob) == {"b": "00" * 32 + "... (40 bytes)"}
    assert to_plain(blob, full=True) == {"b": "00" * 40}
    assert to_plain(decoded(b"\1\2", Field("b", "buffer", 2))) == {"b": "0102"}


def test_plain_float_without_a_json_word_is_a_string() -> None:
    blob = decoded(struct.pack(">dd", math.nan, 1.0), Field("f", "float64", 8, array_len=2))
    assert to_plain(blob) == {"f": ["nan", 1.0]}


def test_plain_bitmap_is_the_hex_of_its_number() -> None:
    blob = decoded(struct.pack(">Q", 5), Field("b", "bitmap", 8))
    assert to_plain(blob) == {"b": "0000000000000005"}

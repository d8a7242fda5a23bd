"""The ``-dump-vmstate`` JSON of every QEMU version, to the model."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus import schemas
from schema_builders import Json, described, field, schema_text
from vmstream.errors import LimitExceeded, Malformed, StreamError
from vmstream.vmstate import schema as module
from vmstream.vmstate.description import Description
from vmstream.vmstate.schema import parse_schema

RECORDED = schemas()


def as_json(description: Description, like: Json) -> Json:
    """A description as the JSON it was read from, with the keys that ``like`` has."""
    whole: Json = {
        "name": description.name,
        "version_id": description.version,
        "minimum_version_id": description.minimum_version,
    }
    if "Fields" in like:
        whole["Fields"] = []
    for entry, original in zip(description.fields, like.get("Fields", []), strict=True):
        known: Json = {
            "field": entry.name,
            "version_id": entry.version,
            "field_exists": entry.conditional,
            "size": entry.memory_size,
        }
        if entry.array_len is not None:
            known["num"] = entry.array_len
        if entry.struct is not None:
            known["Description"] = as_json(entry.struct, original["Description"])
        whole["Fields"].append(known)
    if description.subsections:
        inner = zip(description.subsections, like["Subsections"], strict=True)
        whole["Subsections"] = [as_json(*pair) for pair in inner]
    return whole


@pytest.mark.skipif(not RECORDED, reason="no recorded schemas")
@pytest.mark.parametrize("name", RECORDED)
def test_everything_in_a_recorded_schema_is_in_the_model(name: str) -> None:
    text = RECORDED[name].read_bytes()
    expected = json.loads(text)
    schema = parse_schema(text)
    assert schema.machine == expected.pop("vmschkmachine")["Name"]
    assert list(schema.devices) == list(expected)
    for device, description in schema.devices.items():
        original = expected[device]["Description"]
        assert as_json(description, original) == original


def test_equal_descriptions_are_one_object() -> None:
    inner = described("PCIDevice", field("config", 256))
    schema = parse_schema(
        schema_text(
            e1000=described("e1000", field("parent_obj", 2000, struct=inner)),
            rtl8139=described("rtl8139", field("parent_obj", 2000, struct=inner)),
        )
    )
    first, second = (device.fields[0].struct for device in schema.devices.values())
    assert first is second


def test_c_sizes_are_not_wire_sizes() -> None:
    read = parse_schema(schema_text(dma=described("dma", field("regs", 2, num=8))))
    entry = read.devices["dma"].fields[0]
    assert (entry.size, entry.memory_size, entry.array_len) == (None, 2, 8)


def test_missing_fields_are_no_fields() -> None:
    text = schema_text(a=described("a", field("x"))).replace(b'"Fields"', b'"Unknown"')
    assert parse_schema(text).devices["a"].fields == ()


def test_one_vmsd_name_may_have_several_layouts() -> None:
    read = parse_schema(
        schema_text(
            isa=described("serial", field("state")),
            mm=described("serial", field("serial")),
            pci=described("serial", field("state")),
        )
    )
    assert [d.fields[0].name for d in read.named("serial")] == ["state", "serial"]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"vmschkmachine": {"Name": 1}}',
        b'{"vmschkmachine": {"Name": "pc"}, "e1000": {"Name": "e1000"}}',
        b'{"vmschkmachine": {"Name": "p\xffc"}}',
        schema_text(a=described("a", field("x", -1))),
        schema_text(a=described("a", field("x", 1 << 64))),
        schema_text(a=described("a", field("x", version=-1))),
        schema_text(a=described("a", {"field": "x"})),
        schema_text(a=described("a", field("x"))).replace(b"false", b'"no"'),
        b'{"a":{"Description":{"Fields":[' * 100_000,
    ],
)
def test_what_is_no_schema_is_malformed(text: bytes) -> None:
    with pytest.raises(Malformed, match="the schema"):
        parse_schema(text, file="here")


REPEATED = [
    (b'"vmschkmachine": {', b'"vmschkmachine": {"Name": "q35", '),
    (b'"field": "x"', b'"field": "x", "field": "y"'),
    (b'"field": "x"', b'"field" : "x", "field" : "y"'),
    (b'"field": "x"', b'"field": "x", "fi\\u0065ld": "y"'),
    (b'"name": "a"', b'"name": "a", "Unknown": {"k": 1, "k": 2}'),
    (b'"size": 4', b'"size": 4, "size": 4'),
    (b'"a": {', b'"a": {}, "a": {'),
]


@pytest.mark.parametrize(("once", "twice"), REPEATED)
def test_a_repeated_key_is_malformed(once: bytes, twice: bytes) -> None:
    text = schema_text(a=described("a", field("x")))
    assert once in text
    with pytest.raises(Malformed):
        parse_schema(text.replace(once, twice))


def test_unknown_keys_are_passed_over() -> None:
    text = schema_text(a=described("a", field("x")))
    newer = text.replace(b'"field": "x"', b'"field": "x", "wire_type": "uint32"')
    assert parse_schema(newer) == parse_schema(text)


def test_escaped_quotes_are_no_repeated_keys() -> None:
    name = 'odd "name": here'
    assert parse_schema(schema_text(a=described(name))).devices["a"].name == name


@pytest.mark.parametrize(("deep", "accepted"), [(31, True), (32, False), (200, False)])
def test_descriptions_nest_to_a_limit(deep: int, accepted: bool) -> None:
    inner = described("leaf", field("x"))
    for level in range(deep):
        inner = described(f"level {level}", field("inner", struct=inner))
    text = schema_text(a=inner)
    if accepted:
        parse_schema(text)
    else:
        with pytest.raises(Malformed, match="deeper than 32"):
            parse_schema(text)


def test_depth_counts_where_a_known_description_is_used_again() -> None:
    """A description met near the top must not be taken, unchecked, at the bottom."""
    shared: Json = described("shared", field("x"))
    for level in range(20):
        shared = described(f"shared {level}", field("inner", struct=shared))
    deep = shared
    for level in range(20):
        deep = described(f"deep {level}", field("inner", struct=deep))
    with pytest.raises(Malformed, match="deeper than 32"):
        parse_schema(schema_text(a=shared, b=deep))


def test_a_schema_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    text = schema_text()
    monkeypatch.setattr(module, "MAX_SCHEMA_SIZE", len(text) - 1)
    with pytest.raises(LimitExceeded) as caught:
        parse_schema(text)
    assert (caught.value.expected, caught.value.found) == (len(text) - 1, len(text))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
KEYS = ("field", "version_id", "field_exists", "num", "size", "Description", "Fields", "name")


@given(st.data())
def test_any_json_in_the_place_of_any_value_reads_or_is_malformed(data: Any) -> None:
    inner = described("s", field("y", num=3), subsections=(described("s/sub", field("z")),))
    text = schema_text(a=described("a", field("x", struct=inner)))
    pieces = text.split(b'"')
    spot = data.draw(st.integers(0, len(pieces) - 1))
    pieces[spot] = data.draw(
        st.binary(max_size=4)
        | JSON_VALUES.map(lambda value: json.dumps(value).encode())
        | st.sampled_from(KEYS).map(str.encode)
    )
    try:
        parse_schema(b'"'.join(pieces))
    except StreamError as error:
        assert isinstance(error, Malformed)

"""The description's text: reading, writing it back, refusing what is none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorded import CASES, described
from vmstream.errors import LimitExceeded, Malformed, StreamError
from vmstream.vmstate.description import Description, DeviceDescription, Field, StreamDescription
from vmstream.vmstate.vmdesc import (
    MAX_DEPTH,
    dump,
    parse,
    wire_size,
    wire_sizes,
)


def compact(fields: str) -> str:
    return (
        '{"page_size": 4096, "devices": [{"name": "d", "instance_id": 0, '
        f'"vmsd_name": "d", "version": 1, "fields": [{fields}]}}]}}'
    )


def field(text: str) -> Field:
    return parse(compact(text)).devices[0].description.fields[0]


names = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=12)
sizes = st.integers(0, 1 << 40)
leaves = st.builds(Field, names, st.sampled_from(["uint8", "buffer", "virtio"]), sizes)


def described_by(fields: st.SearchStrategy[Field]) -> st.SearchStrategy[Description]:
    return st.builds(
        Description, names, st.integers(0, 99), st.lists(fields, max_size=4).map(tuple)
    )


def nested(fields: st.SearchStrategy[Field]) -> st.SearchStrategy[Field]:
    struct = described_by(fields)
    return st.one_of(
        st.builds(
            Field, names, st.just("struct"), sizes, st.none() | st.integers(2, 9), struct=struct
        ),
        st.builds(Field, names, st.just("struct"), sizes, index=st.integers(0, 9), struct=struct),
        st.builds(Field, names, st.sampled_from(["tmp", "vstruct"]), sizes, struct=struct),
        st.builds(
            Field,
            names,
            st.sampled_from(["qtailq", "qlist", "gtree"]),
            sizes,
            elements=st.lists(struct, max_size=3).map(tuple),
        ),
        st.builds(Field, names, st.just("struct"), st.just(1)),
    )


descriptions = st.builds(
    Description,
    names,
    st.integers(0, 99),
    st.lists(st.recursive(leaves, nested, max_leaves=6), max_size=4).map(tuple),
    st.lists(described_by(leaves), max_size=2).map(tuple),
)
streams = st.builds(
    StreamDescription,
    st.sampled_from([1024, 4096, 65536]),
    st.lists(
        st.builds(DeviceDescription, names, st.integers(0, 0xFFFFFFFF), descriptions), max_size=3
    ).map(tuple),
    st.none() | descriptions,
)


@given(streams)
def test_parse_undoes_dump(stream: StreamDescription) -> None:
    assert parse(dump(stream)) == stream


@pytest.mark.skipif(not CASES, reason="no recorded streams")
def test_every_recorded_description_is_written_back_byte_for_byte() -> None:
    styles = set()
    for case, _, text in described():
        description = parse(text)
        styles.add(description.compact)
        assert dump(description) == text, case
    assert styles == {True, False}


def test_old_writer_takes_names_as_they_are() -> None:
    text = (
        b'{ "page_size" : 4096, "devices" : [ { "name" : "a\\b"c\xff", "instance_id" : 0, '
        b'"vmsd_name" : "x", "version" : 1, "fields" : [  ] } ] }'
    )
    description = parse(text)
    assert description.devices[0].name == 'a\\b"c\udcff'
    assert not description.compact
    assert dump(description) == text


def test_new_writer_escapes_in_upper_case_hex() -> None:
    text = (
        b'{"page_size": 1, "devices": [{"name": "\\u00E9\\u007F\\uD83D\\uDE00\\n\\"", '
        b'"instance_id": 4294967295, "vmsd_name": "x", "version": 1, "fields": []}]}'
    )
    description = parse(text)
    assert description.devices[0].name == 'é\x7f😀\n"'
    assert dump(description) == text


def test_old_style_device_has_one_opaque_buffer() -> None:
    text = (
        b'{"page_size": 4096, "devices": [{"name": "slirp", "instance_id": 0, "size": 7, '
        b'"fields": [{"name": "data", "size": 7, "type": "buffer"}]}]}'
    )
    device = parse(text).devices[0]
    assert device.old_style
    assert device.description.fields == (Field("data", "buffer", 7),)
    assert dump(parse(text)) == text


def test_container_repeats_its_keys_for_each_element() -> None:
    body = ", ".join(
        f'"vmsd_name": "e", "version": 0, "fields": [{{"name": "v", "type": "uint8", "size": {n}}}]'
        for n in (1, 2, 3)
    )
    queue = field(f'{{"name": "q", "type": "qtailq", {body}, "size": 10}}')
    assert [element.fields[0].size for element in queue.elements] == [1, 2, 3]
    assert queue.struct is None


def test_container_without_elements_has_no_inner_keys() -> None:
    queue = field('{"name": "q", "type": "qtailq", "size": 1}')
    assert queue.elements == ()


@pytest.mark.parametrize("kind", ["tmp", "vstruct"])
def test_inline_struct_stands_among_the_keys_of_its_field(kind: str) -> None:
    inner = '{"name": "m", "type": "uint64", "size": 8}'
    found = field(
        f'{{"name": "t", "type": "{kind}", "vmsd_name": "s", "version": 3, '
        f'"fields": [{inner}], "size": 8}}'
    )
    assert found.struct == Description("s", 3, (Field("m", "uint64", 8),))


def test_null_first_pointer_is_a_struct_without_keys() -> None:
    text = compact(
        '{"name": "p", "array_len": 2, "type": "struct", "struct": {}, "size": 1}'
    ).encode()
    description = parse(text)
    assert description.devices[0].description.fields[0].struct is None
    assert dump(description) == text


def test_unknown_keys_are_passed_over() -> None:
    found = field('{"name": "a", "type": "uint8", "novel": {"deep": [1]}, "size": 1}')
    assert found == Field("a", "uint8", 1)


def test_equal_fields_are_made_once() -> None:
    leaf = '{"name": "a", "type": "uint8", "size": 1}'
    fields = parse(compact(f"{leaf}, {leaf}")).devices[0].description.fields
    assert fields[0] is fields[1]


def test_wire_size_counts_arrays_and_subsection_headers() -> None:
    description = Description(
        "d",
        1,
        (Field("a", "uint32", 4, array_len=3), Field("b", "uint8", 1)),
        (Description("d/sub", 1, (Field("c", "uint16", 2),)),),
    )
    assert wire_size(description) == 12 + 1 + (1 + 1 + 5 + 4 + 2)


def test_wire_size_is_unknown_without_wire_sizes() -> None:
    assert wire_size(Description("d", 1, (Field("a", "uint8", None),))) is None
    with pytest.raises(ValueError, match="no wire size"):
        dump(
            StreamDescription(
                1, (DeviceDescription("d", 0, Description("d", 1, (Field("a", "u", None),))),)
            )
        )


def test_first_run_of_a_pointer_array_has_two_possible_sizes() -> None:
    element = Description("e", 1, (Field("v", "uint32", 4),))
    fields = (
        Field("p", "struct", 4, array_len=3, struct=element),
        Field("p", "nullptr", 1),
    )
    assert wire_sizes(Description("d", 1, fields)) == (9, 13)


HOSTILE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"{}",
    b"\xff\xfe",
    b'{"page_size": 4096}',
    b'{"page_size": "4096", "devices": []}',
    b'{"page_size": -1, "devices": []}',
    b'{"page_size": 1e3, "devices": []}',
    b'{"page_size": NaN, "devices": []}',
    b'{"page_size": true, "devices": []}',
    b'{"page_size": 4096, "devices": {}}',
    b'{"page_size": 4096, "devices": [1]}',
    b'{"page_size": 4096, "page_size": 1, "devices": []}',
    b'{"page_size": 4096, "configuration": 1, "devices": []}',
    b'{"page_size": 4096, "devices": [{"name": "a", "instance_id": 0}]}',
    b'{"page_size": ' + b"9" * 30 + b', "devices": []}',
    b'{"page_size": ' + b"9" * 9999 + b', "devices": []}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    compact('{"name": "a", "type": "uint8", "size": -1}').encode(),
    compact('{"name": "a", "type": 3, "size": 1}').encode(),
    compact('{"name": "a", "type": "struct", "struct": 3, "size": 1}').encode(),
    compact('{"name": "a", "array_len": "x", "type": "uint8", "size": 1}').encode(),
    compact('{"name": "a", "type": "qtailq", "vmsd_name": "x", "size": 1}').encode(),
    b'{ "page_size" : "',
    b'{ "page_size" : \\ }',
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_malformed(text: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        parse(text, offset=0x100)
    assert caught.value.offset is not None
    assert caught.value.offset >= 0x100


def test_descriptions_nest_to_a_stated_depth() -> None:
    def deep(levels: int) -> str:
        inner = '{"name": "x", "type": "uint8", "size": 1}'
        for _ in range(levels - 1):
            inner = (
                '{"name": "s", "type": "struct", "struct": '
                f'{{"vmsd_name": "v", "version": 0, "fields": [{inner}]}}, "size": 1}}'
            )
        return compact(inner)

    assert parse(deep(MAX_DEPTH))
    with pytest.raises(Malformed, match="deeper"):
        parse(deep(MAX_DEPTH + 1))


def test_text_above_the_limit_is_refused_unread() -> None:
    with pytest.raises(LimitExceeded):
        parse(b"{" * 11, limit=10)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "type",
                    "size",
                    "fields",
                    "struct",
                    "vmsd_name",
                    "version",
                    "devices",
                    "page_size",
                    "instance_id",
                    "subsections",
                    "configuration",
                    "index",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(values, st.booleans())
def test_any_json_is_a_description_or_a_stream_error(value: object, spaced: bool) -> None:
    text = json.dumps(value)
    try:
        parse(text.replace("{", "{ ") if spaced else text)
    except StreamError:
        return
    assert isinstance(value, dict)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_description_or_a_stream_error(data: bytes) -> None:
    with pytest.raises(StreamError):
        parse(data)

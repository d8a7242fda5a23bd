"""A section's body walked by its description, with every quirk of QEMU's writer."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorded import CASES, described, sections
from vmstream.vmstate.decode import MAX_VALUES, Decoded, decode, extent, fits
from vmstream.vmstate.description import Description, Field
from vmstream.vmstate.values import List, Struct, to_plain, walk
from vmstream.vmstate.vmdesc import parse

U8 = Field("v", "uint8", 1)
WORD = Field("v", "uint32", 4)
PAIR = Description("pair", 1, (WORD, Field("w", "uint8", 1)))
NAMED = Description("named", 1, (Field("id", "uint16", 2),))


def word(value: int) -> bytes:
    return struct.pack(">I", value)


def pair(value: int, small: int = 0) -> bytes:
    return word(value) + bytes([small])


def body(*fields: Field, subsections: tuple[Description, ...] = ()) -> Description:
    return Description("d", 1, fields, subsections)


def exactly(description: Description, data: bytes, offset: int = 0) -> Struct:
    decoded = decode(description, data, offset, size=len(data))
    assert decoded.exact, decoded.problems
    assert decoded.size == len(data)
    return decoded.value


def refused(description: Description, data: bytes, offset: int = 0) -> Decoded:
    decoded = decode(description, data, offset, size=len(data))
    assert len(decoded.problems) >= 1
    return decoded


# Real streams


@pytest.mark.skipif(not CASES, reason="no recorded streams")
def test_every_described_section_of_every_recorded_stream_decodes_to_its_footer() -> None:
    devices = 0
    for case, data, text in described():
        for section in sections(data, parse(text)):
            view = memoryview(data)[section.offset : section.offset + section.size]
            decoded = decode(section.device.description, view, section.offset, size=section.size)
            assert decoded.exact, (case, section.device.name, decoded.problems)
            assert section.version == section.device.description.version or (
                section.device.old_style
            )
            for path, offset, raw, _ in walk(decoded.value):
                assert data[offset : offset + len(raw)] == raw, (case, path)
            to_plain(decoded.value)
            devices += 1
    assert devices > 0


# Arrays


def test_compressed_array_is_described_by_its_first_element() -> None:
    value = exactly(
        body(Field("p", "struct", 5, array_len=3, struct=PAIR)), pair(1) + pair(2, 7) + pair(3)
    )
    assert [item["v"] for item in value["p"]] == [1, 2, 3]
    assert value["p[1].w"] == 7


def test_uncompressed_array_has_an_entry_for_each_element() -> None:
    entries = [Field("p", "uint32", 4, index=i) for i in range(3)]
    assert exactly(body(*entries), word(1) + word(2) + word(3))["p"] == [1, 2, 3]


def test_last_element_may_lack_its_index() -> None:
    """QEMU 10.0 and later."""
    entries = (Field("p", "uint32", 4, index=0), Field("p", "uint32", 4), Field("q", "uint8", 1))
    value = exactly(body(*entries), word(1) + word(2) + b"\5")
    assert value["p"] == [1, 2]
    assert value["p[1]"] == 2
    assert value["q"] == 5
    assert bytes(value.at("p").raw) == word(1) + word(2)


def test_array_of_one_looks_like_a_scalar() -> None:
    assert exactly(body(WORD), word(9))["v"] == 9


@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_runs_of_null_pointers_have_entries_of_their_own(nulls: list[bool]) -> None:
    """QEMU 10.0 and later, with its first run that counts the whole array."""
    runs: list[tuple[bool, int]] = []
    for null in nulls:
        if runs and runs[-1][0] == null:
            runs[-1] = (null, runs[-1][1] + 1)
        else:
            runs.append((null, 1))
    entries = []
    for position, (null, length) in enumerate(runs):
        said = len(nulls) if position == 0 and not null else length
        array_len = said if said > 1 else None
        entries.append(
            Field("p", "nullptr", 1, array_len)
            if null
            else Field("p", "struct", 5, array_len, struct=PAIR)
        )
    data = b"".join(b"0" if null else pair(i) for i, null in enumerate(nulls))
    value = exactly(body(*entries, U8), data + b"\xaa")
    shown = [value.get("p")] if len(nulls) == 1 else value["p"]
    assert [item is None for item in shown] == nulls
    assert value["v"] == 0xAA


def test_first_run_that_tells_its_own_length_is_read_too() -> None:
    entries = (Field("p", "struct", 5, array_len=2, struct=PAIR), Field("p", "nullptr", 1))
    value = exactly(body(*entries), pair(1) + pair(2) + b"0")
    assert [item is None for item in value["p"]] == [False, False, True]


def test_null_pointers_behind_a_described_first_element_are_found() -> None:
    """QEMU 2.9 to 9.2 describe only the first element."""
    description = body(Field("p", "struct", 5, array_len=4, struct=PAIR), U8)
    value = exactly(description, pair(1) + b"0" + pair(3) + b"0" + b"\x07")
    assert [None if item is None else item["v"] for item in value["p"]] == [1, None, 3, None]
    assert value["v"] == 7


def test_null_pointers_that_could_stand_elsewhere_are_not_guessed() -> None:
    description = body(Field("p", "struct", 5, array_len=3, struct=PAIR))
    decoded = refused(description, pair(1) + b"00000" + b"0")
    assert any("more than one way" in problem.message for problem in decoded.problems)


def test_array_whose_first_pointer_is_null_decodes_when_all_are() -> None:
    description = body(Field("p", "struct", 1, array_len=3), U8)
    value = exactly(description, b"000\x05")
    assert value["p"] == [None, None, None]
    assert value["v"] == 5


def test_pointers_whose_description_is_that_of_a_null_are_opaque_but_have_their_extent() -> None:
    """As ``css`` of ``s390_css``: 256 pointers, of which element 0 is NULL."""
    data = b"\x01" + b"0" + pair(2) + b"\x07"
    pointers = Field("p", "struct", 1, array_len=3)
    decoded = decode(body(U8, pointers, Field("w", "uint8", 1)), data, 100, size=len(data))
    assert decoded.exact
    assert decoded.value["p"] == b"0" + pair(2)
    assert decoded.value["w"] == 7


# Structs, containers, subsections


def test_struct_members_must_take_the_bytes_described() -> None:
    decoded = refused(body(Field("s", "struct", 6, struct=PAIR)), pair(1) + b"\0")
    assert (decoded.problems[0].expected, decoded.problems[0].found) == (6, 5)
    assert decoded.problems[0].path == "s"
    assert decoded.value["s.v"] == 1


def test_queue_elements_have_descriptions_of_their_own() -> None:
    elements = (body(U8), body(WORD))
    value = exactly(
        body(Field("q", "qtailq", 8, elements=elements), U8), b"\1\x09\1" + word(8) + b"\0\x01"
    )
    assert value["q[0].v"] == 9
    assert value["q[1].v"] == 8
    assert value["v"] == 1


def test_empty_queue_is_one_byte() -> None:
    assert exactly(body(Field("q", "qlist", 1)), b"\0")["q"] == []


def test_queue_marker_that_differs_is_named() -> None:
    decoded = refused(body(Field("q", "qtailq", 3, elements=(body(U8),))), b"\2\x09\0")
    problem = decoded.problems[0]
    assert (problem.path, problem.offset, problem.expected, problem.found) == ("q", 0, 1, 2)


def test_queues_inside_a_compressed_array_may_differ_in_length() -> None:
    queue = Description("item", 0, (Field("q", "qtailq", 3, elements=(body(U8),)),))
    description = body(Field("a", "struct", 3, array_len=3, struct=queue), WORD)
    value = exactly(description, b"\1\x05\0" + b"\0" + b"\1\x06\1\x07\0" + word(1))
    assert [len(item["q"]) for item in value["a"]] == [1, 0, 2]
    assert value["v"] == 1


def test_tree_with_described_keys_alternates_key_and_value() -> None:
    tree = Field("t", "gtree", 4 + 2 * (1 + 2 + 5) + 1, elements=(NAMED, PAIR, NAMED, PAIR))
    data = word(2) + b"\1\0\7" + pair(70) + b"\1\0\x08" + pair(80) + b"\0"
    value = exactly(body(tree), data)
    assert value["t[1].key.id"] == 8
    assert value["t[1].value.v"] == 80


def test_tree_with_direct_keys_leaves_them_undescribed() -> None:
    tree = Field("t", "gtree", 4 + 1 + 8 + 5 + 1, elements=(PAIR,))
    value = exactly(body(tree), word(1) + b"\1" + bytes(7) + b"\x2a" + pair(80) + b"\0")
    assert value["t[0].key"] == 42
    assert value["t[0].value.v"] == 80


def test_tmp_and_vstruct_nest_without_header() -> None:
    fields = (
        Field("tmp", "tmp", 5, struct=PAIR),
        Field("s", "vstruct", 5, struct=PAIR),
    )
    value = exactly(body(*fields), pair(1, 2) + pair(3, 4))
    assert (value["tmp.w"], value["s.v"]) == (2, 3)


def test_compressed_array_of_tmp_repeats_the_first() -> None:
    value = exactly(body(Field("t", "tmp", 5, array_len=2, struct=PAIR)), pair(1) + pair(2))
    assert [item["v"] for item in value["t"]] == [1, 2]


SUB = Description("d/sub", 3, (WORD,))


def header(name: bytes, version: int) -> bytes:
    return bytes([5, len(name)]) + name + word(version)


def test_subsection_stands_behind_the_fields_of_its_parent() -> None:
    value = exactly(body(U8, subsections=(SUB,)), b"\1" + header(b"d/sub", 3) + word(77))
    assert value["d/sub.v"] == 77
    assert value.subsections["d/sub"].version == 3


def test_nested_struct_carries_its_own_subsections() -> None:
    inner = Description("d", 1, (U8,), (SUB,))
    value = exactly(
        body(Field("s", "struct", 16, struct=inner), Field("z", "uint8", 1)),
        b"\1" + header(b"d/sub", 3) + word(77) + b"\2",
    )
    assert value["s.d/sub.v"] == 77
    assert value["z"] == 2


@pytest.mark.parametrize(
    ("bytes_there", "path"),
    [
        (header(b"d/sux", 3) + word(1), "d/sub"),
        (header(b"d/sub", 4) + word(1), "d/sub"),
        (header(b"d/sub", 3) + b"\0\0", "d/sub.v"),
        (b"", "d/sub"),
    ],
)
def test_subsection_that_is_not_as_described_is_named(bytes_there: bytes, path: str) -> None:
    decoded = refused(body(U8, subsections=(SUB,)), b"\1" + bytes_there)
    assert decoded.problems[0].path == path
    assert decoded.value["v"] == 1


# Ends


def test_section_that_ends_early_keeps_what_came_before() -> None:
    decoded = refused(body(U8, Field("s", "struct", 5, struct=PAIR)), b"\1" + word(2), offset=0x50)
    problem = decoded.problems[0]
    assert (problem.path, problem.offset, problem.expected, problem.found) == ("s.w", 0x55, 1, 0)
    assert decoded.value["v"] == 1
    assert decoded.value["s.v"] == 2


def test_bytes_left_over_are_a_problem_of_the_whole_section() -> None:
    decoded = refused(body(WORD), word(1) + b"\0")
    assert (decoded.problems[0].path, decoded.problems[0].expected) == ("", 4)
    assert decoded.value["v"] == 1


def test_without_a_known_end_the_description_decides() -> None:
    decoded = decode(body(WORD), word(1) + b"\x7e")
    assert decoded.exact
    assert decoded.size == 4


def test_field_without_wire_size_is_a_problem() -> None:
    assert refused(body(Field("v", "uint8", None)), b"\1").problems[0].path == "v"


def test_null_marker_other_than_0x30_is_a_problem() -> None:
    assert refused(body(Field("p", "nullptr", 1)), b"\1").problems[0].expected == 0x30


# Borrowed descriptions


def test_borrowed_subsections_may_be_absent() -> None:
    description = body(U8, subsections=(SUB,))
    assert extent(description, b"\1\x7e") == 1
    assert extent(description, b"\1" + header(b"d/sub", 3) + word(7) + b"\x7e") == 1 + 11 + 4
    assert extent(description, b"") is None


def test_borrowed_queue_may_hold_more_elements() -> None:
    queue = Field("q", "qtailq", 3, elements=(body(U8),))
    decoded = decode(body(queue), b"\1\5\1\6\1\7\0", borrowed=True)
    assert [item["v"] for item in decoded.value["q"]] == [5, 6, 7]


def test_only_layouts_that_account_for_every_byte_fit() -> None:
    found = fits([body(U8), body(WORD), body(WORD, U8)], word(3), size=4)
    assert [candidate.value["v"] for candidate in found] == [3]


# Hostile descriptions


def test_values_of_no_bytes_are_limited() -> None:
    empty = Description("e", 0)
    bomb = Field("b", "struct", 0, array_len=1 << 40, struct=empty)
    assert "values" in refused(body(bomb), b"").problems[0].message
    flat = Field("b", "buffer", 0, array_len=1 << 40)
    assert "values" in refused(body(flat), b"").problems[0].message


def test_nesting_beyond_the_limit_is_a_problem() -> None:
    deep = PAIR
    for _ in range(2000):
        deep = Description("s", 0, (Field("s", "struct", 5, struct=deep),))
    assert "nest" in refused(deep, pair(1)).problems[0].message


leaf = st.builds(
    Field,
    st.sampled_from(["a", "b", "c.d", "e[1]"]),
    st.sampled_from(["uint8", "uint32", "bool", "nullptr", "buffer", "bitmap", "timer", "fd"]),
    st.integers(0, 9),
    st.none() | st.integers(0, 5),
    st.none() | st.integers(0, 3),
)


def deeper(fields: st.SearchStrategy[Field]) -> st.SearchStrategy[Field]:
    struct = st.builds(Description, st.just("s"), st.just(1), st.lists(fields, max_size=3))
    return st.builds(
        Field,
        st.sampled_from(["a", "b"]),
        st.sampled_from(["struct", "tmp", "vstruct"]),
        st.integers(0, 9),
        st.none() | st.integers(0, 5),
        st.none() | st.integers(0, 3),
        struct=st.none() | struct,
    ) | st.builds(
        Field,
        st.sampled_from(["a", "q"]),
        st.sampled_from(["qtailq", "gtree", "other"]),
        st.integers(0, 9),
        st.none() | st.integers(0, 3),
        elements=st.lists(struct, max_size=3).map(tuple),
    )


@given(
    st.lists(st.recursive(leaf, deeper, max_leaves=8), max_size=5).map(tuple),
    st.lists(st.sampled_from([0, 1, 5, 0x30, 0xFF]), max_size=40).map(bytes),
    st.booleans(),
    st.booleans(),
)
def test_any_description_meets_any_bytes_without_raising(
    fields: tuple[Field, ...], data: bytes, borrowed: bool, known: bool
) -> None:
    size = len(data) if known else None
    decoded = decode(Description("d", 1, fields, (SUB,)), data, 7, size=size, borrowed=borrowed)
    assert decoded.size <= len(data)
    assert not (decoded.exact and known and decoded.size != len(data))
    for path, offset, raw, _ in walk(decoded.value):
        assert data[offset - 7 : offset - 7 + len(raw)] == raw, path
    to_plain(decoded.value, full=True)


def test_budget_of_values_is_what_it_says() -> None:
    assert MAX_VALUES == 1 << 20
    assert isinstance(exactly(body(Field("q", "qlist", 1)), b"\0").at("q"), List)

"""What one QEMU makes of the device state of another, told from their schemas."""

from __future__ import annotations

from itertools import pairwise, permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus import schemas
from schema_builders import Json, described, field, schema
from vmstream.tools.schema import read_schema
from vmstream.tools.schema_diff import Direction, Finding, Kind, Place, Severity, schema_diff

BREAKS, MAY_BREAK, HARMLESS = Severity.BREAKS, Severity.MAY_BREAK, Severity.HARMLESS
RECORDED = schemas()


def findings(old: Json, new: Json) -> list[Finding]:
    """Of two schemas with one device type, ``dev``."""
    return list(schema_diff(schema(dev=old), schema(dev=new)).findings)


def device(*fields: Json, **options: Any) -> Json:
    return described("dev", *fields, **options)


def told(old: Json, new: Json) -> list[tuple[Kind, str, Severity, Severity]]:
    """Kind, field, and severity old to new and new to old."""
    return [(f.kind, f.field, f.old_to_new, f.new_to_old) for f in findings(old, new)]


# Fields


def test_equal_schemas_have_no_findings() -> None:
    report = schema_diff(schema(dev=device(field("a"))), schema(dev=device(field("a"))))
    assert (report.devices, report.identical, report.findings) == (1, 1, ())
    assert not any(report.breaks(direction) for direction in Direction)


def test_a_removed_field_breaks_both_ways() -> None:
    assert told(device(field("a"), field("b")), device(field("a"))) == [
        (Kind.FIELD_REMOVED, "b", BREAKS, BREAKS)
    ]


def test_a_trailing_field_of_the_new_side_breaks_both_ways() -> None:
    """The static checker passes over it."""
    assert told(device(field("a")), device(field("a"), field("b"))) == [
        (Kind.FIELD_ADDED, "b", BREAKS, BREAKS)
    ]


def test_a_field_from_a_new_version_on_breaks_only_backwards() -> None:
    assert told(device(field("a")), device(field("a"), field("b", version=2), version=2)) == [
        (Kind.VERSION, "", HARMLESS, BREAKS),
        (Kind.FIELD_ADDED, "b", HARMLESS, BREAKS),
    ]


def test_a_field_on_a_condition_may_break() -> None:
    assert told(device(field("a")), device(field("a"), field("b", conditional=True))) == [
        (Kind.FIELD_ADDED, "b", MAY_BREAK, MAY_BREAK)
    ]


def test_a_condition_that_comes_or_goes_may_break() -> None:
    old, new = device(field("a")), device(field("a", conditional=True))
    assert told(old, new) == [(Kind.CONDITION, "a", MAY_BREAK, MAY_BREAK)]
    assert told(new, old) == [(Kind.CONDITION, "a", MAY_BREAK, MAY_BREAK)]


@pytest.mark.parametrize(("old", "new"), [("tmr.timer", "ar.tmr.timer"), ("depth", "new_depth")])
def test_a_rename_is_told_from_a_removal(old: str, new: str) -> None:
    found = findings(device(field("x"), field(old, 8)), device(field("x"), field(new, 8)))
    assert [(f.kind, f.old, f.new, f.severity) for f in found] == [
        (Kind.FIELD_RENAMED, old, new, HARMLESS)
    ]


def test_another_name_in_the_same_place_may_be_another_value() -> None:
    assert told(device(field("ready")), device(field("other"))) == [
        (Kind.FIELD_RENAMED, "ready", MAY_BREAK, MAY_BREAK)
    ]


def test_a_renamed_struct_is_known_by_its_fields() -> None:
    inner = described("PCIDevice", field("config", 256))
    assert told(
        device(field("dev", 2000, struct=inner)), device(field("parent_obj", 2400, struct=inner))
    ) == [(Kind.FIELD_RENAMED, "dev", HARMLESS, HARMLESS)]


def test_the_c_size_of_a_struct_is_not_on_the_wire() -> None:
    inner = described("s", field("x"))
    assert told(device(field("s", 8, struct=inner)), device(field("s", 16, struct=inner))) == []


def test_a_moved_field_breaks_both_ways() -> None:
    old = device(field("a"), field("b", 2), field("c"), field("d", 8))
    new = device(field("b", 2), field("c"), field("a"), field("d", 8))
    assert told(old, new) == [(Kind.FIELD_MOVED, "a", BREAKS, BREAKS)]


def test_a_field_that_moves_into_a_subsection_breaks() -> None:
    new = device(field("a"), subsections=(described("dev/b", field("b", 8)),))
    assert (Kind.FIELD_MOVED, "b", BREAKS, BREAKS) in told(device(field("a"), field("b", 8)), new)


def test_another_size_breaks_both_ways() -> None:
    assert told(device(field("a", 4)), device(field("a", 8))) == [
        (Kind.FIELD_SIZE, "a", BREAKS, BREAKS)
    ]


def test_another_array_length_breaks_where_both_sides_tell_it() -> None:
    old, new = device(field("a", 4, num=4)), device(field("a", 4, num=5))
    assert told(old, new) == [(Kind.FIELD_SIZE, "a", BREAKS, BREAKS)]


def test_before_8_1_no_array_length_is_told() -> None:
    assert told(device(field("a", 4)), device(field("a", 4, num=5))) == []


def test_a_buffer_may_become_an_array_of_bytes() -> None:
    old, new = (
        device(field("a", 16), field("b", 1, num=2)),
        device(field("a", 1, num=16), field("b", 1, num=2)),
    )
    assert told(old, new) == []


def test_the_version_of_a_nested_struct_is_not_on_the_wire() -> None:
    def nested(version: int) -> Json:
        return device(field("s", struct=described("s", field("x"), version=version)))

    assert told(nested(1), nested(2)) == [(Kind.VERSION, "", HARMLESS, HARMLESS)]


def test_a_field_of_a_nested_struct_is_read_whatever_its_version() -> None:
    old = device(field("s", struct=described("s", field("x"), version=1)))
    new = device(field("s", struct=described("s", field("x"), field("y", version=2), version=2)))
    assert (Kind.FIELD_ADDED, "y", BREAKS, BREAKS) in told(old, new)


# The same bytes


def test_a_wrapping_struct_leaves_the_bytes_alone() -> None:
    plain = device(field("a"), field("b", 8), field("c"))
    inner = described("s", field("a"), field("b", 8))
    wrapped = device(field("s", 16, struct=inner), field("c"))
    assert told(plain, wrapped) == [(Kind.STRUCT_WRAPPED, "s", HARMLESS, HARMLESS)]
    assert told(wrapped, plain) == [(Kind.STRUCT_OPENED, "s", HARMLESS, HARMLESS)]


def test_a_wrapping_struct_with_a_field_too_many_breaks() -> None:
    inner = described("s", field("a"), field("b", 8), field("more", 2))
    found = findings(device(field("a"), field("b", 8)), device(field("s", 16, struct=inner)))
    assert {finding.severity for finding in found} == {BREAKS}


@pytest.mark.parametrize("parts", [[8], [4, 4], [1, 2, 1, 4]])
def test_padding_of_the_same_size_leaves_the_bytes_alone(parts: list[int]) -> None:
    fields = [field(f"f{number}", size) for number, size in enumerate(parts)]
    old = device(field("a"), *fields, field("z"))
    new = device(field("a"), field("unused", 8), field("z"))
    for first, second in permutations((old, new)):
        found = findings(first, second)
        assert [f.kind for f in found] == [Kind.PADDING] * len(parts)
        assert {f.severity for f in found} == {HARMLESS}


def test_padding_of_another_size_breaks() -> None:
    found = findings(
        device(field("b", 8), field("c", num=2)), device(field("unused", 6), field("c", num=2))
    )
    assert {finding.severity for finding in found} == {BREAKS}


def test_padding_for_an_array_of_untold_length_may_break() -> None:
    assert told(device(field("pending", 1)), device(field("unused", 5))) == [
        (Kind.PADDING, "pending", MAY_BREAK, MAY_BREAK)
    ]


# Versions, subsections


def test_a_newer_version_is_refused() -> None:
    assert told(device(version=1), device(version=2)) == [(Kind.VERSION, "", HARMLESS, BREAKS)]


def test_an_older_version_than_the_minimum_is_refused() -> None:
    old, new = device(version=1, minimum=1), device(version=2, minimum=2)
    assert (Kind.MINIMUM_VERSION, "", BREAKS, HARMLESS) in told(old, new)


def test_a_subsection_breaks_only_when_it_is_sent_to_a_side_without_it() -> None:
    more = device(field("a"), subsections=(described("dev/more", field("x")),))
    less = device(field("a"))
    assert told(less, more) == [(Kind.SUBSECTION_ADDED, "dev/more", HARMLESS, MAY_BREAK)]
    assert told(more, less) == [(Kind.SUBSECTION_REMOVED, "dev/more", MAY_BREAK, HARMLESS)]


def test_a_renamed_subsection_may_break_both_ways() -> None:
    old = device(subsections=(described("dev/a", field("x")),))
    new = device(subsections=(described("dev/b", field("x")),))
    assert told(old, new) == [(Kind.SUBSECTION_RENAMED, "dev/a", MAY_BREAK, MAY_BREAK)]


def test_the_version_of_a_subsection_is_on_the_wire() -> None:
    def with_sub(version: int) -> Json:
        return device(subsections=(described("dev/a", field("x"), version=version),))

    assert told(with_sub(1), with_sub(2)) == [(Kind.VERSION, "", HARMLESS, BREAKS)]


# Devices


def kinds(old: dict[str, Json], new: dict[str, Json]) -> list[tuple[Kind, Any, Any, Severity]]:
    report = schema_diff(schema(**old), schema(**new))
    return [(f.kind, f.old, f.new, f.severity) for f in report.findings]


def test_a_device_of_one_side_breaks_towards_the_other() -> None:
    report = schema_diff(schema(a=described("a", field("x"))), schema())
    (finding,) = report.findings
    assert (finding.old_to_new, finding.new_to_old) == (BREAKS, HARMLESS)
    assert report.breaks(Direction.OLD_TO_NEW)
    assert not report.breaks(Direction.NEW_TO_OLD)


def test_a_type_whose_state_keeps_its_name_is_renamed() -> None:
    state = described("ICH9LPC", field("a"))
    assert kinds({"ICH9 LPC": state}, {"ICH9-LPC": state}) == [
        (Kind.DEVICE_RENAMED, "ICH9 LPC", "ICH9-LPC", HARMLESS)
    ]


def test_a_type_of_the_same_fields_under_another_name_on_the_wire_breaks() -> None:
    fields = [field("a"), field("b", 2), field("c", 8)]
    found = kinds({"old": described("old", *fields)}, {"new": described("new", *fields)})
    assert found == [
        (Kind.DESCRIPTION_RENAMED, "old", "new", BREAKS),
        (Kind.DEVICE_RENAMED, "old", "new", HARMLESS),
    ]


def test_small_devices_are_alike_by_chance() -> None:
    found = kinds(
        {"a": described("a", field("virtio", 0))}, {"b": described("b", field("virtio", 0))}
    )
    assert [kind for kind, *_ in found] == [Kind.DEVICE_REMOVED, Kind.DEVICE_ADDED]


def test_a_difference_in_a_shared_struct_is_told_once_with_every_place() -> None:
    def both(size: int) -> dict[str, Json]:
        inner = described("PCIDevice", field("config", size))
        return {
            name: described(name, field("parent_obj", struct=inner)) for name in ("e1000", "nvme")
        }

    (finding,) = schema_diff(schema(**both(256)), schema(**both(4096))).findings
    assert finding.places == (
        Place("e1000", "parent_obj.config"),
        Place("nvme", "parent_obj.config"),
    )


def test_the_gravest_findings_come_first() -> None:
    old = device(field("a"), field("b"), version=1)
    new = device(field("a", 8), field("b", conditional=True), version=2)
    ranks = [finding.severity.rank for finding in findings(old, new)]
    assert ranks == sorted(ranks, reverse=True)


# Real schemas, and any

needs_schemas = pytest.mark.skipif(len(RECORDED) < 2, reason="no recorded schemas")


@needs_schemas
@pytest.mark.parametrize("name", RECORDED)
def test_a_schema_does_not_differ_from_itself(name: str) -> None:
    declared = read_schema(RECORDED[name])
    report = schema_diff(declared, declared)
    assert report.identical == report.devices == len(declared.devices)
    assert not report.findings


@needs_schemas
def test_an_added_device_breaks_the_way_a_removed_one_does_turned_round() -> None:
    names = sorted(RECORDED)
    for old, new in pairwise(names):
        first, second = read_schema(RECORDED[old]), read_schema(RECORDED[new])
        there, back = schema_diff(first, second), schema_diff(second, first)
        removed = [f.old for f in there.findings if f.kind is Kind.DEVICE_REMOVED]
        added = [f.new for f in back.findings if f.kind is Kind.DEVICE_ADDED]
        assert sorted(map(str, removed)) == sorted(map(str, added))


NAMES = st.sampled_from(["a", "b", "c.a", "unused", "config"])
SIZES = st.sampled_from([0, 1, 2, 4, 8, 24])


def fields_of(structs: st.SearchStrategy[Json | None]) -> st.SearchStrategy[Json]:
    return st.builds(
        field,
        NAMES,
        SIZES,
        num=st.none() | st.integers(2, 4),
        version=st.integers(0, 3),
        conditional=st.booleans(),
        struct=structs,
    )


def descriptions(fields: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.builds(
        lambda name, items, version, subs: described(
            name,
            *items,
            version=version,
            minimum=min(version, 1),
            subsections=tuple(described(f"sub {sub}", field(sub)) for sub in subs),
        ),
        st.sampled_from(["s", "t"]),
        st.lists(fields, max_size=6),
        st.integers(0, 3),
        st.lists(NAMES, max_size=2, unique=True),
    )


FLAT = descriptions(fields_of(st.none()))
NESTED = descriptions(fields_of(st.none() | FLAT))


@given(NESTED, NESTED)
def test_turned_round_the_same_things_break(old: Json, new: Json) -> None:
    there = schema_diff(schema(dev=old), schema(dev=new))
    back = schema_diff(schema(dev=new), schema(dev=old))
    for direction, other in permutations(Direction):
        assert there.breaks(direction) == back.breaks(other)


@given(NESTED)
def test_no_description_differs_from_itself(description: Json) -> None:
    assert findings(description, description) == []


@given(NESTED, st.data())
def test_a_field_more_is_never_harmless_to_both(description: Json, data: Any) -> None:
    fields = list(description["Fields"])
    place = data.draw(st.integers(0, len(fields)))
    more = {**description, "Fields": [*fields[:place], field("new", 16), *fields[place:]]}
    report = schema_diff(schema(dev=description), schema(dev=more))
    assert any(finding.severity is not HARMLESS for finding in report.findings)

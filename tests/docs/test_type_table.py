"""The table of types says what the code does, and has every type of the recorded streams."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

from corpus import REPOSITORY, Case, over_cases
from opened import open_case
from vmstream import vmstate
from vmstream.vmstate import declare
from vmstream.vmstate.decode import CONTAINERS, decode
from vmstream.vmstate.description import Description, Field
from vmstream.vmstate.values import _CONVERTERS, INTEGERS, Scalar, convert

PAGE = (REPOSITORY / "docs" / "type-table.md").read_text()
HEADERS = ("| word |", "| type |", "| macro |")


def rows(header: str) -> Iterator[list[str]]:
    """Cells of a table, whose code spans are told by their backticks."""
    _, _, table = PAGE.partition(f"\n{header}")
    for line in table.splitlines()[2:]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


def code(cell: str) -> str:
    return cell.strip("`")


class Item(vmstate.State, name="item"):
    a: int = vmstate.uint16()


class Part(vmstate.State, name="toy/part", version=3):
    a: int = vmstate.uint16()


def put(parent: Any, made: Any) -> None:
    made.a = 7


def get(parent: Any, made: Any) -> None:
    assert made.a == 7


NAMES = {
    **{word: getattr(declare, word) for word in declare.__all__},
    **{"Item": Item, "Part": Part, "put": put, "get": get, "holds": lambda state, version: True},
}
WORDS = list(rows("| word |"))


@pytest.mark.parametrize("row", WORDS, ids=lambda row: code(row[2]))
def test_an_example_is_what_the_code_does(row: list[str]) -> None:
    example, wanted, wire, type_ = map(code, row[2:6])

    class Toy(vmstate.State, name="toy"):
        n: int = vmstate.uint8()
        value: Any = eval(example, NAMES)  # an expression of the page

    value = eval(wanted, NAMES)
    state = Toy(n=2, value=value)
    data, description = vmstate.save_described(state)
    assert data == b"\2" + bytes.fromhex(wire)
    assert [field.type for field in description.fields[1:]] == ([type_] if type_ else [])
    decoded = decode(description, data, size=len(data))
    assert decoded.exact
    if type_ in INTEGERS or type_ in ("bool", "float64", "bitmap"):
        assert np.array_equal(decoded.value["value"], value)
    again = Toy(n=2)
    if isinstance(value, list) and "pointers" in example:
        again.value = [None if item is None else Item() for item in value]
    vmstate.load(again, data)
    assert again.value == value


def test_every_word_has_a_row() -> None:
    named = [code(row[0]) for row in WORDS if row[0]]
    assert sorted(named) == sorted(declare.__all__)
    assert all(
        code(row[2]).startswith(name) for name, row in zip(_filled(WORDS), WORDS, strict=True)
    )


def _filled(table: list[list[str]]) -> list[str]:
    """The first column, empty cells being the one above."""
    names: list[str] = []
    for row in table:
        names.append(code(row[0]) or names[-1])
    return names


@cache
def sizes() -> dict[str, set[int] | None]:
    """Every type on the page with the bytes that it may have; None where they vary."""
    known: dict[str, set[int] | None] = {}
    for row in WORDS:
        type_ = code(row[5])
        number = len(bytes.fromhex(code(row[4])))
        known[type_] = {number} if type_ in INTEGERS or type_ in ("bool", "float64") else None
    known["uint16"] = {2}  # its last example is an array
    for row in rows("| type |"):
        found = re.fullmatch(r"[\d, ]+", row[1])
        known[code(row[0])] = {int(size) for size in row[1].split(",")} if found else None
    return known


def test_types_that_are_decoded_stand_on_the_page_with_their_size() -> None:
    known = sizes()
    assert {"bool", "float64", "CPU_Double_U", "bitmap", "gtree", *CONTAINERS} <= known.keys()
    assert _CONVERTERS.keys() - {"schema"} <= known.keys()
    for name, (size, _) in INTEGERS.items():
        assert known[name] == {size}


def test_types_without_a_word_are_decoded_as_the_page_says() -> None:
    for row in rows("| type |"):
        raw = memoryview(b"\x03abc" if code(row[0]) == "capability" else b"0000")
        kind = {"None": type(None), "str": str, "bytes": bytes}[row[3]]
        assert isinstance(convert(code(row[0]), raw), kind), row[0]
        assert isinstance(Scalar(code(row[0]), 0, raw).value, kind)


def fields(description: Description) -> Iterator[tuple[Description, Field]]:
    for field in description.fields:
        yield description, field
        for inside in (field.struct, *field.elements):
            if inside is not None:
                yield from fields(inside)
    for part in description.subsections:
        yield from fields(part)


@over_cases()
def test_every_type_of_a_recorded_stream_is_on_the_page(case: Case) -> None:
    stream = open_case(case)
    if stream.description is None:
        pytest.skip("the stream has no description")
    known = sizes()
    made = {code(row[1]): code_fields(row[2]) for row in rows("| macro |")}
    descriptions = [device.description for device in stream.description.devices]
    if stream.description.configuration is not None:
        descriptions.append(stream.description.configuration)
    for description in descriptions:
        for owner, field in fields(description):
            assert field.type in known, (owner.name, field)
            allowed = known[field.type]
            assert allowed is None or field.size in allowed, (owner.name, field)
            if owner.name in made:
                found = [(entry.name.partition("[")[0], entry.type) for entry in owner.fields]
                assert found == made[owner.name], owner.name


def code_fields(cell: str) -> list[tuple[str, str]]:
    """Name and type of each field that a cell lists."""
    return re.findall(r"`([^`]+)` ([^,]+)", cell)

"""Recipes: found, refused when they are none, and what they mend."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus import REPOSITORY, Case, case_named, over_cases
from destinations import command_of, given_whole
from editing import bytes_of, edited
from opened import open_case
from vmstream.tools.edits.recipes import find_recipe, parse_recipe, require, shipped
from vmstream.tools.edits.records import AnyEdit, EditError, Rename, RenameBlock

PC = case_named("pc-7.2")


def test_recipes_are_found_by_name_and_say_what_they_are_for() -> None:
    assert set(shipped()) == set(MENDED.values())
    for name, recipe in shipped().items():
        assert find_recipe(name) == recipe
        assert recipe.title
        assert recipe.why
        assert recipe.applies_to.source
    with pytest.raises(EditError, match="there are"):
        find_recipe("no-such-recipe")


MENDED = {
    "pair-fail-config-missing-10.0.2": "configuration-pc-q35-7.2",
    "pair-fail-2.3.1-to-10.0.2": "pc-i440fx-2.3-to-2.4",
    "pair-fail-footer-mismatch-7.2": "footers",
    "pair-fail-device-missing-virtio-rng-7.2": "without-virtio-rng",
    "pair-fail-x-ignore-shared-cap-10.0.2": "without-x-ignore-shared",
    "pair-fail-x-pcie-err-unc-mask-10.0.2-to-7.2": "pcie-root-port-error-mask",
    "pair-fail-cpu-max-to-486-10.0.2": "without-local-apic",
    "pair-fail-acpi-off-7.2": "pc-without-acpi",
    "pair-fail-smp-more-at-source-7.2": "two-of-four-cpus",
}
EDITED: dict[str, AnyEdit] = {
    "pair-fail-ram-block-name-7.2": RenameBlock("abc", "pc.ram"),
    "pair-fail-device-slot-7.2": Rename("0000:00:05.0/virtio-rng", "0000:00:06.0/virtio-rng"),
}


@pytest.fixture
def qemus(qemu72: Path, qemu100: Path) -> dict[str, Path]:
    return {"7.2": qemu72, "10.0.2": qemu100}


@over_cases(lambda case: case.name in MENDED or case.name in EDITED)
@pytest.mark.interop
def test_what_was_refused_loads(case: Case, qemus: dict[str, Path], tmp_path: Path) -> None:
    words = command_of(case, qemus[case.destination["version"]], tmp_path)
    before = open_case(case)
    refused = given_whole(words, bytes_of(before))
    assert refused.loaded is False
    edits = (EDITED[case.name],) if case.name in EDITED else shipped()[MENDED[case.name]].edits
    after = edited(before, tmp_path, *edits)
    mended = given_whole(words, bytes_of(after))
    assert mended.loaded is True, mended.messages


HOSTILE = [
    b"title='t'\nwhy='w'\n[applies_to]\nsource='a'\ndestination='b'\n"
    b"[[edits]]\nedit='add-subsection'\ntarget='a:0/b'\nsource='http://x/y'",
    b"",
    b"\xff\xfe",
    b"title = 1",
    b"[[edits]]\nedit = 'set'",
    b"title='t'\nwhy='w'\nedits=[]\n[applies_to]\nsource='a'\ndestination='b'",
    b"title='t'\nwhy='w'\n[applies_to]\nsource='a'\ndestination='b'\n[[edits]]\nedit='rm -rf'",
    b"title='t'\nwhy='w'\n[applies_to]\nsource='a'\ndestination='b'\n"
    b"[[edits]]\nedit='poke'\naddress='0'\ndata='00'\nextra=1",
    b"title='t'\nwhy='w'\n[applies_to]\nsource='a'\ndestination='b'\n"
    b"[[edits]]\nedit='set'\ntarget='a:0/b'\nvalue=1979-05-27",
    b"a = " + b"[" * 100_000,
    b"a = " + b"{a=" * 20_000,
    b"title = '" + b"x" * (1 << 20) + b"'",
    b"a = " + b"9" * 100_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_recipe_is_refused(text: bytes) -> None:
    with pytest.raises(EditError):
        parse_recipe(text, "hostile.toml")


@given(st.binary(max_size=400))
def test_any_bytes_are_a_recipe_or_refused(text: bytes) -> None:
    try:
        parse_recipe(text, "any.toml")
    except EditError:
        return
    raise AssertionError(text)


def test_the_recipes_of_the_documentation_are_recipes() -> None:
    text = (REPOSITORY / "docs" / "recipes.md").read_text()
    examples = re.findall(r"```toml\n(.*?)```", text, re.S)
    assert len(examples) == 2
    for example in examples:
        assert parse_recipe(example.encode(), "example").edits
    assert all(f"| `{name}` |" in text for name in shipped())


def test_a_recipe_takes_subsections_from_beside_itself(tmp_path: Path) -> None:
    (tmp_path / "lender.mig").write_bytes(PC.main.read_bytes())
    name = list(open_case(PC).devices["cpu:0"].decoded.value.subsections)[-1]
    (tmp_path / "r.toml").write_text(
        "title='t'\nwhy='w'\n[applies_to]\nsource='a'\ndestination='b'\n"
        f"[[edits]]\nedit='drop-subsection'\ntarget='cpu:0/{name}'\n"
        f"[[edits]]\nedit='add-subsection'\ntarget='cpu:0/{name}'\nsource='lender.mig'\n"
    )
    after = edited(open_case(PC), tmp_path, *find_recipe(str(tmp_path / "r.toml")).edits)
    assert bytes_of(after) == bytes_of(open_case(PC))


def test_a_recipe_is_for_its_machine() -> None:
    recipe = shipped()["pcie-root-port-error-mask"]
    with pytest.raises(EditError, match="is for machines like pc-q35"):
        require(recipe, open_case(PC), "pcie-root-port-error-mask")

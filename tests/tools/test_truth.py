"""Every recorded stream against what was known of its guest independently."""

from __future__ import annotations

import json
from itertools import pairwise

from corpus import Case, over_cases
from opened import open_case
from vmstream.render.json import dump
from vmstream.render.show_json import plain
from vmstream.tools.inspect import inspect
from vmstream.tools.show import show
from vmstream.tools.verify import verify

INCOMPLETE = {"cancelled-7.2"}
KEYS = {
    "file", "source", "version", "machine", "page_size", "capabilities", "complete",
    "has_description", "ram", "devices", "sections", "iterations", "warnings",
}  # fmt: skip


def is_whole(case: Case) -> bool:
    return case.name not in INCOMPLETE


@over_cases(is_whole)
def test_verify_finds_every_whole_stream_sound(case: Case) -> None:
    report = verify(open_case(case))
    broken = {c.name: c.findings[:2] for c in report.checks if c.held is False}
    assert not broken
    assert report.sound


@over_cases()
def test_blocks_and_sizes_are_those_of_the_guest(case: Case) -> None:
    report = inspect(open_case(case))
    sent = {block.name: block.size for block in report.ram.blocks}
    for name, facts in case.truth.get("ram_blocks", {}).items():
        if name in sent:
            assert sent[name] == facts.get("used", facts["size"]), name
    assert report.page_size


@over_cases(lambda case: is_whole(case) and "query_migrate" in case.truth)
def test_pages_are_as_many_as_the_source_counted(case: Case) -> None:
    """Where QEMU counts records: not XBZRLE, nor mapped pages that are written again."""
    counted = case.truth["query_migrate"].get("ram", {})
    report = inspect(open_case(case))
    odd = {"compress", "mapped-ram", "multifd"} & {*report.capabilities, *case.capabilities}
    if odd or "normal" not in counted:
        return
    assert sum(block.pages.normal for block in report.ram.blocks) == counted["normal"]
    assert sum(block.pages.zero for block in report.ram.blocks) == counted["duplicate"]


@over_cases(is_whole)
def test_sections_follow_each_other_without_a_gap(case: Case) -> None:
    sections = [s for s in open_case(case).sections if not s.packaged]
    for before, after in pairwise(sections):
        assert before.offset + before.size <= after.offset
        assert before.size >= before.body_size


@over_cases()
def test_inspect_json_has_what_was_promised(case: Case) -> None:
    report = json.loads(dump(inspect(open_case(case))))
    assert set(report) >= KEYS
    assert report["complete"] is is_whole(case)
    for block in report["ram"]["blocks"]:
        assert set(block["pages"]) == {
            "zero", "normal", "xbzrle", "compressed", "multifd", "mapped"
        }  # fmt: skip


@over_cases(is_whole)
def test_every_described_device_decodes_to_its_last_byte(case: Case) -> None:
    stream = open_case(case)
    for device in stream.devices:
        if device.described:
            assert device.decoded is not None
            assert device.decoded.exact, device.key
    shown = json.loads(dump(plain(show(stream), raw=False, full=True)))
    assert len(shown) == len(stream.devices)


@over_cases(lambda case: is_whole(case) and bool(case.truth.get("ram_blocks")))
def test_memory_is_what_the_guest_had(case: Case) -> None:
    stream = open_case(case)
    if "RAM truth of source.json was taken earlier" in case.truth.get("notes", ""):
        return
    checked = 0
    for name, facts in case.truth["ram_blocks"].items():
        if "sha256" in facts and name in stream.memory and not stream.memory[name].elsewhere:
            assert stream.memory[name].hash() == facts["sha256"], name
            checked += 1
    assert checked or not any("sha256" in facts for facts in case.truth["ram_blocks"].values())

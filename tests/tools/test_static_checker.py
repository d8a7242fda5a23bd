"""Beside QEMU's ``scripts/vmstate-static-checker.py``: everything it reports is a finding of ours.

``VMSTREAM_STATIC_CHECKER`` names a copy (of QEMU 5.0 or later: Python 3); without
it these tests are skipped. All pairs of machines, and not only one of each QEMU, run with
``--slow``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest

from corpus import schemas
from vmstream.tools.schema import read_schema
from vmstream.tools.schema_diff import Finding, Kind, schema_diff

SCRIPT = os.environ.get("VMSTREAM_STATIC_CHECKER")
X86_64 = {name: path for name, path in schemas().items() if "-x86_64-" in name}
ONE_EACH = sorted(name for name in X86_64 if name.endswith(("-pc", "4.2.1-x86_64-pc-i440fx-4.2")))

pytestmark = [
    pytest.mark.skipif(SCRIPT is None, reason="no copy of vmstate-static-checker.py"),
    pytest.mark.skipif(len(X86_64) < 2, reason="no recorded schemas"),
]

FIELD_KINDS = {
    Kind.FIELD_REMOVED,
    Kind.FIELD_ADDED,
    Kind.FIELD_RENAMED,
    Kind.FIELD_MOVED,
    Kind.FIELD_SIZE,
    Kind.FIELD_TYPE,
    Kind.FIELD_VERSION,
    Kind.CONDITION,
    Kind.STRUCT_OPENED,
    Kind.STRUCT_WRAPPED,
    Kind.PADDING,
}
COMPLAINTS = {
    r"does not exist in dest": {Kind.DEVICE_REMOVED, Kind.DEVICE_RENAMED},
    r'expected field "(?P<field>.*)", got "(?P<other>.*)"; skipping rest': FIELD_KINDS,
    r'expected field "(?P<field>.*)", while dest has no further fields': FIELD_KINDS,
    r'unused size mismatch near " ?(?P<field>.*)"': FIELD_KINDS,
    r'Field "(?P<field>.*)": missing description': FIELD_KINDS,
    r'Field "(?P<field>.*)" size mismatch: .*': FIELD_KINDS,
    r'missing, got "(?P<other>.*)" instead; skipping': {Kind.DESCRIPTION_RENAMED},
    r'Entry "Subsections" missing': {Kind.SUBSECTION_REMOVED, Kind.SUBSECTION_RENAMED},
    r'Entry "Fields" missing': {Kind.FIELD_REMOVED},
    r'Subsection "(?P<field>.*)" not found': {Kind.SUBSECTION_REMOVED, Kind.SUBSECTION_RENAMED},
    r"version error: .*": {Kind.VERSION, Kind.FIELD_VERSION},
    r"minimum version error: .*": {Kind.VERSION, Kind.MINIMUM_VERSION},
}
SUBJECT = re.compile(r'(?:Section "[^"]*" )?Section "(?P<device>[^"]*)"[:,]?')
DESCRIPTION = re.compile(r'Description "(?P<description>[^"]*)"[:,]?')


def complaints(old: Path, new: Path) -> list[str]:
    """What the script says of the move from ``old`` to ``new``."""
    command = [sys.executable, str(SCRIPT), "-s", str(old), "-d", str(new)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return [line for line in said.splitlines() if not line.startswith("Warning: ")]


def covers(finding: Finding, line: str) -> bool:
    """Whether a finding tells what a line of the script tells."""
    subject = SUBJECT.match(line)
    assert subject is not None, line
    rest = line[subject.end() :].strip()
    description = DESCRIPTION.match(rest)
    if description is not None:
        rest = rest[description.end() :].strip()
        if finding.description != description["description"]:
            return False
    if subject["device"] not in {place.device for place in finding.places}:
        return False
    for pattern, kinds in COMPLAINTS.items():
        complaint = re.fullmatch(pattern, rest)
        if complaint is not None:
            if finding.kind is Kind.PADDING and "skipping rest" in rest:
                # The script takes an array for one element where padding took its
                # place, and complains of the next field.
                return True
            names = set(complaint.groupdict().values())
            told = {finding.field, finding.old, finding.new}
            return finding.kind in kinds and (not names or bool(names & told))
    raise AssertionError(f"a complaint of no known kind: {line}")


def pairs(names: list[str]) -> list[tuple[str, str]]:
    return list(permutations(names, 2))


def check(old: str, new: str) -> None:
    findings = schema_diff(read_schema(X86_64[old]), read_schema(X86_64[new])).findings
    for line in complaints(X86_64[old], X86_64[new]):
        assert any(covers(finding, line) for finding in findings), line


@pytest.mark.parametrize(("old", "new"), pairs(ONE_EACH))
def test_every_complaint_between_versions_is_a_finding(old: str, new: str) -> None:
    check(old, new)


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new"), pairs(sorted(X86_64)))
def test_every_complaint_between_machines_is_a_finding(old: str, new: str) -> None:
    check(old, new)

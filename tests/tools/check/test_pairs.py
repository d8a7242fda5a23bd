"""Verdicts on recorded pairs, at each level, beside what came of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from corpus import Case, over_cases
from destinations import TRUTH, command_of
from opened import open_case
from vmstream.engine.own_stream import own_stream
from vmstream.tools.check.check import CheckReport, check
from vmstream.tools.findings import Severity
from vmstream.tools.open import open_stream
from vmstream.tools.schema import read_schema

CODES = {
    "7.2-to-2.12.1": "subsection-unknown",
    "newer-2.12.1-to-2.3.1": "section-type",
    "newer-machine-type": "machine-type",
    "machine-type": "machine-type",
    "send-configuration": "section-type",
    "no-config-newer-7.2-to-5.2": "subsection-unknown",
    "newer-content": "subsection-unknown",
    "no-config-newer-4.2.1": "field-layout",
    "property-e1000": "subsection-unknown",
}
"""Finding that names the cause, by part of the case's name, where a schema tells it."""


def _never_wrong(report: CheckReport, case: Case) -> None:
    truth = TRUTH[case.destination["outcome"]]
    assert report.verdict in ("unknown", truth), report.findings


@over_cases(lambda case: case.is_pair)
def test_a_schema_is_never_wrong(case: Case) -> None:
    schema = read_schema(case.folder.parent / case.destination["schema"])
    report = check(open_case(case), schema=schema, capabilities=case.destination["capabilities"])
    _never_wrong(report, case)
    expected = next((code for part, code in CODES.items() if part in case.name), None)
    if expected is not None:
        assert report.verdict == "fails"
        assert expected in {finding.code for finding in report.findings}


@over_cases(lambda case: not case.is_pair and bool(case.truth.get("schema")))
def test_a_stream_breaks_nothing_in_the_schema_of_its_own_qemu(case: Case) -> None:
    schema = read_schema(case.folder.parent / case.truth["schema"])
    report = check(open_case(case), schema=schema)
    broken = [finding for finding in report.findings if finding.severity is Severity.BREAKS]
    assert not broken


@pytest.fixture
def qemus(qemu72: Path, qemu100: Path) -> dict[str, Path]:
    return {"7.2": qemu72, "10.0.2": qemu100}


@over_cases(lambda case: case.is_pair and case.destination["version"] in ("7.2", "10.0.2"))
@pytest.mark.interop
def test_the_destinations_stream_and_the_destination_are_never_wrong(
    case: Case, qemus: dict[str, Path], tmp_path: Path
) -> None:
    words = command_of(case, qemus[case.destination["version"]], tmp_path)
    capabilities = case.destination["capabilities"]
    with open_stream(own_stream(words)) as other:
        _never_wrong(check(open_case(case), other=other, capabilities=capabilities), case)
    report = check(open_case(case), qemu=words, capabilities=capabilities)
    assert report.verdict == TRUTH[case.destination["outcome"]]
    if report.verdict == "fails":
        assert report.findings[0].severity is Severity.BREAKS

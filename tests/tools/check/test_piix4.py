"""The classic: two layouts of piix4_pm, of which QEMU says only that a footer is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corpus import case_named, schemas
from opened import open_case
from vmstream.engine.own_stream import own_stream
from vmstream.tools.check.against import check_against
from vmstream.tools.check.dry_run import dry_run
from vmstream.tools.check.static import check_schema, uncertain
from vmstream.tools.findings import Severity
from vmstream.tools.open import open_stream
from vmstream.vmstate.schema import Schema, parse_schema

DEVICE = "0000:00:01.3/piix4_pm"
FIELD = "acpi_pci_hotplug.acpi_index"
WITHOUT = ["-global", "PIIX4_PM.x-not-migrate-acpi-index=on"]


def _older_schema() -> Schema:
    """The schema of a QEMU before 6.0: without the field."""
    text = json.loads(schemas()["7.2-x86_64-pc"].read_bytes())
    fields = text["PIIX4_PM"]["Description"]["Fields"]
    text["PIIX4_PM"]["Description"]["Fields"] = [f for f in fields if f["field"] != FIELD]
    return parse_schema(json.dumps(text).encode())


def test_the_schema_of_a_destination_without_the_field_names_it() -> None:
    stream = open_case(case_named("pc-7.2"))
    [finding] = check_schema(stream, _older_schema())
    assert (finding.device, finding.field) == (f"{DEVICE}:0", FIELD)
    assert finding.severity is Severity.BREAKS
    assert finding.qemu_text == f"Missing section footer for {DEVICE}"
    assert "x-not-migrate-acpi-index=on" in (finding.remedy or "")
    value = stream.devices[DEVICE, 0].decoded
    assert value is not None
    assert finding.offset == value.value.at(FIELD).offset


def test_the_schema_of_the_same_qemu_says_that_a_condition_decides() -> None:
    stream = open_case(case_named("pc-7.2"))
    schema = parse_schema(schemas()["7.2-x86_64-pc"].read_bytes())
    assert check_schema(stream, schema) == []
    assert FIELD in {finding.field for finding in uncertain(stream, schema, DEVICE)}


@pytest.mark.interop
@pytest.mark.parametrize("sent", [True, False], ids=["sent, not read", "read, not sent"])
def test_two_properties_at_one_release(qemu72: Path, sent: bool) -> None:
    plain = [str(qemu72), "-M", "pc", "-m", "16", "-net", "none"]
    source, destination = (plain, [*plain, *WITHOUT])[:: 1 if sent else -1]
    with open_stream(own_stream(source)) as stream, open_stream(own_stream(destination)) as other:
        [finding] = check_against(stream, other)
        given = dry_run(stream, destination)
    assert (finding.device, finding.field) == (f"{DEVICE}:0", FIELD)
    assert finding.severity is Severity.BREAKS
    assert given.loaded is False
    assert f"Missing section footer for {DEVICE}" in given.messages

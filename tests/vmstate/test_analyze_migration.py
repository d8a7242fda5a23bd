"""Field by field beside QEMU's ``scripts/analyze-migration.py``, where a copy is at hand.

``VMSTREAM_ANALYZE_MIGRATION`` names the copy; without it these tests are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recorded import CASES, description_text, read, sections
from vmstream.vmstate.decode import decode
from vmstream.vmstate.values import Array, List, Scalar, Struct, Value
from vmstream.vmstate.vmdesc import parse

SCRIPT = os.environ.get("VMSTREAM_ANALYZE_MIGRATION")

EQUAL = ("int32 equal", "int64 equal", "uint8 equal", "uint16 equal")
SIGNED = frozenset({"int8", "int16", "int32", "int64", "int32 le", *EQUAL})
"""Types that the script prints as signed numbers, rightly or not."""
UNSIGNED = frozenset(["uint8", "uint16", "uint32", "uint64", "uint32 equal"])

pytestmark = [
    pytest.mark.skipif(SCRIPT is None, reason="no copy of analyze-migration.py"),
    pytest.mark.skipif(not CASES, reason="no recorded streams"),
]


def as_script(value: Value, type_: str) -> Any:
    """A value in the script's words."""
    if isinstance(value, Array):
        return [as_script(item, type_) for item in value]
    if isinstance(value, Scalar):
        return scalar_as_script(value)
    if isinstance(value, List) and value.type == "array":
        return [as_script(item, type_) for item in value]
    if isinstance(value, Struct) and type_ == "struct":
        return struct_as_script(value)
    return bytes(value.raw).hex(" ")


def scalar_as_script(value: Scalar) -> Any:
    content = value.value
    if value.type in SIGNED | UNSIGNED:
        bits = 8 * len(value.raw)
        number = content % (1 << bits)
        text = f"0x{number:0{bits // 4}x}"
        negative = value.type in SIGNED and number >> (bits - 1)
        return f"{text} ({number - (1 << bits)})" if negative else text
    if value.type == "bool":
        return content
    if value.type == "nullptr":
        return "nullptr"
    return bytes(value.raw).hex(" ")


def struct_as_script(value: Struct) -> dict[str, Any]:
    types = {field.name: field.type for field in value.description.fields}
    shown = {name: as_script(member, types[name]) for name, member in value.members.items()}
    for name, subsection in value.subsections.items():
        shown[name] = struct_as_script(subsection)
    return shown


@pytest.mark.parametrize("case", CASES)
def test_every_field_agrees_with_the_script(case: str, tmp_path: Path) -> None:
    data = read(case)
    text = description_text(data)
    if text is None:
        pytest.skip("the stream has no description")
    path = tmp_path / "stream"
    path.write_bytes(data)
    assert SCRIPT is not None
    run = subprocess.run(
        [sys.executable, SCRIPT, "-f", str(path)], capture_output=True, text=True, check=False
    )
    if run.returncode:
        pytest.skip("the script cannot read this stream")
    theirs = json.loads(run.stdout)
    compared = 0
    for section in sections(data, parse(text)):
        body = memoryview(data)[section.offset : section.offset + section.size]
        ours = decode(section.device.description, body, section.offset, size=section.size)
        section_id = int.from_bytes(
            data[section.offset - 13 - len(section.device.name.encode()) :][:4], "big"
        )
        key = f"{section.device.name} ({section_id})"
        assert struct_as_script(ours.value) == theirs.pop(key), key
        compared += 1
    assert compared > 0
    assert all(key.startswith(("ram (", "dirty-bitmap (", "block (")) for key in theirs)

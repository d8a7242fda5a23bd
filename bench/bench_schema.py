"""Comparing schemas: reading both and telling every difference.

``VMSTREAM_STATIC_CHECKER`` may name a copy of QEMU's
``scripts/vmstate-static-checker.py``, which is then measured beside it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from corpus import schemas
from figures import Figures
from measuring import Measure
from vmstream.tools.schema import read_schema
from vmstream.tools.schema_diff import SchemaDiff, schema_diff

Benchmark = Any

ROUNDS = 20
DIFF_LIMIT = 0.1
"""Seconds for the two largest schemas, from bytes to the report."""


def compare(old: Path, new: Path) -> SchemaDiff:
    """From files to the report."""
    return schema_diff(read_schema(old), read_schema(new))


def largest() -> tuple[Path, Path]:
    """The two largest schemas at hand."""
    paths = sorted(schemas().values(), key=lambda path: path.stat().st_size)
    return paths[-1], paths[-2]


def most_different() -> tuple[Path, Path]:
    """The two largest of different QEMU versions for one target."""
    oldest: dict[str, tuple[float, Path]] = {}
    newest: dict[str, tuple[float, Path]] = {}
    for name, path in schemas().items():
        version, target, *_ = name.split("-")
        entry = (float(".".join(version.split(".")[:2])), path)
        oldest[target] = min(oldest.get(target, entry), entry)
        newest[target] = max(newest.get(target, entry), entry)
    target = max(
        (name for name in newest if newest[name][0] > oldest[name][0]),
        key=lambda name: newest[name][1].stat().st_size,
    )
    return oldest[target][1], newest[target][1]


@pytest.mark.skipif(len(schemas()) < 2, reason="no recorded schemas")
@pytest.mark.parametrize("choose", [largest, most_different], ids=["largest", "most different"])
def test_diff(
    benchmark: Benchmark,
    figures: Figures,
    measure: Measure,
    choose: Any,
) -> None:
    old, new = choose()
    report = benchmark.pedantic(compare, (old, new), rounds=ROUNDS, warmup_rounds=1)
    seconds = benchmark.stats.stats.min
    name = f"schema diff, {choose.__name__.replace('_', ' ')} ({report.devices} devices)"
    figures.add(name, seconds * 1e3, "ms", "limit", DIFF_LIMIT * 1e3)
    script = os.environ.get("VMSTREAM_STATIC_CHECKER")
    if script is not None:
        # It ends with the number of its complaints.
        command = ["sh", "-c", '"$@" || true', "sh", sys.executable, script, "-s", old, "-d", new]
        theirs = min(measure(command).seconds for _ in range(5))
        ours = [sys.executable, "-m", "vmstream", "schema", "diff", "--json", old, new]
        whole = min(measure(["sh", "-c", '"$@" || true', "sh", *ours]).seconds for _ in range(5))
        figures.add(f"{name}, command", whole * 1e3, "ms", "static checker", theirs * 1e3)
    assert seconds < DIFF_LIMIT

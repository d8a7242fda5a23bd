"""Verdicts: by a schema, by another stream, and by a QEMU beside its bare start.

A destination is ready when its monitor answers; a trial adds the stream to that.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from corpus import cases, schemas
from figures import Figures
from opened import open_case
from vmstream.engine.own_stream import own_stream
from vmstream.engine.qemu import launched
from vmstream.tools.check.against import check_against
from vmstream.tools.check.dry_run import dry_run
from vmstream.tools.check.static import check_schema
from vmstream.tools.open import open_stream
from vmstream.tools.schema import read_schema

Benchmark = Any

ROUNDS = 10
STATIC_LIMIT = 0.1
"""Seconds for a stream and a schema, both read already by nobody."""

QEMU = shutil.which("qemu-system-x86_64")
WORDS = [str(QEMU), "-M", "q35", "-m", "64", "-net", "none"]


def richest() -> Path:
    """The recorded stream with most device sections."""
    described = [case for case in cases() if case.truth.get("arch") == "x86_64"]
    best = max(described, key=lambda case: len(open_case(case).states))
    return best.main


def test_by_schema(benchmark: Benchmark, figures: Figures) -> None:
    """From two files to the findings: under 100 ms."""
    path = richest()
    schema = max(schemas().values(), key=lambda path: path.stat().st_size)

    def run() -> object:
        with open_stream(path) as stream:
            return check_schema(stream, read_schema(schema))

    benchmark.pedantic(run, rounds=ROUNDS, warmup_rounds=1)
    best = benchmark.stats.stats.min if benchmark.stats else 0
    figures.add("check by schema", best, "s", "the limit", STATIC_LIMIT)


def test_by_stream(benchmark: Benchmark, figures: Figures) -> None:
    """The richest stream against itself."""
    path = richest()

    def run() -> object:
        with open_stream(path) as stream, open_stream(path) as other:
            return check_against(stream, other)

    benchmark.pedantic(run, rounds=ROUNDS, warmup_rounds=1)
    best = benchmark.stats.stats.min if benchmark.stats else 0
    figures.add("check by stream", best, "s")


@pytest.mark.skipif(QEMU is None, reason="no QEMU here")
@pytest.mark.parametrize("ram", [64, 4096], ids=["64 MiB", "4 GiB"])
def test_by_qemu(benchmark: Benchmark, figures: Figures, ram: int) -> None:
    """A trial beside the bare start of the same QEMU, for guests of two sizes."""
    words = [*WORDS[:4], str(ram), *WORDS[5:]]
    data = own_stream(words)

    def start() -> float:
        async def once() -> None:
            async with launched(words) as qemu:
                await qemu.execute("query-status")

        began = time.perf_counter()
        asyncio.run(once())
        return time.perf_counter() - began

    with open_stream(data) as stream:
        bare = min(start() for _ in range(ROUNDS))
        result = benchmark.pedantic(dry_run, args=(stream, words), rounds=ROUNDS, warmup_rounds=1)
    assert result.loaded
    best = benchmark.stats.stats.min if benchmark.stats else 0
    figures.add(f"check by QEMU, {ram} MiB guest", best, "s", "its bare start", bare)

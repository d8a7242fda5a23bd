"""How long the command takes where there is little to do."""

from __future__ import annotations

import sys
from typing import Any

from corpus import case_named
from figures import Figures
from measuring import Measure, Measured

Benchmark = Any

ROUNDS = 15
VMSTREAM = (sys.executable, "-m", "vmstream")


def test_inspect_of_a_megabyte(benchmark: Benchmark, figures: Figures, measure: Measure) -> None:
    stream = case_named("devices-q35-7.2").main
    megabytes = stream.stat().st_size / 1e6
    name = f"inspect of {megabytes:.2f} MB"
    _measure(benchmark, figures, measure, name, 0.3, "inspect", str(stream))


def test_help(benchmark: Benchmark, figures: Figures, measure: Measure) -> None:
    _measure(benchmark, figures, measure, "--help", 0.15, "--help")


def test_python_alone(benchmark: Benchmark, figures: Figures, measure: Measure) -> None:
    """The floor under both, on this machine at this moment."""
    runs: list[Measured] = []
    command = [sys.executable, "-c", "pass"]
    benchmark.pedantic(lambda: runs.append(measure(command)), rounds=ROUNDS, warmup_rounds=1)
    figures.add("python -c pass", min(run.seconds for run in runs) * 1e3, "ms")


def _measure(
    benchmark: Benchmark,
    figures: Figures,
    measure: Measure,
    name: str,
    limit: float,
    *words: str,
) -> None:
    runs: list[Measured] = []
    benchmark.pedantic(
        lambda: runs.append(measure([*VMSTREAM, *words])), rounds=ROUNDS, warmup_rounds=1
    )
    seconds = sorted(run.seconds for run in runs)
    figures.add(name, seconds[0] * 1e3, "ms", "limit", limit * 1e3)
    figures.add(f"{name}, median", seconds[ROUNDS // 2] * 1e3, "ms", "limit", limit * 1e3)
    figures.add(f"{name}, CPU", min(run.cpu_seconds for run in runs) * 1e3, "ms")
    figures.add(f"{name}, resident", max(run.peak_bytes for run in runs) / 1e6, "MB")
    benchmark.extra_info.update(seconds=seconds[0], limit_seconds=limit)

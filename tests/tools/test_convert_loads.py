"""Converted streams in a real QEMU: the guest's memory and registers are the source's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from corpus import Case, case_named, cases
from loading import assert_same_guest, loaded
from opened import open_case
from vmstream.tools.convert import Compression, Form, Options, convert

SMOKE = ("postcopy-preempt-10.0", "xbzrle-7.2")


def loads(version: str) -> pytest.MarkDecorator:
    """Over recorded guests of that QEMU that need no files but the firmware; a few if not slow."""
    chosen = [
        case
        for case in cases()
        if case.origin == "data"
        and case.name.endswith(f"-{version}")
        and case.truth["arch"] == "x86_64"
        and "drive" not in case.truth["command_line"]
        and "CPU#0" in case.truth.get("registers", "")
    ]
    marks = [() if case.name in SMOKE else (pytest.mark.slow,) for case in chosen]
    rows = [pytest.param(c, id=c.id, marks=m) for c, m in zip(chosen, marks, strict=True)]
    return pytest.mark.parametrize("case", rows)


def load(
    qemu: Path, case: Case, folder: Path, options: Options, *capabilities: str, **parameters: object
) -> None:
    """Convert a case and load what came out."""
    out = folder / "converted"
    report = convert(open_case(case), out, options)
    files = [Path(file.path) for file in report.files]

    async def run() -> None:
        named = {key.replace("_", "-"): value for key, value in parameters.items()}
        async with loaded(qemu, case, folder, files, capabilities, named) as guest:
            await assert_same_guest(guest, case)

    asyncio.run(run())


@loads("7.2")
def test_plain_loads_in_7_2(case: Case, qemu72: Path, tmp_path: Path) -> None:
    load(qemu72, case, tmp_path, Options(form=Form.PLAIN))


@loads("10.0")
def test_plain_loads_in_10_0(case: Case, qemu100: Path, tmp_path: Path) -> None:
    load(qemu100, case, tmp_path, Options(form=Form.PLAIN))


@loads("10.0")
def test_mapped_ram_loads_in_10_0(case: Case, qemu100: Path, tmp_path: Path) -> None:
    load(qemu100, case, tmp_path, Options(form=Form.MAPPED_RAM), "mapped-ram")


@pytest.mark.parametrize("compression", list(Compression))
def test_multifd_with_zero_lists_loads_in_10_0(
    compression: Compression, qemu100: Path, tmp_path: Path
) -> None:
    options = Options(form=Form.MULTIFD, channels=3, compression=compression)
    load(
        qemu100, case_named("mapped-ram-10.0"), tmp_path, options, "multifd",
        multifd_channels=3, multifd_compression=str(compression),
    )  # fmt: skip


@pytest.mark.parametrize("compression", list(Compression))
def test_multifd_synchronised_at_each_section_loads_in_7_2(
    compression: Compression, qemu72: Path, tmp_path: Path
) -> None:
    options = Options(form=Form.MULTIFD, compression=compression)
    load(
        qemu72, case_named("postcopy-7.2"), tmp_path, options, "multifd",
        multifd_channels=2, multifd_compression=str(compression),
    )  # fmt: skip

"""How a guest is given to QEMUs of different releases: what their monitors are told."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

import vmstream
from builders import END, HEADER, configuration
from corpus import case_named
from fake_monitor import FakeQemu
from vmstream.tools.open import open_stream
from vmstream.tools.restore import RestoreReport, restore, start
from vmstream.tools.send import asks

CONFESSES = "import sys; print(*sys.argv[1:], file=sys.stderr)"
"""Instead of a QEMU: it says how it was started, and ends."""


def offered(qemu: FakeQemu, folder: Path) -> tuple[RestoreReport, dict[str, Any]]:
    """Offer a guest; returns our report, and how ``migrate-incoming`` was called."""

    async def run() -> RestoreReport:
        async with qemu.listening(folder / "qmp"):
            with open_stream(case_named("pc-7.2").main) as stream:
                return await asyncio.to_thread(restore, stream, str(folder / "qmp"), timeout=5)

    report = asyncio.run(run())
    (arguments,) = (given for command, given in qemu.told if command == "migrate-incoming")
    return report, arguments


def waits(*release: int, **facts: Any) -> FakeQemu:
    """A QEMU with ``-incoming defer`` of which nobody takes the stream."""
    major, minor, micro = release
    more = ("migrate-incoming", "getfd")
    return FakeQemu((major, minor, micro), "inmigrate", more=more, **facts)


@pytest.mark.parametrize("release", [(2, 3, 1), (2, 12, 0), (4, 0, 1)])
def test_before_4_1_no_descriptor_can_be_named(
    release: tuple[int, int, int], tmp_path: Path
) -> None:
    """``fd:NAME`` would be read as number 0, QEMU's own standard input."""
    report, arguments = offered(waits(*release), tmp_path)
    assert arguments["uri"].startswith("unix:")
    assert not report.complete
    assert "could not connect" in (report.error or "")
    assert not Path(arguments["uri"].removeprefix("unix:")).parent.exists()


def test_from_4_1_on_a_descriptor_is_passed(tmp_path: Path) -> None:
    qemu = waits(4, 1, 0)
    _, arguments = offered(qemu, tmp_path)
    assert arguments["uri"] == "fd:vmstream-restore"
    assert ("getfd", {"fdname": "vmstream-restore"}) in qemu.told


def test_a_qemu_is_started_with_a_monitor_that_any_release_knows() -> None:
    """To inherit a socket (``-chardev socket,fd=``) is known from 2.12 on only."""
    started = start([sys.executable, "-c", CONFESSES, "-M", "pc"], detach=True)
    with open_stream(case_named("pc-7.2").main) as stream:
        report = restore(stream, started)
    assert not report.complete
    assert "ended before its monitor answered" in (report.error or "")
    assert "-incoming defer -chardev socket,id=vmstream-qmp,path=/" in started.messages


@pytest.mark.parametrize(
    ("machine", "asked"), [("pc-i440fx-2.9", False), ("pc-i440fx-2.10", True), ("microvm", True)]
)
def test_send_asks_for_a_return_path_that_every_qemu_ends(machine: str, asked: bool) -> None:
    """QEMU 2.5 to 2.9 load a stream that asks for one, and close it without a word."""
    with vmstream.open(HEADER + configuration(machine) + END) as stream:
        assert asks(stream, "tcp:localhost:4444") is asked
        assert not asks(stream, "exec:cat")

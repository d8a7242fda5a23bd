"""A post-copy whose connection breaks is taken up again: no page is lost, one stream results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from leaks import nothing_leaks
from transports import Ways

from guests import Guest, until
from hops import (
    KINDS,
    SLOW,
    SOON,
    assert_goes_on,
    beside,
    destination,
    on,
    running,
    sent,
    state_of,
)
from vmstream.engine.faults import parse_fault
from vmstream.tools.open import open_stream
from vmstream.tools.receive import Kept, ReceiveReport, receive
from vmstream.tools.relay import RelayReport, relay

pytestmark = pytest.mark.interop

RATE = 1 << 21
"""Bytes a second through the relay: pages that are asked for know no limit at the source."""


@pytest.fixture(params=["qemu72", "qemu100"])
def qemu(request: pytest.FixtureRequest) -> Path:
    """Each QEMU at hand."""
    command: Path = request.getfixturevalue(request.param)
    return command


async def reached(source: Guest, status: str) -> dict[str, Any]:
    """Wait for a status of the migration."""

    async def there() -> bool:
        return bool((await source.query_migrate())["status"] == status)

    await until(there, f"the migration to be {status}")
    return await source.query_migrate()


async def switched(source: Guest, uri: str) -> None:
    """Migrate up to the middle of a slow post-copy."""
    await source.execute("migrate-set-parameters", SLOW)
    await source.execute("migrate", {"uri": uri})
    await reached(source, "active")
    await asyncio.sleep(0.3)
    await source.execute("migrate-start-postcopy")

    async def asked() -> bool:
        """QEMU 7.2 calls itself postcopy-active before it has sent the device state, and
        what breaks until then fails the migration instead of pausing it."""
        return bool((await source.query_migrate())["ram"]["postcopy-requests"])

    await until(asked, "the destination to ask for pages")


async def resumed(source: Guest, uri: str) -> None:
    """Take the post-copy up again, and end it."""
    await reached(source, "postcopy-paused")
    await source.execute("migrate", {"uri": uri, "resume": True})
    await reached(source, "completed")


def taking(out: Path, kept: Kept) -> Callable[[Callable[[str], None]], ReceiveReport]:
    """Our end."""

    def work(tell: Callable[[str], None]) -> ReceiveReport:
        return receive("tcp:127.0.0.1:0", out, kept=kept, timeout=SOON, listening=tell)

    return work


def through(
    uri: str, folder: Path, fault: str | None = None
) -> Callable[[Callable[[str], None]], RelayReport]:
    """A slow relay to it, which may cut the connection."""

    def work(tell: Callable[[str], None]) -> RelayReport:
        chosen = parse_fault(fault) if fault else None
        place = f"unix:{folder}/relay"
        return relay(place, uri, fault=chosen, rate=RATE, timeout=SOON, listening=tell)

    return work


async def assert_whole(qemu: Path, stream: Path, folder: Path, before: object) -> None:
    """Another QEMU has the source's guest from it."""
    plain = KINDS["plain"]
    (onward := folder / "onward").mkdir()
    async with destination(qemu, onward, plain) as guest:
        answer = await on(stream, guest, plain, Ways("unix", onward, to_us=False))
        assert answer.confirmed, answer.error
        await sent(guest)
        assert await state_of(guest) == before
        await assert_goes_on(guest)


@pytest.mark.parametrize("name", ["postcopy", "preempt"])
def test_a_paused_postcopy_is_taken_up(qemu: Path, name: str, tmp_path: Path) -> None:
    async def run() -> ReceiveReport:
        out = tmp_path / "guest.mig"
        async with running(qemu, tmp_path, KINDS[name], filled=True) as source:
            uri, receiving = await beside(taking(out, Kept.PLAIN))
            place, relaying = await beside(through(uri, tmp_path))
            await switched(source, place)
            await source.execute("migrate-pause")
            await asyncio.wait_for(relaying, SOON)
            await resumed(source, uri)
            before = await state_of(source)
            report = await asyncio.wait_for(receiving, SOON)
        assert report.complete, report.error
        await assert_whole(qemu, out, tmp_path, before)
        return report

    with nothing_leaks():
        report = asyncio.run(run())
    assert report.resumed == 1
    assert [file.path for file in report.files if file.kind == "main"] == [
        "stream.mig",
        "stream-1.mig",
    ]


def test_two_breaks_behind_a_relay(qemu: Path, tmp_path: Path) -> None:
    """The source connects through a relay that cuts, then through another, then directly."""

    async def run() -> ReceiveReport:
        out = tmp_path / "channels"
        async with running(qemu, tmp_path, KINDS["postcopy"], filled=True) as source:
            uri, receiving = await beside(taking(out, Kept.RAW))
            place, relaying = await beside(through(uri, tmp_path, "cut@3000000"))
            await switched(source, place)
            assert (await asyncio.wait_for(relaying, SOON)).fault is not None
            await reached(source, "postcopy-paused")
            place, relaying = await beside(through(uri, tmp_path, "cut@2000000"))
            await source.execute("migrate", {"uri": place, "resume": True})
            assert (await asyncio.wait_for(relaying, SOON)).fault is not None
            await resumed(source, uri)
            before = await state_of(source)
            report = await asyncio.wait_for(receiving, SOON)
        assert report.complete, report.error
        assert report.resumed == 2
        with open_stream(out) as stream:
            assert stream.complete
            assert not stream.faults
            kinds = [channel.kind for channel in stream.channels]
            assert kinds.count("resumed") == 2
        await assert_whole(qemu, out, tmp_path, before)
        return report

    with nothing_leaks():
        asyncio.run(run())

"""A relay between two real QEMUs changes nothing: not a byte, and not the guest."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from certificates import make_x509
from guests import Recorder
from hops import (
    KINDS,
    SOON,
    Kind,
    assert_goes_on,
    beside,
    credentials,
    destination,
    migrate,
    running,
    sent,
    state_of,
)
from leaks import nothing_leaks
from vmstream.tools.relay import RelayReport, relay

pytestmark = pytest.mark.interop

SMOKE = {
    ("plain", "qemu72"),
    ("multifd-zstd", "qemu100"),
    ("multifd-return-path", "qemu100"),
    ("postcopy", "qemu72"),
    ("preempt", "qemu100"),
}
SECRETS = ("tls", "tls-psk", "tls-multifd", "tls-postcopy")


def _rows() -> list[object]:
    rows = []
    for name in KINDS:
        if name == "mapped-ram" or name in SECRETS:
            continue  # the one is a file; of the others no byte can be compared
        for qemu in ("qemu72", "qemu100"):
            marks = () if (name, qemu) in SMOKE else (pytest.mark.slow,)
            rows.append(pytest.param(name, qemu, marks=marks))
    return rows


async def between(qemu: Path, kind: Kind, folder: Path) -> tuple[RelayReport, Recorder, Recorder]:
    """Migrate through recorder, relay and recorder; the guest arrives as it left."""
    for name in ("before", "after"):
        (folder / name).mkdir()
    before = Recorder(folder / "before", str(folder / "relay"))
    after = Recorder(folder / "after", str(folder / "destination"))
    (onward := folder / "onward").mkdir()
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(running(qemu, folder, kind))
        guest = await stack.enter_async_context(destination(qemu, onward, kind))
        await stack.enter_async_context(before.listening())
        await stack.enter_async_context(after.listening())
        await guest.set_migration(kind.capabilities, {})
        await guest.execute("migrate-incoming", {"uri": f"unix:{folder}/destination"})

        def work(tell: Callable[[str], None]) -> RelayReport:
            return relay(
                f"unix:{folder}/relay",
                f"unix:{after.folder / after.socket}",
                record=folder / "record",
                timeout=SOON,
                listening=tell,
            )

        _, relaying = await beside(work)
        said = await migrate(source, kind, f"unix:{before.folder / before.socket}")
        assert said["status"] == "completed"
        report = await asyncio.wait_for(relaying, SOON)
        await sent(guest)
        assert await state_of(guest) == await state_of(source)
        await assert_goes_on(guest)
        await before.finished()
        await after.finished()
    return report, before, after


def contents(paths: list[Path]) -> list[bytes]:
    """What was recorded, whichever connection came first, without those that brought nothing."""
    return sorted(filter(None, (path.read_bytes() for path in paths)))


@pytest.mark.parametrize(("name", "qemu"), _rows())
def test_nothing_is_changed(
    name: str, qemu: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    command: Path = request.getfixturevalue(qemu)
    kind = KINDS[name]
    with nothing_leaks():
        report, before, after = asyncio.run(between(command, kind, tmp_path))
    assert report.complete, report.error
    assert report.postcopy is kind.postcopy
    record = list((tmp_path / "record").iterdir())
    there = [path for path in record if path.name != "return.mig"]
    back = [path for path in record if path.name == "return.mig"]
    assert contents(before.received) == contents(after.received) == contents(there)
    assert contents(before.sent) == contents(after.sent) == contents(back)
    assert report.bytes == sum(map(len, contents(there)))
    assert len(report.connections) == 1 + kind.multifd + ("postcopy-preempt" in kind.capabilities)


SECRET = [
    pytest.param(name, qemu, marks=() if name == "tls-multifd" else (pytest.mark.slow,))
    for name in ("tls", "tls-multifd", "tls-postcopy")
    for qemu in ("qemu72", "qemu100")
]


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl command")
@pytest.mark.parametrize(("name", "qemu"), SECRET)
def test_a_relay_has_a_session_with_each_end(
    name: str, qemu: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    command: Path = request.getfixturevalue(qemu)
    secret = make_x509(tmp_path / "x509")
    (onward := tmp_path / "onward").mkdir()
    kind = KINDS[name]

    async def run() -> RelayReport:
        async with (
            running(command, tmp_path, kind, secret) as source,
            destination(command, onward, kind, secret) as guest,
        ):
            await guest.set_migration(kind.capabilities, {})
            await guest.execute("migrate-incoming", {"uri": f"unix:{onward}/s"})
            tls = credentials(kind, secret)

            def work(tell: Callable[[str], None]) -> RelayReport:
                return relay(
                    "tcp:127.0.0.1:0",
                    f"unix:{onward}/s",
                    server=tls,
                    client=tls,
                    timeout=SOON,
                    listening=tell,
                )

            uri, relaying = await beside(work)
            await migrate(source, kind, uri)
            report = await asyncio.wait_for(relaying, SOON)
            await sent(guest)
            assert await state_of(guest) == await state_of(source)
            await assert_goes_on(guest)
            return report

    with nothing_leaks():
        report = asyncio.run(run())
    assert report.complete, report.error
    assert len(report.connections) == 1 + kind.multifd

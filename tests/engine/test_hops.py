"""A real guest comes to us and goes on to another QEMU, in every way that it can."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import pytest
from certificates import make_psk, make_x509
from leaks import nothing_leaks
from transports import Ways

from hops import (
    KINDS,
    Kind,
    assert_goes_on,
    destination,
    migrate,
    on,
    running,
    sent,
    state_of,
    take,
)
from vmstream.tools.open import open_stream
from vmstream.tools.receive import ReceiveReport

pytestmark = pytest.mark.interop

SMOKE = {
    ("plain", "tcp", "qemu72"),
    ("plain", "exec", "qemu100"),
    ("xbzrle", "unix", "qemu100"),
    ("return-path", "fd", "qemu72"),
    ("multifd-none", "tcp", "qemu72"),
    ("multifd-zlib", "unix", "qemu72"),
    ("multifd-zstd", "tcp", "qemu100"),
    ("mapped-ram", "unix", "qemu100"),
    ("postcopy", "unix", "qemu72"),
    ("preempt", "tcp", "qemu100"),
    ("tls", "tcp", "qemu72"),
    ("tls-multifd", "tcp", "qemu100"),
}
"""What every run of the tests goes through; ``--slow`` adds the rest."""


def _rows() -> list[object]:
    rows = []
    for name, kind in KINDS.items():
        for transport in kind.transports:
            for qemu in ("qemu72", "qemu100"):
                if name == "mapped-ram" and qemu == "qemu72":
                    continue  # it is of 9.0; the test of both versions has 7.2 as the source
                marks = () if (name, transport, qemu) in SMOKE else (pytest.mark.slow,)
                rows.append(pytest.param(name, transport, qemu, marks=marks))
    return rows


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Credentials of each kind that can be made here."""
    folder = tmp_path_factory.mktemp("credentials")
    made = {"psk": make_psk(folder / "psk")}
    if shutil.which("openssl"):
        made["x509"] = make_x509(folder / "x509")
    return made


def directory_of(kind: Kind, directories: dict[str, Path]) -> Path | None:
    """The credentials of a kind, where it needs any."""
    if kind.secret is None:
        return None
    if kind.secret == "psk" and sys.version_info < (3, 13):
        pytest.skip("pre-shared keys need Python 3.13")
    if kind.secret not in directories:
        pytest.skip("no openssl command")
    return directories[kind.secret]


async def two_hops(
    first: Path, second: Path, name: str, transport: str, folder: Path, secret: Path | None
) -> ReceiveReport:
    """From one QEMU to us and on to another; the guest there is the one that came."""
    kind = KINDS[name]
    stream = folder / "guest.mig"
    # So much memory is left for post-copy that it does not arrive in one piece.
    async with running(first, folder, kind, secret, filled=kind.postcopy) as source:
        ways = Ways(transport, folder, to_us=True)
        report, said = await take(source, kind, ways, stream, secret)
        before = await state_of(source)
    assert report.complete, report.error
    assert said["status"] == "completed"
    if name == "xbzrle":
        assert said["xbzrle-cache"]["pages"] > 0
    (onward := folder / "onward").mkdir()
    async with destination(second, onward, kind, secret) as guest:
        if name == "mapped-ram":
            await guest.set_migration(("mapped-ram",), {})
            await guest.execute("migrate-incoming", {"uri": f"file:{stream}"})
        else:
            ways = Ways(transport, onward, to_us=False)
            answer = await on(stream, guest, kind, ways, secret)
            assert answer.complete, (answer.error, guest.log.read_text())
            assert answer.confirmed or transport in ("fd", "exec")
        await sent(guest)
        assert await state_of(guest) == before
        await assert_goes_on(guest)
    return report


@pytest.mark.parametrize(("name", "transport", "qemu"), _rows())
def test_a_guest_comes_and_goes_on(
    name: str,
    transport: str,
    qemu: str,
    request: pytest.FixtureRequest,
    directories: dict[str, Path],
    tmp_path: Path,
) -> None:
    command: Path = request.getfixturevalue(qemu)
    kind = KINDS[name]
    secret = directory_of(kind, directories)
    with nothing_leaks():
        report = asyncio.run(two_hops(command, command, name, transport, tmp_path, secret))
    kinds = [file.kind for file in report.files]
    assert kinds.count("main") == 1
    assert kinds.count("multifd") == kind.multifd
    assert kinds.count("preempt") == ("postcopy-preempt" in kind.capabilities)
    assert report.postcopy is kind.postcopy
    assert (report.pages_requested > 0) is kind.postcopy


@pytest.mark.parametrize("name", ["plain", "mapped-ram", "multifd-zstd", "postcopy"])
def test_a_guest_of_7_2_goes_on_to_10_0(
    name: str, qemu72: Path, qemu100: Path, tmp_path: Path
) -> None:
    asyncio.run(two_hops(qemu72, qemu100, name, "unix", tmp_path, None))


def test_a_mapped_ram_file_goes_to_an_older_qemu(
    qemu100: Path, qemu72: Path, tmp_path: Path
) -> None:
    """7.2 knows nothing of mapped-ram: its pages are sent as records."""

    async def run() -> None:
        plain = KINDS["plain"]
        stream = tmp_path / "guest.mig"
        async with running(qemu100, tmp_path, plain) as source:
            await source.set_migration(("mapped-ram",), {})
            await migrate(source, plain, f"file:{stream}")
            before = await state_of(source)
        with open_stream(stream) as opened:
            assert opened.capabilities == ["mapped-ram"]
        (onward := tmp_path / "onward").mkdir()
        async with destination(qemu72, onward, plain) as guest:
            answer = await on(stream, guest, plain, Ways("unix", onward, to_us=False))
            assert answer.confirmed, answer.error
            await sent(guest)
            assert await state_of(guest) == before
            await assert_goes_on(guest)

    asyncio.run(run())

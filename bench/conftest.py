"""What the benchmarks share: big real streams, and a way to measure a whole command.

The streams are written by a real QEMU whose guest memory is a file that was
filled beforehand, so that no guest has to run to make gigabytes of pages.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from figures import Figures
from guests import firmware, started
from measuring import PAGE, BigStream, Measure, Measured

_FIGURES = pytest.StashKey[Figures]()

ZERO_EVERY = 4
"""Every so many pages one is zero; the others hold random bytes."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--gib", default="1,2,4", help="sizes of the big streams (default: 1,2,4)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "big_stream" in metafunc.fixturenames:
        sizes = [int(size) for size in metafunc.config.getoption("--gib").split(",")]
        ids = [f"{size}GiB" for size in sizes]
        metafunc.parametrize("big_stream", sizes, ids=ids, indirect=True, scope="session")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FIGURES] = Figures()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """The table of figures, after everything else."""
    figures = config.stash[_FIGURES]
    figures.add_slope()
    if figures.rows:
        terminalreporter.section("figures")
        for line in figures.lines():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Figures:
    """Where a benchmark puts its figures."""
    return request.config.stash[_FIGURES]


@pytest.fixture(scope="session")
def big_stream(request: pytest.FixtureRequest) -> BigStream:
    """A stream of a guest of so many GiB, read once so that the page cache holds it."""
    gib: int = request.param
    folder = Path(os.environ.get("VMSTREAM_BENCH", tempfile.gettempdir()))
    path = folder / f"vmstream-bench-{os.getuid()}" / f"{gib}GiB.mig"
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _record(path, gib)
    with path.open("rb") as warm:
        while warm.read(1 << 24):
            pass
    return BigStream(path, gib)


@pytest.fixture(scope="session")
def measure() -> Measure:
    """Run a command to its end, with its output thrown away, and measure it from outside."""

    def run(command: Sequence[str | Path]) -> Measured:
        runner = [sys.executable, "-I", "-S", str(Path(__file__).with_name("measured.py"))]
        # As an installed command runs: with its modules compiled already.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        said = subprocess.run(
            [*runner, *map(str, command)], stdout=subprocess.PIPE, check=True, env=environment
        ).stdout
        return Measured(**json.loads(said))

    return run


def _record(path: Path, gib: int) -> None:
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        pytest.skip("no QEMU here; tools/install_qemu.sh installs it")
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        folder = Path(scratch)
        (folder / "firmware.bin").write_bytes(firmware())
        _fill(folder / "ram.bin", gib)
        asyncio.run(_migrate(Path(qemu), folder, gib))
        (folder / "stream.mig").rename(path)


def _fill(target: Path, gib: int) -> None:
    chunk_pages = 4096
    with target.open("wb") as memory:
        for _ in range((gib << 30) // (chunk_pages * PAGE)):
            chunk = bytearray(os.urandom(chunk_pages * PAGE))
            for page in range(0, chunk_pages, ZERO_EVERY):
                chunk[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
            memory.write(chunk)


async def _migrate(qemu: Path, folder: Path, gib: int) -> None:
    arguments = (
        f"-M pc,memory-backend=pc.ram -m {gib}G -bios firmware.bin -vga none -net none"
        f" -object memory-backend-file,id=pc.ram,size={gib}G,share=on,mem-path=ram.bin"
    )
    async with started(qemu, arguments.split(), folder) as guest:
        await guest.set_migration([], {"max-bandwidth": 1 << 40})
        await guest.execute("migrate", {"uri": "exec:cat > stream.mig"})
        await guest.migration_completed()

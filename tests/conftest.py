"""Options, markers and fixtures that every test may use."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from corpus import REPOSITORY
from needed import IN_CI, missing

settings.register_profile("default", deadline=None)
settings.register_profile(
    "ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci" if IN_CI else "default")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("vmstream")
    group.addoption("--slow", action="store_true", help="run the long matrices too")
    group.addoption(
        "--fuzz-seconds",
        type=float,
        default=20.0,
        help="how long each fuzz test keeps going (default: %(default)s)",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="only with --slow"))


@pytest.fixture
def fuzz_seconds(request: pytest.FixtureRequest) -> float:
    """How long a fuzz test should keep going."""
    seconds: float = request.config.getoption("--fuzz-seconds")
    return seconds


@pytest.fixture(scope="session")
def qemu72() -> Path:
    """``qemu-system-x86_64`` 7.2, as Debian bookworm has it."""
    return _qemu(shutil.which("qemu-system-x86_64"), "7.2")


@pytest.fixture(scope="session")
def qemu100() -> Path:
    """``qemu-system-x86_64`` 10.0, as ``tools/install_qemu.sh`` unpacks it."""
    return _qemu(REPOSITORY / ".qemu" / "10.0" / "qemu-system-x86_64", "10.0")


def _qemu(command: str | Path | None, version: str) -> Path:
    found = _version(command) if command else None
    if not (command and found and found.startswith(version)):
        missing(f"no QEMU {version} here (found: {found}); tools/install_qemu.sh installs it")
    return Path(command)


def _version(command: str | Path) -> str | None:
    try:
        said = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=60)
    except OSError:
        return None
    match = re.search(r"version (\d+(\.\d+)+)", said.stdout)
    return match[1] if match else None

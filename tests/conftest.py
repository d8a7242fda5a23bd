"""Options, markers and fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from needed import IN_CI, needed_qemu

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
    return needed_qemu("7.2")


@pytest.fixture(scope="session")
def qemu100() -> Path:
    """``qemu-system-x86_64`` 10.0, as ``tools/install_qemu.sh`` unpacks it."""
    return needed_qemu("10.0")

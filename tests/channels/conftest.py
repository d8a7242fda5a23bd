"""Every test of channels must leave no descriptor, child or thread behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from leaks import nothing_leaks


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    with nothing_leaks():
        yield

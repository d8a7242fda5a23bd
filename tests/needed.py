"""Programs that tests need: absent ones skip a test on a desk, and fail it in CI."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

__all__ = ["IN_CI", "missing"]

IN_CI = os.environ.get("CI") == "true"


def missing(what: str) -> NoReturn:
    """Skip a test for want of a program; fail it in CI, where every one must be."""
    if IN_CI:
        pytest.fail(what, pytrace=False)
    pytest.skip(what)

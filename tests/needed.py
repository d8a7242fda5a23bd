"""Programs that tests need: absent ones skip a test on a desk, and fail it in CI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from corpus import REPOSITORY

__all__ = ["IN_CI", "missing", "needed_qemu"]

IN_CI = os.environ.get("CI") == "true"


def missing(what: str) -> NoReturn:
    """Skip a test for want of a program; fail it in CI, where every one must be."""
    if IN_CI:
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


def needed_qemu(version: str) -> Path:
    """``qemu-system-x86_64`` of a version: ``7.2`` as installed, others as unpacked beside it."""
    unpacked = REPOSITORY / ".qemu" / version / "qemu-system-x86_64"
    command = shutil.which("qemu-system-x86_64") if version == "7.2" else unpacked
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

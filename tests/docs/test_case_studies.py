"""The case studies print what their page says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from corpus import REPOSITORY
from vmstream.cli import main

PAGE = REPOSITORY / "docs" / "case-studies.md"


def commands() -> list[tuple[str, str]]:
    """Each command with the lines below it."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL):
        parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
        found += list(zip(parts[::2], parts[1::2], strict=True))
    return found


@pytest.mark.parametrize("command, printed", commands(), ids=lambda text: text[:50])
def test_a_command_prints_what_the_page_says(
    command: str,
    printed: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(Path(REPOSITORY))
    main(shlex.split(command)[1:])
    assert capsys.readouterr().out.strip() == printed.strip()

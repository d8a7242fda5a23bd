"""The hex examples of the format specification are the bytes of the streams they name."""

from __future__ import annotations

import re

import pytest

from corpus import REPOSITORY, cases

CHAPTERS = sorted((REPOSITORY / "docs" / "format").glob("*.md"))
EXAMPLE = re.compile(
    r'^:caption: "QEMU (?P<version>\S+), `(?P<case>[^/`]+)/(?P<file>[^`]+)` from 0x[0-9a-f]+"\n'
    r"\n(?P<lines>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
LINE = re.compile(r"^(?P<offset>[0-9a-f]{8})  (?P<bytes>[0-9a-f]{2}(?: [0-9a-f]{2})*)(?:  .*)?$")


def examples() -> list[object]:
    """One parameter for each example of each chapter."""
    return [
        pytest.param(match, id=f"{chapter.stem}-{match['case']}-{number}")
        for chapter in CHAPTERS
        for number, match in enumerate(EXAMPLE.finditer(chapter.read_text()), 1)
    ]


def recorded(name: str, file: str) -> bytes:
    """A file of the larger collection; ours has other streams under some of its names."""
    for case in cases():
        if case.origin == "shared" and case.name == name:
            return case.path(file).read_bytes()
    pytest.skip(f"the larger collection's {name!r} is not here")


def test_every_hex_line_belongs_to_a_named_stream() -> None:
    for chapter in CHAPTERS:
        text = chapter.read_text()
        named = {line for match in EXAMPLE.finditer(text) for line in match["lines"].splitlines()}
        assert {line for line in text.splitlines() if LINE.match(line)} <= named, chapter.name


@pytest.mark.parametrize("example", examples())
def test_example_is_what_the_stream_holds(example: re.Match[str]) -> None:
    stream = recorded(example["case"], example["file"])
    lines = [line for line in example["lines"].splitlines() if not line.startswith("...")]
    for line in lines:
        parts = LINE.match(line)
        assert parts, line
        shown, offset = bytes.fromhex(parts["bytes"]), int(parts["offset"], 16)
        assert stream[offset : offset + len(shown)] == shown, line
    assert example["case"].endswith(f"-{example['version']}")

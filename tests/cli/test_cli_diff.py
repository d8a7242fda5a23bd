"""``vmstream diff`` on a terminal, as JSON, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import vmstream
from corpus import case_named
from vmstream.cli import main
from vmstream.wire.ram import PageKind

PC = case_named("pc-7.2")


def printed(capsys: pytest.CaptureFixture[str], *words: object, status: int = 1) -> str:
    assert main(["diff", *map(str, words)]) == status
    return capsys.readouterr().out


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """The stream with one byte of a page, a field, a register and a clock changed."""
    data = bytearray(PC.main.read_bytes())
    with vmstream.open(PC.main) as stream:
        index = stream.index
        run = int((index.kind == PageKind.NORMAL).argmax())
        places = [int(index.offset[run]) + 5]
        for name, path in (
            ("fdc", "state.timer0"), ("cpu", "env.eip"), ("timer", "cpu_clock_offset"),
        ):  # fmt: skip
            decoded = stream.devices[name].decoded
            assert decoded is not None
            node = decoded.value.at(path)
            places.append(node.offset + len(node.raw) - 1)
    for place in places:
        data[place] ^= 1
    target = tmp_path / "changed.mig"
    target.write_bytes(data)
    return target


def test_identical_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, PC.main, PC.stored, status=0).splitlines()[0] == "identical"


def test_the_first_line_says_what_matters(
    capsys: pytest.CaptureFixture[str], changed: Path
) -> None:
    lines = printed(capsys, PC.main, changed).splitlines()
    assert lines[0] == ("the same guest at another moment: 2 fields of 2 devices and 1 page differ")
    assert "left out: 1 field that always moves (--all)" in lines
    assert any("state.timer0" in line and "->" in line for line in lines)
    assert any("rip" in line and "->" in line for line in lines)


def test_all_shows_what_always_moves(capsys: pytest.CaptureFixture[str], changed: Path) -> None:
    assert "cpu_clock_offset" not in printed(capsys, PC.main, changed)
    assert "cpu_clock_offset" in printed(capsys, PC.main, changed, "--all")


def test_ignored_differences_are_none(capsys: pytest.CaptureFixture[str], changed: Path) -> None:
    words = ("--no-ram", "--ignore", "fdc:0/*", "--ignore", "cpu:0/env.eip")
    shown = printed(capsys, PC.main, changed, *words, status=0)
    assert shown.startswith(
        "identical but for 1 field that always moves and 2 ignored, memory not compared\n"
    )


def test_hex_shows_the_line_that_differs(capsys: pytest.CaptureFixture[str], changed: Path) -> None:
    lines = printed(capsys, PC.main, changed, "--hex").splitlines()
    old, new = lines[-2:] if lines[-1].startswith("+") else lines[-3:-1]
    assert old.startswith("- ")
    assert new.startswith("+ ")
    unlike = [(x, y) for x, y in zip(old.split()[3:], new.split()[3:], strict=True) if x != y]
    assert [int(x, 16) ^ int(y, 16) for x, y in unlike] == [1]


def test_json_has_the_whole_report(capsys: pytest.CaptureFixture[str], changed: Path) -> None:
    report = json.loads(printed(capsys, PC.main, changed, "--json"))
    assert report["identical"] is False
    assert report["memory"]["differing"] == 1
    found = [(d["device"], c["path"]) for d in report["devices"] for c in d["changes"]]
    assert sorted(found) == [("cpu:0", "env.eip"), ("fdc:0", "state.timer0")]
    assert [(q["device"], q["path"]) for q in report["quieted"]] == [
        ("timer:0", "cpu_clock_offset")
    ]


def test_channels_of_either_stream_are_given(capsys: pytest.CaptureFixture[str]) -> None:
    case = case_named("multifd-zlib-7.2")
    channels = [
        word
        for path in case.channels
        for side in ("a", "b")
        for word in (f"--channel-{side}", path)
    ]
    assert printed(capsys, case.main, case.main, *channels, status=0).startswith("identical\n")


def test_a_damaged_stream_is_a_finding(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cut = tmp_path / "cut.mig"
    cut.write_bytes(PC.main.read_bytes()[:-40000])
    assert "! B is incomplete" in printed(capsys, PC.main, cut)
    assert printed(capsys, cut, cut).startswith("identical as far as both can be read")


@pytest.mark.parametrize(
    "words", [("-", "-"), (PC.main, PC.main, "--hex", "--json"), (PC.main, "/nowhere"), (PC.main,)]
)
def test_what_can_not_be_compared_is_2(
    capsys: pytest.CaptureFixture[str], words: tuple[object, ...]
) -> None:
    printed(capsys, *words, status=2)

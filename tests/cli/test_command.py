"""The command: exit status, standard input, JSON, and what it costs to start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from corpus import case_named

CASE = case_named("pc-7.2")


def run(*words: str, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "vmstream", *words], input=data, capture_output=True, timeout=60
    )


def test_a_sound_stream_is_0() -> None:
    for verb in ("inspect", "show", "verify"):
        result = run(verb, str(CASE.main))
        assert result.returncode == 0, result.stderr
        assert result.stdout


def test_a_cut_stream_is_1_and_its_json_is_whole(tmp_path: Path) -> None:
    cut = tmp_path / "cut.mig"
    cut.write_bytes(CASE.main.read_bytes()[:200_000])
    result = run("inspect", str(cut), "--json")
    report = json.loads(result.stdout)
    assert result.returncode == 1
    assert report["complete"] is False
    assert report["fault"]["offset"]
    assert run("verify", str(cut)).returncode == 1


@pytest.mark.parametrize("words", [("inspect",), ("inspect", "/nowhere/at/all"), ("frobnicate",)])
def test_usage_and_missing_files_are_2(words: tuple[str, ...]) -> None:
    result = run(*words)
    assert result.returncode == 2
    assert result.stderr.count(b"\n") == 1
    assert b"Traceback" not in result.stderr


def test_what_is_no_stream_is_2(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("nothing of the kind, but long enough to hold a header")
    result = run("inspect", str(other))
    assert result.returncode == 2
    assert str(other).encode() in result.stderr
    assert b"offset 0x0" in result.stderr


def test_standard_input_gives_what_the_file_gives() -> None:
    data = CASE.main.read_bytes()
    piped = json.loads(run("inspect", "-", "--json", data=data).stdout)
    named = json.loads(run("inspect", str(CASE.main), "--json").stdout)
    for key in ("machine", "ram", "devices", "sections", "complete"):
        for report in (piped, named):
            for device in report["devices"]:
                device.pop("boundary", None)
        assert piped[key] == named[key]


def test_one_field_of_one_device() -> None:
    result = run("show", str(CASE.main), "--device", "cpu:0", "--field", "env.regs[4]", "--json")
    assert isinstance(json.loads(result.stdout)["cpu:0"], int)


def test_raw_shows_offset_and_bytes() -> None:
    result = run("show", str(CASE.main), "--device", "timer", "--raw", "--json")
    field = json.loads(result.stdout)["timer:0"][0]
    raw = bytes.fromhex(field["raw"])
    assert CASE.main.read_bytes()[field["offset"] :].startswith(raw)


def test_a_device_that_is_not_there_is_a_finding() -> None:
    assert run("show", str(CASE.main), "--device", "warp-drive").returncode == 1


def test_descriptions_are_borrowed() -> None:
    bare = case_named("no-vmdesc-7.2")
    words = ("--device", "mc146818rtc", "--json", "--describe-with", str(CASE.main))
    shown = json.loads(run("show", str(bare.main), *words).stdout)
    assert "cmos_data" in shown["mc146818rtc:0"]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from vmstream.cli import main; main(['--help']);"
        "sys.exit(bool({'numpy', 'cyclopts', 'rich', 'msgspec'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_names_from_a_stream_do_not_steer_the_terminal(tmp_path: Path) -> None:
    from builders import END, HEADER, configuration, device

    hostile = tmp_path / "hostile.mig"
    name = "a\x1b[31m/b"
    hostile.write_bytes(HEADER + configuration("m\x1b]0;x\x07") + device(1, name, b"x") + END)
    for verb in ("inspect", "show", "verify"):
        result = run(verb, str(hostile))
        assert b"\x1b" not in result.stdout + result.stderr

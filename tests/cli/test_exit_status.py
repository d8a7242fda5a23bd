"""What the command does at its edges: exit status, broken pipes, narrow terminals, options."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import random
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from builders import END, HEADER, PAGE, configuration, ram, zero
from corpus import case_named

VERBS = ("inspect", "show", "verify")
CASE = case_named("pc-7.2")


def run(
    *words: object, data: bytes | None = None, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "vmstream", *map(str, words)],
        input=data,
        capture_output=True,
        timeout=60,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("verb", VERBS)
def test_an_empty_input_is_unreadable(verb: str) -> None:
    result = run(verb, "-", data=b"")
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr.count(b"\n") == 1


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("cut", [5, 8, 9, 300, 200_000, -1])
def test_a_cut_stream_is_a_finding_with_whole_json(verb: str, cut: int, tmp_path: Path) -> None:
    """2 where not even the file header is there; else 1, with the fault named."""
    path = tmp_path / "cut.mig"
    path.write_bytes(CASE.main.read_bytes()[:cut])
    result = run(verb, path, "--json")
    if 0 < cut < 8:
        assert result.returncode == 2
        return
    assert result.returncode == 1
    report = json.loads(result.stdout)
    report = report.get("", report)  # show keeps the devices' names for devices
    assert report["complete"] is False
    fault = report["faults"][0]
    assert {"offset", "section", "expected", "found", "message"} <= set(fault)
    assert 0 < fault["offset"] <= path.stat().st_size
    assert b"Traceback" not in result.stderr


def test_an_option_that_is_none_is_usage() -> None:
    result = run("inspect", CASE.main, "--frobnicate")
    assert result.returncode == 2
    assert b"--frobnicate" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("show", "--nope", "x"),
        ("show", "x", "--nope"),
        ("show", "-x"),
        ("inspect", "--nope"),
        ("memory", "--nope", "x", "--json"),
        ("check", "--nope", "x"),
        ("schema", "show", "--nope", "x"),
    ],
)
def test_an_option_that_is_none_is_never_taken_for_a_name(words: tuple[str, ...]) -> None:
    result = run(*words)
    unknown = next(word for word in words if word.startswith("-"))
    assert result.returncode == 2
    assert f"Unknown option: {unknown}".encode() in result.stderr
    assert result.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    "words", [("show", "-"), ("show", "-", "--full"), ("show", "--device", "cpu*", "-")]
)
def test_a_lone_hyphen_is_standard_input_beside_options(words: tuple[str, ...]) -> None:
    result = run(*words, data=CASE.main.read_bytes())
    assert result.returncode == 0, result.stderr
    assert b"env.regs" in result.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_tells_its_options(verb: str) -> None:
    result = run(verb, "--help")
    assert result.returncode == 0
    assert b"--describe-with" in result.stdout
    assert b"--json" in result.stdout


def test_debug_gives_the_traceback(tmp_path: Path) -> None:
    path = tmp_path / "no.mig"
    path.write_bytes(b"nothing of the kind")
    assert b"Traceback" not in run("inspect", path).stderr
    assert b"Traceback" in run("inspect", path, "--debug").stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = [sys.executable, "-m", "vmstream", "show", str(CASE.main), "--full"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
        process.wait(60)


def test_channels_are_given_in_any_order() -> None:
    case = case_named("multifd-7.2")
    files = [case.main, *case.channels]
    whole = json.loads(run("inspect", *files, "--json").stdout)
    random.Random(3).shuffle(files)
    result = run("inspect", *files, "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["ram"] == whole["ram"]


def test_a_page_size_that_nothing_tells_can_be_given(tmp_path: Path) -> None:
    """Zero pages at multiples of 64 KiB look like large pages."""
    path = tmp_path / "few.mig"
    records = b"".join(zero(16 * number, "ram" if not number else None) for number in range(4))
    path.write_bytes(HEADER + configuration("toy") + ram({"ram": 64 * PAGE}, records) + END)
    guessed = json.loads(run("inspect", path, "--json").stdout)
    assert guessed["page_size"] == 65536
    assert any("nothing states the page size" in warning for warning in guessed["warnings"])
    given = json.loads(run("inspect", path, "--json", "--page-size", 4096).stdout)
    assert given["page_size"] == 4096
    assert given["ram"]["blocks"][0]["missing"] == 60


def test_full_shows_what_is_abbreviated_otherwise() -> None:
    words = ("show", CASE.main, "--device", "mc146818rtc", "--field", "cmos_data", "--json")
    short = json.loads(run(*words).stdout)
    whole = json.loads(run(*words, "--full").stdout)
    assert len(json.dumps(whole)) > len(json.dumps(short))


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_no_terminal_has_no_width_and_no_escapes(verb: str) -> None:
    wide = run(verb, CASE.main, COLUMNS="200")
    narrow = run(verb, CASE.main, COLUMNS="20")
    assert (narrow.returncode, narrow.stdout) == (0, wide.stdout)
    assert b"\x1b" not in narrow.stdout
    assert "…".encode() not in narrow.stdout
    assert max(map(len, narrow.stdout.splitlines())) < 1000


@pytest.mark.parametrize("verb", VERBS)
def test_a_narrow_terminal_is_not_left(verb: str) -> None:
    """On a terminal no line of a table is wider than it."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 60, 0, 0))
    environment = {key: text for key, text in os.environ.items() if key != "COLUMNS"}
    command = [sys.executable, "-m", "vmstream", verb, str(CASE.main)]
    with subprocess.Popen(
        command, stdout=slave, stderr=slave, stdin=slave, env={**environment, "TERM": "xterm"}
    ) as process:
        os.close(slave)
        output = b""
        with contextlib.suppress(OSError):  # EIO: the other side was closed
            while piece := os.read(master, 65536):
                output += piece
    os.close(master)
    assert process.returncode == 0
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", output).decode()
    rows = [line for line in text.splitlines() if "  " in line and not line.startswith("!")]
    assert rows
    assert max(map(len, rows)) <= 60


def test_a_small_stream_is_read_without_the_parser() -> None:
    code = (
        "import sys; from vmstream.cli import main; status = main(['inspect', sys.argv[1], "
        "'--json']); sys.exit(status or 'cyclopts' in sys.modules or 'rich' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(CASE.main)], capture_output=True)
    assert result.returncode == 0

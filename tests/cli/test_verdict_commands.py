"""check and explain from the command line: first lines, exit statuses, errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corpus import DATA, REPOSITORY, case_named, schemas
from vmstream.cli import main

CASES = REPOSITORY / "docs" / "cases"
SOURCE, OTHER = CASES / "slot-source.mig.zst", CASES / "slot-destination.mig.zst"


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_verdict_is_the_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "check", SOURCE, "--against", OTHER)
    assert status == 1
    assert out.splitlines()[0] == f"{SOURCE}: fails"
    status, out, _ = run(capsys, "check", SOURCE, "--against", SOURCE)
    assert status == 0
    assert out.splitlines()[0] == f"{SOURCE}: loads"


def test_an_unknown_verdict_says_what_would_tell(capsys: pytest.CaptureFixture[str]) -> None:
    stream = case_named("pc-7.2").main
    status, out, _ = run(capsys, "check", stream, "--schema", schemas()["7.2-x86_64-pc"])
    assert status == 1
    assert out.splitlines()[0].endswith(": unknown")
    assert "what would tell: --against" in out


def test_a_verdict_for_a_machine(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "check", SOURCE, "--against", OTHER, "--json")
    report = json.loads(out)
    assert (status, report["verdict"]) == (1, "fails")
    [finding] = report["findings"]
    assert finding["code"] == "section-unknown"
    assert finding["device"] == "0000:00:05.0/i6300esb_wdt:0"
    assert finding["severity"] == "breaks"
    assert finding["remedy"]
    assert isinstance(finding["offset"], int)


@pytest.mark.parametrize("verb", ["check", "explain"])
def test_a_missing_file_is_one_line(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [verb, "no-such-file", *(["--schema", "x"] if verb == "check" else [])]
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, "")
    assert err == "vmstream: no-such-file: No such file or directory\n"


def test_another_stream_that_is_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    schema = next((DATA / "_schemas").glob("*.zst"))
    status, _, err = run(capsys, "check", SOURCE, "--against", schema)
    assert status == 2
    assert str(schema) in err


def test_a_program_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "check", SOURCE, "--qemu", "no-such-qemu -M pc")
    assert (status, err) == (2, "vmstream: no-such-qemu: No such file or directory\n")


def test_check_needs_a_destination(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "check", SOURCE)
    assert status == 2
    assert "--schema, --against or --qemu" in err


def test_a_log_without_failures_is_0(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("qemu-system-x86_64: warning: nic e1000.0 has no peer\n")
    status, out, _ = run(capsys, "explain", log)
    assert status == 0
    assert out.splitlines()[0] == "nothing that is known to be wrong"

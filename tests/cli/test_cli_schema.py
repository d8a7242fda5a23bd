"""``vmstream schema show``, ``diff`` and ``dump``."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from schema_builders import described, field, schema_text
from vmstream.cli import main

OLD = schema_text("pc-1", a=described("dev-a", field("x")), b=described("dev-b", field("y")))
NEW = schema_text(
    "pc-2",
    a=described("dev-a", field("x"), field("more", version=2), version=2),
    b=described("dev-b", field("s", struct=described("s", field("y")))),
)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_bytes(OLD)
    new.write_bytes(NEW)
    return str(old), str(new)


def test_the_exit_status_tells_whether_something_breaks_that_way(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = files
    assert main(["schema", "diff", old, new]) == 0
    assert main(["schema", "diff", old, new, "--reverse"]) == 1
    assert main(["schema", "diff", new, old]) == 1
    assert main(["schema", "diff", old, old]) == 0


def test_both_directions_are_told_and_the_one_asked_about_first(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["schema", "diff", *files])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("pc-1 -> pc-2: 2 device types on both sides, 0 identical")
    assert lines[1].startswith("old to new: nothing breaks, 0 may")
    assert lines[2].startswith("new to old: 2 break")
    main(["schema", "diff", *files, "--reverse"])
    assert capsys.readouterr().out.splitlines()[1].startswith("new to old: 2 break")


def test_harmless_changes_are_counted_and_listed_when_asked(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["schema", "diff", *files])
    assert "1 harmless change (--full lists them)" in capsys.readouterr().out
    main(["schema", "diff", *files, "--full"])
    assert "the fields of s stand in a struct" in capsys.readouterr().out


def test_json_has_every_finding(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["schema", "diff", *files, "--json"])
    report = json.loads(capsys.readouterr().out)
    assert {finding["kind"] for finding in report["findings"]} == {
        "version",
        "field-added",
        "struct-wrapped",
    }
    assert report["findings"][0]["new_to_old"] == "breaks"


def test_show_lists_types_or_fields(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schema", "show", files[1]]) == 0
    assert "dev-a" in capsys.readouterr().out
    assert main(["schema", "show", files[1], "dev-a"]) == 0
    assert "more  4 bytes, from version 2 on" in capsys.readouterr().out
    assert main(["schema", "show", files[1], "nothing"]) == 1


def test_show_gives_the_model_as_json(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["schema", "show", files[1], "b", "--json"])
    shown = json.loads(capsys.readouterr().out)
    (field,) = shown["devices"]["b"]["fields"]
    assert field["struct"]["fields"][0]["memory_size"] == 4


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["frob"],
        ["diff"],
        ["diff", "one"],
        ["show"],
        ["dump"],
        ["dump", "--qemu", ""],
        ["dump", "--qemu", "qemu 'open"],
    ],
)
def test_wrong_usage_is_status_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"schema {command} --help" in said for command in ("show", "diff", "dump"))


@pytest.fixture(params=["qemu72", "qemu100"])
def qemu(request: pytest.FixtureRequest) -> Path:
    """Each QEMU at hand."""
    command: Path = request.getfixturevalue(request.param)
    return command


@pytest.mark.interop
def test_a_dump_is_what_the_qemu_wrote(
    qemu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the machine type alone: neither the disk that is not there nor the device is asked for."""
    out, own = tmp_path / "out.json", tmp_path / "own.json"
    command = f"{qemu} -M q35,accel=tcg -drive file=/nowhere -device no-such-device"
    assert main(["schema", "dump", "--qemu", command, "-o", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    subprocess.run([qemu, "-M", "q35", "-dump-vmstate", own], check=True)
    assert out.read_bytes() == own.read_bytes()
    assert report["file"] == str(out)
    assert report["machine"].startswith("pc-q35-")
    assert report["size"] == out.stat().st_size
    assert main(["schema", "diff", str(out), str(own)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"out.json", "own.json"}


@pytest.mark.interop
def test_a_dump_without_a_file_goes_to_standard_output(
    qemu72: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["schema", "dump", "--qemu", str(qemu72)]) == 0
    assert json.loads(capfdbinary.readouterr().out)["vmschkmachine"]["Name"] == "pc-i440fx-7.2"


@pytest.mark.interop
def test_a_qemu_that_has_no_such_machine_is_one_line_and_leaves_what_was_there(
    qemu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    out.write_text("as it was")
    command = f"{qemu} -M no-such-machine"
    assert main(["schema", "dump", "--qemu", command, "-o", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"vmstream: {qemu}: ended with status 1: ")
    assert "unsupported machine type" in said
    assert said.count("\n") == 1
    assert out.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [out]


def test_a_qemu_that_is_missing_or_hangs_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out.json")
    assert main(["schema", "dump", "--qemu", "/no/such/qemu -M pc", "-o", out]) == 2
    assert capsys.readouterr().err == "vmstream: /no/such/qemu: No such file or directory\n"
    script = tmp_path / "qemu"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o700)
    words = ["schema", "dump", "--qemu", f"{script} -M pc", "-o", out, "--timeout", "0.3"]
    assert main(words) == 2
    assert capsys.readouterr().err == f"vmstream: {script}: did not write its schema in 0.3 s\n"
    assert list(tmp_path.iterdir()) == [script]


def test_what_a_program_writes_that_is_no_schema_is_not_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "qemu"
    script.write_text('#!/bin/sh\nfor last in "$@"; do :; done\necho "{}" > "$last"\n')
    script.chmod(0o700)
    out = tmp_path / "out.json"
    assert main(["schema", "dump", "--qemu", str(script), "-o", str(out)]) == 2
    assert "vmschkmachine" in capsys.readouterr().err
    assert not out.exists()


def test_what_is_no_schema_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"QEVM")
    assert main(["schema", "show", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"vmstream: {path}: the schema is no -dump-vmstate")

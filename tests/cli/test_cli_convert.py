"""``vmstream convert``: options, what it prints, exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import vmstream
from corpus import case_named
from vmstream.cli import main

CASE = case_named("pc-10.0")


def test_it_says_what_was_written_and_that_it_is_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["convert", str(CASE.main), "-o", str(out), "--to", "mapped-ram"]) == 0
    told = capsys.readouterr().out
    assert str(out) in told
    assert "decoded again" in told
    with vmstream.open(out) as written:
        assert "mapped-ram" in written.capabilities


def test_the_check_can_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["convert", str(CASE.main), "-o", str(tmp_path / "out"), "--to", "plain"]
    assert main([*words, "--no-check", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["checked"], report["blocks"]) == (False, [])


def test_multifd_is_a_directory_that_every_verb_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["convert", str(CASE.main), "-o", str(out), "--to", "multifd", "--channels", "3"]
    uuid = "00112233-4455-6677-8899-aabbccddeeff"
    assert main([*words, "--compression", "zstd", "--uuid", uuid]) == 0
    names = sorted(path.name for path in out.iterdir())
    assert names == ["channel-1.mig", "channel-2.mig", "channel-3.mig", "stream.mig"]
    assert main(["verify", *(str(out / name) for name in names)]) == 0
    assert (out / "channel-1.mig").read_bytes()[8:24] == bytes.fromhex(uuid.replace("-", ""))
    capsys.readouterr()


def test_a_machine_without_a_version_takes_one_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0x200 on the main channel marks a sync for machines since 8.1."""
    stream = str(case_named("isapc-7.2").main)
    words = ["convert", stream, "--to", "multifd", "-o"]
    assert main([*words, str(tmp_path / "old")]) == 0
    assert main([*words, str(tmp_path / "new"), "--qemu", "9.0"]) == 0
    capsys.readouterr()
    flushes = []
    for name in ("old", "new"):
        with vmstream.open(*sorted((tmp_path / name).iterdir())) as written:
            flushes.append(written.flushes)
    assert flushes == [0, 3]


def test_a_libvirt_image_takes_its_xml_from_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    xml = tmp_path / "guest.xml"
    xml.write_text("<domain>here</domain>")
    words = ["convert", str(CASE.main), "-o", str(tmp_path / "out"), "--to", "plain"]
    assert main([*words, "--container", "libvirt", "--xml", str(xml)]) == 0
    capsys.readouterr()
    assert b"<domain>here</domain>\0" in (tmp_path / "out").read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--to", "plain"],
        ["-o", "out"],
        ["-o", "out", "--to", "qcow2"],
        ["-o", "out", "--to", "multifd", "--channels", "0"],
        ["-o", "out", "--to", "plain", "--compression", "zstd"],
        ["-o", "out", "--to", "plain", "--container", "libvirt"],
        ["-o", "out", "--to", "plain", "--container", "libvirt", "--xml", "absent.xml"],
        ["-o", "out", "--to", "multifd", "--uuid", "12"],
        ["-o", "out", "--to", "multifd", "--qemu", "new"],
        ["-o", "absent/out", "--to", "plain"],
    ],
)
def test_what_can_not_be_asked_is_one_line_and_status_2(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["convert", str(CASE.main), *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_cut_stream_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(CASE.main.read_bytes()[:100_000])
    assert main(["convert", str(cut), "-o", str(tmp_path / "out"), "--to", "plain"]) == 2
    assert "input ends" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["cut"]

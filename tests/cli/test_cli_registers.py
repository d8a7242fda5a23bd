"""``vmstream registers`` on a terminal and as JSON."""

from __future__ import annotations

import json

import pytest

import vmstream
from corpus import case_named
from vmstream.cli import main


def printed(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    assert main(["registers", *words]) == status
    return capsys.readouterr().out


def test_json_has_every_processor_with_integers_as_numbers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = str(case_named("devices-q35-7.2").main)
    cpus = json.loads(printed(capsys, stream, "--json"))
    with vmstream.open(stream) as opened:
        found = vmstream.registers(opened)
    assert list(cpus) == list(found) == ["cpu:0", "cpu:1"]
    assert cpus["cpu:0"]["rip"] == found["cpu:0"]["rip"]
    assert cpus["cpu:0"]["efer"] == found["cpu:0"]["efer"]


def test_json_has_registers_wider_than_64_bits_as_hex_of_their_width(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cpu = json.loads(printed(capsys, str(case_named("pc-7.2").main), "--json"))["cpu:0"]
    assert (len(cpu["st0"]), len(cpu["xmm0"])) == (2 + 20, 2 + 32)
    assert all(isinstance(value, int) or value.startswith("0x") for value in cpu.values())


def test_lines_are_name_hex_and_natural_value(capsys: pytest.CaptureFixture[str]) -> None:
    stream = str(case_named("aarch64-virt-7.2").main)
    lines = printed(capsys, stream, "--cpu", "0").splitlines()
    assert lines[0] == "cpu:0 aarch64"
    assert "x3             0x202000           2105344" in lines
    assert "sp             0x40210000         0x40210000" in lines
    with vmstream.open(stream) as opened:
        status = vmstream.registers(opened)["cpu:0"]["cpsr"]
    [flags] = [line for line in lines if line.startswith("cpsr ")]
    assert flags.split()[1] == f"{status:#x}"
    assert ("N" in flags.split()[2:]) == bool(status >> 31)


def test_all_shows_what_is_left_out_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    stream = str(case_named("pc-7.2").main)
    assert "xmm0" not in printed(capsys, stream)
    assert "xmm0" in printed(capsys, stream, "--all")


def test_a_processor_that_is_not_there_is_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    shown = printed(capsys, str(case_named("pc-7.2").main), "--cpu", "9", status=1)
    assert "there is no cpu:9" in shown

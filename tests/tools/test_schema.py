"""Schemas from files and from QEMU binaries."""

from __future__ import annotations

import gzip
import sys
import tempfile
import time
from pathlib import Path

import pytest

from corpus import case_named
from schema_builders import described, field, schema_text
from vmstream import open as open_stream
from vmstream.errors import Malformed, SourceError, StreamError, Truncated
from vmstream.tools.schema import obtain_schema, read_schema, show_schema

TEXT = schema_text(e1000=described("e1000", field("a")), i8042=described("pckbd", field("b")))


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go while a test runs."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def script(folder: Path, body: str) -> list[str]:
    """A command that does in Python what a QEMU would do; ``output`` is where it writes."""
    path = folder / "qemu.py"
    path.write_text(
        f"import os, sys, time\noutput = sys.argv[sys.argv.index('-dump-vmstate') + 1]\n{body}"
    )
    return [sys.executable, str(path)]


def test_a_compressed_schema_is_read(tmp_path: Path) -> None:
    path = tmp_path / "schema.json.gz"
    path.write_bytes(gzip.compress(TEXT))
    assert read_schema(path) == read_schema(TEXT)


def test_a_compressed_schema_that_is_cut_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "schema.json.gz"
    path.write_bytes(gzip.compress(TEXT)[:-20])
    with pytest.raises(Truncated):
        read_schema(path)


def test_an_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "no-schema"
    path.write_bytes(b"{}")
    with pytest.raises(Malformed, match="no-schema: the schema has no vmschkmachine"):
        read_schema(path)


def test_types_are_found_by_type_and_by_name_in_a_stream() -> None:
    schema = read_schema(TEXT)
    assert list(show_schema(schema, "f").devices) == ["e1000", "i8042"]
    assert list(show_schema(schema, "f", "pckbd").devices) == ["i8042"]
    assert list(show_schema(schema, "f", "e1*").devices) == ["e1000"]
    assert show_schema(schema, "f", "hpet").missing == ("hpet",)


@pytest.mark.interop
def test_a_real_qemu_tells_its_schema(qemu72: Path, scratch: Path) -> None:
    schema = obtain_schema(str(qemu72), "q35")
    assert schema.machine == "pc-q35-7.2"
    assert schema.devices["mc146818rtc"].fields[0].name == "cmos_data"
    assert not list(scratch.iterdir())


@pytest.mark.interop
def test_a_real_qemu_says_why_it_has_none(qemu72: Path, scratch: Path) -> None:
    with pytest.raises(SourceError, match=r"status 1: .*unsupported machine type"):
        obtain_schema(str(qemu72), "no-such-machine")
    assert not list(scratch.iterdir())


def test_a_command_gets_machine_and_file(tmp_path: Path, scratch: Path) -> None:
    text = schema_text("MACHINE", a=described("a", field("x")))
    machine = f"{text!r}.replace(b'MACHINE', sys.argv[sys.argv.index('-M') + 1].encode())"
    command = script(tmp_path, f"open(output, 'wb').write({machine})")
    assert obtain_schema(command, "virt-9.0").machine == "virt-9.0"
    assert not list(scratch.iterdir())


def test_a_command_that_hangs_is_ended_with_what_it_started(tmp_path: Path, scratch: Path) -> None:
    alive = tmp_path / "alive"
    body = f"os.fork()\nwhile True:\n    open({str(alive)!r}, 'a').write('x')\n    time.sleep(0.01)"
    with pytest.raises(SourceError, match=r"did not write its schema in 0\.5 s"):
        obtain_schema(script(tmp_path, body), "pc", timeout=0.5)
    assert not list(scratch.iterdir())
    time.sleep(0.1)
    before = alive.stat().st_size
    time.sleep(0.2)
    assert before == alive.stat().st_size > 0


def test_a_command_that_writes_nothing_is_an_error(tmp_path: Path, scratch: Path) -> None:
    with pytest.raises(SourceError, match="wrote no schema of pc: nothing to say"):
        obtain_schema(script(tmp_path, "print('nothing', 'to say')"), "pc")
    assert not list(scratch.iterdir())


def test_a_command_that_is_not_there_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError):
        obtain_schema("/no/such/qemu", "pc")


def test_descriptions_are_lent_by_whatever_the_file_is() -> None:
    case = case_named("no-vmdesc-7.2")
    described_case = case_named("pc-7.2")
    for lent in (described_case.main, described_case.schema):
        if lent is None:
            pytest.skip("no recorded schema of that binary")
        with open_stream(case.main, describe_with=str(lent)) as stream:
            assert any(device.origin == "borrowed" for device in stream.devices)


def test_what_lends_nothing_is_refused() -> None:
    case = case_named("no-vmdesc-7.2")
    with pytest.raises(StreamError, match="to borrow descriptions from has none"):
        open_stream(case.main, describe_with=str(case.main))
    with pytest.raises(Malformed, match="no -dump-vmstate JSON"):
        open_stream(case.main, describe_with=b"{ this is no schema")

"""Schemas from files and from QEMU binaries; ``schema show``."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from vmstream.engine.command_line import machine_of, words_of
from vmstream.errors import SourceError
from vmstream.sources import Source, Target, open_source
from vmstream.sources.reader import Reader
from vmstream.tools.output import atomic_file
from vmstream.vmstate.description import Description
from vmstream.vmstate.schema import MAX_SCHEMA_SIZE, Schema, parse_schema

__all__ = [
    "SchemaDump",
    "SchemaReport",
    "dump_schema",
    "obtain_schema",
    "obtain_schema_text",
    "read_schema",
    "schema_of",
    "show_schema",
]

TIMEOUT = 30.0
"""Seconds that a QEMU may take; it writes the file and exits before it makes the machine."""

_SAID = 400
"""Characters of what QEMU said that an error repeats."""


def read_schema(target: Target) -> Schema:
    """Read a ``-dump-vmstate`` file from a path, URL, ``"-"``, file object or bytes.

    It may be compressed with whatever a stream may be.

    Raises:
        Malformed, LimitExceeded: it is no schema, or too large.
        SourceError, Truncated: it can not be decompressed.
        OSError: it can not be opened.
    """
    with open_source(target) as source:
        return schema_of(source)


def schema_of(source: Source) -> Schema:
    """Read a schema from a source that is open; see :func:`read_schema`."""
    reader = Reader(source.pieces())
    text = reader.read(MAX_SCHEMA_SIZE + 1)
    if reader.error is not None:
        raise reader.error
    return parse_schema(text, file=source.name)


def obtain_schema(
    command: str | Sequence[str], machine: str | None = None, *, timeout: float = TIMEOUT
) -> Schema:
    """Let a QEMU say what its device state is; see :func:`obtain_schema_text`.

    Raises:
        Malformed: what it wrote is no schema.
    """
    words = words_of(command)
    return parse_schema(obtain_schema_text(words, machine, timeout=timeout), file=words[0])


def obtain_schema_text(
    command: str | Sequence[str], machine: str | None = None, *, timeout: float = TIMEOUT
) -> bytes:
    """What ``COMMAND -M MACHINE -dump-vmstate FILE`` writes.

    Args:
        command: the binary, with arguments before those where it needs some; a
            string is split as a shell does.
        machine: the machine type, with its version (``pc-i440fx-7.2``) or an alias;
            the binary's default when it is None.
        timeout: seconds after which it is killed, with everything it started.

    Raises:
        SourceError: it failed, took too long, or wrote nothing; with what it said.
        OSError: it can not be started.
        ValueError: there is no command.
    """
    words = words_of(command)
    chosen = ["-M", machine] if machine is not None else []
    with tempfile.TemporaryDirectory(prefix="vmstream-") as folder:
        output = Path(folder) / "schema.json"
        said = _run([*words, *chosen, "-dump-vmstate", str(output)], timeout)
        if not output.exists():
            which = machine or "its default machine"
            raise SourceError(f"wrote no schema of {which}{_because(said)}", file=words[0])
        with output.open("rb") as written:
            return written.read(MAX_SCHEMA_SIZE + 1)


class SchemaDump(msgspec.Struct, frozen=True):
    """A schema that was obtained."""

    file: str | None
    """Where it was written."""
    machine: str
    """The machine type, with its version."""
    device_types: int
    size: int
    """Bytes."""


def dump_schema(
    command: str | Sequence[str], out: str | None = None, *, timeout: float = TIMEOUT
) -> tuple[bytes, SchemaDump]:
    """The schema of a whole QEMU command line: that of its binary and machine type.

    Nothing else of the command matters to it, so nothing else is started: no disk is
    opened and no device made.

    Args:
        out: a file to write; it appears when it is whole.

    Raises:
        SourceError, Malformed, OSError, ValueError: as :func:`obtain_schema`.
        OSError: the file can not be written.
    """
    words = words_of(command)
    options = (number for number, word in enumerate(words) if word.startswith("-"))
    program = words[: next(options, None)]
    text = obtain_schema_text(program, machine_of(words), timeout=timeout)
    schema = parse_schema(text, file=words[0])
    if out is not None:
        with atomic_file(out) as file:
            file.write(text)
    return text, SchemaDump(out, schema.machine, len(schema.devices), len(text))


def _run(words: list[str], timeout: float) -> str:
    """Run it to its end, and leave nothing of its session running; returns what it said."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
        try:
            status = process.wait(timeout)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            message = f"did not write its schema in {timeout:g} s"
            raise SourceError(message, file=words[0]) from None
        said.seek(0)
        text = said.read(_SAID).decode("utf-8", "replace")
    if status:
        raise SourceError(f"ended with status {status}{_because(text)}", file=words[0])
    return text


def _because(said: str) -> str:
    words = " ".join(said.split())
    return f": {words}" if words else ""


class SchemaReport(msgspec.Struct, frozen=True):
    """Device types of a schema."""

    file: str
    machine: str
    devices: dict[str, Description]
    """By QOM type, in the schema's order; those asked for."""
    missing: tuple[str, ...]
    """What was asked for and is not there."""


def show_schema(schema: Schema, file: str, device: str | None = None) -> SchemaReport:
    """Look up device types.

    Args:
        device: QOM type, or the name in a stream (the last part of an idstr);
            ``*`` is a wildcard. All without it.
    """
    if device is None:
        return SchemaReport(file, schema.machine, schema.devices, ())
    chosen = {
        name: description
        for name, description in schema.devices.items()
        if fnmatchcase(name, device) or fnmatchcase(description.name, device)
    }
    return SchemaReport(file, schema.machine, chosen, () if chosen else (device,))

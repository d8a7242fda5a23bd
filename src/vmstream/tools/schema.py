"""Schemas from files and from QEMU binaries; ``schema show``."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from vmstream.errors import SourceError
from vmstream.sources import Source, Target, open_source
from vmstream.sources.reader import Reader
from vmstream.vmstate.description import Description
from vmstream.vmstate.schema import MAX_SCHEMA_SIZE, Schema, parse_schema

__all__ = ["SchemaReport", "obtain_schema", "read_schema", "schema_of", "show_schema"]

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
    command: str | Sequence[str], machine: str, *, timeout: float = TIMEOUT
) -> Schema:
    """Let a QEMU say what its device state is: ``COMMAND -M MACHINE -dump-vmstate FILE``.

    Args:
        command: the binary, with arguments before those where it needs some; a
            string is split as a shell does.
        machine: the machine type, with its version (``pc-i440fx-7.2``) or an alias.
        timeout: seconds after which it is killed, with everything it started.

    Raises:
        SourceError: it failed, took too long, or wrote nothing; with what it said.
        Malformed: what it wrote is no schema.
        OSError: it can not be started.
    """
    words = shlex.split(command) if isinstance(command, str) else list(command)
    if not words:
        raise ValueError("a command is needed")
    with tempfile.TemporaryDirectory(prefix="vmstream-") as folder:
        output = Path(folder) / "schema.json"
        said = _run([*words, "-M", machine, "-dump-vmstate", str(output)], timeout)
        if not output.exists():
            raise SourceError(f"wrote no schema of {machine}{_because(said)}", file=words[0])
        with output.open("rb") as written:
            text = written.read(MAX_SCHEMA_SIZE + 1)
    return parse_schema(text, file=words[0])


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

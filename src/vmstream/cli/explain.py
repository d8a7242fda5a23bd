"""``vmstream explain``."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vmstream.cli.run import DEFAULT_INPUT, DEFAULT_OUTPUT, Input, Output
from vmstream.cli.streams import open_input, open_other, print_json


def command(
    log: Annotated[str, Parameter(allow_leading_hyphen=True)],
    *,
    stream: str | None = None,
    schema: str | None = None,
    against: str | None = None,
    source: Input = DEFAULT_INPUT,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Why a migration failed, from what QEMU or libvirt printed.

    Exit status 1 when the log tells of a failure.

    Parameters
    ----------
    log
        The destination's standard error, a libvirt log or QMP's answer; - for standard input.
    stream
        What was migrated: the cause then has its place in it.
    schema
        The destination's -dump-vmstate file.
    against
        A stream that the destination wrote.
    """
    from vmstream.render.explain import render
    from vmstream.tools.explain import explain
    from vmstream.tools.schema import read_schema

    text = _read(log)
    with ExitStack() as stack:
        opened = (
            stack.enter_context(open_input(stream, (), source, keep=True))
            if stream is not None
            else None
        )
        other = stack.enter_context(open_other(against)) if against is not None else None
        report = explain(text, opened, read_schema(schema) if schema is not None else None, other)
    if output.json:
        print_json(report)
    else:
        render(report)
    return 1 if report.findings or report.unrecognised else 0


def _read(path: str) -> str:
    """The end of a log, as much as is looked at."""
    from vmstream.tools.explain.log import MAX_LOG

    if path == "-":
        return sys.stdin.buffer.read(MAX_LOG).decode("utf-8", "replace")
    with Path(path).open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - MAX_LOG))
        return file.read(MAX_LOG).decode("utf-8", "replace")

"""``vmstream schema show``, ``vmstream schema diff`` and ``vmstream schema dump``."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from vmstream.cli.run import DEFAULT_OUTPUT, Output, UsageError
from vmstream.cli.streams import print_json

__all__ = ["commands"]


def show(file: str, device: str | None = None, *, output: Output = DEFAULT_OUTPUT) -> int:
    """What device state a QEMU declares.

    Parameters
    ----------
    file
        The file that qemu-system-... -M MACHINE -dump-vmstate FILE wrote.
    device
        A device type, or the name of its state in a stream; * is a wildcard.
    """
    from vmstream.tools.schema import read_schema, show_schema

    report = show_schema(read_schema(file), file, device)
    if output.json:
        print_json(report)
    else:
        from vmstream.render.schema import render

        render(report, detailed=device is not None)
    return 1 if report.missing else 0


def diff(
    old: str,
    new: str,
    *,
    reverse: bool = False,
    full: bool = False,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """What of one QEMU's device state another would not load, and the other way round.

    Exit status 1 when something breaks from OLD to NEW.

    Parameters
    ----------
    old
        The -dump-vmstate file of the one side.
    new
        That of the other.
    reverse
        Exit status 1 when something breaks from NEW to OLD instead.
    full
        List harmless changes, too.
    """
    from vmstream.tools.schema import read_schema
    from vmstream.tools.schema_diff import Direction, schema_diff

    direction = Direction.NEW_TO_OLD if reverse else Direction.OLD_TO_NEW
    report = schema_diff(read_schema(old), read_schema(new))
    if output.json:
        print_json(report)
    else:
        from vmstream.render.schema_diff import render

        render(report, direction, full=full)
    return 1 if report.breaks(direction) else 0


def dump(
    *,
    qemu: str,
    out: Annotated[str | None, Parameter(name=("--out", "-o"))] = None,
    timeout: float = 30.0,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """What device state a QEMU declares, from the QEMU itself, as its -dump-vmstate writes it.

    Parameters
    ----------
    qemu
        The QEMU's command line. Its program and machine type are what matters: no disk is
        opened and no device made.
    out
        The file to write, which appears when it is whole; standard output without it.
    timeout
        Seconds that the QEMU may take.
    """
    from vmstream.tools.schema import dump_schema

    try:
        text, report = dump_schema(qemu, out, timeout=timeout)
    except ValueError as error:
        raise UsageError(f"--qemu: {error}") from error
    if out is None:
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
    elif output.json:
        print_json(report)
    else:
        print(f"{out}: {report.device_types} device types of {report.machine}")
    return 0


commands = {"show": show, "diff": diff, "dump": dump}

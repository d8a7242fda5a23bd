"""``vmstream schema show`` and ``vmstream schema diff``."""

from __future__ import annotations

from vmstream.cli.run import DEFAULT_OUTPUT, Output
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


commands = {"show": show, "diff": diff}

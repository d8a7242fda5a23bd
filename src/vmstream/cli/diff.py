"""``vmstream diff``."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vmstream.cli.run import DEFAULT_OUTPUT, Input, Output, UsageError
from vmstream.cli.streams import open_input, print_json

if TYPE_CHECKING:
    from vmstream.cli.parser import Stream


def command(
    a: Stream,
    b: Stream,
    /,
    *,
    channel_a: tuple[str, ...] = (),
    channel_b: tuple[str, ...] = (),
    ram: Annotated[bool, Parameter(negative="--no-ram")] = True,
    hex: bool = False,
    all: bool = False,
    ignore: tuple[str, ...] = (),
    full: bool = False,
    snapshot_a: str | None = None,
    snapshot_b: str | None = None,
    describe_with: str | None = None,
    page_size: int | None = None,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """What differs between two streams: machine, sections, device fields, registers, memory.

    Exit status 0 when nothing differs, but for what always moves and what is ignored; 1 when
    something does, or a stream is damaged; 2 when one can not be read.

    Parameters
    ----------
    a
        The old stream: a path, a URL, or - for standard input.
    b
        The new one.
    channel_a
        Another file of the same migration as A, such as a multifd channel; may be given often.
    channel_b
        The same of B.
    ram
        Compare guest memory.
    hex
        Show the bytes of memory that differ, 16 to a line.
    all
        Show what always moves, too: clocks, timers, counters of time.
    ignore
        Leave out what matches DEVICE:INSTANCE/PATH, with wildcards; a RAM block is ram:0/NAME.
        May be given often.
    full
        Show every field and register that differs, not the first of each device.
    snapshot_a
        Tag or id of the internal snapshot, where A is a qcow2 image with several.
    snapshot_b
        The same of B.
    describe_with
        Another stream or a -dump-vmstate schema that describes devices which these do not.
    page_size
        Target page size in bytes, where nothing in a stream tells it.
    """
    from vmstream.render.progress import Progress
    from vmstream.tools.diff import diff

    if a == b == "-":
        raise UsageError("only one of the streams can be standard input")
    if hex and (output.json or not ram):
        raise UsageError("--hex goes with neither --json nor --no-ram")
    with ExitStack() as stack:
        old, new = (
            stack.enter_context(
                open_input(name, channels, Input(snapshot, describe_with, page_size), keep=True)
            )
            for name, channels, snapshot in ((a, channel_a, snapshot_a), (b, channel_b, snapshot_b))
        )
        with Progress("comparing") as progress:
            report = diff(old, new, ignore=ignore, all=all, ram=ram, advance=progress.advance)
        if output.json:
            print_json(report)
        else:
            from vmstream.render.diff import render, render_hex
            from vmstream.tools.diff_memory import hex_lines

            render(report, full=full)
            if hex and report.memory is not None and report.memory.differing:
                render_hex(hex_lines(old, new, report.memory))
    return 0 if report.identical and report.sound else 1

"""``vmstream check``."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vmstream.cli.run import DEFAULT_INPUT, DEFAULT_OUTPUT, Input, Output, UsageError
from vmstream.cli.streams import open_input, open_other, print_json

if TYPE_CHECKING:
    from vmstream.cli.parser import Channels, Stream


def command(
    stream: Stream,
    *channels: Channels,
    schema: str | None = None,
    against: str | None = None,
    qemu: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    capabilities: str | None = None,
    source: Input = DEFAULT_INPUT,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Whether a destination will load a stream; if not, which field of which device breaks.

    Exit status 0 when it loads, 1 when it does not or nothing given tells.

    Parameters
    ----------
    schema
        The destination's -dump-vmstate file: QEMU's release and machine type alone.
    against
        A stream that the destination wrote: also its devices, memory and properties.
    qemu
        The destination's command line. It is started, stopped, given the stream without
        its bulk memory, and ended; its disks are not written.
    capabilities
        Migration capabilities that are on there, with commas between (none: ''). Without it
        they are taken to be set as the stream needs.
    """
    from vmstream.tools.check.check import check
    from vmstream.tools.schema import read_schema

    if schema is None and against is None and qemu is None:
        raise UsageError("check needs --schema, --against or --qemu")
    with ExitStack() as stack:
        opened = stack.enter_context(open_input(stream, channels, source, keep=qemu is not None))
        report = check(
            opened,
            schema=read_schema(schema) if schema is not None else None,
            other=stack.enter_context(open_other(against)) if against is not None else None,
            qemu=qemu,
            capabilities=None
            if capabilities is None
            else [name for name in capabilities.split(",") if name],
        )
    if output.json:
        print_json(report)
    else:
        from vmstream.render.check import render

        render(report)
    return 0 if report.verdict == "loads" else 1

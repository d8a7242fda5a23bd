"""``vmstream inspect``."""

from __future__ import annotations

from vmstream.cli.run import (
    DEFAULT_INPUT,
    DEFAULT_OUTPUT,
    Channels,
    Input,
    Output,
    Stream,
)
from vmstream.cli.streams import open_input, print_json


def command(
    stream: Stream,
    *channels: Channels,
    source: Input = DEFAULT_INPUT,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """What a stream holds: machine, capabilities, RAM blocks, devices, and what is odd."""
    from vmstream.tools.inspect import inspect

    with open_input(stream, channels, source) as opened:
        report = inspect(opened)
    if output.json:
        print_json(report)
    else:
        from vmstream.render.inspect import render

        render(report)
    return 0 if report.sound else 1

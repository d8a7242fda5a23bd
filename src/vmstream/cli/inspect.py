"""``vmstream inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmstream.cli.run import DEFAULT_INPUT, DEFAULT_OUTPUT, Input, Output
from vmstream.cli.streams import open_input, print_json

if TYPE_CHECKING:
    from vmstream.cli.parser import Channels, Stream


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

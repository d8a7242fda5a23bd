"""``vmstream verify``."""

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
    """Check structure, footers, order, description against bytes, pages, and the end."""
    from vmstream.tools.verify import verify

    with open_input(stream, channels, source) as opened:
        report = verify(opened)
    if output.json:
        print_json(report)
    else:
        from vmstream.render.verify import render

        render(report)
    return 0 if report.sound else 1

"""``vmstream verify``."""

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

"""``vmstream registers``."""

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
    """CPU registers of every vCPU, by gdb's names."""
    from vmstream.stream.registers import registers

    with open_input(stream, channels, source) as opened:
        found = registers(opened)
        sound = opened.complete and not opened.faults
    if output.json:
        print_json(found)
    else:
        from vmstream.render.registers import render

        render(found)
    return 0 if sound else 1

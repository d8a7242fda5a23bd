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
    cpu: tuple[int, ...] = (),
    all: bool = False,
    source: Input = DEFAULT_INPUT,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Registers of every processor, by the names that gdb gives them.

    Parameters
    ----------
    cpu
        Only the processor of this number; may be given several times.
    all
        Show debug, floating-point, vector, banked and system registers too; JSON always has them.
    """
    from vmstream.tools.registers import registers

    with open_input(stream, channels, source) as opened:
        report = registers(opened, cpu)
    if output.json:
        from vmstream.render.registers import plain

        print_json(plain(report))
    else:
        from vmstream.render.registers import render

        render(report, everything=all)
    return 0 if report.sound else 1

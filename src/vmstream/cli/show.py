"""``vmstream show``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmstream.cli.run import DEFAULT_INPUT, DEFAULT_OUTPUT, Input, Output
from vmstream.cli.streams import open_input, print_json

if TYPE_CHECKING:
    from vmstream.cli.parser import Channels, Stream


def command(
    stream: Stream,
    *channels: Channels,
    device: str | None = None,
    field: str | None = None,
    raw: bool = False,
    full: bool = False,
    source: Input = DEFAULT_INPUT,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Decoded device state.

    Parameters
    ----------
    device
        Which device: name:instance, name, or the last part of the name; * is a wildcard.
    field
        Path of one field within the device, like env.regs[4].
    raw
        Show offset and bytes beside each value.
    full
        Do not abbreviate buffers and long arrays.
    """
    from vmstream.tools.show import show

    with open_input(stream, channels, source) as opened:
        report = show(opened, device, field)
        if output.json:
            from vmstream.render.show_json import plain

            print_json(plain(report, raw=raw, full=full))
        else:
            from vmstream.render.show import render

            render(report, raw=raw, full=full)
    return 0 if report.sound else 1

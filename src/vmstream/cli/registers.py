"""``vmstream registers``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmstream.cli.run import DEFAULT_INPUT, DEFAULT_OUTPUT, Input, Output, UsageError
from vmstream.cli.streams import open_input, print_json

if TYPE_CHECKING:
    from vmstream.cli.parser import Channels, Stream


def command(
    stream: Stream,
    *channels: Channels,
    cpu: int | None = None,
    all: bool = False,
    source: Input = DEFAULT_INPUT,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """CPU registers of every vCPU, by gdb's names.

    Parameters
    ----------
    cpu
        Only the vCPU of this instance number.
    all
        System, banked, floating point and vector registers, too (--json always has them).
    """
    from vmstream.stream.registers import processors

    with open_input(stream, channels, source) as opened:
        found = processors(opened)
        sound = opened.complete and not opened.faults
    if cpu is not None:
        found = {key: value for key, value in found.items() if key == f"cpu:{cpu}"}
        if not found:
            raise UsageError(f"there is no vCPU {cpu}")
    if output.json:
        print_json(
            {
                key: {register.name: register.value for register in processor.registers}
                for key, processor in found.items()
            }
        )
    else:
        from vmstream.render.registers import render

        render(found, everything=all)
    return 0 if sound else 1

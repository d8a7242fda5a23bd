"""``vmstream restore``."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vmstream.cli.run import DEFAULT_INPUT, DEFAULT_OUTPUT, Input, Output, UsageError
from vmstream.cli.streams import open_input, print_json

if TYPE_CHECKING:
    from vmstream.cli.parser import Channels, Stream


def command(
    stream: Stream,
    *channels: Channels,
    qmp: str | None = None,
    qemu: str | None = None,
    run: Annotated[bool | None, Parameter(negative="--paused")] = None,
    detach: bool = False,
    rate: float = 0,
    timeout: float = 300.0,
    source: Input = DEFAULT_INPUT,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Give the guest in a stream to a QEMU, started for it or waiting.

    Exit status 1 when the QEMU did not take it; with --qemu otherwise that of the QEMU.

    Parameters
    ----------
    qmp
        The QMP socket (a path) of a QEMU that was started with -incoming defer.
    qemu
        The destination's command line. It is run as given, and stays in the foreground.
    run
        Let the guest run, or keep it paused; otherwise it is as it was when it was saved.
    detach
        Leave the QEMU that was started in the background.
    rate
        MiB a second at most; 0 is no limit.
    timeout
        Seconds that each wait lasts at most.
    """
    from vmstream.render.progress import Progress
    from vmstream.render.restore import render
    from vmstream.tools.restore import restore, start

    if (qmp is None) == (qemu is None):
        raise UsageError("restore needs --qmp or --qemu")
    with ExitStack() as stack:
        opened = stack.enter_context(open_input(stream, channels, source, keep=True))
        try:
            started = start(qemu, detach=detach) if qemu is not None else None
        except ValueError as error:
            raise UsageError(str(error)) from error
        progress = stack.enter_context(Progress("sending"))
        report = restore(
            opened,
            started or str(qmp),
            run=run,
            rate=int(rate * (1 << 20)),
            timeout=timeout,
            advance=progress.advance,
        )
    if output.json:
        print_json(report)
    else:
        render(report)
    sys.stdout.flush()
    if not report.complete:
        return 1
    if started is None or detach:
        return 0
    return started.process.wait()

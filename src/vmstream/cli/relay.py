"""``vmstream relay``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vmstream.cli.run import DEFAULT_OUTPUT, Output, UsageError
from vmstream.cli.streams import print_json
from vmstream.cli.transport import DEFAULT_TRANSPORT, Transport, credentials

if TYPE_CHECKING:
    from vmstream.cli.parser import Uri


def command(
    listen: Uri,
    connect: Uri,
    *,
    record: str | None = None,
    trace: str | None = None,
    rate: Annotated[float, Parameter(validator=lambda _, value: _positive(value))] = 0,
    fault: str | None = None,
    tls: Annotated[str, Parameter()] = "both",
    transport: Transport = DEFAULT_TRANSPORT,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Stand between a source and a destination; what passes through is not changed.

    Exit status 1 when the migration did not come to its end.

    Parameters
    ----------
    listen
        Where the source connects; port 0 takes a free one, which is printed.
    connect
        Where the destination listens.
    record
        A directory to write with every channel, both ways.
    trace
        A file for the time line, which Perfetto (ui.perfetto.dev) opens.
    rate
        MiB a second that the source may send at most; 0 is no limit.
    fault
        Do something wrong on purpose: refuse, cut, stall[:SECONDS] or corrupt, then @BYTE,
        @section=IDSTR or @iteration=N.
    tls
        Which side the credentials are for: source, destination or both.
    """
    from vmstream.engine.faults import parse_fault
    from vmstream.render.relay import Watch, render
    from vmstream.tools.relay import relay

    if tls not in ("source", "destination", "both"):
        raise UsageError("--tls is source, destination or both")
    try:
        chosen = parse_fault(fault) if fault is not None else None
    except ValueError as error:
        raise UsageError(str(error)) from error
    given = credentials(transport)
    with Watch() as watch:
        report = relay(
            listen,
            connect,
            record=record,
            trace=trace,
            fault=chosen,
            rate=int(rate * (1 << 20)),
            server=given if tls != "destination" else None,
            client=given if tls != "source" else None,
            timeout=transport.timeout,
            listening=lambda where: print(f"listening at {where}", file=sys.stderr, flush=True),
            watch=watch.show,
        )
    if output.json:
        print_json(report)
    else:
        render(report)
    return 0 if report.complete else 1


def _positive(value: float) -> None:
    if value < 0:
        raise ValueError("a rate is not negative")

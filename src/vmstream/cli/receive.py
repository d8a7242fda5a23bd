"""``vmstream receive``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vmstream.cli.run import DEFAULT_OUTPUT, Output, UsageError
from vmstream.cli.streams import print_json
from vmstream.cli.transport import DEFAULT_TRANSPORT, Transport, credentials

if TYPE_CHECKING:
    from vmstream.cli.parser import Uri


def command(
    uri: Uri,
    out: str,
    *,
    to: Literal["plain", "mapped-ram"] = "plain",
    raw: bool = False,
    fault: str | None = None,
    switchover_ack: Annotated[bool | None, Parameter(negative="--no-switchover-ack")] = None,
    transport: Transport = DEFAULT_TRANSPORT,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Be the destination of a migration: QEMU migrates to us, and ends "completed".

    Exit status 1 when the migration did not come to its end; OUT.partial then keeps
    what arrived.

    Parameters
    ----------
    uri
        Where to listen; port 0 takes a free one, which is printed.
    out
        The file to write. It appears when it is whole.
    to
        The form of the file.
    raw
        Write a directory with every channel as it arrived instead.
    fault
        Do something wrong on purpose: refuse, cut, stall[:SECONDS] or fail, then @BYTE,
        @section=IDSTR or @iteration=N.
    switchover_ack
        Acknowledge the switchover (8.1+); told by the source's machine type otherwise.
    """
    from vmstream.engine.faults import parse_fault
    from vmstream.render.receive import Watch, render
    from vmstream.tools.receive import Kept, receive

    try:
        chosen = parse_fault(fault) if fault is not None else None
    except ValueError as error:
        raise UsageError(str(error)) from error
    with Watch() as watch:
        report = receive(
            uri,
            out,
            kept=Kept.RAW if raw else Kept(to),
            tls=credentials(transport),
            fault=chosen,
            switchover_ack=switchover_ack,
            timeout=transport.timeout,
            listening=lambda where: print(f"listening at {where}", file=sys.stderr, flush=True),
            watch=watch.show,
        )
    if output.json:
        print_json(report)
    else:
        render(report)
    return 0 if report.complete else 1

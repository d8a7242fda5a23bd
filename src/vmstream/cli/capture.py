"""``vmstream capture``."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any, Literal

from vmstream.cli.run import DEFAULT_OUTPUT, Output, UsageError
from vmstream.cli.streams import print_json


def command(
    out: str,
    *,
    qmp: str,
    live: bool = False,
    pause: bool = False,
    run: bool = False,
    to: Literal["plain", "mapped-ram", "raw"] = "plain",
    container: Literal["none", "gzip", "zstd"] = "none",
    libvirt: str | None = None,
    multifd: int = 0,
    compression: Literal["none", "zlib", "zstd"] = "none",
    xbzrle: bool = False,
    bandwidth: float | None = None,
    downtime: int | None = None,
    timeout: float = 300.0,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Save the guest of a running QEMU; the guest and every setting are left as they were.

    Exit status 1 when the guest was not captured; it goes on then.

    Parameters
    ----------
    out
        The file to write (a directory with --to raw). It appears when it is whole.
    qmp
        The QMP socket of the QEMU: a path, or HOST:PORT.
    live
        Without stopping the guest: a background snapshot (QEMU 6.0+, userfaultfd).
    pause
        Leave the guest paused.
    run
        Leave the guest running, also when it was paused.
    to
        The form of the file; raw: every channel as it arrived.
    container
        What to put around the stream.
    libvirt
        Write a save image that virsh restore takes, with the domain's XML from this file.
    multifd
        Receive on so many multifd channels.
    compression
        Of multifd's packets on their way.
    xbzrle
        Let QEMU send differences.
    bandwidth
        MiB a second at most.
    downtime
        Milliseconds that the guest may stand still at the end.
    timeout
        Seconds that each wait lasts at most.
    """
    from vmstream.render.capture import render
    from vmstream.render.receive import Watch
    from vmstream.tools.capture import Afterwards, Wanted, capture
    from vmstream.tools.convert import Container
    from vmstream.tools.receive import Kept

    if pause and run:
        raise UsageError("--pause and --run contradict each other")
    afterwards = Afterwards.AS_BEFORE
    if pause or run:
        afterwards = Afterwards.PAUSED if pause else Afterwards.RUNNING
    wanted = Wanted(
        live=live,
        afterwards=afterwards,
        kept=Kept(to),
        container=Container.LIBVIRT if libvirt is not None else Container(container),
        xml=Path(libvirt).read_text("utf-8") if libvirt is not None else None,
        channels=multifd,
        compression=compression,
        xbzrle=xbzrle,
        bandwidth=None if bandwidth is None else int(bandwidth * (1 << 20)),
        downtime=downtime,
        timeout=timeout,
    )
    # An end from outside must leave the guest as an interrupt does.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with Watch() as watch:
            report = capture(qmp, out, wanted, watch=watch.show)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if output.json:
        print_json(report)
    else:
        render(report)
    return 0 if report.complete else 1


def _interrupt(*_: Any) -> None:
    signal.raise_signal(signal.SIGINT)

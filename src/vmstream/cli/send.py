"""``vmstream send``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vmstream.cli.run import DEFAULT_INPUT, DEFAULT_OUTPUT, Input, Output, UsageError
from vmstream.cli.streams import open_input, print_json
from vmstream.cli.transport import DEFAULT_TRANSPORT, Transport, credentials

if TYPE_CHECKING:
    from vmstream.cli.parser import Stream, Uri


def command(
    stream: Stream,
    uri: Uri,
    *,
    channel: tuple[str, ...] = (),
    multifd: int = 0,
    compression: Literal["none", "zlib", "zstd"] = "none",
    return_path: Annotated[bool | None, Parameter(negative="--no-return-path")] = None,
    rate: float = 0,
    source: Input = DEFAULT_INPUT,
    transport: Transport = DEFAULT_TRANSPORT,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Be the source of a migration: the guest in a stream goes to a QEMU with -incoming.

    Exit status 1 when the destination did not take it.

    Parameters
    ----------
    uri
        Where the destination listens.
    channel
        Another file of the same migration; may be given more than once.
    multifd
        Send pages on so many channels; the destination needs the capability, and as many.
    compression
        Of multifd's packets; the destination needs the same.
    return_path
        Ask the destination to answer; without it nobody knows whether it loaded the stream.
    rate
        MiB a second at most; 0 is no limit.
    """
    from vmstream.render.progress import Progress
    from vmstream.render.send import render
    from vmstream.tools.convert import Compression
    from vmstream.tools.send import send

    if multifd < 0 or multifd > 255 or rate < 0:
        raise UsageError("--multifd is 0 to 255, --rate not negative")
    if compression != "none" and not multifd:
        raise UsageError("--compression is of multifd's packets: give --multifd, too")
    with (
        open_input(stream, channel, source, keep=True) as opened,
        Progress("sending") as progress,
    ):
        report = send(
            opened,
            uri,
            channels=multifd,
            compression=Compression(compression),
            return_path=return_path,
            rate=int(rate * (1 << 20)),
            tls=credentials(transport),
            timeout=transport.timeout,
            advance=progress.advance,
        )
    if output.json:
        print_json(report)
    else:
        render(report)
    return 0 if report.complete else 1

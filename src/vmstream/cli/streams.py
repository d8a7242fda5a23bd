"""What every verb that reads a stream does first and last."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from vmstream.cli.run import Input
from vmstream.errors import StreamError

if TYPE_CHECKING:
    from vmstream.stream.stream import Stream

__all__ = ["open_input", "open_other", "print_json"]


def open_input(
    stream: str, channels: tuple[str, ...], options: Input, *, keep: bool = False
) -> Stream:
    """Open the stream that the command line names, with progress on a terminal.

    Raises:
        StreamError: nothing of it is readable; the error names the file.
        OSError: it can not be opened.
    """
    from vmstream.render.progress import Progress
    from vmstream.tools.open import open_stream

    with Progress("reading") as progress:
        try:
            return open_stream(
                stream,
                *channels,
                snapshot=options.snapshot,
                describe_with=options.describe_with,
                page_size=options.page_size,
                progress=progress.advance,
                keep=keep,
            )
        except StreamError as error:
            error.file = error.file or stream
            raise


def open_other(path: str) -> Stream:
    """Open a second stream, with its name in whatever is wrong with it."""
    from vmstream.tools.open import open_stream

    try:
        return open_stream(path, keep=True)
    except StreamError as error:
        error.file = error.file or path
        raise


def print_json(report: Any) -> None:
    """A report as indented JSON on standard output."""
    from vmstream.render.json import dump

    sys.stdout.buffer.write(dump(report))
    sys.stdout.buffer.flush()

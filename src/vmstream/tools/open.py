"""Opening a stream from whatever a person has."""

from __future__ import annotations

from contextlib import ExitStack
from os import PathLike
from os.path import isdir
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmstream.errors import NotAStream, StreamError
from vmstream.sources import open_source
from vmstream.sources.multifd import UnpackedChannel
from vmstream.stream.reading import Progress, read_stream
from vmstream.stream.stream import Stream
from vmstream.vmstate.borrow import Borrowed
from vmstream.vmstate.description import StreamDescription
from vmstream.wire.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from vmstream.vmstate.schema import Schema

__all__ = ["open_stream"]

Target = str | PathLike[str] | bytes | bytearray | memoryview | Any


def open_stream(
    target: Target,
    *channels: Target,
    snapshot: str | None = None,
    describe_with: Target | None = None,
    limits: Limits = DEFAULT_LIMITS,
    page_size: int | None = None,
    progress: Progress | None = None,
    keep: bool = False,
) -> Stream:
    """Read a migration stream from a path, URL, ``"-"``, file object or bytes.

    Args:
        target: the main channel, a container with a stream in it, or a directory
            that holds nothing but the channels of one migration.
        channels: the other files of the same migration (multifd channels, a
            preempt channel, a capture of the return path) in any order.
        snapshot: tag or id of a qcow2 internal snapshot.
        describe_with: another stream, or a ``-dump-vmstate`` schema, whose
            descriptions serve for devices that this stream does not describe.
        limits: how much the stream may ask for.
        page_size: the target page size in bytes, where nothing else tells it.
        progress: called with bytes read and bytes in all.
        keep: copy what comes from a pipe into an unnamed temporary file, so that
            guest memory can be read from it afterwards.

    Raises:
        NotAStream: there is no stream in it.
        SourceError: a container is damaged before its stream begins.
        OSError: a file can not be opened.

    Everything else that is wrong stands in ``faults`` of the result.
    """
    borrowed = Borrowed(_lent_by(describe_with) if describe_with is not None else None)
    with ExitStack() as stack:
        sources = [
            stack.enter_context(open_source(item, snapshot=snapshot if not number else None))
            for number, item in enumerate((*_files(target), *channels))
        ]
        if keep:
            for source in sources:
                source.keep()
        stream = read_stream(
            sources, borrowed=borrowed, limits=limits, page_size=page_size, progress=progress
        )
        if stream.fatal is not None and not stream.sections and stream.file_version is None:
            raise stream.fatal
        stream.unpack = UnpackedChannel
        stack.pop_all()
    return stream


def _files(target: Target) -> list[Target]:
    """The target, or the files in it that hold anything.

    Raises:
        NotAStream: it is a directory without any.
    """
    # What no path can be (a long URL) is no directory either; Path.is_dir would raise.
    if not isinstance(target, str | PathLike) or not isdir(target):  # noqa: PTH112
        return [target]
    files = (file for file in sorted(Path(target).iterdir()) if file.is_file())
    found: list[Target] = [file for file in files if file.stat().st_size]
    if not found:
        raise NotAStream("there is no stream in this directory", file=str(target))
    return found


def _lent_by(target: Target) -> StreamDescription | Schema:
    """The description in another stream, or a schema; told by the first byte.

    Raises:
        StreamError: there is neither.
    """
    with ExitStack() as stack:
        source = stack.enter_context(open_source(target))
        source.keep()
        if source.peek(1) == b"{":
            from vmstream.tools.schema import schema_of

            return schema_of(source)
        stream = read_stream([source])
        stack.pop_all()
    with stream:
        if stream.description is None:
            raise StreamError("the stream to borrow descriptions from has none", file=source.name)
        return stream.description

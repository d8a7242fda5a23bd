"""Parts that several reports share. A report is a frozen struct: shown, dumped or compared."""

from __future__ import annotations

from typing import Any

import msgspec

from vmstream.errors import StreamError
from vmstream.stream.stream import Stream

__all__ = ["FaultReport", "faults_of", "file_of", "source_of"]


class FaultReport(msgspec.Struct, frozen=True):
    """One thing that is wrong with the bytes."""

    code: str
    message: str
    offset: int | None
    section: str | None
    expected: Any
    found: Any
    file: str | None


def fault_of(error: StreamError) -> FaultReport:
    """An error as part of a report."""
    return FaultReport(
        error.code,
        error.message,
        error.offset,
        error.section,
        error.expected,
        error.found,
        error.file,
    )


def faults_of(stream: Stream) -> tuple[FaultReport, ...]:
    """Everything wrong with a stream, in the order found."""
    return tuple(map(fault_of, stream.faults))


def file_of(stream: Stream) -> str:
    """What the stream's main file is called."""
    return stream.source.name


def source_of(stream: Stream) -> str:
    """The containers around the stream from the outside in, like ``libvirt+zstd``, or ``plain``."""
    return "+".join(getattr(stream.source, "container", ())) or "plain"

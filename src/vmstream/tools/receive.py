"""``receive``: a migration taken from a real source, into a file."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import msgspec

from vmstream.channels.channel import Place, listen
from vmstream.channels.tls import Credentials
from vmstream.engine.destination import Destination
from vmstream.engine.faults import Fault
from vmstream.engine.reception import Reception
from vmstream.errors import StreamError
from vmstream.tools.convert import Form, Options, convert
from vmstream.tools.open import open_stream

__all__ = ["Kept", "ReceiveReport", "ReceivedFile", "receive"]

TIMEOUT = 300.0
"""Seconds to wait for the source, and then for each piece of its stream."""


class Kept(StrEnum):
    """What is written."""

    PLAIN = "plain"
    """One stream, its pages as they ended."""
    MAPPED_RAM = "mapped-ram"
    """The same with each page at its fixed place."""
    RAW = "raw"
    """A directory with every channel as it arrived."""


class ReceivedFile(msgspec.Struct, frozen=True):
    """What arrived on one channel."""

    kind: str
    """``main``, ``multifd``, ``preempt`` or ``return`` (what was answered)."""
    path: str
    size: int


class ReceiveReport(msgspec.Struct, frozen=True):
    """What arrived, and where it is."""

    uri: str
    out: str
    """The result; where it did not come to its end, the folder with what arrived."""
    complete: bool
    error: str | None
    machine: str | None
    bytes: int
    """On all channels."""
    seconds: float
    """From the first connection on."""
    iterations: int
    last_section: str | None
    return_path: bool
    postcopy: bool
    pages_requested: int
    resumed: int
    """How often a post-copy that broke was taken up again."""
    files: tuple[ReceivedFile, ...]
    dropped: tuple[str, ...]
    """Commands that were not kept, for only the connection had a use for them."""


def receive(
    place: Place,
    out: str | Path,
    *,
    kept: Kept = Kept.PLAIN,
    tls: Credentials | None = None,
    fault: Fault | None = None,
    switchover_ack: bool | None = None,
    timeout: float = TIMEOUT,
    listening: Callable[[str], None] | None = None,
    watch: Callable[[Reception], None] | None = None,
) -> ReceiveReport:
    """Take one migration, as a destination would.

    Args:
        place: where the source connects, or what it writes to (``fd:``, ``exec:``).
        out: the result. It appears when the source is done and every byte is on the disk.
            Where it is not, ``OUT.partial`` keeps what arrived.
        tls: credentials of a server.
        timeout: seconds to wait for the source, for each piece, and for a source to take
            up a post-copy that broke.
        listening: called with the URI once a source can connect, with the real port in it.
        watch: called as bytes arrive.

    Raises:
        StreamError: nothing can arrive at ``place``.
        OSError: nothing can be written beside ``out``.
    """
    target = Path(out)
    if target.exists() and (kept is Kept.RAW or target.is_dir()):
        raise FileExistsError(17, "there is something already", str(target))
    partial = _partial(target)
    with listen(place, timeout=timeout, tls=tls) as listener:
        uri = str(listener.address)
        partial.mkdir()
        try:
            if listening is not None:
                listening(uri)
            destination = Destination(
                listener,
                partial,
                fault=fault,
                switchover_ack=switchover_ack,
                drops_commands=kept is not Kept.RAW,
                watch=watch,
            )
            error = _run(destination)
            began = destination.reception.began
            seconds = time.monotonic() - began if began is not None else 0.0
        except BaseException:
            _remove_if_empty(partial)
            raise
    if error is None:
        error = _settled(partial, target, kept, plain=destination.reception.plain)
    else:
        _remove_if_empty(partial)
    place_of_result = target if error is None else partial
    return _report(uri, place_of_result, destination.reception, error, seconds)


def _run(destination: Destination) -> StreamError | None:
    try:
        destination.run()
    except StreamError as error:
        return error
    return None


def _partial(target: Path) -> Path:
    """``OUT.partial``, or with a number where that is taken."""
    number = 0
    while True:
        path = target.with_name(f"{target.name}.partial" + (f"-{number}" if number else ""))
        if not path.exists():
            return path
        number += 1


def _remove_if_empty(folder: Path) -> None:
    if folder.exists() and not any(file.stat().st_size for file in folder.iterdir()):
        shutil.rmtree(folder)


def _settled(partial: Path, target: Path, kept: Kept, *, plain: bool) -> StreamError | None:
    """Put what arrived in its place; the error that leaves it where it is."""
    try:
        _settle(partial, target, kept, plain=plain)
    except StreamError as error:
        return error
    except OSError as error:
        name = error.filename or target
        return StreamError(f"all arrived, but {name} can not be written: {error.strerror}")
    return None


def _settle(partial: Path, target: Path, kept: Kept, *, plain: bool) -> None:
    """Put what arrived in its place, in the form that is asked for."""
    if kept is Kept.RAW:
        for file in (*partial.iterdir(), partial):
            _flush(file)
        partial.rename(target)
        _flush(target.parent)
        return
    if kept is Kept.PLAIN and plain:
        stream = partial / "stream.mig"
        _flush(stream)
        stream.replace(target)
        _flush(target.parent)
    else:
        form = Form.MAPPED_RAM if kept is Kept.MAPPED_RAM else Form.PLAIN
        with open_stream(partial) as opened:
            convert(opened, target, Options(form=form))
    shutil.rmtree(partial)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _report(
    uri: str,
    place: Path,
    reception: Reception,
    error: StreamError | None,
    seconds: float,
) -> ReceiveReport:
    return ReceiveReport(
        uri,
        str(place),
        error is None,
        str(error) if error is not None else None,
        reception.machine,
        reception.bytes,
        seconds,
        reception.iterations,
        reception.section,
        reception.return_path,
        reception.postcopy,
        reception.pages_requested,
        reception.resumed,
        tuple(ReceivedFile(file.kind, file.path.name, file.size) for file in reception.files),
        tuple(reception.dropped),
    )

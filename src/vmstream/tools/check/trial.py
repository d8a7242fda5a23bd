"""The strongest level: what the destination made of the stream, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import msgspec
from msgspec.structs import replace

from vmstream.engine.command_line import machine_of, words_of
from vmstream.engine.own_stream import own_stream
from vmstream.errors import StreamError
from vmstream.stream.stream import Stream
from vmstream.tools.check.against import check_against
from vmstream.tools.check.check import Level
from vmstream.tools.check.dry_run import DryRun, dry_run
from vmstream.tools.check.static import check_schema
from vmstream.tools.findings import Basis, Finding, Severity, Verdict
from vmstream.tools.open import open_stream
from vmstream.tools.schema import obtain_schema
from vmstream.vmstate.schema import Schema

__all__ = ["Outcome", "trial"]

MAX_OWN_RAM = 4 << 30
"""Bytes of guest memory up to which a destination that refused is asked for its own stream."""


class Outcome(msgspec.Struct, frozen=True):
    """A trial's verdict with its reasons."""

    level: Level
    findings: tuple[Finding, ...]
    left_out: tuple[str, ...]


def trial(
    stream: Stream,
    command: str | Sequence[str],
    capabilities: Collection[str] | None,
    schema: Schema | None,
    other: Stream | None,
) -> Outcome:
    """Give the stream to the destination; where it is refused, find what the refusal is about.

    Raises:
        StreamError: content that is needed can not be read.
        OSError: the destination can not be run.
        ValueError: there is no command.
    """
    run = dry_run(stream, command, capabilities)
    verdict = {True: Verdict.LOADS, False: Verdict.FAILS, None: Verdict.UNKNOWN}[run.loaded]
    level = Level(Basis.QEMU, verdict, run.seconds, run.messages, run.version)
    findings: list[Finding] = []
    if run.loaded is None:
        findings.append(_not_asked(run))
    elif not run.loaded:
        words = words_of(command)
        ram = sum(block.used_length for block in stream.index.blocks)
        if other is None and ram <= MAX_OWN_RAM:
            with _Own(words) as own:
                findings += _reasons(stream, run, schema or _schema(words), own)
        else:
            findings += _reasons(stream, run, schema or _schema(words), other)
    return Outcome(level, tuple(findings), run.left_out)


class _Own:
    """The destination's own stream while it is looked at; None where it has none to give."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._stream: Stream | None = None

    def __enter__(self) -> Stream | None:
        try:
            self._stream = open_stream(own_stream(self._words))
        except StreamError:
            self._stream = None
        return self._stream

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()


def _schema(words: Sequence[str]) -> Schema | None:
    machine = machine_of(words)
    if machine is None:
        return None
    try:
        return obtain_schema(words[:1], machine)
    except StreamError:
        return None


def _not_asked(run: DryRun) -> Finding:
    return Finding(
        "destination-not-asked",
        Severity.MAY_BREAK,
        "the destination gave no verdict",
        qemu_text=run.messages or None,
        remedy="start it by hand with -S and see what it says",
        basis=Basis.QEMU,
    )


def _reasons(
    stream: Stream, run: DryRun, schema: Schema | None, other: Stream | None
) -> Iterator[Finding]:
    """The refusal explained, and what else would have been refused after it."""
    from vmstream.tools.explain import explain

    report = explain(run.messages, stream, schema, other)
    known = check_against(stream, other) if other is not None else []
    known += check_schema(stream, schema) if schema is not None else []
    known = [finding for finding in known if finding.severity is Severity.BREAKS]
    for finding in report.findings:
        twin = next((other for other in known if _same(finding, other)), None)
        if twin is not None:
            known.remove(twin)
            finding = _with_both_sides(finding, twin)
        yield replace(finding, severity=Severity.BREAKS, basis=Basis.QEMU)
    yield from known


def _same(finding: Finding, other: Finding) -> bool:
    """Whether what QEMU printed and what was found beforehand are one thing."""
    if finding.code != other.code or finding.device != other.device:
        return False
    return finding.field is None or other.field is None or _in(finding.field, other.field)


def _in(field: str, other: str) -> bool:
    return field.startswith(other) or other.startswith(field)


def _with_both_sides(finding: Finding, twin: Finding) -> Finding:
    """QEMU's words with what is known of either side."""
    return replace(
        twin,
        field=twin.field or finding.field,
        offset=twin.offset if twin.offset is not None else finding.offset,
        qemu_text=finding.qemu_text,
        details=(*twin.details, *finding.details),
    )

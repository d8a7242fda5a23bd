"""``check``: will that destination load this stream; if not, what keeps it from it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from vmstream.stream.stream import Stream
from vmstream.tools.check.against import check_against
from vmstream.tools.check.capabilities import check_capabilities
from vmstream.tools.check.static import check_schema
from vmstream.tools.findings import (
    Basis,
    Finding,
    Severity,
    Verdict,
    gravest_first,
    verdict_of,
)
from vmstream.tools.reports import file_of
from vmstream.vmstate.schema import Schema

__all__ = ["CheckReport", "Level", "check"]

LAYOUT = frozenset({"section-version", "subsection-unknown", "field-layout", "not-described"})
"""Findings about which a schema knows more than a stream."""


class Level(msgspec.Struct, frozen=True):
    """What one of the things that were given told."""

    basis: Basis
    verdict: Verdict
    seconds: float | None = None
    """How long the destination took."""
    messages: str | None = None
    """What it printed."""
    version: str | None = None
    """The destination's QEMU."""


class CheckReport(msgspec.Struct, frozen=True):
    """The verdict, and what it rests on."""

    file: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    levels: tuple[Level, ...]
    """Weakest first; the last one that knew gave the verdict."""
    settled_by: str | None
    """For an unknown verdict: what would tell."""
    left_out: tuple[str, ...] = ()
    """Parts of the stream that no level looked at."""


def check(
    stream: Stream,
    *,
    schema: Schema | None = None,
    other: Stream | None = None,
    qemu: str | Sequence[str] | None = None,
    capabilities: Collection[str] | None = None,
) -> CheckReport:
    """Ask every level that is given; the strongest that knows gives the verdict.

    Args:
        schema: of the destination's QEMU, for the machine type it will have.
        other: a stream that the destination wrote, best with the same devices.
        qemu: the destination's command line; it is started, given the stream
            without its bulk memory, and ended.
        capabilities: those that will be on there; None when they will be set as
            the stream needs.

    Raises:
        StreamError: content that is needed can not be read.
        OSError: the destination can not be run.
        ValueError: nothing is given to check against, or no command.
    """
    if schema is None and other is None and qemu is None:
        raise ValueError("a schema, another stream or a QEMU command is needed")
    levels: list[Level] = []
    found: list[Finding] = []
    omitted: tuple[str, ...] = ()
    if schema is not None:
        statically = tuple(check_schema(stream, schema))
        found += statically
        levels.append(Level(Basis.SCHEMA, verdict_of(statically, otherwise=Verdict.UNKNOWN)))
    if other is not None:
        against = check_against(stream, other)
        if schema is not None:
            against = _what_a_schema_leaves_open(against, schema)
        found += against
        levels.append(Level(Basis.STREAM, verdict_of(tuple(against), otherwise=Verdict.LOADS)))
    strongest = levels[-1].basis if levels else Basis.QEMU
    found += check_capabilities(stream, capabilities, strongest)
    if qemu is not None:
        from vmstream.tools.check.trial import trial

        outcome = trial(stream, qemu, capabilities, schema, other)
        levels.append(outcome.level)
        found = _confirmed(found, outcome.level.verdict) + list(outcome.findings)
        omitted = outcome.left_out
    findings = gravest_first(_once(found))
    verdict = _verdict(findings, levels)
    return CheckReport(
        file_of(stream), verdict, findings, tuple(levels), _settled_by(verdict, levels), omitted
    )


def _what_a_schema_leaves_open(findings: list[Finding], schema: Schema) -> list[Finding]:
    """Without guesses about layouts that the schema declares."""
    from vmstream.vmstate.layouts import suffix

    def declared(finding: Finding) -> bool:
        name = suffix((finding.device or "").rpartition(":")[0])
        return any(True for _ in schema.named(name))

    return [
        finding
        for finding in findings
        if finding.severity is not Severity.MAY_BREAK
        or finding.code not in LAYOUT
        or not declared(finding)
    ]


def _confirmed(findings: list[Finding], verdict: Verdict) -> list[Finding]:
    """What weaker levels found, in the light of what the destination did."""
    if verdict is Verdict.LOADS:
        # It loaded: only what it was not asked about can still be wrong.
        return [finding for finding in findings if finding.code == "capability"]
    return findings


def _once(findings: list[Finding]) -> list[Finding]:
    """One finding for each thing: that of the strongest level, with the root's place."""
    chosen: dict[object, Finding] = {}
    for finding in findings:
        key = (finding.code, finding.device, finding.field, finding.source)
        known = chosen.get(key)
        if known is None or finding.severity.rank >= known.severity.rank:
            chosen[key] = finding
    return list(chosen.values())


def _verdict(findings: tuple[Finding, ...], levels: list[Level]) -> Verdict:
    capable = all(
        finding.severity is not Severity.BREAKS
        for finding in findings
        if finding.code == "capability"
    )
    if not capable:
        return Verdict.FAILS
    last = levels[-1]
    if last.basis is Basis.QEMU and last.verdict is not Verdict.UNKNOWN:
        return last.verdict
    known = [level for level in levels if level.basis is not Basis.QEMU]
    if any(level.verdict is Verdict.FAILS for level in known):
        return Verdict.FAILS
    return known[-1].verdict if known else Verdict.UNKNOWN


def _settled_by(verdict: Verdict, levels: list[Level]) -> str | None:
    if verdict is not Verdict.UNKNOWN:
        return None
    given = {level.basis for level in levels}
    if Basis.QEMU in given:
        return "a destination that starts: see what it printed"
    if Basis.STREAM in given:
        return "--qemu with the destination's command line"
    return (
        "--against a stream that the destination wrote, or --qemu with its command line: "
        "a schema does not tell its devices, memory and processor"
    )

"""What ``check`` and ``explain`` find out: one sentence each, with its place and its remedy."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from vmstream.tools.schema_changes import Severity

__all__ = ["Basis", "Finding", "Severity", "Verdict", "gravest_first", "verdict_of"]


class Verdict(StrEnum):
    """Whether a destination will load a stream."""

    LOADS = "loads"
    FAILS = "fails"
    UNKNOWN = "unknown"
    """What was given does not tell; the report says what would."""


class Basis(StrEnum):
    """What a finding rests on, the weakest first."""

    LOG = "log"
    """A message that a QEMU printed."""
    SCHEMA = "schema"
    """The destination's ``-dump-vmstate`` schema."""
    STREAM = "stream"
    """A stream that the destination wrote."""
    QEMU = "qemu"
    """The destination itself, which was given the stream."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that keeps, or may keep, a destination from loading a stream."""

    code: str
    """What kind of thing, for a machine: ``section-unknown``, ``ram-block-size``..."""
    severity: Severity
    message: str
    """A sentence for a person."""
    device: str | None = None
    """The section, ``idstr:instance``."""
    field: str | None = None
    """Path of the field in it, as ``show --field`` takes it."""
    offset: int | None = None
    """Of the first byte concerned, in the stream."""
    source: Any = None
    """What the stream has."""
    destination: Any = None
    """What the destination has or expects."""
    remedy: str | None = None
    """What to do about it."""
    qemu_text: str | None = None
    """What QEMU prints about it."""
    details: tuple[str, ...] = ()
    """More lines for a person: feature bits by name, the fields around."""
    basis: Basis = Basis.LOG


def gravest_first(findings: list[Finding]) -> tuple[Finding, ...]:
    """Sorted by severity; those of one severity in stream order, as they came where unknown."""
    return tuple(
        sorted(findings, key=lambda finding: (-finding.severity.rank, finding.offset or 0))
    )


def verdict_of(findings: tuple[Finding, ...], *, otherwise: Verdict) -> Verdict:
    """``fails`` when one finding breaks, ``unknown`` when one may, else ``otherwise``."""
    severities = {finding.severity for finding in findings}
    if Severity.BREAKS in severities:
        return Verdict.FAILS
    if Severity.MAY_BREAK in severities:
        return Verdict.UNKNOWN
    return otherwise

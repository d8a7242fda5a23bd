"""``explain``: a failed migration, from its log to the cause and the remedy."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from vmstream.stream.stream import Stream
from vmstream.tools.explain.log import Line, command_line, lines_of
from vmstream.tools.explain.message import Role
from vmstream.tools.explain.place import placed
from vmstream.tools.findings import Basis, Finding, Severity
from vmstream.vmstate.schema import Schema

__all__ = ["ExplainReport", "explain"]

_UNRECOGNISED = 20
_ERRNO = {
    "No such file or directory": "a subsection that the destination does not know",
    "Invalid argument": "a value or version that the destination does not accept",
    "Input/output error": "the stream ended, or the connection broke",
    "Operation not permitted": "the device refused its state",
}
"""What the reason at the end says where nothing before it says more (``migration/vmstate.c``)."""


class ExplainReport(msgspec.Struct, frozen=True):
    """What a log says."""

    findings: tuple[Finding, ...]
    """The cause first; what was printed because of it stands in its details."""
    warnings: tuple[Finding, ...]
    unrecognised: tuple[str, ...]
    """Lines that look like errors and are not known."""
    machine: str | None
    """Machine type of the command line, where the log has it."""
    collect: tuple[str, ...]
    """What would tell more."""


def explain(
    log: str,
    stream: Stream | None = None,
    schema: Schema | None = None,
    other: Stream | None = None,
) -> ExplainReport:
    """Find the cause of a failed migration in what was printed.

    Args:
        log: a destination's standard error, a libvirt log, or QMP's answer.
        stream: what was migrated: findings then have their place in it.
        schema: of the destination's QEMU.
        other: a stream that the destination wrote.

    Raises:
        StreamError: the stream's own content can not be read.
    """
    lines, unknown = lines_of(log)
    failures = [line for line in lines if line.role is not Role.WARNING]
    findings: list[Finding] = []
    for chain in _chains(failures):
        finding = _finding(chain)
        findings += placed(finding, chain[0], stream, schema, other)
    words = command_line(log)
    return ExplainReport(
        tuple(_once(findings)),
        tuple(_warning(line) for line in lines if line.role is Role.WARNING),
        tuple(unknown[:_UNRECOGNISED]),
        _machine(words),
        tuple(_collect(findings, stream, schema, other)),
    )


def _machine(words: list[str] | None) -> str | None:
    from vmstream.engine.command_line import machine_of

    return machine_of(words) if words else None


def _chains(lines: list[Line]) -> list[list[Line]]:
    """Each cause with the symptoms printed after it; symptoms without a cause make their own."""
    chains: list[list[Line]] = []
    for line in lines:
        if line.role is Role.CAUSE or not chains:
            chains.append([line])
        else:
            chains[-1].append(line)
    return chains


def _finding(chain: list[Line]) -> Finding:
    root, symptoms = chain[0], chain[1:]
    values = root.values
    device = _device(chain)
    field = _field(chain)
    message = root.message.meaning
    if root.role is Role.SYMPTOM:
        message = _by_reason(chain) or message
    return Finding(
        root.message.code,
        Severity.BREAKS,
        message,
        device=device,
        field=field or values.get("block") or values.get("subsection"),
        source=values.get("source"),
        destination=values.get("destination"),
        remedy=root.message.remedy,
        qemu_text=_said(root),
        details=tuple(f"then: {_said(line)}" for line in symptoms),
        basis=Basis.LOG,
    )


def _said(line: Line) -> str:
    """The line without the program's name."""
    head, colon, rest = line.text.partition(": ")
    return (
        rest if colon and head.split("/")[-1].startswith("qemu") and " " not in head else line.text
    )


def _device(chain: list[Line]) -> str | None:
    """The section, from the line that names it: mostly a later one."""
    for line in chain:
        values = line.values
        if line.message.code in ("device-load", "section-unknown") and values.get("device"):
            instance = values.get("instance") or "0"
            number = int(instance, 16 if line.message.code == "device-load" else 10)
            return f"{values['device']}:{number}"
    for line in chain:
        if line.message.code in ("section-footer", "section-version"):
            return f"{line.values['device']}:0" if line.values.get("device") else None
    if any(line.message.code.startswith("ram-") for line in chain):
        return "ram:0"
    return None


def _field(chain: list[Line]) -> str | None:
    """The path down to the field: lines name it from the inside out."""
    names = [line.values["field"] for line in chain if line.message.code == "field-load"]
    return ".".join(reversed(names)) or None


def _by_reason(chain: list[Line]) -> str | None:
    """What a device that refused without a word is about, by the errno at the end."""
    for line in chain:
        reason = line.values.get("reason")
        if line.message.code == "load-failed" and reason:
            hint = next((hint for text, hint in _ERRNO.items() if reason.startswith(text)), None)
            if hint is not None and chain[0].message.code == "device-load":
                return f"its state was refused without a word; {reason!r} mostly means {hint}"
    return None


def _warning(line: Line) -> Finding:
    return Finding(
        line.message.code,
        Severity.HARMLESS,
        line.message.meaning,
        remedy=line.message.remedy,
        qemu_text=_said(line),
        basis=Basis.LOG,
    )


def _once(findings: Iterable[Finding]) -> list[Finding]:
    """Findings in their order, each once; with no severity above the log's own."""
    chosen: dict[object, Finding] = {}
    for finding in findings:
        key = (finding.code, finding.device, finding.field, finding.source)
        if key in chosen:
            known = chosen[key]
            more = tuple(d for d in finding.details if d not in known.details)
            chosen[key] = replace(known, details=known.details + more)
        else:
            chosen[key] = finding
    return list(chosen.values())


def _collect(
    findings: list[Finding], stream: Stream | None, schema: Schema | None, other: Stream | None
) -> Iterable[str]:
    """What would say more than the log does."""
    if not findings:
        yield "the destination's standard error, or /var/log/libvirt/qemu/GUEST.log there"
        return
    if stream is None:
        yield "the stream: vmstream receive tcp::4444 guest.mig, and migrate to it"
    if schema is None and other is None:
        yield (
            "the destination's schema: vmstream schema dump --qemu 'QEMU -M MACHINE' -o dest.json, "
            "or a stream that it wrote"
        )

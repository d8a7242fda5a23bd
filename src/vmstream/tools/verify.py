"""``verify``: does a stream hold what its format promises, check by check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import msgspec

from vmstream.errors import StreamError
from vmstream.stream.events import Boundary
from vmstream.stream.stream import Section, Stream
from vmstream.tools.reports import FaultReport, fault_of, faults_of, file_of
from vmstream.wire.sections import Element

__all__ = ["CHECKS", "Check", "VerifyReport", "verify"]


class Finding(msgspec.Struct, frozen=True):
    """One place where a check does not hold."""

    message: str
    offset: int | None = None
    section: str | None = None
    expected: object = None
    found: object = None


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    held: bool | None
    """None where the stream has nothing that it could be checked on."""
    detail: str
    """How much was checked, or why nothing could be."""
    findings: tuple[Finding, ...] = ()


class VerifyReport(msgspec.Struct, frozen=True):
    """Every check, and every fault that reading met."""

    file: str
    sound: bool
    complete: bool
    checks: tuple[Check, ...]
    fault: FaultReport | None
    faults: tuple[FaultReport, ...]


Examine = Callable[[Stream], tuple[str | None, Iterator[Finding]]]
"""Returns (what is checked, findings); None for what is checked where nothing can be."""


def verify(stream: Stream) -> VerifyReport:
    """Run every check over a stream that was read."""
    checks = tuple(_run(name, examine, stream) for name, examine in CHECKS.items())
    faults = faults_of(stream)
    sound = not faults and all(check.held is not False for check in checks)
    return VerifyReport(
        file_of(stream), sound, stream.complete, checks, faults[0] if faults else None, faults
    )


def _run(name: str, examine: Examine, stream: Stream) -> Check:
    detail, findings = examine(stream)
    found = tuple(findings)
    if detail is None:
        return Check(name, None, "nothing to check it on")
    return Check(name, not found, detail, found)


def _structure(stream: Stream) -> tuple[str | None, Iterator[Finding]]:
    """Every byte belongs to an element, and every element is legal."""
    size = stream.size or (stream.fatal.offset if stream.fatal else 0) or 0
    detail = f"{len(stream.sections)} sections, {len(stream.commands)} commands, {size} bytes"
    return detail, (_finding(error) for error in stream.faults)


def _finding(error: StreamError) -> Finding:
    fault = fault_of(error)
    return Finding(fault.message, fault.offset, fault.section, fault.expected, fault.found)


def _footers(stream: Stream) -> tuple[str | None, Iterator[Finding]]:
    """Each section ends with a footer that names it, or none does."""
    if stream.footers is None:
        return None, iter(())
    if not stream.footers:
        return "the stream is written without footers", iter(())
    sections = [section for section in stream.sections if not section.cut]
    wrong = (section for section in sections if section.footer != section.section_id)
    return f"{len(sections)} sections", (
        Finding(
            "the footer is missing" if section.footer is None else "the footer names another",
            section.body_offset + section.body_size,
            section.name,
            section.section_id,
            section.footer,
        )
        for section in wrong
    )


def _order(stream: Stream) -> tuple[str | None, Iterator[Finding]]:
    """START before PART before END, and ids used once.

    A device that is sent twice is only noted: QEMU itself writes such streams
    (two ``isa-ide`` of an isapc) and loads both into the first.
    """
    sent = Counter(s.key for s in stream.sections if s.type == Element.FULL)
    twice = [key for key, number in sent.items() if number > 1]
    note = f", {', '.join(twice[:3])} sent twice" if twice else ""
    return f"{len(stream.sections)} sections{note}", _order_findings(stream.sections)


def _order_findings(sections: list[Section]) -> Iterator[Finding]:
    live: dict[int, Element] = {}
    names: dict[int, str] = {}
    for section in sections:
        number, kind = section.section_id, section.type
        if names.setdefault(number, section.name) != section.name:
            yield Finding(
                f"section id {number} belongs to {names[number]!r}",
                section.offset, section.name, names[number], section.name,
            )  # fmt: skip
        if kind == Element.FULL:
            continue
        before = live.get(number)
        if kind == Element.START and before is not None:
            yield Finding(f"{section.key} starts again", section.offset, section.name)
        if before == Element.END:
            yield Finding(
                f"{section.key} goes on after its END", section.offset, section.name,
                "nothing after END", kind.name,
            )  # fmt: skip
        live[number] = kind


def _description(stream: Stream) -> tuple[str | None, Iterator[Finding]]:
    """The description and the sections name the same devices, in the same order."""
    if stream.description is None:
        return None, iter(())
    return f"{len(stream.description.devices)} devices", _description_findings(stream)


def _description_findings(stream: Stream) -> Iterator[Finding]:
    assert stream.description is not None
    described = [(device.name, device.instance_id) for device in stream.description.devices]
    whole = [section for section in stream.sections if section.type == Element.FULL]
    sent = [(s.name, s.instance_id) for s in whole]
    places = {(s.name, s.instance_id): s for s in whole}
    for key in sent:
        if key not in described:
            section = places[key]
            yield Finding(f"{section.key} is sent but not described", section.offset, section.name)
    for name, instance in described:
        if (name, instance) not in places and stream.fatal is None:
            yield Finding(f"{name}:{instance} is described but not sent", None, name)
    if not set(described) ^ set(sent) and described != sent:
        yield Finding("the description lists the devices in another order than they are sent")
    if stream.page_size != stream.description.page_size:
        yield Finding(
            "the description states another page size than the stream uses",
            None, "ram", stream.description.page_size, stream.page_size,
        )  # fmt: skip


def _device_bytes(stream: Stream) -> tuple[str | None, Iterator[Finding]]:
    """Each device's fields account for every byte of its section."""
    devices = [device for device in stream.devices if device.described]
    if not devices:
        return None, iter(())
    size = sum(len(device.data) for device in devices)
    return f"{len(devices)} devices, {size} bytes", (
        Finding(
            f"{device.key}{'/' if problem.path else ''}{problem.path}: {problem.message}",
            problem.offset,
            device.section.name,
            problem.expected,
            problem.found,
        )
        for device in devices
        if device.decoded is not None
        for problem in device.decoded.problems
    )


def _boundaries(stream: Stream) -> tuple[str | None, Iterator[Finding]]:
    """The end of each device section is known. Inferred ones are counted, not held against it."""
    if not stream.states:
        return None, iter(())
    inferred = sum(s.boundary == Boundary.HEADER for s in stream.states)
    note = f", {inferred} inferred from the next header" if inferred else ""
    return f"{len(stream.states)} device sections{note}", (
        Finding("nothing tells where the section ends", s.offset, s.name)
        for s in stream.states
        if s.boundary == Boundary.END
    )


def _ram_blocks(stream: Stream) -> tuple[str | None, Iterator[Finding]]:
    """The lengths of the block list add up to its total."""
    if stream.ram_total is None:
        return None, iter(())
    total = sum(block.used_length for block in stream.index.blocks)
    wrong = total != stream.ram_total and stream.index.blocks
    findings = (
        [Finding("the blocks do not add up", None, "ram", stream.ram_total, total)] if wrong else []
    )
    return f"{len(stream.index.blocks)} blocks, {total} bytes", iter(findings)


def _ram_pages(stream: Stream) -> tuple[str | None, Iterator[Finding]]:
    """Every page lies within its block, and a whole stream holds each page."""
    if not stream.index.blocks:
        return None, iter(())
    return f"{stream.index.records} page records", _page_findings(stream)


def _page_findings(stream: Stream) -> Iterator[Finding]:
    index = stream.index
    size = stream.page_size or 4096
    lengths = [-(-block.used_length // size) for block in index.blocks]
    ends = index.page.astype("int64") + index.count
    for number, block in enumerate(index.blocks):
        mine = index.block == number
        if mine.any() and int(ends[mine].max()) > lengths[number] and block.used_length:
            yield Finding(
                "a page lies outside its block", None, "ram",
                f"below page {lengths[number]} of {block.name}", int(ends[mine].max()) - 1,
            )  # fmt: skip
    if not stream.ended or "x-ignore-shared" in stream.capabilities:
        return
    covered = index.covered().tolist()
    for block, pages, present in zip(index.blocks, lengths, covered, strict=True):
        if present < pages and block.mapped is None and not _elsewhere(stream):
            yield Finding(
                f"{pages - present} pages of {block.name} are in no record",
                None, "ram", pages, present,
            )  # fmt: skip


def _elsewhere(stream: Stream) -> bool:
    """Whether pages may rightly be missing: RDMA carried them, or virtio-mem has them unplugged."""
    return stream.hooks > 0 or any("virtio-mem" in s.name for s in stream.states)


def _channels(stream: Stream) -> tuple[str | None, Iterator[Finding]]:
    """Multifd channels are all there and were synchronised equally often."""
    channels = [channel for channel in stream.channels if channel.kind == "multifd"]
    if not channels:
        return None, iter(())
    return f"{len(channels)} multifd channels", _channel_findings(stream)


def _channel_findings(stream: Stream) -> Iterator[Finding]:
    channels = [channel for channel in stream.channels if channel.kind == "multifd"]
    numbers = sorted(channel.initial.channel for channel in channels if channel.initial)
    if numbers != list(range(len(channels))):
        yield Finding(
            "channels are missing or given twice", None, "multifd",
            list(range(len(channels))), numbers,
        )  # fmt: skip
    syncs = sorted({channel.syncs for channel in channels})
    if len(syncs) > 1:
        yield Finding("channels hold different numbers of syncs", None, "multifd", None, syncs)
    if syncs and stream.flushes > syncs[0]:
        yield Finding(
            "the main channel has more sync marks than the channels", None, "multifd",
            stream.flushes, syncs[0],
        )  # fmt: skip


def _end(stream: Stream) -> tuple[str | None, Iterator[Finding]]:
    """The end mark is there, and after it nothing but the description and padding."""
    findings = []
    if not stream.ended:
        findings.append(Finding("the end mark of the stream was not reached"))
    if stream.trailing and not stream.trailing_is_zero:
        findings.append(
            Finding(f"{stream.trailing} bytes follow that belong to no stream", stream.size)
        )
    return f"{stream.size} bytes and {stream.trailing} of padding", iter(findings)


CHECKS: dict[str, Examine] = {
    "structure": _structure,
    "footers": _footers,
    "section order": _order,
    "section ends": _boundaries,
    "description": _description,
    "device bytes": _device_bytes,
    "block sizes": _ram_blocks,
    "pages": _ram_pages,
    "channels": _channels,
    "end": _end,
}
"""Every check by name, in the order in which they are reported."""

"""``inspect``: what a stream holds, on one page."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from vmstream.stream.events import Boundary
from vmstream.stream.stream import Section, Stream
from vmstream.tools.reports import FaultReport, faults_of, file_of, source_of
from vmstream.wire.commands import command_details
from vmstream.wire.ram import ZERO_KINDS, PageKind
from vmstream.wire.sections import Element

__all__ = ["InspectReport", "PageCounts", "inspect", "page_counts"]


class PageCounts(msgspec.Struct, frozen=True):
    """Page records by kind; a page that was sent twice counts twice.

    ``zero`` holds zero pages of every channel, and in a mapped-ram file the
    pages whose bit is clear; ``multifd`` the pages with content on channels.
    """

    zero: int
    normal: int
    xbzrle: int
    compressed: int
    multifd: int
    mapped: int


class BlockReport(msgspec.Struct, frozen=True):
    """One RAM block; sizes in bytes."""

    name: str
    size: int
    pages: PageCounts
    missing: int
    """Pages that no record holds."""


class RamReport(msgspec.Struct, frozen=True):
    total: int | None
    blocks: tuple[BlockReport, ...]


class DeviceReport(msgspec.Struct, frozen=True):
    """A section with device state; ``offset`` and ``size`` are the whole section's."""

    name: str
    instance_id: int
    section_id: int
    version: int
    offset: int
    size: int
    state_offset: int
    state_size: int
    boundary: str


class SectionReport(msgspec.Struct, frozen=True):
    """A section from its first byte through its footer."""

    type: str
    name: str
    instance_id: int
    section_id: int
    version: int
    offset: int
    size: int


class CommandReport(msgspec.Struct, frozen=True):
    name: str
    offset: int
    details: dict[str, Any]


class ChannelReport(msgspec.Struct, frozen=True):
    """Another file of the stream."""

    file: str
    kind: str
    channel: int | None
    size: int
    packets: int
    syncs: int
    messages: tuple[str, ...]


class InspectReport(msgspec.Struct, frozen=True):
    """What is in a stream. All offsets and sizes are bytes of the main channel."""

    file: str
    source: str
    version: int | None
    machine: str | None
    page_size: int | None
    capabilities: tuple[str, ...]
    complete: bool
    has_description: bool
    has_footers: bool | None
    size: int
    trailing: int
    uuid: str | None
    run_state: str | None
    ram: RamReport
    devices: tuple[DeviceReport, ...]
    sections: tuple[SectionReport, ...]
    commands: tuple[CommandReport, ...]
    channels: tuple[ChannelReport, ...]
    iterations: int
    rounds: int
    warnings: tuple[str, ...]
    fault: FaultReport | None
    faults: tuple[FaultReport, ...]
    container: dict[str, Any]

    @property
    def sound(self) -> bool:
        """Complete and without a fault."""
        return self.complete and not self.faults


def inspect(stream: Stream) -> InspectReport:
    """Summarise a stream that was read."""
    faults = faults_of(stream)
    configuration = stream.configuration
    uuid = configuration.uuid.hex() if configuration and configuration.uuid else None
    blocks = _blocks(stream)
    return InspectReport(
        file=file_of(stream),
        source=source_of(stream),
        version=stream.file_version,
        machine=stream.machine,
        page_size=stream.page_size,
        capabilities=tuple(stream.capabilities),
        complete=stream.complete,
        has_description=stream.description is not None,
        has_footers=stream.footers,
        size=stream.size,
        trailing=stream.trailing,
        uuid=uuid,
        run_state=run_state(stream),
        ram=RamReport(stream.ram_total, blocks),
        devices=tuple(map(_device, stream.states)),
        sections=tuple(map(_section, stream.sections)),
        commands=_commands(stream),
        channels=_channels(stream),
        iterations=stream.iterations,
        rounds=stream.rounds(),
        warnings=tuple(_warnings(stream, blocks)),
        fault=faults[0] if faults else None,
        faults=faults,
        container=dict(getattr(stream.source, "details", {})),
    )


def run_state(stream: Stream) -> str | None:
    """What the guest was doing when it was saved, from the ``globalstate`` section (2.4+).

    be32 length, then the run state as text, NUL padded (QEMU ``migration/global_state.c``).
    """
    for section in stream.states:
        if section.name == "globalstate" and section.data:
            return section.data[4:].split(b"\0", 1)[0].decode("ascii", "replace") or None
    return None


def page_counts(kinds: list[int]) -> PageCounts:
    """Records by kind, from one row of an index's counts."""
    return PageCounts(
        sum(kinds[kind] for kind in ZERO_KINDS),
        kinds[PageKind.NORMAL],
        kinds[PageKind.XBZRLE],
        kinds[PageKind.COMPRESSED],
        kinds[PageKind.MULTIFD],
        kinds[PageKind.MAPPED],
    )


def _blocks(stream: Stream) -> tuple[BlockReport, ...]:
    index = stream.index
    counts = index.counts()
    covered = index.covered()
    reports = []
    for number, block in enumerate(index.blocks):
        kinds = counts[number].tolist()
        pages = -(-block.used_length // stream.page_size) if stream.page_size else 0
        missing = max(pages - int(covered[number]), 0)
        mapped = block.mapped is not None and block.mapped.present
        report = page_counts(kinds)
        if mapped:
            report, missing = msgspec.structs.replace(report, zero=missing), 0
        reports.append(BlockReport(block.name, block.used_length, report, missing))
    return tuple(reports)


def _device(section: Section) -> DeviceReport:
    return DeviceReport(
        section.name,
        section.instance_id,
        section.section_id,
        section.version,
        section.offset,
        section.size,
        section.body_offset,
        section.body_size,
        str(section.boundary),
    )


def _section(section: Section) -> SectionReport:
    return SectionReport(
        section.type.name.lower(),
        section.name,
        section.instance_id,
        section.section_id,
        section.version,
        section.offset,
        section.size,
    )


def _commands(stream: Stream) -> tuple[CommandReport, ...]:
    return tuple(
        CommandReport(command.name, command.offset, command_details(command))
        for command in stream.commands
    )


def _channels(stream: Stream) -> tuple[ChannelReport, ...]:
    return tuple(
        ChannelReport(
            channel.name,
            channel.kind,
            channel.initial.channel if channel.initial else None,
            channel.size,
            channel.packets,
            channel.syncs,
            tuple(message.type.name for message in channel.messages),
        )
        for channel in stream.channels
    )


def _warnings(stream: Stream, blocks: tuple[BlockReport, ...]) -> list[str]:
    """What a person should know before trusting the rest, the gravest first."""
    warnings = [str(error) for error in stream.faults]
    if stream.gap is not None:
        start, end = stream.gap
        warnings.append(
            f"bytes {start:#x} to {end:#x} could not be read; the device sections after them "
            "were found by their headers"
        )
    if not stream.complete and not stream.faults:
        warnings.append("the end mark of the stream was not reached")
    warnings += _missing_pages(stream, blocks)
    if stream.ended and stream.description is None:
        warnings.append("no description at the end: device state is shown by other descriptions")
    warnings += _uncertain(stream)
    if stream.page_size_guessed:
        warnings.append(
            f"nothing states the page size; {stream.page_size} is what the page records show"
        )
    if stream.trailing:
        what = "zero bytes" if stream.trailing_is_zero else "bytes"
        warnings.append(f"{stream.trailing} {what} after the end belong to no stream")
    if stream.hooks:
        warnings.append("an RDMA stream: pages went another way and are not here")
    return warnings


def _missing_pages(stream: Stream, blocks: tuple[BlockReport, ...]) -> list[str]:
    """Pages in no record; a whole stream holds each page at least once."""
    missing = {block.name: block.missing for block in blocks if block.missing}
    if not missing or not stream.ended:
        return []
    total = sum(missing.values())
    names = ", ".join(list(missing)[:3]) + (", ..." if len(missing) > 3 else "")
    capabilities = stream.capabilities
    if any("virtio-mem" in section.name for section in stream.states):
        why = "memory that virtio-mem has unplugged is not sent"
    elif "x-ignore-shared" in capabilities:
        why = "left out by x-ignore-shared, or never sent"
    elif "postcopy-ram" in capabilities:
        why = "post-copy sent them on another channel, or not at all"
    else:
        why = "they went over multifd channels, whose files are given after the stream"
    return [f"{total} pages are in no record ({names}): {why}"]


def _uncertain(stream: Stream) -> list[str]:
    """Device sections whose extent is not certain."""
    kinds = Counter(section.boundary for section in stream.states)
    warnings = []
    if kinds[Boundary.HEADER]:
        warnings.append(
            f"the ends of {kinds[Boundary.HEADER]} device sections are inferred from the next "
            "header: nothing in the stream states them"
        )
    if kinds[Boundary.END]:
        names = [s.name for s in stream.states if s.boundary == Boundary.END]
        warnings.append(f"the end of {names[0]} is not known; --describe-with FILE may tell")
    unknown = [s for s in stream.sections if s.type != Element.FULL and s.data is not None]
    if unknown:
        warnings.append(f"live sections of unknown kind: {unknown[0].name}")
    return warnings

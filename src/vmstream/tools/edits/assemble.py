"""From a draft to the splices that make the stream what the draft says."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import merge

from msgspec.structs import replace

from vmstream.errors import Unsupported
from vmstream.stream.stream import Section, Stream
from vmstream.tools.edits.draft import DeviceDraft, Draft, SectionDraft
from vmstream.tools.edits.mapped import is_mapped, mapped_splices
from vmstream.tools.edits.memory import list_splices, poke_splices, ram_start, record_splices
from vmstream.tools.edits.splice import Splice
from vmstream.vmstate.description import Description, Field, StreamDescription
from vmstream.vmstate.vmdesc import dump
from vmstream.wire.commands import Command, CommandType, discard_ranges, encode_discard
from vmstream.wire.configuration import CAPABILITIES, TARGET_PAGE_BITS, UUID, Configuration
from vmstream.wire.reader import bytes_of
from vmstream.wire.sections import DescriptionText, SectionEnd, SectionStart

__all__ = ["splices"]

FILE_HEADER = 8
FOOTER = 5
COMMAND = 5
"""Bytes of a command before its payload."""


def splices(draft: Draft) -> Iterator[Splice]:
    """What changes, in stream order; nothing for a draft that was not changed.

    Raises:
        StreamError: something can not be written that way.
    """
    known = sorted(_around_memory(draft), key=lambda splice: splice.order)
    if is_mapped(draft):
        start = ram_start(draft.stream)
        assert start is not None
        before = sum(splice.grows for splice in known if splice.offset < start.body_offset)
        shift = before - draft.stream.source.origin
        known += sorted(mapped_splices(draft, shift), key=lambda splice: splice.order)
    else:
        known += [*list_splices(draft), *poke_splices(draft)]
    known += _packages(draft, known)
    known.sort(key=lambda splice: splice.order)
    yield from merge(known, record_splices(draft), key=lambda splice: splice.order)


def _around_memory(draft: Draft) -> Iterator[Splice]:
    yield from _configuration(draft)
    yield from _commands(draft)
    for section in (*draft.devices, *draft.live):
        yield from _section(draft, section)
    for part in draft.stream.sections:
        if part.name == "ram" and part.data is None:
            yield from _footer(draft, part)
    yield from _description(draft)


# Configuration and commands


def _configuration(draft: Draft) -> Iterator[Splice]:
    before, after = draft.stream.configuration, draft.configuration
    if before == after:
        return
    old = before.encode() if before is not None else b""
    new = after.encode() if after is not None else b""
    yield Splice(before.offset if before is not None else FILE_HEADER, len(old), new)


def _commands(draft: Draft) -> Iterator[Splice]:
    """Commands that name a block."""
    for command in draft.stream.commands:
        payload = _payload(draft, command)
        if payload is None:
            yield Splice(command.offset, COMMAND + len(command.payload), b"")
        elif payload != command.payload:
            new = Command(command.offset, command.command, payload).encode()
            yield Splice(command.offset, COMMAND + len(command.payload), new)


def _payload(draft: Draft, command: Command) -> bytes | None:
    """A command's payload as it will be; None for one about a block that is dropped."""
    if command.command == CommandType.POSTCOPY_RAM_DISCARD:
        name, ranges = discard_ranges(command)
        if name in draft.dropped_blocks:
            return None
        return (
            encode_discard(draft.block_names[name], ranges)
            if name in draft.block_names
            else (command.payload)
        )
    return command.payload


def _packages(draft: Draft, known: Iterable[Splice]) -> Iterator[Splice]:
    """Lengths of packages around what grows or shrinks.

    Raises:
        Unsupported: a package would be longer than its length can say.
    """
    packages = [c for c in draft.stream.commands if c.command == CommandType.PACKAGED]
    if not packages:
        return
    grown: Counter[int] = Counter()
    for splice in merge(sorted(known, key=lambda s: s.order), record_splices(draft),
                        key=lambda s: s.order):  # fmt: skip
        for package in packages:
            start = package.offset + COMMAND + 4
            if start <= splice.offset < start + package.package_size:
                grown[package.offset] += splice.grows
    for package in packages:
        size = package.package_size + grown[package.offset]
        if size >= 1 << 32:
            raise Unsupported("a package is longer than 4 GiB", offset=package.offset)
        if size != package.package_size:
            yield Splice(package.offset + COMMAND, 4, struct.pack(">I", size))


# Sections


def _section(draft: Draft, section: SectionDraft) -> Iterator[Splice]:
    for part in section.sections:
        if section.dropped:
            yield Splice(part.offset, part.size, b"")
            continue
        old = _header(part)
        new = SectionStart(
            0, part.type, part.section_id, section.idstr, section.instance_id, section.version
        ).encode()
        if new != old:
            yield Splice(part.offset, len(old), new)
        if isinstance(section, DeviceDraft) and section.data != part.data:
            yield Splice(part.body_offset, part.body_size, section.data)
        yield from _footer(draft, part)


def _header(part: Section) -> bytes:
    return SectionStart(
        0, part.type, part.section_id, part.name, part.instance_id, part.version
    ).encode()


def _footer(draft: Draft, part: Section) -> Iterator[Splice]:
    if draft.footers == draft.stream.footers:
        return
    end = part.body_offset + part.body_size
    present = FOOTER if part.footer is not None else 0
    wanted = part.section_id if draft.footers else None
    yield Splice(end, present, SectionEnd(0, part.section_id, wanted).encode())


# The description


def _description(draft: Draft) -> Iterator[Splice]:
    stream = draft.stream
    text = stream.description_text
    length = 0 if text is None else FOOTER + len(text)
    if draft.description == "drop":
        yield Splice(stream.size - length, length, b"")
        return
    if draft.description == "rebuild":
        new = _encoded(_rebuilt(draft))
        yield Splice(stream.size - length, length, new)
        return
    before = stream.description
    if text is None or before is None:
        return
    after = _updated(draft, before)
    if after == before:
        return
    if dump(before) != text:
        raise Unsupported(
            "the description holds what would be lost when it is written anew; "
            "--rebuild-description or --drop-description accepts that",
            section="description",
        )
    yield Splice(stream.size - length, length, _encoded(after))


def _encoded(description: StreamDescription) -> bytes:
    return DescriptionText(0, dump(description)).encode()


def _updated(draft: Draft, before: StreamDescription) -> StreamDescription:
    """The description that was read, with what became of the devices."""
    sections: dict[tuple[str, int], list[SectionDraft]] = {}
    for section in draft.whole:
        sections.setdefault((section.name, section.sections[0].instance_id), []).append(section)
    devices = []
    seen: Counter[tuple[str, int]] = Counter()
    for device in before.devices:
        key = (device.name, device.instance_id)
        mine = sections.get(key, [])
        if seen[key] >= len(mine):
            devices.append(device)
            continue
        section = mine[seen[key]]
        seen[key] += 1
        if not section.dropped:
            devices.append(section.describe(device))
    configuration = before.configuration
    if configuration is not None and draft.configuration != draft.stream.configuration:
        configuration = _described(draft.configuration)
    return replace(before, devices=tuple(devices), configuration=configuration)


def _rebuilt(draft: Draft) -> StreamDescription:
    stream = draft.stream
    before = stream.description
    compact = before.compact if before is not None else True
    devices = tuple(d.describe_anew() for d in draft.whole if not d.dropped)
    stated = before is not None and before.configuration is not None
    configuration = _described(draft.configuration) if stated else None
    return StreamDescription(_page_size(stream), devices, configuration, compact)


def _page_size(stream: Stream) -> int:
    if stream.description is not None:
        return stream.description.page_size
    return stream.page_size or 4096


def _described(configuration: Configuration | None) -> Description | None:
    """What QEMU writes of its configuration section (10.0 and later)."""
    if configuration is None:
        return None
    name = bytes_of(configuration.machine)
    fields = (Field("len", "uint32", 4), Field("name", "buffer", len(name)))
    parts = {}
    if configuration.target_page_bits is not None:
        bits = (Field("target_page_bits", "uint32", 4),)
        parts[TARGET_PAGE_BITS] = Description(TARGET_PAGE_BITS, 1, bits)
    if configuration.capabilities is not None:
        parts[CAPABILITIES] = Description(
            CAPABILITIES, 1, _capability_fields(configuration.capabilities)
        )
    if configuration.uuid is not None:
        uuid = (Field("uuid.data", "uint8", 1, array_len=16),)
        parts[UUID] = Description(UUID, 1, uuid)
    subsections = tuple(parts[part] for part in configuration.order if part in parts)
    return Description("configuration", 1, fields, subsections)


def _capability_fields(names: tuple[str, ...]) -> tuple[Field, ...]:
    count = Field("caps_count", "uint32", 4)
    if not names:
        return (count,)
    size = 1 + len(bytes_of(names[0]))
    many = len(names) if len(names) > 1 else None
    return count, Field("capabilities", "capability", size, array_len=many)

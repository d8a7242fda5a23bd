"""A whole stream written anew around its own device state.

What is not RAM goes over byte for byte: sections, their footers, the
description. What a normal destination that reads a file would refuse stays
behind: the return path's commands and those of post-copy, whose packaged
device state follows memory as it does in any other stream.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from vmstream.errors import StreamError, Truncated, Unsupported
from vmstream.stream.ram_writer import Piece, RamWriter, Stored
from vmstream.stream.stream import Section, Stream
from vmstream.wire.commands import Command, CommandType
from vmstream.wire.configuration import Configuration
from vmstream.wire.ram import PageKind, RamBlock
from vmstream.wire.sections import (
    FILE_VERSION,
    DescriptionText,
    Element,
    EndOfStream,
    FileHeader,
    SectionEnd,
    SectionStart,
)

__all__ = [
    "CONNECTION",
    "block_list",
    "check_convertible",
    "configuration",
    "dropped",
    "is_plain",
    "machine_version",
    "rewritten",
    "stays",
]

_CHUNK = 1 << 20
"""Bytes of a section copied at a time."""
_CAPABILITIES = "configuration/capabilities"
_DEFAULT_VERSION = (7, 2)
CONNECTION = (CommandType.OPEN_RETURN_PATH, CommandType.PING)
"""Commands of the return path, which say nothing of the guest."""


def check_convertible(stream: Stream) -> None:
    """See that everything needed is in the stream.

    Raises:
        StreamError: the fault that ended the reading, for a stream that is not whole.
        Unsupported: parts of the guest went a way that the stream does not hold.
    """
    if stream.fatal is not None:
        stream.fatal.file = stream.fatal.file or stream.source.name
        raise stream.fatal
    if not stream.ended:
        raise Truncated("the stream has no end mark: what is missing can not be made up")
    if stream.file_version != FILE_VERSION:
        raise Unsupported(
            "only streams of file version 3 can be written anew",
            expected=FILE_VERSION,
            found=stream.file_version,
        )
    if any(command.command == CommandType.ENABLE_COLO for command in stream.commands):
        raise Unsupported("a stream of COLO checkpoints has no single state", section="colo")
    if stream.hooks:
        raise Unsupported("pages went by RDMA and are not in the stream", section="ram")
    if any(channel.device_states for channel in stream.channels):
        raise Unsupported("device state stands on multifd channels", section="multifd")


def machine_version(stream: Stream) -> tuple[int, int]:
    """The QEMU version of the machine type, which decides details of the stream's form.

    Machines without a version in their name behave as the QEMU that wrote the
    stream, whose version shows in what it writes only since some release.
    """
    named = re.search(r"-(\d+)\.(\d+)$", stream.machine or "")
    if named:
        return int(named[1]), int(named[2])
    if any(command.command == CommandType.SWITCHOVER_START for command in stream.commands):
        return 10, 0
    text = stream.description_text or b""
    return (8, 2) if text.startswith(b'{"configuration":') else _DEFAULT_VERSION


def configuration(stream: Stream, *, mapped: bool) -> Configuration | None:
    """The CONFIGURATION of the new stream.

    QEMU names there, of all capabilities that are on, x-ignore-shared and
    mapped-ram (``should_validate_capability``), and leaves the list out when
    neither is.
    """
    before = stream.configuration
    if before is None:
        return None
    names = [name for name in before.capabilities or () if name != "mapped-ram"]
    if not _shares(stream):
        names = [name for name in names if name != "x-ignore-shared"]
    if mapped:
        names.append("mapped-ram")
    if tuple(names) == (before.capabilities or ()):
        return before
    return replace(before, capabilities=tuple(names) or None)


def block_list(stream: Stream) -> list[RamBlock]:
    """The block list without what only the old form of the stream had in it."""
    if _shares(stream):
        return [replace(b, page_size=None, mapped=None) for b in stream.index.blocks]
    return [
        replace(b, page_size=None, mapped=None, address=None, ignored=None)
        for b in stream.index.blocks
    ]


def _shares(stream: Stream) -> bool:
    """Whether x-ignore-shared left content out, so that the capability must stay on."""
    return any(block.elsewhere for block in stream.memory)


def dropped(stream: Stream) -> list[Command]:
    """Commands that the new stream does not have."""
    return [command for command in stream.commands if not stays(command)]


def stays(command: Command) -> bool:
    """Whether a destination that reads a file takes a command."""
    if command.command == CommandType.POSTCOPY_ADVISE:
        return not command.payload  # of dirty bitmaps, which any destination takes
    return command.command == CommandType.SWITCHOVER_START


def is_plain(stream: Stream) -> bool:
    """Whether memory is in page records of its main channel alone, as any QEMU loads it."""
    if any(channel.kind != "return" for channel in stream.channels):
        return False
    if any(not stays(command) and command.command not in CONNECTION for command in stream.commands):
        return False
    kinds = stream.index.kind
    return not len(kinds) or int(kinds.max()) <= PageKind.NORMAL


def rewritten(stream: Stream, ram: RamWriter | None, head: Configuration | None) -> Iterator[Piece]:
    """The pieces of the new stream, the main channel's and all others', in the order to send.

    Args:
        ram: how memory is written; None for a stream whose memory stays as it is.
        head: the new CONFIGURATION, None for a stream without.

    Raises:
        StreamError: content that can not be read.
    """
    if ram is not None:
        yield from ram.opening()
    place = _Place(0)
    for piece in _main(stream, ram, head, place):
        if not piece.channel:
            place.offset = (place.offset if piece.at is None else piece.at) + piece.size
        yield piece


class _Place(msgspec.Struct):
    """Where on the main channel the next piece goes."""

    offset: int


def _main(
    stream: Stream, ram: RamWriter | None, head: Configuration | None, place: _Place
) -> Iterator[Piece]:
    yield Piece([FileHeader(0, FILE_VERSION).encode()])
    if head is not None:
        yield Piece([head.encode()])
    places = _ram_places(stream)
    for element in _elements(stream):
        if isinstance(element, Command):
            yield Piece([element.encode()])
        elif not _is_ram(element):
            yield from _copied(stream, element)
        elif ram is None:
            yield Piece([], behind=Stored(element.offset, element.size))
        else:
            for kind in places.get(element.offset, ()):
                yield from _ram_section(stream, ram, element, kind, place)
    yield Piece([EndOfStream(0).encode()])
    text = _description(stream, head)
    if text is not None:
        yield Piece([DescriptionText(0, text).encode()])


def _is_ram(section: Section) -> bool:
    return section.name == "ram" and section.type != Element.FULL


def _elements(stream: Stream) -> list[Section | Command]:
    """Sections and the commands that stay, with packaged sections behind everything else.

    Devices look at memory when they are loaded, so it comes before them.
    """
    sections: list[Section | Command] = [s for s in stream.sections if not s.packaged]
    commands = [command for command in stream.commands if stays(command)]
    ordered = sorted([*sections, *commands], key=lambda element: element.offset)
    return [*ordered, *(section for section in stream.sections if section.packaged)]


def _ram_places(stream: Stream) -> dict[int, list[Element]]:
    """Which of the three new RAM sections take the place of an old one, by its offset."""
    places: dict[Element, int] = {}
    for section in filter(_is_ram, stream.sections):
        places.setdefault(section.type, section.offset)
    if not places:
        return {}
    start = places.get(Element.START)
    if start is None:
        raise StreamError("the ram section was never started", section="ram")
    body = places.get(Element.PART, places.get(Element.END, start))
    end = places.get(Element.END, body)
    found: dict[int, list[Element]] = {}
    for kind, offset in ((Element.START, start), (Element.PART, body), (Element.END, end)):
        found.setdefault(offset, []).append(kind)
    return found


def _ram_section(
    stream: Stream, ram: RamWriter, old: Section, kind: Element, place: _Place
) -> Iterator[Piece]:
    header = SectionStart(0, kind, old.section_id, old.name, old.instance_id, old.version)
    yield Piece([header.encode()])
    if kind == Element.START:
        yield from ram.setup(place.offset)
    else:
        yield from ram.pages() if kind == Element.PART else ram.end()
    if stream.footers:
        yield Piece([SectionEnd(0, old.section_id, old.section_id).encode()])


def _copied(stream: Stream, section: Section) -> Iterator[Piece]:
    """A section as it is, from its header to its footer."""
    end = section.offset + section.size
    for at in range(section.offset, end, _CHUNK):
        data = stream.source.read_at(at, min(_CHUNK, end - at))
        if not data:
            raise Truncated("the input ends inside a section", offset=at, section=section.name)
        yield Piece([data])


def _description(stream: Stream, head: Configuration | None) -> bytes | None:
    """The JSON as it was, but for the list of capabilities in it (8.2+) where that changed."""
    text = stream.description_text
    before = stream.configuration
    if text is None or head is None or before is None or head.capabilities == before.capabilities:
        return text
    try:
        described = json.loads(text)
        part = described["configuration"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return text
    if not isinstance(part, dict):
        return text
    kept = [sub for sub in part.pop("subsections", []) if sub.get("vmsd_name") != _CAPABILITIES]
    if head.capabilities:
        kept.append(_described_capabilities(head.capabilities))
        kept.sort(key=lambda sub: str(sub.get("vmsd_name")).endswith("uuid"))
    if kept:
        part["subsections"] = kept
    return json.dumps(described).encode("utf-8", "surrogateescape")


def _described_capabilities(names: tuple[str, ...]) -> dict[str, Any]:
    """As QEMU describes the list: an array of several is told by its first element."""
    size = 1 + len(names[0].encode())
    field: dict[str, Any] = {"name": "capabilities"}
    if len(names) > 1:
        field["array_len"] = len(names)
    return {
        "vmsd_name": _CAPABILITIES,
        "version": 1,
        "fields": [
            {"name": "caps_count", "type": "uint32", "size": 4},
            {**field, "type": "capability", "size": size},
        ],
    }

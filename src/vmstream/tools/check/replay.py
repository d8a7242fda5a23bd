"""A stream without bulk memory, which asks of a destination everything but time.

What decides whether a destination loads a stream is its configuration, its RAM
block list, its device state, and the little memory that devices look at while
they load: option ROMs, which the APIC's patching code wants back, and the rings
of virtio queues. All else is left at the destination's zeros.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator

from msgspec.structs import replace

from vmstream.stream.memory import Block
from vmstream.stream.stream import Section, Stream
from vmstream.wire.ram import RamFlag, RamTotal
from vmstream.wire.reader import counted
from vmstream.wire.sections import (
    Element,
    EndOfStream,
    FileHeader,
    SectionEnd,
    SectionStart,
)

__all__ = ["left_out", "replay"]

SMALL_BLOCK = 4 << 20
"""Bytes up to which a block's content is kept (ROMs, ACPI tables)."""

LOW_MEMORY = 1 << 20
"""Bytes kept at the start of every larger block: the firmware's data and option ROMs."""

OWN_ENCODING = frozenset({"mapped-ram"})
"""Capabilities that say how memory is encoded, which is not how it is sent here."""


def replay(
    stream: Stream, capabilities: Collection[str], pages: Collection[tuple[str, int]] = ()
) -> Iterator[bytes | memoryview]:
    """The pieces of the reduced stream.

    Args:
        capabilities: those that are on at the destination.
        pages: more pages to keep, by block and byte offset.
    """
    footers = bool(stream.footers)
    yield FileHeader(0, 3).encode()
    if stream.configuration is not None:
        stated = stream.configuration.capabilities
        if stated is not None:
            stated = tuple(name for name in stated if name not in OWN_ENCODING) or None
        yield replace(stream.configuration, capabilities=stated).encode()
    ram = next((s for s in stream.sections if s.name == "ram" and s.type == Element.START), None)
    open_ram = False
    for section in stream.sections:
        if section is ram:
            yield from _ram_start(stream, section, footers, capabilities, pages)
            open_ram = True
        elif section.data is not None:
            if open_ram:
                yield from _ram_end(ram, footers)
                open_ram = False
            yield from _state(section, footers)
    if open_ram:
        yield from _ram_end(ram, footers)
    yield EndOfStream(0).encode()


def left_out(stream: Stream) -> list[str]:
    """Sections of the stream that the replay does not have, by name."""
    live = {s.name for s in stream.sections if s.data is None and s.name != "ram"}
    return sorted(live)


def _ram_start(
    stream: Stream,
    section: Section,
    footers: bool,
    capabilities: Collection[str],
    pages: Collection[tuple[str, int]],
) -> Iterator[bytes | memoryview]:
    shared = "x-ignore-shared" in capabilities
    blocks = stream.index.blocks
    yield SectionStart(0, Element.START, section.section_id, "ram", 0, section.version).encode()
    yield RamTotal(0, sum(block.used_length for block in blocks)).encode()
    for block in blocks:
        plain = replace(block, page_size=None, ignored=None, mapped=None)
        yield replace(plain, address=block.address if shared else None).encode()
    for content in stream.memory:
        yield from _content(content, stream.memory.page_size, pages)
    yield struct.pack(">Q", RamFlag.EOS)
    yield SectionEnd(0, section.section_id, section.section_id if footers else None).encode()


def _content(
    block: Block, page_size: int, pages: Collection[tuple[str, int]]
) -> Iterator[bytes | memoryview]:
    if block.elsewhere:
        return
    kept = min(block.size, SMALL_BLOCK if block.size <= SMALL_BLOCK else LOW_MEMORY)
    content = memoryview(block.read(0, kept))
    for offset in range(0, kept, page_size):
        yield from _page(block, offset, content[offset : offset + page_size], page_size)
    for offset in sorted({offset for name, offset in pages if name == block.name}):
        if offset >= kept:
            yield from _page(block, offset, memoryview(block.read(offset, page_size)), page_size)


def _page(
    block: Block, offset: int, content: memoryview, page_size: int
) -> Iterator[bytes | memoryview]:
    """One record, unless it is zero as the destination's memory already is."""
    if content == bytes(len(content)):
        return
    yield struct.pack(">Q", offset | RamFlag.PAGE) + counted(block.name)
    yield content
    yield bytes(page_size - len(content))


def _ram_end(section: Section | None, footers: bool) -> Iterator[bytes]:
    assert section is not None
    yield SectionStart(0, Element.END, section.section_id, "ram", 0, section.version).encode()
    yield struct.pack(">Q", RamFlag.EOS)
    yield SectionEnd(0, section.section_id, section.section_id if footers else None).encode()


def _state(section: Section, footers: bool) -> Iterator[bytes]:
    yield SectionStart(
        0,
        Element.FULL,
        section.section_id,
        section.name,
        section.instance_id,
        section.version,
    ).encode()
    yield section.data or b""
    yield SectionEnd(0, section.section_id, section.section_id if footers else None).encode()

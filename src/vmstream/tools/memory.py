"""``memory``: RAM blocks with the hash of their content; reading and searching it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import msgspec

from vmstream.errors import StreamError, Unsupported
from vmstream.stream.memory import Block
from vmstream.stream.physical import parse_place
from vmstream.stream.physical_memory import PhysicalMemory
from vmstream.stream.stream import Stream
from vmstream.tools.inspect import PageCounts, page_counts
from vmstream.tools.reports import FaultReport, fault_of, faults_of, file_of

__all__ = ["MemoryReport", "Piece", "find", "memory", "pattern_of", "read"]

MAX_READ = 1 << 28
"""Bytes that one hex dump may have."""
_OVERLAP = 4096
"""Bytes by which searched chunks overlap: the longest match that is surely found."""

Advance = Callable[[int, int | None], None]


class BlockContent(msgspec.Struct, frozen=True):
    """One RAM block; ``sha256`` is of the whole content, pages that were not sent being zero."""

    name: str
    size: int
    sha256: str | None
    """None where the content is not in the stream, or can not be read."""
    pages: PageCounts
    zero_bytes: int
    """Bytes that the records say are zero, without looking at content."""
    fault: FaultReport | None


class MemoryReport(msgspec.Struct, frozen=True):
    """The content of all RAM blocks."""

    file: str
    page_size: int | None
    complete: bool
    blocks: tuple[BlockContent, ...]
    faults: tuple[FaultReport, ...]

    @property
    def sound(self) -> bool:
        """Everything was there and readable."""
        return self.complete and not self.faults and not any(b.fault for b in self.blocks)


class Match(msgspec.Struct, frozen=True):
    """A place where a pattern was found."""

    block: str
    offset: int
    """Bytes from the start of the block."""
    data: bytes


def memory(
    stream: Stream, iteration: int | None = None, advance: Advance | None = None
) -> MemoryReport:
    """Hash every block.

    Args:
        iteration: memory as it was after that RAM section, instead of at the end.
        advance: called with bytes hashed and bytes in all.
    """
    content = stream.memory if iteration is None else stream.memory.at(iteration)
    counts = stream.index.counts()
    total = sum(block.size for block in content)
    done = 0
    blocks = []
    for number, block in enumerate(content):
        kinds = counts[number].tolist()
        blocks.append(_block(block, page_counts(kinds)))
        done += block.size
        if advance is not None:
            advance(done, total)
    return MemoryReport(
        file_of(stream), stream.page_size, stream.complete, tuple(blocks), faults_of(stream)
    )


def _block(block: Block, pages: PageCounts) -> BlockContent:
    if block.elsewhere:
        error: StreamError = Unsupported("x-ignore-shared left the content in shared memory")
        return BlockContent(block.name, block.size, None, pages, 0, fault_of(error))
    zero = sum(run.size for run in block.runs() if run.zero)
    try:
        return BlockContent(block.name, block.size, block.hash(), pages, zero, None)
    except StreamError as error:
        return BlockContent(block.name, block.size, None, pages, zero, fault_of(error))


def pattern_of(text: str) -> re.Pattern[bytes]:
    """What ``--find`` takes: hex bytes after ``0x``, ``/regex/``, or plain text.

    Raises:
        ValueError: neither hex nor a regular expression that compiles.
    """
    if text.startswith("0x"):
        try:
            return re.compile(re.escape(bytes.fromhex(text[2:])), re.DOTALL)
        except ValueError:
            raise ValueError(f"{text!r} is no even number of hex digits") from None
    if len(text) > 2 and text.startswith("/") and text.endswith("/"):
        try:
            return re.compile(text[1:-1].encode(), re.DOTALL)
        except re.error as error:
            raise ValueError(f"{text!r} is no regular expression: {error}") from None
    return re.compile(re.escape(text.encode()), re.DOTALL)


def find(stream: Stream, pattern: re.Pattern[bytes], block: str | None = None) -> Iterator[Match]:
    """Every place where a pattern stands in guest memory, block by block.

    Stretches that the records say are zero are passed over, so a pattern of
    zeros alone is not found there. A match may span pages, up to 4 KiB.
    """
    for item in stream.memory:
        if (block is None or item.name == block) and not item.elsewhere:
            yield from _find_in(item, pattern)


def _find_in(block: Block, pattern: re.Pattern[bytes]) -> Iterator[Match]:
    before, start, reached = b"", 0, -1
    for offset, data in block.chunks():
        if data is None:
            before = b""
            continue
        if not before or start + len(before) != offset:
            before, start = b"", offset
        window = before + data
        for match in pattern.finditer(window):
            at = start + match.start()
            if at > reached and match.group():
                reached = at
                yield Match(block.name, at, match.group())
        before = window[-_OVERLAP:]
        start = offset + len(data) - len(before)


class Piece(msgspec.Struct, frozen=True):
    """Bytes that stand together, at a physical address or an offset of a block."""

    address: int
    data: bytes


def read(
    stream: Stream,
    address: str,
    length: str,
    *,
    block: str | None = None,
    placed: Sequence[str] = (),
    iteration: int | None = None,
) -> list[Piece]:
    """Content of physical memory, or of a block; parts that no memory backs are left out.

    Args:
        address, length: numbers in C's notation.
        placed: ``BLOCK@ADDRESS`` each.

    Raises:
        StreamError: the content can not be read.
        ValueError: a number or a block's name is wrong.
    """
    start, size = int(address, 0), int(length, 0)
    if start < 0 or not 0 < size <= MAX_READ:
        raise ValueError(f"address and length must be positive, the length at most {MAX_READ}")
    content = stream.memory if iteration is None else stream.memory.at(iteration)
    if block is not None:
        if block not in content:
            raise ValueError(f"there is no RAM block {block!r}")
        data = content[block].read(start, size)
        return [Piece(start, data)] if data else []
    guest = PhysicalMemory(stream, content, map(parse_place, placed))
    return [Piece(at, part) for at, part in guest.parts(start, size)]

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
"""Bytes that one hex dump may have: 256 MiB. More is what ``extract`` is for."""
LONGEST_MATCH = 1 << 16
"""Bytes of the longest match that is surely found whole."""
_WINDOW = 1 << 20
"""Bytes that are searched together, at least."""
_EDGE = 4096
"""Bytes that are looked at of a long stretch of zeros, at each end."""

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
    """Every place where a pattern stands in guest memory, block by block, none within another.

    A match may span pages, up to 64 KiB; a longer one may be cut short. Of
    stretches that the records say are zero and that are longer than that, only
    the 4 KiB beside other content are looked at, so a pattern of zeros alone is
    not found in them.
    """
    for item in stream.memory:
        if (block is None or item.name == block) and not item.elsewhere:
            for at, data in _find_in(item, pattern):
                yield Match(item.name, at, data)


def _find_in(block: Block, pattern: re.Pattern[bytes]) -> Iterator[tuple[int, bytes]]:
    window, start = b"", 0
    for at, data in _searched(block):
        if at != start + len(window):
            yield from _matches(pattern, window, start, len(window))
            window, start = data, at
            continue
        window += data
        if len(window) < _WINDOW:
            continue
        # What begins later may go on in the next chunk.
        end = len(window) - LONGEST_MATCH
        for found, match in _matches(pattern, window, start, end):
            yield found, match
            end = max(end, found + len(match) - start)
        window, start = window[end:], start + end
    yield from _matches(pattern, window, start, len(window))


def _matches(
    pattern: re.Pattern[bytes], window: bytes, start: int, end: int
) -> Iterator[tuple[int, bytes]]:
    """Matches that are not empty and begin before ``end`` of a window at ``start``."""
    for match in pattern.finditer(window):
        if match.start() >= end:
            return
        if match.group():
            yield start + match.start(), match.group()


def _searched(block: Block) -> Iterator[tuple[int, bytes]]:
    """The content with zeros between, of which long stretches are left out but for their ends."""
    reached = 0
    for at, data in block.chunks():
        if at - reached > LONGEST_MATCH:
            yield reached, bytes(_EDGE)
            reached = at - _EDGE
        if at > reached:
            yield reached, bytes(at - reached)
        yield at, data.tobytes()
        reached = at + len(data)
    if reached < block.size:
        yield reached, bytes(min(block.size - reached, _EDGE))


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

    A read is cut at the end of the block, and holds at most 256 MiB.

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

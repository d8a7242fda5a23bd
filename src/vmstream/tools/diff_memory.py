"""Guest memory of two streams, page by page.

A MiB of either is at hand at a time. What the records of both say is zero
is not read, nor is anything where both streams are the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from vmstream._kernels import gather
from vmstream.errors import StreamError, Unsupported
from vmstream.sources.files import DeviceFile
from vmstream.stream.memory import Batch, Memory
from vmstream.stream.spans import SPAN, PageState
from vmstream.stream.stream import ByteSource, Stream
from vmstream.tools.diff_report import BlockDiff, MemoryDiff, PageRun
from vmstream.tools.diff_sieve import Sieve
from vmstream.tools.reports import fault_of

__all__ = ["HexLine", "diff_memory", "hex_lines"]

RAM = "ram:0"
"""Stands for the device in a pattern over RAM blocks."""
_CHUNK = 1 << 20
"""Bytes of memory compared at a time: little enough to stay in a processor's cache."""
_MAX_RUNS = 1024
"""Runs of a block that are given; ``runs`` counts them all."""
_LINE = 16
"""Bytes of a line of a hex dump."""

Advance = Callable[[int, int | None], None]
Pages = NDArray[np.uint8]
"""Pages by page size."""


class HexLine(msgspec.Struct, frozen=True):
    """16 bytes of a block that differ."""

    block: str
    offset: int
    old: bytes
    new: bytes


def diff_memory(
    a: Stream, b: Stream, sieve: Sieve, advance: Advance | None = None
) -> MemoryDiff | None:
    """Compare all RAM blocks; None where neither stream has one.

    Args:
        advance: called with bytes compared and bytes in all.
    """
    if not len(a.memory) and not len(b.memory):
        return None
    return _MemoryComparison(a, b, sieve, advance).run()


class _MemoryComparison:
    """One comparison of two streams' memory."""

    def __init__(self, a: Stream, b: Stream, sieve: Sieve, advance: Advance | None) -> None:
        self._a, self._b = a.memory, b.memory
        self._same = _same_input(a, b)
        self._advance = advance
        self._page_size = max(self._a.page_size, self._b.page_size)
        self._number_a, self._number_b = _numbers(self._a), _numbers(self._b)
        self._names = [
            name
            for name in dict.fromkeys((*self._number_a, *self._number_b))
            if not sieve.ignores(RAM, name)
        ]
        self._shared = {
            name: min(self._a[name].size, self._b[name].size)
            for name in self._names
            if name in self._a and name in self._b
        }
        self._total = sum(self._shared.values())
        self._done = 0
        self._content = 0

    def run(self) -> MemoryDiff:
        """Compare every block that was not ignored."""
        blocks = [self._block(name) for name in self._names]
        size = self._page_size
        return MemoryDiff(
            page_size=size,
            pages=sum(-(-shared // size) for shared in self._shared.values()),
            content=self._content,
            differing=sum(block.pages for block in blocks),
            bytes=sum(block.bytes for block in blocks),
            runs=sum(block.runs for block in blocks),
            blocks=tuple(b for b in blocks if b.resized or b.pages or b.fault is not None),
        )

    def _block(self, name: str) -> BlockDiff:
        old = self._a[name].size if name in self._a else None
        new = self._b[name].size if name in self._b else None
        tally = _Tally(self._page_size)
        if name not in self._shared:
            return tally.report(name, old, new, None)
        try:
            self._compare(name, tally)
        except StreamError as error:
            return tally.report(name, old, new, error)
        finally:
            self._report_progress(self._shared[name])
        return tally.report(name, old, new, None)

    def _compare(self, name: str, tally: _Tally) -> None:
        elsewhere = self._a[name].elsewhere, self._b[name].elsewhere
        if any(elsewhere):
            if not all(elsewhere):
                raise Unsupported(f"x-ignore-shared left the content of {name!r} in shared memory")
            return
        if self._same:
            runs = self._a[name].runs()
            self._content += sum(r.size for r in runs if not r.zero) // self._page_size
            return
        size, shared = self._page_size, self._shared[name]
        pages, step = -(-shared // size), max(_CHUNK // size, 1)
        window = SPAN * size // min(self._a.page_size, self._b.page_size)
        for start in range(0, pages, window):
            end = min(start + window, pages)
            if not self._touched(name, start, end):
                continue
            for first in range(start, end, step):
                self._chunk(name, first, min(step, end - first), tally)
                self._report_progress(0, min((first + step) * size, shared))

    def _touched(self, name: str, first: int, end: int) -> bool:
        """Whether records of either stream hold any of the pages; a block may be far larger."""
        return any(
            memory.touched(numbers[name], first * scale, (end - first) * scale)
            for memory, numbers in ((self._a, self._number_a), (self._b, self._number_b))
            for scale in (self._page_size // memory.page_size,)
        )

    def _chunk(self, name: str, first: int, count: int, tally: _Tally) -> None:
        alike = self._a.page_size == self._b.page_size
        found = (self._by_batch if alike else self._by_content)(name, first, count)
        if found is None:
            return
        where, old, new = found
        self._content += len(where)
        unlike = (_words(old) != _words(new)).any(axis=1)
        if unlike.any():
            tally.add(first + where[unlike], int(np.count_nonzero(old[unlike] != new[unlike])))

    def _by_batch(
        self, name: str, first: int, count: int
    ) -> tuple[NDArray[np.int64], Pages, Pages] | None:
        """The pages that have content in either, and that content; None where none has."""
        old = self._a.batch(self._number_a[name], first, count)
        new = self._b.batch(self._number_b[name], first, count)
        has = (old.state == PageState.CONTENT) | (new.state == PageState.CONTENT)
        where = np.flatnonzero(has)
        if not len(where):
            return None
        size = self._page_size
        return where, _content(old, where, size), _content(new, where, size)

    def _by_content(
        self, name: str, first: int, count: int
    ) -> tuple[NDArray[np.int64], Pages, Pages]:
        """All pages, for streams whose page sizes differ."""
        size = self._page_size
        old, new = np.zeros((2, count, size), np.uint8)
        for memory, pages in ((self._a, old), (self._b, new)):
            content = np.frombuffer(memory[name].read(first * size, count * size), np.uint8)
            pages.reshape(-1)[: len(content)] = content
        return np.arange(count), old, new

    def _report_progress(self, finished: int, within: int = 0) -> None:
        self._done += finished
        if self._advance is not None:
            self._advance(self._done + within, self._total)


class _Tally:
    """The pages of one block that differ, as they are found."""

    def __init__(self, page_size: int) -> None:
        self._page_size = page_size
        self._pages = 0
        self._bytes = 0
        self._runs = 0
        self._kept: list[PageRun] = []
        self._end = -1
        """Page behind the last that differs."""

    def add(self, pages: NDArray[np.int64], differing: int) -> None:
        """Count pages, in rising order, and the bytes in them that differ."""
        size = self._page_size
        breaks = np.flatnonzero(np.diff(pages) != 1) + 1
        starts = np.concatenate(([0], breaks))
        stops = np.append(breaks, len(pages))
        counts = (stops - starts).tolist()
        for start, count in zip(pages[starts].tolist(), counts, strict=True):
            if start == self._end:
                if self._runs <= _MAX_RUNS:
                    last = self._kept.pop()
                    self._kept.append(PageRun(last.start, last.size + count * size))
            else:
                self._runs += 1
                if self._runs <= _MAX_RUNS:
                    self._kept.append(PageRun(start * size, count * size))
            self._end = start + count
        self._pages += len(pages)
        self._bytes += differing

    def report(
        self, name: str, old: int | None, new: int | None, error: StreamError | None
    ) -> BlockDiff:
        """What was found."""
        return BlockDiff(
            name,
            old,
            new,
            self._pages,
            self._bytes,
            self._runs,
            tuple(self._kept),
            fault_of(error) if error is not None else None,
        )


def _content(batch: Batch, where: NDArray[np.int64], size: int) -> Pages:
    """The content of some pages of a batch, one after the other."""
    offsets = batch.offsets[where]
    held = offsets >= 0
    if held.all():
        pages = np.empty((len(where), size), np.uint8)
        gather(batch.data, offsets, pages)
        return pages
    pages = np.zeros((len(where), size), np.uint8)
    if held.any():
        some = np.empty((int(held.sum()), size), np.uint8)
        gather(batch.data, offsets[held], some)
        pages[held] = some
    return pages


def _words(pages: Pages) -> NDArray[np.uint64]:
    return pages.view(np.uint64)


def _numbers(memory: Memory) -> dict[str, int]:
    """Block numbers by name."""
    return {block.name: number for number, block in enumerate(memory)}


def _same_input(a: Stream, b: Stream) -> bool:
    """Whether both are read from the same files, so that the same record has the same bytes."""
    if a is b:
        return True
    mine, theirs = _sources(a), _sources(b)
    if len(mine) != len(theirs) or a.index.page_size != b.index.page_size:
        return False
    return all(_same_file(x, y) for x, y in zip(mine, theirs, strict=True))


def _sources(stream: Stream) -> list[ByteSource]:
    return [stream.source, *(channel.source for channel in stream.channels)]


def _same_file(x: ByteSource, y: ByteSource) -> bool:
    """Whether both are the same plain file."""
    if not isinstance(x, DeviceFile) or not isinstance(y, DeviceFile) or x.size != y.size:
        return False
    try:
        return Path(x.name).samefile(y.name)
    except OSError:
        return False


def hex_lines(a: Stream, b: Stream, memory: MemoryDiff) -> Iterator[HexLine]:
    """Every 16 bytes that differ, in the runs that the report gives.

    Raises:
        StreamError: content that can not be read.
    """
    for block in memory.blocks:
        for run in block.first:
            for at in range(run.start, run.start + run.size, _CHUNK):
                length = min(_CHUNK, run.start + run.size - at)
                old = a.memory[block.name].read(at, length)
                new = b.memory[block.name].read(at, length)
                yield from _hex(block.name, at, old, new)


def _hex(block: str, start: int, old: bytes, new: bytes) -> Iterator[HexLine]:
    length = max(len(old), len(new))  # one may end inside the last page
    old, new = old.ljust(length, b"\0"), new.ljust(length, b"\0")
    unlike = np.frombuffer(old, np.uint8) != np.frombuffer(new, np.uint8)
    for line in np.unique(np.flatnonzero(unlike) // _LINE).tolist():
        part = slice(line * _LINE, (line + 1) * _LINE)
        yield HexLine(block, start + line * _LINE, old[part], new[part])

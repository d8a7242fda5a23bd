"""What each page of guest memory ends as: the index by block and span.

A span is :data:`SPAN` pages of one block. What its pages end as is worked out
when it is asked for, by numpy over all records that touch it.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import IntEnum

import msgspec
import numpy as np
from numpy.typing import NDArray

from vmstream.stream.index import Index
from vmstream.wire.ram import PageKind

__all__ = ["NONE", "SPAN", "UNPACKED", "PageState", "Span", "Spans", "replay_order"]

SPAN = 1 << 14
"""Pages whose state is worked out together (64 MiB of 4 KiB pages)."""
SPANS_KEPT = 128
UNPACKED = 1 << 32
"""Added to the number of a channel whose pages are compressed."""
NONE = -1
IN_PLACE = (PageKind.NORMAL, PageKind.MULTIFD, PageKind.MAPPED)
"""Kinds whose bytes stand in a channel as they are, unless the channel is compressed."""
_NORMAL, _MULTIFD = int(PageKind.NORMAL), int(PageKind.MULTIFD)
_COPIED = np.isin(range(len(PageKind)), (PageKind.NORMAL, PageKind.MULTIFD, PageKind.MAPPED))
"""By kind: whether the page stands as it is."""
_MADE = np.isin(range(len(PageKind)), (PageKind.FILLED, PageKind.COMPRESSED))
"""By kind: whether the page is made from what stands there."""


class PageState(IntEnum):
    """What the records make of a page in the end."""

    ABSENT = 0
    """No record holds it: it was never sent, and reads as zero."""
    ZERO = 1
    CONTENT = 2


class Span(msgspec.Struct, frozen=True):
    """What each page of a span ends as."""

    final: NDArray[np.int64]
    """Run of the last record that holds the whole page, or -1 when none does."""
    chains: dict[int, list[int]]
    """Runs of the XBZRLE records after it, by page of the span."""
    state: NDArray[np.uint8]
    """:class:`PageState` of each page."""
    in_place: NDArray[np.bool_]
    """Pages of content whose bytes stand in a channel as they are."""


class Spans:
    """The index rearranged by block and span, spans worked out when asked for."""

    def __init__(self, index: Index, order: NDArray[np.int64]) -> None:
        self._index = index
        self._kept: OrderedDict[tuple[int, int], Span | None] = OrderedDict()
        block = index.block.astype(np.int64)[order]
        page = index.page.astype(np.int64)[order]
        count = index.count.astype(np.int64)[order]
        self._run, block, page, count = _split(order, block, page, count)
        key = block << 40 | page // SPAN
        grouped = np.argsort(key, kind="stable")
        self._run, self._page, self._count = self._run[grouped], page[grouped], count[grouped]
        keys, starts = np.unique(key[grouped], return_index=True)
        stops = np.append(starts[1:], len(key))[: len(starts)]
        self._where = {
            int(k): (int(a), int(b)) for k, a, b in zip(keys, starts, stops, strict=True)
        }
        self._starts = np.array([segment.start for segment in index.segments], np.int64)
        self._channels = np.array([segment.channel for segment in index.segments], np.int64)
        self._compressed = np.array(sorted({packet.channel for packet in index.packets}), np.int64)

    def channel(self, run: int) -> int:
        """The channel that a run stands on."""
        return int(self._channels[np.searchsorted(self._starts, run, "right") - 1])

    def channels(self, runs: NDArray[np.int64]) -> NDArray[np.int64]:
        """The channel that each run stands on."""
        return self._channels[np.searchsorted(self._starts, runs, "right") - 1]

    def compressed(self, channel: int) -> bool:
        """Whether a channel's pages are compressed."""
        return bool((self._compressed == channel).any())

    def alone(self, final: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the pages with those runs must be made one by one."""
        made: NDArray[np.bool_] = _MADE[self._index.kind[final]] & (final != NONE)
        return made

    def places(
        self, final: NDArray[np.int64], page: int, page_size: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the content of pages from ``page`` on stands: the offset, or -1; the source.

        A source is a channel's number, with ``UNPACKED`` added where the
        offset is one of the decompressed pages.
        """
        index = self._index
        kind = index.kind[final]
        copied = _COPIED[kind] & (final != NONE)
        stride = np.where(kind == _NORMAL, page_size + 8, page_size)
        step = np.arange(page, page + len(final)) - index.page[final]
        places = np.where(copied, index.offset[final] + step * stride, -1)
        sources = self._channels[np.searchsorted(self._starts, final, "right") - 1]
        if len(self._compressed):
            packed = (kind == _MULTIFD) & np.isin(sources, self._compressed)
            sources = np.where(packed, sources + UNPACKED, sources)
        return places, sources

    def has(self, block: int, number: int) -> bool:
        """Whether any record touches a span."""
        return block << 40 | number in self._where

    def span(self, block: int, number: int) -> Span | None:
        """What the pages of one span end as; None when no record touches it."""
        key = (block, number)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        where = self._where.get(block << 40 | number)
        span = None if where is None else self._work_out(number * SPAN, *where)
        self._kept[key] = span
        if len(self._kept) > SPANS_KEPT:
            self._kept.popitem(last=False)
        return span

    def _work_out(self, base: int, start: int, stop: int) -> Span:
        runs = self._run[start:stop]
        first = self._page[start:stop] - base
        count = self._count[start:stop]
        whole = self._index.kind[runs] != PageKind.XBZRLE
        final = np.full(SPAN, NONE, np.int64)
        place = np.full(SPAN, NONE, np.int64)
        pages, owner = _spread(first[whole], count[whole])
        # Of several assignments to one page numpy keeps the last, which is the latest record.
        final[pages] = runs[whole][owner]
        place[pages] = np.flatnonzero(whole)[owner]
        chains: dict[int, list[int]] = {}
        for at in np.flatnonzero(~whole).tolist():
            page = int(first[at])
            if at > place[page]:
                chains.setdefault(page, []).append(int(runs[at]))
        return self._judged(final, chains)

    def _judged(self, final: NDArray[np.int64], chains: dict[int, list[int]]) -> Span:
        """A span with the state of its pages."""
        kinds = self._index.kind[np.maximum(final, 0)]
        empty = np.isin(kinds, (PageKind.ZERO, PageKind.MULTIFD_ZERO, PageKind.DISCARDED))
        state = np.where(empty, PageState.ZERO, PageState.CONTENT).astype(np.uint8)
        state[final == NONE] = PageState.ABSENT
        chained = list(chains)
        state[chained] = PageState.CONTENT
        in_place = np.isin(kinds, IN_PLACE)
        in_place[chained] = False
        if len(self._compressed):
            channels = self.channels(np.maximum(final, 0))
            in_place &= ~np.isin(channels, self._compressed)
        return Span(final, chains, state, in_place)

    def zero(self, block: int, number: int, count: int) -> NDArray[np.bool_]:
        """Which of the first ``count`` pages of a span are zero by their records."""
        span = self.span(block, number)
        if span is None:
            return np.ones(count, bool)
        return np.not_equal(span.state[:count], PageState.CONTENT)


def _spread(
    first: NDArray[np.int64], count: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every page of runs, in order, with the number of the run that it belongs to."""
    owner = np.repeat(np.arange(len(count)), count)
    begin = np.cumsum(count) - count
    return first[owner] + np.arange(len(owner)) - begin[owner], owner


def _split(
    runs: NDArray[np.int64],
    block: NDArray[np.int64],
    page: NDArray[np.int64],
    count: NDArray[np.int64],
) -> tuple[NDArray[np.int64], ...]:
    """Cut runs at span boundaries, keeping their order."""
    parts = (page + count - 1) // SPAN - page // SPAN + 1
    if (parts == 1).all():
        return runs, block, page, count
    owner = np.repeat(np.arange(len(runs)), parts)
    nth = np.arange(len(owner)) - (np.cumsum(parts) - parts)[owner]
    begin = np.where(nth == 0, page[owner], (page[owner] // SPAN + nth) * SPAN)
    end = np.minimum(page[owner] + count[owner], (begin // SPAN + 1) * SPAN)
    return runs[owner], block[owner], begin, end - begin


def replay_order(index: Index) -> NDArray[np.int64]:
    """Runs in the order in which their records take effect."""
    if not index.segments:
        return np.empty(0, np.int64)
    ordered = sorted(index.segments, key=lambda s: (s.epoch, s.channel, s.start))
    order: NDArray[np.int64] = np.concatenate([np.arange(s.start, s.stop) for s in ordered])
    return order[index.count[order] > 0]

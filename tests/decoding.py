"""Decoding with any split, and events in a form that does not depend on the split."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from vmstream.stream.decoder import Decoder
from vmstream.stream.events import Event, Fault
from vmstream.wire.ram import PageKind, Pages
from vmstream.wire.sections import Raw

__all__ = ["decode", "joined"]


def decode(data: bytes, cuts: Iterable[int] = ()) -> list[Event]:
    decoder = Decoder()
    events: list[Event] = []
    edges = [0, *sorted(cuts), len(data)]
    for start, end in pairwise(edges):
        events += decoder.feed(data[start:end])
    return events + decoder.close()


def joined(events: list[Event]) -> list[Any]:
    """Events with batches of pages and raw pieces put together, as the split may not matter."""
    out: list[Any] = []
    for event in events:
        if isinstance(event, Pages):
            records = list(_records(event))
            if out and isinstance(out[-1], list):
                out[-1] += records
            else:
                out.append(records)
        elif isinstance(event, Raw):
            if out and isinstance(out[-1], tuple) and out[-1][0] == event.role:
                out[-1] = (event.role, out[-1][1] + bytes(event.data or b""))
            else:
                out.append((event.role, bytes(event.data or b"")))
        elif isinstance(event, Fault):
            out.append(("fault", str(event.error), event.fatal))
        else:
            out.append((type(event).__name__, event.offset, bytes(event.encode())))
    return out


def _records(event: Pages) -> list[tuple[int, int, int, int]]:
    runs = event.runs
    strides = {PageKind.ZERO: 9, PageKind.FILLED: 9, PageKind.NORMAL: 8 + event.page_size}
    return [
        (kind, block, page + step, offset + step * strides.get(PageKind(kind), 0))
        for kind, block, page, count, offset in zip(
            runs.kind.tolist(), runs.block.tolist(), runs.page.tolist(),
            runs.count.tolist(), runs.offset.tolist(), strict=True,
        )
        for step in range(count)
    ]  # fmt: skip

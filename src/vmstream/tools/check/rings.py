"""Pages of guest memory that virtio devices look at while they load."""

from __future__ import annotations

from vmstream.stream.stream import Stream

__all__ = ["ring_pages"]


def ring_pages(stream: Stream) -> set[tuple[str, int]]:
    return set()

"""Events in, bytes out: the mirror of the decoder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vmstream.stream.events import Event

__all__ = ["encode"]


def encode(events: Iterable[Event]) -> Iterator[bytes | memoryview]:
    """The bytes of a stream, event by event.

    Encoding what a decoder yielded gives back the bytes it was fed.

    Raises:
        ValueError: an event stands for bytes that were passed over unread.
    """
    for event in events:
        yield event.encode()

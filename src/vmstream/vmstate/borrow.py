"""Descriptions for devices that a stream does not describe itself."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from vmstream.vmstate.decode import extent
from vmstream.vmstate.description import Description, StreamDescription
from vmstream.vmstate.layouts import borrow, lookup

__all__ = ["Borrowed"]


class Borrowed:
    """Where descriptions are borrowed: another stream's first, then the shipped layouts.

    Args:
        other: the description of a stream that a person named as alike.
    """

    def __init__(self, other: StreamDescription | None = None) -> None:
        self._other = other

    def candidates(
        self, idstr: str, instance_id: int, version_id: int
    ) -> tuple[list[Description], list[Description]]:
        """Descriptions that may fit a section: the named stream's, then the shipped ones."""
        named = borrow(self._other, idstr, instance_id, version_id) if self._other else []
        return named, lookup(idstr, version_id)

    def extents(
        self, idstr: str, instance_id: int, version_id: int, data: memoryview
    ) -> Iterator[int]:
        """Bytes that each candidate makes of what follows a section's header."""
        for description in chain(*self.candidates(idstr, instance_id, version_id)):
            size = extent(description, data)
            if size is not None:
                yield size

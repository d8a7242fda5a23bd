"""Descriptions for devices that a stream does not describe itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from vmstream.vmstate.decode import extent
from vmstream.vmstate.description import Description, StreamDescription
from vmstream.vmstate.layouts import borrow, lookup, suffix

if TYPE_CHECKING:
    from vmstream.vmstate.schema import Schema

__all__ = ["Borrowed"]


class Borrowed:
    """Where descriptions are borrowed: another stream, the shipped layouts, a schema.

    Another stream that a person named comes before the shipped layouts. A
    schema knows less than those: it says which of them to try first, and serves
    by itself where none fits.

    Args:
        other: the description of a stream alike, or the schema of a QEMU alike.
    """

    def __init__(self, other: StreamDescription | Schema | None = None) -> None:
        self._other = other

    def candidates(
        self, idstr: str, instance_id: int, version_id: int
    ) -> Sequence[list[Description]]:
        """Descriptions that may fit a section, the most trusted group first."""
        shipped = lookup(idstr, version_id)
        if self._other is None:
            return [shipped]
        if isinstance(self._other, StreamDescription):
            return borrow(self._other, idstr, instance_id, version_id), shipped
        from vmstream.vmstate.schema_layouts import agrees, schema_layouts

        name = suffix(idstr)
        declared = [layout for layout in shipped if agrees(self._other, name, layout)]
        return declared, shipped, schema_layouts(self._other, name, version_id)

    def extents(
        self, idstr: str, instance_id: int, version_id: int, data: memoryview
    ) -> Iterator[int]:
        """Bytes that each candidate makes of what follows a section's header."""
        for description in chain(*self.candidates(idstr, instance_id, version_id)):
            size = extent(description, data)
            if size is not None:
                yield size

"""The one model of what a device's bytes mean.

A :class:`Description` comes from the JSON after a stream's end marker, from a
``-dump-vmstate`` schema, or from a Python declaration; decoding, diffing,
checking, editing and rendering all work on it and never on a special device.
"""

from __future__ import annotations

import msgspec

__all__ = ["Description", "DeviceDescription", "Field", "StreamDescription"]


class Field(msgspec.Struct, frozen=True):
    """One field of a description: how many elements of which wire type.

    ``size`` is wire bytes of *one element* when ``array_len`` is set, else of
    the whole field (QEMU ``migration/vmstate.c`` ``vmsd_desc_field_end``); a
    schema gives C sizes instead, kept in ``memory_size``.
    """

    name: str
    type: str
    """The info's name in the stream: ``uint32``, ``struct``, ``buffer``..."""
    size: int | None
    """Wire bytes of one element; None when the origin does not know (schema)."""
    array_len: int | None = None
    index: int | None = None
    struct: Description | None = None
    """The nested description of a ``struct`` or ``vstruct`` or ``tmp`` field."""
    elements: tuple[Description, ...] = ()
    """Per-element descriptions of self-counted containers (qtailq, qlist,
    gtree): one for each time the keys are repeated in the JSON object."""
    version: int = 0
    """Version of the description that introduced the field (schema, declaration)."""
    conditional: bool = False
    """A ``field_exists`` test decides whether it is sent (schema, declaration)."""
    memory_size: int | None = None
    """C ``sizeof`` of one element (schema only)."""


class Description(msgspec.Struct, frozen=True):
    """A named, versioned list of fields with subsections."""

    name: str
    version: int
    fields: tuple[Field, ...] = ()
    subsections: tuple[Description, ...] = ()
    minimum_version: int | None = None
    """Oldest version accepted on load (schema, declaration; not in a stream)."""


class DeviceDescription(msgspec.Struct, frozen=True):
    """One entry of ``devices`` in a stream's description."""

    name: str
    instance_id: int
    description: Description
    old_style: bool = False
    """The device has no vmsd: one opaque ``data`` buffer (old-style handler)."""


class StreamDescription(msgspec.Struct, frozen=True):
    """The whole JSON object after the end marker."""

    page_size: int
    devices: tuple[DeviceDescription, ...]
    configuration: Description | None = None
    compact: bool = True
    """Text style: True for QEMU 6.0 and later, False for 2.3 to 5.2."""

"""What ``diff`` finds, as records: one stream (``a``, old) against another (``b``, new)."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from vmstream.tools.reports import FaultReport

__all__ = [
    "BlockDiff",
    "Change",
    "ChangeKind",
    "DeviceDiff",
    "MemoryDiff",
    "PageRun",
    "Quieted",
    "RegisterChange",
    "SectionChange",
    "SectionKind",
    "Side",
    "StreamDiff",
]


class Side(StrEnum):
    """Which of the two streams."""

    A = "a"
    B = "b"


class ChangeKind(StrEnum):
    """How a field differs."""

    VALUE = "value"
    TYPE = "type"
    """Another wire type, or another number of bytes."""
    LENGTH = "length"
    """A container or array with another number of elements."""
    VERSION = "version"
    """A subsection of another version."""
    FIELD = "field"
    """Present in one only."""
    SUBSECTION = "subsection"
    """Present in one only, with all its fields."""
    BYTES = "bytes"
    """Bytes whose meaning nothing tells."""


class Change(msgspec.Struct, frozen=True):
    """One field, or one fact of the stream as a whole, that differs."""

    path: str
    """As ``show --field`` takes it; empty for bytes of the body that belong to no field."""
    kind: ChangeKind
    old: Any
    """The plain value in a; None where a has none. Of many elements, or bytes, the first few."""
    new: Any
    only: Side | None = None
    """The one stream that has it."""
    old_type: str | None = None
    """The wire type in a."""
    new_type: str | None = None
    old_offset: int | None = None
    """Of the field's first byte, in a."""
    new_offset: int | None = None
    unit: str | None = None
    """``element`` or ``byte``, of ``ranges``, where not the whole field differs."""
    ranges: tuple[tuple[int, int], ...] = ()
    """Elements or bytes of the field that differ, (first, last)."""
    differing: int = 0
    """How many elements or bytes ``ranges`` hold."""
    size: int = 0
    """How many elements or bytes the field has."""


class DeviceDiff(msgspec.Struct, frozen=True):
    """A device that both streams have, and that differs."""

    device: str
    """``name:instance`` in a."""
    other: str
    """``name:instance`` in b: the same unless it moved."""
    changes: tuple[Change, ...]
    decoded: bool
    """Whether fields could be told; only bytes are compared where nothing describes them."""


class SectionKind(StrEnum):
    """How the list of sections differs."""

    ONLY = "only"
    """In one stream only."""
    VERSION = "version"
    INSTANCE = "instance"
    """The same device under another instance id."""
    MOVED = "moved"
    """The same device at another address of its bus."""
    ORDER = "order"
    """Sections of both, in another order; told once, at the first that differs."""
    CONTENT = "content"
    """A live section other than RAM (disk, dirty bitmap) with other bytes."""


class SectionChange(msgspec.Struct, frozen=True):
    """A difference in the list of sections."""

    section: str
    """``name:instance`` in the stream that has it, in a where both have."""
    kind: SectionKind
    old: Any
    new: Any
    only: Side | None = None


class PageRun(msgspec.Struct, frozen=True):
    """Consecutive pages that differ, in bytes from the start of the block."""

    start: int
    size: int


class BlockDiff(msgspec.Struct, frozen=True):
    """A RAM block that differs."""

    name: str
    old_size: int | None
    """Used length in bytes; None where a has no such block."""
    new_size: int | None
    pages: int = 0
    """Pages with content that differs, of what both have."""
    bytes: int = 0
    """Bytes that differ."""
    runs: int = 0
    """Stretches of consecutive pages that differ."""
    first: tuple[PageRun, ...] = ()
    """The first of them."""
    fault: FaultReport | None = None
    """Why content could not be compared."""

    @property
    def resized(self) -> bool:
        """Present in one only, or with another size."""
        return self.old_size != self.new_size


class MemoryDiff(msgspec.Struct, frozen=True):
    """Guest memory."""

    page_size: int
    pages: int
    """Pages of all blocks that both have."""
    content: int
    """Pages of those that have content by the records of at least one."""
    differing: int
    """Pages that differ."""
    bytes: int
    runs: int
    blocks: tuple[BlockDiff, ...]
    """Blocks that differ, in the order of a's list."""


class RegisterChange(msgspec.Struct, frozen=True):
    """A register; its value is None where a side does not have it."""

    cpu: str
    register: str
    old: int | None
    new: int | None
    bits: int


class Quieted(msgspec.Struct, frozen=True):
    """A difference left out because it is in what always moves."""

    device: str
    path: str
    reason: str


class StreamDiff(msgspec.Struct, frozen=True):
    """Everything that differs between two streams."""

    a: str
    b: str
    summary: str
    """What matters, in one line."""
    identical: bool
    """Nothing differs, but for what was quieted or ignored."""
    heads: tuple[Change, ...]
    """The streams as a whole: machine, capabilities, page size, format."""
    sections: tuple[SectionChange, ...]
    devices: tuple[DeviceDiff, ...]
    registers: tuple[RegisterChange, ...]
    """What the processors' fields mean by gdb's names; of processors in ``devices`` only."""
    memory: MemoryDiff | None
    """None where it was not asked for, or a stream has none."""
    quieted: tuple[Quieted, ...]
    ignored: int
    """Differences that a pattern of the caller left out."""
    old_complete: bool
    new_complete: bool
    old_faults: tuple[FaultReport, ...]
    new_faults: tuple[FaultReport, ...]

    @property
    def fields(self) -> int:
        """Fields of devices that differ."""
        return sum(len(device.changes) for device in self.devices)

    @property
    def sound(self) -> bool:
        """Both streams are whole, and all of their memory could be compared."""
        blocks = self.memory.blocks if self.memory is not None else ()
        whole = self.old_complete and self.new_complete
        faults = self.old_faults or self.new_faults or any(block.fault for block in blocks)
        return whole and not faults

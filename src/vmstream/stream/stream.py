"""A migration stream as a value: what it holds and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import msgspec
import numpy as np

from vmstream.errors import StreamError, Unsupported
from vmstream.stream.events import Boundary
from vmstream.stream.index import Index, Packet
from vmstream.vmstate.description import StreamDescription
from vmstream.wire.commands import Command, CommandType
from vmstream.wire.configuration import Configuration
from vmstream.wire.multifd import InitialPacket, OldInitialPacket
from vmstream.wire.ram import PageKind
from vmstream.wire.return_path import ReturnMessage
from vmstream.wire.sections import Element

if TYPE_CHECKING:
    from vmstream.stream.devices import Devices
    from vmstream.stream.memory import Memory
    from vmstream.vmstate.borrow import Borrowed

__all__ = ["ByteSource", "Channel", "Section", "Stream"]


class ByteSource(Protocol):
    """What a stream is read from; the classes of ``vmstream.sources`` are such."""

    name: str
    size: int | None
    seekable: bool
    origin: int

    def peek(self, length: int) -> bytes: ...

    def pieces(self, start: int = 0) -> Iterator[memoryview]: ...

    def read_at(self, offset: int, length: int) -> bytes | memoryview: ...

    def read_into(self, offset: int, room: memoryview) -> int: ...

    def view_at(self, offset: int, length: int) -> memoryview | None: ...

    def close(self) -> None: ...


Unpack = Callable[[ByteSource, Sequence[Packet], int], ByteSource]
"""Makes the decompressed pages of a channel from (channel, packets, page size)."""


class Section(msgspec.Struct):
    """One section, with its extent; all offsets and sizes in bytes of the stream."""

    type: Element
    name: str
    """The idstr."""
    instance_id: int
    section_id: int
    version: int
    offset: int
    """Of the byte that begins the section."""
    body_offset: int = 0
    body_size: int = 0
    size: int = 0
    """From ``offset`` to the end of the footer: the next element follows."""
    footer: int | None = None
    """The section id that the footer holds; None where there is no footer."""
    boundary: Boundary | None = None
    """How the end of device state was found; None for sections that delimit themselves."""
    data: bytes | None = None
    """The body, for device state."""
    packaged: bool = False
    """It stands inside a PACKAGED command."""
    cut: bool = False
    """Reading stopped inside it."""

    @property
    def key(self) -> str:
        """``name:instance``, as devices are addressed."""
        return f"{self.name}:{self.instance_id}"


class Channel(msgspec.Struct):
    """One file of a stream beside its main channel."""

    name: str
    kind: str
    """``multifd``, ``preempt``, ``resumed`` (the rest of a post-copy that broke) or ``return``."""
    source: ByteSource
    number: int = 0
    """Its number in the index's segments; 0 for a return path."""
    size: int = 0
    ended: bool = False
    """It is a resumed main channel, and holds the end mark."""
    initial: InitialPacket | OldInitialPacket | None = None
    packets: int = 0
    syncs: int = 0
    device_states: int = 0
    """Packets with the state of a device (10.0+)."""
    messages: list[ReturnMessage] = msgspec.field(default_factory=list)


class Stream(msgspec.Struct):
    """One pass's findings, and the sources to read content from.

    Nothing in it is as large as guest memory; device state is kept whole.
    """

    source: ByteSource
    index: Index
    file_version: int | None = None
    configuration: Configuration | None = None
    sections: list[Section] = msgspec.field(default_factory=list)
    commands: list[Command] = msgspec.field(default_factory=list)
    channels: list[Channel] = msgspec.field(default_factory=list)
    description: StreamDescription | None = None
    description_text: bytes | None = None
    borrowed: Borrowed | None = None
    """Descriptions from elsewhere, for devices that this stream does not describe."""
    footers: bool | None = None
    """Whether sections end with footers; None when no section did end."""
    ended: bool = False
    """The end mark was reached."""
    size: int = 0
    """Bytes of the main channel that belong to the stream."""
    trailing: int = 0
    """Bytes after the stream that are no part of it."""
    trailing_is_zero: bool = True
    faults: list[StreamError] = msgspec.field(default_factory=list)
    """What is wrong with the bytes, in the order found."""
    fatal: StreamError | None = None
    """The fault that ended the reading of the main channel."""
    gap: tuple[int, int] | None = None
    """Bytes (from, to) that a fault made unreadable, where reading went on after them."""
    page_size: int | None = None
    """Target page size in bytes; None where no page shows it."""
    page_size_guessed: bool = False
    """It was found by looking at records, for nothing in the stream states it."""
    ram_total: int | None = None
    """Bytes of all RAM blocks, as the block list begins with."""
    flushes: int = 0
    """Multifd sync marks on the main channel."""
    hooks: int = 0
    """RDMA marks, where pages went another way."""
    disk_chunks: Counter[str] = msgspec.field(default_factory=Counter)
    """Chunks of 1 MiB of block migration, by device."""
    bitmap_chunks: Counter[str] = msgspec.field(default_factory=Counter)
    """Chunks of dirty bitmaps, by node and bitmap."""
    unpack: Unpack | None = None
    """Makes the decompressed pages of a channel readable; it may need a temporary file."""
    _unpacked: dict[int, ByteSource] = msgspec.field(default_factory=dict)
    _memory: Memory | None = None

    @property
    def complete(self) -> bool:
        """The end mark was reached and nothing fatal was found on any channel."""
        return self.ended and self.fatal is None

    @property
    def machine(self) -> str | None:
        """The machine type that the stream names (2.4+)."""
        return self.configuration.machine if self.configuration else None

    @property
    def devices(self) -> Devices:
        """Decoded device state, by ``name:instance``."""
        from vmstream.stream.devices import Devices

        return Devices(self)

    @property
    def memory(self) -> Memory:
        """The content of RAM blocks."""
        if self._memory is None:
            from vmstream.stream.memory import Memory

            self._memory = Memory(self)
        return self._memory

    def unpacked(self, number: int) -> ByteSource:
        """The decompressed pages of multifd channel ``number`` of the index.

        Raises:
            Unsupported: nothing here can decompress.
        """
        if number not in self._unpacked:
            if self.unpack is None:
                raise Unsupported("compressed multifd pages can not be read from here")
            channel = next(c for c in self.channels if c.number == number)
            packets = [p for p in self.index.packets if p.channel == number]
            size = self.index.page_size
            self._unpacked[number] = self.unpack(channel.source, packets, size)
        return self._unpacked[number]

    @property
    def states(self) -> list[Section]:
        """Sections that hold device state, in stream order."""
        return [section for section in self.sections if section.data is not None]

    @property
    def iterations(self) -> int:
        """PART sections of RAM: how often the source's loop sent a piece of memory."""
        return sum(s.type == Element.PART and s.name == "ram" for s in self.sections)

    def rounds(self) -> int:
        """An estimate of the passes over memory, from how often the order of pages starts over.

        Nothing in a stream marks a new round. 0 without page records, and with
        compress threads, whose pages come in any order.
        """
        index = self.index
        main = [s for s in index.segments if s.channel == 0]
        if not main:
            return 0
        last = max(s.stop for s in main)
        if (index.kind[:last] >= PageKind.COMPRESSED).any():
            return 0
        place = index.block[:last].astype(np.int64) << 32 | index.page[:last]
        return int((np.diff(place) < 0).sum()) + 1 if len(place) else 0

    @property
    def capabilities(self) -> list[str]:
        """Capabilities that the stream states or shows to have been on, sorted."""
        stated = set(self.configuration.capabilities or ()) if self.configuration else set()
        return sorted(stated | self._evident())

    def _evident(self) -> set[str]:
        commands = {command.command for command in self.commands}
        kinds = set(np.flatnonzero(np.bincount(self.index.kind)).tolist())
        names = {section.name for section in self.sections}
        advised = [c for c in self.commands if c.command == CommandType.POSTCOPY_ADVISE]
        multifd = any(channel.kind == "multifd" for channel in self.channels)
        signs = {
            "xbzrle": PageKind.XBZRLE in kinds,
            "compress": PageKind.COMPRESSED in kinds,
            "mapped-ram": any(block.mapped is not None for block in self.index.blocks),
            "multifd": multifd or self.flushes > 0,
            "return-path": CommandType.OPEN_RETURN_PATH in commands and not advised,
            "postcopy-ram": any(len(command.payload) == 16 for command in advised),
            "postcopy-preempt": any(channel.kind == "preempt" for channel in self.channels),
            "dirty-bitmaps": "dirty-bitmap" in names,
            "block": "block" in names,
            "validate-uuid": bool(self.configuration and self.configuration.uuid),
            "x-colo": CommandType.ENABLE_COLO in commands,
            "background-snapshot": self._is_background_snapshot(),
        }
        return {name for name, shown in signs.items() if shown}

    def _is_background_snapshot(self) -> bool:
        """RAM is started and never ended, though the stream is whole (6.0+)."""
        ram = {section.type for section in self.sections if section.name == "ram"}
        packaged = any(command.command == CommandType.PACKAGED for command in self.commands)
        return self.complete and Element.START in ram and Element.END not in ram and not packaged

    def close(self) -> None:
        """Close every source."""
        self.source.close()
        for channel in self.channels:
            channel.source.close()
        for source in self._unpacked.values():
            source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

"""Packets on multifd channels (``x-multifd`` 3.0 and 3.1, stable since 4.0).

Source: QEMU ``migration/multifd.h`` and ``multifd.c``. A channel begins with
an initial packet; then every packet has a header of one size and a payload of
``next_packet_size`` bytes, which is only there when the packet has pages.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum, IntFlag

import msgspec
import numpy as np

from vmstream.errors import LimitExceeded, Malformed
from vmstream.wire.reader import Parse, Reader, bytes_of, text_of

__all__ = [
    "MULTIFD_MAGIC",
    "DeviceStatePacket",
    "InitialPacket",
    "MultifdFlag",
    "MultifdMethod",
    "MultifdPacket",
    "OldInitialPacket",
    "OldMultifdPacket",
    "packet_head",
    "read_initial_packet",
    "read_old_packet",
    "read_packet",
]

MULTIFD_MAGIC = 0x11223344
PACKET_SIZE = 512 * 1024
"""Bytes of guest memory in a full packet (``MULTIFD_PACKET_SIZE``)."""

_INITIAL = struct.Struct(">II16sB7x32s")
_HEADER = struct.Struct(">IIIIIIQI28s256s")
_OLD_INITIAL = struct.Struct(">II16sB")
_OLD_HEADER = struct.Struct(">IIIIIQ256s")
_NAME_SIZE = 256
MAX_OLD_PAGES = 4096
"""Pages for which an ``x-multifd`` packet may have room."""


class MultifdFlag(IntFlag):
    """``MULTIFD_FLAG_*`` apart from the compression method, which is a number in bits 1 to 5."""

    SYNC = 0x01
    DEVICE_STATE = 0x40


class MultifdMethod(IntEnum):
    """``MULTIFD_FLAG_NOCOMP`` and others, as they stand in ``flags & 0x3e``."""

    NONE = 0x00
    ZLIB = 0x02
    ZSTD = 0x04
    QPL = 0x08
    UADK = 0x10
    QATZIP = 0x20


_METHODS = frozenset(map(int, MultifdMethod))


class InitialPacket(msgspec.Struct, frozen=True):
    """The first 64 bytes of a channel (4.0+)."""

    offset: int
    uuid: bytes
    """The guest's UUID, 16 bytes, all zero when unset."""
    channel: int
    reserved: bytes
    """32 bytes that QEMU sends as zero."""

    def encode(self) -> bytes:
        return _INITIAL.pack(MULTIFD_MAGIC, 1, self.uuid, self.channel, self.reserved)


class MultifdPacket(msgspec.Struct, frozen=True):
    """The header of one packet of RAM pages.

    In QEMU 8.2 and before a packet without pages repeats the name, offsets and
    size of the one before; ``payload_size`` is what really follows.
    """

    offset: int
    flags: int
    pages_alloc: int
    """Room for page offsets: 524288 / page size; 0 in a SYNC packet of 9.0 and later."""
    normal_pages: int
    next_packet_size: int
    packet_num: int
    """Counts over all channels of one migration."""
    zero_pages: int
    """Zero pages listed after the normal ones (9.0+; always 0 before)."""
    reserved: bytes
    block_name: bytes
    """256 bytes, NUL padded."""
    page_offsets: tuple[int, ...]
    """Bytes within the block: all that there is room for, used or not."""

    @property
    def method(self) -> MultifdMethod:
        return MultifdMethod(self.flags & 0x3E)

    @property
    def block(self) -> str:
        return text_of(self.block_name.split(b"\0", 1)[0])

    @property
    def sync(self) -> bool:
        return bool(self.flags & MultifdFlag.SYNC)

    @property
    def header_size(self) -> int:
        """Bytes before the payload."""
        return _HEADER.size + 8 * len(self.page_offsets)

    @property
    def payload_size(self) -> int:
        """Bytes that follow the header."""
        return self.next_packet_size if self.normal_pages else 0

    def encode(self) -> bytes:
        head = _HEADER.pack(
            MULTIFD_MAGIC,
            1,
            self.flags,
            self.pages_alloc,
            self.normal_pages,
            self.next_packet_size,
            self.packet_num,
            self.zero_pages,
            self.reserved,
            self.block_name,
        )
        return head + struct.pack(f">{len(self.page_offsets)}Q", *self.page_offsets)


class DeviceStatePacket(msgspec.Struct, frozen=True):
    """The header of a packet that carries a device's state (10.0+): 276 bytes, then the payload."""

    offset: int
    flags: int
    idstr: str
    instance_id: int
    payload_size: int

    def encode(self) -> bytes:
        name = bytes_of(self.idstr).ljust(_NAME_SIZE, b"\0")
        return struct.pack(
            ">III256sII",
            MULTIFD_MAGIC,
            1,
            self.flags,
            name,
            self.instance_id,
            self.payload_size,
        )


class OldInitialPacket(msgspec.Struct, frozen=True):
    """The first 25 bytes of an ``x-multifd`` channel (3.0 and 3.1)."""

    offset: int
    uuid: bytes
    channel: int

    def encode(self) -> bytes:
        return _OLD_INITIAL.pack(MULTIFD_MAGIC, 1, self.uuid, self.channel)


class OldMultifdPacket(msgspec.Struct, frozen=True):
    """The header of an ``x-multifd`` packet (3.0 and 3.1); the pages follow as they are."""

    offset: int
    flags: int
    pages_alloc: int
    """Room for page offsets (``x-multifd-page-count``, 16 unless set)."""
    normal_pages: int
    packet_num: int
    block_name: bytes
    page_offsets: tuple[int, ...]
    page_size: int

    @property
    def zero_pages(self) -> int:
        """Listed only since 9.0."""
        return 0

    @property
    def method(self) -> MultifdMethod:
        """Compression came with 5.0."""
        return MultifdMethod.NONE

    @property
    def block(self) -> str:
        return text_of(self.block_name.split(b"\0", 1)[0])

    @property
    def sync(self) -> bool:
        return bool(self.flags & MultifdFlag.SYNC)

    @property
    def header_size(self) -> int:
        """Bytes before the payload."""
        return _OLD_HEADER.size + 8 * self.pages_alloc

    @property
    def payload_size(self) -> int:
        """Bytes that follow the header."""
        return self.normal_pages * self.page_size

    def encode(self) -> bytes:
        head = _OLD_HEADER.pack(
            MULTIFD_MAGIC,
            1,
            self.flags,
            self.pages_alloc,
            self.normal_pages,
            self.packet_num,
            self.block_name,
        )
        return head + struct.pack(f">{self.pages_alloc}Q", *self.page_offsets)


def packet_head(room: int) -> np.dtype[np.void]:
    """The header of a packet with room for so many pages, as :class:`MultifdPacket` encodes it."""
    return np.dtype(
        [
            ("magic", ">u4"),
            ("version", ">u4"),
            ("flags", ">u4"),
            ("pages_alloc", ">u4"),
            ("normal_pages", ">u4"),
            ("next_packet_size", ">u4"),
            ("packet_num", ">u8"),
            ("zero_pages", ">u4"),
            ("reserved", "V28"),
            ("block_name", "S256"),
            ("page_offsets", ">u8", (room,)),
        ]
    )


def read_initial_packet(reader: Reader) -> Parse[InitialPacket | OldInitialPacket]:
    """Read a channel's first packet.

    In 3.0 and 3.1 it has 25 bytes, and the next packet's magic stands where
    later versions send zeros.

    Raises:
        Malformed: another magic or version.
    """
    at = reader.offset
    head = yield from reader.peek(_OLD_INITIAL.size + 4)
    old = int.from_bytes(head[_OLD_INITIAL.size :], "big") == MULTIFD_MAGIC
    if len(head) >= 8:
        _check_magic(at, *struct.unpack_from(">II", head))
    if old or (reader.closed and len(head) == _OLD_INITIAL.size):
        raw = yield from reader.take(_OLD_INITIAL.size, "a multifd channel's initial packet")
        _, _, uuid, channel = _OLD_INITIAL.unpack(raw)
        return OldInitialPacket(at, uuid, channel)
    raw = yield from reader.take(_INITIAL.size, "a multifd channel's initial packet")
    _, _, uuid, channel, reserved = _INITIAL.unpack(raw)
    return InitialPacket(at, uuid, channel, reserved)


def read_old_packet(reader: Reader, page_size: int) -> Parse[OldMultifdPacket]:
    """Read the header of an ``x-multifd`` packet.

    Raises:
        Malformed: another magic or version, or more pages than fit.
        LimitExceeded: room for more pages than any packet has.
    """
    at = reader.offset
    raw = yield from reader.take(_OLD_HEADER.size, "a multifd packet's header")
    magic, version, flags, alloc, used, number, name = _OLD_HEADER.unpack(raw)
    _check_magic(at, magic, version)
    if alloc > MAX_OLD_PAGES:
        raise LimitExceeded(
            "a multifd packet has room for more pages than the limit",
            offset=at + 12,
            expected=f"at most {MAX_OLD_PAGES}",
            found=alloc,
        )
    if used > alloc:
        raise Malformed(
            f"a multifd packet lists {used} pages", offset=at + 16, expected=alloc, found=used
        )
    raw = yield from reader.take(8 * alloc, "a multifd packet's page offsets")
    offsets = struct.unpack(f">{alloc}Q", raw)
    return OldMultifdPacket(at, flags, alloc, used, number, name, offsets, page_size)


def read_packet(reader: Reader, page_size: int) -> Parse[MultifdPacket | DeviceStatePacket]:
    """Read a packet's header, up to where its payload begins.

    Raises:
        Malformed: another magic or version, more pages than fit, plain pages of another
            size than theirs, or a method that is unknown.
    """
    at = reader.offset
    start = yield from reader.peek(12)
    if len(start) == 12:
        magic, version, flags = struct.unpack(">III", start)
        _check_magic(at, magic, version)
        if flags & MultifdFlag.DEVICE_STATE:
            return (yield from _read_device_state(reader))
    raw = yield from reader.take(_HEADER.size, "a multifd packet's header")
    fields = _HEADER.unpack(raw)
    _, _, flags, alloc, normal, size, number, zero, reserved, name = fields
    _check_flags(at, flags)
    room = PACKET_SIZE // page_size
    if alloc != room and (alloc or normal or zero):
        raise Malformed(
            f"a multifd packet for {alloc} pages does not fit the page size {page_size}",
            offset=at + 12,
            expected=room,
            found=alloc,
        )
    if normal > alloc or zero > alloc - normal:
        raise Malformed(
            f"a multifd packet lists {normal} normal and {zero} zero pages",
            offset=at + 16,
            expected=f"at most {alloc}",
            found=normal + zero,
        )
    if flags & 0x3E == MultifdMethod.NONE and normal and size != normal * page_size:
        raise Malformed(
            f"a multifd packet with {normal} plain pages has another size",
            offset=at + 20,
            expected=normal * page_size,
            found=size,
        )
    raw = yield from reader.take(8 * room, "a multifd packet's page offsets")
    offsets = struct.unpack(f">{room}Q", raw)
    return MultifdPacket(at, flags, alloc, normal, size, number, zero, reserved, name, offsets)


def _read_device_state(reader: Reader) -> Parse[DeviceStatePacket]:
    at = reader.offset
    raw = yield from reader.take(276, "a device state packet")
    _, _, flags, name, instance, size = struct.unpack(">III256sII", raw)
    return DeviceStatePacket(at, flags, text_of(name.rstrip(b"\0")), instance, size)


def _check_magic(at: int, magic: int, version: int) -> None:
    if magic != MULTIFD_MAGIC:
        raise Malformed(
            "a multifd packet must begin with its magic",
            offset=at,
            expected=f"{MULTIFD_MAGIC:#x}",
            found=f"{magic:#x}",
        )
    if version != 1:
        raise Malformed(
            f"multifd version {version} is unknown", offset=at + 4, expected=1, found=version
        )


def _check_flags(at: int, flags: int) -> None:
    if flags & ~0x3F or (flags & 0x3E) not in _METHODS:
        raise Malformed(
            f"multifd flags {flags:#x} name no known method",
            offset=at + 8,
            expected=", ".join(f"{method.value:#x}" for method in MultifdMethod),
            found=f"{flags:#x}",
        )


def pages_of(
    packet: MultifdPacket | OldMultifdPacket, page_size: int
) -> tuple[Sequence[int], Sequence[int]]:
    """Page numbers of a packet: (normal, zero).

    Raises:
        Malformed: an offset that is not a multiple of the page size.
    """
    used = packet.page_offsets[: packet.normal_pages + packet.zero_pages]
    pages = []
    for number, offset in enumerate(used):
        if offset % page_size:
            raise Malformed(
                f"page offset {offset:#x} is not a multiple of {page_size}",
                offset=packet.offset + packet.header_size - 8 * (len(packet.page_offsets) - number),
                section="multifd",
                expected=f"a multiple of {page_size}",
                found=f"{offset:#x}",
            )
        pages.append(offset // page_size)
    return pages[: packet.normal_pages], pages[packet.normal_pages :]

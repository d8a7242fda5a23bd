"""libvirt's save image: ``virsh save``, managed save, external memory snapshots.

A header of 92 bytes in the byte order of the host that wrote it: 16 bytes of
magic, then u32 version, data length, was running, format, cookie offset, and 14
words of zero. After it ``data length`` bytes: the domain's XML, at the cookie
offset the cookie's XML, both NUL-terminated, and padding. Then the stream, in
the format that the header names. Source: libvirt 11, src/qemu/qemu_saveimage.c.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Any

import msgspec
from msgspec.structs import asdict

from vmstream.errors import LimitExceeded, SourceError, Truncated, Unsupported
from vmstream.sources.compressed import MAGIC_SIZE, codec_of
from vmstream.sources.slice import Slice
from vmstream.sources.source import KIB, Limits, Source

__all__ = [
    "HEADER_SIZE",
    "MAGIC",
    "PART_MAGIC",
    "Format",
    "Header",
    "image_head",
    "open_libvirt",
]

MAGIC = b"LibvirtQemudSave"
PART_MAGIC = b"LibvirtQemudPart"
"""The magic while the image is being written, and for ever if that failed."""
HEADER_SIZE = 92
NEWEST = 2
STREAM_MAGIC = b"QEVM\0\0\0\3"
ROOM = 64 * KIB
"""Bytes of padding after the texts, so that ``save-image-edit`` can make them longer."""
ALIGNMENT = 4 * KIB
"""Of the stream in an image written here, so that it can be read with direct I/O."""
DISPLACEMENT = 64 * KIB
"""How far behind the data area a stream is looked for that is not right after it."""


class Format(IntEnum):
    """How the stream is stored (virQEMUSaveFormat)."""

    RAW = 0
    GZIP = 1
    BZIP2 = 2
    XZ = 3
    LZOP = 4
    ZSTD = 5
    SPARSE = 6
    """A mapped-ram stream, its offsets counted from the start of the image."""


class Header(msgspec.Struct, frozen=True):
    """The header's words (virQEMUSaveHeader)."""

    version: int
    data_len: int
    was_running: int
    format: int
    cookie_offset: int


def is_libvirt(head: bytes) -> bool:
    return head.startswith((MAGIC, PART_MAGIC))


def image_head(xml: str, cookie: str | None, stored: Format, *, was_running: bool) -> bytes:
    """Everything that stands before the stream in a save image, in this host's byte order.

    Args:
        xml: the domain's.
        cookie: libvirt's own notes, kept from another image.

    Raises:
        ValueError: a text is empty or has a NUL in it.
    """
    texts = [text.encode() for text in (xml, cookie) if text is not None]
    if not all(texts) or any(b"\0" in text for text in texts):
        raise ValueError("the domain XML must be text, and not empty")
    area = b"".join(text + b"\0" for text in texts)
    length = len(area) + ROOM
    length += -(HEADER_SIZE + length) % ALIGNMENT
    cookie_offset = len(texts[0]) + 1 if len(texts) > 1 else 0
    words = struct.pack("=5I", NEWEST, length, was_running, stored, cookie_offset)
    return (MAGIC + words).ljust(HEADER_SIZE, b"\0") + area.ljust(length, b"\0")


def open_libvirt(outer: Source, limits: Limits) -> Source:
    """The bytes behind a save image's header and XML, still compressed if they are.

    ``details["libvirt"]`` has the header, ``byte_order``, ``complete`` (False
    for the magic of an unfinished image), ``xml`` and ``cookie``.

    Raises:
        Truncated: the image ends before its data area does.
        SourceError: the header contradicts itself, or the stream's format.
        LimitExceeded: a data area above ``limits.libvirt_data``.
        Unsupported: a header version or format that is not known.
    """
    name = outer.name
    raw = outer.peek(HEADER_SIZE)
    if len(raw) < HEADER_SIZE:
        raise Truncated(
            f"a libvirt save image has a header of {HEADER_SIZE} bytes",
            offset=len(raw),
            file=name,
            expected=HEADER_SIZE,
            found=len(raw),
        )
    order, header = _parse(raw, name)
    _check(header, name, limits)
    stored = Format(header.format) if header.version >= 2 else Format.RAW
    end = HEADER_SIZE + header.data_len
    image = outer.peek(end + DISPLACEMENT)
    if len(image) < end:
        raise Truncated(
            "the libvirt save image ends inside its XML",
            offset=len(image),
            file=name,
            expected=end,
            found=len(image),
        )
    start = _stream_start(image, end) if stored is Format.RAW else end
    if stored is not Format.RAW:
        _check_format(stored, image[end:], end, name)
    xml, cookie = _texts(image[HEADER_SIZE:end], header.cookie_offset)
    details: dict[str, Any] = {
        **asdict(header),
        "format": stored.name.lower(),
        "was_running": bool(header.was_running),
        "byte_order": order,
        "complete": raw.startswith(MAGIC),
        "stream_offset": start,
        "xml": xml,
        "cookie": cookie,
    }
    return Slice(outer, start, container=("libvirt",), details={"libvirt": details})


def _parse(raw: bytes, name: str) -> tuple[str, Header]:
    for order, mark in (("little", "<"), ("big", ">")):
        header = Header(*struct.unpack_from(f"{mark}5I", raw, len(MAGIC)))
        if 1 <= header.version <= NEWEST:
            return order, header
    version = struct.unpack_from("<I", raw, len(MAGIC))[0]
    raise Unsupported(
        f"libvirt save image version {version} is not known",
        offset=len(MAGIC),
        file=name,
        expected=NEWEST,
        found=version,
    )


def _check(header: Header, name: str, limits: Limits) -> None:
    if header.data_len > limits.libvirt_data:
        raise LimitExceeded(
            f"a libvirt data area of {header.data_len} bytes, above {limits.libvirt_data}",
            offset=20,
            file=name,
            expected=limits.libvirt_data,
            found=header.data_len,
        )
    if header.cookie_offset > header.data_len:
        raise SourceError(
            "the libvirt cookie is said to be outside of the data area",
            offset=32,
            file=name,
            expected=header.data_len,
            found=header.cookie_offset,
        )
    if header.version >= 2 and header.format >= len(Format):
        raise Unsupported(
            f"libvirt save format {header.format} is not known",
            offset=28,
            file=name,
            found=header.format,
        )


def _stream_start(image: bytes, expected: int) -> int:
    """Where the stream begins: right after the data area unless ``QEVM`` is elsewhere.

    libvirt before 1.0 wrote to block devices in whole blocks, so that the
    stream could begin some way off the place that the header gives.
    """
    head = image[expected : expected + MAGIC_SIZE]
    if head.startswith(STREAM_MAGIC) or codec_of(head) is not None:
        return expected
    behind = image.find(STREAM_MAGIC, expected)
    before = image.rfind(STREAM_MAGIC, HEADER_SIZE, expected)
    found = [place for place in (behind, before) if place >= 0]
    return min(found, key=lambda place: abs(place - expected), default=expected)


def _check_format(stored: Format, stream: bytes, start: int, name: str) -> None:
    """Say it here if the stream is neither stored as the header says nor plain."""
    if not stream or stored is Format.SPARSE or stream.startswith(STREAM_MAGIC):
        return
    if codec_of(stream[:MAGIC_SIZE]) is None:
        raise SourceError(
            f"the libvirt header says that the stream is {stored.name.lower()} data; it is not",
            offset=start,
            file=name,
            expected=stored.name.lower(),
            found=stream[:8].hex(),
        )


def _texts(area: bytes, cookie_offset: int) -> tuple[str, str | None]:
    split = cookie_offset or len(area)
    xml = area[:split].partition(b"\0")[0].decode(errors="replace")
    if not cookie_offset:
        return xml, None
    return xml, area[split:].partition(b"\0")[0].decode(errors="replace")

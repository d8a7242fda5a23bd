"""The skeleton of a stream: file header, section headers, footers, end, description.

Source of the facts: QEMU ``migration/savevm.c`` (``savevm.c`` before 2.4).
"""

from __future__ import annotations

import struct
from enum import IntEnum

import msgspec

from vmstream.wire.reader import counted

__all__ = [
    "FILE_MAGIC",
    "DescriptionText",
    "Element",
    "EndOfStream",
    "FileHeader",
    "Raw",
    "SectionEnd",
    "SectionStart",
]

FILE_MAGIC = 0x5145564D
"""``QEVM``, be32 (``QEMU_VM_FILE_MAGIC``)."""
FILE_VERSION = 3
FILE_VERSION_COMPAT = 2


class Element(IntEnum):
    """The byte that begins each element (``QEMU_VM_*`` in ``migration/savevm.h``)."""

    EOF = 0x00
    START = 0x01
    PART = 0x02
    END = 0x03
    FULL = 0x04
    SUBSECTION = 0x05
    DESCRIPTION = 0x06
    CONFIGURATION = 0x07
    COMMAND = 0x08
    FOOTER = 0x7E


class FileHeader(msgspec.Struct, frozen=True):
    """Magic and file version, 8 bytes.

    Version 3 since QEMU 0.10; version 2 (0.9 and before) has another grammar:
    be64 total length, then records with explicit lengths.
    """

    offset: int
    version: int

    def encode(self) -> bytes:
        return struct.pack(">II", FILE_MAGIC, self.version)


class SectionStart(msgspec.Struct, frozen=True):
    """The header of a section.

    START and FULL carry all of it; PART and END only the section id on the
    wire, with the rest remembered from their START.
    """

    offset: int
    kind: Element
    section_id: int
    idstr: str
    instance_id: int
    version_id: int

    @property
    def has_identity(self) -> bool:
        """Whether idstr, instance and version are on the wire."""
        return self.kind in (Element.START, Element.FULL)

    def encode(self) -> bytes:
        head = struct.pack(">BI", self.kind, self.section_id)
        if not self.has_identity:
            return head
        return head + counted(self.idstr) + struct.pack(">II", self.instance_id, self.version_id)


class SectionEnd(msgspec.Struct, frozen=True):
    """The end of a section's body, with its footer (2.4 and later) or without."""

    offset: int
    section_id: int
    footer: int | None
    """Section id found in the footer; None where no footer is written."""

    def encode(self) -> bytes:
        if self.footer is None:
            return b""
        return struct.pack(">BI", Element.FOOTER, self.footer)


class EndOfStream(msgspec.Struct, frozen=True):
    """The EOF element, one zero byte."""

    offset: int

    def encode(self) -> bytes:
        return bytes((Element.EOF,))


class DescriptionText(msgspec.Struct, frozen=True):
    """The JSON description after the end: 0x06, be32 length, text without NUL (2.3+)."""

    offset: int
    text: bytes

    def encode(self) -> bytes:
        return struct.pack(">BI", Element.DESCRIPTION, len(self.text)) + self.text


class Raw(msgspec.Struct, frozen=True):
    """Bytes that are carried as they are: page regions, packet payloads, what follows the end.

    ``data`` is None where the reader of a seekable source passed over them.
    """

    offset: int
    size: int
    role: str
    """``pages`` (mapped-ram region), ``payload``, ``padding``, ``trailing``."""
    data: memoryview | None

    def encode(self) -> memoryview:
        if self.data is None:
            raise ValueError(f"{self.size} bytes at {self.offset:#x} were passed over, not read")
        return self.data

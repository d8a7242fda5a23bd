"""CONFIGURATION: machine type, page size, capabilities, UUID of the guest (2.4+).

Source: QEMU ``migration/savevm.c`` (``vmstate_configuration``). Every part
after the machine name is a VMState subsection: 0x05, name with a one-byte
length, be32 version, body.
"""

from __future__ import annotations

import struct

import msgspec

from vmstream.errors import LimitExceeded, Malformed
from vmstream.wire.limits import Limits
from vmstream.wire.reader import Parse, Reader, bytes_of, counted, text_of
from vmstream.wire.sections import Element

__all__ = ["Configuration", "read_configuration"]

TARGET_PAGE_BITS = "configuration/target-page-bits"
CAPABILITIES = "configuration/capabilities"
UUID = "configuration/uuid"
_FIXED_PAGES = (
    "pc-",
    "isapc",
    "microvm",
    "xenpv",
    "xenfv",
    "s390-ccw-virtio",
    "pseries",
    "powernv",
)
"""How machine types begin whose targets (x86, s390x, ppc) have pages of 4 KiB and no other."""
_ORDER = (TARGET_PAGE_BITS, CAPABILITIES, UUID)
"""As QEMU writes them."""


class Configuration(msgspec.Struct, frozen=True):
    """What the source says of its machine; None or absent where it says nothing."""

    offset: int
    machine: str
    """Canonical machine type (``pc-i440fx-7.2``)."""
    target_page_bits: int | None = None
    """log2 of the target page size (2.8+, in practice Arm machines only)."""
    capabilities: tuple[str, ...] | None = None
    """Validated capabilities that are on: ``x-ignore-shared``, ``mapped-ram`` (4.0+)."""
    uuid: bytes | None = None
    """16 bytes (4.2+, capability ``validate-uuid``)."""
    order: tuple[str, ...] = _ORDER
    """Subsections as they follow each other on the wire; QEMU loads them in any order."""

    @property
    def page_bits(self) -> int | None:
        """log2 of the target page size, as it is stated or as the machine's target fixes it."""
        if self.target_page_bits is None and self.machine.startswith(_FIXED_PAGES):
            return 12
        return self.target_page_bits

    def encode(self) -> bytes:
        name = bytes_of(self.machine)
        out = [struct.pack(">BI", Element.CONFIGURATION, len(name)), name]
        for part in self.order:
            if part == TARGET_PAGE_BITS and self.target_page_bits is not None:
                out += [_subsection(part), struct.pack(">I", self.target_page_bits)]
            elif part == CAPABILITIES and self.capabilities is not None:
                out += [_subsection(part), struct.pack(">I", len(self.capabilities))]
                out += [counted(name) for name in self.capabilities]
            elif part == UUID and self.uuid is not None:
                out += [_subsection(part), self.uuid]
        return b"".join(out)


def _subsection(name: str) -> bytes:
    return bytes((Element.SUBSECTION,)) + counted(name) + struct.pack(">I", 1)


def read_configuration(reader: Reader, limits: Limits) -> Parse[Configuration]:
    """Read everything after the 0x07 byte.

    Raises:
        Malformed: an unknown subsection (it has no length, so nothing after it can be found),
            or one that is there twice.
        LimitExceeded: the machine name or the list of capabilities is over the limit.
    """
    offset = reader.offset - 1
    length = yield from reader.integer(4, "the length of the machine name")
    name = yield from reader.bounded(length, limits.machine_name, "the machine name")
    machine = text_of(name)
    page_bits: int | None = None
    capabilities: tuple[str, ...] | None = None
    uuid: bytes | None = None
    parts: list[str] = []
    while bytes((yield from reader.peek(1))) == b"\x05":
        at = reader.offset
        yield from reader.take(1)
        part = yield from reader.counted("a configuration subsection's name")
        version = yield from reader.integer(4, "a configuration subsection's version")
        if version != 1:
            raise Malformed(f"{part} has version {version}", offset=at, expected=1, found=version)
        if part in parts:
            raise Malformed(f"the configuration holds {part} twice", offset=at, found=part)
        parts.append(part)
        if part == TARGET_PAGE_BITS:
            page_bits = yield from reader.integer(4, "the target page bits")
            if not 8 <= page_bits <= 20:
                raise Malformed(
                    f"target page bits {page_bits} are no page size of any target",
                    offset=at,
                    expected="8 to 20",
                    found=page_bits,
                )
        elif part == CAPABILITIES:
            capabilities = yield from _read_capabilities(reader, limits)
        elif part == UUID:
            uuid = bytes((yield from reader.take(16, "the guest's UUID")))
        else:
            raise Malformed(
                f"the configuration holds an unknown subsection {part!r}",
                offset=at,
                expected=f"{TARGET_PAGE_BITS}, {CAPABILITIES} or {UUID}",
                found=part,
            )
    absent = [part for part in _ORDER if part not in parts]
    order = tuple(parts + absent) if parts != sorted(parts, key=_ORDER.index) else _ORDER
    return Configuration(offset, machine, page_bits, capabilities, uuid, order)


def _read_capabilities(reader: Reader, limits: Limits) -> Parse[tuple[str, ...]]:
    at = reader.offset
    count = yield from reader.integer(4, "the number of capabilities")
    if count > limits.capabilities:
        raise LimitExceeded(
            f"{count} capabilities are more than the limit",
            offset=at,
            expected=f"at most {limits.capabilities}",
            found=count,
        )
    names = []
    for _ in range(count):
        names.append((yield from reader.counted("a capability's name")))
    return tuple(names)

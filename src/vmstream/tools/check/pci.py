"""PCI configuration space that must be the same at the destination.

QEMU compares what a guest can not write (``hw/pci/pci.c``,
``get_pci_config_device``): identity, class, header type, the kind of each BAR
and the list of capabilities. Their writable parts are no matter.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from vmstream.tools.findings import Basis, Finding, Severity

__all__ = ["Part", "config_findings", "fixed_parts"]

Part = tuple[str, int, int]
"""Name, offset, value of one fixed part."""

_IDENTITY = (
    ("vendor", 0x00, 2),
    ("device", 0x02, 2),
    ("revision", 0x08, 1),
    ("programming interface", 0x09, 1),
    ("class", 0x0A, 2),
    ("header type", 0x0E, 1),
    ("first capability", 0x34, 1),
)
_BARS = range(0x10, 0x28, 4)
_MSIX = 0x11
_EXTENDED = 0x100
_AER = 0x0001
_AER_WRITABLE = 0x001FF030
"""Uncorrectable errors that a guest can mask (``hw/pci/pcie_aer.c``, PCI_ERR_UNC_SUPPORTED)."""
_MAX_CAPABILITIES = 64


def config_findings(
    device: str, path: str, offset: int, ours: bytes, theirs: bytes
) -> Iterator[Finding]:
    """The first part of a configuration space that the destination would refuse.

    Args:
        device: the section's key.
        path: the field that holds the configuration space.
        offset: where that stands in the stream.
        ours: configuration space in the stream.
        theirs: that of the destination.
    """
    expected = {(name, at): value for name, at, value in fixed_parts(theirs)}
    for name, at, value in fixed_parts(ours):
        own = expected.get((name, at), value)
        if own == value:
            continue
        first = next((i for i in range(at, at + 4) if ours[i] != theirs[i]), at)
        yield Finding(
            "pci-config",
            Severity.BREAKS,
            f"the PCI {name} is {value:#x} in the stream and {own:#x} at the destination",
            device=device,
            field=path,
            offset=offset + first,
            source=value,
            destination=own,
            remedy="give both devices the same model and properties",
            qemu_text=f"get_pci_config_device: Bad config data: i={first:#x} "
            f"read: {ours[first]:x} device: {theirs[first]:x}",
            basis=Basis.STREAM,
        )
        return


def fixed_parts(config: bytes) -> Iterator[Part]:
    """The parts of a configuration space (256 or 4096 bytes, little-endian) that must agree."""
    for name, offset, size in _IDENTITY:
        yield name, offset, int.from_bytes(config[offset : offset + size], "little")
    bridge = config[0x0E] & 0x7F == 1
    for number, offset in enumerate(_BARS):
        if bridge and number > 1:
            break
        low = config[offset]
        yield f"kind of BAR {number}", offset, low & (0x03 if low & 1 else 0x0F)
    yield from _capabilities(config)
    yield from _extended(config)


def _capabilities(config: bytes) -> Iterator[Part]:
    at = config[0x34] & 0xFC
    for _ in range(_MAX_CAPABILITIES):
        if not 0x40 <= at <= 0xFC:
            return
        capability, following = config[at], config[at + 1]
        yield f"capability at {at:#x}", at, capability
        yield f"capability after the one at {at:#x}", at + 1, following
        if capability == _MSIX:
            (control,) = struct.unpack_from("<H", config, at + 2)
            yield "number of MSI-X vectors", at + 2, (control & 0x7FF) + 1
        at = following & 0xFC


def _extended(config: bytes) -> Iterator[Part]:
    at = _EXTENDED
    for _ in range(_MAX_CAPABILITIES):
        if not _EXTENDED <= at <= len(config) - 12:
            return
        (header,) = struct.unpack_from("<I", config, at)
        if not header:
            return
        yield f"extended capability at {at:#x}", at, header
        if header & 0xFFFF == _AER:
            (mask,) = struct.unpack_from("<I", config, at + 8)
            yield "AER mask of uncorrectable errors", at + 8, mask & ~_AER_WRITABLE
        at = header >> 20

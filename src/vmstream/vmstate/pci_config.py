"""Names of the registers of PCI configuration space.

Sources: PCI Local Bus 3.0 (chapter 6), PCI Express 5.0 (chapter 7); names as in
Linux ``include/uapi/linux/pci_regs.h``.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["capabilities", "register_name"]

_HEADER = (
    (0x00, 2, "vendor id"),
    (0x02, 2, "device id"),
    (0x04, 2, "command"),
    (0x06, 2, "status"),
    (0x08, 1, "revision"),
    (0x09, 1, "programming interface"),
    (0x0A, 2, "class"),
    (0x0C, 1, "cache line size"),
    (0x0D, 1, "latency timer"),
    (0x0E, 1, "header type"),
    (0x0F, 1, "BIST"),
)
_DEVICE = (
    *((0x10 + 4 * number, 4, f"BAR {number}") for number in range(6)),
    (0x28, 4, "CardBus CIS pointer"),
    (0x2C, 2, "subsystem vendor id"),
    (0x2E, 2, "subsystem id"),
    (0x30, 4, "expansion ROM"),
    (0x34, 1, "capabilities pointer"),
    (0x3C, 1, "interrupt line"),
    (0x3D, 1, "interrupt pin"),
    (0x3E, 1, "minimum grant"),
    (0x3F, 1, "maximum latency"),
)
_BRIDGE = (
    (0x10, 4, "BAR 0"),
    (0x14, 4, "BAR 1"),
    (0x18, 1, "primary bus"),
    (0x19, 1, "secondary bus"),
    (0x1A, 1, "subordinate bus"),
    (0x1B, 1, "secondary latency timer"),
    (0x1C, 1, "I/O base"),
    (0x1D, 1, "I/O limit"),
    (0x1E, 2, "secondary status"),
    (0x20, 2, "memory base"),
    (0x22, 2, "memory limit"),
    (0x24, 2, "prefetchable base"),
    (0x26, 2, "prefetchable limit"),
    (0x28, 4, "prefetchable base, upper half"),
    (0x2C, 4, "prefetchable limit, upper half"),
    (0x34, 1, "capabilities pointer"),
    (0x38, 4, "expansion ROM"),
    (0x3C, 1, "interrupt line"),
    (0x3D, 1, "interrupt pin"),
    (0x3E, 2, "bridge control"),
)
_CAPABILITIES = {
    0x01: "power management",
    0x03: "VPD",
    0x04: "slot identification",
    0x05: "MSI",
    0x09: "vendor-specific",
    0x0C: "hot-plug",
    0x0D: "bridge subsystem",
    0x10: "PCI Express",
    0x11: "MSI-X",
    0x12: "SATA",
    0x13: "advanced features",
}
_EXTENDED = {
    0x0001: "AER",
    0x0002: "virtual channel",
    0x0003: "serial number",
    0x000B: "vendor-specific",
    0x000D: "ACS",
    0x000E: "ARI",
    0x000F: "ATS",
    0x0010: "SR-IOV",
    0x0018: "latency tolerance",
    0x001B: "PASID",
    0x001E: "L1 PM substates",
}
_PARTS = {
    "MSI-X": ((2, 2, "message control"), (4, 4, "table offset"), (8, 4, "PBA offset")),
    "MSI": ((2, 2, "message control"), (4, 4, "message address")),
    "PCI Express": (
        (2, 2, "flags"),
        (4, 4, "device capabilities"),
        (8, 2, "device control"),
        (10, 2, "device status"),
        (12, 4, "link capabilities"),
        (16, 2, "link control"),
        (18, 2, "link status"),
        (20, 4, "slot capabilities"),
        (24, 2, "slot control"),
        (26, 2, "slot status"),
        (36, 4, "device capabilities 2"),
        (40, 2, "device control 2"),
        (44, 4, "link capabilities 2"),
        (48, 2, "link control 2"),
    ),
    "AER": (
        (4, 4, "uncorrectable error status"),
        (8, 4, "uncorrectable error mask"),
        (12, 4, "uncorrectable error severity"),
        (16, 4, "correctable error status"),
        (20, 4, "correctable error mask"),
        (24, 4, "capabilities and control"),
    ),
}
_MOST = 64


def register_name(config: bytes, offset: int) -> str:
    """What stands at a byte offset: ``device id``, ``AER: uncorrectable error mask, byte 2``."""
    if offset < 0x40:
        bridge = len(config) > 0x0E and config[0x0E] & 0x7F == 1
        return _within((*_HEADER, *(_BRIDGE if bridge else _DEVICE)), offset) or "reserved"
    holder = None
    for start, name in capabilities(config):
        same_space = (start >= 0x100) == (offset >= 0x100)
        if same_space and start <= offset and (holder is None or start > holder[0]):
            holder = (start, name)
    if holder is None:
        return f"offset {offset:#x}"
    start, name = holder
    rest = offset - start
    heads = ((0, 2, "id"), (2, 2, "version and next pointer"))
    if offset < 0x100:
        heads = ((0, 1, "id"), (1, 1, "next pointer"))
    part = _within((*heads, *_PARTS.get(name, ())), rest)
    return f"{name} capability: {part or f'offset {rest:#x}'}"


def capabilities(config: bytes) -> Iterator[tuple[int, str]]:
    """Offset and name of every capability, the extended ones after the others."""
    at = config[0x34] & 0xFC if len(config) > 0x34 else 0
    for _ in range(_MOST):
        if not 0x40 <= at <= 0xFC or at + 1 >= len(config):
            break
        yield at, _CAPABILITIES.get(config[at], f"{config[at]:#04x}")
        at = config[at + 1] & 0xFC
    at = 0x100
    for _ in range(_MOST):
        if not 0x100 <= at <= len(config) - 4:
            break
        header = int.from_bytes(config[at : at + 4], "little")
        if not header:
            break
        yield at, _EXTENDED.get(header & 0xFFFF, f"{header & 0xFFFF:#06x}")
        at = header >> 20


def _within(parts: tuple[tuple[int, int, str], ...], offset: int) -> str | None:
    for start, size, name in parts:
        if start <= offset < start + size:
            return name if offset == start else f"{name}, byte {offset - start}"
    return None

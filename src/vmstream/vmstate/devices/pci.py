"""What every PCI device begins with (QEMU ``hw/pci/pci.c``, ``vmstate_pci_device``)."""

from __future__ import annotations

from vmstream.vmstate.declare import int32_le, opaque
from vmstream.vmstate.state import State

__all__ = ["PciDevice", "PcieDevice", "is_express", "msix_vectors"]

_STATUS, _CAPABILITIES = 0x06, 0x34
_HAS_CAPABILITIES = 0x10
_EXPRESS, _MSIX = 0x10, 0x11


class PciDevice(State, name="PCIDevice", version=2, minimum_version=1):
    """Configuration space in guest order (little-endian registers) and interrupt lines."""

    express = False
    """A PCI Express device: 4096 bytes of configuration space instead of 256."""

    version_id: int = int32_le(2)
    config: bytes = opaque(
        "pci config", 256, wire_name="config", exists=lambda self, version: not self.express
    )
    express_config: bytes = opaque(
        "pci config",
        4096,
        wire_name={(2, 6): "config"},
        exists=lambda self, version: self.express,
    )
    irq_state: bytes = opaque("pci irq state", 16, since=2)


class PcieDevice(PciDevice, name="PCIDevice", version=2, minimum_version=1):
    """The same with the large configuration space."""

    express = True


def _capability(config: bytes, wanted: int) -> int | None:
    """Offset of a capability in 256 bytes of configuration space (PCI 3.0, 6.7)."""
    if len(config) < 256 or not config[_STATUS] & _HAS_CAPABILITIES:
        return None
    at, seen = config[_CAPABILITIES], set()
    while 0x40 <= at < 0xFE and at not in seen:
        if config[at] == wanted:
            return at
        seen.add(at)
        at = config[at + 1]
    return None


def is_express(config: bytes) -> bool:
    """Whether configuration space is that of a PCI Express function."""
    return _capability(config, _EXPRESS) is not None


def msix_vectors(config: bytes) -> int:
    """MSI-X vectors that configuration space declares; 0 without MSI-X."""
    at = _capability(config, _MSIX)
    if at is None or at + 4 > len(config):
        return 0
    return (int.from_bytes(config[at + 2 : at + 4], "little") & 0x7FF) + 1

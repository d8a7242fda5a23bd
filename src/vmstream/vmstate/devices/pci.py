"""What every PCI device begins with (QEMU ``hw/pci/pci.c``, ``vmstate_pci_device``)."""

from __future__ import annotations

from vmstream.vmstate.declare import int32_le, opaque
from vmstream.vmstate.state import State

__all__ = ["PciDevice", "PcieDevice"]


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

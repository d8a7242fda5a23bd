"""PIIX4 power management (QEMU ``hw/acpi/piix4.c``): the classic of failed migrations."""

from __future__ import annotations

from vmstream.vmstate.declare import (
    array,
    boolean,
    int64,
    struct,
    subsection,
    timer,
    uint8,
    uint16,
    uint32,
)
from vmstream.vmstate.devices.pci import PciDevice
from vmstream.vmstate.fields import Struct
from vmstream.vmstate.state import State

__all__ = ["Piix4Pm"]

BUSES = 256
"""Bus selectors of ACPI PCI hotplug (``ACPI_PCIHP_MAX_HOTPLUG_BUS``)."""


class Apm(State, name="APM State", version=1, minimum_version=1):
    """The APM control and status ports."""

    apmc: int = uint8()
    apms: int = uint8()


class SmBus(State, name="pmsmb", version=1, minimum_version=1):
    """The SMBus controller; sent since 3.1 by machine types of that version on."""

    smb_stat: int = uint8()
    smb_ctl: int = uint8()
    smb_cmd: int = uint8()
    smb_addr: int = uint8()
    smb_data0: int = uint8()
    smb_data1: int = uint8()
    smb_index: int = uint32()
    smb_data: list[int] = array(uint8(), 32)
    smb_auxctl: int = uint8()
    smb_blkdata: int = uint8()
    i2c_enable: bool = boolean()
    op_done: bool = boolean()
    in_i2c_block_read: bool = boolean()
    start_transaction_on_status_read: bool = boolean()


class Gpe(State, name="gpe", version=1, minimum_version=1):
    """General purpose events: status and enable."""

    sts: int = uint16()
    en: int = uint16()


class PciStatus(State, name="pci_status", version=1, minimum_version=1):
    """What one bus plugs and unplugs, without bridge support."""

    up: int = uint32()
    down: int = uint32()


class PciHotplugStatus(State, name="acpi_pcihp_pci_status", version=1, minimum_version=1):
    """What one bus plugs and unplugs."""

    up: int = uint32()
    down: int = uint32()


class MemoryDevice(State, name="memory hotplug device state", version=1, minimum_version=1):
    """One slot for a memory module."""

    is_enabled: bool = boolean()
    is_inserting: bool = boolean()
    ost_event: int = uint32()
    ost_status: int = uint32()


class MemoryHotplug(State, name="memory hotplug state", version=1, minimum_version=1):
    """ACPI memory hotplug; the destination's own configuration says how many slots."""

    selector: int = uint32()
    devs: list[MemoryDevice] = array(MemoryDevice, "dev_count")
    dev_count = 0


class Piix4Memory(State, name="piix4_pm/memhp", version=1, minimum_version=1):
    """Memory hotplug, where the machine has it."""

    hotplug: MemoryHotplug = struct(MemoryHotplug, wire_name="acpi_memory_hotplug")


class Piix4Pm(State, name="piix4_pm", version=3, minimum_version=3):
    """Power management of the i440FX machine.

    Properties, none of which is on the wire: with ``bridge_hotplug`` the status
    of 256 buses is sent instead of one; ``acpi_index`` (6.1+) adds one field
    that older destinations do not know.
    """

    bridge_hotplug = True
    smbus = True
    acpi_index = False

    pci: PciDevice = struct(PciDevice, wire_name="parent_obj")
    pm1_status: int = uint16(wire_name="ar.pm1.evt.sts")
    pm1_enable: int = uint16(wire_name="ar.pm1.evt.en")
    pm1_control: int = uint16(wire_name="ar.pm1.cnt.cnt")
    apm: Apm = struct(Apm)
    smb: SmBus = struct(SmBus, since=3, exists=lambda self, version: self.smbus)
    timer: int = timer(wire_name="ar.tmr.timer")
    overflow_time: int = int64(wire_name="ar.tmr.overflow_time")
    gpe: Gpe = struct(Gpe, wire_name="ar.gpe")
    one_bus: PciStatus = struct(
        PciStatus,
        wire_name="acpi_pci_hotplug.acpi_pcihp_pci_status[0x0]",
        exists=lambda self, version: not self.bridge_hotplug,
    )
    hotplug_select: int = uint32(
        wire_name="acpi_pci_hotplug.hotplug_select",
        exists=lambda self, version: self.bridge_hotplug,
    )
    buses: list[PciHotplugStatus] = array(
        Struct(PciHotplugStatus),
        BUSES,
        wire_name="acpi_pci_hotplug.acpi_pcihp_pci_status",
        exists=lambda self, version: self.bridge_hotplug,
    )
    hotplug_acpi_index: int = uint32(
        wire_name="acpi_pci_hotplug.acpi_index",
        exists=lambda self, version: self.bridge_hotplug and self.acpi_index,
    )
    memory: Piix4Memory | None = subsection(Piix4Memory)

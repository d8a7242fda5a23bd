"""ICH9 AHCI with its IDE drives (QEMU ``hw/ide/ahci.c``, ``hw/ide/ich.c``, ``hw/ide/core.c``)."""

from __future__ import annotations

from vmstream.vmstate.declare import (
    array,
    boolean,
    buffer,
    int32,
    struct,
    subsection,
    uint8,
    uint32,
    uint64,
)
from vmstream.vmstate.devices.pci import PciDevice
from vmstream.vmstate.fields import Scalar
from vmstream.vmstate.state import State

__all__ = ["Ahci", "AhciPort", "IdeDrive"]

PORTS = 6


class IdeBus(State, name="ide_bus", version=1, minimum_version=1):
    """The command register and the selected drive."""

    cmd: int = uint8()
    unit: int = uint8()


class IdeTray(State, name="ide_drive/tray_state", version=1, minimum_version=1):
    """The tray of a CD drive."""

    tray_open: bool = boolean()
    tray_locked: bool = boolean()


class IdeDrive(State, name="ide_drive", version=3):
    """One drive."""

    mult_sectors: int = int32()
    identify_set: int = int32()
    identify_data: bytes = buffer(512, exists=lambda self, version: self.identify_set != 0)
    feature: int = uint8()
    error: int = uint8()
    nsector: int = uint32()
    sector: int = uint8()
    lcyl: int = uint8()
    hcyl: int = uint8()
    hob_feature: int = uint8()
    hob_sector: int = uint8()
    hob_nsector: int = uint8()
    hob_lcyl: int = uint8()
    hob_hcyl: int = uint8()
    select: int = uint8()
    status: int = uint8()
    lba48: int = uint8()
    sense_key: int = uint8()
    asc: int = uint8()
    cdrom_changed: int = uint8(since=3)
    tray: IdeTray | None = subsection(IdeTray)


class NcqTransfer(State, name="ncq state", version=1):
    """One queued command."""

    sector_count: int = uint32()
    lba: int = uint64()
    tag: int = uint8()
    cmd: int = uint8()
    slot: int = uint8()
    used: bool = boolean()
    halt: bool = boolean()


class AhciPort(State, name="ahci port", version=1):
    """One port with its drive."""

    port: IdeBus = struct(IdeBus)
    drive: IdeDrive = struct(IdeDrive, wire_name="port.ifs[0]")
    port_state: int = uint32()
    finished: int = uint32()
    lst_addr: int = uint32(wire_name="port_regs.lst_addr")
    lst_addr_hi: int = uint32(wire_name="port_regs.lst_addr_hi")
    fis_addr: int = uint32(wire_name="port_regs.fis_addr")
    fis_addr_hi: int = uint32(wire_name="port_regs.fis_addr_hi")
    irq_stat: int = uint32(wire_name="port_regs.irq_stat")
    irq_mask: int = uint32(wire_name="port_regs.irq_mask")
    cmd: int = uint32(wire_name="port_regs.cmd")
    tfdata: int = uint32(wire_name="port_regs.tfdata")
    sig: int = uint32(wire_name="port_regs.sig")
    scr_stat: int = uint32(wire_name="port_regs.scr_stat")
    scr_ctl: int = uint32(wire_name="port_regs.scr_ctl")
    scr_err: int = uint32(wire_name="port_regs.scr_err")
    scr_act: int = uint32(wire_name="port_regs.scr_act")
    cmd_issue: int = uint32(wire_name="port_regs.cmd_issue")
    done_first_drq: bool = boolean(wire_name={(0,): "done_atapi_packet", (4, 2): "done_first_drq"})
    busy_slot: int = int32()
    init_d2h_sent: bool = boolean()
    ncq_tfs: list[NcqTransfer] = array(NcqTransfer, 32)


class AhciState(State, name="ahci", version=1):
    """The controller behind the PCI function."""

    dev: list[AhciPort] = array(AhciPort, PORTS)
    cap: int = uint32(wire_name="control_regs.cap")
    ghc: int = uint32(wire_name="control_regs.ghc")
    irqstatus: int = uint32(wire_name="control_regs.irqstatus")
    impl: int = uint32(wire_name="control_regs.impl")
    control_version: int = uint32(wire_name="control_regs.version")
    idp_index: int = uint32()
    ports: int = Scalar(  # type: ignore[assignment]  # a field stands for its value
        {(0,): "int32 equal", (9, 1): "uint32 equal"}, "I", rule="equal", default=PORTS
    )


class Ahci(State, name="ich9_ahci", version=1):
    """The PCI function."""

    pci: PciDevice = struct(PciDevice, wire_name="parent_obj")
    ahci: AhciState = struct(AhciState)

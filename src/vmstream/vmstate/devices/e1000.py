"""The e1000 network card (QEMU ``hw/net/e1000.c``)."""

from __future__ import annotations

from typing import Any

from vmstream.vmstate.declare import (
    array,
    boolean,
    buffer,
    int8,
    struct,
    subsection,
    uint8,
    uint16,
    uint32,
    unused,
)
from vmstream.vmstate.devices.pci import PciDevice
from vmstream.vmstate.state import State

__all__ = ["E1000"]

_NAMES = """
CTRL EECD EERD GPRC GPTC ICR ICS IMC IMS LEDCTL MANC MDIC MPC PBA RCTL RDBAH RDBAL RDH
RDLEN RDT STATUS SWSM TCTL TDBAH TDBAL TDH TDLEN TDT TORH TORL TOTH TOTL TPR TPT TXDCTL
WUFC VET
"""
REGISTERS = tuple(_NAMES.split())
"""Registers that are sent by name, in order."""


def _offload(name: str) -> dict[tuple[int, ...], str]:
    """A field of the transmit context: it moved when TSO got a context of its own (2.12)."""
    return {(0,): f"tx.{name}", (2, 12): f"mig_props.{name}"}


class E1000Interrupts(State, name="e1000/mit_state", version=1, minimum_version=1):
    """Interrupt mitigation."""

    rdtr: int = uint32(wire_name="mac_reg[RDTR]")
    radv: int = uint32(wire_name="mac_reg[RADV]")
    tadv: int = uint32(wire_name="mac_reg[TADV]")
    itr: int = uint32(wire_name="mac_reg[ITR]")
    mit_irq_level: bool = boolean()


class E1000AllRegisters(State, name="e1000/full_mac_state", version=1, minimum_version=1):
    """The whole register file (2.6+)."""

    mac_reg: list[int] = array(uint32(), 0x8000)


class E1000Tso(State, name="e1000/tx_tso_state", version=1, minimum_version=1):
    """The transmit context of segmentation offload (2.12+)."""

    ipcss: int = uint8(wire_name="tx.tso_props.ipcss")
    ipcso: int = uint8(wire_name="tx.tso_props.ipcso")
    ipcse: int = uint16(wire_name="tx.tso_props.ipcse")
    tucss: int = uint8(wire_name="tx.tso_props.tucss")
    tucso: int = uint8(wire_name="tx.tso_props.tucso")
    tucse: int = uint16(wire_name="tx.tso_props.tucse")
    paylen: int = uint32(wire_name="tx.tso_props.paylen")
    hdr_len: int = uint8(wire_name="tx.tso_props.hdr_len")
    mss: int = uint16(wire_name="tx.tso_props.mss")
    ip: int = int8(wire_name="tx.tso_props.ip")
    tcp: int = int8(wire_name="tx.tso_props.tcp")


class _E1000Begin(State, name="e1000", version=2, minimum_version=1):
    """Everything before the registers."""

    pci: PciDevice = struct(PciDevice, wire_name="parent_obj")
    unused_1: bytes = unused(4, exists=lambda self, version: version == 1)
    unused_2: bytes = unused(4)
    rxbuf_size: int = uint32()
    rxbuf_min_shift: int = uint32()
    val_in: int = uint32(wire_name="eecd_state.val_in")
    bitnum_in: int = uint16(wire_name="eecd_state.bitnum_in")
    bitnum_out: int = uint16(wire_name="eecd_state.bitnum_out")
    reading: int = uint16(wire_name="eecd_state.reading")
    old_eecd: int = uint32(wire_name="eecd_state.old_eecd")
    ipcss: int = uint8(wire_name=_offload("ipcss"))
    ipcso: int = uint8(wire_name=_offload("ipcso"))
    ipcse: int = uint16(wire_name=_offload("ipcse"))
    tucss: int = uint8(wire_name=_offload("tucss"))
    tucso: int = uint8(wire_name=_offload("tucso"))
    tucse: int = uint16(wire_name=_offload("tucse"))
    paylen: int = uint32(wire_name=_offload("paylen"))
    hdr_len: int = uint8(wire_name=_offload("hdr_len"))
    mss: int = uint16(wire_name=_offload("mss"))
    size: int = uint16(wire_name="tx.size")
    tso_frames: int = uint16(wire_name="tx.tso_frames")
    sum_needed: int = uint8(wire_name="tx.sum_needed")
    ip: int = int8(wire_name=_offload("ip"))
    tcp: int = int8(wire_name=_offload("tcp"))
    header: bytes = buffer(256, wire_name="tx.header")
    data: bytes = buffer(0x10000, wire_name="tx.data")
    eeprom_data: list[int] = array(uint16(), 64)
    phy_reg: list[int] = array(uint16(), 0x20)


def _registers() -> dict[str, Any]:
    return {name.lower(): uint32(wire_name=f"mac_reg[{name}]") for name in REGISTERS}


class _E1000Registers(_E1000Begin, name="e1000", version=2, minimum_version=1):
    """The registers that are sent by name."""

    locals().update(_registers())


class E1000(_E1000Registers, name="e1000", version=2, minimum_version=1):
    """The card."""

    receive_addresses: list[int] = array(uint32(), 32, wire_name="mac_reg")
    multicast: list[int] = array(uint32(), 128, wire_name="mac_reg")
    vlan_filter: list[int] = array(uint32(), 128, wire_name="mac_reg")
    interrupts: E1000Interrupts | None = subsection(E1000Interrupts)
    all_registers: E1000AllRegisters | None = subsection(E1000AllRegisters)
    tso: E1000Tso | None = subsection(E1000Tso)

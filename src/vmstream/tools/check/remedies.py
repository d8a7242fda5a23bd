"""What to do about a part of a device's state that one side does not know.

QEMU keeps old state loadable by properties that its machine types set
(``hw_compat_*`` in ``hw/core/machine.c``, ``pc_compat_*`` in ``hw/i386/pc.c``):
the same property, set by hand at the source, leaves the part out.
"""

from __future__ import annotations

__all__ = ["PROPERTIES", "remedy"]

PROPERTIES: dict[str, str] = {
    "acpi_pci_hotplug.acpi_index": "PIIX4_PM.x-not-migrate-acpi-index=on",
    "cpu/msr_smi_count": "x86_64-cpu.x-migrate-smi-count=off",
    "e1000/full_mac_state": "e1000.extra_mac_registers=off",
    "e1000/tx_tso_state": "e1000.migrate_tso_props=off",
    "fw_cfg/acpi_mr": "fw_cfg_io.acpi-mr-restore=off",
    "fw_cfg/dma": "fw_cfg_io.dma_enabled=off",
    "hpet/offset": "hpet.hpet-offset-saved=false",
    "ich9_pm/pcihp": "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
    "pckbd/extended_state": "i8042.extended-state=off",
}
"""Field or subsection to the ``-global`` that keeps it from being sent."""


def remedy(name: str, machine: str | None) -> str:
    """What keeps a field or subsection from being sent.

    Args:
        name: of the field or subsection, as its description has it.
        machine: a machine type to start the source with instead, where that may help.
    """
    known = PROPERTIES.get(name)
    ways = []
    if machine:
        ways.append(f"-M {machine}")
    if known:
        ways.append(f"-global {known}")
    if not ways:
        return f"make the source leave {name} out, or drop it: vmstream edit"
    return f"start the source with {' or '.join(ways)}, which leaves it out"

"""Arm processors: system registers that the destination's processor must have.

Source: QEMU ``target/arm/machine.c`` (``cpu_post_load``): a register that only
the stream has refuses the load; one that only the destination has keeps its
reset value.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmstream.stream.devices import Device
from vmstream.tools.findings import Basis, Finding, Severity
from vmstream.vmstate.registers.sysregs import register_name

__all__ = ["check_registers"]

INDEXES = "cpreg_vmstate_indexes"


def check_registers(device: Device, twin: Device) -> Iterator[Finding]:
    """Registers of the stream's processor that the destination's has not."""
    if device.decoded is None or twin.decoded is None or INDEXES not in device.decoded.value:
        return
    ours, theirs = (list(d.value.get(INDEXES, ())) for d in (device.decoded, twin.decoded))
    missing = {int(index) for index in ours} - {int(index) for index in theirs}
    if not missing:
        return
    section = device.section
    yield Finding(
        "cpu-registers",
        Severity.BREAKS,
        f"the stream's processor has {len(missing)} system registers that the destination's "
        "has not",
        device=section.key,
        field=INDEXES,
        offset=device.decoded.value.at(INDEXES).offset,
        source=len(ours),
        destination=len(theirs),
        remedy="give the destination the source's processor model (-cpu)",
        qemu_text=f"error while loading state for instance {section.instance_id:#x} "
        f"of device '{section.name}'",
        details=tuple(sorted(register_name(index) or f"{index:#x}" for index in missing)),
        basis=Basis.STREAM,
    )

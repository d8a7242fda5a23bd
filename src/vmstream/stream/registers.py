"""The processors of a stream and their registers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmstream.errors import Unsupported
from vmstream.stream.devices import Device
from vmstream.vmstate.registers import Group, Processor, Register, read_processor

if TYPE_CHECKING:
    from vmstream.stream.stream import Stream

__all__ = ["architecture", "processors", "registers"]

_SECTION = "cpu"
"""What every target calls the section of a processor's own state."""
_APIC = "apic"
_TPR_CLASS_SHIFT = 4
"""CR8 is the priority class of the APIC's task priority."""


def processors(stream: Stream) -> dict[str, Processor]:
    """Each virtual processor by its device key (``cpu:0``), in stream order.

    The part of an x86 processor that is its local APIC (``cr8``, ``apic_base``)
    stands in a section of its own, one for each processor in the same order.

    Raises:
        Unsupported: the stream has no state of processors, nothing describes
            it, or it is of no architecture that is known here.
    """
    cpus = [device for device in stream.devices if device.section.name == _SECTION]
    if not cpus:
        raise Unsupported(
            "the stream holds no registers: it has no section 'cpu'"
            " (some targets do not save their processors)"
        )
    found = {device.key: _processor(device) for device in cpus}
    apics = [device for device in stream.devices if device.section.name == _APIC]
    if len(apics) == len(cpus):
        for device, apic in zip(cpus, apics, strict=True):
            found[device.key] = _with_apic(found[device.key], apic)
    return found


def registers(stream: Stream) -> dict[str, dict[str, int]]:
    """Every register of every processor: ``{"cpu:0": {"rip": ..., ...}}``.

    Values are unsigned, vectors too: an xmm register is a number of 128 bits
    whose lowest are its first element. Names are gdb's.

    Raises:
        Unsupported: as :func:`processors`.
    """
    return {
        key: {register.name: register.value for register in processor.registers}
        for key, processor in processors(stream).items()
    }


def architecture(stream: Stream) -> str:
    """The processors' architecture, as QEMU names its targets (``x86_64``, ``aarch64``).

    Raises:
        Unsupported: as :func:`processors`.
    """
    return next(iter(processors(stream).values())).architecture


def _processor(device: Device) -> Processor:
    """One processor; descriptions that differ in names but not in registers are as good as one."""
    section = device.section
    if not device.readings:
        raise Unsupported(
            "nothing describes the processor's state; --describe-with names a stream"
            " or schema of the same QEMU that does",
            offset=section.body_offset,
            section=section.key,
        )
    read = [read_processor(reading.value) for reading in device.readings]
    first = read[0]
    if any(other != first for other in read):
        raise Unsupported(
            f"{len(read)} borrowed descriptions fit the processor's state and disagree;"
            " --describe-with names the one to use",
            offset=section.body_offset,
            section=section.key,
        )
    if first is None:
        raise Unsupported(
            "the section 'cpu' holds no registers of an architecture known here",
            offset=section.body_offset,
            section=section.key,
        )
    return first


def _with_apic(processor: Processor, apic: Device) -> Processor:
    if processor.architecture not in ("i386", "x86_64") or apic.decoded is None:
        return processor
    state = apic.decoded.value
    base, priority = state.get("apicbase"), state.get("tpr")
    if not isinstance(base, int) or not isinstance(priority, int):
        return processor
    more = (
        Register("cr8", priority >> _TPR_CLASS_SHIFT, 64, Group.CONTROL),
        Register("apic_base", base, 64, Group.SYSTEM),
    )
    return Processor(processor.architecture, processor.registers + more)

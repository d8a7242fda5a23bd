"""Virtio devices: what the guest and the device agreed upon must hold at the destination, too.

Source: QEMU ``hw/virtio/virtio.c`` (``virtio_load``), ``hw/net/virtio-net.c``.
What a destination's device offers is not in its stream: only what a guest there
accepted is.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmstream.errors import StreamError
from vmstream.stream.devices import Device
from vmstream.tools.check.pci import config_findings
from vmstream.tools.findings import Basis, Finding, Severity
from vmstream.vmstate.devices.virtio import (
    VIRTIO_DEVICES,
    NetPart,
    Virtio,
    VirtioDevice,
    configured_like,
)
from vmstream.vmstate.layouts import suffix
from vmstream.vmstate.loading import load
from vmstream.vmstate.virtio_features import feature_names

__all__ = ["check_virtio", "is_virtio", "virtio_of"]


def is_virtio(device: Device) -> bool:
    """Whether the section is one of a virtio device that is declared here."""
    return suffix(device.section.name) in VIRTIO_DEVICES


def virtio_of(device: Device) -> Virtio | None:
    """The device's state; None where it is no such device or does not read as one."""
    kind = VIRTIO_DEVICES.get(suffix(device.section.name))
    if kind is None:
        return None
    section = device.section
    state: VirtioDevice = configured_like(kind, device.data)
    try:
        load(
            state,
            device.data,
            section.version,
            offset=section.body_offset,
            device=section.name,
        )
    except StreamError:
        return None
    return state.virtio


def check_virtio(device: Device, twin: Device) -> Iterator[Finding]:
    """What the destination's device would refuse of the stream's."""
    ours, theirs = virtio_of(device), virtio_of(twin)
    if ours is None or theirs is None:
        return
    express = ours.pci.express and theirs.pci.express
    config, own = (
        (virtio.pci.express_config if express else virtio.pci.config) for virtio in (ours, theirs)
    )
    start = device.section.body_offset + 4
    if ours.pci.express != theirs.pci.express:
        yield _finding(
            device,
            "pci-config",
            Severity.BREAKS,
            "the device is on PCI Express at one side and on plain PCI at the other",
            source="PCI Express" if ours.pci.express else "PCI",
            destination="PCI Express" if theirs.pci.express else "PCI",
            remedy="put it on the same kind of bus",
        )
        return
    found = list(config_findings(device.section.key, "virtio", start, config, own))
    yield from found
    if not found:
        yield from _features(device, ours, theirs)
        yield from _queue_pairs(device, ours, theirs)


def _finding(
    device: Device, code: str, severity: Severity, message: str, **more: object
) -> Finding:
    section = device.section
    return Finding(
        code,
        severity,
        message,
        device=section.key,
        field="virtio",
        offset=section.body_offset,
        basis=Basis.STREAM,
        **more,  # type: ignore[arg-type]
    )


def _features(device: Device, ours: Virtio, theirs: Virtio) -> Iterator[Finding]:
    extra = ours.guest_features & ~theirs.guest_features
    if not extra:
        return
    names = feature_names(suffix(device.section.name), extra)
    yield _finding(
        device,
        "virtio-features",
        Severity.MAY_BREAK,
        f"the guest uses features {extra:#x}; whether the destination offers them does not show",
        source=f"{ours.guest_features:#x}",
        destination=f"{theirs.guest_features:#x}",
        details=tuple(names),
        remedy="give the destination's device the same properties",
        qemu_text=f"Features {ours.guest_features:#x} unsupported. Allowed features: ",
    )


def _queue_pairs(device: Device, ours: Virtio, theirs: Virtio) -> Iterator[Finding]:
    part, own = getattr(ours, "device", None), getattr(theirs, "device", None)
    if not isinstance(part, NetPart) or not isinstance(own, NetPart):
        return
    if part.max_queue_pairs != own.max_queue_pairs:
        yield _finding(
            device,
            "virtio-queues",
            Severity.BREAKS,
            f"the card has {part.max_queue_pairs} pairs of queues in the stream and "
            f"{own.max_queue_pairs} at the destination",
            source=part.max_queue_pairs,
            destination=own.max_queue_pairs,
            remedy=f"give the destination's back end queues={part.max_queue_pairs}",
            qemu_text=f"{part.max_queue_pairs:x} != {own.max_queue_pairs:x}",
        )

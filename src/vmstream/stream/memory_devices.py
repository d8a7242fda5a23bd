"""Where devices that are memory stand in a guest's address space, as far as their state tells.

virtio-mem says its address, so that a destination may check it: in a section of
its own before the memory (``virtio-mem-device-early``, 8.1+), else at the end of
the device's section. pc-dimm and nvdimm have no state of their own: their
addresses are on the command line, and in no stream. Source: QEMU
``hw/virtio/virtio-mem.c``, ``hw/mem/pc-dimm.c``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vmstream.errors import StreamError

if TYPE_CHECKING:
    from vmstream.stream.devices import Device
    from vmstream.stream.stream import Stream

__all__ = ["plugged_memory"]

_DEVICE, _EARLY = "virtio-mem", "virtio-mem-device-early"
_ADDRESSES = 1 << 52
"""Physical addresses that a processor may have, and then some."""


class _Region(msgspec.Struct, frozen=True):
    """Addresses that a device takes, in bytes."""

    start: int
    size: int


def plugged_memory(stream: Stream) -> list[tuple[str, int]]:
    """RAM blocks of memory devices, and the addresses where they begin.

    A block belongs to a device when it has the device's path and its size. What
    does not fit together is left out.
    """
    placed = []
    for device in stream.devices:
        path, _, name = device.section.name.rpartition("/")
        region = _region(device) if path and name in (_DEVICE, _EARLY) else None
        if region is None or not 0 < region.start < _ADDRESSES - region.size:
            continue
        own = [
            block.name
            for block in stream.index.blocks
            if block.name.startswith(f"{path}/") and block.used_length == region.size
        ]
        if len(own) == 1:
            placed.append((own[0], region.start))
    return placed


def _region(device: Device) -> _Region | None:
    section = device.section
    if section.name.endswith(_EARLY):
        if device.decoded is None:
            return None
        try:
            return _Region(int(device["tmp.addr"]), int(device["tmp.region_size"]))
        except (KeyError, TypeError):
            return None
    # Imported here: few guests have such a device, and the declarations take their time.
    from vmstream.vmstate.devices.virtio import VirtioMem, configured_like
    from vmstream.vmstate.loading import load

    state = configured_like(VirtioMem, device.data)
    try:
        load(state, device.data, section.version, device=section.name)
    except StreamError:
        return None  # of a device with an early section, whose part here says nothing
    return _Region(state.virtio.device.addr, state.virtio.device.region_size)

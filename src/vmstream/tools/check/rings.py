"""Pages of guest memory that virtio devices look at while they load.

A device compares the index in a queue's ring with its own
(``hw/virtio/virtio.c``, ``virtio_load``), so the rings must be there.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmstream.errors import StreamError
from vmstream.stream.physical_memory import PhysicalMemory
from vmstream.stream.stream import Stream
from vmstream.tools.check.virtio import virtio_of
from vmstream.vmstate.devices.virtio import Virtio

__all__ = ["ring_pages"]

MAX_QUEUE = 32768
"""Entries that a queue may have (VIRTIO specification, 2.7)."""


def ring_pages(stream: Stream) -> set[tuple[str, int]]:
    """Block and byte offset of every page that holds a part of a ring.

    Rings behind an IOMMU have addresses that are not physical: they are left out.
    """
    rings = [
        ring
        for device in stream.devices
        if (virtio := virtio_of(device)) is not None
        for ring in _rings(virtio)
    ]
    if not rings:
        return set()
    try:
        places = PhysicalMemory(stream, stream.memory).map
    except StreamError:
        return set()
    size = stream.memory.page_size
    found = set()
    for address, length in rings:
        for page in range(address & -size, address + length, size):
            part = places.at(page)
            if part is not None:
                found.add((part.block, part.offset + page - part.start))
    return found


def _rings(virtio: Virtio) -> Iterator[tuple[int, int]]:
    """Address and size in bytes of the descriptors' and the two other rings of each queue."""
    rings = virtio.virtqueues.vq if virtio.virtqueues is not None else []
    for number, queue in enumerate(virtio.queues):
        count = min(queue.num, MAX_QUEUE)
        if not queue.desc:
            continue
        yield queue.desc, 16 * count
        if number < len(rings):
            yield rings[number].avail, 6 + 2 * count
            yield rings[number].used, 6 + 8 * count
        else:
            # One after the other, the last one on a page of its own (legacy layout).
            avail = queue.desc + 16 * count
            yield avail, 6 + 2 * count
            yield (avail + 6 + 2 * count + 4095) & -4096, 6 + 8 * count

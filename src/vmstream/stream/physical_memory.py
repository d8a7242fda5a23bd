"""Guest-physical memory: RAM blocks at the addresses where the machine has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from vmstream.stream.memory_devices import plugged_memory
from vmstream.stream.physical import PhysicalMap, PhysicalRange, physical_map

if TYPE_CHECKING:
    from vmstream.stream.memory import Memory
    from vmstream.stream.stream import Stream

__all__ = ["PhysicalMemory", "bridge_of"]

CHUNK = 1 << 20
"""Bytes read at a time."""
_BRIDGES = ("/I440FX", "/mch")


def bridge_of(stream: Stream) -> bytes | None:
    """Configuration space of the PCI host bridge, which says what of the first MiB is RAM.

    It stands behind the be32 version that begins a PCI device (``PCIDevice``).
    """
    for section in stream.states:
        if section.data is not None and section.name.endswith(_BRIDGES):
            return section.data[4:260]
    return None


class PhysicalMemory:
    """Memory by guest-physical address.

    Attributes:
        map: where each range is from, what could not be placed, and what was assumed.
    """

    def __init__(
        self,
        stream: Stream,
        memory: Memory,
        placed: Iterable[tuple[str, int]] = (),
        architecture: str | None = None,
    ) -> None:
        """Place a stream's blocks.

        Raises:
            Unsupported: the machine is not known, and ``placed`` does not help.
            ValueError: ``placed`` names a block that is not there.
        """
        self._memory = memory
        blocks = {block.name: block.size for block in memory}
        self.map: PhysicalMap = physical_map(
            stream.machine,
            blocks,
            architecture=architecture,
            bridge=bridge_of(stream),
            placed=placed,
            plugged=plugged_memory(stream),
        )

    @property
    def ranges(self) -> tuple[PhysicalRange, ...]:
        """Sorted ranges, none overlapping another."""
        return self.map.ranges

    def parts(self, address: int, length: int) -> Iterator[tuple[int, bytes]]:
        """What stands in ``length`` bytes from ``address``, as (address, bytes), without holes.

        Raises:
            StreamError: the content can not be read.
        """
        for part in self.map.within(address, length):
            for step in range(0, part.size, CHUNK):
                size = min(CHUNK, part.size - step)
                yield part.start + step, self._memory[part.block].read(part.offset + step, size)

    def read(self, address: int, length: int) -> bytes:
        """``length`` bytes from ``address``; what no block backs reads as zero."""
        data = bytearray(length)
        for at, part in self.parts(address, length):
            data[at - address : at - address + len(part)] = part
        return bytes(data)

    def chunks(
        self, ranges: Iterable[PhysicalRange] | None = None
    ) -> Iterator[tuple[int, memoryview]]:
        """The content of ranges as (address, bytes); what is left out is zero by its records."""
        for item in self.ranges if ranges is None else ranges:
            block = self._memory[item.block]
            for at, data in block.chunks(item.offset, item.offset + item.size):
                yield item.start + at - item.offset, data

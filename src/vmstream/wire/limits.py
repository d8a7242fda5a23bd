"""How much a stream may ask for before it is refused."""

from __future__ import annotations

import msgspec

__all__ = ["DEFAULT_LIMITS", "Limits"]


class Limits(msgspec.Struct, frozen=True):
    """Bounds on what a stream may claim; each names the thing that it bounds.

    A length is believed only up to its limit, and memory is taken only for
    bytes that have arrived, so none of these is ever allocated in advance.
    """

    machine_name: int = 1024
    """Bytes of the machine type's name in CONFIGURATION."""
    capabilities: int = 256
    """Capabilities listed in CONFIGURATION."""
    description: int = 64 << 20
    """Bytes of the JSON description after the end marker."""
    device_state: int = 256 << 20
    """Bytes of one device section, and of the tail held while its end is unknown."""
    bitmap: int = 1 << 30
    """Bytes of one RAM block's bitmap in a mapped-ram file."""
    bitmap_chunk: int = 1 << 20
    """Bytes of one chunk of a dirty bitmap (QEMU's loader stops at 10240)."""
    ram_blocks: int = 16384
    """RAM blocks in the setup list."""
    package_depth: int = 4
    """PACKAGED commands inside each other (QEMU never nests them)."""
    compressed_page: int = 1 << 20
    """Bytes of one compress-thread page."""


DEFAULT_LIMITS = Limits()

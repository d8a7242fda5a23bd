"""What the QEMU version that writes a description changes in it."""

from __future__ import annotations

import msgspec

__all__ = ["NEWEST", "Dialect"]


class Dialect(msgspec.Struct, frozen=True):
    """A writer of descriptions, by its QEMU version such as ``(7, 2)``."""

    version: tuple[int, ...] = (10, 0)

    @property
    def compact(self) -> bool:
        """Text without blanks inside braces (``JSONWriter``, 6.0)."""
        return self.version >= (6, 0)

    @property
    def describes_configuration(self) -> bool:
        """The CONFIGURATION section is described (8.2)."""
        return self.version >= (8, 2)

    @property
    def runs(self) -> bool:
        """Pointer arrays are described by runs, and a last element has no index (10.0)."""
        return self.version >= (10, 0)


NEWEST = Dialect()

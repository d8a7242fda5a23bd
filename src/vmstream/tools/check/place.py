"""Where in a stream a field of a device stands."""

from __future__ import annotations

from vmstream.stream.devices import Device

__all__ = ["offset_of"]


def offset_of(device: Device, path: str) -> int:
    """The offset of the first byte at a path, or of what holds it where nothing stands there."""
    section = device.section
    if device.decoded is None or not path:
        return section.offset
    value = device.decoded.value
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            return value.at(".".join(parts[:length])).offset
        except KeyError:
            continue
    return section.body_offset

"""The JSON description at the end of a stream: finding it ahead, and what it says of sizes."""

from __future__ import annotations

from collections.abc import Iterable

from vmstream.errors import StreamError
from vmstream.vmstate.borrow import Borrowed
from vmstream.vmstate.description import DeviceDescription, StreamDescription
from vmstream.vmstate.vmdesc import parse, wire_sizes
from vmstream.wire.sections import Element

__all__ = ["DescribedExtents", "find_description"]

_CANDIDATES = 64
"""Bytes 0x06 looked at before the end of the text; the text itself has none."""


def find_description(tail: bytes) -> bytes | None:
    """The text of the description that ends a stream, from the stream's last bytes.

    The text ends at the last ``}``; what follows may be padding of a container.
    Returns None when it is not there or begins before ``tail``.
    """
    end = tail.rfind(b"}") + 1
    at = end
    for _ in range(_CANDIDATES):
        at = tail.rfind(bytes((Element.DESCRIPTION,)), 0, at)
        if at < 0:
            return None
        if at + 5 + int.from_bytes(tail[at + 1 : at + 5], "big") == end:
            return tail[at + 5 : end]
    return None


class DescribedExtents:
    """Sizes of device sections by a stream's own description, and by what was borrowed.

    Attributes:
        description: this stream's own, once it is known.
    """

    def __init__(
        self, description: StreamDescription | None = None, borrowed: Borrowed | None = None
    ) -> None:
        self.description: StreamDescription | None = None
        self._borrowed = borrowed
        self._devices: dict[tuple[str, int], DeviceDescription] = {}
        self._sizes: dict[tuple[str, int], tuple[int, ...]] = {}
        if description is not None:
            self.use(description)

    def use(self, description: StreamDescription) -> None:
        """Take a description as this stream's own."""
        self.description = description
        self._devices = {
            (device.name, device.instance_id): device for device in description.devices
        }

    def own(self, idstr: str, instance_id: int) -> tuple[int, ...]:
        """Bytes that the section may have by this stream's description, the likeliest first."""
        key = (idstr, instance_id)
        device = self._devices.get(key)
        if device is None:
            return ()
        if key not in self._sizes:
            self._sizes[key] = wire_sizes(device.description)
        return self._sizes[key]

    def learn(self, tail: memoryview) -> None:
        """Take the description from the stream's last bytes, if it is there."""
        if self.description is not None:
            return
        text = find_description(bytes(tail))
        if text is None:
            return
        try:
            self.use(parse(text))
        except StreamError:
            return

    def borrowed(
        self, idstr: str, instance_id: int, version_id: int, data: memoryview
    ) -> Iterable[int]:
        """Bytes of the section by descriptions from elsewhere, best first."""
        if self._borrowed is None:
            return ()
        return self._borrowed.extents(idstr, instance_id, version_id, data)

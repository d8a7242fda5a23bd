"""Well-known layouts, for streams that carry no description.

QEMU before 2.3 writes none, nor does ``suppress-vmdesc`` or a post-copy stream
that switched. The table holds what described streams of many machines and
versions showed of each device; :func:`borrow` takes another stream's
description instead. Either gives candidates, made for other streams: decode
them with :func:`vmstream.vmstate.decode.fits`, which keeps those that account
for every byte.
"""

from __future__ import annotations

import json
from functools import cache

from vmstream.vmstate.description import Description, DeviceDescription, StreamDescription
from vmstream.vmstate.vmdesc import parse

__all__ = ["TABLE", "borrow", "lookup", "suffix"]

TABLE = "layouts.jsonl.xz"
"""The table: a line for each layout, an entry of ``devices`` under its bare name.

Written by ``tools/make_layouts.py``; a name stands once for each layout seen,
the commonest first, with every subsection seen in any stream.
"""


def lookup(idstr: str, version: int) -> list[Description]:
    """Shipped layouts for a section, the commonest first; empty when unknown.

    ``idstr`` may carry a device path (``0000:00:01.3/piix4_pm``). A layout of
    an old-style device (one opaque buffer, ``slirp``) has no version and fits any.
    """
    return [
        device.description
        for device in _devices(suffix(idstr))
        if device.old_style or device.description.version == version
    ]


def borrow(
    other: StreamDescription, name: str, instance_id: int, version: int | None = None
) -> list[Description]:
    """What another stream's description offers for a section.

    First the device of the same name and instance, then others of the same
    name, then those whose name ends alike (the same device at another
    address). Each layout is offered once; with ``version``, only layouts of
    that version and old-style ones.
    """
    ending = suffix(name)

    def rank(device: DeviceDescription) -> int:
        if device.name != name:
            return 2
        return 0 if device.instance_id == instance_id else 1

    alike = [device for device in other.devices if suffix(device.name) == ending]
    offered: list[Description] = []
    for device in sorted(alike, key=rank):
        wanted = version is None or device.old_style or device.description.version == version
        if wanted and device.description not in offered:
            offered.append(device.description)
    return offered


def suffix(idstr: str) -> str:
    """The vmsd name at the end of a section's idstr.

    The path before it comes from the device's bus: ``0000:00:1f.2/ich9_ahci``,
    ``0000:00:04.0/1/usb-ptr``.
    """
    path, slash, name = idstr.rpartition("/")
    return name if slash and path else idstr


@cache
def _devices(name: str) -> tuple[DeviceDescription, ...]:
    entries = _lines().get(f'{{"name": {json.dumps(name)}', [])
    return parse(f'{{"page_size": 0, "devices": [{", ".join(entries)}]}}').devices


@cache
def _lines() -> dict[str, list[str]]:
    """The table's lines by what they begin with; each is parsed when asked for."""
    import lzma
    from importlib import resources

    packed = resources.files(__package__).joinpath(TABLE).read_bytes()
    lines: dict[str, list[str]] = {}
    for line in lzma.decompress(packed).decode().splitlines():
        lines.setdefault(line.partition(', "instance_id"')[0], []).append(line)
    return lines

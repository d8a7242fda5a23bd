"""Make the table of well-known layouts from described streams.

    python tools/make_layouts.py STREAM... -o src/vmstream/vmstate/layouts.jsonl.xz

Each STREAM is a migration stream or anything that holds one in one piece, raw
or ``.zst``. Descriptions of one device are merged where they differ only in
which subsections were sent; every other difference makes a layout of its own.
"""

from __future__ import annotations

import argparse
import lzma
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from vmstream.vmstate.description import (
    Description,
    DeviceDescription,
    Field,
    StreamDescription,
)
from vmstream.vmstate.layouts import suffix
from vmstream.vmstate.vmdesc import dump, parse

MAX_LAYOUTS = 8
"""Layouts kept of one device and version, the commonest."""

KNOWN = (
    Description(
        "cpu_common",
        1,
        (Field("halted", "uint32", 4), Field("interrupt_request", "uint32", 4)),
        (
            Description("cpu_common/exception_index", 1, (Field("exception_index", "int32", 4),)),
            Description("cpu_common/crash_occurred", 1, (Field("crash_occurred", "bool", 1),)),
        ),
    ),
)
"""Subsections that recorded streams may lack (QEMU ``hw/core/cpu-system.c``)."""

_DESCRIPTION = re.compile(rb'\x06(?=.{4}\{ ?"(?:page_size|configuration)" ?:)', re.DOTALL)


class Layout:
    """One layout of a device, and in how many streams it was seen."""

    def __init__(self, device: DeviceDescription) -> None:
        self.device = device
        self.seen = 1

    def absorb(self, device: DeviceDescription) -> bool:
        if device.old_style != self.device.old_style:
            return False
        merged = merge(self.device.description, device.description)
        if merged is None:
            return False
        self.device = replace(self.device, description=merged)
        self.seen += 1
        return True


def merge(one: Description, other: Description) -> Description | None:
    """The description of both, all subsections optional; None if they differ."""
    if one == other:
        return one
    if (one.name, one.version, len(one.fields)) != (other.name, other.version, len(other.fields)):
        return None
    fields = [merge_fields(a, b) for a, b in zip(one.fields, other.fields, strict=True)]
    subsections = merge_subsections(one.subsections, other.subsections)
    if subsections is None or None in fields:
        return None
    return replace(one, fields=tuple(field for field in fields if field), subsections=subsections)


def merge_fields(one: Field, other: Field) -> Field | None:
    if one == other:
        return one
    if one.struct is None or other.struct is None:
        return None
    struct = merge(one.struct, other.struct)
    if struct is None or replace(other, struct=one.struct, size=one.size) != one:
        return None
    return replace(one, struct=struct)


def merge_subsections(
    one: tuple[Description, ...], other: tuple[Description, ...]
) -> tuple[Description, ...] | None:
    """The union; one that only ``other`` has goes behind its neighbour there."""
    merged = list(one)
    place = 0
    for subsection in other:
        names = [known.name for known in merged]
        if subsection.name not in names:
            merged.insert(place, subsection)
            place += 1
            continue
        place = names.index(subsection.name)
        both = merge(merged[place], subsection)
        if both is None:
            return None
        merged[place] = both
        place += 1
    return tuple(merged)


def descriptions(paths: list[Path]) -> Iterator[StreamDescription]:
    for path in paths:
        data = path.read_bytes()
        if path.suffix == ".zst":
            from backports import zstd

            data = zstd.decompress(data)
        for match in _DESCRIPTION.finditer(data):
            start = match.end() + 4
            text = data[start : start + int.from_bytes(data[match.end() : start], "big")]
            if text.endswith(b"}"):
                yield parse(text)
                break


def collect(streams: Iterator[StreamDescription]) -> dict[tuple[str, int], list[Layout]]:
    """Layouts by vmsd name and version, each stream's equal devices counted once."""
    table: dict[tuple[str, int], list[Layout]] = {
        (known.name, known.version): [Layout(DeviceDescription(known.name, 0, known))]
        for known in KNOWN
    }
    for stream in streams:
        met: set[tuple[str, Description]] = set()
        for device in stream.devices:
            name = suffix(device.name)
            if (name, device.description) in met:
                continue
            met.add((name, device.description))
            bare = DeviceDescription(name, 0, device.description, device.old_style)
            if device.old_style:
                bare = replace(bare, description=replace(device.description, name=name))
            layouts = table.setdefault((name, device.description.version), [])
            if not any(layout.absorb(bare) for layout in layouts):
                layouts.append(Layout(bare))
    return table


def line(device: DeviceDescription) -> bytes:
    """A device's entry alone, as it stands in a stream's ``devices``."""
    text = dump(StreamDescription(page_size=0, devices=(device,)))
    return text[text.index(b"[") + 1 : text.rindex(b"]")] + b"\n"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("streams", nargs="+", type=Path, metavar="STREAM")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    table = collect(descriptions(options.streams))
    devices = []
    for key in sorted(table):
        layouts = sorted(table[key], key=lambda layout: -layout.seen)
        devices += [layout.device for layout in layouts[:MAX_LAYOUTS]]
    text = b"".join(line(device) for device in devices)
    packed = lzma.compress(text, preset=9)
    options.output.write_bytes(packed)
    print(
        f"{len(devices)} layouts of {len(table)} devices: {len(text)} bytes, {len(packed)} packed"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

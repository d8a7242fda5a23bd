"""Real streams with their descriptions, and where their device sections lie."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from vmstream.vmstate.description import DeviceDescription, StreamDescription
from vmstream.vmstate.vmdesc import parse, wire_size

STREAMS = Path(
    os.environ.get("VMSTREAM_STREAMS") or Path(__file__).parents[3] / "shared" / "streams"
)
CASES = sorted(
    path.parent.name
    for path in STREAMS.glob("*/*.zst")
    if path.name in ("stream.mig.zst", "disk.qcow2.zst")
)
_DESCRIPTION = re.compile(rb'\x06(?=.{4}\{ ?"(?:page_size|configuration)" ?:)', re.DOTALL)


class Section(NamedTuple):
    device: DeviceDescription
    version: int
    offset: int
    """Of the body's first byte."""
    size: int
    """Up to its footer, or to the next section's type byte."""


@cache
def read(case: str) -> bytes:
    zstd = pytest.importorskip("backports.zstd")
    folder = STREAMS / case
    stream = folder / "stream.mig.zst"
    if not stream.exists():
        stream = folder / "disk.qcow2.zst"
    data: bytes = zstd.decompress(stream.read_bytes())
    read.cache_clear()
    return data


def description_text(data: bytes) -> bytes | None:
    for match in _DESCRIPTION.finditer(data):
        start = match.end() + 4
        text = data[start : start + int.from_bytes(data[match.end() : start], "big")]
        if text.endswith(b"}"):
            return text
    return None


def described() -> Iterator[tuple[str, bytes, bytes]]:
    """(case, stream, description text) of every recorded stream that has one."""
    for case in CASES:
        data = read(case)
        text = description_text(data)
        if text is not None:
            yield case, data, text


def sections(data: bytes, description: StreamDescription | None = None) -> Iterator[Section]:
    """The described sections, each found by its header and checked by what follows.

    A section counts only when its footer carries its id, or, in a stream
    without footers, when another section or the end follows.
    """
    text = description_text(data)
    assert text is not None
    start = size = 0
    # In order of emission; isapc sends two devices under one name and instance.
    for device in (description or parse(text)).devices:
        name = device.name.encode()
        header = bytes([len(name)]) + name + device.instance_id.to_bytes(4, "big")
        position = data.find(header, start + size)
        while position >= 0 and data[position - 5] != 0x04:
            position = data.find(header, position + 1)
        assert position >= 0, f"no section {device.name}"
        start = position + len(header) + 4
        size = wire_size(device.description) or 0
        follows = data[start + size : start + size + 5]
        footed = follows == b"\x7e" + data[position - 4 : position]
        assert footed or follows[:1] in (b"\x00", b"\x04"), device.name
        version = int.from_bytes(data[start - 4 : start], "big")
        yield Section(device, version, start, size)

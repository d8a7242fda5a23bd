"""Two streams as wholes, and their lists of sections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

import msgspec

from vmstream.stream.devices import Device
from vmstream.stream.stream import Section, Stream
from vmstream.tools.diff_report import Change, ChangeKind, SectionChange, SectionKind, Side
from vmstream.tools.diff_sieve import Sieve
from vmstream.vmstate.layouts import suffix
from vmstream.wire.sections import Element

__all__ = ["DevicePair", "heads", "pair_devices", "sections"]

WHOLE = "stream"
"""Stands for the device in a pattern over facts of the stream as a whole."""
_CHUNK = 1 << 22
"""Bytes of a live section compared at a time."""
_RAM = "ram"


class DevicePair(msgspec.Struct, frozen=True):
    """One device in both streams."""

    a: Device
    b: Device


def heads(a: Stream, b: Stream, sieve: Sieve) -> Iterator[Change]:
    """What differs of the streams as wholes."""
    for (path, old), new in zip(_facts(a).items(), _facts(b).values(), strict=True):
        if old != new and sieve.passes(WHOLE, path):
            yield Change(path, ChangeKind.VALUE, old, new)
    mine, theirs = a.capabilities, b.capabilities
    for name in sorted({*mine, *theirs}):
        path = f"capability {name}"
        if (name in mine) != (name in theirs) and sieve.passes(WHOLE, path):
            yield Change(path, ChangeKind.FIELD, None, None, Side.A if name in mine else Side.B)


def _facts(stream: Stream) -> dict[str, Any]:
    stated = stream.configuration
    uuid = stated.uuid if stated is not None else None
    return {
        "machine": stream.machine,
        "file version": stream.file_version,
        "page size": stream.page_size,
        "target page bits": stated.target_page_bits if stated is not None else None,
        "uuid": uuid.hex() if uuid is not None else None,
        "footers": stream.footers,
        "description": stream.description_text is not None,
        "complete": stream.complete,
    }


# Devices


def pair_devices(a: Stream, b: Stream) -> tuple[list[DevicePair], list[Device], list[Device]]:
    """Devices of both streams, and those that only one has.

    A device is found again by its name and instance id; failing that, if it is
    the only one left of its kind on either side.
    """
    theirs = {device.key: device for device in b.devices}
    pairs: list[DevicePair | Device] = []
    for device in a.devices:
        other = theirs.pop(device.key, None)
        pairs.append(device if other is None else DevicePair(device, other))
    alone = Counter(_kind(item) for item in pairs if isinstance(item, Device))
    others = Counter(map(_kind, theirs.values()))
    movable = {_kind(d): d for d in theirs.values() if others[_kind(d)] == alone[_kind(d)] == 1}
    found: list[DevicePair] = []
    left: list[Device] = []
    for item in pairs:
        if isinstance(item, DevicePair):
            found.append(item)
        elif _kind(item) in movable:
            found.append(DevicePair(item, movable[_kind(item)]))
            del theirs[movable[_kind(item)].key]
        else:
            left.append(item)
    return found, left, list(theirs.values())


def _kind(device: Device) -> str:
    return suffix(device.section.name)


# Sections


def sections(
    a: Stream,
    b: Stream,
    pairs: Sequence[DevicePair],
    only: tuple[Sequence[Device], Sequence[Device]],
    sieve: Sieve,
) -> Iterator[SectionChange]:
    """What differs of the lists of sections, devices first."""
    for side, devices in zip(Side, only, strict=True):
        for device in devices:
            if sieve.passes(device.key, ""):
                yield _alone(device.key, device.section, side)
    for pair in pairs:
        yield from _of_device(pair, sieve)
    yield from _live(a, b, sieve)
    order = _order(pairs)
    if order is not None and sieve.passes(WHOLE, "order"):
        yield order


def _alone(key: str, section: Section, side: Side) -> SectionChange:
    old, new = (section.version, None) if side is Side.A else (None, section.version)
    return SectionChange(key, SectionKind.ONLY, old, new, side)


def _of_device(pair: DevicePair, sieve: Sieve) -> Iterator[SectionChange]:
    old, new = pair.a.section, pair.b.section
    key, other = pair.a.key, pair.b.key
    if old.name != new.name and sieve.passes(key, "", None, other):
        yield SectionChange(key, SectionKind.MOVED, key, other)
    elif old.instance_id != new.instance_id and sieve.passes(key, "", None, other):
        yield SectionChange(key, SectionKind.INSTANCE, old.instance_id, new.instance_id)
    if old.version != new.version and sieve.passes(key, "version", None, other):
        yield SectionChange(key, SectionKind.VERSION, old.version, new.version)


def _order(pairs: Sequence[DevicePair]) -> SectionChange | None:
    """The first device that stands after another one in b than in a."""
    theirs = sorted(pairs, key=lambda pair: pair.b.section.offset)
    mine = sorted(pairs, key=lambda pair: pair.a.section.offset)
    for x, y in zip(mine, theirs, strict=True):
        if x is not y:
            return SectionChange(x.a.key, SectionKind.ORDER, x.a.key, y.b.key)
    return None


def _live(a: Stream, b: Stream, sieve: Sieve) -> Iterator[SectionChange]:
    """Sections that come in parts: RAM, whose content is compared as memory, and others."""
    mine, theirs = _parts(a), _parts(b)
    for key in dict.fromkeys((*mine, *theirs)):
        if key not in mine or key not in theirs:
            parts, side = (mine[key], Side.A) if key in mine else (theirs[key], Side.B)
            if sieve.passes(key, ""):
                yield _alone(key, parts[0], side)
            continue
        old, new = mine[key], theirs[key]
        if _version(old) != _version(new) and sieve.passes(key, "version"):
            yield SectionChange(key, SectionKind.VERSION, _version(old), _version(new))
        if old[0].name == _RAM or _same_content(a, old, b, new) or not sieve.passes(key, ""):
            continue
        yield SectionChange(key, SectionKind.CONTENT, _size(old), _size(new))


def _parts(stream: Stream) -> dict[str, list[Section]]:
    """Sections without device state, by ``name:instance``."""
    found: dict[str, list[Section]] = {}
    for section in stream.sections:
        if section.data is None:
            found.setdefault(section.key, []).append(section)
    return found


def _version(parts: Sequence[Section]) -> int | None:
    """The version, which only the first part states."""
    started = (part.version for part in parts if part.type in (Element.START, Element.FULL))
    return next(started, None)


def _size(parts: Sequence[Section]) -> int:
    return sum(part.body_size for part in parts)


def _same_content(a: Stream, old: Sequence[Section], b: Stream, new: Sequence[Section]) -> bool:
    """Whether the bodies, one after the other, are the same bytes."""
    if [part.body_size for part in old] != [part.body_size for part in new]:
        return False
    return all(
        bytes(x) == bytes(y) for x, y in zip_longest(_bytes(a, old), _bytes(b, new), fillvalue=b"")
    )


def _bytes(stream: Stream, parts: Sequence[Section]) -> Iterator[bytes | memoryview]:
    for part in parts:
        for at in range(0, part.body_size, _CHUNK):
            length = min(_CHUNK, part.body_size - at)
            yield stream.source.read_at(part.body_offset + at, length)

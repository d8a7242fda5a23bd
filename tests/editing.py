"""Edits in tests: made, checked, and compared with what was there before."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import vmstream
from vmstream.stream.stream import Stream
from vmstream.tools.edit import edit
from vmstream.tools.edits.records import AnyEdit
from vmstream.tools.verify import verify

__all__ = ["blocks", "bytes_of", "edited", "live", "states", "unchanged"]


def bytes_of(stream: Stream) -> bytes:
    pieces = []
    at = 0
    while len(piece := bytes(stream.source.read_at(at, 1 << 20))):
        pieces.append(piece)
        at += len(piece)
    return b"".join(pieces)


def edited(stream: Stream, folder: Path, *edits: AnyEdit) -> Stream:
    """The stream after edits, which is as sound as the one before."""
    out = folder / "edited.mig"
    edit(stream, edits, out)
    after = vmstream.open(out)
    assert verify(after).sound == verify(stream).sound, verify(after)
    return after


def states(stream: Stream) -> dict[str, tuple[int, bytes]]:
    return {device.key: (device.section.version, device.data) for device in stream.devices}


def blocks(stream: Stream) -> dict[str, str | None]:
    return {b.name: None if b.elsewhere else b.hash() for b in stream.memory}


def live(stream: Stream) -> list[tuple[str, int, int]]:
    return [(s.key, s.type, s.section_id) for s in stream.sections if s.data is None]


def unchanged(
    before: Stream,
    after: Stream,
    devices: Collection[str] = (),
    memory: Collection[str] = (),
) -> None:
    """All devices and blocks but those named are what they were."""
    old, new = states(before), states(after)
    assert {k: v for k, v in new.items() if k not in devices} == {
        k: v for k, v in old.items() if k not in devices
    }
    was, now = blocks(before), blocks(after)
    assert {k: v for k, v in now.items() if k not in memory} == {
        k: v for k, v in was.items() if k not in memory
    }
    assert live(after) == live(before)
    assert after.footers == before.footers
    assert [c.command for c in after.commands] == [c.command for c in before.commands]

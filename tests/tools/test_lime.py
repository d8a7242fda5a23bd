"""LiME images: a header of 32 bytes before each range."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from vmstream.tools.lime import write_lime
from vmstream.tools.output import atomic_file
from vmstream.tools.segments import Segment, read_chunks


def test_ranges_follow_each_other_behind_headers(tmp_path: Path) -> None:
    memory = {0x1000: b"a" * 0x800, 0x4000: b"b" * 0x1000}
    with atomic_file(tmp_path / "m.lime") as out:
        write_lime(out, [Segment(0x1000, 0x1000), Segment(0x4000, 0x1000)], list(memory.items()))
    image = (tmp_path / "m.lime").read_bytes()
    header = struct.pack("<4sIQQQ", b"EMiL", 1, 0x1000, 0x1FFF, 0)
    second = struct.pack("<4sIQQQ", b"EMiL", 1, 0x4000, 0x4FFF, 0)
    assert image == header + b"a" * 0x800 + bytes(0x800) + second + b"b" * 0x1000


def test_a_range_that_ends_in_zeros_is_whole(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "m.lime") as out:
        write_lime(out, [Segment(0, 1 << 20)], [])
    assert (tmp_path / "m.lime").stat().st_size == 32 + (1 << 20)


def test_a_chunk_may_span_ranges_that_touch(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "m.lime") as out:
        write_lime(out, [Segment(0, 4), Segment(4, 4)], [(2, b"wxyz")])
    image = (tmp_path / "m.lime").read_bytes()
    assert image[32:36] == b"\0\0wx"
    assert image[68:72] == b"yz\0\0"


@pytest.mark.parametrize(
    "segments", [[Segment(8, 4), Segment(0, 4)], [Segment(0, 4), Segment(3, 4)], [Segment(0, 0)]]
)
def test_ranges_are_sorted_and_apart(tmp_path: Path, segments: list[Segment]) -> None:
    with pytest.raises(ValueError, match="sorted"), atomic_file(tmp_path / "m") as out:
        write_lime(out, segments, [])


def test_a_chunk_outside_is_refused(tmp_path: Path) -> None:
    for address in (0, 0x1FFF, 0x3000):
        with pytest.raises(ValueError, match="no segment"), atomic_file(tmp_path / "m") as out:
            write_lime(out, [Segment(0x2000, 0x1000)], [(address, b"ab")])


def test_a_reader_gives_chunks() -> None:
    def read(address: int, length: int) -> bytes:
        return bytes([address >> 20]) * length

    chunks = list(read_chunks(read, [Segment(1 << 20, (1 << 20) + 5)]))
    assert [(at, len(data)) for at, data in chunks] == [(1 << 20, 1 << 20), (2 << 20, 5)]

"""Compressed sources: every codec, whole, cut, damaged and hostile."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from container_writers import STREAM
from vmstream.errors import LimitExceeded, SourceError, StreamError, Truncated, Unsupported
from vmstream.sources import Limits, Source, open_source
from vmstream.sources.compressed import OUTPUT_CHUNK
from vmstream.sources.lzop import Flags

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIXED = STREAM + random.Random(1).randbytes(300_000) + bytes(400_000)
TOOLS = ["gzip", "bzip2", "xz", "zstd", "lzop"]


def tool(name: str, data: bytes, *options: str) -> bytes:
    """``data`` as the real program compresses it."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    run = subprocess.run([name, "-c", *options], input=data, capture_output=True, check=True)
    return run.stdout


def lzop_member(*blocks: bytes, flags: int = 0, method: int = 1, version: int = 0x1040) -> bytes:
    """A member whose blocks are stored as they are, so that no compressor is needed."""
    head = struct.pack(">HHHBBIIIIB", version, 0x2080, 0x0940, method, 5, flags, 0, 0, 0, 0)
    check = zlib.crc32(head) if flags & Flags.HEADER_CRC32 else zlib.adler32(head)
    body = b"\x89LZO\0\r\n\x1a\n" + head + struct.pack(">I", check)
    if flags & Flags.EXTRA_FIELD:
        body += struct.pack(">I", 3) + b"abc" + struct.pack(">I", 0)
    for block in blocks:
        body += struct.pack(">II", len(block), len(block))
        if flags & Flags.ADLER32_D:
            body += struct.pack(">I", zlib.adler32(block))
        if flags & Flags.CRC32_D:
            body += struct.pack(">I", zlib.crc32(block))
        body += block
    return body + bytes(4)


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: zstd.compress(
        data, options={zstd.CompressionParameter.checksum_flag: True}
    ),
    "lzop": lambda data: lzop_member(
        *(data[at : at + 100_000] for at in range(0, len(data), 100_000)),
        flags=Flags.ADLER32_D | Flags.CRC32_D | Flags.HEADER_CRC32,
    ),
}
SMALL = b"QEVM\0\0\0\3" + random.Random(2).randbytes(3000) + bytes(2000)
SMALL_PACKED = {name: pack(SMALL) for name, pack in PACKED.items()}


def content(source: Source, start: int = 0) -> bytes:
    return b"".join(bytes(piece) for piece in source.pieces(start))


def salvage(data: bytes, limits: Limits | None = None) -> tuple[bytes, StreamError | None]:
    """What comes out, and what ended it."""
    parts: list[bytes] = []
    try:
        with open_source(data, limits=limits or Limits()) as source:
            for piece in source.pieces():
                parts.append(bytes(piece))
    except StreamError as error:
        return b"".join(parts), error
    return b"".join(parts), None


@pytest.mark.parametrize("name", TOOLS)
def test_what_the_program_wrote_is_read(name: str) -> None:
    with open_source(tool(name, MIXED)) as source:
        assert source.container == (name,)
        assert source.origin == 0 and not source.seekable
        assert content(source) == MIXED
        assert source.size == len(MIXED)


@pytest.mark.parametrize("name", TOOLS)
def test_members_one_after_the_other_are_one_stream(name: str) -> None:
    packed = tool(name, STREAM) + tool(name, b"second") + tool(name, b"")
    assert salvage(packed) == (STREAM + b"second", None)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lzop", ["-9"]),
        ("lzop", ["-1", "--crc32"]),
        ("lzop", ["-F"]),
        ("lzop", ["--no-name", "-3"]),
        ("xz", ["-9e", "--check=sha256"]),
        ("xz", ["-0", "--block-size=65536"]),
        ("zstd", ["-19", "--long=27"]),
        ("zstd", ["--no-check"]),
        ("gzip", ["-1"]),
        ("bzip2", ["-1"]),
    ],
)
def test_options_of_the_programs_make_no_difference(name: str, options: list[str]) -> None:
    assert salvage(tool(name, MIXED, *options)) == (MIXED, None)


@pytest.mark.parametrize("name", PACKED)
def test_random_reads_and_walks_agree(name: str) -> None:
    with open_source(PACKED[name](MIXED)) as source:
        assert content(source, 1000) == MIXED[1000:]
        assert content(source) == MIXED
        assert bytes(source.read_at(500_000, 7)) == MIXED[500_000:500_007]
        assert bytes(source.read_at(len(MIXED) - 3, 7)) == MIXED[-3:]
        assert content(source, 10) == MIXED[10:]


@pytest.mark.parametrize("name", PACKED)
def test_a_compressed_pipe_is_read_once_and_kept_when_asked(name: str, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(PACKED[name](MIXED))
    for kept in (False, True):
        with (
            subprocess.Popen(["cat", packed], stdout=subprocess.PIPE) as cat,
            open_source(cat.stdout) as source,  # type: ignore[arg-type]
        ):
            if kept:
                source.keep()
            assert content(source) == MIXED
            if kept:
                assert source.read_at(9, 9) == MIXED[9:18]
            else:
                with pytest.raises(ValueError):
                    content(source)


@pytest.mark.parametrize("name", PACKED)
def test_padding_of_zeros_is_no_data(name: str) -> None:
    packed = SMALL_PACKED[name] + bytes(512)
    with open_source(packed) as source:
        assert content(source) == SMALL
        assert "trailing_offset" not in source.details[name]


@pytest.mark.parametrize("name", PACKED)
def test_other_trailing_bytes_are_noted(name: str) -> None:
    packed = SMALL_PACKED[name]
    with open_source(packed + bytes(8) + b"garbage") as source:
        assert content(source) == SMALL
        assert source.details[name]["trailing_offset"] == len(packed) + 8


@pytest.mark.parametrize("name", PACKED)
def test_a_cut_file_gives_what_arrived_then_truncated(name: str) -> None:
    packed = PACKED[name](MIXED)
    got, error = salvage(packed[: len(packed) * 3 // 4])
    assert isinstance(error, Truncated)
    assert error.offset == len(packed) * 3 // 4
    assert MIXED.startswith(got)
    # bzip2 gives nothing of a block that is not whole, and a block has 900 kB.
    assert len(got) >= (0 if name == "bzip2" else 200_000)


@pytest.mark.parametrize("name", PACKED)
def test_only_the_end_marker_missing_loses_no_byte(name: str) -> None:
    got, error = salvage(SMALL_PACKED[name][:-1])
    assert isinstance(error, Truncated)
    assert got == SMALL


@pytest.mark.parametrize("name", PACKED)
def test_a_cut_and_kept_source_tells_its_damage_after_every_walk(name: str) -> None:
    packed = PACKED[name](MIXED)[:-2]
    with open_source(packed) as source:
        source.keep()
        for _ in range(2):
            parts = []
            with pytest.raises(Truncated):
                for piece in source.pieces():
                    parts.append(bytes(piece))
            assert b"".join(parts) == MIXED
        assert isinstance(source.damage, Truncated)
        assert source.read_at(5, 5) == MIXED[5:10]
        with pytest.raises(Truncated):
            source.read_at(len(MIXED), 1)


@pytest.mark.parametrize("name", ["gzip", "xz", "bzip2", "zstd"])
def test_damage_is_placed_in_the_compressed_file(name: str) -> None:
    packed = bytearray(tool(name, random.Random(3).randbytes(2_000_000)))
    packed[1_000_000:1_000_100] = b"\xff" * 100
    got, error = salvage(bytes(packed))
    assert type(error) is SourceError
    assert error.offset is not None and error.file == "<bytes>"
    # Known only when a block is complete: bzip2's and xz's are a whole block behind.
    assert error.offset > 1_000_000 - OUTPUT_CHUNK
    assert "damaged" in error.message and name in error.message
    if name in ("gzip", "zstd"):
        assert len(got) > 500_000


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_cut_anywhere_gives_a_prefix_or_a_stream_error(data: st.DataObject) -> None:
    packed = SMALL_PACKED[data.draw(st.sampled_from(TOOLS))]
    cut = data.draw(st.integers(0, len(packed) - 1))
    got, error = salvage(packed[:cut])
    if error is None:
        # Not enough was left for the container to be known.
        assert got == packed[:cut] and cut < 9
    else:
        assert isinstance(error, Truncated)
        assert SMALL.startswith(got)


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_damage_anywhere_is_a_stream_error_or_no_matter(data: st.DataObject) -> None:
    packed = bytearray(SMALL_PACKED[data.draw(st.sampled_from(TOOLS))])
    for _ in range(data.draw(st.integers(1, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    salvage(bytes(packed))


def test_a_window_above_the_limit_is_refused_before_it_is_allocated() -> None:
    data = bytes(1 << 20)
    huge = tool("zstd", data, "--ultra", "-22", "--long=31")
    _, error = salvage(huge)
    assert isinstance(error, LimitExceeded)
    for packed in (tool("xz", MIXED, "-9"), tool("zstd", MIXED, "-19")):
        _, error = salvage(packed, Limits(memory=1 << 17))
        assert isinstance(error, LimitExceeded)
        assert error.offset == 0


def test_memory_is_bounded_by_the_window_and_not_by_the_content() -> None:
    import tracemalloc

    packed = {name: pack(bytes(64 << 20)) for name, pack in PACKED.items() if name != "lzop"}
    for name, data in packed.items():
        tracemalloc.start()
        with open_source(data) as source:
            assert sum(map(len, source.pieces())) == 64 << 20
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 16 << 20, name


def test_pzstd_writes_a_skippable_frame_first() -> None:
    skippable = struct.pack("<II", 0x184D2A50, 4) + b"size"
    assert salvage(skippable + zstd.compress(SMALL)) == (SMALL, None)


def test_lzop_checksums_are_verified() -> None:
    sums = Flags.ADLER32_D | Flags.CRC32_D
    for flags in (Flags.ADLER32_D, Flags.CRC32_D, sums, sums | Flags.EXTRA_FIELD):
        good = lzop_member(SMALL, b"more", flags=flags)
        assert salvage(good) == (SMALL + b"more", None)
        bad = bytearray(good)
        bad[-10] ^= 1
        got, error = salvage(bytes(bad))
        assert type(error) is SourceError and "checksum" in error.message
        assert got == SMALL
    header = bytearray(lzop_member(SMALL))
    header[20] ^= 1
    assert "header" in str(salvage(bytes(header))[1])


def test_lzop_compressed_blocks_have_checksums_of_their_own() -> None:
    packed = bytearray(tool("lzop", bytes(1000), "--crc32"))
    packed[-10] ^= 1
    got, error = salvage(bytes(packed))
    assert got == b"" and error is not None and "checksum" in error.message


def test_lzop_blocks_and_features_out_of_bounds_are_refused() -> None:
    header = lzop_member()[:-4]
    cases: list[tuple[bytes, type[StreamError]]] = [
        (header + struct.pack(">II", 1 << 30, 5), LimitExceeded),
        (header + struct.pack(">I", 0xFFFFFFFF), Unsupported),
        (header + struct.pack(">II", 5, 6), SourceError),
        (header + struct.pack(">II", 5, 0), SourceError),
        (header + struct.pack(">II", 50, 4) + b"\xff\xff\xff\xff", SourceError),
        (lzop_member(flags=Flags.FILTER), Unsupported),
        (lzop_member(method=9), Unsupported),
    ]
    for data, kind in cases:
        assert type(salvage(data)[1]) is kind


def test_codecs_inside_one_another_are_opened_up_to_a_limit() -> None:
    data = SMALL
    for name in ("gzip", "zstd", "xz", "bzip2"):
        data = PACKED[name](data)
    with open_source(data) as source:
        assert source.container == ("bzip2", "xz", "zstd", "gzip")
        assert content(source) == SMALL
    assert isinstance(salvage(gzip.compress(data))[1], LimitExceeded)


def test_damage_of_an_outer_codec_comes_after_what_the_inner_one_gives() -> None:
    inner = PACKED["zstd"](MIXED)
    outer = gzip.compress(inner)[:-100_000]
    got, error = salvage(outer)
    assert isinstance(error, Truncated) and "gzip" in error.message
    assert len(got) > 100_000 and MIXED.startswith(got)

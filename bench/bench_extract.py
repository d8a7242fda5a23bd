"""Getting memory out of a stream: all of it, a page at a time, and from compressed channels.

Files are written where the big streams are (``VMSTREAM_BENCH``). With a folder
in memory the disk is left out, which is what varies most; ``extract`` ends
with the file on the disk, so the copy it is measured against does too.
"""

from __future__ import annotations

import filecmp
import json
import os
import random
import shutil
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import vmstream
from figures import Figures
from measuring import PAGE, BigStream, Measure, Measured
from vmstream.sources.files import MemorySource
from vmstream.sources.multifd import UnpackedChannel
from vmstream.stream.index import Packet
from vmstream.wire.multifd import MultifdMethod

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Benchmark = Any

ROUNDS = 3
COPY_LIMIT = 1.3
"""Times ``cp --sparse=always`` of the result."""
MEMORY_LIMIT = 200e6
READS = 20000
PACKET_PAGES = 128
PACKETS = 2048


@pytest.fixture
def folder(big_stream: BigStream) -> Iterator[Path]:
    """Where results go: beside the stream, so that a copy has the same way to go."""
    path = big_stream.path.with_suffix(".extracted")
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    yield path
    shutil.rmtree(path)


def test_extract_of_a_big_guest(
    benchmark: Benchmark, figures: Figures, measure: Measure, big_stream: BigStream, folder: Path
) -> None:
    result, copied = folder / "memory.raw", folder / "copy.raw"
    extract = [sys.executable, "-m", "vmstream", "extract", big_stream.path, "--format", "raw"]
    copy = ["sh", "-c", f"cp --sparse=always '{result}' '{copied}' && sync '{copied}'"]
    ours: list[Measured] = []
    theirs: list[Measured] = []

    def both() -> None:
        """One after the other, so that both meet the same machine."""
        result.unlink(missing_ok=True)
        ours.append(measure([*extract, "-o", result]))
        copied.unlink(missing_ok=True)
        theirs.append(measure(copy))

    benchmark.pedantic(both, rounds=ROUNDS, warmup_rounds=1)
    run = min(ours, key=lambda run: run.seconds)
    reference = min(theirs, key=lambda run: run.seconds)
    name = f"extract raw of {big_stream.gib} GiB"
    peak = max(run.peak_bytes for run in ours)
    against = "cp --sparse=always; sync"
    figures.add(name, run.seconds, "s", against, reference.seconds)
    figures.add(name, run.seconds, "s", "limit", COPY_LIMIT * reference.seconds)
    figures.add(f"{name}, CPU", run.cpu_seconds, "s", against, reference.cpu_seconds)
    figures.add(f"{name}, resident", peak / 1e6, "MB", "limit", MEMORY_LIMIT / 1e6)
    benchmark.extra_info.update(seconds=run.seconds, copy_seconds=reference.seconds, peak=peak)
    assert peak < MEMORY_LIMIT


def test_reads_of_a_page_at_random(
    benchmark: Benchmark, figures: Figures, big_stream: BigStream
) -> None:
    chance = random.Random(0)
    offsets = [chance.randrange(big_stream.pages) * PAGE for _ in range(READS)]
    with vmstream.open(big_stream.path) as stream:
        block = stream.memory["pc.ram"]

        def read() -> None:
            for offset in offsets:
                block.read(offset, PAGE)

        benchmark.pedantic(read, rounds=ROUNDS, warmup_rounds=1)
    rate = READS / benchmark.stats.stats.min
    figures.add(f"4 KiB at random of {big_stream.gib} GiB", rate, "reads/s")
    benchmark.extra_info.update(reads_per_second=rate)


def test_multifd_zstd_against_zstd(
    benchmark: Benchmark, figures: Figures, measure: Measure, tmp_path: Path
) -> None:
    """Packets as QEMU sends them: one zstd stream, flushed behind each 128 pages."""
    path = tmp_path / "channel.zst"
    compressor = zstd.ZstdCompressor(level=1)
    ends = [0]
    with path.open("wb") as channel:
        for number in range(PACKETS):
            mode = compressor.FLUSH_BLOCK if number < PACKETS - 1 else compressor.FLUSH_FRAME
            channel.write(compressor.compress(packet_pages(), mode=mode))
            ends.append(channel.tell())
    packets = [
        Packet(1, start, end - start, number * PACKET_PAGES, PACKET_PAGES, MultifdMethod.ZSTD)
        for number, (start, end) in enumerate(pairwise(ends))
    ]
    size = PACKETS * PACKET_PAGES * PAGE
    stored = MemorySource(path.read_bytes())

    def unpack() -> None:
        with UnpackedChannel(stored, packets, PAGE) as unpacked:
            assert sum(len(piece) for piece in unpacked.pieces()) == size

    benchmark.pedantic(unpack, rounds=ROUNDS, warmup_rounds=1)
    command = ["zstd", "-d", "-q", "-f", path, "-o", os.devnull]
    reference = min(measure(command).seconds for _ in range(ROUNDS))
    ours = benchmark.stats.stats.min
    figures.add(f"multifd zstd of {size >> 20} MiB", ours, "s", "zstd -d", reference)
    benchmark.extra_info.update(seconds=ours, zstd_seconds=reference)


def packet_pages() -> bytes:
    """Pages that compress to about a third, as those of a guest do."""
    letters = bytes(b"etaoinshrdlu    "[number % 16] for number in range(256))
    noise = os.urandom(PACKET_PAGES * PAGE * 2 // 3).translate(letters)
    return noise.ljust(PACKET_PAGES * PAGE, b"\0")


def test_analyze_migration_extracts_the_same(
    benchmark: Benchmark, figures: Figures, measure: Measure, big_stream: BigStream, folder: Path
) -> None:
    """QEMU's own script with ``-x``: every RAM block as a file, as ``--format blocks`` writes."""
    peer = os.environ.get("VMSTREAM_ANALYZE_MIGRATION")
    if not peer:
        pytest.skip("VMSTREAM_ANALYZE_MIGRATION names no copy of analyze-migration.py")
    theirs, ours = folder / "theirs", folder / "ours"
    theirs.mkdir()
    script = ["sh", "-c", f"cd '{theirs}' && exec '{sys.executable}' '{peer}' -x -f '{{}}'"]
    script[2] = script[2].format(big_stream.path.resolve())
    command = [sys.executable, "-m", "vmstream", "extract", big_stream.path, "-o", ours]
    run = benchmark.pedantic(measure, ([*command, "--format", "blocks"],), rounds=1)
    reference = measure(script)
    name = f"extract blocks of {big_stream.gib} GiB"
    figures.add(name, run.seconds, "s", "analyze-migration.py -x", reference.seconds)
    for entry in json.loads((ours / "manifest.json").read_text())["blocks"]:
        assert filecmp.cmp(ours / entry["file"], theirs / entry["name"].lstrip("/"), shallow=False)

"""VM state in qcow2 internal snapshots: QEMU's own images, written ones, hostile ones."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from container_writers import State, qcow2_image
from vmstream.errors import LimitExceeded, SourceError, StreamError, Truncated, Unsupported
from vmstream.sources import Limits, Source, open_source

STREAMS = Path(
    os.environ.get("VMSTREAM_STREAMS", Path(__file__).parents[2].parent / "shared/streams")
)
CLUSTER = 4096
RANDOM = random.Random(4)
DATA = [b"QEVM\0\0\0\3" + RANDOM.randbytes(CLUSTER - 8), *(RANDOM.randbytes(CLUSTER),) * 3]
CONTENT = b"".join(DATA)


def content(source: Source, start: int = 0) -> bytes:
    return b"".join(bytes(piece) for piece in source.pieces(start))


def one(*clusters: object, size: int | None = None, **keywords: object) -> bytes:
    state = State("snap", list(clusters), CLUSTER * len(clusters) if size is None else size)
    return qcow2_image(state, **keywords)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", ["savevm-2.3.1", "savevm-5.2", "savevm-7.2", "savevm-10.0.2"])
def test_savevm_of_real_qemus_is_read(case: str) -> None:
    folder = STREAMS / case
    if not folder.is_dir():
        pytest.skip("the recorded streams are not there")
    shown = json.loads((folder / "truth.json").read_text())["info_snapshots"]
    with open_source(folder / "disk.qcow2.zst", snapshot="snap-one") as source:
        assert source.container == ("zstd", "qcow2")
        stream = content(source)
        snapshot = source.details["qcow2"]["snapshot"]
        for offset in range(0, len(stream), 65_521):
            assert source.read_at(offset, 3000) == stream[offset : offset + 3000]
    assert stream.startswith(b"QEVM\0\0\0\3") and stream.rstrip().endswith(b"}")
    assert len(stream) == snapshot["vm_state_size"] == source.size
    assert snapshot["tag"] == "snap-one"
    assert f"{len(stream) / 2**20:.3g} Mi" in shown or f"{len(stream) / 2**20:.2g}M" in shown
    assert snapshot["date"][:19].replace("T", " ") in shown


def test_clusters_of_every_kind_are_one_stream() -> None:
    clusters = [DATA[0], None, DATA[1], "zero", ("deflate", DATA[2]), ("deflate", bytes(CLUSTER))]
    expected = DATA[0] + bytes(CLUSTER) + DATA[1] + bytes(CLUSTER) + DATA[2] + bytes(CLUSTER)
    size = len(expected) - 100
    with open_source(one(*clusters, size=size)) as source:
        assert source.seekable and source.size == size
        assert content(source) == expected[:size]
        for start in range(0, size, 1000):
            assert source.read_at(start, 5000) == expected[start : min(start + 5000, size)]
            assert content(source, start) == expected[start:size]


@pytest.mark.parametrize("cluster_bits", [9, 12, 16])
@pytest.mark.parametrize("version", [2, 3])
def test_state_over_many_l2_tables(cluster_bits: int, version: int) -> None:
    cluster = 1 << cluster_bits
    number = 200 if cluster_bits > 9 else 1000
    stream = b"QEVM" + RANDOM.randbytes(number * cluster - 4)
    clusters: list[object] = [stream[at : at + cluster] for at in range(0, len(stream), cluster)]
    image = qcow2_image(
        State("s", clusters, len(stream)), cluster_bits=cluster_bits, version=version
    )
    with open_source(image) as source:
        assert content(source) == stream


def test_a_snapshot_without_extra_data_counts_from_the_disks_size() -> None:
    state = State("old", list(DATA), len(CONTENT), extra=False)
    with open_source(qcow2_image(state, version=2, size=5 << 20)) as source:
        assert content(source) == CONTENT


def test_snapshots_are_chosen_by_tag_or_id() -> None:
    image = qcow2_image(
        State("before", [DATA[0]], CLUSTER, id="1"),
        State("after", [DATA[1]], CLUSTER, id="2"),
        State("disk", [], 0, id="3"),
    )
    for wanted, expected in (("before", 0), ("after", 1), ("1", 0), ("2", 1)):
        with open_source(image, snapshot=wanted) as source:
            assert content(source) == DATA[expected]
            tags = [snapshot["tag"] for snapshot in source.details["qcow2"]["snapshots"]]
            assert tags == ["before", "after", "disk"]
    with pytest.raises(SourceError, match=r"not clear.*'before' \(id 1\), 'after' \(id 2\)"):
        open_source(image)
    with pytest.raises(SourceError, match=r"no snapshot 'nosuch'.*'before'"):
        open_source(image, snapshot="nosuch")
    with pytest.raises(SourceError, match="of the disk alone"):
        open_source(image, snapshot="disk")


def test_the_only_snapshot_with_vm_state_needs_no_name() -> None:
    image = qcow2_image(State("disk", [], 0), State("vm", [DATA[0]], CLUSTER, id="2"))
    with open_source(image) as source:
        assert source.details["qcow2"]["snapshot"]["tag"] == "vm"
    with pytest.raises(SourceError, match="no snapshot with VM state"):
        open_source(qcow2_image(State("disk", [], 0)))


def test_a_tag_for_what_is_no_image_is_an_error() -> None:
    with pytest.raises(SourceError, match="no qcow2 image"):
        open_source(b"QEVM\0\0\0\3", snapshot="snap")


def test_an_image_in_a_compressed_file_is_read(tmp_path: Path) -> None:
    packed = tmp_path / "disk.qcow2.gz"
    packed.write_bytes(gzip.compress(one(*DATA)))
    for target in (packed, packed.read_bytes()):
        with open_source(target) as source:
            assert source.container == ("gzip", "qcow2")
            assert content(source) == CONTENT


def test_damage_behind_the_state_is_still_told() -> None:
    with open_source(gzip.compress(one(*DATA))[:-4]) as source:
        parts: list[bytes] = []
        with pytest.raises(Truncated, match="gzip"):
            for piece in source.pieces():
                parts.append(bytes(piece))
        assert b"".join(parts) == CONTENT


def test_what_can_not_be_read_is_said() -> None:
    cases: list[tuple[dict[str, int], str]] = [
        ({"crypt": 2}, "encrypted"),
        ({"features": 4}, "another file"),
        ({"features": 1 << 40}, "unknown features"),
        ({"features": 8, "compression": 7}, "compression type 7"),
        ({"version": 4}, "version 4"),
    ]
    for keywords, message in cases:
        with pytest.raises(Unsupported, match=message):
            open_source(one(DATA[0], **keywords))
    with open_source(one(DATA[0], features=3)) as source:
        assert source.details["qcow2"]["corrupt"] is True


def patched(image: bytes, offset: int, layout: str, *values: int) -> bytes:
    data = bytearray(image)
    struct.pack_into(layout, data, offset, *values)
    return bytes(data)


def test_tables_that_can_not_be_are_refused() -> None:
    good = one(*DATA)
    table = CLUSTER
    l1 = struct.unpack_from(">Q", good, table)[0]
    l2 = struct.unpack_from(">Q", good, l1 + 8)[0] & ~(1 << 63)
    state_size = table + 40
    cases: list[tuple[bytes, type[StreamError]]] = [
        (patched(good, 20, ">I", 40), SourceError),
        (patched(good, 60, ">I", 1 << 30), LimitExceeded),
        (patched(good, 64, ">Q", 1 << 50), Truncated),
        (patched(good, table + 36, ">I", 1 << 31), LimitExceeded),
        (patched(good, table + 8, ">I", 1), SourceError),
        (patched(good, table, ">Q", 1 << 60), Truncated),
        (patched(good, state_size, ">Q", 1 << 60), SourceError),
        (patched(good, l1 + 8, ">Q", 1 << 50), Truncated),
        (patched(good, l1 + 8, ">Q", l2 + 512), SourceError),
        (patched(good, l2, ">Q", 1 << 50), Truncated),
        (patched(good, l2, ">Q", CLUSTER + 512), SourceError),
        (patched(good, l2, ">Q", 1 << 62 | len(good) - 100), SourceError),
    ]
    for image, kind in cases:
        with pytest.raises(StreamError) as caught, open_source(image) as source:
            content(source)
        assert type(caught.value) is kind, caught.value


def test_a_small_image_can_not_claim_a_huge_state() -> None:
    clusters = 600
    holes = qcow2_image(State("s", [None] * clusters, clusters * 512), cluster_bits=9)
    l1 = struct.unpack_from(">Q", holes, 512)[0]
    entries = 1 << 20
    size = 8 * 10**9
    huge = patched(holes[:l1] + bytes(entries * 8), 512 + 8, ">I", entries)
    with open_source(patched(huge, 512 + 40, ">Q", size)) as source:
        # 8 GB of holes in 8 MB: no more work than the table is long.
        assert bytes(source.read_at(size - 10, 20)) == bytes(10)
    with pytest.raises(LimitExceeded, match="VM state"):
        open_source(patched(huge, 512 + 40, ">Q", size), limits=Limits(qcow2_expansion=100))
    with pytest.raises(LimitExceeded, match="L1 table"):
        open_source(patched(huge, 512 + 40, ">Q", size), limits=Limits(qcow2_l1=1 << 20))


def test_l2_tables_used_twice_are_refused() -> None:
    image = one(*DATA)
    l1 = struct.unpack_from(">Q", image, CLUSTER)[0]
    l2 = struct.unpack_from(">Q", image, l1 + 8)[0]
    entries = 400
    shared = image[:l1] + struct.pack(f">{entries}Q", *[l2] * entries)
    shared = patched(shared, CLUSTER + 8, ">I", entries)
    with pytest.raises(StreamError, match=r"do not fit|VM state"):
        open_source(patched(shared, CLUSTER + 40, ">Q", 300 * 512 * CLUSTER))


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_image_is_a_stream_error_or_no_matter(data: st.DataObject) -> None:
    image = bytearray(one(DATA[0], None, ("deflate", DATA[1]), "zero"))
    # Data clusters hold no structure: damage goes where it may matter.
    places = [*range(112), *range(CLUSTER, CLUSTER + 80), *range(2 * CLUSTER, len(image))]
    for _ in range(data.draw(st.integers(1, 4))):
        image[data.draw(st.sampled_from(places))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(image)) | st.just(len(image)))
    try:
        with open_source(bytes(image[:cut])) as source:
            content(source)
    except StreamError:
        pass


def qemu(tool: str, *arguments: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    subprocess.run([tool, *arguments], check=True, capture_output=True)


def as_vm_state(path: Path, disk_size: int, state_size: int) -> None:
    """Make a snapshot of a disk one of a smaller disk with VM state behind it.

    The tools store VM state only uncompressed; what they store of a disk can be
    anything, and differs from VM state by nothing but the sizes in this entry.
    """
    with path.open("r+b") as stream:
        table = struct.unpack(">Q", os.pread(stream.fileno(), 8, 64))[0]
        os.pwrite(stream.fileno(), struct.pack(">QQ", state_size, disk_size), table + 40)


@pytest.mark.parametrize(
    "options",
    [
        "compat=0.10",
        "cluster_size=4k",
        "compression_type=zstd",
        "extended_l2=on,cluster_size=16k",
        "extended_l2=on,compression_type=zstd",
        "refcount_bits=64,cluster_size=2M",
    ],
)
def test_clusters_that_qemu_wrote_read_as_qemu_reads_them(tmp_path: Path, options: str) -> None:
    image, raw = tmp_path / "image.qcow2", tmp_path / "image.raw"
    cluster = {"4k": 12, "16k": 14, "2M": 21}.get(options.rpartition("cluster_size=")[2], 16)
    size = 1 << cluster
    coverage = size // (16 if "extended_l2" in options else 8) * size
    if coverage > 1 << 30:
        coverage = 0  # VM state from 0 on: the disk is said to have no bytes
    disk = coverage + 24 * size
    qemu("qemu-img", "create", "-f", "qcow2", "-o", options, str(image), str(disk))
    writes = [
        f"write -P 0x11 {coverage} {size}",
        f"write -c -P 0x22 {coverage + size} {2 * size}",
        f"write -P 0x33 {coverage + 4 * size + size // 4} {size // 8}",
        f"write -P 0x44 {coverage + 5 * size} {4 * size}",
        f"write -c -P 0x55 {coverage + 10 * size} {size}",
        f"discard {coverage + 7 * size} {size}",
        f"write -P 0x66 {coverage + 12 * size} {size}",
    ]
    if options != "compat=0.10":
        writes += [f"write -z {coverage + 5 * size + size // 2} {size // 2}"]
        writes += [f"write -z {coverage + 13 * size} {size}"]
    arguments = [part for write in writes for part in ("-c", write)]
    qemu("qemu-io", *arguments, str(image))
    qemu("qemu-img", "convert", "-O", "raw", str(image), str(raw))
    qemu("qemu-img", "snapshot", "-c", "snap", str(image))
    as_vm_state(image, coverage, disk - coverage)
    expected = raw.read_bytes()[coverage:]
    with open_source(image) as source:
        assert content(source) == expected
        for start in range(0, len(expected), 3 * size // 2 + 7):
            assert source.read_at(start, size) == expected[start : start + size]


def test_vm_state_that_qemu_io_wrote_is_found(tmp_path: Path) -> None:
    """qemu-io's -b writes where savevm does: the place behind the disk is QEMU's own."""
    for size, cluster in (("64M", "64k"), ("5M", "4k"), ("1G", "512")):
        image = tmp_path / f"{cluster}.qcow2"
        qemu("qemu-img", "create", "-f", "qcow2", "-o", f"cluster_size={cluster}", str(image), size)
        qemu("qemu-io", "-c", "write -b -P 0x77 0 100k", str(image))
        qemu("qemu-img", "snapshot", "-c", "snap", str(image))
        disk = int(size[:-1]) << {"M": 20, "G": 30}[size[-1]]
        as_vm_state(image, disk, 100 << 10)
        with open_source(image) as source:
            assert content(source) == b"\x77" * (100 << 10)

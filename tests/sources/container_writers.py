"""Writers of the containers that streams are stored in, for tests."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from vmstream.sources.libvirt import MAGIC as LIBVIRT_MAGIC

STREAM = b"QEVM\0\0\0\3" + b"stream content " * 20_000
"""Begins like a stream and is longer than any chunk that is read at a time."""


def libvirt_image(
    stream: bytes,
    *,
    magic: bytes = LIBVIRT_MAGIC,
    order: str = "<",
    version: int = 2,
    stored: int = 0,
    xml: bytes = b"<domain/>",
    cookie: bytes | None = None,
    padding: int = 100,
    running: int = 1,
) -> bytes:
    """A save image as virQEMUSaveDataWrite lays it out."""
    area = xml + b"\0"
    cookie_offset = 0
    if cookie is not None:
        cookie_offset = len(area)
        area += cookie + b"\0"
    area += bytes(padding)
    words = (version, len(area), running, stored, cookie_offset)
    return magic + struct.pack(f"{order}19I", *words, *[0] * 14) + area + stream


@dataclass(frozen=True)
class State:
    """A snapshot to write: its VM state cluster by cluster.

    A cluster is bytes (stored), ``None`` (unallocated), ``"zero"`` (the flag),
    or ``("deflate", bytes)`` (compressed).
    """

    tag: str
    clusters: list[object]
    size: int
    id: str = "1"
    extra: bool = True
    disk_size: int = 1 << 16


def qcow2_image(
    *states: State,
    cluster_bits: int = 12,
    version: int = 3,
    features: int = 0,
    compression: int = 0,
    crypt: int = 0,
    size: int = 1 << 16,
) -> bytes:
    """An image with just the structures that reading a snapshot's VM state needs."""
    cluster_size = 1 << cluster_bits
    body = bytearray(2 * cluster_size)  # the header and the snapshot table
    table = b"".join(_entry(body, state, cluster_bits, size) for state in states)
    assert len(table) <= cluster_size
    header = struct.pack(
        ">4sIQIIQIIQQIIQ",
        *(b"QFI\xfb", version, 0, 0, cluster_bits, size, crypt),
        *(0, 0, 0, 0, len(states), cluster_size),
    )
    if version >= 3:
        header += struct.pack(">QQQIIB7x", features, 0, 0, 4, 112, compression)
    body[: len(header)] = header
    body[cluster_size : cluster_size + len(table)] = table
    return bytes(body)


def _entry(body: bytearray, state: State, cluster_bits: int, size: int) -> bytes:
    cluster_size = 1 << cluster_bits
    per_table = cluster_size // 8
    coverage = per_table * cluster_size
    first = -(-(state.disk_size if state.extra else size) // coverage)
    l1 = [0] * first
    for start in range(0, len(state.clusters), per_table):
        part = state.clusters[start : start + per_table]
        entries = [_cluster(body, cluster, cluster_bits) for cluster in part]
        if not any(entries):
            l1.append(0)
            continue
        l2 = struct.pack(f">{per_table}Q", *entries, *[0] * (per_table - len(entries)))
        l1.append(_append(body, l2, cluster_size) | 1 << 63)
    l1_offset = _append(body, struct.pack(f">{len(l1)}Q", *l1), cluster_size)
    extra = struct.pack(">QQq", state.size, state.disk_size, -1) if state.extra else b""
    identity, tag = state.id.encode(), state.tag.encode()
    entry = struct.pack(
        ">QIHHIIQII",
        *(l1_offset, len(l1), len(identity), len(tag)),
        *(1_600_000_000, 5_000_000, 77, min(state.size, 0xFFFFFFFF), len(extra)),
    )
    entry += extra + identity + tag
    return entry + bytes(-len(entry) % 8)


def _cluster(body: bytearray, cluster: object, cluster_bits: int) -> int:
    cluster_size = 1 << cluster_bits
    if cluster is None:
        return 0
    if cluster == "zero":
        return 1
    if isinstance(cluster, tuple):
        packer = zlib.compressobj(wbits=-15)
        data = packer.compress(cluster[1]) + packer.flush()
        # Not aligned, so that the place inside a sector matters.
        place = _append(body, b"\xff" * 37 + data, cluster_size) + 37
        shift = 62 - (cluster_bits - 8)
        sectors = (place % 512 + len(data) - 1) // 512
        return 1 << 62 | sectors << shift | place
    assert isinstance(cluster, bytes)
    return _append(body, cluster, cluster_size) | 1 << 63


def _append(body: bytearray, data: bytes, cluster_size: int) -> int:
    offset = len(body)
    body += data + bytes(-len(data) % cluster_size)
    return offset

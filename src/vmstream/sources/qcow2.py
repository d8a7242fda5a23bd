"""VM state in a qcow2 image: what ``savevm`` and ``snapshot-save`` write.

An internal snapshot has an L1 table of its own. The VM state is stored through
it like guest data, at guest offsets behind the disk's end: from the first L1
entry on that describes no part of the disk. Layout from the published format,
docs/interop/qcow2.rst of QEMU; all numbers are big-endian.
"""

from __future__ import annotations

import contextlib
import struct
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum, IntFlag

import msgspec
from msgspec.structs import asdict

from vmstream.errors import LimitExceeded, SourceError, StreamError, Truncated, Unsupported
from vmstream.sources.source import MIB, Limits, Source

__all__ = ["MAGIC", "Header", "Snapshot", "SnapshotState", "open_snapshot"]

MAGIC = b"QFI\xfb"
CLUSTER_BITS = range(9, 22)
"""512 bytes to QEMU's largest, 2 MiB."""
EXTENDED_CLUSTER_BITS = 14
"""The smallest clusters that extended L2 entries are allowed for."""
OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00
"""Bits 9 to 55 of an L1 or L2 entry: the place in the image."""
COMPRESSED = 1 << 62
ALL_ZERO = 1
"""Bit 0 of a standard descriptor: the cluster reads as zeros (version 3)."""
SUBCLUSTERS = 32
ZSTD = 1
"""The compression type that is not deflate."""
PIECE = MIB
"""Bytes of VM state given at a time."""
TABLES_KEPT = 4
"""L2 tables held at once; one is enough for a walk."""
ZEROS = bytes(PIECE)
ENTRY_SIZE = 40
EXTRA_LIMIT = 1024
"""Bytes of extra data in a snapshot's entry; QEMU's own limit."""


class Incompatible(IntFlag):
    """Features that a reader must know (the incompatible_features word)."""

    DIRTY = 1
    CORRUPT = 2
    EXTERNAL_DATA_FILE = 4
    COMPRESSION_TYPE = 8
    EXTENDED_L2 = 16


class Header(msgspec.Struct, frozen=True):
    """What reading a snapshot needs of the image's header."""

    version: int
    cluster_bits: int
    size: int
    crypt_method: int
    snapshot_count: int
    snapshots_offset: int
    features: Incompatible
    compression_type: int

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits

    @property
    def entry_words(self) -> int:
        """64-bit words of an L2 entry: an extended one has a bitmap beside the place."""
        return 2 if self.features & Incompatible.EXTENDED_L2 else 1

    @property
    def coverage(self) -> int:
        """Guest bytes that one L2 table, and so one L1 entry, describes."""
        return self.cluster_size // (8 * self.entry_words) * self.cluster_size


class Snapshot(msgspec.Struct, frozen=True):
    """An entry of the snapshot table."""

    id: str
    tag: str
    vm_state_size: int
    """Bytes; 0 for a snapshot of the disk alone."""
    disk_size: int
    """Virtual size of the disk in bytes when the snapshot was taken."""
    date: str
    """ISO 8601, UTC."""
    vm_clock_ns: int
    icount: int | None
    l1_offset: int
    l1_entries: int


class Kind(Enum):
    """What a stretch of the VM state is made of."""

    DATA = "data"
    ZERO = "zero"
    COMPRESSED = "compressed"


class Extent(msgspec.Struct, frozen=True):
    """A stretch of one kind: where it is in the VM state and in the image."""

    kind: Kind
    start: int
    length: int
    place: int = 0
    """Image offset of the first byte; of the compressed data for a compressed cluster."""
    stored: int = 0
    """Most bytes that the compressed data takes."""


def is_qcow2(head: bytes) -> bool:
    return head.startswith(MAGIC)


def open_snapshot(outer: Source, wanted: str | None, limits: Limits) -> SnapshotState:
    """The VM state of the snapshot with this tag or id; the only one if None.

    Takes over ``outer``. An image that can not be read at random (a pipe, a
    compressed file) is first copied to an unnamed temporary file.

    Raises:
        SourceError: the tables are damaged, or there is no such snapshot.
        Truncated: the image ends before its tables do.
        Unsupported: encryption, an external data file, an unknown feature.
        LimitExceeded: a table or a VM state larger than the image can justify.
    """
    if not outer.seekable:
        outer.keep()
        _read_all(outer)
    header = _read_header(outer)
    snapshots = list(_read_snapshots(outer, header, limits))
    return SnapshotState(outer, header, snapshots, _choose(snapshots, wanted, outer.name), limits)


class SnapshotState(Source):
    """The VM state of one snapshot."""

    seekable = True

    def __init__(
        self,
        outer: Source,
        header: Header,
        snapshots: list[Snapshot],
        chosen: Snapshot,
        limits: Limits,
    ) -> None:
        self.name = outer.name
        self.container = (*outer.container, "qcow2")
        self.size: int = chosen.vm_state_size
        self.damage = outer.damage
        self.details = {
            **outer.details,
            "qcow2": {
                "version": header.version,
                "cluster_size": header.cluster_size,
                "snapshot": asdict(chosen),
                "snapshots": [asdict(snapshot) for snapshot in snapshots],
                "corrupt": bool(header.features & Incompatible.CORRUPT),
            },
        }
        self._outer = outer
        self._header = header
        self._begin = -(-chosen.disk_size // header.coverage) * header.coverage
        self._l1 = self._read_l1(chosen, limits)
        self._l2_tables: OrderedDict[int, tuple[int, ...]] = OrderedDict()
        self._check_size(limits)

    def pieces(self, start: int = 0) -> Iterator[memoryview]:
        for extent in self._merged(start, self.size):
            if extent.kind is Kind.COMPRESSED:
                yield memoryview(self._content(extent))
                continue
            for done in range(0, extent.length, PIECE):
                part = _cut(extent, extent.start + done, extent.start + done + PIECE)
                yield memoryview(self._content(part))
        if self.damage is not None:
            raise self.damage

    def read_at(self, offset: int, length: int) -> bytes:
        end = min(offset + length, self.size)
        return b"".join(self._content(extent) for extent in self._merged(offset, end))

    def close(self) -> None:
        self._outer.close()

    def _read_l1(self, chosen: Snapshot, limits: Limits) -> tuple[int, ...]:
        """The L1 entries that describe the VM state, and only those."""
        coverage = self._header.coverage
        first = self._begin // coverage
        count = -(-chosen.vm_state_size // coverage)
        if first + count > chosen.l1_entries:
            raise SourceError(
                "the snapshot's L1 table is too short for its VM state",
                offset=chosen.l1_offset,
                file=self.name,
                expected=first + count,
                found=chosen.l1_entries,
            )
        if chosen.l1_entries * 8 > limits.qcow2_l1:
            raise LimitExceeded(
                f"an L1 table of {chosen.l1_entries * 8} bytes, above {limits.qcow2_l1}",
                offset=chosen.l1_offset,
                file=self.name,
                expected=limits.qcow2_l1,
                found=chosen.l1_entries * 8,
            )
        table = _exactly(self._outer, chosen.l1_offset + first * 8, count * 8, "the L1 table")
        return struct.unpack(f">{count}Q", table)

    def _check_size(self, limits: Limits) -> None:
        most = (self._outer.size or 0) * limits.qcow2_expansion
        if self.size > most:
            raise LimitExceeded(
                f"a VM state of {self.size} bytes in an image of {self._outer.size}",
                file=self.name,
                expected=most,
                found=self.size,
            )
        tables = sum(1 for entry in self._l1 if entry & OFFSET_MASK)
        if tables * self._header.cluster_size > (self._outer.size or 0):
            # Tables used twice would let a small image describe any number of clusters.
            raise SourceError(
                f"the snapshot's {tables} L2 tables do not fit in the image",
                file=self.name,
                expected=self._outer.size,
                found=tables * self._header.cluster_size,
            )

    def _merged(self, start: int, end: int) -> Iterator[Extent]:
        """What makes up ``start`` to ``end``; neighbours that continue each other are one."""
        last: Extent | None = None
        for extent in self._extents(start, end):
            if last is not None and _continues(last, extent):
                last = Extent(last.kind, last.start, last.length + extent.length, last.place)
                continue
            if last is not None:
                yield last
            last = extent
        if last is not None:
            yield last

    def _extents(self, start: int, end: int) -> Iterator[Extent]:
        coverage = self._header.coverage
        for number in range(start // coverage, -(-end // coverage)):
            first = max(start, number * coverage)
            last = min(end, (number + 1) * coverage)
            offset = self._l1[number] & OFFSET_MASK
            if offset:
                yield from self._described(self._l2(offset), first, last)
            else:
                yield Extent(Kind.ZERO, first, last - first)

    def _described(self, table: tuple[int, ...], start: int, end: int) -> Iterator[Extent]:
        """What one L2 table says about ``start`` to ``end``."""
        bits = self._header.cluster_bits
        for cluster in range(start >> bits, -(-end >> bits)):
            for extent in self._cluster(table, cluster << bits):
                if extent.start < end and extent.start + extent.length > start:
                    yield _cut(extent, max(start, extent.start), end)

    def _cluster(self, table: tuple[int, ...], start: int) -> Iterator[Extent]:
        """What the cluster at ``start`` of the VM state is made of."""
        header = self._header
        index = start % header.coverage >> header.cluster_bits
        entry = table[index * header.entry_words]
        place = entry & OFFSET_MASK
        if entry & COMPRESSED:
            yield self._compressed(start, entry)
        elif header.entry_words == 2:
            yield from self._subclusters(start, place, table[index * 2 + 1])
        elif not place or (header.version >= 3 and entry & ALL_ZERO):
            yield Extent(Kind.ZERO, start, header.cluster_size)
        else:
            self._check_aligned(place, "cluster")
            yield Extent(Kind.DATA, start, header.cluster_size, place)

    def _subclusters(self, start: int, place: int, bitmap: int) -> Iterator[Extent]:
        size = self._header.cluster_size // SUBCLUSTERS
        self._check_aligned(place, "cluster")
        for number in range(SUBCLUSTERS):
            allocated = bitmap >> number & 1 and not bitmap >> (SUBCLUSTERS + number) & 1
            kind = Kind.DATA if allocated and place else Kind.ZERO
            yield Extent(kind, start + number * size, size, place + number * size)

    def _compressed(self, start: int, entry: int) -> Extent:
        shift = 62 - (self._header.cluster_bits - 8)
        place = entry & ((1 << shift) - 1)
        sectors = (entry >> shift & ((1 << (62 - shift)) - 1)) + 1
        stored = sectors * 512 - place % 512
        return Extent(Kind.COMPRESSED, start, self._header.cluster_size, place, stored)

    def _l2(self, offset: int) -> tuple[int, ...]:
        if offset in self._l2_tables:
            self._l2_tables.move_to_end(offset)
            return self._l2_tables[offset]
        self._check_aligned(offset, "L2 table")
        size = self._header.cluster_size
        table = struct.unpack(f">{size // 8}Q", _exactly(self._outer, offset, size, "an L2 table"))
        self._l2_tables[offset] = table
        if len(self._l2_tables) > TABLES_KEPT:
            self._l2_tables.popitem(last=False)
        return table

    def _check_aligned(self, offset: int, what: str) -> None:
        if offset % self._header.cluster_size:
            raise SourceError(
                f"a qcow2 {what} is said to be at {offset:#x}, which is inside a cluster",
                offset=offset,
                file=self.name,
            )

    def _content(self, extent: Extent) -> bytes:
        if extent.kind is Kind.ZERO:
            return ZEROS[: extent.length] if extent.length <= PIECE else bytes(extent.length)
        if extent.kind is Kind.DATA:
            return _exactly(self._outer, extent.place, extent.length, "a cluster")
        whole = self._decompressed(extent.place, extent.stored)
        skipped = extent.start % self._header.cluster_size
        return whole[skipped : skipped + extent.length]

    def _decompressed(self, place: int, stored: int) -> bytes:
        """A compressed cluster; its last sector may be the image's unfinished end."""
        data = bytes(self._outer.read_at(place, stored))
        size = self._header.cluster_size
        try:
            if self._header.compression_type == ZSTD:
                content = _zstd(data, size)
            else:
                content = _deflate(data, size)
        except _Damaged as error:
            raise SourceError(
                f"a compressed cluster is damaged: {error}", offset=place, file=self.name
            ) from error
        if len(content) == size:
            return content
        raise SourceError(
            f"a compressed cluster holds {len(content)} bytes instead of {size}",
            offset=place,
            file=self.name,
            expected=size,
            found=len(content),
        )


class _Damaged(Exception):
    """What a decompressor said."""


def _deflate(data: bytes, size: int) -> bytes:
    import zlib

    try:
        return zlib.decompressobj(wbits=-zlib.MAX_WBITS).decompress(data, size)
    except zlib.error as error:
        raise _Damaged(str(error)) from error


def _zstd(data: bytes, size: int) -> bytes:
    import sys

    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    try:
        return zstd.ZstdDecompressor().decompress(data, size)
    except zstd.ZstdError as error:
        raise _Damaged(str(error)) from error


def _continues(first: Extent, second: Extent) -> bool:
    if first.kind is not second.kind or first.kind is Kind.COMPRESSED:
        return False
    return first.kind is Kind.ZERO or first.place + first.length == second.place


def _cut(extent: Extent, start: int, end: int) -> Extent:
    """The part of an extent from ``start`` (inside it) to ``end`` or its own end."""
    end = min(end, extent.start + extent.length)
    # A compressed cluster stays where it is: it is read from its beginning.
    place = extent.place + (start - extent.start if extent.kind is Kind.DATA else 0)
    return Extent(extent.kind, start, end - start, place, extent.stored)


def _read_all(outer: Source) -> None:
    """Fill the copy; what cuts it short becomes ``outer.damage`` and is told after the state."""
    with contextlib.suppress(StreamError):
        for _ in outer.pieces():
            pass


def _exactly(outer: Source, offset: int, length: int, what: str) -> bytes:
    size = outer.size or 0
    data = b"" if offset >= size else outer.read_at(offset, length)
    if len(data) < length:
        raise Truncated(
            f"the qcow2 image of {size} bytes ends before {what} at {offset:#x} does",
            offset=offset,
            file=outer.name,
            expected=offset + length,
            found=size,
        )
    return bytes(data)


def _read_header(outer: Source) -> Header:
    raw = _exactly(outer, 0, 72, "its header")
    version, cluster_bits, size, crypt = struct.unpack_from(">4xI12xIQI", raw)
    count, offset = struct.unpack_from(">IQ", raw, 60)
    features, compression_type = Incompatible(0), 0
    if version >= 3:
        more = _exactly(outer, 72, 32, "its header")
        features = Incompatible(struct.unpack_from(">Q", more)[0])
        length = struct.unpack_from(">I", more, 28)[0]
        if length > 104:
            compression_type = _exactly(outer, 104, 1, "its header")[0]
    header = Header(version, cluster_bits, size, crypt, count, offset, features, compression_type)
    _check_header(header, outer.name)
    return header


def _check_header(header: Header, name: str) -> None:
    def unsupported(why: str, offset: int) -> Unsupported:
        return Unsupported(f"this qcow2 image can not be read: {why}", offset=offset, file=name)

    if header.version not in (2, 3):
        raise unsupported(f"version {header.version} is not known", 4)
    if header.cluster_bits not in CLUSTER_BITS:
        raise SourceError(
            f"a qcow2 cluster of 2**{header.cluster_bits} bytes",
            offset=20,
            file=name,
            expected=f"{CLUSTER_BITS.start} to {CLUSTER_BITS.stop - 1}",
            found=header.cluster_bits,
        )
    if header.crypt_method:
        raise unsupported("it is encrypted", 32)
    unknown = header.features & ~sum(Incompatible)
    if unknown:
        raise unsupported(f"it uses unknown features ({int(unknown):#x})", 72)
    if header.features & Incompatible.EXTERNAL_DATA_FILE:
        raise unsupported("its data is in another file", 72)
    if header.compression_type not in (0, ZSTD):
        raise unsupported(f"compression type {header.compression_type} is not known", 104)
    if header.entry_words == 2 and header.cluster_bits < EXTENDED_CLUSTER_BITS:
        raise SourceError("extended L2 entries need clusters of 16 KiB", offset=20, file=name)


def _read_snapshots(outer: Source, header: Header, limits: Limits) -> Iterator[Snapshot]:
    if header.snapshot_count > limits.qcow2_snapshots:
        raise LimitExceeded(
            f"{header.snapshot_count} snapshots, above {limits.qcow2_snapshots}",
            offset=60,
            file=outer.name,
            expected=limits.qcow2_snapshots,
            found=header.snapshot_count,
        )
    offset = header.snapshots_offset
    for _ in range(header.snapshot_count):
        entry = _exactly(outer, offset, ENTRY_SIZE, "the snapshot table")
        id_length, tag_length = struct.unpack_from(">HH", entry, 12)
        extra_length = struct.unpack_from(">I", entry, 36)[0]
        if extra_length > EXTRA_LIMIT:
            raise LimitExceeded(
                f"{extra_length} bytes of extra data in a snapshot, above {EXTRA_LIMIT}",
                offset=offset + 36,
                file=outer.name,
                expected=EXTRA_LIMIT,
                found=extra_length,
            )
        length = extra_length + id_length + tag_length
        rest = _exactly(outer, offset + ENTRY_SIZE, length, "the snapshot table")
        yield _parse_snapshot(entry, rest, header)
        offset += -(-(ENTRY_SIZE + length) // 8) * 8


def _parse_snapshot(entry: bytes, rest: bytes, header: Header) -> Snapshot:
    (
        l1_offset,
        l1_entries,
        id_length,
        tag_length,
        seconds,
        nanoseconds,
        clock,
        size,
        extra_length,
    ) = struct.unpack(">QIHHIIQII", entry)
    extra, strings = rest[:extra_length], rest[extra_length:]
    disk_size, icount = header.size, None
    if len(extra) >= 8:
        size = struct.unpack_from(">Q", extra)[0]
    if len(extra) >= 16:
        disk_size = struct.unpack_from(">Q", extra, 8)[0]
    if len(extra) >= 24:
        icount = struct.unpack_from(">q", extra, 16)[0]
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1000 % 10**6)
    return Snapshot(
        id=strings[:id_length].decode(errors="replace"),
        tag=strings[id_length : id_length + tag_length].decode(errors="replace"),
        vm_state_size=size,
        disk_size=disk_size,
        date=moment.isoformat(),
        vm_clock_ns=clock,
        icount=None if icount == -1 else icount,
        l1_offset=l1_offset,
        l1_entries=l1_entries,
    )


def _choose(snapshots: list[Snapshot], wanted: str | None, name: str) -> Snapshot:
    """The snapshot meant: by tag, else by id; without either the only one with VM state."""
    stateful = [snapshot for snapshot in snapshots if snapshot.vm_state_size]
    if not stateful:
        raise SourceError("this qcow2 image has no snapshot with VM state", file=name)
    if wanted is None:
        found = stateful
    else:
        found = [snapshot for snapshot in snapshots if snapshot.tag == wanted]
        found = found or [snapshot for snapshot in snapshots if snapshot.id == wanted]
    choices = ", ".join(f"{one.tag!r} (id {one.id})" for one in stateful)
    if not found:
        raise SourceError(f"no snapshot {wanted!r} in this image; it has {choices}", file=name)
    if len(found) > 1:
        raise SourceError(f"which snapshot is not clear; the image has {choices}", file=name)
    if not found[0].vm_state_size:
        raise SourceError(
            f"snapshot {wanted!r} is of the disk alone; with VM state there is {choices}", file=name
        )
    return found[0]

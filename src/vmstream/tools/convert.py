"""``convert``: a stream in another form, the guest in it the same."""

from __future__ import annotations

import tempfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import msgspec

from vmstream.errors import StreamError, Unsupported
from vmstream.sources.compressed import Compressor, zstd_compressor
from vmstream.sources.libvirt import Format as SaveFormat
from vmstream.sources.libvirt import image_head
from vmstream.stream.multifd_writer import MultifdWriter
from vmstream.stream.ram_writer import MappedRamWriter, Piece, RamWriter, Stored
from vmstream.stream.rewriting import (
    block_list,
    check_convertible,
    configuration,
    dropped,
    machine_version,
    rewritten,
)
from vmstream.stream.stream import Section, Stream
from vmstream.tools.inspect import inspect, run_state
from vmstream.tools.open import open_stream
from vmstream.tools.output import Buffer, SparseFile, atomic_directory, atomic_file
from vmstream.tools.reports import FaultReport, faults_of, file_of
from vmstream.wire.multifd import MultifdMethod
from vmstream.wire.sections import Element

__all__ = [
    "CHECKED_SIZE",
    "BlockContent",
    "Compression",
    "Container",
    "ConvertReport",
    "Form",
    "Options",
    "WrittenFile",
    "convert",
    "ram_writer",
]

CHECKED_SIZE = 256 << 20
"""Bytes of guest memory up to which a conversion is checked unless told otherwise."""
MAX_CHANNELS = 255
_GZIP = 31
"""Window bits that ask zlib for gzip's format."""
_CHUNK = 1 << 20
_AHEAD = 3
"""Pieces, of a few MiB at most, that wait to be written while the next one is made."""

Advance = Callable[[int, int | None], None]


class Form(StrEnum):
    """How guest memory stands in the new stream."""

    PLAIN = "plain"
    """Page records between everything else."""
    MAPPED_RAM = "mapped-ram"
    """Each page at its fixed place of a sparse file (9.0+)."""
    MULTIFD = "multifd"
    """A directory: ``stream.mig`` and ``channel-N.mig`` (4.0+)."""


class Compression(StrEnum):
    """Of multifd's packets, or of the stream in a libvirt image."""

    NONE = "none"
    ZLIB = "zlib"
    ZSTD = "zstd"


class Container(StrEnum):
    """What stands around the stream."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    LIBVIRT = "libvirt"


class Options(msgspec.Struct, frozen=True):
    """What is to be written."""

    form: Form = Form.PLAIN
    channels: int = 2
    compression: Compression = Compression.NONE
    container: Container = Container.NONE
    xml: str | None = None
    """The domain's, for a libvirt image; without it that of the image read."""
    uuid: bytes | None = None
    """The guest's, for multifd channels; without it what the stream tells."""
    version: tuple[int, int] | None = None
    """Of QEMU, for multifd with machine types that have none in their name."""


class WrittenFile(msgspec.Struct, frozen=True):
    """One file of the output; sizes in bytes."""

    path: str
    size: int
    allocated: int
    """On the disk: holes take no room."""


class BlockContent(msgspec.Struct, frozen=True):
    """One RAM block, by what was read and what was written."""

    name: str
    size: int
    sha256: str | None
    """Of both; None where the content is not in the stream."""


class ConvertReport(msgspec.Struct, frozen=True):
    """What was written."""

    file: str
    out: str
    form: str
    compression: str
    container: str
    memory: int
    """Bytes of guest memory."""
    files: tuple[WrittenFile, ...]
    checked: bool
    """What was written was decoded and is the same: blocks, sections, device state."""
    blocks: tuple[BlockContent, ...]
    """Empty when not checked."""
    dropped: tuple[str, ...]
    """Commands that only the connection of the stream read had a use for."""
    notes: tuple[str, ...]
    faults: tuple[FaultReport, ...]

    @property
    def sound(self) -> bool:
        """Nothing was wrong with what was read."""
        return not self.faults


def convert(
    stream: Stream,
    out: str | Path,
    options: Options,
    *,
    check: bool | None = None,
    advance: Advance | None = None,
) -> ConvertReport:
    """Write the guest in a stream anew; the output appears only when it is whole.

    Args:
        out: a file, or for multifd a directory that does not exist or is empty.
        check: decode what was written and compare all of it; by default where
            guest memory is at most :data:`CHECKED_SIZE`.
        advance: called with bytes of guest memory written and in all.

    Raises:
        StreamError: the stream is not whole, can not be read, or can not be put in
            that form; or what was written is not the same.
        OSError: the output can not be written.
        ValueError: options that contradict each other.
    """
    _check_options(options)
    check_convertible(stream)
    total = sum(block.size for block in stream.memory)
    checking = total <= CHECKED_SIZE if check is None else check
    notes = _notes(stream)
    with _written(stream, Path(out), options, total, advance) as written:
        blocks = _compare(stream, written.names) if checking else ()
        files = written.files(Path(out))
    return ConvertReport(
        file_of(stream), str(out), str(options.form), str(options.compression),
        str(options.container), total, files, checking, blocks,
        tuple(command.name for command in dropped(stream)), notes, faults_of(stream),
    )  # fmt: skip


def _check_options(options: Options) -> None:
    multifd = options.form == Form.MULTIFD
    libvirt = options.container == Container.LIBVIRT
    if not 1 <= options.channels <= MAX_CHANNELS:
        raise ValueError(f"multifd has 1 to {MAX_CHANNELS} channels")
    if multifd and libvirt:
        raise ValueError("a libvirt image holds one file, and multifd is several")
    if options.compression != Compression.NONE and not multifd and not libvirt:
        raise ValueError("compression is multifd's or a libvirt image's; see container for others")
    if libvirt and options.form == Form.MAPPED_RAM and options.compression != Compression.NONE:
        raise ValueError("libvirt stores mapped-ram as it is, never compressed")
    if options.xml is not None and not libvirt:
        raise ValueError("the domain XML is for a libvirt image")


def _notes(stream: Stream) -> tuple[str, ...]:
    """What is odd about the stream read.

    Raises:
        Unsupported: content is missing that no capability explains.
    """
    report = inspect(stream)
    virtio_mem = any("virtio-mem" in section.name for section in stream.states)
    for block in report.ram.blocks:
        if block.missing and not virtio_mem and not stream.memory[block.name].elsewhere:
            raise Unsupported(
                f"{block.missing} pages of {block.name!r} are in no record: files of other "
                "channels are missing",
                section="ram",
            )
    return report.warnings


# Writing


class _Sink(Protocol):
    """Where the pieces of one channel go."""

    def put(self, piece: Piece) -> None: ...

    def finish(self) -> None: ...


def _buffers(piece: Piece) -> list[Buffer]:
    assert not isinstance(piece.behind, Stored), "memory is written anew in every form"
    return [*piece.buffers, *(piece.behind.buffers() if piece.behind is not None else ())]


class _FileSink:
    """A file as it is, behind ``base`` bytes that stand there already."""

    def __init__(self, file: SparseFile, base: int = 0) -> None:
        self._file = file
        self._base = base
        self._position = base

    def put(self, piece: Piece) -> None:
        if piece.at is not None:
            self._position = self._base + piece.at
        self._position = self._file.write_all_at(self._position, _buffers(piece))

    def finish(self) -> None:
        self._file.finish()


class _PackingSink:
    """A file with the stream compressed in it."""

    def __init__(self, file: SparseFile, packer: Compressor) -> None:
        self._file = file
        self._packer = packer

    def put(self, piece: Piece) -> None:
        self.put_all(_buffers(piece))

    def put_all(self, buffers: Iterable[Buffer]) -> None:
        for buffer in buffers:
            packed = self._packer.compress(buffer)
            if packed:
                self._file.write(packed)

    def finish(self) -> None:
        self._file.write(self._packer.flush())
        self._file.finish()


class _MappedPackingSink:
    """The same for pieces in any order, put in theirs in an unnamed temporary file first."""

    def __init__(self, file: SparseFile, packer: Compressor, folder: Path) -> None:
        self._packing = _PackingSink(file, packer)
        self._temporary = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed in finish
        self._whole = SparseFile(self._temporary.fileno())
        self._sink = _FileSink(self._whole)

    def put(self, piece: Piece) -> None:
        self._sink.put(piece)

    def finish(self) -> None:
        with self._temporary:
            self._whole.finish()
            self._packing.put_all(self._whole.pieces())
        self._packing.finish()


class _Output(msgspec.Struct):
    """Files that are written and do not stand in their places yet."""

    files_by_name: dict[str, SparseFile]
    """By their names under the output; the empty name is the output itself."""

    @property
    def names(self) -> list[str]:
        """How to open them, the main channel first."""
        return [file.path for file in self.files_by_name.values()]

    def files(self, out: Path) -> tuple[WrittenFile, ...]:
        """What to say of them."""
        return tuple(
            WrittenFile(str(out / name), file.size, file.allocated)
            for name, file in self.files_by_name.items()
        )


@contextmanager
def _written(
    stream: Stream, out: Path, options: Options, total: int, advance: Advance | None
) -> Iterator[_Output]:
    """The output, written; it takes its place when the block ends well."""
    with ExitStack() as stack:
        output = _Output({})
        if options.form == Form.MULTIFD:
            folder = stack.enter_context(atomic_directory(out))
            for name in _names(options):
                output.files_by_name[name] = stack.enter_context(atomic_file(folder / name))
        else:
            output.files_by_name[""] = stack.enter_context(atomic_file(out))
        head = _libvirt_head(stream, options)
        if head:
            output.files_by_name[""].write(head)
        sinks = [
            _sink(file, options, len(head), out.parent) for file in output.files_by_name.values()
        ]
        _pour(stream, ram_writer(stream, options, len(head)), sinks, options, total, advance)
        yield output


def _names(options: Options) -> list[str]:
    suffix = {Container.GZIP: ".gz", Container.ZSTD: ".zst"}.get(options.container, "")
    channels = [f"channel-{number}.mig" for number in range(1, options.channels + 1)]
    return [name + suffix for name in ("stream.mig", *channels)]


def _sink(file: SparseFile, options: Options, base: int, folder: Path) -> _Sink:
    packer = _packer(options)
    if packer is None:
        return _FileSink(file, base)
    if options.form == Form.MAPPED_RAM:
        return _MappedPackingSink(file, packer, folder)
    return _PackingSink(file, packer)


def _packer(options: Options) -> Compressor | None:
    """What compresses the whole stream, if anything does."""
    inside = options.container == Container.LIBVIRT
    if options.container == Container.GZIP or (inside and options.compression == Compression.ZLIB):
        return zlib.compressobj(wbits=_GZIP)
    if options.container == Container.ZSTD or (inside and options.compression == Compression.ZSTD):
        return zstd_compressor()
    return None


def _pour(
    stream: Stream,
    ram: RamWriter,
    sinks: Sequence[_Sink],
    options: Options,
    total: int,
    advance: Advance | None,
) -> None:
    head = configuration(stream, mapped=options.form == Form.MAPPED_RAM)
    pending: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1) as writer:  # reading and writing both wait without the GIL
        for piece in rewritten(stream, ram, head):
            pending.append(writer.submit(sinks[piece.channel].put, piece))
            if len(pending) > _AHEAD:
                pending.popleft().result()
            if advance is not None:
                advance(ram.done, total)
        for last in pending:
            last.result()
    for sink in sinks:
        sink.finish()


def ram_writer(stream: Stream, options: Options, origin: int) -> RamWriter:
    """What writes a stream's memory in a form.

    Args:
        origin: position in the output's file of the stream's first byte.

    Raises:
        Unsupported: the guest has no such form.
    """
    blocks = block_list(stream)
    flat = any(s.name == "ram" and s.version == 3 for s in stream.sections)
    if options.form == Form.PLAIN:
        return RamWriter(stream.memory, blocks, flat=flat)
    if flat:
        raise Unsupported(
            f"RAM version 3 (QEMU 0.10 to 0.12) has no {options.form} form", section="ram"
        )
    if options.form == Form.MAPPED_RAM:
        return MappedRamWriter(stream.memory, blocks, origin=origin)
    return MultifdWriter(
        stream.memory,
        blocks,
        channels=options.channels,
        method=MultifdMethod[options.compression.name],
        version=options.version or machine_version(stream),
        uuid=options.uuid or _uuid(stream),
    )


def _uuid(stream: Stream) -> bytes:
    """The guest's UUID by the stream's channels, configuration or domain XML; else zeros."""
    for channel in stream.channels:
        if channel.initial is not None:
            return channel.initial.uuid
    if stream.configuration is not None and stream.configuration.uuid is not None:
        return stream.configuration.uuid
    return _uuid_of(_saved(stream).get("xml")) or bytes(16)


def _uuid_of(xml: object) -> bytes | None:
    """What a domain's XML has in ``<uuid>``."""
    import re
    from uuid import UUID

    found = re.search(r"<uuid>\s*([0-9a-fA-F-]{32,36})\s*</uuid>", str(xml))
    try:
        return UUID(found[1]).bytes if found else None
    except ValueError:
        return None


# libvirt


def _saved(stream: Stream) -> dict[str, object]:
    """What a libvirt image says of itself; empty for other sources."""
    details = getattr(stream.source, "details", {})
    return dict(details.get("libvirt", {}))


def _libvirt_head(stream: Stream, options: Options) -> bytes:
    """The header and texts of a libvirt image; nothing for other containers."""
    if options.container != Container.LIBVIRT:
        return b""
    saved = _saved(stream)
    xml, cookie = saved.get("xml"), saved.get("cookie")
    if options.xml is None and not xml:
        raise ValueError("a libvirt image needs the domain XML, and the stream read has none")
    if options.form == Form.MAPPED_RAM:
        stored = SaveFormat.SPARSE
    else:
        stored = _STORED[options.compression]
    running = saved.get("was_running", run_state(stream) == "running")
    return image_head(
        str(xml) if options.xml is None else options.xml,
        None if cookie is None else str(cookie),
        stored,
        was_running=bool(running),
    )


_STORED = {
    Compression.NONE: SaveFormat.RAW,
    Compression.ZLIB: SaveFormat.GZIP,
    Compression.ZSTD: SaveFormat.ZSTD,
}


# Checking


def _compare(stream: Stream, names: Sequence[str]) -> tuple[BlockContent, ...]:
    """Decode what was written and compare it with what was read.

    Raises:
        StreamError: it is not the same.
    """
    with open_stream(*names, page_size=stream.page_size, keep=True) as written:
        if not written.complete or len(written.faults) > len(stream.faults):
            raise _different("is not whole", written.faults)
        old, new = (list(map(_identity, _others(s))) for s in (stream, written))
        if sorted(old) != sorted(new):
            raise _different("has other sections", ())
        _compare_sections(stream, written)
        return tuple(_compare_blocks(stream, written))


def _others(stream: Stream) -> list[Section]:
    """Sections that are copied: all but those of RAM."""
    return [s for s in stream.sections if s.name != "ram" or s.type == Element.FULL]


def _identity(section: Section) -> tuple[str, int, int, int, int]:
    return section.name, section.instance_id, section.type, section.version, section.size


def _compare_sections(stream: Stream, written: Stream) -> None:
    """Each copied section byte for byte; where several are alike, in their order."""
    old, new = (sorted(_others(s), key=_identity) for s in (stream, written))
    for before, after in zip(old, new, strict=True):
        for at in range(0, before.size, _CHUNK):
            length = min(_CHUNK, before.size - at)
            first = stream.source.read_at(before.offset + at, length)
            if bytes(first) != bytes(written.source.read_at(after.offset + at, length)):
                raise _different(f"has other bytes in section {before.key}", ())


def _compare_blocks(stream: Stream, written: Stream) -> Iterator[BlockContent]:
    if [(b.name, b.size) for b in stream.memory] != [(b.name, b.size) for b in written.memory]:
        raise _different("has other RAM blocks", ())
    for before, after in zip(stream.memory, written.memory, strict=True):
        if before.elsewhere:
            yield BlockContent(before.name, before.size, None)
            continue
        digest = before.hash()
        if after.elsewhere or after.hash() != digest:
            raise _different(f"has other content in RAM block {before.name!r}", ())
        yield BlockContent(before.name, before.size, digest)


def _different(how: str, faults: Sequence[StreamError]) -> StreamError:
    why = f": {faults[0]}" if faults else ""
    return StreamError(f"what was written {how}{why}; nothing was left at the output's place")

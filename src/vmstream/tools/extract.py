"""``extract``: guest memory in the form that other tools open."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from vmstream.errors import StreamError, Unsupported
from vmstream.stream.memory import Block, ContentHash, Memory
from vmstream.stream.physical import PhysicalRange
from vmstream.stream.physical_memory import PhysicalMemory
from vmstream.stream.registers import architecture, registers
from vmstream.stream.stream import Stream
from vmstream.tools.elf import ARCHITECTURES, write_elf
from vmstream.tools.lime import write_lime
from vmstream.tools.output import Buffer, SparseFile, atomic_directory, atomic_file
from vmstream.tools.reports import file_of
from vmstream.tools.segments import Segment
from vmstream.tools.vmcoreinfo import find_vmcoreinfo, vmcoreinfo_of_device

__all__ = ["ExtractReport", "Format", "extract"]

Advance = Callable[[int, int | None], None]

_LONG_MODE = 1 << 10
"""EFER.LMA: the processor runs 64-bit code."""
_WIDE = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "rip")


class Format(StrEnum):
    """What is written."""

    BLOCKS = "blocks"
    """A directory: one file for each RAM block, and manifest.json."""
    RAW = "raw"
    """Guest-physical memory, flat: offsets are addresses, less the first of a window."""
    ELF = "elf"
    """An ELF core with the registers of each vCPU and VMCOREINFO."""
    LIME = "lime"
    """Physical ranges in LiME's format."""
    JSON = "json"
    """A directory: registers.json and the flat image memory.raw, for snapshot fuzzers."""


class ExtractReport(msgspec.Struct, frozen=True):
    """What was written. Sizes in bytes."""

    file: str
    out: str
    format: str
    size: int
    """Of memory, holes included."""
    data: int
    """Bytes that were written, headers included; the rest is zero and takes no space."""
    vcpus: int
    vmcoreinfo: bool
    unplaced: tuple[str, ...]
    """Blocks that have no known address."""
    notes: tuple[str, ...]


class _Progress:
    """Counts bytes as they go by.

    Attributes:
        written: bytes that took room in the output.
    """

    def __init__(self, total: int, advance: Advance | None) -> None:
        self.written = 0
        self._done = 0
        self._total = total
        self._advance = advance

    def passing(self, chunks: Iterable[tuple[int, Buffer]]) -> Iterator[tuple[int, Buffer]]:
        for address, data in chunks:
            yield address, data
            self._done += len(data)
            if self._advance is not None:
                self._advance(self._done, self._total)

    @contextmanager
    def file(self, path: Path) -> Iterator[SparseFile]:
        """A file that appears when it is whole."""
        with atomic_file(path) as file:
            yield file
        self.written += file.data


def extract(
    stream: Stream,
    out: str | Path,
    format_: Format,
    *,
    window: tuple[int, int] | None = None,
    placed: Sequence[tuple[str, int]] = (),
    iteration: int | None = None,
    advance: Advance | None = None,
) -> ExtractReport:
    """Write guest memory; the output appears only when it is whole.

    Args:
        out: a file, or a directory that does not exist or is empty.
        window: physical addresses (first, behind the last) to write, not for ``blocks``.
        placed: blocks at addresses that the caller knows.
        iteration: memory as it was after that RAM section.
        advance: called with bytes written and bytes of memory.

    Raises:
        StreamError: content that can not be read, or a machine that is not known.
        OSError: the output can not be written.
        ValueError: ``placed`` names a block that is not there.
    """
    memory = stream.memory if iteration is None else stream.memory.at(iteration)
    if format_ == Format.BLOCKS:
        return _blocks(stream, memory, Path(out), advance)
    guest = PhysicalMemory(stream, memory, placed, _architecture(stream))
    ranges = _chosen(guest, window)
    total = sum(item.size for item in ranges)
    progress = _Progress(total, advance)
    write = {
        Format.RAW: _raw,
        Format.ELF: _elf,
        Format.LIME: _lime,
        Format.JSON: _json,
    }[format_]
    cpus, info = write(stream, guest, ranges, Path(out), window, progress)
    return ExtractReport(
        file_of(stream),
        str(out),
        str(format_),
        total,
        progress.written,
        cpus,
        info,
        guest.map.unplaced,
        guest.map.notes,
    )


def _architecture(stream: Stream) -> str | None:
    try:
        return architecture(stream)
    except StreamError:
        return None


def _chosen(guest: PhysicalMemory, window: tuple[int, int] | None) -> list[PhysicalRange]:
    if window is None:
        return list(guest.ranges)
    return list(guest.map.within(window[0], window[1] - window[0]))


# RAM blocks


def _blocks(stream: Stream, memory: Memory, out: Path, advance: Advance | None) -> ExtractReport:
    total = sum(block.size for block in memory)
    progress = _Progress(total, advance)
    manifest = []
    with atomic_directory(out) as directory:
        for number, block in enumerate(memory):
            name = None if block.elsewhere else safe_name(number, block.name)
            manifest.append(
                {
                    "name": block.name,
                    "size": block.size,
                    "sha256": name and _copy_block(directory / name, block, progress),
                    "file": name,
                }
            )
        text = msgspec.json.format(msgspec.json.encode({"blocks": _printable(manifest)}), indent=2)
        (directory / "manifest.json").write_bytes(text + b"\n")
    return ExtractReport(
        file_of(stream), str(out), str(Format.BLOCKS), total, progress.written, 0, False, (), ()
    )


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list) else value


def safe_name(number: int, block: str) -> str:
    """A file name for a block: its number, and those of its characters that can do no harm."""
    kept = "".join(
        char if char.isascii() and (char.isalnum() or char in "._-") else "_" for char in block
    )
    return f"{number:03}-{kept.lstrip('.')[:80]}.bin"


def _copy_block(path: Path, block: Block, progress: _Progress) -> str:
    """Write a block's content and return its hash."""
    digest = ContentHash()
    with progress.file(path) as file:
        for at, data in progress.passing(block.chunks()):
            digest.update(at, data)
            file.write_at(at, data)
        file.extend(block.size)
    return digest.hexdigest(block.size)


# Physical memory


def _raw(
    stream: Stream,
    guest: PhysicalMemory,
    ranges: Sequence[PhysicalRange],
    out: Path,
    window: tuple[int, int] | None,
    progress: _Progress,
) -> tuple[int, bool]:
    base = window[0] if window else 0
    end = window[1] if window else (ranges[-1].end if ranges else 0)
    with progress.file(out) as file:
        _write_flat(file, guest, ranges, base, end, progress)
    return 0, False


def _write_flat(
    file: SparseFile,
    guest: PhysicalMemory,
    ranges: Sequence[PhysicalRange],
    base: int,
    end: int,
    progress: _Progress,
) -> None:
    for address, data in progress.passing(guest.chunks(ranges)):
        file.write_at(address - base, data)
    file.extend(end - base)


def _segments(ranges: Sequence[PhysicalRange]) -> list[Segment]:
    return [Segment(item.start, item.size) for item in ranges]


def _elf(
    stream: Stream,
    guest: PhysicalMemory,
    ranges: Sequence[PhysicalRange],
    out: Path,
    window: tuple[int, int] | None,
    progress: _Progress,
) -> tuple[int, bool]:
    kind = _architecture(stream)
    if kind is None or kind not in ARCHITECTURES:
        raise Unsupported(
            "an ELF core needs the registers of a processor that is known here, which this "
            "stream does not tell; --format raw or lime need none",
            section="cpu",
        )
    kind, cpus = _as_run(kind, list(registers(stream).values()))
    info = _vmcoreinfo(stream, guest)
    with progress.file(out) as file:
        write_elf(file, kind, _segments(ranges), progress.passing(guest.chunks(ranges)), cpus, info)
    return len(cpus), info is not None


def _as_run(kind: str, cpus: list[dict[str, int]]) -> tuple[str, list[dict[str, int]]]:
    """An x86-64 processor outside long mode is a 32-bit one to the tools that open a core."""
    if kind != "x86_64" or any(named.get("efer", 0) & _LONG_MODE for named in cpus):
        return kind, cpus
    low = (1 << 32) - 1
    narrow = [
        named | {f"e{name[1:]}": named[name] & low for name in _WIDE if name in named}
        for named in cpus
    ]
    return "i386", narrow


def _vmcoreinfo(stream: Stream, guest: PhysicalMemory) -> bytes | None:
    """From the guest's vmcoreinfo device, else found in memory."""
    for device in stream.devices.matching("vmcoreinfo"):
        if device.decoded is not None:
            plain = {path: int(value) for path, value in _numbers(device.decoded.value.members)}
            text = vmcoreinfo_of_device(plain, guest.read)
            if text is not None:
                return text
    ram = [item for item in guest.ranges if not item.rom]
    return find_vmcoreinfo(guest.chunks(ram))


def _numbers(members: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for name, member in members.items():
        value = getattr(member, "value", None)
        if isinstance(value, int):
            yield name, value


def _lime(
    stream: Stream,
    guest: PhysicalMemory,
    ranges: Sequence[PhysicalRange],
    out: Path,
    window: tuple[int, int] | None,
    progress: _Progress,
) -> tuple[int, bool]:
    with progress.file(out) as file:
        write_lime(file, _segments(ranges), progress.passing(guest.chunks(ranges)))
    return 0, False


def _json(
    stream: Stream,
    guest: PhysicalMemory,
    ranges: Sequence[PhysicalRange],
    out: Path,
    window: tuple[int, int] | None,
    progress: _Progress,
) -> tuple[int, bool]:
    cpus = registers(stream)
    base = window[0] if window else 0
    end = window[1] if window else (ranges[-1].end if ranges else 0)
    facts = {
        "architecture": architecture(stream),
        "cpus": {key: {n: _number(v) for n, v in named.items()} for key, named in cpus.items()},
        "memory": {
            "file": "memory.raw",
            "base": base,
            "ranges": [{"start": item.start, "size": item.size} for item in ranges],
        },
    }
    with atomic_directory(out) as directory:
        with progress.file(directory / "memory.raw") as file:
            _write_flat(file, guest, ranges, base, end, progress)
        text = msgspec.json.format(msgspec.json.encode(facts), indent=2)
        (directory / "registers.json").write_bytes(text + b"\n")
    return len(cpus), False


def _number(value: int) -> int | str:
    """Numbers up to 64 bits; wider registers as hex."""
    return value if value < 1 << 64 else hex(value)

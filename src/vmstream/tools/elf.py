"""ELF cores of a guest's physical memory and registers.

As QEMU's ``dump-guest-memory`` writes them (``dump/dump.c``, ``target/*/arch_dump.c``,
7.2), so that what opens those opens these: a PT_NOTE segment with the registers of
each vCPU and the guest's VMCOREINFO, and a PT_LOAD segment for each range of physical
memory. Two things differ: ``p_vaddr`` is the physical address instead of 0, so
that gdb can read memory, and segments begin at whole pages of the file, so that
zeros can be holes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

from vmstream.tools.elf_notes import ARCHITECTURES, Architecture, guest_note, register_notes
from vmstream.tools.output import Buffer, SparseFile
from vmstream.tools.segments import Layout, Segment

__all__ = ["ARCHITECTURES", "Architecture", "write_elf"]

PAGE = 4096
PT_LOAD, PT_NOTE = 1, 4
ET_CORE = 4
PN_XNUM = 0xFFFF
"""So many segments or more: the number stands in the first section header instead."""
FOUR_GIB = 1 << 32

Chunks = Iterable[tuple[int, Buffer]]
Registers = Mapping[str, int]


def write_elf(
    out: SparseFile,
    architecture: str,
    segments: Sequence[Segment],
    chunks: Chunks,
    cpus: Sequence[Registers] = (),
    vmcoreinfo: bytes | None = None,
    *,
    big_endian: bool | None = None,
) -> None:
    """Write a core.

    Args:
        architecture: a key of :data:`ARCHITECTURES`. For x86 this is what the guest
            runs: ``x86_64`` in long mode, else ``i386``.
        segments: physical memory, sorted, none overlapping another.
        chunks: its content as (address, bytes), in any order; what is left out is zero.
        cpus: registers of each vCPU, by the names that gdb has for them; those that
            are left out are 0. :mod:`vmstream.tools.elf_notes` lists the names.
        vmcoreinfo: the text of the guest's VMCOREINFO.
        big_endian: byte order of the guest, where it is not the usual one.

    Raises:
        ValueError: the architecture is not known, or a chunk is outside the segments.
        OSError: it can not be written.
    """
    arch = ARCHITECTURES.get(architecture)
    if arch is None:
        raise ValueError(f"ELF cores are written for {', '.join(ARCHITECTURES)}")
    order = ">" if (arch.big_endian if big_endian is None else big_endian) else "<"
    notes = register_notes(arch, order, cpus)
    if vmcoreinfo is not None:
        notes += guest_note(order, vmcoreinfo)
    bits = arch.bits
    if segments and segments[-1].address + segments[-1].size > FOUR_GIB:
        bits = 64  # QEMU does so for 32-bit x86, too
    writer = _Headers(order, bits)
    notes_at = writer.size(len(segments) + 1)
    layout = Layout(segments, notes_at + len(notes), align=PAGE)
    out.write_at(0, writer.headers(arch.machine, layout, len(segments), notes_at, len(notes)))
    out.write_at(notes_at, notes)
    layout.write(out, chunks)


class _Headers:
    """ELF structures of one class and byte order (System V ABI, ``elf.h``)."""

    def __init__(self, order: str, bits: int) -> None:
        word = "Q" if bits == 64 else "I"
        self._wide = bits == 64
        self._ident = bytes((0x7F, *b"ELF", 2 if self._wide else 1, 1 if order == "<" else 2, 1))
        self._file = struct.Struct(f"{order}16sHHI{word}{word}{word}IHHHHHH")
        self._segment = struct.Struct(f"{order}IIQQQQQQ" if self._wide else f"{order}IIIIIIII")
        self._section = struct.Struct(f"{order}II{word}{word}{word}{word}II{word}{word}")

    def size(self, segments: int) -> int:
        """Bytes of all headers."""
        section = self._section.size if segments >= PN_XNUM else 0
        return self._file.size + section + segments * self._segment.size

    def headers(
        self, machine: int, layout: Layout, segments: int, notes_at: int, notes_size: int
    ) -> bytes:
        """File header, program headers, and the section header that counts them if need be."""
        count = segments + 1
        many = count >= PN_XNUM
        section = self._section.pack(0, 0, 0, 0, 0, 0, 0, count, 0, 0) if many else b""
        head = self._file.pack(
            self._ident,
            ET_CORE,
            machine,
            1,
            0,
            self._file.size + len(section),
            self._file.size if many else 0,
            0,
            self._file.size,
            self._segment.size,
            PN_XNUM if many else count,
            self._section.size if many else 0,
            1 if many else 0,
            0,
        )
        parts = [head, section, self._program(PT_NOTE, notes_at, 0, notes_size, 0, 0)]
        # An alignment of 0, though they are aligned: crash takes a core with another for one
        # of netdump, and then looks for no KASLR offset (crash's netdump.c).
        parts += [
            self._program(PT_LOAD, offset, segment.address, segment.size, 7, 0)
            for segment, offset in layout
        ]
        return b"".join(parts)

    def _program(
        self, kind: int, offset: int, address: int, size: int, flags: int, align: int
    ) -> bytes:
        in_memory = size if kind == PT_LOAD else 0
        if self._wide:
            values = (kind, flags, offset, address, address, size, in_memory, align)
        else:
            values = (kind, offset, address, address, size, in_memory, flags, align)
        return self._segment.pack(*values)

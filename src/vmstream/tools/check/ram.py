"""RAM blocks that the destination must have, by name and size.

Source: QEMU ``migration/ram.c`` (``parse_ramblock``), ``system/physmem.c``
(``qemu_ram_resize``).
"""

from __future__ import annotations

from collections.abc import Iterator

from vmstream.stream.stream import Stream
from vmstream.tools.findings import Basis, Finding, Severity

__all__ = ["check_blocks"]

RESIZABLE = "/rom@"
"""Blocks of this prefix (firmware configuration files) take the source's size, up to their
maximum (``hw/core/loader.c``, ``rom_add_blob``)."""

MAXIMUM = {"/rom@etc/acpi/tables": 0x200000, "/rom@etc/table-loader": 0x10000}
"""Bytes; ``hw/i386/acpi-build.c`` (2.3 and later), ``hw/arm/virt-acpi-build.c``."""


def check_blocks(stream: Stream, other: Stream) -> Iterator[Finding]:
    """Blocks of ``stream`` that the writer of ``other`` would refuse.

    A block that only the destination has is no matter: it keeps what is in it.
    """
    theirs = {block.name: block.used_length for block in other.index.blocks}
    if not theirs:
        return
    for block in stream.index.blocks:
        size = theirs.get(block.name)
        if size is None:
            yield _unknown(block.name, block.used_length, block.offset, stream, theirs)
        elif size != block.used_length:
            yield from _resized(block.name, block.used_length, size, block.offset)


def _unknown(name: str, size: int, offset: int, stream: Stream, theirs: dict[str, int]) -> Finding:
    ours = {block.name for block in stream.index.blocks}
    fresh = [other for other, length in theirs.items() if other not in ours and length == size]
    remedy = "start the destination with the device or memory backend that the block belongs to"
    if len(fresh) == 1:
        remedy = f"the destination calls its block of that size {fresh[0]}: give it this id"
    return Finding(
        "ram-block-unknown",
        Severity.BREAKS,
        f"the destination has no RAM block {name}",
        device="ram:0",
        field=name,
        offset=offset,
        source=size,
        remedy=remedy,
        qemu_text=f'Unknown ramblock "{name}", cannot accept migration',
        basis=Basis.STREAM,
    )


def _resized(name: str, size: int, theirs: int, offset: int) -> Iterator[Finding]:
    if name.startswith(RESIZABLE) and size <= max(theirs, MAXIMUM.get(name, 0)):
        return
    severity = Severity.MAY_BREAK if name.startswith(RESIZABLE) else Severity.BREAKS
    yield Finding(
        "ram-block-size",
        severity,
        f"RAM block {name} has {size:#x} bytes, at the destination {theirs:#x}",
        device="ram:0",
        field=name,
        offset=offset,
        source=size,
        destination=theirs,
        remedy=_remedy(name, size),
        qemu_text=f"Size mismatch: {name}: {size:#x} != {theirs:#x}: Invalid argument",
        basis=Basis.STREAM,
    )


def _remedy(name: str, size: int) -> str:
    if name.endswith(".rom"):
        return f"start the destination's device with romsize={size}, or with the source's ROM file"
    if name.endswith(".vram"):
        return f"start the destination's display device with {size >> 20} MiB of video memory"
    if name in ("pc.ram", "mach-virt.ram", "ppc_spapr.ram", "s390.ram", "riscv_virt_board.ram"):
        return f"start the destination with -m {size >> 20}M"
    return f"give the destination's block {size:#x} bytes"

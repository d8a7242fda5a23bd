"""Guest-physical addresses of RAM blocks.

A stream names its RAM blocks but does not say where the machine puts them. That
follows from the machine: ``boards.BOARDS`` is the table, each row with the QEMU
file that it comes from. PCs need more: how much RAM stands below 4 GiB, and which
parts of the first MiB read as RAM and which as ROM.

Memory of virtio-mem stands where the device's state says. What a stream can not
tell is not invented: blocks without an address (pc-dimm memory, BARs of devices)
are listed in :attr:`PhysicalMap.unplaced`, and
``--map BLOCK@ADDRESS`` places them.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from vmstream.errors import Unsupported
from vmstream.stream.boards import BOARDS, Board, PcLayout, Place

__all__ = [
    "PhysicalMap",
    "PhysicalRange",
    "board_of",
    "parse_place",
    "physical_map",
]

KIB, MIB = 1 << 10, 1 << 20
FOUR_GIB = 1 << 32

VGA_HOLE = (0xA0000, 0xC0000)
"""Video memory of a PC with VGA; RAM where there is none, or SMRAM is open."""
PAM_START, PAM_STEP, PAM_BIOS = 0xC0000, 0x4000, 0xF0000
"""PAM 1 to 12 are 16 KiB each from ``PAM_START``; PAM 0 is 64 KiB at ``PAM_BIOS``."""
SMRAM_OPEN = 0x40
TSEG_ENABLED = 0x01


class PhysicalRange(msgspec.Struct, frozen=True, order=True):
    """Addresses at which a part of a block is read; all numbers are bytes."""

    start: int
    size: int
    block: str
    offset: int
    """Of the first byte in the block."""
    rom: bool = False
    """The guest does not write here as it writes to RAM."""

    @property
    def end(self) -> int:
        """The address after the last byte."""
        return self.start + self.size


class PhysicalMap(msgspec.Struct, frozen=True):
    """The address space of a guest, as far as RAM blocks are concerned.

    Attributes:
        ranges: sorted, none overlapping another, neighbours joined.
        unplaced: blocks, or the rest of them, that have no known address.
        notes: what was assumed, in sentences.
        source: where the knowledge is from.
    """

    ranges: tuple[PhysicalRange, ...]
    unplaced: tuple[str, ...]
    notes: tuple[str, ...]
    source: str

    def at(self, address: int) -> PhysicalRange | None:
        """The range that holds an address."""
        number = bisect_right(self.ranges, address, key=lambda r: r.start) - 1
        if number < 0 or address >= self.ranges[number].end:
            return None
        return self.ranges[number]

    def within(self, start: int, size: int) -> Iterator[PhysicalRange]:
        """The parts of ranges inside ``size`` bytes from ``start``, in order."""
        first = max(bisect_right(self.ranges, start, key=lambda r: r.start) - 1, 0)
        for whole in self.ranges[first:]:
            if whole.start >= start + size:
                return
            part = _part(whole, max(start, whole.start), min(start + size, whole.end))
            if part is not None:
                yield part


_PC_ROMS = ("pc.bios", "pc.rom", "isa-bios", "system.flash0", "system.flash1")
_BACKEND = re.compile(r"/objects/[^/]+|[^/]+")
"""Names of memory backends: with their path before 4.0, without it since."""
_Q35_ID, _I440FX_ID = bytes.fromhex("8680c029"), bytes.fromhex("86803712")
"""Vendor and device id of the host bridges, as configuration space begins."""


def physical_map(
    machine: str | None,
    blocks: Mapping[str, int],
    *,
    architecture: str | None = None,
    bridge: bytes | None = None,
    placed: Iterable[tuple[str, int]] = (),
    plugged: Iterable[tuple[str, int]] = (),
    max_ram_below_4g: int | None = None,
) -> PhysicalMap:
    """Where the blocks of a machine stand.

    Args:
        machine: its name, as CONFIGURATION gives it, or an alias (``pc``).
        blocks: used length in bytes by name, in the order of the block list.
        architecture: QEMU's target name; needed where two have such a machine.
        bridge: configuration space of the PCI host bridge (``I440FX``, ``mch``),
            which says what of the first MiB is RAM. Without it RAM is assumed, as
            firmware leaves it.
        placed: blocks that the caller puts at addresses, over everything else.
        plugged: blocks whose devices say their addresses, beside what the machine has.
        max_ram_below_4g: the machine option, where it was given.

    Raises:
        Unsupported: the machine is not known, and ``placed`` does not help.
        ValueError: ``placed`` names a block that is not there.
    """
    placed = tuple(placed)
    for name, _ in placed:
        if name not in blocks:
            raise ValueError(f"there is no RAM block {name!r}")
    try:
        board = board_of(machine, blocks, architecture, bridge)
    except Unsupported:
        if not placed:
            raise
        board = None
    space = _Space(blocks)
    notes: list[str] = []
    if board is not None:
        main = _main_memory(board, blocks, notes)
        space.put_all(main, board.places)
        for name, start in board.roms:
            space.put(name, start, rom=True)
        if board.pc is not None:
            ram = sum(blocks[name] for name in main)
            low = board.pc.below_4g(ram, _gigabyte_align(machine), max_ram_below_4g)
            space.put_all(main, (Place(0, low), Place(FOUR_GIB, None, low)))
            _place_firmware(space)
            _place_first_mib(space, board.pc, bridge, low, notes)
    wanted = {name for name, _ in placed}
    for name, start in plugged:
        if name not in wanted:
            space.put(name, start)
    for name, start in placed:
        space.put(name, start)
    source = board.source if board is not None else "the caller"
    return PhysicalMap(space.ranges(), space.unplaced(), tuple(notes), source)


def board_of(
    machine: str | None,
    blocks: Mapping[str, int],
    architecture: str | None = None,
    bridge: bytes | None = None,
) -> Board:
    """The row of ``BOARDS`` for a machine, or for its RAM block where it has no name.

    Raises:
        Unsupported: none fits, or several do.
    """
    if machine is None and bridge is not None and "pc.ram" in blocks:
        machine = {_Q35_ID: "q35", _I440FX_ID: "pc"}.get(bytes(bridge[:4]))
    candidates = [
        board
        for board in BOARDS
        if (machine is None or re.fullmatch(board.machines, machine))
        and (architecture is None or re.fullmatch(board.architecture, architecture))
    ]
    named = [board for board in candidates if any(name in blocks for name in board.ram)]
    if named:
        candidates = named
    elif machine is None:
        candidates = []
    if machine is None and len(candidates) > 1 and "pc.ram" in blocks:
        candidates = candidates[:1]  # pc, q35 and isapc differ above 2.75 GiB and in the first MiB
    if len(candidates) == 1:
        return candidates[0]
    what = f"machine {machine!r}" if machine else "this stream, which names no machine,"
    why = "is known for several architectures" if candidates else "is not known"
    raise Unsupported(
        f"the physical memory map of {what} {why}; say where blocks stand with --map BLOCK@ADDRESS"
    )


def parse_place(text: str) -> tuple[str, int]:
    """``BLOCK@ADDRESS``, as ``--map`` takes it; the address in C's notation.

    Raises:
        ValueError: there is no ``@``, or no number behind it.
    """
    name, found, address = text.rpartition("@")
    try:
        number = int(address, 0)
    except ValueError:
        number = -1
    if not found or not name or number < 0:
        raise ValueError(f"{text!r} is not BLOCK@ADDRESS, like m0@0x100000000")
    return name, number


class _Space:
    """An address space that is being filled; what comes later lies on top."""

    def __init__(self, blocks: Mapping[str, int]) -> None:
        self._blocks = blocks
        self._ranges: list[PhysicalRange] = []
        self._used: set[str] = set()

    def size(self, name: str) -> int:
        """Of a block; 0 when it is not there."""
        return self._blocks.get(name, 0)

    def has_vga(self) -> bool:
        """Whether a block is the video memory of a VGA device."""
        return any(name.endswith("vga.vram") for name in self._blocks)

    def put(
        self,
        name: str,
        start: int,
        size: int | None = None,
        offset: int = 0,
        rom: bool = False,
    ) -> None:
        """Put a block, or ``size`` bytes of it from ``offset``, at an address."""
        room = self.size(name) - offset
        size = room if size is None else min(size, room)
        if size <= 0:
            return
        self._used.add(name)
        self.clear(start, start + size)
        self._ranges.append(PhysicalRange(start, size, name, offset, rom))

    def put_all(self, names: Iterable[str], places: Iterable[Place]) -> None:
        """Put blocks in a row, cut as the places say."""
        names = tuple(names)
        for place in places:
            begin = 0
            for name in names:
                end = begin + self._blocks[name]
                low = max(begin, place.offset)
                high = end if place.size is None else min(end, place.offset + place.size)
                if low < high:
                    at = place.start + low - place.offset
                    self.put(name, at, high - low, low - begin)
                begin = end

    def clear(self, start: int, end: int) -> None:
        """Leave a hole."""
        kept: list[PhysicalRange] = []
        for old in self._ranges:
            if old.end <= start or old.start >= end:
                kept.append(old)
                continue
            sides = (_part(old, old.start, start), _part(old, end, old.end))
            kept += [side for side in sides if side is not None]
        self._ranges = kept

    def ranges(self) -> tuple[PhysicalRange, ...]:
        """Everything, sorted, neighbours joined."""
        joined: list[PhysicalRange] = []
        for item in sorted(self._ranges):
            last = joined[-1] if joined else None
            if (
                last is not None
                and (last.end, last.block, last.rom) == (item.start, item.block, item.rom)
                and last.offset + last.size == item.offset
            ):
                joined[-1] = PhysicalRange(
                    last.start, last.size + item.size, last.block, last.offset, last.rom
                )
            else:
                joined.append(item)
        return tuple(joined)

    def unplaced(self) -> tuple[str, ...]:
        return tuple(name for name in self._blocks if name not in self._used)


def _part(whole: PhysicalRange, start: int, end: int) -> PhysicalRange | None:
    """The part of a range between two addresses."""
    if start >= end:
        return None
    offset = whole.offset + start - whole.start
    return PhysicalRange(start, end - start, whole.block, offset, whole.rom)


def _main_memory(board: Board, blocks: Mapping[str, int], notes: list[str]) -> tuple[str, ...]:
    """The blocks of main memory in the order in which they follow each other."""
    usual = tuple(name for name in board.ram if name in blocks)
    if usual:
        return usual
    others = {name for name, _ in board.roms} | set(_PC_ROMS)
    backends = [
        name
        for name in blocks
        if _BACKEND.fullmatch(name) and name not in others and not name.endswith(".vram")
    ]
    if not backends:
        raise Unsupported(
            f"no RAM block is the main memory of this machine ({', '.join(board.ram)}); "
            "say where blocks stand with --map BLOCK@ADDRESS"
        )
    backends.sort(key=_natural)
    if len(backends) > 1:
        notes.append(f"main memory is taken to be {', '.join(backends)}, in this order")
    return tuple(backends)


def _natural(name: str) -> list[tuple[int, str]]:
    """``ram-node10`` after ``ram-node9``."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _gigabyte_align(machine: str | None) -> bool:
    """Whether a machine splits at a multiple of 1 GiB: types of 2.0 and later do."""
    if machine is None:
        return True
    if re.match(r"rhel[56]", machine):
        return False
    version = re.fullmatch(r"pc-(?:i440fx-|q35-)?(\d+)\.(\d+).*", machine)
    return version is None or (int(version[1]), int(version[2])) >= (2, 0)


def _place_first_mib(
    space: _Space, pc: PcLayout, bridge: bytes | None, low: int, notes: list[str]
) -> None:
    """What hides RAM: video memory, ROM, and SMRAM."""
    vga = pc.vga and space.has_vga()
    if pc.pam is None:
        if vga:
            space.clear(*VGA_HOLE)
        if pc.vga:
            space.put("pc.rom", PAM_START, rom=True)
        _place_isa_bios(space, 0xE0000, MIB)
        return
    if bridge is None or len(bridge) < 256:
        notes.append("the first MiB is taken to read as RAM, as firmware leaves it")
        if vga:
            space.clear(*VGA_HOLE)
        return
    _place_shadowed(space, bridge, pc.pam)
    if vga and not bridge[pc.smram] & SMRAM_OPEN:
        space.clear(*VGA_HOLE)
    if bridge[:4] == _Q35_ID:
        _hide_tseg(space, bridge, low)


def _place_firmware(space: _Space) -> None:
    """Firmware ends at 4 GiB: a ROM, or one flash below the other."""
    top = FOUR_GIB
    for name in ("system.flash0", "system.flash1", "pc.bios"):
        size = space.size(name)
        if size and (name != "pc.bios" or top == FOUR_GIB):
            top -= size
            space.put(name, top, rom=True)


def _place_isa_bios(space: _Space, start: int, end: int) -> None:
    """The last 128 KiB of the firmware below 1 MiB, between two addresses."""
    name = "isa-bios" if "isa-bios" in space._blocks else "pc.bios"
    size = space.size(name)
    begin = MIB - min(size, 128 * KIB)
    start = max(start, begin)
    if start < end:
        space.put(name, start, end - start, size - (MIB - start), rom=True)


def _place_shadowed(space: _Space, bridge: bytes, pam: int) -> None:
    """ROM where a PAM register has reads and writes go to PCI, and PCI has a ROM there.

    QEMU (``pam_update``) reads RAM for the three other values of a register.
    """
    for number in range(13):
        value = bridge[pam + (number + 1) // 2] >> (0 if number & 1 else 4) & 3
        start = PAM_START + (number - 1) * PAM_STEP if number else PAM_BIOS
        end = start + PAM_STEP if number else MIB
        if value:
            continue
        if start < 0xE0000:
            space.put("pc.rom", start, end - start, start - PAM_START, rom=True)
        else:
            _place_isa_bios(space, start, end)


def _hide_tseg(space: _Space, bridge: bytes, low: int) -> None:
    """TSEG, the top of low memory, is for system management mode alone (``mch_update_smram``)."""
    control = bridge[0x9E]
    if not control & TSEG_ENABLED:
        return
    sizes = (1, 2, 8, int.from_bytes(bridge[0x50:0x52], "little"))
    size = min(sizes[control >> 1 & 3] * MIB, low)
    space.clear(low - size, low)

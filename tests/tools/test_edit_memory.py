"""Edits of guest memory: blocks renamed and dropped, bytes written, offsets that follow."""

from __future__ import annotations

import asyncio
import zlib
from pathlib import Path

import pytest

import vmstream
from builders import END, HEADER, PAGE, compressed, configuration, page, ram, xbzrle, zero
from corpus import Case, case_named, over_cases
from editing import blocks, edited, live, states, unchanged
from loading import loaded
from opened import open_case
from vmstream.errors import Unsupported
from vmstream.tools.edit import edit
from vmstream.tools.edits.records import DropBlock, DropDevice, Machine, Poke, Rename, RenameBlock
from vmstream.wire.ram import PageKind
from vmstream.wire.xbzrle import encode_page

PC = case_named("pc-7.2")
MAPPED = case_named("mapped-ram-10.0")
POSTCOPY = case_named("postcopy-7.2")


@over_cases(
    lambda case: (
        case.origin == "data"
        and not case.channels
        and "multifd" not in open_case(case).capabilities
    )
)
def test_a_block_is_renamed_wherever_it_is_named(case: Case, tmp_path: Path) -> None:
    before = open_case(case)
    name = before.index.blocks[0].name
    for new in ("x", "a-longer-name-than-any-block-has-had-so-far"):
        after = edited(before, tmp_path, RenameBlock(name, new))
        assert states(after) == states(before)
        hashes = blocks(after)
        assert hashes.pop(new) == blocks(before)[name]
        assert hashes == {k: v for k, v in blocks(before).items() if k != name}


@over_cases(
    lambda case: (
        case.origin == "data"
        and not case.channels
        and "multifd" not in open_case(case).capabilities
    )
)
def test_a_block_is_dropped_with_its_pages(case: Case, tmp_path: Path) -> None:
    before = open_case(case)
    for number in {0, len(before.index.blocks) // 2, len(before.index.blocks) - 1}:
        name = before.index.blocks[number].name
        after = edited(before, tmp_path, DropBlock(name))
        assert states(after) == states(before)
        assert blocks(after) == {k: v for k, v in blocks(before).items() if k != name}
        assert live(after) == live(before)


def test_other_channels_name_blocks_too(tmp_path: Path) -> None:
    stream = open_case(case_named("multifd-7.2"))
    for each in (RenameBlock("pc.ram", "x"), DropBlock("pc.ram")):
        with pytest.raises(Unsupported, match="convert it"):
            edit(stream, [each], tmp_path / "out")
    index = stream.index
    run = int((index.kind == PageKind.MULTIFD).nonzero()[0][-1])
    page = f"{index.blocks[index.block[run]].name}+{int(index.page[run]) * PAGE:#x}"
    with pytest.raises(Unsupported, match="another channel"):
        edit(stream, [Poke(page, "00")], tmp_path / "out")


@pytest.mark.parametrize(
    "name",
    ["pc-7.2", "xbzrle-7.2", "compress-7.2", "mapped-ram-10.0", "postcopy-7.2", "savevm-10.0"],
)
def test_memory_is_written(name: str, tmp_path: Path) -> None:
    before = open_case(case_named(name))
    largest = max(before.memory, key=lambda block: block.size)
    data = bytes(range(256)) * 40
    for start in (0, 0x7FF0, largest.size // 2 + 123, largest.size - len(data)):
        content = largest.read(0, largest.size)
        after = edited(before, tmp_path, Poke(f"{largest.name}+{start:#x}", data.hex()))
        unchanged(before, after, memory={largest.name})
        wanted = content[:start] + data + content[start + len(data) :]
        assert after.memory[largest.name].read(0, largest.size) == wanted


def test_physical_addresses_are_found(tmp_path: Path) -> None:
    before = open_case(PC)
    after = edited(before, tmp_path, Poke("0x7c00", "deadbeef"), Poke("0x7c04", "0x01"))
    assert after.memory["pc.ram"].read(0x7C00, 5) == bytes.fromhex("deadbeef01")
    unchanged(before, after, memory={"pc.ram"})


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("kind", ["zero", "fill", "page", "xbzrle", "compressed", "none"])
def test_a_page_is_written_in_its_last_record(kind: str, named: bool, tmp_path: Path) -> None:
    old = bytes(range(256)) * 16
    new = bytes([9]) + old[1:]
    block = "pc.ram" if named else None
    record = {
        "zero": zero(1, block),
        "fill": zero(1, block, 7),
        "page": page(1, new, block),
        "xbzrle": xbzrle(1, encode_page(old, new) or b"", block),
        "compressed": compressed(1, zlib.compress(new), block),
        "none": b"",
    }[kind]
    first = page(0, old, "pc.ram") + (page(1, old) if kind == "xbzrle" else b"")
    other = page(0, new, "rom") + page(0, old, "pc.ram")
    body = first + (other if not named else page(0, new, "rom")) + record
    data = HEADER + configuration() + ram({"pc.ram": 3 * PAGE, "rom": PAGE}, body) + END
    before = vmstream.open(data)
    after_poke = bytearray(before.memory["pc.ram"].read(0, 3 * PAGE))
    after_poke[PAGE + 5 : PAGE + 8] = b"abc"
    edits = (Poke(f"pc.ram+{PAGE + 5:#x}", b"abc".hex()), RenameBlock("pc.ram", "other.ram"))
    edit(before, edits, tmp_path / "out")
    with vmstream.open(tmp_path / "out") as after:
        assert not after.faults
        assert after.memory["other.ram"].read(0, 3 * PAGE) == bytes(after_poke)
        assert after.memory["rom"].read(0, PAGE) == new


def test_mapped_ram_stays_aligned(tmp_path: Path) -> None:
    before = open_case(MAPPED)
    name = before.index.blocks[0].name
    edits = [Machine("x" * 600), RenameBlock(name, "y" * 200), Poke(f"{name}+0x1fff", "abcd")]
    after = edited(before, tmp_path, *edits)
    assert states(after) == states(before)
    for block in after.index.blocks:
        assert block.mapped is not None
        assert block.mapped.pages_offset % (1 << 20) == 0
    assert after.memory["y" * 200].read(0x1FFF, 2) == b"\xab\xcd"
    rest = {k: v for k, v in blocks(before).items() if k != name}
    assert {k: v for k, v in blocks(after).items() if k != "y" * 200} == rest


def test_a_package_is_as_long_as_what_is_in_it(tmp_path: Path) -> None:
    before = open_case(POSTCOPY)
    inside = [s.key for s in before.states if s.packaged]
    assert inside
    after = edited(before, tmp_path, DropDevice(inside[-1]), Rename("timer", "a-longer-name"))
    assert not after.faults
    assert len([s for s in after.states if s.packaged]) == len(inside) - 1
    assert blocks(after) == blocks(before)


async def _memory_after(qemu: Path, case: Case, folder: Path, *capabilities: str) -> bytes:
    async with loaded(qemu, case, folder, [folder / "edited.mig"], capabilities) as guest:
        return await guest.read_physical(0x7C00, 4)


@pytest.mark.interop
def test_a_real_destination_has_what_was_written(qemu72: Path, tmp_path: Path) -> None:
    edited(open_case(PC), tmp_path, Poke("0x7c00", "deadbeef"))
    assert asyncio.run(_memory_after(qemu72, PC, tmp_path)) == b"\xde\xad\xbe\xef"


@pytest.mark.interop
def test_mapped_ram_at_other_places_loads(qemu100: Path, tmp_path: Path) -> None:
    before = open_case(MAPPED)
    first = "pc.ram"
    longer = edited(before, tmp_path, Machine("x" * 300), RenameBlock(first, "y" * 200))
    (tmp_path / "back").mkdir()
    edits = [Machine(before.machine), RenameBlock("y" * 200, first)]
    edits.append(Poke(f"{'y' * 200}+0x7c00", "deadbeef"))
    after = edited(longer, tmp_path / "back", *edits)
    assert after.index.blocks[0].mapped.bitmap_offset == before.index.blocks[0].mapped.bitmap_offset
    folder = tmp_path / "back"
    found = asyncio.run(_memory_after(qemu100, MAPPED, folder, "mapped-ram"))
    assert found == b"\xde\xad\xbe\xef"

"""Compressed multifd channels, for all methods, from packets built as QEMU builds them."""

from __future__ import annotations

import gzip
import random
import struct
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vmstream
from builders import END, HEADER, PAGE, ram
from vmstream.errors import Malformed
from vmstream.wire.multifd import InitialPacket, MultifdMethod, MultifdPacket

BLOCK = "pc.ram"
PAGES = 40
MAIN = HEADER + ram({BLOCK: PAGES * PAGE}, struct.pack(">Q", 0x200)) + END


def deflate(data: bytes, wbits: int) -> bytes:
    compressor = zlib.compressobj(1, zlib.DEFLATED, wbits)
    return compressor.compress(data) + compressor.flush()


def page_by_page(pages: list[bytes], wbits: int) -> bytes:
    """Lengths, then the pages; a page that would not become smaller goes as it is."""
    packed = [deflate(page, wbits) for page in pages]
    sent = [p if len(p) < PAGE else page for p, page in zip(packed, pages, strict=True)]
    return struct.pack(f">{len(sent)}I", *map(len, sent)) + b"".join(sent)


def qpl(pages: list[bytes]) -> bytes:
    return page_by_page(pages, -zlib.MAX_WBITS)


def uadk(pages: list[bytes]) -> bytes:
    return page_by_page(pages, zlib.MAX_WBITS)


def qatzip(pages: list[bytes]) -> bytes:
    """One gzip member for each 64 KiB, with QATzip's field of sizes in its header."""
    content = b"".join(pages)
    members = []
    for at in range(0, len(content), 1 << 16):
        part = content[at : at + (1 << 16)]
        plain = gzip.compress(part, 1, mtime=0)
        sizes = struct.pack("<2sHII", b"QZ", 8, len(part), len(plain) - 18)
        extra = struct.pack("<H", len(sizes)) + sizes
        members.append(plain[:3] + b"\4" + plain[4:10] + extra + plain[10:])
    return b"".join(members)


METHODS = {MultifdMethod.QPL: qpl, MultifdMethod.UADK: uadk, MultifdMethod.QATZIP: qatzip}
Pack = Callable[[list[bytes]], bytes]


def channel(method: MultifdMethod, *packets: tuple[list[int], bytes]) -> bytes:
    """A channel of packets, each given as the numbers of its pages and its payload."""
    parts = [InitialPacket(0, bytes(16), 0, bytes(32)).encode()]
    for number, (pages, payload) in enumerate(packets):
        offsets = tuple(page * PAGE for page in pages) + (0,) * (128 - len(pages))
        head = MultifdPacket(
            0, method, 128, len(pages), len(payload), number, 0,
            bytes(28), BLOCK.encode().ljust(256, b"\0"), offsets,
        )  # fmt: skip
        parts += [head.encode(), payload]
    done = MultifdPacket(
        0, method | 1, 128, 0, 0, len(packets), 0, bytes(28), bytes(256), (0,) * 128
    )
    return b"".join([*parts, done.encode()])


def content(number: int) -> bytes:
    """Pages that pack well, and every third one that does not pack at all."""
    chance = random.Random(number)
    return chance.randbytes(PAGE) if number % 3 == 0 else chance.randbytes(16) * (PAGE // 16)


@pytest.mark.parametrize("method", METHODS)
@given(numbers=st.permutations(range(PAGES)), cut=st.integers(1, PAGES - 1))
def test_pages_of_an_accelerated_channel(
    method: MultifdMethod, numbers: list[int], cut: int
) -> None:
    pack = METHODS[method]
    halves = (numbers[:cut], numbers[cut:])
    side = channel(method, *((half, pack([content(n) for n in half])) for half in halves))
    with vmstream.open(MAIN, side) as stream:
        block = stream.memory[BLOCK]
        assert block.read(0, block.size) == b"".join(map(content, range(PAGES)))


@pytest.mark.parametrize("method", METHODS)
@given(at=st.integers(0, 400), value=st.integers(0, 255), cut=st.integers(0, 400))
def test_damage_is_found_or_changes_pages_alone(
    method: MultifdMethod, at: int, value: int, cut: int
) -> None:
    payload = bytearray(METHODS[method]([content(n) for n in range(1, 7)]))
    payload[at % len(payload)] = value
    del payload[len(payload) - cut % len(payload) :]
    with vmstream.open(MAIN, channel(method, (list(range(1, 7)), bytes(payload)))) as stream:
        try:
            found = stream.memory[BLOCK].read(PAGE, 6 * PAGE)
        except Malformed as error:
            assert error.section == "multifd"
            assert error.offset is not None
        else:
            assert len(found) == 6 * PAGE


def test_a_page_that_grows_beyond_its_size_is_refused() -> None:
    bomb = deflate(bytes(64 << 20), zlib.MAX_WBITS)[:PAGE]
    wrong = struct.pack(">I", len(bomb) - 1) + bomb[:-1]
    with (
        vmstream.open(MAIN, channel(MultifdMethod.UADK, ([0], wrong))) as stream,
        pytest.raises(Malformed, match="bytes of pages"),
    ):
        stream.memory[BLOCK].read(0, PAGE)

"""XBZRLE: a page as its difference from what the destination holds (1.2+).

Source: QEMU ``migration/xbzrle.c``, ``migration/page_cache.c`` and
``save_xbzrle_page`` of ``migration/ram.c``. An encoded page is pairs of runs: a
ULEB128 count of bytes that stay, a ULEB128 count of bytes that change, and
those bytes as they shall be. Counts have at most 14 bits; only the first may be
0; a run of equal bytes at the end is left out.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vmstream._kernels import xbzrle_decode, xbzrle_encode
from vmstream.errors import Malformed, Truncated

__all__ = [
    "CACHED_PAGE_LIFETIME",
    "LONGEST_RUN",
    "PageCache",
    "decode_count",
    "decode_page",
    "encode_count",
    "encode_page",
]

LONGEST_RUN = 0x3FFF
"""The largest count that 14 bits hold."""

CACHED_PAGE_LIFETIME = 2
"""Generations that a cached page is safe from another one of the same slot."""

_Page: TypeAlias = bytes | bytearray | memoryview | NDArray[np.uint8]

_REFUSALS = {
    -1: "ends inside a run header",
    -2: "has a count of more than 14 bits",
    -3: "has an empty run where only the first may be empty",
    -4: "runs past the end of the page",
    -5: "ends inside the bytes of a run",
}


def encode_count(count: int) -> bytes:
    """ULEB128 as XBZRLE has it: one byte below 128, else two.

    Raises:
        ValueError: ``count`` is negative or above :data:`LONGEST_RUN`.
    """
    if not 0 <= count <= LONGEST_RUN:
        raise ValueError(f"a run of {count} bytes does not fit 14 bits")
    if count < 0x80:
        return bytes((count,))
    return bytes((count & 0x7F | 0x80, count >> 7))


def decode_count(data: bytes | memoryview) -> tuple[int, int]:
    """The count that ``data`` begins with, and how many bytes it takes.

    Raises:
        Malformed: a second byte that announces a third.
        Truncated: ``data`` ends before the count does.
    """
    if not data or (data[0] & 0x80 and len(data) < 2):
        raise Truncated("an XBZRLE count ends early", offset=0)
    if not data[0] & 0x80:
        return data[0], 1
    if data[1] & 0x80:
        raise Malformed("an XBZRLE count has more than 14 bits", offset=0)
    return data[0] & 0x7F | data[1] << 7, 2


def encode_page(old: _Page, new: _Page, limit: int | None = None) -> bytes | None:
    """The difference from ``old`` to ``new``, byte for byte as QEMU's C encoder writes it.

    Returns empty bytes when the pages are equal (QEMU then sends nothing), and
    None when the difference takes more than ``limit`` bytes, by default the
    page size (QEMU then sends the page itself).

    Raises:
        ValueError: the sizes differ, or are above 16 KiB.
    """
    return xbzrle_encode(old, new, limit)


def decode_page(
    page: memoryview | bytearray | NDArray[np.uint8], encoded: bytes | memoryview
) -> None:
    """Apply an encoded difference to ``page`` in place.

    Raises:
        Malformed: what QEMU's decoder refuses; ``offset`` counts from the start
            of ``encoded``, and the page is changed up to there.
    """
    result, at = xbzrle_decode(page, encoded)
    if result < 0:
        raise Malformed(f"an XBZRLE page {_REFUSALS[result]}", offset=at)


class PageCache:
    """What the destination holds of some pages, as the source remembers it.

    Direct-mapped: a page has one slot, by its address. ``address`` is the
    page's place in the source's own numbering of all RAM (QEMU's
    ``block->offset + offset``), and ``generation`` the count of dirty bitmap
    syncs, which is also the age of an entry. Used from the second round on, and
    never in postcopy.

    Attributes:
        slots: number of pages that fit.
        misses: pages asked for that were not cached.
        overflows: pages whose difference did not fit a page.
        encoded_pages, encoded_bytes: differences made, and their size.
    """

    def __init__(self, size: int, page_size: int) -> None:
        """A cache of ``size`` bytes.

        Memory is taken as slots fill.

        Raises:
            ValueError: it holds no power of two of pages.
        """
        slots = size // page_size
        if slots < 1 or slots & (slots - 1):
            raise ValueError(
                f"a cache of {size} bytes holds {slots} pages of {page_size}; "
                "a power of two is needed"
            )
        self.slots = slots
        self.misses = 0
        self.overflows = 0
        self.encoded_pages = 0
        self.encoded_bytes = 0
        self._page_size = page_size
        self._pages = np.zeros((slots, page_size), np.uint8)
        self._address = np.full(slots, -1, np.int64)
        self._age = np.zeros(slots, np.int64)

    def __contains__(self, address: int) -> bool:
        return int(self._address[self._slot(address)]) == address

    def lookup(self, address: int, generation: int) -> NDArray[np.uint8] | None:
        """The cached page, made young again; None when it is not there."""
        slot = self._slot(address)
        if int(self._address[slot]) != address:
            return None
        self._age[slot] = generation
        page: NDArray[np.uint8] = self._pages[slot]
        return page

    def insert(self, address: int, page: _Page, generation: int) -> bool:
        """Remember a page that is being sent whole, or as zero.

        Returns False when another page holds the slot that was used within the
        last two generations: that one stays.
        """
        slot = self._slot(address)
        holder = int(self._address[slot])
        fresh = int(self._age[slot]) + CACHED_PAGE_LIFETIME > generation
        if holder not in (-1, address) and fresh:
            return False
        self._pages[slot] = np.frombuffer(page, np.uint8)
        self._address[slot] = address
        self._age[slot] = generation
        return True

    def difference(
        self, address: int, page: _Page, generation: int, *, last_stage: bool = False
    ) -> bytes | None:
        """What to send for a page: None for the whole page, nothing, or a difference.

        Empty bytes say that the destination has this content already. The cache
        then holds what the destination will hold, except in the last stage,
        after which it is not needed.
        """
        held = self.lookup(address, generation)
        if held is None:
            self.misses += 1
            if not last_stage:
                self.insert(address, page, generation)
            return None
        encoded = xbzrle_encode(held, page)
        if encoded is None:
            self.overflows += 1
        elif encoded:
            self.encoded_pages += 1
            self.encoded_bytes += len(encoded)
        if encoded != b"" and not last_stage:
            held[:] = np.frombuffer(page, np.uint8)
        return encoded

    def _slot(self, address: int) -> int:
        return address // self._page_size & (self.slots - 1)

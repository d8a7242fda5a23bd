"""The kernels again, in plain Python: slow, and short enough to be seen right."""

from __future__ import annotations

LONGEST_RUN = 0x3FFF


def xbzrle_encode(old: bytes, new: bytes, limit: int) -> bytes | None:
    """A difference, by bytes; None on overflow. Facts: QEMU ``migration/xbzrle.c``."""
    encoded = bytearray()
    at = 0
    while at < len(new):
        if len(encoded) + 2 > limit:
            return None
        begin = at
        while at < len(new) and old[at] == new[at]:
            at += 1
        if at == len(new):
            break
        encoded += uleb128(at - begin)
        if len(encoded) + 2 > limit:
            return None
        begin = at
        while at < len(new) and old[at] != new[at]:
            at += 1
        if at - begin > LONGEST_RUN:
            return None
        encoded += uleb128(at - begin)
        if len(encoded) + at - begin > limit:
            return None
        encoded += new[begin:at]
    return bytes(encoded)


def uleb128(count: int) -> bytes:
    """A count in one or two bytes."""
    return bytes([count]) if count < 0x80 else bytes([count & 0x7F | 0x80, count >> 7])


def xbzrle_decode(page: bytes, encoded: bytes) -> bytes | None:
    """The page that a difference makes of ``page``; None where it must be refused."""
    content = bytearray(page)
    pos = at = 0
    while pos < len(encoded):
        for changes in (False, True):
            if len(encoded) - pos < 2:
                return None
            count, pos_after = encoded[pos], pos + 1
            if count & 0x80:
                if encoded[pos + 1] & 0x80:
                    return None
                count, pos_after = count & 0x7F | encoded[pos + 1] << 7, pos + 2
            if not count and (changes or pos):
                return None
            if at + count > len(page):
                return None
            pos = pos_after
            if changes:
                if pos + count > len(encoded):
                    return None
                content[at : at + count] = encoded[pos : pos + count]
                pos += count
            at += count
    return bytes(content)


def zero_pages(data: bytes, page_size: int) -> list[bool]:
    """Which pages of ``data`` are zero; the last may be short."""
    return [not any(data[at : at + page_size]) for at in range(0, len(data), page_size)]


def gather(source: bytes, offsets: list[int], size: int) -> list[bytes]:
    """The pages at ``offsets``; a zero page for -1."""
    return [bytes(size) if at < 0 else source[at : at + size] for at in offsets]


def scan_pages(
    data: bytes,
    pos: int,
    page_bits: int,
    block: int,
    block_pages: int,
    name_size: int,
    flat: bool,
    longest: int,
    room: int,
) -> tuple[int, list[tuple[int, bool, int, int, int]], int]:
    """(where it stopped, runs as (kind, named, page, count, payload), why it stopped).

    The reasons are those of ``stream.ram.Stop``. Facts: QEMU ``migration/ram.c``.
    """
    need, full, named, mark, beyond, xbzrle, length_, first = range(8)
    kinds = {0x08: 1, 0x02: 0, 0x40: 2, 0x100: 3}
    page_size = 1 << page_bits
    runs: list[tuple[int, bool, int, int, int]] = []
    fill = 0
    while len(data) - pos >= 8:
        value = int.from_bytes(data[pos : pos + 8], "big")
        flags, page = value % page_size, value // page_size
        continues = bool(flags & 0x20) or flat
        if not flat:
            flags &= ~0x20
        if flags not in kinds:
            return pos, runs, mark
        kind, at = kinds[flags], pos + 8
        if not continues:
            if not name_size:
                return pos, runs, named
            at, name_size = at + name_size, 0
        elif block < 0:
            return pos, runs, first
        if page >= block_pages:
            return pos, runs, beyond
        head = {2: 3, 3: 4}.get(kind, 0)
        if len(data) - at < head:
            return pos, runs, need
        size = {0: 1, 1: page_size}.get(
            kind, int.from_bytes(data[at + head - 2 : at + head], "big")
        )
        if kind == 2 and (data[at] != 1 or size > page_size):
            return pos, runs, xbzrle
        if kind == 3:
            size = int.from_bytes(data[at : at + 4], "big")
            if size > longest:
                return pos, runs, length_
        payload = at + head
        if len(data) - payload < size:
            return pos, runs, need
        if kind == 0 and data[payload]:
            kind = 7
        before = runs[-1] if runs else (-1, False, 0, 0, 0)
        goes_on = before[0] == kind and kind in (0, 1, 7) and before[2] + before[3] == page
        if continues and goes_on and (kind != 7 or data[payload] == fill):
            runs[-1] = (*before[:3], before[3] + 1, before[4])
        elif len(runs) == room:
            return pos, runs, full
        else:
            runs.append((kind, not continues, page, 1, payload))
        fill = data[payload] if kind == 7 else 0
        pos = payload + size
    return pos, runs, need

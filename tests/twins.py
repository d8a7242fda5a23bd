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
    """The pages at ``offsets``."""
    return [source[at : at + size] for at in offsets]

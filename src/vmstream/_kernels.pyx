# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The few loops that touch every page or byte of a stream, and a call that Python lacks."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef extern from "_xbzrle.h":
    Py_ssize_t vms_xbzrle_encode(
        const uint8_t *old, const uint8_t *new_, size_t size, uint8_t *out, size_t limit
    ) nogil
    int vms_xbzrle_decode(
        uint8_t *page, size_t size, const uint8_t *encoded, size_t n, size_t *reached
    ) nogil
    bint vms_is_zero(const uint8_t *data, size_t n) nogil

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static inline uint64_t vms_be64(const uint8_t *p)
    {
        uint64_t v;
        memcpy(&v, p, 8);
    #if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        v = __builtin_bswap64(v);
    #endif
        return v;
    }
    #define vms_prefetch(p) __builtin_prefetch((p), 0, 0)
    """
    uint64_t vms_be64(const uint8_t *p) nogil
    void vms_prefetch(const void *p) nogil


# Why a scan stopped; the same numbers as stream.ram.Stop.
cdef enum:
    STOP_NEED = 0      # the next record is not whole
    STOP_FULL = 1      # no room for another run
    STOP_NAMED = 2     # the next record names its block
    STOP_MARK = 3      # the next record holds no page, or flags that are not legal
    STOP_BEYOND = 4    # the next record's page lies outside the block
    STOP_XBZRLE = 5    # an XBZRLE record with a wrong encoding byte or length
    STOP_LENGTH = 6    # a compressed page longer than the limit
    STOP_FIRST = 7     # the first record continues a block that nothing named

cdef enum:
    FLAG_ZERO = 0x02
    FLAG_PAGE = 0x08
    FLAG_CONTINUE = 0x20
    FLAG_XBZRLE = 0x40
    FLAG_COMPRESS = 0x100

# How many records ahead of the one being read the cache line is fetched: the
# headers of normal pages stand further apart than the hardware looks.
cdef enum:
    AHEAD = 12

# Counts of XBZRLE have 14 bits: a larger page can not be encoded.
cdef enum:
    LARGEST_PAGE = 0x4000

cdef enum:
    GATHER_AHEAD = 4

# Parts given to one sendmsg: a multifd packet's header and its 128 pages.
cdef enum:
    VECTORS = 129


def scan_pages(
    const uint8_t[::1] data not None,
    Py_ssize_t pos,
    int64_t base,
    int page_bits,
    int block,
    uint64_t block_pages,
    int name_size,
    bint flat,
    uint32_t longest,
    uint8_t[::1] kinds not None,
    uint8_t[::1] named not None,
    uint16_t[::1] blocks not None,
    uint32_t[::1] pages not None,
    uint32_t[::1] counts not None,
    int64_t[::1] offsets not None,
):
    """Collect page records from ``data[pos:]`` into runs.

    ``name_size`` is the size of the block name (length byte included) that the
    first record carries, or 0. Returns (position after the last whole record,
    number of runs, why it stopped).
    """
    cdef Py_ssize_t end = data.shape[0]
    cdef Py_ssize_t room = kinds.shape[0]
    cdef Py_ssize_t n = 0, at, payload, length, stride
    cdef Py_ssize_t page_size = (<Py_ssize_t>1) << page_bits
    cdef uint64_t mask = (<uint64_t>1 << page_bits) - 1
    cdef uint64_t value, flags, page
    cdef uint64_t next_page = 0
    cdef int64_t next_offset = -1
    cdef int kind, last_kind = -1
    cdef uint8_t fill, last_fill = 0
    cdef int stop = STOP_NEED
    cdef bint has_name
    cdef Py_ssize_t size_named = name_size
    cdef const uint8_t *bytes_ = &data[0] if end else NULL

    with nogil:
        while True:
            if end - pos < 8:
                stop = STOP_NEED
                break
            value = vms_be64(bytes_ + pos)
            flags = value & mask
            page = value >> page_bits
            has_name = False
            if not flat:
                if flags & FLAG_CONTINUE:
                    flags &= ~<uint64_t>FLAG_CONTINUE
                    if block < 0 and (flags == FLAG_PAGE or flags == FLAG_ZERO):
                        stop = STOP_FIRST
                        break
                else:
                    has_name = True
            at = pos + 8
            if flags == FLAG_PAGE:
                kind = 1
            elif flags == FLAG_ZERO:
                kind = 0
            elif flags == FLAG_XBZRLE:
                kind = 2
            elif flags == FLAG_COMPRESS:
                kind = 3
            else:
                stop = STOP_MARK
                break
            if has_name:
                if size_named == 0:
                    stop = STOP_NAMED
                    break
                at += size_named
                size_named = 0
            elif block < 0:
                stop = STOP_FIRST
                break
            if page >= block_pages:
                stop = STOP_BEYOND
                break
            payload = at
            fill = 0
            if kind == 1:
                length = page_size
                vms_prefetch(bytes_ + pos + AHEAD * (page_size + 8))
            elif kind == 0:
                length = 1
                if at < end:
                    fill = bytes_[at]
                    if fill:
                        kind = 7
            elif kind == 2:
                if end - at < 3:
                    stop = STOP_NEED
                    break
                length = (<Py_ssize_t>bytes_[at + 1] << 8) | bytes_[at + 2]
                if bytes_[at] != 1 or length > page_size:
                    stop = STOP_XBZRLE
                    break
                payload = at + 3
            else:
                if end - at < 4:
                    stop = STOP_NEED
                    break
                length = (
                    (<Py_ssize_t>bytes_[at] << 24) | (<Py_ssize_t>bytes_[at + 1] << 16)
                    | (<Py_ssize_t>bytes_[at + 2] << 8) | bytes_[at + 3]
                )
                if length > longest:
                    stop = STOP_LENGTH
                    break
                payload = at + 4
            if end - payload < length:
                stop = STOP_NEED
                break
            if (
                not has_name and kind == last_kind and (kind <= 1 or kind == 7)
                and page == next_page and base + payload == next_offset and fill == last_fill
            ):
                counts[n - 1] += 1
            else:
                if n == room:
                    stop = STOP_FULL
                    break
                kinds[n] = <uint8_t>kind
                named[n] = has_name
                blocks[n] = <uint16_t>block
                pages[n] = <uint32_t>page
                counts[n] = 1
                offsets[n] = base + payload
                n += 1
                last_kind = kind
                last_fill = fill
            stride = 8 + length
            next_page = page + 1
            next_offset = base + payload + stride
            pos = payload + length
    return pos, n, stop


# XBZRLE. The loops are in _xbzrle.h.


def xbzrle_encode(const uint8_t[::1] old not None, const uint8_t[::1] new not None, limit=None):
    """The difference from ``old`` to ``new``, two pages of one size.

    Returns empty bytes when they are equal, and None when the difference takes
    more than ``limit`` bytes (the page size unless stated).
    """
    cdef Py_ssize_t size = new.shape[0], room, length
    if old.shape[0] != size or size > LARGEST_PAGE:
        raise ValueError(f"pages must be of one size, at most {LARGEST_PAGE} bytes")
    room = size if limit is None else limit
    if room < 0 or room > LARGEST_PAGE:
        raise ValueError(f"limit must be in 0..{LARGEST_PAGE}")
    if size == 0:
        return b""
    cdef uint8_t encoded[LARGEST_PAGE]
    with nogil:
        length = vms_xbzrle_encode(&old[0], &new[0], size, encoded, room)
    return None if length < 0 else encoded[:length]


def xbzrle_encode_pages(
    const uint8_t[:, ::1] old not None,
    const uint8_t[:, ::1] new not None,
    uint8_t[:, ::1] encoded not None,
    int32_t[::1] lengths not None,
):
    """Encode each row of ``new`` as its difference from the same row of ``old``.

    Row i of ``encoded`` begins with ``lengths[i]`` bytes: 0 when the pages are
    equal, -1 when the difference does not fit the row.
    """
    cdef Py_ssize_t pages = new.shape[0], size = new.shape[1], room = encoded.shape[1], i
    if old.shape[0] != pages or encoded.shape[0] != pages or lengths.shape[0] != pages:
        raise ValueError("old, new, encoded and lengths must have one row per page")
    if old.shape[1] != size or size > LARGEST_PAGE or size == 0 or room == 0:
        raise ValueError(f"pages must be of one size, 1 to {LARGEST_PAGE} bytes")
    with nogil:
        for i in range(pages):
            lengths[i] = <int32_t>vms_xbzrle_encode(
                &old[i, 0], &new[i, 0], size, &encoded[i, 0], room
            )


def xbzrle_decode(uint8_t[::1] page not None, const uint8_t[::1] encoded not None):
    """Apply an encoded difference to a page in place.

    Returns (0 or the reason for refusal, position in ``encoded``); the reasons
    are those of wire/xbzrle.py.
    """
    cdef size_t size = page.shape[0], n = encoded.shape[0], reached = 0
    cdef int refusal
    if n == 0:
        return 0, 0
    with nogil:
        refusal = vms_xbzrle_decode(&page[0] if size else NULL, size, &encoded[0], n, &reached)
    return refusal, reached


# Zero pages


def is_zero(const uint8_t[::1] data not None):
    """Whether all bytes are zero."""
    cdef size_t n = data.shape[0]
    cdef bint zero = True
    if n:
        with nogil:
            zero = vms_is_zero(&data[0], n)
    return zero


def zero_pages(const uint8_t[::1] data not None, Py_ssize_t page_size, uint8_t[::1] zero not None):
    """Set ``zero[i]`` to whether page i of ``data`` is zero; the last page may be short."""
    cdef Py_ssize_t n = data.shape[0], i, at
    if page_size <= 0 or zero.shape[0] != n // page_size + (n % page_size != 0):
        raise ValueError("zero must have one byte per page, of a positive size")
    with nogil:
        for i in range(zero.shape[0]):
            at = i * page_size
            zero[i] = vms_is_zero(&data[at], page_size if n - at > page_size else n - at)


# Gather


def gather(
    const uint8_t[::1] source not None,
    const int64_t[::1] offsets not None,
    uint8_t[:, ::1] out not None,
):
    """Copy the page at each of ``offsets`` in ``source`` to the row of ``out`` of that number.

    The row of an offset of -1 becomes zero.
    """
    cdef Py_ssize_t pages = out.shape[0], size = out.shape[1], i
    cdef int64_t last = source.shape[0] - size
    if offsets.shape[0] != pages:
        raise ValueError("out must have one row per offset")
    for i in range(pages):
        if offsets[i] != -1 and (offsets[i] < 0 or offsets[i] > last):
            raise ValueError(f"page {i} at {offsets[i]} is not within the source")
    if size == 0:
        return
    with nogil:
        for i in range(pages):
            if i + GATHER_AHEAD < pages and offsets[i + GATHER_AHEAD] >= 0:
                vms_prefetch(&source[offsets[i + GATHER_AHEAD]])
            if offsets[i] < 0:
                memset(&out[i, 0], 0, size)
            else:
                memcpy(&out[i, 0], &source[offsets[i]], size)


# Parts


cdef extern from *:
    """
    #include <errno.h>
    #include <fcntl.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    static ssize_t vms_send(int descriptor, struct iovec *vectors, int count)
    {
        struct msghdr message = {.msg_iov = vectors, .msg_iovlen = count};
        ssize_t sent = sendmsg(descriptor, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == ENOTSOCK)
            sent = writev(descriptor, vectors, count);
        return sent < 0 ? -errno : sent;
    }
    static ssize_t vms_tee(int from, int to, size_t size)
    {
        ssize_t copied = tee(from, to, size, SPLICE_F_NONBLOCK);
        return copied < 0 ? -errno : copied;
    }
    """
    struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t vms_tee(int source, int sink, size_t size) nogil
    ssize_t vms_send(int descriptor, iovec *vectors, int count) nogil


def send_parts(
    int descriptor,
    const uint8_t[::1] heads not None,
    const uint8_t[::1] data not None,
    const int64_t[::1] places not None,
    const int64_t[::1] ends not None,
    Py_ssize_t start,
    Py_ssize_t stop,
):
    """Send bytes ``start`` to ``stop - 1`` of parts that follow each other, as many as go now.

    The system takes them from where they stand: no part is copied before, or
    an object of its own.

    Args:
        descriptor: a stream socket, a pipe or a file, non-blocking where it can be.
        places: where each part begins in ``data``; ``~place`` for one in ``heads``.
        ends: where each part ends, counted from the beginning of the first.

    Returns:
        the bytes sent; or if the first call failed the negative ``errno``.

    Raises:
        ValueError: a part is not within its bytes, or there is nothing to send.
    """
    cdef iovec vectors[VECTORS]
    cdef Py_ssize_t count = places.shape[0], part = 0, used, size, skip
    cdef Py_ssize_t begin = 0, position = start, i
    cdef int64_t place, room
    cdef const uint8_t *at
    cdef ssize_t sent = 0
    if ends.shape[0] != count or not count or not 0 <= start < stop <= ends[count - 1]:
        raise ValueError("there are no such bytes in these parts")
    for i in range(count):
        place, room = places[i], data.shape[0]
        if place < 0:
            place, room = ~place, heads.shape[0]
        if ends[i] < begin or place > room or ends[i] - begin > room - place:
            raise ValueError(f"part {i} at {places[i]} is not within its bytes")
        begin = ends[i]
    with nogil:
        while position < stop:
            while ends[part] <= position:
                part += 1
            used = 0
            for i in range(part, count):
                begin = ends[i - 1] if i else 0
                if used == VECTORS or begin >= stop:
                    break
                skip = position - begin if position > begin else 0
                size = min(ends[i], stop) - begin - skip
                if size <= 0:
                    continue
                place = places[i]
                at = &heads[~place] if place < 0 else &data[place]
                vectors[used].iov_base = <void *>(at + skip)
                vectors[used].iov_len = size
                used += 1
            sent = vms_send(descriptor, vectors, <int>used)
            if sent < 0:
                break
            position += sent
    return position - start if position > start else sent


def tee(int source, int sink, size_t size):
    """Have a pipe hold what another one holds, up to ``size`` bytes, without copying it.

    Returns:
        the bytes, as many as there was room for; or the negative ``errno``.
    """
    cdef ssize_t copied
    with nogil:
        copied = vms_tee(source, sink, size)
    return copied

/* XBZRLE over one page, and the zero test: the loops of _kernels.pyx that gain from vectors.
 *
 * Format and rules: QEMU migration/xbzrle.c (1.2+). All of it works on 64 bytes at a time: which
 * of them are equal becomes the bits of a word, and runs are found by counting trailing zeros.
 * SSE2 is part of every x86-64; elsewhere eight bytes are compared at once in a plain word.
 */
#ifndef VMSTREAM_XBZRLE_H
#define VMSTREAM_XBZRLE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__) && !defined(VMSTREAM_PORTABLE)
#include <emmintrin.h>
#endif

#define VMS_SPAN 64
#define VMS_COPY 16
#define VMS_LONGEST_RUN 0x3fff
#define VMS_OVERFLOW (-1)

/* Bit i is set where byte i differs; for 64 bytes on each side. */
static inline uint64_t vms_differ(const uint8_t *old, const uint8_t *new_)
{
    uint64_t differ = 0;
#if defined(__SSE2__) && !defined(VMSTREAM_PORTABLE)
    for (int i = 0; i < 4; i++) {
        __m128i a = _mm_loadu_si128((const __m128i *)(old + 16 * i));
        __m128i b = _mm_loadu_si128((const __m128i *)(new_ + 16 * i));
        differ |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(a, b)) << (16 * i);
    }
    return ~differ;
#else
    const uint64_t low = 0x7f7f7f7f7f7f7f7fULL;
    for (int i = 0; i < 8; i++) {
        uint64_t a, b, x;
        memcpy(&a, old + 8 * i, 8);
        memcpy(&b, new_ + 8 * i, 8);
        x = a ^ b;
        if (!x)
            continue;
        x = (((x & low) + low) | x) >> 7 & 0x0101010101010101ULL;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        x = __builtin_bswap64(x);
#endif
        differ |= (x * 0x0102040810204080ULL >> 56) << (8 * i);
    }
    return differ;
#endif
}

/* The same for the last bytes of a page that is not a multiple of 64. */
static inline uint64_t vms_differ_tail(const uint8_t *old, const uint8_t *new_, size_t n)
{
    uint64_t differ = 0;
    for (size_t i = 0; i < n; i++)
        differ |= (uint64_t)(old[i] != new_[i]) << i;
    return differ;
}

static inline uint64_t vms_differ_at(
    const uint8_t *old, const uint8_t *new_, size_t at, size_t size)
{
    if (size - at >= VMS_SPAN)
        return vms_differ(old + at, new_ + at);
    return vms_differ_tail(old + at, new_ + at, size - at);
}

/* Copy n bytes; short runs at the cost of one load and store where both sides have room. */
static inline void vms_copy_run(
    uint8_t *out, size_t out_room, const uint8_t *from, size_t from_room, size_t n)
{
    if (n <= VMS_COPY && out_room >= VMS_COPY && from_room >= VMS_COPY)
        memcpy(out, from, VMS_COPY);
    else
        memcpy(out, from, n);
}

static inline size_t vms_uleb128(uint8_t *out, size_t n)
{
    if (n < 0x80) {
        out[0] = (uint8_t)n;
        return 1;
    }
    out[0] = (uint8_t)(n & 0x7f) | 0x80;
    out[1] = (uint8_t)(n >> 7);
    return 2;
}

/* Encode new_ as its difference from old, both of size bytes, into at most limit bytes.
 *
 * Returns the length, 0 when the pages are equal, VMS_OVERFLOW when the limit does not suffice.
 * Overflow is declared where QEMU does: when a run header begins with less than two bytes left,
 * even if one byte or none would have been needed.
 */
static inline ptrdiff_t vms_xbzrle_encode(
    const uint8_t *old, const uint8_t *new_, size_t size, uint8_t *out, size_t limit)
{
    size_t at = 0;     /* first byte of the span whose bits are held */
    size_t begin;      /* where the run begins */
    size_t pos = 0;    /* where the next run begins */
    size_t done = 0;   /* bytes written */
    uint64_t differ;   /* which bytes of that span differ; pos lies in it */

    if (!size)
        return 0;
    if (limit < 2)
        return VMS_OVERFLOW;
    differ = vms_differ_at(old, new_, 0, size);
    for (;;) {
        uint64_t left;

        /* Equal bytes, up to the next that differs. */
        begin = pos;
        left = differ >> (pos - at) << (pos - at);
        while (!left) {
            at += VMS_SPAN;
            if (at >= size)
                return (ptrdiff_t)done;
            left = differ = vms_differ_at(old, new_, at, size);
        }
        pos = at + (size_t)__builtin_ctzll(left);
        done += vms_uleb128(out + done, pos - begin);
        if (done + 2 > limit)
            return VMS_OVERFLOW;

        /* Differing bytes, up to the next that is equal; past the end all bits are clear. */
        begin = pos;
        left = ~differ >> (pos - at) << (pos - at);
        while (!left) {
            at += VMS_SPAN;
            if (at >= size)
                break;
            differ = vms_differ_at(old, new_, at, size);
            left = ~differ;
        }
        pos = left ? at + (size_t)__builtin_ctzll(left) : size;
        if (pos - begin > VMS_LONGEST_RUN)
            return VMS_OVERFLOW;
        done += vms_uleb128(out + done, pos - begin);
        if (done + (pos - begin) > limit)
            return VMS_OVERFLOW;
        vms_copy_run(out + done, limit - done, new_ + begin, size - begin, pos - begin);
        done += pos - begin;
        if (pos >= size)
            return (ptrdiff_t)done;
        if (done + 2 > limit)
            return VMS_OVERFLOW;
    }
}

/* Copy exactly n bytes: what stands behind a run must stay as it is. */
static inline void vms_copy_exactly(uint8_t *out, const uint8_t *from, size_t n)
{
    if (n > 16) {
        memcpy(out, from, n);
    } else if (n >= 8) {
        uint64_t first, last;
        memcpy(&first, from, 8);
        memcpy(&last, from + n - 8, 8);
        memcpy(out, &first, 8);
        memcpy(out + n - 8, &last, 8);
    } else if (n >= 4) {
        uint32_t first, last;
        memcpy(&first, from, 4);
        memcpy(&last, from + n - 4, 4);
        memcpy(out, &first, 4);
        memcpy(out + n - 4, &last, 4);
    } else {
        for (size_t i = 0; i < n; i++)
            out[i] = from[i];
    }
}

/* Why a difference does not decode; wire/xbzrle.py has the sentences. */
enum {
    VMS_CUT_HEADER = -1,
    VMS_LONG_COUNT = -2,
    VMS_EMPTY_RUN = -3,
    VMS_BEYOND_PAGE = -4,
    VMS_CUT_RUN = -5,
};

/* Apply a difference of n bytes to a page of size bytes; *reached is how much of it was read.
 *
 * Returns 0 or why it is refused. Two bytes must be left at each count, as QEMU's decoder has it.
 */
static inline int vms_xbzrle_decode(
    uint8_t *page, size_t size, const uint8_t *encoded, size_t n, size_t *reached)
{
    size_t pos = 0, at = 0, count;

    *reached = 0;
    while (pos < n) {
        for (int run = 0; run < 2; run++) {
            *reached = pos;
            if (n - pos < 2)
                return VMS_CUT_HEADER;
            count = encoded[pos] & 0x7f;
            if (encoded[pos] & 0x80) {
                if (encoded[pos + 1] & 0x80)
                    return VMS_LONG_COUNT;
                count |= (size_t)encoded[pos + 1] << 7;
            }
            if (!count && (run || pos))
                return VMS_EMPTY_RUN;
            if (count > size - at)
                return VMS_BEYOND_PAGE;
            pos += encoded[pos] & 0x80 ? 2 : 1;
            if (run) {
                if (count > n - pos)
                    return VMS_CUT_RUN;
                vms_copy_exactly(page + at, encoded + pos, count);
                pos += count;
            }
            at += count;
        }
    }
    *reached = pos;
    return 0;
}

/* Whether n bytes are all zero. */
static inline int vms_is_zero(const uint8_t *bytes, size_t n)
{
    size_t i = 0;
    for (; n - i >= VMS_SPAN; i += VMS_SPAN) {
        uint64_t word, any = 0;
        for (int k = 0; k < VMS_SPAN; k += 8) {
            memcpy(&word, bytes + i + k, 8);
            any |= word;
        }
        if (any)
            return 0;
    }
    for (; i < n; i++)
        if (bytes[i])
            return 0;
    return 1;
}

#endif

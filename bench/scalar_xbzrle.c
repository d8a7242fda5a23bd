/* XBZRLE one byte after the other: what the kernel is measured against. Built by bench_kernels.py. */
#include <stdint.h>
#include <string.h>

static int count(uint8_t *out, int n)
{
    if (n < 128) {
        out[0] = (uint8_t)n;
        return 1;
    }
    out[0] = (uint8_t)(n & 127) | 128;
    out[1] = (uint8_t)(n >> 7);
    return 2;
}

static int encode(const uint8_t *old, const uint8_t *new_, int size, uint8_t *out, int limit)
{
    int at = 0, done = 0;

    while (at < size) {
        int begin = at;
        if (done + 2 > limit)
            return -1;
        while (at < size && old[at] == new_[at])
            at++;
        if (at == size)
            break;
        done += count(out + done, at - begin);
        if (done + 2 > limit)
            return -1;
        begin = at;
        while (at < size && old[at] != new_[at])
            at++;
        done += count(out + done, at - begin);
        if (done + at - begin > limit)
            return -1;
        memcpy(out + done, new_ + begin, (size_t)(at - begin));
        done += at - begin;
    }
    return done;
}

void encode_pages(
    const uint8_t *old, const uint8_t *new_, int pages, int size, uint8_t *out, int32_t *lengths)
{
    for (int i = 0; i < pages; i++) {
        const long at = (long)i * size;
        lengths[i] = encode(old + at, new_ + at, size, out + at, size);
    }
}

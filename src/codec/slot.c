// SPDX-License-Identifier: Apache-2.0
#include "codec/slot.h"

#include <pthread.h>

#include "base/err.h"

// The table of polynomial 0x1021 for one byte, from the constants of its eight bits.
#define BIT(v, b, c) ((((v) >> (b)) & 1) * (c))
#define CRC(v)                                                                                     \
    (uint16_t)(BIT(v, 0, 0x1021) ^ BIT(v, 1, 0x2042) ^ BIT(v, 2, 0x4084) ^ BIT(v, 3, 0x8108) ^     \
               BIT(v, 4, 0x1231) ^ BIT(v, 5, 0x2462) ^ BIT(v, 6, 0x48c4) ^ BIT(v, 7, 0x9188))
#define CRC4(v) CRC(v), CRC((v) + 1), CRC((v) + 2), CRC((v) + 3)
#define CRC16(v) CRC4(v), CRC4((v) + 4), CRC4((v) + 8), CRC4((v) + 12)
#define CRC64(v) CRC16(v), CRC16((v) + 16), CRC16((v) + 32), CRC16((v) + 48)

static const uint16_t table[256] = {CRC64(0), CRC64(64), CRC64(128), CRC64(192)};

uint16_t crc16(const char *p, size_t n)
{
    unsigned crc = 0;
    for (size_t i = 0; i < n; i++)
        crc = ((crc << 8) & 0xffff) ^ table[(crc >> 8) ^ (unsigned char)p[i]];
    return (uint16_t)crc;
}

int slot_of(struct slice key)
{
    const char *open = key.n ? memchr(key.p, '{', key.n) : NULL;
    if (open) {
        const char *tag = open + 1;
        size_t rest = key.n - (size_t)(tag - key.p);
        const char *close = rest ? memchr(tag, '}', rest) : NULL;
        if (close && close != tag)
            key = slice_make(tag, (size_t)(close - tag));
    }
    return crc16(key.p, key.n) & (SLOT_COUNT - 1);
}

enum { TAG_MAX = 4 };
static char tags[SLOT_COUNT][TAG_MAX + 1];

// Number n of the words of up to TAG_MAX digits and letters, shorter ones first; returns its
// length.
static size_t write_word(char *dst, unsigned n)
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    enum { BASE = sizeof(digits) - 1 };
    size_t len = 1;
    for (unsigned words = BASE; n >= words; words *= BASE, len++)
        n -= words;
    must(len <= TAG_MAX);
    for (size_t i = len; i-- > 0; n /= BASE)
        dst[i] = digits[n % BASE];
    return len;
}

static void find_tags(void)
{
    char word[TAG_MAX];
    int missing = SLOT_COUNT;
    for (unsigned n = 0; missing > 0; n++) {
        size_t len = write_word(word, n);
        char *tag = tags[crc16(word, len) & (SLOT_COUNT - 1)];
        if (tag[0])
            continue;
        memcpy(tag, word, len);
        missing--;
    }
}

const char *slot_tag(int slot)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    must(slot >= 0 && slot < SLOT_COUNT);
    must(pthread_once(&once, find_tags) == 0);
    return tags[slot];
}

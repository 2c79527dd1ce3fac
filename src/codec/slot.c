// SPDX-License-Identifier: Apache-2.0
#include "codec/slot.h"

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

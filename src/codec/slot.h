// SPDX-License-Identifier: Apache-2.0
#ifndef GUNYU_CODEC_SLOT_H
#define GUNYU_CODEC_SLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

#define SLOT_COUNT 16384
#define SLOT_SET_BYTES (SLOT_COUNT / 8) // of a set of slots, zeroed: none

// CRC-16/XMODEM, as the cluster specification.
uint16_t crc16(const char *p, size_t n);
// The slot of a key: what stands in the first "{...}" if that is not empty, else the whole key.
int slot_of(struct slice key);
// A short string, the same ever after, that alone or as "{tag}" in a key hashes to the slot.
// Letters and digits only; static. Any thread.
const char *slot_tag(int slot);

static inline bool slot_set_has(const uint8_t *set, int slot)
{
    return set[slot >> 3] >> (slot & 7) & 1;
}

static inline void slot_set_add(uint8_t *set, int slot)
{
    set[slot >> 3] |= (uint8_t)(1 << (slot & 7));
}

static inline void slot_set_remove(uint8_t *set, int slot)
{
    set[slot >> 3] &= (uint8_t) ~(1 << (slot & 7));
}

#endif

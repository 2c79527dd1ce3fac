// SPDX-License-Identifier: Apache-2.0
#ifndef GUNYU_CODEC_SLOT_H
#define GUNYU_CODEC_SLOT_H

#include <stdint.h>

#include "base/slice.h"

#define SLOT_COUNT 16384

// CRC-16/XMODEM, as the cluster specification.
uint16_t crc16(const char *p, size_t n);
// The slot of a key: what stands in the first "{...}" if that is not empty, else the whole key.
int slot_of(struct slice key);
// A short string, the same ever after, that alone or as "{tag}" in a key hashes to the slot.
// Letters and digits only; static. Any thread.
const char *slot_tag(int slot);

#endif

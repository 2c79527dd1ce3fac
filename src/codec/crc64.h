// SPDX-License-Identifier: Apache-2.0
#ifndef GUNYU_CODEC_CRC64_H
#define GUNYU_CODEC_CRC64_H

#include <stddef.h>
#include <stdint.h>

// Redis's CRC-64 (Jones, reflected, no inversion), chunk by chunk from 0.
// crc64_update(0, "123456789", 9) == 0xe9c6d914c4b8d9ca.
uint64_t crc64_update(uint64_t crc, const void *p, size_t n);

#endif

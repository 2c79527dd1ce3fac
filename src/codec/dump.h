// SPDX-License-Identifier: Apache-2.0
// DUMP payloads: type byte, serialized value, RDB version (2 bytes LE), CRC-64 (8 bytes LE).
#ifndef GUNYU_CODEC_DUMP_H
#define GUNYU_CODEC_DUMP_H

#include "base/err.h"
#include "base/slice.h"

#define DUMP_TRAILER 10
// The trailer for `type` followed by `raw`, so that the payload can be sent as three pieces.
void dump_trailer(uint8_t type, struct slice raw, uint16_t rdb_version, uint8_t out[DUMP_TRAILER]);
// Checks version and CRC of a payload and takes it apart.
int dump_parse(struct slice payload, uint8_t *type, struct slice *raw, uint16_t *version,
               struct err *e) must_check;

#endif

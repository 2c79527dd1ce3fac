// SPDX-License-Identifier: Apache-2.0
// Lengths and strings as RDB files have them.
#ifndef GUNYU_CODEC_RDB_LEN_H
#define GUNYU_CODEC_RDB_LEN_H

#include "base/buf.h"

void rdb_put_len(struct buf *b, uint64_t v);
uint64_t rdb_get_len(struct slice s); // what rdb_put_len, or any server, has written into s
void rdb_put_string(struct buf *b, struct slice s);

#endif

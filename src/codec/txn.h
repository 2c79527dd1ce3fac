// SPDX-License-Identifier: Apache-2.0
// Where a transaction of the replication stream ends.
#ifndef GUNYU_CODEC_TXN_H
#define GUNYU_CODEC_TXN_H

#include "codec/resp.h"

// Zeroed is ready for txn_restart; resp_cmd_free(&cmd) afterwards. Private.
struct txn_scan {
    struct resp_cmd cmd;
    uint64_t at;
    size_t scanned; // so many bytes hold no EXEC
};

// Nothing is known of any transaction.
void txn_restart(struct txn_scan *s);
// The transaction that begins with the MULTI at position `at`, p[0..n): *len is its length, 0 when
// its EXEC has not come. Goes on where it was for the same position: a transaction may come in many
// pieces. ERR_PROTOCOL as resp_cmd_parse.
int txn_length(struct txn_scan *s, uint64_t at, const char *p, size_t n, size_t *len) must_check;

#endif

// SPDX-License-Identifier: Apache-2.0
// Keys and hash fields whose near expiry was replaced at the target by a far one (flow/expiry.h),
// because the stream may still renew them. The table tells when the true expiry may be set; the
// target itself holds what it is, so losing the table costs a sweep of the key space and no data.
#ifndef GUNYU_TARGET_EXPIRY_H
#define GUNYU_TARGET_EXPIRY_H

#include "target/batcher.h"

struct expiry;
struct expiry *expiry_new(size_t max_bytes);
void expiry_free(struct expiry *x);

// Held now; field empty for the key itself. A full table drops it and asks for a sweep.
void expiry_held(struct expiry *x, int db, struct slice key, struct slice field, int64_t true_ms,
                 int64_t now_ms);
// Names have changed (RENAME, COPY, SWAPDB...): some held keys can only be found by a sweep.
void expiry_moved(struct expiry *x);
bool expiry_any(const struct expiry *x); // something is held or a sweep is wanted
bool expiry_wants_sweep(const struct expiry *x);
// The sweep that was wanted has been done.
void expiry_swept(struct expiry *x);
size_t expiry_count(const struct expiry *x);

// Sends what is due, as units of at most max_cmds keys each, while the lane has caught up. settled
// counts the keys. Returns true when more is due now.
bool expiry_settle(struct expiry *x, struct batcher *b, const struct batch_mark *mark,
                   int64_t now_ms, uint64_t *settled);
void expiry_clear(struct expiry *x);

#endif

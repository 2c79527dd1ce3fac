// SPDX-License-Identifier: Apache-2.0
// Keys and hash fields whose near expiry was replaced at the target by a far one (flow/expiry.h),
// because the stream may still renew them. The table tells when the true expiry may be set; the
// target itself holds what it is, so losing the table costs a sweep of the key space and no data.
//
// An entry is held (far at the target) until its key was quiet for a while, then settled (true at
// the target) until that time has passed, so that a pause can make it far again. Whatever is sent
// changes a key only if its expiry is still exactly what the entry says.
//
// Times are unix ms of the source's clock, by which true expiries are meant.
#ifndef GUNYU_TARGET_EXPIRY_H
#define GUNYU_TARGET_EXPIRY_H

#include "target/sink.h"

// An expiry that has passed is set only after this: the source's own DEL is on its way, and the
// clocks of source and target may differ a little.
#define EXPIRY_GRACE_MS 5000

struct expiry;
struct expiry *expiry_new(size_t max_bytes);
void expiry_free(struct expiry *x);
// What the scripts may use, and whether the target is a cluster: then the keys of a unit lie in one
// slot. That must be said before anything is held.
void expiry_set_target(struct expiry *x, int version, bool is_valkey, bool cluster);

// Held now; field.p NULL for the key itself. A full table drops it and asks for a sweep.
void expiry_held(struct expiry *x, int db, struct slice key, struct slice field, int64_t true_ms,
                 int64_t now_ms);
// The same as a sweep found it; what the stream has said of the key since is newer.
void expiry_found(struct expiry *x, int db, struct slice key, struct slice field, int64_t true_ms,
                  int64_t now_ms);
// The expiry of `from` is also that of `to` (RENAME, COPY, MOVE).
void expiry_follow(struct expiry *x, int from_db, struct slice from, int to_db, struct slice to,
                   int64_t now_ms);
// Some held keys can only be found by a sweep.
void expiry_want_sweep(struct expiry *x);
bool expiry_wants_sweep(const struct expiry *x);
// A sweep that will see all that is far now has begun.
void expiry_sweep_begun(struct expiry *x);
bool expiry_any(const struct expiry *x); // something is held or a sweep is wanted
// What the position has to say. In a cluster it is not written in one transaction with what makes
// settled keys far again, so it must say so before.
bool expiry_may_be_far(const struct expiry *x);
bool expiry_any_fields(const struct expiry *x); // fields were ever held
size_t expiry_count(const struct expiry *x);    // held

// Sends what is due, while the lane has caught up; bounded work. settled counts. Returns true when
// more is due now.
bool expiry_settle(struct expiry *x, struct sink *s, const struct batch_mark *mark, int64_t now_ms,
                   uint64_t *settled);
// Makes what is settled far and held again, a bounded number a call. Returns true when more is to
// do. Nothing may be settled between the two.
void expiry_defuse_begin(struct expiry *x);
bool expiry_defuse(struct expiry *x, struct sink *s, const struct batch_mark *mark, int64_t now_ms);
void expiry_clear(struct expiry *x);

// Lua that a script on such a server begins with: ms() is its clock, at(key) an expiry as
// PEXPIRETIME tells it, same(a, b) whether two of them are equal. ARGV[1] must be the time.
const char *expiry_script_head(int version, bool is_valkey);

#endif

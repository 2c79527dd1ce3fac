// SPDX-License-Identifier: Apache-2.0
// What the files of `gunyu rdb diff` share; nobody else includes it.
//
// Each side is read once and becomes a record a key: digests of the key and of its value, whatever
// order or encoding the value came in. The records of both sides meet in order of their digests, a
// part at a time, so that memory does not depend on how many keys there are.
#ifndef GUNYU_RDB_DIFF_INT_H
#define GUNYU_RDB_DIFF_INT_H

#include "base/buf.h"
#include "codec/rdb.h"
#include "net/endpoint.h"
#include "rdb/select.h"

// ---- diff_digest.c ----

struct diff_record {
    uint64_t key[2];   // digest of db and key
    uint64_t value[2]; // digest of the value, expiries apart
    uint64_t field_ttls;
    int64_t expire_ms; // -1 none
    uint64_t elements; // of a string: bytes
    uint64_t name_at;  // where the store has the key
    uint32_t name_n;
    int32_t db;
    uint32_t object; // enum rdb_object
};

// A value as it is read, element by element.
struct diff_digest {
    void *ordered; // owns; an XXH3 state
    enum rdb_object object;
    uint64_t sum[2]; // of the digests of what has no order
    uint64_t field_ttls, elements;
    int64_t expired_ms; // fields that have expired by then do not count; 0: all do
};

void diff_digest_init(struct diff_digest *d, int64_t expired_ms);
void diff_digest_free(struct diff_digest *d);
void diff_digest_begin(struct diff_digest *d, enum rdb_object object);
void diff_digest_element(struct diff_digest *d, const struct rdb_element *el);
// Bytes that no element is known of (a module's value).
void diff_digest_raw(struct diff_digest *d, struct slice piece);
// Fills in value, field_ttls, elements and object.
void diff_digest_end(struct diff_digest *d, struct diff_record *out);
void diff_digest_key(struct diff_record *out, int db, struct slice key);

// ---- diff_store.c ----

struct diff_store;
// Files without a name in dir take what a small buffer does not.
struct diff_store *diff_store_new(const char *dir);
void diff_store_free(struct diff_store *s);
// Takes a record with db, key digest and value filled in.
int diff_store_add(struct diff_store *s, struct diff_record *rec, struct slice key,
                   struct err *e) must_check;
int diff_store_name(struct diff_store *s, const struct diff_record *rec, struct buf *out,
                    struct err *e) must_check;

enum diff_kind { DIFF_MISSING, DIFF_EXTRA, DIFF_TYPE, DIFF_VALUE, DIFF_TTL, DIFF_KINDS };

struct diff_rules {
    bool ignore_ttl;
    int64_t ttl_tolerance_ms;
    size_t memory; // for the records of both sides
    // a or b is NULL when that side does not have the key.
    int (*found)(void *ctx, enum diff_kind kind, const struct diff_record *a,
                 const struct diff_record *b, struct err *e);
    void *ctx;
};

struct diff_counts {
    uint64_t a, b, equal; // keys
    uint64_t kinds[DIFF_KINDS];
};

int diff_compare(struct diff_store *a, struct diff_store *b, const struct diff_rules *r,
                 struct diff_counts *counts, struct err *e) must_check;

// ---- diff_file.c, diff_live.c ----

struct diff_side {
    const char *name; // path, "-" or URI
    bool live;
    struct endpoint endpoint; // live
    char shown[300];          // name without secrets
    const struct selection *selection;
    struct rdb_unknown unknown; // a file's
    int64_t now_ms;             // when the comparison began
    bool drop_expired;          // by then
    struct diff_store *store;
    uint64_t expired;  // left out
    bool ttl_is_rough; // a server that tells only what is left to live
    int rc;
    struct err err;
};

// Selected, and no bookkeeping of ours.
bool diff_wants(const struct diff_side *s, const struct rdb_item *item);
int diff_read_file(struct diff_side *s, struct err *e) must_check;
int diff_read_live(struct diff_side *s, struct err *e) must_check;

#endif

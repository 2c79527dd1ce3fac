// SPDX-License-Identifier: Apache-2.0
// What etcd's JSON gateway takes and gives. Pure. Its answers are peer input: every function here
// takes any JSON, and what is missing or of another kind is an error or reads as nothing.
#ifndef GUNYU_CONTROL_ETCD_JSON_H
#define GUNYU_CONTROL_ETCD_JSON_H

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"

// Bytes travel as base64.
void etcd_base64(struct slice s, struct buf *out);
// False for anything that is not base64, with its padding.
bool etcd_unbase64(struct slice s, struct buf *out);
json_t *etcd_bytes(const char *s); // new
// 64-bit numbers are strings there, and left out when they are 0.
int64_t etcd_number(const json_t *object, const char *name);

// ---- requests; all are new ----

// "a/" as a range is every key that begins so.
json_t *etcd_range(const char *key, bool is_prefix);
json_t *etcd_put(const char *key, const char *value, int64_t lease);
// Holds if the key (with is_prefix: every key that begins so) was created at this revision; 0: if
// there is none.
json_t *etcd_compare_created(const char *key, bool is_prefix, uint64_t revision);
// The operations of a transaction, from the requests above; "put", "range" or "delete_range".
json_t *etcd_op(const char *kind, json_t *request);
// compare, success and failure are taken; the last two are lists of operations or NULL.
json_t *etcd_txn(json_t *compare, json_t *success, json_t *failure);

// ---- answers ----

struct etcd_kv {
    char *key, *value; // own; without bytes that are 0
    uint64_t created;  // revision
    int64_t lease;     // 0: none
};

// By key.
struct etcd_kvs {
    struct etcd_kv *v; // owns
    size_t n;
};

// The keys in an answer to a range, or in the n-th (from 0) answer of a transaction. A key or value
// that is not text is left out. ERR_PROTOCOL when it is no such answer.
int etcd_read_range(const json_t *answer, struct etcd_kvs *out, struct err *e) must_check;
int etcd_read_txn_range(const json_t *answer, size_t n, struct etcd_kvs *out,
                        struct err *e) must_check;
bool etcd_succeeded(const json_t *txn_answer);
void etcd_kvs_free(struct etcd_kvs *kvs);
// The key's entry or NULL.
const struct etcd_kv *etcd_find(const struct etcd_kvs *kvs, const char *key);
// Of the keys that begin so the one that was created first, or NULL.
const struct etcd_kv *etcd_oldest(const struct etcd_kvs *kvs, const char *prefix);

enum etcd_code {
    ETCD_OK = 0,
    ETCD_UNKNOWN = 2,
    ETCD_INVALID = 3,
    ETCD_DEADLINE = 4,
    ETCD_NOT_FOUND = 5,
    ETCD_PERMISSION = 7,
    ETCD_UNAVAILABLE = 14,
    ETCD_UNAUTHENTICATED = 16,
};
// The error that an answer is, with its words (which have no line ends, and are cut) in text;
// ETCD_OK if it is none.
int etcd_error(const json_t *answer, char *text, size_t cap);

// One message of a watch.
struct etcd_event {
    bool created;     // it begins
    bool changed;     // keys have changed
    bool canceled;    // it has ended
    bool compacted;   // ... because what it should begin with is gone
    int64_t revision; // up to which it has told; 0: unknown
};
int etcd_read_watch(const json_t *message, struct etcd_event *out, struct err *e) must_check;

#endif

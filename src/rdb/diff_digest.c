// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <xxhash.h>

#include "base/mem.h"
#include "rdb/diff_int.h"

void diff_digest_init(struct diff_digest *d, int64_t expired_ms)
{
    *d = (struct diff_digest){.ordered = XXH3_createState(), .expired_ms = expired_ms};
    must(d->ordered);
}

void diff_digest_free(struct diff_digest *d)
{
    XXH3_freeState(d->ordered);
    d->ordered = NULL;
}

void diff_digest_begin(struct diff_digest *d, enum rdb_object object)
{
    XXH3_128bits_reset(d->ordered);
    d->object = object;
    d->sum[0] = d->sum[1] = d->field_ttls = d->elements = 0;
}

static void add(struct diff_digest *d, const void *p, size_t n)
{
    must(XXH3_128bits_update(d->ordered, p, n) == XXH_OK);
}

static void add_string(struct diff_digest *d, struct slice s)
{
    uint64_t n = s.n;
    add(d, &n, sizeof(n));
    add(d, s.p, s.n);
}

// What has no order is added up; the seed binds an element's second part to its first.
static void add_unordered(struct diff_digest *d, XXH128_hash_t h)
{
    d->sum[0] += h.low64;
    d->sum[1] += h.high64;
}

static uint64_t fold(XXH128_hash_t h)
{
    return h.low64 ^ (h.high64 << 1 | h.high64 >> 63);
}

static XXH128_hash_t digest(struct slice s, uint64_t seed)
{
    return XXH3_128bits_withSeed(s.p, s.n, seed);
}

static void add_hash_field(struct diff_digest *d, const struct rdb_element *el)
{
    if (d->expired_ms && el->expire_ms >= 0 && el->expire_ms <= d->expired_ms)
        return;
    XXH128_hash_t field = digest(el->field, 0);
    add_unordered(d, digest(el->value, fold(field)));
    if (el->expire_ms >= 0)
        d->field_ttls += XXH3_64bits_withSeed(&field, sizeof(field), (uint64_t)el->expire_ms);
    d->elements++;
}

static uint64_t score_bits(double score)
{
    uint64_t bits;
    if (score == 0)
        score = 0; // no negative zero
    memcpy(&bits, &score, sizeof(bits));
    return bits;
}

// Idle times and counters, which old versions do not store and replicas do not share, are left out.
static void add_stream_step(struct diff_digest *d, const struct rdb_element *el)
{
    uint64_t head[5] = {(uint64_t)el->stream_step, el->id_ms, el->id_seq};
    switch ((enum rdb_stream_step)el->stream_step) {
    case RDB_STREAM_ENTRY:
        head[3] = (uint64_t)el->pairs;
        add(d, head, sizeof(head));
        d->elements++;
        return;
    case RDB_STREAM_FIELD:
        add_string(d, el->field);
        add_string(d, el->value);
        return;
    case RDB_STREAM_META:
        add(d, head, sizeof(head));
        return;
    case RDB_STREAM_IDMP:
    case RDB_STREAM_IDMP_TOTALS:
        return;
    case RDB_STREAM_CONSUMER:
        head[1] = head[2] = 0;
        break;
    case RDB_STREAM_PENDING:
    case RDB_STREAM_NACKED:
        head[3] = (uint64_t)el->delivery_time_ms;
        head[4] = el->delivery_count;
        break;
    case RDB_STREAM_GROUP:
    case RDB_STREAM_IDMP_ENTRY:
        break;
    }
    uint64_t seed = fold(digest(slice_make((char *)head, sizeof(head)), 0));
    add_unordered(d, digest(el->value, fold(digest(el->field, seed))));
}

void diff_digest_element(struct diff_digest *d, const struct rdb_element *el)
{
    switch (d->object) {
    case RDB_OBJ_STRING:
        add(d, el->value.p, el->value.n);
        d->elements += el->value.n;
        break;
    case RDB_OBJ_SET:
        add_unordered(d, digest(el->value, 0));
        d->elements++;
        break;
    case RDB_OBJ_ZSET:
        add_unordered(d, digest(el->value, score_bits(el->score)));
        d->elements++;
        break;
    case RDB_OBJ_HASH:
        add_hash_field(d, el);
        break;
    case RDB_OBJ_STREAM:
        add_stream_step(d, el);
        break;
    case RDB_OBJ_ARRAY:
        add_unordered(d, digest(el->value, el->at));
        d->elements++;
        break;
    case RDB_OBJ_PATH_HASH:
        add_unordered(d, digest(el->value, fold(digest(el->field, fold(digest(el->path, 0))))));
        d->elements++;
        break;
    case RDB_OBJ_LIST:
        add_string(d, el->value);
        d->elements++;
        break;
    case RDB_OBJ_MODULE: // has no elements
        break;
    }
}

void diff_digest_raw(struct diff_digest *d, struct slice piece)
{
    add(d, piece.p, piece.n);
    d->elements += piece.n;
}

void diff_digest_end(struct diff_digest *d, struct diff_record *out)
{
    uint64_t tail[] = {(uint64_t)d->object, d->elements, d->sum[0], d->sum[1]};
    add(d, tail, sizeof(tail));
    XXH128_hash_t h = XXH3_128bits_digest(d->ordered);
    out->value[0] = h.low64;
    out->value[1] = h.high64;
    out->field_ttls = d->field_ttls;
    out->elements = d->elements;
    out->object = d->object;
}

void diff_digest_key(struct diff_record *out, int db, struct slice key)
{
    XXH128_hash_t h = digest(key, (uint64_t)db);
    out->key[0] = h.low64;
    out->key[1] = h.high64;
    out->db = db;
}

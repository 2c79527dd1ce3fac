// SPDX-License-Identifier: Apache-2.0
// Drives an RDB reader over hostile bytes: presented in growing windows, each an exact allocation,
// and summed up, so that two ways to read the same bytes can be compared.
#ifndef GUNYU_FUZZ_RDB_DRIVE_H
#define GUNYU_FUZZ_RDB_DRIVE_H

#include <stdlib.h>
#include <string.h>

#include "codec/crc64.h"
#include "codec/rdb.h"

struct drive {
    struct rdb_reader *r;
    const uint8_t *p;
    size_t n, step, shown;
    char *copy;
    uint64_t digest;
    uint64_t elements;
};

static inline bool drive_more(struct drive *d)
{
    if (d->shown == d->n)
        return false;
    d->shown = d->n - d->shown < d->step ? d->n : d->shown + d->step;
    size_t from = (size_t)rdb_needs_from(d->r);
    if (from > d->shown)
        abort();
    free(d->copy);
    d->copy = malloc(d->shown - from + 1);
    memcpy(d->copy, d->p + from, d->shown - from);
    rdb_feed(d->r, d->copy, from, d->shown - from);
    return true;
}

static inline void drive_digest(struct drive *d, struct slice s)
{
    d->digest = crc64_update(d->digest, &s.n, sizeof(s.n));
    d->digest = crc64_update(d->digest, s.p, s.n);
}

static inline void drive_element(struct drive *d, const struct rdb_element *el)
{
    drive_digest(d, el->field);
    drive_digest(d, el->value);
    struct rdb_element plain = *el;
    plain.field = plain.value = (struct slice){0};
    d->digest = crc64_update(d->digest, &plain.score, sizeof(plain.score));
    d->digest = crc64_update(d->digest, &plain.id_ms, sizeof(plain.id_ms));
    d->digest = crc64_update(d->digest, &plain.expire_ms, sizeof(plain.expire_ms));
    d->digest = crc64_update(d->digest, &plain.at, sizeof(plain.at));
    d->digest = crc64_update(d->digest, &plain.stream_step, sizeof(plain.stream_step));
    d->elements++;
}

// A value's bytes as they come: only their sequence counts.
static inline int drive_span(struct drive *d)
{
    struct err e;
    struct slice piece;
    int rc;
    while ((rc = rdb_value_span(d->r, &piece, &e)) == RDB_ITEM)
        d->digest = crc64_update(d->digest, piece.p, piece.n);
    return rc;
}

static inline void drive_meter_string(void *arg, char op, uint64_t size, struct slice head,
                                      uint64_t entries)
{
    struct drive *d = arg;
    d->digest = crc64_update(d->digest, &op, 1);
    d->digest = crc64_update(d->digest, &size, sizeof(size));
    d->digest = crc64_update(d->digest, &entries, sizeof(entries));
    drive_digest(d, head);
}

static inline void drive_meter_number(void *arg, char op, uint64_t v)
{
    struct drive *d = arg;
    d->digest = crc64_update(d->digest, &op, 1);
    d->digest = crc64_update(d->digest, &v, sizeof(v));
}

static inline void drive_meter_id(void *arg, char op, const uint8_t id[16])
{
    struct drive *d = arg;
    d->digest = crc64_update(d->digest, &op, 1);
    d->digest = crc64_update(d->digest, id, 16);
}

static inline void drive_meter_bytes(void *arg, struct slice piece, bool last)
{
    (void)arg, (void)last;
    for (size_t i = 0; i < piece.n; i += 64)
        *(volatile const char *)(piece.p + i);
}

static inline int drive_measure(struct drive *d)
{
    const struct rdb_meter meter = {d, drive_meter_string, drive_meter_number, drive_meter_id,
                                    drive_meter_bytes};
    struct err e;
    return rdb_value_measure(d->r, &meter, &e);
}

enum drive_way {
    DRIVE_ELEMENTS,
    DRIVE_RAW,
    DRIVE_SKIP,
    DRIVE_STRING,
    DRIVE_SPAN,
    DRIVE_MEASURE,
    DRIVE_WAYS
};

// One call on a value. RDB_ITEM only for an element; RDB_DONE when the value was taken.
static inline int drive_value(struct drive *d, enum drive_way *way, bool string, size_t limit)
{
    struct err e;
    struct slice s = {0};
    struct rdb_element el = {0}; // which fields are set depends on the object
    int rc;
    switch (*way) {
    case DRIVE_RAW:
        rc = rdb_value_raw(d->r, limit, &s, &e);
        break;
    case DRIVE_SPAN:
        return drive_span(d);
    case DRIVE_MEASURE:
        return drive_measure(d);
    case DRIVE_STRING:
        if (string) {
            rc = rdb_value_string(d->r, limit, &s, &e);
            break;
        }
        // fallthrough
    case DRIVE_SKIP:
        return rdb_value_skip(d->r, &e);
    default:
        rc = rdb_value_element(d->r, limit, &el, &e);
        if (rc == RDB_ITEM)
            drive_element(d, &el);
        return rc;
    }
    if (rc == RDB_ITEM) {
        drive_digest(d, s);
        return RDB_DONE;
    }
    if (rc != RDB_TOO_BIG)
        return rc;
    *way = DRIVE_ELEMENTS;
    return RDB_ITEM;
}

static inline void drive_end(struct drive *d)
{
    free(d->copy);
    rdb_reader_free(d->r);
}

#endif

// SPDX-License-Identifier: Apache-2.0
#include "rdb/input.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "rdb/unpack.h"

// The window: big enough that reads are few, small enough to stay in the cache.
#define WINDOW ((size_t)512 << 10)

enum { SKIPPED_LISTED = 20, SKIPPED_TEXT = 300 };

struct rdb_input {
    struct unpack *file;
    struct rdb_reader *r;
    char *win; // owns; its bytes [at, n) are the file's from `from` on
    size_t at, n, cap;
    uint64_t from; // file index of win[at]
    bool in_value; // the item last given was a key
    int db;
    struct slice key; // of it
    struct rdb_unknown *unknown;
};

int rdb_input_open(struct rdb_input **out, const char *path, const struct rdb_input_options *o,
                   struct err *e)
{
    *out = NULL;
    struct unpack *file;
    int rc = unpack_open(&file, path, e);
    if (rc)
        return rc;
    struct rdb_input *in = xcalloc(1, sizeof(*in));
    in->file = file;
    in->r = rdb_reader_new(o->check_crc);
    in->unknown = o->unknown;
    rdb_reader_skip_unknown(in->r, o->unknown && o->unknown->skip);
    in->cap = WINDOW;
    in->win = xmalloc(in->cap);
    *out = in;
    return 0;
}

void rdb_input_close(struct rdb_input *in)
{
    if (!in)
        return;
    rdb_reader_free(in->r);
    unpack_close(in->file);
    free(in->win);
    free(in);
}

const char *rdb_input_name(const struct rdb_input *in)
{
    return unpack_name(in->file);
}

struct rdb_reader *rdb_input_reader(struct rdb_input *in)
{
    return in->r;
}

uint64_t rdb_input_size(const struct rdb_input *in)
{
    return unpack_size(in->file);
}

uint64_t rdb_input_done(const struct rdb_input *in)
{
    return unpack_done(in->file);
}

// Makes room for more bytes, keeping only what the reader may still look at.
static void make_room(struct rdb_input *in)
{
    size_t tail = in->n - in->at;
    size_t cap = in->cap;
    // What is kept has arrived: a length that the file only claims takes no memory.
    if (tail > cap / 4 * 3)
        cap *= 2;
    else if (tail < WINDOW / 2)
        cap = WINDOW; // gives back what a big value needed
    if (cap == in->cap) {
        memmove(in->win, in->win + in->at, tail);
    } else {
        char *win = xmalloc(cap);
        memcpy(win, in->win + in->at, tail);
        free(in->win);
        in->win = win;
        in->cap = cap;
    }
    in->at = 0;
    in->n = tail;
}

// Shorter than a header, and not the beginning of one.
static bool is_foreign(const struct rdb_input *in)
{
    size_t n = in->n - in->at;
    const char *p = in->win + in->at;
    return rdb_version(in->r) == 0 && in->from == 0 && memcmp(p, "REDIS", n < 5 ? n : 5) != 0 &&
           memcmp(p, "VALKEY", n < 6 ? n : 6) != 0;
}

static int cut_off(struct rdb_input *in, struct err *e)
{
    if (is_foreign(in))
        return err_set(e, ERR_CORRUPT,
                       "%s: this is no RDB file: it starts with neither REDIS nor VALKEY",
                       rdb_input_name(in));
    char key[80];
    size_t n = 0;
    for (; in->in_value && n < in->key.n && n < sizeof(key) - 1; n++)
        key[n] = isprint((unsigned char)in->key.p[n]) ? in->key.p[n] : '?';
    key[n] = '\0';
    return err_set(
        e, ERR_CORRUPT,
        "%s: the file ends at byte %llu, in db %d%s%s%s, before the end of the RDB data: "
        "it was cut off",
        rdb_input_name(in), (unsigned long long)(in->from + (in->n - in->at)), in->db,
        in->in_value ? ", key '" : "", key, in->in_value ? "'" : "");
}

// Presents more of the file to the reader.
static int fill(struct rdb_input *in, struct err *e)
{
    uint64_t need = rdb_needs_from(in->r);
    size_t drop = in->n - in->at;
    if (need - in->from < drop)
        drop = (size_t)(need - in->from);
    in->at += drop;
    in->from += drop;
    if (in->at == in->n)
        in->at = in->n = 0;
    if (in->cap - in->n < in->cap / 4)
        make_room(in);
    size_t got;
    int rc = unpack_read(in->file, in->win + in->n, in->cap - in->n, &got, e);
    if (rc)
        return rc;
    if (got == 0)
        return cut_off(in, e);
    in->n += got;
    rdb_feed(in->r, in->win + in->at, in->from, in->n - in->at);
    return 0;
}

// After a call of the reader: true when it is to be asked again, for more is there now. Else *rc is
// what it said, with the file's name in front of an error.
static bool wants_more(struct rdb_input *in, int *rc, struct err *e)
{
    if (*rc == RDB_MORE) {
        *rc = fill(in, e);
        return *rc == 0;
    }
    if (*rc < 0)
        err_wrap(e, "%s", rdb_input_name(in));
    return false;
}

// A file that is read twice is noted once.
static void note_skipped(struct rdb_input *in, const struct rdb_item *item)
{
    struct rdb_unknown *u = in->unknown;
    char *line = xasprintf(
        "%s: byte %llu: %.*s\n", rdb_input_name(in), (unsigned long long)item->start,
        (int)(item->value.n < SKIPPED_TEXT ? item->value.n : SKIPPED_TEXT), item->value.p);
    bool noted = u->list.n && strstr(buf_cstr(&u->list), line);
    u->n += !noted;
    if (!noted && u->n <= SKIPPED_LISTED)
        buf_append_cstr(&u->list, line);
    free(line);
}

int rdb_input_next(struct rdb_input *in, struct rdb_item *item, struct err *e)
{
    // In a step of its own, so that a file that ends in the value is reported with the key.
    int rc = in->in_value ? rdb_input_skip(in, e) : RDB_DONE;
    in->in_value = false;
    if (rc < 0)
        return rc;
    do
        rc = rdb_next(in->r, item, e);
    while (wants_more(in, &rc, e));
    if (rc < 0)
        return rc;
    if (rc == RDB_ITEM && item->kind == RDB_KIND_SKIPPED)
        note_skipped(in, item);
    in->in_value = rc == RDB_ITEM && item->kind == RDB_KIND_KEY;
    in->key = item->key;
    in->db = item->db;
    return rc;
}

int rdb_input_raw(struct rdb_input *in, uint64_t limit, struct slice *raw, struct err *e)
{
    int rc;
    do
        rc = rdb_value_raw(in->r, limit, raw, e);
    while (wants_more(in, &rc, e));
    return rc;
}

int rdb_input_element(struct rdb_input *in, size_t piece_limit, struct rdb_element *out,
                      struct err *e)
{
    int rc;
    do
        rc = rdb_value_element(in->r, piece_limit, out, e);
    while (wants_more(in, &rc, e));
    return rc;
}

int rdb_input_string(struct rdb_input *in, size_t limit, struct slice *value, struct err *e)
{
    int rc;
    do
        rc = rdb_value_string(in->r, limit, value, e);
    while (wants_more(in, &rc, e));
    return rc;
}

int rdb_input_skip(struct rdb_input *in, struct err *e)
{
    int rc;
    do
        rc = rdb_value_skip(in->r, e);
    while (wants_more(in, &rc, e));
    return rc;
}

int rdb_input_span(struct rdb_input *in, struct slice *piece, struct err *e)
{
    int rc;
    do
        rc = rdb_value_span(in->r, piece, e);
    while (wants_more(in, &rc, e));
    return rc;
}

int rdb_input_step(struct rdb_input *in, char *op, struct slice *piece, struct err *e)
{
    int rc;
    do
        rc = rdb_value_step(in->r, op, piece, e);
    while (wants_more(in, &rc, e));
    return rc;
}

int rdb_input_measure(struct rdb_input *in, const struct rdb_meter *m, struct err *e)
{
    int rc;
    do
        rc = rdb_value_measure(in->r, m, e);
    while (wants_more(in, &rc, e));
    return rc;
}

void rdb_input_again(struct rdb_input *in)
{
    rdb_value_again(in->r);
}

void rdb_input_resume(struct rdb_input *in, uint64_t at, int db)
{
    in->in_value = false;
    rdb_reader_resume(in->r, at, db, rdb_version(in->r));
}

bool rdb_input_has_checksum(const struct rdb_input *in)
{
    static const char none[8];
    uint64_t end = rdb_needs_from(in->r);
    if (rdb_version(in->r) < 5 || end < in->from + sizeof(none))
        return false;
    return memcmp(in->win + in->at + (end - in->from) - sizeof(none), none, sizeof(none)) != 0;
}

int rdb_input_rest(struct rdb_input *in, uint64_t *n, struct err *e)
{
    size_t got;
    uint64_t end = rdb_needs_from(in->r);
    *n = in->from + (in->n - in->at) - end;
    int rc;
    while ((rc = unpack_read(in->file, in->win, in->cap, &got, e)) == 0 && got)
        *n += got;
    return rc;
}

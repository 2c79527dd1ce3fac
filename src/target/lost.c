// SPDX-License-Identifier: Apache-2.0
#include "target/lost.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/rdb_len.h"
#include "codec/resp.h"

enum {
    RECENT = 4096,       // keys that are not noted again while they are remembered
    TEXT_MAX = 256 << 20 // bytes
};

struct recent {
    int db;
    size_t at, n; // in text; n 0: none
};

struct lost {
    const struct filter *filter;
    uint64_t at, from;
    int db;      // selected by the source
    int file_db; // selected in text; -1: none
    struct resp_cmd cmd;
    struct buf rest; // a command that is not whole
    struct filter_scratch scratch;
    struct recent recent[RECENT];
    int *pos; // of keys
    int pos_cap;
    struct buf text; // RDB
    uint64_t keys, unknown;
};

struct lost *lost_new(const struct filter *filter, uint64_t at, int db, uint64_t from)
{
    struct lost *l = xcalloc(1, sizeof(*l));
    l->filter = filter;
    l->at = at;
    l->db = db;
    l->from = from;
    l->file_db = -1;
    buf_append_cstr(&l->text, "REDIS0006");
    return l;
}

void lost_free(struct lost *l)
{
    if (!l)
        return;
    resp_cmd_free(&l->cmd);
    filter_scratch_free(&l->scratch);
    buf_free(&l->rest);
    buf_free(&l->text);
    free(l->pos);
    free(l);
}

uint64_t lost_keys(const struct lost *l)
{
    return l->keys;
}

uint64_t lost_unknown(const struct lost *l)
{
    return l->unknown;
}

// ---- keys ----

// A string without a byte in it: only the name counts.
static void put_key(struct lost *l, int db, struct slice key)
{
    if (db != l->file_db) {
        buf_append(&l->text, "\xfe", 1);
        rdb_put_len(&l->text, (uint64_t)db);
        l->file_db = db;
    }
    buf_append(&l->text, "\0", 1);
    rdb_put_string(&l->text, key);
    rdb_put_len(&l->text, 0);
    l->keys++;
}

static void take_key(struct lost *l, int db, struct slice key)
{
    uint32_t h = (uint32_t)db;
    for (size_t i = 0; i < key.n; i++)
        h = h * 31 + (unsigned char)key.p[i];
    struct recent *r = &l->recent[h % RECENT];
    if (r->n && r->db == db && slice_eq(slice_make(l->text.p + r->at, r->n), key))
        return;
    put_key(l, db, key);
    *r = (struct recent){db, l->text.n - 1 - key.n, key.n};
}

// ---- commands ----

static bool as_db(struct slice text, int *db)
{
    int64_t v;
    bool ok = slice_i64(text, &v) && v >= 0 && v <= INT32_MAX;
    if (ok)
        *db = (int)v;
    return ok;
}

// MOVE key db, COPY key other DB db.
static bool other_db(const struct cmd_info *info, int argc, const struct slice *argv, int *db)
{
    if (strcmp(info->name, "move") == 0)
        return argc == 3 && as_db(argv[2], db);
    if (strcmp(info->name, "copy") != 0)
        return false;
    for (int i = 3; i + 1 < argc; i++)
        if (slice_ieq(argv[i], SLICE("db")))
            return as_db(argv[i + 1], db);
    return false;
}

static void take_keys(struct lost *l, const struct cmd_info *info, int argc,
                      const struct slice *argv)
{
    if (argc > l->pos_cap) {
        l->pos_cap = 2 * argc;
        l->pos = xrealloc(l->pos, (size_t)l->pos_cap * sizeof(*l->pos));
    }
    int n = info ? cmd_keys(info, argc, argv, l->pos) : -1;
    // SWAPDB changes the keys of two dbs and names none.
    if (n < 0 || (n == 0 && strcmp(info->name, "swapdb") == 0))
        l->unknown++;
    int db;
    bool elsewhere = n > 0 && other_db(info, argc, argv, &db);
    for (int i = 0; i < n; i++) {
        take_key(l, l->db, argv[l->pos[i]]);
        if (elsewhere)
            take_key(l, db, argv[l->pos[i]]);
    }
}

static void take_command(struct lost *l, int argc, const struct slice *argv)
{
    if (argc == 2 && slice_ieq(argv[0], SLICE("select"))) {
        (void)as_db(argv[1], &l->db);
        return;
    }
    if (!argc || l->at <= l->from)
        return;
    const struct cmd_info *info = cmd_lookup(argc, argv);
    switch (l->filter ? filter_command(l->filter, l->db, info, argc, argv, &l->scratch)
                      : FILTER_PASS) {
    case FILTER_PASS:
        take_keys(l, info, argc, argv);
        break;
    case FILTER_PROJECT:
        take_keys(l, l->scratch.info, l->scratch.argc, l->scratch.argv);
        break;
    case FILTER_DROP:
        break;
    }
}

// How many of the bytes are dealt with.
static int take_commands(struct lost *l, const char *p, size_t n, size_t *used, struct err *e)
{
    for (*used = 0; *used < n; *used += l->cmd.len) {
        int rc = resp_cmd_parse(&l->cmd, p + *used, n - *used);
        if (rc < 0)
            return err_set(e, rc, "no command at offset %llu of the stream",
                           (unsigned long long)l->at);
        if (rc == 0)
            break;
        l->at += l->cmd.len;
        take_command(l, l->cmd.argc, l->cmd.argv);
        if (l->text.n > TEXT_MAX)
            return err_set(e, ERR_FULL, "more than %d MiB of keys", TEXT_MAX >> 20);
    }
    return 0;
}

int lost_feed(struct lost *l, const char *p, size_t n, struct err *e)
{
    size_t used;
    bool has_rest = l->rest.n > 0;
    if (has_rest)
        buf_append(&l->rest, p, n);
    int rc = has_rest ? take_commands(l, l->rest.p, l->rest.n, &used, e)
                      : take_commands(l, p, n, &used, e);
    if (rc)
        return rc;
    if (has_rest)
        buf_consume(&l->rest, used);
    else
        buf_append(&l->rest, p + used, n - used);
    return 0;
}

// ---- the journal ----

// Where a command begins and which db is selected there: as late as all behind `from` follows.
static bool find_start(const struct journal *j, uint64_t from, struct journal_mark *start)
{
    struct journal_info ji;
    journal_get_info(j, &ji);
    return (journal_find_mark(j, from, start) && start->offset >= ji.left) ||
           journal_next_mark(j, from > ji.left ? from : ji.left, start);
}

struct lost *lost_of_log(struct journal *j, const struct filter *filter, uint64_t from,
                         uint64_t *covered, struct err *e)
{
    struct journal_mark start;
    const char *p;
    size_t n;
    if (!find_start(j, from, &start)) {
        err_set(e, -ENOENT, "where a command begins there is not known");
        return NULL;
    }
    struct journal_reader *reader = journal_reader_open(j);
    struct lost *l = lost_new(filter, start.offset, start.db, from);
    int rc = journal_log_view(reader, start.offset, &p, &n, e);
    if (rc == 0)
        rc = lost_feed(l, p, n, e);
    journal_reader_close(reader);
    *covered = start.offset > from ? start.offset : from;
    if (rc == 0)
        return l;
    lost_free(l);
    return NULL;
}

int lost_keep(const struct lost *l, struct journal *j, struct err *e)
{
    int rc = journal_aside_begin(j, e);
    if (rc == 0)
        rc = journal_aside_put(j, l->text.p, l->text.n, e);
    return rc ? rc : journal_aside_end(j, e);
}

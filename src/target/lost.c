// SPDX-License-Identifier: Apache-2.0
#include "target/lost.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/resp.h"

enum {
    RECENT = 4096,        // keys that are not kept again while they are remembered
    PIECE_BYTES = 1 << 16 // to the journal at once
};

struct recent {
    int db;
    struct slice key; // in the journal; p NULL: none
};

struct lost {
    const struct lost_options *o;
    struct lost_result *out;
    struct resp_cmd cmd;
    struct filter_scratch scratch;
    struct recent *recent;
    int *pos; // of keys
    int pos_cap;
    int db;      // selected by the source
    int file_db; // selected in what is kept; -1: none
    struct buf text;
};

static void put_len(struct buf *b, uint64_t n)
{
    unsigned char bytes[9];
    size_t width = n < 64 ? 1 : n < 16384 ? 2 : n <= UINT32_MAX ? 5 : 9;
    for (size_t i = width; i-- > 0; n >>= 8)
        bytes[i] = (unsigned char)n;
    if (width == 2)
        bytes[0] |= 0x40;
    else if (width > 2)
        bytes[0] = width == 5 ? 0x80 : 0x81;
    buf_append(b, bytes, width);
}

// A string without a byte in it: only the name counts.
static void put_key(struct lost *l, int db, struct slice key)
{
    if (db != l->file_db) {
        buf_append(&l->text, "\xfe", 1);
        put_len(&l->text, (uint64_t)db);
        l->file_db = db;
    }
    buf_append(&l->text, "\0", 1);
    put_len(&l->text, key.n);
    buf_append_slice(&l->text, key);
    put_len(&l->text, 0);
    l->out->keys++;
}

static void take_key(struct lost *l, int db, struct slice key)
{
    uint32_t h = (uint32_t)db;
    for (size_t i = 0; i < key.n; i++)
        h = h * 31 + (unsigned char)key.p[i];
    // Of an inline command the words do not lie in the journal.
    struct recent other, *r = l->cmd.is_inline ? &other : &l->recent[h % RECENT];
    if (!l->cmd.is_inline && r->key.p && r->db == db && slice_eq(r->key, key))
        return;
    *r = (struct recent){db, key};
    put_key(l, db, key);
}

// MOVE key db, COPY key other DB db.
static bool other_db(const struct cmd_info *info, int argc, const struct slice *argv, int64_t *db)
{
    if (strcmp(info->name, "move") == 0)
        return argc == 3 && slice_i64(argv[2], db) && *db >= 0 && *db <= INT32_MAX;
    if (strcmp(info->name, "copy") != 0)
        return false;
    for (int i = 3; i + 1 < argc; i++)
        if (slice_ieq(argv[i], SLICE("db")))
            return slice_i64(argv[i + 1], db) && *db >= 0 && *db <= INT32_MAX;
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
    // The keys of all dbs have changed, and none is named.
    if (n < 0 || (n == 0 && strcmp(info->name, "swapdb") == 0))
        l->out->unknown++;
    int64_t db;
    bool elsewhere = n > 0 && other_db(info, argc, argv, &db);
    for (int i = 0; i < n; i++) {
        take_key(l, l->db, argv[l->pos[i]]);
        if (elsewhere)
            take_key(l, (int)db, argv[l->pos[i]]);
    }
}

static void take_command(struct lost *l, bool lost)
{
    const struct resp_cmd *c = &l->cmd;
    int64_t db;
    if (c->argc == 2 && slice_ieq(c->argv[0], SLICE("select"))) {
        if (slice_i64(c->argv[1], &db) && db >= 0 && db <= INT32_MAX)
            l->db = (int)db;
        return;
    }
    if (!lost || !c->argc)
        return;
    const struct cmd_info *info = cmd_lookup(c->argc, c->argv);
    switch (l->o->filter ? filter_command(l->o->filter, l->db, info, c->argc, c->argv, &l->scratch)
                         : FILTER_PASS) {
    case FILTER_PASS:
        take_keys(l, info, c->argc, c->argv);
        break;
    case FILTER_PROJECT:
        take_keys(l, l->scratch.info, l->scratch.argc, l->scratch.argv);
        break;
    case FILTER_DROP:
        break;
    }
}

static int put(struct lost *l, size_t least, struct err *e)
{
    int rc = l->text.n < least ? 0 : journal_aside_put(l->o->journal, l->text.p, l->text.n, e);
    if (l->text.n >= least)
        buf_clear(&l->text);
    return rc;
}

// What ends in the middle of a command there was not applied either.
static int take_log(struct lost *l, uint64_t at, struct slice log, struct err *e)
{
    int rc = 0;
    buf_append_cstr(&l->text, "REDIS0006");
    while (rc == 0 && log.n) {
        int parsed = resp_cmd_parse(&l->cmd, log.p, log.n);
        if (parsed < 0)
            l->out->unknown++;
        if (parsed != 1)
            break;
        at += l->cmd.len;
        log = slice_make(log.p + l->cmd.len, log.n - l->cmd.len);
        take_command(l, at > l->out->from);
        rc = put(l, PIECE_BYTES, e);
    }
    return rc ? rc : put(l, 1, e);
}

// Where a command begins and which db is selected there: as late as all that is lost follows.
static bool find_start(const struct lost_options *o, struct journal_mark *start)
{
    struct journal_info ji;
    journal_get_info(o->journal, &ji);
    return (journal_find_mark(o->journal, o->from, start) && start->offset >= ji.left) ||
           journal_next_mark(o->journal, o->from > ji.left ? o->from : ji.left, start);
}

int lost_keep(const struct lost_options *o, struct lost_result *out, struct err *e)
{
    struct journal_mark start;
    const char *p;
    size_t n;
    *out = (struct lost_result){.from = o->from};
    if (!find_start(o, &start))
        return err_set(e, -ENOENT, "the journal has no mark there");
    struct journal_reader *reader = journal_reader_open(o->journal);
    int rc = journal_log_view(reader, start.offset, &p, &n, e);
    if (rc == 0)
        rc = journal_aside_begin(o->journal, e);
    if (rc == 0) {
        struct lost l = {.o = o, .out = out, .db = start.db, .file_db = -1};
        out->from = start.offset > o->from ? start.offset : o->from;
        l.recent = xcalloc(RECENT, sizeof(*l.recent));
        rc = take_log(&l, start.offset, slice_make(p, n), e);
        if (rc == 0)
            rc = journal_aside_end(o->journal, e);
        resp_cmd_free(&l.cmd);
        filter_scratch_free(&l.scratch);
        buf_free(&l.text);
        free(l.recent);
        free(l.pos);
    }
    journal_reader_close(reader);
    return rc;
}

// SPDX-License-Identifier: Apache-2.0
// A hostile file, written as the version that the first byte names and read again: keys and
// elements are the same, but for what a version does not have. With the highest bit of the second
// byte it becomes commands, which must be RESP; its lowest bit is the policy for what cannot be
// held.
#include "base/mem.h"
#include "codec/crc64.h"
#include "codec/rdb_types.h"
#include "codec/resp.h"
#include "file_drive.h"
#include "rdb/commands_out.h"
#include "rdb/convert_value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { KEYS_MAX = 1024, DEGRADE = 1, COMMANDS = 0x80 };

static const struct rdb_target targets[] = {
    {6, false},  {7, false},  {8, false},  {9, false},  {10, false}, {11, false}, {12, false},
    {13, false}, {14, false}, {15, false}, {11, false}, {80, true},  {81, true},  {9, false},
};
static const struct commands_out_options servers[] = {
    {.version = 20800}, {.version = 30200},
    {.version = 50000}, {.version = 60000},
    {.version = 60200}, {.version = 70000},
    {.version = 70400}, {.version = 80600},
    {.version = 80800}, {.version = 0},
    {.version = 70200}, {.version = 80000, .is_valkey = true},
    {.version = 90000}, {.version = 90200, .is_valkey = true},
};
enum { TARGETS = sizeof(targets) / sizeof(*targets) };

struct key {
    int db;
    uint8_t type;
    enum rdb_object object;
    int64_t expire_ms;
    uint64_t name, elements;
    uint64_t all, plain; // digests; plain: what all versions have
};

struct keys {
    struct key *rows;
    size_t n;
    bool failed;
};

static uint64_t digest(uint64_t d, struct slice s)
{
    d = crc64_update(d, &s.n, sizeof(s.n));
    return crc64_update(d, s.p, s.n);
}

static uint64_t digest_number(uint64_t d, uint64_t v)
{
    return crc64_update(d, &v, sizeof(v));
}

static void take_element(struct key *k, const struct rdb_element *el)
{
    bool stream = k->object == RDB_OBJ_STREAM;
    int step = stream ? el->stream_step : -1;
    uint64_t score;
    memcpy(&score, &el->score, sizeof(score));
    uint64_t d = digest(digest(0, el->field), el->value);
    d = digest_number(d, (uint64_t)step);
    d = digest_number(d, el->id_ms);
    d = digest_number(d, el->id_seq);
    d = digest_number(d, (uint64_t)el->expire_ms);
    d = digest_number(d, k->object == RDB_OBJ_ZSET ? score : 0);
    d = digest_number(d, el->delivery_count);
    d = digest_number(d, (uint64_t)el->delivery_time_ms);
    if (step <= RDB_STREAM_PENDING || step == RDB_STREAM_CONSUMER)
        k->plain = digest_number(k->plain, d);
    d = digest_number(d, (uint64_t)el->seen_ms);
    d = digest_number(d, (uint64_t)el->active_ms);
    d = digest_number(d, (uint64_t)el->entries_read);
    d = digest_number(d, el->at);
    k->all = digest_number(k->all, d);
    k->elements++;
}

static int take_key(struct key *k, struct rdb_input *in, const struct rdb_item *item, struct err *e)
{
    int rc;
    *k = (struct key){.db = item->db,
                      .type = item->type,
                      .object = item->object,
                      .expire_ms = item->expire_ms,
                      .name = digest(0, item->key)};
    if (k->object == RDB_OBJ_MODULE) {
        struct slice piece;
        while ((rc = rdb_input_span(in, &piece, e)) == RDB_ITEM)
            k->all = crc64_update(k->all, piece.p, piece.n);
        k->plain = k->all;
        return rc;
    }
    for (;;) {
        struct rdb_element el = {0};
        rc = rdb_input_element(in, SIZE_MAX, &el, e);
        if (rc != RDB_ITEM)
            return rc;
        take_element(k, &el);
    }
}

// Less than 0 when the file is broken.
static int take_keys(struct keys *keys, const char *path, bool check_crc)
{
    struct rdb_input *in;
    struct rdb_item item;
    struct err e;
    int rc = rdb_input_open(&in, path, &(struct rdb_input_options){.check_crc = check_crc}, &e);
    if (rc)
        return rc;
    keys->n = 0;
    while ((rc = rdb_input_next(in, &item, &e)) == RDB_ITEM) {
        if (item.kind != RDB_KIND_KEY || keys->n == KEYS_MAX)
            continue;
        rc = take_key(&keys->rows[keys->n++], in, &item, &e);
        if (rc < 0)
            break;
    }
    rdb_input_close(in);
    return rc;
}

static int convert_items(struct transfer *t, struct rdb_input *in, struct rdb_out *out,
                         struct err *e)
{
    struct rdb_writer *w = rdb_writer_new(out, t->target);
    struct rdb_item item;
    int rc, done = 0;
    while ((rc = rdb_input_next(in, &item, e)) == RDB_ITEM && done == 0) {
        if (item.kind == RDB_KIND_RESIZEDB)
            rdb_write_resizedb(w, item.db, item.db_size, item.expires_size);
        else if (item.kind != RDB_KIND_KEY)
            done = transfer_other(t, &w, 1, in, &item, e);
        else
            done = transfer_key(t, w, in, &item, NULL, e);
    }
    if (rc == RDB_DONE && done == 0)
        rdb_writer_end(w);
    rdb_writer_free(w);
    return done ? done : rc == RDB_DONE ? 0 : rc;
}

static int command_items(struct commands_out *c, struct rdb_input *in, struct err *e)
{
    struct rdb_item item;
    int rc, done = 0;
    while ((rc = rdb_input_next(in, &item, e)) == RDB_ITEM && done == 0) {
        done = item.kind == RDB_KIND_KEY ? commands_out_key(c, in, &item, e)
                                         : commands_out_other(c, &item, e);
    }
    return done < 0 ? done : rc == RDB_DONE ? 0 : rc;
}

static bool lost_any(const struct transfer *t)
{
    for (int i = 0; i < LOSSES; i++)
        if (t->lost[i])
            return true;
    return false;
}

// What has no elements any more, or never had, is not written anew.
static bool may_vanish(const struct key *k)
{
    return k->elements == 0 && k->object != RDB_OBJ_MODULE;
}

static void compare(const struct keys *before, const struct keys *after)
{
    size_t j = 0;
    for (size_t i = 0; i < before->n; i++) {
        const struct key *a = &before->rows[i], *b = &after->rows[j];
        bool same = j < after->n && a->db == b->db && a->name == b->name &&
                    a->object == b->object && a->expire_ms == b->expire_ms &&
                    (a->type == b->type ? a->all == b->all : a->plain == b->plain);
        if (!same && !may_vanish(a))
            abort();
        j += same;
    }
    if (j != after->n && before->n < KEYS_MAX)
        abort();
}

static void check_commands(const char *p, size_t n)
{
    struct resp_cmd cmd = {0};
    while (n > 0) {
        if (resp_cmd_parse(&cmd, p, n) != 1)
            abort();
        p += cmd.len;
        n -= cmd.len;
    }
    resp_cmd_free(&cmd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct memory_file file, result;
    static struct keys before, after;
    struct rdb_input *in;
    struct rdb_out *out;
    struct err e;
    if (size < 2)
        return 0;
    if (!before.rows) {
        before.rows = xcalloc(KEYS_MAX, sizeof(*before.rows));
        after.rows = xcalloc(KEYS_MAX, sizeof(*after.rows));
    }
    memory_file_set(&file, data + 2, size - 2);
    memory_file_set(&result, "", 0);
    if (rdb_input_open(&in, file.path, &(struct rdb_input_options){0}, &e))
        return 0;
    rdb_reader_give_aux(rdb_input_reader(in));
    int saved = redirect(STDOUT_FILENO, result.fd_plus_1 - 1);
    if (rdb_out_open(&out, "-", RDB_OUT_PLAIN, &e))
        abort();
    struct transfer t = {.target = targets[data[0] % TARGETS],
                         .degrade = data[1] & DEGRADE,
                         .whole = true,
                         .now_ms = INT64_C(1700000000000)};
    struct commands_out_options o = servers[data[0] % TARGETS];
    o.degrade = t.degrade;
    int rc;
    if (data[1] & COMMANDS) {
        struct commands_out *c = commands_out_new(out, &o);
        rc = command_items(c, in, &e);
        commands_out_free(c);
    } else {
        rc = convert_items(&t, in, out, &e);
    }
    if (rdb_out_commit(out, &e))
        abort();
    redirect_end(STDOUT_FILENO, saved);
    rdb_input_close(in);
    if (rc == 0 && data[1] & COMMANDS) {
        size_t n;
        char *p = memory_file_get(&result, &n);
        check_commands(p, n);
        free(p);
    } else if (rc == 0) {
        lseek(result.fd_plus_1 - 1, 0, SEEK_SET);
        // Values that the version knows are copied, even if an encoding in them is broken.
        if (take_keys(&before, file.path, false) == RDB_DONE) {
            if (take_keys(&after, result.path, true) != RDB_DONE)
                abort();
            if (!lost_any(&t))
                compare(&before, &after);
        }
    }
    transfer_free(&t);
    return 0;
}

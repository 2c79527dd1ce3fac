// SPDX-License-Identifier: Apache-2.0
// What the command line does with a dead-letter file.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "codec/resp.h"
#include "redis/client.h"
#include "target/deadletter.h"
#include "target/deadletter_file.h"

enum {
    TEXT_ARGS_MAX = 16,
    TEXT_ARG_BYTES = 64,
    RETRY_TIMEOUT_MS = 10000,
};

// ---- list ----

// Bytes as redis-cli shows them, without the quotes: printable ASCII as it is, \\, \", \xHH.
// In JSON each backslash is doubled once more. Slices longer than max are cut with "...".
static void put_repr(FILE *out, struct slice s, size_t max, bool json)
{
    const char *bs = json ? "\\\\" : "\\";
    for (size_t i = 0; i < s.n && i < max; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '\\')
            fprintf(out, "%s%s", bs, bs);
        else if (c == '"')
            fputs("\\\"", out);
        else if (c >= 0x20 && c < 0x7f)
            fputc(c, out);
        else
            fprintf(out, "%sx%02x", bs, c);
    }
    if (s.n > max)
        fputs("...", out);
}

static void put_args(FILE *out, const struct resp_cmd *c, bool json)
{
    int shown = !json && c->argc > TEXT_ARGS_MAX ? TEXT_ARGS_MAX : c->argc;
    for (int i = 0; i < shown; i++) {
        fputs(i == 0 ? "\"" : json ? ",\"" : " \"", out);
        put_repr(out, c->argv[i], json ? SIZE_MAX : TEXT_ARG_BYTES, json);
        fputc('"', out);
    }
    if (shown < c->argc)
        fprintf(out, " ... %d more", c->argc - shown);
}

// An entry may hold several commands (a transaction).
static void put_commands(FILE *out, struct slice bytes, bool json)
{
    struct resp_cmd c = {0};
    for (int i = 0; bytes.n > 0 && resp_cmd_parse(&c, bytes.p, bytes.n) == 1; i++) {
        fputs(json ? (i ? ",[" : "[") : (i ? "; " : ""), out);
        put_args(out, &c, json);
        fputs(json ? "]" : "", out);
        bytes = slice_make(bytes.p + c.len, bytes.n - c.len);
    }
    resp_cmd_free(&c);
}

static void put_time(FILE *out, int64_t ms)
{
    time_t s = (time_t)(ms / 1000);
    struct tm tm;
    char text[40];
    if (ms < 0 || !gmtime_r(&s, &tm) || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
        fprintf(out, "%" PRId64, ms);
    else
        fprintf(out, "%s.%03dZ", text, (int)(ms % 1000));
}

struct list_ctx {
    const struct deadletter_file *dropped; // a finished scan of the same file
    FILE *out;
    bool json;
    bool any;
};

static void list_json(struct list_ctx *ctx, const struct deadletter_entry *entry)
{
    FILE *out = ctx->out;
    fprintf(out, "%s\n{\"id\":%" PRIu64 ",\"time\":\"", ctx->any ? "," : "", entry->id);
    put_time(out, entry->time_ms);
    fprintf(out, "\",\"from\":\"%s\",\"replid\":\"", entry->rdb ? "rdb" : "stream");
    put_repr(out, slice_cstr(entry->replid), SIZE_MAX, true);
    fprintf(out, "\",\"offset\":%" PRId64 ",\"db\":%d,\"commands\":[", entry->offset, entry->db);
    put_commands(out, entry->command, true);
    fputs("],\"reason\":\"", out);
    put_repr(out, entry->reason, SIZE_MAX, true);
    fputs("\"}", out);
}

static void list_text(struct list_ctx *ctx, const struct deadletter_entry *entry)
{
    FILE *out = ctx->out;
    fprintf(out, "%" PRIu64 "  ", entry->id);
    put_time(out, entry->time_ms);
    fprintf(out, "  %s %" PRId64 "  db %d  ", entry->rdb ? "rdb" : "offset", entry->offset,
            entry->db);
    put_commands(out, entry->command, false);
    fputs("\n    ", out);
    put_repr(out, entry->reason, 400, false);
    fputc('\n', out);
}

static int list_entry(void *arg, const struct deadletter_entry *entry, struct err *e)
{
    (void)e;
    struct list_ctx *ctx = arg;
    if (deadletter_file_is_dropped(ctx->dropped, entry->id))
        return 0;
    (ctx->json ? list_json : list_text)(ctx, entry);
    ctx->any = true;
    return 0;
}

// Runs fn over the file a second time, after `f` has learnt what is dropped. Never under the lock:
// fn may take its time, and a lane must be able to append meanwhile.
static int second_pass(const char *path, deadletter_fn fn, void *ctx, struct err *e)
{
    struct deadletter_file again;
    int rc = deadletter_file_open(&again, path, O_RDONLY, e);
    if (rc == 0)
        rc = deadletter_file_scan(&again, false, fn, ctx, e);
    deadletter_file_close(&again);
    return rc;
}

int deadletter_list(const char *path, FILE *out, bool json, struct err *e)
{
    struct deadletter_file f;
    struct list_ctx ctx = {&f, out, json, false};
    int rc = deadletter_file_open(&f, path, O_RDONLY, e);
    if (rc == 0)
        rc = deadletter_file_scan(&f, false, NULL, NULL, e);
    if (rc == 0 && json)
        fputc('[', out);
    if (rc == 0)
        rc = second_pass(path, list_entry, &ctx, e);
    if (rc == 0 && json)
        fputs(ctx.any ? "\n]\n" : "]\n", out);
    else if (rc == 0 && !ctx.any)
        fputs("no dead letters\n", out);
    deadletter_file_close(&f);
    return rc;
}

// ---- drop ----

static int no_entry(const struct deadletter_file *f, int64_t id, struct err *e)
{
    return err_set(e, -ENOENT, "%s has no entry %" PRId64, f->path, id);
}

static bool is_live(const struct deadletter_file *f, int64_t id)
{
    return id >= 1 && (uint64_t)id <= f->last_id && !deadletter_file_is_dropped(f, (uint64_t)id);
}

static int drop_range(struct deadletter_file *f, uint64_t first, uint64_t last, struct err *e)
{
    int rc = deadletter_file_lock(f, e);
    if (rc < 0)
        return rc;
    rc = deadletter_file_scan(f, true, NULL, NULL, e);
    if (rc == 0)
        rc = deadletter_file_drop(f, first, last, e);
    deadletter_file_unlock(f);
    return rc;
}

int deadletter_drop(const char *path, int64_t id, struct err *e)
{
    struct deadletter_file f;
    int rc = deadletter_file_open(&f, path, O_RDWR, e);
    if (rc == 0)
        rc = deadletter_file_scan(&f, false, NULL, NULL, e);
    if (rc == 0 && id != -1 && !is_live(&f, id))
        rc = no_entry(&f, id, e);
    if (rc == 0 && f.live > 0)
        rc = id == -1 ? drop_range(&f, 1, f.last_id, e)
                      : drop_range(&f, (uint64_t)id, (uint64_t)id, e);
    deadletter_file_close(&f);
    return rc;
}

// ---- retry ----

struct retry_ctx {
    struct deadletter_file *f; // where the drops go; knows what is dropped
    struct redis_client *r;
    FILE *out;
    int64_t only;  // -1: all
    uint64_t last; // what was there at the start; later entries are left for the next time
    int db;        // selected; -1 unknown
    uint64_t tried, refused;
};

// How many whole commands the bytes are; 0 when they are not commands.
static int count_commands(struct slice bytes)
{
    struct resp_cmd c = {0};
    int n = 0;
    while (bytes.n > 0) {
        if (resp_cmd_parse(&c, bytes.p, bytes.n) != 1) {
            n = 0;
            break;
        }
        n += c.argc > 0;
        bytes = slice_make(bytes.p + c.len, bytes.n - c.len);
    }
    resp_cmd_free(&c);
    return n;
}

// An EXEC succeeds as a whole although a command in it failed: the error is inside.
static bool error_inside(const struct redis_reply *reply, struct slice *text)
{
    size_t pos = 0;
    struct resp_node node;
    while (resp_next(reply->p, reply->n, &pos, &node))
        if (node.type == RESP_ERROR) {
            *text = node.text;
            return true;
        }
    return false;
}

// 1: the target took it. 0: it did not, *why says so. < 0: the target is out of reach.
static int send_entry(struct retry_ctx *ctx, const struct deadletter_entry *entry, char *why,
                      size_t why_cap, struct err *e)
{
    struct redis_reply reply = {0};
    struct slice text;
    int n = count_commands(entry->command);
    if (n == 0) {
        snprintf(why, why_cap, "its bytes are not a command");
        return 0;
    }
    int rc = 0;
    if (ctx->db != entry->db)
        rc = redis_call(ctx->r, &reply, e, "SELECT %d", entry->db);
    if (rc == 0) {
        ctx->db = entry->db;
        rc = redis_call_raw(ctx->r, entry->command, n, &reply, e);
    }
    if (rc == ERR_REPLY) {
        snprintf(why, why_cap, "%s", e->msg);
        *e = (struct err){0};
        return 0;
    }
    if (rc < 0)
        return rc;
    if (error_inside(&reply, &text)) {
        snprintf(why, why_cap, "%.*s", text.n > 400 ? 400 : (int)text.n, text.p);
        return 0;
    }
    return 1;
}

static int retry_entry(void *arg, const struct deadletter_entry *entry, struct err *e)
{
    struct retry_ctx *ctx = arg;
    char why[512];
    if ((ctx->only != -1 && (uint64_t)ctx->only != entry->id) || entry->id > ctx->last ||
        deadletter_file_is_dropped(ctx->f, entry->id))
        return 0;
    ctx->tried++;
    int rc = send_entry(ctx, entry, why, sizeof(why), e);
    if (rc < 0) {
        err_wrap(e, "retrying entry %" PRIu64, entry->id);
        return rc;
    }
    if (rc == 0) {
        ctx->refused++;
        fprintf(ctx->out, "%" PRIu64 ": refused: ", entry->id);
        put_repr(ctx->out, slice_cstr(why), 400, false);
        fputc('\n', ctx->out);
        return 0;
    }
    rc = drop_range(ctx->f, entry->id, entry->id, e);
    if (rc < 0) {
        err_wrap(e, "entry %" PRIu64 " was accepted but cannot be marked so", entry->id);
        return rc;
    }
    fprintf(ctx->out, "%" PRIu64 ": accepted\n", entry->id);
    return 0;
}

int deadletter_retry(const char *path, const struct endpoint *target, int64_t id, FILE *out,
                     struct err *e)
{
    struct deadletter_file f;
    struct retry_ctx ctx = {.f = &f, .out = out, .only = id, .db = -1};
    int rc = deadletter_file_open(&f, path, O_RDWR, e);
    if (rc == 0)
        rc = deadletter_file_scan(&f, false, NULL, NULL, e);
    ctx.last = f.last_id;
    if (rc == 0 && id != -1 && !is_live(&f, id))
        rc = no_entry(&f, id, e);
    if (rc == 0 && f.live > 0)
        rc = redis_connect(&ctx.r, target, RETRY_TIMEOUT_MS, e);
    if (rc == 0 && ctx.r)
        rc = second_pass(path, retry_entry, &ctx, e);
    if (rc == 0 && ctx.refused > 0)
        rc = err_set(e, ERR_REPLY, "%" PRIu64 " of %" PRIu64 " entries were refused again",
                     ctx.refused, ctx.tried);
    redis_close(ctx.r);
    deadletter_file_close(&f);
    return rc;
}

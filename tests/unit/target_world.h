// SPDX-License-Identifier: Apache-2.0
// A loop with a batcher whose events are written down as words, for tests of the target's side.
#ifndef GUNYU_TESTS_TARGET_WORLD_H
#define GUNYU_TESTS_TARGET_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "base/clock.h"
#include "codec/resp.h"
#include "redis/client.h"
#include "target/batcher.h"

struct world {
    uv_loop_t loop;
    struct batcher *b;
    struct sink *sink;        // the batcher, or what a test has put in its place
    struct buf events;        // of the batcher, as words
    struct batch_mark acked;  // the last one
    struct batch_mark stored; // the last one that the target confirmed as position
    int fails, empties, refusals;
    char refusal[300];    // text of the last command's error, or of the failure
    bool stop_on_refusal; // as an owner that gives up within the event
    bool quiet;           // events are only counted
    void (*room)(void *ctx);
    // Instead of the defaults, when set.
    void (*acked_hook)(void *ctx, const struct batch_mark *mark);
    int (*position_hook)(void *ctx, const struct batch_mark *mark, struct buf *out, int *db);
    bool (*failed_hook)(void *ctx, uint64_t ref, struct slice text);
    bool (*empty_hook)(void *ctx, uint64_t ref);
    void *ctx;
};

#define WORLD_POSITION "position"

static inline void world_note(struct world *w, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static inline void world_note(struct world *w, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    if (w->quiet)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    buf_append_cstr(&w->events, text);
}

static inline void world_acked(void *ctx, const struct batch_mark *mark, bool stored)
{
    struct world *w = ctx;
    w->acked = *mark;
    if (stored)
        w->stored = *mark;
    world_note(w, "%s:%llu ", stored ? "stored" : "acked",
               (unsigned long long)(mark->loading ? mark->rdb_index : mark->offset));
    if (w->acked_hook)
        w->acked_hook(w->ctx, mark);
}

static inline void world_cmd_failed(void *ctx, uint64_t ref, struct slice text, bool in_exec)
{
    struct world *w = ctx;
    w->refusals++;
    snprintf(w->refusal, sizeof(w->refusal), "%.*s", (int)(text.n < 250 ? text.n : 250), text.p);
    world_note(w, "%s:%lld ", in_exec ? "exec-error" : "error", (long long)ref);
    if (w->failed_hook ? !w->failed_hook(w->ctx, ref, text) : w->stop_on_refusal)
        sink_stop(w->sink);
}

static inline void world_cmd_empty(void *ctx, uint64_t ref)
{
    struct world *w = ctx;
    w->empties++;
    if (w->empty_hook && !w->empty_hook(w->ctx, ref))
        sink_stop(w->sink);
}

static inline void world_failed(void *ctx, uint64_t ref, const struct err *why)
{
    struct world *w = ctx;
    w->fails++;
    snprintf(w->refusal, sizeof(w->refusal), "%.250s", why->msg);
    world_note(w, "failed:%lld ", (long long)ref);
}

static inline int world_position(void *ctx, const struct batch_mark *mark, struct buf *out, int *db)
{
    struct world *w = ctx;
    if (w->position_hook)
        return w->position_hook(w->ctx, mark, out, db);
    int n = 1;
    if (*db != 0) {
        resp_put_cmd(out, "SELECT 0");
        *db = 0;
        n++;
    }
    resp_put_cmd(out, "SET " WORLD_POSITION " %U",
                 (uint64_t)(mark->loading ? mark->rdb_index : mark->offset));
    return n;
}

static inline void world_room(void *ctx)
{
    struct world *w = ctx;
    if (w->room)
        w->room(w->ctx);
}

static const struct sink_events world_events = {
    .acked = world_acked,
    .cmd_failed = world_cmd_failed,
    .cmd_empty = world_cmd_empty,
    .failed = world_failed,
    .put_position = world_position,
    .room = world_room,
};

// o: loop, events and ctx are filled in.
static inline void world_init(struct world *w, struct batcher_options o)
{
    memset(w, 0, sizeof(*w));
    must(uv_loop_init(&w->loop) == 0);
    o.loop = &w->loop;
    o.events = &world_events;
    o.ctx = w;
    w->b = batcher_new(&o);
    w->sink = batcher_sink(w->b);
}

static inline void world_free(struct world *w)
{
    if (w->sink != batcher_sink(w->b))
        sink_free(w->sink);
    batcher_free(w->b);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    buf_free(&w->events);
}

static inline void world_turn(struct world *w)
{
    sink_flush(w->sink);
    uv_run(&w->loop, UV_RUN_NOWAIT);
}

#define world_until(w, cond)                                                                       \
    do {                                                                                           \
        uint64_t world_deadline_ = clock_mono_us() + 20 * 1000 * 1000;                             \
        while (!(cond)) {                                                                          \
            if (clock_mono_us() > world_deadline_)                                                 \
                fail_msg("%s never came true; events: %s", #cond, buf_cstr(&(w)->events));         \
            world_turn(w);                                                                         \
        }                                                                                          \
    } while (0)

static inline struct batch_mark at(uint64_t offset)
{
    return (struct batch_mark){.offset = offset};
}

static inline void world_cmd(struct world *w, uint64_t ref, const char *fmt, ...)
{
    struct buf text = {0};
    va_list ap;
    va_start(ap, fmt);
    resp_put_vcmd(&text, fmt, ap);
    va_end(ap);
    outq_put(batcher_out(w->b), text.p, text.n);
    batcher_cmd(w->b, ref);
    buf_free(&text);
}

#endif

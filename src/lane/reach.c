// SPDX-License-Identifier: Apache-2.0
#include "lane/reach.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/mem.h"
#include "redis/masters.h"

enum { EVERY_MS = 5000, TICK_MS = 100, TIMEOUT_MS = 2000 };

// One at a time in the process: an address that swallows everything must not take the whole pool.
static atomic_flag asking = ATOMIC_FLAG_INIT;

struct reach {
    uv_loop_t *loop;
    struct endpoint source, target; // owns
    struct endpoint_finder find_source, find_target;
    struct endpoint *seeds; // owns; of a cluster
    size_t seeds_n;
    int target_version;

    uv_timer_t timer;
    uv_work_t work;
    int handles; // the timer, and the job while it runs
    bool freed;
    struct err err; // of the job

    uv_mutex_t lock; // guards the rest
    bool ok;
    struct err why;
};

static void let_go(struct reach *r)
{
    if (--r->handles)
        return;
    endpoint_free(&r->source);
    endpoint_free(&r->target);
    endpoints_free(r->seeds, r->seeds_n);
    uv_mutex_destroy(&r->lock);
    free(r);
}

// ---- on the pool ----

static int ask(const struct endpoint *fixed, const struct endpoint_finder *find, struct err *e)
{
    struct endpoint ep;
    struct redis_client *c;
    struct redis_reply reply;
    int rc = endpoint_find(&ep, fixed, find, e);
    if (rc)
        return rc;
    rc = redis_connect(&c, &ep, TIMEOUT_MS, e);
    endpoint_free(&ep);
    if (rc)
        return rc;
    rc = redis_call(c, &reply, e, "PING");
    redis_close(c);
    return rc;
}

static int ask_target(const struct reach *r, struct err *e)
{
    struct masters all;
    if (r->seeds_n == 0)
        return ask(&r->target, &r->find_target, e);
    int rc = masters_open(&all, r->seeds, r->seeds_n, TIMEOUT_MS, r->target_version, e);
    if (rc == 0)
        masters_close(&all);
    return rc;
}

static void run(uv_work_t *work)
{
    struct reach *r = work->data;
    r->err = (struct err){0};
    if (ask_target(r, &r->err))
        err_wrap(&r->err, "the target cannot be reached from here");
    else if (ask(&r->source, &r->find_source, &r->err))
        err_wrap(&r->err, "the source cannot be reached from here");
}

// ---- on the loop ----

static void on_time(uv_timer_t *t);

static void wait_for(struct reach *r, uint64_t ms)
{
    uv_timer_start(&r->timer, on_time, ms, 0);
}

static void done(uv_work_t *work, int status)
{
    (void)status;
    struct reach *r = work->data;
    atomic_flag_clear(&asking);
    uv_mutex_lock(&r->lock);
    r->ok = r->err.code == 0;
    r->why = r->err;
    uv_mutex_unlock(&r->lock);
    if (!r->freed)
        wait_for(r, EVERY_MS);
    let_go(r);
}

static void on_time(uv_timer_t *t)
{
    struct reach *r = t->data;
    if (atomic_flag_test_and_set(&asking)) {
        wait_for(r, TICK_MS);
        return;
    }
    r->handles++;
    must(uv_queue_work(r->loop, &r->work, run, done) == 0);
}

struct reach *reach_new(const struct lane_options *o)
{
    struct reach *r = xcalloc(1, sizeof(*r));
    r->loop = o->loop;
    r->work.data = r->timer.data = r;
    endpoint_copy(&r->source, &o->source);
    endpoint_copy(&r->target, &o->target);
    r->find_source = o->find_source;
    r->find_target = o->find_target;
    r->seeds_n = o->target_cluster ? o->target_seeds_n : 0;
    r->seeds = xcalloc(r->seeds_n, sizeof(*r->seeds));
    for (size_t i = 0; i < r->seeds_n; i++)
        endpoint_copy(&r->seeds[i], &o->target_seeds[i]);
    r->target_version = o->target_version;
    must(uv_mutex_init(&r->lock) == 0 && uv_timer_init(o->loop, &r->timer) == 0);
    r->handles = 1;
    wait_for(r, 0);
    return r;
}

static void on_closed(uv_handle_t *h)
{
    let_go(h->data);
}

void reach_free(struct reach *r)
{
    r->freed = true;
    uv_close((uv_handle_t *)&r->timer, on_closed);
}

bool reach_ok(struct reach *r, char *why, size_t cap)
{
    uv_mutex_lock(&r->lock);
    bool ok = r->ok;
    cstr_copy(why, cap, r->why.code ? r->why.msg : "");
    uv_mutex_unlock(&r->lock);
    return ok;
}

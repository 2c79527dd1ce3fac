// SPDX-License-Identifier: Apache-2.0
#include "lane/worker.h"

#include <stdlib.h>

#include "base/mem.h"

struct call {
    worker_fn fn;
    void *arg;
    bool done;
    struct call *next;
};

struct worker {
    uv_loop_t loop;
    uv_thread_t thread;
    uv_async_t wake;
    // shared
    uv_mutex_t lock;
    uv_cond_t answered;
    struct call *first, *last;
    bool stopping;
};

static void on_wake(uv_async_t *handle)
{
    struct worker *w = handle->data;
    for (;;) {
        uv_mutex_lock(&w->lock);
        struct call *c = w->first;
        if (c) {
            w->first = c->next;
            if (!w->first)
                w->last = NULL;
        }
        bool stop = w->stopping;
        uv_mutex_unlock(&w->lock);
        if (!c) {
            if (stop && !uv_is_closing((uv_handle_t *)handle))
                uv_close((uv_handle_t *)handle, NULL);
            return;
        }
        c->fn(c->arg);
        uv_mutex_lock(&w->lock);
        c->done = true;
        uv_cond_broadcast(&w->answered);
        uv_mutex_unlock(&w->lock);
    }
}

static void run(void *arg)
{
    struct worker *w = arg;
    uv_run(&w->loop, UV_RUN_DEFAULT);
}

int worker_start(struct worker **out, struct err *e)
{
    struct worker *w = xcalloc(1, sizeof(*w));
    must(uv_loop_init(&w->loop) == 0);
    must(uv_mutex_init(&w->lock) == 0 && uv_cond_init(&w->answered) == 0);
    must(uv_async_init(&w->loop, &w->wake, on_wake) == 0);
    w->wake.data = w;
    int rc = uv_thread_create(&w->thread, run, w);
    if (rc)
        return err_sys(e, rc, "start a worker thread");
    *out = w;
    return 0;
}

uv_loop_t *worker_loop(struct worker *w)
{
    return &w->loop;
}

void worker_call(struct worker *w, worker_fn fn, void *arg)
{
    struct call c = {.fn = fn, .arg = arg};
    uv_mutex_lock(&w->lock);
    if (w->last)
        w->last->next = &c;
    else
        w->first = &c;
    w->last = &c;
    uv_async_send(&w->wake);
    while (!c.done)
        uv_cond_wait(&w->answered, &w->lock);
    uv_mutex_unlock(&w->lock);
}

void worker_stop(struct worker *w)
{
    uv_mutex_lock(&w->lock);
    w->stopping = true;
    uv_async_send(&w->wake);
    uv_mutex_unlock(&w->lock);
    uv_thread_join(&w->thread);
    must(uv_loop_close(&w->loop) == 0);
    uv_cond_destroy(&w->answered);
    uv_mutex_destroy(&w->lock);
    free(w);
}

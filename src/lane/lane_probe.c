// SPDX-License-Identifier: Apache-2.0
// input.syncDelayTestKey: a key is set on the source each second to the time of writing; when the
// target has confirmed it, the difference is the delay of the whole way.
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "lane/lane_int.h"

enum { PROBE_MS = 1000, RETRY_MS = 10000, TIMEOUT_MS = 2000 };

struct lane_probe {
    uv_work_t work;
    struct lane *lane;
    struct redis_client *client; // only the running job touches it
    bool running;
    bool elsewhere; // another shard has the key: that one's lane measures
    int64_t next_ms;
    struct err err, said;
    // The oldest one that was sent and not confirmed; end 0: none.
    uint64_t end;
    int64_t written_ns;
    int64_t delay_ns;
};

static int connect_source(struct lane_probe *p)
{
    const struct lane_options *o = &p->lane->o;
    struct endpoint ep;
    int rc = endpoint_find(&ep, &o->source, &o->find_source, &p->err);
    if (rc)
        return rc;
    rc = redis_connect(&p->client, &ep, TIMEOUT_MS, &p->err);
    endpoint_free(&ep);
    return rc;
}

static void write_key(uv_work_t *work)
{
    struct lane_probe *p = work->data;
    const struct lane *l = p->lane;
    struct redis_reply reply = {0};
    p->err = (struct err){0};
    int rc = p->client ? 0 : connect_source(p);
    if (rc == 0)
        rc = redis_call(p->client, &reply, &p->err, "SET %s %s_%L", l->o.delay_test_key,
                        l->source_name, clock_unix_ns());
    p->elsewhere = rc == ERR_REPLY && slice_has_prefix(reply.root.text, SLICE("MOVED "));
    if (rc && p->client) {
        redis_close(p->client);
        p->client = NULL;
    }
}

static void probe_free(struct lane_probe *p)
{
    if (p->client)
        redis_close(p->client);
    free(p);
}

static void write_done(uv_work_t *work, int status)
{
    (void)status;
    struct lane_probe *p = work->data;
    struct lane *l = p->lane;
    p->running = false;
    l->handles--;
    if (l->freed) {
        probe_free(p);
        if (l->handles == 0)
            lane_free(l);
        return;
    }
    if (p->err.code && !p->elsewhere && strcmp(p->err.msg, p->said.msg) != 0)
        log_warn(l->o.tag, "input.syncDelayTestKey cannot be written: %s", p->err.msg);
    p->said = p->err;
    p->next_ms = clock_unix_ms() + (p->err.code ? RETRY_MS : PROBE_MS);
}

void lane_probe_tick(struct lane *l, int64_t now)
{
    if (!l->o.delay_test_key || !*l->o.delay_test_key || l->state == LANE_STOP || l->freed)
        return;
    if (!l->probe) {
        l->probe = xcalloc(1, sizeof(*l->probe));
        l->probe->lane = l;
        l->probe->work.data = l->probe;
        l->probe->delay_ns = -1;
    }
    struct lane_probe *p = l->probe;
    // A clock that was set back must not silence it.
    if (p->running || (now < p->next_ms && p->next_ms - now <= RETRY_MS))
        return;
    p->running = true;
    l->handles++;
    must(uv_queue_work(l->o.loop, &p->work, write_key, write_done) == 0);
}

void lane_probe_sent(void *ctx, uint64_t end, struct slice value)
{
    struct lane *l = ctx;
    size_t name = strlen(l->source_name);
    int64_t ns;
    // Another tool in the chain may use the same key.
    if (!l->probe || l->probe->end || value.n <= name + 1 || value.p[name] != '_' ||
        memcmp(value.p, l->source_name, name) != 0 ||
        !slice_i64(slice_make(value.p + name + 1, value.n - name - 1), &ns))
        return;
    l->probe->end = end;
    l->probe->written_ns = ns;
}

void lane_probe_acked(struct lane *l, uint64_t offset)
{
    struct lane_probe *p = l->probe;
    if (!p || !p->end || offset < p->end)
        return;
    int64_t delay = clock_unix_ns() - p->written_ns;
    p->delay_ns = delay > 0 ? delay : 0;
    p->end = 0;
}

void lane_probe_forget(struct lane *l)
{
    if (l->probe)
        l->probe->end = 0;
}

int64_t lane_probe_delay_ns(const struct lane *l)
{
    return l->probe ? l->probe->delay_ns : -1;
}

void lane_probe_free(struct lane *l)
{
    if (l->probe && !l->probe->running)
        probe_free(l->probe);
    l->probe = NULL;
}

// SPDX-License-Identifier: Apache-2.0
// From the replication server to the lanes.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/random.h"
#include "control/supervisor_int.h"

enum { SECRET_DIGITS = 64 };

// Under the lock. Only who has logged in is told names.
static struct sup_lane *pick(const struct supervisor *s, const char *shard, struct err *e)
{
    struct buf known = {0};
    struct sup_lane *found = NULL;
    if (!shard[0] && s->lanes_n == 1)
        return s->lanes[0];
    for (int i = 0; i < s->lanes_n; i++) {
        struct sup_lane *sl = s->lanes[i];
        if (shard[0] && (strcmp(shard, sl->name) == 0 ||
                         (sl->shard && shard_has_address(sl->shard, slice_cstr(shard)))))
            found = sl;
        buf_printf(&known, "%s%s", i ? ", " : "", sl->name);
    }
    if (!found && s->lanes_n == 0)
        err_set(e, ERR_REPLY, "NOMASTERLINK no shard of the source is known yet");
    else if (!found && shard[0])
        err_set(e, ERR_REPLY, "NOMASTERLINK there is no shard called so here; known: %s",
                buf_cstr(&known));
    else if (!found)
        err_set(e, ERR_REPLY,
                "NOMASTERLINK there are several shards here: name one as the user of AUTH "
                "(masteruser); known: %s",
                buf_cstr(&known));
    buf_free(&known);
    return found;
}

static int facts(void *ctx, const char *shard, struct serve_facts *out, struct err *e)
{
    struct supervisor *s = ctx;
    struct lane_snapshot now;
    uv_rwlock_rdlock(&s->lock);
    struct sup_lane *sl = pick(s, shard, e);
    if (sl) {
        sup_lane_snapshot(sl, &now);
        *out = now.served;
    }
    uv_rwlock_rdunlock(&s->lock);
    return sl ? 0 : ERR_REPLY;
}

struct serve_call {
    struct sup_lane *sl;
    struct serve_guest *guest;
    struct err *e;
    int rc;
};

static void serve(void *arg)
{
    struct serve_call *c = arg;
    if (c->sl->lane)
        c->rc = lane_serve(c->sl->lane, c->guest, c->e);
    else if (c->sl->follower)
        c->rc = follower_serve(c->sl->follower, c->guest, c->e);
    else
        c->rc = err_set(c->e, ERR_REPLY, "NOMASTERLINK the shard is being left");
}

static int attach(void *ctx, const char *shard, struct serve_guest *g, struct err *e)
{
    struct supervisor *s = ctx;
    struct serve_call c = {.guest = g, .e = e, .rc = ERR_REPLY};
    uv_rwlock_rdlock(&s->lock);
    struct sup_lane *sl = pick(s, shard, e);
    if (sl) {
        c.sl = sl;
        worker_call(sl->worker, serve, &c);
    }
    uv_rwlock_rdunlock(&s->lock);
    return c.rc;
}

// Any free port of the address that the other nodes know this one by. Returns new.
static char *beside(const char *listen_peer)
{
    const char *colon = strrchr(listen_peer, ':');
    return xasprintf("%.*s:0", (int)(colon - listen_peer), listen_peer);
}

int sup_serve_start(struct supervisor *s, struct err *e)
{
    const struct replication_config *r = &s->cfg->server.replication;
    bool in_group = s->cfg->cluster.group_name != NULL;
    if (!r->listen && !in_group)
        return 0;
    if (r->password) {
        s->serve_password = xstrdup(r->password);
    } else if (in_group) {
        // Followers get it by the registry.
        s->serve_password = xcalloc(1, SECRET_DIGITS + 1);
        random_hex(s->serve_password, SECRET_DIGITS);
    }
    char *listen = r->listen ? xstrdup(r->listen) : beside(s->cfg->server.listen_peer);
    struct serve_server_options o = {.listen = listen,
                                     .password = s->serve_password,
                                     .tls = r->tls,
                                     .version = GUNYU_VERSION,
                                     .ops = {.facts = facts, .attach = attach, .ctx = s}};
    int rc = serve_server_start(&s->server, &o, e);
    free(listen);
    return rc;
}

void sup_serve_end(struct supervisor *s)
{
    serve_server_stop(s->server);
    s->server = NULL;
    free(s->serve_password);
    s->serve_password = NULL;
}

bool supervisor_replication_address(const struct supervisor *s, char *dst, size_t cap)
{
    if (s->server)
        serve_server_address(s->server, dst, cap);
    return s->server != NULL;
}

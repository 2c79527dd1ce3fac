// SPDX-License-Identifier: Apache-2.0
#include "cli/target.h"

#include <inttypes.h>
#include <string.h>

#include "control/config.h"
#include "target/expiry.h"
#include "target/sweep.h"

enum { TIMEOUT_MS = 10000 };

int cli_target(const struct cli_args *a, struct endpoint *out, struct err *e)
{
    *out = (struct endpoint){0};
    if (!a->conf)
        return config_endpoint(out, a->to, e);
    struct config *c = NULL;
    struct config_diags d = {0};
    struct config_sources src = {
        .file = a->conf, .to = a->to, .flags = a->flags, .flags_n = a->flags_n};
    int rc = config_build(&c, CONFIG_SYNC, &src, &d);
    config_diags_print(&d, stderr);
    config_diags_free(&d);
    if (rc)
        err_set(e, rc, "%s cannot be used", a->conf);
    else if (c->output.redis.endpoints_n != 1)
        rc = err_set(e, ERR_CONFIG, "%s has %zu targets; choose one with --to", a->conf,
                     c->output.redis.endpoints_n);
    else
        endpoint_copy(out, &c->output.redis.endpoints[0]);
    config_free(c);
    return rc;
}

// Under a running lane far expiries are far for a reason.
static int refuse_lanes(struct redis_client *c, const char *name, struct err *e)
{
    struct redis_reply reply;
    int rc = redis_call(c, &reply, e, "CLIENT LIST");
    if (rc) {
        err_wrap(e, "whether a gunyu is connected cannot be seen");
        return rc;
    }
    if (memmem(reply.root.text.p, reply.root.text.n, " name=gunyu:", 12))
        return err_set(
            e, ERR_LOCKED,
            "a gunyu is connected to %s: stop it first, it needs the expiries as they are", name);
    return 0;
}

static int settle(struct redis_client *c, const char *name, struct sweep_result *r, struct err *e)
{
    struct redis_server server;
    atomic_bool cancel = false;
    int rc = redis_probe(c, &server, e);
    if (rc == 0 && !sweep_is_possible(server.version, server.is_valkey))
        rc = err_set(e, ERR_CONFIG, "%s is too old: Redis 3.2 is the first that can be walked",
                     name);
    if (rc == 0)
        rc = refuse_lanes(c, name, e);
    if (rc)
        return rc;
    // Nothing waits for a lane any more, so nothing is near.
    struct sweep_options o = {.version = server.version,
                              .is_valkey = server.is_valkey,
                              .fields = true,
                              .near_ms = -EXPIRY_GRACE_MS,
                              .cancel = &cancel};
    rc = sweep_run(c, &o, r, e);
    return rc ? rc : refuse_lanes(c, name, e);
}

int cli_settle(const struct endpoint *target, FILE *out, struct err *e)
{
    char name[300];
    struct sweep_result r = {0};
    struct redis_client *c = NULL;
    endpoint_name(target, name, sizeof(name));
    int rc = redis_connect(&c, target, TIMEOUT_MS, e);
    if (rc == 0)
        rc = settle(c, name, &r, e);
    if (rc == 0)
        fprintf(out, "%s: %" PRIu64 " expiries set\n", name, r.changed);
    redis_close(c);
    buf_free(&r.left);
    return rc;
}

// SPDX-License-Identifier: Apache-2.0
#include "control/gc.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/lane_config.h"
#include "journal/gc.h"
#include "target/position.h"

enum { GC_TIMEOUT_MS = 5000 };

static int gc_target(const struct config *cfg, const struct endpoint *target,
                     const char *const *keep, size_t n, struct err *e)
{
    struct redis_client *c;
    int removed = 0;
    int rc = redis_connect(&c, target, GC_TIMEOUT_MS, e);
    if (rc)
        return rc;
    rc = position_gc(c, keep, (int)n, cfg->channel.stale_checkpoint_ms, clock_unix_ms(), &removed,
                     e);
    redis_close(c);
    if (removed)
        log_info(NULL, "removed %d stale position%s", removed, removed == 1 ? "" : "s");
    return rc;
}

static int gc_positions(const struct config *cfg, const char *const *keep, size_t n, struct err *e)
{
    const struct redis_config *out = &cfg->output.redis;
    int rc = 0;
    if (out->type == REDIS_SENTINEL) {
        struct endpoint master;
        rc = config_server(out, &master, e);
        if (rc)
            return rc;
        rc = gc_target(cfg, &master, keep, n, e);
        endpoint_free(&master);
        return rc;
    }
    for (size_t i = 0; rc == 0 && i < out->endpoints_n; i++)
        rc = gc_target(cfg, &out->endpoints[i], keep, n, e);
    return rc;
}

static int gc_journals(const struct config *cfg, const struct gc_lane *lanes, size_t n,
                       struct err *e)
{
    if (cfg->channel.type != JOURNAL_STORER)
        return 0;
    char **keep = xcalloc(n, sizeof(*keep));
    for (size_t i = 0; i < n; i++)
        keep[i] = lane_config_name(lanes[i].name);
    int removed = 0;
    int rc = journal_gc(cfg->channel.dir_path, (const char *const *)keep, (int)n,
                        cfg->channel.stale_checkpoint_ms, clock_unix_ms(), &removed, e);
    for (size_t i = 0; i < n; i++)
        free(keep[i]);
    free(keep);
    if (removed)
        log_info(NULL, "removed %d stale journal%s", removed, removed == 1 ? "" : "s");
    return rc;
}

int gc_run(const struct config *cfg, const struct gc_lane *lanes, size_t n, struct err *e)
{
    const char **keep = xcalloc(n, sizeof(*keep));
    bool all_known = n > 0;
    for (size_t i = 0; i < n; i++) {
        keep[i] = lanes[i].replid;
        all_known = all_known && lanes[i].replid[0];
    }
    int rc = gc_journals(cfg, lanes, n, e);
    if (rc == 0 && all_known)
        rc = gc_positions(cfg, keep, n, e);
    free(keep);
    return rc;
}

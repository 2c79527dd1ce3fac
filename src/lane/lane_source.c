// SPDX-License-Identifier: Apache-2.0
// What the source is asked before a target is used: its dbs, and whether they have a place there.
#include "base/buf.h"
#include "lane/lane_dial.h"

static int has_place(const struct dial_job *j, int64_t db, struct err *e)
{
    if (j->filter && !filter_db(j->filter, (int)db))
        return 0;
    int to = rewrite_map_db(&j->dbs, (int)db), have = j->r.server.databases;
    if (have <= 0 || to < have)
        return 0;
    return err_set(e, ERR_UNSUPPORTED,
                   "the source's db %d goes into db %d, which the target does not have (it has "
                   "%d); map it with output.replay.targetDbMap or targetDb, leave it out with "
                   "output.filter.dbBlacklist, or raise \"databases\" there (of a cluster, where "
                   "it has that: \"cluster-databases\")",
                   (int)db, to, have);
}

// Lines "db3:keys=10,..." of INFO.
static int all_have_places(const struct dial_job *j, struct slice keyspace, struct err *e)
{
    const char *p = keyspace.p, *end = keyspace.p + keyspace.n;
    while (p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        struct slice line = slice_make(p, (size_t)((nl ? nl : end) - p));
        p += line.n + 1;
        const char *colon = line.n ? memchr(line.p, ':', line.n) : NULL;
        int64_t db;
        if (!colon || !slice_has_prefix(line, SLICE("db")) ||
            !slice_i64(slice_make(line.p + 2, (size_t)(colon - line.p - 2)), &db) || db < 0 ||
            db > INT32_MAX)
            continue;
        int rc = has_place(j, db, e);
        if (rc)
            return rc;
    }
    return 0;
}

int dial_ask_source(struct dial_job *j)
{
    bool loads = !j->r.found || j->flush_command;
    if (!loads && !j->ask_source_dbs)
        return 0;
    struct redis_client *c = NULL;
    struct endpoint ep;
    struct err ignored; // the link says what is wrong with the source
    if (endpoint_find(&ep, &j->source_endpoint, &j->find_source, NULL))
        return 0;
    int rc = redis_connect(&c, &ep, CONNECT_TIMEOUT_MS, &ignored);
    endpoint_free(&ep);
    struct redis_server server;
    if (rc == 0 && j->ask_source_dbs) {
        rc = redis_probe(c, &server, &ignored);
        // "databases" is not what a cluster has.
        if (rc == 0 && server.cluster_enabled)
            rc = redis_count_databases(c, &server.databases, &ignored);
        if (rc == 0 && server.databases > 0)
            j->r.source_dbs = server.databases;
    }
    struct redis_reply reply;
    int refused = 0;
    if (rc == 0 && loads && redis_call(c, &reply, &ignored, "INFO keyspace") == 0)
        refused = all_have_places(j, reply.root.text, &j->r.err);
    j->r.refused = refused != 0;
    redis_close(c);
    return refused;
}

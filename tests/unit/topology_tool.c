// SPDX-License-Identifier: Apache-2.0
// For test_topology.py: asks what the layer redis says of live clusters and sentinels, and prints
// it, one fact a line. Certificates are not verified.
//   cluster SEED...                       the map
//   shard NODE-ID SEED...                 the master of the shard of that node, if it is of any
//   masters SEED...                       what all masters can do, and where they are
//   sentinel NAME DATA SENTINEL...        the address of the master
//   wait NAME DATA MS CURRENT SENTINEL... how a wait for a switch ends; CURRENT may be "-";
//                                         SIGTERM cancels it
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "redis/masters.h"
#include "redis/sentinel.h"

enum { TIMEOUT_MS = 2000, MAX_ENDPOINTS = 64 };

static atomic_bool cancel;

static void on_term(int number)
{
    (void)number;
    atomic_store(&cancel, true);
}

static int fail(const struct err *e)
{
    printf("error %s\n", e->msg);
    return 1;
}

static void parse(struct endpoint *ep, const char *uri)
{
    struct err e = {0};
    if (endpoint_parse(ep, slice_cstr(uri), &e))
        exit(fail(&e));
    ep->tls.insecure = true;
}

static size_t parse_all(struct endpoint *eps, char **uris)
{
    size_t n = 0;
    for (; uris[n] && n < MAX_ENDPOINTS; n++)
        parse(&eps[n], uris[n]);
    return n;
}

static void free_all(struct endpoint *eps, size_t n)
{
    for (size_t i = 0; i < n; i++)
        endpoint_free(&eps[i]);
}

static void print_node(const char *role, const struct cluster_node *n)
{
    printf("%s %s %s:%u %s\n", role, n->id, n->host, (unsigned)n->port,
           n->failed ? "failed" : "ok");
}

static int show_cluster(char **arg)
{
    struct endpoint seeds[MAX_ENDPOINTS] = {0};
    size_t n = parse_all(seeds, arg);
    struct cluster_map m;
    struct err e = {0};
    int rc = cluster_find(&m, seeds, n, TIMEOUT_MS, &e);
    free_all(seeds, n);
    if (rc)
        return fail(&e);
    printf("covered %d\n", m.covered);
    for (size_t i = 0; i < m.shards_n; i++) {
        const struct cluster_shard *s = &m.shards[i];
        printf("shard %d %s\n", s->slots, s->migrating ? "moving" : "still");
        print_node("master", &s->master);
        for (size_t k = 0; k < s->replicas_n; k++)
            print_node("replica", &s->replicas[k]);
    }
    for (int slot = 0; slot < CLUSTER_SLOTS; slot++)
        if (slot == 0 || m.owner[slot] != m.owner[slot - 1])
            printf("from %d shard %d\n", slot, m.owner[slot]);
    cluster_free(&m);
    return 0;
}

static int show_shard(char **arg)
{
    struct endpoint seeds[MAX_ENDPOINTS] = {0};
    size_t n = parse_all(seeds, arg + 1);
    struct cluster_map m;
    struct err e = {0};
    int rc = cluster_find(&m, seeds, n, TIMEOUT_MS, &e);
    free_all(seeds, n);
    if (rc)
        return fail(&e);
    int shard = cluster_shard_of(&m, arg[0]);
    if (shard != CLUSTER_NO_SHARD)
        print_node("master", &m.shards[shard].master);
    cluster_free(&m);
    return 0;
}

static int show_masters(char **arg)
{
    struct endpoint seeds[MAX_ENDPOINTS] = {0};
    size_t n = parse_all(seeds, arg);
    struct masters m;
    struct err e = {0};
    int rc = masters_open(&m, seeds, n, TIMEOUT_MS, 0, &e);
    free_all(seeds, n);
    if (rc)
        return fail(&e);
    printf("version %d\ndatabases %d\n", m.server.version, m.server.databases);
#define X(name)                                                                                    \
    if (m.server.missing & 1u << REDIS_CMD_##name)                                                 \
        printf("missing %s\n", #name);
    REDIS_COMMANDS(X)
#undef X
    for (size_t i = 0; i < m.n; i++) {
        char name[300];
        printf("master %s\n", endpoint_name(&m.endpoints[i], name, sizeof(name)));
    }
    masters_close(&m);
    return 0;
}

static int show_sentinel(char **arg)
{
    struct endpoint sentinels[MAX_ENDPOINTS] = {0}, data, found;
    struct err e = {0};
    parse(&data, arg[1]);
    struct sentinel_options o = {.sentinels = sentinels,
                                 .n = parse_all(sentinels, arg + 2),
                                 .master_name = arg[0],
                                 .data = &data,
                                 .timeout_ms = TIMEOUT_MS};
    int rc = sentinel_master(&found, &o, &e);
    free_all(sentinels, o.n);
    endpoint_free(&data);
    if (rc)
        return fail(&e);
    char name[300];
    printf("master %s\n", endpoint_name(&found, name, sizeof(name)));
    endpoint_free(&found);
    return 0;
}

static int show_wait(char **arg)
{
    struct endpoint sentinels[MAX_ENDPOINTS] = {0}, data, current = {0};
    struct err e = {0};
    parse(&data, arg[1]);
    bool known = strcmp(arg[3], "-") != 0;
    if (known)
        parse(&current, arg[3]);
    struct sentinel_options o = {.sentinels = sentinels,
                                 .n = parse_all(sentinels, arg + 4),
                                 .master_name = arg[0],
                                 .data = &data,
                                 .timeout_ms = TIMEOUT_MS};
    int rc = known ? sentinel_wait_other(&o, &current, atoi(arg[2]), &cancel, &e)
                   : sentinel_wait_switch(&o, atoi(arg[2]), &cancel, &e);
    free_all(sentinels, o.n);
    endpoint_free(&current);
    endpoint_free(&data);
    if (rc < 0)
        return fail(&e);
    printf("%s\n", rc ? "switch" : atomic_load(&cancel) ? "cancelled" : "none");
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int args;
        int (*run)(char **arg);
    } verbs[] = {
        {"cluster", 1, show_cluster},   {"shard", 2, show_shard}, {"masters", 1, show_masters},
        {"sentinel", 3, show_sentinel}, {"wait", 5, show_wait},
    };
    signal(SIGTERM, on_term);
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
        if (argc >= verbs[i].args + 2 && strcmp(argv[1], verbs[i].name) == 0)
            return verbs[i].run(argv + 2);
    return 2;
}

// SPDX-License-Identifier: Apache-2.0
// For test_group.py: one node of a group, without lanes. Takes a configuration file and the name of
// the node; prints each change of a role, one a line, and takes commands, one a line:
//   shards NAME...              take part in these
//   report SHARD ID RIGHT READY what the local journal has
//   handover SHARD [NODE]
//   together [NAME...]
//   hold 0|1                    1: a shard that is to be handed over is not let go of
//   name WANTED ID...           group_shard_name
//   state
//   stop                        gives all up and ends; the end of the input ends at once
// While it leads a shard it *acts*: every 2 ms it appends "SHARD NODE TOKEN" to a file, as a lane
// would write to the target, if the deadline is in the future.
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "control/group.h"

enum { SHARDS = 32, WORDS = 40 };

struct acting {
    char name[GROUP_SHARD];
    _Atomic int64_t *deadline;
    _Atomic uint64_t token;
    _Atomic int role;
};

static struct group *group;
static const char *node;
static struct acting shards[SHARDS];
static _Atomic int shards_n;
static atomic_bool holding, ending;

static struct acting *find(const char *name)
{
    for (int i = 0; i < atomic_load(&shards_n); i++)
        if (strcmp(shards[i].name, name) == 0)
            return &shards[i];
    return NULL;
}

static void on_change(void *ctx, const struct group_change *c)
{
    (void)ctx;
    struct acting *a = find(c->shard);
    if (a) {
        atomic_store(&a->token, c->token);
        atomic_store(&a->role, (int)c->role);
    }
    printf("role %s %s %llu %s %s\n", c->shard,
           c->role == GROUP_HANDING_OVER ? "handing" : group_role_name(c->role),
           (unsigned long long)c->token, c->leader ? c->leader : "-",
           c->replication ? c->replication : "-");
    if (c->role == GROUP_HANDING_OVER && !atomic_load(&holding))
        group_released(group, c->shard);
}

static void *act(void *arg)
{
    int fd = open(arg, O_WRONLY | O_APPEND | O_CREAT, 0600);
    for (; !atomic_load(&ending); usleep(2000)) {
        for (int i = 0; i < atomic_load(&shards_n); i++) {
            char line[1024];
            struct acting *a = &shards[i];
            uint64_t token = atomic_load(&a->token);
            if (atomic_load(&a->role) != GROUP_LEADER || token == 0)
                continue;
            int n = snprintf(line, sizeof(line), "%s %s %llu\n", a->name, node,
                             (unsigned long long)token);
            if (clock_boot_ms() < atomic_load(a->deadline) && write(fd, line, (size_t)n) != n)
                abort();
        }
    }
    close(fd);
    return NULL;
}

static void set_shards(char **words, int n)
{
    group_set_shards(group, (const char *const *)words, (size_t)n);
    for (int i = 0; i < n; i++) {
        if (find(words[i]))
            continue;
        struct acting *a = &shards[atomic_load(&shards_n)];
        snprintf(a->name, sizeof(a->name), "%s", words[i]);
        a->deadline = group_deadline(group, words[i]);
        atomic_fetch_add(&shards_n, 1);
    }
}

static void print_state(void)
{
    struct group_state s;
    group_state(group, &s);
    printf("group %s %d %d %s\n", s.registry, s.joined, s.conflict, s.error[0] ? s.error : "-");
    for (size_t i = 0; i < s.nodes_n; i++)
        printf("node %s %d %s\n", s.nodes[i].name, s.nodes[i].self,
               s.nodes[i].record ? s.nodes[i].record : "-");
    for (size_t i = 0; i < s.shards_n; i++)
        printf("shard %s %s %s %llu %lld\n", s.shards[i].name, group_role_name(s.shards[i].role),
               s.shards[i].leader[0] ? s.shards[i].leader : "-",
               (unsigned long long)s.shards[i].token, (long long)s.shards[i].left_ms);
    printf("end\n");
    group_state_free(&s);
}

static void hand_over(const char *shard, const char *to)
{
    struct err e = {0};
    int rc = group_handover(group, shard, to, &e);
    printf("handover %s\n", rc ? e.msg : "begun");
}

static void print_name(char **words, int n)
{
    char out[GROUP_SHARD];
    struct err e = {0};
    if (group_shard_name(group, (const char *const *)&words[1], (size_t)n - 1, words[0], out, &e))
        snprintf(out, sizeof(out), "error %.200s", e.msg);
    printf("name %s\n", out);
}

// False: it ends.
static bool obey(char *line)
{
    char *words[WORDS] = {0}, *save = NULL;
    int n = 0;
    for (char *w = strtok_r(line, " \n", &save); w && n < WORDS; w = strtok_r(NULL, " \n", &save))
        words[n++] = w;
    if (n == 0)
        return true;
    if (strcmp(words[0], "shards") == 0)
        set_shards(&words[1], n - 1);
    else if (strcmp(words[0], "report") == 0 && n >= 5)
        group_report(group, words[1], words[2], 1, strtoull(words[3], NULL, 10),
                     strcmp(words[4], "1") == 0, n == 5 || strcmp(words[5], "1") == 0);
    else if (strcmp(words[0], "handover") == 0 && n > 1)
        hand_over(words[1], words[2]);
    else if (strcmp(words[0], "together") == 0)
        group_together(group, (const char *const *)&words[1], (size_t)n - 1);
    else if (strcmp(words[0], "hold") == 0)
        atomic_store(&holding, n > 1 && strcmp(words[1], "1") == 0);
    else if (strcmp(words[0], "name") == 0 && n > 2)
        print_name(&words[1], n - 1);
    else if (strcmp(words[0], "state") == 0)
        print_state();
    return strcmp(words[0], "stop") != 0;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    struct config *cfg;
    struct config_diags d = {0};
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (config_load_file(&cfg, CONFIG_SYNC, argv[1], &d)) {
        config_diags_print(&d, stderr);
        return 1;
    }
    config_diags_free(&d);
    node = argv[2];
    struct err e = {0};
    struct log_options lo = config_log_options(cfg);
    if (log_setup(&lo, &e))
        return 1;
    char replication[400];
    snprintf(replication, sizeof(replication), "repl-of-%s", node);
    const struct group_options o = {.node = node,
                                    .cluster = &cfg->cluster,
                                    .source = &cfg->input.redis,
                                    .api = node,
                                    .replication = replication,
                                    .password = "hunter2",
                                    .handover_ms = 2000,
                                    .changed = on_change};
    if (group_start(&group, &o, &e)) {
        printf("error %s\n", e.msg);
        return 1;
    }
    pthread_t thread;
    pthread_create(&thread, NULL, act, argv[3]);
    char line[4096];
    bool go = true;
    while (go && fgets(line, sizeof(line), stdin))
        go = obey(line);
    if (go)
        _exit(0);
    atomic_store(&ending, true);
    pthread_join(thread, NULL);
    group_stop(group);
    config_free(cfg);
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>

#include "base/clock.h"
#include "redis/client.h"
#include "redis/info.h"

bool redis_info_field(struct slice info, const char *key, struct slice *value)
{
    size_t key_n = strlen(key);
    while (info.n) {
        const char *nl = memchr(info.p, '\n', info.n);
        size_t line = nl ? (size_t)(nl - info.p) : info.n;
        struct slice s = slice_make(info.p, line);
        if (s.n && s.p[s.n - 1] == '\r')
            s.n--;
        if (s.n > key_n && s.p[key_n] == ':' && memcmp(s.p, key, key_n) == 0) {
            *value = slice_make(s.p + key_n + 1, s.n - key_n - 1);
            return true;
        }
        info = nl ? slice_make(nl + 1, info.n - line - 1) : (struct slice){0};
    }
    return false;
}

int redis_parse_version(struct slice s)
{
    int part[3] = {0}, i = 0;
    size_t at = 0;
    while (i < 3 && at < s.n && s.p[at] >= '0' && s.p[at] <= '9') {
        while (at < s.n && s.p[at] >= '0' && s.p[at] <= '9') {
            if (part[i] > 999)
                return 0;
            part[i] = part[i] * 10 + (s.p[at++] - '0');
        }
        i++;
        if (at < s.n && s.p[at] == '.')
            at++;
        else
            break;
    }
    // Builds from an unstable branch call themselves 255.255.255.
    return part[0] > 255 ? 0
                         : part[0] * 10000 + (part[1] > 99 ? 99 : part[1]) * 100 +
                               (part[2] > 99 ? 99 : part[2]);
}

static void copy_text(char *dst, size_t cap, struct slice s)
{
    size_t n = s.n < cap - 1 ? s.n : cap - 1;
    if (n)
        memcpy(dst, s.p, n);
    dst[n] = '\0';
}

static void copy_replid(char dst[41], struct slice s)
{
    static const char none[] = "0000000000000000000000000000000000000000";
    if (s.n == 40 && memcmp(s.p, none, 40) != 0)
        copy_text(dst, 41, s);
}

static bool field_is(struct slice info, const char *key, const char *value)
{
    struct slice v;
    return redis_info_field(info, key, &v) && slice_eq(v, slice_cstr(value));
}

static void field_i64(struct slice info, const char *key, int64_t *out)
{
    struct slice v;
    if (redis_info_field(info, key, &v))
        (void)slice_i64(v, out);
}

void redis_server_init(struct redis_server *s)
{
    *s = (struct redis_server){.repl_offset = -1,
                               .second_repl_offset = -1,
                               .needed_offset = -1,
                               .maxmemory = -1,
                               .used_memory = -1,
                               .databases = -1};
}

void redis_server_parse(struct redis_server *s, struct slice info)
{
    struct slice v;
    if (redis_info_field(info, "valkey_version", &v)) {
        s->is_valkey = true;
        s->version = redis_parse_version(v);
    } else if (redis_info_field(info, "redis_version", &v)) {
        s->version = redis_parse_version(v);
    }
    if (field_is(info, "server_name", "valkey"))
        s->is_valkey = true;
    if (field_is(info, "cluster_enabled", "1") || field_is(info, "redis_mode", "cluster"))
        s->cluster_enabled = true;
    if (field_is(info, "role", "slave") || field_is(info, "role", "replica"))
        s->is_replica = true;
    if (field_is(info, "loading", "1"))
        s->loading = true;
    int64_t time_us;
    if (redis_info_field(info, "server_time_usec", &v) && slice_i64(v, &time_us))
        s->clock_ahead_ms = time_us / 1000 - clock_unix_ms();
    if (redis_info_field(info, "master_replid", &v))
        copy_replid(s->replid, v);
    if (redis_info_field(info, "master_replid2", &v))
        copy_replid(s->replid2, v);
    if (redis_info_field(info, "maxmemory_policy", &v))
        copy_text(s->maxmemory_policy, sizeof(s->maxmemory_policy), v);
    field_i64(info, "master_repl_offset", &s->repl_offset);
    field_i64(info, "second_repl_offset", &s->second_repl_offset);
    field_i64(info, "repl_backlog_first_byte_offset", &s->backlog_first);
    field_i64(info, "gunyu_needed_offset", &s->needed_offset);
    s->needed_snapshot = field_is(info, "gunyu_needed_snapshot", "1");
    field_i64(info, "maxmemory", &s->maxmemory);
    field_i64(info, "used_memory", &s->used_memory);
}

// ROLE is allowed to more users than INFO is.
static void read_role(struct redis_server *s, const struct redis_reply *reply)
{
    struct resp_node n;
    size_t pos = reply->first_child;
    if (reply->root.type != RESP_ARRAY || !resp_next(reply->p, reply->n, &pos, &n))
        return;
    s->is_replica = slice_eq(n.text, SLICE("slave"));
    if (slice_eq(n.text, SLICE("master")) && resp_next(reply->p, reply->n, &pos, &n) &&
        n.type == RESP_INTEGER)
        s->repl_offset = n.num;
}

// The value of a CONFIG GET of one option; false when refused or unknown.
static int config_get(struct redis_client *r, const char *option, struct slice *value, bool *found)
{
    struct redis_reply reply;
    *found = false;
    int rc = redis_call(r, &reply, NULL, "CONFIG GET %s", option);
    if (rc == ERR_REPLY)
        return 0;
    struct resp_node n;
    size_t pos = reply.first_child;
    if (rc || reply.root.num < 2 || !resp_next(reply.p, reply.n, &pos, &n) ||
        !resp_next(reply.p, reply.n, &pos, &n))
        return rc;
    *value = n.text;
    *found = true;
    return 0;
}

static bool is_aggregate(const struct resp_node *n)
{
    return n->type == RESP_ARRAY || n->type == RESP_SET || n->type == RESP_MAP;
}

// Disabled by rename-command, or of a server that only resembles the version it names. Where
// COMMAND is refused, the version counts alone.
static int ask_commands(struct redis_client *r, unsigned *missing)
{
    static const char question[] = "COMMAND INFO"
#define X(name) " " #name
        REDIS_COMMANDS(X)
#undef X
        ;
    struct redis_reply reply;
    struct resp_node n;
    int rc = redis_call(r, &reply, NULL, question);
    if (rc)
        return rc == ERR_REPLY ? 0 : rc;
    size_t pos = reply.first_child;
    for (int i = 0; i < reply.root.num && resp_next(reply.p, reply.n, &pos, &n); i++) {
        if (n.type == RESP_NIL)
            *missing |= 1u << i;
        int64_t below = is_aggregate(&n) ? n.num : 0;
        for (; below > 0 && resp_next(reply.p, reply.n, &pos, &n); below--)
            below += is_aggregate(&n) ? n.num : 0;
    }
    return 0;
}

// Such a server exits when RESTORE brings the value of a module that it does not have.
static int ask_modules(struct redis_client *r, unsigned *missing)
{
    struct redis_reply reply;
    int rc = redis_call(r, &reply, NULL, "MODULE LIST");
    if (rc == ERR_REPLY || (!rc && reply.root.num <= 0))
        *missing |= 1u << REDIS_ANY_MODULE;
    return rc == ERR_REPLY ? 0 : rc;
}

int redis_probe(struct redis_client *r, struct redis_server *out, struct err *e)
{
    static const char *const sections[] = {"server", "replication", "memory", "cluster",
                                           "persistence"};
    redis_server_init(out);
    struct redis_reply reply;
    struct err local;
    e = e ? e : &local;
    bool told = false;
    for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
        int rc = redis_call(r, &reply, e, "INFO %s", sections[i]);
        // Whoever may not say anything is told so; less than that is done without.
        if (rc == ERR_REPLY && !strstr(e->msg, "NOAUTH"))
            continue;
        if (rc)
            return rc;
        redis_server_parse(out, reply.root.text);
        told = told || i == 1;
    }
    if (!told) {
        int rc = redis_call(r, &reply, e, "ROLE");
        if (rc && rc != ERR_REPLY)
            return rc;
        if (!rc)
            read_role(out, &reply);
    }
    struct slice value;
    bool found;
    int rc = config_get(r, "databases", &value, &found);
    int64_t databases;
    if (!rc && found && slice_i64(value, &databases) && databases > 0 && databases < INT32_MAX)
        out->databases = (int)databases;
    if (!rc)
        rc = ask_commands(r, &out->missing);
    if (!rc && !out->is_valkey && out->version > 0 && out->version < 60200)
        rc = ask_modules(r, &out->missing);
    if (rc)
        return err_set(e, rc, "probe of the server: %s", err_text(rc));
    *e = (struct err){0};
    return 0;
}

// 1: it can be selected; 0: it is refused.
static int can_select(struct redis_client *r, int db, struct err *e)
{
    struct err why;
    int rc = redis_call(r, NULL, &why, "SELECT %d", db);
    if (rc && rc != ERR_REPLY)
        return err_set(e, rc, "%s", why.msg);
    return rc == 0;
}

int redis_count_databases(struct redis_client *r, int *out, struct err *e)
{
    int low = 1, high = 1 << 16; // low - 1 can be selected, high cannot
    while (low < high) {
        int mid = low + (high - low + 1) / 2;
        int rc = can_select(r, mid - 1, e);
        if (rc < 0)
            return rc;
        if (rc)
            low = mid;
        else
            high = mid - 1;
    }
    int rc = can_select(r, 0, e);
    *out = rc == 1 ? low : 1;
    return rc < 0 ? rc : 0;
}

// SPDX-License-Identifier: Apache-2.0
// What one value alone does not tell: derived defaults, clamps, and rules across keys.
#include "control/config_internal.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/cmdtable.h"

// redisGunYu moved numbers out of range silently; the same happens here with a warning.
static void clamp_row(struct config_builder *b, int row)
{
    const struct schema_row *r = &schema_rows[row];
    bool number = r->type == T_INT || r->type == T_SIZE || r->type == T_MS;
    int64_t *v = number ? schema_field(b->c, r) : NULL;
    if (!number || !b->c->given[row] || r->out == OUT_ERROR || (r->min == 0 && r->max == 0) ||
        (*v >= r->min && *v <= r->max) || (*v == 0 && r->zero_ok))
        return;
    struct buf was = {0}, now = {0};
    schema_format(b->c, r, true, &was);
    struct err e = {0};
    if (r->out == OUT_NEAREST)
        *v = *v < r->min ? r->min : r->max;
    else if (r->def)
        must(schema_set(b->c, r, r->def, &e) == 0);
    else
        *v = 0;
    if (r->out == OUT_DEFAULT && !r->def)
        buf_printf(&now, "the default, %s,", r->def_note);
    else
        schema_format(b->c, r, true, &now);
    config_row_diag(b, row, DIAG_WARNING, "%s: %s is out of range; %s is used", r->path,
                    buf_cstr(&was), buf_cstr(&now));
    buf_free(&was);
    buf_free(&now);
}

static const char *child(const char *path, const char *leaf, char *dst, size_t cap)
{
    snprintf(dst, cap, "%s.%s", path, leaf);
    return dst;
}
#define CHILD(path, leaf) child(path, leaf, (char[128]){0}, 128)

static void finish_replay(struct config_builder *b, const char *path, struct replay_config *r)
{
    if (r->legacy_pipeline) {
        if (!config_given(b, CHILD(path, "mode")))
            r->mode = REPLAY_PIPELINE;
        else if (r->mode != REPLAY_PIPELINE)
            config_path_diag(b, CHILD(path, "enableAofPipeline"), DIAG_ERROR,
                             "%s.enableAofPipeline: true contradicts %s.mode; drop it", path, path);
    }
    if (r->mode == REPLAY_PARALLEL && !r->bisync)
        config_path_diag(b, CHILD(path, "mode"), DIAG_ERROR,
                         "%s.mode: parallel needs %s.bisyncEnabled: true", path, path);
    if (r->target_db != -1 && r->target_db_map.n)
        config_path_diag(b, CHILD(path, "targetDbMap"), DIAG_WARNING,
                         "%s.targetDbMap has no effect beside targetDb: %d", path, r->target_db);
    if (r->dead_letter_dir && r->dead_letter_file)
        config_path_diag(b, CHILD(path, "deadLetterFile"), DIAG_ERROR,
                         "%s: give deadLetterDir or deadLetterFile, not both", path);
    if (!r->dead_letter_dir && !r->dead_letter_file)
        r->dead_letter_dir = xstrdup(b->c->channel.dir_path);
}

static void finish_channel(struct config_builder *b)
{
    struct channel_config *c = &b->c->channel;
    struct journal_flush *f = &c->flush;
    if (!c->dir_path) {
        const char *tmp = getenv("TMPDIR");
        c->dir_path = xasprintf("%s/redis-gunyu", tmp && *tmp ? tmp : "/tmp");
    }
    if (!config_given(b, "channel.storer.flushPolicy.auto"))
        f->auto_flush = !f->every_write && !f->duration_ms && !f->dirty_size;
    else if (f->auto_flush && (f->every_write || f->duration_ms || f->dirty_size))
        config_path_diag(b, "channel.storer.flushPolicy.auto", DIAG_ERROR,
                         "channel.storer.flushPolicy.auto: true contradicts the other settings "
                         "there; drop one");
    if (c->storer_max_size == 0) {
        c->storer_max_size = INT64_C(50) << 30;
        config_path_diag(b, "channel.storer.maxSize", DIAG_WARNING,
                         "channel.storer.maxSize: 0 is out of range; 50GiB is used");
    }
    if (c->storer_max_size > 0 && c->storer_log_size > c->storer_max_size) {
        c->storer_log_size = c->storer_max_size;
        config_path_diag(b, "channel.storer.maxSize", DIAG_WARNING,
                         "channel.storer.logSize is larger than maxSize; maxSize is used");
    }
    if (c->memory_log_size > c->memory_max_size) {
        // The default of logSize may be larger than a small maxSize; that is no news.
        if (config_given(b, "channel.memory.logSize"))
            config_path_diag(b, "channel.memory.logSize", DIAG_WARNING,
                             "channel.memory.logSize is larger than maxSize; maxSize is used");
        c->memory_log_size = c->memory_max_size;
    }
}

static void finish_cluster(struct config_builder *b)
{
    struct cluster_config *c = &b->c->cluster;
    int64_t third = c->lease_timeout_ms / 3;
    if (!config_given(b, "cluster.leaseRenewInterval")) {
        c->lease_renew_ms = third;
    } else if (c->lease_renew_ms > third) {
        c->lease_renew_ms = third;
        config_path_diag(b, "cluster.leaseRenewInterval", DIAG_WARNING,
                         "cluster.leaseRenewInterval is longer than a third of leaseTimeout; "
                         "the third is used");
    }
    for (size_t i = 0; i < schema_rows_n; i++)
        if (b->c->given[i] && strncmp(schema_rows[i].path, "cluster.metaEtcd.", 17) == 0)
            c->etcd.present = true;
    if (c->etcd.present && c->etcd.endpoints.n == 0)
        config_diag_add(b->d, DIAG_ERROR, NULL, 0, 0,
                        "cluster.metaEtcd.endpoints is required when metaEtcd is given");
    config_finish_tls(b, "cluster.metaEtcd", &c->etcd.tls);
    // The keys of a group are below its name.
    if (c->group_name && (!*c->group_name || strchr(c->group_name, '/')))
        config_path_diag(b, "cluster.groupName", DIAG_ERROR,
                         "cluster.groupName must not be empty or hold a '/'");
}

// host:port with a port in range; the host may be empty or bracketed.
static bool listen_ok(const char *s)
{
    const char *colon = strrchr(s, ':');
    int64_t port;
    if (!colon || !slice_i64(slice_cstr(colon + 1), &port) || port < 0 || port > 65535)
        return false;
    size_t host = (size_t)(colon - s);
    if (s[0] == '[')
        return host > 2 && s[host - 1] == ']';
    return memchr(s, ':', host) == NULL;
}

static bool is_loopback(const char *listen)
{
    return strncmp(listen, "127.", 4) == 0 || strncmp(listen, "localhost:", 10) == 0 ||
           strncmp(listen, "[::1]:", 6) == 0;
}

static void finish_server(struct config_builder *b)
{
    struct server_config *s = &b->c->server;
    if (!s->listen)
        s->listen = xstrdup("127.0.0.1:18001");
    if (!s->listen_peer)
        s->listen_peer = xstrdup(s->listen);
    if (!s->metric_path)
        s->metric_path = xstrdup("/prometheus");
    if (s->metric_path[0] != '/') {
        char *path = xasprintf("/%s", s->metric_path);
        free(s->metric_path);
        s->metric_path = path;
    }
    if (!listen_ok(s->listen))
        config_path_diag(b, "server.listen", DIAG_ERROR,
                         "server.listen: expected host:port or [v6]:port");
    else if (!listen_ok(s->listen_peer))
        config_path_diag(b, "server.listenPeer", DIAG_ERROR,
                         "server.listenPeer: expected host:port or [v6]:port");
    else if (b->c->cluster.group_name && is_loopback(s->listen_peer))
        config_path_diag(b, "server.listenPeer", DIAG_WARNING,
                         "server.listenPeer: %s names this node in its group, and no other machine "
                         "can reach it there",
                         s->listen_peer);
}

static void finish_replication(struct config_builder *b)
{
    struct replication_config *r = &b->c->server.replication;
    struct tls_options *t = &r->tls;
    if (r->listen && !*r->listen) {
        free(r->listen);
        r->listen = NULL;
    }
    if (r->listen && !listen_ok(r->listen))
        config_path_diag(b, "server.replication.listen", DIAG_ERROR,
                         "server.replication.listen: expected host:port or [v6]:port");
    else if (r->listen && !is_loopback(r->listen) && (!r->password || !*r->password))
        config_path_diag(b, "server.replication.listen", DIAG_ERROR,
                         "server.replication.listen: %s is not a loopback address, so "
                         "server.replication.password is required: replicas get all data",
                         r->listen);
    t->enabled = t->cert_file || t->key_file;
    if (!t->cert_file != !t->key_file)
        config_path_diag(b, CHILD("server.replication.tls", t->cert_file ? "certFile" : "keyFile"),
                         DIAG_ERROR,
                         "server.replication.tls: certFile and keyFile belong together");
    else if (!t->enabled && (t->ca_file || t->ca_dir))
        config_path_diag(b, "server.replication.tls.caFile", DIAG_ERROR,
                         "server.replication.tls: a CA for replicas needs certFile and keyFile");
}

static void finish_log(struct config_builder *b)
{
    struct log_config *l = &b->c->log;
    if (!config_given(b, "log.handler.stdout"))
        l->to_stderr = l->file == NULL;
}

static void check_input(struct config_builder *b)
{
    struct input_config *in = &b->c->input;
    if (in->redis.type == REDIS_CLUSTER && !config_given(b, "input.syncFrom"))
        in->sync_from = SYNC_PREFER_SLAVE;
    if (in->redis.type == REDIS_CLUSTER && b->c->output.replay.full_sync_flush != FLUSH_NONE)
        config_path_diag(b, "output.replay.fullSyncFlush", DIAG_ERROR,
                         "output.replay.fullSyncFlush: the full sync of one shard would empty the "
                         "target of what the other shards have written");
    if (!in->psync_command)
        in->psync_command = xstrdup("PSYNC");
    if (strpbrk(in->psync_command, " \t\r\n"))
        config_path_diag(b, "input.psyncCommand", DIAG_ERROR,
                         "input.psyncCommand: expected one word");
    for (size_t i = 0; i < in->redis.endpoints_n; i++)
        if (in->redis.endpoints[i].db)
            config_path_diag(b, "input.redis.addresses", DIAG_ERROR,
                             "input.redis.addresses: an address names db %d, but replication "
                             "carries all; use output.filter.dbWhitelist: [%d]",
                             in->redis.endpoints[i].db, in->redis.endpoints[i].db);
}

// A db in a target's address means that everything goes into it.
static void take_target_db(struct config_builder *b, const char *path, struct output_config *o)
{
    for (size_t i = 0; i < o->redis.endpoints_n; i++) {
        struct endpoint *ep = &o->redis.endpoints[i];
        if (ep->db && o->replay.target_db != -1 && o->replay.target_db != ep->db)
            config_path_diag(b, CHILD(path, "replay.targetDb"), DIAG_ERROR,
                             "%s.replay.targetDb is %d, but an address names db %d", path,
                             o->replay.target_db, ep->db);
        else if (ep->db)
            o->replay.target_db = ep->db;
        ep->db = 0;
    }
}

static bool group_eq(const char *name, const char *group)
{
    for (; *name && *group; name++, group++)
        if (tolower((unsigned char)*name) != tolower((unsigned char)*group))
            return false;
    return *name == *group;
}

// all gets the groups met on the way, as ",A,B,".
static bool group_known(const char *name, struct buf *all)
{
    buf_append_char(all, ',');
    for (int i = 0; i < cmd_count(); i++) {
        char group[64];
        if (group_eq(name, cmd_at(i)->group))
            return true;
        snprintf(group, sizeof(group), ",%s,", cmd_at(i)->group);
        if (!strstr(buf_cstr(all), group))
            buf_append_cstr(all, group + 1);
    }
    return false;
}

static void check_groups(struct config_builder *b, const char *key, struct str_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        struct buf all = {0};
        // COMMAND DOCS writes sorted-set.
        for (char *p = l->v[i]; *p; p++)
            *p = *p == '-' ? '_' : *p;
        if (!group_known(l->v[i], &all))
            config_path_diag(b, key, DIAG_ERROR,
                             "%s: no command is in the group \"%.40s\"; known are %.*s", key,
                             l->v[i], (int)all.n - 2, buf_cstr(&all) + 1);
        buf_free(&all);
    }
}

// Commands of modules are not all known to us, so an unknown name is no error.
static void check_commands(struct config_builder *b, const char *key, const struct str_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        if (!cmd_by_name(slice_cstr(l->v[i])))
            config_path_diag(b, key, DIAG_WARNING, "%s: \"%.40s\" is not a command known here", key,
                             l->v[i]);
}

static void check_filter(struct config_builder *b, const char *path, struct filter_config *f)
{
    check_groups(b, CHILD(path, "commandGroupBlacklist"), &f->command_group_blacklist);
    check_groups(b, CHILD(path, "commandGroupWhitelist"), &f->command_group_whitelist);
    check_commands(b, CHILD(path, "commandBlacklist"), &f->command_blacklist);
    check_commands(b, CHILD(path, "commandWhitelist"), &f->command_whitelist);
}

// The same servers may be watched under several names.
static bool share_servers(const struct redis_config *in, const struct redis_config *out)
{
    const char *a = in->sentinel.master_name, *b = out->sentinel.master_name;
    if ((in->type == REDIS_SENTINEL) != (out->type == REDIS_SENTINEL))
        return false;
    return in->type != REDIS_SENTINEL || (a && b && strcmp(a, b) == 0);
}

static void check_pairing(struct config_builder *b)
{
    const struct redis_config *in = &b->c->input.redis, *out = &b->c->output.redis;
    char a[300], o[300];
    if (in->type == REDIS_STANDALONE && out->type == REDIS_STANDALONE &&
        in->endpoints_n != out->endpoints_n && in->endpoints_n && out->endpoints_n > 1)
        config_path_diag(b, "output.redis.addresses", DIAG_ERROR,
                         "each standalone source goes to the target at its place in the list, or "
                         "all go to one, but there are %zu and %zu",
                         in->endpoints_n, out->endpoints_n);
    if (in->type != REDIS_STANDALONE && out->type == REDIS_STANDALONE && out->endpoints_n > 1)
        config_path_diag(b, "output.redis.addresses", DIAG_ERROR,
                         "a %s source goes to one standalone target, but there are %zu",
                         in->type == REDIS_CLUSTER ? "cluster" : "sentinel", out->endpoints_n);
    for (size_t i = 0; i < in->endpoints_n; i++) {
        endpoint_name(&in->endpoints[i], a, sizeof(a));
        for (size_t j = 0; j < out->endpoints_n; j++)
            if (share_servers(in, out) &&
                strcmp(a, endpoint_name(&out->endpoints[j], o, sizeof(o))) == 0)
                config_path_diag(b, "output.redis.addresses", DIAG_ERROR,
                                 "%s is both source and target; it would feed itself", a);
        for (size_t j = 0; j < i; j++)
            if (strcmp(a, endpoint_name(&in->endpoints[j], o, sizeof(o))) == 0)
                config_path_diag(b, "input.redis.addresses", DIAG_ERROR,
                                 "input.redis.addresses: %s is there twice", a);
    }
}

const char *config_extra_keys_refused(const struct config *c)
{
    const struct redis_config *in = &c->input.redis, *out = &c->output.redis;
    bool own_targets = out->type == REDIS_STANDALONE && out->endpoints_n > 1;
    if (c->output.replay.key_exists != KEY_REPLACE)
        return "it needs keyExists: replace";
    if (c->output.replay.bisync)
        return "the other direction's keys would go, so not with bisyncEnabled";
    if (in->type == REDIS_STANDALONE && in->endpoints_n > 1 && !own_targets)
        return "the full sync of one source would delete what the others have written there";
    return NULL;
}

static void check_extra_keys(struct config_builder *b)
{
    const char *why = config_extra_keys_refused(b->c);
    if (b->c->output.replay.extra_keys == EXTRA_KEYS_DELETE && why)
        config_path_diag(b, "output.replay.extraKeys", DIAG_ERROR,
                         "output.replay.extraKeys: delete is not possible: %s", why);
}

static void finish_sync(struct config_builder *b)
{
    struct config *c = b->c;
    config_finish_redis(b, "input.redis", &c->input.redis);
    config_finish_redis(b, "output.redis", &c->output.redis);
    check_input(b);
    take_target_db(b, "output", &c->output);
    finish_replay(b, "output.replay", &c->output.replay);
    check_filter(b, "output.filter", &c->output.filter);
    check_pairing(b);
    check_extra_keys(b);
}

static void finish_rdb(struct config_builder *b)
{
    struct rdb_config *r = &b->c->rdb;
    if (b->unreadable)
        return;
    if (r->action == RDB_ACTION_NONE && !config_given(b, "action"))
        config_diag_add(b->d, DIAG_ERROR, NULL, 0, 0, "action is required: print or load");
    if (!r->path)
        config_diag_add(b->d, DIAG_ERROR, NULL, 0, 0, "rdbPath is required");
    if (r->action == RDB_ACTION_LOAD)
        config_finish_redis(b, "load.redis", &r->load.redis);
    take_target_db(b, "load", &r->load);
    finish_replay(b, "load.replay", &r->load.replay);
    check_filter(b, "load.filter", &r->load.filter);
}

void config_finish(struct config_builder *b)
{
    for (size_t i = 0; i < schema_rows_n; i++)
        clamp_row(b, (int)i);
    finish_channel(b);
    finish_cluster(b);
    finish_server(b);
    finish_log(b);
    config_finish_secrets(b);
    finish_replication(b);
    if (b->scope == CONFIG_SYNC)
        finish_sync(b);
    else
        finish_rdb(b);
}

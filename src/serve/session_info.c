// SPDX-License-Identifier: Apache-2.0
#include "serve/session_info.h"

#include <stdio.h>
#include <stdlib.h>

void session_version(int version, char out[24])
{
    out[0] = 0;
    if (version > 0)
        snprintf(out, 24, "%d.%d.%d", version / 10000, version / 100 % 100, version % 100);
}

int session_split(const char *address, char host[SESSION_NAME_MAX])
{
    const char *colon = strrchr(address, ':');
    size_t n = colon ? (size_t)(colon - address) : strlen(address);
    bool brackets = n >= 2 && address[0] == '[' && address[n - 1] == ']';
    snprintf(host, SESSION_NAME_MAX, "%.*s", (int)(brackets ? n - 2 : n), address + brackets);
    return colon ? (int)strtol(colon + 1, NULL, 10) : 0;
}

static void put_server(struct buf *b, const struct session_options *o, const struct serve_facts *f)
{
    char version[24];
    session_version(f ? f->version : 0, version);
    if (version[0] && f->is_valkey)
        buf_printf(b, "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:%s\r\n",
                   version);
    else if (version[0])
        buf_printf(b, "redis_version:%s\r\n", version);
    buf_printf(b, "redis_mode:%s\r\ngunyu_version:%s\r\ntcp_port:%d\r\n",
               f && f->cluster ? "cluster" : "standalone", o->version, o->port);
    // What is computed from a clock downstream is computed from the source's.
    int64_t now = o->unix_ms() + (f ? f->clock_ahead_ms : 0);
    buf_printf(b, "server_time_usec:%lld\r\n", (long long)now * 1000);
}

static void put_persistence(struct buf *b, const struct session_options *o,
                            const struct serve_facts *f)
{
    (void)o;
    (void)f;
    buf_append_cstr(b, "loading:0\r\n");
}

static void put_replica(struct buf *b, size_t i, const struct serve_replica *r)
{
    char host[SESSION_NAME_MAX];
    int port = session_split(r->address, host);
    buf_printf(b, "slave%zu:ip=%s,port=%d,state=%s,offset=%lld,lag=%lld\r\n", i, host, port,
               r->state == REPLICA_STREAM ? "online" : "send_bulk",
               r->acked < 0 ? 0LL : (long long)r->acked, (long long)r->silent_ms / 1000);
}

static void put_replication(struct buf *b, const struct session_options *o,
                            const struct serve_facts *f)
{
    static const char none[] = "0000000000000000000000000000000000000000";
    char host[SESSION_NAME_MAX];
    (void)o;
    buf_append_cstr(b, "role:slave\r\n");
    if (!f)
        return;
    int port = session_split(f->source, host);
    long long right = f->has_log ? (long long)f->right : 0;
    buf_printf(b, "master_host:%s\r\nmaster_port:%d\r\nmaster_link_status:%s\r\n", host, port,
               f->link_up ? "up" : "down");
    buf_printf(b, "slave_repl_offset:%lld\r\nslave_read_only:1\r\n", right);
    buf_printf(b, "connected_slaves:%zu\r\n", f->replicas_n);
    for (size_t i = 0; i < f->replicas_n; i++)
        put_replica(b, i, &f->replicas[i]);
    // An id that is not known is left out: it must not pass for another history.
    if (f->replid[0])
        buf_printf(b, "master_replid:%s\r\nmaster_replid2:%s\r\n", f->replid,
                   f->replid2[0] ? f->replid2 : none);
    buf_printf(b, "master_repl_offset:%lld\r\nsecond_repl_offset:%lld\r\n", right,
               f->replid2[0] && f->replid2_offset >= 0 ? (long long)f->replid2_offset + 1 : -1LL);
    buf_printf(b, "repl_backlog_active:%d\r\n", f->has_log);
    if (f->has_log)
        buf_printf(b, "repl_backlog_first_byte_offset:%llu\r\nrepl_backlog_histlen:%llu\r\n",
                   (unsigned long long)f->left + 1, (unsigned long long)(f->right - f->left));
    if (f->needed_offset >= 0)
        buf_printf(b, "gunyu_needed_offset:%lld\r\ngunyu_needed_snapshot:%d\r\n",
                   (long long)f->needed_offset, f->needed_snapshot);
}

static void put_cluster(struct buf *b, const struct session_options *o, const struct serve_facts *f)
{
    (void)o;
    buf_printf(b, "cluster_enabled:%d\r\n", f && f->cluster);
}

static void put_keyspace(struct buf *b, const struct session_options *o,
                         const struct serve_facts *f)
{
    (void)b;
    (void)o;
    (void)f;
}

static bool wanted(const char *name, int n, const struct slice *sections)
{
    for (int i = 0; i < n; i++)
        if (slice_ieq(sections[i], slice_cstr(name)) || slice_ieq(sections[i], SLICE("all")) ||
            slice_ieq(sections[i], SLICE("default")) || slice_ieq(sections[i], SLICE("everything")))
            return true;
    return n == 0;
}

void session_info(struct buf *b, const struct session_options *o, const struct serve_facts *f,
                  int sections_n, const struct slice *sections)
{
    static const struct {
        const char *name;
        void (*put)(struct buf *b, const struct session_options *o, const struct serve_facts *f);
    } known[] = {{"Server", put_server},
                 {"Persistence", put_persistence},
                 {"Replication", put_replication},
                 {"Cluster", put_cluster},
                 {"Keyspace", put_keyspace}};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (!wanted(known[i].name, sections_n, sections))
            continue;
        buf_printf(b, "%s# %s\r\n", b->n ? "\r\n" : "", known[i].name);
        known[i].put(b, o, f);
    }
}

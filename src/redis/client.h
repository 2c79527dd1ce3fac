// SPDX-License-Identifier: Apache-2.0
// A blocking client for the slow path: handshakes, probes, positions. Run it on a pool thread.
#ifndef GUNYU_REDIS_CLIENT_H
#define GUNYU_REDIS_CLIENT_H

#include "base/buf.h"
#include "codec/resp.h"
#include "net/conn.h"

struct redis_client;

// Dials and authenticates (AUTH with or without user; SELECT ep->db when not 0). The error says
// whether the network, TLS or the server refused (ERR_AUTH for NOAUTH, WRONGPASS, NOPERM).
int redis_connect(struct redis_client **out, const struct endpoint *ep, int timeout_ms,
                  struct err *e) must_check;
void redis_close(struct redis_client *r);
// Hands the connection over and frees the rest; no reply may be outstanding. Returns new.
struct conn *redis_take_conn(struct redis_client *r);

// A whole reply; walk it with resp_next. Borrowed until the next call.
struct redis_reply {
    const char *p;
    size_t n;
    struct resp_node root;
    size_t first_child; // resp_next position of the first child of an aggregate
};

// Sends one command (format as resp_put_cmd) and waits for its reply. An error reply is returned
// as ERR_REPLY (e has the server's words) with *out filled too.
int redis_call(struct redis_client *r, struct redis_reply *out, struct err *e, const char *fmt,
               ...) must_check;
int redis_call_raw(struct redis_client *r, struct slice commands, int replies,
                   struct redis_reply *last, struct err *e) must_check; // a pipeline; first error
// A pipeline whose replies are looked at one by one: send, then receive as often as there are
// commands. An error reply is a reply like any other here.
int redis_send(struct redis_client *r, struct slice commands, struct err *e) must_check;
int redis_receive(struct redis_client *r, struct redis_reply *out, struct err *e) must_check;
// Waits until something has come that redis_receive can begin with: 1, or 0 when timeout_ms have
// passed, which breaks nothing. For what a server says unasked.
int redis_wait(struct redis_client *r, int timeout_ms, struct err *e) must_check;

// Commands that decide how values are written to a server.
#define REDIS_COMMANDS(X)                                                                          \
    X(RESTORE)                                                                                     \
    X(FUNCTION)                                                                                    \
    X(HPEXPIREAT)                                                                                  \
    X(XADD)                                                                                        \
    X(XIDMPRECORD)                                                                                 \
    X(ARMSET)
enum redis_command {
#define X(name) REDIS_CMD_##name,
    REDIS_COMMANDS(X)
#undef X
        REDIS_ANY_MODULE, // no command: a module that is loaded; asked of a Redis before 6.2 only
};

// What INFO, with fallbacks, says of a server.
struct redis_server {
    int version; // 70015 = 7.0.15; 0 unknown. For Valkey the Valkey version (80103)
    bool is_valkey;
    bool cluster_enabled;
    bool is_replica;
    bool loading;
    char replid[41], replid2[41];
    int64_t repl_offset, second_repl_offset;
    int64_t backlog_first; // position of the first byte it could send, counted from 1; 0 unknown
    // Of a gunyu that serves a journal: the position from which its target needs the log, -1 for
    // another server; and whether the target needs the snapshot before that as well.
    int64_t needed_offset;
    bool needed_snapshot;
    int64_t maxmemory; // 0 none; -1 unknown
    int64_t used_memory;
    char maxmemory_policy[32];
    unsigned missing;       // bits 1 << enum redis_command: it says that it has no such command
    int databases;          // from CONFIG GET; -1 unknown
    int64_t clock_ahead_ms; // its clock against ours when INFO came; 0: unknown
};
int redis_probe(struct redis_client *r, struct redis_server *out, struct err *e) must_check;
// How many databases the server lets this user select, by asking for ever smaller ones. Leaves the
// connection in db 0.
int redis_count_databases(struct redis_client *r, int *out, struct err *e) must_check;
// "7.0.15" is 70015; what follows the numbers ("-rc1") is left out. 0 when it is no version.
int redis_parse_version(struct slice s);
// One "key:value" line of an INFO text.
bool redis_info_field(struct slice info, const char *key, struct slice *value);

#endif

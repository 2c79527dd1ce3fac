// SPDX-License-Identifier: Apache-2.0
// The replication protocol seen from the server, up to PSYNC, as a pure state machine: received
// bytes in; replies and a decision out. No I/O and no clock.
#ifndef GUNYU_SERVE_SESSION_H
#define GUNYU_SERVE_SESSION_H

#include "base/buf.h"
#include "base/err.h"
#include "codec/resp.h"
#include "serve/grant.h"

enum {
    SESSION_COMMAND_MAX = 16 * 1024, // bytes of one command
    SESSION_NAME_MAX = 300,          // of a shard
    SERVE_REPLICAS = 32,             // attached to one shard
};

enum serve_replica_state { REPLICA_WAITS, REPLICA_SNAPSHOT, REPLICA_STREAM };
const char *serve_replica_state_name(enum serve_replica_state s); // "wait_rdb", "rdb", "stream"

// An attached replica, for status and INFO.
struct serve_replica {
    char address[80]; // host:port; the port it announced, where it did
    enum serve_replica_state state;
    int64_t acked; // -1: nothing yet
    uint64_t bytes_sent;
    int64_t silent_ms; // since it was last heard
};

// What is known of a shard, for INFO and ROLE.
struct serve_facts {
    char source[SESSION_NAME_MAX]; // host:port of the source; "": not known yet
    bool link_up, cluster, is_valkey;
    int version; // of the source, as 70015; 0 unknown
    char replid[REPLID_LEN + 1], replid2[REPLID_LEN + 1];
    int64_t replid2_offset; // -1: none
    bool has_log;
    uint64_t left, right;
    int64_t clock_ahead_ms; // the source's clock against ours
    // The first byte of the log that a node that stands in must have follows this; -1 unknown.
    int64_t needed_offset;
    bool needed_snapshot; // and the snapshot
    size_t replicas_n;
    struct serve_replica replicas[SERVE_REPLICAS];
};

// Asks for a shard by name, "" when none was given; e.msg is then what the client is told.
typedef int (*session_facts_fn)(void *ctx, const char *shard, struct serve_facts *out,
                                struct err *e);

struct session_options {  // borrowed
    const char *password; // NULL: everybody may
    const char *version;  // of this program
    int port;
    int64_t (*unix_ms)(void);
    session_facts_fn facts;
    void *ctx;
};

enum session_verdict {
    SESSION_MORE,  // send `out`, then give more bytes
    SESSION_END,   // send `out`, then close
    SESSION_SERVE, // send `out`, then what `request` asks for
};

struct session {
    const struct session_options *o;
    struct buf out; // replies to send; the user consumes them
    bool authenticated;
    char shard[SESSION_NAME_MAX]; // that the client picked by its user; ""
    struct serve_request request;
    // private
    uint64_t id;
    char name[64];
    int protocol; // 2 or 3
    int failures; // of AUTH
    bool ended;
    struct resp_cmd cmd;
};

void session_begin(struct session *s, const struct session_options *o, uint64_t id);
void session_free(struct session *s);

// Takes whole commands; *used bytes are done with. The rest must be given again with more behind
// it, or after SESSION_SERVE belongs to what follows.
enum session_verdict session_step(struct session *s, const char *in, size_t n,
                                  size_t *used) must_check;

#endif

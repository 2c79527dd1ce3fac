// SPDX-License-Identifier: Apache-2.0
// The replication link to one source node: handshake, full sync, stream, ACKs, and reconnecting for
// ever. Bytes go from the socket straight into the journal. The protocol is a pure state machine in
// source/psync.h; this is its I/O.
//
// All calls and callbacks are on the loop's thread; a callback may call anything here, link_free
// included. Connecting blocks a thread of libuv's pool for up to connect_timeout_ms, so the process
// sets UV_THREADPOOL_SIZE to more than the number of its links.
#ifndef GUNYU_SOURCE_LINK_H
#define GUNYU_SOURCE_LINK_H

#include <stdatomic.h>
#include <uv.h>

#include "journal/journal.h"
#include "net/endpoint.h"
#include "redis/client.h"
#include "source/choose.h"

struct link;

enum link_state {
    LINK_IDLE,       // stopped
    LINK_CONNECTING, // or waiting to reconnect
    LINK_HANDSHAKE,
    LINK_WAIT_RDB, // the source prepares its snapshot
    LINK_RDB,
    LINK_STREAM,
    LINK_BLOCKED, // connected, but the journal has no room
};
const char *link_state_name(enum link_state s);

struct link_request {
    char replid[REPLID_LEN + 1]; // "?" for a full sync
    int64_t offset;              // last position held; PSYNC asks for offset + 1. -1 with "?"
};

struct link_events {
    // Which point to ask for; id1/id2 are the source's (empty when it would not say). Called once
    // a connection is up, before PSYNC.
    void (*choose)(void *ctx, const struct redis_server *source, struct link_request *out);
    // +CONTINUE. new_replid is NULL when the id stayed. The journal already knows.
    void (*continued)(void *ctx, const char *new_replid);
    // A full sync was granted and its snapshot begins (the source may have prepared it for minutes
    // before); called before the journal is emptied, so readers must be closed here.
    void (*full_sync)(void *ctx, const char *replid, uint64_t offset, const char *reason);
    void (*grew)(void *ctx);          // bytes were added to the snapshot or the log
    void (*snapshot_done)(void *ctx); // the last RDB byte is in the journal
    void (*state)(void *ctx, enum link_state s, const struct err *why); // why: last failure or NULL
    // The journal failed (disk full, vanished, damaged): the link has stopped.
    void (*journal_failed)(void *ctx, const struct err *why);
};

// How many more full syncs may run at the same time; links of several threads share it.
struct link_gate {
    atomic_int free;
};

struct link_options {
    uv_loop_t *loop;
    struct endpoint endpoint;      // borrowed; user, password and TLS hold wherever the source is
    struct endpoint_finder finder; // asked where it is before each connect
    enum choose_from from;  // which node of the endpoint's shard to read, chosen at each connect
    struct link_gate *gate; // NULL: full syncs are not limited
    struct journal *journal;
    const char *tag;
    const char *psync_command; // "PSYNC" unless the cloud renames it
    int listening_port;        // announced; 0: not announced
    const char *announce_ip;   // NULL: not announced
    int version;               // of the source, where INFO does not tell it; 0: unknown
    int connect_timeout_ms;    // 5000
    int read_timeout_ms; // 60000: silence longer than this is a dead link (masters ping each 10 s)
    const struct link_events *events;
    void *ctx;
};

struct link *link_new(const struct link_options *o);
void link_start(struct link *l);
void link_stop(struct link *l); // closes the connection; link_start goes on later
void link_free(struct link *l); // stops first; memory goes when the loop has closed its handles
// Sends REPLCONF ACK now (a GETACK was read in the stream).
void link_ack_now(struct link *l);
// The journal has room again.
void link_kick(struct link *l);
// Drops the connection and asks again with choose().
void link_reconnect(struct link *l, const char *why);
// Ends a wait before the next attempt to connect.
void link_hurry(struct link *l);
// The address (endpoint_name) that the finder gave last; "" before. Valid until the next connect.
const char *link_found(const struct link *l);
// For another connection to the node that this one is to: *at is to be freed, what *o points to is
// the link's options'.
struct psync_options;
void link_peer(const struct link *l, struct endpoint *at, struct psync_options *o);

struct link_stats {
    uint64_t bytes_rdb, bytes_stream; // received since start
    uint64_t full_syncs, partial_syncs, reconnects;
    uint64_t last_ack;  // position last acknowledged
    int64_t last_io_ms; // wall clock of the last byte received
};
void link_get_stats(const struct link *l, struct link_stats *out);

#endif

// SPDX-License-Identifier: Apache-2.0
// The replication protocol seen from a replica, as a pure state machine: received bytes in; events
// and bytes to send out. No I/O and no clock; source/link.c provides both.
#ifndef GUNYU_SOURCE_PSYNC_H
#define GUNYU_SOURCE_PSYNC_H

#include "base/buf.h"
#include "journal/journal.h"
#include "redis/client.h"
#include "source/link.h"

enum { PSYNC_MARKER_LEN = 40 };

enum psync_state {
    PSYNC_AUTH,
    PSYNC_PING,
    PSYNC_INFO,
    PSYNC_CHOOSING, // psync_request is due
    PSYNC_PORT,
    PSYNC_ADDRESS,
    PSYNC_CAPA,
    PSYNC_VERSION,
    PSYNC_ASKED,
    PSYNC_RDB_HEADER, // the source prepares its snapshot
    PSYNC_RDB,        // psync_rdb is due
    PSYNC_STREAM,
    PSYNC_FAILED,
};

enum psync_event {
    PSYNC_NEED_MORE, // send `out`, then give more bytes
    PSYNC_CHOOSE,    // `server` is filled in: call psync_request
    PSYNC_WILL_SEND, // a full sync was granted; replid and offset are set
    PSYNC_SNAPSHOT,  // the snapshot begins with the next byte; rdb_size is set
    PSYNC_CONTINUED, // the stream begins with the next byte; new_replid is set or ""
    PSYNC_ERROR,     // `error` says why this source cannot be used now
};

struct psync_options {           // borrowed by the machine
    const char *user, *password; // NULL: none
    const char *psync_command;
    const char *announce_ip; // NULL: not announced
    int listening_port;      // 0: not announced
    int version;             // of the source, where INFO does not tell it; 0: unknown
};

struct psync {
    const struct psync_options *o;
    enum psync_state state;
    struct buf out; // bytes to send; the user consumes them
    struct redis_server server;
    struct link_request request;
    bool plain_sync; // SYNC instead of PSYNC: no positions, no acknowledgements
    char replid[REPLID_LEN + 1];
    uint64_t offset; // position that the snapshot ends at
    char new_replid[REPLID_LEN + 1];
    uint64_t rdb_size; // JOURNAL_SIZE_UNKNOWN: ends with a marker
    uint64_t rdb_have; // received, the marker included
    struct err error;
    // private
    struct resp_scan scan;
    char marker[PSYNC_MARKER_LEN];
    uint8_t skip[256];
    char tail[PSYNC_MARKER_LEN - 1]; // last bytes before this chunk
    size_t tail_n;
};

// Begins a session on a new connection; the first command is in `out`. Zeroed before the first use.
void psync_begin(struct psync *p, const struct psync_options *o);
void psync_free(struct psync *p);

// Takes bytes of the handshake up to the next event; *used says how many. The rest, after
// PSYNC_SNAPSHOT and PSYNC_CONTINUED, is snapshot and stream. Until an event comes, the same
// unused bytes must be given again with more behind them.
enum psync_event psync_step(struct psync *p, const char *in, size_t n, size_t *used) must_check;

// Answers PSYNC_CHOOSE.
void psync_request(struct psync *p, const struct link_request *request);

// Snapshot bytes, as they come. Returns how many of them still belong to it (its marker included);
// *done when it is whole, and *final_size is then its size without the marker.
size_t psync_rdb(struct psync *p, const char *in, size_t n, bool *done, uint64_t *final_size);
// The most that the next chunk can hold of the snapshot; SIZE_MAX when unknown.
size_t psync_rdb_left(const struct psync *p);

// Why the source gives a full sync, for people. dst gets a NUL-terminated line and is returned.
const char *psync_full_reason(const struct psync *p, char *dst, size_t cap);

// Queues an acknowledgement, where the source understands it.
void psync_ack(struct psync *p, uint64_t offset);

// The bytes end with the question REPLCONF GETACK.
bool psync_ends_with_getack(const char *p, size_t n);
enum { PSYNC_GETACK_LEN = 37 };

#endif

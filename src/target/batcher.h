// SPDX-License-Identifier: Apache-2.0
// Packs units (one command, or one whole source transaction) into batches on one target connection
// and follows their replies.
//
// A wrapped batch is MULTI, its commands, the position, EXEC. Its body is sent as it grows; its
// EXEC goes out only when no more than max_exec - 1 earlier ones are unanswered and no bare batch
// is. So with max_exec 1 a batch never commits after one that the target refused (a full memory
// that comes and goes, a failover), while the target still receives and queues the next body
// without a pause, and batches grow by themselves under load. A bare batch has no MULTI and no
// position of its own; the position follows once its replies are in.
//
// With a guard each batch is wrapped, and proves that nobody else has taken over: WATCH and GET of
// the record go before its MULTI, and its EXEC waits for the answer to GET. If the record is
// another one by then, the EXEC comes to nothing. That costs a round trip for each batch.
//
// After any failure the owner detaches, reads the position from the target, and begins again there.
#ifndef GUNYU_TARGET_BATCHER_H
#define GUNYU_TARGET_BATCHER_H

#include <uv.h>

#include "net/conn.h"
#include "target/sink.h"

struct batcher_options {
    uv_loop_t *loop;
    const struct sink_events *events;
    void *ctx;
    uint32_t max_cmds;    // of one batch
    size_t max_bytes;     // of one batch
    int max_exec;         // EXECs in flight
    uint64_t position_us; // how often the position follows bare batches and filtered traffic
    uint64_t ping_us;     // an idle target is asked for a sign of life this often; 0: never
};

struct batcher_guard {
    struct slice (*key)(void *ctx, char *dst); // of the record, in db 0; dst has 64 bytes
    bool (*holds)(void *ctx, struct slice value);
    void *ctx;
};

struct batcher;
struct batcher *batcher_new(const struct batcher_options *o);
struct sink *batcher_sink(struct batcher *b);
void batcher_free(struct batcher *b);
// Takes a connection that is authenticated and has db selected.
void batcher_attach(struct batcher *b, struct conn *c, int db);
// Of the connection that was attached, before anything is sent; NULL: none.
void batcher_guard(struct batcher *b, const struct batcher_guard *g);
// Nothing more is sent, read or acknowledged until the next attach. For an owner that gives up
// within an event, where it must not detach: a bare batch with a refused command must not become a
// position.
void batcher_stop(struct batcher *b);
// Closes the connection and forgets everything unacknowledged.
void batcher_detach(struct batcher *b);
bool batcher_attached(const struct batcher *b);

// A unit of a bare batch can be begun, or the one that is open go on.
bool batcher_room(struct batcher *b);
// Begins a unit; false: not now, wait for room(). One that need not be wrapped joins a wrapped
// batch that is open, and is wrapped as long as max_exec EXECs are unanswered. `alone`: the unit is
// a batch of its own (a source transaction) and may be filled over many turns. Nothing else may be
// begun before its end.
bool batcher_unit_begin(struct batcher *b, bool wrapped, bool alone);
// Within a unit: the connection's db for what follows.
void batcher_select(struct batcher *b, int db, uint64_t ref);
// Within a unit: append one command's bytes to batcher_out(), then register it.
struct outq *batcher_out(struct batcher *b);
void batcher_cmd(struct batcher *b, uint64_t ref);
void batcher_unit_end(struct batcher *b, const struct batch_mark *mark);
// Outside units: nothing had to be sent up to mark.
void batcher_skip_to(struct batcher *b, const struct batch_mark *mark);

// Closes what may be closed and sends. Call at the end of each turn, and about every 100 ms.
void batcher_flush(struct batcher *b);
// Writes the current mark as the position now, as soon as nothing is in flight.
void batcher_store_position(struct batcher *b);
bool batcher_idle(const struct batcher *b); // nothing open, unsent or unanswered
uint64_t
batcher_oldest_us(const struct batcher *b); // when the oldest unanswered batch began; 0 none
size_t batcher_unsent(const struct batcher *b);
void batcher_get_stats(const struct batcher *b, struct sink_stats *out);

#endif

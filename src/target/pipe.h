// SPDX-License-Identifier: Apache-2.0
// One pipelined connection to a node of a cluster: requests go out in order, their replies are
// followed in order. What a reply means is the router's business.
#ifndef GUNYU_TARGET_PIPE_H
#define GUNYU_TARGET_PIPE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "net/conn.h"
#include "target/outq.h"
#include "target/replies.h"

enum pipe_kind {
    PIPE_BARE, // commands, each with its reply
    PIPE_TXN,  // MULTI, commands, EXEC
};

// The ref of a command that no unit of the owner asked for; its failure is the connection's.
#define PIPE_OWN_REF (UINT64_MAX - 1)

// A request under way. The first block is its owner's.
struct pipe_req {
    int slot;
    uint32_t tickets;
    uint64_t unit;
    bool troubled;
    // private
    bool asking;  // ASKING goes before it
    uint8_t kind; // enum pipe_kind
    uint8_t phase;
    uint32_t cmds, answered;
    uint64_t from; // bytes put into the queue before it
    uint64_t begun_us;
};

struct pipe;
struct pipe_events {
    // An error reply to the command of ref (UINT64_MAX: to EXEC as a whole or to MULTI). in_exec:
    // one of the results; the others stand.
    void (*error)(void *ctx, struct pipe *p, struct pipe_req *q, uint64_t ref, struct slice text,
                  bool in_exec);
    // A reply that is no error but nil, 0 or an empty array.
    void (*empty)(void *ctx, struct pipe_req *q, uint64_t ref);
    void (*done)(void *ctx, struct pipe *p, struct pipe_req *q);
    void (*failed)(void *ctx, struct pipe *p, const struct err *why);
    void (*room)(void *ctx, struct pipe *p);
};

struct pipe *pipe_new(uv_loop_t *loop, const struct pipe_events *events, void *ctx);
// Closes the connection; its handle goes when the loop has closed it.
void pipe_free(struct pipe *p);
// Takes a connection that is authenticated and has db 0 selected.
void pipe_attach(struct pipe *p, struct conn *c);
// Nothing more is sent or read; allowed within events.
void pipe_stop(struct pipe *p);

// Begins a request; commands follow in pipe_out(), each registered by pipe_cmd.
void pipe_begin(struct pipe *p, enum pipe_kind kind, bool asking);
struct pipe_req *pipe_open_req(struct pipe *p);
struct outq *pipe_out(struct pipe *p);
void pipe_cmd(struct pipe *p, uint64_t ref);
// The db of what follows, by a request of its own where it must change.
void pipe_select(struct pipe *p, int db);
int pipe_db(const struct pipe *p);
uint32_t pipe_cmds(const struct pipe *p); // of the request that is open
void pipe_end(struct pipe *p);

void pipe_flush(struct pipe *p);
bool pipe_is_txn(const struct pipe_req *q);
// The request that many behind the oldest that is not answered; NULL: there is none.
const struct pipe_req *pipe_ahead(const struct pipe *p, uint64_t n);
bool pipe_idle(const struct pipe *p); // nothing open, unsent or unanswered
size_t pipe_unsent(const struct pipe *p);
uint32_t pipe_unanswered(const struct pipe *p); // requests
// When bytes last came, or the first request since was begun.
uint64_t pipe_heard_us(const struct pipe *p);
// What it has answered was asked then or earlier: it was alive at that time.
uint64_t pipe_alive_us(const struct pipe *p);
uint64_t pipe_sent_bytes(const struct pipe *p);
uint64_t pipe_answered(const struct pipe *p); // commands answered without an error of their own

#endif

// SPDX-License-Identifier: Apache-2.0
// One connection to a target with a queue of what is to be sent, below batcher.h and pipe.h: sends
// as the socket takes it, hands on what comes, and takes the answers of a busy target in few
// pieces. What the bytes mean is its owner's business.
#ifndef GUNYU_TARGET_WIRE_H
#define GUNYU_TARGET_WIRE_H

#include <uv.h>

#include "net/conn.h"
#include "target/outq.h"

struct wire_events {
    // Bytes have come; an error when they fit no request.
    int (*take)(void *ctx, const char *p, size_t n);
    // The connection is stopped; the owner must detach it, but not within this call.
    void (*failed)(void *ctx, const struct err *why);
    // All that had come is taken, or the socket takes more.
    void (*turned)(void *ctx);
    // What was put into `out` behind byte `from` of its total is not answered yet. False: nothing
    // is, or an answer is waited for so much that it must not rest.
    bool (*may_rest)(void *ctx, uint64_t *from);
};

// Embedded in its owner, which writes into `out` and reads the rest.
struct wire {
    struct outq out;
    uint64_t heard_us;   // when bytes last came
    uint64_t sent_bytes; // ever
    bool broken;         // nothing may be sent or read until the next attach
    bool blocked;        // the socket takes no more until it says so
    // private
    const struct wire_events *events;
    void *ctx;
    uv_loop_t *loop;
    const char *fault;
    struct conn *conn;
    bool hung_up;     // the socket takes nothing ever again
    bool resting;     // answers wait for `rest`
    uv_timer_t *rest; // outlives the wire until it is closed
};

// w is zeroed. fault: the fault point behind each write.
void wire_init(struct wire *w, uv_loop_t *loop, const struct wire_events *events, void *ctx,
               const char *fault);
void wire_close(struct wire *w); // for good; detaches
void wire_attach(struct wire *w, struct conn *c);
// Closes the connection and forgets what was to be sent.
void wire_detach(struct wire *w);
bool wire_attached(const struct wire *w);
// Nothing more is sent or read; allowed within events.
void wire_stop(struct wire *w);
void wire_send(struct wire *w);

#endif

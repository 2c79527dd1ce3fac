// SPDX-License-Identifier: Apache-2.0
// Finding a master by Redis Sentinel. Blocking; run it on a pool thread.
#ifndef GUNYU_REDIS_SENTINEL_H
#define GUNYU_REDIS_SENTINEL_H

#include <stdatomic.h>

#include "redis/client.h"

// Borrowed; all must outlive the calls.
struct sentinel_options {
    const struct endpoint *sentinels; // with the sentinels' own user, password and TLS
    size_t n;
    const char *master_name;
    const struct endpoint *data; // user, password and TLS of the servers; its address is not used
    int timeout_ms;              // of each connection
};

// The address of the master that the sentinels agree on and that says itself that it is one; asks
// each sentinel in turn until one knows. *out is to be freed. e names every sentinel that failed.
int sentinel_master(struct endpoint *out, const struct sentinel_options *o,
                    struct err *e) must_check;
// Waits until a sentinel tells of another master of this name (+switch-master), for at most
// timeout_ms, or until *cancel. Returns 1 when there was one, 0 when not, or an error when none of
// the sentinels can be subscribed to. Listens to one sentinel, to the next when that one is lost
// or silent for o->timeout_ms. *cancel is noticed within 200 ms, but not while a sentinel is
// dialled (o->timeout_ms).
int sentinel_wait_switch(const struct sentinel_options *o, int timeout_ms,
                         const atomic_bool *cancel, struct err *e) must_check;
// The same, and returns 1 as well when a sentinel that is listened to has another master than
// `current` already: nothing that happened after current was asked for is missed.
int sentinel_wait_other(const struct sentinel_options *o, const struct endpoint *current,
                        int timeout_ms, const atomic_bool *cancel, struct err *e) must_check;

#endif

// SPDX-License-Identifier: Apache-2.0
// A thread with a libuv loop. Lanes live on one worker for their whole life; other threads reach
// them only by worker_call.
#ifndef GUNYU_LANE_WORKER_H
#define GUNYU_LANE_WORKER_H

#include <stdbool.h>
#include <uv.h>

#include "base/err.h"

struct worker;

int worker_start(struct worker **out, struct err *e) must_check;
// Ends the loop once nothing is left on it and joins the thread.
void worker_stop(struct worker *w);
uv_loop_t *worker_loop(struct worker *w);

typedef void (*worker_fn)(void *arg);
// Runs fn(arg) on the worker and waits until it has returned. Never call it from a worker.
void worker_call(struct worker *w, worker_fn fn, void *arg);

#endif

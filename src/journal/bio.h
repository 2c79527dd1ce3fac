// SPDX-License-Identifier: Apache-2.0
// Slow file work on the thread pool of a loop, with a synchronous way to wait for all of it. The
// loop's thread calls everything here.
#ifndef GUNYU_JOURNAL_BIO_H
#define GUNYU_JOURNAL_BIO_H

#include <stdbool.h>
#include <uv.h>

struct bio;

struct bio_job {                       // first member of the actual job, which is from malloc
    void (*run)(struct bio_job *job);  // on the pool; touches only the job
    void (*done)(struct bio_job *job); // on the loop's thread; frees what the job owns, not the job
    uv_work_t work;
    struct bio *bio; // NULL once done() was called
    bool finished;   // under the lock
    struct bio_job *prev, *next;
};

struct bio {
    uv_loop_t *loop; // NULL: jobs run inside bio_submit
    uv_mutex_t lock;
    uv_cond_t cond;
    struct bio_job *jobs;
};

void bio_init(struct bio *b, uv_loop_t *loop);
// Takes the job over; it is freed after done().
void bio_submit(struct bio *b, struct bio_job *job);
// Returns when all jobs, those that done() submits included, are done.
void bio_drain(struct bio *b);
void bio_free(struct bio *b); // drained before

#endif

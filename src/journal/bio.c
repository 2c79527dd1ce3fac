// SPDX-License-Identifier: Apache-2.0
#include "journal/bio.h"

#include <stdlib.h>

#include "base/err.h"

void bio_init(struct bio *b, uv_loop_t *loop)
{
    b->loop = loop;
    b->jobs = NULL;
    must(uv_mutex_init(&b->lock) == 0);
    must(uv_cond_init(&b->cond) == 0);
}

void bio_free(struct bio *b)
{
    must(!b->jobs);
    uv_cond_destroy(&b->cond);
    uv_mutex_destroy(&b->lock);
}

static void on_work(uv_work_t *w)
{
    struct bio_job *job = w->data;
    // The owner may detach and free the bio once finished is seen; the lock is its last use here.
    struct bio *b = job->bio;
    job->run(job);
    uv_mutex_lock(&b->lock);
    job->finished = true;
    uv_cond_broadcast(&b->cond);
    uv_mutex_unlock(&b->lock);
}

static void complete(struct bio_job *job)
{
    struct bio *b = job->bio;
    if (job->prev)
        job->prev->next = job->next;
    else
        b->jobs = job->next;
    if (job->next)
        job->next->prev = job->prev;
    job->bio = NULL;
    job->done(job);
}

static void on_after(uv_work_t *w, int status)
{
    (void)status;
    struct bio_job *job = w->data;
    if (job->bio)
        complete(job);
    free(job);
}

void bio_submit(struct bio *b, struct bio_job *job)
{
    job->finished = false;
    job->bio = b;
    job->work.data = job;
    if (b->loop && uv_queue_work(b->loop, &job->work, on_work, on_after) == 0) {
        job->prev = NULL;
        job->next = b->jobs;
        if (b->jobs)
            b->jobs->prev = job;
        b->jobs = job;
        return;
    }
    job->run(job);
    job->bio = NULL;
    job->done(job);
    free(job);
}

void bio_drain(struct bio *b)
{
    while (b->jobs) {
        struct bio_job *job = b->jobs;
        while (job->next) // oldest first
            job = job->next;
        if (uv_cancel((uv_req_t *)&job->work) == 0) {
            job->run(job);
        } else {
            uv_mutex_lock(&b->lock);
            while (!job->finished)
                uv_cond_wait(&b->cond, &b->lock);
            uv_mutex_unlock(&b->lock);
        }
        complete(job);
    }
}

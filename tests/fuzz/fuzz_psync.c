// SPDX-License-Identifier: Apache-2.0
// A hostile source: whatever it says, and however it is split, the same comes out.
// Byte 0 is the size of the pieces, byte 1 chooses the request; the rest is what the source says.
#include <stdio.h>
#include <stdlib.h>

#include "source/psync.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ID "1111111111111111111111111111111111111111"

// Takes all that can be taken; events and payload go to `out`. False after an error.
static bool pump(struct psync *p, struct buf *in, const struct link_request *ask, struct buf *out)
{
    for (;;) {
        buf_clear(&p->out);
        if (p->state == PSYNC_STREAM) {
            buf_append(out, in->p, in->n);
            buf_clear(in);
            return true;
        }
        if (p->state == PSYNC_RDB) {
            bool done;
            uint64_t final_size = 0;
            size_t take = psync_rdb(p, in->p ? in->p : "", in->n, &done, &final_size);
            must(take <= in->n && (!done || final_size <= p->rdb_have));
            buf_append(out, in->p, take);
            buf_consume(in, take);
            if (!done)
                return true;
            buf_printf(out, "[done %llu]", (unsigned long long)final_size);
            continue;
        }
        size_t used;
        enum psync_event ev = psync_step(p, in->p ? in->p : "", in->n, &used);
        must(used <= in->n);
        buf_consume(in, used);
        if (ev == PSYNC_CHOOSE)
            psync_request(p, ask);
        if (ev == PSYNC_NEED_MORE)
            return true;
        buf_printf(out, "[%d %d]", (int)ev, p->error.code);
        if (ev == PSYNC_ERROR)
            return false;
    }
}

static void run(const uint8_t *data, size_t size, size_t piece, const struct link_request *ask,
                struct buf *out)
{
    static const struct psync_options o = {.psync_command = "PSYNC", .listening_port = 1};
    struct psync p = {0};
    struct buf in = {0};
    psync_begin(&p, &o);
    bool ok = pump(&p, &in, ask, out);
    for (size_t at = 0; ok && at < size; at += piece) {
        size_t n = size - at < piece ? size - at : piece;
        buf_append(&in, data + at, n);
        ok = pump(&p, &in, ask, out);
    }
    buf_free(&in);
    psync_free(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    const struct link_request ask =
        (data[1] & 1) ? (struct link_request){ID, 100} : (struct link_request){"?", -1};
    struct buf whole = {0}, split = {0};
    size_t piece = (size_t)data[0] + 1;
    run(data + 2, size - 2, size, &ask, &whole);
    run(data + 2, size - 2, piece, &ask, &split);
    must(slice_eq(buf_slice(&whole), buf_slice(&split)));
    buf_free(&whole);
    buf_free(&split);
    return 0;
}

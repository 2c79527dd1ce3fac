// SPDX-License-Identifier: Apache-2.0
// A hostile client of the replication server: whatever it says, and however it is split, the same
// comes out, and nothing without the password.
// Byte 0 is the size of the pieces, byte 1 chooses whether there is a password; the rest is what
// the client says.
#include "serve/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int64_t a_time(void)
{
    return 1700000000000;
}

static int facts(void *ctx, const char *shard, struct serve_facts *out, struct err *e)
{
    (void)ctx;
    *out = (struct serve_facts){.source = "[::1]:6379",
                                .replid = "1111111111111111111111111111111111111111",
                                .replid2_offset = -1,
                                .has_log = true,
                                .right = 1000,
                                .needed_offset = -1};
    return shard[0] == 'x' ? err_set(e, ERR_REPLY, "NOMASTERLINK no such shard") : 0;
}

static void run(const uint8_t *data, size_t size, size_t piece, const struct session_options *o,
                struct buf *out)
{
    struct session s;
    struct buf in = {0};
    enum session_verdict v = SESSION_MORE;
    session_begin(&s, o, 1);
    for (size_t at = 0; v == SESSION_MORE && at < size; at += piece) {
        size_t used;
        buf_append(&in, data + at, size - at < piece ? size - at : piece);
        v = session_step(&s, in.p, in.n, &used);
        must(used <= in.n);
        buf_consume(&in, used);
        buf_append(out, s.out.p, s.out.n);
        buf_clear(&s.out);
        must(v != SESSION_MORE || in.n <= SESSION_COMMAND_MAX);
    }
    must(v != SESSION_SERVE || s.authenticated);
    if (v == SESSION_SERVE)
        buf_printf(out, "[%s %lld %s]", s.request.replid, (long long)s.request.offset, s.shard);
    buf_printf(out, "[%d]", (int)v);
    buf_free(&in);
    session_free(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    const struct session_options o = {.password = data[1] & 1 ? "secret" : NULL,
                                      .version = "1",
                                      .unix_ms = a_time,
                                      .facts = facts};
    struct buf whole = {0}, split = {0};
    run(data + 2, size - 2, size, &o, &whole);
    run(data + 2, size - 2, (size_t)data[0] + 1, &o, &split);
    // How much of an overlong command was seen when it was given up is a matter of the pieces.
    if (size < SESSION_COMMAND_MAX)
        must(slice_eq(buf_slice(&whole), buf_slice(&split)));
    buf_free(&whole);
    buf_free(&split);
    return 0;
}

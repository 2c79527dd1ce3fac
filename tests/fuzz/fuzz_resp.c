// SPDX-License-Identifier: Apache-2.0
// The first byte of the input says how large the pieces are in which the rest arrives.
#include <stdint.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "codec/resp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Parses commands as the bytes arrive `step` at a time, each time at another address, and appends
// what was understood to out.
static void parse_commands(const char *p, size_t n, size_t step, struct buf *out)
{
    struct resp_cmd c = {0};
    size_t at = 0, have = 0;
    int rc = 0;
    while (rc >= 0 && have < n) {
        have = n - have > step ? have + step : n;
        char *copy = xmalloc(have);
        memcpy(copy, p, have);
        while (at < have && (rc = resp_cmd_parse(&c, copy + at, have - at)) == 1) {
            must(c.len > 0 && c.len <= have - at && c.lead <= c.len);
            at += c.len;
            if (c.argc > 0)
                buf_printf(out, "%zu:", at);
            for (int i = 0; i < c.argc; i++)
                resp_put_bulk(out, c.argv[i]);
        }
        free(copy);
    }
    buf_printf(out, "%s", rc < 0 ? "error" : "");
    resp_cmd_free(&c);
}

static int scan_reply(const char *p, size_t n, size_t step, size_t *len)
{
    struct resp_scan s = {0};
    int rc = 0;
    for (size_t have = 0; rc == 0 && have < n;) {
        have = n - have > step ? have + step : n;
        char *copy = xmalloc(have);
        memcpy(copy, p, have);
        rc = resp_scan(&s, copy, have, len);
        free(copy);
    }
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    size_t step = (size_t)data[0] % 7 + 1;
    const char *p = (const char *)data + 1;
    size_t n = size - 1;

    struct buf whole = {0}, pieces = {0};
    parse_commands(p, n, n + 1, &whole);
    parse_commands(p, n, step, &pieces);
    must(slice_eq(buf_slice(&whole), buf_slice(&pieces)));
    buf_free(&whole);
    buf_free(&pieces);

    size_t len = 0, len2 = 0;
    int rc = scan_reply(p, n, n + 1, &len);
    must(rc == scan_reply(p, n, step, &len2) && len == len2);
    if (rc == 1) {
        struct resp_node node;
        size_t pos = 0;
        while (resp_next(p, len, &pos, &node))
            must(pos <= len && node.text.n <= len);
        must(pos == len);
    }
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
// Replies of a target: the same ones at every split. The first byte chooses the split and whether
// arrays are taken apart.
#include <stdlib.h>

#include "target/replies.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Sums up what is reported; *rc is the error, if any.
static uint64_t run(const char *p, size_t n, size_t piece, bool expand, int *rc)
{
    struct replies r = {0};
    uint64_t sum = 0;
    size_t at = 0;
    *rc = 0;
    while (at < n && *rc == 0) {
        struct reply reply;
        size_t used, left = n - at < piece ? n - at : piece;
        *rc = replies_next(&r, p + at, left, &used, expand, UINT32_MAX, &reply);
        if (*rc)
            break;
        if (used > left || (used == 0 && reply.kind == REPLY_NONE))
            abort();
        at += used;
        uint64_t each = (uint64_t)reply.kind * 31 + (uint64_t)reply.num;
        for (size_t i = 0; reply.kind == REPLY_ERROR && i < reply.text.n; i++)
            each = each * 131 + (unsigned char)reply.text.p[i];
        for (uint32_t i = 0; reply.kind != REPLY_NONE && i < reply.count; i++)
            sum = sum * 1000003 + each;
    }
    replies_free(&r);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const char *p = (const char *)data + 1;
    bool expand = data[0] & 1;
    int whole_rc, split_rc;
    uint64_t whole = run(p, size - 1, SIZE_MAX, expand, &whole_rc);
    uint64_t split = run(p, size - 1, 1 + data[0] / 2, expand, &split_rc);
    if (whole != split || whole_rc != split_rc)
        abort();
    return 0;
}

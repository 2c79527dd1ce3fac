// SPDX-License-Identifier: Apache-2.0
// One command to a server and its reply, for tests.
#ifndef GUNYU_TESTS_ASK_H
#define GUNYU_TESTS_ASK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "codec/resp.h"
#include "redis/client.h"

// fmt and ap as of resp_put_vcmd. The test fails when the server cannot be asked or answers with an
// error; the reply is the client's until it is asked the next time.
static inline struct redis_reply ask_args(struct redis_client *c, const char *fmt, va_list ap)
{
    struct buf text = {0};
    struct redis_reply reply;
    struct err e = {0};
    resp_put_vcmd(&text, fmt, ap);
    int rc = redis_call_raw(c, buf_slice(&text), 1, &reply, &e);
    buf_free(&text);
    if (rc)
        fail_msg("%s: %s", fmt, e.msg);
    return reply;
}

#endif

// SPDX-License-Identifier: Apache-2.0
#define ERR_DEFINES
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *err_text(int code)
{
    switch (code) {
    case 0:
        return "ok";
#define X(name, value, text)                                                                       \
    case name:                                                                                     \
        return text;
        ERR_TABLE(X)
#undef X
    default:
        break;
    }
    const char *s = strerrordesc_np(-code);
    return s ? s : "unknown error";
}

// The buffer is meant to cut: a message is for people, and it says so by ending in "...".
static void __attribute__((format(printf, 3, 0)))
append(char *dst, size_t cap, const char *fmt, va_list ap)
{
    size_t n = strlen(dst);
    int r = vsnprintf(dst + n, cap - n, fmt, ap);
    if (r < 0 || (size_t)r >= cap - n)
        memcpy(dst + cap - 4, "...", 4);
}

static void __attribute__((format(printf, 3, 4)))
append_text(char *dst, size_t cap, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    append(dst, cap, fmt, ap);
    va_end(ap);
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
    if (!e)
        return code;
    e->code = code;
    e->msg[0] = 0;
    va_list ap;
    va_start(ap, fmt);
    append(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    return code;
}

int err_sys(struct err *e, int code, const char *fmt, ...)
{
    if (!e)
        return code;
    e->code = code;
    e->msg[0] = 0;
    va_list ap;
    va_start(ap, fmt);
    append(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    append_text(e->msg, sizeof(e->msg), ": %s", err_text(code));
    return code;
}

void err_join(struct err *e, const struct err *next)
{
    if (!e)
        return;
    if (e->code)
        append_text(e->msg, sizeof(e->msg), "; %s", next->msg);
    else
        *e = *next;
}

void err_wrap(struct err *e, const char *fmt, ...)
{
    if (!e)
        return;
    char old[sizeof(e->msg)];
    memcpy(old, e->msg, sizeof(old));
    e->msg[0] = 0;
    va_list ap;
    va_start(ap, fmt);
    append(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    append_text(e->msg, sizeof(e->msg), ": %s", old);
}

void must_failed(const char *cond, const char *file, int line)
{
    fprintf(stderr, "gunyu: internal error: %s (%s:%d); please report this\n", cond, file, line);
    abort();
}

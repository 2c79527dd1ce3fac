// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"

int log_setup(const struct log_options *o, struct err *e)
{
    (void)o;
    (void)e;
    return 0;
}

void log_reopen(void)
{
}

void log_close(void)
{
}

bool log_enabled(enum log_level level)
{
    return level >= LOG_INFO;
}

void log_line(struct log_site *site, enum log_level level, const char *file, int line,
              const char *tag, const char *fmt, ...)
{
    (void)site;
    (void)file;
    (void)line;
    static const char *const names[] = {"debug", "info", "warn", "error"};
    char msg[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    fprintf(stderr, "%lld\t%s\t%s\t%s\n", (long long)clock_unix_ms(), names[level], tag ? tag : "-",
            msg);
}

// SPDX-License-Identifier: Apache-2.0
// One line an event, to stderr or to a rotated file, as text or JSON. Any thread may log. The same
// call site repeats at most a few times a second; what was held back is counted in its next line.
#ifndef GUNYU_BASE_LOG_H
#define GUNYU_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF };
enum log_format { LOG_TEXT, LOG_JSON };

struct log_options {
    enum log_level level;
    enum log_format format;
    const char *file; // NULL: stderr
    bool also_stderr; // with a file: stderr too
    int max_size_mb;  // rotate past this size; 0: never
    int max_backups;  // rotated files kept; 0: all
    int max_age_days; // rotated files older than this are removed; 0: never
    bool with_caller; // file:line in each line
};

// Applies options; may be called again. An unopenable file is an error and leaves the old setting.
int log_setup(const struct log_options *o, struct err *e) must_check;
// Reopens the file (SIGHUP). Safe from any thread, not from a signal handler.
void log_reopen(void);
// Closes the file. Later lines go to stderr.
void log_close(void);

struct log_site {
    _Atomic uint64_t window; // second in which count counts
    _Atomic uint32_t count;
    _Atomic uint32_t held;
};

bool log_enabled(enum log_level level);
// tag names the speaker: a lane's source address, "api", "config"; NULL for the process itself.
void log_line(struct log_site *site, enum log_level level, const char *file, int line,
              const char *tag, const char *fmt, ...) __attribute__((format(printf, 6, 7)));

#define LOG_AT(level, tag, ...)                                                                    \
    do {                                                                                           \
        static struct log_site log_site_;                                                          \
        if (log_enabled(level))                                                                    \
            log_line(&log_site_, level, __FILE__, __LINE__, tag, __VA_ARGS__);                     \
    } while (0)
#define log_debug(tag, ...) LOG_AT(LOG_DEBUG, tag, __VA_ARGS__)
#define log_info(tag, ...) LOG_AT(LOG_INFO, tag, __VA_ARGS__)
#define log_warn(tag, ...) LOG_AT(LOG_WARN, tag, __VA_ARGS__)
#define log_error(tag, ...) LOG_AT(LOG_ERROR, tag, __VA_ARGS__)

#endif

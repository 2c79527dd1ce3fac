// SPDX-License-Identifier: Apache-2.0
// What the kernel says about this process.
#ifndef GUNYU_CONTROL_PROCSTAT_H
#define GUNYU_CONTROL_PROCSTAT_H

#include <stdint.h>

// A value that could not be read is -1.
struct procstat {
    int64_t cpu_ms;
    int64_t start_ms; // since the Unix epoch
    int64_t resident_bytes;
    int64_t anonymous_bytes; // resident without mapped files, so without the journal
    int64_t virtual_bytes;
    int64_t threads;
    int64_t open_fds, max_fds;
};

struct procstat procstat_read(void);

#endif

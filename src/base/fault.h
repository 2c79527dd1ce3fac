// SPDX-License-Identifier: Apache-2.0
// Places where a test makes this process fail. GUNYU_FAULT="name:n[:action]" arms one of them: the
// n-th time that the place is reached, the process kills itself (action kill, the default), stops
// until SIGCONT (stop), ends without cleaning up (exit), or fault_point returns true and the caller
// acts as if the operation failed (err; from then on each time). Unarmed, a place costs one
// predictable branch.
#ifndef GUNYU_BASE_FAULT_H
#define GUNYU_BASE_FAULT_H

#include <stdbool.h>

// Set before main and never after.
extern bool fault_armed;
bool fault_hit(const char *name);

static inline bool fault_point(const char *name)
{
    return __builtin_expect(fault_armed, 0) && fault_hit(name);
}

#endif

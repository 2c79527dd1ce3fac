// SPDX-License-Identifier: Apache-2.0
#ifndef GUNYU_BASE_CLOCK_H
#define GUNYU_BASE_CLOCK_H

#include <stdint.h>

// Monotonic microseconds; for durations and timeouts.
uint64_t clock_mono_us(void);
// The same in milliseconds, and it goes on while the machine sleeps; for what others count on. As
// cheap as the one before (no system call).
int64_t clock_boot_ms(void);
// Wall clock, milliseconds since the Unix epoch; for expiry and for people.
int64_t clock_unix_ms(void);
int64_t clock_unix_ns(void);

#endif

// SPDX-License-Identifier: Apache-2.0
#ifndef GUNYU_BASE_CLOCK_H
#define GUNYU_BASE_CLOCK_H

#include <stdint.h>

// Monotonic microseconds; for durations and timeouts.
uint64_t clock_mono_us(void);
// Wall clock, milliseconds since the Unix epoch; for expiry and for people.
int64_t clock_unix_ms(void);
int64_t clock_unix_ns(void);

#endif

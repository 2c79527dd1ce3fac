// SPDX-License-Identifier: Apache-2.0
// Far expiries: what a key gets while its true expiry is held back, because the target would expire
// it by its own clock before the stream that may renew it has been applied. A far expiry is the
// true one moved by 2^45 ms (about 1115 years), so it tells the true one, keeps the order of two of
// them, and can be found in a target. True times from 2004 to 2039 have one.
#ifndef GUNYU_FLOW_EXPIRY_H
#define GUNYU_FLOW_EXPIRY_H

#include <stdbool.h>
#include <stdint.h>

#define EXPIRY_FAR_SHIFT ((int64_t)1 << 45)
#define EXPIRY_TRUE_MIN ((int64_t)1 << 40)
#define EXPIRY_TRUE_MAX ((int64_t)1 << 41)

// A true expiry (unix ms) that has a far one.
static inline bool expiry_can_be_far(int64_t true_ms)
{
    return true_ms >= EXPIRY_TRUE_MIN && true_ms <= EXPIRY_TRUE_MAX;
}

static inline bool expiry_is_far(int64_t ms)
{
    return ms >= EXPIRY_FAR_SHIFT + EXPIRY_TRUE_MIN && ms <= EXPIRY_FAR_SHIFT + EXPIRY_TRUE_MAX;
}

// Only where expiry_can_be_far.
static inline int64_t expiry_far(int64_t true_ms)
{
    return true_ms + EXPIRY_FAR_SHIFT;
}

// The true expiry behind any expiry, far or not.
static inline int64_t expiry_true(int64_t ms)
{
    return expiry_is_far(ms) ? ms - EXPIRY_FAR_SHIFT : ms;
}

#endif

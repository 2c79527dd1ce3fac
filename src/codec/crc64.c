// SPDX-License-Identifier: Apache-2.0
#include "codec/crc64.h"

#include <isa-l.h>

uint64_t crc64_update(uint64_t crc, const void *p, size_t n)
{
    // The library inverts the seed and the result; Redis does neither.
    return n == 0 ? crc : ~crc64_jones_refl(~crc, p, n);
}

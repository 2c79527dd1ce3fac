// SPDX-License-Identifier: Apache-2.0
#include "codec/crc64.h"

#include <isa-l.h>

// Some of the library's AVX-512 routines return with the upper halves of vector registers in use,
// which makes all SSE code that runs later in this thread several times slower.
static inline void leave_vector_code(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx"))
        __asm__ volatile("vzeroupper" ::
                             : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
                               "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
                               "xmm15");
#endif
}

uint64_t crc64_update(uint64_t crc, const void *p, size_t n)
{
    if (n == 0)
        return crc;
    // The library inverts the seed and the result; Redis does neither.
    crc = ~crc64_jones_refl(~crc, p, n);
    leave_vector_code();
    return crc;
}

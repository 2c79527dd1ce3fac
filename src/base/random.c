// SPDX-License-Identifier: Apache-2.0
#include "base/random.h"

#include <stdio.h>
#include <sys/random.h>

#include "base/err.h"

enum { BYTES_MAX = 64 };

void random_hex(char *out, size_t n)
{
    unsigned char raw[BYTES_MAX];
    must(n % 2 == 0 && n / 2 <= sizeof(raw));
    must(getrandom(raw, n / 2, 0) == (ssize_t)(n / 2));
    for (size_t i = 0; i < n / 2; i++)
        snprintf(out + 2 * i, 3, "%02x", raw[i]);
}

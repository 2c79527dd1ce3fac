// SPDX-License-Identifier: Apache-2.0
#ifndef GUNYU_BASE_RANDOM_H
#define GUNYU_BASE_RANDOM_H

#include <stddef.h>

// n random hexadecimal digits (even, at most 128) and a NUL; fit for secrets.
void random_hex(char *out, size_t n);

#endif

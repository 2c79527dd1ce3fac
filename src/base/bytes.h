// SPDX-License-Identifier: Apache-2.0
// Fixed-width integers at any alignment.
#ifndef GUNYU_BASE_BYTES_H
#define GUNYU_BASE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define BYTES_LOAD(name, type, conv)                                                               \
    static inline type name(const void *p)                                                         \
    {                                                                                              \
        type v;                                                                                    \
        memcpy(&v, p, sizeof(v));                                                                  \
        return conv(v);                                                                            \
    }
#define BYTES_STORE(name, type, conv)                                                              \
    static inline void name(void *p, type v)                                                       \
    {                                                                                              \
        v = conv(v);                                                                               \
        memcpy(p, &v, sizeof(v));                                                                  \
    }
BYTES_LOAD(load_le16, uint16_t, le16toh)
BYTES_LOAD(load_le32, uint32_t, le32toh)
BYTES_LOAD(load_le64, uint64_t, le64toh)
BYTES_LOAD(load_be16, uint16_t, be16toh)
BYTES_LOAD(load_be32, uint32_t, be32toh)
BYTES_LOAD(load_be64, uint64_t, be64toh)
BYTES_STORE(store_le16, uint16_t, htole16)
BYTES_STORE(store_le32, uint32_t, htole32)
BYTES_STORE(store_le64, uint64_t, htole64)
BYTES_STORE(store_be32, uint32_t, htobe32)
BYTES_STORE(store_be64, uint64_t, htobe64)
#undef BYTES_LOAD
#undef BYTES_STORE

#endif

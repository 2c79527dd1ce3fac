// SPDX-License-Identifier: Apache-2.0
#include "codec/dump.h"

#include "base/bytes.h"
#include "codec/crc64.h"
#include "codec/rdb_types.h"

void dump_trailer(uint8_t type, struct slice raw, uint16_t rdb_version, uint8_t out[DUMP_TRAILER])
{
    uint64_t crc = crc64_update(0, &type, 1);
    crc = crc64_update(crc, raw.p, raw.n);
    store_le16(out, rdb_version);
    crc = crc64_update(crc, out, 2);
    store_le64(out + 2, crc);
}

int dump_parse(struct slice payload, uint8_t *type, struct slice *raw, uint16_t *version,
               struct err *e)
{
    if (payload.n <= DUMP_TRAILER)
        return err_set(e, ERR_TRUNCATED, "a DUMP payload of %zu bytes is too short", payload.n);
    size_t body = payload.n - DUMP_TRAILER;
    uint16_t v = load_le16(payload.p + body);
    if (crc64_update(0, payload.p, body + 2) != load_le64(payload.p + body + 2))
        return err_set(e, ERR_CORRUPT, "a DUMP payload of %zu bytes has a wrong checksum",
                       payload.n);
    if (!rdb_version_known(v, v >= RDB_VALKEY_MIN))
        return err_set(e, ERR_UNSUPPORTED,
                       "a DUMP payload has RDB version %u, this build reads 1 to %d", v,
                       RDB_VERSION_MAX);
    *type = (uint8_t)payload.p[0];
    *raw = slice_make(payload.p + 1, body - 1);
    *version = v;
    return 0;
}

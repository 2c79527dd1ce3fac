// SPDX-License-Identifier: Apache-2.0
#include "codec/rdb_impl.h"

static int lzf_head(struct rdb_scan *s, struct rdb_str *str)
{
    int rc = scan_len(s, &str->n);
    if (rc > 0)
        rc = scan_len(s, &str->total);
    if (rc <= 0)
        return rc;
    str->kind = STR_LZF;
    // The sizes are a promise of the peer; memory is only ever taken for believable ones.
    return str->n <= RDB_LENGTH_MAX && lzf_plausible(str->n, str->total) ? SCAN_OK : SCAN_BAD;
}

int scan_str_encoded(struct rdb_scan *s, struct rdb_str *str)
{
    struct rdb_scan at = *s;
    *str = (struct rdb_str){.kind = STR_INT};
    unsigned encoding = *at.p++ & 0x3f;
    int rc = SCAN_BAD;
    if (encoding < 3) {
        size_t n = (size_t)1 << encoding;
        if (scan_left(&at) < n)
            return SCAN_MORE;
        str->num = encoding == 0   ? (int8_t)*at.p
                   : encoding == 1 ? (int16_t)load_le16(at.p)
                                   : (int32_t)load_le32(at.p);
        at.p += n;
        rc = SCAN_OK;
    } else if (encoding == 3) {
        rc = lzf_head(&at, str);
    }
    if (rc > 0)
        *s = at;
    return rc;
}

bool rdb_str_text(const struct rdb_str *str, const char *bytes, struct buf *text, struct slice *out)
{
    if (str->kind == STR_RAW) {
        *out = slice_make(bytes, (size_t)str->n);
        return true;
    }
    buf_clear(text);
    if (str->kind == STR_INT) {
        text->n = i64_format(buf_reserve(text, 24), str->num);
    } else {
        if (str->total > RDB_STRING_MAX)
            return false;
        size_t total = (size_t)str->total;
        if (!lzf_decompress(bytes, (size_t)str->n, buf_reserve(text, total), total))
            return false;
        text->n = total;
    }
    *out = buf_slice(text);
    return true;
}

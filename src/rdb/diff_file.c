// SPDX-License-Identifier: Apache-2.0
#include "rdb/diff_int.h"
#include "rdb/input.h"

enum { PIECE = 64 << 10 };

static int read_value(struct rdb_input *in, const struct rdb_item *item, struct diff_digest *d,
                      struct err *e)
{
    struct rdb_element el;
    struct slice raw;
    int rc;
    diff_digest_begin(d, item->object);
    if (item->object == RDB_OBJ_MODULE) {
        while ((rc = rdb_input_span(in, &raw, e)) == RDB_ITEM)
            diff_digest_raw(d, raw);
        return rc < 0 ? rc : 0;
    }
    while ((rc = rdb_input_element(in, PIECE, &el, e)) == RDB_ITEM)
        diff_digest_element(d, &el);
    return rc < 0 ? rc : 0;
}

static int take_key(struct diff_side *s, struct rdb_input *in, const struct rdb_item *item,
                    struct diff_digest *d, struct buf *key, struct err *e)
{
    if (!diff_wants(s, item))
        return rdb_input_skip(in, e) < 0 ? e->code : 0;
    if (s->drop_expired && item->expire_ms >= 0 && item->expire_ms <= s->now_ms) {
        s->expired++;
        return rdb_input_skip(in, e) < 0 ? e->code : 0;
    }
    struct diff_record rec = {.expire_ms = item->expire_ms};
    diff_digest_key(&rec, item->db, item->key);
    buf_clear(key); // reading the value may move the window
    buf_append_slice(key, item->key);
    int rc = read_value(in, item, d, e);
    if (rc)
        return rc;
    diff_digest_end(d, &rec);
    return diff_store_add(s->store, &rec, buf_slice(key), e);
}

int diff_read_file(struct diff_side *s, struct err *e)
{
    struct rdb_input *in;
    struct rdb_input_options o = {.check_crc = true, .unknown = &s->unknown};
    int rc = rdb_input_open(&in, s->name, &o, e);
    if (rc)
        return rc;
    struct diff_digest d;
    struct rdb_item item;
    struct buf key = {0};
    diff_digest_init(&d, s->drop_expired ? s->now_ms : 0);
    while ((rc = rdb_input_next(in, &item, e)) == RDB_ITEM) {
        rc = 0;
        if (item.kind == RDB_KIND_KEY)
            rc = take_key(s, in, &item, &d, &key, e);
        else if (item.kind == RDB_KIND_COMMAND)
            rc = err_set(e, ERR_UNSUPPORTED,
                         "%s: holds commands besides keys, at byte %llu; load it into a server and "
                         "compare that",
                         rdb_input_name(in), (unsigned long long)item.start);
        if (rc)
            break;
    }
    diff_digest_free(&d);
    buf_free(&key);
    rdb_input_close(in);
    return rc == RDB_DONE ? 0 : rc;
}

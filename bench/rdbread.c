// SPDX-License-Identifier: Apache-2.0
// Reads an RDB file as the rdb commands do: how fast that goes before anything is done with it.
//   rdbread skip|raw FILE   prints the number of keys and the bytes of their serialized values
// raw finishes the DUMP payload of each value, big ones by elements.
#include <stdio.h>
#include <string.h>

#include "codec/dump.h"
#include "rdb/input.h"

#define RAW_LIMIT (16U << 20)
#define PIECE (1U << 20)

static int take(struct rdb_input *in, const struct rdb_item *item, uint64_t *bytes, struct err *e)
{
    struct slice raw;
    int rc = rdb_input_raw(in, RAW_LIMIT, &raw, e);
    if (rc == RDB_ITEM) {
        uint8_t trailer[DUMP_TRAILER];
        dump_trailer(item->type, raw, 11, trailer);
        *bytes += raw.n + sizeof(trailer);
        return 0;
    }
    struct rdb_element el;
    while (rc == RDB_TOO_BIG || rc == RDB_ITEM) {
        rc = rdb_input_element(in, PIECE, &el, e);
        *bytes += rc == RDB_ITEM ? el.value.n : 0;
    }
    return rc < 0 ? rc : 0;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fputs("usage: rdbread skip|raw FILE\n", stderr);
        return 2;
    }
    bool raw = strcmp(argv[1], "raw") == 0;
    struct rdb_input_options o = {.check_crc = true};
    struct rdb_input *in = NULL;
    struct rdb_item item;
    struct err e = {0};
    uint64_t keys = 0, bytes = 0;
    int rc = rdb_input_open(&in, argv[2], &o, &e);
    while (rc == 0 && (rc = rdb_input_next(in, &item, &e)) == RDB_ITEM) {
        keys += item.kind == RDB_KIND_KEY;
        rc = raw && item.kind == RDB_KIND_KEY ? take(in, &item, &bytes, &e) : 0;
    }
    rdb_input_close(in);
    if (rc < 0) {
        fprintf(stderr, "rdbread: %s\n", e.msg);
        return 1;
    }
    printf("%llu %llu\n", (unsigned long long)keys, (unsigned long long)bytes);
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
// The formats of `gunyu rdb print`, shared by its files only.
#ifndef GUNYU_RDB_PRINT_H
#define GUNYU_RDB_PRINT_H

#include "rdb/commands_out.h"
#include "rdb/input.h"
#include "rdb/print_text.h"

// The longest string value that is looked at as a whole; a multiple of 3, as base64 needs it.
#define PRINT_WHOLE ((size_t)6 << 20)

struct print {
    struct rdb_input *in;
    struct text t;
    bool no_key, no_value;
    bool any;                      // an entry was printed
    struct commands_out *commands; // format resp
};

// A format's functions; each but `key` may be NULL. `other` gets what is neither a key nor about
// the dbs. `key` must leave the value read or to be skipped. They return 0 or an error.
struct print_format {
    const char *name;
    void (*begin)(struct print *p);
    int (*other)(struct print *p, const struct rdb_item *item, struct err *e);
    int (*key)(struct print *p, const struct rdb_item *item, struct err *e);
    void (*end)(struct print *p);
};

extern const struct print_format print_line, print_json, print_jsonl, print_csv, print_resp;

// A string value as JSON: as text_json_string, but always base64 when longer than PRINT_WHOLE.
int print_json_string(struct print *p, struct err *e) must_check;

#endif

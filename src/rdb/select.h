// SPDX-License-Identifier: Apache-2.0
// Which keys an rdb command works on: --db, --type, --key, --not-key, --slot, --min-size,
// --max-size, --ttl, the same options for all of the family.
#ifndef GUNYU_RDB_SELECT_H
#define GUNYU_RDB_SELECT_H

#include <getopt.h>

#include "rdb/input.h"

struct selection;

struct selection *selection_new(void);
void selection_free(struct selection *s);

// Rows for getopt_long, to be appended to a command's own; their values are >= SELECTION_OPTION.
#define SELECTION_OPTION 0x5000
extern const struct option selection_options[];
extern const size_t selection_options_n; // without an end row
extern const char selection_help[];      // lines of --help
// True when the option was ours; *rc is then 0 or an error (with a text in e).
bool selection_option(struct selection *s, int option, const char *arg, int *rc, struct err *e);

// By what is known before the value is read. Size cannot be told yet.
bool selection_wants(const struct selection *s, const struct rdb_item *item, int64_t now_ms);
// By the bytes that the value takes in the file.
bool selection_wants_size(const struct selection *s, uint64_t bytes);
bool selection_has_size(const struct selection *s);
bool selection_given(const struct selection *s); // one of the options was
// The same for the value of the key that in has just given; a wanted one is left to be taken. Holds
// up to the size named in --min-size or --max-size in memory.
int selection_takes(const struct selection *s, struct rdb_input *in, bool *wanted,
                    struct err *e) must_check;

#endif

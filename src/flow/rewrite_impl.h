// SPDX-License-Identifier: Apache-2.0
// Shared by the files of the rewriter.
#ifndef GUNYU_FLOW_REWRITE_IMPL_H
#define GUNYU_FLOW_REWRITE_IMPL_H

#include "flow/rewrite.h"

struct rewrite_call {
    const struct rewrite_input *in;
    int argc;
    const struct slice *argv;
};

struct rewrite_rule;
typedef enum rewrite_result (*rewrite_fn)(struct rewrite *w, const struct rewrite_rule *rule,
                                          const struct rewrite_call *c);

struct rewrite_rule {
    const char *name;
    rewrite_fn fn;      // NULL: always as is
    bool needs_mapping; // fn runs only when dbs are mapped or shared
    bool moves_keys;
    bool relative; // its expiry counts from now
    int unit;      // milliseconds of one unit of its expiry
};

extern const struct rewrite_rule rewrite_db_rules[];
extern const int rewrite_db_rule_count;
extern const struct rewrite_rule rewrite_expiry_rules[];
extern const int rewrite_expiry_rule_count;

// Building the output. rewrite_begin makes room for all of it, so that nothing moves afterwards.
void rewrite_begin(struct rewrite *w, int cmds, int args, int numbers);
void rewrite_name(struct rewrite *w, struct slice name); // begins a command
void rewrite_arg(struct rewrite *w, struct slice arg);
void rewrite_args(struct rewrite *w, const struct slice *argv, int n);
void rewrite_number(struct rewrite *w, int64_t v);
enum rewrite_result rewrite_done(struct rewrite *w);
// Notes that n items, every step-th, are given a far expiry: keys, or fields of *hash.
void rewrite_note_held(struct rewrite *w, const struct slice *item, int n, int step,
                       const struct slice *hash, int64_t true_ms);

static inline enum rewrite_result rewrite_not(struct rewrite *w, enum rewrite_result how,
                                              const char *reason)
{
    w->reason = reason;
    return how;
}

#endif

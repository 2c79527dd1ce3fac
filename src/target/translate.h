// SPDX-License-Identifier: Apache-2.0
// What one command of the source's stream becomes at the target: filtered, its db mapped,
// rewritten, and said in commands that the target knows. Pure but for the scripts that it
// remembers; a command that stays as it came allocates nothing.
//
// Between rewriting and the target's own commands lies what a cluster is routed by: whatever a
// command becomes for an older target, its keys stay the same.
#ifndef GUNYU_TARGET_TRANSLATE_H
#define GUNYU_TARGET_TRANSLATE_H

#include "flow/downgrade.h"
#include "flow/filter.h"
#include "flow/rewrite.h"
#include "target/scripts.h"

struct translate_options {
    const struct filter *filter; // borrowed; NULL: everything goes on
    struct rewrite_dbs dbs;
    int databases;      // of the target; -1 unknown
    int target_version; // 70015
    bool target_is_valkey, source_is_valkey;
    // What EVALSHA may name; borrowed. It becomes EVAL then. NULL: it stays.
    struct scripts *scripts;
};

enum translate_verdict {
    TRANSLATE_SEND,
    TRANSLATE_DROP,   // nothing of it is for the target; reason
    TRANSLATE_REFUSE, // cannot be applied; reason
};

// Must not move between translate_init and translate_free. What the fields say is of the last
// translate_command; slices point into its input or into here, until the next.
struct translate {
    int db; // of the target
    // What the filter left.
    const struct cmd_info *info;
    int argc;
    const struct slice *argv;
    int n;                  // rewritten commands, applied together; see translate_get
    bool as_is;             // the bytes that argv was read from may be sent
    const char *reason;     // DROP, REFUSE; static
    struct rewrite rewrite; // expiry, expiries, moves_keys

    // private
    struct translate_options o;
    struct rewrite_input in;
    struct filter_scratch scratch;
    struct downgrade downgrade;
    bool rewritten;
    int known, known_n; // which command was downgraded last (-1: none of these), into how many
    bool is_changed;    // what the target knows is in `downgrade`, else in `same`
    struct rewrite_cmd same;
    const struct cmd_info *eval, *evalsha, *script_load;
    struct slice *spelled; // owns; EVALSHA as EVAL
    int spelled_cap;
};

void translate_init(struct translate *t, const struct translate_options *o);
void translate_free(struct translate *t);

// For the commands that follow: the time at which they are received (unix ms), and before which
// absolute expiries become far (0: none).
void translate_set_clock(struct translate *t, int64_t now_ms, int64_t hold_before);

// db: selected by the source. info: cmd_lookup of the command, NULL when unknown. SELECT among the
// results asks the caller to select; MULTI and EXEC are not for here.
enum translate_verdict translate_command(struct translate *t, int db, const struct cmd_info *info,
                                         int argc, const struct slice *argv);
// The rewritten command i: what it does, in whatever words.
struct rewrite_cmd translate_get(const struct translate *t, int i);
const struct cmd_info *translate_info(const struct translate *t, int i);

// Rewritten command i in commands that the target knows: how many there are, to be had from
// translate_known_get until the next call of either.
int translate_known(struct translate *t, int i);
// The same of a command that was made of it (a part, other keys). -1: it has none; reason.
int translate_known_of(struct translate *t, int argc, const struct slice *argv);
struct rewrite_cmd translate_known_get(const struct translate *t, int i);

#endif

// SPDX-License-Identifier: Apache-2.0
// Which commands of the stream and which keys of the snapshot go on to the target. Rules are
// compiled once; a filter is immutable then and may be shared by threads.
#ifndef GUNYU_FLOW_FILTER_H
#define GUNYU_FLOW_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"
#include "codec/cmdtable.h"

struct filter_names {
    char *const *v;
    size_t n;
};

struct filter_dbs {
    const int64_t *v;
    size_t n;
};

struct filter_slot_range {
    uint16_t from, to; // both included
};

struct filter_slots {
    const struct filter_slot_range *v;
    size_t n;
};

// What a blacklist names is dropped; where a whitelist is not empty, what it does not name is
// dropped too. Commands and their groups share one whitelist. Nothing is kept of the pointers.
// Commands: any case; "xgroup" with all its subcommands, or one as "xgroup|create",
// "xgroup-create" or "xgroup create". Groups: as COMMAND DOCS, any case, '-' or '_'.
struct filter_rules {
    struct filter_dbs db_blacklist, db_whitelist; // of the source
    struct filter_names command_blacklist, command_whitelist;
    struct filter_names group_blacklist, group_whitelist;
    struct filter_names prefix_blacklist, prefix_whitelist;
    struct filter_slots slot_blacklist, slot_whitelist;
};

enum filter_verdict {
    FILTER_PASS,
    FILTER_DROP,    // see reason of the scratch
    FILTER_PROJECT, // info, argc, argv of the scratch go on in its place
};

// Why a command was dropped or projected.
#define FILTER_REASONS(X)                                                                          \
    X(NONE, "none")                                                                                \
    X(ADMIN, "admin")     /* concerns the source's server, not its data */                         \
    X(DB, "db")           /* of the source, or the one it would go to */                           \
    X(COMMAND, "command") /* or its group */                                                       \
    X(KEY, "key")         /* a prefix */                                                           \
    X(SLOT, "slot")                                                                                \
    X(PARTIAL, "partial") /* some of its keys may not go on, and it does not split */

enum filter_reason {
#define X(name, text) FILTER_BY_##name,
    FILTER_REASONS(X)
#undef X
        FILTER_REASON_COUNT
};
const char *filter_reason_name(enum filter_reason r); // "db", "command", ...

// Reused from command to command; zeroed is ready.
struct filter_scratch {
    enum filter_reason reason;
    const struct cmd_info *info; // PROJECT: of the command in argv; DEL where a MOVE leaves the
                                 // filter's dbs
    int argc;
    struct slice *argv; // owns the array; slices borrow the command
    int *pos;           // owns
    int cap;
};
void filter_scratch_free(struct filter_scratch *s);

struct filter;

// ERR_CONFIG: an unknown group or a slot beyond the last one.
int filter_new(struct filter **out, const struct filter_rules *r, struct err *e) must_check;
void filter_free(struct filter *f);
// Command names of the rules that the table does not know, for a warning; they are compared with
// the command's first word. NULL behind the last one.
const char *filter_unknown_command(const struct filter *f, size_t i);

// db is the source's; info is NULL for an unknown command. Commands whose keys cannot be found pass
// the key rules, for the target to judge. Keyless ones are not subject to key rules, and what
// belongs to no db (functions, scripts, messages, FLUSHALL) not to those of dbs. SELECT, MULTI and
// EXEC always pass.
enum filter_verdict filter_command(const struct filter *f, int db, const struct cmd_info *info,
                                   int argc, const struct slice *argv, struct filter_scratch *s);

// Whether a key of the snapshot goes on. For keys only: AUX fields and functions are not asked
// about.
bool filter_key(const struct filter *f, int db, struct slice key);

// Whether a db of the source goes on.
bool filter_db(const struct filter *f, int db);

// No rule but the built-in ones (bookkeeping keys, server commands) applies in this db.
bool filter_is_trivial(const struct filter *f, int db);

#endif

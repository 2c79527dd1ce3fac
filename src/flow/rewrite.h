// SPDX-License-Identifier: Apache-2.0
// What one command of a source's stream becomes at the target: dbs mapped, relative expiries made
// absolute, near expiries made far (flow/expiry.h), RESTORE-ASKING made RESTORE. Pure; most
// commands leave as they came, at the price of one table lookup.
#ifndef GUNYU_FLOW_REWRITE_H
#define GUNYU_FLOW_REWRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "codec/cmdtable.h"

// Which source db goes into which target db. Zeroed: each into its own number.
struct rewrite_dbs {
    bool forced; // every source db goes into forced_db
    int forced_db;
    const int *map; // borrowed; map[source db] = target db
    int map_n;      // source dbs from here on go into their own number
    int source_dbs; // how many dbs the source has; 0: unknown
    bool shared;    // other sources write into the same target dbs
    bool by_slot;   // and have other slots: FLUSHALL and FLUSHDB are for the caller to restrict
};

static inline int rewrite_map_db(const struct rewrite_dbs *dbs, int db)
{
    if (dbs->forced)
        return dbs->forced_db;
    return db >= 0 && db < dbs->map_n ? dbs->map[db] : db;
}

enum rewrite_result {
    REWRITE_AS_IS,
    REWRITE_CHANGED, // argc, argv instead, and then the commands of `then`
    REWRITE_DROP,    // changes nothing at the target; reason
    REWRITE_REFUSED, // no command does at the target what this one did; reason
};

struct rewrite_input {
    const struct rewrite_dbs *dbs;
    int db;              // source db selected
    int64_t now_ms;      // when the command was received: what relative expiries count from
    int64_t hold_before; // absolute expiries before this become far; 0: none
    // The caller sends `then`. Without it, what takes several commands is refused, or for servers
    // before 6.2 given a relative expiry.
    bool several;
    int target_dbs;     // how many dbs the target has; <= 0: unknown
    int target_version; // 70015 = 7.0.15; 0: new enough for all
    // A Valkey source names in HPEXPIREAT ... NX|XX|GT|LT also the fields whose condition failed;
    // Redis names only those that were changed.
    bool source_is_valkey;
};

struct rewrite_cmd {
    int argc;
    const struct slice *argv;
};

// An expiry that was made far.
struct rewrite_expiry {
    struct slice key, field; // field.p NULL: the key's own
    int64_t true_ms;
    bool held;
};

// Zeroed is ready; rewrite_free afterwards. The results of the last rewrite_command are valid until
// the next; slices point into its input or into here.
struct rewrite {
    int argc;
    const struct slice *argv;
    int then_n; // further commands, to be applied together with the first
    const struct rewrite_cmd *then;
    int expiries;
    struct rewrite_expiry *expiry; // owns
    bool moves_keys;    // keys change their names or dbs with their expiries, whatever the result
    const char *reason; // DROP, REFUSED; static
    // private
    unsigned char *by_id;     // owns; index of a command's rule + 1, 0 for none
    struct rewrite_cmd *cmds; // owns, as the next two
    struct slice *args;
    char (*numbers)[24];
    int expiry_cap, cmds_cap, args_cap, numbers_cap;
    int cmds_n, args_n, numbers_n;
};

// Arguments that are not the command's layout leave as is: the target says what is wrong with them.
// An expiry that has passed and is not held leaves as it is.
//
// NX, XX, GT and LT of the EXPIRE family are removed. Servers since 7.0 propagate them, but only if
// the condition held, and at the target a far expiry would fail the comparison. Only HPEXPIREAT of
// a Valkey source keeps them; with GT or LT its time is not made far, and compares wrongly with one
// that was.
//
// SWAPDB, MOVE and COPY of a key onto itself within one target db change nothing there: dropped.
// FLUSHALL becomes FLUSHDB in each db that source dbs map to. What would touch data of other source
// dbs or other sources (FLUSHDB, SWAPDB of a target db that several write into) is refused; with
// by_slot FLUSHALL leaves as it is, and FLUSHDB where no other source db writes.
enum rewrite_result rewrite_command(struct rewrite *w, const struct rewrite_input *in,
                                    const struct cmd_info *info, int argc,
                                    const struct slice *argv);
void rewrite_free(struct rewrite *w);

#endif

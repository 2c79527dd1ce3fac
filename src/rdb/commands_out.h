// SPDX-License-Identifier: Apache-2.0
// Keys of an RDB as the commands that make them again, in RESP: what an append-only file consists
// of and what `redis-cli --pipe` sends. Values stream; no more than a piece is held.
#ifndef GUNYU_RDB_COMMANDS_OUT_H
#define GUNYU_RDB_COMMANDS_OUT_H

#include "rdb/input.h"
#include "rdb/out.h"
#include "target/ability.h"

struct commands_out_options {
    int version;    // of the server that will read it, 70015; 0: the newest
    bool is_valkey; // it is a Valkey
    bool replace;   // a DEL comes before each key that SET does not overwrite
    bool degrade;   // leave out what it cannot hold instead of failing, and remember that
};

struct commands_out;

// Borrows out.
struct commands_out *commands_out_new(struct rdb_out *out, const struct commands_out_options *o);
void commands_out_free(struct commands_out *c);

// After an RDB_KIND_KEY item: reads its value and writes SELECT if the db changed, the commands of
// the value, and its expiry. What no command makes (module values, arrays, streams of RDB 13 on,
// streams up to 8 MiB with pending entries of deleted messages) becomes a RESTORE of its bytes, if
// that server reads them; of other streams such entries are left out. ERR_UNSUPPORTED for what it
// cannot hold; what was written is then not to be used. Failures of out are left to rdb_out_commit.
int commands_out_key(struct commands_out *c, struct rdb_input *in, const struct rdb_item *item,
                     struct err *e) must_check;
// What is no key: functions, commands; the global data of modules is lost. The rest needs none.
int commands_out_other(struct commands_out *c, const struct rdb_item *item,
                       struct err *e) must_check;
// How many of them degrade has left out.
uint64_t commands_out_lost(const struct commands_out *c, enum loss what);

#endif

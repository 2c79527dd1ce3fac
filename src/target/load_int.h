// SPDX-License-Identifier: Apache-2.0
// What the files of the loader share; nobody else includes it.
#ifndef GUNYU_TARGET_LOAD_INT_H
#define GUNYU_TARGET_LOAD_INT_H

#include "target/build.h"
#include "target/load.h"

enum stage {
    STAGE_ITEM,  // between items
    STAGE_VALUE, // a key's value as a whole
    STAGE_RAW,   // too long for that: its serialized bytes
    STAGE_BUILD, // by elements
    STAGE_SKIP,
    STAGE_DRAIN, // everything sent
    STAGE_DONE,
};

// Where in the file a db begins, to find the db of an index again.
struct db_start {
    uint64_t index;
    int db;
};

// One pass over the file: the main one, or a second look at one key.
struct pass {
    struct rdb_reader *rdb;
    uint64_t from; // the window of the last feed
    struct slice window;
    struct rdb_item item;
    struct buf key; // copy, once a turn ends within the item
    bool key_copied;
    enum stage stage;
    int64_t expire_ms; // to be set
    int db;            // target's
    struct build build;
};

// A key that must be looked at again.
struct redo {
    uint64_t index;
    bool expired; // before its name was set: an older value may stand there; else to be built
    bool there;   // the target has the key, which has been logged: it is replaced now
};

struct load {
    struct load_options o;
    struct journal_reader *reader;
    struct pass main, again;
    struct redo *redo; // those before redo_sent have been sent and wait for their replies
    size_t redo_n, redo_sent, redo_cap;
    struct db_start *dbs;
    size_t dbs_n;
    uint64_t again_until;
    bool in_data; // past the functions and scripts, which are only loaded together
    bool functions_flushed;
    int stream_db;
    uint64_t acked;
    bool unit_open;
    int unit_keys;
    struct buf scratch;
    struct load_stats stats;
};

// An existing key is to be left alone.
bool load_must_be_new(const struct load *l, const struct pass *p);
// load_send.c: one key in one command. Between batcher_unit_begin and batcher_unit_end.
void load_send_set(struct load *l, const struct pass *p, struct slice key, struct slice value);
void load_send_restore(struct load *l, const struct pass *p, struct slice key, struct slice raw);

#endif

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
    STAGE_ASIDE, // no key, but commands of its own
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
    enum build_part part;
    bool read;         // all elements of the value are taken
    int dump_version;  // for the payload of a RESTORE
    unsigned lost;     // bits 1 << enum loss: dealt with for this key
    int64_t expire_ms; // to be set
    int db;            // target's
    int slot;          // of the unit that the next step goes into, or what sink.h has in its place
    struct build build;
};

// What is sent beside keys: functions, scripts, commands.
struct aside {
    struct buf text; // commands
    int cmds;
    int db; // target's; -1: any
    bool everywhere;
    int node; // if so: the next
};

// A key that must be looked at again.
struct redo {
    uint64_t index;
    bool expired; // before its name was set: an older value may stand there; else to be built
    bool there;   // the target has the key, which has been logged: it is replaced now
    enum build_part part;
    uint32_t keys; // so many, each as it was sent first; 0: one, by elements
};

// A ref of one MSET of several keys of the file, the first at that index.
#define LOAD_REF_MANY ((uint64_t)1 << 60)
#define LOAD_REF_MANY_SHIFT 52
#define LOAD_REF_MANY_INDEX (((uint64_t)1 << LOAD_REF_MANY_SHIFT) - 1)

// Strings in a row that are to go in one MSET: a command for each costs the target a third more,
// and a reply.
struct gather {
    struct buf args; // of keys and values in turn
    uint32_t keys;
    uint64_t first; // index of the first
    int db;         // target's
};

struct load {
    struct load_options o;
    struct ability can;
    char target_name[40];
    bool announced;
    char unsupported[300];
    struct journal_reader *reader;
    uint64_t lost_of;     // index of the last stream that lost something by an answer; 0: none
    enum loss lost_there; // and what
    uint64_t released;    // the journal may have given up what lies before
    uint64_t rewind; // a stream's bytes are kept until it is read, if it is not longer than this
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
    int unit_keys, unit_slot, unit_db;
    struct gather gather;
    struct aside aside;
    bool one_by_one; // the target has refused an MSET
    struct buf scratch;
    struct load_stats stats;
};

// An existing key is to be left alone.
bool load_must_be_new(const struct load *l, const struct pass *p);
// load_items.c.
void load_take_stream_db(struct load *l, const struct rdb_item *item);
void load_aux(struct load *l, struct pass *p);
int load_function(struct load *l, struct pass *p, struct err *e) must_check;
int load_module_aux(struct load *l, struct pass *p, struct err *e) must_check;
int load_command(struct load *l, struct pass *p, struct err *e) must_check;
int load_no_such_db(int db, struct err *e);
// load_loss.c.
void load_announce(struct load *l);
// What is named, at that index, needs what the target lacks: an error, or counted and 0, by policy.
int load_lose(struct load *l, uint64_t index, const char *name, enum loss what,
              struct err *e) must_check;
// The same for the pass's item, once each. key: where the item is one.
int load_lose_item(struct load *l, struct pass *p, struct slice key, enum loss what,
                   struct err *e) must_check;
// load_send.c. A unit for the pass's slot is open or may be begun; false: there is no room.
bool load_unit_ready(struct load *l, const struct pass *p) must_check;
// What is sent between the two belongs together. A unit without a command would cost a position.
void load_unit_begin(struct load *l, const struct pass *p);
void load_unit_end(struct load *l);
void load_unit_close(struct load *l);
// Within a unit. What has gathered must be sent before anything else is, so that each command keeps
// its place and keys that go together follow each other in the file.
void load_send_aside(struct load *l, struct pass *p);
void load_send_del(struct load *l, const struct pass *p, struct slice key);
void load_send_set(struct load *l, const struct pass *p, struct slice key, struct slice value);
// Whether load_gather may take it: nothing but a value is to be set.
bool load_may_gather(const struct load *l, const struct pass *p, struct slice value);
void load_gather(struct load *l, const struct pass *p, struct slice key, struct slice value);
void load_send_gathered(struct load *l);
void load_send_restore(struct load *l, const struct pass *p, struct slice key, struct slice raw);

#endif

// SPDX-License-Identifier: Apache-2.0
// What a value takes in a server's memory, estimated from its serialized form: the object, its
// tables and nodes, and each allocation rounded up as jemalloc does on a 64-bit machine.
//
// The estimate is what MEMORY USAGE key SAMPLES 0 answers for the value freshly loaded, with the
// key itself, which Valkey leaves out there. Not in it: slack of a table that has shrunk, of a
// string that was appended to, fragmentation. Levels of skip list nodes are random; their mean is
// taken.
#ifndef GUNYU_RDB_MEMORY_H
#define GUNYU_RDB_MEMORY_H

#include "codec/rdb.h"
#include "codec/rdb_types.h"

// How servers of some versions lay out their data.
struct memory_layout {
    const char *name;
    bool valkey;
    int since;          // major version * 100 + minor
    bool buckets;       // tables of Valkey 8.1 and later
    bool lean_sets;     // the first member of a bucket has no entry
    bool key_inside;    // the key is in the object's allocation
    unsigned embedded;  // with key_inside: the most that object, key and value together may take
    unsigned pointer;   // bytes that an object with its value inside has no need of
    bool member_inside; // of a sorted set, in its skip list node
    bool real_trees;    // radix trees count what they take, not what Redis guessed before
    unsigned pending;   // bytes of a stream's pending entry
};

// That of the server, "" being the oldest version.
const struct memory_layout *memory_layout_of(bool valkey, struct slice version);
const struct memory_layout *memory_layout_named(const char *name); // NULL: none of this name
#define MEMORY_LAYOUT_NAMES "redis, redis-8.2, valkey-7, valkey-8.1, valkey-9"

struct memory_model {
    const struct memory_layout *layout;
    unsigned quantum; // of jemalloc: 8 as servers bring it along, 16 as distributions build it
};

// The size that jemalloc gives for an allocation of n bytes.
uint64_t memory_class(const struct memory_model *m, uint64_t n);
// A table for n entries, without them; for the db's own tables too.
uint64_t memory_table(const struct memory_model *m, uint64_t n);

enum memory_encoding {
    MEMORY_INT,
    MEMORY_EMBSTR,
    MEMORY_RAW,
    MEMORY_LISTPACK,
    MEMORY_QUICKLIST,
    MEMORY_INTSET,
    MEMORY_HASHTABLE,
    MEMORY_SKIPLIST,
    MEMORY_STREAM,
    MEMORY_ARRAY,
    MEMORY_MODULE,
    MEMORY_ENCODINGS
};
// As OBJECT ENCODING calls it, in servers that have it.
const char *memory_encoding_name(enum memory_encoding e);

// Nodes of a radix tree whose keys are 16 bytes long and come in order.
struct memory_rax {
    const struct memory_model *model;
    uint64_t keys, nodes, bytes; // bytes: of the nodes
    uint8_t last[16];
    int open; // branches above the last key
    struct {
        int depth;
        unsigned children;
    } branch[16];
};

void memory_rax_begin(struct memory_rax *r, const struct memory_model *m);
void memory_rax_add(struct memory_rax *r, const uint8_t key[16]);
// What the tree takes; ends it.
uint64_t memory_rax_end(struct memory_rax *r);

struct memory_meter {
    const struct memory_model *model;
    const struct rdb_type *row;
    uint64_t key_n;
    bool expires;
    int rdb_version;
    // Gathered; the meaning of the sums is that of the model.
    uint64_t elements, serialized;
    uint64_t strings, blobs, entries; // allocations: of strings, of blobs; elements counted in them
    uint64_t list_nodes, packed_nodes;
    uint64_t node_256ths;    // of a skip list: the mean of the random heights
    uint64_t field, field_n; // of a hash: the field that waits for its value
    uint64_t string_n;       // length of a string value
    bool is_int;
    bool counted; // elements is final
    bool field_expiries;
    bool pel_open, consumer_open;
    struct memory_rax nodes, pel, consumer;
};

struct memory_result {
    uint64_t bytes, elements; // elements: of a string 1; of a module value 1
    enum memory_encoding encoding;
};

void memory_begin(struct memory_meter *m, const struct memory_model *model,
                  const struct rdb_item *item, const struct rdb_type *row, int rdb_version);
// The three calls of struct rdb_meter; arg is the meter.
void memory_string(void *arg, char op, uint64_t size, struct slice head, uint64_t entries);
void memory_number(void *arg, char op, uint64_t v);
void memory_stream_id(void *arg, char op, const uint8_t id[16]);
// serialized: bytes of the value in the file, which is all that is known of a module value.
struct memory_result memory_end(struct memory_meter *m, uint64_t serialized);

#endif

// SPDX-License-Identifier: Apache-2.0
// A pull reader of RDB files over bytes that may still be arriving: it stops at any byte and goes
// on when there is more. It never holds a whole value; a value is taken as one raw span (for
// RESTORE), as chunks of elements, or skipped.
//
// The caller presents a window of the file before each call with rdb_feed. The window must reach
// back to rdb_needs_from() and may move or grow between calls.
#ifndef GUNYU_CODEC_RDB_H
#define GUNYU_CODEC_RDB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

enum rdb_result { RDB_MORE = 0, RDB_ITEM = 1, RDB_DONE = 2, RDB_TOO_BIG = 3 }; // errors negative

enum rdb_kind {
    RDB_KIND_AUX,        // key = field name, value = its value
    RDB_KIND_FUNCTION,   // value = library source (FUNCTION2); load with FUNCTION LOAD REPLACE
    RDB_KIND_MODULE_AUX, // module_name, module_id; already skipped, or see rdb_reader_give_aux
    RDB_KIND_KEY,        // a key; take its value with one of the rdb_value_* calls
    RDB_KIND_SELECTDB,   // db
    RDB_KIND_RESIZEDB,   // db_size, expires_size
    RDB_KIND_COMMAND,    // value = a command (RESP), to be carried out in db before what follows
    RDB_KIND_TEMPLATE, // value = a record of field names, without its opcode; the reader keeps it.
                       // For those who copy values that refer to it
    RDB_KIND_SLOT_IMPORT, // slots whose keys are in the file but not owned yet; key = name of the
                          // job, value = ranges as text, "0-100,200-200"
    RDB_KIND_SKIPPED,     // after rdb_reader_skip_unknown: value = what was skipped, in words
};

// What a value is to the user of the data.
enum rdb_object {
    RDB_OBJ_STRING,
    RDB_OBJ_LIST,
    RDB_OBJ_SET,
    RDB_OBJ_ZSET,
    RDB_OBJ_HASH,
    RDB_OBJ_STREAM,
    RDB_OBJ_ARRAY,     // Redis 8.8
    RDB_OBJ_PATH_HASH, // Valkey 9.2
    RDB_OBJ_MODULE,
};
const char *rdb_object_name(enum rdb_object o); // "string", "list", ...

struct rdb_item {
    enum rdb_kind kind;
    uint64_t start;   // file index of the item's first byte (of its expiry opcode, if it has one)
    int db;           // selected db
    struct slice key; // AUX field, key; valid until the next rdb_next
    struct slice value;
    uint8_t type; // RDB type byte
    enum rdb_object object;
    int64_t expire_ms; // absolute; -1 none
    int64_t idle_s;    // LRU idle; -1 none
    int freq;          // LFU; -1 none
    uint64_t value_start;
    uint64_t db_size, expires_size;
    char module_name[10];
    uint64_t module_id;
    uint64_t key_meta; // KEY: modules that have stored something about the key; it is skipped
};

#define RDB_NO_INDEX UINT64_MAX

// One step of a value's decomposition. Which fields count depends on object:
//   STRING: a piece of the value at `at` bytes from its start (total in total)
//   LIST: value. SET: value. ZSET: value, score. HASH: field, value, expire_ms (-1 none)
//   STREAM: see stream_step
//   ARRAY: value at index `at` (total elements); what is no string comes as its text
//   PATH_HASH: path, field, value
struct rdb_element {
    struct slice field, value;
    double score;
    int64_t expire_ms;
    uint64_t at, total;
    int stream_step;        // enum rdb_stream_step
    uint64_t id_ms, id_seq; // entry, last id, pending entry
    int64_t pairs;          // ENTRY: field/value pairs follow as FIELD steps
    union {
        struct { // META
            uint64_t first_ms, first_seq, max_deleted_ms, max_deleted_seq, entries_added, length;
        };
        struct { // IDMP, IDMP_TOTALS
            uint64_t idmp_duration_s, idmp_max, idmp_added, idmp_duplicates;
        };
        uint64_t insert_index; // ARRAY: of the last ARINSERT; RDB_NO_INDEX: none
        struct slice path;
    };
    int64_t entries_read; // GROUP; -1 unknown
    int64_t delivery_time_ms;
    uint64_t delivery_count;
    int64_t seen_ms, active_ms; // CONSUMER; -1 unknown
};

enum rdb_stream_step {
    RDB_STREAM_ENTRY,    // id, pairs
    RDB_STREAM_FIELD,    // field, value (pairs times)
    RDB_STREAM_META,     // last id in id_ms/id_seq, first, max_deleted, entries_added, length
    RDB_STREAM_GROUP,    // value = name, id = last delivered, entries_read
    RDB_STREAM_PENDING,  // id, delivery time and count, value = consumer name; field = group name
    RDB_STREAM_CONSUMER, // field = group, value = name, seen, active (sent even when nothing is
                         // pending); comes before its PENDING steps
    RDB_STREAM_NACKED,   // of RDB 14 on, after a group's consumers: as PENDING, but nobody owns it
    RDB_STREAM_IDMP,     // of RDB 13 on, after all groups: idmp_duration_s, idmp_max
    RDB_STREAM_IDMP_ENTRY,  // field = producer, value = its ID of the message, id = the entry's
    RDB_STREAM_IDMP_TOTALS, // the last step: idmp_added, idmp_duplicates
};
// A pending entry may be of a message that was deleted. Whether it is cannot be said on the way:
// the groups stand behind the entries, and either can be of any size. Who must know reads the value
// twice, with a second reader that rdb_reader_resume sets to item.start. Streams of version 1 (type
// 15) tell neither entries_read of their groups nor max_deleted; entries_added is then the length,
// as a server concludes that loads such a value.

struct rdb_reader;

// check_crc: verify the trailing CRC-64 (a stored 0 means "no checksum" and always passes).
struct rdb_reader *rdb_reader_new(bool check_crc);
void rdb_reader_free(struct rdb_reader *r);
// MODULE_AUX items come before their bytes are passed, which rdb_value_span then gives.
void rdb_reader_give_aux(struct rdb_reader *r);
// What is newer than this build is read as far as it is known, and an item RDB_KIND_SKIPPED says
// what was passed over: a version of the file that is not known. An opcode or type that is not
// known stays an error, since nobody can tell where it ends.
void rdb_reader_skip_unknown(struct rdb_reader *r, bool on);
// Takes over the hash templates of a reader of the same file, which stand before its keys; for one
// that is to begin further on. Both readers must be of one thread.
void rdb_reader_share_templates(struct rdb_reader *r, const struct rdb_reader *from);
// Goes on inside a file at an item's start with the db that is selected there; version as in the
// file's header. No CRC check then. The hash templates that were read or shared stay: a file of RDB
// version 15 or higher must have been read up to its first key before, or its hashes may be errors.
void rdb_reader_resume(struct rdb_reader *r, uint64_t at, int db, int version);
// Makes the reader read one bare serialized value (of a DUMP payload) instead of a file; its first
// byte, behind the type byte, has file index 0. Take it with one of the rdb_value_* calls.
int rdb_reader_open_value(struct rdb_reader *r, uint8_t type, int version,
                          struct err *e) must_check;

// Presents file bytes [from, from + n).
void rdb_feed(struct rdb_reader *r, const char *p, uint64_t from, size_t n);
// The lowest file index that the reader may still look at.
uint64_t rdb_needs_from(const struct rdb_reader *r);
int rdb_version(const struct rdb_reader *r);    // 0 before the header
bool rdb_is_valkey(const struct rdb_reader *r); // magic VALKEY

// RDB_ITEM, RDB_MORE, RDB_DONE (EOF opcode and checksum passed; rdb_needs_from is then the index
// behind the file), or an error whose text names db, key, index and version. A value not taken is
// skipped by the next call. Which fields of the item are set depends on its kind; kind, start and
// db always are. value is valid until the next call on the reader.
int rdb_next(struct rdb_reader *r, struct rdb_item *item, struct err *e) must_check;

// After RDB_KIND_KEY, one of:
// Raw serialized value without the type byte; contiguous in the window. RDB_TOO_BIG as soon as it
// is known to pass limit; the value can then still be taken as elements from its start (the window
// must still reach back to item.value_start). RDB_TOO_BIG also, whatever the limit, for a value
// that refers to other parts of its file (hash templates), which no RESTORE takes.
int rdb_value_raw(struct rdb_reader *r, uint64_t limit, struct slice *raw,
                  struct err *e) must_check;
// Right after rdb_value_raw has given the value: it can be taken once more.
void rdb_value_again(struct rdb_reader *r);
// The next element; RDB_ITEM, RDB_MORE, RDB_DONE. Slices are valid until the next call on the
// reader. A string value comes whole when it is at most piece_limit bytes, else in pieces of that
// size (the last one may be shorter). Elements of other objects always come whole; one that is
// compressed and longer than 1 GiB is an error. A field or member that a broken file has twice is
// given twice. Module values have no elements: ERR_UNSUPPORTED.
// The pieces of a big string and the elements of one packed blob need only a small window; the
// pending entries of a stream's group are needed until the group's last consumer was read.
int rdb_value_element(struct rdb_reader *r, size_t piece_limit, struct rdb_element *out,
                      struct err *e) must_check;
int rdb_value_skip(struct rdb_reader *r, struct err *e) must_check;
// The serialized bytes of the value (without the type byte) piece by piece, for a copy of any size
// in a small window: RDB_ITEM, RDB_MORE, RDB_DONE. Also after RDB_TOO_BIG.
int rdb_value_span(struct rdb_reader *r, struct slice *piece, struct err *e) must_check;
// The same a step at a time, for those who change the layout: *op is the letter of the walk program
// (codec/rdb_types.h) that the bytes belong to. A long string comes in several pieces.
int rdb_value_step(struct rdb_reader *r, char *op, struct slice *piece, struct err *e) must_check;

// Passes over a value as rdb_value_skip does, and tells what it consists of, in the file's order
// and without decoding it: for statistics. A call is made once for each thing, however the bytes
// come.
struct rdb_meter {
    void *arg;
    // A string; op is its letter in the type's walk program (codec/rdb_types.h). size: bytes when
    // decoded. head: the first 20 of them, or all if there are fewer. entries: of a packed blob,
    // else 0. All are valid during the call only.
    void (*string)(void *arg, char op, uint64_t size, struct slice head, uint64_t entries);
    // A count or length of the program: '(' how often the loop runs, 'x', 'K', ...
    void (*number)(void *arg, char op, uint64_t v);
    void (*stream_id)(void *arg, char op, const uint8_t id[16]); // of a pending entry: Y, J
    // The serialized bytes, piece by piece. last: the value ends with this one, which may be empty.
    void (*bytes)(void *arg, struct slice piece, bool last);
};
int rdb_value_measure(struct rdb_reader *r, const struct rdb_meter *m, struct err *e) must_check;

// Fast path: a string of at most `limit` bytes whole (decoded if it was an integer or compressed;
// else a span of the window). RDB_TOO_BIG when longer; the value can then still be taken otherwise.
int rdb_value_string(struct rdb_reader *r, size_t limit, struct slice *value,
                     struct err *e) must_check;

#endif

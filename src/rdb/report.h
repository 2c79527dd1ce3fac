// SPDX-License-Identifier: Apache-2.0
// What is in RDB files: sizes, names, expiries, slots, duplicates. Gathered in one pass and in
// bounded memory, whatever the files hold; what is given up for that is said at each part.
#ifndef GUNYU_RDB_REPORT_H
#define GUNYU_RDB_REPORT_H

#include "codec/slot.h"
#include "rdb/input.h"
#include "rdb/memory.h"
#include "rdb/out.h"
#include "rdb/prefix.h"
#include "rdb/report_dup.h"
#include "rdb/report_top.h"
#include "rdb/select.h"

enum report_format { REPORT_TEXT, REPORT_JSON, REPORT_HTML };

struct report_options {
    enum report_format format;
    const struct memory_layout *model; // NULL: that of the server that wrote the file
    unsigned quantum;                  // of jemalloc: 8 or 16
    size_t top;                        // keys in each list
    struct prefix_options prefix;
    double min_share;        // 0 to 1 of the memory: lesser prefixes are shown together
    uint64_t duplicates_min; // memory of keys whose values are compared; 0: none
};

#define REPORT_TOP 20
#define REPORT_TOP_MAX 10000
#define REPORT_DUPLICATES_MIN 128
#define REPORT_DUPLICATE_GROUPS 4096
#define REPORT_OBJECTS (RDB_OBJ_MODULE + 1)
#define REPORT_DBS 1024 // told apart; further ones are counted in the last row, as db -1
#define REPORT_BITS 49  // of histograms: bucket i holds 2^(i-1) to 2^i - 1, bucket 0 holds 0
#define REPORT_SLOT_RANGES 64

struct report_count {
    uint64_t keys, bytes, elements, serialized, expiring;
};

struct report_db {
    int db;
    struct report_count count;
};

struct report_bucket {
    uint64_t keys, bytes;
};

enum report_ttl {
    REPORT_TTL_NONE,
    REPORT_TTL_EXPIRED,
    REPORT_TTL_HOUR,
    REPORT_TTL_DAY,
    REPORT_TTL_WEEK,
    REPORT_TTL_MONTH,
    REPORT_TTL_QUARTER,
    REPORT_TTL_YEAR,
    REPORT_TTL_MORE,
    REPORT_TTLS
};
extern const char *const report_ttl_names[REPORT_TTLS];

enum report_histogram {
    REPORT_KEY_LENGTH,
    REPORT_KEY_MEMORY,
    REPORT_ELEMENTS, // of what is not a string
    REPORT_HISTOGRAMS
};
extern const char *const report_histogram_names[REPORT_HISTOGRAMS];

struct report_file {
    char *name, *server; // own; server: what wrote it and its version, or ""
    int rdb_version;
    bool valkey;
    uint64_t bytes, keys; // bytes of RDB data, decompressed
    int64_t created_ms;   // -1 unknown
    uint64_t used_memory; // as the server said; 0 unknown
    struct memory_model model;
};

struct report {
    const struct report_options *o;
    int64_t now_ms;
    struct report_file *files; // owns
    size_t files_n;
    struct report_count all, encodings[REPORT_OBJECTS][MEMORY_ENCODINGS];
    struct report_db *dbs; // owns; sorted by first appearance
    size_t dbs_n;
    uint64_t table_bytes; // of the dbs' own tables and of their expiries, beside the keys
    uint64_t functions, module_aux, field_expiry_hashes;
    uint64_t commands; // that a Valkey wrote between the keys; their effect is not in the numbers
    struct report_bucket ttl[REPORT_TTLS];
    struct report_bucket histogram[REPORT_HISTOGRAMS][REPORT_BITS];
    struct report_bucket *slots; // owns; SLOT_COUNT
    struct prefix_tree *prefixes;
    struct top_list by_memory, by_elements;
    struct duplicates *duplicates; // NULL when not wanted
    size_t duplicates_n;           // groups to show
};

struct report *report_new(const struct report_options *o);
void report_free(struct report *r);
// Adds a file ("-": standard input). On failure the report holds a part of it and is good for
// nothing but report_free.
int report_add(struct report *r, const char *path, const struct rdb_input_options *input,
               const struct selection *wanted, struct err *e) must_check;

// Sorts and sums up; nothing can be added any more.
void report_finish(struct report *r);

// Renderings, after report_finish; failures of out show at its commit.
void report_text(const struct report *r, struct rdb_out *out);
void report_json(const struct report *r, struct rdb_out *out);
void report_html(const struct report *r, struct rdb_out *out);

// Bytes as readable text: UTF-8 stays, control bytes and others become \n, \xff; a backslash is
// doubled.
void report_readable(struct slice s, struct buf *out);
unsigned report_bit(uint64_t v); // the bucket of a histogram

#endif

// SPDX-License-Identifier: Apache-2.0
// One table of every configuration key. Parsing, flags, defaults, checks, printing and the
// reference document are all driven by it, so a key is added by adding a row.
#ifndef GUNYU_CONTROL_SCHEMA_H
#define GUNYU_CONTROL_SCHEMA_H

#include "base/slice.h"
#include "control/config.h"

enum schema_type {
    T_BOOL,   // bool
    T_INT,    // int64_t
    T_INT32,  // int
    T_SIZE,   // int64_t bytes; KiB, MiB, GiB, TiB or kb, mb, gb, tb (powers of 1024) accepted
    T_MS,     // int64_t milliseconds; written as Go durations ("1m30s")
    T_STR,    // char *
    T_SECRET, // char *, never shown
    T_ENUM,   // a 4-byte enum
    T_STRS,   // struct str_list
    T_NAMES,  // struct str_list, lower case (commands)
    T_ADDRS,  // struct str_list of addresses, which may hold passwords
    T_INTS,   // struct int_list
    T_SLOTS,  // struct slot_list
    T_DBMAP,  // struct db_map
    T_IGNORED // nothing is stored
};

// What happens to a number outside of [min, max].
enum schema_out {
    OUT_ERROR,
    OUT_DEFAULT, // the default is used, with a warning
    OUT_NEAREST, // the nearest bound is used, with a warning
};

enum { SCOPE_SYNC = 1, SCOPE_RDB = 2, SCOPE_BOTH = 3 };

struct schema_word {
    const char *text;
    int value;
    bool alias; // accepted, but not the name that is shown
};

struct schema_row {
    const char *path;  // canonical YAML path
    const char *flag;  // after "--sync." or "--rdb."; NULL: the path
    const char *alias; // further full paths, separated by spaces; NULL: none
    uint8_t scope;
    enum schema_type type;
    bool invert;          // T_BOOL: the field holds the opposite
    bool zero_ok;         // 0 is allowed below min
    bool no_split;        // a YAML scalar is one item, commas and all
    bool ours;            // redisGunYu does not have it
    bool hidden;          // not printed: another key holds what it means
    uint32_t off;         // of the field in struct config
    const char *def;      // as a user would write it; NULL: empty
    const char *def_note; // for people, where the default is computed
    int64_t min, max;     // both 0: any
    enum schema_out out;
    const struct schema_word *words; // T_ENUM; ends with a NULL text
    const char *needs; // path of a schema_refused row without which this one does nothing
    const char *help;
    const char *note; // compatibility, or why it has no effect
};

extern const struct schema_row schema_rows[];
extern const size_t schema_rows_n;

// Sections that have a second name: both are accepted.
struct schema_section_alias {
    const char *from, *to;
};
extern const struct schema_section_alias schema_section_aliases[];
extern const size_t schema_section_aliases_n;

// Settings that are understood but not available in this version. To make one available, delete its
// row.
struct schema_refused {
    const char *path;
    const char *value; // as printed by schema_format; NULL: any value that is set
    const char *what;
};
extern const struct schema_refused schema_refused[];
extern const size_t schema_refused_n;

static inline uint8_t schema_scope(enum config_scope s)
{
    return s == CONFIG_SYNC ? SCOPE_SYNC : SCOPE_RDB;
}

// Index of the row with this canonical path in the scope; -1: none.
int schema_row_index(const char *path, enum config_scope s);
// Index of the row that a YAML path means: canonical, lower case, or an alias.
int schema_find(const char *path, enum config_scope s);
// Likewise for a flag's name without its prefix.
int schema_find_flag(const char *name, enum config_scope s);
// The path is a section (a mapping with keys below it). Writes its canonical name.
bool schema_is_section(const char *path, enum config_scope s, char *canonical, size_t cap);
// What a key below the section ("" is the top) that does not exist was probably meant to be: the
// nearest name there, or the full path of the same name elsewhere. False: nothing is near.
bool schema_nearest(const char *section, const char *name, enum config_scope s, char *out,
                    size_t cap);
bool schema_nearest_flag(const char *name, enum config_scope s, char *out, size_t cap);
// The names below a section, ", " between them.
void schema_children(const char *section, enum config_scope s, struct buf *out);

// Values. Errors are one clause without the key ("expected true or false, not ..."), and never
// repeat what may be secret.
int schema_set(struct config *c, const struct schema_row *r, const char *text,
               struct err *e) must_check;
// One more item of a list. For T_SLOTS "a" or "a,b".
int schema_add(struct config *c, const struct schema_row *r, const char *text,
               struct err *e) must_check;
// One more pair of a T_DBMAP.
int schema_add_pair(struct config *c, const struct schema_row *r, const char *key,
                    const char *value, struct err *e) must_check;
// Frees and zeroes the field.
void schema_clear(struct config *c, const struct schema_row *r);
bool schema_is_list(const struct schema_row *r);
// The value as one line of text, as schema_set takes it. False when it is unset (NULL, empty list).
bool schema_format(const struct config *c, const struct schema_row *r, bool redacted,
                   struct buf *out);
// An address without its password.
void schema_redact_address(const char *address, struct buf *out);
void schema_format_ms(int64_t ms, struct buf *out);
void schema_format_size(int64_t size, struct buf *out);

static inline void *schema_field(const struct config *c, const struct schema_row *r)
{
    return (char *)(uintptr_t)c + r->off;
}

#endif

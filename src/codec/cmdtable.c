// SPDX-License-Identifier: Apache-2.0
#include "codec/cmdtable.h"

#include "base/err.h"

// Where a command's keys begin: at argv[at], or after the first `word` that stands at argv[at] or
// later (at < 0: searched backward from that many before the end).
enum key_begin { KEYS_AT, KEYS_AFTER };
// How many there are, from the beginning b:
//   RANGE: up to b + x, or if x < 0 that many before the end, every y-th; z divides what is left
//   (XREAD's second half are ids: z = 2)
//   COUNT: the number at b + x says; they start at b + y, every z-th
enum key_find { KEYS_RANGE, KEYS_COUNT };

struct key_rule {
    uint8_t begin;
    int8_t at;
    const char *word;
    uint8_t find;
    int8_t x, y, z;
};

// Commands whose keys no rule describes.
enum key_extractor { EXTRACT_NONE, EXTRACT_SORT, EXTRACT_MIGRATE };

enum blind_rule {
    BLIND_NEVER,
    BLIND_ALWAYS,
    BLIND_ARGC,    // with at most blind_arg arguments
    BLIND_OPTIONS, // without a leading option that asks for the old score
    BLIND_RESTORE, // with REPLACE and without expiry
};

struct row {
    struct cmd_info info;
    uint8_t rule, rule_count;
    uint8_t extractor;
    uint8_t blind, blind_arg;
    uint8_t split_first, split_step; // 0: does not split
    bool container;                  // argv[1] names a subcommand
};

#include "codec/cmdtable.inc"

#define ROW_COUNT ((int)(sizeof(rows) / sizeof(rows[0])))
_Static_assert(sizeof(rules) / sizeof(rules[0]) <= UINT8_MAX, "a row's rule is one byte");

static const struct row *row_of(const struct cmd_info *info)
{
    return &rows[info->id];
}

// ---- lookup ----

#define HASH_START 0x811c9dc5u

// As name_hash of the generator: FNV-1a of the bytes with bit 5 set, folded once at the end.
static uint32_t hash_add(uint32_t h, struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ ((unsigned char)s.p[i] | 0x20u)) * 0x01000193u;
    return h;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

// Whether the NUL-terminated lower-case name starts with s; returns where it goes on, else NULL.
static const char *match_part(const char *name, struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (name[i] == '\0' || name[i] != lower(s.p[i]))
            return NULL;
    return name + s.n;
}

// The row whose name is a, or a|b when b is given.
static const struct row *find(uint32_t hash, struct slice a, const struct slice *b)
{
    hash ^= hash >> 15;
    for (uint32_t i = hash % HASH_SIZE; buckets[i] != 0; i = (i + 1) % HASH_SIZE) {
        const struct row *row = &rows[buckets[i] - 1];
        const char *rest = match_part(row->info.name, a);
        if (rest && b && *rest == '|')
            rest = match_part(rest + 1, *b);
        else if (b)
            rest = NULL;
        if (rest && *rest == '\0')
            return row;
    }
    return NULL;
}

#define NAME_MAX_BYTES 64 // longer than any name, so that a huge argument is not hashed

const struct cmd_info *cmd_lookup(int argc, const struct slice *argv)
{
    if (argc < 1 || argv[0].n > NAME_MAX_BYTES)
        return NULL;
    uint32_t hash = hash_add(HASH_START, argv[0]);
    const struct row *row = find(hash, argv[0], NULL);
    if (!row || strchr(row->info.name, '|')) // only cmd_by_name spells subcommands that way
        return NULL;
    if (row->container && argc > 1 && argv[1].n <= NAME_MAX_BYTES) {
        hash = hash_add(hash_add(hash, SLICE("|")), argv[1]);
        const struct row *sub = find(hash, argv[0], &argv[1]);
        if (sub)
            row = sub;
    }
    return &row->info;
}

const struct cmd_info *cmd_by_name(struct slice name)
{
    if (name.n > NAME_MAX_BYTES)
        return NULL;
    const struct row *row = find(hash_add(HASH_START, name), name, NULL);
    return row ? &row->info : NULL;
}

int cmd_count(void)
{
    return ROW_COUNT;
}

const struct cmd_info *cmd_at(int id)
{
    must(id >= 0 && id < ROW_COUNT);
    return &rows[id].info;
}

// ---- keys ----

// Position behind the rule's word; 0 when it is not there.
static int after_word(const struct key_rule *r, int argc, const struct slice *argv)
{
    struct slice word = slice_cstr(r->word);
    int step = r->at > 0 ? 1 : -1;
    int end = r->at > 0 ? argc - 1 : 0;
    for (int i = r->at > 0 ? r->at : argc + r->at; step > 0 ? i < end : i > end; i += step)
        if (slice_ieq(argv[i], word))
            return i + 1;
    return 0;
}

// Appends the positions that one rule gives to pos[count...]. Returns the new count, -1 when the
// arguments do not fit.
static int keys_by_rule(const struct key_rule *r, int argc, const struct slice *argv, int *pos,
                        int count)
{
    int first = r->begin == KEYS_AT ? r->at : after_word(r, argc, argv);
    if (first == 0)
        return count;
    int step = r->y;
    int64_t last;
    if (r->find == KEYS_COUNT) {
        int64_t n;
        step = r->z;
        if (first + r->x >= argc || !slice_i64(argv[first + r->x], &n) || n < 0 || n > argc)
            return -1;
        first += r->y;
        last = first + (n - 1) * step;
    } else if (r->x >= 0) {
        last = first + r->x;
    } else {
        last = r->z > 1 ? first + (argc - first) / r->z + r->x : argc + r->x;
    }
    if (last >= argc || first > argc)
        return -1;
    for (int i = first; i <= (int)last; i += step) {
        if (count == argc)
            return -1;
        pos[count++] = i;
    }
    return count;
}

// SORT key [BY pattern] [LIMIT offset count] [GET pattern ...] [ASC|DESC] [ALPHA] [STORE dst]
static int keys_of_sort(int argc, const struct slice *argv, int *pos)
{
    static const struct {
        const char *word;
        int values;
    } options[] = {{"limit", 2}, {"get", 1}, {"by", 1}};
    int store = 0;
    pos[0] = 1;
    for (int i = 2; i < argc; i++) {
        size_t o = 0;
        while (o < 3 && !slice_ieq(argv[i], slice_cstr(options[o].word)))
            o++;
        if (o < 3)
            i += options[o].values;
        else if (slice_ieq(argv[i], SLICE("store")) && i + 1 < argc)
            store = ++i; // the last one counts
    }
    if (store)
        pos[1] = store;
    return store ? 2 : 1;
}

// MIGRATE host port key|"" db timeout [COPY] [REPLACE] [AUTH p] [AUTH2 u p] [KEYS key ...]
static int keys_of_migrate(int argc, const struct slice *argv, int *pos)
{
    int n = 0;
    if (argv[3].n > 0) {
        pos[n++] = 3;
        return n;
    }
    for (int i = 6; i < argc; i++) {
        if (slice_ieq(argv[i], SLICE("auth"))) {
            i++;
        } else if (slice_ieq(argv[i], SLICE("auth2"))) {
            i += 2;
        } else if (slice_ieq(argv[i], SLICE("keys"))) {
            while (++i < argc)
                pos[n++] = i;
        }
    }
    return n > 0 ? n : -1;
}

static bool arity_fits(const struct cmd_info *info, int argc)
{
    return info->arity < 0 ? argc >= -info->arity : argc == info->arity;
}

int cmd_keys(const struct cmd_info *info, int argc, const struct slice *argv, int *pos)
{
    const struct row *row = row_of(info);
    if (!arity_fits(info, argc))
        return -1;
    if (row->extractor == EXTRACT_SORT)
        return keys_of_sort(argc, argv, pos);
    if (row->extractor == EXTRACT_MIGRATE)
        return keys_of_migrate(argc, argv, pos);
    int count = 0;
    for (int i = 0; i < row->rule_count && count >= 0; i++)
        count = keys_by_rule(&rules[row->rule + i], argc, argv, pos, count);
    return count;
}

bool cmd_splittable(const struct cmd_info *info, int *first, int *step)
{
    const struct row *row = row_of(info);
    *first = row->split_first;
    *step = row->split_step;
    return row->split_step > 0;
}

// ---- blind ----

// ZADD key [option ...] score member ...: a score is a number, so the options end at the first
// word that is none of them.
static bool no_conditional_option(int argc, const struct slice *argv)
{
    static const char *const conditional[] = {"nx", "xx", "gt", "lt", "incr"};
    for (int i = 2; i < argc; i++) {
        for (size_t o = 0; o < sizeof(conditional) / sizeof(conditional[0]); o++)
            if (slice_ieq(argv[i], slice_cstr(conditional[o])))
                return false;
        if (!slice_ieq(argv[i], SLICE("ch")))
            return true;
    }
    return true;
}

// RESTORE key ttl payload [option ...]. RDB types above this one are hashes whose fields expire.
#define LAST_TIMELESS_TYPE 21

static bool replaces_without_expiry(int argc, const struct slice *argv)
{
    if (argc < 5 || !slice_eq(argv[2], SLICE("0")))
        return false;
    if (argv[3].n == 0 || (unsigned char)argv[3].p[0] > LAST_TIMELESS_TYPE)
        return false;
    for (int i = 4; i < argc; i++)
        if (slice_ieq(argv[i], SLICE("replace")))
            return true;
    return false;
}

bool cmd_is_blind(const struct cmd_info *info, int argc, const struct slice *argv)
{
    const struct row *row = row_of(info);
    switch ((enum blind_rule)row->blind) {
    case BLIND_NEVER:
        return false;
    case BLIND_ALWAYS:
        return true;
    case BLIND_ARGC:
        return argc <= row->blind_arg;
    case BLIND_OPTIONS:
        return no_conditional_option(argc, argv);
    case BLIND_RESTORE:
        return replaces_without_expiry(argc, argv);
    }
    return false;
}

// SPDX-License-Identifier: Apache-2.0
#include "flow/filter.h"

#include <stdlib.h>

#include "base/mem.h"
#include "codec/slot.h"

// Bookkeeping in the source, where that is itself a target or coordinates: redisGunYu's
// checkpoints, election keys and two-way markers, and our positions. Our temporary keys
// (gunyu:tmp:) are data in the making: a RENAME in the stream gives them their name.
static const char *const built_in_prefixes[] = {
    "redis-gunyu-checkpoint",
    "/redis-gunyu",
    "redis-gunyu-bisync:",
    "gunyu:position:",
};
#define BUILT_IN_COUNT (sizeof(built_in_prefixes) / sizeof(built_in_prefixes[0]))

// What is looked at for a command, by its id.
enum action {
    DROP_ADMIN = 1 << 0,
    DROP_COMMAND = 1 << 1,
    CHECK_DB = 1 << 2, // belongs to the selected db
    CHECK_KEYS = 1 << 3,
    CHECK_SPECIAL = 1 << 4, // names dbs or a channel in its arguments
};

// Sorted, and no member begins with another one.
struct prefix_set {
    struct slice *v; // owns the array and the bytes
    size_t n;
    bool first[256]; // first bytes of the members
};

struct filter {
    uint8_t *action; // by command id
    int64_t *db_black, *db_white;
    size_t db_black_n, db_white_n;
    char **unknown_black, **unknown_white; // command names that the table lacks
    size_t unknown_black_n, unknown_white_n;
    bool command_rules, command_white;
    struct prefix_set black, white;
    bool key_rules; // beyond the built-in ones
    uint8_t *slots; // the set of those that go on; NULL: all do
    const struct cmd_info *del, *move, *copy, *swapdb, *publish;
};

const char *filter_reason_name(enum filter_reason r)
{
    static const char *const names[] = {
#define X(name, text) text,
        FILTER_REASONS(X)
#undef X
    };
    return names[r];
}

// ---- prefixes ----

static int compare_slices(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    return slice_cmp(*x, *y);
}

// Sorts and leaves out what a shorter member covers.
static void prefix_set_finish(struct prefix_set *set)
{
    if (set->n > 0)
        qsort(set->v, set->n, sizeof(*set->v), compare_slices);
    size_t kept = 0;
    for (size_t i = 0; i < set->n; i++) {
        struct slice s = set->v[i];
        if (kept > 0 && slice_has_prefix(s, set->v[kept - 1])) {
            free((void *)(uintptr_t)s.p);
            continue;
        }
        set->v[kept++] = s;
        if (s.n > 0)
            set->first[(unsigned char)s.p[0]] = true;
        else
            memset(set->first, true, sizeof(set->first));
    }
    set->n = kept;
}

static void prefix_set_add(struct prefix_set *set, const char *prefix)
{
    set->v = xrealloc(set->v, (set->n + 1) * sizeof(*set->v));
    size_t n = strlen(prefix);
    set->v[set->n++] = slice_make(xstrndup(prefix, n), n);
}

static void prefix_set_free(struct prefix_set *set)
{
    for (size_t i = 0; i < set->n; i++)
        free((void *)(uintptr_t)set->v[i].p);
    free(set->v);
}

// Whether key begins with a member. As no member covers another, only the last one that is not
// above the key can be its prefix.
static bool prefix_set_has(const struct prefix_set *set, struct slice key)
{
    if (key.n == 0)
        return set->n > 0 && set->v[0].n == 0;
    if (!set->first[(unsigned char)key.p[0]])
        return false;
    size_t lo = 0, hi = set->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (slice_cmp(set->v[mid], key) <= 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo > 0 && slice_has_prefix(key, set->v[lo - 1]);
}

// ---- compiling ----

// The row that a rule's name means; NULL when there is none.
static const struct cmd_info *named_command(const char *name)
{
    const struct cmd_info *info = cmd_by_name(slice_cstr(name));
    size_t split = strcspn(name, "- ");
    if (info || name[split] == '\0')
        return info;
    char *sub = xstrdup(name);
    sub[split] = '|';
    info = cmd_by_name(slice_cstr(sub));
    free(sub);
    return info;
}

// Marks the row and, if it is a container, its subcommands.
static void mark_command(bool *marks, const struct cmd_info *info)
{
    size_t n = strlen(info->name);
    for (int i = 0; i < cmd_count(); i++) {
        const char *name = cmd_at(i)->name;
        if (strncmp(name, info->name, n) == 0 && (name[n] == '\0' || name[n] == '|'))
            marks[i] = true;
    }
}

static void mark_commands(bool *marks, const struct filter_names *names, char ***unknown,
                          size_t *unknown_n)
{
    for (size_t i = 0; i < names->n; i++) {
        const struct cmd_info *info = named_command(names->v[i]);
        if (info) {
            mark_command(marks, info);
            continue;
        }
        *unknown = xrealloc(*unknown, (*unknown_n + 1) * sizeof(**unknown));
        (*unknown)[(*unknown_n)++] = xstrdup(names->v[i]);
    }
}

static bool same_group(const char *a, const char *b)
{
    size_t i = 0;
    for (; a[i] && b[i]; i++) {
        char x = a[i] == '-' ? '_' : a[i], y = b[i];
        if (x != y && ((x ^ y) != 0x20 || (y | 0x20) < 'a' || (y | 0x20) > 'z'))
            return false;
    }
    return a[i] == b[i];
}

static int mark_groups(bool *marks, const struct filter_names *groups, struct err *e)
{
    for (size_t g = 0; g < groups->n; g++) {
        bool found = false;
        for (int i = 0; i < cmd_count(); i++) {
            if (!same_group(groups->v[g], cmd_at(i)->group))
                continue;
            marks[i] = true;
            found = true;
        }
        if (!found)
            return err_set(e, ERR_CONFIG,
                           "filter: no command group is called \"%s\"; there are string, list, "
                           "set, hash, sorted_set, stream, bitmap, hyperloglog, geo, generic, "
                           "pubsub, scripting, server, ... as in COMMAND DOCS",
                           groups->v[g]);
    }
    return 0;
}

static uint8_t action_of(const struct filter *f, const struct cmd_info *info)
{
    uint8_t a = 0;
    if (info->flags & CMD_ADMIN)
        return DROP_ADMIN;
    if (info == f->publish || info == f->move || info == f->copy || info == f->swapdb)
        a |= CHECK_SPECIAL;
    if (!(info->flags & CMD_BROADCAST) || strcmp(info->name, "flushdb") == 0)
        a |= CHECK_DB;
    if (!(info->flags & (CMD_KEYLESS | CMD_TXN)))
        a |= CHECK_KEYS;
    return a;
}

static int compile_commands(struct filter *f, const struct filter_rules *r, struct err *e)
{
    size_t count = (size_t)cmd_count();
    bool *black = xcalloc(count, sizeof(*black)), *white = xcalloc(count, sizeof(*white));
    mark_commands(black, &r->command_blacklist, &f->unknown_black, &f->unknown_black_n);
    mark_commands(white, &r->command_whitelist, &f->unknown_white, &f->unknown_white_n);
    int rc = mark_groups(black, &r->group_blacklist, e);
    if (rc == 0)
        rc = mark_groups(white, &r->group_whitelist, e);
    f->command_white = r->command_whitelist.n + r->group_whitelist.n > 0;
    f->command_rules = f->command_white || r->command_blacklist.n + r->group_blacklist.n > 0;
    const struct cmd_info *select = cmd_by_name(SLICE("select"));
    f->action = xcalloc(count, sizeof(*f->action));
    for (size_t i = 0; i < count; i++) {
        const struct cmd_info *info = cmd_at((int)i);
        if (info == select || info->flags & CMD_TXN)
            continue;
        f->action[i] = action_of(f, info);
        if (black[i] || (f->command_white && !white[i]))
            f->action[i] |= DROP_COMMAND;
    }
    free(black);
    free(white);
    return rc;
}

static void each_slot(uint8_t *set, const struct filter_slots *ranges,
                      void (*change)(uint8_t *set, int slot))
{
    for (size_t i = 0; i < ranges->n; i++)
        for (unsigned s = ranges->v[i].from; s <= ranges->v[i].to; s++)
            change(set, (int)s);
}

static int compile_slots(struct filter *f, const struct filter_rules *r, struct err *e)
{
    const struct filter_slots *lists[] = {&r->slot_whitelist, &r->slot_blacklist};
    for (int l = 0; l < 2; l++)
        for (size_t i = 0; i < lists[l]->n; i++)
            if (lists[l]->v[i].to >= SLOT_COUNT || lists[l]->v[i].from > lists[l]->v[i].to)
                return err_set(e, ERR_CONFIG, "filter: [%u, %u] is no range of slots (0 to %d)",
                               lists[l]->v[i].from, lists[l]->v[i].to, SLOT_COUNT - 1);
    if (r->slot_whitelist.n + r->slot_blacklist.n == 0)
        return 0;
    f->slots = xcalloc(SLOT_SET_BYTES, 1);
    if (r->slot_whitelist.n == 0)
        memset(f->slots, 0xff, SLOT_SET_BYTES);
    each_slot(f->slots, &r->slot_whitelist, slot_set_add);
    each_slot(f->slots, &r->slot_blacklist, slot_set_remove);
    return 0;
}

static int64_t *copy_dbs(const struct filter_dbs *dbs)
{
    int64_t *v = xcalloc(dbs->n + 1, sizeof(*v));
    if (dbs->n > 0)
        memcpy(v, dbs->v, dbs->n * sizeof(*v));
    return v;
}

int filter_new(struct filter **out, const struct filter_rules *r, struct err *e)
{
    struct filter *f = xcalloc(1, sizeof(*f));
    f->del = cmd_by_name(SLICE("del"));
    f->move = cmd_by_name(SLICE("move"));
    f->copy = cmd_by_name(SLICE("copy"));
    f->swapdb = cmd_by_name(SLICE("swapdb"));
    f->publish = cmd_by_name(SLICE("publish"));
    f->db_black = copy_dbs(&r->db_blacklist);
    f->db_white = copy_dbs(&r->db_whitelist);
    f->db_black_n = r->db_blacklist.n;
    f->db_white_n = r->db_whitelist.n;
    for (size_t i = 0; i < BUILT_IN_COUNT; i++)
        prefix_set_add(&f->black, built_in_prefixes[i]);
    for (size_t i = 0; i < r->prefix_blacklist.n; i++)
        prefix_set_add(&f->black, r->prefix_blacklist.v[i]);
    for (size_t i = 0; i < r->prefix_whitelist.n; i++)
        prefix_set_add(&f->white, r->prefix_whitelist.v[i]);
    prefix_set_finish(&f->black);
    prefix_set_finish(&f->white);
    int rc = compile_commands(f, r, e);
    if (rc == 0)
        rc = compile_slots(f, r, e);
    f->key_rules = r->prefix_blacklist.n + r->prefix_whitelist.n > 0 || f->slots;
    if (rc != 0) {
        filter_free(f);
        return rc;
    }
    *out = f;
    return 0;
}

static void free_names(char **v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(v[i]);
    free(v);
}

void filter_free(struct filter *f)
{
    if (!f)
        return;
    free(f->action);
    free(f->db_black);
    free(f->db_white);
    free_names(f->unknown_black, f->unknown_black_n);
    free_names(f->unknown_white, f->unknown_white_n);
    prefix_set_free(&f->black);
    prefix_set_free(&f->white);
    free(f->slots);
    free(f);
}

const char *filter_unknown_command(const struct filter *f, size_t i)
{
    if (i < f->unknown_black_n)
        return f->unknown_black[i];
    i -= f->unknown_black_n;
    return i < f->unknown_white_n ? f->unknown_white[i] : NULL;
}

// ---- judging ----

static bool has_db(const int64_t *v, size_t n, int64_t db)
{
    for (size_t i = 0; i < n; i++)
        if (v[i] == db)
            return true;
    return false;
}

static bool db_goes_on(const struct filter *f, int64_t db)
{
    return !has_db(f->db_black, f->db_black_n, db) &&
           (f->db_white_n == 0 || has_db(f->db_white, f->db_white_n, db));
}

static enum filter_reason judge_key(const struct filter *f, struct slice key)
{
    if (prefix_set_has(&f->black, key))
        return FILTER_BY_KEY;
    if (f->white.n > 0 && !prefix_set_has(&f->white, key))
        return FILTER_BY_KEY;
    if (f->slots && !slot_set_has(f->slots, slot_of(key)))
        return FILTER_BY_SLOT;
    return FILTER_BY_NONE;
}

static enum filter_verdict drop(struct filter_scratch *s, enum filter_reason reason)
{
    s->reason = reason;
    return FILTER_DROP;
}

static void reserve(struct filter_scratch *s, int argc)
{
    if (argc <= s->cap)
        return;
    s->cap = argc < 16 ? 16 : argc;
    s->argv = xrealloc(s->argv, (size_t)s->cap * sizeof(*s->argv));
    s->pos = xrealloc(s->pos, (size_t)s->cap * sizeof(*s->pos));
}

void filter_scratch_free(struct filter_scratch *s)
{
    free(s->argv);
    free(s->pos);
    *s = (struct filter_scratch){0};
}

// Some keys go on and some do not: what is left of the command, if it splits.
static enum filter_verdict project(const struct filter *f, const struct cmd_info *info, int argc,
                                   const struct slice *argv, int keys, struct filter_scratch *s)
{
    int first, step;
    if (!cmd_splittable(info, &first, &step) || first + (int64_t)keys * step != argc)
        return drop(s, FILTER_BY_PARTIAL);
    s->argc = 0;
    for (int i = 0; i < first; i++)
        s->argv[s->argc++] = argv[i];
    for (int k = 0; k < keys; k++) {
        if (judge_key(f, argv[s->pos[k]]) != FILTER_BY_NONE)
            continue;
        for (int i = 0; i < step; i++)
            s->argv[s->argc++] = argv[s->pos[k] + i];
    }
    s->info = info;
    s->reason = FILTER_BY_PARTIAL;
    return FILTER_PROJECT;
}

static enum filter_verdict judge_keys(const struct filter *f, const struct cmd_info *info, int argc,
                                      const struct slice *argv, struct filter_scratch *s)
{
    reserve(s, argc);
    int keys = cmd_keys(info, argc, argv, s->pos), dropped = 0;
    enum filter_reason why = FILTER_BY_NONE;
    for (int k = 0; k < keys; k++) {
        enum filter_reason reason = judge_key(f, argv[s->pos[k]]);
        dropped += reason != FILTER_BY_NONE;
        if (why == FILTER_BY_NONE)
            why = reason;
    }
    if (dropped == 0)
        return FILTER_PASS;
    return dropped == keys ? drop(s, why) : project(f, info, argc, argv, keys, s);
}

// The db that argv[i] names goes on; an unreadable one is the target's to refuse.
static bool named_db_goes_on(const struct filter *f, int argc, const struct slice *argv, int i)
{
    int64_t db;
    return i >= argc || !slice_i64(argv[i], &db) || db_goes_on(f, db);
}

// COPY source destination [DB db] [REPLACE]
static int db_of_copy(int argc, const struct slice *argv)
{
    for (int i = 3; i + 1 < argc; i++)
        if (slice_ieq(argv[i], SLICE("db")))
            return i + 1;
    return argc;
}

static enum filter_verdict judge_special(const struct filter *f, const struct cmd_info *info,
                                         int argc, const struct slice *argv,
                                         struct filter_scratch *s)
{
    if (info == f->publish)
        return argc > 1 && slice_eq(argv[1], SLICE("__sentinel__:hello")) ? drop(s, FILTER_BY_ADMIN)
                                                                          : FILTER_PASS;
    if (info == f->swapdb)
        return named_db_goes_on(f, argc, argv, 1) && named_db_goes_on(f, argc, argv, 2)
                   ? FILTER_PASS
                   : drop(s, FILTER_BY_DB);
    if (info == f->copy)
        return named_db_goes_on(f, argc, argv, db_of_copy(argc, argv)) ? FILTER_PASS
                                                                       : drop(s, FILTER_BY_DB);
    if (named_db_goes_on(f, argc, argv, 2))
        return FILTER_PASS;
    // The key of a MOVE leaves what the target has.
    reserve(s, 2);
    s->info = f->del;
    s->argc = 2;
    s->argv[0] = SLICE("DEL");
    s->argv[1] = argv[1];
    s->reason = FILTER_BY_DB;
    return FILTER_PROJECT;
}

static bool is_named(char *const *names, size_t n, struct slice word)
{
    for (size_t i = 0; i < n; i++)
        if (slice_ieq(slice_cstr(names[i]), word))
            return true;
    return false;
}

static enum filter_verdict judge_unknown(const struct filter *f, int db, int argc,
                                         const struct slice *argv, struct filter_scratch *s)
{
    if (argc < 1)
        return FILTER_PASS;
    if (!db_goes_on(f, db))
        return drop(s, FILTER_BY_DB);
    if (is_named(f->unknown_black, f->unknown_black_n, argv[0]) ||
        (f->command_white && !is_named(f->unknown_white, f->unknown_white_n, argv[0])))
        return drop(s, FILTER_BY_COMMAND);
    return FILTER_PASS;
}

enum filter_verdict filter_command(const struct filter *f, int db, const struct cmd_info *info,
                                   int argc, const struct slice *argv, struct filter_scratch *s)
{
    if (!info)
        return judge_unknown(f, db, argc, argv, s);
    uint8_t action = f->action[info->id];
    if (action & DROP_ADMIN)
        return drop(s, FILTER_BY_ADMIN);
    if (action & CHECK_DB && !db_goes_on(f, db))
        return drop(s, FILTER_BY_DB);
    if (action & DROP_COMMAND)
        return drop(s, FILTER_BY_COMMAND);
    enum filter_verdict v = FILTER_PASS;
    if (action & CHECK_KEYS)
        v = judge_keys(f, info, argc, argv, s);
    if (v == FILTER_PASS && action & CHECK_SPECIAL)
        v = judge_special(f, info, argc, argv, s);
    return v;
}

bool filter_db(const struct filter *f, int db)
{
    return db_goes_on(f, db);
}

bool filter_key(const struct filter *f, int db, struct slice key)
{
    return db_goes_on(f, db) && judge_key(f, key) == FILTER_BY_NONE;
}

bool filter_is_trivial(const struct filter *f, int db)
{
    return db_goes_on(f, db) && !f->command_rules && !f->key_rules;
}

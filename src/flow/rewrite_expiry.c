// SPDX-License-Identifier: Apache-2.0
// Commands that carry an expiry.
#include "flow/expiry.h"
#include "flow/rewrite_impl.h"

#define VERSION_RESTORE_ABSTTL 50000
#define VERSION_SET_PXAT 60200

// ---- times ----

// An expiry option of SET and its kin.
static const struct expiry_word {
    struct slice word;
    bool relative;
    int unit;
} expiry_words[] = {
    {{"EX", 2}, true, 1000},
    {{"PX", 2}, true, 1},
    {{"EXAT", 4}, false, 1000},
    {{"PXAT", 4}, false, 1},
};

static const struct expiry_word *find_expiry_word(struct slice s)
{
    for (size_t i = 0; i < sizeof(expiry_words) / sizeof(expiry_words[0]); i++)
        if (slice_ieq(s, expiry_words[i].word))
            return &expiry_words[i];
    return NULL;
}

static bool is_condition(struct slice s)
{
    return slice_ieq(s, SLICE("NX")) || slice_ieq(s, SLICE("XX")) || slice_ieq(s, SLICE("GT")) ||
           slice_ieq(s, SLICE("LT"));
}

// An expiry as the command gives it, in absolute milliseconds. False: not a number or out of range.
static bool absolute_ms(const struct rewrite_call *c, struct slice s, bool relative, int unit,
                        int64_t *ms)
{
    int64_t v;
    return slice_i64(s, &v) && !__builtin_mul_overflow(v, (int64_t)unit, &v) &&
           !__builtin_add_overflow(v, relative ? c->in->now_ms : 0, ms);
}

static bool must_hold(const struct rewrite_call *c, int64_t ms)
{
    return ms < c->in->hold_before && expiry_can_be_far(ms);
}

// The expiry to write for ms, of n items as rewrite_note_held takes them.
static int64_t settle(struct rewrite *w, const struct rewrite_call *c, int64_t ms,
                      const struct slice *item, int n, int step, const struct slice *hash)
{
    if (!must_hold(c, ms))
        return ms;
    rewrite_note_held(w, item, n, step, hash, ms);
    return expiry_far(ms);
}

static int64_t settle_key(struct rewrite *w, const struct rewrite_call *c, int64_t ms)
{
    return settle(w, c, ms, c->argv + 1, 1, 1, NULL);
}

static bool older_target(const struct rewrite_call *c, int version)
{
    return c->in->target_version > 0 && c->in->target_version < version;
}

// ---- keys ----

static enum rewrite_result expire(struct rewrite *w, const struct rewrite_rule *rule,
                                  const struct rewrite_call *c)
{
    int64_t ms;
    if (c->argc < 3 || !absolute_ms(c, c->argv[2], rule->relative, rule->unit, &ms))
        return REWRITE_AS_IS;
    if (!rule->relative && c->argc == 3 && !must_hold(c, ms))
        return REWRITE_AS_IS;
    rewrite_begin(w, 1, c->argc, 1);
    rewrite_name(w, SLICE("PEXPIREAT"));
    rewrite_arg(w, c->argv[1]);
    rewrite_number(w, settle_key(w, c, ms));
    for (int i = 3; i < c->argc; i++)
        if (!is_condition(c->argv[i]))
            rewrite_arg(w, c->argv[i]);
    return rewrite_done(w);
}

// SET key value PXAT ms and what other options there are at argv[3...], without the two at `skip`
// (0: there are none). For targets before 6.2, SET key value and PEXPIREAT key ms, or if that may
// not be two commands, PSETEX with what is left.
static enum rewrite_result put_set(struct rewrite *w, const struct rewrite_call *c,
                                   struct slice value, int64_t ms, int skip)
{
    bool old = older_target(c, VERSION_SET_PXAT);
    int64_t at = settle_key(w, c, ms);
    rewrite_begin(w, 2, c->argc + 5, 1);
    if (old && !c->in->several) {
        rewrite_name(w, SLICE("PSETEX"));
        rewrite_arg(w, c->argv[1]);
        rewrite_number(w, at > c->in->now_ms ? at - c->in->now_ms : 1);
        rewrite_arg(w, value);
        return rewrite_done(w);
    }
    rewrite_name(w, SLICE("SET"));
    rewrite_arg(w, c->argv[1]);
    rewrite_arg(w, value);
    for (int i = 3; i < (skip ? c->argc : 3); i++)
        if (i != skip && i != skip + 1 && !(old && slice_ieq(c->argv[i], SLICE("GET"))))
            rewrite_arg(w, c->argv[i]);
    if (old) {
        rewrite_name(w, SLICE("PEXPIREAT"));
        rewrite_arg(w, c->argv[1]);
    } else {
        rewrite_arg(w, SLICE("PXAT"));
    }
    rewrite_number(w, at);
    return rewrite_done(w);
}

// SETEX, PSETEX key time value
static enum rewrite_result setex(struct rewrite *w, const struct rewrite_rule *rule,
                                 const struct rewrite_call *c)
{
    int64_t ms;
    if (c->argc != 4 || !absolute_ms(c, c->argv[2], true, rule->unit, &ms))
        return REWRITE_AS_IS;
    return put_set(w, c, c->argv[3], ms, 0);
}

// The index of the expiry option among argv[from..), 0 when there is none; *word says which.
static int find_expiry(const struct rewrite_call *c, int from, const struct expiry_word **word)
{
    for (int i = from; i + 1 < c->argc; i++) {
        *word = find_expiry_word(c->argv[i]);
        if (*word)
            return i;
        // IFEQ and its kin take a value, which may look like anything.
        if (c->argv[i].n > 2 && slice_ieq(slice_make(c->argv[i].p, 2), SLICE("IF")))
            i++;
    }
    return 0;
}

static enum rewrite_result set(struct rewrite *w, const struct rewrite_rule *rule,
                               const struct rewrite_call *c)
{
    (void)rule;
    const struct expiry_word *word;
    int64_t ms;
    int at = c->argc > 4 ? find_expiry(c, 3, &word) : 0;
    if (at == 0 || !absolute_ms(c, c->argv[at + 1], word->relative, word->unit, &ms))
        return REWRITE_AS_IS;
    if (!word->relative && !must_hold(c, ms) && !older_target(c, VERSION_SET_PXAT))
        return REWRITE_AS_IS;
    return put_set(w, c, c->argv[2], ms, at);
}

// MSETEX numkeys key value ... options
static enum rewrite_result msetex(struct rewrite *w, const struct rewrite_rule *rule,
                                  const struct rewrite_call *c)
{
    (void)rule;
    const struct expiry_word *word;
    int64_t keys, ms;
    if (c->argc < 4 || !slice_i64(c->argv[1], &keys) || keys < 1 || keys > (c->argc - 2) / 2)
        return REWRITE_AS_IS;
    int at = find_expiry(c, 2 + 2 * (int)keys, &word);
    if (at == 0 || !absolute_ms(c, c->argv[at + 1], word->relative, word->unit, &ms) ||
        (!word->relative && !must_hold(c, ms)))
        return REWRITE_AS_IS;
    rewrite_begin(w, 1, c->argc, 1);
    rewrite_name(w, c->argv[0]);
    rewrite_args(w, c->argv + 1, at - 1);
    rewrite_arg(w, SLICE("PXAT"));
    rewrite_number(w, settle(w, c, ms, c->argv + 2, (int)keys, 2, NULL));
    rewrite_args(w, c->argv + at + 2, c->argc - at - 2);
    return rewrite_done(w);
}

// GETEX is there for its reply, which nobody reads here: only its expiry is applied.
static enum rewrite_result getex(struct rewrite *w, const struct rewrite_rule *rule,
                                 const struct rewrite_call *c)
{
    (void)rule;
    const struct expiry_word *word;
    int64_t ms;
    int at = find_expiry(c, 2, &word);
    if (at == 0 || !absolute_ms(c, c->argv[at + 1], word->relative, word->unit, &ms))
        return REWRITE_AS_IS;
    rewrite_begin(w, 1, 3, 1);
    rewrite_name(w, SLICE("PEXPIREAT"));
    rewrite_arg(w, c->argv[1]);
    rewrite_number(w, settle_key(w, c, ms));
    return rewrite_done(w);
}

// ---- RESTORE ----

// RESTORE, RESTORE-ASKING key ttl payload options
static enum rewrite_result restore(struct rewrite *w, const struct rewrite_rule *rule,
                                   const struct rewrite_call *c)
{
    (void)rule;
    bool asking = slice_ieq(c->argv[0], SLICE("RESTORE-ASKING"));
    bool old = older_target(c, VERSION_RESTORE_ABSTTL);
    bool absolute = false;
    int64_t ttl, ms = 0;
    for (int i = 4; i < c->argc; i++)
        absolute = absolute || slice_ieq(c->argv[i], SLICE("ABSTTL"));
    if (c->argc < 4 || !slice_i64(c->argv[2], &ttl) || ttl < 0 ||
        !absolute_ms(c, c->argv[2], !absolute, 1, &ms))
        return REWRITE_AS_IS;
    bool expires = ttl > 0;
    if (!asking && !old && (!expires || (absolute && !must_hold(c, ms))))
        return REWRITE_AS_IS;
    rewrite_begin(w, 1, c->argc + 2, 1);
    rewrite_name(w, SLICE("RESTORE"));
    rewrite_arg(w, c->argv[1]);
    int64_t at = expires ? settle_key(w, c, ms) : 0;
    // Before 5.0 only a relative time, and 0 is none.
    if (old && expires)
        at = at > c->in->now_ms ? at - c->in->now_ms : 1;
    rewrite_number(w, at);
    rewrite_arg(w, c->argv[3]);
    for (int i = 4; i < c->argc; i++) {
        bool replace = slice_ieq(c->argv[i], SLICE("REPLACE"));
        if (asking && replace)
            continue;
        if ((old && replace) || (!old && !slice_ieq(c->argv[i], SLICE("ABSTTL"))))
            rewrite_arg(w, c->argv[i]);
    }
    // The source had no such key there. What the target has is a copy that a MIGRATE has left.
    if (asking)
        rewrite_arg(w, SLICE("REPLACE"));
    if (!old && expires)
        rewrite_arg(w, SLICE("ABSTTL"));
    return rewrite_done(w);
}

// ---- fields of a hash ----

struct hash_args {
    const struct expiry_word *word; // NULL: no expiry option
    int word_at;
    int condition_at; // 0: none
    int fields_at;    // the first field
    int fields_n;
};

// The options and the FIELDS block from argv[from] on; a field takes `step` arguments.
static bool scan_hash(const struct rewrite_call *c, int from, int step, struct hash_args *h)
{
    *h = (struct hash_args){0};
    for (int i = from; i < c->argc; i++) {
        const struct expiry_word *word = find_expiry_word(c->argv[i]);
        if (word) {
            h->word = word;
            h->word_at = i++;
        } else if (is_condition(c->argv[i])) {
            h->condition_at = i;
        } else if (slice_ieq(c->argv[i], SLICE("FIELDS"))) {
            int64_t n;
            if (i + 2 >= c->argc || !slice_i64(c->argv[i + 1], &n) || n < 1 ||
                n > (c->argc - i - 2) / step)
                return false;
            h->fields_at = i + 2;
            h->fields_n = (int)n;
            i += 1 + (int)n * step;
        }
    }
    return h->fields_at > 0 && (!h->word || h->word_at + 1 < c->argc);
}

static int64_t settle_fields(struct rewrite *w, const struct rewrite_call *c,
                             const struct hash_args *h, int step, int64_t ms)
{
    return settle(w, c, ms, c->argv + h->fields_at, h->fields_n, step, c->argv + 1);
}

static bool compares(struct slice condition)
{
    return slice_ieq(condition, SLICE("GT")) || slice_ieq(condition, SLICE("LT"));
}

// HEXPIRE and its kin: key time [condition] FIELDS n field ...
static enum rewrite_result hash_expire(struct rewrite *w, const struct rewrite_rule *rule,
                                       const struct rewrite_call *c)
{
    struct hash_args h;
    int64_t ms;
    if (c->argc < 6 || !scan_hash(c, 3, 1, &h) ||
        !absolute_ms(c, c->argv[2], rule->relative, rule->unit, &ms))
        return REWRITE_AS_IS;
    bool keep = h.condition_at && c->in->source_is_valkey;
    bool strip = h.condition_at && !keep;
    // Whether a field meets GT or LT is not known here, so nothing may be held in its name.
    bool hold = must_hold(c, ms) && !(keep && compares(c->argv[h.condition_at]));
    if (!rule->relative && !strip && !hold)
        return REWRITE_AS_IS;
    rewrite_begin(w, 1, c->argc, 1);
    rewrite_name(w, SLICE("HPEXPIREAT"));
    rewrite_arg(w, c->argv[1]);
    rewrite_number(w, hold ? settle_fields(w, c, &h, 1, ms) : ms);
    for (int i = 3; i < c->argc; i++)
        if (!(strip && i == h.condition_at))
            rewrite_arg(w, c->argv[i]);
    return rewrite_done(w);
}

// HSETEX key [condition] [expiry] FIELDS n field value ...
static enum rewrite_result hsetex(struct rewrite *w, const struct rewrite_rule *rule,
                                  const struct rewrite_call *c)
{
    (void)rule;
    struct hash_args h;
    int64_t ms;
    if (c->argc < 6 || !scan_hash(c, 2, 2, &h) || !h.word ||
        !absolute_ms(c, c->argv[h.word_at + 1], h.word->relative, h.word->unit, &ms) ||
        (!h.word->relative && !must_hold(c, ms)))
        return REWRITE_AS_IS;
    rewrite_begin(w, 1, c->argc, 1);
    rewrite_name(w, c->argv[0]);
    rewrite_args(w, c->argv + 1, h.word_at - 1);
    rewrite_arg(w, SLICE("PXAT"));
    rewrite_number(w, settle_fields(w, c, &h, 2, ms));
    rewrite_args(w, c->argv + h.word_at + 2, c->argc - h.word_at - 2);
    return rewrite_done(w);
}

// HGETEX key [expiry] FIELDS n field ...: as GETEX.
static enum rewrite_result hgetex(struct rewrite *w, const struct rewrite_rule *rule,
                                  const struct rewrite_call *c)
{
    (void)rule;
    struct hash_args h;
    int64_t ms;
    if (c->argc < 5 || !scan_hash(c, 2, 1, &h) || !h.word ||
        !absolute_ms(c, c->argv[h.word_at + 1], h.word->relative, h.word->unit, &ms))
        return REWRITE_AS_IS;
    rewrite_begin(w, 1, c->argc + 1, 1);
    rewrite_name(w, SLICE("HPEXPIREAT"));
    rewrite_arg(w, c->argv[1]);
    rewrite_number(w, settle_fields(w, c, &h, 1, ms));
    rewrite_args(w, c->argv + h.fields_at - 2, h.fields_n + 2);
    return rewrite_done(w);
}

const struct rewrite_rule rewrite_expiry_rules[] = {
    {.name = "set", .fn = set},
    {.name = "setex", .fn = setex, .relative = true, .unit = 1000},
    {.name = "psetex", .fn = setex, .relative = true, .unit = 1},
    {.name = "msetex", .fn = msetex},
    {.name = "getex", .fn = getex},
    {.name = "expire", .fn = expire, .relative = true, .unit = 1000},
    {.name = "pexpire", .fn = expire, .relative = true, .unit = 1},
    {.name = "expireat", .fn = expire, .unit = 1000},
    {.name = "pexpireat", .fn = expire, .unit = 1},
    {.name = "restore", .fn = restore},
    {.name = "restore-asking", .fn = restore},
    {.name = "hexpire", .fn = hash_expire, .relative = true, .unit = 1000},
    {.name = "hpexpire", .fn = hash_expire, .relative = true, .unit = 1},
    {.name = "hexpireat", .fn = hash_expire, .unit = 1000},
    {.name = "hpexpireat", .fn = hash_expire, .unit = 1},
    {.name = "hsetex", .fn = hsetex},
    {.name = "hgetex", .fn = hgetex},
};
const int rewrite_expiry_rule_count =
    sizeof(rewrite_expiry_rules) / sizeof(rewrite_expiry_rules[0]);

// SPDX-License-Identifier: Apache-2.0
#include "target/stage.h"

#include <stdlib.h>

#include "base/mem.h"
#include "codec/resp.h"
#include "codec/slot.h"

#define MAX_PAYLOAD ((size_t)512 << 20)
#define CLOCK_TRIES 20

struct stage_key {
    int at; // in argv
    int slot;
    struct slice temp;
};

void stage_free(struct stage *s)
{
    buf_free(&s->text);
    buf_free(&s->payload);
    buf_free(&s->reason);
    free(s->argv);
    free(s->changed);
    free(s->keys);
    free(s->del);
    *s = (struct stage){0};
}

// Copying back is not given up by halves: what it needs stays, for when it is begun again.
static bool is_back(const struct stage *s)
{
    return s->phase == STAGE_READ_BACK || s->phase == STAGE_WRITE_BACK;
}

// ---- the beginning ----

static void find_keys(struct stage *s, const struct route *r, const struct slice *argv)
{
    s->keys = xcalloc((size_t)r->keys, sizeof(*s->keys));
    s->drained = -1;
    for (int i = 0; i < r->keys; i++) {
        int slot = slot_of(argv[r->pos[i]]);
        if (slot == r->slot)
            continue;
        if (r->pos[i] == r->drained)
            s->drained = s->keys_n;
        s->keys[s->keys_n++] = (struct stage_key){.at = r->pos[i], .slot = slot};
    }
}

// Everything is written to one buffer, so the slices are made when it no longer moves.
static void copy_command(struct stage *s, int argc, const struct slice *argv)
{
    size_t *ends = xcalloc((size_t)s->keys_n, sizeof(*ends));
    for (int i = 0; i < argc; i++)
        buf_append_slice(&s->text, argv[i]);
    for (int i = 0; i < s->keys_n; i++) {
        buf_printf(&s->text, "gunyu:stage:{%s}:%s:%d", slot_tag(s->slot), s->o.tag, i);
        ends[i] = s->text.n;
    }
    s->argc = argc;
    s->argv = xcalloc((size_t)argc, sizeof(*s->argv));
    s->changed = xcalloc((size_t)argc, sizeof(*s->changed));
    size_t at = 0;
    for (int i = 0; i < argc; at += argv[i++].n)
        s->argv[i] = s->changed[i] = slice_make(s->text.p + at, argv[i].n);
    s->del = xcalloc((size_t)s->keys_n + 1, sizeof(*s->del));
    s->del[0] = SLICE("DEL");
    for (int i = 0; i < s->keys_n; at = ends[i++]) {
        struct slice temp = slice_make(s->text.p + at, ends[i] - at);
        s->keys[i].temp = s->del[i + 1] = s->changed[s->keys[i].at] = temp;
    }
    free(ends);
}

static void note(struct stage *s, struct slice reason)
{
    if (s->reason.n == 0)
        buf_append_slice(&s->reason, reason);
}

static void fail(struct stage *s, struct slice reason, enum stage_phase next)
{
    note(s, reason);
    if (is_back(s))
        s->applied = false;
    s->phase = next;
}

// What was recorded later than the unit, in a slot that it reads, proves that its own slot had it:
// a node that took over had not received it yet. The keys are not what the command read.
static bool was_lost(const struct stage *s, uint64_t offset)
{
    for (int i = 0; i < s->keys_n; i++) {
        uint64_t mark = s->o.mark(s->o.ctx, s->keys[i].slot);
        if (mark > offset || (mark == offset && i == s->drained))
            return true;
    }
    return false;
}

static enum stage_phase first_phase(struct stage *s, uint64_t offset)
{
    if (s->o.mark(s->o.ctx, s->slot) < offset)
        return STAGE_READ;
    s->applied = true;
    if (s->drained >= 0 && s->o.mark(s->o.ctx, s->keys[s->drained].slot) < offset)
        return STAGE_READ_BACK;
    return STAGE_CLEAN;
}

void stage_begin(struct stage *s, const struct stage_options *o, const struct route *r, int argc,
                 const struct slice *argv, uint64_t offset)
{
    must(argc > 0 && r->keys > 0);
    stage_free(s);
    s->o = *o;
    if (s->o.max_payload == 0)
        s->o.max_payload = MAX_PAYLOAD;
    s->slot = r->slot;
    find_keys(s, r, argv);
    copy_command(s, argc, argv);
    s->phase = first_phase(s, offset);
    if (s->phase == STAGE_READ && was_lost(s, offset))
        fail(s,
             SLICE("a failover lost what the cluster had confirmed, and the keys that the command "
                   "reads have changed since: a full sync is needed"),
             STAGE_CLEAN);
}

// ---- steps ----

static struct rewrite_cmd *add_cmd(struct stage_step *out, struct stage *s, const char *name)
{
    struct rewrite_cmd *c = &s->cmds[out->n];
    *c = (struct rewrite_cmd){1, s->args[out->n]};
    s->args[out->n++][0] = slice_cstr(name);
    return c;
}

static void add_arg(struct stage *s, struct rewrite_cmd *c, struct slice arg)
{
    s->args[c - s->cmds][c->argc++] = arg;
}

static void add_key_cmd(struct stage_step *out, struct stage *s, const char *name, struct slice key)
{
    add_arg(s, add_cmd(out, s, name), key);
}

// Without PEXPIRETIME, the clock of the server is asked for around PTTL.
static void ask_value(struct stage *s, struct stage_step *out, int slot, struct slice key)
{
    out->slot = slot;
    add_key_cmd(out, s, "DUMP", key);
    if (s->o.has_expiretime) {
        add_key_cmd(out, s, "PEXPIRETIME", key);
        return;
    }
    add_cmd(out, s, "TIME");
    add_key_cmd(out, s, "PTTL", key);
    add_cmd(out, s, "TIME");
}

static void put_value(struct stage *s, struct stage_step *out, int slot, struct slice key)
{
    out->slot = slot;
    if (s->gone) {
        add_key_cmd(out, s, "DEL", key);
        return;
    }
    struct rewrite_cmd *c = add_cmd(out, s, "RESTORE");
    add_arg(s, c, key);
    add_arg(s, c, SLICE("0"));
    add_arg(s, c, buf_slice(&s->payload));
    add_arg(s, c, SLICE("REPLACE"));
    if (s->expiry < 0)
        return;
    // RESTORE has taken absolute times since 5.0 only.
    c = add_cmd(out, s, "PEXPIREAT");
    add_arg(s, c, key);
    add_arg(s, c, slice_make(s->number, i64_format(s->number, s->expiry)));
}

static void put_one(struct stage *s, struct stage_step *out, int argc, const struct slice *argv)
{
    s->cmds[0] = (struct rewrite_cmd){argc, argv};
    out->slot = s->slot;
    out->n = 1;
}

static void make_step(struct stage *s, struct stage_step *out)
{
    *out = (struct stage_step){.kind = STAGE_SEND, .cmds = s->cmds};
    const struct stage_key *key = &s->keys[s->at],
                           *back = &s->keys[s->drained < 0 ? 0 : s->drained];
    switch (s->phase) {
    case STAGE_READ:
        ask_value(s, out, key->slot, s->argv[key->at]);
        break;
    case STAGE_WRITE:
        put_value(s, out, s->slot, key->temp);
        break;
    case STAGE_COMPUTE:
        put_one(s, out, s->argc, s->changed);
        out->record = out->is_command = true;
        break;
    case STAGE_READ_BACK:
        ask_value(s, out, s->slot, back->temp);
        break;
    case STAGE_WRITE_BACK:
        put_value(s, out, back->slot, s->argv[back->at]);
        out->record = true;
        break;
    case STAGE_CLEAN:
        put_one(s, out, s->keys_n + 1, s->del);
        break;
    case STAGE_END:
        out->kind = s->reason.n ? STAGE_FAILED : STAGE_DONE;
        out->reason = buf_slice(&s->reason);
        out->applied = s->applied;
        break;
    }
}

// ---- answers ----

static struct slice error_in(struct slice replies)
{
    struct resp_node node;
    for (size_t pos = 0; resp_next(replies.p, replies.n, &pos, &node);)
        if (node.type == RESP_ERROR)
            return node.text.n ? node.text : SLICE("an error without words");
    return (struct slice){0};
}

// TIME: an array of seconds and microseconds.
static bool next_time(struct slice replies, size_t *pos, int64_t *ms)
{
    struct resp_node node;
    int64_t v[2];
    if (!resp_next(replies.p, replies.n, pos, &node) || node.type != RESP_ARRAY || node.num != 2)
        return false;
    for (int i = 0; i < 2; i++)
        if (!resp_next(replies.p, replies.n, pos, &node) || node.type != RESP_BULK ||
            !slice_i64(node.text, &v[i]) || v[i] < 0 || v[i] > INT64_MAX / 2000)
            return false;
    *ms = v[0] * 1000 + v[1] / 1000;
    return true;
}

static bool next_integer(struct slice replies, size_t *pos, int64_t *v)
{
    struct resp_node node;
    if (!resp_next(replies.p, replies.n, pos, &node) || node.type != RESP_INTEGER)
        return false;
    *v = node.num;
    return true;
}

// Sets *expiry: unix ms, -1 none, -2 no key. false: not what was asked for. *again: the clock went
// on meanwhile, so the time is not exact.
static bool next_expiry(const struct stage *s, struct slice replies, size_t *pos, int64_t *expiry,
                        bool *again)
{
    int64_t before, after;
    if (s->o.has_expiretime)
        return next_integer(replies, pos, expiry);
    if (!next_time(replies, pos, &before) || !next_integer(replies, pos, expiry) ||
        !next_time(replies, pos, &after))
        return false;
    if (*expiry < 0)
        return true;
    *again = before != after;
    return !__builtin_add_overflow(*expiry, after, expiry);
}

enum value { VALUE_READ, VALUE_AGAIN, VALUE_BAD, VALUE_TOO_BIG };

static enum value read_value(struct stage *s, struct slice replies)
{
    struct resp_node dump;
    size_t pos = 0;
    bool again = false;
    if (!resp_next(replies.p, replies.n, &pos, &dump) ||
        (dump.type != RESP_BULK && dump.type != RESP_NIL) ||
        !next_expiry(s, replies, &pos, &s->expiry, &again))
        return VALUE_BAD;
    s->gone = dump.type == RESP_NIL || s->expiry == -2;
    buf_clear(&s->payload);
    if (s->gone)
        return VALUE_READ;
    if (dump.text.n > s->o.max_payload)
        return VALUE_TOO_BIG;
    if (again && ++s->tries < CLOCK_TRIES)
        return VALUE_AGAIN;
    s->tries = 0;
    buf_append_slice(&s->payload, dump.text);
    return VALUE_READ;
}

static void take_value(struct stage *s, struct slice replies, enum stage_phase next,
                       enum stage_phase otherwise)
{
    switch (read_value(s, replies)) {
    case VALUE_READ:
        s->phase = next;
        break;
    case VALUE_AGAIN:
        break;
    case VALUE_BAD:
        fail(s,
             SLICE("the target answered DUMP or the question for its expiry with something else"),
             otherwise);
        break;
    case VALUE_TOO_BIG:
        fail(
            s,
            SLICE("the value of a key that it reads is too big to be copied to the slot of the key "
                  "that it writes"),
            otherwise);
        break;
    }
}

// The phase after a step that was carried out without an error.
static void go_on(struct stage *s, struct slice replies)
{
    switch (s->phase) {
    case STAGE_READ:
        take_value(s, replies, STAGE_WRITE, STAGE_CLEAN);
        break;
    case STAGE_WRITE:
        s->phase = ++s->at < s->keys_n ? STAGE_READ : STAGE_COMPUTE;
        s->at %= s->keys_n;
        break;
    case STAGE_COMPUTE:
        s->applied = true;
        s->phase = s->drained >= 0 ? STAGE_READ_BACK : STAGE_CLEAN;
        break;
    case STAGE_READ_BACK:
        take_value(s, replies, STAGE_WRITE_BACK, STAGE_END);
        break;
    case STAGE_WRITE_BACK:
        s->phase = STAGE_CLEAN;
        break;
    case STAGE_CLEAN:
    case STAGE_END:
        s->phase = STAGE_END;
        break;
    }
}

static void take_answer(struct stage *s, const struct stage_answer *a)
{
    struct slice error = a->refused.n ? a->refused : error_in(a->replies);
    bool recorded = s->phase == STAGE_COMPUTE || s->phase == STAGE_WRITE_BACK;
    if (error.n && (a->refused.n || !recorded)) {
        fail(s, error, s->phase == STAGE_CLEAN || is_back(s) ? STAGE_END : STAGE_CLEAN);
        return;
    }
    // The record says that it is dealt with, so what is left is done as if it had succeeded.
    note(s, error);
    go_on(s, a->replies);
}

void stage_next(struct stage *s, const struct stage_answer *answer, struct stage_step *out)
{
    if (answer)
        take_answer(s, answer);
    make_step(s, out);
}

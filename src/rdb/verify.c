// SPDX-License-Identifier: Apache-2.0
// Reads every value to its last byte. The reader finds what is broken in the structure of the file
// and of its encodings; what a server relies on beyond that is checked here.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/mem.h"
#include "codec/rdb_types.h"
#include "rdb/commands.h"
#include "rdb/input.h"
#include "rdb/verb.h"

#define SEEN_MAX ((size_t)1 << 18)    // members compared with each other; the table takes 12 MiB
#define VALUE_WHOLE ((size_t)4 << 20) // a value up to this size can be passed over if it is bad
#define PIECE ((size_t)256 << 10)

// A set of strings by their hashes, each with the round that it was added in.
struct seen {
    struct seen_slot {
        XXH128_hash_t hash;
        uint64_t round;
    } * slots; // owns
    size_t cap, n;
    uint64_t round;
};

struct previous {
    struct buf text; // member
    int64_t number;
    double score;
    uint64_t ms, seq, entries;
    bool any;
};

struct verify {
    const char *file;
    struct rdb_input *in;
    bool all, quiet;
    uint64_t keys, functions, bad, unchecked;
    struct seen members;
    struct previous last; // element of the value that is read
    struct rdb_unknown unknown;
};

static void seen_grow(struct seen *s)
{
    struct seen_slot *old = s->slots;
    size_t old_cap = s->cap;
    s->cap = old_cap ? old_cap * 2 : 1024;
    s->slots = xcalloc(s->cap, sizeof(*s->slots));
    for (size_t i = 0; i < old_cap; i++) {
        if (old[i].round != s->round)
            continue;
        size_t at = old[i].hash.low64 & (s->cap - 1);
        while (s->slots[at].round == s->round)
            at = (at + 1) & (s->cap - 1);
        s->slots[at] = old[i];
    }
    free(old);
}

// True when it was there already. Past SEEN_MAX nothing is added.
static bool seen_add(struct seen *s, struct slice member)
{
    if (s->n >= SEEN_MAX)
        return false;
    if (s->n * 2 >= s->cap)
        seen_grow(s);
    XXH128_hash_t hash = XXH3_128bits(member.p, member.n);
    size_t at = hash.low64 & (s->cap - 1);
    for (; s->slots[at].round == s->round; at = (at + 1) & (s->cap - 1))
        if (XXH128_isEqual(s->slots[at].hash, hash))
            return true;
    s->slots[at] = (struct seen_slot){hash, s->round};
    s->n++;
    return false;
}

static void seen_clear(struct seen *s)
{
    s->round++;
    s->n = 0;
}

static int bad(const struct rdb_item *item, struct err *e, const char *what)
{
    char key[80];
    size_t n = item->key.n < sizeof(key) - 1 ? item->key.n : sizeof(key) - 1;
    for (size_t i = 0; i < n; i++)
        key[i] = item->key.p[i] >= 32 && item->key.p[i] < 127 ? item->key.p[i] : '?';
    key[n] = '\0';
    return err_set(e, ERR_CORRUPT, "byte %llu, db %d, key '%s': %s",
                   (unsigned long long)item->value_start, item->db, key, what);
}

static int check_order(struct verify *v, const struct rdb_item *item, const struct rdb_type *type,
                       const struct rdb_element *el, struct err *e)
{
    struct previous *last = &v->last;
    int64_t number = 0;
    bool intset = type->walk[0] == 'B' && type->packed == PACKED_INTSET;
    bool packed_zset = item->object == RDB_OBJ_ZSET && type->walk[0] == 'B';
    if (intset) {
        if (!slice_i64(el->value, &number) || (last->any && number <= last->number))
            return bad(item, e, "the numbers of the intset are not in order");
        last->number = number;
    }
    if (packed_zset) {
        struct slice before = buf_slice(&last->text);
        if (last->any && (el->score < last->score ||
                          (el->score == last->score && slice_cmp(el->value, before) <= 0)))
            return bad(item, e,
                       "the members of the sorted set are not in the order of their scores");
        last->score = el->score;
        buf_clear(&last->text);
        buf_append_slice(&last->text, el->value);
    }
    last->any = true;
    return 0;
}

static int check_stream(struct verify *v, const struct rdb_item *item, const struct rdb_element *el,
                        struct err *e)
{
    struct previous *last = &v->last;
    switch ((enum rdb_stream_step)el->stream_step) {
    case RDB_STREAM_ENTRY:
        if (last->any &&
            (el->id_ms < last->ms || (el->id_ms == last->ms && el->id_seq <= last->seq)))
            return bad(item, e, "the entries of the stream are not in the order of their IDs");
        last->ms = el->id_ms;
        last->seq = el->id_seq;
        last->entries++;
        last->any = true;
        return 0;
    case RDB_STREAM_META:
        if (el->length != last->entries)
            return bad(item, e, "the stream's length is not the number of its entries");
        if (last->any &&
            (el->id_ms < last->ms || (el->id_ms == last->ms && el->id_seq < last->seq)))
            return bad(item, e, "the stream has an entry behind its last ID");
        seen_clear(&v->members);
        return 0;
    case RDB_STREAM_GROUP:
        return seen_add(&v->members, el->value) ? bad(item, e, "two groups have one name") : 0;
    default:
        return 0;
    }
}

static int check_element(struct verify *v, const struct rdb_item *item, const struct rdb_type *type,
                         const struct rdb_element *el, struct err *e)
{
    switch (item->object) {
    case RDB_OBJ_HASH:
        return seen_add(&v->members, el->field) ? bad(item, e, "a field is there twice") : 0;
    case RDB_OBJ_SET:
    case RDB_OBJ_ZSET:
        if (check_order(v, item, type, el, e))
            return ERR_CORRUPT;
        return seen_add(&v->members, el->value) ? bad(item, e, "a member is there twice") : 0;
    case RDB_OBJ_STREAM:
        return check_stream(v, item, el, e);
    default:
        return 0;
    }
}

static int check_elements(struct verify *v, const struct rdb_item *item, struct err *e)
{
    const struct rdb_type *type = rdb_type_find(item->type, rdb_is_valkey(rdb_input_reader(v->in)));
    struct rdb_element el;
    uint64_t n = 0;
    int rc;
    buf_clear(&v->last.text);
    v->last = (struct previous){.text = v->last.text};
    seen_clear(&v->members);
    while ((rc = rdb_input_element(v->in, PIECE, &el, e)) == RDB_ITEM) {
        n++;
        rc = check_element(v, item, type, &el, e);
        if (rc) {
            err_wrap(e, "%s", rdb_input_name(v->in));
            return rc;
        }
    }
    if (rc == RDB_DONE && n == 0 && item->object < RDB_OBJ_STREAM) {
        bad(item, e, "the value has no elements, and a server that loads the file drops it");
        err_wrap(e, "%s", rdb_input_name(v->in));
        return ERR_CORRUPT;
    }
    v->unchecked += v->members.n >= SEEN_MAX;
    return rc < 0 ? rc : 0;
}

// *next: where the value ends, if that is known and a bad one can be passed over; else 0.
static int check_value(struct verify *v, const struct rdb_item *item, uint64_t *next, struct err *e)
{
    struct slice raw;
    *next = 0;
    if (item->object == RDB_OBJ_MODULE)
        return rdb_input_skip(v->in, e) < 0 ? e->code : 0;
    if (v->all) {
        int rc = rdb_input_raw(v->in, VALUE_WHOLE, &raw, e);
        if (rc < 0)
            return rc;
        if (rc == RDB_ITEM) {
            *next = item->value_start + raw.n;
            rdb_input_again(v->in);
        }
    }
    return check_elements(v, item, e);
}

static void report(struct verify *v, const struct err *e)
{
    verb_failed("verify", e);
    v->bad++;
}

// What follows the RDB data is no part of it, but a reader should know.
static int finish(struct verify *v, struct err *e)
{
    uint64_t rest;
    int rc = rdb_input_rest(v->in, &rest, e);
    if (rc || v->quiet || v->bad)
        return rc;
    struct rdb_reader *r = rdb_input_reader(v->in);
    printf("%s: sound: %s RDB version %d, %llu keys, %llu functions, checksum %s\n",
           rdb_input_name(v->in), rdb_is_valkey(r) ? "Valkey" : "Redis", rdb_version(r),
           (unsigned long long)v->keys, (unsigned long long)v->functions,
           rdb_input_has_checksum(v->in) ? "right" : "not stored");
    if (v->unchecked)
        printf("%s: note: %llu values with more than %zu elements were searched for duplicates "
               "only that far\n",
               rdb_input_name(v->in), (unsigned long long)v->unchecked, SEEN_MAX);
    if (rest)
        printf("%s: note: %llu bytes follow the RDB data\n", rdb_input_name(v->in),
               (unsigned long long)rest);
    return 0;
}

static int verify_items(struct verify *v, struct err *e)
{
    struct rdb_item item;
    int rc;
    while ((rc = rdb_input_next(v->in, &item, e)) == RDB_ITEM) {
        uint64_t next = 0;
        v->functions += item.kind == RDB_KIND_FUNCTION;
        if (item.kind != RDB_KIND_KEY)
            continue;
        v->keys++;
        rc = check_value(v, &item, &next, e);
        if (rc == 0)
            continue;
        if (!next)
            return rc;
        report(v, e);
        rdb_input_resume(v->in, next, item.db);
    }
    return rc < 0 ? rc : finish(v, e);
}

static int verify_file(struct verify *v)
{
    struct rdb_input_options o = {.check_crc = true, .unknown = &v->unknown};
    struct err e = {0};
    v->keys = v->functions = v->bad = v->unchecked = 0;
    int rc = rdb_input_open(&v->in, v->file, &o, &e);
    if (rc == 0)
        rc = verify_items(v, &e);
    if (rc)
        report(v, &e);
    rdb_input_close(v->in);
    return v->bad ? EXIT_FAILED : EXIT_FINE;
}

static const char help[] =
    "usage: gunyu rdb verify [OPTIONS] FILE...\n"
    "Reads RDB files to their last byte: structure, encodings, order, duplicates, checksum. What "
    "is\n"
    "bad is reported with its byte, db and key. FILE may be \"-\", and compressed by gzip, zstd, "
    "lz4.\n"
    "\n"
    "  --all        go on behind a bad value where its end is certain (up to 4 MiB)\n"
    "  -q, --quiet  say nothing of sound files\n"
    "\n"
    "Exit code: 0 all files are sound; 1 one is not or cannot be read; 2 usage.\n"
    "\n";

static const struct option options[] = {
    {"all", no_argument, NULL, 'a'},
    {"quiet", no_argument, NULL, 'q'},
    {0},
};

static int take_option(void *job, int c, const char *arg)
{
    (void)arg;
    struct verify *v = job;
    v->all = v->all || c == 'a';
    v->quiet = v->quiet || c == 'q';
    return EXIT_FINE;
}

int rdb_verify_main(int argc, char **argv)
{
    struct verify v = {.members = {.round = 1}};
    const struct verb_syntax syntax = {
        .own = options, .take = take_option, .help = help, .unknown = &v.unknown};
    int code = verb_parse(&syntax, &v, argc, argv);
    if (code >= 0)
        return code;
    if (optind == argc)
        return verb_usage("verify", "which file? (\"-\" is standard input)");
    code = EXIT_FINE;
    for (; optind < argc; optind++) {
        v.file = argv[optind];
        if (verify_file(&v) != EXIT_FINE)
            code = EXIT_FAILED;
    }
    if (fflush(stdout) || ferror(stdout)) {
        struct err e;
        err_sys(&e, -errno, "standard output: cannot write");
        code = verb_failed("verify", &e);
    }
    verb_skipped("verify", &v.unknown);
    buf_free(&v.last.text);
    free(v.members.slots);
    return code;
}

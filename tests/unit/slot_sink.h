// SPDX-License-Identifier: Apache-2.0
// A sink over several masters that each own a part of the slots, for tests of what sends through
// one: every unit's keys must lie in the slot that it was begun with.
#ifndef GUNYU_TESTS_SLOT_SINK_H
#define GUNYU_TESTS_SLOT_SINK_H

#include "codec/cmdtable.h"
#include "codec/slot.h"
#include "server.h"
#include "target_world.h"

enum { SLOT_NODES = 2 };

struct slot_sink;
struct slot_node {
    struct slot_sink *of;
    struct batcher *b;
    struct batch_mark acked;
    bool has_acked;
    uint64_t units, cmds;
};

struct slot_sink {
    struct sink sink;
    struct slot_node nodes[SLOT_NODES];
    const struct sink_events *events; // the owner's
    void *ctx;
    struct outq out; // of the unit
    uint64_t refs[1024];
    uint32_t refs_n;
    bool in_unit;
    int slot, node;
    uint32_t begins, refuse_every; // of so many begins one is refused; 0: none
    uint64_t many_keys;            // commands with several keys
    void (*seen)(int slot, int argc, const struct slice *argv);
};

static inline int slot_node_of(int slot)
{
    return slot * SLOT_NODES / SLOT_COUNT;
}

static inline struct slot_sink *slot_sink_of(struct sink *s)
{
    return (struct slot_sink *)s;
}

static inline uint64_t slot_progress(const struct batch_mark *m)
{
    return m->loading ? m->rdb_index : m->offset;
}

static inline void slot_acked(void *ctx, const struct batch_mark *mark, bool stored)
{
    struct slot_node *n = ctx;
    struct slot_sink *s = n->of;
    struct buf position = {0};
    int db = 0;
    (void)stored;
    if (n->has_acked && slot_progress(mark) <= slot_progress(&n->acked))
        return; // of a position that was placed earlier
    n->acked = *mark;
    n->has_acked = true;
    const struct batch_mark *least = mark;
    for (int i = 0; i < SLOT_NODES; i++) {
        if (!s->nodes[i].has_acked)
            return;
        if (slot_progress(&s->nodes[i].acked) < slot_progress(least))
            least = &s->nodes[i].acked;
    }
    s->events->put_position(s->ctx, least, &position, &db);
    buf_free(&position);
    s->events->acked(s->ctx, least, true);
}

static inline void slot_cmd_failed(void *ctx, uint64_t ref, struct slice text, bool in_exec)
{
    struct slot_sink *s = ((struct slot_node *)ctx)->of;
    // The commands are already known to be where they belong.
    assert_false(slice_has_prefix(text, SLICE("MOVED")) ||
                 slice_has_prefix(text, SLICE("CROSSSLOT")));
    s->events->cmd_failed(s->ctx, ref, text, in_exec);
}

static inline void slot_cmd_empty(void *ctx, uint64_t ref)
{
    struct slot_sink *s = ((struct slot_node *)ctx)->of;
    s->events->cmd_empty(s->ctx, ref);
}

static inline void slot_failed(void *ctx, uint64_t ref, const struct err *why)
{
    struct slot_sink *s = ((struct slot_node *)ctx)->of;
    s->events->failed(s->ctx, ref, why);
}

static inline int slot_put_position(void *ctx, const struct batch_mark *m, struct buf *out, int *db)
{
    (void)ctx, (void)m, (void)db;
    resp_put_cmd(out, "PING");
    return 1;
}

static inline void slot_has_room(void *ctx)
{
    struct slot_sink *s = ((struct slot_node *)ctx)->of;
    s->events->room(s->ctx);
}

static const struct sink_events slot_events = {
    .acked = slot_acked,
    .cmd_failed = slot_cmd_failed,
    .cmd_empty = slot_cmd_empty,
    .failed = slot_failed,
    .put_position = slot_put_position,
    .room = slot_has_room,
};

static inline bool slot_refuses(struct slot_sink *s)
{
    return s->refuse_every && ++s->begins % s->refuse_every == 0;
}

static inline bool slot_room(struct sink *sink)
{
    struct slot_sink *s = slot_sink_of(sink);
    for (int i = 0; i < SLOT_NODES; i++)
        if (!batcher_room(s->nodes[i].b))
            return false;
    return s->in_unit || !slot_refuses(s);
}

static inline int slot_nodes(const struct sink *s)
{
    (void)s;
    return SLOT_NODES;
}

static inline bool slot_unit_begin(struct sink *sink, int slot, bool wrapped)
{
    struct slot_sink *s = slot_sink_of(sink);
    assert_false(s->in_unit);
    assert_true(slot < SLOT_COUNT && slot > sink_to_node(SLOT_NODES));
    if (wrapped && slot_refuses(s))
        return false;
    s->slot = slot;
    s->node = slot >= 0 ? slot_node_of(slot) : slot == SINK_ANY_NODE ? 0 : -2 - slot;
    // A transaction takes keys of one slot.
    if (!batcher_unit_begin(s->nodes[s->node].b, wrapped, wrapped))
        return false;
    s->in_unit = true;
    return true;
}

static inline void slot_select(struct sink *s, int db, uint64_t ref)
{
    (void)ref;
    assert_true(slot_sink_of(s)->in_unit);
    assert_int_equal(db, 0);
}

static inline struct outq *slot_out(struct sink *s)
{
    assert_true(slot_sink_of(s)->in_unit);
    return &slot_sink_of(s)->out;
}

static inline void slot_cmd(struct sink *sink, uint64_t ref)
{
    struct slot_sink *s = slot_sink_of(sink);
    assert_true(s->in_unit && s->refs_n < sizeof(s->refs) / sizeof(s->refs[0]));
    s->refs[s->refs_n++] = ref;
}

static inline void slot_check(struct slot_sink *s, int argc, const struct slice *argv)
{
    const struct cmd_info *info = cmd_lookup(argc, argv);
    int *at = malloc((size_t)argc * sizeof(*at));
    assert_non_null(info);
    int keys = cmd_keys(info, argc, argv, at);
    assert_true(keys >= 0);
    if ((keys == 0) != (s->slot < 0))
        fail_msg("%.*s with %d keys in slot %d", (int)argv[0].n, argv[0].p, keys, s->slot);
    for (int i = 0; i < keys; i++)
        if (slot_of(argv[at[i]]) != s->slot)
            fail_msg("%.*s of \"%.*s\", which is of slot %d, in slot %d", (int)argv[0].n, argv[0].p,
                     (int)(argv[at[i]].n < 100 ? argv[at[i]].n : 100), argv[at[i]].p,
                     slot_of(argv[at[i]]), s->slot);
    s->many_keys += keys > 1;
    if (s->seen)
        s->seen(s->slot, argc, argv);
    free(at);
}

// Moves the unit into its node's batcher.
static inline void slot_unit_end(struct sink *sink, const struct batch_mark *mark)
{
    struct slot_sink *s = slot_sink_of(sink);
    struct slot_node *n = &s->nodes[s->node];
    struct resp_cmd c = {0};
    struct buf all = {0};
    assert_true(s->in_unit);
    while (s->out.bytes) {
        struct iovec v;
        assert_int_equal(outq_iov(&s->out, &v, 1), 1);
        buf_append(&all, v.iov_base, v.iov_len);
        outq_sent(&s->out, v.iov_len);
    }
    size_t at = 0;
    for (uint32_t i = 0; i < s->refs_n; i++) {
        assert_int_equal(resp_cmd_parse(&c, all.p + at, all.n - at), 1);
        slot_check(s, c.argc, c.argv);
        outq_put(batcher_out(n->b), all.p + at, c.len);
        batcher_cmd(n->b, s->refs[i]);
        at += c.len;
    }
    assert_int_equal(at, all.n);
    n->units++;
    n->cmds += s->refs_n;
    s->refs_n = 0;
    s->in_unit = false;
    buf_free(&all);
    resp_cmd_free(&c);
    batcher_unit_end(n->b, mark);
    for (int i = 0; i < SLOT_NODES; i++)
        if (i != s->node)
            batcher_skip_to(s->nodes[i].b, mark);
}

static inline void slot_skip_to(struct sink *s, const struct batch_mark *mark)
{
    for (int i = 0; i < SLOT_NODES; i++)
        batcher_skip_to(slot_sink_of(s)->nodes[i].b, mark);
}

static inline void slot_store_position(struct sink *s)
{
    (void)s;
}

static inline void slot_flush(struct sink *s)
{
    for (int i = 0; i < SLOT_NODES; i++)
        batcher_flush(slot_sink_of(s)->nodes[i].b);
}

static inline bool slot_idle(const struct sink *sink)
{
    const struct slot_sink *s = (const struct slot_sink *)sink;
    for (int i = 0; i < SLOT_NODES; i++)
        if (!batcher_idle(s->nodes[i].b))
            return false;
    return !s->in_unit;
}

static inline bool slot_attached(const struct sink *sink)
{
    const struct slot_sink *s = (const struct slot_sink *)sink;
    for (int i = 0; i < SLOT_NODES; i++)
        if (!batcher_attached(s->nodes[i].b))
            return false;
    return true;
}

static inline void slot_stop(struct sink *s)
{
    for (int i = 0; i < SLOT_NODES; i++)
        batcher_stop(slot_sink_of(s)->nodes[i].b);
}

static inline void slot_detach(struct sink *sink)
{
    struct slot_sink *s = slot_sink_of(sink);
    for (int i = 0; i < SLOT_NODES; i++) {
        batcher_detach(s->nodes[i].b);
        s->nodes[i].has_acked = false;
    }
    outq_free(&s->out);
    s->in_unit = false;
    s->refs_n = 0;
}

static inline void slot_get_stats(const struct sink *s, struct sink_stats *out)
{
    batcher_get_stats(((const struct slot_sink *)s)->nodes[0].b, out);
}

static inline void slot_free(struct sink *sink)
{
    struct slot_sink *s = slot_sink_of(sink);
    slot_detach(sink);
    for (int i = 0; i < SLOT_NODES; i++)
        batcher_free(s->nodes[i].b);
}

static const struct sink_ops slot_ops = {
    .room = slot_room,
    .nodes = slot_nodes,
    .unit_begin = slot_unit_begin,
    .select = slot_select,
    .out = slot_out,
    .cmd = slot_cmd,
    .unit_end = slot_unit_end,
    .skip_to = slot_skip_to,
    .store_position = slot_store_position,
    .flush = slot_flush,
    .idle = slot_idle,
    .attached = slot_attached,
    .stop = slot_stop,
    .detach = slot_detach,
    .get_stats = slot_get_stats,
    .free = slot_free,
};

// Takes the place of the world's sink. o: loop, events and ctx are filled in. Freed by sink_free; s
// itself is the caller's.
static inline void slot_sink_init(struct slot_sink *s, struct world *w, struct batcher_options o)
{
    memset(s, 0, sizeof(*s));
    s->sink.ops = &slot_ops;
    s->events = &world_events;
    s->ctx = w;
    w->sink = &s->sink;
    o.loop = &w->loop;
    o.events = &slot_events;
    for (int i = 0; i < SLOT_NODES; i++) {
        s->nodes[i].of = s;
        o.ctx = &s->nodes[i];
        s->nodes[i].b = batcher_new(&o);
    }
}

// ---- the masters ----

static struct server slot_servers[SLOT_NODES];
static struct redis_client *slot_clients[SLOT_NODES];

// It has heard of all slots.
static inline bool slot_server_ready(struct redis_client *c)
{
    struct redis_reply r;
    must(redis_call(c, &r, NULL, "CLUSTER INFO") == 0);
    return memmem(r.root.text.p, r.root.text.n, "cluster_state:ok", 16) &&
           memmem(r.root.text.p, r.root.text.n, "cluster_slots_assigned:16384", 28);
}

// Each serves its own slots and refuses all others.
static inline void slot_servers_start(void)
{
    char port[8];
    const char *const options[] = {"--cluster-enabled",
                                   "yes",
                                   "--cluster-require-full-coverage",
                                   "no",
                                   "--enable-debug-command",
                                   "yes",
                                   "--cluster-port",
                                   port,
                                   NULL};
    for (int i = 0; i < SLOT_NODES; i++) {
        server_init(&slot_servers[i]);
        snprintf(port, sizeof(port), "%u", (unsigned)slot_servers[i].tls_port);
        server_start(&slot_servers[i], options);
        must(redis_connect(&slot_clients[i], &slot_servers[i].endpoint, 20000, NULL) == 0);
        must(redis_call(slot_clients[i], NULL, NULL, "CLUSTER ADDSLOTSRANGE %d %d",
                        i * SLOT_COUNT / SLOT_NODES, (i + 1) * SLOT_COUNT / SLOT_NODES - 1) == 0);
    }
    for (int i = 1; i < SLOT_NODES; i++)
        must(redis_call(slot_clients[0], NULL, NULL, "CLUSTER MEET 127.0.0.1 %d %d",
                        (int)slot_servers[i].port, (int)slot_servers[i].tls_port) == 0);
    uint64_t deadline = clock_mono_us() + 20 * 1000 * 1000;
    for (int i = 0; i < SLOT_NODES; i++)
        while (!slot_server_ready(slot_clients[i])) {
            must(clock_mono_us() < deadline);
            usleep(20000);
        }
}

static inline void slot_servers_stop(void)
{
    for (int i = 0; i < SLOT_NODES; i++) {
        redis_close(slot_clients[i]);
        server_stop(&slot_servers[i]);
    }
}

static inline void slot_sink_attach(struct slot_sink *s)
{
    for (int i = 0; i < SLOT_NODES; i++) {
        struct conn *c;
        must(conn_dial(&c, &slot_servers[i].endpoint, 5000, NULL) == 0);
        batcher_attach(s->nodes[i].b, c, 0);
    }
}

#endif

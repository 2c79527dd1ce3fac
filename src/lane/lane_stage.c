// SPDX-License-Identifier: Apache-2.0
// Commands whose keys lie in several slots of the target: the steps of target/stage.h, one after
// another on a thread of the pool, over connections of their own to the masters. They are kept for
// the next such command, until the target is let go.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "lane/lane_stage_int.h"

enum {
    LOOK_MS = 100,        // whether it is cancelled
    REPLICAS_MS = 1000,   // a replica further behind is not waited for
    KEEP_BYTES = 1 << 20, // buffers that grew beyond are not kept
};

static void nodes_free(struct lane_node *nodes, int n)
{
    for (int i = 0; i < n; i++) {
        redis_close(nodes[i].client);
        endpoint_free(&nodes[i].endpoint);
    }
    free(nodes);
}

void lane_stage_attach(struct lane *l, struct target_result *r)
{
    must(!l->stage && !l->staging);
    struct lane_stage *s = xcalloc(1, sizeof(*s));
    s->work.data = s;
    s->lane = l;
    struct endpoint *endpoints = l->router ? r->masters.endpoints : &r->endpoint;
    s->nodes_n = l->router ? (int)r->masters.n : 1;
    s->nodes = xcalloc((size_t)s->nodes_n, sizeof(*s->nodes));
    for (int i = 0; i < s->nodes_n; i++) {
        s->nodes[i].endpoint = endpoints[i];
        endpoints[i] = (struct endpoint){0};
    }
    s->marks_id = l->marks_id;
    s->has_expiretime = l->server.is_valkey || l->server.version >= 70000;
    s->imports = l->target_imports;
    // Temporary keys must be found again by a later process.
    snprintf(s->tag, sizeof(s->tag), "%llu", (unsigned long long)s->marks_id);
    translate_init(&s->words, &(struct translate_options){.databases = l->server.databases,
                                                          .target_version = l->server.version,
                                                          .target_is_valkey = l->server.is_valkey,
                                                          .source_is_valkey = l->source_is_valkey});
    l->stage = s;
}

static void stage_let_go(struct lane_stage *s)
{
    nodes_free(s->nodes, s->nodes_n);
    stage_free(&s->stage);
    translate_free(&s->words);
    free(s->owners);
    buf_free(&s->text);
    buf_free(&s->replies);
    buf_free(&s->refused);
    lane_extra_job_free(s->extra);
    free(s);
}

void lane_stage_let_go(struct lane *l)
{
    struct lane_stage *s = l->stage;
    l->stage = NULL;
    if (s && l->staging)
        s->cancel = true; // its end frees it
    else if (s)
        stage_let_go(s);
}

// ---- on the pool: connections ----

static int count_replicas(struct lane_node *n, struct redis_client *c, struct err *e)
{
    struct redis_reply reply;
    struct slice number;
    n->replicas = 0;
    int rc = redis_call(c, &reply, e, "INFO replication");
    if (rc == 0 && redis_info_field(reply.root.text, "connected_slaves", &number))
        (void)slice_i64(number, &n->replicas);
    return rc == ERR_REPLY ? 0 : rc;
}

static int reach(struct lane_stage *s, struct lane_node *n, struct err *e)
{
    struct redis_client *c;
    int rc = redis_connect(&c, &n->endpoint, STAGE_TIMEOUT_MS, e);
    fault_point("stage.connected");
    if (rc)
        return rc;
    rc = redis_call(c, NULL, e, "CLIENT SETNAME %s", s->pass.name);
    if (rc == 0 || rc == ERR_REPLY)
        rc = lane_pass_check(&s->pass, c, e);
    if (rc == 0)
        rc = count_replicas(n, c, e);
    if (rc == 0 && s->imports)
        rc = redis_call(c, NULL, e, "CLIENT IMPORT-SOURCE ON");
    if (rc && rc != ERR_REPLY) {
        redis_close(c);
        return rc;
    }
    n->client = c;
    n->db = 0;
    return 0;
}

int lane_stage_reach(struct lane_stage *s, struct lane_node *n)
{
    return n->client ? 0 : reach(s, n, &s->err);
}

static struct lane_node *owner_of(const struct lane_stage *s, int slot)
{
    for (int i = 0; i < s->owners_n; i++)
        if (s->owners[i].slot == slot)
            return &s->nodes[s->owners[i].node];
    return NULL;
}

// The master of the step's slot, connected and in the command's db.
static int ready_node(struct lane_stage *s, struct redis_client **c)
{
    struct lane_node *n = owner_of(s, s->step.slot);
    must(n);
    int rc = lane_stage_reach(s, n);
    if (rc == 0 && n->db != s->db)
        rc = redis_call(n->client, NULL, &s->err, "SELECT %d", s->db);
    if (rc) {
        char name[300];
        err_wrap(&s->err, "node %s", endpoint_name(&n->endpoint, name, sizeof(name)));
        return rc;
    }
    n->db = s->db;
    *c = n->client;
    return 0;
}

// ---- on the pool: steps ----

// In the target's words. false: it has none; the answer says so.
static bool put_command(struct lane_stage *s, const struct rewrite_cmd *c, int *replies)
{
    int n = translate_known_of(&s->words, c->argc, c->argv);
    for (int i = 0; i < n; i++) {
        struct rewrite_cmd known = translate_known_get(&s->words, i);
        resp_put_argv(&s->text, known.argc, known.argv);
    }
    if (n < 0)
        s->answer.refused = slice_cstr(s->words.reason);
    *replies += n;
    return n >= 0;
}

static bool put_step(struct lane_stage *s, int *replies)
{
    const struct stage_step *step = &s->step;
    *replies = step->record ? 2 : 0; // of MULTI and EXEC
    buf_clear(&s->text);
    if (step->record)
        resp_put_cmd(&s->text, "MULTI");
    for (int i = 0; i < step->n; i++) {
        if (step->is_command && !put_command(s, &step->cmds[i], replies))
            return false;
        if (!step->is_command) {
            resp_put_argv(&s->text, step->cmds[i].argc, step->cmds[i].argv);
            ++*replies;
        }
    }
    if (step->record) {
        *replies += router_put_mark(s->marks_id, step->slot, s->end, s->db, &s->text);
        resp_put_cmd(&s->text, "EXEC");
    }
    return true;
}

static int receive(struct lane_stage *s, struct redis_client *c, struct redis_reply *reply)
{
    int rc = 0;
    for (int waited = 0; rc == 0; waited += LOOK_MS) {
        if (s->cancel)
            return err_set(&s->err, ERR_CLOSED, "the target was let go");
        if (waited >= STAGE_TIMEOUT_MS)
            return err_set(&s->err, ERR_TIMEOUT, "no answer for %d s", STAGE_TIMEOUT_MS / 1000);
        rc = redis_wait(c, LOOK_MS, &s->err);
    }
    return rc < 0 ? rc : redis_receive(c, reply, &s->err);
}

static void refused(struct lane_stage *s, struct slice why)
{
    if (s->refused.n == 0)
        buf_append_slice(&s->refused, why.n ? why : SLICE("an error without words"));
}

// The first reply that refuses something makes it clear what may pass and what stays.
static int take_replies(struct lane_stage *s, struct redis_client *c, int n)
{
    bool record = s->step.record;
    buf_clear(&s->replies);
    buf_clear(&s->refused);
    for (int i = 0; i < n; i++) {
        struct redis_reply reply = {0};
        int rc = receive(s, c, &reply);
        if (rc)
            return rc;
        bool last = record && i == n - 1;
        if (reply.root.type == RESP_ERROR)
            refused(s, reply.root.text);
        else if (last && reply.root.type != RESP_ARRAY)
            refused(s, SLICE("ERR EXEC was answered with something else than replies"));
        if (!record)
            buf_append(&s->replies, reply.p, reply.n);
        else if (last)
            buf_append(&s->replies, reply.p + reply.first_child, reply.n - reply.first_child);
    }
    s->big = s->big || s->replies.n > KEEP_BYTES;
    s->answer = (struct stage_answer){.replies = buf_slice(&s->replies)};
    if (record)
        s->answer.refused = buf_slice(&s->refused);
    return 0;
}

static bool is_moving(struct slice text)
{
    return slice_has_prefix(text, SLICE("ASK ")) || slice_has_prefix(text, SLICE("TRYAGAIN"));
}

static int try_step(struct lane_stage *s)
{
    struct redis_client *c;
    int n, rc = ready_node(s, &c);
    if (rc)
        return rc;
    s->answer = (struct stage_answer){0};
    buf_clear(&s->refused);
    if (!put_step(s, &n))
        return 0;
    if (s->step.is_command)
        fault_point("stage.copied");
    rc = redis_send(c, buf_slice(&s->text), &s->err);
    fault_point("stage.sent");
    if (rc == 0)
        rc = take_replies(s, c, n);
    s->big = s->big || s->text.n > KEEP_BYTES;
    return rc;
}

int lane_stage_await_replicas(struct lane_stage *s, struct lane_node *n)
{
    struct redis_reply reply;
    if (n->replicas <= 0)
        return 0;
    int rc = redis_call(n->client, &reply, &s->err, "WAIT %L %d", n->replicas, REPLICAS_MS);
    n->replicas = rc == 0 && reply.root.num < n->replicas ? reply.root.num : n->replicas;
    if (rc != ERR_REPLY)
        return rc;
    n->replicas = 0;
    return 0;
}

// Nothing of a step that was refused has to be undone, so it may be tried again as it is.
static int carry_out(struct lane_stage *s)
{
    for (int i = 0;; i++) {
        int rc = s->cancel ? err_set(&s->err, ERR_CLOSED, "the target was let go") : try_step(s);
        if (rc)
            return rc;
        struct slice text = buf_slice(&s->refused);
        if (!text.n || !target_error_is_transient(text))
            break;
        if (!is_moving(text) || i == STAGE_AGAIN_TRIES)
            return err_set(&s->err, ERR_REPLY, "%.*s", (int)(text.n < 300 ? text.n : 300), text.p);
        usleep(STAGE_AGAIN_MS * 1000);
    }
    if (!s->step.record)
        return 0;
    fault_point(s->step.is_command ? "stage.applied" : "stage.written");
    return lane_stage_await_replicas(s, owner_of(s, s->step.slot));
}

static void stage_run(uv_work_t *work)
{
    struct lane_stage *s = work->data;
    stage_next(&s->stage, NULL, &s->step);
    while (s->step.kind == STAGE_SEND && s->rc == 0) {
        s->rc = carry_out(s);
        if (s->rc == 0)
            stage_next(&s->stage, &s->answer, &s->step);
    }
}

// ---- in the lane ----

static bool refuse(struct lane *l, uint64_t ref, struct slice reason)
{
    if (lane_refused(l, ref, reason))
        return true;
    // The marks that are known may be outdated; a resume shall read them again.
    lane_drop_target(l);
    return false;
}

static void take_result(struct lane *l, struct lane_stage *s)
{
    if (s->rc && s->cancel) {
        lane_drop_target(l);
        return;
    }
    if (s->rc) {
        lane_sink_events.failed(l, UINT64_MAX, &s->err);
        return;
    }
    s->finished = true;
    s->verdict = APPLY_STAGE_DONE;
    if (s->step.kind == STAGE_DONE)
        return;
    if (s->step.applied)
        lane_sink_events.cmd_failed(l, s->ref, s->step.reason, true);
    else if (refuse(l, s->ref, s->step.reason))
        s->verdict = APPLY_STAGE_REFUSED;
}

static void forget_command(struct lane_stage *s)
{
    stage_free(&s->stage);
    buf_clear(&s->replies);
    if (!s->big)
        return;
    buf_free(&s->text);
    buf_free(&s->replies);
    for (int i = 0; i < s->nodes_n; i++) {
        redis_close(s->nodes[i].client);
        s->nodes[i].client = NULL;
    }
}

static void stage_done(uv_work_t *work, int status)
{
    (void)status;
    struct lane_stage *s = work->data;
    struct lane *l = s->lane;
    l->handles--;
    l->staging = false;
    if (l->stage != s) {
        stage_let_go(s);
        if (l->freed && l->handles == 0)
            lane_free(l); // else the tick dials
        return;
    }
    if (!l->drop_wanted)
        take_result(l, s);
    forget_command(s);
    lane_pump(l);
}

void lane_stage_start(struct lane_stage *s, uint64_t ref, uv_work_cb run)
{
    struct lane *l = s->lane;
    lane_pass_make(l, &s->pass);
    s->ref = ref;
    s->rc = 0;
    s->big = false;
    l->staging = true;
    l->handles++;
    must(uv_queue_work(l->o.loop, &s->work, run, stage_done) == 0);
}

bool lane_stage_result(struct lane_stage *s, uint64_t ref, enum apply_staged *verdict)
{
    bool finished = s->finished && s->ref == ref;
    s->finished = false;
    *verdict = s->verdict;
    return finished;
}

static uint64_t read_mark(void *ctx, int slot)
{
    return router_slot_mark(ctx, slot);
}

static void begin(struct lane *l, struct lane_stage *s, const struct apply_stage *c)
{
    const struct route *r = c->route;
    struct stage_options o = {
        .tag = s->tag, .has_expiretime = s->has_expiretime, .mark = read_mark, .ctx = l->router};
    stage_begin(&s->stage, &o, r, c->argc, c->argv, c->end);
    s->end = c->end;
    s->db = c->db;
    s->owners = xrealloc(s->owners, (size_t)r->slots_n * sizeof(*s->owners));
    s->owners_n = r->slots_n;
    for (int i = 0; i < r->slots_n; i++)
        s->owners[i] =
            (struct slot_owner){r->slots[i].slot, router_owner(l->router, r->slots[i].slot)};
    lane_stage_start(s, c->ref, stage_run);
}

// What comes later in one of its slots was sent when all of it was done.
static bool was_done(const struct lane *l, const struct apply_stage *c)
{
    bool later = false;
    for (int i = 0; i < c->route->slots_n; i++)
        later = later || router_slot_mark(l->router, c->route->slots[i].slot) > c->end;
    return later && router_slot_mark(l->router, c->route->slot) >= c->end;
}

enum apply_staged lane_stage_command(void *ctx, const struct apply_stage *c)
{
    struct lane *l = ctx;
    struct lane_stage *s = l->stage;
    if (l->staging || !s)
        return APPLY_STAGE_WAIT;
    enum apply_staged verdict;
    if (lane_stage_result(s, c->ref, &verdict))
        return verdict;
    if (!was_done(l, c)) {
        begin(l, s, c);
        return APPLY_STAGE_WAIT;
    }
    int drained = c->route->drained;
    if (!drained || router_slot_mark(l->router, slot_of(c->argv[drained])) >= c->end)
        return APPLY_STAGE_DONE;
    // Its temporary keys are gone, and with them what is left of the key that it took from.
    return refuse(l, c->ref,
                  SLICE("a failover lost what the cluster had confirmed of a command over several "
                        "slots: a full sync is needed"))
               ? APPLY_STAGE_REFUSED
               : APPLY_STAGE_STOP;
}

// SPDX-License-Identifier: Apache-2.0
// Slots that move between the shards of a source cluster: the arbiter that their lanes share, the
// maps that it is told, and a thread that asks the masters what it wants to know.
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/supervisor_int.h"
#include "flow/ownership.h"
#include "redis/client.h"

enum {
    ASK_TIMEOUT_MS = 1000,
    REST_MS = 100,       // after a question without an answer
    QUIET_MS = 1000,     // a look while slots move
    SIGN_MS = 300,       // and when a stream says that they do
    JOIN_MS = 10 * 1000, // what is waited for lanes at the start
    CALM_MS = 5 * 1000,  // without a move, until the shards of a group may be led by several nodes
    QUESTIONS = 256,
};

// Of a shard: there is none, another node leads it or nobody does, its lane begins, the arbiter has
// its record, it goes on without the others.
enum seat { SEAT_EMPTY, SEAT_ELSEWHERE, SEAT_WAITS, SEAT_JOINED, SEAT_OPEN };

struct sup_turns {
    struct supervisor *s;
    uv_rwlock_t renewal; // guards the next two
    struct ownership *ownership;
    unsigned generation;          // changes with it
    atomic_bool whole;            // see ownership.h; always without a group
    atomic_bool open;             // whole: the lanes may apply
    atomic_bool used;             // not whole: some lane may have applied, or has a record
    atomic_bool parting;          // not whole any more, and not all records say so yet
    atomic_bool mapped, sign;     // mapped: not whole: the map was told
    atomic_int seat[SUP_SHARDS];  // enum seat
    atomic_bool late[SUP_SHARDS]; // it came when the others had opened without it
    atomic_uint_least64_t began_us;
    int16_t owner[CLUSTER_SLOTS]; // watch thread: the last map
    uint64_t calm_since_us;       // watch thread
    uv_mutex_t lock;              // guards the next two
    uv_cond_t cond;
    bool woken;
    uv_thread_t thread;
    bool started;
    // of the thread
    struct redis_client *client[SUP_SHARDS];
    char address[SUP_SHARDS][300];
};

// ---- asking ----

static void drop_client(struct sup_turns *t, int lane)
{
    redis_close(t->client[lane]);
    t->client[lane] = NULL;
}

// The shard's master, as the last look found it.
static int reach(struct sup_turns *t, int lane, struct err *e)
{
    struct endpoint ep;
    char address[300];
    if (!shard_endpoint(t->s->shards, lane, &ep))
        return err_set(e, ERR_CLOSED, "it has no master");
    endpoint_name(&ep, address, sizeof(address));
    if (t->client[lane] && strcmp(address, t->address[lane]) != 0)
        drop_client(t, lane);
    memcpy(t->address[lane], address, sizeof(address));
    int rc = t->client[lane] ? 0 : redis_connect(&t->client[lane], &ep, ASK_TIMEOUT_MS, e);
    if (rc)
        t->client[lane] = NULL;
    endpoint_free(&ep);
    return rc;
}

static int ask_master(struct sup_turns *t, const struct ownership_question *q, uint64_t *offset,
                      bool *empty, struct err *e)
{
    struct redis_reply reply;
    struct slice role, at;
    *empty = true;
    int rc = reach(t, q->lane, e);
    if (rc == 0 && q->slot >= 0) {
        rc = redis_call(t->client[q->lane], &reply, e, "CLUSTER COUNTKEYSINSLOT %d", q->slot);
        *empty = rc == 0 && reply.root.type == RESP_INTEGER && reply.root.num == 0;
    }
    if (rc == 0)
        rc = redis_call(t->client[q->lane], &reply, e, "INFO replication");
    if (rc)
        return rc;
    if (!redis_info_field(reply.root.text, "role", &role) || !slice_eq(role, SLICE("master")) ||
        !redis_info_field(reply.root.text, "master_repl_offset", &at) || !slice_u64(at, offset))
        return err_set(e, ERR_REPLY, "it is no master now");
    return 0;
}

// The arbiter that asked may be gone.
static void give_answer(struct sup_turns *t, const struct ownership_question *q,
                        unsigned generation, bool answered, uint64_t offset, bool empty)
{
    uv_rwlock_rdlock(&t->renewal);
    if (generation == t->generation && answered)
        ownership_answer(t->ownership, q->id, offset, empty);
    else if (generation == t->generation)
        ownership_no_answer(t->ownership, q->id);
    uv_rwlock_rdunlock(&t->renewal);
}

// Returns whether all were answered.
static bool ask_all(struct sup_turns *t, const struct ownership_question *q, int n,
                    unsigned generation)
{
    bool failed[SUP_SHARDS] = {false}, all = true;
    for (int i = 0; i < n; i++) {
        uint64_t offset = 0;
        bool empty = false;
        struct err e;
        int lane = q[i].lane;
        // One that hangs is not asked again and again while others have to wait.
        if (!failed[lane] && !atomic_load(&t->s->ending) &&
            ask_master(t, &q[i], &offset, &empty, &e) == 0) {
            give_answer(t, &q[i], generation, true, offset, empty);
            continue;
        }
        if (!failed[lane] && !atomic_load(&t->s->ending))
            log_debug(NULL, "%s is not asked how far it is: %s", t->address[lane], e.msg);
        if (!failed[lane])
            drop_client(t, lane);
        failed[lane] = true;
        all = false;
        give_answer(t, &q[i], generation, false, 0, false);
    }
    return all;
}

static void wait_for_questions(struct sup_turns *t)
{
    uv_mutex_lock(&t->lock);
    if (!t->woken && !atomic_load(&t->s->ending))
        uv_cond_timedwait(&t->cond, &t->lock, (uint64_t)QUIET_MS * 1000000);
    t->woken = false;
    uv_mutex_unlock(&t->lock);
}

static void run(void *arg)
{
    struct sup_turns *t = arg;
    static const struct ownership_question none = {0};
    while (!atomic_load(&t->s->ending)) {
        struct ownership_question q[QUESTIONS] = {none};
        int n = 0;
        uv_rwlock_rdlock(&t->renewal);
        unsigned generation = t->generation;
        while (n < QUESTIONS && ownership_question(t->ownership, &q[n]))
            n++;
        uv_rwlock_rdunlock(&t->renewal);
        if (n == 0)
            wait_for_questions(t);
        else if (!ask_all(t, q, n, generation))
            uv_sleep(REST_MS);
    }
    for (int i = 0; i < SUP_SHARDS; i++)
        drop_client(t, i);
}

static void wake(struct sup_turns *t)
{
    uv_mutex_lock(&t->lock);
    t->woken = true;
    uv_cond_signal(&t->cond);
    uv_mutex_unlock(&t->lock);
}

// ---- lanes ----

static int lane_of(void *ctx, struct slice node_id)
{
    struct sup_turns *t = ctx;
    int number = shards_with_node(t->s->shards, node_id);
    return number < SUP_SHARDS ? number : OWNERSHIP_NOBODY;
}

static void name_of(void *ctx, int lane, char *out, size_t cap)
{
    struct sup_turns *t = ctx;
    (void)shard_name_of(t->s->shards, lane, out, cap);
}

static void slots_of(void *ctx, int lane, uint8_t *slots)
{
    struct sup_turns *t = ctx;
    int16_t owner[CLUSTER_SLOTS];
    shards_owners(t->s->shards, owner);
    for (int slot = 0; slot < CLUSTER_SLOTS; slot++)
        if (owner[slot] == lane)
            slot_set_add(slots, slot);
}

static void on_sign(void *ctx)
{
    struct sup_turns *t = ctx;
    wake(t);
    if (!atomic_exchange(&t->sign, true))
        sup_watch_wake(t->s);
}

// A lane that has joined goes on without the others if its record says so.
static void take_seat(struct sup_turns *t, int lane)
{
    int was = SEAT_WAITS;
    bool alone = !atomic_load(&t->whole) && ownership_may_be_alone(t->ownership, lane);
    if (!atomic_compare_exchange_strong(&t->seat[lane], &was, alone ? SEAT_OPEN : SEAT_JOINED))
        return;
    if (alone)
        atomic_store(&t->mapped, false);
    if (alone || ownership_passed_over(t->ownership))
        atomic_store(&t->used, true);
}

static void on_joined(void *ctx, int lane)
{
    struct sup_turns *t = ctx;
    uv_rwlock_rdlock(&t->renewal);
    take_seat(t, lane);
    uv_rwlock_rdunlock(&t->renewal);
    sup_watch_wake(t->s);
}

static bool is_open(void *ctx, int lane)
{
    struct sup_turns *t = ctx;
    return atomic_load(&t->seat[lane]) == SEAT_OPEN ||
           (atomic_load(&t->whole) && atomic_load(&t->open) && !atomic_load(&t->late[lane]));
}

bool sup_turns_is_open(struct supervisor *s, const struct shard *shard)
{
    int lane = shard_number(shard);
    return lane < SUP_SHARDS && is_open(s->turns, lane);
}

void sup_turns_expect(struct supervisor *s, struct shard *shard)
{
    int lane = shard_number(shard);
    if (lane >= SUP_SHARDS)
        return;
    struct sup_turns *t = s->turns;
    uv_rwlock_rdlock(&t->renewal);
    atomic_store(&t->late[lane], ownership_lane_here(t->ownership, lane));
    atomic_store(&t->seat[lane], SEAT_WAITS);
    uv_rwlock_rdunlock(&t->renewal);
}

void sup_turns_elsewhere(struct supervisor *s, struct shard *shard)
{
    int lane = shard_number(shard);
    if (lane >= SUP_SHARDS)
        return;
    uv_rwlock_rdlock(&s->turns->renewal);
    if (atomic_exchange(&s->turns->seat[lane], SEAT_ELSEWHERE) != SEAT_ELSEWHERE)
        ownership_lane_elsewhere(s->turns->ownership, lane);
    uv_rwlock_rdunlock(&s->turns->renewal);
}

int sup_turns_begin(struct supervisor *s, struct shard *shard, struct lane_turns *out,
                    struct err *e)
{
    struct sup_turns *t = s->turns;
    int lane = shard_number(shard);
    if (lane >= SUP_SHARDS)
        return err_set(e, ERR_TOO_BIG, "there have been more than %d shards", SUP_SHARDS);
    uv_rwlock_rdlock(&t->renewal);
    *out = (struct lane_turns){.ownership = t->ownership,
                               .lane = lane,
                               .lane_of = lane_of,
                               .name_of = name_of,
                               .slots_of = slots_of,
                               .sign = on_sign,
                               .joined = on_joined,
                               .open = is_open,
                               .ctx = t};
    uv_rwlock_rdunlock(&t->renewal);
    return 0;
}

void sup_turns_gone(struct supervisor *s, struct shard *shard)
{
    int lane = shard_number(shard);
    if (lane >= SUP_SHARDS)
        return;
    uv_rwlock_rdlock(&s->turns->renewal);
    atomic_store(&s->turns->seat[lane], SEAT_EMPTY);
    ownership_lane_gone(s->turns->ownership, lane);
    uv_rwlock_rdunlock(&s->turns->renewal);
}

// ---- which lanes are here ----

static int count(struct sup_turns *t, enum seat what)
{
    int n = 0;
    for (int i = 0; i < SUP_SHARDS; i++)
        n += atomic_load(&t->seat[i]) == (int)what;
    return n;
}

static bool any_here(struct sup_turns *t)
{
    return count(t, SEAT_WAITS) + count(t, SEAT_JOINED) + count(t, SEAT_OPEN) > 0;
}

static bool any_late(struct sup_turns *t)
{
    bool any = false;
    for (int i = 0; i < SUP_SHARDS && !any; i++)
        any = atomic_load(&t->late[i]) && atomic_load(&t->seat[i]) > SEAT_ELSEWHERE;
    return any;
}

static struct ownership *new_arbiter(struct sup_turns *t, bool whole)
{
    struct ownership *o = ownership_new(SUP_SHARDS, NULL);
    ownership_names(o, lane_of, t);
    if (!whole)
        ownership_hold(o);
    for (int i = 0; i < SUP_SHARDS; i++)
        ownership_lane_gone(o, i);
    return o;
}

bool sup_turns_any_here(struct supervisor *s)
{
    return s->turns && any_here(s->turns);
}

void sup_turns_renew(struct supervisor *s)
{
    struct sup_turns *t = s->turns;
    if (!t)
        return;
    uv_rwlock_wrlock(&t->renewal);
    ownership_free(t->ownership);
    t->ownership = new_arbiter(t, false);
    t->generation++;
    for (int i = 0; i < SUP_SHARDS; i++) {
        if (atomic_load(&t->seat[i]) != SEAT_EMPTY) {
            atomic_store(&t->seat[i], SEAT_ELSEWHERE);
            ownership_lane_elsewhere(t->ownership, i);
        }
        atomic_store(&t->late[i], false);
    }
    atomic_store(&t->whole, false);
    atomic_store(&t->open, false);
    atomic_store(&t->used, false);
    atomic_store(&t->parting, false);
    atomic_store(&t->mapped, false);
    atomic_store(&t->began_us, clock_mono_us());
    uv_rwlock_wrunlock(&t->renewal);
    sup_watch_wake(s);
}

void sup_turns_whole(struct supervisor *s)
{
    struct sup_turns *t = s->turns;
    uv_rwlock_wrlock(&t->renewal);
    // Else a lane has begun to apply just now, or has read its record and not joined yet.
    if (!atomic_load(&t->used) && ownership_whole(t->ownership)) {
        atomic_store(&t->began_us, clock_mono_us());
        atomic_store(&t->whole, true);
    }
    uv_rwlock_wrunlock(&t->renewal);
    sup_watch_wake(s);
}

bool sup_turns_want_all(struct supervisor *s)
{
    struct sup_turns *t = s->turns;
    if (!t || !any_here(t))
        return false;
    uv_rwlock_rdlock(&t->renewal);
    if (atomic_load(&t->parting) && ownership_all_stored(t->ownership))
        atomic_store(&t->parting, false);
    bool want = atomic_load(&t->whole) || atomic_load(&t->parting) || count(t, SEAT_JOINED) ||
                !ownership_quiet(t->ownership);
    uv_rwlock_rdunlock(&t->renewal);
    return want;
}

enum sup_turns_step sup_turns_step(struct supervisor *s)
{
    struct sup_turns *t = s->turns;
    bool whole = atomic_load(&t->whole);
    uv_rwlock_rdlock(&t->renewal);
    bool quiet = ownership_quiet(t->ownership);
    uv_rwlock_rdunlock(&t->renewal);
    // A lane that stores nothing, as one in error, must not keep the others from their turns.
    if (count(t, SEAT_ELSEWHERE) || !any_here(t) || (atomic_load(&t->parting) && quiet))
        return SUP_TURNS_STAY;
    if (whole)
        return any_late(t) ? SUP_TURNS_ANEW : SUP_TURNS_STAY;
    return atomic_load(&t->used) ? SUP_TURNS_ANEW : SUP_TURNS_WHOLE;
}

// ---- maps ----

// The first map is told when all lanes have said how far they are, and before any of them applies.
static bool all_joined(struct sup_turns *t)
{
    int joined = 0, missing = 0;
    for (int i = 0; i < SUP_SHARDS; i++) {
        joined += atomic_load(&t->seat[i]) == SEAT_JOINED;
        missing += atomic_load(&t->seat[i]) == SEAT_WAITS;
    }
    if (!joined || !missing)
        return joined > 0;
    if (clock_mono_us() - atomic_load(&t->began_us) < (uint64_t)JOIN_MS * 1000)
        return false;
    log_warn(NULL,
             "%d shards cannot say how far their lanes are: slots that have moved from or to "
             "them may be applied out of order",
             missing);
    return true;
}

// Not whole: of a lane whose record does not let it go on nothing is told.
static void read_map(struct sup_turns *t, int16_t *owner, bool whole)
{
    shards_owners(t->s->shards, owner);
    for (int i = 0; i < CLUSTER_SLOTS; i++) {
        bool known = owner[i] >= 0 && owner[i] < SUP_SHARDS;
        int seat = known ? atomic_load(&t->seat[owner[i]]) : SEAT_EMPTY;
        if (whole ? seat == SEAT_EMPTY : seat != SEAT_ELSEWHERE && seat != SEAT_OPEN)
            owner[i] = OWNERSHIP_NOBODY;
    }
}

// Nothing has moved for a while: the lanes may go on without each other.
static void part_if_calm(struct sup_turns *t, const int16_t *owner)
{
    uint64_t now = clock_mono_us();
    bool same = memcmp(t->owner, owner, sizeof(t->owner)) == 0;
    memcpy(t->owner, owner, sizeof(t->owner));
    if (!same || !ownership_quiet(t->ownership) || count(t, SEAT_WAITS) ||
        count(t, SEAT_ELSEWHERE) || shards_unsettled(t->s->shards, NULL))
        t->calm_since_us = now;
    if (now - t->calm_since_us < (uint64_t)CALM_MS * 1000 || !ownership_part(t->ownership))
        return;
    log_info(NULL, "no slot has moved for %d s: the shards may be led by several nodes",
             CALM_MS / 1000);
    for (int i = 0; i < SUP_SHARDS; i++)
        if (atomic_load(&t->seat[i]) == SEAT_JOINED)
            atomic_store(&t->seat[i], SEAT_OPEN);
    atomic_store(&t->used, true);
    atomic_store(&t->parting, true);
    atomic_store(&t->mapped, true);
    atomic_store(&t->whole, false);
}

static void tell_whole(struct sup_turns *t)
{
    int16_t owner[CLUSTER_SLOTS];
    // All were here when it became whole; what is missing now is waited for.
    if (!atomic_load(&t->open) && (count(t, SEAT_ELSEWHERE) || !all_joined(t)))
        return;
    read_map(t, owner, true);
    ownership_map(t->ownership, owner);
    if (!atomic_exchange(&t->open, true))
        t->calm_since_us = clock_mono_us();
    if (t->s->roles)
        part_if_calm(t, owner);
}

static void tell_alone(struct sup_turns *t)
{
    int16_t owner[CLUSTER_SLOTS];
    if (!count(t, SEAT_OPEN))
        return;
    atomic_store(&t->mapped, true);
    read_map(t, owner, false);
    ownership_count_from(t->ownership, (uint64_t)clock_unix_ns() / 1000);
    ownership_map(t->ownership, owner);
}

void sup_turns_looked(struct supervisor *s)
{
    struct sup_turns *t = s->turns;
    uv_rwlock_wrlock(&t->renewal); // no lane comes or goes meanwhile
    if (any_here(t) && atomic_load(&t->whole))
        tell_whole(t);
    else if (any_here(t))
        tell_alone(t);
    uv_rwlock_wrunlock(&t->renewal);
    wake(t);
}

static int64_t look_ms(struct sup_turns *t, int64_t otherwise)
{
    bool whole = atomic_load(&t->whole);
    if (whole ? !atomic_load(&t->open) : count(t, SEAT_OPEN) && !atomic_load(&t->mapped))
        return SIGN_MS / 3;
    if (atomic_exchange(&t->sign, false))
        return SIGN_MS;
    bool waits = whole ? t->s->roles != NULL : count(t, SEAT_JOINED) > 0;
    return waits || !ownership_quiet(t->ownership) ? QUIET_MS : otherwise;
}

int64_t sup_turns_look_ms(struct supervisor *s, int64_t otherwise)
{
    struct sup_turns *t = s->turns;
    if (!any_here(t))
        return otherwise;
    uv_rwlock_rdlock(&t->renewal);
    int64_t ms = look_ms(t, otherwise);
    uv_rwlock_rdunlock(&t->renewal);
    return ms < otherwise ? ms : otherwise;
}

// ---- life ----

int sup_turns_start(struct supervisor *s, struct err *e)
{
    struct sup_turns *t = xcalloc(1, sizeof(*t));
    t->s = s;
    t->ownership = new_arbiter(t, s->roles == NULL);
    atomic_store(&t->whole, s->roles == NULL);
    must(uv_rwlock_init(&t->renewal) == 0);
    atomic_store(&t->began_us, clock_mono_us());
    must(uv_mutex_init(&t->lock) == 0 && uv_cond_init(&t->cond) == 0);
    s->turns = t;
    int rc = uv_thread_create(&t->thread, run, t);
    t->started = rc == 0;
    return rc ? err_sys(e, rc, "start a thread") : 0;
}

void sup_turns_end(struct supervisor *s)
{
    if (!s->turns || !s->turns->started)
        return;
    wake(s->turns);
    uv_thread_join(&s->turns->thread);
    s->turns->started = false;
}

void sup_turns_free(struct supervisor *s)
{
    struct sup_turns *t = s->turns;
    if (!t)
        return;
    ownership_free(t->ownership);
    uv_rwlock_destroy(&t->renewal);
    uv_cond_destroy(&t->cond);
    uv_mutex_destroy(&t->lock);
    free(t);
    s->turns = NULL;
}

// SPDX-License-Identifier: Apache-2.0
// Streams and their groups.
#include <string.h>

#include "base/err.h"
#include "flow/downgrade_impl.h"

// ---- trimming ----

enum refs { REFS_NONE, REFS_KEEP, REFS_DELETE, REFS_ACKED };

static enum refs refs_word(const struct downgrade_call *c, int i)
{
    return arg_is(c, i, "KEEPREF")  ? REFS_KEEP
           : arg_is(c, i, "DELREF") ? REFS_DELETE
           : arg_is(c, i, "ACKED")  ? REFS_ACKED
                                    : REFS_NONE;
}

// The options of XADD and XTRIM; positions in argv, 0: not given.
struct trim {
    int end; // behind the options: XADD's id
    int nomkstream, refs_at, how, threshold, limit, idmp, idmp_n;
    enum refs refs;
    bool approximate, minid;
};

static bool scan_threshold(const struct downgrade_call *c, struct trim *t, int *i)
{
    t->how = *i;
    t->minid = arg_is(c, *i, "MINID");
    ++*i;
    t->approximate = arg_is(c, *i, "~");
    if (t->approximate || arg_is(c, *i, "="))
        ++*i;
    t->threshold = *i;
    return *i < c->argc;
}

static bool scan_options(const struct downgrade_call *c, struct trim *t)
{
    *t = (struct trim){0};
    int i;
    for (i = 2; i < c->argc; i++) {
        if (arg_is(c, i, "NOMKSTREAM")) {
            t->nomkstream = i;
        } else if (refs_word(c, i)) {
            t->refs = refs_word(c, i);
            t->refs_at = i;
        } else if (arg_is(c, i, "MAXLEN") || arg_is(c, i, "MINID")) {
            if (!scan_threshold(c, t, &i))
                return false;
        } else if (arg_is(c, i, "LIMIT")) {
            t->limit = i++;
        } else if (arg_is(c, i, "IDMP") || arg_is(c, i, "IDMPAUTO")) {
            t->idmp = i;
            t->idmp_n = arg_is(c, i, "IDMP") ? 3 : 2;
            i += t->idmp_n - 1;
        } else {
            break;
        }
    }
    t->end = i;
    return i <= c->argc;
}

// ARGV: MAXLEN and how many stay, or MINID and the last id that goes (ms, seq). What goes is
// acknowledged in all groups.
static const char forget_trimmed[] =
    "local k,r=KEYS[1],{} if ARGV[1]=='MINID' then "
    "r=redis.call('XRANGE',k,'-',ARGV[2]..'-'..ARGV[3]) "
    "else local n=redis.call('XLEN',k)-tonumber(ARGV[2]) "
    "if n>0 then r=redis.call('XRANGE',k,'-','+','COUNT',n) end end "
    "for _,g in ipairs(redis.call('XINFO','GROUPS',k)) do "
    "for _,m in ipairs(r) do redis.call('XACK',k,g[2],m[1]) end end return 1";

// ARGV: ms and seq of the last id that goes
static const char delete_until[] =
    "local e=ARGV[1]..'-'..ARGV[2] repeat "
    "local r=redis.call('XRANGE',KEYS[1],'-',e,'COUNT',500) "
    "for _,m in ipairs(r) do redis.call('XDEL',KEYS[1],m[1]) end until #r<500 return 1";

// ARGV: producer, its number, id. May fail without harm: the trimming took the message, or the
// number was used again after its time, which at the target is later.
static const char record_producer[] =
    "redis.pcall('XIDMPRECORD',KEYS[1],ARGV[1],ARGV[2],ARGV[3]) return 1";

static bool parse_id(struct slice s, uint64_t *ms, uint64_t *seq)
{
    const char *dash = s.n ? memchr(s.p, '-', s.n) : NULL;
    *seq = 0;
    if (!dash)
        return slice_u64(s, ms);
    size_t n = (size_t)(dash - s.p);
    return slice_u64(slice_make(s.p, n), ms) && slice_u64(slice_make(dash + 1, s.n - n - 1), seq);
}

static void put_u64(struct rewrite *w, uint64_t v)
{
    must(w->numbers_n < w->numbers_cap);
    char *p = w->numbers[w->numbers_n++];
    rewrite_arg(w, slice_make(p, u64_format(p, v)));
}

// The greatest id below the threshold; false: there is none, or it is no id.
static bool last_to_go(const struct downgrade_call *c, const struct trim *t, uint64_t *ms,
                       uint64_t *seq)
{
    if (!parse_id(c->argv[t->threshold], ms, seq) || (*ms == 0 && *seq == 0))
        return false;
    if ((*seq)-- == 0)
        (*ms)--;
    return true;
}

static void put_forget(const struct downgrade_call *c, const struct trim *t)
{
    struct rewrite *w = &c->d->out;
    uint64_t ms, seq;
    if (t->minid && !last_to_go(c, t, &ms, &seq))
        return;
    downgrade_eval(w, forget_trimmed, c->argv + 1, 1);
    rewrite_arg(w, t->minid ? SLICE("MINID") : SLICE("MAXLEN"));
    if (t->minid) {
        put_u64(w, ms);
        put_u64(w, seq);
    } else {
        rewrite_arg(w, c->argv[t->threshold]);
    }
}

static void put_delete_until(const struct downgrade_call *c, const struct trim *t)
{
    uint64_t ms, seq;
    if (!last_to_go(c, t, &ms, &seq))
        return;
    downgrade_eval(&c->d->out, delete_until, c->argv + 1, 1);
    put_u64(&c->d->out, ms);
    put_u64(&c->d->out, seq);
}

// The options of the trimming that the target knows.
static void put_trim_options(const struct downgrade_call *c, const struct trim *t)
{
    rewrite_args(&c->d->out, c->argv + t->how, t->threshold + 1 - t->how);
    if (t->limit && t->approximate)
        rewrite_args(&c->d->out, c->argv + t->limit, 2);
}

static void put_xadd(const struct downgrade_call *c, const struct trim *t, bool with_trimming)
{
    struct rewrite *w = &c->d->out;
    rewrite_name(w, SLICE("XADD"));
    rewrite_arg(w, c->argv[1]);
    if (t->nomkstream && !lacks(c, DOWN_NOMKSTREAM))
        rewrite_arg(w, c->argv[t->nomkstream]);
    if (t->refs)
        rewrite_arg(w, c->argv[t->refs_at]);
    if (t->how && with_trimming)
        put_trim_options(c, t);
    rewrite_args(w, c->argv + t->end, c->argc - t->end);
    if (t->idmp_n == 3 && !lacks(c, DOWN_XIDMPRECORD)) {
        downgrade_eval(w, record_producer, c->argv + 1, 1);
        rewrite_args(w, c->argv + t->idmp + 1, 2);
        rewrite_arg(w, c->argv[t->end]);
    }
}

// XADD key [options] id field value ...; XTRIM key [options]
enum rewrite_result downgrade_stream_trim(const struct downgrade_call *c)
{
    struct rewrite *w = &c->d->out;
    struct trim t;
    if (c->argc < 4 || (c->argv[2].n && c->argv[2].p[0] >= '0' && c->argv[2].p[0] <= '9') ||
        !scan_options(c, &t))
        return REWRITE_AS_IS;
    bool add = slice_ieq(c->argv[0], SLICE("XADD"));
    if (add ? t.end >= c->argc : (t.end != c->argc || !t.how))
        return REWRITE_AS_IS;
    bool refs = t.refs && lacks(c, DOWN_STREAM_REFS);
    bool minid = t.minid && lacks(c, DOWN_MINID);
    if (!refs && !minid && !t.idmp && !(t.limit && !t.approximate) &&
        !(t.nomkstream && lacks(c, DOWN_NOMKSTREAM)))
        return REWRITE_AS_IS;
    // The source found the message to be there: a master sends the attempt, without an id.
    if (t.idmp && arg_is(c, t.end, "*"))
        return rewrite_not(w, REWRITE_DROP, "the message was added before");
    if (refs && t.refs == REFS_ACKED && t.how)
        return rewrite_not(w, REWRITE_REFUSED,
                           "the target cannot trim a stream by what its groups have ACKED");
    if (minid && t.approximate)
        return rewrite_not(w, REWRITE_REFUSED, "the target cannot trim a stream by about MINID");
    bool forget = refs && t.refs == REFS_DELETE && t.how;
    bool apart = !add || forget || minid; // else the trimming is an option of XADD
    if (refs)
        t.refs = REFS_NONE;
    rewrite_begin(w, 4, 2 * c->argc + 24, 8);
    if (add)
        put_xadd(c, &t, !apart);
    if (forget)
        put_forget(c, &t);
    if (minid) {
        put_delete_until(c, &t);
    } else if (apart) {
        rewrite_name(w, SLICE("XTRIM"));
        rewrite_arg(w, c->argv[1]);
        put_trim_options(c, &t);
        if (t.refs)
            rewrite_arg(w, c->argv[t.refs_at]);
    }
    return w->cmds_n ? rewrite_done(w) : rewrite_not(w, REWRITE_DROP, "it removes nothing");
}

// ---- deleting ----

// ARGV: what becomes of references; 1 if the first acknowledges in group ARGV[3]; then the ids.
// ACKED: an id goes that all groups have read and none has pending.
static const char delete_entries[] =
    "local k,how,groups=KEYS[1],ARGV[1],{} "
    "if how~='KEEPREF' then groups=redis.call('XINFO','GROUPS',k) end "
    "local function parts(id) local a,b=string.match(id,'^0*(%d*)%-?0*(%d*)$') return a,b end "
    "local function below(a,b) if #a~=#b then return #a<#b end return a<b end "
    "local function unread(g,id) local last for i=1,#g,2 do "
    "if g[i]=='last-delivered-id' then last=g[i+1] end end "
    "local a,b=parts(last) local x,y=parts(id) if a~=x then return below(a,x) end "
    "return below(b,y) end "
    "local function kept(id) for _,g in ipairs(groups) do "
    "if unread(g,id) or #redis.call('XPENDING',k,g[2],id,id,1)>0 then return true end end end "
    "for i=4,#ARGV do local id=ARGV[i] "
    "if ARGV[2]=='' or redis.call('XACK',k,ARGV[3],id)==1 then "
    "if how=='DELREF' then for _,g in ipairs(groups) do redis.call('XACK',k,g[2],id) end end "
    "if how~='ACKED' or not kept(id) then redis.call('XDEL',k,id) end end end return 1";

// XDELEX key [KEEPREF|DELREF|ACKED] IDS n id ...; XACKDEL key group [...] IDS n id ...
enum rewrite_result downgrade_stream_delete(const struct downgrade_call *c)
{
    struct rewrite *w = &c->d->out;
    bool ack = slice_ieq(c->argv[0], SLICE("XACKDEL"));
    enum refs refs = REFS_KEEP;
    int at = ack ? 3 : 2;
    int64_t n;
    for (; refs_word(c, at); at++)
        refs = refs_word(c, at);
    if (at + 2 >= c->argc || !arg_is(c, at, "IDS") || !slice_i64(c->argv[at + 1], &n) ||
        n != c->argc - at - 2)
        return REWRITE_AS_IS;
    rewrite_begin(w, 1, c->argc + 7, 1);
    if (!ack && refs == REFS_KEEP) {
        rewrite_name(w, SLICE("XDEL"));
        rewrite_arg(w, c->argv[1]);
    } else {
        downgrade_eval(w, delete_entries, c->argv + 1, 1);
        rewrite_arg(w, refs == REFS_KEEP     ? SLICE("KEEPREF")
                       : refs == REFS_DELETE ? SLICE("DELREF")
                                             : SLICE("ACKED"));
        rewrite_arg(w, ack ? SLICE("1") : SLICE(""));
        rewrite_arg(w, ack ? c->argv[2] : SLICE(""));
    }
    rewrite_args(w, c->argv + at + 2, (int)n);
    return rewrite_done(w);
}

// ---- groups ----

// XGROUP CREATECONSUMER key group consumer: one that asks for its own pending entries is made.
enum rewrite_result downgrade_xgroup_consumer(const struct downgrade_call *c)
{
    struct rewrite *w = &c->d->out;
    if (c->argc != 5)
        return REWRITE_AS_IS;
    rewrite_begin(w, 1, 10, 0);
    rewrite_name(w, SLICE("XREADGROUP"));
    rewrite_arg(w, SLICE("GROUP"));
    rewrite_args(w, c->argv + 3, 2);
    rewrite_arg(w, SLICE("COUNT"));
    rewrite_arg(w, SLICE("1"));
    rewrite_arg(w, SLICE("STREAMS"));
    rewrite_arg(w, c->argv[2]);
    rewrite_arg(w, SLICE("0"));
    return rewrite_done(w);
}

// XGROUP CREATE|SETID key group id [MKSTREAM] [ENTRIESREAD n]
enum rewrite_result downgrade_entries_read(const struct downgrade_call *c)
{
    struct rewrite *w = &c->d->out;
    for (int i = 5; i + 1 < c->argc; i++) {
        if (!arg_is(c, i, "ENTRIESREAD"))
            continue;
        rewrite_begin(w, 1, c->argc, 0);
        rewrite_name(w, c->argv[0]);
        rewrite_args(w, c->argv + 1, i - 1);
        rewrite_args(w, c->argv + i + 2, c->argc - i - 2);
        return rewrite_done(w);
    }
    return REWRITE_AS_IS;
}

// ARGV: those of XCLAIM
static const char claim_or_forget[] =
    "local k,g,id=KEYS[1],ARGV[1],ARGV[4] if #redis.call('XRANGE',k,id,id)==0 then "
    "local p=redis.call('XPENDING',k,g,id,id,1)[1] "
    "if p and p[2]==ARGV[2] and p[4]==tonumber(ARGV[8]) then redis.call('XACK',k,g,id) return 1 "
    "end end redis.call('XCLAIM',k,unpack(ARGV)) return 1";

// XCLAIM key group consumer 0 id TIME ms RETRYCOUNT n ... of a message that is gone, for whom it
// was pending already, is what servers since 7.0 send when they forget it. They all forget it on
// an XCLAIM, older ones do not.
enum rewrite_result downgrade_xclaim(const struct downgrade_call *c)
{
    struct rewrite *w = &c->d->out;
    if (!arg_is(c, 6, "TIME") || !arg_is(c, 8, "RETRYCOUNT") || c->argc < 10)
        return REWRITE_AS_IS;
    rewrite_begin(w, 1, c->argc + 2, 1);
    downgrade_eval(w, claim_or_forget, c->argv + 1, 1);
    rewrite_args(w, c->argv + 2, c->argc - 2);
    return rewrite_done(w);
}

// XSETID key id [ENTRIESADDED n] [MAXDELETEDID id]
enum rewrite_result downgrade_xsetid(const struct downgrade_call *c)
{
    struct rewrite *w = &c->d->out;
    if (c->argc <= 3)
        return REWRITE_AS_IS;
    rewrite_begin(w, 1, 3, 0);
    rewrite_name(w, c->argv[0]);
    rewrite_args(w, c->argv + 1, 2);
    return rewrite_done(w);
}

// SPDX-License-Identifier: Apache-2.0
// Commands that need to read what the target holds. The scripts read and check types before they
// write, so that one that fails has changed nothing.
#include "flow/downgrade_impl.h"

// PTTL and TIME of the same millisecond tell an expiry exactly.
#define LUA_EXPIRY                                                                                 \
    "redis.replicate_commands() "                                                                  \
    "local function ms() local t=redis.call('TIME') return t[1]*1000+math.floor(t[2]/1000) end "   \
    "local function at(k) local a,p,b repeat a=ms() p=redis.call('PTTL',k) b=ms() until a==b "     \
    "if p<0 then return p end return a+p end "

void downgrade_eval(struct rewrite *w, const char *script, const struct slice *keys, int n)
{
    rewrite_name(w, SLICE("EVAL"));
    rewrite_arg(w, slice_cstr(script));
    rewrite_number(w, n);
    rewrite_args(w, keys, n);
}

// ---- strings and hashes ----

static const char set_keepttl[] =
    LUA_EXPIRY "local t=at(KEYS[1]) redis.call('SET',KEYS[1],ARGV[1]) "
               "if t>=0 then redis.call('PEXPIREAT',KEYS[1],string.format('%.0f',t)) end return 1";

void downgrade_set_keepttl(struct rewrite *w, struct slice key, struct slice value)
{
    downgrade_eval(w, set_keepttl, &key, 1);
    rewrite_arg(w, value);
}

static const char hset_keepttl[] =
    "for i=1,#ARGV,2 do local f=ARGV[i] "
    "local t=redis.call('HPEXPIRETIME',KEYS[1],'FIELDS',1,f) "
    "redis.call('HSET',KEYS[1],f,ARGV[i+1]) "
    "if type(t)=='table' and t[1] and t[1]>=0 then "
    "redis.call('HPEXPIREAT',KEYS[1],string.format('%.0f',t[1]),'FIELDS',1,f) end end return 1";

void downgrade_hset_keepttl(struct rewrite *w, struct slice key, const struct slice *pairs, int n)
{
    downgrade_eval(w, hset_keepttl, &key, 1);
    rewrite_args(w, pairs, n);
}

// ARGV: db or nothing, REPLACE or nothing, ABSTTL or nothing
static const char copy[] =
    LUA_EXPIRY "local v=redis.call('DUMP',KEYS[1]) if not v then return 0 end local t=at(KEYS[1]) "
               "if ARGV[3]=='' and t>=0 then t=redis.call('PTTL',KEYS[1]) end "
               "if ARGV[1]~='' then redis.call('SELECT',ARGV[1]) end "
               "if ARGV[2]=='' and redis.call('EXISTS',KEYS[2])==1 then return 0 end "
               "local c={'RESTORE',KEYS[2],string.format('%.0f',math.max(t,0)),v,'REPLACE'} "
               "if t>=0 and ARGV[3]~='' then c[6]='ABSTTL' end "
               "redis.call(unpack(c)) return 1";

// COPY source destination [DB db] [REPLACE]
enum rewrite_result downgrade_copy(const struct downgrade_call *c)
{
    struct rewrite *w = &c->d->out;
    struct slice db = {0}, replace = {0};
    if (c->argc < 3)
        return REWRITE_AS_IS;
    for (int i = 3; i < c->argc; i++) {
        if (arg_is(c, i, "REPLACE"))
            replace = SLICE("REPLACE");
        else if (arg_is(c, i, "DB") && i + 1 < c->argc)
            db = c->argv[++i];
        else
            return REWRITE_AS_IS;
    }
    rewrite_begin(w, 1, 8, 1);
    downgrade_eval(w, copy, c->argv + 1, 2);
    rewrite_arg(w, db);
    rewrite_arg(w, replace);
    rewrite_arg(w, c->d->version >= 50000 ? SLICE("ABSTTL") : SLICE(""));
    return rewrite_done(w);
}

// ---- lists ----

// ARGV: index of the element, the command that puts it, the one that takes it away. Put first: a
// list moved onto itself keeps its expiry though it has but one element.
static const char lmove[] = "local v=redis.call('LINDEX',KEYS[1],ARGV[1]) if not v then return 0 "
                            "end redis.call(ARGV[2],KEYS[2],v) redis.call(ARGV[3],KEYS[1]) "
                            "return 1";

// LMOVE source destination LEFT|RIGHT LEFT|RIGHT
enum rewrite_result downgrade_lmove(const struct downgrade_call *c)
{
    struct rewrite *w = &c->d->out;
    bool from_left = arg_is(c, 3, "LEFT"), to_left = arg_is(c, 4, "LEFT");
    if (c->argc != 5 || !(from_left || arg_is(c, 3, "RIGHT")) ||
        !(to_left || arg_is(c, 4, "RIGHT")))
        return REWRITE_AS_IS;
    rewrite_begin(w, 1, 8, 1);
    if (!from_left && to_left) {
        rewrite_name(w, SLICE("RPOPLPUSH"));
        rewrite_args(w, c->argv + 1, 2);
        return rewrite_done(w);
    }
    downgrade_eval(w, lmove, c->argv + 1, 2);
    rewrite_arg(w, from_left ? SLICE("0") : SLICE("-1"));
    rewrite_arg(w, to_left ? SLICE("LPUSH") : SLICE("RPUSH"));
    rewrite_arg(w, from_left ? SLICE("LPOP") : SLICE("RPOP"));
    return rewrite_done(w);
}

// ---- sorted sets ----

// ARGV: GT or LT, XX or nothing, INCR or nothing, then scores and members
static const char zadd[] =
    "local k,up,inc=KEYS[1],ARGV[1]=='GT',ARGV[3]~='' "
    "for i=4,#ARGV,2 do local n,m=ARGV[i],ARGV[i+1] local s=redis.call('ZSCORE',k,m) "
    "if not s then if ARGV[2]=='' then redis.call('ZADD',k,n,m) end "
    "else local old,new=tonumber(s),tonumber(n) if inc then new=old+new end "
    "if up and new>old or not up and new<old then "
    "redis.call(inc and 'ZINCRBY' or 'ZADD',k,n,m) end end end return 1";

// ZADD key [NX|XX] [GT|LT] [CH] [INCR] score member ...
enum rewrite_result downgrade_zadd(const struct downgrade_call *c)
{
    struct rewrite *w = &c->d->out;
    struct slice order = {0}, xx = {0}, incr = {0};
    int i;
    for (i = 2; i < c->argc; i++) {
        if (arg_is(c, i, "GT"))
            order = SLICE("GT");
        else if (arg_is(c, i, "LT"))
            order = SLICE("LT");
        else if (arg_is(c, i, "XX"))
            xx = SLICE("XX");
        else if (arg_is(c, i, "INCR"))
            incr = SLICE("INCR");
        else if (!arg_is(c, i, "CH"))
            break; // NX does not go with GT and LT
    }
    if (!order.n || i >= c->argc || (c->argc - i) % 2 != 0)
        return REWRITE_AS_IS;
    rewrite_begin(w, 1, c->argc - i + 7, 1);
    downgrade_eval(w, zadd, c->argv + 1, 1);
    rewrite_arg(w, order);
    rewrite_arg(w, xx);
    rewrite_arg(w, incr);
    rewrite_args(w, c->argv + i, c->argc - i);
    return rewrite_done(w);
}

// Stores {score, member, ...} of z under KEYS[1].
#define LUA_STORE                                                                                  \
    "redis.call('DEL',KEYS[1]) for i=1,#z,2 do redis.call('ZADD',KEYS[1],z[i],z[i+1]) end return " \
    "1"

// ARGV: the command that reads the range, and its arguments behind the key
static const char zrangestore[] =
    "local z,r,k={},redis.call(ARGV[1],KEYS[2],unpack(ARGV,2)),KEYS[2] "
    "local scores=ARGV[4]=='WITHSCORES' for i=1,#r,scores and 2 or 1 do "
    "z[#z+1]=scores and r[i+1] or redis.call('ZSCORE',k,r[i]) z[#z+1]=r[i] end " LUA_STORE;

// ZRANGESTORE destination source min max [BYSCORE|BYLEX] [REV] [LIMIT offset count]
enum rewrite_result downgrade_zrangestore(const struct downgrade_call *c)
{
    enum { BY_RANK, BY_SCORE, BY_LEX } by = BY_RANK;
    static const struct slice readers[][2] = {
        [BY_RANK] = {{"ZRANGE", 6}, {"ZREVRANGE", 9}},
        [BY_SCORE] = {{"ZRANGEBYSCORE", 13}, {"ZREVRANGEBYSCORE", 16}},
        [BY_LEX] = {{"ZRANGEBYLEX", 11}, {"ZREVRANGEBYLEX", 14}},
    };
    struct rewrite *w = &c->d->out;
    bool reverse = false;
    int limit = 0;
    if (c->argc < 5)
        return REWRITE_AS_IS;
    for (int i = 5; i < c->argc; i++) {
        if (arg_is(c, i, "BYSCORE")) {
            by = BY_SCORE;
        } else if (arg_is(c, i, "BYLEX")) {
            by = BY_LEX;
        } else if (arg_is(c, i, "REV")) {
            reverse = true;
        } else if (arg_is(c, i, "LIMIT") && i + 2 < c->argc) {
            limit = i;
            i += 2;
        } else {
            return REWRITE_AS_IS;
        }
    }
    rewrite_begin(w, 1, 12, 1);
    downgrade_eval(w, zrangestore, c->argv + 1, 2);
    rewrite_arg(w, readers[by][reverse]);
    rewrite_args(w, c->argv + 3, 2);
    if (by != BY_LEX)
        rewrite_arg(w, SLICE("WITHSCORES"));
    if (limit)
        rewrite_args(w, c->argv + limit, 3);
    return rewrite_done(w);
}

static const char zdiffstore[] =
    "local function is(k,t) return redis.call('TYPE',k).ok==t end "
    "local z,sets,k={},{},KEYS[2] for i=3,#KEYS do sets[i]=is(KEYS[i],'set') end "
    "local function add(s,m) for i=3,#KEYS do local there "
    "if sets[i] then there=redis.call('SISMEMBER',KEYS[i],m)==1 "
    "else there=redis.call('ZSCORE',KEYS[i],m) end if there then return end end "
    "z[#z+1]=s z[#z+1]=m end "
    "if is(k,'set') then for _,m in ipairs(redis.call('SMEMBERS',k)) do add('1',m) end "
    "else local r=redis.call('ZRANGE',k,0,-1,'WITHSCORES') "
    "for i=1,#r,2 do add(r[i+1],r[i]) end end " LUA_STORE;

// ZDIFFSTORE destination numkeys key ...
enum rewrite_result downgrade_zdiffstore(const struct downgrade_call *c)
{
    struct rewrite *w = &c->d->out;
    int64_t n;
    if (c->argc < 4 || !slice_i64(c->argv[2], &n) || n != c->argc - 3)
        return REWRITE_AS_IS;
    rewrite_begin(w, 1, c->argc + 1, 1);
    rewrite_name(w, SLICE("EVAL"));
    rewrite_arg(w, slice_cstr(zdiffstore));
    rewrite_number(w, n + 1);
    rewrite_arg(w, c->argv[1]);
    rewrite_args(w, c->argv + 3, (int)n);
    return rewrite_done(w);
}

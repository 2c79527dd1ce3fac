# SPDX-License-Identifier: Apache-2.0
"""Data of every type and encoding, and random live writes over every family of commands."""

import random
import time

DBS = (0, 3, 9)
LIBRARY = ("#!lua name=gunyutest\n"
           "redis.register_function('gunyu_set', function(keys, args) return redis.call('SET', keys[1], args[1]) end)\n")
NAMES = [b"", b"\x00", b"\x00\xff\r\n\x80", b"with space", b"line\nbreak", b"{tag}a", b"a{tag}b", b"{}{x}",
         "\u043a\u043b\u044e\u0447".encode(), b"n" * 300, b"123", b"-1", b"*3\r\n$3\r\nSET"]


def strings(rng):
    for i, name in enumerate(NAMES):
        yield "SET", name, b"value %d" % i
    for value in (0, -1, 2**31 - 1, 2**31, 2**63 - 1, -2**63, 10**19):
        yield "SET", f"int:{value}", value
    yield "SET", "str:empty", b""
    yield "SET", "str:44", b"e" * 44
    yield "SET", "str:45", b"r" * 45
    yield "SET", "str:bytes", bytes(range(256))
    yield "SET", "str:lzf", b"abcdefgh" * 20000
    yield "SET", "str:noise", rng.randbytes(1 << 20)
    yield "SET", "str:float", "3.0e3"
    yield "SETBIT", "bits", 100003, 1
    for i in range(300):
        yield "SET", f"str:{i}", rng.randbytes(rng.randrange(0, 200))


def lists(rng):
    yield "RPUSH", "list:small", "a", "", "1", "-5", "9223372036854775807", rng.randbytes(70), "x" * 5000
    yield "RPUSH", "list:ints", *range(-70000, 70000, 1000)
    yield "RPUSH", "list:one", "only"
    for part in range(10):
        yield "RPUSH", "list:large", *(f"element {part} {i}" for i in range(500))
    yield "RPUSH", "list:plain", b"small", rng.randbytes(20000), b"end", b"z" * 100000


def sets(rng):
    yield "SADD", "set:int16", *range(-100, 100)
    yield "SADD", "set:int32", *range(100000, 100100)
    yield "SADD", "set:int64", *range(2**40, 2**40 + 50)
    yield "SADD", "set:small", "a", "b", "", "1", "\x00"
    for part in range(5):
        yield "SADD", "set:large", *(rng.randbytes(12) for _ in range(500))
    yield "SADD", "set:bigmember", b"m" * 5000, b"n"


def zsets(rng):
    yield ("ZADD", "zset:small", "1", "a", "-inf", "low", "inf", "high", "-0", "zero", "1.5", "half",
           "9007199254740991", "exact", "0.1", "tenth", "1e300", "huge", "5e-324", "tiny")
    for part in range(5):
        yield "ZADD", "zset:large", *(x for i in range(500) for x in (rng.uniform(-1e6, 1e6), f"m{part}:{i}"))
    yield "ZADD", "zset:bigmember", 7, b"m" * 5000
    yield "GEOADD", "geo", 13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania"


def hashes(rng):
    yield "HSET", "hash:small", "f", "v", "", "empty field", "n", "1", "e", "", "bin", bytes(range(40))
    for part in range(5):
        yield "HSET", "hash:large", *(x for i in range(400) for x in (f"field {part}:{i}", rng.randbytes(30)))
    yield "HSET", "hash:bigvalue", "f", b"v" * 9000
    yield "HSET", "hash:ttl", *(x for i in range(20) for x in (f"f{i}", i))
    yield "HPEXPIRE", "hash:ttl", 86400000, "FIELDS", 3, "f1", "f2", "f3"
    yield "HSET", "hash:ttl:large", *(x for i in range(700) for x in (f"f{i}", i))
    yield "HPEXPIRE", "hash:ttl:large", 86400123, "FIELDS", 2, "f10", "f600"


def streams(_rng):
    for i in range(5):
        yield "XADD", "stream:small", f"{i + 1}-1", "a", i, "b", "x"
    for i in range(1000):
        # Fields that change from entry to entry, and come back.
        fields = ("k", i, "l", "v") if i % 7 else ("other", i)
        yield "XADD", "stream:large", f"{1000 + i}-{i % 3}", *fields
    for i in range(0, 1000, 13):
        yield "XDEL", "stream:large", f"{1000 + i}-{i % 3}"
    yield "XADD", "stream:big", "5-5", "f", b"w" * 20000
    yield "XGROUP", "CREATE", "stream:small", "g1", "0"
    yield "XGROUP", "CREATE", "stream:small", "g2", "$"
    yield "XGROUP", "CREATE", "stream:empty", "g", "$", "MKSTREAM"
    yield "XREADGROUP", "GROUP", "g1", "alice", "COUNT", 2, "STREAMS", "stream:small", ">"
    yield "XREADGROUP", "GROUP", "g1", "bob", "COUNT", 2, "STREAMS", "stream:small", ">"
    yield "XACK", "stream:small", "g1", "1-1"
    yield "XGROUP", "CREATECONSUMER", "stream:small", "g2", "idle"
    yield "XADD", "stream:gone", "7-0", "f", "v"
    yield "XDEL", "stream:gone", "7-0"


def sketches(_rng):
    yield "PFADD", "hll:sparse", *range(50)
    for part in range(20):
        yield "PFADD", "hll:dense", *(f"{part}:{i}" for i in range(500))


def expiries(_rng):
    far = int(time.time() * 1000) + 86400000
    for kind in ("str:44", "list:small", "set:small", "zset:small", "hash:small", "stream:big", "list:large", "hash:large"):
        yield "PEXPIREAT", kind, far
    for i in range(50):
        yield "SET", f"ttl:{i}", i, "PX", 3600000 + i
    yield "SET", "ttl:short", "soon gone", "PX", 1500


FAMILIES = (strings, lists, sets, zsets, hashes, streams, sketches, expiries)


def load_everything(server, dbs=DBS, seed=1):
    """Every type in small and large encodings in each db, and a function library where there are any.
    Commands that the server does not know are left out."""
    for db in dbs:
        rng = random.Random(seed + db)
        raw = server.raw(db)
        raw.many(command for family in FAMILIES for command in family(rng))
        raw.close()
    if server.has("function"):
        for raw in server.raw().each():
            raw.call("FUNCTION", "LOAD", "REPLACE", LIBRARY)


class Mutator:
    """Random writes. The families share pools of names, so that commands meet keys of their type
    mostly, of another one sometimes: a refused command is part of the test."""

    def __init__(self, seed, swapdb=False, flush=False, short_ttl=True, without=(), dbs=DBS, tags=()):
        """dbs: where MOVE and COPY lead to. tags: the keys of a command, or transaction, have one of them."""
        self.rng = random.Random(seed)
        self.dbs, self.tags, self.tag = dbs, tags, ""
        self.swapdb, self.flush, self.short_ttl, self.without = swapdb, flush, short_ttl, without
        self.families = [self.string, self.string, self.list, self.set, self.zset, self.hash, self.stream, self.stream,
                         self.bits, self.sketch, self.geo, self.expiry, self.generic, self.script, self.transaction]

    def key(self, kind):
        if self.rng.random() < 0.02:
            kind = self.rng.choice(["s", "l", "set", "z", "h"])
        return f"{self.tag}live:{kind}:{self.rng.randrange(12)}"

    def word(self):
        r = self.rng
        return r.choice([lambda: r.randrange(-1000, 1000), lambda: r.randbytes(r.randrange(0, 40)),
                         lambda: f"w{r.randrange(50)}", lambda: b"\x00\r\n\xff"])()

    def words(self, most=5):
        return [self.word() for _ in range(self.rng.randrange(1, most + 1))]

    def pick(self, *choices):
        return self.rng.choice(choices)

    def ttl(self):
        return self.rng.randrange(300, 1500) if self.short_ttl and self.rng.random() < 0.1 else self.rng.randrange(600000, 9000000)

    def string(self):
        k, r, n = self.key("s"), self.rng, self.key("n")
        return self.pick(
            ("SET", k, self.word()), ("SET", k, self.word(), "PX", self.ttl()), ("SET", k, self.word(), "NX"),
            ("SET", k, self.word(), "XX", "GET"), ("SET", k, self.word(), "KEEPTTL"), ("SETEX", k, 900, self.word()),
            ("PSETEX", k, self.ttl(), self.word()), ("SETNX", k, self.word()), ("GETSET", k, self.word()),
            ("GETDEL", k), ("GETEX", k, "PX", self.ttl()), ("GETEX", k, "PERSIST"), ("APPEND", k, self.word()),
            ("SETRANGE", k, r.randrange(100), self.word()), ("INCR", n), ("DECRBY", n, r.randrange(9)),
            ("INCRBY", n, r.randrange(1000)), ("INCRBYFLOAT", n, "0.5"), ("MSET", k, self.word(), self.key("s"), self.word()),
            ("MSETNX", k, 1, self.key("s"), 2))

    def list(self):
        k, o, r = self.key("l"), self.key("l"), self.rng
        return self.pick(
            ("RPUSH", k, *self.words()), ("LPUSH", k, *self.words()), ("RPUSH", k, *self.words(50)), ("RPUSHX", k, self.word()),
            ("LPUSHX", k, self.word()), ("LPOP", k), ("RPOP", k, 2), ("LINSERT", k, "BEFORE", f"w{r.randrange(50)}", self.word()),
            ("LSET", k, r.randrange(-3, 3), self.word()), ("LREM", k, r.randrange(-2, 3), f"w{r.randrange(50)}"),
            ("LTRIM", k, 0, 200), ("RPOPLPUSH", k, o), ("LMOVE", k, o, "LEFT", "RIGHT"), ("BLPOP", k, 0.01),
            ("BRPOPLPUSH", k, o, 0.01), ("LMPOP", 2, k, o, "LEFT", "COUNT", 2), ("SORT", k, "ALPHA", "STORE", self.key("l")))

    def set(self):
        k, o, d = self.key("set"), self.key("set"), self.key("set")
        return self.pick(
            ("SADD", k, *self.words()), ("SADD", k, *range(20)), ("SADD", k, *self.words(200)), ("SREM", k, *self.words()),
            ("SPOP", k), ("SPOP", k, 3), ("SMOVE", k, o, f"w{self.rng.randrange(50)}"), ("SUNIONSTORE", d, k, o),
            ("SINTERSTORE", d, k, o), ("SDIFFSTORE", d, k, o))

    def zset(self):
        k, o, d, r = self.key("z"), self.key("z"), self.key("z"), self.rng
        return self.pick(
            ("ZADD", k, r.uniform(-9, 9), self.word()), ("ZADD", k, "GT", "CH", r.random(), f"w{r.randrange(50)}"),
            ("ZADD", k, "NX", r.random(), f"w{r.randrange(50)}"), ("ZINCRBY", k, r.random(), f"w{r.randrange(50)}"),
            ("ZADD", k, *(x for i in range(150) for x in (r.random(), f"m{i}"))), ("ZREM", k, f"w{r.randrange(50)}"),
            ("ZPOPMIN", k), ("ZPOPMAX", k, 2), ("ZREMRANGEBYRANK", k, 0, 1), ("ZREMRANGEBYSCORE", k, "-1", "(1"),
            ("ZREMRANGEBYLEX", k, "[a", "(b"), ("ZUNIONSTORE", d, 2, k, o, "WEIGHTS", 1, 2), ("ZINTERSTORE", d, 2, k, o),
            ("ZDIFFSTORE", d, 2, k, o), ("ZRANGESTORE", d, k, 0, 5), ("BZPOPMIN", k, 0.01), ("ZMPOP", 1, k, "MIN"))

    def hash(self):
        k, r = self.key("h"), self.rng
        field = f"f{r.randrange(40)}"
        return self.pick(
            ("HSET", k, field, self.word()), ("HSET", k, *(x for i in range(30) for x in (f"f{i}", self.word()))),
            ("HMSET", k, field, self.word(), "", self.word()), ("HSETNX", k, field, 1), ("HDEL", k, field, "none"),
            ("HINCRBY", k, f"n{r.randrange(5)}", r.randrange(9)), ("HINCRBYFLOAT", k, f"n{r.randrange(5)}", "0.25"),
            ("HPEXPIRE", k, self.ttl(), "FIELDS", 1, field), ("HPERSIST", k, "FIELDS", 1, field),
            ("HEXPIREAT", k, int(time.time()) + 9000, "GT", "FIELDS", 1, field), ("HGETDEL", k, "FIELDS", 1, field),
            ("HSETEX", k, "PX", self.ttl(), "FIELDS", 1, field, self.word()), ("HGETEX", k, "PX", self.ttl(), "FIELDS", 1, field))

    def stream(self):
        k, r = self.key("x"), self.rng
        consumer = f"c{r.randrange(3)}"
        return self.pick(
            ("XADD", k, "*", "f", self.word()), ("XADD", k, "*", "f", self.word(), "g", self.word()),
            ("XADD", k, "MAXLEN", "~", 100, "*", "f", self.word()), ("XADD", k, "NOMKSTREAM", "*", "n", 1),
            ("XGROUP", "CREATE", k, "g", "0", "MKSTREAM"), ("XGROUP", "CREATECONSUMER", k, "g", consumer),
            ("XGROUP", "DELCONSUMER", k, "g", "c9"), ("XGROUP", "SETID", k, "g", "0"), ("XGROUP", "DESTROY", k, "other"),
            ("XREADGROUP", "GROUP", "g", consumer, "COUNT", 3, "STREAMS", k, ">"),
            ("XREADGROUP", "GROUP", "g", consumer, "COUNT", 3, "NOACK", "STREAMS", k, ">"),
            ("XAUTOCLAIM", k, "g", consumer, 0, "0", "COUNT", 2), ("XTRIM", k, "MAXLEN", r.randrange(20, 60)),
            ("EVAL", "local p = redis.call('XPENDING', KEYS[1], 'g', '-', '+', 3) "
                     "for _, e in ipairs(p) do redis.call(ARGV[1], KEYS[1], 'g', unpack(ARGV[1] == 'XACK' and {e[1]} or {ARGV[2], 0, e[1]})) end",
             1, k, self.pick("XACK", "XCLAIM"), consumer),
            ("EVAL", "local e = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1) if e[1] then redis.call('XDEL', KEYS[1], e[1][1]) end", 1, k))

    def bits(self):
        k, r = self.key("b"), self.rng
        return self.pick(("SETBIT", k, r.randrange(2000), r.randrange(2)), ("BITFIELD", k, "INCRBY", "u8", "#3", 7),
                         ("BITFIELD", k, "SET", "i16", 100, -5, "OVERFLOW", "SAT", "INCRBY", "i4", 0, 9),
                         ("BITOP", self.pick("AND", "OR", "XOR"), self.key("b"), k, self.key("b")), ("BITOP", "NOT", self.key("b"), k))

    def sketch(self):
        k = self.key("pf")
        return self.pick(("PFADD", k, *self.words()), ("PFMERGE", self.key("pf"), k, self.key("pf")), ("PFCOUNT", k))

    def geo(self):
        k, r = self.key("g"), self.rng
        return self.pick(("GEOADD", k, r.uniform(-170, 170), r.uniform(-80, 80), f"p{r.randrange(30)}"),
                         ("GEOSEARCHSTORE", self.key("g"), k, "FROMLONLAT", 0, 0, "BYRADIUS", 9000, "km", "ASC"),
                         ("GEORADIUS", k, 0, 0, 5000, "km", "STORE", self.key("g")))

    def any_key(self):
        return self.key(self.pick("s", "n", "l", "set", "z", "h", "x", "b", "pf", "g"))

    def expiry(self):
        k, now = self.any_key(), time.time()
        return self.pick(("EXPIRE", k, 1000), ("PEXPIRE", k, self.ttl()), ("EXPIREAT", k, int(now) + 900),
                         ("PEXPIREAT", k, int(now * 1000) + self.ttl()), ("PEXPIRE", k, self.ttl(), "GT"), ("EXPIRE", k, 700, "NX"),
                         ("PEXPIRE", k, self.ttl(), "XX"), ("EXPIRE", k, 5000, "LT"), ("PERSIST", k), ("EXPIRE", k, -1),
                         ("PEXPIREAT", k, 1000))

    def generic(self):
        kind = self.pick("s", "l", "set", "z", "h", "x")
        k, o, db = self.key(kind), self.key(kind), self.pick(*self.dbs)
        choices = [("DEL", k, self.any_key()), ("UNLINK", k), ("RENAME", k, o), ("RENAMENX", k, o), ("COPY", k, o),
                   ("COPY", k, o, "REPLACE"), ("COPY", k, o, "DB", db, "REPLACE"), ("MOVE", k, db), ("TOUCH", k),
                   ("SORT", self.key("set"), "ALPHA", "STORE", self.key("l")), ("PUBLISH", "channel", "x")]
        if self.swapdb:
            choices.append(("SWAPDB", self.pick(*self.dbs), self.pick(*self.dbs)))
        if self.flush:
            choices += [("FLUSHDB",), ("FLUSHALL", "ASYNC")]
        return self.pick(*choices)

    def script(self):
        return self.pick(("EVAL", "redis.call('INCR', KEYS[1]) redis.call('RPUSH', KEYS[2], ARGV[1], redis.call('GET', KEYS[1])) return 1",
                          2, self.key("n"), self.key("l"), self.word()),
                         ("EVAL", "return redis.call('SET', KEYS[1], redis.call('TIME')[2])", 1, self.key("s")),
                         ("FCALL", "gunyu_set", 1, self.key("s"), self.word()),
                         ("EVAL", "redis.call('HSET', KEYS[1], 'a', 1) redis.call('DEL', KEYS[1]) redis.call('PEXPIRE', KEYS[2], 900000)",
                          2, self.key("h"), self.key("s")))

    def transaction(self):
        inner = [self.pick(*self.families[:-1])() for _ in range(self.rng.randrange(1, 6))]
        return [("MULTI",)] + [c for c in inner if c[0] not in ("BLPOP", "BRPOPLPUSH", "BZPOPMIN")] + [("EXEC",)]

    def commands(self, count):
        for _ in range(count):
            self.tag = self.pick(*self.tags) if self.tags else ""
            made = self.pick(*self.families)()
            yield from (c for c in (made if isinstance(made, list) else [made]) if c[0] not in self.without)


def mutate(server, seed=1, n=2000, dbs=DBS, **options):
    """n random writes, spread over the dbs in runs; returns how many commands the server took."""
    mutator = Mutator(seed, dbs=dbs, **options)
    raws = [server.raw(db) for db in dbs]
    taken = 0
    while n > 0:
        run = min(n, mutator.rng.randrange(1, 40))
        n -= run
        replies = mutator.rng.choice(raws).many(mutator.commands(run))
        taken += sum(not isinstance(r, Exception) for r in replies)
    for raw in raws:
        raw.close()
    return taken


def mutate_slots(server, seed=1, n=2000, **options):
    """The same where a cluster takes part: the keys of a command, or transaction, lie in one slot."""
    tags = [f"{{{i}}}" for i in range(30)]
    mutator = Mutator(seed, dbs=(0,), tags=tags, **options)
    raw = server.raw()
    taken = 0
    for _ in range(n):
        commands = list(mutator.commands(1))
        replies = raw.owner(mutator.tag).many(commands)
        taken += sum(not isinstance(r, Exception) for r in replies)
    raw.close()
    return taken

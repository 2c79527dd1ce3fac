# SPDX-License-Identifier: Apache-2.0
"""Are two servers equal? Keys, types, values, expiries, functions, in every database."""

import itertools
import time

import redis

import harness

# The tool's own keys: positions of gunyu and of redisGunYu.
OWN = (b"gunyu:", b"redis-gunyu-", b"/redis-gunyu/")
# Clients of a stream's groups leave their times of last activity; these are not replicated.
STREAM_LOCAL = {b"radix-tree-keys", b"radix-tree-nodes", b"seen-time", b"active-time", b"lag", b"idmp-duration",
                b"idmp-maxsize", b"pids-tracked", b"iids-tracked", b"iids-added", b"iids-duplicates"}
# Servers do not replicate every change of a group's entries-read, nor a consumer that was created by a
# read that found nothing: a native replica differs as well.
IDLE_CONSUMERS = b"(idle consumers)"
STREAM_LIVE = STREAM_LOCAL | {b"entries-read", IDLE_CONSUMERS}
# Redis 8.6 on; a replica tells the same, but not how much of it was ever added.
STREAM_PRODUCERS = {b"idmp-duration", b"idmp-maxsize", b"pids-tracked", b"iids-tracked"}
# Redis 6 does not tell these.
STREAM_SINCE_7 = {b"max-deleted-entry-id", b"entries-added", b"recorded-first-entry-id", b"entries-read"}
PTTL_TOLERANCE_MS = 100


def pairs(flat):
    return zip(flat[::2], flat[1::2])


def stream_form(node, local):
    """Nested replies of XINFO STREAM FULL as plain values without the names in local."""
    if isinstance(node, list):
        if node and len(node) % 2 == 0 and all(isinstance(k, bytes) for k in node[::2]) and \
                any(k in (b"length", b"pel-count", b"name") for k in node[::2]):
            return {k: stream_form(v, local) for k, v in pairs(node) if k not in local}
        items = [stream_form(v, local) for v in node]
        if IDLE_CONSUMERS in local:
            items = [i for i in items if not (isinstance(i, dict) and i.get(b"pel-count") == 0 and b"pending" in i and b"consumers" not in i)]
        return items
    return node


class Side:
    """One server, read with as few round trips as its commands allow."""

    def __init__(self, server, common, local):
        self.server = server
        self.local = local
        self.common = common  # optional commands that both servers have
        self.raws = {}

    def raw(self, db):
        if db not in self.raws:
            self.raws[db] = self.server.raw(db)
        return self.raws[db]

    def close(self):
        for raw in self.raws.values():
            raw.close()

    def keys(self, db):
        found = set()
        for raw in self.raw(db).each():
            cursor = b"0"
            while True:
                cursor, part = raw.call("SCAN", cursor, "COUNT", 5000)
                found.update(k for k in part if not k.startswith(OWN))
                if cursor == b"0":
                    break
        return found

    def values(self, db, keys):
        """{key: (type, value, expiry)}; expiry is absolute ms, and where only PTTL exists nearly so."""
        raw = self.raw(db)
        keys = list(keys)
        types = raw.many(["TYPE", k] for k in keys)
        reads = {b"string": lambda k: ("GET", k), b"list": lambda k: ("LRANGE", k, 0, -1),
                 b"set": lambda k: ("SMEMBERS", k), b"zset": lambda k: ("ZRANGE", k, 0, -1, "WITHSCORES"),
                 b"hash": lambda k: ("HGETALL", k), b"stream": lambda k: ("XINFO", "STREAM", k, "FULL", "COUNT", 0)}
        values = raw.many([reads.get(t, lambda k: ("DUMP", k))(k) for k, t in zip(keys, types)], window=200)
        expiries = self.expiries(raw, keys)
        out = {}
        for key, kind, value, expiry in zip(keys, types, values, expiries):
            if kind == b"none" or isinstance(value, redis.ResponseError) or value is None:
                continue
            out[key] = (kind, self.form(kind, value), expiry)
        for key in [k for k, v in out.items() if v[0] == b"vectorset"]:
            out[key] = (b"vectorset", self.vectors(raw, key), out[key][2])
        if "hpexpiretime" in self.common:
            hashes = [(k, sorted(v[1])) for k, v in out.items() if v[0] == b"hash"]
            times = raw.many([("HPEXPIRETIME", k, "FIELDS", len(f), *f) for k, f in hashes], window=50)
            for (key, fields), at in zip(hashes, times):
                if isinstance(at, list):
                    kind, value, expiry = out[key]
                    out[key] = (kind, {f: (value[f], t) for f, t in zip(fields, at)}, expiry)
        return out

    def expiries(self, raw, keys):
        if "pexpiretime" in self.common:
            return raw.many(["PEXPIRETIME", k] for k in keys)
        answers = iter(raw.many(command for k in keys for command in (["TIME"], ["PTTL", k])))
        return [left if left < 0 else int(s) * 1000 + int(us) // 1000 + left for (s, us), left in zip(answers, answers)]

    def form(self, kind, value):
        if kind == b"set":
            return frozenset(value)
        if kind == b"hash":
            return dict(pairs(value))
        if kind == b"zset":
            return {member: float(score) for member, score in pairs(value)}
        if kind == b"stream":
            return stream_form(value, self.local)
        return value

    def vectors(self, raw, key):
        # The bytes of DUMP differ from version to version.
        elements = raw.call("VRANDMEMBER", key, 1 << 30)
        replies = raw.many(c for e in elements for c in (("VEMB", key, e), ("VGETATTR", key, e)))
        return dict(zip(elements, pairs(replies)))

    def functions(self):
        """What every node has; of nodes that differ, all of it."""
        lists = [raw.call("FUNCTION", "LIST", "WITHCODE") for raw in self.raw(0).each()]
        found = [sorted((dict(pairs(lib))[b"library_name"], dict(pairs(lib))[b"library_code"]) for lib in reply) for reply in lists]
        return found[0] if all(f == found[0] for f in found) else found


def brief(value, limit=160):
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def describe(db, key, a, b):
    where = f"db {db} key {brief(key, 80)}"
    if a is None or b is None:
        return f"{where}: only at the {'target' if a is None else 'source'} ({brief(b if a is None else a)})"
    if a[0] != b[0]:
        return f"{where}: type {a[0]} against {b[0]}"
    if a[1] != b[1]:
        if isinstance(a[1], dict) and isinstance(b[1], dict):
            names = [n for n in set(a[1]) | set(b[1]) if a[1].get(n) != b[1].get(n)]
            one = sorted(names, key=repr)[0]
            return (f"{where} ({a[0].decode()}): {len(names)} members differ, e.g. {brief(one, 60)}: "
                    f"{brief(a[1].get(one))} against {brief(b[1].get(one))}")
        return f"{where} ({a[0].decode()}): {brief(a[1])} against {brief(b[1])}"
    return f"{where} ({a[0].decode()}): expiry {a[2]} against {b[2]}"


def same(a, b, slack_ms):
    if a is None or b is None:
        return a is b
    if a[:2] != b[:2]:
        return False
    if a[2] < 0 or b[2] < 0:
        return a[2] == b[2]
    return abs(a[2] - b[2]) <= slack_ms


def compare(source, target, db_map=None, ignore=(), functions=True, static=False, limit=20, slack_ms=0):
    """Differences as lines of text, at most limit; an empty list says equal.

    db_map: source db to target db, for those that are not themselves (None: to nowhere). ignore: prefixes
    of keys. static: the data came by a full sync only, so what streams do not carry is compared as well.
    slack_ms: of expiries; MIGRATE from one node to another takes the time left, and is not exact.
    A key that differs is read twice more, so that one which expires between two reads is no difference.
    """
    db_map = db_map or {}
    optional = {c for c in ("pexpiretime", "hpexpiretime", "function", "xcfgset") if source.has(c) and target.has(c)}
    absolute = "pexpiretime" in optional
    local = STREAM_LOCAL if static else STREAM_LIVE
    if static and "xcfgset" in optional:
        local = local - STREAM_PRODUCERS
    if not absolute:
        local = local | STREAM_SINCE_7
    a, b = Side(source, optional, local), Side(target, optional, local)
    out = []
    try:
        dbs = range(min(source.databases(), target.databases()))
        for db in dbs:
            to = db_map.get(db, db)
            ours, theirs = a.keys(db), (b.keys(to) if to is not None else set())
            suspects = {k for k in ours | theirs if not k.startswith(tuple(ignore))} if ignore else ours | theirs
            for attempt in range(3):
                if not suspects:
                    break
                if attempt:
                    time.sleep(0.05)
                bad = {}
                suspects = sorted(suspects)
                for at in range(0, len(suspects), 2000):
                    part = suspects[at:at + 2000]
                    va, vb = a.values(db, part), b.values(to, part)
                    for key in part:
                        if not same(va.get(key), vb.get(key), slack_ms if absolute else PTTL_TOLERANCE_MS):
                            bad[key] = (va.get(key), vb.get(key))
                suspects = set(bad)
            out += [describe(db, key, *bad[key]) for key in itertools.islice(suspects, limit)]
        if functions and "function" in optional and a.functions() != b.functions():
            out.append(f"functions: {brief(a.functions())} against {brief(b.functions())}")
    finally:
        a.close()
        b.close()
    return out[:limit]


def assert_equal(source, target, **more):
    found = compare(source, target, **more)
    assert not found, "source and target differ:\n  " + "\n  ".join(found)


_marks = itertools.count(1)


def wait_passed(source, target, timeout=30, db=0, to_db=None, key="zz:mark"):
    """Waits until what the source holds now has reached the target: sends a mark behind it."""
    value = f"{time.time()}:{next(_marks)}".encode()
    source.client(db).set(key, value)
    at = target.client(db if to_db is None else to_db)
    harness.wait_until(lambda: at.get(key) == value, f"the mark {value.decode()} at {target.name}", timeout)


def wait_equal(source, target, timeout=30, mark=True, **more):
    """Waits for the mark, then for equality: expiries held back while behind are set true after it."""
    if mark:
        wait_passed(source, target, timeout)
    deadline = time.monotonic() + timeout * harness.PATIENCE
    while True:
        found = compare(source, target, **more)
        if not found:
            return
        if time.monotonic() > deadline:
            raise AssertionError("source and target stay different:\n  " + "\n  ".join(found))
        time.sleep(0.2)

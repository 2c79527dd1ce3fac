# SPDX-License-Identifier: Apache-2.0
"""`gunyu rdb diff`: equal is equal in every encoding, and each difference is found and named."""

import json
import os
import subprocess
import time

import pytest

import dataset
from harness import GUNYU, PATIENCE, wait_until

VERSIONS = ("redis-6", "redis-7", "redis-8", "redis-next", "valkey-8.0", "valkey-8", "valkey-9")
# Every collection in its large encoding however small it is; names that a server does not know are left out.
LARGE = ("hash-max-ziplist-entries 0", "hash-max-listpack-entries 0", "set-max-intset-entries 0",
         "set-max-listpack-entries 0", "zset-max-ziplist-entries 0", "zset-max-listpack-entries 0",
         "list-max-ziplist-size 1", "list-max-listpack-size 1", "stream-node-max-entries 3", "rdbcompression no")


def diff(a, b, *args, code=None):
    run = subprocess.run([GUNYU, "rdb", "diff", str(a), str(b), *map(str, args)], capture_output=True, text=True,
                         check=False, timeout=120 * PATIENCE)
    if code is not None:
        assert run.returncode == code, f"exit code {run.returncode}\n{run.stdout}\n{run.stderr}"
    return run


def found(a, b, *args, code=1):
    """{(db, key): kind} and the counts."""
    lines = [json.loads(x) for x in diff(a, b, "--format", "jsonl", *args, code=code).stdout.splitlines()]
    return {(x["db"], x["key"]): x["kind"] for x in lines[:-1]}, lines[-1]["counts"]


def file_of(server, to=None):
    server.client().save()
    path = server.dir / "dump.rdb"
    if to:
        to.write_bytes(path.read_bytes())
    return to or path


def large_encodings(server):
    for line in LARGE:
        server.raw().call("CONFIG", "SET", *line.split())


def copy(source, target):
    """By commands, so that the target chooses the encodings."""
    path = file_of(source)
    run = subprocess.run([GUNYU, "rdb", "load", str(path), "--to", target.uri, "--no-restore"], capture_output=True,
                         text=True, check=False, timeout=120 * PATIENCE)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_the_same_values_in_other_encodings_are_equal(world, version):
    a, b = world.server("a", version=version), world.server("b", version=version)
    large_encodings(b)
    dataset.load_everything(a)
    a.raw().many([("HSET", "h", "f", 1), ("ZADD", "z", "-inf", "a", 1.5, "b", -0.0, "c"), ("RPUSH", "l", 1, "2", -3)])
    # What expires soon is gone before the first look.
    wait_until(lambda: not any(a.client(db).exists("ttl:short") for db in dataset.DBS), "the short-lived keys gone")
    copy(a, b)
    assert a.raw().call("OBJECT", "ENCODING", "h") != b.raw().call("OBJECT", "ENCODING", "h")
    files = file_of(a), file_of(b)
    for x, y in (files, (files[0], b.uri), (a.uri, files[1]), (a.uri, b.uri)):
        differences, counts = found(x, y, code=0)
        assert not differences and counts["equal"] == counts["a"] == counts["b"] > 1000


# name, what both have, what b changes, the kind
CHANGES = (
    ("string", ("SET", "K", "v"), ("SET", "K", "w"), "value"),
    ("append", ("SET", "K", "v"), ("APPEND", "K", "\0"), "value"),
    ("integer", ("SET", "K", "12"), ("SET", "K", "012"), "value"),
    ("list order", ("RPUSH", "K", "a", "b"), ("LMOVE", "K", "K", "LEFT", "RIGHT"), "value"),
    ("list cut", ("RPUSH", "K", "ab", "c"), ("EVAL", "redis.call('DEL', KEYS[1]) redis.call('RPUSH', KEYS[1], 'a', 'bc')", 1, "K"), "value"),
    ("set", ("SADD", "K", "a", "b"), ("SREM", "K", "b"), "value"),
    ("score", ("ZADD", "K", 1, "a", 2, "b"), ("ZADD", "K", 2.0000000001, "b"), "value"),
    ("swapped scores", ("ZADD", "K", 1, "a", 2, "b"), ("ZADD", "K", 2, "a", 1, "b"), "value"),
    ("hash value", ("HSET", "K", "f", 1, "g", 2), ("HSET", "K", "f", 2), "value"),
    ("swapped fields", ("HSET", "K", "f", 1, "g", 2), ("HSET", "K", "f", 2, "g", 1), "value"),
    ("stream entry", ("XADD", "K", "1-1", "f", "v"), ("XADD", "K", "1-2", "f", "v"), "value"),
    ("last id", ("XADD", "K", "1-1", "f", "v"), ("XSETID", "K", "5-5"), "value"),
    ("group", ("XADD", "K", "1-1", "f", "v"), ("XGROUP", "CREATE", "K", "g", "0"), "value"),
    ("type", ("SET", "K", "v"), ("EVAL", "redis.call('DEL', KEYS[1]) redis.call('RPUSH', KEYS[1], 'v')", 1, "K"), "type"),
    ("gone", ("SET", "K", "v"), ("DEL", "K"), "missing"),
    ("new", ("DEL", "K"), ("SET", "K", "v"), "extra"),
    ("ttl", ("SET", "K", "v", "PX", 7000000), ("PEXPIRE", "K", 8000000), "ttl"),
    ("no ttl", ("SET", "K", "v", "PX", 7000000), ("PERSIST", "K"), "ttl"),
)


def test_each_kind_of_difference_is_found_and_only_those(world, tmp_path):
    a, b = world.server("a"), world.server("b")
    raw, other = a.raw(), b.raw()
    dataset.load_everything(a, dbs=(0, 3))
    for i, (_, base, _, _) in enumerate(CHANGES):
        raw.call(*[f"k{i}" if x == "K" else x for x in base])
    raw.many([("XGROUP", "CREATE", "stream:large", "pel", "0"),
              ("XREADGROUP", "GROUP", "pel", "c", "COUNT", 2, "STREAMS", "stream:large", ">"), ("SET", "ack", 1)])
    wait_until(lambda: not any(a.client(db).exists("ttl:short") for db in (0, 3)), "the short-lived keys gone")
    copy(a, b)
    expected = {}
    for i, (name, _, change, kind) in enumerate(CHANGES):
        reply = other.call(*[f"k{i}" if x == "K" else x for x in change])
        assert not isinstance(reply, Exception), (name, reply)
        expected[(0, f"k{i}")] = kind
    first = a.client().xrange("stream:large", count=1)[0][0]
    other.many([("XACK", "stream:large", "pel", first), ("SELECT", 3), ("SET", "only here", 1)])
    expected[(0, "stream:large")] = "value"
    expected[(3, "only here")] = "extra"
    files = file_of(a, tmp_path / "a.rdb"), file_of(b, tmp_path / "b.rdb")
    for x, y in (files, (files[0], b.uri), (a.uri, files[1]), (a.uri, b.uri)):
        differences, counts = found(x, y)
        assert differences == expected
        kinds = list(expected.values())
        assert [counts[k] for k in ("missing", "extra", "type_different", "different", "ttl_different")] == \
            [kinds.count(k) for k in ("missing", "extra", "type", "value", "ttl")]


def test_field_expiries(world):
    a, b = world.server("a", version="redis-8"), world.server("b", version="redis-8")
    at = int(time.time() * 1000) + 10_000_000
    for server, ms in ((a, at), (b, at + 1)):
        server.raw().many([("HSET", "h", "f", 1, "g", 2), ("HPEXPIREAT", "h", ms, "FIELDS", 1, "f"),
                           ("HSET", "same", "f", 1), ("HPEXPIREAT", "same", at, "FIELDS", 1, "f")])
    for x, y in ((file_of(a), file_of(b)), (a.uri, b.uri)):
        assert found(x, y)[0] == {(0, "h"): "ttl"}
        found(x, y, "--ignore-ttl", code=0)


def test_tolerance_of_expiries(pair):
    a, b = pair
    at = int(time.time() * 1000) + 10_000_000
    a.raw().many([("SET", "k", 1), ("PEXPIREAT", "k", at), ("SET", "none", 1)])
    b.raw().many([("SET", "k", 1), ("PEXPIREAT", "k", at + 400), ("SET", "none", 1)])
    x, y = file_of(a), file_of(b)
    for left, right in ((x, y), (x, b.uri)):
        assert found(left, right)[0] == {(0, "k"): "ttl"}
        found(left, right, "--ttl-tolerance", 400, code=0)
        assert found(left, right, "--ttl-tolerance", 399)[1]["ttl_different"] == 1


def test_big_values_of_a_server_are_read_in_pieces(world):
    a = world.server("a")
    raw = a.raw()
    raw.many([("SET", "string", os.urandom(9_000_000))])
    for part in range(100):
        raw.many([("RPUSH", "list", *(os.urandom(100) for _ in range(1000))),
                  ("SADD", "set", *(os.urandom(30) for _ in range(1000))),
                  ("ZADD", "zset", *(x for i in range(1000) for x in (part + i / 7, os.urandom(20)))),
                  ("HSET", "hash", *(os.urandom(20) for _ in range(2000)))])
    path = file_of(a)
    assert min(a.client().memory_usage(k) for k in a.client().keys()) > 4 << 20
    found(path, a.uri, code=0)
    raw.many([("SETRANGE", "string", 8_999_999, "\0\0"), ("LSET", "list", 99_998, "x"), ("SADD", "set", "x"),
              ("ZADD", "zset", 1, "x"), ("HSET", "hash", "x", "y")])
    differences, counts = found(path, a.uri)
    assert set(differences.values()) == {"value"} and counts["different"] == 5


def test_what_has_expired_is_not_missing_on_a_server(world):
    a, b = (world.server(name, enable_debug_command="yes") for name in "ab")
    for server in (a, b):
        replies = server.raw().many([("DEBUG", "SET-ACTIVE-EXPIRE", 0), ("SET", "stays", 1), ("SET", "gone", 1, "PX", 30)])
        assert set(replies) == {b"OK"}
    path = file_of(a)
    time.sleep(0.05)
    _, counts = found(path, b.uri, code=0)
    assert counts["expired"] == 1 and counts["equal"] == 1


def test_selection_limit_and_formats(pair, tmp_path):
    a, b = pair
    a.raw().many([("SET", f"k{i}", i) for i in range(30)] + [("SADD", "set", 1), ("SELECT", 2), ("SET", b"\xff\x00", 1)])
    x, y = file_of(a, tmp_path / "a"), file_of(b)
    run = diff(x, y, "--limit", 3, code=1)
    lines = run.stdout.splitlines()
    assert sum(line.startswith("only in A: db ") for line in lines) == 3
    assert lines[-2] == "... and 29 more" and lines[-1].startswith("32 keys in A, 0 in B: 0 equal, 32 only in A")
    whole = json.loads(diff(x, y, "--format", "json", code=1).stdout)
    assert len(whole["differences"]) == 32 and whole["counts"]["missing"] == 32
    assert {"base64": "/wA="} in [d["key"] for d in whole["differences"]]
    assert list(found(x, y, "--type", "set")[0]) == [(0, "set")]
    assert found(x, y, "--db", 0, "--key", "k1?")[1]["a"] == 10
    out = tmp_path / "out.json"
    diff(x, y, "--format", "json", "--output", out, code=1)
    assert json.loads(out.read_text(encoding="utf-8")) == whole
    both = subprocess.run([GUNYU, "rdb", "diff", "-", str(x)], stdin=open(x, "rb"), check=False, capture_output=True)
    assert both.returncode == 0


def test_many_keys_in_little_memory(pair, tmp_path):
    a, b = pair
    a.raw().many((("SET", f"key:{i}", i) for i in range(60000)), window=5000)
    x = file_of(a, tmp_path / "a")
    a.raw().many([("DEL", "key:77"), ("SET", "key:1234", "x"), ("SET", "key:new", 1)])
    y = file_of(a)
    differences, counts = found(x, y, "--memory", "1m")
    assert differences == {(0, "key:77"): "missing", (0, "key:1234"): "value", (0, "key:new"): "extra"}
    assert counts["a"] == counts["b"] == 60000


def test_trouble_has_its_own_exit_code(pair, tmp_path):
    a, b = pair
    a.raw().many(("SET", f"k{i}", i) for i in range(30000))
    path = file_of(a)
    cut = tmp_path / "cut"
    cut.write_bytes(path.read_bytes()[:-20])
    for left, right, word in ((path, tmp_path / "none", "No such file"), (cut, path, "cut off"), (path, tmp_path, "directory"),
                              ("redis://127.0.0.1:1", path, "127.0.0.1:1")):
        run = diff(left, right, code=2)
        assert word in run.stderr and len(run.stderr.splitlines()) == 1 and not run.stdout
    run = diff(path, path, "--tmpdir", tmp_path / "none", code=2)
    assert "temporary" in run.stderr
    for args in ((path,), (path, path, path), (path, path, "--format", "xml"), ("-", "-"), (path, path, "--limit", "x")):
        run = subprocess.run([GUNYU, "rdb", "diff", *map(str, args)], capture_output=True, text=True, check=False)
        assert run.returncode == 2 and run.stderr
    assert diff("--help", "x").returncode == 0


def test_bookkeeping_is_not_compared(pair):
    a, b = pair
    a.raw().many([("SET", "k", 1), ("SET", "gunyu:position:abc", "x")])
    b.raw().many([("SET", "k", 1)])
    for x, y in ((file_of(a), file_of(b)), (a.uri, b.uri), (file_of(a), b.uri)):
        found(x, y, code=0)

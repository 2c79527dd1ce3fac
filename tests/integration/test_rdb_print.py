# SPDX-License-Identifier: Apache-2.0
"""`gunyu rdb print` and `gunyu rdb verify`: what they say of a file is what its server answers."""

import base64
import csv
import gzip
import io
import json
import os
import pathlib
import re
import socket
import struct
import subprocess
import time

import pytest
from redis.crc import key_slot

import compare
import dataset
from harness import GUNYU, PATIENCE

SERVERS = ("redis-6", "redis-7", "redis-8", "redis-next", "valkey-8", "valkey-9")
RSS_LIMIT = 64 << 20


def rdb(*args, code=0, data=None):
    """stdout of a run that must end with this exit code; for another code than 0 also its one line."""
    run = subprocess.run([GUNYU, "rdb", *map(str, args)], capture_output=True, check=False, input=data,
                         timeout=120 * PATIENCE)
    error = run.stderr.decode()
    assert run.returncode == code, f"exit code {run.returncode}\n{error}"
    if code == 0:
        return run.stdout
    assert error.count("\n") == 1 and error.startswith(f"gunyu rdb {args[0]}: "), error
    return run.stdout, error


def rows(out):
    return [json.loads(line) for line in out.splitlines()]


def raw(value):
    """The bytes of a string in JSON."""
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value.encode()


def file_of(server):
    server.client().save()
    return server.dir / "dump.rdb"


def stream_in_file(value):
    out = {b"length": value["length"], b"last-generated-id": value["last_id"].encode(),
           b"max-deleted-entry-id": value["max_deleted_id"].encode(), b"entries-added": value["entries_added"],
           b"entries": [[e["id"].encode(), [raw(x) for pair in e["fields"] for x in pair]] for e in value["entries"]],
           b"groups": {}}
    for group in value["groups"]:
        consumers = {raw(c["name"]): (c["seen_time"], c["active_time"],
                                      [[p["id"].encode(), p["delivery_time"], p["delivery_count"]] for p in c["pending"]])
                     for c in group["consumers"]}
        out[b"groups"][raw(group["name"])] = (group["last_delivered_id"].encode(), group["entries_read"], consumers)
    return out


def stream_at_server(reply):
    reply = dict(compare.pairs(reply))
    out = {k: reply.get(k) for k in (b"length", b"last-generated-id", b"max-deleted-entry-id", b"entries-added",
                                     b"entries")}
    out[b"groups"] = {}
    for group in reply[b"groups"]:
        group = dict(compare.pairs(group))
        consumers = {}
        for one in group[b"consumers"]:
            one = dict(compare.pairs(one))
            active = one.get(b"active-time")
            consumers[one[b"name"]] = (one[b"seen-time"], active, one[b"pending"])
        out[b"groups"][group[b"name"]] = (group[b"last-delivered-id"], group.get(b"entries-read"), consumers)
    return out


def value_in_file(row):
    kind, value = row["type"], row["value"]
    if kind == "string":
        return raw(value)
    if kind == "list":
        return [raw(v) for v in value]
    if kind == "set":
        assert len({raw(v) for v in value}) == len(value)
        return {raw(v) for v in value}
    if kind == "zset":
        return {raw(m): float(s) for m, s in value}
    if kind == "hash":
        return {raw(f[0]): (raw(f[1]), f[2] if len(f) > 2 else -1) for f in value}
    return stream_in_file(value)


def value_at_server(conn, kind, key, has):
    if kind == "string":
        return conn.call("GET", key)
    if kind == "list":
        return conn.call("LRANGE", key, 0, -1)
    if kind == "set":
        return set(conn.call("SMEMBERS", key))
    if kind == "zset":
        return {m: float(s) for m, s in compare.pairs(conn.call("ZRANGE", key, 0, -1, "WITHSCORES"))}
    if kind == "hash":
        fields = list(compare.pairs(conn.call("HGETALL", key)))
        if not fields:  # the last of them has just expired
            return {}
        times = conn.call("HPEXPIRETIME", key, "FIELDS", len(fields), *(f for f, _ in fields)) \
            if "hpexpiretime" in has else [-1] * len(fields)
        return {f: (v, t) for (f, v), t in zip(fields, times)}
    return stream_at_server(conn.call("XINFO", "STREAM", key, "FULL", "COUNT", 0))


def without_what_the_server_does_not_tell(got, want):
    """Streams before Redis 7.0 and 7.2 have fewer facts."""
    for k in (b"max-deleted-entry-id", b"entries-added"):
        if want[k] is None:
            got[k] = None
    for name, (last, read, consumers) in want[b"groups"].items():
        g_last, g_read, g_consumers = got[b"groups"][name]
        if b"entries-added" not in got or want[b"entries-added"] is None:
            g_read = read
        for c, (_, active, _) in consumers.items():
            seen, _, pending = g_consumers[c]
            if active is None or active == -1:
                g_consumers[c] = (seen, active, pending)
        got[b"groups"][name] = (g_last, g_read, g_consumers)
        want[b"groups"][name] = (last, read, consumers)


@pytest.mark.parametrize("version", SERVERS)
def test_jsonl_is_what_the_server_answers(world, version):
    server = world.server(version, version=version)
    dataset.load_everything(server)
    found = rows(rdb("print", "--format", "jsonl", file_of(server)))
    has = {c for c in ("pexpiretime", "hpexpiretime") if server.has(c)}
    keys, kinds = {}, set()
    for row in found:
        if "db" not in row:
            continue
        conn = server.raw(row["db"])
        key = raw(row["key"])
        keys.setdefault(row["db"], set()).add(key)
        if row["expire_at"] is not None and row["expire_at"] < time.time() * 1000 + 2000:
            continue  # may be gone at the server
        where = f"db {row['db']} key {key!r}"
        assert conn.call("TYPE", key).decode() == row["type"], where
        kinds.add(row["type"])
        got, want = value_in_file(row), value_at_server(conn, row["type"], key, has)
        if row["type"] == "stream":
            without_what_the_server_does_not_tell(got, want)
        assert got == want, where
        if "pexpiretime" in has:
            assert conn.call("PEXPIRETIME", key) == (row["expire_at"] or -1), where
        else:
            assert (conn.call("PTTL", key) == -1) == (row["expire_at"] is None), where
        conn.close()
    assert kinds == {"string", "list", "set", "zset", "hash", "stream"}
    for db in dataset.DBS:
        assert set(server.client(db).keys()) <= keys[db]
    codes = sorted(raw(row["code"]).decode() for row in found if row["type"] == "function")
    assert codes == ([dataset.LIBRARY] if server.has("function") else [])
    rdb("verify", server.dir / "dump.rdb")


def send(server, data):
    with socket.create_connection(("127.0.0.1", server.port)) as s:
        s.settimeout(60)
        s.sendall(data + b"*2\r\n$4\r\nECHO\r\n$8\r\nthat-all\r\n")
        got = b""
        while not got.endswith(b"$8\r\nthat-all\r\n"):
            part = s.recv(1 << 20)
            assert part
            got += part
    return [line for line in got.split(b"\r\n") if line.startswith(b"-")]


@pytest.mark.parametrize("version", ("redis-7", "redis-next", "valkey-9"))
def test_resp_makes_the_keys_again(world, version):
    source = world.server("from", version=version)
    target = world.server("to", version=version)
    dataset.load_everything(source)
    target.client().rpush("list:small", "in the way")
    client = source.client()
    for i in range(1, 4):
        client.xadd("pending", {"f": i}, id=f"{i}-0")
    client.xgroup_create("pending", "g", "0")
    client.xreadgroup("g", "c", {"pending": ">"})
    client.xdel("pending", "2-0")
    assert send(target, rdb("print", "--format", "resp", file_of(source))) == []
    assert target.client().xpending("pending", "g")["pending"] == 3
    compare.assert_equal(source, target)


def test_the_other_formats_hold_the_same(world):
    server = world.server()
    dataset.load_everything(server, dbs=(0,))
    path = file_of(server)
    lines = rows(rdb("print", "--format", "jsonl", path))
    assert json.loads(rdb("print", "--format", "json", path)) == lines
    packed = server.dir / "dump.rdb.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert rows(rdb("print", "--format", "jsonl", packed)) == lines
    assert rows(rdb("print", "--format", "jsonl", "-", data=packed.read_bytes())) == lines

    text = rdb("print", "--format", "csv", "--type", "set,hash", path).decode("latin-1").replace("\0", "(nul)")
    table = list(csv.DictReader(io.StringIO(text, newline="")))
    elements = sum(len(row["value"]) for row in lines if row["type"] in ("set", "hash"))
    assert len(table) == elements

    short = {(raw(r["key"]), raw(r["val"]), r["ttl"], r["type"]) for r in rows(rdb("print", path)) if r["type"] == "string"}
    assert short == {(raw(r["key"]), raw(r["value"]), r["expire_at"] or 0, "string") for r in lines if r["type"] == "string"}


def test_selection(world):
    server = world.server()
    for db in (0, 2):
        raw_db = server.raw(db)
        raw_db.many([("SET", "user:1", "x"), ("SET", "user:2", os.urandom(500), "PX", 3600000), ("RPUSH", "list", "a"),
                     ("HSET", "{tag}h", "f", "v"), ("SET", "{tag}s", "v")])
        raw_db.close()
    path = file_of(server)

    def keys(*options):
        return sorted((r["db"], r["key"]) for r in rows(rdb("print", "--format", "jsonl", *options, path)))

    assert keys("--db", "2", "--key", "user:*") == [(2, "user:1"), (2, "user:2")]
    assert keys("--db", "0", "--not-key", "user:*", "--type", "string") == [(0, "{tag}s")]
    assert keys("--slot", key_slot(b"{tag}h"), "--db", "0") == [(0, "{tag}h"), (0, "{tag}s")]
    assert keys("--min-size", "100", "--db", "0") == [(0, "user:2")]
    assert keys("--max-size", "100", "--type", "string", "--db", "0") == [(0, "user:1"), (0, "{tag}s")]
    assert keys("--ttl", "..2h") == [(0, "user:2"), (2, "user:2")]
    assert keys("--type", "list,hash", "--db", "2") == [(2, "list"), (2, "{tag}h")]


def test_redisgunyus_command_line(world, tmp_path):
    server = world.server()
    server.client().set("greeting", "hello")
    path = file_of(server)
    conf = tmp_path / "rdb.yaml"
    out = tmp_path / "printed"
    conf.write_text(f"action: print\nrdbPath: {path}\nprint:\n  output: {out}\n")
    line = '{"db":0, "key":"greeting", "val":"hello", "ttl":0, "type":"string"}'
    subprocess.run([GUNYU, "-cmd=rdb", "-conf", conf], check=True)
    assert out.read_text().splitlines()[-1] == line
    run = subprocess.run([GUNYU, "-cmd", "rdb", "--rdb.action", "print", f"-rdb.rdbPath={path}", "--rdb.print.noLogKey"],
                         check=True, capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == line.replace('"key":"greeting", ', "")
    target = world.server("target")
    subprocess.run([GUNYU, "-cmd=rdb", "--rdb.action=load", f"--rdb.rdbPath={path}", "--rdb.load.redis.addresses",
                    target.address], check=True, capture_output=True, timeout=60)
    assert target.client().get("greeting") == b"hello"


def test_bad_input_is_one_line_and_a_failure(world, tmp_path):
    server = world.server()
    dataset.load_everything(server, dbs=(0,))
    whole = file_of(server).read_bytes()
    bad = tmp_path / "bad.rdb"
    for verb in ("print", "verify"):
        _, error = rdb(verb, tmp_path / "missing", code=1)
        assert "missing" in error and "No such file" in error
        _, error = rdb(verb, tmp_path, code=1)
        assert "directory" in error
        for content, words in ((b"", "empty"), (b"not an RDB file", "no RDB file"), (b"REDIS9999" + whole[9:], "version")):
            bad.write_bytes(content)
            assert words in rdb(verb, bad, code=1)[1]
        for cut in (len(whole) // 3, len(whole) - 1):
            bad.write_bytes(whole[:cut])
            assert f"byte {cut}," in rdb(verb, bad, code=1)[1]
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 4
        bad.write_bytes(flipped)
        assert "byte " in rdb(verb, bad, code=1)[1]
        if os.getuid() != 0:
            bad.chmod(0)
            assert "Permission denied" in rdb(verb, bad, code=1)[1]
            bad.chmod(0o600)
    _, error = rdb("print", "-o", "/dev/full", file_of(server), code=1)
    assert "No space left" in error
    old = tmp_path / "old"
    old.write_text("as it was")
    bad.write_bytes(whole[:-3])
    rdb("print", "-o", old, bad, code=1)
    assert old.read_text() == "as it was"
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["bad.rdb", "old"]


def length(n):
    return b"\x81" + struct.pack(">Q", n)


def big_string(n):
    """A file with one key, as chunks, without its end."""
    yield b"REDIS0011\x00\x03big" + length(n)
    chunk = b"0123456789abcdef" * 65536
    for _ in range(n // len(chunk)):
        yield chunk


def big_set(n):
    yield b"REDIS0011\x02\x03big" + length(n)
    part = 100000
    for at in range(0, n, part):
        yield b"".join(b"\x0cmember%06d" % (i // 8) for i in range(at, at + part))


@pytest.mark.parametrize("form", ("jsonl", "line", "csv", "resp"))
@pytest.mark.parametrize("chunks", (lambda: big_string(600 << 20), lambda: big_set(4000000)), ids=("string", "set"))
def test_a_big_key_takes_little_memory(form, chunks):
    if form == "line" and chunks().send(None)[9] == 2:
        pytest.skip("lines have no members")
    with subprocess.Popen([GUNYU, "rdb", "print", "--format", form, "-"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as run:
        counter = subprocess.Popen(["wc", "-c"], stdin=run.stdout, stdout=subprocess.PIPE)
        run.stdout.close()
        sent = 0
        for chunk in chunks():
            run.stdin.write(chunk)
            sent += len(chunk)
        # Not by wait4, which counts what the child was before it became gunyu.
        status = pathlib.Path(f"/proc/{run.pid}/status").read_text(encoding="ascii")
        peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1])
        run.stdin.write(b"\xff" + bytes(8))
        run.stdin.close()
        printed = int(counter.communicate()[0])
    assert run.returncode == 0
    assert printed > sent * 0.9
    assert peak * 1024 < RSS_LIMIT, f"{peak} KiB"

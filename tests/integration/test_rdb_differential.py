# SPDX-License-Identifier: Apache-2.0
"""What a server makes of a damaged DUMP payload, we make of it, too.

A payload that RESTORE takes, with its deepest checks on, is read by `gunyu rdb print` from a file made of it:
the elements are those that the server answers, or an error, for a few: broken lengths, scores and nodes that servers
read as 63, 0 and shorter ones. GUNYU_TEST_SECONDS (4, for each server) and GUNYU_TEST_SEED say how long
and which.
"""

import json
import os
import random
import re
import struct
import subprocess
import time

import pytest

from harness import GUNYU, PATIENCE
from test_rdb_print import raw, value_at_server, value_in_file, without_what_the_server_does_not_tell

SECONDS = float(os.environ.get("GUNYU_TEST_SECONDS", "4"))
BATCH = 100
SERVERS = ("redis-7", "redis-next", "valkey-9")
NUMBERS = (0, 1, 2, 0x0b, 0x0c, 0x0d, 0x3f, 0x40, 0x7f, 0x80, 0x81, 0xbf, 0xc0, 0xc1, 0xc2, 0xc3, 0xe0, 0xf0, 0xf1,
           0xf4, 0xfd, 0xfe, 0xff)


def crc64_table():
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x95AC9329AC4BC9B5 if crc & 1 else 0)
        yield crc


TABLE = tuple(crc64_table())


def payload(body, version):
    """DUMP's form of a type byte and a value."""
    data, crc = body + struct.pack("<H", version), 0
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xff] ^ crc >> 8
    return data + struct.pack("<Q", crc)


def seeds(conn):
    """One small value of each type and encoding, as bytes without version and checksum."""
    small = [("SET", "int", "12345678"), ("SET", "text", "text"), ("SET", "packed", "ab" * 60),
             ("RPUSH", "list", "a", "1", "-5", "70000", "5000000000", "x" * 70, ""),
             ("SADD", "ints", "1", "2", "3"), ("SADD", "wide", "1", "70000", "5000000000"), ("SADD", "set", "a", "b", ""),
             ("ZADD", "zset", "1", "a", "-inf", "b", "2.5", "c"), ("HSET", "hash", "f", "v", "g", "1", "", "")]
    for command in small:
        conn.call(*command)
    for config in ("list-max-listpack-size", "hash-max-listpack-entries", "zset-max-listpack-entries",
                   "set-max-intset-entries"):
        conn.call("CONFIG", "SET", config, 1)
    conn.call("RPUSH", "nodes", "a", "b" * 80, "3")
    conn.call("HSET", "table", "f", "v", "g", "1")
    conn.call("ZADD", "skiplist", "1", "a", "2.5", "b")
    conn.call("SADD", "members", "1", "2", "c")
    for i in range(4):
        conn.call("XADD", "stream", f"{i + 1}-1", *(("a", "1") if i < 3 else ("b", "2", "c", "x" * 20)))
    conn.call("XDEL", "stream", "2-1")
    conn.call("XGROUP", "CREATE", "stream", "g", "0")
    conn.call("XREADGROUP", "GROUP", "g", "c", "COUNT", 2, "STREAMS", "stream", ">")
    conn.call("XGROUP", "CREATECONSUMER", "stream", "g", "idle")
    for key in ("hash", "table"):  # an error where fields do not expire
        conn.call("HPEXPIREAT", key, 4000000000000, "FIELDS", 1, "f")
    found = [conn.call("DUMP", key) for key in conn.call("KEYS", "*")]
    conn.call("FLUSHALL")
    return [d[:-10] for d in found], struct.unpack("<H", found[0][-10:-8])[0]


def damaged(rng, body, others):
    body = bytearray(body)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
        at, how = rng.randrange(len(body)), rng.randrange(8)
        if how == 0:
            body[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            body[at] = rng.choice(NUMBERS)
        elif how == 2:
            body[at] = body[at] + rng.choice((-1, 1)) & 0xff
        elif how == 3 and len(body) > 2:
            del body[at:at + rng.choice((1, 1, 2, 4))]
        elif how == 4:
            body[at:at] = bytes(rng.choice(NUMBERS) for _ in range(rng.choice((1, 1, 2, 9))))
        elif how == 5:
            other, n = rng.choice(others), rng.randrange(1, 12)
            start = rng.randrange(len(other))
            body[at:at + n] = other[start:start + n]
        elif how == 6:
            n = rng.randrange(1, 16)
            body[at:at] = body[at:at + n]
        else:
            body[at:at + 4] = struct.pack("<I", rng.choice((0, 1, 255, 65535, 2**31 - 1, 2**32 - 1, len(body))))[:4]
        if not body:
            return bytes(others[0])
    return bytes(body)


def our_value(path, version, body):
    """The row of a value; what is said against it, if there is none.

    RESTORE does not mind bytes behind a value, nor a value that reaches into the version and checksum."""
    magic = b"REDIS%04d" if version < 80 else b"VALKEY%03d"
    path.write_bytes(magic % version + b"\xfe\x00%c\x01k%s" % (body[0], payload(body, version)[1:]))
    run = subprocess.run([GUNYU, "rdb", "print", "--format", "jsonl", path], capture_output=True, check=False,
                         timeout=60 * PATIENCE)
    assert run.returncode in (0, 1), run.stderr
    try:
        row = json.loads(run.stdout.partition(b"\n")[0])
    except ValueError:
        return run.stderr.decode()
    assert raw(row["key"]) == b"k"
    return row


def known(number):
    return None if number is None or number < 0 else number


def as_we_tell(got, want, kind):
    """Negative times and counts mean "unknown" to us; fields that have expired are gone at the server."""
    if kind == "hash":
        now = time.time() * 1000
        return {f: v for f, v in got.items() if not 0 <= v[1] < now}, want
    if kind == "stream":
        without_what_the_server_does_not_tell(got, want)
        for value in (got, want):
            for name, (last, read, consumers) in value[b"groups"].items():
                value[b"groups"][name] = (last, known(read), {
                    c: (known(seen), known(active), [(i, known(at), n) for i, at, n in pending])
                    for c, (seen, active, pending) in consumers.items()})
    return got, want


def differences(conn, path, version, bodies, has):
    replies = conn.many([("RESTORE", f"k{i}", 0, payload(body, version), "REPLACE") for i, body in enumerate(bodies)])
    taken = [i for i, reply in enumerate(replies) if reply == b"OK"]
    for i in taken:
        kind = conn.call("TYPE", f"k{i}").decode()
        if kind == "none":  # a hash whose fields have all expired
            continue
        want = value_at_server(conn, kind, f"k{i}", has)
        row = our_value(path, version, bodies[i])
        if isinstance(row, str):
            differences.refused += 1  # said aloud, with a place in the file
            if not re.search(r"made\.rdb: .*byte \d+", row):
                yield bodies[i], "refused", row, want
            continue
        got, want = as_we_tell(value_in_file(row), want, kind)
        if row["type"] != kind or got != want:
            yield bodies[i], "differs", got, want
    conn.call("FLUSHALL")
    differences.taken += len(taken)


@pytest.mark.parametrize("name", SERVERS)
def test_damaged_values_are_what_the_server_takes_them_for(world, tmp_path, name):
    server = world.server(name, version=name, sanitize_dump_payload="yes")
    conn, rng = server.raw(), random.Random(os.environ.get("GUNYU_TEST_SEED", "3"))
    has = {c for c in ("hpexpiretime",) if server.has(c)}
    bodies, version = seeds(conn)
    found, done, differences.taken, differences.refused = [], 0, 0, 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and len(found) < 20:
        batch = [damaged(rng, rng.choice(bodies), bodies) for _ in range(BATCH)]
        found += differences(conn, tmp_path / "made.rdb", version, batch, has)
        done += len(batch)
    print(f"{name}: {done} payloads, {differences.taken} of them taken, {differences.refused} of these refused by us")
    assert differences.taken > 10 and differences.refused < differences.taken / 5
    assert not found, "\n".join(f"{body.hex()}: {how}\n  we: {got}\n  server: {want}" for body, how, got, want in found)

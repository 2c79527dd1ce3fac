# SPDX-License-Identifier: Apache-2.0
"""The live stream to a target that is older or of the other family (docs/stream-rewrites.md)."""

import json
import pathlib
import subprocess

import pytest

from compare import wait_equal, wait_passed
from harness import GUNYU, server_binary, wait_until

# What a source of any version executes; one that it does not know is an error there and goes nowhere.
KEYS = """
SET k v EX 200000
SET k v2 KEEPTTL
INCRBYFLOAT f 1.5
PEXPIREAT f 4000000000123
INCRBYFLOAT f 1.5
SET g v PXAT 4000000000000
SET g w XX GET EX 300000
SETEX s 300 v
GETEX s EX 400000
GETEX g PERSIST
SET gone v
GETDEL gone
SET c a
SET c b IFEQ a
SET c d IFEQ b PXAT 4000000000000
SET c e IFNE zzz KEEPTTL
SET d1 v
DELEX d1 IFEQ v
SET d2 v
DELEX d2
SET d3 v
DELIFEQ d3 v
MSETEX 2 m1 1 m2 2
MSETEX 2 m3 1 m4 2 PXAT 4000000000000
MSETEX 2 m3 5 m4 6 XX KEEPTTL
MSETEX 1 m5 5 NX EX 300000
COPY c c2
COPY c2 c3 DB 3 REPLACE
COPY c c3 DB 3 REPLACE
COPY m1 c2 REPLACE
COPY c c4
SETRANGE b1 4 xyz
SET b2 abcdef
SET b3 \xff\x0f\xf0
BITOP DIFF bd b2 b1 b3
BITOP DIFF b2 b2 b1
BITOP DIFF1 bd1 b1 b2 b3
BITOP DIFF1 b1 b1 b2 b3
BITOP ANDOR ba b2 b1 b3
BITOP ONE bo b1 b2 b3
BITOP ONE bo1 b1
BITOP ONE b3 b1 b2 b3 bd
RPUSH l a b c d e f g h i j k
LMOVE l l2 LEFT RIGHT
LMOVE l l2 RIGHT LEFT
LMOVE l l2 LEFT LEFT
LMOVE l l2 RIGHT RIGHT
LMOVE l l LEFT RIGHT
LMOVE l l RIGHT RIGHT
LMOVE l l LEFT LEFT
BLMOVE l l2 LEFT LEFT 1
LPOP l 2
RPOP l 2
RPUSH one x
PEXPIREAT one 4000000000000
LMOVE one one LEFT RIGHT
LMPOP 1 l2 LEFT COUNT 2
LPOP l2 100
RPUSH l2 z
ZADD z 1 a 2 b 3 c 4 d 5.5 e
ZADD z GT 7 a 1 b
ZADD z LT CH 3 a 99 b
ZADD z GT INCR 0.1 a
ZADD z LT INCR 0.1 a
ZADD z GT XX 9 a 9 new
ZADD z GT 3 fresh inf top
ZADD z LT -inf top
ZRANGESTORE z2 z 0 1
ZRANGESTORE z3 z 5 (1 BYSCORE REV LIMIT 0 2
ZRANGESTORE z4 z - + BYLEX
ZRANGESTORE z5 z 0 -2 REV
ZRANGESTORE z5 z5 1 2
ZRANGESTORE z4 nokey 0 1
SADD set a b
ZDIFFSTORE zd 3 z set z2
ZDIFFSTORE zd1 2 set z2
ZDIFFSTORE z5 2 z5 z5
ZMPOP 1 z MIN COUNT 2
GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania 2.35 48.85 Paris
GEOSEARCHSTORE geo2 geo FROMLONLAT 15 37 BYRADIUS 200 km
GEOSEARCHSTORE geo3 geo FROMMEMBER Palermo BYRADIUS 2000 km DESC COUNT 2
HSET h a 1 b 2 c 3 d 4
HINCRBYFLOAT h a 1.5
HSETEX h FIELDS 2 x 1 y 2
HSETEX h FXX KEEPTTL FIELDS 1 x 3
HGETDEL h FIELDS 2 b nope
HGETEX h PERSIST FIELDS 1 a
HPERSIST h FIELDS 1 a
SPUBLISH channel message
"""

FIELDS = """
HSET h a 1 b 2 c 3 d 4
HEXPIRE h 200000 FIELDS 2 a b
HEXPIRE h 300000 NX FIELDS 2 a c
HINCRBYFLOAT h a 1.5
HGETEX h EX 400000 FIELDS 2 b nope
HSETEX h PXAT 4000000000000 FIELDS 2 m 1 n 2
HSETEX h FXX KEEPTTL FIELDS 1 m 2
HSETEX h FNX EX 500000 FIELDS 1 o 2
HSETEX h FIELDS 1 n 3
HPERSIST h FIELDS 1 a
HGETDEL h FIELDS 1 b
HGETEX h PERSIST FIELDS 1 m
"""

STREAMS = """
XADD x 1-1 f v
XADD x NOMKSTREAM 1-2 f v
XADD x MAXLEN ~ 100 1-3 f v
XADD x MINID 1-2 2-1 f v
XADD x MINID ~ 1-2 LIMIT 10 2-2 f v
XADD x MINID 2-1 3-1 f v
XADD x KEEPREF MAXLEN 100 3-2 f v
XADD x 4-1 f v
XADD x 4-2 f v
XADD x 5-0 f v
XADD x 5-1 f v
XADD x 5-2 f v
XADD x 5-3 f v
XGROUP CREATE x g 0
XGROUP CREATE x h 0 ENTRIESREAD 1
XGROUP CREATE new n $ MKSTREAM
XGROUP CREATECONSUMER x g idle
XREADGROUP GROUP g alice COUNT 4 STREAMS x >
XREADGROUP GROUP h al COUNT 5 STREAMS x >
XREADGROUP GROUP g bob COUNT 1 STREAMS x >
XADD x DELREF MAXLEN 9 6-1 f v
XTRIM x MAXLEN 8 DELREF
XTRIM x MINID 3-1 DELREF
XAUTOCLAIM x g carl 0 0 COUNT 1
XCLAIM x g carl 0 4-1
XACKDEL x g IDS 2 3-1 9-9
XACKDEL x g ACKED IDS 1 3-2
XACKDEL x h ACKED IDS 1 3-2
XACKDEL x g DELREF IDS 1 4-1
XDELEX x DELREF IDS 1 4-2
XDELEX x ACKED IDS 2 5-0 5-3
XREADGROUP GROUP g alice STREAMS x >
XREADGROUP GROUP h al STREAMS x >
XACK x g 5-0 5-1 5-2
XACK x h 5-0 5-1
XDELEX x ACKED IDS 3 5-0 5-1 5-2
XDELEX x KEEPREF IDS 1 5-1
XDEL x 5-2
XTRIM x MINID 5-3
XADD x 7-1 f v
XADD x 18446744073709551615-5 f v
XADD x MINID 18446744073709551615-0 18446744073709551615-6 f v
XGROUP SETID x g 7-1 ENTRIESREAD 3
XGROUP DELCONSUMER x g bob
XADD q 1-1 f v
XADD q 1-2 f v
XADD q 1-3 f v
XGROUP CREATE q g 0
XREADGROUP GROUP g alice STREAMS q >
XDEL q 1-1 1-2
XAUTOCLAIM q g bob 0 0 COUNT 1
XCLAIM q g bob 0 1-2
XADD y 1-1 f v
XADD y IDMP producer 1 * f v
XADD y IDMP producer 1 * f v
XADD y IDMPAUTO producer * f v
XADD y IDMP producer 2 MAXLEN = 3 * f v
XCFGSET y IDMP-MAXSIZE 10
XSETID y 9999999999999-9 ENTRIESADDED 50 MAXDELETEDID 1-1
"""

FUNCTIONS = "#!lua name=lib\nredis.register_function('f', function(k) return redis.call('SET', k[1], 'x') end)"

PAIRS = [("redis-next", "redis-6"), ("redis-next", "redis-7"), ("redis-next", "redis-8"), ("redis-next", "valkey-8.0"),
         ("redis-next", "valkey-9"), ("redis-next", "redis-next"), ("valkey-9", "redis-6"), ("valkey-9", "redis-8"),
         ("valkey-9", "valkey-8"), ("redis-7", "redis-6")]


def words(text):
    return [line.encode("latin-1").split() for line in text.split("\n") if line]


def streaming(world, source, target, **replay):
    tool = world.gunyu(source, target, config={"output": {"replay": replay}})
    wait_passed(source, target)
    wait_until(lambda: tool.status()[0]["Phase"] == "streaming", "streaming")
    return tool


def pair_of(world, names):
    source, target = names
    return world.server("source", version=source), world.server("target", version=target)


def check(source, target, tool):
    wait_equal(source, target)
    counters = tool.status()[0]["Counters"]
    assert counters["DeadLetters"] == 0 and counters["CmdsFailed"] == 0
    assert not [k for db in (0, 3) for k in target.client(db).keys("gunyu:tmp:*")]


def dead_letters(tool):
    file = tool.journal / (tool.source.address.replace(":", "_") + ".dead")
    done = subprocess.run([GUNYU, "deadletter", "list", str(file), "json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def run(source, text):
    """Executes what the source knows, and says what it did not."""
    commands = words(text)
    replies = source.raw().many(commands)
    return [(c, r) for c, r in zip(commands, replies) if isinstance(r, Exception)]


@pytest.mark.parametrize("names", PAIRS, ids="-to-".join)
def test_what_the_target_does_not_know_ends_equal(world, names):
    source, target = pair_of(world, names)
    tool = streaming(world, source, target)
    text = KEYS + STREAMS
    if target.has("hpexpire"):
        text += FIELDS
    failed = run(source, text)
    if names[0] == "redis-next":
        assert [c for c, _ in failed if c[0] != b"DELIFEQ"] == []
    check(source, target, tool)
    source.raw().many(words("SELECT 3\nFLUSHDB SYNC\nSELECT 0\nFLUSHALL SYNC\nSET after flush"))
    check(source, target, tool)


def test_a_producers_repetitions_are_known_at_the_target(world):
    source, target = pair_of(world, ("redis-next", "redis-next"))
    tool = streaming(world, source, target)
    raw = source.raw()
    first = raw.call("XADD", "x", "IDMP", "producer", "1", "*", "f", "v")
    assert raw.call("XADD", "x", "IDMP", "producer", "1", "*", "f", "again") == first
    # Its message is gone at once, so there is nothing to note.
    raw.call("XADD", "x", "IDMP", "producer", "2", "MAXLEN", 0, "*", "f", "v")
    first = raw.call("XADD", "x", "IDMP", "producer", "3", "*", "f", "v")
    check(source, target, tool)
    assert target.raw().call("XADD", "x", "IDMP", "producer", "3", "*", "f", "again") == first


def test_functions_are_refused_and_published_messages_are_not(world):
    source, target = pair_of(world, ("redis-7", "redis-6"))
    tool = streaming(world, source, target, onError="skip")
    listener = target.client().pubsub()
    listener.subscribe("channel")
    source.raw().many([("FUNCTION", "FLUSH"), ("FUNCTION", "LOAD", FUNCTIONS), ("FCALL", "f", 1, "k"), ("SPUBLISH", "channel", "message"),
                       ("FUNCTION", "DELETE", "lib")])
    wait_equal(source, target)
    assert target.client().get("k") == b"x"
    wait_until(lambda: (listener.get_message(timeout=1) or {}).get("data") == b"message", "the message")
    [letter] = dead_letters(tool)
    assert "the target has no functions" in letter["reason"] and "LOAD" in json.dumps(letter)


CANNOT = [
    ("redis-next", "redis-7", "HSETEX h EX 200000 FIELDS 1 a 1", "the target has no expiries of hash fields"),
    ("redis-next", "redis-8", "XTRIM x MAXLEN = 1 ACKED", "ACKED"),
    ("redis-next", "redis-6", "GEOSEARCHSTORE d geo FROMLONLAT 15 37 BYBOX 900 900 km", "BYBOX"),
    ("redis-next", "valkey-9", "VADD v VALUES 2 1 2 element", "the target has no vector sets"),
    ("valkey-9", "valkey-8", "HEXPIRE h 200000 FIELDS 1 a", "the target has no expiries of hash fields"),
]


def prepare(source):
    source.raw().many(words("HSET h a 1\nXADD x 1-1 f v\nXADD x 1-2 f v\nGEOADD geo 15 37 member"))


@pytest.mark.parametrize("names", CANNOT, ids=lambda c: f"{c[0]}-to-{c[1]}-{c[2].split()[0]}")
def test_what_cannot_be_expressed_stops_the_lane_with_the_reason(world, names):
    source, target = pair_of(world, names[:2])
    tool = streaming(world, source, target)
    prepare(source)
    source.raw().many([("INCR", "n"), names[2].split(), ("INCR", "n")])
    tool.wait_state("error")
    assert names[3] in tool.status()[0]["Error"]
    wait_until(lambda: target.client().get("n") == b"1", "what came before it, and nothing else")
    tool.act("resume", more="&skip=yes")
    wait_until(lambda: target.client().get("n") == b"2", "the lane goes on behind it")


@pytest.mark.parametrize("names", CANNOT[:1], ids=lambda c: f"{c[0]}-to-{c[1]}")
def test_what_cannot_be_expressed_is_kept_as_a_dead_letter(world, names):
    source, target = pair_of(world, names[:2])
    tool = streaming(world, source, target, onError="skip")
    prepare(source)
    source.raw().many([("INCR", "n"), names[2].split(), ("INCR", "n")])
    wait_passed(source, target)
    assert target.client().get("n") == b"2" and tool.state() == "run"
    [letter] = dead_letters(tool)
    assert names[3] in letter["reason"] and "HSETEX" in json.dumps(letter)


@pytest.mark.parametrize("names", PAIRS, ids="-to-".join)
def test_restored_values_arrive_where_their_encoding_is_known(world, names):
    source, target = pair_of(world, names)
    tool = streaming(world, source, target)
    raw = source.raw()
    raw.many(words("SET string v\nSADD ints 1 2 3\nHSET hash a 1\nZADD zset 1 a\nRPUSH list a\nXADD stream 1-1 f v"))
    shared = ["string", "ints"] + (["hash", "zset", "list"] if target.version >= (7, 0) else [])
    for key in shared:
        assert raw.call("RESTORE", f"{key}2", 4000000000000, raw.call("DUMP", key), "ABSTTL") == b"OK"
    check(source, target, tool)
    if target.version < (7, 0) and source.version >= (7, 0):
        raw.call("RESTORE", "hash2", 0, raw.call("DUMP", "hash"))
        tool.wait_state("error")
        assert "encoding" in tool.status()[0]["Error"]


def test_a_source_transaction_stays_one(world):
    """All of it, rewritten or not, in one transaction of the target."""
    source, target = pair_of(world, ("redis-next", "redis-6"))
    tool = streaming(world, source, target)
    monitor = target.client().monitor()
    with monitor as m:
        source.raw().many(words("MULTI\nRPUSH l a b c\nLPOP l 2\nSET k v EX 200000\nLMOVE l m LEFT LEFT\nCOPY k k2\nEXEC"))
        seen = []
        while "EXEC" not in seen or "LTRIM" not in seen:
            seen.append(m.next_command()["command"].split()[0].upper())
    at = max(i for i in range(seen.index("LTRIM")) if seen[i] == "MULTI")
    end = seen.index("EXEC", at)
    assert {"RPUSH", "LTRIM", "SET", "PEXPIREAT", "EVAL"} <= set(seen[at:end])
    check(source, target, tool)


def test_the_unit_tests_scripts_on_the_newest_server():
    """What the server of the unit tests is too old for."""
    program = pathlib.Path(GUNYU).parent / "tests" / "unit" / "test_downgrade"
    if not program.exists():
        pytest.skip("the unit tests are not built")
    run = subprocess.run([str(program)], env={"GUNYU_TEST_SERVER": server_binary("redis-next")}, capture_output=True, text=True, check=False)
    assert run.returncode == 0 and "SKIPPED" not in run.stdout + run.stderr, run.stdout + run.stderr

# SPDX-License-Identifier: Apache-2.0
"""Between every two server versions: full sync, live stream and `gunyu rdb load` end equal, or without
just what the target cannot hold.

Each version is filled once and is the source of all its pairs. tools/make-compatibility writes what
GUNYU_MATRIX collects into docs/compatibility.md.
"""

import itertools
import json
import os
import re
import shutil
import subprocess
from collections import namedtuple

import pytest

import harness
from compare import assert_equal, compare, wait_equal, wait_passed
from dataset import LIBRARY, load_everything, mutate
from test_downgrade import FIELDS, KEYS, STREAMS, dead_letters, words

VERSIONS = ("redis-6", "redis-7", "redis-8", "redis-next", "valkey-8.0", "valkey-8", "valkey-9")
# Further servers, by the paths of their programs: for a run by hand.
VERSIONS += tuple(os.environ.get("GUNYU_MATRIX_SERVERS", "").split())
# Each version once as source and once as target: up, down, and across the families.
SOME = {("redis-6", "valkey-9"), ("redis-7", "redis-6"), ("redis-8", "valkey-8.0"), ("redis-next", "redis-8"),
        ("valkey-8.0", "redis-7"), ("valkey-8", "redis-next"), ("valkey-9", "valkey-8")}
DBS = (0, 3)
PAIRS = [pytest.param(a, b, id=f"{a}-to-{b}", marks=() if (a, b) in SOME else pytest.mark.slow)
         for a, b in itertools.product(VERSIONS, VERSIONS)]
FILES = sorted((harness.ROOT / "tests" / "data" / "rdb").glob("*.rdb"))


def has(command):
    return lambda server, source: server.has(command)


def since(*version):
    return lambda server, source: server.version >= version


def is_valkey(server):
    return "valkey_version" in server.info("server")


def holds_restored_expiries(server, source):
    return server.has("hpexpire") and is_valkey(server) == is_valkey(source)


def holds_vectors(server, source):
    # The module reads its older values, not its newer ones.
    return server.has("vadd") and server.version >= source.version


# What a snapshot may lose: a label of gunyu_degraded_total, what it is called, whether a server holds what
# comes from that source, and whether the snapshot's version alone says that it may come.
Loss = namedtuple("Loss", "name words holds announced")
FIELD_EXPIRIES = Loss("field_expiries", "expiries of hash fields", has("hpexpire"), True)
PRODUCERS = Loss("stream_dedups", "idempotent producers of streams", has("xidmprecord"), True)
MODULES = Loss("modules", "module values", holds_vectors, False)
LOSSES = (Loss("functions", "function libraries", has("function"), True), FIELD_EXPIRIES, PRODUCERS, MODULES)

# What a stream may lose, as dead letters: what it is called, the reason in the letter, whether a server
# holds what comes from that source, the keys that it is for, and the commands that bring it.
Refusal = namedtuple("Refusal", "words reason holds keys commands")
UNREADABLE = "the target cannot read the encoding"
REFUSALS = (
    Refusal("function libraries", "the target has no functions", has("function"), "lost_function",
            [("FUNCTION", "LOAD", "#!lua name=lost\nredis.register_function('lost_function', function() end)")]),
    Refusal("expiries of hash fields", "the target has no expiries of hash fields", has("hpexpire"), "lost:fields",
            words(FIELDS.replace(" h ", " lost:fields "))),
    Refusal("vector sets", "the target has no vector sets", has("vadd"), "lost:vector",
            words("VADD lost:vector VALUES 3 1 2 3 a\nVADD lost:vector VALUES 3 -1 2 0 b\nVREM lost:vector b")),
    Refusal("GEOSEARCHSTORE BYBOX", "knows neither BYBOX", has("geosearchstore"), "lost:box",
            words("GEOADD geo:all 15 37 member\nGEOSEARCHSTORE lost:box geo:all FROMLONLAT 15 37 BYBOX 900 900 km")),
    Refusal("trimming of streams by ACKED", "what its groups have ACKED", has("xackdel"), "lost:acked",
            words("XADD lost:acked 1-1 f v\nXADD lost:acked 1-2 f v\nXTRIM lost:acked MAXLEN = 1 ACKED")),
    # Of the key that the rest of the name is.
    Refusal("RESTORE of hashes with expiries of fields", UNREADABLE, holds_restored_expiries, "restored:lost:fields", []),
    Refusal("RESTORE of listpacks", UNREADABLE, since(7, 0), "restored:hash:one", words("HSET hash:one a 1")),
    Refusal("RESTORE of sets as listpacks", UNREADABLE, since(7, 2), "restored:set:two", words("SADD set:two a b")),
)
WITH_FIELD_EXPIRY = ("HPEXPIRE", "HEXPIREAT", "HSETEX", "HGETEX")
# Servers since 7.0 forget a pending entry whose message is gone when it is claimed; Redis 6 keeps it. A native
# replica of a later version differs as well.
KEPT_CLAIMS = "pending entries of deleted messages that Redis 6 keeps when they are claimed"


def groups_over_holes(key):
    """A stream whose groups hold messages that are gone, in order and claimed back and forth."""
    for i in range(1, 10):
        yield "XADD", key, f"{i}-1", "f", i
    yield "XGROUP", "CREATE", key, "g", "0"
    yield "XGROUP", "CREATE", key, "h", "4-1"
    yield "XREADGROUP", "GROUP", "g", "a", "COUNT", 3, "STREAMS", key, ">"
    yield "XREADGROUP", "GROUP", "g", "b", "COUNT", 4, "STREAMS", key, ">"
    yield "XREADGROUP", "GROUP", "h", "a", "STREAMS", key, ">"
    yield "XCLAIM", key, "g", "b", 0, "1-1", "RETRYCOUNT", 7, "TIME", 1700000000000, "JUSTID"
    yield "XREADGROUP", "GROUP", "g", "nothing", "STREAMS", key, "0"


def beyond_the_dataset():
    yield from groups_over_holes("matrix:holes")
    yield "XDEL", "matrix:holes", "2-1", "5-1", "9-1"
    yield from groups_over_holes("matrix:emptied")
    yield "XTRIM", "matrix:emptied", "MAXLEN", 0
    yield from groups_over_holes("matrix:full")
    yield "PEXPIREAT", "matrix:full", 4102444800123
    yield "XADD", "matrix:ahead", "5-5", "f", "v"
    yield "XSETID", "matrix:ahead", "900-1"
    yield "XSETID", "matrix:ahead", "900-2", "ENTRIESADDED", 70, "MAXDELETEDID", "44-4"
    yield "XGROUP", "CREATE", "matrix:ahead", "reader", "5-5", "ENTRIESREAD", 60
    yield "XADD", "matrix:idmp", "IDMP", "producer", "first", "*", "f", "v"
    yield "XCFGSET", "matrix:idmp", "IDMP-DURATION", 80000, "IDMP-MAXSIZE", 500
    yield "XADD", "matrix:idmp", "IDMP", "producer", "second", "*", "f", "v"
    yield "HSET", "matrix:ttl:all", "a", 1, "b", 2
    yield "HPEXPIREAT", "matrix:ttl:all", 4102444800123, "FIELDS", 2, "a", "b"
    yield "PEXPIREAT", "matrix:ttl:all", 4102444900000
    yield "HSET", "matrix:ttl:taken-back", "a", 1, "b", 2
    yield "HPEXPIRE", "matrix:ttl:taken-back", 1000000, "FIELDS", 1, "a"
    yield "HPERSIST", "matrix:ttl:taken-back", "FIELDS", 1, "a"
    for i in range(2, 5):
        yield "VADD", "matrix:vector", "VALUES", 3, i, -i, 7, f"element {i}"
    yield "VSETATTR", "matrix:vector", "element 3", '{"x": 1}'


class Cast:
    """The servers, each started and filled when it is first needed."""

    def __init__(self, world):
        self.world = world
        self.servers = {}

    def server(self, role, version):
        if (role, version) not in self.servers:
            self.servers[role, version] = self.world.server(role, version=version)
        return self.servers[role, version]

    def source(self, version):
        """Filled, and never changed by a test."""
        known = ("source", version) in self.servers
        server = self.server("source", version)
        if not known:
            load_everything(server, dbs=DBS)
            server.raw().many(beyond_the_dataset())
        return server

    def empty(self, role, version):
        server = self.server(role, version)
        server.raw().many([("FLUSHALL",), ("FUNCTION", "FLUSH")])
        return server

    def target(self, version):
        return self.empty("target", version)

    def file(self, version):
        """What the source saves."""
        source = self.source(version)
        path = source.dir / "dump.rdb"
        if not path.exists():
            # Refused while a child still writes the snapshot of a test before.
            harness.wait_until(source.client().save, "the file saved")
        return path


@pytest.fixture(scope="module")
def cast(tmp_path_factory):
    world = harness.World(tmp_path_factory.mktemp("cast"))
    yield Cast(world)
    world.close()


def pair_of(source, target):
    """What the callables give."""
    try:
        return source(), target()
    except harness.Unavailable as error:
        pytest.skip(str(error))


def losses(source, target):
    return {loss for loss in LOSSES if loss.holds(source, source) and not loss.holds(target, source)}


def degraded(tool):
    return {loss.name: int(n) for loss in LOSSES if (n := tool.metric("degraded_total", what=loss.name))}


def names(found):
    return {loss.name for loss in found}


def label(server):
    info = server.info("server")
    return f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"


def note(source, target, way, lost):
    """For tools/make-compatibility."""
    if "GUNYU_MATRIX" in os.environ:
        with open(os.environ["GUNYU_MATRIX"], "a", encoding="utf-8") as out:
            out.write(json.dumps({"source": label(source), "target": label(target), "way": way, "lost": sorted(lost)}) + "\n")


def hashes_with_field_expiries(source):
    return sum(source.client(db).exists("hash:ttl", "hash:ttl:large") for db in DBS) + 1


@pytest.mark.parametrize("restore", [True, False], ids=["restore", "commands"])
@pytest.mark.parametrize("source_version,target_version", PAIRS)
def test_full_sync(world, cast, source_version, target_version, restore):
    source, target = pair_of(lambda: cast.source(source_version), lambda: cast.target(target_version))
    lost = losses(source, target)
    # The guard of expiries is test_live_stream's: here nothing waits for them to settle.
    tool = world.gunyu(source, target, config={"output": {"replay": {
        "onUnsupported": "degrade", "replayRdbEnableRestore": restore, "expiryGuard": False}}})
    wait_equal(source, target, static=True, ignore=(b"matrix:vector",) if MODULES in lost else ())
    counted = degraded(tool)
    assert set(counted) == names(lost), tool.status()[0]["Error"]
    unknown = tool.status()[0]["Unsupported"]
    assert all(loss.words in unknown for loss in lost if loss.announced)
    if "field_expiries" in counted:
        assert counted["field_expiries"] == hashes_with_field_expiries(source)
    note(source, target, "RESTORE" if restore else "commands", [loss.words for loss in lost])


def refused(source, target):
    return [r for r in REFUSALS if r.holds(source, source) and not r.holds(target, source)]


def bring(source, refusal):
    raw = source.raw()
    failed = [r for r in raw.many(refusal.commands) if isinstance(r, Exception)]
    # FIELDS holds what later versions know.
    assert not failed or refusal.words == "expiries of hash fields", failed
    if refusal.reason == UNREADABLE:
        assert raw.call("RESTORE", refusal.keys, 0, raw.call("DUMP", refusal.keys.removeprefix("restored:"))) == b"OK"


@pytest.mark.parametrize("source_version,target_version", PAIRS)
def test_live_stream(world, cast, source_version, target_version):
    """What differs from version to version, then random writes over every family of commands."""
    source, target = pair_of(lambda: cast.empty("live", source_version), lambda: cast.target(target_version))
    lost = refused(source, target)
    gone = losses(source, target)
    without = WITH_FIELD_EXPIRY if FIELD_EXPIRIES in gone else ()
    keeps_claims = target.has("xautoclaim") and not source.has("xautoclaim")
    ignore = tuple(r.keys.encode() for r in lost) + ((b"live:x:", b"q") if keeps_claims else ())
    source.raw().many([("SET", "snapshot", "v", "EX", 100000), ("FUNCTION", "LOAD", LIBRARY)])
    tool = world.gunyu(source, target, config={"output": {"replay": {"onUnsupported": "degrade", "onError": "skip"}}})
    wait_passed(source, target)
    harness.wait_until(lambda: tool.status()[0]["Phase"] == "streaming", "streaming")
    source.raw().many(words(KEYS) + words(STREAMS))
    for refusal in REFUSALS:
        if refusal.holds(source, source):
            bring(source, refusal)
    wait_equal(source, target, ignore=ignore)
    letters = dead_letters(tool) if lost else []
    of = {r.words: [x for x in letters if r.reason in x["reason"] and r.keys in json.dumps(x)] for r in REFUSALS}
    assert sum(map(len, of.values())) == len(letters), letters
    assert [r.words for r in REFUSALS if of[r.words]] == [r.words for r in lost]
    for seed in (71, 72):
        mutate(source, seed=seed, n=600, dbs=DBS, without=without)
        wait_equal(source, target, ignore=ignore)
    counters = tool.status()[0]["Counters"]
    assert counters["DeadLetters"] == len(letters) and counters["CmdsFailed"] == len(letters)
    said = [r.words for r in lost] + [KEPT_CLAIMS] * keeps_claims
    # What comes of producers is left out without a letter.
    note(source, target, "live", said + [PRODUCERS.words] * (PRODUCERS in gone))


def rdb_load(file, target, *more, code=0):
    run = subprocess.run([harness.GUNYU, "rdb", "load", str(file), "--to", target.uri, *more], capture_output=True, text=True,
                         timeout=60 * harness.PATIENCE, check=False)
    assert run.returncode == code, f"exit code {run.returncode}\n{run.stdout}\n{run.stderr}"
    return run.stdout, run.stderr


def left_out(said):
    """{words of a loss: how many} of what `rdb load` says at its end."""
    return {what: int(n) for n, what in re.findall(r"(\d+) without ([a-z ]+)", said)}


@pytest.mark.parametrize("source_version,target_version", PAIRS)
def test_rdb_load(cast, source_version, target_version):
    source, target = pair_of(lambda: cast.source(source_version), lambda: cast.target(target_version))
    lost = losses(source, target)
    out, _ = rdb_load(cast.file(source_version), target, "--on-unsupported", "degrade")
    assert_equal(source, target, static=True, ignore=(b"matrix:vector",) if MODULES in lost else ())
    counted = left_out(out)
    assert set(counted) == {loss.words for loss in lost}, out
    if "expiries of hash fields" in counted:
        assert counted["expiries of hash fields"] == hashes_with_field_expiries(source)
    note(source, target, "rdb load", counted)


@pytest.mark.parametrize("target_version", ["redis-6", "redis-next", "valkey-9"])
@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_stored_file(world, cast, file, target_version):
    """Against a server that has read the file by itself: the newest of its family."""
    reader = "valkey-9" if file.read_bytes().startswith(b"VALKEY") else "redis-next"
    source, target = pair_of(lambda: world.server("reader", version=reader, start=False), lambda: cast.target(target_version))
    source.dir.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, source.dir / "dump.rdb")
    source.start()
    assert source.client().dbsize() > 0
    out, _ = rdb_load(file, target, "--on-unsupported", "degrade")
    # A server drops the messages of producers when they are too old; the target does it by and by.
    wait_equal(source, target, static=True, mark=False)
    assert set(left_out(out)) <= {loss.words for loss in losses(source, target)}, out


@pytest.mark.parametrize("source_version,target_version,key", [
    ("redis-7", "redis-6", 'function library "gunyutest"'), ("redis-8", "valkey-8", "hash:ttl"), ("valkey-9", "redis-7", "hash:ttl")])
def test_what_the_target_cannot_hold_stops_the_lane(world, cast, source_version, target_version, key):
    source, target = pair_of(lambda: cast.source(source_version), lambda: cast.target(target_version))
    tool = world.gunyu(source, target)
    tool.wait_state("error")
    error = tool.status()[0]["Error"]
    assert "cannot hold" in error and "onUnsupported" in error
    # The functions come before the keys; of those that it cannot hold any may be the first.
    assert key in error or "hash" in error or "matrix:ttl" in error or "matrix:vector" in error
    named = error.split('key "')[1].split('"')[0] if 'key "' in error else None
    assert named is None or target.client().exists(named) == 0
    assert degraded(tool) == {}
    _, said = rdb_load(cast.file(source_version), cast.target(target_version), "--quiet", code=1)
    assert "cannot hold" in said.splitlines()[-1] and said.splitlines()[-1].startswith("gunyu rdb load: ")


def test_a_command_that_the_target_does_not_have_is_not_used(world):
    source, target = world.source(), world.target(start=False)
    conf = target.dir / "renamed.conf"
    conf.write_text('rename-command RESTORE ""\nrename-command FUNCTION ""\n', encoding="utf-8")
    target.options["include"] = conf
    target.start()
    load_everything(source, dbs=(0,))
    tool = world.gunyu(source, target, config={"output": {"replay": {"onUnsupported": "degrade"}}})
    wait_equal(source, target, static=True)
    lost = losses(source, target)
    assert set(degraded(tool)) == names(lost) == {"functions"}
    tool.stop()
    target.client().flushall()
    harness.wait_until(source.client().save, "the file saved")
    out, _ = rdb_load(source.dir / "dump.rdb", target, "--on-unsupported", "degrade")
    assert_equal(source, target, static=True)
    assert set(left_out(out)) == {loss.words for loss in lost}


def test_differences_would_be_seen(world, cast):
    """The comparison of the square sees each thing that the square is about."""
    source, target = pair_of(lambda: cast.source("redis-next"), lambda: cast.target("redis-next"))
    world.gunyu(source, target, config={"output": {"replay": {"expiryGuard": False}}})
    wait_equal(source, target, static=True)
    seen = [0]
    for change in (("HPEXPIRE", "hash:ttl", 1000000, "FIELDS", 1, "f1"), ("HPERSIST", "hash:ttl:large", "FIELDS", 1, "f10"),
                   ("XACK", "matrix:emptied", "g", "2-1"), ("XGROUP", "DELCONSUMER", "matrix:holes", "g", "nothing"),
                   ("XCLAIM", "matrix:full", "g", "b", 0, "1-1", "RETRYCOUNT", 8, "JUSTID"),
                   ("XSETID", "matrix:ahead", "900-3", "ENTRIESADDED", 71), ("XCFGSET", "matrix:idmp", "IDMP-MAXSIZE", 400),
                   ("VSETATTR", "matrix:vector", "element 4", "{}"),
                   ("FUNCTION", "FLUSH"), ("PEXPIREAT", "list:small", 4102444800123)):
        reply = target.raw().call(*change)
        assert not isinstance(reply, Exception), f"{change}: {reply}"
        seen.append(len(compare(source, target, static=True)))
        assert seen[-1] > seen[-2], f"{change} is not seen"

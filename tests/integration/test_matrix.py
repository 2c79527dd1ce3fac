# SPDX-License-Identifier: Apache-2.0
"""Full sync between every two server versions: equal, or without just what the target cannot hold.

Each version is loaded once and is the source of all its pairs. tools/make-compatibility writes the
square into docs/compatibility.md from what GUNYU_MATRIX collects.
"""

import itertools
import json
import os

import pytest

import harness
from compare import compare, wait_equal
from dataset import load_everything, mutate

VERSIONS = ("redis-6", "redis-7", "redis-8", "redis-next", "valkey-8.0", "valkey-8", "valkey-9")
# Up, down, and across the families where the same numbers mean different things.
SOME = {("redis-6", "valkey-9"), ("redis-7", "redis-6"), ("redis-next", "redis-6"), ("redis-next", "valkey-9"),
        ("valkey-9", "redis-next"), ("valkey-9", "valkey-8"), ("valkey-9", "valkey-9")}
DBS = (0, 3)
PAIRS = [pytest.param(a, b, id=f"{a}-to-{b}", marks=() if (a, b) in SOME else pytest.mark.slow)
         for a, b in itertools.product(VERSIONS, VERSIONS)]
# What may be lost (a label of gunyu_degraded_total), the command that shows it, what it is called.
LOSSES = (("functions", "function", "function libraries"), ("field_expiries", "hpexpire", "expiries of hash fields"),
          ("stream_dedups", "xidmprecord", "idempotent producers of streams"))


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


class Cast:
    """The servers, each started and filled when it is first needed."""

    def __init__(self, world):
        self.world = world
        self.sources, self.targets = {}, {}

    def source(self, version):
        if version not in self.sources:
            server = self.world.server("source", version=version)
            load_everything(server, dbs=DBS)
            server.raw().many(beyond_the_dataset())
            self.sources[version] = server
        return self.sources[version]

    def target(self, version):
        if version not in self.targets:
            self.targets[version] = self.world.server("target", version=version)
        raw = self.targets[version].raw()
        raw.many([("FLUSHALL",), ("FUNCTION", "FLUSH")])
        return self.targets[version]


@pytest.fixture(scope="module")
def cast(tmp_path_factory):
    world = harness.World(tmp_path_factory.mktemp("cast"))
    yield Cast(world)
    world.close()


def pair_of(cast, source, target):
    try:
        return cast.source(source), cast.target(target)
    except harness.Unavailable as error:
        pytest.skip(str(error))


def losses(source, target):
    return {name for name, command, _ in LOSSES if source.has(command) and not target.has(command)}


def degraded(tool):
    return {name: int(n) for name, n in ((name, tool.metric("degraded_total", what=name)) for name, _, _ in LOSSES) if n}


def label(server):
    info = server.info("server")
    return f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"


def note(source, target, way, lost):
    """For tools/make-compatibility."""
    if "GUNYU_MATRIX" in os.environ:
        with open(os.environ["GUNYU_MATRIX"], "a", encoding="utf-8") as out:
            words = [what for name, _, what in LOSSES if name in lost]
            out.write(json.dumps({"source": label(source), "target": label(target), "way": way, "lost": words}) + "\n")


@pytest.mark.parametrize("restore", [True, False], ids=["restore", "commands"])
@pytest.mark.parametrize("source_version,target_version", PAIRS)
def test_full_sync(world, cast, source_version, target_version, restore):
    source, target = pair_of(cast, source_version, target_version)
    lost = losses(source, target)
    tool = world.gunyu(source, target, config={"output": {"replay": {
        "onUnsupported": "degrade", "replayRdbEnableRestore": restore}}})
    wait_equal(source, target, static=True)
    counted = degraded(tool)
    assert set(counted) == lost, tool.status()[0]["Error"]
    unknown = tool.status()[0]["Unsupported"]
    for name, _, what in LOSSES:
        if name in lost:
            assert what in unknown
    if "field_expiries" in lost:
        hashes = sum(source.client(db).exists("hash:ttl", "hash:ttl:large") for db in DBS) + 1
        assert counted["field_expiries"] == hashes
    note(source, target, "RESTORE" if restore else "commands", lost)


@pytest.mark.slow
@pytest.mark.parametrize("source_version,target_version", itertools.product(VERSIONS, VERSIONS))
def test_live_stream(world, source_version, target_version):
    """Random writes over every family of commands, where the target can hold what they make."""
    source = world.server("source", version=source_version)
    target = world.server("target", version=target_version)
    if losses(source, target):
        pytest.skip("the target cannot hold everything")
    load_everything(source, dbs=DBS)
    world.gunyu(source, target)
    # Servers since 7.0 forget a pending entry whose message is gone when it is claimed; Redis 6 keeps it.
    # A native replica of a later version differs as well.
    ignore = (b"live:x:",) if target.has("xautoclaim") and not source.has("xautoclaim") else ()
    for seed in (71, 72):
        mutate(source, seed=seed, n=1500, dbs=DBS)
        wait_equal(source, target, ignore=ignore)


@pytest.mark.parametrize("source_version,target_version,key", [
    ("redis-7", "redis-6", 'function library "gunyutest"'), ("redis-8", "valkey-8", "hash:ttl"), ("valkey-9", "redis-7", "hash:ttl")])
def test_what_the_target_cannot_hold_stops_the_lane(world, cast, source_version, target_version, key):
    source, target = pair_of(cast, source_version, target_version)
    if not losses(source, target):
        pytest.skip("the target holds everything")
    tool = world.gunyu(source, target)
    tool.wait_state("error")
    error = tool.status()[0]["Error"]
    assert "cannot hold" in error and "onUnsupported" in error
    # The functions come before the keys; of the hashes any may be the first.
    assert key in error or "hash" in error or "matrix:ttl" in error
    named = error.split('key "')[1].split('"')[0] if 'key "' in error else None
    assert named is None or target.client().exists(named) == 0
    assert degraded(tool) == {}


def test_a_command_that_the_target_does_not_have_is_not_used(world):
    source, target = world.source(), world.target(start=False)
    conf = target.dir / "renamed.conf"
    conf.write_text('rename-command RESTORE ""\nrename-command FUNCTION ""\n', encoding="utf-8")
    target.options["include"] = conf
    target.start()
    load_everything(source, dbs=(0,))
    tool = world.gunyu(source, target, config={"output": {"replay": {"onUnsupported": "degrade"}}})
    wait_equal(source, target, static=True)
    assert set(degraded(tool)) == {"functions"} & losses(source, target)


def test_differences_would_be_seen(world, cast):
    """The comparison of the square sees each thing that the square is about."""
    source, target = pair_of(cast, "redis-next", "redis-next")
    world.gunyu(source, target)
    wait_equal(source, target, static=True)
    for change in (("HPEXPIRE", "hash:ttl", 1000000, "FIELDS", 1, "f1"), ("HPERSIST", "hash:ttl:large", "FIELDS", 1, "f10"),
                   ("XACK", "matrix:emptied", "g", "2-1"), ("XGROUP", "DELCONSUMER", "matrix:holes", "g", "nothing"),
                   ("XCLAIM", "matrix:full", "g", "b", 0, "1-1", "RETRYCOUNT", 8, "JUSTID"),
                   ("XSETID", "matrix:ahead", "900-3", "ENTRIESADDED", 71), ("XCFGSET", "matrix:idmp", "IDMP-MAXSIZE", 400),
                   ("FUNCTION", "FLUSH"), ("PEXPIREAT", "list:small", 4102444800123)):
        before = len(compare(source, target, static=True))
        reply = target.raw().call(*change)
        assert not isinstance(reply, Exception), f"{change}: {reply}"
        assert len(compare(source, target, static=True)) > before, f"{change} is not seen"

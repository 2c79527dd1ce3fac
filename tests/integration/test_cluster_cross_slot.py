# SPDX-License-Identifier: Apache-2.0
"""Commands whose keys lie in several slots of the target: a standalone source into a cluster.

GUNYU_TEST_ROUNDS: disturbances a test (default 5). GUNYU_TEST_SEED: the random sequence.
"""

import random
import time

import pytest

from compare import wait_equal
from harness import wait_until
from test_crash import PATIENT, ROUNDS, SEED, Load, moments
from test_errors import count, listed
from test_faults import die_at


def synced(world, **options):
    """A source, and a cluster with these options that is equal to it and kept so."""
    source, cluster = world.source(), world.cluster("target", masters=3, **options)
    tool = world.gunyu(source, cluster)
    wait_equal(source, cluster)
    return source, cluster, tool


@pytest.fixture
def into(world):
    return synced(world)


@pytest.fixture
def into_replicated(world):
    return synced(world, replicas=1)


def no_temporary_keys(cluster):
    found = [key for raw in cluster.raw().each() for key in raw.call("KEYS", "gunyu:stage:*")]
    assert not found, found


def wait_same(source, cluster, timeout=30):
    wait_equal(source, cluster, timeout=timeout)
    # A last one may be on its way to delete them still.
    wait_until(lambda: no_temporary_keys(cluster) is None, "no temporary keys")


# ---- each command ----

DATA = [
    ("SET", "text:1", "abc"), ("SET", "text:2", "xyz123"), ("SET", "text:3", "later", "PX", "86400000"),
    ("SADD", "set:1", 1, 2, 3, "x"), ("SADD", "set:2", 2, 3, 4), ("SADD", "set:3", "old"),
    ("ZADD", "zset:1", 1, "a", 2, "b", 3, "c"), ("ZADD", "zset:2", 5, "b", 6, "c"),
    ("RPUSH", "list:1", 3, 1, 2), ("RPUSH", "list:2", "x"), ("RPUSH", "list:4", "only"),
    ("HSET", "hash:1", "f", "v"), ("PFADD", "hll:1", *range(100)), ("PFADD", "hll:2", *range(50, 300)),
    ("GEOADD", "geo:1", 13.36, 38.11, "P", 15.08, 37.5, "C"), ("XADD", "stream:1", "1-1", "a", "b"),
]

STAGED = [
    "RENAME text:1 text:9", "RENAME text:3 text:2", "RENAME stream:1 stream:2", "RENAMENX hash:1 hash:2",
    "COPY text:3 text:8", "COPY zset:1 text:2 REPLACE", "COPY list:1 list:9",
    "SUNIONSTORE set:9 set:1 set:2", "SUNIONSTORE set:1 set:1 set:2", "SUNIONSTORE set:3 none:1 none:2", "SINTERSTORE set:3 set:1 set:2",
    "SDIFFSTORE set:9 set:1 set:2", "ZUNIONSTORE zset:9 2 zset:1 zset:2 WEIGHTS 2 3", "ZINTERSTORE zset:9 2 zset:1 zset:2 AGGREGATE MAX",
    "ZDIFFSTORE zset:2 2 zset:1 zset:2", "ZRANGESTORE zset:9 zset:1 0 1", "GEOSEARCHSTORE geo:9 geo:1 FROMLONLAT 15 37 BYRADIUS 200 km",
    "GEORADIUS geo:1 15 37 200 km STORE geo:8", "SORT list:1 STORE list:8",
    "PFMERGE hll:9 hll:1 hll:2", "PFMERGE hll:1 hll:2", "BITOP XOR bits:9 text:1 text:2", "BITOP NOT text:1 text:2",
    "SMOVE set:1 set:2 x", "SMOVE set:3 set:9 old", "LMOVE list:1 list:2 LEFT RIGHT", "RPOPLPUSH list:4 list:9",
    "BLMOVE list:1 list:9 RIGHT LEFT 1", "BRPOPLPUSH list:1 list:2 1",
]

SPLIT = [
    "DEL text:1 text:2 none:1 set:1", "UNLINK text:1 zset:1 list:1", "MSET text:1 1 text:2 2 new:1 3 new:2 4",
    "MSETNX new:1 1 new:2 2 new:3 3", "TOUCH text:1 text:2",
]


def run(source, line):
    reply = source.raw().call(*line.split())
    assert not isinstance(reply, Exception), f"{line}: {reply}"


@pytest.mark.parametrize("version", ("", "redis-6", "redis-8", "valkey-8", "valkey-9"))
def test_each_command_over_several_slots(world, version):
    source, cluster, tool = synced(world, version=version)
    for line in STAGED + SPLIT:
        source.raw().many([("FLUSHALL",), *DATA])
        run(source, line)
        wait_equal(source, cluster)
    wait_same(source, cluster)
    assert count(tool) == 0
    wait_until(lambda: count(tool, "StagedCommands") == len(STAGED), "all were carried out in steps")


def test_transactions_over_several_slots(into):
    source, cluster, tool = into
    source.raw().many([*DATA, ("MULTI",), ("INCR", "count:1"), ("RENAME", "count:1", "count:2"), ("RPUSH", "list:1", "more"),
                       ("LMOVE", "list:1", "list:2", "LEFT", "RIGHT"), ("INCR", "count:2"), ("EXEC",), ("INCR", "count:2"),
                       ("MULTI",), ("INCR", "count:5"), ("APPEND", "text:1", "x"), ("RPUSH", "list:2", "y"), ("EXEC",)])
    wait_same(source, cluster)
    wait_until(lambda: (count(tool, "StagedCommands"), count(tool, "SplitTransactions")) == (2, 2), "both are counted")
    assert tool.metric("staged_commands_total") == 2
    assert tool.metric("split_transactions_total") == 2


def test_the_expiry_goes_with_a_key_to_another_slot(into):
    source, cluster, _ = into
    source.raw().many([("SET", "soon", "1", "PX", "86400000"), ("RENAME", "soon", "later"), ("COPY", "later", "again"),
                       ("SET", "brief", "1", "PX", "3000"), ("RENAME", "brief", "brief:2"), ("COPY", "brief:2", "brief:3")])
    wait_same(source, cluster)
    wait_until(lambda: not source.client().exists("brief:3"), "it expires")
    wait_same(source, cluster)


def test_many_in_a_row_share_their_connections(into):
    source, cluster, tool = into
    source.raw().many([("SADD", "set:1", *range(200))])
    wait_equal(source, cluster)
    connections = [node.info("stats")["total_connections_received"] for node in cluster.masters()]
    source.raw().many(("SMOVE", "set:1", "set:2", n) for n in range(200))
    wait_until(lambda: count(tool, "StagedCommands") == 200, "all are done")
    more = [node.info("stats")["total_connections_received"] - n for node, n in zip(cluster.masters(), connections)]
    assert max(more) < 60, "a connection for each command"
    wait_same(source, cluster)


# ---- what cannot be done ----

def verbatim(world):
    """A source whose scripts are in the stream as they were called."""
    return world.source(version="redis-6", lua_replicate_commands="no")


SCRIPT = ("EVAL", "redis.call('set',KEYS[1],'1') redis.call('set',KEYS[2],'2')", 2, "one", "two")


def test_a_script_over_several_slots_is_kept_as_a_dead_letter(world):
    source, cluster = verbatim(world), world.cluster("target", masters=3)
    tool = world.gunyu(source, cluster, config={"output": {"replay": {"onError": "skip"}}})
    wait_equal(source, cluster)
    source.raw().many([SCRIPT, ("SET", "behind", "1")])
    wait_until(lambda: cluster.client().get("behind") == b"1", "what follows is applied")
    [letter] = listed(tool)
    assert "several slots" in letter["reason"] and "script" in letter["reason"]
    assert cluster.client().get("one") is None


def test_a_script_over_several_slots_stops_the_lane(world):
    source, cluster = verbatim(world), world.cluster("target", masters=3)
    tool = world.gunyu(source, cluster)
    wait_equal(source, cluster)
    source.raw().many([SCRIPT, ("SET", "behind", "1")])
    tool.wait_state("error")
    assert "several slots" in tool.status()[0]["Error"]
    assert cluster.client().get("behind") is None
    tool.act("resume", more="&skip=yes")
    wait_until(lambda: cluster.client().get("behind") == b"1", "what follows is applied")
    assert len(listed(tool)) == 1


def test_a_command_that_fails_at_the_target_is_kept_and_its_source_key_is_left_as_it_is(world):
    source, cluster = world.source(), world.cluster("target", masters=3)
    tool = world.gunyu(source, cluster, config={"output": {"replay": {"onError": "skip"}}})
    source.raw().many([("SADD", "set:1", 1, 2), ("SADD", "set:2", 3)])
    wait_equal(source, cluster)
    spoilt = cluster.node_of_slot(cluster.slot_of("set:2"))
    spoilt.raw().many([("DEL", "set:2"), ("RPUSH", "set:2", "a list")])
    source.raw().many([("SMOVE", "set:1", "set:2", 1), ("SET", "behind", "1")])
    wait_until(lambda: cluster.client().get("behind") == b"1", "what follows is applied")
    [letter] = listed(tool)
    assert "WRONGTYPE" in letter["reason"]
    assert cluster.client().smembers("set:1") == {b"1", b"2"}
    no_temporary_keys(cluster)


# ---- whatever dies ----

class CrossLoad(Load):
    """Keys that are counted up and appended to wander from slot to slot."""

    dbs = (0,)

    def commands(self):
        rng, taken = self.rng, self.taken
        n, m = rng.randrange(12), rng.randrange(12)
        yield "INCR", f"count:{n}"
        yield "RPUSH", f"list:{n}", taken
        yield "SADD", f"set:{n}", taken
        yield "APPEND", f"text:{n}", f"{taken},"
        yield "PFADD", f"hll:{n}", taken
        yield "ZADD", f"zset:{n}", taken, f"m{taken % 50}"
        moves = [
            ("RENAME", f"count:{n}", f"count:{m}"), ("RENAMENX", f"list:{n}", f"list:{m}"), ("RENAME", f"text:{n}", f"text:{m}"),
            ("LMOVE", f"list:{n}", f"list:{m}", "LEFT", "RIGHT"), ("RPOPLPUSH", f"list:{n}", f"list:{m}"),
            ("SMOVE", f"set:{n}", f"set:{m}", taken), ("SUNIONSTORE", f"all:{m}", f"set:{n}", f"set:{m}"),
            ("SDIFFSTORE", f"set:{m}", f"set:{n}", f"all:{n}"), ("COPY", f"list:{n}", f"copy:{m}", "REPLACE"),
            ("COPY", f"count:{n}", f"count:{m}", "REPLACE"), ("PFMERGE", f"hll:{m}", f"hll:{n}"),
            ("BITOP", "OR", f"bits:{m}", f"text:{n}", f"text:{m}"), ("ZUNIONSTORE", f"zset:{m}", 2, f"zset:{n}", f"zset:{m}"),
        ]
        yield rng.choice(moves)
        yield "RPUSH", f"copy:{m}", taken
        yield "INCR", f"count:{m}"
        if taken % 3 == 0:
            yield "MULTI",
            yield "INCRBY", f"count:{n}", 3
            yield rng.choice(moves)
            yield "RPUSH", f"list:{m}", taken
            yield "EXEC",
        if taken % 5 == 0:
            yield "MSET", f"m:{n}", taken, f"m:{m}", taken, f"blind:{n}", taken
            yield "DEL", f"m:{m}", f"text:{n}", f"blind:{m}"
            yield "LTRIM", f"list:{m}", -100, -1
            yield "LTRIM", f"copy:{m}", -100, -1


def some_data(source):
    load = CrossLoad(source)
    raw = source.raw()
    for load.taken in range(60):
        raw.many(load.commands())
    raw.close()


def test_kill_of_the_tool(into):
    source, cluster, tool = into
    with CrossLoad(source, pace=0.01):
        for pause in moments(40):
            time.sleep(pause)
            tool.restart(wait=False)
    wait_same(source, cluster, timeout=PATIENT)
    assert source.full_syncs() == 1
    assert count(tool) == 0


def test_a_stopped_tool_that_is_taken_over_does_nothing_more(into, world):
    source, cluster, tool = into
    some_data(source)
    wait_same(source, cluster)
    for point in ("stage.copied", "stage.applied", "stage.written"):
        tool.kill()
        tool.env = {"GUNYU_FAULT": f"{point}:2:stop"}
        with CrossLoad(source, pace=0.01):
            tool.start(wait=False)
            wait_until(lambda: tool.text().count(f"fault {point}: stop"), "it stops")
            second = world.gunyu(source, cluster, wait=False)
            wait_until(lambda: count(second, "StagedCommands") > 5, "the second one goes on")
            tool.thaw()
            time.sleep(0.5)
        wait_same(source, cluster, timeout=PATIENT)
        second.kill()
        tool.env = None
        tool.restart()
    assert source.full_syncs() == 1


DEATHS = ["stage.copied", "stage.applied", "stage.written"]


@pytest.mark.parametrize("point", DEATHS)
def test_death_at_every_point_under_load(into, point):
    source, cluster, tool = into
    for n in (1, 2, 7) if ROUNDS < 20 else (1, 2, 3, 5, 7, 11, 20):
        with CrossLoad(source, pace=0.01):
            die_at(tool, f"{point}:{n}")
            time.sleep(0.05)
            tool.start(wait=False)
            time.sleep(0.1)
        wait_same(source, cluster, timeout=PATIENT)
    assert source.full_syncs() == 1


# Command, and how many requests it takes to carry it out.
REQUESTS = {
    "RENAME count:1 count:2": 6,
    "SMOVE set:1 set:2 x": 6,
    "LMOVE list:1 list:2 LEFT RIGHT": 6,
    "LMOVE list:4 list:2 LEFT RIGHT": 6, # the last element
    "SUNIONSTORE set:9 set:1 set:2": 6,
    "COPY list:1 list:9": 4,
    "PFMERGE hll:1 hll:2": 4,
}


@pytest.mark.parametrize("line", REQUESTS)
def test_death_after_each_request(into, line):
    """Whether it was carried out the dead one never learnt."""
    source, cluster, tool = into
    for n in range(1, REQUESTS[line] + 1):
        tool.kill()
        source.raw().many([("FLUSHALL",), *[c for c in DATA if "PX" not in c], ("INCRBY", "count:1", 7)])
        run(source, line)
        source.raw().many([("RPUSH", "list:1", "behind"), ("INCR", "count:2"), ("SADD", "set:1", "behind")])
        die_at(tool, f"stage.sent:{n}")
        tool.start()
        wait_same(source, cluster)
    assert source.full_syncs() == 1


def test_connections_to_the_cluster_are_cut(into):
    source, cluster, tool = into
    rng = random.Random(SEED)
    with CrossLoad(source, pace=0.01):
        for pause in moments(41):
            time.sleep(pause)
            rng.choice(cluster.masters()).client().execute_command("CLIENT", "KILL", "TYPE", "normal")
    wait_same(source, cluster, timeout=PATIENT)
    assert source.full_syncs() == 1 and count(tool) == 0


def move_away(cluster, slot, rng, pause):
    """To any other master; pause as in move_slots."""
    origin = cluster.node_of_slot(slot)
    cluster.move_slots([slot], origin, rng.choice([n for n in cluster.masters() if n is not origin]), pause)


def test_slots_of_the_keys_move(into):
    source, cluster, tool = into
    some_data(source)
    rng = random.Random(SEED)

    def pause(slot, key):
        time.sleep(rng.uniform(0, 0.05))

    with CrossLoad(source, pace=0.01):
        for at in range(ROUNDS):
            keys = [f"{kind}:{at}" for kind in ("count", "list", "set")]
            for slot in map(cluster.slot_of, keys):
                move_away(cluster, slot, rng, pause)
    wait_same(source, cluster, timeout=PATIENT)
    assert source.full_syncs() == 1 and count(tool) == 0


def test_the_tool_dies_while_slots_of_the_keys_move(into):
    source, cluster, tool = into
    some_data(source)
    rng = random.Random(SEED + 1)

    def pause(slot, key):
        if rng.random() < 0.2:
            tool.restart(wait=False)
        time.sleep(rng.uniform(0, 0.05))

    with CrossLoad(source, pace=0.01):
        for at in range(ROUNDS):
            for slot in (cluster.slot_of(f"count:{at}"), cluster.slot_of(f"list:{at}")):
                move_away(cluster, slot, rng, pause)
    wait_same(source, cluster, timeout=PATIENT)
    assert source.full_syncs() == 1 and count(tool) == 0


def test_a_planned_failover_of_the_cluster(into_replicated):
    source, cluster, tool = into_replicated
    with CrossLoad(source, pace=0.01):
        for shard in range(3):
            cluster.failover(shard)
            time.sleep(0.3)
    wait_same(source, cluster, timeout=PATIENT)
    assert source.full_syncs() == 1 and count(tool) == 0


def test_a_master_of_the_cluster_dies(into_replicated):
    source, cluster, tool = into_replicated
    with CrossLoad(source, pace=0.01):
        time.sleep(1)
        cluster.lose_master(1)
        time.sleep(1)
    wait_same(source, cluster, timeout=PATIENT)
    assert source.full_syncs() == 1 and count(tool) == 0

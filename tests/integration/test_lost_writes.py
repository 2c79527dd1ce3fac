# SPDX-License-Identifier: Apache-2.0
"""A master of the source dies with writes that we have got and its heir has not: the target is equal to the heir."""

import random

import pytest

from compare import wait_equal, wait_passed
from dataset import DBS, load_everything, mutate, mutate_slots
from harness import wait_until
from test_crash import PATIENT
from test_faults import die_at
from test_source_cluster import wait_streaming

POINTS = ("link.full_sync:1", "journal.aside_written:1", "journal.begun:1", "link.snapshot_begun:1", "takeback.begun:1", "takeback.key:1",
          "takeback.key:30", "takeback.confirmed:1", "lost.read:1", "load.key:1", "load.finished:1")


class Pair:
    """A master, its replica, and an address that leads to the one that is to be read."""

    def __init__(self, world, **options):
        self.world = world
        self.master = world.source(**options)
        self.front = world.proxy(self.master)
        self.between = world.proxy(self.master)
        self.replica = world.source(**options)
        self.replica.client().replicaof("127.0.0.1", self.between.port)
        wait_until(lambda: self.replica.info("replication")["master_link_status"] == "up", "the replica follows")

    def catch_up(self):
        """The replica has all of it."""
        offset = self.master.info("replication")["master_repl_offset"]
        wait_until(lambda: self.replica.info("replication")["slave_repl_offset"] >= offset, "the replica has it all")

    def part(self):
        """From now on the replica gets nothing."""
        self.between.refusing = True
        self.between.cut()
        wait_until(lambda: self.replica.info("replication")["master_link_status"] == "down", "the replica misses its master")

    def inherit(self):
        """The master is dead; its heir goes on and is read. Returns it."""
        self.master.kill()
        self.replica.client().replicaof("NO", "ONE")
        self.front.target = self.replica.port
        self.front.cut()
        return self.replica


def lose(server, dbs=DBS, seed=1):
    """Writes that are to be lost: some make keys, some change or delete those that were there."""
    for db in dbs:
        raw = server.raw(db)
        raw.many(command for i in range(50) for command in (
            ("SET", f"lost:s:{i}", i), ("RPUSH", f"lost:l:{i}", *range(9)), ("ZADD", f"lost:z:{i}", 1, "m"), ("XADD", f"lost:x:{i}", "*", "n", i),
            ("HSET", f"lost:h:{i}", "f", i), ("MSET", f"lost:m:{i}", 1, f"lost:n:{i}", 2), ("COPY", f"lost:s:{i}", f"lost:copy:{i}"),
            ("RENAME", f"lost:l:{i}", f"lost:renamed:{i}"), ("SUNIONSTORE", f"lost:union:{i}", "set:small", "set:int16"),
            ("INCR", "lost:count"), ("SET", f"str:{i}", "changed"), ("EVAL", "redis.call('SET', 'lost:script', 1)", 0),
            ("MULTI",), ("SADD", f"lost:set:{i}", 1, 2), ("SMOVE", f"lost:set:{i}", f"lost:moved:{i}", 1), ("EXEC",)))
        raw.call("DEL", "list:small", "hash:small", "zset:small")
        if len(dbs) > 1:
            to = dbs[(dbs.index(db) + 1) % len(dbs)]
            raw.many([("SET", "lost:away", 1), ("MOVE", "lost:away", to), ("SET", "lost:near", 1), ("COPY", "lost:near", f"lost:far:{db}", "DB", to)])
        raw.close()
    mutate(server, seed=seed, n=1000, dbs=dbs)


@pytest.fixture(params=("server", "cluster"))
def sides(request, world):
    """The pair, its target, the dbs that are in use, and the tool; all of it equal."""
    pair = Pair(world)
    one = request.param == "server"
    target = world.target() if one else world.cluster("target", masters=3)
    dbs = DBS if one else (0,)
    load_everything(pair.master, dbs=dbs)
    mutate(pair.master, seed=9, n=500, dbs=dbs)
    tool = world.gunyu(pair.front, target)
    wait_equal(pair.master, target, timeout=PATIENT)
    pair.catch_up()
    return pair, target, dbs, tool


def test_what_lost_writes_made_goes_and_what_they_took_comes_back(sides):
    pair, target, dbs, tool = sides
    pair.part()
    lose(pair.master, dbs)
    wait_equal(pair.master, target, timeout=PATIENT)
    heir = pair.inherit()
    mutate(heir, seed=2, n=500, dbs=dbs)
    wait_equal(heir, target, timeout=PATIENT)
    assert heir.full_syncs() == 1
    wait_until(lambda: not list(tool.journal.rglob("aside-*")), "nothing is kept aside")


@pytest.mark.parametrize("point", POINTS)
def test_the_tool_dies_while_the_heir_is_taken_over(sides, point):
    pair, target, dbs, tool = sides
    pair.part()
    lose(pair.master, dbs)
    wait_passed(pair.master, target)
    tool.kill()
    heir = pair.inherit()
    mutate(heir, seed=3, n=100, dbs=dbs)
    die_at(tool, point)
    tool.start(wait=False)
    mutate(heir, seed=2, n=200, dbs=dbs)
    wait_equal(heir, target, timeout=PATIENT)
    wait_until(lambda: not list(tool.journal.rglob("aside-*")), "nothing is kept aside")


def test_the_tool_and_the_master_die_under_load(sides):
    """Nothing waits for anything: the position of the target is older than what it has."""
    pair, target, dbs, tool = sides
    pair.part()
    for seed in range(20):
        mutate(pair.master, seed=seed, n=50, dbs=dbs)
    tool.kill()
    heir = pair.inherit()
    tool.start(wait=False)
    mutate(heir, seed=99, n=200, dbs=dbs)
    wait_equal(heir, target, timeout=PATIENT)


def test_what_a_paused_lane_has_got_and_not_applied_costs_no_full_sync(sides):
    pair, target, dbs, tool = sides
    tool.act("pause")
    wait_until(lambda: tool.state() == "pause", "the pause")
    mutate(pair.master, seed=5, n=200, dbs=dbs)
    pair.catch_up()
    pair.part()
    lose(pair.master, dbs)
    offset = pair.master.info("replication")["master_repl_offset"]
    wait_until(lambda: tool.status()[0]["ReceivedOffset"] >= offset, "the journal has it all")
    heir = pair.inherit()
    wait_until(lambda: tool.status()[0]["Link"] == "stream" and heir.info("replication")["connected_slaves"], "the heir is read")
    mutate(heir, seed=6, n=200, dbs=dbs)
    tool.act("resume")
    wait_equal(heir, target, timeout=PATIENT)
    assert heir.full_syncs() == 0


def test_a_master_that_comes_back_as_it_was_a_while_ago(world):
    """From 7.0 on an RDB file has the id and the offset."""
    source, target = world.source(), world.target()
    load_everything(source)
    world.gunyu(source, target)
    wait_equal(source, target)
    for seed in range(2):
        source.client().save()
        lose(source, seed=seed)
        wait_equal(source, target)
        source.restart()
        wait_equal(source, target, timeout=PATIENT)


def test_filters_and_dbs_hold_for_what_is_taken_back(world):
    pair, target = Pair(world), world.target()
    target.raw(5).many(("SET", f"theirs:{i}", "theirs") for i in range(100))
    target.raw(5).many(("SET", f"other:{i}", "theirs") for i in range(100))
    world.gunyu(pair.front, target, config={
        "filter": {"keyFilter": {"prefixKeyBlacklist": ["theirs:"]}, "commandBlacklist": ["append"]},
        "output": {"replay": {"targetDbMap": {"3": 5}}}})
    wait_passed(pair.master, target)
    pair.catch_up()
    pair.part()
    raw = pair.master.raw(3)
    raw.many(command for i in range(100) for command in (
        ("SET", f"lost:{i}", 1), ("SET", f"theirs:{i}", 1), ("DEL", f"theirs:{i}", f"nowhere:{i}"), ("APPEND", f"other:{i}", 1)))
    wait_passed(pair.master, target)
    assert len(target.client(5).keys("lost:*")) == 100
    heir = pair.inherit()
    wait_passed(heir, target, timeout=PATIENT)
    assert not target.client(5).keys("lost:*")
    assert len(target.client(5).keys("theirs:*")) == 100, "what never came from the source was deleted"
    assert len(target.client(5).keys("other:*")) == 100, "what never came from the source was deleted"


def lose_a_key(pair, target):
    """Until the heir, which never had it, gives a full sync. Returns the heir."""
    wait_passed(pair.master, target)
    pair.catch_up()
    pair.part()
    pair.master.raw().call("SET", "lost", 1)
    wait_passed(pair.master, target)
    heir = pair.inherit()
    wait_until(lambda: heir.full_syncs() == 1, "another full sync")
    return heir


def test_nothing_is_taken_back_where_existing_keys_are_left_alone(world):
    pair, target = Pair(world), world.target()
    tool = world.gunyu(pair.front, target, config={"output": {"replay": {"keyExists": "ignore"}}})
    heir = lose_a_key(pair, target)
    wait_passed(heir, target, key="other:mark")
    assert target.client().get("lost") == b"1" and "taking back" not in tool.text()


def test_what_the_journal_no_longer_tells_is_named(world):
    pair, target = Pair(world), world.target()
    tool = world.gunyu(pair.front, target, config={"channel": {"type": "memory"}})
    heir = lose_a_key(pair, target)
    wait_passed(heir, target, timeout=PATIENT)
    assert target.client().get("lost") == b"1" and "the source has lost or deleted keys" in tool.text()


def unfollow(cluster, shard):
    """The replica of the shard gets nothing from its master any more; the tool reads on."""
    master, replica = cluster.masters()[shard], cluster.replicas(shard)[0]
    replica.client().config_set("masterauth", "wrong")
    replica.client().config_set("masteruser", "nobody")
    master.raw().call("CLIENT", "KILL", "TYPE", "replica")
    wait_until(lambda: replica.info("replication")["master_link_status"] == "down", "the replica misses its master")
    return replica


def follow(replica):
    replica.client().config_set("masteruser", "")
    replica.client().config_set("masterauth", "")


@pytest.mark.parametrize("into", ("server", "cluster"))
def test_every_master_of_a_source_cluster_dies_with_writes_that_its_heir_lacks(world, into):
    source = world.cluster("source", masters=3, replicas=1)
    target = world.target() if into == "server" else world.cluster("target", masters=3)
    load_everything(source, dbs=(0,))
    tool = world.gunyu(source, target, config={"input": {"syncFrom": "master"}, "server": {"checkRedisTypologyTicker": "1s"}})
    wait_equal(source, target, timeout=PATIENT)
    rng = random.Random(4)
    for shard in range(3):
        replica = unfollow(source, shard)
        wait_streaming(tool, 3)
        mutate_slots(source, seed=shard, n=500)
        source.raw().many(("SET", f"lost:{shard}:{i}", rng.random()) for i in range(100))
        wait_equal(source, target, timeout=PATIENT)
        dead = source.kill_master(shard)
        wait_until(lambda: replica.raw().call("CLUSTER", "FAILOVER", "TAKEOVER") == b"OK" and not source.is_replica(replica), "its role")
        source.wait_agreed(lambda: dead not in source.masters() and replica in source.masters())
        wait_equal(source, target, timeout=PATIENT)
        mutate_slots(source, seed=10 + shard, n=100)
        wait_equal(source, target, timeout=PATIENT)
        follow(replica)
        dead.start()
        source.wait_agreed()

# SPDX-License-Identifier: Apache-2.0
"""Coming from redisGunYu: gunyu goes on where the position says that redisGunYu has left in the target."""

import itertools
import string
import subprocess

import pytest

from compare import wait_equal
from harness import GUNYU, wait_until
from test_source_cluster import full_syncs, run, wait_same, wait_streaming
from test_tls import SOURCE_RIGHTS, TARGET_RIGHTS, allow, login

INDEX = "redis-gunyu-checkpoint-hash"
NAME = "redis-gunyu-checkpoint"


def name_of_shard(first, last, slot_of):
    """Where redisGunYu's transactions into a cluster have their record: in the shard's slots."""
    names = (f"{NAME}-{''.join(letters)}" for letters in itertools.product(string.ascii_lowercase, repeat=20))
    return next(name for name in names if first <= slot_of(name) <= last)


class Earlier:
    """A source that redisGunYu has read from its beginning, so that its backlog reaches back."""

    def __init__(self, source):
        self.source = source
        raw = source.raw()
        assert raw.call("PSYNC", "?", "-1").split()[0] == b"FULLRESYNC"
        raw.close()
        about = source.info("replication")
        self.replid = about["master_replid"]
        self.syncs = source.full_syncs()

    def offset(self):
        return self.source.info("replication")["master_repl_offset"]

    def leave(self, target, name=NAME, offset=None, db=0):
        """The position in the target as redisGunYu stores it; by default that all is applied."""
        target.client().hset(INDEX, self.replid, name)
        client = target.client(db)
        client.hset(name, mapping={f"{self.replid}_runid": self.replid, f"{self.replid}_version": "1",
                                   f"{self.replid}_offset": self.offset() if offset is None else offset,
                                   f"{self.replid}_mtime": "1700000000000000000"})

    def had_no_other(self):
        return self.source.full_syncs() == self.syncs


def writes(prefix, count=200):
    """None of them may be left out, nor applied twice."""
    for i in range(count):
        yield "INCR", f"{prefix}:count:{i % 50}"
        yield "RPUSH", f"{prefix}:list:{i % 50}", i
        yield "SET", f"{prefix}:blind:{i}", i


def more_of(source, prefix):
    """Such writes to keys that are there, and to new ones."""
    source.raw().many(itertools.chain(writes(prefix), writes("new")))


def records(target):
    names = [NAME] + [name_of_shard(a, b, target.slot_of) for a, b in shards(target)]
    return [target.client().hgetall(name) for name in [INDEX] + names]


def shards(cluster):
    return [cluster.view(node)[node.cluster_id][3][0] for node in cluster.masters()]


def positions(target):
    """Without records that say only the epoch."""
    return [key for raw in target.raw().each() for key in raw.call("KEYS", "gunyu:position:*")
            if b" offset=" in raw.call("GET", key)]


def test_a_standalone_target_goes_on_in_the_db_of_the_record_with_the_documented_rights(world):
    source, target = world.source(), world.target()
    if not source.has("acl") or not target.has("acl"):
        pytest.skip("no ACL")
    allow(source, SOURCE_RIGHTS)
    allow(target, TARGET_RIGHTS)
    earlier = Earlier(source)
    for side in (source, target):
        side.raw(3).many(writes("old"))
    earlier.leave(target, db=3)
    source.raw(3).many(writes("old"))
    tool = world.gunyu(source, target, config=login())
    wait_equal(source, target)
    assert (full_syncs(tool), earlier.had_no_other()) == (0, True)


@pytest.fixture
def left(world):
    """Source and cluster are equal; the position is to be left."""
    source, cluster = world.source(), world.cluster("target", masters=3)
    earlier = Earlier(source)
    for side in (source, cluster):
        side.raw().many(writes("old"))
    return earlier, source, cluster


def test_a_standalone_source_goes_on_in_a_cluster(world, left):
    earlier, source, cluster = left
    earlier.leave(cluster)
    stored = records(cluster)
    more_of(source, "old")
    tool = world.gunyu(source, cluster)
    wait_equal(source, cluster)
    assert (full_syncs(tool), earlier.had_no_other()) == (0, True)
    assert tool.status()[0]["Counters"]["PartialSyncs"] == 1
    wait_until(lambda: len(positions(cluster)) == 1, "the position is ours")
    # From now on ours counts, whatever becomes of redisGunYu's, which stays as it was.
    assert records(cluster) == stored
    earlier.leave(cluster, offset=earlier.offset() + 1000000)
    more_of(source, "old")
    tool.restart()
    wait_equal(source, cluster)
    assert (full_syncs(tool), earlier.had_no_other()) == (0, True)


def test_a_crash_before_a_position_of_ours_is_stored_repeats_nothing(world, left):
    earlier, source, cluster = left
    earlier.leave(cluster)
    more_of(source, "old")
    tool = world.gunyu(source, cluster, config={"output": {"replay": {"updateCheckpointTicker": "10s"}}})
    wait_equal(source, cluster)
    tool.kill()
    assert positions(cluster) == []
    more_of(source, "old")
    tool.start()
    wait_equal(source, cluster)
    assert earlier.had_no_other()


def test_what_else_goes_into_a_cluster_leaves_a_position_alone(world, left):
    earlier, source, cluster = left
    earlier.leave(cluster)
    stored = records(cluster)
    source.client().hset(INDEX, earlier.replid, "of another target")
    source.client().hset(NAME, f"{earlier.replid}_offset", "1")
    source.client().save()
    for words in (["rdb", "load", source.dir / "dump.rdb", "--to", cluster.uri, "--resume"], ["settle", "--to", cluster.uri]):
        run_of = subprocess.run([GUNYU, *map(str, words)], capture_output=True, text=True, check=False)
        assert run_of.returncode == 0, run_of.stderr
        assert records(cluster) == stored


def test_marks_of_an_earlier_use_of_the_cluster_do_not_count(world, left):
    earlier, source, cluster = left
    earlier.leave(cluster)
    first = world.gunyu(source, cluster)
    more_of(source, "old")
    wait_equal(source, cluster)
    first.stop()
    raw = cluster.raw()
    marks = [key for each in raw.each() for key in each.call("KEYS", "gunyu:mark:*")]
    assert len(marks) > 20
    assert set(raw.many(("SET", key, 1 << 60) for key in marks)) == {b"OK"}
    assert raw.many(("DEL", key) for key in positions(cluster)) == [1]
    raw.close()
    earlier.leave(cluster)
    more_of(source, "old")
    second = world.gunyu(source, cluster)
    wait_equal(source, cluster)
    assert (full_syncs(second), earlier.had_no_other()) == (0, True)


def test_each_shard_of_a_source_cluster_goes_on_from_its_own_record(world):
    source, cluster = world.cluster("source", masters=3), world.cluster("target", masters=3)
    all_earlier = [Earlier(node) for node in source.masters()]
    for side in (source, cluster):
        side.raw().many(writes("old"))
    names = [name_of_shard(a, b, cluster.slot_of) for a, b in shards(source)]
    assert names == [f"{NAME}-{'a' * 19}{last}" for last in "cad"]
    for earlier, name in zip(all_earlier, names):
        earlier.leave(cluster, name)
    stored = records(cluster)
    more_of(source, "old")
    tool = run(world, source, cluster)
    wait_streaming(tool, 3)
    same = wait_same(source, cluster)
    assert len(same) == 600
    assert [lane["Counters"]["PartialSyncs"] for lane in tool.status()] == [1, 1, 1]
    assert (full_syncs(tool), [e.had_no_other() for e in all_earlier]) == (0, [True] * 3)
    wait_until(lambda: len(positions(cluster)) == 3, "the positions are ours")
    assert records(cluster) == stored


def test_shards_of_a_source_cluster_that_share_a_record_go_on(world):
    source, cluster = world.cluster("source", masters=3), world.cluster("target", masters=2)
    all_earlier = [Earlier(node) for node in source.masters()]
    for side in (source, cluster):
        side.raw().many(writes("old"))
    for earlier in all_earlier:
        earlier.leave(cluster)
    more_of(source, "old")
    tool = run(world, source, cluster)
    wait_streaming(tool, 3)
    wait_same(source, cluster)
    assert (full_syncs(tool), [e.had_no_other() for e in all_earlier]) == (0, [True] * 3)


@pytest.mark.parametrize("offset", ["-1", "12x"])
def test_a_position_without_an_offset_means_a_full_sync(world, left, offset):
    earlier, source, cluster = left
    earlier.leave(cluster, offset=offset)
    more_of(source, "old")
    tool = world.gunyu(source, cluster)
    wait_equal(source, cluster)
    assert full_syncs(tool) == 1
    assert records(cluster)[1][f"{earlier.replid}_offset".encode()] == offset.encode()


def test_a_flush_that_fails_leaves_all_that_redisGunYus_position_speaks_of(world, left):
    earlier, source, cluster = left
    earlier.leave(cluster)
    more_of(source, "old")
    tool = world.gunyu(source, cluster)
    wait_equal(source, cluster)
    # Else a full sync has writes to take back, and once more when it broke off.
    wait_until(lambda: any(f"offset={source.replica_offset()} ".encode() in cluster.raw().call("GET", key)
                           for key in positions(cluster)), "the position is ours, and has all")
    refusing = cluster.node_of_slot(cluster.slot_of(INDEX))
    assert refusing is not cluster.masters()[0]
    refusing.client().execute_command("ACL", "SETUSER", "default", "-flushdb")
    tool.act("fullsync", more="&flushdb=yes")
    wait_until(lambda: "NOPERM" in tool.status()[0]["Error"], "the flush is refused")
    tool.kill()
    assert positions(cluster) == []
    refusing.client().execute_command("ACL", "SETUSER", "default", "+flushdb")
    # Its answer to what was asked for does not count.
    earlier.syncs = source.full_syncs()
    tool.start()
    wait_equal(source, cluster)
    assert (full_syncs(tool), earlier.had_no_other()) == (0, True)

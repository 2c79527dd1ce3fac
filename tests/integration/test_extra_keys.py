# SPDX-License-Identifier: Apache-2.0
"""output.replay.extraKeys: keys of the target that the snapshot of a full sync does not have."""

import pytest

from compare import compare, wait_equal
from harness import wait_until
from test_crash import DURABLE, PATIENT
from test_faults import die_at
from test_source_cluster import fill as fill_cluster
from test_source_cluster import full_syncs, run, spread, wait_streaming
from test_source_reshard import into, wait_same

DELETE = {"output": {"replay": {"extraKeys": "delete"}}}
DBS = (0, 3)


def fill(source, dbs=DBS, count=3000):
    for db in dbs:
        source.raw(db).many(("SET", f"key:{i}", i) for i in range(count))


def lose_deletions(source, front, dbs=DBS):
    """Keys are deleted, the source dies before it could tell, and comes back under another replication id."""
    front.refusing = True
    front.cut()
    for db in dbs:
        source.raw(db).many(("DEL", f"key:{i}") for i in range(0, 3000, 3))
    source.restart()
    front.refusing = False


@pytest.fixture(params=("server", "cluster"))
def sides(request, world):
    """(source, front, target, dbs); a lane with extraKeys: delete is to be started."""
    source = world.source(**DURABLE)
    server = request.param == "server"
    dbs = DBS if server else (0,)
    fill(source, dbs)
    return source, world.proxy(source), world.target() if server else world.cluster("target"), dbs


def test_what_was_deleted_while_nobody_could_tell_goes(world, sides):
    source, front, target, dbs = sides
    tool = world.gunyu(front, target, config=DELETE)
    wait_equal(source, target)
    lose_deletions(source, front, dbs)
    wait_equal(source, target)
    assert tool.status()[0]["Counters"]["ExtraKeysDeleted"] == 1000 * len(dbs)
    assert tool.metric("extra_keys_deleted_total") == 1000 * len(dbs)


def test_by_default_they_stay_and_that_is_said(world):
    source, target = world.source(**DURABLE), world.target()
    fill(source)
    front = world.proxy(source)
    tool = world.gunyu(front, target)
    wait_equal(source, target)
    assert "extraKeys" not in tool.text()
    lose_deletions(source, front)
    wait_until(lambda: full_syncs(tool) == 2 and tool.status()[0]["Phase"] == "streaming", "a second full sync")
    assert len(compare(source, target, limit=9999)) == 2000
    assert tool.text().count("output.replay.extraKeys") == 1
    tool.act("fullsync", more="&extraKeys=delete")
    wait_equal(source, target)


# The page of a walk, and its end, the more for a cluster.
POINTS = ("load.key:1", "load.key:900", "load.finished:1", "extra.begun:1", "purge.page:1", "purge.page:3", "extra.done:1")


@pytest.mark.parametrize("point", POINTS)
def test_the_tool_dies_in_the_load_and_in_the_walk(world, sides, point):
    source, front, target, dbs = sides
    tool = world.gunyu(front, target, config=DELETE)
    wait_equal(source, target)
    tool.kill()
    lose_deletions(source, front, dbs)
    die_at(tool, point)
    source.raw().many([("INCR", "count"), ("DEL", "key:1"), ("SET", "key:0", "again")])
    tool.start(wait=False)
    wait_equal(source, target)
    assert target.client().get("count") == b"1"


def test_nothing_of_the_stream_is_applied_before_the_walk_has_ended(world):
    source, target = world.source(), world.target()
    fill(source, (0,))
    target.raw().many(("SET", f"extra:{i}", i) for i in range(3000))
    tool = world.gunyu(source, target, config=DELETE, env={"GUNYU_FAULT": "purge.page:2:stop"})
    wait_until(lambda: "fault purge.page" in tool.text(), "the walk is under way")
    source.raw().call("SET", "extra:5", "new")
    raw = target.raw()
    assert raw.call("DBSIZE") > 3000 and raw.call("GET", "extra:5") in (b"5", None)
    tool.thaw()
    wait_equal(source, target)
    assert raw.call("GET", "extra:5") == b"new"


def test_the_target_dies_in_the_walk(world):
    source, target = world.source(), world.target(**DURABLE)
    fill(source)
    target.raw().many(("SET", f"extra:{i}", i) for i in range(3000))
    tool = world.gunyu(source, target, config=DELETE, env={"GUNYU_FAULT": "purge.page:2:stop"})
    wait_until(lambda: "fault purge.page" in tool.text(), "the walk is under way")
    target.restart()
    tool.thaw()
    wait_equal(source, target)
    assert full_syncs(tool) == 1


def test_only_what_this_sync_writes_to_is_looked_at(world):
    """A filter of keys and of dbs, and two dbs that go into one."""
    source, target = world.source(), world.target()
    replay = {"extraKeys": "delete", "targetDbMap": {0: 5, 1: 5, 2: 2}}
    rules = {"dbBlacklist": [2], "keyFilter": {"prefixKeyBlacklist": ["theirs:"]}}
    source.raw(0).many([("SET", "a", 1), ("SET", "theirs:a", 1)])
    source.raw(1).many([("SET", "b", 1)])
    source.raw(3).many([("SET", "c", 1)])
    for db in range(8):
        target.raw(db).many(("SET", key, "old") for key in ("a", "b", "c", "extra", "theirs:x", "gunyu:own", "redis-gunyu-checkpoint-hash"))
    tool = world.gunyu(source, target, config={"output": {"replay": replay, "filter": rules}})
    wait_until(lambda: tool.status()[0]["Phase"] == "streaming", "streaming")
    left = {b"theirs:x", b"gunyu:own", b"redis-gunyu-checkpoint-hash"}
    everything = left | {b"a", b"b", b"c", b"extra"}
    # No db of the source goes into 0 and 1, and the one that would go into 2 is filtered.
    want = [everything, everything, everything, left | {b"c"}, left, left | {b"a", b"b"}, left, left]
    have = [{key for key in target.client(db).keys() if not key.startswith(b"gunyu:position:")} for db in range(8)]
    assert have == want


def test_where_another_sync_has_its_position_nothing_is_deleted(world):
    source, other, target = world.source(), world.source(), world.target()
    fill(source, (0,), 100)
    other.raw().many(("SET", f"other:{i}", i) for i in range(100))
    world.gunyu(other, target)
    wait_until(lambda: target.client().dbsize() == 101, "the other one's keys")
    tool = world.gunyu(source, target, config=DELETE)
    wait_until(lambda: tool.status()[0]["Phase"] == "streaming", "streaming")
    assert target.client().dbsize() == 202
    kept = tool.status()[0]["ExtraKeysKept"]
    assert "another sync" in kept and other.info("replication")["master_replid"] in kept and kept in tool.text()


def test_a_record_of_the_same_source_under_an_older_id_is_no_other_one(world):
    source, target = world.source(**DURABLE), world.target()
    fill(source, (0,), 100)
    tool = world.gunyu(source, target, config={**DELETE, "channel": {"type": "memory", "storer": None}})
    wait_equal(source, target)
    tool.kill()
    source.raw().call("DEL", "key:1")
    source.restart()
    tool.start(wait=False)
    wait_equal(source, target)
    assert tool.status()[0]["ExtraKeysKept"] == "" and target.client().dbsize() == source.client().dbsize() + 2, "and both records"


def test_what_cannot_be_written_down_is_said_and_no_error(world):
    source, target = world.source(), world.target()
    fill(source, (0,), 9000)
    target.raw().call("SET", "extra", 1)
    tool = world.gunyu(source, target, config=DELETE, env={"GUNYU_FAULT": "extra.write:1:err"})
    wait_until(lambda: tool.status()[0]["Phase"] == "streaming", "streaming")
    assert "No space left" in tool.status()[0]["ExtraKeysKept"] and target.client().get("extra") == b"1"


def test_a_server_that_does_not_permit_it_stops_the_lane_until_it_does(world):
    source, target = world.source(), world.target()
    fill(source, (0,), 100)
    target.raw().call("SET", "extra", 1)
    target.client().execute_command("ACL", "SETUSER", "default", "-unlink")
    tool = world.gunyu(source, target, config=DELETE)
    tool.wait_state("error")
    assert "NOPERM" in tool.status()[0]["Error"]
    target.client().execute_command("ACL", "SETUSER", "default", "+unlink")
    tool.act("resume")
    wait_equal(source, target)


@pytest.mark.parametrize("kind", ("standalone", "cluster"))
def test_the_full_sync_of_a_shard_deletes_keys_of_its_own_slots_only(world, kind):
    cluster = world.cluster()
    fill_cluster(cluster, 600)
    target, servers, more = into(world, kind)
    tool = run(world, cluster, target, config=more)
    wait_streaming(tool, 3)
    wait_same(cluster, servers, tool)
    owned = spread(cluster, [f"extra:{i}" for i in range(300)])
    for server in servers():
        for keys in owned.values():
            for key in keys:
                server.raw().call("SET", key, 1)  # in a cluster the master of its slot takes it
    shard = cluster.masters()[0]
    tool.act("fullsync", shard.address, "&extraKeys=delete")

    def left():
        return {key.decode() for server in servers() for key in server.client().keys("extra:*")}
    rest = {key for node, keys in owned.items() if node is not shard for key in keys}
    wait_until(lambda: left() == rest, "the shard's are gone")
    wait_streaming(tool, 3)
    assert full_syncs(tool) == 4 and left() == rest
    tool.act("fullsync", more="&extraKeys=delete")
    wait_same(cluster, servers, tool)

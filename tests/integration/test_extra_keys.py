# SPDX-License-Identifier: Apache-2.0
"""output.replay.extraKeys: keys of the target that the snapshot of a full sync does not have."""

import json

import pytest

from compare import compare, wait_equal
from harness import merged, wait_until
from test_crash import DURABLE
from test_faults import die_at
from test_source_cluster import fill as fill_cluster
from test_source_cluster import contents, full_syncs, run, spread, wait_streaming
from test_source_reshard import Writer, into, keys_of, streaming, wait_same

DELETE = {"output": {"replay": {"extraKeys": "delete"}}}
# How far the load has come is stored all the time.
EAGER = merged(DELETE, {"output": {"replay": {"updateCheckpointTicker": "2ms", "batchCmdCount": 50}}})
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


def sides(world, kind):
    """(source, front, target, dbs); a lane with extraKeys: delete is to be started."""
    source = world.source(**DURABLE)
    dbs = DBS if kind == "server" else (0,)
    fill(source, dbs)
    return source, world.proxy(source), world.target() if kind == "server" else world.cluster("target"), dbs


@pytest.mark.parametrize("kind", ("server", "cluster"))
def test_what_was_deleted_while_nobody_could_tell_goes(world, kind):
    source, front, target, dbs = sides(world, kind)
    tool = world.gunyu(front, target, config=DELETE)
    wait_equal(source, target)
    lose_deletions(source, front, dbs)
    wait_equal(source, target)
    wait_until(lambda: tool.status()[0]["Counters"]["ExtraKeysDeleted"] == 1000 * len(dbs), "they are counted")
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


def is_loaded(source, target):
    """Else the next process takes back itself what the source has lost."""
    position = target.raw().call("GET", "gunyu:position:" + source.info("replication")["master_replid"])
    return position and b" rdb_" not in position


def points():
    """Of the load, and of the walk that follows. The quick tests have a few of them."""
    quick = {("server", "load.key:900"), ("server", "purge.page:1"), ("server", "extra.done:1"), ("cluster", "purge.page:3")}
    for kind in ("server", "cluster"):
        for point in ("load.key:1", "load.key:900", "load.finished:1", "extra.begun:1", "purge.page:1", "purge.page:3", "extra.done:1"):
            yield pytest.param(kind, point, marks=() if (kind, point) in quick else pytest.mark.slow)


@pytest.mark.parametrize("kind,point", points())
def test_the_tool_dies_in_the_load_and_in_the_walk(world, kind, point):
    source, front, target, dbs = sides(world, kind)
    tool = world.gunyu(front, target, config=EAGER)
    wait_equal(source, target)
    wait_until(lambda: is_loaded(source, target), "the position says that the load is over")
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


@pytest.fixture
def walking(world):
    """(source, target, tool), which stands still in the middle of its walk."""
    source, target = world.source(), world.target(**DURABLE)
    fill(source)
    target.raw().many(("SET", f"extra:{i}", i) for i in range(3000))
    tool = world.gunyu(source, target, config=EAGER, env={"GUNYU_FAULT": "purge.page:2:stop"})
    wait_until(lambda: "fault purge.page" in tool.text(), "the walk is under way")
    tool.env = None
    assert len(target.client().keys("extra:*")) > 1000
    return source, target, tool


def test_the_target_dies_in_the_walk(walking):
    source, target, tool = walking
    target.restart()
    tool.thaw()
    wait_equal(source, target)
    assert full_syncs(tool) == 1


def test_the_lane_is_paused_in_the_walk(walking):
    source, target, tool = walking
    target.freeze()
    tool.thaw()
    tool.act("pause")
    source.raw().call("INCR", "count")
    target.thaw()
    wait_until(lambda: not target.client().keys("extra:*"), "the walk ends")
    assert tool.state() == "pause" and target.client().get("count") is None
    tool.act("resume")
    wait_equal(source, target)


def test_the_process_ends_at_once_in_the_walk(walking):
    source, target, tool = walking
    target.freeze()
    tool.thaw()
    tool.stop()
    target.thaw()
    assert tool.child.returncode == 0 and target.client().keys("extra:*")
    tool.start()
    wait_equal(source, target)


def test_another_full_sync_is_asked_for_in_the_walk(walking):
    source, target, tool = walking
    target.freeze()
    tool.thaw()
    source.raw().call("DEL", "key:7")
    tool.act("fullsync")
    target.thaw()
    wait_equal(source, target)
    assert full_syncs(tool) == 2


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


KINDS = ("standalone", pytest.param("cluster", marks=pytest.mark.slow))


@pytest.mark.parametrize("kind", KINDS)
def test_the_full_sync_of_a_shard_deletes_keys_of_its_own_slots_only(world, kind):
    cluster = world.cluster()
    fill_cluster(cluster, 600)
    target, servers, more = into(world, kind)
    tool = run(world, cluster, target, config=more)
    wait_streaming(tool, 3)
    wait_same(cluster, servers, tool)
    owned = spread(cluster, [f"extra:{i}" for i in range(300)])
    for raw in [server.raw() for server in servers()]:
        raw.many(("SET", key, 1) for keys in owned.values() for key in keys)  # in a cluster each takes those of its slots
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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ("standalone", "cluster"))
@pytest.mark.parametrize("point", ("load.key:50", "extra.begun:1", "purge.page:2", "extra.done:2"))
def test_the_tool_dies_in_the_full_syncs_of_the_shards(world, kind, point):
    cluster = world.cluster()
    fill_cluster(cluster, 3000)
    target, servers, more = into(world, kind)
    tool = run(world, cluster, target, config={"output": {**more.get("output", {}), **DELETE["output"]}})
    wait_streaming(tool, 3)
    tool.kill()
    for server in servers():
        server.raw().many(("SET", f"extra:{i}", 1) for i in range(1000))
    tool.config["output"]["replay"]["resumeFromBreakPoint"] = False
    with Writer(cluster, keys_of(cluster, range(0, 16384, 700))):
        die_at(tool, point)
        tool.config["output"]["replay"]["resumeFromBreakPoint"] = True
        tool.start(wait=False)
        wait_streaming(tool, 3)
    tool.act("fullsync")  # of those that had come to their end before
    wait_same(cluster, servers, tool)


def done(tool):
    """A full sync came to its end."""
    lanes = json.loads(tool.get("/syncer/status", timeout=1)[1])
    return sum(lane["Counters"]["FullSyncs"] for lane in lanes) and all(lane["Phase"] == "streaming" for lane in lanes)


def wait_nothing_missing(cluster, target, moved):
    """What the source has is there, and nothing else but what slots that were moved have left, and extra keys."""
    def same():
        want, have = contents(*cluster.masters()), contents(target)
        same.wrong = {k: (want.get(k), have.get(k)) for k in want.keys() | have.keys() if want.get(k) != have.get(k) and
                      (k in want or cluster.slot_of(k.decode()) not in moved and not k.startswith(b"extra:"))}
        return want and not same.wrong
    try:
        wait_until(same, "nothing is missing", 30, interval=0.3)
    except AssertionError as error:
        raise AssertionError(f"{error}; {list(same.wrong.items())[:5]}") from None


@pytest.mark.slow
@pytest.mark.parametrize("point", ("load.key:30", "extra.begun:1", "extra.begun:2", "purge.page:1", "extra.done:1"))
def test_slots_move_while_a_shard_is_looked_at(world, point):
    """Both ways, while the tool stands still in the full sync of a shard and of all."""
    for all_shards in (False, True):
        slots = list(range(0, 16384, 64))
        cluster, keys, tool, servers = streaming(world, "standalone", slots)
        first, second = cluster.masters()[:2]
        there = [s for s in slots if cluster.node_of_slot(s) is first][:20]
        back = [s for s in slots if cluster.node_of_slot(s) is second][:20]
        tool.kill()
        tool.env = {"GUNYU_FAULT": f"{point}:stop"}
        tool.config["output"].setdefault("replay", {})["extraKeys"] = "delete"
        tool.start()
        wait_streaming(tool, 3)
        servers()[0].raw().many(("SET", f"extra:{i}", 1) for i in range(300))
        with Writer(cluster, keys):
            tool.act("fullsync", "all" if all_shards else first.address)
            # Of one shard alone not every point is reached.
            wait_until(lambda: f"fault {point.split(':')[0]}" in tool.text() or not all_shards and done(tool), "stands still")
            cluster.move_slots(there, first, second)
            cluster.move_slots(back, second, first)
            tool.thaw()
            wait_streaming(tool, 3, 60)
        wait_nothing_missing(cluster, servers()[0], {*there, *back})
        tool.kill()

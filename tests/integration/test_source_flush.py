# SPDX-License-Identifier: Apache-2.0
"""FLUSHALL and FLUSHDB of one shard of a source cluster: the target loses the keys of that shard and no others."""

import threading

import pytest

from harness import wait_until
from test_faults import die_at
from test_source_cluster import Load, fill, full_syncs, lanes, run, spread, wait_streaming
from test_source_reshard import Writer, into, streaming, wait_same


def prepared(world, kind, count=1500, config=None, **options):
    """(a cluster with keys in all of its shards, the tool, the target's servers as a function); options: of the cluster."""
    cluster = world.cluster(**options)
    fill(cluster, count)
    target, servers, more = into(world, kind)
    more.setdefault("output", {}).update((config or {}).get("output", {}))
    tool = run(world, cluster, target, config=more)
    wait_streaming(tool, 3)
    wait_same(cluster, servers, tool)
    return cluster, tool, servers


def flush(node, command="FLUSHALL"):
    node.raw().call(command)
    assert node.raw().call("DBSIZE") < 200, "only what was written since is there"


@pytest.mark.parametrize("command", ["FLUSHALL", "FLUSHDB"])
@pytest.mark.parametrize("kind", ["standalone", "cluster"])
def test_a_shard_is_flushed_under_load_on_all_of_them(world, kind, command):
    cluster, tool, servers = prepared(world, kind)
    with Load(cluster):
        flush(cluster.masters()[0], command)
        fill(cluster, 300, "between")
        flush(cluster.masters()[1], command)
        flush(cluster.masters()[0], command)
    wait_same(cluster, servers, tool)
    assert full_syncs(tool) == 3
    assert sum(s.client().dbsize() for s in servers()) > 400, "the third shard's keys are there"


def test_the_positions_of_all_shards_outlive_it(world):
    cluster, tool, servers = prepared(world, "standalone")
    for master in cluster.masters():
        flush(master)
    fill(cluster, 10, "after")
    wait_same(cluster, servers, tool)
    assert len(servers()[0].client().keys("gunyu:position:*")) == 3
    tool.restart()
    wait_streaming(tool, 3)
    wait_same(cluster, servers, tool)
    assert full_syncs(tool) == 0


POINTS = ["purge.page:1", "purge.page:2", "clear.done:1", "clear.done:2"]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("kind", ["standalone", "cluster"])
def test_the_tool_is_killed_in_the_middle(world, kind, point):
    cluster, tool, servers = prepared(world, kind, 4000)
    shard = cluster.masters()[0]
    # Blind writes, others and transactions on both sides of it.
    keys = spread(cluster, [f"own:{i}" for i in range(60)])[shard]
    with Load(cluster):
        tool.kill()
        for n in range(2):
            shard.raw().many([*[("INCR", k) for k in keys[:9]], *[("SET", k, n) for k in keys[9:]]])
            flush(shard)
            shard.raw().many([("MULTI",), ("INCR", keys[0]), ("EXEC",), *[("INCR", k) for k in keys]])
        die_at(tool, point)
        tool.start(wait=False)
        wait_streaming(tool, 3)
    wait_same(cluster, servers, tool)
    assert full_syncs(tool) == 0


@pytest.mark.parametrize("kind", ["standalone", "cluster"])
def test_within_a_transaction(world, kind):
    cluster, tool, servers = prepared(world, kind, 300)
    shard = cluster.masters()[0]
    a = spread(cluster, [f"own:{i}" for i in range(60)])[shard][0]
    b = f"{{{a}}}:b"
    tool.act("pause")
    raw = shard.raw()
    for command in [("MULTI",), ("SET", a, 1), ("INCR", b), ("FLUSHALL",), ("INCR", b), ("EXEC",), ("INCR", b)]:
        raw.call(*command)
    tool.act("resume")
    wait_same(cluster, servers, tool)
    assert shard.client().get(b) == b"2"


def test_only_the_selected_db_is_flushed(world):
    cluster = world.cluster(version="valkey-9", cluster_databases=4)
    target = world.target(version="valkey-9")
    owned = spread(cluster, [f"key:{i}" for i in range(300)])
    for node, keys in owned.items():
        for db in (0, 2):
            node.raw(db).many([("SET", k, db) for k in keys])
    tool = run(world, cluster, target)
    wait_streaming(tool, 3)
    shard = cluster.masters()[0]

    def sizes(zero, two):
        wait_until(lambda: [len(target.client(db).keys("key:*")) for db in (0, 2)] == [zero, two], f"{zero} and {two} keys")
    sizes(300, 300)
    rest = 300 - len(owned[shard])
    shard.raw(2).call("FLUSHDB")
    sizes(300, rest)
    shard.raw(2).call("FLUSHALL")
    sizes(rest, rest)
    assert [s["LaneState"] for s in tool.status()] == ["run"] * 3


def test_what_a_filter_keeps_out_is_left_alone(world):
    config = {"output": {"filter": {"keyFilter": {"prefixKeyBlacklist": ["theirs:"]}}}}
    cluster, tool, servers = prepared(world, "standalone", 300, config)
    target = servers()[0].client()
    for i in range(50):
        target.set(f"theirs:{i}", i)
    for master in cluster.masters():
        flush(master)
    wait_until(lambda: not target.keys("key:*"), "the synced keys are gone")
    assert len(target.keys("theirs:*")) == 50


@pytest.mark.parametrize("kind", ["standalone", "cluster"])
@pytest.mark.parametrize("slow", ["giver", "heir"])
def test_slots_that_have_moved_are_flushed_with_their_new_shard(world, kind, slow):
    slots = list(range(100))
    cluster, keys, tool, servers = streaming(world, kind, slots)
    giver, heir, _ = cluster.masters()
    behind = giver if slow == "giver" else heir
    with Writer(cluster, keys):
        tool.act("pause", inputs=behind.address)
        flush(heir)
        cluster.move_slots(slots[:50], giver, heir)
        flush(heir)
        flush(giver)
        tool.act("resume", inputs=behind.address)
    fill(cluster, 10, "after")
    wait_same(cluster, servers, tool)
    assert full_syncs(tool) == 3


def test_a_shard_that_is_flushed_while_a_slot_leaves_it_says_that_it_cannot_be_followed(world):
    cluster, keys, tool, servers = streaming(world, "standalone", [7])
    giver, heir, _ = cluster.masters()
    (tag,) = keys
    cluster.begin_move(7, giver, heir)
    cluster.move_key("n:" + tag, giver, heir)
    guest = heir.raw()
    guest.call("ASKING")
    guest.call("INCR", "n:" + tag)
    wait_until(lambda: servers()[0].client().get("n:" + tag) == b"2", "what the heir has done with the key")
    giver.raw().call("FLUSHALL")
    wait_until(lambda: "full sync is needed" in lanes(tool)[giver.address]["Error"], "the reason")
    assert servers()[0].client().get("n:" + tag) == b"2"


def test_slots_of_the_target_move_meanwhile(world):
    cluster = world.cluster()
    fill(cluster, 1500)
    target = world.cluster(name="other")
    tool = run(world, cluster, target.nodes[0], config={"output": {"redis": {"type": "cluster", "addresses": target.addresses}}})
    wait_streaming(tool, 3)
    a, b, _ = target.masters()
    mover = threading.Thread(target=lambda: (target.move_slots(range(40), a, b), target.move_slots(range(40), b, a)))
    with Load(cluster):
        mover.start()
        while mover.is_alive():
            flush(cluster.masters()[0])
            fill(cluster, 200, "again")
        mover.join()
    wait_same(cluster, target.masters, tool)
    assert full_syncs(tool) == 3

# SPDX-License-Identifier: Apache-2.0
"""A Redis Cluster as the source: a lane for each shard, whatever becomes of shards and masters."""

import re
import shutil
import time

import pytest

from compare import STREAM_LIVE, Side
from harness import wait_until
from load import ToCluster


def run(world, cluster, target, config=None, **more):
    base = {"redis": {"type": "cluster", "addresses": cluster.addresses}}
    config = dict(config or {})
    given = config.pop("input", {})
    given["redis"] = {**base["redis"], **given.get("redis", {})}
    config["input"] = given
    config["server"] = {"checkRedisTypologyTicker": "1s", **config.get("server", {})}
    return world.gunyu(cluster.nodes[0], target, config=config, **more)


def contents(*servers):
    """{key: (type, value, expiry)} of all of them together."""
    out = {}
    for server in servers:
        side = Side(server, set(), STREAM_LIVE)
        out.update({k: v[:2] for k, v in side.values(0, side.keys(0)).items()})
        side.close()
    return out


def wait_same(cluster, target, timeout=60):
    """Call it when nothing is written any more."""
    def differences():
        want, have = contents(*cluster.masters()), contents(target)
        wrong = {k: (want.get(k), have.get(k)) for k in want.keys() | have.keys() if want.get(k) != have.get(k)}
        differences.last = dict(list(wrong.items())[:5])
        return not wrong and want
    try:
        return wait_until(differences, "equal", timeout, interval=0.2)
    except AssertionError as error:
        raise AssertionError(f"{error}; e.g. {differences.last}") from None


def fill(cluster, count=3000, prefix="key"):
    for node, keys in spread(cluster, [f"{prefix}:{i}" for i in range(count)]).items():
        node.raw().many([("SET", k, k) for k in keys])


def empty_slots(node, count):
    """Slots of the node without keys."""
    found = (slot for slot in range(16384) if node.raw().call("CLUSTER", "COUNTKEYSINSLOT", slot) == 0)
    return [next(found) for _ in range(count)]


def spread(cluster, keys):
    """{node: keys that it owns}"""
    view = cluster.view(cluster.up()[0])
    owners = [(a, b, cluster.node(i)) for i, row in view.items() for a, b in row[3]]
    out = {}
    for key in keys:
        slot = cluster.slot_of(key)
        out.setdefault(next(n for a, b, n in owners if a <= slot <= b), []).append(key)
    return out


def lanes(tool):
    return {lane["Input"]: lane for lane in tool.status()}


def wait_streaming(tool, count, timeout=30):
    wait_until(lambda: [s["Phase"] for s in tool.status()] == ["streaming"] * count, f"{count} lanes that stream", timeout)


def full_syncs(tool):
    return sum(lane["Counters"]["FullSyncs"] for lane in tool.status())


class Load(ToCluster):
    """Writes that must not be applied twice, over all slots."""

    def write(self, client):
        n = self.rng.randrange(60)
        client.incr(f"count:{n}")
        client.rpush(f"list:{n}", self.taken)
        client.append(f"text:{n}", f"{self.taken},")


@pytest.mark.parametrize("version", [None, "redis-6", "valkey-9"])
def test_all_shards_reach_one_standalone_target(world, version):
    cluster, target = world.cluster(version=version), world.target(version=version)
    fill(cluster)
    tool = run(world, cluster, target)
    wait_streaming(tool, 3)
    with Load(cluster):
        time.sleep(1)
    same = wait_same(cluster, target)
    assert len(same) >= 3000 + 100
    assert sorted(lanes(tool)) == sorted(node.address for node in cluster.masters())
    assert len([k for k in target.client().keys("gunyu:position:*")]) == 3
    assert full_syncs(tool) == 3
    assert tool.get("/readyz")[0] == 200


def test_a_replica_that_knows_no_earlier_id_is_read_while_the_lanes_wait_for_each_other(world):
    """The position was asked for under the ids that the journal knew; the source names itself with others before the
    lane may begin."""
    cluster, target = world.cluster(replicas=1), world.target()
    tool = run(world, cluster, target, config={"input": {"syncFrom": "master"}})
    wait_streaming(tool, 3)
    master = cluster.failover(0)
    wait_until(lambda: str(master.info("replication")["master_replid2"]).strip("0"), "a second id")
    replica = cluster.replicas(0)[0]
    replica.kill()
    replica.start()
    cluster.wait_agreed()
    assert not str(replica.info("replication")["master_replid2"]).strip("0")
    fill(cluster)
    wait_same(cluster, target)
    tool.kill()
    before = len(tool.text())
    replid = master.info("replication")["master_replid"].encode()
    for journal in (tool.dir / "journal").glob("shard-*"):
        if journal.is_dir() and not any(replid in f.read_bytes() for f in journal.iterdir() if f.stat().st_size < 1 << 16):
            shutil.rmtree(journal)  # so that the lane must ask its source before it asks the target
    slow = cluster.replicas(1)[0]
    slow.freeze()
    replica.freeze()
    tool.config["input"]["syncFrom"] = "slave"
    tool.start()
    wait_until(lambda: re.search(r"target .*: (Redis|Valkey)", tool.text()[before:]), "the target has answered")
    replica.thaw()
    wait_until(lambda: "the source continues" in tool.text()[before:], "the source has named itself")
    slow.thaw()
    wait_streaming(tool, 3)
    fill(cluster, 100, prefix="later")
    wait_same(cluster, target, timeout=20)


def test_one_address_is_enough_to_find_the_cluster(world):
    cluster, target = world.cluster(), world.target()
    fill(cluster, 300)
    tool = run(world, cluster, target, config={"input": {"redis": {"addresses": [cluster.nodes[2].address]}}})
    wait_same(cluster, target)
    assert len(lanes(tool)) == 3


def test_replicas_are_read_by_default_and_masters_when_asked(world):
    cluster, target = world.cluster(replicas=1), world.target()
    tool = run(world, cluster, target)
    wait_streaming(tool, 3)
    assert [node.info("replication")["connected_slaves"] for node in cluster.masters()] == [1, 1, 1]
    assert all(cluster.replicas(i)[0].info("replication")["connected_slaves"] == 1 for i in range(3))
    tool.stop()
    tool.config["input"]["syncFrom"] = "master"
    tool.start()
    wait_streaming(tool, 3)
    assert [node.info("replication")["connected_slaves"] for node in cluster.masters()] == [2, 2, 2]
    assert sorted(lanes(tool)) == sorted(node.address for node in cluster.masters())
    assert full_syncs(tool) == 0, "another node of the shard goes on where the first was"


@pytest.mark.parametrize("sync_from", ["master", "prefer_slave"])
def test_a_planned_failover_costs_no_full_sync(world, sync_from):
    cluster, target = world.cluster(replicas=1), world.target()
    fill(cluster, 300)
    tool = run(world, cluster, target, config={"input": {"syncFrom": sync_from}})
    wait_streaming(tool, 3)
    with Load(cluster):
        new = cluster.failover(0)
        wait_until(lambda: new.address in lanes(tool), "the lane follows")
        time.sleep(0.5)
    wait_same(cluster, target)
    assert full_syncs(tool) == 3
    assert len(lanes(tool)) == 3


def test_the_master_is_killed_under_load(world):
    cluster, target = world.cluster(replicas=1), world.target()
    tool = run(world, cluster, target, config={"input": {"syncFrom": "master"}})
    wait_streaming(tool, 3)
    with Load(cluster):
        others = {a: s["Counters"]["Reconnects"] for a, s in lanes(tool).items()}
        dead = cluster.lose_master(1)
        others.pop(dead.address)
        wait_until(lambda: sorted(lanes(tool)) == sorted(n.address for n in cluster.masters()), "the lane follows")
        wait_until(lambda: all(s["Phase"] == "streaming" for s in tool.status()), "all stream again")
        assert {a: lanes(tool)[a]["Counters"]["Reconnects"] for a in others} == others, "the other lanes noticed nothing"
    # What the dead one had told only us is not in the cluster; then a full sync must set it right.
    wait_same(cluster, target)
    dead.start()
    cluster.wait_agreed()
    cluster.client().incr("count:after")
    wait_same(cluster, target)


def test_a_master_that_comes_back_without_its_history_is_not_read_while_its_heir_continues_it(world):
    cluster, target = world.cluster(replicas=1), world.target()
    tool = run(world, cluster, target)
    wait_streaming(tool, 3)
    with Load(cluster):
        tool.kill()
        dead = cluster.lose_master(1)
        dead.start()
        cluster.wait_agreed()
        assert dead.info("replication")["repl_backlog_first_byte_offset"] > 1
        tool.start()
        wait_streaming(tool, 3)
    wait_same(cluster, target)
    assert full_syncs(tool) == 0


def test_a_lost_replica_is_replaced_by_the_master(world):
    cluster, target = world.cluster(replicas=1), world.target()
    tool = run(world, cluster, target)
    wait_streaming(tool, 3)
    cluster.replicas(2)[0].kill()
    with Load(cluster):
        wait_until(lambda: cluster.masters()[2].info("replication")["connected_slaves"] == 1, "the lane at the master")
    wait_same(cluster, target)
    assert full_syncs(tool) == 3


def test_bug_24_a_shard_without_a_replica_waits_and_says_so(world):
    cluster, target = world.cluster(), world.target()
    cluster.add_replica(0)
    cluster.add_replica(1)
    fill(cluster, 300)
    tool = run(world, cluster, target, config={"input": {"syncFrom": "slave"}})
    wait_until(lambda: sorted(s["Phase"] for s in tool.status()) == ["connecting", "streaming", "streaming"], "two lanes")
    waiting = next(s for s in tool.status() if s["Phase"] == "connecting")
    assert "no replica" in waiting["Error"] and cluster.masters()[2].address in waiting["Error"]
    assert waiting["Input"] == cluster.masters()[2].address
    assert tool.get("/readyz")[0] == 503
    cluster.add_replica(2)
    wait_same(cluster, target)


def test_a_shard_that_is_added_gets_a_lane_and_one_that_leaves_loses_it(world):
    # Else the node that is left without slots becomes a replica of the heir.
    cluster, target = world.cluster(cluster_allow_replica_migration="no"), world.target()
    fill(cluster)
    tool = run(world, cluster, target)
    wait_same(cluster, target)
    before = {a: s["Counters"]["Reconnects"] for a, s in lanes(tool).items()}
    new, old = cluster.add_node(), cluster.masters()[0]
    slots = empty_slots(old, 200)

    def write(value):
        keys = [k for k in (f"new:{i}" for i in range(20000)) if cluster.slot_of(k) in slots]
        for node, some in spread(cluster, keys).items():
            node.raw().many([("SET", k, value) for k in some])

    cluster.move_slots(slots, old, new)
    wait_until(lambda: new.address in lanes(tool), "a lane for the new shard")
    wait_streaming(tool, 4)
    write("in the new shard")
    wait_same(cluster, target)
    assert {a: lanes(tool)[a]["Counters"]["Reconnects"] for a in before} == before, "the other lanes went on"
    new.raw().many([("DEL", k) for k in contents(new)])
    wait_same(cluster, target)
    cluster.move_slots(slots, new, old)
    wait_until(lambda: new.address not in lanes(tool), "the lane has ended", 30)
    wait_streaming(tool, 3)
    wait_until(lambda: new.info("replication")["connected_slaves"] == 0, "nobody reads the node that is left")
    # And once more: the same journal under the same name.
    cluster.move_slots(slots, old, new)
    wait_until(lambda: new.address in lanes(tool), "the lane is back")
    wait_streaming(tool, 4)
    assert len([p for p in tool.journal.iterdir() if p.is_dir()]) == 4
    write("in the new shard again")
    wait_same(cluster, target)


def test_bug_9_keys_of_slots_that_are_moved_are_restored(world):
    cluster, target = world.cluster(), world.target()
    fill(cluster)
    tool = run(world, cluster, target)
    wait_same(cluster, target)
    giver, heir, _ = cluster.masters()
    # The giver's DEL is applied first: the order of two lanes is not what this is about.
    tool.act("pause", inputs=heir.address)
    keys = spread(cluster, [f"key:{i}" for i in range(3000)])[giver][:200]
    cluster.move_slots(sorted({cluster.slot_of(k) for k in keys}), giver, heir)
    wait_until(lambda: not target.client().exists(*keys), "they have left the giver")
    tool.act("resume", inputs=heir.address)
    wait_same(cluster, target)
    assert [s["LaneState"] for s in tool.status()] == ["run"] * 3


def test_what_a_leaving_shard_has_sent_is_applied_first(world):
    cluster, target = world.cluster(), world.target()
    tool = run(world, cluster, target)
    wait_streaming(tool, 3)
    leaver, heir = cluster.masters()[:2]
    tool.act("pause", inputs=leaver.address)
    keys = spread(cluster, [f"last:{i}" for i in range(600)])[leaver]
    leaver.raw().many([("SET", k, "1") for k in keys])
    wait_until(lambda: lanes(tool)[leaver.address]["LagBytes"] > 0, "the lane has them in its journal")
    # The slots go without their keys, as when a node is lost: the journal has the only copy.
    forced = range(16384 // 3)
    for node in cluster.up():
        node.raw().many([("CLUSTER", "DELSLOTS", s) for s in forced])
    heir.raw().many([("CLUSTER", "ADDSLOTS", s) for s in forced])
    heir.raw().call("CLUSTER", "BUMPEPOCH")
    wait_until(lambda: leaver not in cluster.masters(), "the slots are the heir's", 30)
    time.sleep(2.5)
    assert leaver.address in lanes(tool), "a paused lane is not taken away"
    tool.act("resume", inputs=leaver.address)
    wait_until(lambda: leaver.address not in lanes(tool), "the lane has ended", 30)
    assert target.client().exists(*keys) == len(keys)


def test_static_mode_reads_the_shards_of_the_addresses_only(world):
    cluster, target = world.cluster(replicas=1), world.target()
    fill(cluster, 600)
    # A replica and its master are the same shard.
    addresses = [cluster.replicas(0)[0].address, cluster.masters()[0].address, cluster.masters()[2].address]
    tool = run(world, cluster, target, config={"input": {"mode": "static", "redis": {"addresses": addresses}}})
    wait_streaming(tool, 2)
    assert sorted(lanes(tool)) == sorted([cluster.masters()[0].address, cluster.masters()[2].address])
    wait_until(lambda: contents(target) == contents(cluster.masters()[0], cluster.masters()[2]), "their keys")
    new = cluster.failover(0)
    wait_until(lambda: new.address in lanes(tool), "the lane follows")
    wait_streaming(tool, 2)
    extra = cluster.add_node()
    cluster.move_slots(range(6000, 6020), cluster.masters()[1], extra)
    time.sleep(2)
    assert len(lanes(tool)) == 2


def test_the_tool_is_killed_and_a_failover_happens_meanwhile(world):
    cluster, target = world.cluster(replicas=1), world.target()
    tool = run(world, cluster, target)
    wait_streaming(tool, 3)
    with Load(cluster):
        for _ in range(2):
            time.sleep(0.5)
            tool.kill()
            tool.start()
            wait_streaming(tool, 3)
        tool.kill()
        new = cluster.failover(1)
        tool.start()
        wait_streaming(tool, 3)
        assert new.address in lanes(tool)
        assert full_syncs(tool) == 0
    wait_same(cluster, target)
    assert len([p for p in tool.journal.iterdir() if p.is_dir()]) == 3, "the shard has found its journal again"


def test_lanes_of_shards_are_paused_and_resumed_by_any_node_of_the_shard(world):
    cluster, target = world.cluster(replicas=1), world.target()
    tool = run(world, cluster, target)
    wait_streaming(tool, 3)
    master, replica = cluster.masters()[1], cluster.replicas(1)[0]
    tool.act("pause", inputs=replica.address)
    assert lanes(tool)[master.address]["State"] == "pause"
    assert sorted(s["State"] for s in tool.status()) == ["pause", "run", "run"]
    tool.act("resume", inputs=master.address)
    assert [s["State"] for s in tool.status()] == ["run"] * 3
    status, body = tool.post("/syncer/pause?inputs=127.0.0.1:1")
    assert status == 400 and master.address in body
    tool.act("restart")
    with Load(cluster):
        tool.act("fullsync", inputs=master.address)
        wait_until(lambda: lanes(tool)[master.address]["Counters"]["FullSyncs"] == 2, "one full sync more")
    wait_same(cluster, target)
    status, body = tool.post("/syncer/fullsync?inputs=all&flushdb=yes")
    assert status == 400 and "empty" in body


def test_a_cluster_that_is_down_at_the_start_is_waited_for(world):
    cluster, target = world.cluster(), world.target()
    for node in cluster.nodes:
        node.kill()
    tool = run(world, cluster, target)
    wait_until(lambda: "no shard of the source is known yet: " in tool.get("/readyz")[1], "the reason")
    assert tool.status() == []
    for node in cluster.nodes:
        node.start()
    cluster.wait_agreed()
    fill(cluster, 300)
    wait_same(cluster, target)
    assert tool.get("/readyz")[0] == 200


def test_filters_by_slot_hold_for_all_shards(world):
    cluster, target = world.cluster(), world.target()
    fill(cluster, 600)
    run(world, cluster, target, config={"output": {"filter": {"slotFilter": {"keySlotWhitelist": [[5000, 7000]]}}}})
    want = {k: v for k, v in contents(*cluster.masters()).items() if 5000 <= cluster.slot_of(k) <= 7000}
    wait_until(lambda: contents(target) == want and want, "the slots 5000 to 7000 of two shards")


def test_a_cluster_with_a_password(world):
    cluster, target = world.cluster(requirepass="secret"), world.target()
    cluster.client().incr("n")
    tool = run(world, cluster, target, config={"input": {"redis": {"password": "secret"}}})
    wait_same(cluster, target)
    assert "secret" not in tool.text()


def test_a_cluster_that_hangs_does_not_hold_the_end(world):
    cluster, target = world.cluster(), world.target()
    for node in cluster.nodes:
        node.freeze()
    tool = run(world, cluster, target)
    time.sleep(0.5)
    began = time.monotonic()
    assert tool.stop() == 0
    assert time.monotonic() - began < 8
    for node in cluster.nodes:
        node.thaw()


def test_the_delay_is_measured_by_the_shard_that_has_the_key(world):
    cluster, target = world.cluster(), world.target()
    tool = run(world, cluster, target, config={"input": {"syncDelayTestKey": "delay:test"}})
    owner = cluster.node_of_slot(cluster.slot_of("delay:test")).address
    wait_until(lambda: lanes(tool)[owner]["SyncDelayNs"] > 0, "a delay")
    assert [s["SyncDelayNs"] for a, s in lanes(tool).items() if a != owner] == [-1, -1]
    assert "cannot be written" not in tool.text()


def test_journals_in_memory(world):
    cluster, target = world.cluster(replicas=1), world.target()
    fill(cluster, 300)
    tool = run(world, cluster, target, config={"channel": {"type": "memory"}})
    wait_streaming(tool, 3)
    with Load(cluster):
        new = cluster.failover(2)
        wait_until(lambda: new.address in lanes(tool), "the lane follows")
    wait_same(cluster, target)


def test_a_cluster_into_a_cluster_of_another_layout(world):
    cluster, other = world.cluster(replicas=1), world.cluster(name="other", masters=2)
    fill(cluster)
    tool = run(world, cluster, other.nodes[0], config={"output": {"redis": {"type": "cluster", "addresses": other.addresses}}})
    wait_streaming(tool, 3)
    with Load(cluster):
        new = cluster.failover(0)
        wait_until(lambda: new.address in lanes(tool), "the lane follows")
        time.sleep(0.5)

    def same():
        return contents(*other.masters()) == contents(*cluster.masters())
    wait_until(same, "equal", 60, interval=0.2)

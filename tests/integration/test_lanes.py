# SPDX-License-Identifier: Apache-2.0
"""Several lanes in one process, and where a lane reads from."""

import time

import pytest

from compare import wait_equal, wait_passed
from harness import wait_until


def addresses(sources=None, targets=None, **more):
    config = dict(more)
    if sources:
        config["input"] = {"redis": {"addresses": [s.address for s in sources]}}
    if targets:
        config["output"] = {"redis": {"addresses": [t.address for t in targets]}}
    return config


def lane(tool, source):
    return next(s for s in tool.status() if s["Input"] == source.address)


def replica_of(world, master):
    replica = world.server("replica")
    replica.client().replicaof("127.0.0.1", master.port)
    wait_until(lambda: replica.info("replication")["master_link_status"] == "up", "the replica in sync")
    wait_until(lambda: online(master, replica), "the master counts it as online")
    return replica


def online(master, replica):
    info = master.info("replication")
    slaves = [info[f"slave{i}"] for i in range(info["connected_slaves"])]
    return any(s["port"] == replica.port and s["state"] == "online" for s in slaves)


def readers(server):
    """Ports of those who read the server's stream."""
    info = server.info("replication")
    return [info[f"slave{i}"]["port"] for i in range(info["connected_slaves"])]


def test_two_sources_into_one_target_have_their_own_positions(world):
    one, two, target = world.source(), world.source(), world.target()
    one.raw().many([("SET", f"one:{i}", i) for i in range(1000)])
    two.raw().many([("SET", f"two:{i}", i) for i in range(1000)])
    tool = world.gunyu(one, target, config=addresses([one, two]))
    one.raw().many([("INCR", "count:one")] * 500)
    two.raw().many([("INCR", "count:two")] * 700)
    wait_until(lambda: target.client().get("count:one") == b"500" and target.client().get("count:two") == b"700",
               "both counters")
    wait_until(lambda: len(target.client().keys("gunyu:position:*")) == 2, "two positions")
    tool.stop()
    one.raw().many([("INCR", "count:one")] * 11)
    two.raw().many([("INCR", "count:two")] * 13)
    syncs = one.full_syncs(), two.full_syncs()
    tool.start()
    wait_until(lambda: target.client().get("count:one") == b"511" and target.client().get("count:two") == b"713",
               "both go on where they were")
    assert (one.full_syncs(), two.full_syncs()) == syncs
    assert target.client().dbsize() == 2000 + 2 + 2


def test_one_of_two_lanes_is_paused(world):
    one, two, target = world.source(), world.source(), world.target()
    tool = world.gunyu(one, target, config=addresses([one, two]))
    one.raw().call("SET", "a", 1)
    two.raw().call("SET", "b", 1)
    wait_until(lambda: target.client().get("a") and target.client().get("b"), "both lanes run")
    tool.act("pause", inputs=one.address)
    assert lane(tool, one)["State"] == "pause" and lane(tool, two)["State"] == "run"
    one.raw().call("SET", "a", 2)
    two.raw().call("SET", "b", 2)
    wait_until(lambda: target.client().get("b") == b"2", "the other lane goes on")
    wait_until(lambda: lane(tool, one)["LagBytes"] > 0, "the paused lane takes in")
    assert target.client().get("a") == b"1"
    status, body = tool.post(f"/syncer/resume?inputs={one.address},127.0.0.1:1")
    assert status == 400 and "127.0.0.1:1" in body and one.address in body
    assert lane(tool, one)["State"] == "pause", "a request with an unknown input does nothing"
    tool.act("resume", inputs=one.address)
    wait_until(lambda: target.client().get("a") == b"2", "the paused lane goes on")


def test_each_source_into_its_own_target(world):
    sources, targets = [world.source(), world.source()], [world.target(), world.target()]
    for i, source in enumerate(sources):
        source.raw().many([("SET", f"{i}:{j}", j) for j in range(300)])
    world.gunyu(sources[0], targets[0], config=addresses(sources, targets))
    for source, target in zip(sources, targets):
        wait_equal(source, target)


def test_flushall_of_one_of_two_sources_is_refused(world):
    one, two, target = world.source(), world.source(), world.target()
    tool = world.gunyu(one, target, config=addresses([one, two]))
    two.raw().call("SET", "of:two", 1)
    wait_until(lambda: target.client().get("of:two"), "data of the other source")
    wait_until(lambda: lane(tool, one)["Phase"] == "streaming", "nothing of it is before the snapshot")
    one.raw().call("FLUSHALL")
    wait_until(lambda: lane(tool, one)["LaneState"] == "error", "an error")
    assert "FLUSHALL" in lane(tool, one)["Error"]
    assert target.client().get("of:two") == b"1"


def test_bug_50_one_of_two_sources_down_at_start_does_not_hold_the_other(world):
    one, two, target = world.source(), world.server("down", start=False), world.target()
    tool = world.gunyu(one, target, config=addresses([one, two]))
    one.raw().call("SET", "a", 1)
    wait_until(lambda: target.client().get("a"), "the lane of the source that is up")
    wait_until(lambda: lane(tool, two)["Error"], "the other one says what is missing")
    two.start()
    two.raw().call("SET", "b", 1)
    wait_until(lambda: target.client().get("b"), "the source that came later", timeout=30)


def test_full_syncs_wait_for_each_other(world):
    sources, target = [world.source(), world.source(), world.source()], world.target()
    for i, source in enumerate(sources):
        source.raw().many([("SET", f"{i}:{j}", "x" * 1000) for j in range(1000)])
    proxies = [world.proxy(source) for source in sources]
    for proxy in proxies:
        proxy.rate = 1 << 20
    config = addresses(proxies)
    config["input"]["rdbParallel"] = 1
    tool = world.gunyu(proxies[0], target, config=config)
    most = 0

    def done():
        nonlocal most
        most = max(most, sum(s["Link"] in ("wait_rdb", "rdb") for s in tool.status()))
        return target.client().dbsize() >= 3000
    wait_until(done, "all three loaded", timeout=60)
    assert most == 1
    assert "input.rdbParallel" in tool.text()


def test_a_standalone_source_is_read_itself_by_default(world):
    master, target = world.source(), world.target()
    replica = replica_of(world, master)
    world.gunyu(master, target)
    master.raw().call("SET", "a", 1)
    wait_until(lambda: target.client().get("a"), "synced")
    assert len(readers(master)) == 2 and not readers(replica)


def test_sync_from_prefers_a_replica_and_falls_back_to_the_master(world):
    master, target = world.source(), world.target()
    replica = replica_of(world, master)
    tool = world.gunyu(master, target, config={"input": {"syncFrom": "prefer_slave"}})
    master.raw().many([("INCR", "n")] * 100)
    wait_until(lambda: target.client().get("n") == b"100", "synced")
    assert readers(master) == [replica.port] and len(readers(replica)) == 1
    assert tool.status()[0]["Input"] == master.address
    syncs = master.full_syncs()
    replica.kill()
    master.raw().many([("INCR", "n")] * 50)
    wait_until(lambda: target.client().get("n") == b"150", "the master takes over", timeout=30)
    assert master.full_syncs() == syncs


def test_bug_24_sync_from_slave_without_a_replica_waits_and_says_so(world):
    master, target = world.source(), world.target()
    master.raw().call("SET", "a", 1)
    tool = world.gunyu(master, target, config={"input": {"syncFrom": "slave"}})
    wait_until(lambda: "no replica" in tool.status()[0]["Error"], "the reason in the status")
    assert tool.status()[0]["Phase"] == "connecting"
    replica = replica_of(world, master)
    wait_until(lambda: target.client().get("a"), "the replica is taken", timeout=40)
    assert readers(master) == [replica.port]


def test_bug_24_a_replica_that_lost_its_master_is_not_taken(world):
    master, target = world.source(), world.target()
    link = world.proxy(master)
    lost = world.server("replica")
    lost.client().replicaof("127.0.0.1", link.port)
    wait_until(lambda: lost.info("replication")["master_link_status"] == "up", "the replica in sync")
    link.refusing = True
    link.cut()
    wait_until(lambda: lost.info("replication")["master_link_status"] == "down", "its link lost")
    tool = world.gunyu(lost, target, config={"input": {"syncFrom": "slave"}})
    wait_until(lambda: tool.status()[0]["Error"], "a reason")
    time.sleep(0.5)
    assert not readers(lost)


@pytest.mark.parametrize("channel", ["storer", "memory"])
def test_sync_delay_is_measured(world, pair, channel):
    source, target = pair
    tool = world.gunyu(source, target, config={"input": {"syncDelayTestKey": "delay:test"}, "channel": {"type": channel}})
    wait_until(lambda: target.client().get("delay:test"), "the key at the target")
    assert target.client().get("delay:test").startswith(source.address.encode() + b"_")
    wait_until(lambda: 0 < tool.status()[0]["SyncDelayNs"] < 5e9, "a delay")
    wait_until(lambda: tool.metric("output_sync_delay") > 0, "the metric")


def test_statistics_are_logged(world, pair):
    source, target = pair
    tool = world.gunyu(source, target, config={"output": {"replay": {"stats": {"logInterval": "1s"}}}})
    source.raw().many([("SET", f"k{i}", i) for i in range(100)])
    wait_passed(source, target)
    wait_until(lambda: "stats: commands" in tool.text(), "a line")
    quiet = world.gunyu(source, world.target(), config={"output": {"replay": {"stats": {"disableLog": True}}}})
    wait_until(lambda: quiet.status()[0]["Phase"] == "streaming", "streaming")
    assert "stats:" not in quiet.text()


def test_an_idle_target_is_pinged(world, pair):
    source, target = pair
    source.client().config_set("repl-ping-replica-period", 3600)
    world.gunyu(source, target, config={"output": {"replay": {"keepaliveTicker": "1100ms"}}})
    wait_passed(source, target)
    before = target.info("commandstats").get("cmdstat_ping", {"calls": 0})["calls"]
    wait_until(lambda: target.info("commandstats")["cmdstat_ping"]["calls"] >= before + 2, "pings")


def test_flushdb_under_a_db_map_asks_the_source_how_many_dbs_it_has(world):
    source, target = world.source(databases=16), world.target(databases=32)
    world.gunyu(source, target, config={"output": {"replay": {"targetDbMap": {"1": 17}}}})
    source.raw(1).call("SET", "a", 1)
    source.raw(2).call("SET", "b", 1)
    wait_until(lambda: target.client(17).get("a"), "mapped")
    source.raw(1).call("FLUSHDB")
    wait_until(lambda: target.client(17).dbsize() == 0, "flushed")
    assert target.client(2).get("b") == b"1"


@pytest.mark.parametrize("when", ["snapshot", "stream"])
def test_a_db_that_the_target_lacks_is_a_clear_error(world, when):
    source, target = world.source(databases=32), world.target(databases=16)
    if when == "snapshot":
        source.raw(20).call("SET", "a", 1)
    tool = world.gunyu(source, target)
    if when == "stream":
        wait_passed(source, target)
        source.raw(20).call("SET", "a", 1)
    tool.wait_state("error")
    error = tool.status()[0]["Error"]
    assert "targetDbMap" in error and "databases" in error, error


@pytest.mark.parametrize("restore", [True, False])
@pytest.mark.parametrize("mode", ["replace", "ignore"])
def test_keys_that_exist_are_logged(world, pair, mode, restore):
    source, target = pair
    for i in range(3):
        source.raw().many([("SET", f"s{i}", "new"), ("RPUSH", f"l{i}", "new", "x"), ("HSET", f"h{i}", "f", "new"),
                           ("SET", f"t{i}", "new", "EX", 1000)])
    target.raw().many([("SET", "s1", "old"), ("SET", "l1", "old"), ("HSET", "h1", "g", "old"), ("RPUSH", "t1", "old")])
    old = [target.client().dump(k) for k in ("s1", "l1", "h1", "t1")]
    tool = world.gunyu(source, target, config={"output": {"replay": {
        "keyExists": mode, "keyExistsLog": True, "replayRdbEnableRestore": restore}}})
    wait_passed(source, target)
    for key in ("s1", "l1", "h1", "t1"):
        word = "replacing" if mode == "replace" else "ignoring"
        assert f'{word} key "{key}" of db 0' in tool.text()
    assert tool.text().count("which the target has") == 4
    if mode == "replace":
        wait_equal(source, target)
        assert tool.status()[0]["Counters"]["RdbKeysReplaced"] == 4
    else:
        assert [target.client().dump(k) for k in ("s1", "l1", "h1", "t1")] == old
        assert target.client().get("s0") == b"new"

# SPDX-License-Identifier: Apache-2.0
"""The source or the target is found by Redis Sentinel, and found again after a failover."""

import time

import pytest

from compare import wait_equal
from harness import wait_until
from load import UntilStopped


def replicated(world, **options):
    """A master and a replica of it."""
    more = {"requirepass": options["password"], "masterauth": options["password"]} if "password" in options else {}
    master = world.server("master", **more)
    replica = world.server("replica", **more)
    replica.client().replicaof("127.0.0.1", master.port)
    wait_until(lambda: replica.info("replication")["master_link_status"] == "up", "the replica in sync")
    return master, replica


def by_sentinel(sentinels, **more):
    return {"redis": {"type": "sentinel", "addresses": sentinels.addresses,
                      "sentinelOptions": {"masterName": sentinels.name, **more}}}


def run(world, source, target, **config):
    config = {"server": {"checkRedisTypologyTicker": "1h"}, **config}
    return world.gunyu(source, target, config=config)


def wait_streaming(tool):
    wait_until(lambda: [s["Phase"] for s in tool.status()] == ["streaming"], "streaming", 30)


class Load(UntilStopped):
    """Writes that must not be applied twice, to whatever master() is."""

    def __init__(self, master):
        super().__init__()
        self.master = master

    def write(self, _):
        n = self.taken % 7
        client = self.master().client()
        client.incr(f"count:{n}")
        client.rpush(f"list:{n}", self.taken)


@pytest.fixture
def found_source(world):
    """The master that sentinels know and its replica, the target, the sentinels, and the tool, which streams."""
    master, replica = replicated(world)
    target = world.target()
    sentinels = world.sentinels(master)
    tool = run(world, master, target, input=by_sentinel(sentinels))
    wait_streaming(tool)
    return master, replica, target, sentinels, tool


@pytest.fixture
def found_target(world):
    """The source, the master that sentinels know and its replica, the sentinels, and the tool, which streams."""
    source = world.source()
    master, replica = replicated(world)
    sentinels = world.sentinels(master)
    tool = run(world, source, master, output=by_sentinel(sentinels))
    wait_streaming(tool)
    return source, master, replica, sentinels, tool


def server_at(port, *servers):
    return next(s for s in servers if s.port == port)


def test_the_source_fails_over_as_asked(found_source):
    master, replica, target, sentinels, tool = found_source
    assert tool.status()[0]["Input"] == master.address
    with Load(lambda: server_at(sentinels.master_port(), master, replica)):
        assert sentinels.failover() == replica.port
        wait_until(lambda: tool.status()[0]["Input"] == replica.address, "the lane follows")
        wait_streaming(tool)
    # Sentinel lets the old master take writes until the new one is there, so a full sync may be needed.
    wait_equal(replica, target)
    assert [p.name for p in tool.journal.iterdir() if p.is_dir()] == [f"sentinel-{sentinels.name}"]
    tool.kill()
    replica.raw().call("INCR", "meanwhile")
    tool.start()
    wait_equal(replica, target)
    assert tool.status()[0]["Counters"]["FullSyncs"] == 0


def test_the_source_is_killed_and_one_sentinel_is_dead(found_source):
    master, replica, target, sentinels, tool = found_source
    sentinels.nodes[0].kill()
    with Load(lambda: server_at(sentinels.master_port(), master, replica)):
        master.kill()
        sentinels.wait_other(master.port)
        wait_until(lambda: tool.status()[0]["Input"] == replica.address, "the lane follows", 30)
        wait_streaming(tool)
    wait_equal(replica, target)


def test_the_target_fails_over_under_load(found_target):
    source, master, replica, sentinels, tool = found_target
    assert tool.status()[0]["Output"] == master.address
    with Load(lambda: source):
        assert sentinels.failover() == replica.port
        wait_until(lambda: tool.status()[0]["Output"] == replica.address, "the lane follows")
        wait_streaming(tool)
        wait_until(lambda: not tool.status()[0]["Error"], "no error")
    wait_equal(source, replica)
    assert tool.status()[0]["Counters"]["FullSyncs"] == 1
    assert tool.post("/storage/gc")[0] == 200


def test_the_target_is_killed_and_the_position_of_the_new_master_decides(found_target):
    source, master, replica, sentinels, tool = found_target
    with Load(lambda: source):
        # What the replica does not get is lost with the master, position and data alike.
        replica.freeze()
        time.sleep(0.3)
        master.kill()
        replica.thaw()
        sentinels.wait_other(master.port)
        wait_until(lambda: tool.status()[0]["Output"] == replica.address, "the lane follows", 30)
        wait_streaming(tool)
    wait_equal(source, replica)
    assert tool.status()[0]["Counters"]["FullSyncs"] == 1


def test_both_sides_by_sentinel_with_passwords(world):
    source, source_replica = replicated(world, password="data-secret")
    target, target_replica = replicated(world)
    left = world.sentinels(source, password="sentinel-secret", name="left")
    right = world.sentinels(target, name="right")
    given = by_sentinel(left, password="sentinel-secret")
    given["redis"]["password"] = "data-secret"
    tool = run(world, source, target, input=given, output=by_sentinel(right))
    source.raw().call("INCR", "n")
    wait_equal(source, target)
    assert left.failover() == source_replica.port and right.failover() == target_replica.port
    wait_until(lambda: tool.status()[0]["Input"] == source_replica.address, "the source followed")
    wait_until(lambda: tool.status()[0]["Output"] == target_replica.address, "the target followed")
    source_replica.raw().call("INCR", "n")
    wait_equal(source_replica, target_replica)
    assert "secret" not in tool.text() and "secret" not in tool.get("/syncer/config")[1]


def test_a_name_that_no_sentinel_knows_is_said(world):
    master, _ = replicated(world)
    sentinels = world.sentinels(master)
    given = by_sentinel(sentinels)
    given["redis"]["sentinelOptions"]["masterName"] = "other"
    tool = run(world, master, world.target(), input=given)
    wait_until(lambda: "other" in tool.status()[0]["Error"], "the name in the status")
    assert tool.get("/readyz")[0] == 503


def test_a_replica_is_read_when_that_is_asked_for(world):
    master, replica = replicated(world)
    sentinels = world.sentinels(master)
    target = world.target()
    run(world, master, target, input={**by_sentinel(sentinels), "syncFrom": "slave"})
    master.raw().call("INCR", "n")
    wait_until(lambda: target.client().get("n") == b"1", "synced")
    assert replica.info("replication")["connected_slaves"] == 1

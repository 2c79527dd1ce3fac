# SPDX-License-Identifier: Apache-2.0
"""Two and three nodes that stand in for each other: nothing lost, nothing twice, one writer at a time."""

import os
import random
import time

import pytest

from compare import wait_equal
from dataset import load_everything
from groups import Etcd
from ha import Epochs, Group
from harness import wait_until
from test_source_cluster import Load as ClusterLoad
from test_crash import Load

ROUNDS = int(os.environ.get("GUNYU_TEST_ROUNDS", "3"))
SEED = int(os.environ.get("GUNYU_TEST_SEED", "1"))
LEASE = 3
PATIENT = 60


@pytest.fixture(params=("source", "etcd"))
def etcd(request, world):
    """None: the keys are on the source."""
    return Etcd(world) if request.param == "etcd" else None


@pytest.fixture
def group(world, etcd):
    source, target = world.source(), world.target()
    load_everything(source, dbs=(0,))
    return Group(world, source, target, 2, etcd, LEASE).start()


def wait_leader(group, but=None, timeout=LEASE + 10):
    def led():
        leader = group.leader()
        return leader if leader and leader is not but else None
    return wait_until(led, "a leader", timeout)


def test_the_follower_keeps_the_journal_and_takes_over_when_the_leader_is_killed(group):
    first = group.leader()
    wait_equal(group.source, group.target)
    epochs = Epochs(group.target)
    with Load(group.source):
        time.sleep(0.5)
        first.tool.kill()
        second = wait_leader(group, first)
    wait_equal(group.source, group.target)
    epochs.check()
    assert group.source.full_syncs() == 1
    assert "continues" in second.tool.text()


def test_takeover_takes_no_longer_than_the_lease_and_a_second(group):
    wait_equal(group.source, group.target)
    first = group.leader()
    first.tool.kill()
    died = time.monotonic()
    group.source.client().set("after", 1)
    wait_until(lambda: group.target.client().get("after"), "the write at the target", LEASE + 5)
    assert time.monotonic() - died < LEASE + 1


def test_handover_moves_the_work_within_a_second_and_applies_nothing_twice(group):
    wait_equal(group.source, group.target)
    epochs = Epochs(group.target)
    with Load(group.source):
        for _ in range(4):
            first = group.leader()
            first.tool.act("handover")
            second = wait_leader(group, first, 2)
            wait_until(lambda n=first: n in group.followers(), "the former leader follows")
            assert second is not first
    wait_equal(group.source, group.target)
    epochs.check()
    assert group.source.full_syncs() == 1


def test_a_handover_may_be_asked_of_any_node(group):
    first, follower = group.leader(), group.followers()[0]
    follower.tool.act("handover")
    assert wait_leader(group, first) is follower


def test_a_node_that_ends_hands_over_at_once(group):
    wait_equal(group.source, group.target)
    first = group.leader()
    with Load(group.source):
        assert first.tool.stop() == 0
        ended = time.monotonic()
        wait_leader(group, first)
        assert time.monotonic() - ended < 2
    wait_equal(group.source, group.target)
    assert group.source.full_syncs() == 1


def test_a_group_is_restarted_node_by_node_as_for_an_upgrade(group):
    wait_equal(group.source, group.target)
    epochs = Epochs(group.target)
    with Load(group.source):
        first = group.leader()
        for node in [n for n in group.nodes if n is not first] + [first]:
            if node is group.leader():
                node.tool.act("handover")
                wait_leader(group, node)
            assert node.tool.stop() == 0
            node.tool.start()
            wait_until(group.settled, "it is back", 30)
    wait_equal(group.source, group.target)
    epochs.check()
    assert group.source.full_syncs() == 1


@pytest.mark.parametrize("seconds", (1, pytest.param(60, marks=pytest.mark.slow)))
def test_a_leader_that_stood_still_writes_nothing_more(group, seconds):
    wait_equal(group.source, group.target)
    epochs = Epochs(group.target)
    first = group.leader()
    with Load(group.source):
        time.sleep(0.3)
        first.freeze()
        second = wait_leader(group, first)
        time.sleep(seconds)
        first.thaw()
        wait_until(lambda: first in group.followers(), "the woken one follows", 20)
        assert group.leader() is second
    wait_equal(group.source, group.target)
    epochs.check()
    assert group.source.full_syncs() == 1


@pytest.mark.parametrize("way", ("source", "target"))
def test_a_leader_that_is_cut_off(group, way):
    """From one of them only, and the other node is not. The registry on the source goes with the source."""
    wait_equal(group.source, group.target)
    epochs = Epochs(group.target)
    first = group.leader()
    with Load(group.source):
        time.sleep(0.3)
        first.cut(way)
        second = wait_leader(group, first, 30)
        wait_until(lambda: second.tool.status()[0]["Phase"] == "streaming", "it goes on", 30)
        first.mend(way)
        wait_until(lambda: first in group.followers(), "it follows", 20)
    wait_equal(group.source, group.target, timeout=PATIENT)
    epochs.check()
    assert group.source.full_syncs() == 1


def test_a_follower_that_could_not_lead_says_so(world):
    group = Group(world, world.source(), world.target(), 2, Etcd(world), LEASE).start()
    follower = group.followers()[0]
    assert not follower.tool.status()[0]["Error"]
    follower.cut("target")
    wait_until(lambda: "the target cannot be reached from here" in follower.tool.status()[0]["Error"], "the error", 20)
    follower.mend("target")
    wait_until(lambda: not follower.tool.status()[0]["Error"], "no error any more", 20)


def test_a_leader_that_is_cut_off_from_etcd_only(world):
    source, target, etcd = world.source(), world.target(), Etcd(world)
    group = Group(world, source, target, 2, etcd, LEASE).start()
    wait_equal(source, target)
    epochs = Epochs(target)
    first = group.leader()
    with Load(source):
        first.cut("etcd")
        second = wait_leader(group, first)
        first.mend("etcd")
        wait_until(lambda: first in group.followers(), "it follows", 20)
        assert group.leader() is second
    wait_equal(source, target)
    epochs.check()
    assert source.full_syncs() == 1


def test_a_follower_that_is_cut_off_from_the_leader_catches_up(group):
    wait_equal(group.source, group.target)
    first, follower = group.leader(), group.followers()[0]
    ways = [w for w in follower.ways if w.startswith("journal-of-")]
    with Load(group.source):
        for way in ways:
            follower.ways[way].refusing = True
            follower.ways[way].cut()
        wait_until(lambda: follower not in group.followers(), "it has lost the leader")
        time.sleep(1)
        for way in ways:
            follower.ways[way].refusing = False
        wait_until(lambda: follower in group.followers(), "it follows again")
        first.tool.kill()
        wait_leader(group, first)
    wait_equal(group.source, group.target)
    assert group.source.full_syncs() == 1


def test_sources_are_spread_over_the_nodes(world):
    """A node that comes back gets its share again, and nothing is applied twice on the way."""
    etcd = Etcd(world)
    sources, target = [world.source(), world.source()], world.target()
    config = {"input": {"redis": {"type": "standalone", "addresses": [s.address for s in sources]}}}
    group = Group(world, sources[0], target, 2, etcd, LEASE, config)

    def led():
        return [sorted(lane["Input"] for lane in n.tool.status() if lane["Role"] == "leader") if n.tool.alive() else []
                for n in group.nodes]

    for node in group.nodes:
        node.tool.start()
    both = sorted(s.address for s in sources)
    wait_until(lambda: sorted(map(len, led())) == [1, 1] and sorted(sum(led(), [])) == both, "one source each", 60)
    for k, source in enumerate(sources):
        source.client().set(f"of:{k}", "x")
        wait_until(lambda k=k: target.client().exists(f"of:{k}"), "its full sync")
    wait_until(lambda: all(lane["Link"] == "stream" for n in group.nodes for lane in n.tool.status()), "all follow")
    first = group.nodes[0]
    for i in range(50):
        for k, source in enumerate(sources):
            source.client().incr(f"count:{k}")
        if i == 10:
            first.tool.kill()
    wait_until(lambda: led()[1] == both, "the other one leads both", LEASE + 10)
    first.tool.start()
    wait_until(lambda: sorted(map(len, led())) == [1, 1], "its share again", 60)
    for k, source in enumerate(sources):
        source.client().incr(f"count:{k}")
        wait_until(lambda k=k: target.client().get(f"count:{k}") == b"51", "each write once")
        assert source.full_syncs() == 1


@pytest.mark.parametrize("seconds", (0, pytest.param(150, marks=pytest.mark.slow)))
def test_etcd_is_away_for_longer_than_a_lease(world, seconds):
    source, target, etcd = world.source(), world.target(), Etcd(world)
    group = Group(world, source, target, 2, etcd, LEASE).start()
    wait_equal(source, target)
    epochs = Epochs(target)
    with Load(source):
        etcd.members[0].freeze()
        wait_until(lambda: not group._roles("leader"), "nobody leads", 3 * LEASE)
        time.sleep(seconds)
        etcd.members[0].thaw()
        wait_leader(group)
    wait_equal(source, target, timeout=PATIENT + 2 * seconds)
    epochs.check()
    assert source.full_syncs() == 1


def test_the_lease_key_is_deleted_by_hand(group, etcd):
    wait_equal(group.source, group.target)
    epochs = Epochs(group.target)
    shard = f"/redis-gunyu/orders/input-election/{group.source.address}/"

    def token():
        return [s["Token"] for n in group.nodes for s in n.group()["Shards"] if s["Role"] == "leader"]
    before, = token()
    with Load(group.source):
        time.sleep(0.3)
        assert (etcd.delete(next(k for k in etcd.keys() if k.startswith(shard))) if etcd else group.source.client().delete(shard)) == 1
        wait_until(lambda: (now := token()) and len(now) == 1 and now[0] > before, "it is won again", LEASE + 10)
        wait_until(group.settled, "the other follows")
    wait_equal(group.source, group.target)
    epochs.check()
    assert group.source.full_syncs() == 1


def test_a_member_of_etcd_is_lost(world):
    """Each of them once: that which leads etcd is among them."""
    source, target, etcd = world.source(), world.target(), Etcd(world, members=3)
    group = Group(world, source, target, 2, etcd, 2 * LEASE).start()
    wait_equal(source, target)
    epochs = Epochs(target)
    leader = group.leader()
    with Load(source):
        for member in etcd.members:
            member.kill()
            wait_until(lambda: etcd.call("kv/range", {"key": "eA=="}) is not None, "the others go on", 20)
            member.start()
            etcd.wait_ready()
        assert group.leader() is leader, "no lease was lost"
        etcd.members[0].kill()
        leader.tool.kill()
        wait_leader(group, leader, 2 * LEASE + 10)
    wait_equal(source, target)
    epochs.check()
    assert source.full_syncs() == 1


def test_a_group_of_the_same_name_for_another_source_applies_nothing(group, etcd):
    wait_equal(group.source, group.target)
    epochs = Epochs(group.target)
    other = group.world.source(), group.world.target()
    other[0].client().set("of another source", 1)
    with Load(group.source):
        stranger = Group(group.world, *other, 1, etcd, LEASE).nodes[0]
        stranger.tool.start()
        if etcd:
            wait_until(lambda: stranger.group()["Conflict"], "it says so")
            time.sleep(LEASE + 1)
            assert not other[1].client().dbsize()
        else: # each has its keys on its own source
            wait_until(lambda: other[1].client().exists("of another source"), "it syncs its own")
    wait_equal(group.source, group.target)
    epochs.check()
    assert group.source.full_syncs() == 1


def test_fullsync_and_flush_reach_the_leader_from_any_node(group):
    wait_equal(group.source, group.target)
    follower = group.followers()[0]
    group.target.client().set("only here", 1)
    follower.tool.act("fullsync", more="&flushdb=yes")
    wait_until(lambda: not group.target.client().exists("only here"), "the target is emptied")
    wait_equal(group.source, group.target)
    assert group.source.full_syncs() == 2
    wait_until(lambda: follower in group.followers(), "the follower follows again")
    group.target.client().set("only here", 1)
    follower.tool.act("fullsync", more="&extraKeys=delete")
    wait_until(lambda: not group.target.client().exists("only here"), "what the source does not have is deleted")
    wait_equal(group.source, group.target)
    assert group.source.full_syncs() == 3


def state(node):
    lane, = node.tool.status()
    return lane["Role"], lane["State"]


def test_a_pause_and_a_stop_outlive_who_was_asked(group):
    """Who has paused it relies on it, whichever node leads."""
    source, target = group.source, group.target
    wait_equal(source, target)
    group.followers()[0].tool.act("pause")
    first = group.leader()
    first.tool.kill()
    second = wait_leader(group, first)
    wait_until(lambda: state(second) == ("leader", "pause"), "it is paused")
    source.client().set("while it is paused", 1)
    first.tool.start()
    wait_until(group.settled, "it follows")
    assert not target.client().exists("while it is paused")
    first.tool.act("handover")
    wait_until(lambda: state(first) == ("leader", "pause"), "the next leader is paused as well")
    assert not target.client().exists("while it is paused")
    wait_until(group.settled, "the other knows who leads")
    second.tool.act("resume")
    wait_equal(source, target)
    first.tool.act("stop")
    for node in group.nodes:
        node.tool.kill()
    for node in group.nodes:
        node.tool.start()
    leader = wait_leader(group)
    wait_until(lambda: state(leader) == ("leader", "stop"), "it is stopped still")
    source.client().set("while it is stopped", 1)
    leader.tool.act("resume")
    wait_equal(source, target)
    leader.tool.kill()
    assert state(wait_leader(group, leader)) == ("leader", "run")
    assert source.full_syncs() == 1


def test_what_the_group_cannot_be_told_is_done_all_the_same(world):
    source, target, etcd = world.source(), world.target(), Etcd(world)
    group = Group(world, source, target, 2, etcd, LEASE).start()
    wait_equal(source, target)
    leader = group.leader()
    etcd.members[0].freeze()
    code, body = leader.tool.post("/syncer/pause?inputs=all", timeout=15)
    assert code == 500 and "a node that takes over does not know of it" in body
    assert state(leader) == ("leader", "pause")
    etcd.members[0].thaw()


def test_a_request_without_a_leader_says_so_in_bounded_time(group):
    group.leader().tool.kill()
    follower = next(n for n in group.nodes if n.tool.alive())
    status, body = follower.tool.post("/syncer/fullsync?inputs=all", timeout=15)
    assert status == 500 and ("no node leads" in body or "connect" in body)


def test_the_follower_that_starts_late_gets_what_a_leader_would_need(world, etcd):
    """Also in the middle of the load of the snapshot: the follower goes on with it."""
    source, target = world.source(), world.target()
    source.raw().many(("SET", f"k:{i}", os.urandom(100)) for i in range(30000))
    group = Group(world, source, target, 2, etcd, LEASE)
    first, second = group.nodes
    first.ways["target"].rate = 600_000
    first.tool.start()
    wait_until(lambda: target.client().dbsize() > 1000, "a part of the snapshot at the target")
    second.tool.start()
    wait_until(lambda: second in group.followers(), "the follower")
    first.tool.kill()
    wait_leader(group, first)
    wait_equal(source, target, timeout=PATIENT)
    assert source.full_syncs() == 1


def disturb(group, load, target, full_syncs):
    rng = random.Random(SEED)
    wait_equal(group.source, group.target)
    epochs = Epochs(target)

    def killed(node):
        node.tool.kill()
        wait_until(group.leaders, "all are led", LEASE + 10)
        node.tool.start(wait=False)

    def paused(node):
        node.freeze()
        time.sleep(rng.uniform(0.5, LEASE + 2))
        node.thaw()

    def cut(node):
        way = rng.choice(sorted(node.ways))
        node.cut(way)
        time.sleep(rng.uniform(0.5, LEASE + 2))
        node.mend(way)

    def handed_over(node):
        node.tool.post("/syncer/handover?inputs=all")

    with load:
        for _ in range(ROUNDS):
            wait_until(group.settled, "all in their places", 60)
            leading = set(wait_until(group.leaders, "all are led", 30).values())
            node = rng.choice([n for n in group.nodes if n in leading] if rng.random() < 0.8 else group.nodes)
            rng.choice((killed, paused, cut, handed_over))(node)
            time.sleep(rng.uniform(0, 1))
    wait_until(group.leaders, "all are led", 30)
    wait_equal(group.source, group.target, timeout=PATIENT)
    epochs.check()
    assert full_syncs() == size_of(group.source)


def size_of(source):
    return len(source.masters()) if hasattr(source, "masters") else 1


@pytest.mark.parametrize("size", (pytest.param(2, marks=pytest.mark.slow), 3))
def test_random_deaths_pauses_cuts_and_handovers(world, etcd, size):
    source, target = world.source(), world.target()
    load_everything(source, dbs=(0,))
    group = Group(world, source, target, size, etcd, LEASE).start()
    disturb(group, Load(source), target, source.full_syncs)


@pytest.mark.parametrize("size,to", (pytest.param(2, "server", marks=pytest.mark.slow), (2, "cluster"),
                                     *(pytest.param(3, to, marks=pytest.mark.slow) for to in ("server", "cluster"))))
def test_random_disturbances_with_a_cluster_as_the_source(world, etcd, size, to):
    source = world.cluster("source", masters=3)
    target = world.target() if to == "server" else world.cluster("target", masters=3)
    group = Group(world, source, target, size, etcd, LEASE).start()
    disturb(group, ClusterLoad(source), target, lambda: sum(m.full_syncs() for m in source.masters()))

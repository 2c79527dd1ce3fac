# SPDX-License-Identifier: Apache-2.0
"""Who leads, with real nodes, real etcds and real sources. The tests end with groups.check: at no time did two
nodes write, and the token of whoever writes only rises."""

import os
import random
import time

import pytest

from groups import Acts, Etcd, Node, check, wait_leader
from harness import PATIENCE, wait_until
from test_tls import Authority

LEASE = 3.0


class Setup:
    def __init__(self, world, backend):
        self.world = world
        self.backend = backend
        self.etcd = Etcd(world) if backend == "etcd" else None
        self.checked = True
        self.source = world.cluster() if backend == "redis-cluster" else world.source()
        self.nodes = []

    def node(self, name, **more):
        node = Node(self.world, name, self.source, self.etcd, **more)
        self.nodes.append(node)
        return node.start()

    def freeze(self):
        for p in self.etcd.members if self.etcd else [self.source]:
            p.freeze()

    def thaw(self):
        for p in self.etcd.members if self.etcd else [self.source]:
            p.thaw()

    def leader(self, shard="s1", but=None):
        return wait_leader(self.nodes, shard, but)


@pytest.fixture(params=["etcd", "redis", "redis-cluster"])
def setup(world, request):
    made = Setup(world, request.param)
    yield made
    if made.checked:
        check(world)


@pytest.fixture
def etcd_setup(world):
    made = Setup(world, "etcd")
    yield made
    check(world)


def pair_of(setup):
    """(leader, follower)"""
    a, b = setup.node("a:1"), setup.node("b:2")
    leader = setup.leader()
    follower = b if leader is a else a
    wait_until(lambda: follower.role() and follower.role()[1] == "follower", "the other follows")
    wait_until(lambda: any(w[:2] == ["node", follower.node] for w in leader.state()), "the leader knows of it")
    return leader, follower


def test_one_leads_and_the_others_know_whom_to_follow(setup):
    leader, follower = pair_of(setup)
    wait_until(lambda: follower.role()[3:] == (leader.node, f"repl-of-{leader.node}"), "it knows where the leader is")
    assert follower.role()[2] == 0 and leader.role()[2] > 0
    state = follower.state()
    assert state[0][:4] == ["group", setup.backend.split("-")[0], "1", "0"]
    assert sorted(words[1] for words in state if words[0] == "node") == ["a:1", "b:2"]
    assert ["shard", "s1", "follower", leader.node] == next(w for w in state if w[0] == "shard")[:4]
    assert "hunter2" not in str(state)
    for node in (leader, follower):
        assert "hunter2" not in node.log.read_text(encoding="utf-8")


def test_another_leads_within_the_lease_and_a_second_when_the_leader_is_killed(setup):
    leader, follower = pair_of(setup)
    token = leader.role()[2]
    killed = time.monotonic()
    leader.kill()
    wait_until(follower.leads, "the other leads")
    took = follower.role()[0] - killed
    assert took < (LEASE + 1) * PATIENCE, took
    assert follower.role()[2] > token


def test_a_node_that_ends_gives_its_shards_up_at_once(setup):
    leader, follower = pair_of(setup)
    began = time.monotonic()
    assert leader.stop() == 0
    wait_until(follower.leads, "the other leads")
    assert follower.role()[0] - began < 1 * PATIENCE
    wait_until(lambda: not any(words[:2] == ["node", leader.node] for words in follower.state()), "it is gone from the list")


def test_a_shard_is_handed_over_with_a_gap_of_less_than_a_second(setup):
    leader, follower = pair_of(setup)
    for _ in range(4):
        assert leader.ask("handover", "s1") == "handover begun"
        wait_until(follower.leads, "the other leads")
        gap = follower.role()[0] - next(r[0] for r in reversed(leader.roles) if r[2] == "handing")
        assert gap < 0.5 * PATIENCE, gap
        leader, follower = follower, leader
    assert "leads s1 already" in leader.ask("handover", "s1", leader.node)
    assert "no node nobody" in leader.ask("handover", "s1", "nobody")
    wait_until(lambda: follower.role()[1:4] == ("follower", 0, leader.node), "it has seen who leads")
    assert f"led by {leader.node}" in follower.ask("handover", "s1")
    assert "no shard x" in leader.ask("handover", "x")


def test_an_owner_that_does_not_let_go_loses_the_shard_when_its_time_is_over(setup):
    leader, follower = pair_of(setup)
    leader.say("hold", 1)
    leader.ask("handover", "s1", follower.node)
    wait_until(lambda: leader.role()[1] == "handing", "it is asked to finish")
    wait_until(follower.leads, "the other leads", 10)
    assert leader.role()[1] == "follower" or wait_until(lambda: leader.role()[1] == "follower", "it follows")


def test_a_leader_that_stood_still_steps_down_when_it_wakes(setup):
    leader, follower = pair_of(setup)
    token = leader.role()[2]
    leader.freeze()
    wait_until(follower.leads, "the other leads")
    leader.thaw()
    wait_until(lambda: leader.role()[1] == "follower", "it follows")
    assert follower.role()[2] > token
    time.sleep(0.5)  # what it might still write
    assert follower.leads()


def test_nobody_acts_while_the_registry_is_silent_for_longer_than_the_lease(setup):
    if setup.backend == "redis-cluster":
        pytest.skip("a cluster does not stand still as one")
    leader, _ = pair_of(setup)
    acts = Acts(setup.world.dir / "acts")
    setup.freeze()
    began, began_at = time.monotonic(), time.time()
    wait_until(lambda: not leader.leads(), "it has stepped down", 10)
    # It may have been waiting for an answer when its time was over; what it acts by is not.
    assert leader.role()[0] - began < (LEASE - 0.5 + LEASE / 6) + 0.2
    assert acts.path.stat().st_mtime - began_at < LEASE - 0.5 + 0.1
    before = len(acts.read())
    time.sleep(1.5)  # the rest of the lease, and more
    assert len(acts.read()) == before
    setup.thaw()
    setup.leader()
    wait_until(lambda: len(acts.read()) > before, "somebody acts again")


def test_the_lease_key_is_deleted_by_hand(setup):
    leader, _ = pair_of(setup)
    setup.checked = False  # what the fence at the target is for
    if setup.etcd:
        keys = [k for k in setup.etcd.keys() if "/input-election/s1/" in k]
        assert len(keys) == 1 and setup.etcd.delete(keys[0]) == 1
    else:
        assert setup.source.client().delete("/redis-gunyu/g/input-election/s1/") == 1
    wait_until(lambda: any(r[2] in ("follower", "none") and r[0] > leader.roles[0][0] for r in leader.roles), "it has noticed")
    setup.leader()


def test_two_processes_with_one_name_do_not_both_take_part(setup):
    first = setup.node("same:1")
    setup.leader()
    second = setup.node("same:1")
    wait_until(lambda: "another process is called same:1" in str(second.state()[0]), "it says so")
    assert not second.leads()
    first.kill()
    wait_until(second.leads, "it leads when the first is gone", 10)


def test_the_node_whose_journal_reaches_furthest_takes_over(setup):
    a = setup.node("a:1")
    setup.leader()
    b, c = setup.node("b:2"), setup.node("c:3")
    a.report(90 << 20)
    b.report(10 << 20)
    c.report(80 << 20)
    for node in (b, c):
        wait_until(lambda n=node: str(n.state()).count('right') >= 3 and str(n.state()).count(str(80 << 20)), "all is known")
    a.kill()
    wait_until(c.leads, "c leads", 10)
    assert not any(r[2] == "leader" for r in b.roles)


def test_a_node_that_could_not_lead_a_moment_ago_is_given_time_when_it_leads(setup):
    """Else a handover to a node that has just begun, and has reached nothing yet, comes to nothing."""
    leader, follower = pair_of(setup)
    leader.report(1000)
    follower.report(1000, able=0)
    for node in (leader, follower):
        wait_until(lambda n=node: str(n.state()).count("right") >= 2 and str(n.state()).count('"able":false') == 1, "all is known")
    leader.ask("handover", "s1")
    wait_until(follower.leads, "it leads")
    time.sleep(LEASE)
    assert follower.leads() and [r[2] for r in leader.roles].count("leader") == 1
    follower.report(1000, able=0)
    wait_until(leader.leads, "who cannot lead gives up", 10)


def test_shards_have_one_name_at_all_nodes(setup):
    a, b = setup.node("a:1"), setup.node("b:2")
    for node in (a, b):
        wait_until(lambda n=node: n.state()[0][2] == "1", "it takes part")
    assert a.ask("name", "shard-x", "id1", "id2") == "name shard-x"
    assert b.ask("name", "shard-y", "id2") == "name shard-x"
    assert b.ask("name", "shard-y", "id0", "id3", "id1") == "name shard-x"
    assert a.ask("name", "shard-z", "id3") == "name shard-x"
    assert a.ask("name", "shard-z", "id0") == "name shard-x"
    assert b.ask("name", "shard-w", "id9") == "name shard-w"


def test_shards_that_are_to_be_together_come_together_and_stay(setup):
    shards = ["s1", "s2", "s3", "s4"]
    a = setup.node("a:1", shards=shards)
    wait_until(lambda: a.count() == 4, "a leads all")
    b = setup.node("b:2", shards=shards)
    wait_until(lambda: b.role() and b.role()[1] == "follower", "b follows")
    wait_until(lambda: any(w[:2] == ["node", b.node] for w in a.state()), "a sees b")
    a.report(1000)
    b.report(1000)
    for s in ("s2", "s3"):
        assert a.ask("handover", s, b.node) == "handover begun"
        wait_until(lambda s=s: b.leads(s), "b leads it")
    a.say("together", "s1", "s2", "s3")
    wait_until(lambda: all(b.leads(s) for s in ("s1", "s2", "s3")), "b leads the three")
    assert a.leads("s4")


@pytest.mark.slow
def test_a_node_that_comes_back_gets_its_share(setup):
    shards = ["s1", "s2", "s3", "s4"]
    a = setup.node("a:1", shards=shards)
    wait_until(lambda: a.count() == 4, "a leads all")
    a.report(1000)
    b = setup.node("b:2", shards=shards)
    b.report(0, ready=0, replid="-" * 40)
    time.sleep(LEASE * 4)  # long enough to be believed, were its journal near
    assert a.count() == 4
    b.report(990)
    wait_until(lambda: b.count() == 2 and a.count() == 2, "two each", 40)
    handed = [r[0] for r in a.roles if r[2] == "handing"]
    assert len(handed) == 2 and handed[1] - handed[0] > 2 * LEASE - 0.5


@pytest.mark.slow
def test_random_deaths_pauses_and_handovers(setup):
    seed = random.randrange(1 << 30)
    print("seed", seed)
    dice = random.Random(seed)
    shards = ["s1", "s2", "s3"]
    for i in range(3):
        setup.node(f"n:{i}", shards=shards)
    for _ in range(int(os.environ.get("GUNYU_TEST_ROUNDS", "12"))):
        for s in shards:
            setup.leader(s)
        node = dice.choice(setup.nodes)
        what = dice.choice(["kill", "freeze", "handover", "stop", "registry"])
        if what == "kill":
            node.kill()
            node.start()
        elif what == "freeze":
            node.freeze()
            time.sleep(dice.uniform(0.5, 6))
            node.thaw()
        elif what == "handover":
            for s in shards:
                if node.leads(s):
                    node.say("handover", s)
        elif what == "stop":
            node.stop()
            node.start()
        elif setup.backend != "redis-cluster":
            setup.freeze()
            time.sleep(dice.uniform(0.5, 5))
            setup.thaw()
    for s in shards:
        setup.leader(s)
    check(setup.world)


def test_a_leader_that_is_cut_off_from_the_registry_alone_stops_before_the_other_begins(world):
    """By a proxy between one node and its registry."""
    etcd = Etcd(world)
    source = world.source()
    nodes = []
    for backend in ("etcd", "redis"):
        proxies = [world.proxy(etcd.members[0] if backend == "etcd" else source) for _ in range(2)]
        nodes = [Node(world, f"{backend}:{i}", source, etcd if backend == "etcd" else None, group=backend, shards=(backend,),
                      cluster={"metaEtcd": {"endpoints": [proxies[i].address]}} if backend == "etcd" else {},
                      config={"addresses": [proxies[i].address]} if backend == "redis" else None).start() for i in range(2)]
        leader = wait_leader(nodes, backend)
        other = next(n for n in nodes if n is not leader)
        wait_until(lambda o=other: o.role(backend) and o.role(backend)[1] == "follower", "the other follows")
        mine = proxies[nodes.index(leader)]
        mine.pause()
        cut = time.monotonic()
        wait_until(lambda o=other: o.leads(backend), "the other leads")
        assert other.role(backend)[0] - cut < (LEASE + 1) * PATIENCE
        mine.resume()
        wait_until(lambda n=leader: n.role(backend)[1] == "follower", "it follows when it sees the registry again")
        for node in nodes:
            node.kill()
    check(world)


def test_the_source_is_found_by_sentinel(world):
    master = world.source()
    replica = world.source(replicaof=f"127.0.0.1 {master.port}")
    wait_until(lambda: replica.info("replication")["master_link_status"] == "up", "replica in sync")
    sentinels = world.sentinels(master)
    config = {"type": "sentinel", "addresses": sentinels.addresses, "sentinelOptions": {"masterName": "mymaster"}}
    nodes = [Node(world, n, master, config=config).start() for n in ("a:1", "b:2")]
    wait_leader(nodes)
    sentinels.failover()
    wait_until(lambda: replica.client().exists("/redis-gunyu/g/input-election/s1/"), "the keys are kept at the new master", 30)
    leader = wait_leader(nodes, timeout=30)
    master.kill()
    time.sleep(LEASE)
    assert leader.leads()


# ---- etcd ----

def test_etcd_is_killed_and_comes_back(etcd_setup):
    leader, _ = pair_of(etcd_setup)
    etcd_setup.etcd.members[0].kill()
    time.sleep(1)  # less than the lease
    assert leader.leads()
    etcd_setup.etcd.members[0].start()
    etcd_setup.etcd.wait_ready()
    etcd_setup.leader()
    etcd_setup.etcd.members[0].kill()
    wait_until(lambda: not any(n.leads() for n in etcd_setup.nodes), "nobody leads without a registry", 10)
    etcd_setup.etcd.members[0].start()
    etcd_setup.leader()


@pytest.mark.slow
def test_one_of_three_members_is_lost_whichever_it_is(world):
    etcd = Etcd(world, members=3)
    source = world.source()
    lease = 6  # etcd's own election takes up to two seconds
    nodes = [Node(world, n, source, etcd, lease=f"{lease}s").start() for n in ("a:1", "b:2")]
    leader = wait_leader(nodes)
    for member in etcd.members:
        member.freeze()
        deadline = time.monotonic() + lease + 1
        while time.monotonic() < deadline:
            assert leader.leads(), f"lost with {member.name} stopped"
            time.sleep(0.05)
        member.thaw()
        etcd.wait_ready()
        time.sleep(1.5)  # an election of etcd's own
    etcd.members[1].kill()
    other = next(n for n in nodes if n is not leader)
    leader.kill()
    wait_until(other.leads, "takeover with two members", 2 * lease)
    check(world)


def test_a_name_that_is_deleted_by_hand_is_put_back(etcd_setup):
    leader, _ = pair_of(etcd_setup)
    key = f"/redis-gunyu/g/registry/{leader.node}"
    assert etcd_setup.etcd.delete(key) == 1
    wait_until(lambda: key in etcd_setup.etcd.keys(), "it is back", 2 * LEASE)
    assert leader.leads() and not any(r[2] == "none" and r[0] > leader.role()[0] for r in leader.roles)


def test_an_etcd_without_room_still_keeps_leases(etcd_setup):
    leader, follower = pair_of(etcd_setup)
    etcd = etcd_setup.etcd
    etcd.call("maintenance/alarm", {"action": "ACTIVATE", "alarm": "NOSPACE"})
    leader.report(5)
    wait_until(lambda: "space" in str(leader.state()[0]), "it says what is wrong")
    deadline = time.monotonic() + 2 * LEASE
    while time.monotonic() < deadline:
        assert leader.leads()
        time.sleep(0.05)
    etcd.call("maintenance/alarm", {"action": "DEACTIVATE", "alarm": "NOSPACE"})
    leader.kill()
    wait_until(follower.leads, "the other leads", 10)


def test_an_etcd_with_users(world):
    etcd = Etcd(world, more=["--auth-token-ttl", "2"])
    etcd.protect("gunyu", "hunter3")
    source = world.source()
    login = {"metaEtcd": {"username": "gunyu", "password": "hunter3"}}
    nodes = [Node(world, n, source, etcd, cluster=login).start() for n in ("a:1", "b:2")]
    leader = wait_leader(nodes)
    bad = Node(world, "c:3", source, etcd, cluster={"metaEtcd": {"username": "gunyu", "password": "wr0ng"}}).start()
    wait_until(lambda: "refuses the login" in str(bad.state()[0]), "the wrong password is refused")
    time.sleep(5)  # tokens end meanwhile
    assert leader.leads()
    etcd.members[0].restart()  # and now none of them is known any more
    time.sleep(LEASE)
    wait_leader(nodes)
    for node in [*nodes, bad]:
        log = node.log.read_text(encoding="utf-8")
        assert "hunter3" not in log and "wr0ng" not in log
    check(world)


def test_an_etcd_with_certificates(world, tmp_path):
    authority = Authority(tmp_path / "ca")
    cert, key = authority.issue("etcd", "DNS:etcd.example,IP:127.0.0.1")
    mine, mine_key = authority.issue("gunyu", "DNS:gunyu")
    etcd = Etcd(world, tls=(cert, key, authority.ca))
    source = world.source()
    tls = {"caFile": str(authority.ca), "certFile": str(mine), "keyFile": str(mine_key)}
    named = {**tls, "serverName": "etcd.example"}
    nodes = [Node(world, n, source, etcd, cluster={"metaEtcd": {"tls": t}}).start() for n, t in (("a:1", tls), ("b:2", named))]
    leader = wait_leader(nodes)
    other = next(n for n in nodes if n is not leader)
    wait_until(lambda: other.role() and other.role()[1] == "follower", "both are in")
    for name, options in (("c:3", {"certFile": str(mine), "keyFile": str(mine_key)}), ("d:4", {**tls, "serverName": "other.example"}),
                          ("e:5", {"caFile": str(authority.ca)})):
        bad = Node(world, name, source, etcd, cluster={"metaEtcd": {"tls": options}}).start()
        wait_until(lambda b=bad: b.state()[0][2:] and "etcd at https://" in str(b.state()[0]), f"{name} is refused")
        assert not bad.leads()
    wait_until(lambda: leader.ask("handover", "s1", other.node) == "handover begun", "the leader knows of the other")
    wait_until(other.leads, "handover by TLS")


def test_a_second_group_of_the_same_name_for_another_source_leads_nothing(etcd_setup):
    leader, follower = pair_of(etcd_setup)
    stranger = Node(etcd_setup.world, "x:9", etcd_setup.world.source(), etcd_setup.etcd, shards=("t1",)).start()
    wait_until(lambda: stranger.state()[0][3] == "1", "it says that there is a conflict")
    time.sleep(LEASE)
    assert not stranger.leads("t1") and leader.leads()
    assert "for another source" in stranger.log.read_text(encoding="utf-8")
    leader.stop()
    follower.stop()
    wait_until(lambda: stranger.leads("t1"), "it leads when the others are gone", 10)


def test_the_same_source_by_another_address_is_no_conflict(etcd_setup):
    source = etcd_setup.source
    first = etcd_setup.node("a:1")
    etcd_setup.leader()
    second = Node(etcd_setup.world, "b:2", source, etcd_setup.etcd, config={"addresses": [f"localhost:{source.port}"]}).start()
    wait_until(lambda: second.role() and second.role()[1] == "follower", "it follows")
    assert second.state()[0][3] == "0"
    assert first.leads()


def test_a_node_of_redisgunyu_that_leads_is_respected(etcd_setup):
    etcd_setup.etcd.put("/redis-gunyu/g/input-election/s1/7a", "old:1")
    node = etcd_setup.node("a:1")
    wait_until(lambda: node.role() and node.role()[1:4] == ("follower", 0, "old:1"), "it follows the old one")
    etcd_setup.etcd.delete("/redis-gunyu/g/input-election/s1/7a")
    wait_until(node.leads, "it leads", 10)


def test_compaction_does_not_stop_the_watch(etcd_setup):
    leader, follower = pair_of(etcd_setup)
    etcd = etcd_setup.etcd
    for i in range(30):
        etcd.put("/elsewhere", str(i))
    etcd.call("kv/compaction", {"revision": etcd.call("kv/put", {"key": "eA=="})["header"]["revision"]})
    etcd.members[0].restart()
    etcd.wait_ready()
    leader = etcd_setup.leader()
    follower = next(n for n in etcd_setup.nodes if n is not leader)
    wait_until(lambda: follower.role()[1] == "follower", "the other follows")
    time.sleep(1)  # the watch is on again
    leader.ask("handover", "s1")
    wait_until(follower.leads, "handover")
    assert follower.role()[0] - next(r[0] for r in reversed(leader.roles) if r[2] == "handing") < 0.5 * PATIENCE


# ---- keys on the source ----

def test_keys_are_put_at_the_master_when_a_replica_is_configured(world):
    master = world.source()
    replica = world.source(replicaof=f"127.0.0.1 {master.port}")
    wait_until(lambda: replica.info("replication")["master_link_status"] == "up", "replica in sync")
    node = Node(world, "a:1", replica).start()
    wait_leader([node])
    assert master.client().get("/redis-gunyu/g/input-election/s1/") == b"a:1"


def test_an_old_source_holds_leases_too(world):
    source = world.source(version="redis-6")
    nodes = [Node(world, n, source).start() for n in ("a:1", "b:2")]
    leader = wait_leader(nodes)
    other = next(n for n in nodes if n is not leader)
    wait_until(lambda: other.role() and other.role()[1] == "follower", "the other follows")
    leader.kill()
    wait_until(other.leads, "takeover", 10)


def test_a_failover_of_a_source_master_moves_its_keys(world):
    source = world.cluster(masters=3, replicas=1)
    nodes = [Node(world, n, source, shards=("s1", "s2", "s3")).start() for n in ("a:1", "b:2")]
    for s in ("s1", "s2", "s3"):
        wait_leader(nodes, s)
    for shard in range(3):
        source.failover(shard)
        for s in ("s1", "s2", "s3"):
            wait_leader(nodes, s)
    check(world)


def test_the_keys_of_a_group_do_not_reach_the_target(world, pair):
    source, target = pair
    nodes = [Node(world, n, source).start() for n in ("a:1", "b:2")]
    leader = wait_leader(nodes)
    world.gunyu(source, target)
    source.client().set("x", 1)
    wait_until(lambda: target.client().get("x") == b"1", "the stream arrives")
    wait_until(lambda: leader.ask("handover", "s1") == "handover begun", "the leader knows of the other")
    wait_leader(nodes, but=leader)
    wait_until(lambda: len(source.client().keys("/redis-gunyu/*")) >= 9, "all kinds of keys are there")
    source.client().set("x", 2)
    wait_until(lambda: target.client().get("x") == b"2", "the stream goes on")
    assert target.client().keys("/redis-gunyu*") == []

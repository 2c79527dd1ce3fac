# SPDX-License-Identifier: Apache-2.0
"""The shards of one source cluster, led by several nodes; and by one while slots move between them."""

import time

import pytest

from compare import wait_equal
from groups import Etcd
from ha import Epochs, Group
from harness import wait_until
from test_source_cluster import Load
from test_source_reshard import Writer, fill, import_atomically, keys_of

LEASE = 3
PATIENT = 60


@pytest.fixture(params=(pytest.param("source", marks=pytest.mark.slow), "etcd"))
def etcd(request, world):
    """None: the keys are on the source."""
    return Etcd(world) if request.param == "etcd" else None


def led(group):
    """How many shards each living node leads; None unless each shard has one leader and all others follow it."""
    leaders, nodes = group.leaders(), [n for n in group.nodes if n.tool.alive()]
    if not leaders or not all(group.follows(n, leaders) for n in nodes):
        return None
    return [list(leaders.values()).count(n) for n in nodes]


def wait_spread(group, timeout=60):
    wait_until(lambda: (n := led(group)) and max(n) - min(n) <= 1, "the shards are spread evenly", timeout)


def wait_gathered(group, timeout=20):
    wait_until(lambda: (n := led(group)) and sorted(n)[:-1] == [0] * (len(n) - 1), "one node leads all shards", timeout)


def full_syncs(group):
    return sum(m.full_syncs() for m in group.source.masters())


def spread(world, size, etcd=None, **options):
    group = Group(world, world.cluster("source", masters=3, **options), world.target(), size, etcd, LEASE)
    for node in group.nodes:
        node.tool.start()
    wait_spread(group)
    return group


def hand_over_one(group):
    """Asked of a node that does not lead it."""
    before = group.leaders()
    shard, leader = next(iter(before.items()))
    next(n for n in group.nodes if n is not leader).tool.act("handover", inputs=shard)
    after = wait_until(lambda: (now := group.leaders()) and now[shard] is not leader and now, "another leader")
    assert all(after[s] is before[s] for s in before if s != shard)


@pytest.mark.parametrize("size", (2, pytest.param(3, marks=pytest.mark.slow)))
def test_shards_are_spread_and_those_of_a_node_that_is_killed_are_taken_over(world, etcd, size):
    group = spread(world, size, etcd)
    epochs = Epochs(group.target)
    with Load(group.source):
        hand_over_one(group)
        group.nodes[0].tool.kill()
        wait_spread(group, LEASE + 10)
        time.sleep(1)
    wait_equal(group.source, group.target)
    epochs.check()
    assert full_syncs(group) == 3
    assert not any("one node is to lead all shards" in n.tool.text().partition("several nodes again")[2] for n in group.nodes)


def hold_back(group, master):
    """Its lane gets far behind: the leader's way to the target is a narrow one."""
    group.leaders()[master.address].ways["target"].rate = 20_000


def free(group):
    for node in group.nodes:
        node.ways["target"].rate = 0


def moving(world, slots, size=3, **options):
    """(a group whose nodes lead the shards, its masters, keys in these slots)"""
    group = spread(world, size, Etcd(world), **options)
    keys = keys_of(group.source, slots)
    fill(group.source, keys)
    return group, group.source.masters(), keys


def check_moved(group, epochs, syncs=3):
    free(group)
    wait_equal(group.source, group.target, timeout=PATIENT)
    wait_spread(group)
    epochs.check()
    assert full_syncs(group) == syncs


@pytest.mark.parametrize("size,slow", ((2, "giver"), *(pytest.param(3, s, marks=pytest.mark.slow) for s in ("giver", "heir"))))
def test_slots_move_key_by_key_while_the_shards_are_led_apart(world, size, slow):
    """The shards come together for it, and are spread again."""
    group, (giver, heir, _), keys = moving(world, range(60), size)
    epochs = Epochs(group.target)
    with Writer(group.source, keys) as load:
        hold_back(group, giver if slow == "giver" else heir)
        wait_until(lambda: load.taken > 1000, "some writes")
        group.source.move_slots(range(60), giver, heir)
        wait_gathered(group)
        # Each owner has to be seen (docs/slot-migration.md, what is not covered).
        time.sleep(3)
        group.source.move_slots(range(30), heir, giver)
    check_moved(group, epochs)


@pytest.mark.slow
@pytest.mark.parametrize("version", ("redis-next", "valkey-9"))
def test_slots_move_atomically_while_the_shards_are_led_apart(world, version):
    group, (giver, heir, _), keys = moving(world, range(200), version=version)
    epochs = Epochs(group.target)
    with Writer(group.source, keys) as load:
        hold_back(group, giver)
        wait_until(lambda: load.taken > 1000, "some writes")
        import_atomically(group.source, [(0, 99)], giver, heir)
        wait_gathered(group)
        import_atomically(group.source, [(100, 199)], giver, heir)
    check_moved(group, epochs)


@pytest.mark.slow
@pytest.mark.parametrize("who", ("giver", "heir", "all"))
def test_a_leader_is_killed_while_slots_move(world, who):
    """That of the shard that gives slots away, of the one that gets them, or of all, when they have come together."""
    group, (giver, heir, _), keys = moving(world, range(100))
    epochs = Epochs(group.target)
    with Writer(group.source, keys):
        hold_back(group, giver)
        victim = group.leaders()[(heir if who == "heir" else giver).address]
        group.source.move_slots(range(50), giver, heir)
        if who == "all":
            wait_gathered(group)
            victim = group.leaders()[giver.address]
        victim.tool.kill()
        group.source.move_slots(range(50, 100), giver, heir)
        wait_until(lambda: led(group), "each shard has a leader", LEASE + 20)
    victim.tool.start()
    check_moved(group, epochs)


@pytest.mark.slow
def test_a_shard_is_added_and_another_leaves_while_the_shards_are_led_apart(world):
    group, (first, *_), keys = moving(world, range(100))
    epochs = Epochs(group.target)
    with Writer(group.source, keys):
        hold_back(group, first)
        new = group.source.add_node()
        group.source.move_slots(range(100), first, new)
        wait_until(lambda: led(group), "the new one is led", 20)
        wait_gathered(group)
        free(group)
        wait_spread(group)
        hold_back(group, first)
        group.source.reshard(5461 - 100, first, new)
        wait_until(lambda: all(len(n.tool.status()) == 3 for n in group.nodes), "nobody has the old one", PATIENT)
    group.source.remove_node(first)
    free(group)
    wait_equal(group.source, group.target, timeout=PATIENT)
    wait_spread(group)
    epochs.check()
    # The old one's server becomes a replica, so what the sources count does not tell.
    assert sum(n.tool.text().count("full sync up to offset") for n in group.nodes) == 4


@pytest.mark.slow
def test_what_the_registry_has_of_a_shard_is_in_one_slot(world):
    """So that a shard can be led as long as that master answers."""
    group = spread(world, 2)
    group.nodes[0].tool.act("pause")
    keys = [key.decode() for m in group.source.masters() for key in m.client().scan_iter(match="/redis-gunyu/*")]
    claims = [k for k in keys if "/input-election/" in k]
    assert len(claims) == 3
    for claim in claims:
        shard = claim.partition("/input-election/")[2].rstrip("/")
        of_shard = [k for k in keys if k.endswith("/" + shard)]
        assert sorted(k.split("/")[-2] for k in of_shard) == ["halted", "token"]
        assert {group.source.slot_of(k) for k in of_shard} == {group.source.slot_of(claim)}
    group.nodes[1].tool.act("resume")
    wait_equal(group.source, group.target)


@pytest.mark.slow
def test_a_shard_that_was_stopped_stays_so_and_holds_up_no_other(world):
    group = spread(world, 2, Etcd(world))
    wait_equal(group.source, group.target)
    stopped, *others = group.source.masters()
    group.nodes[0].tool.act("stop", inputs=stopped.address)
    for node in group.nodes:
        node.tool.kill()
    for node in group.nodes:
        node.tool.start(wait=False)
    keys = {m: keys_of(group.source, [m_slot(group, m)])[0] for m in group.source.masters()}
    for key in keys.values():
        group.source.client().incr("n:" + key)
    wait_until(lambda: all(group.target.client().get("n:" + keys[m]) == b"1" for m in others), "the others go on", 30)
    wait_until(group.leaders, "all are led", 20)
    lane = next(s for s in group.leaders()[stopped.address].tool.status() if s["Input"] == stopped.address)
    assert lane["State"] == "stop" and not group.target.client().exists("n:" + keys[stopped])
    group.nodes[1].tool.act("resume", inputs=stopped.address)
    wait_equal(group.source, group.target)
    wait_spread(group)
    assert full_syncs(group) == 3


def m_slot(group, master):
    """A slot of the shard."""
    (first, _), *_ = group.source.view(master)[master.cluster_id][3]
    return first

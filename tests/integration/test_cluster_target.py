# SPDX-License-Identifier: Apache-2.0
"""A standalone source into a cluster: equal at the end, nothing lost, nothing twice.

GUNYU_TEST_ROUNDS: disturbances a test (default 5). GUNYU_TEST_SEED: the random sequence.
"""

import random
import time

import pytest

from compare import wait_equal
from dataset import load_everything
from harness import wait_until
from test_crash import Load, PATIENT, ROUNDS, SEED, moments



class SpreadLoad(Load):
    """Writes of which none may be applied twice, over all slots, some in transactions of several."""

    def _commands(self):
        n = self.rng.randrange(300)
        yield "INCR", f"count:{n}"
        yield "RPUSH", f"list:{n}", self.taken
        yield "APPEND", f"text:{n}", f"{self.taken},"
        yield "XADD", f"stream:{n}", "*", "n", self.taken
        yield "SET", f"blind:{n}", self.taken
        yield "HSET", f"hash:{n}", f"f{self.taken % 7}", self.taken
        yield "HINCRBY", f"hash:{n}", "n", 1
        if self.taken % 3 == 0:
            yield "MULTI",
            yield "INCRBY", "{one}a", 3
            yield "LPUSH", "{one}l", self.taken
            yield "EXEC",
        if self.taken % 5 == 0:
            yield "MULTI",
            yield "INCRBY", f"far:{n}", 3
            yield "LPUSH", f"away:{n}", self.taken
            yield "SET", f"blind:{n + 1}", "from a transaction"
            yield "EXEC",
        if self.taken % 20 == 0:
            yield "LTRIM", f"list:{n}", -200, -1
            yield "MSET", f"m:{n}", self.taken, f"m:{n + 1}", self.taken
            yield "DEL", f"text:{n}", f"m:{n - 1}", f"text:{n + 1}"




@pytest.fixture
def one_db(monkeypatch):
    monkeypatch.setattr("test_crash.DBS", (0,))


@pytest.fixture
def into(world, one_db):
    """A source, and a cluster that is equal to it and kept so."""
    source, cluster = world.source(), world.cluster("target", masters=3, replicas=1)
    load_everything(source, dbs=(0,))
    tool = world.gunyu(source, cluster)
    wait_equal(source, cluster)
    return source, cluster, tool


def test_kill_of_the_tool(into):
    source, cluster, tool = into
    with SpreadLoad(source):
        for pause in moments(11):
            time.sleep(pause)
            tool.restart(wait=False)
    wait_equal(source, cluster, timeout=PATIENT)
    assert source.full_syncs() == 1, "the backlog sufficed, yet there was another full sync"


def test_kill_of_the_tool_during_the_full_sync(world, one_db):
    source, cluster = world.source(), world.cluster("target", masters=3)
    load_everything(source, dbs=(0,))
    source.raw().many(("SET", f"bulk:{i}", b"x" * 200) for i in range(60000))
    tool = world.gunyu(source, cluster)
    with SpreadLoad(source):
        for pause in moments(12):
            time.sleep(pause)
            tool.restart(wait=False)
    wait_equal(source, cluster, timeout=PATIENT)


def test_connections_to_the_cluster_are_cut(into):
    source, cluster, _ = into
    rng = random.Random(SEED)
    with SpreadLoad(source):
        for pause in moments(13):
            time.sleep(pause)
            rng.choice(cluster.masters()).client().execute_command("CLIENT", "KILL", "TYPE", "normal")
    wait_equal(source, cluster, timeout=PATIENT)
    assert source.full_syncs() == 1


def test_a_planned_failover_of_the_cluster(into):
    source, cluster, _ = into
    with SpreadLoad(source):
        for shard in range(3):
            cluster.failover(shard)
            time.sleep(0.3)
    wait_equal(source, cluster, timeout=PATIENT)
    assert source.full_syncs() == 1


def test_a_master_of_the_cluster_dies(into):
    source, cluster, _ = into
    with SpreadLoad(source):
        time.sleep(2)
        dead = cluster.kill_master(1)
        wait_until(lambda: dead not in cluster.masters() and len(cluster.masters()) == 3, "a replica takes over", 30)
        time.sleep(1)
    wait_equal(source, cluster, timeout=PATIENT)
    assert source.full_syncs() == 1


def test_slots_of_the_cluster_move_key_by_key(into):
    source, cluster, _ = into
    with SpreadLoad(source):
        one, two, three = cluster.masters()
        cluster.move_slots(range(0, 150), one, two)
        cluster.move_slots(range(16000, 16100), three, one)
    wait_equal(source, cluster, timeout=PATIENT, slack_ms=100)
    assert source.full_syncs() == 1


def test_the_tool_dies_while_slots_of_the_cluster_move(into):
    source, cluster, tool = into
    rng = random.Random(SEED)

    def pause(slot, key):
        if rng.random() < 0.02:
            tool.restart(wait=False)

    with SpreadLoad(source):
        one, two, _ = cluster.masters()
        cluster.move_slots(range(0, 200), one, two, pause)
    wait_equal(source, cluster, timeout=PATIENT, slack_ms=100)
    assert source.full_syncs() == 1


def test_a_node_joins_the_cluster(into):
    source, cluster, _ = into
    with SpreadLoad(source):
        new = cluster.add_node()
        cluster.move_slots(range(0, 120), cluster.masters()[0], new)
    wait_equal(source, cluster, timeout=PATIENT, slack_ms=100)
    assert source.full_syncs() == 1


def test_the_whole_cluster_restarts(world, one_db):
    source = world.source()
    cluster = world.cluster("target", masters=3, appendonly="yes", appendfsync="always")
    load_everything(source, dbs=(0,))
    world.gunyu(source, cluster)
    wait_equal(source, cluster)
    with SpreadLoad(source, pace=0.02):
        time.sleep(1)
        for node in cluster.nodes:
            node.kill()
        time.sleep(0.5)
        for node in cluster.nodes:
            node.start()
    wait_equal(source, cluster, timeout=PATIENT)
    assert source.full_syncs() == 1


def test_flushall_reaches_every_master(into):
    source, cluster, _ = into
    source.client().flushall()
    source.client().set("after", "1")
    wait_equal(source, cluster)
    assert cluster.client().get("after") == b"1"

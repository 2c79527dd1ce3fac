# SPDX-License-Identifier: Apache-2.0
"""A cluster into a cluster while the tool, the masters of both and their slots come and go: equal, each time that it is asked.

GUNYU_TEST_ROUNDS: disturbances (default 25). GUNYU_TEST_SEED: the random sequence.
"""

import contextlib
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis.exceptions import ResponseError

from compare import wait_equal
from dataset import load_everything
from load import ToCluster
from test_cluster_target import Disturbance
from test_crash import ROUNDS, SEED
from test_lost_writes import follow, unfollow
from test_source_cluster import wait_streaming
from test_source_reshard import keys_of


class ManyKinds(ToCluster):
    """Writes of which none may be applied twice, with blind ones and transactions between them."""

    def __init__(self, cluster, tags, seed):
        super().__init__(cluster)
        self.tags, self.pace, self.rng = tags, 0.001, random.Random(seed)

    def write(self, client):
        tag, n = self.rng.choice(self.tags), self.taken
        self.rng.choice([
            lambda: client.incr(f"count:{tag}"),
            lambda: client.rpush(f"list:{tag}", n),
            lambda: client.append(f"text:{tag}", f"{n},"),
            lambda: client.xadd(f"stream:{tag}", {"n": n}, maxlen=100, approximate=False),
            lambda: client.hincrby(f"hash:{tag}", f"f{n % 5}", 1),
            lambda: client.set(f"blind:{tag}", n),
            lambda: client.delete(f"blind:{tag}", f"text:{tag}") if n % 20 == 0 else client.sadd(f"set:{tag}", n % 50),
            lambda: client.rpoplpush(f"list:{tag}", f"list2:{tag}"),
            lambda: self.transaction(client, tag, n),
        ])()

    @staticmethod
    def transaction(client, tag, n):
        owner = client.get_redis_connection(client.get_node_from_key(tag))
        several = owner.pipeline(transaction=True)
        several.incrby(f"count:{tag}", 3)
        several.lpush(f"list:{tag}", n)
        several.set(f"blind:{tag}", f"{n} in a transaction")
        # While the slot moves it may be refused, as a whole.
        with contextlib.suppress(ResponseError):
            several.execute()


class Campaign:
    """One thing after the other, and in each round the tool is killed. What docs/exactly-once.md and
    docs/slot-migration.md do not cover is left out: a slot moves on only long after its last move, no two moves are at
    once, and moves at the source begin when no shard has a full sync."""

    def __init__(self, source, target, tool, killer):
        """killer: an executor with a thread that stays; a process ends with the thread that began it."""
        self.tool, self.killer, self.rng = tool, killer, random.Random(SEED * 1000 + 300)
        self.source, self.target = Disturbance(source, tool, 301), Disturbance(target, tool, 302)

    def with_a_kill(self, act, first, last):
        """The tool is killed so many seconds after the act has begun."""
        def kill(after=self.rng.uniform(first, last)):
            time.sleep(after)
            self.tool.restart(wait=False)
        killed = self.killer.submit(kill)
        act()
        killed.result()

    def nothing_else(self):
        self.with_a_kill(lambda: None, 0, 0.5)

    def target_master_dies(self):
        self.with_a_kill(self.target.kill_master, 0, 5)

    def target_fails_over(self):
        self.with_a_kill(self.target.fail_over, 0, 1)

    def target_moves(self):
        self.with_a_kill(lambda: self.target.move(kills=False), 0, 1)

    def source_master_dies(self):
        self.with_a_kill(self.source.kill_master, 0, 5)

    def source_master_dies_with_writes(self):
        """Its heir has not had them for a while, and the tool has."""
        cluster, shard = self.source.cluster, self.rng.randrange(3)

        def act():
            replica = unfollow(cluster, shard)
            time.sleep(self.rng.uniform(0, 1))
            dead = cluster.lose_master(shard)
            follow(replica)
            dead.start()
            cluster.wait_agreed()
        self.with_a_kill(act, 0, 5)

    def source_fails_over(self):
        self.with_a_kill(self.source.fail_over, 0, 1)

    def source_moves(self):
        self.with_a_kill(lambda: self.source.move(kills=False), 0, 1)

    OFTEN = {nothing_else: 3, target_master_dies: 2, target_fails_over: 2, target_moves: 3, source_master_dies: 2,
             source_master_dies_with_writes: 2, source_fails_over: 1, source_moves: 3}

    def round(self):
        act = self.rng.choices(list(self.OFTEN), list(self.OFTEN.values()))[0]
        began = time.monotonic()
        act(self)
        wait_streaming(self.tool, 3, 60)
        return f"{act.__name__}, {time.monotonic() - began:.1f} s"


@pytest.mark.slow
def test_a_cluster_into_a_cluster_while_everything_dies_and_moves(world):
    source, target = world.cluster("source", replicas=1), world.cluster("target", replicas=1)
    # A few keys in each of these slots, so that a slot that moves has some on either side.
    tags = keys_of(source, range(0, 16384, 60))
    load_everything(source, dbs=(0,))
    # Who reads from the master may have what its heir has not.
    tool = world.gunyu(source, target, config={"input": {"syncFrom": "master"}, "server": {"checkRedisTypologyTicker": "1s"}})
    wait_equal(source, target)
    with ThreadPoolExecutor(1) as killer:
        campaign = Campaign(source, target, tool, killer)
        for first in range(0, max(ROUNDS, 25), 5):
            with ManyKinds(source, tags, SEED * 1000 + first) as load:
                for number in range(first, first + 5):
                    print(f"seed {SEED}, round {number}: {campaign.round()}; {load.taken} writes", flush=True)
            wait_equal(source, target, timeout=90, slack_ms=100)
            assert [s["LaneState"] for s in tool.status()] == ["run"] * 3
            assert [(s["Counters"]["CmdsFailed"], s["DeadLetters"]) for s in tool.status()] == [(0, 0)] * 3

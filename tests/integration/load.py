# SPDX-License-Identifier: Apache-2.0
"""Writes that go on while a test disturbs what they go through."""

import contextlib
import random
import threading
import time

import redis
from redis.exceptions import RedisClusterException

from waiting import wait_until


class UntilStopped:
    """Calls write() in a thread until the with block ends. When it fails it is called again, over a new connection."""

    # The block begins after more writes than these.
    LEAD = 100
    PASSING = (redis.RedisError, OSError)

    def __init__(self, seed=1, pace=0):
        self.rng, self.pace = random.Random(seed), pace
        self.ending = threading.Event()
        self.taken = 0  # writes that succeeded
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        wait_until(lambda: self.taken > self.LEAD, "the load writes")
        return self

    def __exit__(self, *_):
        assert self.thread.is_alive(), "the load has ended by itself"
        self.ending.set()
        self.thread.join(60)
        assert not self.thread.is_alive(), "the load does not end"

    def connect(self):
        """A context manager; write() is given what it yields."""
        return contextlib.nullcontext()

    def write(self, connection):
        raise NotImplementedError

    def _run(self):
        while not self.ending.is_set():
            try:
                with self.connect() as connection:
                    while not self.ending.is_set():
                        self.write(connection)
                        self.taken += 1
                        time.sleep(self.pace)
            except self.PASSING:
                time.sleep(0.05)


class ToCluster(UntilStopped):
    """write() is given a client of the cluster, which goes on through failovers and moves of slots."""

    # How redis-py fails while the nodes do not agree, or some are dead; none of these is a RedisError.
    PASSING = (*UntilStopped.PASSING, RedisClusterException, IndexError, KeyError, AttributeError)

    def __init__(self, cluster):
        super().__init__()
        self.cluster = cluster

    def connect(self):
        return self.cluster.client()

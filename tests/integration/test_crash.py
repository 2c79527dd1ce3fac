# SPDX-License-Identifier: Apache-2.0
"""Whatever dies, whenever: equal at the end, nothing lost, nothing twice.

GUNYU_TEST_ROUNDS: disturbances a test (default 5). GUNYU_TEST_SEED: the random sequence.
"""

import contextlib
import os
import random
import threading
import time

import pytest

from compare import wait_equal
from dataset import load_everything
from harness import wait_until
from load import UntilStopped

ROUNDS = int(os.environ.get("GUNYU_TEST_ROUNDS", "5"))
SEED = int(os.environ.get("GUNYU_TEST_SEED", "1"))
DBS = (0, 4, 11)
# Written while the target is stopped.
STOPPED_MB = 500 if ROUNDS >= 20 else 120
# Such a target takes one transaction of the source per flush of its disk, so the load is slower there.
DURABLE = {"appendonly": "yes", "appendfsync": "always"}
SLOW = 0.02
PATIENT = 60 + 3 * ROUNDS


class Load(UntilStopped):
    """Writes of which none may be applied twice, in three dbs."""

    LEAD = 0
    dbs = DBS

    def __init__(self, server, seed=SEED, pace=0.003):
        super().__init__(seed, pace)
        self.server = server

    @contextlib.contextmanager
    def connect(self):
        raws = [self.server.raw(db) for db in self.dbs]
        try:
            yield raws
        finally:
            for raw in raws:
                raw.close()

    def write(self, raws):
        raw = self.rng.choice(raws)
        raw.many([c for _ in range(self.rng.randrange(1, 6)) for c in self.commands()])

    def commands(self):
        n = self.rng.randrange(8)
        yield "INCR", f"count:{n}"
        yield "RPUSH", f"list:{n}", self.taken
        yield "APPEND", f"text:{n}", f"{self.taken},"
        yield "XADD", f"stream:{n}", "*", "n", self.taken
        yield "MULTI",
        yield "INCRBY", "both:a", 3
        yield "LPUSH", "both:l", self.taken
        yield "EXEC",
        yield "SET", f"blind:{n}", self.taken
        yield "HINCRBY", "hash", f"f{n}", 1
        if self.taken % 50 == 0:
            yield "LTRIM", f"list:{n}", -200, -1
            yield "SETRANGE", f"text:{n}", 100, "mark"
            yield "DEL", f"text:{(n + 1) % 8}"


def moments(seed):
    """Pauses between disturbances: sometimes at once, sometimes in the middle of a quiet stream."""
    rng = random.Random(SEED * 1000 + seed)
    return [rng.choice([rng.uniform(0, 0.05), rng.uniform(0.05, 0.3), rng.uniform(0.3, 1.0)]) for _ in range(ROUNDS)]


def test_kill_of_the_tool(world, pair):
    source, target = pair
    load_everything(source, dbs=(0,))
    tool = world.gunyu(source, target)
    wait_equal(source, target)
    with Load(source):
        for pause in moments(1):
            time.sleep(pause)
            tool.restart(wait=False)
    wait_equal(source, target, timeout=PATIENT)
    assert source.full_syncs() == 1, "the backlog sufficed, yet there was another full sync"


def test_kill_of_the_tool_during_the_full_sync(world, pair):
    source, target = pair
    load_everything(source)
    source.raw().many(("SET", f"bulk:{i}", b"x" * 200) for i in range(30000))
    back = world.proxy(target)
    back.rate = 5_000_000
    tool = world.gunyu(source, back)
    with Load(source):
        for pause in moments(2):
            time.sleep(pause)
            tool.restart(wait=False)
        back.rate = 0
    wait_equal(source, target, timeout=PATIENT)


def test_kill_of_the_target(world):
    source, target = world.source(), world.target(**DURABLE)
    load_everything(source, dbs=(0,))
    world.gunyu(source, target)
    wait_equal(source, target)
    with Load(source, pace=SLOW):
        for pause in moments(3):
            time.sleep(pause)
            target.kill()
            time.sleep(pause / 2)
            target.start()
    wait_equal(source, target, timeout=PATIENT)
    assert source.full_syncs() == 1


def test_kill_of_the_source(world):
    source, target = world.source(**DURABLE), world.target()
    load_everything(source, dbs=(0,))
    world.gunyu(source, target)
    wait_equal(source, target)
    with Load(source):
        for pause in moments(4):
            time.sleep(pause)
            source.restart()
    wait_equal(source, target, timeout=PATIENT)


def test_cuts_of_the_source_link(world, pair):
    source, target = pair
    load_everything(source, dbs=(0,))
    front = world.proxy(source)
    world.gunyu(front, target)
    wait_equal(source, target)
    rng = random.Random(SEED)
    with Load(source):
        for pause in moments(5):
            front.cut_after(rng.randrange(1, 20000))
            wait_until(lambda: front.cut_at is None, "enough traffic for the cut", 30)
            time.sleep(pause / 4)
    wait_equal(source, target, timeout=PATIENT)
    assert source.full_syncs() == 1


def test_cuts_of_the_target_connection(world, pair):
    source, target = pair
    load_everything(source, dbs=(0,))
    back = world.proxy(target)
    world.gunyu(source, back)
    wait_equal(source, target)
    rng = random.Random(SEED)
    with Load(source):
        for pause in moments(6):
            back.cut_after(rng.randrange(1, 20000))
            wait_until(lambda: back.cut_at is None, "enough traffic for the cut", 30)
            time.sleep(pause / 4)
    wait_equal(source, target, timeout=PATIENT)
    assert source.full_syncs() == 1


def test_everything_at_once(world):
    source, target = world.source(), world.target(**DURABLE)
    load_everything(source, dbs=(0,))
    front, back = world.proxy(source), world.proxy(target)
    tool = world.gunyu(front, back)
    wait_equal(source, target)
    rng = random.Random(SEED + 7)

    def kill_target():
        target.restart()

    acts = [lambda: tool.restart(wait=False), kill_target, front.cut, back.cut, lambda: front.cut_after(rng.randrange(5000)),
            lambda: back.cut_after(rng.randrange(5000))]
    with Load(source, pace=SLOW):
        for pause in moments(7):
            rng.choice(acts)()
            time.sleep(pause)
    front.cut_after(10**12)
    back.cut_after(10**12)
    wait_equal(source, target, timeout=PATIENT)
    assert source.full_syncs() == 1


def test_half_open_target_is_noticed_and_nothing_is_lost(world, pair):
    """bug_22: a peer that neither answers nor closes must not stall the lane for good."""
    source, target = pair
    back = world.proxy(target)
    world.gunyu(source, back)
    wait_equal(source, target)
    with Load(source):
        back.pause()
        time.sleep(1)
        back.cut()
        back.resume()
        time.sleep(0.5)
    wait_equal(source, target, timeout=PATIENT)


def write_while_stopped(source, target, megabytes):
    """The target is left stopped."""
    target.freeze()
    raw = source.raw()
    for part in range(megabytes // 2):
        raw.many([("SET", f"k:{i}", b"v" * 20000) for i in range(part % 10 * 98, part % 10 * 98 + 98)] +
                 [("RPUSH", "parts", part)] * 2)
    raw.close()


class OutputBuffer(threading.Thread):
    """The most that the source held back for its replica while this ran."""

    def __init__(self, source):
        super().__init__(daemon=True)
        self.client, self.peak, self.done = source.client(), 0, threading.Event()
        self.start()

    def now(self):
        return max(int(c["omem"]) for c in self.client.client_list() if "S" in c["flags"])

    def run(self):
        while not self.done.wait(0.01):
            self.peak = max(self.peak, self.now())


def test_stopped_target_does_not_grow_the_sources_output_buffer(world, pair):
    source, target = pair
    world.gunyu(source, target)
    wait_equal(source, target)
    buffer = OutputBuffer(source)
    write_while_stopped(source, target, STOPPED_MB)
    wait_until(lambda: source.replica_offset() > STOPPED_MB * 900_000 and buffer.now() < 100_000,
               "the journal takes the stream while the target is stopped", 10)
    buffer.done.set()
    buffer.join()
    # What a busy machine leaves waiting for a moment, and far from what the target has missed.
    assert buffer.peak < STOPPED_MB * 1_000_000 / 4, f"the source held back {buffer.peak} bytes"
    target.thaw()
    wait_equal(source, target, timeout=PATIENT)
    assert source.full_syncs() == 1


def test_memory_channel_holds_its_cap_with_a_stopped_target(world):
    source, target = world.source(client_output_buffer_limit="replica 0 0 0"), world.target()
    tool = world.gunyu(source, target, config={"channel": {"type": "memory", "storer": None, "memory": {
        "maxSize": 67108864, "logSize": 4194304}}})
    wait_equal(source, target)
    write_while_stopped(source, target, STOPPED_MB)
    wait_until(lambda: tool.status()[0]["JournalFull"], "the channel is full, and the status says so")
    status = open(f"/proc/{tool.child.pid}/status", encoding="ascii").read()
    rss = int(status.split("RssAnon:")[1].split()[0]) + int(status.split("RssShmem:")[1].split()[0])
    assert rss < (64 + 40) * 1024, f"{rss} kB resident with a cap of 64 MiB"
    assert tool.status()[0]["JournalBytes"] <= 67108864
    target.thaw()
    wait_equal(source, target, timeout=PATIENT)
    assert source.full_syncs() == 1


@pytest.mark.slow
def test_a_hundred_kills_of_everything(world):
    source, target = world.source(**DURABLE), world.target(**DURABLE)
    load_everything(source, dbs=(0,))
    front, back = world.proxy(source), world.proxy(target)
    # A source that dies behind a DEL which it could not send comes back with a history of its own.
    tool = world.gunyu(front, back, config={"output": {"replay": {"extraKeys": "delete"}}})
    wait_equal(source, target)
    rng = random.Random(SEED + 100)
    for _ in range(max(ROUNDS, 100) // 10):
        with Load(source, rng.random(), SLOW):
            for _ in range(10):
                time.sleep(rng.uniform(0, 0.4))
                rng.choice([lambda: tool.restart(wait=False), target.restart, source.restart, front.cut, back.cut])()
        wait_equal(source, target, timeout=PATIENT)

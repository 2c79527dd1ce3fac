# SPDX-License-Identifier: Apache-2.0
"""A key alive at the source is alive at the target, whatever its former expiry and however far the lane is behind."""

import threading
import time

import pytest

from compare import wait_equal, wait_passed
from harness import wait_until

KEYS = 1000


class Renewer:
    """KEYS keys with a TTL of 2 s, each renewed every second, in turn by each way that renews."""

    def __init__(self, server, keys=KEYS):
        self.server = server
        self.names = [f"lease:{i}" for i in range(keys)]
        self.living = set(self.names)
        self.ending = threading.Event()
        self.round = 0
        self.late = 0.0
        self.thread = threading.Thread(target=self._run, daemon=True)

    def renew(self, raw):
        now = int(time.time() * 1000)
        ways = [lambda k: ("PEXPIRE", k, 2000), lambda k: ("SET", k, self.round, "PX", 2000), lambda k: ("PEXPIREAT", k, now + 2000),
                lambda k: ("EXPIRE", k, 2), lambda k: ("GETEX", k, "PX", 2000)]
        raw.many(ways[(i + self.round) % len(ways)](k) for i, k in enumerate(self.names) if k in self.living)
        self.round += 1

    def _run(self):
        raw = self.server.raw()
        due = time.monotonic()
        while not self.ending.is_set():
            self.renew(raw)
            due += 1
            self.late = max(self.late, time.monotonic() - due)
            self.ending.wait(max(0, due - time.monotonic()))
        raw.close()

    def __enter__(self):
        self.server.raw().many(("SET", k, "first", "PX", 2000) for k in self.names)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join(30)


def alive(server):
    raw = server.raw()
    cursor, found = b"0", set()
    while True:
        cursor, part = raw.call("SCAN", cursor, "MATCH", "lease:*", "COUNT", 2000)
        found.update(k.decode() for k in part)
        if cursor == b"0":
            raw.close()
            return found


def check(source, target, renewer):
    """All alive while renewed, for longer than one TTL; then each that ends at the source ends at the target."""
    wait_passed(source, target, timeout=60)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        missing = renewer.living - alive(target)
        assert not missing, f"{len(missing)} keys that live at the source are gone at the target, e.g. {min(missing)}"
        time.sleep(0.1)
    assert alive(source) == renewer.living, "the test's own renewing was too slow"
    dying = set(renewer.names[::2])
    renewer.living -= dying
    wait_until(lambda: not dying & alive(source), "half of the keys expire at the source", 10)
    wait_passed(source, target)
    wait_until(lambda: not dying & alive(target), "what expired at the source is gone at the target", 5)
    assert renewer.living <= alive(target)


def test_expiries_agree_to_the_millisecond(world, pair):
    source, target = pair
    raw = source.raw()
    raw.many(("SET", f"s:{i}", i, "PX", 100000 + i) for i in range(200))
    raw.many([("RPUSH", "l", 1), ("PEXPIRE", "l", 500123), ("SET", "none", 1), ("SET", "gone", 1, "PX", 30)])
    world.gunyu(source, target)
    wait_equal(source, target)
    raw.many([("PEXPIRE", "s:1", 777777), ("PERSIST", "s:2"), ("EXPIREAT", "none", int(time.time()) + 4000),
              ("SET", "new", 1, "EX", 3000), ("RENAME", "s:3", "s:3b"), ("COPY", "s:4", "s:4b"), ("GETEX", "s:5", "PX", 600600)])
    wait_equal(source, target)


def test_expired_keys_go_at_both_sides(world, pair):
    source, target = pair
    world.gunyu(source, target)
    source.raw().many(("SET", f"short:{i}", i, "PX", 200 + i) for i in range(300))
    wait_passed(source, target)
    wait_until(lambda: not list(source.client().scan_iter("short:*")), "the keys expire at the source")
    wait_until(lambda: not list(target.client().scan_iter("short:*")), "and at the target")
    wait_equal(source, target)


def test_renewed_keys_survive_a_short_stop_of_the_tool(world, pair):
    source, target = pair
    tool = world.gunyu(source, target)
    with Renewer(source, 200) as renewer:
        wait_passed(source, target)
        tool.kill()
        time.sleep(3)
        tool.start()
        check(source, target, renewer)


@pytest.mark.slow
def test_renewed_keys_survive_a_pause(world, pair):
    source, target = pair
    tool = world.gunyu(source, target)
    with Renewer(source) as renewer:
        wait_passed(source, target)
        tool.act("pause")
        time.sleep(10)
        tool.act("resume")
        check(source, target, renewer)


@pytest.mark.slow
def test_renewed_keys_survive_a_frozen_tool(world, pair):
    source, target = pair
    tool = world.gunyu(source, target)
    with Renewer(source) as renewer:
        wait_passed(source, target)
        tool.freeze()
        time.sleep(10)
        tool.thaw()
        check(source, target, renewer)


@pytest.mark.slow
def test_renewed_keys_survive_a_kill(world, pair):
    source, target = pair
    tool = world.gunyu(source, target)
    with Renewer(source) as renewer:
        wait_passed(source, target)
        tool.kill()
        time.sleep(10)
        tool.start()
        check(source, target, renewer)


@pytest.mark.slow
def test_renewed_keys_survive_a_slow_full_sync(world, pair):
    source, target = pair
    source.raw().many(("SET", f"bulk:{i}", b"x" * 200) for i in range(40000))
    back = world.proxy(target)
    with Renewer(source) as renewer:
        back.rate = 1_000_000
        world.gunyu(source, back)
        time.sleep(10)
        back.rate = 0
        check(source, target, renewer)


@pytest.mark.slow
def test_renewed_keys_survive_a_kill_during_a_slow_full_sync(world, pair):
    source, target = pair
    source.raw().many(("SET", f"bulk:{i}", b"x" * 200) for i in range(40000))
    back = world.proxy(target)
    with Renewer(source) as renewer:
        back.rate = 1_000_000
        tool = world.gunyu(source, back)
        time.sleep(5)
        tool.restart(wait=False)
        time.sleep(5)
        back.rate = 0
        check(source, target, renewer)


def test_renewed_keys_survive_a_target_that_hangs_with_their_writes_in_flight(world, pair):
    """The lane was not behind when it sent the first expiry, but the target executes it after that time."""
    source, target = pair
    world.gunyu(source, target)
    wait_passed(source, target)
    raw = source.raw()
    target.freeze()
    raw.many(("SET", f"k:{i}", i, "PX", 900) for i in range(50))
    time.sleep(0.7)
    raw.many(("PEXPIRE", f"k:{i}", 5000000) for i in range(50))
    time.sleep(1)
    target.thaw()
    wait_equal(source, target)


@pytest.mark.parametrize("bulk,ttl", [(0, 900), (0, 3000), (200, 3000)])
@pytest.mark.parametrize("commands", [
    [("PEXPIRE", "k", 5000000), ("COPY", "k", "o", "REPLACE")],
    [("PEXPIRE", "k", 5000000), ("RENAME", "k", "o")],
    [("MULTI",), ("PEXPIRE", "k", 5000000), ("COPY", "k", "new"), ("EXEC",)],
    [("COPY", "k", "new"), ("PEXPIRE", "new", 5000000), ("PERSIST", "k")],
    [("PEXPIRE", "k", 5000000), ("MOVE", "k", 4)],
    [("SET", "k", 2, "KEEPTTL"), ("PEXPIRE", "k", 5000000, "GT")],
])
def test_held_expiry_follows_the_key(world, pair, commands, bulk, ttl):
    source, target = pair
    world.gunyu(source, target)
    wait_passed(source, target)
    target.freeze()
    # With enough bytes before them the commands wait in the tool, without they are under way already.
    raw = source.raw()
    raw.many(("SET", f"bulk:{i}", b"x" * 100000) for i in range(bulk))
    raw.many([("SET", "k", 1, "PX", ttl), ("SET", "o", 1, "PX", ttl)])
    time.sleep(0.1)
    for reply in raw.many(commands):
        assert not isinstance(reply, Exception), reply
    raw.many([("SET", "o", "longer", "PX", 6000000)] if all("o" not in c for c in commands) else [])
    time.sleep(1.5)
    target.thaw()
    wait_equal(source, target)

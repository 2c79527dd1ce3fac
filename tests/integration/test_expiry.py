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

    def __init__(self, server, keys=KEYS, ttl=2, period=1.0):
        self.server = server
        self.ttl, self.period = ttl, period
        self.names = [f"lease:{i}" for i in range(keys)]
        self.living = set(self.names)
        self.ending = threading.Event()
        self.round = 0
        self.late = 0.0
        self.thread = threading.Thread(target=self._run, daemon=True)

    def renew(self, raw):
        now = int(time.time() * 1000)
        ms = self.ttl * 1000
        ways = [lambda k: ("PEXPIRE", k, ms), lambda k: ("SET", k, self.round, "PX", ms), lambda k: ("PEXPIREAT", k, now + ms),
                lambda k: ("EXPIRE", k, self.ttl), lambda k: ("SETEX", k, self.ttl, self.round)]
        if self.getex:
            ways.append(lambda k: ("GETEX", k, "PX", ms))
        raw.many(ways[(i + self.round) % len(ways)](k) for i, k in enumerate(self.names) if k in self.living)
        self.round += 1

    def _run(self):
        raw = self.server.raw()
        due = time.monotonic()
        while not self.ending.is_set():
            self.renew(raw)
            due += self.period
            self.late = max(self.late, time.monotonic() - due)
            self.ending.wait(max(0, due - time.monotonic()))
        raw.close()

    def __enter__(self):
        self.getex = self.server.has("getex")
        self.server.raw().many(("SET", k, "first", "EX", self.ttl) for k in self.names)
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
    wait_until(lambda: not dying & alive(source), "half of the keys expire at the source", 10 + renewer.ttl)
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


@pytest.mark.slow
@pytest.mark.parametrize("how", ["pause", "stop"])
def test_settled_keys_survive_standing_still(world, pair, how):
    """Renewed so seldom that their expiry is true at the target in between: it is made far before the lane stands still."""
    source, target = pair
    tool = world.gunyu(source, target)
    with Renewer(source, ttl=10, period=4) as renewer:
        wait_passed(source, target)
        wait_until(lambda: 0 < target.client().pttl(f"lease:{KEYS - 1}") <= 10000, "the keys are settled")
        if how == "pause":
            tool.act("pause")
            time.sleep(25)
            tool.act("resume")
        else:
            assert tool.stop() == 0
            time.sleep(15)
            tool.start()
        check(source, target, renewer)
    wait_equal(source, target)


def test_keys_beyond_the_margin_survive_a_pause(world, pair):
    """Their expiry was never near when it was written, but it is when the lane stands still."""
    source, target = pair
    tool = world.gunyu(source, target, config={"output": {"replay": {"expiryMargin": "100ms"}}})
    wait_passed(source, target)
    raw = source.raw()
    raw.many(("SET", f"k:{i}", i, "PX", 4000) for i in range(1500))
    raw.many([("SET", "later", 1, "EX", 86400)])
    wait_passed(source, target)
    assert 0 < target.client().pttl("k:7") <= 4000
    tool.act("pause")
    wait_until(lambda: target.client().pttl("k:7") > 10**12 and target.client().pttl("k:1499") > 10**12, "near expiries are far")
    assert target.client().ttl("later") <= 86400
    raw.many(("PEXPIRE", f"k:{i}", 3000000) for i in range(0, 1500, 2))
    wait_until(lambda: source.client().exists("k:1") == 0, "the others expire at the source")
    time.sleep(1)
    assert target.client().exists("k:0") == 1
    tool.act("resume")
    wait_equal(source, target)
    assert target.client().dbsize() >= 750


def test_resume_sets_expiries_true_at_once_also_in_the_middle_of_the_scan_of_a_pause(world, pair):
    """That scan ends after the resume, and must not put off the one that looks for far expiries."""
    source, target = pair
    tool = world.gunyu(source, target)
    wait_passed(source, target)
    source.raw().many(("SET", f"k:{i}", i, "PX", 100_000) for i in range(3000))
    wait_passed(source, target)
    tool.kill()
    tool.start()  # what is far is not in its table
    wait_until(lambda: tool.status()[0]["Phase"] == "streaming", "it goes on")
    tool.act("pause")
    wait_until(lambda: sum(c["name"].startswith("gunyu:") for c in target.client().client_list()) > 1, "the scan of the pause", interval=0.001)
    target.freeze()
    tool.act("resume")
    target.thaw()
    wait_equal(source, target)


def test_a_sweep_finds_what_a_crash_left_far(world, pair):
    source, target = pair
    tool = world.gunyu(source, target)
    wait_passed(source, target)
    raw = source.raw(2)
    raw.many(("SET", f"k:{i}", i, "PX", 50000 + i) for i in range(3000))
    wait_passed(source, target)
    tool.kill()
    assert target.client(2).pttl("k:2999") > 10**12
    tool.start()
    wait_equal(source, target)


def test_what_a_pause_made_far_on_every_master_is_found_after_a_crash(world):
    """Nothing moves the position meanwhile, which yet has to say that there are far expiries."""
    source, target = world.source(), world.cluster("target")
    tool = world.gunyu(source, target, config={"output": {"replay": {"expiryMargin": "100ms"}}})
    wait_passed(source, target)
    keys = [f"k:{i}" for i in range(600)]
    source.raw().many(("SET", key, 1, "PX", 60_000) for key in keys)
    times = [("PEXPIRETIME", key) for key in keys]
    wait_until(lambda: target.raw().many(times) == source.raw().many(times), "true expiries")
    name = "gunyu:position:" + source.info("replication")["master_replid"]
    wait_until(lambda: f"offset={source.replica_offset()} ".encode() in target.raw().call("GET", name), "all is stored")
    tool.act("pause")
    wait_until(lambda: min(target.raw().many(times)) > 10**13, "near expiries are far")
    tool.kill()
    tool.start()
    wait_until(lambda: target.raw().many(times) == source.raw().many(times), "true expiries again", 30)


def test_what_a_crash_leaves_far_in_a_cluster_is_found_though_the_position_does_not_tell(world):
    """Behind its slot's mark it is not written again, and the position is stored later."""
    source, target = world.source(), world.cluster(name="target")
    tool = world.gunyu(source, target, config={"output": {"replay": {"updateCheckpointTicker": "10s"}}})
    wait_equal(source, target)
    tool.kill()
    source.raw().many(("SET", f"k:{i}", i, "PX", 3600_000) for i in range(50))
    tool.start(wait=False)
    times = [("PEXPIRETIME", f"k:{i}") for i in range(50)]
    wait_until(lambda: min(target.raw().many(times)) > 10**13, "near expiries are far")
    tool.restart()
    wait_equal(source, target)


def test_more_held_keys_than_the_table_takes(world, pair):
    source, target = pair
    source.raw().many(("SET", f"key:{i}", i, "PX", 3600000 + i) for i in range(150000))
    tool = world.gunyu(source, target)
    wait_equal(source, target, timeout=60)
    assert tool.metric("expiries_held_total") >= 150000
    assert tool.metric("expiries_pending") == 0


def test_expiries_are_settled_under_constant_load(world, pair):
    source, target = pair
    world.gunyu(source, target)
    ending = threading.Event()

    def load():
        raw = source.raw(1)
        n = 0
        while not ending.is_set():
            raw.many((("INCR", f"n:{i}") if i % 2 else ("SET", f"s:{i}", n) for i in range(200)), window=200)
            n += 1
        raw.close()

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    try:
        at = int(time.time() * 1000) + 40000
        source.raw().many(("SET", f"k:{i}", i, "PXAT", at + i) for i in range(5000))
        for i in range(0, 5000, 500):
            wait_until(lambda key=i: target.client().pexpiretime(f"k:{key}") == at + key, f"k:{i} is settled", 12)
    finally:
        ending.set()
        thread.join(30)


def test_import_mode_needs_no_far_expiries(world):
    source, target = world.source(), world.server("target", version="valkey-9")
    if not target.client().config_get("import-mode"):
        pytest.skip("this Valkey has no import-mode")
    target.client().config_set("import-mode", "yes")
    tool = world.gunyu(source, target)
    wait_passed(source, target)
    raw = source.raw()
    raw.many(("SET", f"k:{i}", i, "PX", 1500) for i in range(100))
    wait_passed(source, target)
    assert 0 < target.client().pttl("k:1") <= 1500
    tool.act("pause")
    raw.many(("PEXPIRE", f"k:{i}", 5000000) for i in range(50))
    time.sleep(2)
    tool.act("resume")
    wait_equal(source, target)
    assert target.client().get("k:1") == b"1"
    assert tool.metric("expiries_held_total") == 0


def importing(node):
    """A connection of gunyu's is the source of its import."""
    rows = node.client().client_list()
    return any(row["name"].startswith("gunyu:") and "I" in row["flags"] for row in rows)


def test_import_mode_of_a_cluster_is_used_at_each_master_and_at_one_that_takes_over(world):
    source = world.source()
    cluster = world.cluster("target", masters=3, replicas=1, version="valkey-9")
    for node in cluster.nodes:
        node.client().config_set("import-mode", "yes")
    tool = world.gunyu(source, cluster)
    wait_passed(source, cluster)
    assert [importing(node) for node in cluster.masters()] == [True] * 3
    cluster.failover(1)
    raw = source.raw()
    raw.many(("SET", f"k:{i}", i, "PX", 1500) for i in range(100))
    wait_equal(source, cluster)
    wait_until(lambda: all(importing(node) for node in cluster.masters()), "all masters import again")
    assert tool.metric("expiries_held_total") == 0


def test_import_mode_at_one_master_of_a_cluster_is_not_enough(world):
    source, cluster = world.source(), world.cluster("target", masters=3, version="valkey-9")
    tool = world.gunyu(source, cluster)
    wait_passed(source, cluster)
    position = "gunyu:position:" + source.info("replication")["master_replid"]
    cluster.node_of_slot(cluster.slot_of(position)).client().config_set("import-mode", "yes")
    tool.restart()
    wait_passed(source, cluster)
    source.raw().many(("SET", f"k:{i}", i, "PX", 1500) for i in range(100))
    wait_until(lambda: tool.metric("expiries_held_total") == 100, "each expiry is held")
    wait_equal(source, cluster)


def test_fields_of_hashes(world):
    source, target = world.server("source", version="redis-8"), world.server("target", version="redis-8")

    def write(tag):
        raw = source.raw(1)
        raw.many([("HSET", f"small:{tag}", "", "empty", "f", 1, "g", 2), ("HPEXPIRE", f"small:{tag}", 40000, "FIELDS", 2, "", "f")])
        for i in range(40):
            raw.many([("HSET", f"big:{tag}", *(x for j in range(100) for x in (f"f{i}:{j}", j))),
                      ("HPEXPIRE", f"big:{tag}", 60000 + i, "FIELDS", 2, f"f{i}:1", f"f{i}:2")])

    write("snapshot")
    tool = world.gunyu(source, target)
    wait_equal(source, target)
    write("stream")
    source.raw(1).many([("HSET", "short", "a", 1, "b", 2), ("HPEXPIRE", "short", 300, "FIELDS", 1, "a")])
    wait_equal(source, target)
    write("crash")
    wait_passed(source, target)
    tool.restart()
    wait_equal(source, target)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["pause", "kill"])
def test_renewed_keys_of_a_source_that_sends_relative_expiries(world, how):
    source, target = world.server("source", version="redis-6"), world.target()
    tool = world.gunyu(source, target)
    with Renewer(source) as renewer:
        wait_passed(source, target)
        if how == "pause":
            tool.act("pause")
            time.sleep(10)
            tool.act("resume")
        else:
            tool.kill()
            time.sleep(10)
            tool.start()
        check(source, target, renewer)


def test_a_target_without_pexpiretime_is_exact_too(world):
    source, target = world.server("source", version="redis-6"), world.server("target", version="redis-6")
    source.raw().many(("SET", f"k:{i}", i, "PX", 90000 + i) for i in range(500))
    tool = world.gunyu(source, target)
    wait_equal(source, target)
    source.raw().many(("SET", f"k:{i}", i, "PX", 50000 + i) for i in range(500))
    wait_passed(source, target)
    tool.restart()
    wait_equal(source, target)

# SPDX-License-Identifier: Apache-2.0
"""A standalone source into a cluster: equal at the end, nothing lost, nothing twice.

GUNYU_TEST_ROUNDS: disturbances a test (default 5). GUNYU_TEST_SEED: the random sequence.
"""

import hashlib
import random
import re
import shutil
import threading
import time

import pytest

from compare import wait_equal
from dataset import load_everything
from harness import wait_until
from test_crash import DBS, Load, PATIENT, ROUNDS, SEED, moments
from test_source_cluster import Load as ClusterLoad


class SpreadLoad(Load):
    """Writes of which none may be applied twice, over all slots, some in transactions of several."""

    dbs = (0,)

    def commands(self):
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
def into(world):
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


def test_kill_of_the_tool_during_the_full_sync(world):
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
        cluster.lose_master(1)
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


def test_a_mark_that_a_node_does_not_tell_is_asked_for_again(world):
    # So the first shard of the source has its slots in two of the target's, of which one has its position.
    source, cluster = world.cluster("source", cluster_node_timeout=60000), world.cluster("target", masters=4)
    tool = world.gunyu(source, cluster)
    wait_equal(source, cluster)
    counts = [f"count:{i}" for i in range(300)]
    source.raw().many(("INCR", key) for key in counts)
    # The floor that is stored is a second old: for now only the marks tell that these are applied.
    wait_until(lambda: cluster.raw().many(("GET", key) for key in counts) == [b"1"] * 300, "all are there")
    tool.kill()
    position = "gunyu:position:" + source.masters()[0].info("replication")["master_replid"]
    down = next(node for node in cluster.masters()[:2] if node is not cluster.node_of_slot(cluster.slot_of(position)))
    its, slot = keys_of(cluster, [down], "count", 1)[0], cluster.view(down)[down.cluster_id][3][0][0]
    down.raw().call("CLUSTER", "DELSLOTS", slot)
    wait_until(lambda: str(down.raw().call("GET", its)).startswith("CLUSTERDOWN"), "it serves nothing")
    # Nothing is applied before this shard is heard of too.
    shutil.rmtree(tool.journal)
    last = source.masters()[2]
    last.freeze()
    before = len(tool.text())
    tool.start(wait=False)
    asked = re.compile(r"\[(shard-\w+)\] target .*(?:Redis|CLUSTERDOWN)")
    wait_until(lambda: len(set(asked.findall(tool.text()[before:]))) == 2, "the others have asked for the marks")
    down.raw().call("CLUSTER", "ADDSLOTS", slot)
    last.thaw()
    wait_equal(source, cluster)


def test_the_whole_cluster_restarts(world):
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


@pytest.fixture
def still(world):
    """As above; a master that does not answer for a while is waited for."""
    source, cluster = world.source(), world.cluster("target", masters=3, cluster_node_timeout=30000)
    tool = world.gunyu(source, cluster)
    wait_equal(source, cluster)
    return source, cluster, tool


def cut(node):
    """Ends the connections of the tool there; says how many."""
    raw = node.raw()
    ours = [c["id"] for c in node.client().client_list() if c["name"].startswith("gunyu:")]
    ended = raw.many(("CLIENT", "KILL", "ID", ident) for ident in ours).count(1)
    raw.close()
    return ended


class Disturbance:
    """What may happen to the tool and to a cluster."""

    def __init__(self, cluster, tool, seed):
        self.cluster, self.tool, self.rng = cluster, tool, random.Random(SEED * 1000 + seed)
        self.moved = {}  # slot: which of the moves was its last

    def kill_tool(self):
        self.tool.restart(wait=False)

    def cut(self):
        cut(self.rng.choice(self.cluster.masters()))

    def kill_master(self):
        dead = self.cluster.lose_master(self.rng.randrange(3))
        dead.start()
        self.cluster.wait_agreed()

    def fail_over(self):
        self.cluster.failover(self.rng.randrange(3))

    def slots_to_move(self, node):
        """Those with keys that have stayed longest: one that comes back at once is not covered (docs/exactly-once.md)."""
        slots = [slot for first, last in self.cluster.view(node)[node.cluster_id][3] for slot in range(first, last + 1)]
        counts = node.raw().many(("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in slots)
        held = [slot for slot, count in zip(slots, counts) if count]
        self.rng.shuffle(held)
        return sorted(held, key=lambda slot: self.moved.get(slot, -1))[:30]

    def move(self, kills=True):
        one, two = self.rng.sample(self.cluster.masters(), 2)
        acts = [self.kill_tool, self.cut] if kills else [self.cut]

        def pause(*_):
            if self.rng.random() < 0.02:
                self.rng.choice(acts)()
        slots = self.slots_to_move(one)
        self.moved.update(dict.fromkeys(slots, max(self.moved.values(), default=-1) + 1))
        self.cluster.move_slots(slots, one, two, pause)


def test_everything_at_once(into):
    source, cluster, tool = into
    now = Disturbance(cluster, tool, 17)
    acts = [now.kill_master, now.move] + [now.kill_tool, now.cut, now.move] * (ROUNDS // 3)
    now.rng.shuffle(acts)
    with SpreadLoad(source):
        for act, pause in zip(acts, moments(17) * 2):
            act()
            time.sleep(pause / 2)
    wait_equal(source, cluster, timeout=PATIENT, slack_ms=100)
    assert source.full_syncs() == 1
    assert tool.state() == "run"


@pytest.mark.slow
def test_a_hundred_kills_of_everything(into):
    source, cluster, tool = into
    now = Disturbance(cluster, tool, 100)
    for _ in range(max(ROUNDS, 100) // 10):
        with SpreadLoad(source):
            for _ in range(10):
                time.sleep(now.rng.uniform(0, 0.4))
                now.rng.choices([now.kill_tool, now.cut, now.move, now.kill_master], [6, 3, 1, 1])[0]()
        wait_equal(source, cluster, timeout=PATIENT, slack_ms=100)
    assert source.full_syncs() == 1


class SpreadLoadInDbs(SpreadLoad):
    dbs = DBS


def test_a_snapshot_whose_dbs_have_keys_of_one_slot(world):
    """Valkey 9 on. They follow each other in the file."""
    source, cluster = world.source(version="valkey-9"), world.cluster("target", version="valkey-9", cluster_databases=16)
    for db in DBS:
        source.raw(db).many(("RPUSH", f"{{tag}}:{i}", db, i) for i in range(10))
    world.gunyu(source, cluster)
    wait_equal(source, cluster)


def test_kill_of_the_tool_with_numbered_dbs(world):
    """Valkey 9 on. One slot has keys of several dbs."""
    source, cluster = world.source(version="valkey-9"), world.cluster("target", version="valkey-9", cluster_databases=16)
    tool = world.gunyu(source, cluster)
    wait_equal(source, cluster)
    with SpreadLoadInDbs(source):
        for pause in moments(18):
            time.sleep(pause)
            tool.restart(wait=False)
    wait_equal(source, cluster, timeout=PATIENT)
    assert source.full_syncs() == 1 and tool.state() == "run"


def by_import(one, two, first, last):
    two.client().execute_command("CLUSTER", "MIGRATION", "IMPORT", first, last)


def by_migrateslots(one, two, first, last):
    one.client().execute_command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", first, last, "NODE", two.cluster_id)


@pytest.mark.parametrize("version,begin", [("redis-next", by_import), ("valkey-9", by_migrateslots)], ids=["redis-next", "valkey-9"])
def test_slots_of_the_cluster_move_at_once(world, version, begin):
    source, cluster = world.source(version=version), world.cluster("target", masters=3, version=version)
    load_everything(source, dbs=(0,))
    tool = world.gunyu(source, cluster)
    wait_equal(source, cluster)
    one, two, three = cluster.masters()
    with SpreadLoad(source):
        for giver, taker, first, last in ((one, two, 0, 2000), (three, one, 14000, 16383), (two, one, 500, 1500)):
            begin(giver, taker, first, last)
            wait_until(lambda: cluster.node_of_slot(first) is taker and cluster.node_of_slot(last) is taker, "moved", 30)
            time.sleep(0.2)
    cluster.wait_agreed()
    wait_equal(source, cluster, timeout=PATIENT)
    assert source.full_syncs() == 1 and tool.state() == "run"


def test_a_master_of_the_source_dies_while_the_tool_is_dead(world):
    source, target = world.cluster("source", replicas=1), world.cluster("target")
    tool = world.gunyu(source, target)
    wait_equal(source, target)
    with ClusterLoad(source):
        tool.kill()
        source.lose_master(1)
        tool.start()
        time.sleep(0.5)
        tool.restart(wait=False)
    wait_equal(source, target, timeout=PATIENT)


def keys_of(cluster, nodes, prefix, count):
    """So many keys that the nodes own."""
    owners = {node.cluster_id: cluster.view(node)[node.cluster_id][3] for node in nodes}
    mine = [span for spans in owners.values() for span in spans]
    names = (f"{prefix}:{i}" for i in range(100 * count))
    return [k for k in names if any(a <= cluster.slot_of(k) <= b for a, b in mine)][:count]


def test_a_frozen_master_does_not_stop_the_slots_of_the_others(still):
    source, cluster, _ = still
    frozen, *others = cluster.masters()
    theirs, its = keys_of(cluster, others, "live", 400), keys_of(cluster, [frozen], "late", 400)
    frozen.freeze()
    began = time.monotonic()
    try:
        source.raw().many(command for pair in zip(its, theirs) for key in pair for command in (("INCR", key), ("APPEND", key, "0")))
        for node in others:
            some = keys_of(cluster, [node], "live", 100)
            wait_until(lambda: node.raw().many(("GET", k) for k in some) == [b"10"] * len(some), "the others have theirs", 3)
        time.sleep(max(0.0, 3 - (time.monotonic() - began)))
    finally:
        frozen.thaw()
    wait_equal(source, cluster)
    assert source.full_syncs() == 1


def resident_kb(tool):
    """Without the pages of the journal's files."""
    with open(f"/proc/{tool.child.pid}/status", encoding="ascii") as file:
        text = file.read()
    return sum(int(text.split(f"{name}:")[1].split()[0]) for name in ("RssAnon", "RssShmem"))


def test_memory_is_bounded_while_a_master_is_frozen(still):
    source, cluster, tool = still
    frozen = cluster.masters()[0]
    frozen.freeze()
    began, peak, written, raw = time.monotonic(), 0, 0, source.raw()
    try:
        while time.monotonic() - began < 10:
            raw.many(c for i in range(200) for c in (("SET", f"set:{(written + i) % 3000}", b"v" * 2000), ("INCR", f"n:{i}"),
                                                     ("APPEND", f"a:{(written + i) % 5000}", b"0123456789" * 5)))
            written += 200
            peak = max(peak, resident_kb(tool))
    finally:
        frozen.thaw()
    assert written > 10000, "too little to tell"
    assert peak < 60 * 1024, f"{peak} kB resident after {written} rounds"
    wait_equal(source, cluster, timeout=60)
    assert source.full_syncs() == 1


# ---- defects of redisGunYu ----

def test_bug_7_the_position_does_not_pass_a_node_that_refuses(into):
    source, cluster, tool = into
    for node in cluster.masters():
        node.client().config_set("maxmemory", 1)
        source.raw().many(c for i in range(300) for c in (("INCR", f"count:{i}"), ("SET", f"blind:{i}", node.port)))
        wait_until(lambda: "OOM" in tool.status()[0]["Error"], "the reason in the status")
        # The others have theirs, and the position has been stored since if it ever is.
        others = [n for n in cluster.masters() if n is not node]
        some = keys_of(cluster, others, "blind", 20)
        wait_until(lambda: cluster.raw().many(("GET", k) for k in some) == [str(node.port).encode()] * 20, "the others")
        time.sleep(1.2)
        tool.kill()
        node.client().config_set("maxmemory", 0)
        tool.start()
        wait_equal(source, cluster)
    assert source.full_syncs() == 1


def on_every_master(cluster, *command):
    return [raw.call(*command) for raw in cluster.raw().each()]


def test_bug_12_commands_without_a_key_go_to_every_master_or_any(into):
    source, cluster, tool = into
    listener = cluster.masters()[2].client().pubsub()
    listener.subscribe("news")
    assert listener.get_message(timeout=5)["type"] == "subscribe"
    raw = source.raw()
    raw.call("PUBLISH", "news", "hello")
    wait_until(lambda: (listener.get_message(timeout=1) or {}).get("data") == b"hello", "the message, on all nodes")
    raw.call("FUNCTION", "LOAD", "#!lua name=other\nredis.register_function('f', function() return 1 end)")
    raw.call("FUNCTION", "DELETE", "gunyutest")
    raw.call("SCRIPT", "FLUSH")
    wait_equal(source, cluster)
    assert all(b"other" in str(lib).encode() for lib in on_every_master(cluster, "FUNCTION", "LIST"))
    assert tool.state() == "run"
    raw.call("FUNCTION", "FLUSH")
    wait_equal(source, cluster)
    assert on_every_master(cluster, "FUNCTION", "LIST") == [[]] * 3
    assert source.full_syncs() == 1 and tool.status()[0]["Counters"]["CmdsFailed"] == 0


def test_bug_12_and_13_scripts_of_the_snapshot_and_of_the_stream_reach_every_master(world):
    """Redis 6 sends them on."""
    source, cluster = world.source(version="redis-6"), world.cluster("target", masters=3)
    raw = source.raw()
    before = raw.call("SCRIPT", "LOAD", "return 1")
    tool = world.gunyu(source, cluster)
    wait_equal(source, cluster)
    assert on_every_master(cluster, "SCRIPT", "EXISTS", before) == [[1]] * 3
    since = raw.call("SCRIPT", "LOAD", "return 2")
    wait_equal(source, cluster)
    assert on_every_master(cluster, "SCRIPT", "EXISTS", since) == [[1]] * 3
    assert tool.state() == "run"


def test_bug_13_functions_of_the_snapshot_reach_every_master(into):
    source, cluster, _ = into
    assert all(b"gunyutest" in str(lib).encode() for lib in on_every_master(cluster, "FUNCTION", "LIST"))
    assert [n.raw().call("FCALL", "gunyu_set", 1, keys_of(cluster, [n], "f", 1)[0], "x") for n in cluster.masters()] == [b"OK"] * 3


def test_bug_39_a_transaction_is_not_applied_twice_in_part_when_connections_end(into):
    source, cluster, _ = into
    rng = random.Random(SEED + 39)
    ending, ended = threading.Event(), []

    def end_them():
        while not ending.wait(rng.uniform(0, 0.05)):
            ended.append(cut(rng.choice(cluster.masters())))
    thread = threading.Thread(target=end_them)
    thread.start()
    try:
        raw = source.raw()
        for i in range(400):
            raw.many([("MULTI",)] + [("INCR", f"{{{i % 9}}}n:{k}") for k in range(5)] + [("RPUSH", f"{{{i % 9}}}l", i), ("EXEC",)])
            raw.many([("MULTI",)] + [("INCR", f"away:{(i + k) % 50}") for k in range(20)] + [("EXEC",)])
            time.sleep(0.005)
    finally:
        ending.set()
        thread.join()
    assert sum(ended) > 5, "too few connections were ended"
    wait_equal(source, cluster, timeout=PATIENT)
    assert source.full_syncs() == 1


@pytest.mark.slow
def test_bug_22_a_master_that_hangs_for_good_is_given_up_though_the_others_answer(still):
    source, cluster, tool = still
    hangs = cluster.masters()[1]
    ours = keys_of(cluster, [hangs], "its", 200)
    hangs.freeze()
    try:
        source.raw().many(("INCR", key) for key in ours)
        wait_until(lambda: "no answer for 60 s" in tool.text(), "it is given up", 90)
    finally:
        hangs.thaw()
    wait_equal(source, cluster, timeout=PATIENT)
    assert source.full_syncs() == 1


def test_a_master_that_hangs_is_given_up_once_its_replica_has_taken_over(world):
    # The others must not refuse what they have slots for: that would end the connections as well.
    source = world.source()
    cluster = world.cluster("target", masters=3, replicas=1, cluster_require_full_coverage="no")
    tool = world.gunyu(source, cluster)
    wait_equal(source, cluster)
    hangs = cluster.masters()[1]
    ours = keys_of(cluster, [hangs], "its", 200)
    with SpreadLoad(source):
        time.sleep(1)
        hangs.freeze()
        source.raw().many(("INCR", key) for key in ours)
        new = wait_until(lambda: next((n for n in cluster.masters()[1:2] if n is not hangs), None), "a replica takes over", 30)
        wait_until(lambda: new.raw().many(("GET", k) for k in ours) == [b"1"] * 200, "it has what the other one missed", 15)
    assert "its slots have another owner" in tool.text()
    # What it has not read of the old connection it reads now, and what that does is gone with its data.
    hangs.thaw()
    cluster.wait_agreed()
    wait_equal(source, cluster, timeout=PATIENT)
    assert source.full_syncs() == 1


# ---- scripts of old sources ----

ADD = "return redis.call('APPEND', KEYS[1], ARGV[1])"


def sha1(script):
    return hashlib.sha1(script.encode()).hexdigest()


@pytest.fixture
def verbatim(world):
    """A source that sends scripts as they were called: the first EVALSHA in its words, the next ones as they are."""
    return world.server("source", version="redis-6", lua_replicate_commands="no")


def call_everywhere(source, script, word, keys):
    replies = source.raw().many(("EVALSHA", sha1(script), 1, key, word) for key in keys)
    assert all(isinstance(reply, int) for reply in replies), replies[:3]


def test_scripts_that_an_old_source_names_by_their_digest(world, verbatim):
    source, cluster = verbatim, world.cluster("target", masters=3)
    keys = [f"k:{i}" for i in range(60)]
    raw = source.raw()
    raw.call("SCRIPT", "LOAD", ADD)
    call_everywhere(source, ADD, "before", keys)
    tool = world.gunyu(source, cluster)
    wait_equal(source, cluster)
    call_everywhere(source, ADD, "after", keys)
    wait_equal(source, cluster)
    # One that is met for the first time goes to the owner of its key only.
    later = ADD + " -- later"
    raw.call("EVAL", later, 1, "k:0", "first")
    call_everywhere(source, later, "again", keys)
    wait_equal(source, cluster)
    assert "NOSCRIPT" not in tool.text()


def test_scripts_outlive_the_tool_and_reach_a_node_that_joined_later(world, verbatim):
    source, cluster = verbatim, world.cluster("target", masters=3)
    keys = [f"k:{i}" for i in range(60)]
    tool = world.gunyu(source, cluster)
    wait_equal(source, cluster)
    source.raw().call("EVAL", ADD, 1, "k:0", "first")
    call_everywhere(source, ADD, "second", ["k:0"])
    wait_equal(source, cluster)
    tool.restart()
    call_everywhere(source, ADD, "again", keys)
    wait_equal(source, cluster)
    newcomer, owner = cluster.add_node(), cluster.node_of_slot(cluster.slot_of("k:1"))
    cluster.move_slots([cluster.slot_of("k:1")], owner, newcomer)
    source.raw().many([("MULTI",), ("EVALSHA", sha1(ADD), 1, "k:1", "there"), ("INCR", "{k:1}n"), ("EXEC",)])
    wait_equal(source, cluster)
    assert "NOSCRIPT" not in tool.text()


def test_scripts_of_a_snapshot_reach_a_node_that_joined_later(world, verbatim):
    """A replica passes on what its master sends, which is no more than the replica needs."""
    replica = world.server("replica", version="redis-6")
    replica.client().replicaof("127.0.0.1", verbatim.port)
    wait_until(lambda: replica.info("replication")["master_link_status"] == "up", "the replica is in sync")
    verbatim.raw().call("SCRIPT", "LOAD", ADD)
    call_everywhere(verbatim, ADD, "first", ["k:1"])
    cluster = world.cluster("target", masters=3)
    tool = world.gunyu(replica, cluster)
    wait_equal(verbatim, cluster)
    newcomer, slot = cluster.add_node(), cluster.slot_of("k:1")
    cluster.move_slots([slot], cluster.node_of_slot(slot), newcomer)
    call_everywhere(verbatim, ADD, "again", ["k:1"])
    wait_equal(verbatim, cluster)
    assert "NOSCRIPT" not in tool.text()


def test_scripts_outlive_a_standalone_target(world, verbatim):
    source, target = verbatim, world.target()
    tool = world.gunyu(source, target)
    wait_equal(source, target)
    source.raw().call("SCRIPT", "LOAD", ADD)
    call_everywhere(source, ADD, "first", ["k"])
    wait_equal(source, target)
    target.raw().call("SCRIPT", "FLUSH")
    call_everywhere(source, ADD, "again", ["k", "l"])
    wait_equal(source, target)
    assert "NOSCRIPT" not in tool.text()

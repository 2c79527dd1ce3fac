# SPDX-License-Identifier: Apache-2.0
"""Deaths at chosen places, targets that go back in time, sources that fail over, and the two races that
the fence exists for.

GUNYU_TEST_ROUNDS: 20 and more takes every fault point with more counts (default 5).
"""

import os
import shutil
import signal
import subprocess
import threading
import time

import pytest

from compare import wait_equal, wait_passed
from harness import free_port, wait_until
from test_crash import DBS, DURABLE, PATIENT, ROUNDS, SLOW, Load, moments

THOROUGH = ROUNDS >= 20
SMALL_LOG = {"channel": {"storer": {"logSize": 1048576, "maxSize": 268435456}}}
FLUSH = {"output": {"replay": {"fullSyncFlush": "flushAll"}}}


def some_data(server):
    """Without expiries, which take their time to become true at the target."""
    for db in DBS:
        raw = server.raw(db)
        raw.many(command for i in range(400) for command in (
            ("SET", f"s:{i}", b"x" * i), ("RPUSH", f"l:{i}", *range(20)), ("HSET", f"h:{i}", "f", i, "g", b"y" * 100),
            ("XADD", f"x:{i}", "*", "n", i)))
        raw.close()


class Bulk:
    """Fills journal segments while a test waits."""

    def __init__(self, server):
        self.server = server
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join(30)

    def _run(self):
        raw, n = self.server.raw(DBS[1]), 0
        while not self.ending.is_set():
            raw.many(("SETRANGE", f"bulk:{n % 50}", n % 7, b"b" * 10000) for n in range(n, n + 20))
            n += 20
            time.sleep(0.005)
        raw.close()


def die_at(tool, fault, timeout=20, needed=True):
    """Starts the tool so that it dies at this point; says whether the point was reached."""
    tool.kill()
    before = tool.text().count(f"fault {fault.split(':')[0]}:")
    tool.env = {"GUNYU_FAULT": fault}
    tool.start(wait=False)
    tool.env = None
    try:
        wait_until(lambda: not tool.alive(), f"{fault} reached", timeout)
    except AssertionError:
        if needed:
            raise
        tool.kill()
        return False
    assert tool.child.returncode == -signal.SIGKILL and tool.text().count(f"fault {fault.split(':')[0]}:") > before
    return True


# What is reached while the stream flows, and how many times to let it pass.
STREAM_POINTS = {
    "link.received": (1, 7, 60), "link.committed": (1, 2, 33),
    "batcher.multi": (1, 2, 40), "batcher.body": (1, 2, 3, 50), "batcher.sent": (1, 2, 5, 90), "batcher.exec": (1, 2, 31),
    "batcher.replied": (1, 2, 3, 64),
    "lane.fenced": (1,), "lane.position_read": (1,),
    "journal.meta_written": (1,), "journal.segment_written": (1,), "journal.segment_created": (1, 2),
}
# What is reached by a full sync.
FULL_SYNC_POINTS = {
    "link.full_sync": (1,), "lane.flushed": (1,), "link.snapshot_begun": (1,), "journal.begun": (1,), "journal.meta_written": (2, 3),
    "link.snapshot_end": (1,), "journal.snapshot_renamed": (1,), "link.received": (2, 4), "load.key": (1, 50, 2000),
    "batcher.sent": (1, 3), "batcher.replied": (1, 2), "load.finished": (1,),
}


def points(table):
    for name, counts in table.items():
        for n in counts if THOROUGH else counts[:1] + counts[1:][-1:]:
            yield f"{name}:{n}"


def test_death_at_every_point_of_the_stream(world, pair):
    source, target = pair
    some_data(source)
    tool = world.gunyu(source, target, config=SMALL_LOG)
    wait_equal(source, target)
    for fault in points(STREAM_POINTS):
        with Load(source), Bulk(source):
            die_at(tool, fault)
            time.sleep(0.05)
            tool.start(wait=False)
            time.sleep(0.1)
        wait_equal(source, target, timeout=PATIENT)
    assert source.full_syncs() == 1


def test_death_at_every_point_of_a_full_sync(world, pair):
    source, target = pair
    some_data(source)
    source.raw().many(("SET", f"bulk:{i}", b"x" * 100) for i in range(3000))
    tool = world.gunyu(source, target, config=FLUSH, start=False)
    for fault in points(FULL_SYNC_POINTS):
        shutil.rmtree(tool.journal, ignore_errors=True)
        target.client().flushall()
        before = source.full_syncs()
        with Load(source):
            die_at(tool, fault)
            tool.start(wait=False)
            time.sleep(0.05)
        wait_equal(source, target, timeout=PATIENT)
        # Once the snapshot is in the journal, its load goes on from there.
        allowed = 1 if fault.startswith("load.finished") else 2
        assert source.full_syncs() - before <= allowed, fault
        tool.kill()


def test_a_segment_that_the_retention_drops(world, pair):
    source, target = pair
    tool = world.gunyu(source, target, config={"channel": {"storer": {"logSize": 1048576, "maxSize": 16777216}}})
    wait_equal(source, target)
    for n in (1, 3):
        with Load(source), Bulk(source):
            die_at(tool, f"journal.segment_dropped:{n}", timeout=40)
            tool.start(wait=False)
        wait_equal(source, target, timeout=PATIENT)
    assert source.full_syncs() == 1


# ---- the target ----

def kill_rounds(source, target, seed, act):
    with Load(source):
        for pause in moments(seed):
            time.sleep(pause)
            act()
    wait_equal(source, target, timeout=PATIENT)


def test_target_restarts_from_an_old_rdb_file(world):
    """The position goes back with the data, and the journal has what follows."""
    source, target = world.source(), world.target()
    some_data(source)
    world.gunyu(source, target)
    wait_equal(source, target)

    def back_in_time():
        target.client().save()
        time.sleep(0.3)
        target.restart()

    kill_rounds(source, target, 20, back_in_time)
    assert source.full_syncs() == 1


def test_target_restarts_empty(world, pair):
    """The journal still holds the snapshot and all that followed."""
    source, target = pair
    some_data(source)
    world.gunyu(source, target)
    wait_equal(source, target)
    kill_rounds(source, target, 21, target.restart)
    assert source.full_syncs() == 1


def test_target_goes_back_behind_the_journal_and_the_backlog(world):
    """Only a full sync helps; with fullSyncFlush no key of the old time stays."""
    source, target = world.source(repl_backlog_size="16kb"), world.target()
    some_data(source)
    config = {**FLUSH, "channel": {"storer": {"logSize": 1048576, "maxSize": 8388608}}}
    tool = world.gunyu(source, target, config=config)
    source.client().set("deleted:later", 1)
    wait_equal(source, target)
    target.client().save()
    source.client().delete("deleted:later")
    with Bulk(source):
        time.sleep(0.2)
        wait_until(lambda: source.info("replication")["master_repl_offset"] > 30_000_000, "more than the journal keeps")
    wait_equal(source, target)
    target.restart()
    assert target.client().exists("deleted:later")
    wait_equal(source, target, timeout=PATIENT)
    assert source.full_syncs() == 2
    assert tool.status()[0]["Counters"]["FullSyncs"] == 2


@pytest.mark.parametrize("who", ("source", "target"))
def test_clients_are_killed_by_the_server(world, pair, who):
    """A close with unread bytes is a reset on the wire."""
    source, target = pair
    some_data(source)
    world.gunyu(source, target)
    wait_equal(source, target)
    kind = "replica" if who == "source" else "normal"
    side = source if who == "source" else target
    kill_rounds(source, target, 22, lambda: side.raw().call("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"))
    assert source.full_syncs() == 1


def test_stopped_target(world, pair):
    source, target = pair
    world.gunyu(source, target)
    wait_equal(source, target)
    with Load(source):
        target.freeze()
        time.sleep(5)
        target.thaw()
        time.sleep(0.1)
        threading.Thread(target=lambda: target.raw().call("DEBUG", "SLEEP", "2"), daemon=True).start()
        time.sleep(2.5)
    wait_equal(source, target, timeout=PATIENT)
    assert source.full_syncs() == 1


def restart_while_the_target_stands(source, target, tool, seed):
    """Again and again: what the old process has sent lies in the target's socket when the new one connects."""
    with Load(source):
        for pause in moments(seed):
            time.sleep(pause)
            target.freeze()
            time.sleep(0.1)
            tool.restart(wait=False)
            time.sleep(0.2)
            target.thaw()
    wait_equal(source, target, timeout=PATIENT)
    assert source.full_syncs() == 1


def test_what_a_dead_tool_sent_and_the_target_has_not_read_is_not_applied_late(world, pair):
    """bug_23: the race that the fence exists for: the old connection's EXEC lies in the stopped target's socket when
    a new process connects."""
    source, target = pair
    some_data(source)
    tool = world.gunyu(source, target)
    wait_equal(source, target)
    restart_while_the_target_stands(source, target, tool, 23)


@pytest.mark.parametrize("point", ("batcher.body", "batcher.exec", "lane.position_read"))
def test_a_stopped_tool_that_wakes_up_stands_down(world, pair, point):
    """bug_23: two processes, the first one stopped at a chosen place while the second one takes over."""
    source, target = pair
    some_data(source)
    first = world.gunyu(source, target, start=False)
    first.env = {"GUNYU_FAULT": f"{point}:{1 if point.startswith('lane') else 5}:stop"}
    first.start(wait=False)
    with Load(source):
        wait_until(lambda: f"fault {point}: stop" in first.text(), "the first process stops")
        second = world.gunyu(source, target, wait=False)
        wait_passed(source, target)
        first.thaw()
        time.sleep(1)
        wait_passed(source, target)
    wait_equal(source, target)
    if not point.startswith("lane"):
        wait_until(lambda: first.state() == "error" and "taken over" in first.status()[0]["Error"], "the first one stands down")
    assert second.alive()


# ---- the source ----

def test_source_loses_its_last_writes(world):
    """Killed, it comes back with an old RDB file under a new id: only a full sync, and it must win."""
    source, target = world.source(), world.target()
    some_data(source)
    world.gunyu(source, target, config=FLUSH)
    wait_equal(source, target)
    for _ in range(2):
        source.client().save()
        with Load(source):
            time.sleep(0.3)
        wait_passed(source, target)
        source.restart()
        wait_equal(source, target, timeout=PATIENT)


def test_source_restarts_in_good_order_without_a_full_sync(world):
    """From 7.0 on the RDB file keeps id and offset, so that replicas may continue."""
    source, target = world.source(save="3600 1"), world.target()
    some_data(source)
    tool = world.gunyu(source, target)
    wait_equal(source, target)
    wait_until(lambda: tool.status()[0]["LagBytes"] == 0, "all applied")
    source.stop()
    source.start()
    with Load(source):
        time.sleep(0.3)
    wait_equal(source, target, timeout=PATIENT)
    assert tool.status()[0]["Counters"]["FullSyncs"] == 1


@pytest.mark.parametrize("kill_tool", (False, True))
def test_source_fails_over_to_its_replica(world, kill_tool):
    source, target = world.source(), world.target()
    some_data(source)
    front = world.proxy(source)
    tool = world.gunyu(front, target)
    wait_equal(source, target)
    for _ in range(2):
        replica = world.source(replicaof=f"127.0.0.1 {source.port}")
        wait_until(lambda: replica.info("replication")["master_link_status"] == "up", "the replica follows")
        with Load(source):
            time.sleep(0.5)
        offset = source.info("replication")["master_repl_offset"]
        wait_until(lambda: replica.info("replication")["slave_repl_offset"] >= offset, "the replica has it all")
        if kill_tool:
            tool.kill()
        source.kill()
        replica.client().replicaof("NO", "ONE")
        front.target = replica.port
        front.cut()
        if kill_tool:
            tool.start(wait=False)
        source = replica
        with Load(source):
            time.sleep(0.3)
        wait_equal(source, target, timeout=PATIENT)
        assert source.full_syncs() == 0
    assert len(target.client().keys("gunyu:position:*")) == 1


@pytest.mark.parametrize("point", ("link.new_id", "link.new_id_stored", "journal.meta_written"))
def test_death_while_the_source_goes_on_under_a_new_id(world, pair, point):
    source, target = pair
    front = world.proxy(source)
    tool = world.gunyu(front, target)
    replica = world.source(replicaof=f"127.0.0.1 {source.port}")
    wait_until(lambda: replica.info("replication")["master_link_status"] == "up", "the replica follows")
    with Load(source):
        time.sleep(0.3)
    offset = source.info("replication")["master_repl_offset"]
    wait_until(lambda: replica.info("replication")["slave_repl_offset"] >= offset, "the replica has it all")
    tool.kill()
    source.kill()
    replica.client().replicaof("NO", "ONE")
    front.target = replica.port
    with Load(replica):
        die_at(tool, f"{point}:{2 if point.startswith('journal') else 1}")
        tool.start(wait=False)
    wait_equal(replica, target, timeout=PATIENT)
    assert replica.full_syncs() == 0


def test_failover_while_the_target_is_down(world):
    """The new source lacks the last writes of the old one; the target, which lacks them too, decides."""
    source, target = world.source(), world.target(**DURABLE)
    front = world.proxy(source)
    world.gunyu(front, target)
    replica = world.source(replicaof=f"127.0.0.1 {source.port}")
    wait_until(lambda: replica.info("replication")["master_link_status"] == "up", "the replica follows")
    with Load(source):
        time.sleep(0.3)
    wait_equal(source, target)
    wait_until(lambda: replica.client().get("zz:mark") == source.client().get("zz:mark"), "the replica has it all")
    target.kill()
    replica.freeze()
    with Load(source):
        time.sleep(0.5)
    source.kill()
    replica.thaw()
    front.target = replica.port
    # What lay in the replica's socket is part of its history as well.
    wait_until(lambda: replica.info("replication")["master_link_status"] == "down", "the replica misses its master")
    replica.client().replicaof("NO", "ONE")
    front.cut()
    time.sleep(1)
    target.start()
    with Load(replica):
        time.sleep(0.3)
    wait_equal(replica, target, timeout=PATIENT)
    assert replica.full_syncs() == 0


def test_two_failovers_while_the_target_is_down(world):
    """The target's position has an id that the source has forgotten; the journal knows the way."""
    source, target = world.source(), world.target(**DURABLE)
    front = world.proxy(source)
    tool = world.gunyu(front, target)
    with Load(source):
        time.sleep(0.2)
    wait_equal(source, target)
    target.kill()
    for kill_tool in (False, True):
        replica = world.source(replicaof=f"127.0.0.1 {source.port}")
        wait_until(lambda: replica.info("replication")["master_link_status"] == "up", "the replica follows")
        with Load(source):
            time.sleep(0.2)
        offset = source.info("replication")["master_repl_offset"]
        wait_until(lambda: replica.info("replication")["slave_repl_offset"] >= offset, "the replica has it all")
        wait_until(lambda: tool.status()[0]["ReceivedOffset"] >= offset, "the journal has it all")
        if kill_tool:
            tool.kill()
        source.kill()
        replica.client().replicaof("NO", "ONE")
        front.target = replica.port
        front.cut()
        if kill_tool:
            tool.start()
        source = replica
        wait_until(lambda: tool.status()[0]["Link"] == "stream", "the link streams again")
    target.start()
    wait_equal(source, target, timeout=PATIENT)
    assert source.full_syncs() == 0


# ---- the network ----

@pytest.mark.parametrize("who", ("source", "target"))
def test_silence_for_a_while(world, pair, who):
    source, target = pair
    proxy = world.proxy(source if who == "source" else target)
    world.gunyu(proxy if who == "source" else source, proxy if who == "target" else target)
    wait_equal(source, target)
    with Load(source):
        proxy.pause()
        time.sleep(2)
        proxy.resume()
        time.sleep(0.2)
    wait_equal(source, target, timeout=PATIENT)
    assert source.full_syncs() == 1


@pytest.mark.slow
@pytest.mark.parametrize("who", ("source", "target"))
def test_bug_22_a_peer_that_is_silent_for_good_is_given_up(world, pair, who):
    """Connections that were open stay open and dead; new ones work."""
    source, target = pair
    proxy = world.proxy(source if who == "source" else target)
    world.gunyu(proxy if who == "source" else source, proxy if who == "target" else target)
    wait_equal(source, target)
    with Load(source):
        dead, proxy.flowing = proxy.flowing, threading.Event()
        before = proxy.connections
        wait_until(lambda: proxy.connections > before, "the silent connection given up", 100)
        proxy.flowing.set()
    wait_equal(source, target, timeout=PATIENT)
    dead.set()


# ---- the journal ----

def test_journal_directory_vanishes(world, pair):
    source, target = pair
    tool = world.gunyu(source, target)
    wait_equal(source, target)
    with Load(source):
        shutil.rmtree(tool.journal)
        tool.wait_state("error")
        assert "journal" in tool.status()[0]["Error"]
        tool.restart()
    wait_equal(source, target, timeout=PATIENT)
    assert source.full_syncs() == 1


def test_disk_full(world, pair):
    source, target = pair
    tool = world.gunyu(source, target, config=SMALL_LOG)
    wait_equal(source, target)
    tool.kill()
    tool.env = {"GUNYU_FAULT": "journal.no_space:2:err"}
    with Load(source), Bulk(source):
        tool.start()
        wait_until(lambda: "space" in tool.status()[0]["Error"], "the status names the cause")
        tool.env = None
        tool.restart()
    wait_equal(source, target, timeout=PATIENT)
    assert source.full_syncs() == 1


# ---- other ways to run ----

WAYS = {
    "memory": {"channel": {"type": "memory", "storer": None, "memory": {"maxSize": 67108864, "logSize": 4194304}}},
    "bare": {"output": {"replay": {"replayTransaction": False}}},
    "pipeline": {"output": {"replay": {"mode": "pipeline"}}},
    "small batches": {"output": {"replay": {"batchCmdCount": 3}}},
    "flushed journal": {"channel": {"storer": {"flush": {"everyWrite": True}}, "verifyCrc": True}},
}


def everything_dies(world, source, target, tool, proxies, seed):
    acts = [lambda: tool.restart(wait=False), target.restart] + [p.cut for p in proxies]
    with Load(source, pace=SLOW):
        for i, pause in enumerate(moments(seed)):
            time.sleep(pause)
            acts[i % len(acts)]()
    wait_equal(source, target, timeout=PATIENT)


@pytest.mark.parametrize("way", WAYS)
def test_deaths_and_cuts(world, way):
    source, target = world.source(), world.target(**DURABLE)
    some_data(source)
    front, back = world.proxy(source), world.proxy(target)
    tool = world.gunyu(front, back, config=WAYS[way])
    wait_equal(source, target)
    everything_dies(world, source, target, tool, [front, back], 30)
    assert source.full_syncs() == 1


def certificate(directory):
    key, cert = directory / "key.pem", directory / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
                   check=True, capture_output=True)
    return key, cert


def test_tls_on_both_sides(world, tmp_path):
    key, cert = certificate(tmp_path)
    ports = [free_port(), free_port()]
    tls = {"tls_cert_file": key.with_name("cert.pem"), "tls_key_file": key, "tls_auth_clients": "no", "tls_ca_cert_file": cert}
    source = world.source(tls_port=ports[0], **tls)
    target = world.target(tls_port=ports[1], **tls, **DURABLE)
    some_data(source)
    side = {"tlsEnable": True, "tls": {"caFile": str(cert)}}
    tool = world.gunyu(source, target, config={
        "input": {"redis": {"addresses": [f"127.0.0.1:{ports[0]}"], **side}},
        "output": {"redis": {"addresses": [f"127.0.0.1:{ports[1]}"], **side}}})
    wait_equal(source, target)
    everything_dies(world, source, target, tool, [], 31)
    assert source.full_syncs() == 1


def test_unix_sockets_on_both_sides(world, tmp_path):
    paths = [f"/tmp/gunyu-test-{os.getpid()}-{i}.sock" for i in (0, 1)]
    try:
        source = world.source(unixsocket=paths[0])
        target = world.target(unixsocket=paths[1], **DURABLE)
        some_data(source)
        tool = world.gunyu(source, target, config={
            "input": {"redis": {"addresses": [f"unix://{paths[0]}"]}}, "output": {"redis": {"addresses": [f"unix://{paths[1]}"]}}})
        wait_equal(source, target)
        everything_dies(world, source, target, tool, [], 32)
        assert source.full_syncs() == 1
    finally:
        for path in paths:
            if os.path.exists(path):
                os.unlink(path)


def test_a_snapshot_that_the_source_breaks_off_points_to_its_log_and_is_asked_for_again(world, pair):
    source, target = pair
    some_data(source)
    source.client().config_set("rdb-key-save-delay", 20_000)
    tool = world.gunyu(source, target, wait=False)
    wait_until(lambda: tool.status()[0]["SnapshotLoadedBytes"] > 0 or source.info("persistence")["rdb_bgsave_in_progress"], "a snapshot")
    for child in subprocess.run(["pgrep", "-P", str(source.child.pid)], capture_output=True, text=True, check=False).stdout.split():
        os.kill(int(child), 9)
    wait_until(lambda: "its log may say why" in tool.text(), "the reason")
    source.client().config_set("rdb-key-save-delay", 0)
    wait_equal(source, target, timeout=PATIENT)

# SPDX-License-Identifier: Apache-2.0
"""Real replicas, and gunyu itself, that read from gunyu's journal."""

import os
import random
import socket
import subprocess
import time

import pytest
import redis

from compare import wait_equal
from dataset import load_everything, mutate
from harness import GUNYU, Endpoint, free_port, merged, wait_until
from test_crash import DURABLE, ROUNDS, SEED, Load
from test_faults import certificate

VERSIONS = (None, "redis-7", "redis-8", "redis-next", "valkey-8", "valkey-9")
DEBUG = {"enable-debug-command": "yes"}


class Listener(Endpoint):
    """gunyu's replication server, as a source to dial."""

    def __init__(self, port, password=None):
        self.port, self.password, self.name = port, password, "listener"


def served(world, source, target, config=None, **options):
    """(gunyu, its listener)"""
    listener = Listener(free_port(), options.get("password"))
    server = {"replication": {"listen": listener.address, **options}}
    return world.gunyu(source, target, config=merged({"server": server}, config)), listener


def replica_of(world, listener, version=None, **options):
    if listener.password:
        options.setdefault("masterauth", listener.password)
    return world.server("replica", version=version, replicaof=f"127.0.0.1 {listener.port}", **DEBUG, **options)


def follows(replica):
    return replica.info("replication")["master_link_status"] == "up"


def wait_follows(replica, timeout=40):
    wait_until(lambda: follows(replica), f"{replica.name} follows", timeout)


def digest(server):
    return server.client().execute_command("DEBUG", "DIGEST")


def wait_same(source, replica, timeout=40):
    """The replica has every byte, and the same data."""
    def same():
        end = source.info("replication")["master_repl_offset"]
        return replica.info("replication")["slave_repl_offset"] >= end and digest(source) == digest(replica)
    wait_until(same, f"{replica.name} has the digest of {source.name}", timeout, interval=0.2)


def counters(tool):
    return tool.status()[0]["Counters"]


def fail_over(world, source, front, **options):
    """To a replica that has all of a load; the proxy leads there. Returns it."""
    heir = world.source(replicaof=f"127.0.0.1 {source.port}", **options)
    wait_follows(heir)
    with Load(source):
        time.sleep(0.3)
    offset = source.info("replication")["master_repl_offset"]
    wait_until(lambda: heir.info("replication")["slave_repl_offset"] >= offset, "the heir has it all")
    source.kill()
    heir.client().replicaof("NO", "ONE")
    front.target = heir.port
    front.cut()
    return heir


@pytest.mark.parametrize("version", VERSIONS)
def test_a_replica_has_the_sources_digest_under_load_of_every_kind(world, version):
    source, target = world.source(version=version, **DEBUG), world.target(version=version)
    load_everything(source)
    tool, listener = served(world, source, target)
    # Snapshot and log are still arriving for this one, and lie in the journal for the other.
    early = replica_of(world, listener, version)
    mutate(source, seed=1, n=1500, swapdb=True)
    wait_follows(early)
    late = replica_of(world, listener, version)
    mutate(source, seed=2, n=1500, swapdb=True, flush=True)
    wait_follows(late)
    mutate(source, seed=3, n=1500, swapdb=True)
    wait_same(source, early)
    wait_same(source, late)
    assert source.full_syncs() == 1
    assert early.info("replication")["master_replid"] == source.info("replication")["master_replid"]
    lane = tool.status()[0]
    assert [r["State"] for r in lane["Replicas"]] == ["stream", "stream"]


@pytest.mark.parametrize("version, options", (("redis-8", {"repl-rdb-channel": "yes"}), ("redis-next", {"repl-rdb-channel": "yes"}),
                                              ("valkey-8", {"dual-channel-replication-enabled": "yes"}),
                                              ("valkey-9", {"dual-channel-replication-enabled": "yes"}),
                                              ("redis-6", {}), (None, {"repl-diskless-load": "swapdb"})))
def test_a_replica_that_would_like_another_way_to_sync_does_without(world, version, options):
    source, target = world.source(version=version), world.target(version=version)
    load_everything(source)
    _, listener = served(world, source, target)
    replica = world.server("replica", version=version, **options)
    replica.client().replicaof("127.0.0.1", listener.port)
    wait_follows(replica)
    with Load(source):
        time.sleep(0.3)
    wait_equal(source, replica)


@pytest.mark.parametrize("how", ("disabled", "swapdb"))
def test_a_replica_gets_the_snapshot_while_it_arrives(world, how):
    source, target = world.source(rdb_key_save_delay="200", **DEBUG), world.target()
    source.client().execute_command("DEBUG", "POPULATE", 20000, "key", 200)
    tool, listener = served(world, source, target)
    replica = replica_of(world, listener, **{"repl-diskless-load": how})

    def given():
        return tool.status()[0]["Link"] == "rdb" and tool.status()[0]["Replicas"][0]["BytesSent"] > 100_000
    wait_until(given, "the replica is given the snapshot")
    mutate(source, n=500)
    wait_same(source, replica, timeout=60)
    assert source.full_syncs() == 1


@pytest.mark.parametrize("version", (None, "redis-8", "valkey-9"))
def test_a_replica_that_restarts_continues_from_what_the_source_no_longer_has(world, version):
    source, target = world.source(version=version, **{**DEBUG, "repl-backlog-size": "16kb"}), world.target(version=version)
    load_everything(source)
    tool, listener = served(world, source, target)
    replica = replica_of(world, listener, version)
    wait_follows(replica)
    mutate(source, n=300)
    wait_same(source, replica)
    replica.client().shutdown(save=True)
    replica.child.wait(20)
    for i in range(40):
        source.client().set(f"big:{i}", os.urandom(50_000))
    with Load(source):
        replica.start()
        wait_follows(replica)
    wait_same(source, replica)
    assert counters(tool)["ReplicaFullSyncs"] == 1
    assert counters(tool)["ReplicaPartialSyncs"] == 1
    assert source.full_syncs() == 1


def test_a_slow_replica_is_cut_and_the_lane_goes_on(world, pair):
    source, target = pair
    channel = {"channel": {"storer": {"maxSize": "16MiB", "logSize": "1MiB"}}}
    tool, listener = served(world, source, target, channel)
    front = world.proxy(listener)
    replica = replica_of(world, front)
    wait_follows(replica)
    front.rate = 100_000
    raw = source.raw()
    for i in range(60):
        raw.many([("SET", f"big:{i}:{k}", random.randbytes(100_000)) for k in range(10)])
        lane = tool.status()[0]
        assert not lane["JournalFull"]
    wait_equal(source, target)
    wait_until(lambda: counters(tool)["ReplicasCut"] >= 1, "the replica is cut")
    assert "too slow for the journal" in tool.text()
    # What it needs is gone, and it is told so again and again.
    front.rate = 0
    wait_until(lambda: "no snapshot for a full sync" in tool.text(), "a full sync is refused with the reason", 40)
    assert source.full_syncs() == 1


def test_a_replica_whose_snapshot_is_gone_makes_the_lane_take_a_new_one_where_configured(world):
    source, target = world.source(**DEBUG), world.target()
    channel = {"channel": {"storer": {"maxSize": "16MiB", "logSize": "1MiB"}}}
    tool, listener = served(world, source, target, channel, fullSync="refresh")
    wait_until(lambda: tool.status()[0]["Phase"] == "streaming", "the lane streams")
    raw = source.raw()
    raw.many(("SET", f"big:{i % 5}", random.randbytes(100_000)) for i in range(400))
    wait_equal(source, target)
    replica = replica_of(world, listener)
    wait_follows(replica)
    wait_same(source, replica)
    wait_equal(source, target)
    assert source.full_syncs() == 2
    assert "a replica needs a snapshot" in tool.text()


def test_a_failover_of_the_source_costs_a_replica_no_full_sync(world):
    source, target = world.source(**DEBUG), world.target()
    load_everything(source, dbs=(0,))
    front = world.proxy(source)
    tool, listener = served(world, front, target)
    replica = replica_of(world, listener)
    wait_follows(replica)
    for _ in range(2):
        source = fail_over(world, source, front, **DEBUG)
        with Load(source):
            time.sleep(0.3)
        wait_follows(replica)
        wait_same(source, replica)
        assert replica.info("replication")["master_replid"] == source.info("replication")["master_replid"]
    assert counters(tool)["ReplicaFullSyncs"] == 1
    assert counters(tool)["ReplicaPartialSyncs"] >= 2


def test_a_full_sync_of_the_lane_reaches_the_replicas(world):
    source, target = world.source(**DEBUG), world.target()
    tool, listener = served(world, source, target)
    replica = replica_of(world, listener)
    wait_follows(replica)
    with Load(source):
        code, body = tool.post("/syncer/fullsync?inputs=all")
        assert code == 200, body

        def asked_again():
            # One that had got just as far as the new snapshot does without it.
            return counters(tool)["ReplicaFullSyncs"] + counters(tool)["ReplicaPartialSyncs"] >= 2
        wait_until(asked_again, "the replica has asked again", 40)
    wait_follows(replica)
    wait_same(source, replica)


def test_kill_of_the_tool_under_attached_replicas(world):
    source, target = world.source(**DEBUG), world.target(**DURABLE)
    load_everything(source, dbs=(0,))
    tool, listener = served(world, source, target)
    replicas = [replica_of(world, listener) for _ in range(2)]
    for replica in replicas:
        wait_follows(replica)
    with Load(source):
        for _ in range(5):
            time.sleep(random.uniform(0.1, 0.6))
            tool.restart(wait=False)
    for replica in replicas:
        wait_follows(replica)
        wait_same(source, replica)
        assert replica.info("stats")["sync_full"] == 0
    wait_equal(source, target)
    assert source.full_syncs() == 1
    assert "gets the snapshot" not in tool.text().split("gunyu 0", 2)[2]


def test_connections_of_replicas_are_cut_at_any_moment(world):
    source, target = world.source(**DEBUG), world.target()
    load_everything(source, dbs=(0,))
    tool, listener = served(world, source, target)
    front = world.proxy(listener)
    replica = replica_of(world, front)
    with Load(source):
        for i in range(12):
            front.piece = (0, 1, 7, 1000)[i % 4]
            front.cut_after(random.randrange(1, 20000))
            time.sleep(0.2)
        front.piece = 0
        wait_follows(replica)
    wait_same(source, replica)
    assert source.full_syncs() == 1


def test_acknowledgements_are_counted(world, pair):
    source, target = pair
    tool, listener = served(world, source, target)
    replica = replica_of(world, listener)
    wait_follows(replica)
    source.client().set("a", "b")
    end = source.info("replication")["master_repl_offset"]

    def shown():
        one, = tool.status()[0]["Replicas"]
        return one["AckedOffset"] >= end and one
    one = wait_until(shown, "the acknowledgement is shown")
    assert one["Address"] == f"127.0.0.1:{replica.port}" and one["State"] == "stream" and one["BytesSent"] > 0
    assert tool.metric("replicas", state="stream") == 1
    assert tool.metric("replica_acked_offset_bytes", replica=one["Address"]) >= end
    answer = listener.raw().call("ROLE")
    assert answer[0] == b"slave" and answer[2] == source.port and answer[3] == b"connected"
    # The source asks (WAIT sends GETACK), and the question reaches the replica as a part of the stream.
    assert source.client().execute_command("WAIT", 1, 5000) == 1
    replica.freeze()
    source.client().set("a", "c")
    wait_until(lambda: tool.metric("replica_lag_bytes") > 0, "the lag of a frozen replica")
    replica.thaw()


def test_a_password_is_asked_for(world, pair):
    source, target = pair
    _, listener = served(world, source, target, password="correct horse")
    stranger = Listener(listener.port)
    for command in (("PING",), ("INFO",), ("PSYNC", "?", "-1"), ("SYNC",), ("REPLCONF", "capa", "eof")):
        with pytest.raises(redis.AuthenticationError):
            stranger.raw().call(*command)
    with pytest.raises(redis.ResponseError, match="WRONGPASS"):
        Listener(listener.port, "wrong").raw().call("PING")
    wrong = replica_of(world, stranger, masterauth="wrong")
    right = replica_of(world, listener)
    wait_follows(right)
    with Load(source):
        time.sleep(0.2)
    wait_equal(source, right)
    assert not follows(wrong) and wrong.client().dbsize() == 0


def test_a_replica_picks_its_shard_by_its_user(world):
    sources, target = [world.source(**DEBUG) for _ in range(2)], world.target()
    for i, source in enumerate(sources):
        source.client().set(f"of:{i}", i)
    _, listener = served(world, sources[0], target, {"input": {"redis": {"addresses": [s.address for s in sources]}}},
                         password="secret")
    replicas = [replica_of(world, listener, masteruser=s.address) for s in sources]
    for source, replica in zip(sources, replicas):
        wait_follows(replica)
        wait_same(source, replica)
    for user, words in (("default", "several shards"), ("nobody", "no shard called so")):
        raw = Listener(listener.port).raw()
        assert raw.call("AUTH", user, "secret") == b"OK"
        assert words in str(raw.call("PSYNC", "?", "-1"))
        assert sources[1].address in str(raw.call("PSYNC", "?", "-1"))


def test_garbage_and_half_open_connections_do_no_harm(world, pair):
    source, target = pair
    tool, listener = served(world, source, target, password="secret")
    replica = replica_of(world, listener)
    wait_follows(replica)
    rng = random.Random(1)
    silent = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(200)]
    pieces = [b"*3\r\n$4\r\nAUTH\r\n$100000000\r\n", b"*2147483647\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"$-5\r\n",
              b"*1\r\n$4\r\nPING\r\n" * 30000, b"A" * 100_000, b"\n" * 200_000]
    for _ in range(60):
        with socket.create_connection(("127.0.0.1", listener.port)) as s:
            try:
                s.sendall(rng.choice([rng.randbytes(rng.randrange(1, 5000)), rng.choice(pieces)]))
                if rng.random() < 0.5:
                    s.settimeout(0.05)
                    s.recv(100)
            except OSError:
                pass
    with Load(source):
        late = replica_of(world, listener)
        wait_follows(late)
    wait_equal(source, late)
    wait_equal(source, replica)
    wait_equal(source, target)
    for s in silent:
        s.close()
    assert tool.alive()


def test_an_attached_replica_that_sends_garbage_is_cut_alone(world, pair):
    source, target = pair
    tool, listener = served(world, source, target)
    replica = replica_of(world, listener)
    wait_follows(replica)
    raw = listener.raw()
    raw.connection.send_packed_command([b"*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n*1\r\n$4\r\nPING\r\n*x\r\n"])
    wait_until(lambda: counters(tool)["ReplicasCut"] == 1, "the one is cut")
    wait_equal(source, replica)
    assert follows(replica)


def test_data_is_refused(world, pair):
    source, target = pair
    tool, listener = served(world, source, target)
    wait_until(lambda: tool.status()[0]["Phase"] == "streaming", "the lane streams")
    raw = listener.raw()
    for command in (("SET", "a", "b"), ("GET", "a"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("REPLICAOF", "NO", "ONE"), ("SHUTDOWN",)):
        assert isinstance(raw.call(*command), redis.exceptions.ReadOnlyError), command
    assert "unknown command 'nonsense'" in str(raw.call("nonsense"))
    assert raw.call("SELECT", 0) == b"OK" and "out of range" in str(raw.call("SELECT", 1))
    assert "cluster support disabled" in str(raw.call("CLUSTER", "NODES"))


def test_tls(world, pair, tmp_path):
    source, target = pair
    key, cert = certificate(tmp_path)
    _, listener = served(world, source, target, tls={"certFile": str(cert), "keyFile": str(key), "caFile": str(cert)})
    files = {"tls-cert-file": cert, "tls-key-file": key, "tls-ca-cert-file": cert, "tls-replication": "yes"}
    replica = replica_of(world, listener, **files)
    load_everything(source, dbs=(0,))
    wait_follows(replica)
    with Load(source):
        time.sleep(0.5)
    wait_equal(source, replica)
    # Who shows no certificate, and who speaks no TLS, gets nothing.
    with pytest.raises((redis.ConnectionError, OSError)):
        redis.Redis(port=listener.port, ssl=True, ssl_ca_certs=str(cert)).ping()
    with pytest.raises((redis.ConnectionError, OSError)):
        redis.Redis(port=listener.port).ping()
    wait_equal(source, replica)


def test_a_chain_of_two_applies_everything_once(world):
    source, target, last = world.source(), world.target(**DURABLE), world.target(**DURABLE)
    load_everything(source)
    first, listener = served(world, source, target, password="secret")
    second, listener2 = served(world, listener, last, password="other")
    replica = replica_of(world, listener2)
    wait_equal(source, last)
    with Load(source):
        for tool in (first, second, first, second):
            time.sleep(0.3)
            tool.restart(wait=False)
        mutate(source, n=500)
    for server in (target, last, replica):
        wait_equal(source, server, timeout=60)
    assert source.full_syncs() == 1
    assert counters(second)["FullSyncs"] == 0


def test_a_chain_survives_a_failover_of_the_source(world):
    source, target, last = world.source(), world.target(**DURABLE), world.target(**DURABLE)
    front = world.proxy(source)
    first, listener = served(world, front, target)
    second = world.gunyu(listener, last)
    wait_equal(source, last)
    heir = fail_over(world, source, front)
    with Load(heir):
        time.sleep(0.3)
    wait_equal(heir, target, timeout=60)
    wait_equal(heir, last, timeout=60)
    assert heir.full_syncs() == 0
    assert counters(first)["FullSyncs"] == 1 and counters(second)["FullSyncs"] == 1


def test_of_a_journal_in_memory_only_who_is_near_is_served(world):
    source, target = world.source(**DEBUG), world.target()
    tool, listener = served(world, source, target, {"channel": {"type": "memory"}})
    wait_until(lambda: tool.status()[0]["Phase"] == "streaming", "the lane streams")
    mutate(source, n=3000)
    wait_equal(source, target)
    late = replica_of(world, listener)
    wait_until(lambda: "no snapshot for a full sync" in tool.text(), "a full sync is refused with the reason")
    assert not follows(late)
    # A replica of the source itself is near.
    near = replica_of(world, source)
    wait_follows(near)
    with Load(source, pace=0.01):
        near.client().replicaof("127.0.0.1", listener.port)
        wait_until(lambda: follows(near), "it continues here")
    wait_same(source, near)
    assert source.full_syncs() == 2


def test_a_replica_of_a_cluster_shard(world):
    cluster, target = world.cluster(), world.target()
    for i in range(300):
        cluster.client().set(f"key:{i}", i)
    tool, listener = served(world, cluster, target, password="secret")
    wait_until(lambda: len(tool.status()) == 3 and all(s["Phase"] == "streaming" for s in tool.status()), "all lanes stream")
    found = 0
    for node in cluster.nodes[:3]:
        replica = replica_of(world, listener, masteruser=node.address)
        wait_follows(replica)
        wait_until(lambda r=replica, n=node: r.client().dbsize() == n.client().dbsize(), "the shard's keys")
        found += replica.client().dbsize()
    assert found == 300


@pytest.mark.parametrize("how", ("freeze", "kill", "pause"))
def test_replicas_go_on_whatever_the_target_does(world, how):
    source, target = world.source(**DEBUG), world.target(**DURABLE)
    tool, listener = served(world, source, target)
    replica = replica_of(world, listener)
    wait_follows(replica)
    if how == "pause":
        tool.act("pause")
    else:
        getattr(target, how)()
    mutate(source, n=1000)
    late = replica_of(world, listener)
    wait_follows(late)
    wait_same(source, replica)
    wait_same(source, late)
    if how == "pause":
        tool.act("resume")
    elif how == "freeze":
        target.thaw()
    else:
        target.start()
    wait_equal(source, target)
    assert source.full_syncs() == 1


def test_kill_of_the_tool_while_it_serves_a_snapshot(world):
    source, target = world.source(rdb_key_save_delay="100", rdbcompression="no", **DEBUG), world.target(**DURABLE)
    source.client().execute_command("DEBUG", "POPULATE", 20000, "key", 1000)
    tool, listener = served(world, source, target)
    replica = replica_of(world, listener)
    wait_until(lambda: tool.status()[0]["Replicas"][0]["BytesSent"] > 100_000, "the replica is given the snapshot")
    tool.restart(wait=False)
    source.client().config_set("rdb-key-save-delay", 0)
    # A whole one goes slowly into the hands of another.
    front = world.proxy(listener)
    front.rate = 2_000_000
    slow = replica_of(world, front)
    wait_until(lambda: any(r["State"] == "rdb" and r["BytesSent"] > 50_000 for r in tool.status()[0]["Replicas"]), "it is given to the slow one", 40)
    tool.restart(wait=False)
    front.rate = 0
    mutate(source, n=300)
    for one in (replica, slow):
        wait_follows(one)
        wait_same(source, one)
    wait_equal(source, target)


def test_a_replica_moves_between_the_source_and_several_tools(world):
    source = world.source(**DEBUG)
    listeners = [served(world, source, world.target())[1] for _ in range(2)]
    replica = replica_of(world, source)
    wait_follows(replica)
    syncs = source.full_syncs()
    with Load(source):
        for place in (listeners[0], listeners[1], source, listeners[1], source, listeners[0]):
            replica.client().replicaof("127.0.0.1", place.port)
            wait_until(lambda p=place: replica.info("replication")["master_port"] == p.port and follows(replica), f"it follows {place.port}")
            time.sleep(0.1)
    wait_same(source, replica)
    assert source.full_syncs() == syncs


def test_the_db_that_was_selected_when_the_snapshot_was_taken(world):
    master = world.source(**DEBUG)
    below = world.source(replicaof=f"127.0.0.1 {master.port}", **DEBUG)
    other = world.source(replicaof=f"127.0.0.1 {master.port}")
    for server in (below, other):
        wait_follows(server)
    master.client(4).set("before", 1)
    # One whose stream is its own, and one that passes its master's on, which has long selected db 4.
    pairs = [served(world, s, world.target()) for s in (master, below)]
    for tool, _ in pairs:
        wait_until(lambda t=tool: t.status()[0]["Phase"] == "streaming", "the lane streams")
    master.client(4).set("behind", 2)
    for _, listener in pairs:
        replica = replica_of(world, listener)
        wait_follows(replica)
        wait_same(master, replica)
        assert replica.client(4).get("behind") == b"2"
    master.client(4).set("after", 3)
    for tool, _ in pairs:
        wait_until(lambda t=tool: t.target.client(4).get("after") == b"3", "it is at the target")


def test_a_snapshot_is_dumped_from_the_listener(world, pair, tmp_path):
    source, target = pair
    load_everything(source)
    tool, listener = served(world, source, target, password="secret")
    wait_until(lambda: tool.status()[0]["Phase"] == "streaming", "the lane streams")
    file = tmp_path / "dump.rdb"
    run = subprocess.run([GUNYU, "rdb", "dump", "--from", listener.uri, "-o", str(file)], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    run = subprocess.run([GUNYU, "rdb", "verify", str(file)], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr
    old = tmp_path / "old.rdb"
    subprocess.run(["redis-cli", "-p", str(listener.port), "-a", "secret", "--rdb", str(old)], capture_output=True, timeout=60, check=True)
    assert old.read_bytes() == file.read_bytes()


def disturb(rng, tools, replicas, fronts):
    """One thing that goes wrong."""
    what = rng.randrange(5)
    if what == 0:
        rng.choice(tools).restart(wait=False)
    elif what == 1:
        rng.choice(fronts).cut()
    elif what == 2:
        front = rng.choice(fronts)
        front.piece = rng.choice((0, 3, 1000))
        front.cut_after(rng.randrange(1, 50000))
    elif what == 3:
        replica = rng.choice(replicas)
        replica.kill()
        replica.start(wait=False)
    else:
        victim = rng.choice(tools + replicas)
        victim.freeze()
        time.sleep(rng.uniform(0.05, 0.8))
        victim.thaw()


@pytest.mark.slow
@pytest.mark.parametrize("seed", (SEED, SEED + 1, SEED + 2))
def test_everything_at_once(world, seed):
    rng = random.Random(seed)
    source, target, last = world.source(**DEBUG), world.target(**DURABLE), world.target(**DURABLE)
    load_everything(source, dbs=(0,))
    up = world.proxy(source)
    first, listener = served(world, up, target)
    middle = world.proxy(listener)
    second, listener2 = served(world, middle, last)
    down = world.proxy(listener2)
    replicas = [replica_of(world, middle), replica_of(world, down)]
    for server in (target, last):
        wait_equal(source, server)
    with Load(source):
        for i in range(4 * ROUNDS):
            time.sleep(rng.choice((0.05, 0.2, 0.6)))
            disturb(rng, [first, second], replicas, (up, middle, down))
            if i % 3 == 0:
                mutate(source, seed=seed * 100 + i, n=100)
    for front in (up, middle, down):
        front.piece = 0
    for server in (target, last):
        wait_equal(source, server, timeout=60 + 3 * ROUNDS)
    for replica in replicas:
        wait_follows(replica)
        wait_same(source, replica, timeout=60)
    assert source.full_syncs() == 1

# SPDX-License-Identifier: Apache-2.0
"""What the program finds out about live clusters and sentinels, against what they are."""

import pathlib
import signal
import subprocess
import time

import pytest

from harness import GUNYU, PATIENCE, free_port, wait_until

TOOL = pathlib.Path(GUNYU).parent / "tests/unit/topology_tool"
OTHER_VERSIONS = ["redis-6", "redis-8", "redis-next", "valkey-8", "valkey-9"]


def ask(*args):
    """The lines that the tool prints, each as words."""
    run = subprocess.run([TOOL, *map(str, args)], capture_output=True, text=True, check=False, timeout=60 * PATIENCE)
    assert run.stderr == "" and run.returncode in (0, 1), run
    return [line.split() for line in run.stdout.splitlines()]


def shards(lines):
    """[{slots, moving, master: (id, address, state), replicas: [...]}]."""
    out = []
    for word, *rest in lines:
        if word == "shard":
            out.append({"slots": int(rest[0]), "moving": rest[1] == "moving", "replicas": []})
        elif word == "master":
            out[-1]["master"] = tuple(rest)
        elif word == "replica":
            out[-1]["replicas"].append(tuple(rest))
    return out


def owners(lines):
    """[(first slot, number of the shard)]."""
    return [(int(rest[0]), int(rest[2])) for word, *rest in lines if word == "from"]


def row(node, state="ok"):
    return node.cluster_id, node.address, state


def check_whole(cluster, seed):
    lines = ask("cluster", seed)
    found = shards(lines)
    masters = cluster.masters()
    assert lines[0] == ["covered", "16384"]
    assert [s["master"] for s in found] == [row(m) for m in masters]
    assert [s["replicas"] for s in found] == [[row(n) for n in cluster.replicas(i)] for i in range(len(masters))]
    assert not any(s["moving"] for s in found)
    return lines


@pytest.mark.parametrize("version", [None] + OTHER_VERSIONS)
def test_every_node_tells_the_whole_cluster_before_and_after_a_failover(world, version):
    cluster = world.cluster(replicas=1, version=version)
    for node in cluster.nodes:
        lines = check_whole(cluster, node.uri)
        assert owners(lines) == [(0, 0), (5461, 1), (10922, 2)]
    old = cluster.masters()[1]
    new = cluster.failover(1)
    assert old is not new
    for node in cluster.nodes:
        assert shards(check_whole(cluster, node.uri))[1]["master"] == row(new)
        for ident in (old.cluster_id, new.cluster_id):
            assert ask("shard", ident, node.uri) == [["master", *row(new)]]


@pytest.mark.parametrize("how", ["FORCE", "TAKEOVER"])
def test_replicas_that_come_and_take_over_are_seen(world, how):
    cluster = world.cluster()
    replica = cluster.add_replica(2)
    check_whole(cluster, cluster.uri)
    assert cluster.failover(2, how) is replica and cluster.masters()[2] is replica
    check_whole(cluster, cluster.uri)


@pytest.mark.parametrize("version", [None, "redis-6", "valkey-9"])
def test_a_slot_that_is_moved_marks_both_of_its_shards_whoever_is_asked(world, version):
    cluster = world.cluster(replicas=1, version=version)
    source, target, third = cluster.masters()
    slot = cluster.slot_of("key")
    assert cluster.node_of_slot(slot) is third
    third.raw().many(("SET", "{key}%d" % i, i) for i in range(3))
    seen = []

    def look(_, key):
        seen.append(key)
        for node in cluster.nodes:
            assert [s["moving"] for s in shards(ask("cluster", node.uri))] == [True, False, True]
    cluster.move_slots([slot], third, source, pause=look)
    assert len(seen) == 4
    lines = check_whole(cluster, target.uri)
    assert owners(lines) == [(0, 0), (5461, 1), (10922, 2), (slot, 0), (slot + 1, 2)]
    assert [s["slots"] for s in shards(lines)] == [5462, 5461, 5461]


def test_the_replica_of_a_dead_master_is_found_in_its_shard(world):
    cluster = world.cluster(replicas=1)
    replica = cluster.replicas(0)[0]
    dead = cluster.kill_master(0)
    seeds = [node.uri for node in cluster.nodes]
    taken_over = [["master", *row(replica)]]
    wait_until(lambda: ask("shard", replica.cluster_id, *seeds) == taken_over, "it is the master")
    cluster.wait_agreed()
    found = shards(ask("cluster", *seeds))
    assert [s["master"] for s in found] == [row(node) for node in cluster.masters()]
    # The cluster keeps no place for it until it is back.
    assert found[0]["replicas"] == [] and ask("shard", dead.cluster_id, *seeds) == []
    dead.start()
    cluster.wait_agreed(lambda: cluster.is_replica(dead))
    check_whole(cluster, dead.uri)
    assert ask("shard", dead.cluster_id, *seeds) == taken_over


def test_a_dead_replica_is_listed_as_failed(world):
    cluster = world.cluster(replicas=1)
    dead = cluster.replicas(1)[0]
    dead.kill()
    wait_until(lambda: shards(ask("cluster", cluster.uri))[1]["replicas"] == [row(dead, "failed")], "it is failed")


def test_a_master_that_is_dead_for_good_is_listed_as_failed(world):
    cluster = world.cluster()
    dead = cluster.kill_master(2)
    seeds = [n.uri for n in cluster.up()]
    wait_until(lambda: shards(ask("cluster", *seeds))[2]["master"] == row(dead, "failed"), "the node is failed")
    assert ask("shard", dead.cluster_id, *seeds) == [["master", *row(dead, "failed")]]
    assert ask("shard", "f" * 40, seeds[0]) == []


def test_seeds_that_are_of_no_use_are_passed_over_and_named(world):
    cluster = world.cluster()
    alone = world.server()
    empty = world.server(cluster_enabled="yes")
    nobody = f"127.0.0.1:{free_port()}"
    useless = [nobody, alone.address, empty.address]
    assert len(shards(ask("cluster", *useless, cluster.uri))) == 3
    text = " ".join(ask("cluster", *useless)[0])
    assert text.startswith("error") and all(address in text for address in useless)


def test_a_master_without_slots_is_not_listed_and_a_forgotten_one_is_gone(world):
    cluster = world.cluster()
    node = cluster.add_node()
    check_whole(cluster, node.uri)
    cluster.remove_node(node)
    check_whole(cluster, cluster.uri)


@pytest.mark.parametrize("kind", ["hostname", "unknown-endpoint", "ip"])
def test_clients_are_sent_where_the_nodes_want_them(world, kind):
    cluster = world.cluster(masters=2, cluster_announce_hostname="localhost", cluster_preferred_endpoint_type=kind)
    if kind != "ip":
        seed = f"localhost:{cluster.nodes[0].port}"
        wait_until(lambda: all(s["master"][1].startswith("localhost:") for s in shards(ask("cluster", seed))),
                   "names are known")
    host = "127.0.0.1" if kind == "ip" else "localhost"
    for node in cluster.nodes:
        found = shards(ask("cluster", f"localhost:{node.port}"))
        assert [s["master"][1] for s in found] == [f"{host}:{m.port}" for m in cluster.masters()]


def test_a_node_that_should_have_a_name_and_has_none_is_reached_by_its_address(world):
    cluster = world.cluster(masters=2, cluster_preferred_endpoint_type="hostname")
    check_whole(cluster, f"localhost:{cluster.nodes[0].port}")


def test_the_password_of_the_seed_is_that_of_all_nodes(world):
    cluster = world.cluster(masters=2, replicas=1, requirepass="secret")
    assert "NOAUTH" in " ".join(ask("cluster", cluster.address)[0])
    check_whole(cluster, cluster.uri)
    cluster.client().set("key", "1")
    slot = cluster.slot_of("key")
    source = cluster.node_of_slot(slot)
    target = next(node for node in cluster.masters() if node is not source)
    moving = []
    cluster.move_slots([slot], source, target,
                       lambda *_: moving.append([s["moving"] for s in shards(ask("cluster", cluster.uri))]))
    assert moving == [[True, True]] * 2


def test_a_cluster_that_is_reached_by_tls_is_followed_by_tls(world, tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-subj", "/CN=test", "-keyout", key, "-out", cert], check=True, capture_output=True)
    cluster = world.cluster(masters=2, replicas=1, tls_port=free_port, tls_cluster="yes", tls_replication="yes",
                            tls_cert_file=cert, tls_key_file=key, tls_ca_cert_file=cert, tls_auth_clients="no")
    for node in cluster.nodes:
        found = shards(ask("cluster", f"rediss://127.0.0.1:{node.options['tls-port']}"))
        assert [s["master"][1] for s in found] == [f"127.0.0.1:{m.options['tls-port']}" for m in cluster.masters()]
        assert len(found[1]["replicas"]) == 1
        check_whole(cluster, node.uri)


# ---- connections to all masters ----

def masters(*seeds):
    """What is said of each subject: a list of words."""
    said = {}
    for subject, word in ask("masters", *seeds):
        said.setdefault(subject, []).append(word)
    return said


def test_what_one_of_the_masters_lacks_they_all_lack(world, tmp_path):
    configs = [tmp_path / command for command in ("XADD", "RESTORE", "GETSET")]
    for config in configs:
        config.write_text(f"rename-command {config.name} other\n")
    cluster = world.cluster(version="valkey-9", cluster_databases=iter([4, 2, 3]).__next__,
                            include=iter(configs).__next__)
    said = masters(cluster.uri)
    assert said["databases"] == ["2"]
    assert sorted(said["missing"]) == ["ARMSET", "RESTORE", "XADD", "XIDMPRECORD"]
    assert said["master"] == [node.address for node in cluster.masters()]


def test_a_cluster_is_as_old_as_its_oldest_master(world):
    cluster = world.cluster(masters=2, version="redis-8")
    version = masters(cluster.uri)["version"]
    cluster.version = "redis-7"
    old = cluster.add_node()
    cluster.move_slots([16383], cluster.masters()[1], old)
    found = masters(cluster.nodes[0].uri)
    assert int(found["version"][0]) // 10000 == 7 and int(version[0]) // 10000 == 8
    # None of these has more than one database in a cluster.
    assert found["databases"] == ["1"] and old.address in found["master"]


def refusal(*seeds):
    error, *words = ask("masters", *seeds)[0]
    assert error == "error"
    return " ".join(words)


def test_a_cluster_with_a_slot_that_nobody_has_is_refused(world):
    cluster = world.cluster(cluster_require_full_coverage="no")
    cluster.nodes[0].raw().call("CLUSTER", "DELSLOTS", 5)
    assert "CLUSTERDOWN only 16383 of 16384 slots have an owner" in refusal(cluster.nodes[0].uri)


def test_a_cluster_with_a_master_that_is_down_or_loads_is_refused_and_the_master_named(world):
    cluster = world.cluster(cluster_node_timeout=600000, loading_process_events_interval_bytes=1024)
    one, two = cluster.masters()[:2]
    two.raw().many(("SET", f"{{{key_in(cluster, two)}}}{i}", "x" * 1000) for i in range(300))
    two.raw().call("SAVE")
    two.kill()
    assert f"node {two.address}: " in refusal(one.uri)
    two.options["key-load-delay"] = 50000
    two.start(wait=False)
    wait_until(lambda: two.client().info("persistence")["loading"] == 1, "it loads")
    assert f"node {two.address}: LOADING " in refusal(one.uri)


def key_in(cluster, node):
    return next(str(i) for i in range(1000) if cluster.node_of_slot(cluster.slot_of(str(i))) is node)


# ---- sentinel ----

NAME = "mymaster"
DATA = "redis://127.0.0.1"


def watched(world, version=None, **options):
    """A master with a replica, and sentinels that know both."""
    master = world.server("master", version=version, **options)
    replica = world.server("replica", version=version, masterauth=master.password or "", **options)
    replica.client().execute_command("REPLICAOF", "127.0.0.1", master.port)
    wait_until(lambda: replica.info("replication")["master_link_status"] == "up", "the replica is in sync")
    return master, replica


def subscribers(node):
    return node.raw().call("CLIENT", "LIST").count(b" sub=1 ")


class Waiting:
    """The tool while it waits for a switch, for a minute; it has subscribed once this is made."""

    def __init__(self, sentinels, current="-"):
        self.child = subprocess.Popen([TOOL, "wait", NAME, DATA, "60000", current, *sentinels.addresses],
                                      text=True, stdout=subprocess.PIPE)
        wait_until(lambda: any(subscribers(node) for node in sentinels.nodes if node.alive()), "it listens")

    def ends(self):
        """(what it said, seconds that it took from now on)."""
        since = time.monotonic()
        return self.child.communicate(timeout=60 * PATIENCE)[0].strip(), time.monotonic() - since


@pytest.mark.parametrize("version", [None, "redis-6", "valkey-9"])
def test_a_switch_is_noticed_at_once_and_the_new_master_is_found(world, version):
    master, _ = watched(world, version)
    sentinels = world.sentinels(master, version=version)
    assert ask("sentinel", NAME, DATA, *sentinels.addresses) == [["master", master.address]]
    waiting = Waiting(sentinels)
    port = sentinels.failover()
    said, took = waiting.ends()
    assert said == "switch" and took < 1 * PATIENCE and port != master.port
    assert ask("sentinel", NAME, DATA, *sentinels.addresses) == [["master", f"127.0.0.1:{port}"]]


def test_a_dead_master_is_replaced_though_the_first_sentinel_hangs(world):
    master, _ = watched(world)
    sentinels = world.sentinels(master)
    waiting = Waiting(sentinels, master.address)
    listened = next(node for node in sentinels.nodes if subscribers(node))
    listened.freeze()
    wait_until(lambda: any(subscribers(n) for n in sentinels.nodes if n is not listened), "it listens to another one")
    master.kill()
    assert waiting.ends()[0] == "switch"
    rest = [n.address for n in sentinels.nodes if n is not listened]
    port = wait_until(lambda: ask("sentinel", NAME, DATA, *rest)[0][1], "a master")
    assert port != master.address


def test_a_wait_goes_on_at_the_next_sentinel_when_one_dies(world):
    master, _ = watched(world)
    sentinels = world.sentinels(master)
    waiting = Waiting(sentinels)
    first = next(node for node in sentinels.nodes if subscribers(node))
    first.kill()
    wait_until(lambda: any(subscribers(n) for n in sentinels.nodes if n.alive()), "it listens to another one")
    sentinels.failover()
    assert waiting.ends()[0] == "switch"


def test_a_switch_before_the_wait_began_is_not_missed(world):
    master, _ = watched(world)
    sentinels = world.sentinels(master)
    sentinels.failover()
    since = time.monotonic()
    assert ask("wait", NAME, DATA, 30000, master.address, *sentinels.addresses) == [["switch"]]
    assert time.monotonic() - since < 5 * PATIENCE


def test_a_wait_ends_soon_after_it_is_cancelled(world):
    sentinels = world.sentinels(watched(world)[0])
    waiting = Waiting(sentinels)
    waiting.child.send_signal(signal.SIGTERM)
    said, took = waiting.ends()
    assert said == "cancelled" and took < 0.5 * PATIENCE


def test_a_wait_without_a_switch_says_so(world):
    sentinels = world.sentinels(watched(world)[0])
    assert ask("wait", NAME, DATA, 300, "-", *sentinels.addresses) == [["none"]]


def test_a_sentinel_that_is_behind_is_not_believed(world):
    """It takes for the master what is a replica."""
    master, replica = watched(world)
    sentinels = world.sentinels(master)
    behind = world.sentinel(None, [f"sentinel monitor {NAME} 127.0.0.1 {replica.port} 9"], None)
    wait_until(lambda: behind.raw().call("PING") == b"PONG", "it is up")
    text = " ".join(ask("sentinel", NAME, DATA, behind.address)[0])
    assert f"{replica.address} is said to be the master and is none" in text
    assert ask("sentinel", NAME, DATA, behind.address, *sentinels.addresses) == [["master", master.address]]


def test_sentinels_and_servers_have_passwords_of_their_own(world):
    master, _ = watched(world, requirepass="data")
    sentinels = world.sentinels(master, password="guards")
    uris = [node.uri for node in sentinels.nodes]
    assert ask("sentinel", NAME, "redis://:data@x", *uris) == [["master", master.address]]
    assert "NOAUTH" in " ".join(ask("sentinel", NAME, "redis://:data@x", *sentinels.addresses)[0])
    assert ask("sentinel", NAME, "redis://x", *uris)[0][0] == "error"


def test_who_may_not_ask_for_the_role_asks_info(world):
    master, _ = watched(world)
    sentinels = world.sentinels(master)
    master.client().execute_command("ACL", "SETUSER", "few", "on", ">pw", "+info")
    assert ask("sentinel", NAME, "redis://few:pw@x", *sentinels.addresses) == [["master", master.address]]


def test_what_no_sentinel_knows_is_an_error_that_names_them_all(world):
    sentinels = world.sentinels(watched(world)[0])
    nobody = f"127.0.0.1:{free_port()}"
    text = " ".join(ask("sentinel", "other", DATA, nobody, *sentinels.addresses)[0])
    assert text.startswith("error") and all(a in text for a in [nobody] + sentinels.addresses)
    assert ask("wait", NAME, DATA, 5000, "-", nobody)[0][0] == "error"

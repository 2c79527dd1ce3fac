# SPDX-License-Identifier: Apache-2.0
"""Standalone servers, sentinels and clusters on both sides, in every pairing: equal at the end."""

import itertools

import pytest

from compare import wait_equal
from dataset import load_everything, mutate, mutate_slots
from harness import Cluster, free_port, wait_until
from test_sentinel import by_sentinel, replicated
from test_source_cluster import contents
from test_tls import SOURCE_RIGHTS, TARGET_RIGHTS, allow, authority, denied  # noqa: F401

# What docs/operations.md says a user needs at a cluster.
SOURCE_CLUSTER_RIGHTS = SOURCE_RIGHTS + " +cluster|nodes +cluster|shards +cluster|myid"
TARGET_CLUSTER_RIGHTS = TARGET_RIGHTS + " +cluster|nodes +cluster|shards +asking"
KINDS = ["standalone", "sentinel", "cluster"]


def make(world, kind, name):
    """(a server or cluster, what the configuration says of it)"""
    if kind == "sentinel":
        master, _ = replicated(world)
        return master, by_sentinel(world.sentinels(master, name=name))
    return (world.cluster(name) if kind == "cluster" else world.server(name)), {}


def wait_streaming(tool):
    wait_until(lambda: {s["Phase"] for s in tool.status()} == {"streaming"}, "all lanes stream", 30)


def check(source, target, tool):
    """Of a source that was filled before: equal after the full sync and after writes."""
    wait_equal(source, target)
    wait_streaming(tool)
    if isinstance(source, Cluster):
        assert mutate_slots(source, seed=5, n=800) > 300
    else:
        assert mutate(source, seed=5, n=800, dbs=(0,)) > 300
    wait_equal(source, target)
    assert {s["LaneState"] for s in tool.status()} == {"run"}


@pytest.mark.parametrize("to", KINDS)
@pytest.mark.parametrize("of", KINDS)
def test_every_kind_of_source_into_every_kind_of_target(world, of, to):
    (source, given), (target, taken) = make(world, of, "source"), make(world, to, "target")
    load_everything(source, dbs=(0,))
    tool = world.gunyu(source, target, config={"input": given, "output": taken})
    check(source, target, tool)
    assert sum(s["Counters"]["FullSyncs"] for s in tool.status()) == (3 if of == "cluster" else 1)


def test_two_standalone_sources_into_one_cluster(world):
    sources, cluster = [world.source(), world.source()], world.cluster("target")
    tool = world.gunyu(sources[0], cluster, config={"input": {"redis": {"addresses": [s.address for s in sources]}}})
    for side, source in zip("ab", sources):
        source.raw().many(("SET", f"{side}:{i}", i) for i in range(2000))
    for i in range(300):
        for side, source in zip("ab", sources):
            source.raw().many([("INCR", f"{side}:count:{i % 40}"), ("RPUSH", f"{side}:list:{i % 40}", i),
                               ("MULTI",), ("INCR", f"{side}:x"), ("APPEND", f"{side}:y:{i}", i), ("EXEC",)])

    def same():
        return contents(*cluster.masters()) == contents(*sources)
    wait_until(same, "both are there", 30, interval=0.2)
    tool.restart()
    for side, source in zip("ab", sources):
        source.raw().many(("INCR", f"{side}:count:{i}") for i in range(40))
    wait_until(same, "both go on", 30, interval=0.2)
    assert [s.full_syncs() for s in sources] == [1, 1]


def test_four_shards_into_three(world):
    source, target = world.cluster("source", masters=4), world.cluster("target", masters=3)
    load_everything(source, dbs=(0,))
    tool = world.gunyu(source, target)
    check(source, target, tool)
    assert len(tool.status()) == 4


@pytest.mark.parametrize("of,to", [(None, "valkey-9"), ("valkey-9", None)])
def test_clusters_of_another_family(world, of, to):
    source, target = world.cluster("source", version=of), world.cluster("target", version=to)
    load_everything(source, dbs=(0,))
    if of:
        # What Redis 7 has no place for.
        source.client().delete("hash:ttl", "hash:ttl:large")
    tool = world.gunyu(source, target)
    wait_equal(source, target)
    wait_streaming(tool)
    without = ("HPEXPIRE", "HEXPIREAT", "HSETEX", "HGETEX") if of else ()
    mutate_slots(source, seed=6, n=800, without=without)
    wait_equal(source, target)
    assert {s["LaneState"] for s in tool.status()} == {"run"}


def tls_cluster(world, authority, name):  # noqa: F811
    cert, key = authority.issue(name, "IP:127.0.0.1,DNS:localhost")
    return world.cluster(name, tls_port=free_port, tls_cluster="yes", tls_replication="yes", tls_cert_file=cert,
                         tls_key_file=key, tls_ca_cert_file=authority.ca, tls_auth_clients="no")


def test_bug_31_clusters_by_tls_and_as_users_with_the_documented_rights(world, authority):  # noqa: F811
    sides = source, target = [tls_cluster(world, authority, name) for name in ("source", "target")]
    for cluster, rights in ((source, SOURCE_CLUSTER_RIGHTS), (target, TARGET_CLUSTER_RIGHTS)):
        for node in cluster.nodes:
            allow(node, rights)
    load_everything(source, dbs=(0,))
    login = [{"redis": {"addresses": [f"rediss://127.0.0.1:{cluster.nodes[0].options['tls-port']}"], "userName": "sync",
                        "password": "pw", "tls": {"caFile": str(authority.ca)}}} for cluster in sides]
    tool = world.gunyu(source, target, config={"input": login[0], "output": login[1]})
    check(source, target, tool)
    one, two, _ = target.masters()
    moved = sorted({target.slot_of(f"{{{i}}}") for i in range(30)} & set(range(5461)))
    target.move_slots(moved, one, two, lambda slot, key: mutate_slots(source, seed=slot, n=5))
    tool.act("restart")
    mutate_slots(source, seed=8, n=100)
    wait_equal(source, target, slack_ms=100)
    assert {s["LaneState"] for s in tool.status()} == {"run"}
    refused = list(itertools.chain(*(denied(node) for cluster in sides for node in cluster.nodes)))
    assert refused == []
    assert " warn " not in tool.text()


def test_clusters_that_announce_hostnames(world):
    names = {"cluster_announce_hostname": "localhost", "cluster_preferred_endpoint_type": "hostname"}
    source, target = world.cluster("source", **names), world.cluster("target", replicas=1, **names)
    load_everything(source, dbs=(0,))
    tool = world.gunyu(source, target, config={side: {"redis": {"addresses": [f"localhost:{cluster.nodes[0].port}"]}}
                                               for side, cluster in (("input", source), ("output", target))})
    check(source, target, tool)
    assert sorted(s["Input"] for s in tool.status()) == sorted(f"localhost:{m.port}" for m in source.masters())
    target.failover(1)
    mutate_slots(source, seed=9, n=100)
    wait_equal(source, target)


# ---- several dbs into a cluster ----

def test_bug_46_dbs_that_a_cluster_does_not_have_are_refused_at_the_start(world):
    source, cluster = world.source(), world.cluster("target")
    source.raw().many(("SET", f"zero:{i}", i) for i in range(1000))
    source.raw(3).call("SET", "three", 1)
    tool = world.gunyu(source, cluster)
    tool.wait_state("error")
    error = tool.status()[0]["Error"]
    assert "the source's db 3 goes into db 3" in error and "(it has 1)" in error and "targetDbMap" in error
    assert contents(*cluster.masters()) == {}, "nothing was begun"
    assert tool.get("/readyz")[0] == 503
    source.raw(3).call("FLUSHDB")
    tool.act("resume")
    wait_equal(source, cluster)
    # Later ones are refused at their command.
    source.raw(3).call("SET", "three", 1)
    tool.wait_state("error")
    assert "no such db" in tool.status()[0]["Error"]


def test_bug_46_a_refused_full_sync_has_not_emptied_the_target(world):
    source, cluster = world.source(), world.cluster("target")
    source.raw().call("SET", "zero", 1)
    tool = world.gunyu(source, cluster)
    wait_equal(source, cluster)
    tool.stop()
    source.raw(3).call("SET", "three", 1)
    tool.journal.rename(tool.dir / "away")
    source.restart()
    source.raw(3).call("SET", "three", 1)
    tool.start()
    tool.wait_state("error")
    tool.act("fullsync", more="&flushdb=yes&flushCommand=flushall")
    tool.wait_state("error")
    assert "db 3" in tool.status()[0]["Error"]
    assert cluster.client().get("zero") == b"1"


@pytest.mark.parametrize("replay,filter_", [
    ({"targetDb": 0}, {}), ({"targetDbMap": {"3": 0}}, {}), ({}, {"dbBlacklist": [3]}), ({}, {"dbWhitelist": [0]})],
    ids=["targetDb", "targetDbMap", "dbBlacklist", "dbWhitelist"])
def test_bug_46_dbs_that_are_mapped_or_left_out_go_into_a_cluster(world, replay, filter_):
    source, cluster = world.source(), world.cluster("target")
    source.raw().many(("SET", f"zero:{i}", i) for i in range(100))
    source.raw(3).many(("SET", f"three:{i}", i) for i in range(100))
    tool = world.gunyu(source, cluster, config={"output": {"replay": replay, "filter": filter_}})
    wait_streaming(tool)
    source.raw().call("INCR", "zero:n")
    source.raw(3).call("INCR", "three:n")
    wait_equal(source, cluster, ignore=(b"three:",), db_map={3: None})
    three = [k for k in contents(*cluster.masters()) if k.startswith(b"three:")]
    assert len(three) == (0 if filter_ else 101)


def test_numbered_dbs_of_a_cluster(world):
    """Valkey 9 on."""
    source = world.source(version="valkey-9")
    cluster = world.cluster("target", version="valkey-9", cluster_databases=16)
    load_everything(source)
    tool = world.gunyu(source, cluster)
    check(source, cluster, tool)
    assert cluster.databases() == 16
    assert mutate(source, seed=11, n=800) > 300
    wait_equal(source, cluster)
    tool.kill()
    mutate(source, seed=12, n=200)
    tool.start()
    wait_equal(source, cluster)
    assert source.full_syncs() == 1


def test_numbered_dbs_of_both_clusters(world):
    sides = [world.cluster(name, version="valkey-9", cluster_databases=16) for name in ("source", "target")]
    source, target = sides
    for db in (0, 5):
        source.raw(db).many(("SET", f"key:{i}", f"{db}:{i}") for i in range(500))
    tool = world.gunyu(source, target)
    wait_equal(source, target)
    wait_streaming(tool)
    for db in (0, 5):
        source.raw(db).many(("INCR", f"count:{i % 50}") for i in range(500))
    wait_equal(source, target)


def test_a_db_that_a_server_does_not_have_is_refused_at_the_start_as_well(world):
    source, target = world.source(), world.target(databases=2)
    source.raw().call("SET", "zero", 1)
    source.raw(3).call("SET", "three", 1)
    tool = world.gunyu(source, target)
    tool.wait_state("error")
    assert "(it has 2)" in tool.status()[0]["Error"]
    assert not [k for k in target.client().keys() if not k.startswith(b"gunyu:")]

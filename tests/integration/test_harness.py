# SPDX-License-Identifier: Apache-2.0
"""The measuring tools themselves: a comparer that finds nothing, or a proxy that cuts nothing, proves nothing."""

import pytest

from compare import compare, wait_equal
from dataset import load_everything, mutate
from harness import wait_until


def replicate(source, target, port=None):
    target.client().execute_command("REPLICAOF", "127.0.0.1", port or source.port)
    wait_until(lambda: target.info("replication")["master_link_status"] == "up", "a native replica is in sync")


def test_native_replica_compares_equal_after_every_command_family(pair):
    source, target = pair
    load_everything(source)
    replicate(source, target)
    wait_equal(source, target, static=True)
    taken = mutate(source, seed=7, n=3000, swapdb=True)
    assert taken > 2000
    wait_equal(source, target)
    types = {t for key in source.client(3).scan_iter() for t in [source.client(3).type(key)]}
    assert types == {b"string", b"list", b"set", b"zset", b"hash", b"stream"}


@pytest.mark.parametrize("change", [
    ("SET", "str:1", "else"), ("DEL", "list:one"), ("SET", "new", "1"), ("PEXPIRE", "ttl:1", "99999999"), ("PERSIST", "ttl:2"),
    ("LSET", "list:large", "2500", "x"), ("SADD", "set:large", "x"), ("ZADD", "zset:large", "1", "x"), ("HSET", "hash:large", "x", "1"),
    ("XADD", "stream:large", "*", "x", "1"), ("XACK", "stream:small", "g1", "2-1"), ("XGROUP", "CREATE", "stream:small", "g3", "0"),
    ("XGROUP", "CREATECONSUMER", "stream:small", "g1", "carol"), ("RENAME", "str:2", "str:2b"), ("FUNCTION", "FLUSH")])
def test_comparer_sees(pair, change):
    source, target = pair
    load_everything(source, dbs=(0,))
    replicate(source, target)
    target.client().execute_command("REPLICAOF", "NO", "ONE")
    assert compare(source, target) == []
    reply = target.raw().call(*change)
    if isinstance(reply, Exception) and "nknown" in str(reply):
        pytest.skip(str(reply))
    assert not isinstance(reply, Exception), reply
    assert compare(source, target, static=True)


def test_proxy_cuts_pauses_and_splits(world, pair):
    source, target = pair
    proxy = world.proxy(source)
    proxy.piece = 7
    replicate(source, target, proxy.port)
    seen = proxy.connections
    proxy.cut()
    wait_until(lambda: proxy.connections > seen, "the replica comes back through the proxy")
    wait_equal(source, target)
    proxy.pause()
    source.client().set("held", 1)
    assert target.client().get("held") is None
    proxy.resume()
    wait_equal(source, target)

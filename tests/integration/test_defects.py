# SPDX-License-Identifier: Apache-2.0
"""Defects of the program that gunyu replaces, which show only between real servers."""

import time

from compare import wait_equal, wait_passed
from harness import wait_until


def test_bug_8_without_resuming_a_reconnect_repeats_nothing(world):
    source, target = world.source(), world.target()
    source.raw().many([("RPUSH", "l", i) for i in range(100)])
    tool = world.gunyu(source, target, config={"output": {"replay": {"resumeFromBreakPoint": False}}})
    source.raw().many([("INCR", "n")] * 1000 + [("RPUSH", "l", "more")] * 100)
    wait_passed(source, target)
    syncs = source.full_syncs()
    for client in target.client().client_list(_type="normal"):
        if client["name"].startswith("gunyu:"):
            target.client().client_kill_filter(_id=client["id"])
    source.raw().many([("INCR", "n")] * 10)
    wait_equal(source, target)
    assert source.full_syncs() == syncs
    tool.stop()
    tool.start()
    wait_equal(source, target)
    assert source.full_syncs() == syncs + 1  # what the setting asks for: each start begins anew


def test_bug_47_gc_keeps_what_streaming_refreshes_and_drops_the_rest(world):
    source, target = world.source(), world.target()
    tool = world.gunyu(source, target)
    source.client().set("k", 1)
    wait_passed(source, target)
    own = wait_until(lambda: target.client().keys("gunyu:position:*"), "a position")[0]
    record = target.client().get(own)
    day_ago = int((time.time() - 86400) * 1000)
    fields = [b"time=%d" % day_ago if f.startswith(b"time=") else f for f in record.split(b" ")]
    stale = b"gunyu:position:" + b"f" * 40
    target.client().set(stale, b" ".join(fields))
    code, _ = tool.post("/storage/gc")
    assert code == 200
    wait_until(lambda: not target.client().exists(stale), "the stale position is gone")
    assert target.client().exists(own)


def test_bug_48_expiries_are_absolute_however_late_they_are_applied(world):
    source, target = world.source(), world.target()
    at = int(time.time() * 1000) + 600_000
    source.raw().many([("SET", "string", "v", "PXAT", at), ("RPUSH", "list", "v"), ("PEXPIREAT", "list", at + 1)])
    tool = world.gunyu(source, target)
    wait_passed(source, target)
    tool.act("pause")
    source.raw().many([("SET", "later", "v", "PX", 600_000), ("HSET", "hash", "f", "v"), ("EXPIRE", "hash", 600)])
    expected = {k: source.raw().call("PEXPIRETIME", k) for k in ("string", "list", "later", "hash")}
    time.sleep(1.5)  # the delay itself is what is tested
    tool.act("resume")
    wait_passed(source, target)
    wait_until(lambda: {k: target.raw().call("PEXPIRETIME", k) for k in expected} == expected, "the same expiries")
    assert expected["string"] == at

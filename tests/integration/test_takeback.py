# SPDX-License-Identifier: Apache-2.0
"""Of a snapshot that was loaded in part only, what the source no longer has goes from the target again."""

import os
import shutil

import pytest

from compare import compare, wait_equal, wait_passed
from harness import wait_until
from test_cluster_target import SpreadLoad
from test_crash import PATIENT
from test_faults import die_at

SLOW = 1000  # microseconds a key: the snapshot takes some seconds


def fill(source, part, db=0):
    raw = source.raw(db)
    raw.many(("SET", f"{part}:{i}", b"v" * 100) for i in range(3000))
    raw.many(("RPUSH", f"{part}:list:{i}", *range(20)) for i in range(300))
    raw.close()


def masters_of(source):
    return source.masters() if hasattr(source, "masters") else [source]


def slow_down(source, yes=True):
    for node in masters_of(source):
        node.client().config_set("rdb-key-save-delay", SLOW if yes else 0)


def of_part(server, part, db=0):
    return set(server.client(db).scan_iter(match=f"{part}:*", count=1000))


def wait_half_loaded(source, target, part, db=0):
    """Some keys of that part are at the target while others are still to come."""
    wait_until(lambda: len(of_part(target, part, db)) >= 50, "a part of the snapshot at the target")
    assert all(node.info("persistence")["rdb_bgsave_in_progress"] for node in masters_of(source)), "all has arrived already"


def delete_some(source, target, part, db=0):
    """At the source, of what the target has by now; returns them."""
    gone = sorted(of_part(target, part, db))[::3]
    assert gone and source.raw(db).many(("DEL", key) for key in gone) == [1] * len(gone)
    return gone


@pytest.fixture(params=("server", "cluster"))
def sides(request, world):
    source = world.source()
    target = world.target() if request.param == "server" else world.cluster("target", masters=3)
    fill(source, "a")
    slow_down(source)
    return source, target


def test_the_tool_is_killed_again_and_again_while_a_snapshot_arrives(world, sides):
    source, target = sides
    tool = world.gunyu(source, target, wait=False)
    for part, following in (("a", "b"), ("b", "c"), ("c", "d")):
        wait_half_loaded(source, target, part)
        tool.kill()
        delete_some(source, target, part)
        fill(source, following)
        tool.start(wait=False)
    slow_down(source, False)
    tool.restart()
    wait_equal(source, target, timeout=PATIENT)
    assert not list(tool.journal.rglob("aside-*"))


POINTS = ("journal.begun:1", "journal.aside:1", "takeback.begun:1", "takeback.key:1", "takeback.key:40", "takeback.confirmed:1",
          "takeback.done:1", "load.key:1")


@pytest.mark.parametrize("point", POINTS)
def test_the_tool_dies_again_while_it_takes_back(world, sides, point):
    source, target = sides
    tool = world.gunyu(source, target, wait=False)
    wait_half_loaded(source, target, "a")
    tool.kill()
    delete_some(source, target, "a")
    with SpreadLoad(source):
        die_at(tool, point)
        slow_down(source, False)
        tool.start(wait=False)
    wait_equal(source, target, timeout=PATIENT)


def test_the_link_is_cut_in_the_middle_of_a_snapshot(world, sides):
    source, target = sides
    front = world.proxy(source)
    tool = world.gunyu(front, target)
    wait_half_loaded(source, target, "a")
    front.refusing = True
    front.cut()
    delete_some(source, target, "a")
    slow_down(source, False)
    front.refusing = False
    wait_equal(source, target, timeout=PATIENT)
    assert tool.status()[0]["Counters"]["FullSyncs"] == 2


def test_a_full_sync_is_forced_while_another_one_is_loaded(world, sides):
    source, target = sides
    tool = world.gunyu(source, target)
    wait_half_loaded(source, target, "a")
    delete_some(source, target, "a")
    slow_down(source, False)
    tool.act("fullsync")
    wait_equal(source, target, timeout=PATIENT)


def test_a_snapshot_that_has_arrived_and_is_not_loaded_whole_is_taken_back(world):
    """The source's backlog does not reach back to it, so what is left of the load is of no use."""
    source, target = world.source(repl_backlog_size="16kb"), world.target()
    fill(source, "a")
    back = world.proxy(target)
    back.rate = 100_000
    tool = world.gunyu(source, back)
    wait_until(lambda: tool.status()[0]["Link"] == "stream" and of_part(target, "a"), "the snapshot, a part of it loaded")
    tool.kill()
    delete_some(source, target, "a")
    source.raw().many(("SET", "overwritten", b"x" * 1000) for _ in range(2000))
    tool.start()
    wait_until(lambda: source.full_syncs() == 2, "another full sync")
    back.rate = 0
    wait_equal(source, target, timeout=PATIENT)


def test_each_shard_of_a_source_takes_back_what_it_brought(world):
    source, target = world.cluster("source", masters=3), world.target()
    fill(source, "a")
    slow_down(source)
    tool = world.gunyu(source, target, wait=False)
    wait_half_loaded(source, target, "a")
    tool.kill()
    delete_some(source, target, "a")
    slow_down(source, False)
    tool.start()
    wait_equal(source, target, timeout=PATIENT)


@pytest.mark.parametrize("cut", (False, True))
def test_what_is_kept_may_fill_the_journal(world, pair, cut):
    """The next snapshot has room only when that is taken back, and gets whole only then."""
    source, target = pair
    source.raw().many(("SET", f"a:{i}", os.urandom(500)) for i in range(20000))
    back = world.proxy(target)
    back.rate = 100_000
    tool = world.gunyu(source, back, config={"channel": {"storer": {"maxSize": 4194304, "logSize": 262144}}})
    wait_until(lambda: tool.status()[0]["JournalFull"] and of_part(target, "a"), "a full journal, a part of it loaded")
    tool.kill()
    delete_some(source, target, "a")
    back.rate = 30_000 if cut else 0
    tool.start()
    if cut:
        wait_until(lambda: "taking back" in tool.text(), "the taking back")
        assert back.cut() and "keys are taken back\n" not in tool.text()
    back.rate = 0
    wait_equal(source, target)  # long before the source gives up on us
    assert not list(tool.journal.rglob("aside-*"))


def test_a_snapshot_that_was_loaded_whole_is_not_taken_back(world, pair):
    source, target = pair
    fill(source, "a")
    tool = world.gunyu(source, target)
    wait_equal(source, target)
    tool.act("fullsync")
    wait_until(lambda: source.full_syncs() == 2, "another full sync")
    wait_passed(source, target)
    assert "taking back" not in tool.text() and not list(tool.journal.rglob("aside-*"))


def test_filters_and_dbs_hold_for_what_is_taken_back(world, pair):
    source, target = pair
    fill(source, "a", 3)
    slow_down(source)
    target.raw(5).many(("SET", f"b:{i}", "theirs") for i in range(3300))
    raw = source.raw(3)
    raw.many(("SET", f"b:{i}", "ours") for i in range(3000))
    tool = world.gunyu(source, target, wait=False, config={
        "filter": {"keyFilter": {"prefixKeyBlacklist": ["b:"]}}, "output": {"redis": {}, "replay": {"targetDbMap": {"3": 5}}}})
    wait_half_loaded(source, target, "a", 5)
    tool.kill()
    for key in sorted(of_part(target, "a", 5))[::3]:
        assert raw.call("DEL", key) == 1
    raw.many(("DEL", f"b:{i}") for i in range(3000))
    slow_down(source, False)
    tool.start()
    wait_passed(source, target)
    wait_until(lambda: of_part(target, "a", 5) == of_part(source, "a", 3), "what the source no longer has is gone")
    assert len(of_part(target, "b", 5)) == 3300, "keys were deleted that had never come from the source"


def test_nothing_is_taken_back_where_existing_keys_are_left_alone(world, pair):
    source, target = pair
    fill(source, "a")
    slow_down(source)
    target.raw().many(("SET", f"a:{i}", "theirs") for i in range(3000))
    tool = world.gunyu(source, target, wait=False, config={"output": {"replay": {"keyExists": "ignore"}}})
    wait_until(lambda: of_part(target, "a:list"), "a part of the snapshot at the target")
    tool.kill()
    source.raw().many(("DEL", f"a:{i}") for i in range(3000))
    slow_down(source, False)
    tool.start()
    wait_passed(source, target)
    assert len(target.client().keys("a:[0-9]*")) == 3000


def test_flushall_takes_the_place_of_taking_back(world, pair):
    source, target = pair
    fill(source, "a")
    slow_down(source)
    tool = world.gunyu(source, target, wait=False, config={"output": {"replay": {"fullSyncFlush": "flushall"}}})
    wait_half_loaded(source, target, "a")
    tool.kill()
    delete_some(source, target, "a")
    slow_down(source, False)
    tool.start()
    wait_equal(source, target)
    assert "taking back" not in tool.text() and not list(tool.journal.rglob("aside-*"))


def lose_the_journal(world, source, target):
    """Of a half-loaded snapshot; returns the tool, and what is deleted at the source."""
    fill(source, "a")
    slow_down(source)
    tool = world.gunyu(source, target, wait=False)
    wait_half_loaded(source, target, "a")
    tool.kill()
    gone = delete_some(source, target, "a")
    shutil.rmtree(tool.journal)
    slow_down(source, False)
    return tool, gone


def test_without_a_journal_the_stream_of_the_source_tells_what_was_deleted(world, pair):
    source, target = pair
    tool, _ = lose_the_journal(world, source, target)
    tool.start()
    wait_equal(source, target)


def test_a_part_that_nothing_is_known_of_any_more_is_named(world):
    source, target = world.source(repl_backlog_size="16kb"), world.target()
    tool, gone = lose_the_journal(world, source, target)
    source.raw().many(("SET", "overwritten", b"x" * 1000) for _ in range(100))
    tool.start()
    wait_passed(source, target)
    assert len(compare(source, target, limit=10000)) == len(gone)
    assert "may stay" in tool.text()


@pytest.fixture(params=("server", "cluster"))
def filled(request, world):
    source = world.source()
    target = world.target() if request.param == "server" else world.cluster("target", masters=3)
    fill(source, "a")
    return source, target


def test_a_full_sync_that_is_asked_for_skips_no_deletion(world, filled):
    source, target = filled
    tool = world.gunyu(source, target)
    wait_equal(source, target)
    tool.act("pause")
    assert source.raw().many(("DEL", f"a:{i}") for i in range(100)) == [1] * 100
    reached = source.info("replication")["master_repl_offset"]
    wait_until(lambda: source.replica_offset() >= reached, "the journal has them")
    tool.act("fullsync")
    wait_until(lambda: source.full_syncs() == 2, "the full sync")
    tool.act("resume")
    wait_equal(source, target)


def test_full_syncs_that_are_asked_for_under_load(world, filled):
    source, target = filled
    tool = world.gunyu(source, target)
    wait_equal(source, target)
    with SpreadLoad(source):
        for i in range(2, 6):
            tool.act("fullsync")
            wait_until(lambda n=i: source.full_syncs() >= n, "the full sync")
            wait_until(lambda: tool.status()[0]["Phase"] == "streaming", "the stream", 60)
    wait_equal(source, target, timeout=PATIENT)

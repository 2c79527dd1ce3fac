# SPDX-License-Identifier: Apache-2.0
"""Full sync and live stream between two servers."""

import os

import pytest

from compare import compare, wait_equal, wait_passed
from dataset import load_everything, mutate
from harness import wait_until

# Writers and readers of the file formats that differ most. A version that cannot be had is skipped.
VERSIONS = [("redis-6", "redis-6"), ("redis-6", "valkey-9"), ("redis-7", "redis-8"), ("redis-7", "valkey-8"), ("redis-8", "redis-8"),
            ("valkey-8.0", "valkey-8"), ("valkey-8", "valkey-9"),
            ("valkey-9", "valkey-9"), ("redis-next", "redis-next")]


def test_every_type_and_live_writes_end_equal(world, pair):
    source, target = pair
    load_everything(source)
    mutate(source, seed=11, n=500)
    world.gunyu(source, target)
    mutate(source, seed=12, n=3000)
    wait_equal(source, target)
    mutate(source, seed=13, n=3000)
    wait_equal(source, target)


def test_full_sync_of_a_quiet_source_is_exact(world, pair):
    source, target = pair
    load_everything(source)
    world.gunyu(source, target)
    wait_equal(source, target, static=True)


def test_swapdb_and_flush_in_the_stream_end_equal(world, pair):
    source, target = pair
    load_everything(source)
    world.gunyu(source, target)
    wait_equal(source, target)
    mutate(source, seed=21, n=2000, swapdb=True, flush=True)
    source.raw(3).many([("SET", "left", "1"), ("SWAPDB", 3, 9), ("FLUSHDB",), ("SET", "after", "2")])
    wait_equal(source, target)


def test_functions_follow(world, pair):
    source, target = pair
    if not source.has("function") or not target.has("function"):
        pytest.skip("functions need Redis 7")
    load_everything(source, dbs=(0,))
    world.gunyu(source, target)
    wait_equal(source, target)
    code = "#!lua name=later\nredis.register_function('f', function() return 1 end)"
    assert source.raw().call("FUNCTION", "LOAD", code) == b"later"
    wait_equal(source, target)
    source.raw().many([("FUNCTION", "DELETE", "gunyutest")])
    wait_equal(source, target)
    assert target.raw().call("FCALL", "f", 0) == 1


def test_from_to_on_the_command_line(world, pair):
    source, target = pair
    load_everything(source, dbs=(0, 5))
    tool = world.gunyu(source, target, start=False)
    tool.args = ["sync", "--from", source.uri, "--to", target.uri, f"--sync.server.listen=127.0.0.1:{tool.port}",
                 f"--sync.channel.storer.dirPath={tool.journal}"]
    tool.start()
    wait_equal(source, target)
    assert tool.stop() == 0


def test_flags_of_redisgunyu(world, pair):
    source, target = pair
    source.client().set("k", "v")
    tool = world.gunyu(source, target, start=False)
    tool.args = ["-cmd=sync", f"--sync.input.redis.addresses={source.address}", f"--sync.output.redis.addresses={target.address}",
                 f"--sync.server.listen=127.0.0.1:{tool.port}", f"--sync.channel.storer.dirPath={tool.journal}"]
    tool.start()
    wait_equal(source, target)


@pytest.mark.parametrize("channel", ("storer", "memory"))
def test_the_smallest_journal_passes_a_bigger_snapshot_on(world, pair, channel):
    source, target = pair
    source.raw().many(("SET", f"big:{i}", os.urandom(20000)) for i in range(500))
    world.gunyu(source, target, config={"channel": {"type": channel, "storer": None, channel: {"maxSize": 1 << 20}}})
    wait_equal(source, target)
    mutate(source, seed=32, n=3000)
    wait_equal(source, target)


def test_memory_channel(world, pair):
    source, target = pair
    load_everything(source)
    world.gunyu(source, target, config={"channel": {"type": "memory", "storer": None, "memory": {"maxSize": 67108864}}})
    mutate(source, seed=31, n=2000)
    wait_equal(source, target)


def test_password_on_both_sides(world):
    source, target = world.source(requirepass="sesame one"), world.target(requirepass="sesame/two")
    load_everything(source, dbs=(0,))
    tool = world.gunyu(source, target)
    wait_equal(source, target)
    assert "sesame" not in tool.text()


def test_wait_on_the_source_counts_the_tool(world, pair):
    source, target = pair
    world.gunyu(source, target)
    wait_passed(source, target)
    client = source.client()
    client.set("k", 1)
    assert client.execute_command("WAIT", 1, 3000) == 1


def test_resume_after_stop_is_partial(world, pair):
    source, target = pair
    load_everything(source)
    tool = world.gunyu(source, target)
    wait_equal(source, target)
    assert source.full_syncs() == 1
    for seed in (41, 42):
        assert tool.stop() == 0
        mutate(source, seed=seed, n=1500)
        tool.start()
        wait_equal(source, target)
    assert source.full_syncs() == 1


def test_resume_without_the_journal_is_partial(world, pair):
    """The target's position is the authority; the source's backlog serves the rest."""
    source, target = pair
    load_everything(source)
    tool = world.gunyu(source, target)
    wait_equal(source, target)
    assert tool.stop() == 0
    tool.journal.rename(tool.journal.with_name("away"))
    mutate(source, seed=43, n=1500)
    tool.start()
    wait_equal(source, target)
    assert source.full_syncs() == 1


def test_gap_beyond_the_backlog_is_a_full_sync_and_says_so(world):
    source, target = world.source(repl_backlog_size="16kb"), world.target()
    load_everything(source, dbs=(0,))
    tool = world.gunyu(source, target)
    wait_equal(source, target)
    assert tool.stop() == 0
    source.raw().many(("SET", f"gap:{i}", b"x" * 500) for i in range(2000))
    source.client().delete("str:1")
    tool.start()
    wait_passed(source, target)
    assert source.full_syncs() == 2
    wait_equal(source, target, ignore=(b"str:1",))
    assert "full sync" in tool.text().lower()


def test_bug_50_source_down_at_start_is_a_state(world):
    target = world.target()
    source = world.source(start=False)
    tool = world.gunyu(source, target)
    wait_until(lambda: tool.status()[0]["State"] in ("ready_run", "run"), "a state for a lane without a source")
    assert tool.alive()
    source.start()
    load_everything(source, dbs=(0,))
    wait_equal(source, target)


def test_bug_50_target_down_at_start_is_a_state(world):
    source = world.source()
    target = world.target(start=False)
    load_everything(source, dbs=(0,))
    tool = world.gunyu(source, target)
    wait_until(lambda: tool.status()[0]["State"] in ("ready_run", "run"), "a state for a lane without a target")
    target.start()
    wait_equal(source, target)


def test_two_databases_resume_in_the_right_one(world, pair):
    """bug_2 and bug_3: the selected db is part of the position."""
    source, target = pair
    tool = world.gunyu(source, target)
    wait_passed(source, target)
    seven = source.raw(7)
    for i in range(5):
        seven.many([("INCR", "n"), ("RPUSH", "l", i)])
        wait_until(lambda: target.client(7).llen("l") == i + 1, "the write of db 7 at the target")
        tool.restart()
        # The stream has no SELECT here: the source still has db 7 selected for its replicas.
        seven.many([("APPEND", "a", i)])
        wait_until(lambda: target.client(7).strlen("a") == i + 1, "the write after the restart in db 7")
    wait_equal(source, target)


@pytest.mark.parametrize("mode", ["replace", "ignore"])
@pytest.mark.parametrize("restore", [True, False])
def test_key_exists(world, pair, mode, restore):
    source, target = pair
    for raw, who in ((source.raw(), "source"), (target.raw(), "target")):
        raw.many([("SET", "s", who), ("RPUSH", "l", who), ("HSET", "h", who, 1), ("SADD", "set", who), ("ZADD", "z", 1, who),
                  ("XADD", "x", "5-5" if who == "source" else "4-4", "f", who)])
        raw.many([("PEXPIRE", "h", 50000000)] if who == "target" else [("SET", "fresh", who)])
    world.gunyu(source, target, config={"output": {"replay": {"keyExists": mode, "replayRdbEnableRestore": restore}}})
    wait_passed(source, target)
    if mode == "replace":
        wait_equal(source, target)
        return
    # bug_10: nothing is merged into a key that is there.
    client = target.client()
    assert client.get("fresh") == b"source"
    assert client.get("s") == b"target"
    assert client.lrange("l", 0, -1) == [b"target"]
    assert client.hgetall("h") == {b"target": b"1"}
    assert client.smembers("set") == {b"target"}
    assert client.zrange("z", 0, -1) == [b"target"]
    assert client.xlen("x") == 1
    assert client.pttl("h") > 0


def test_key_exists_error_stops_with_the_key_untouched(world, pair):
    source, target = pair
    source.client().set("taken", "source")
    target.client().set("taken", "target")
    tool = world.gunyu(source, target, config={"output": {"replay": {"keyExists": "error"}}})
    tool.wait_state("error")
    assert target.client().get("taken") == b"target"
    assert "taken" in tool.text()


def test_filters(world, pair):
    source, target = pair

    def write(tag):
        for db in (0, 2):
            source.raw(db).many([("SET", f"keep:{tag}", 1), ("SET", f"keep:secret:{tag}", 1), ("SET", f"other:{tag}", 1),
                                 ("MSET", f"keep:m:{tag}", 1, f"other:m:{tag}", 1), ("SADD", f"keep:set:{tag}", 1),
                                 ("DEL", f"keep:none:{tag}", f"other:{tag}:none")])

    write("before")
    tool = world.gunyu(source, target, config={"output": {"filter": {
        "dbBlacklist": [2], "commandBlacklist": ["sadd"],
        "keyFilter": {"prefixKeyWhitelist": ["keep:"], "prefixKeyBlacklist": ["keep:secret:"]}}}})
    wait_passed(source, target, key="keep:mark")
    write("after")
    wait_passed(source, target, key="keep:mark")
    got = {k for k in target.client().scan_iter() if not k.startswith((b"gunyu:", b"redis-gunyu-"))}
    assert got == {b"keep:before", b"keep:m:before", b"keep:set:before", b"keep:after", b"keep:m:after", b"keep:mark"}
    assert target.client(2).dbsize() == 0
    wait_until(lambda: tool.metric("output_filter_cmd") > 0, "filtered commands are counted")
    assert tool.metric("output_rdb_key_filter") > 0


def test_bug_20_filtered_traffic_moves_the_position(world, pair):
    source, target = pair
    source.client().set("keep:1", 1)
    tool = world.gunyu(source, target, config={"output": {"filter": {"keyFilter": {"prefixKeyWhitelist": ["keep:"]}}}})
    wait_passed(source, target, key="keep:mark")
    before = tool.metric("output_ack_offset")
    source.raw().many(("SET", f"other:{i}", b"x" * 100) for i in range(1000))
    wait_until(lambda: tool.metric("output_ack_offset") > before + 100000, "the position passes what was filtered")


def test_db_map(world, pair):
    source, target = pair
    load_everything(source, dbs=(0, 1))
    # Two dbs change places, so that each target db has one source and FLUSHDB can be meant.
    world.gunyu(source, target, config={"output": {"replay": {"targetDbMap": {"1": 5, "5": 1}}}})
    wait_passed(source, target, db=1, to_db=5)
    source.raw(1).many([("RPUSH", "l", 1), ("MOVE", "str:1", 0), ("COPY", "str:2", "copied", "DB", 0), ("FLUSHDB",), ("SET", "k", 1)])
    source.raw(0).many([("COPY", "str:3", "copied", "DB", 1), ("SET", "k", 0)])
    wait_passed(source, target, db=1, to_db=5)
    wait_until(lambda: compare(source, target, db_map={1: 5, 5: 1}) == [], "db 1 is db 5 of the target")
    assert target.client(1).dbsize() == 0


def test_flush_of_a_db_that_shares_its_target_is_refused(world, pair):
    source, target = pair
    source.client(1).set("one", 1)
    source.client(5).set("five", 5)
    tool = world.gunyu(source, target, config={"output": {"replay": {"targetDbMap": {"1": 5}}}})
    wait_until(lambda: target.client(5).dbsize() >= 2, "both dbs in one")
    source.client(1).flushdb()
    tool.wait_state("error")
    assert target.client(5).get("five") == b"5"
    assert "FLUSHDB" in tool.status()[0]["Error"]


def test_target_db(world, pair):
    source, target = pair
    source.client(0).set("zero", 0)
    source.client(4).set("four", 4)
    world.gunyu(source, target, config={"output": {"replay": {"resumeFromBreakPoint": False, "targetDb": 7}}})
    wait_passed(source, target, db=4, to_db=7)
    assert target.client(7).get("zero") == b"0" and target.client(7).get("four") == b"4"
    assert target.client(0).get("zero") is None


def test_stream_split_at_every_small_piece(world, pair):
    source, target = pair
    load_everything(source, dbs=(0,))
    front = world.proxy(source)
    tool = world.gunyu(front, target)
    wait_passed(source, target)
    for piece in (1, 2, 3, 7):
        front.piece = piece
        mutate(source, seed=50 + piece, n=60)
        source.raw().many([("SET", "big", b"b" * 3000)])
        wait_passed(source, target, timeout=60)
    wait_equal(source, target, timeout=60)
    assert tool.alive()


def test_key_bigger_than_the_bulk_limit_is_built_in_chunks(world, pair):
    source, target = pair
    raw = source.raw()
    for i in range(40):
        raw.many([("RPUSH", "l", *(b"%d:%d" % (i, j) + b"x" * 100 for j in range(500))),
                  ("HSET", "h", *(x for j in range(500) for x in (f"{i}:{j}", b"y" * 100)))])
    raw.many([("PEXPIRE", "h", 70000000)])
    world.gunyu(source, target, config={"output": {"replay": {"maxProtoBulkLen": 100000}}})
    wait_equal(source, target)


@pytest.mark.parametrize("seed", range(int(os.environ.get("GUNYU_SYNC_SEEDS", "2"))))
def test_writes_during_the_full_sync(world, pair, seed):
    source, target = pair
    load_everything(source)
    source.raw().many(("SET", f"bulk:{i}", b"x" * 200) for i in range(30000))
    back = world.proxy(target)
    back.rate = 4_000_000
    world.gunyu(source, back)
    for part in range(10):
        mutate(source, seed=seed * 100 + part, n=300)
    wait_equal(source, target, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("from_version,to_version", VERSIONS)
def test_versions(world, from_version, to_version):
    source = world.server("source", version=from_version)
    target = world.server("target", version=to_version)
    load_everything(source)
    world.gunyu(source, target)
    mutate(source, seed=60, n=3000)
    wait_equal(source, target)
    mutate(source, seed=61, n=3000)
    wait_equal(source, target)

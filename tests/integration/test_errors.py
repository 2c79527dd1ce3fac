# SPDX-License-Identifier: Apache-2.0
"""What the target refuses: waited for, stopped at, or left out, but never lost in silence."""

import json
import subprocess

import pytest

from compare import wait_equal
from harness import GUNYU, wait_until

MODES = [True, False]  # replayTransaction


def replay(**options):
    return {"output": {"replay": options}}


def dead_letters(tool):
    return tool.journal / (tool.source.address.replace(":", "_") + ".dead")


def cli(*args):
    return subprocess.run([GUNYU, "deadletter", *map(str, args)], capture_output=True, text=True, check=False)


def listed(tool):
    run = cli("list", dead_letters(tool), "json")
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def count(tool, name="DeadLetters"):
    return tool.status()[0]["Counters"][name]


def spoil(source, target, key="spoilt"):
    """The next INCR of the key can never succeed at the target."""
    source.raw().call("SET", key, 1)
    wait_until(lambda: target.client().get(key) == b"1", "the key")
    target.raw().many([("DEL", key), ("RPUSH", key, "x")])


def start(world, source, target, **options):
    """Past the snapshot, so that what is written next comes as commands."""
    tool = world.gunyu(source, target, config=replay(**options))
    wait_until(lambda: tool.status()[0]["Phase"] == "streaming", "streaming")
    return tool


def refusing(world, command, **options):
    file = world.dir / "renamed.conf"
    file.write_text(f'rename-command {command} ""\n', encoding="utf-8")
    return world.target(include=str(file), **options)


@pytest.mark.parametrize("transaction", MODES)
def test_bug_4_a_refused_command_does_not_repeat_the_others(world, pair, transaction):
    source, target = pair
    tool = start(world, source, target, onError="skip", replayTransaction=transaction)
    spoil(source, target)
    source.raw().many([("INCR", "n"), ("INCR", "spoilt"), ("INCR", "n"), ("RPUSH", "l", "a"), ("INCR", "n")])
    wait_until(lambda: target.client().get("n") == b"3", "what was around it")
    source.raw().many([("INCR", "n"), ("RPUSH", "l", "b")])
    wait_until(lambda: target.client().lrange("l", 0, -1) == [b"a", b"b"], "what came later")
    assert target.client().get("n") == b"4"
    assert tool.state() == "run"
    wait_until(lambda: count(tool) == 1, "counted")
    [entry] = listed(tool)
    assert "WRONGTYPE" in json.dumps(entry) and "spoilt" in json.dumps(entry)


@pytest.mark.parametrize("transaction", MODES)
def test_bug_5_a_command_that_fails_at_run_time_stops_the_lane_and_is_kept(world, pair, transaction):
    source, target = pair
    tool = start(world, source, target, replayTransaction=transaction)
    spoil(source, target)
    source.raw().many([("INCR", "n"), ("INCR", "spoilt"), ("INCR", "n")])
    tool.wait_state("error")
    status = tool.status()[0]
    assert "WRONGTYPE" in status["Error"] and status["State"] == "stop"
    assert len(listed(tool)) == 1
    source.raw().call("INCR", "n")
    tool.act("resume")
    wait_until(lambda: target.client().get("n") == b"3", "the lane goes on")
    assert tool.state() == "run" and tool.status()[0]["Error"] == ""
    assert len(listed(tool)) == 1, "a resume does not keep it twice"


def test_bug_5_a_command_that_the_target_does_not_know_stops_the_lane(world):
    source, target = world.source(), refusing(world, "APPEND")
    tool = start(world, source, target)
    source.raw().many([("INCR", "n"), ("APPEND", "a", "x"), ("INCR", "n")])
    tool.wait_state("error")
    assert "unknown command" in tool.status()[0]["Error"]
    assert target.client().get("n") in (None, b"1")
    tool.act("resume")
    tool.wait_state("error")
    tool.act("resume", more="&skip=yes")
    wait_until(lambda: target.client().get("n") == b"2", "the lane goes on behind it")
    assert tool.state() == "run"
    [entry] = listed(tool)
    assert "APPEND" in json.dumps(entry)


@pytest.mark.parametrize("transaction", MODES)
def test_bug_5_an_unknown_command_is_left_out_when_so_configured(world, transaction):
    source, target = world.source(), refusing(world, "APPEND")
    tool = start(world, source, target, onError="skip", replayTransaction=transaction)
    for i in range(3):
        source.raw().many([("INCR", "n"), ("APPEND", "a", "x"), ("INCR", "n")])
    wait_until(lambda: target.client().get("n") == b"6", "the rest")
    wait_until(lambda: count(tool) == 3, "each is counted")
    assert tool.state() == "run"
    assert target.client().get("a") is None
    tool.restart()
    source.raw().call("INCR", "n")
    wait_until(lambda: target.client().get("n") == b"7", "after a restart")
    assert len(listed(tool)) == 3


def test_a_source_transaction_with_a_refused_command_is_never_applied_in_part(world):
    source, target = world.source(), refusing(world, "APPEND")
    tool = start(world, source, target)
    source.raw().many([("MULTI",), ("INCR", "n"), ("APPEND", "a", "x"), ("INCR", "m"), ("EXEC",)])
    tool.wait_state("error")
    assert target.client().get("n") is None and target.client().get("m") is None


@pytest.mark.parametrize("transaction", MODES)
def test_bug_6_a_full_target_is_waited_for_and_nothing_is_doubled(world, pair, transaction):
    source, target = pair
    tool = start(world, source, target, replayTransaction=transaction)
    source.raw().many([("INCR", "n"), ("RPUSH", "l", 0)])
    wait_equal(source, target)
    for round_ in range(3):
        target.client().config_set("maxmemory", 1)
        source.raw().many([command for i in range(100) for command in
                           (("INCR", "n"), ("RPUSH", "l", i), ("APPEND", "a", "x"), ("DEL", "gone"))])
        wait_until(lambda: "OOM" in tool.status()[0]["Error"], "the reason in the status")
        assert tool.state() == "run"
        target.client().config_set("maxmemory", 0)
        wait_equal(source, target)
    assert target.client().get("n") == b"301"
    assert count(tool) == 0
    wait_until(lambda: tool.status()[0]["Error"] == "", "no error any more")


def test_a_target_that_became_a_replica_is_waited_for(world, pair):
    source, target = pair
    other = world.server("master")
    tool = start(world, source, target)
    source.raw().call("INCR", "n")
    wait_equal(source, target)
    # Without a link to its master it keeps its data and refuses writes.
    other.freeze()
    target.client().replicaof("127.0.0.1", other.port)
    source.raw().many([("INCR", "n")] * 10)
    wait_until(lambda: "READONLY" in tool.status()[0]["Error"], "the reason")
    assert tool.state() == "run"
    target.client().replicaof("NO", "ONE")
    other.thaw()
    wait_equal(source, target)


def test_dead_letters_are_listed_retried_and_dropped(world, pair):
    source, target = pair
    tool = start(world, source, target, onError="skip")
    spoil(source, target, "one")
    spoil(source, target, "two")
    source.raw().many([("INCR", "one"), ("INCR", "two"), ("SET", "end", 1)])
    wait_until(lambda: target.client().get("end") and count(tool) == 2, "both kept")
    text = cli("list", dead_letters(tool))
    assert text.returncode == 0 and "one" in text.stdout and "WRONGTYPE" in text.stdout
    target.raw().many([("DEL", "one"), ("SET", "one", 1)])
    run = cli("retry", dead_letters(tool), "--to", target.uri)
    assert target.client().get("one") == b"2", run.stdout + run.stderr
    [left] = listed(tool)
    assert "two" in json.dumps(left)
    wait_until(lambda: tool.status()[0]["DeadLetters"] == 1, "the status knows what the command line did")
    tool.restart()
    wait_until(lambda: tool.status()[0]["DeadLetters"] == 1, "letters of an earlier process count")
    run = cli("drop", dead_letters(tool))
    assert run.returncode == 0 and listed(tool) == []
    wait_until(lambda: tool.status()[0]["DeadLetters"] == 0, "nothing is kept")


@pytest.mark.parametrize("args", [[], ["list"], ["drop"], ["retry", "FILE"], ["eat", "FILE"], ["list", "FILE", "x"],
                                  ["drop", "FILE", "1", "2"], ["list", "FILE", "json", "more"]])
def test_wrong_use_of_the_deadletter_command_is_refused(tmp_path, args):
    file = tmp_path / "x.dead"
    file.write_bytes(b"")
    run = cli(*[file if a == "FILE" else a for a in args])
    assert run.returncode == 2 and "usage" in run.stderr
    assert file.read_bytes() == b""


def test_a_missing_deadletter_file_is_named(tmp_path):
    run = cli("list", tmp_path / "none.dead")
    assert run.returncode == 1 and "none.dead" in run.stderr


@pytest.mark.parametrize("transaction", MODES)
def test_what_cannot_be_kept_is_not_skipped(world, pair, transaction):
    """No room for the dead letter: the lane stops instead of losing it."""
    source, target = pair
    tool = world.gunyu(source, target, config=replay(onError="skip", deadLetterFile=str(world.dir / "no" / "such" / "file"),
                                                     replayTransaction=transaction))
    spoil(source, target)
    source.raw().call("INCR", "spoilt")
    tool.wait_state("error")
    assert "no/such/file" in tool.status()[0]["Error"]


def strings(source, n=500):
    for db in (0, 3):
        raw = source.raw(db)
        raw.many([("SET", f"s:{i}", f"value {i}") for i in range(n)] + [("SET", f"t:{i}", i, "PX", 10 ** 8) for i in range(20)])
        raw.close()


def calls(server, command):
    return server.client().info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"]


def test_a_snapshots_strings_go_many_in_a_command(world, pair):
    source, target = pair
    strings(source)
    world.gunyu(source, target)
    wait_equal(source, target)
    assert 1000 / 32 <= calls(target, "mset") <= 150 and calls(target, "set") < 200


def test_where_mset_is_refused_keys_go_one_by_one(world, pair):
    source = pair[0]
    strings(source)
    target = refusing(world, "MSET")
    tool = world.gunyu(source, target)
    wait_equal(source, target)
    assert "keys go one by one" in tool.text()


def test_a_key_that_may_not_be_set_is_named_though_it_came_with_others(world, pair):
    source, target = pair
    strings(source, 100)
    source.client().set("other", 1)
    target.raw().call("ACL", "SETUSER", "sync", "on", ">pw", "+@all", "allchannels", "~s:*", "~t:*", "~gunyu:*")
    tool = world.gunyu(source, target, start=False, config={"output": {"redis": {"userName": "sync", "password": "pw"}}})
    tool.start(wait=False)
    wait_until(lambda: 'key "other" of db 0' in tool.status()[0]["Error"], "the error names it")
    target.raw().call("ACL", "SETUSER", "sync", "~*")
    tool.act("restart")
    wait_equal(source, target)

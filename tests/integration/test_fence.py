# SPDX-License-Identifier: Apache-2.0
"""Two processes with journals of their own and one target: the first is stopped at a chosen place, the second takes
over, the first wakes. The target's own view tells who wrote when."""

import re
import threading
import time

import pytest

from compare import wait_equal, wait_passed
from harness import merged, wait_until
from test_cluster_target import SpreadLoad
from test_crash import DBS, PATIENT, Load
from test_faults import restart_while_the_target_stands

LINE = re.compile(rb'^\+?[0-9.]+ \[\d+ ([^ \]]+)\] "([^"]+)"(.*)$')
NAME = re.compile(rb'"gunyu:[^"]*:(\d+)"')
RECORD = re.compile(rb'^ "gunyu:position:[^"]*" "gunyu/1 [^"]*epoch=(\d+) ')


class View:
    """What each node of the target carries out, and with what epoch."""

    def __init__(self, target):
        self.target = target
        self.writes = {}  # node: [(epoch, line)]
        # A script counts as well, where it is one of ours.
        self.changing = {row[0].lower() for row in target.raw().each()[0].call("COMMAND") if b"write" in row[2]} - {b"eval"}
        self.seen = set()  # marks

    def __enter__(self):
        for at, raw in enumerate(self.target.raw().each()):
            raw.connection.send_command("MONITOR")
            assert raw.read() == b"OK"
            self.writes[at] = []
            threading.Thread(target=self._run, args=(raw, self.writes[at]), daemon=True).start()
        return self

    def __exit__(self, *_):
        """The threads end with the servers."""

    def _run(self, raw, writes):
        epochs = {}
        while True:
            try:
                line = raw.connection.read_response()
            except Exception:  # pylint: disable=broad-exception-caught
                return         # the server has gone
            match = LINE.match(line if isinstance(line, bytes) else line.encode())
            if not match:
                continue
            who, command, rest = match[1], match[2].lower(), match[3]
            named = NAME.search(rest) if command == b"client" else None
            record = RECORD.match(rest) if command == b"set" else None
            if named:
                epochs[who] = int(named[1])
            elif record and who not in epochs:
                pass  # raising the epoch: what the older ones had sent before may still come
            elif record:
                writes.append((int(record[1]), line))
            elif who == b"lua":
                pass
            elif command in self.changing or (command == b"eval" and who in epochs):
                writes.append((epochs.get(who), line))
            elif command == b"ping":
                self.seen.add(rest)

    def catch_up(self):
        """Until all is seen that the nodes have carried out."""
        for at, raw in enumerate(self.target.raw().each()):
            mark = f"mark {at} {time.time()}"
            raw.call("PING", mark)
            wait_until(lambda mark=mark: f' "{mark}"'.encode() in self.seen, "the target's own view", 60)

    def highest(self):
        return max((epoch for writes in self.writes.values() for epoch, _ in writes if epoch), default=0)

    def check(self):
        """Nobody writes after somebody with a higher epoch has."""
        self.catch_up()
        for at, writes in self.writes.items():
            highest = 0
            for epoch, line in writes:
                assert epoch is not None, f"node {at}: by a connection without a name: {line}"
                assert epoch >= highest, f"node {at}: epoch {epoch} after {highest}: {line}"
                highest = epoch


def data(source, cluster):
    for db in (0,) if cluster else DBS:
        raw = source.raw(db)
        raw.many(command for i in range(1500) for command in (
            ("SET", f"s:{i}", b"x" * 300), ("RPUSH", f"l:{i}", *range(20)), ("HSET", f"h:{i}", "f", i, "g", b"y" * 100)))
        raw.close()


def login(mode="sync"):
    return {"output": {"redis": {"userName": "sync", "password": "pw"}, "replay": {"mode": mode}}}


def deny_kill(target, *more):
    for raw in target.raw().each():
        if not target.has("acl"):
            pytest.skip("no ACL")
        assert raw.call("ACL", "SETUSER", "sync", "on", ">pw", "+@all", "allchannels", "~*", "-client|kill", *more) == b"OK"


class Staged(SpreadLoad):
    """With commands that take several steps, over connections of their own."""

    def commands(self):
        yield from super().commands()
        n = self.rng.randrange(50)
        yield "RPUSH", f"queue:{n}", self.taken
        yield "RPOPLPUSH", f"queue:{n}", f"done:{n}"


def fight(world, source, target, point, config, fence="kill"):
    """The first process stops at the point, the second takes over, the first wakes and writes nothing more."""
    cluster = hasattr(target, "masters")
    load = Staged if point.startswith("stage") else SpreadLoad if cluster else Load
    if point.startswith("load"):
        data(source, cluster)
        # The second process, with a journal of its own, cannot know what the first one has brought.
        config = merged(config, {"output": {"replay": {"fullSyncFlush": "flushAll"}}})
    first = world.gunyu(source, target, start=False, config=config)
    first.env = {"GUNYU_FAULT": f"{point}:stop"}
    with View(target) as view:
        first.start(wait=False)
        with load(source):
            wait_until(lambda: f"fault {point.split(':')[0]}: stop" in first.text(), "the first process stops", 30)
            second = world.gunyu(source, target, wait=False, config=config)
            wait_passed(source, target)
            first.thaw()
            wait_until(lambda: first.get("/debug/health")[0] == 200 and first.state() == "error", "the first stands down")
            wait_passed(source, target)
        wait_equal(source, target, timeout=PATIENT)
        assert "replaced: another gunyu has taken over" in first.status()[0]["Error"]
        assert second.state() == "run" and second.status()[0]["Fence"] == fence
        view.check()
        assert view.highest() == 2
    return first, second


@pytest.mark.parametrize("mode", ("sync", "pipeline"))
@pytest.mark.parametrize("point", ("batcher.multi:9", "batcher.body:9", "batcher.exec:9", "batcher.sent:30", "load.key:700"))
def test_a_process_that_wakes_up_replaced_writes_nothing_more(world, pair, point, mode):
    fight(world, *pair, point, {"output": {"replay": {"mode": mode}}})


@pytest.mark.parametrize("point", ("router.exec:90", "pipe.sent:40", "load.key:700", "stage.connected:1", "stage.copied:1", "stage.sent:2"))
def test_a_process_that_wakes_up_replaced_writes_nothing_more_into_a_cluster(world, point):
    fight(world, world.source(), world.cluster("target", masters=3), point, {})


@pytest.mark.parametrize("mode", ("sync", "pipeline"))
@pytest.mark.parametrize("point", ("batcher.body:9", "batcher.exec:9", "batcher.sent:30", "load.key:700"))
def test_where_connections_may_not_be_killed_each_transaction_checks_the_epoch(world, pair, point, mode):
    deny_kill(pair[1])
    first, second = fight(world, *pair, point, login(mode), "check")
    for tool in (first, second):
        assert "does not allow what the fence needs" in tool.text() and "kill" in tool.status()[0]["FenceReason"]


@pytest.mark.parametrize("kind, point", (("server", "sweep.connected:1"), ("cluster", "sweep.connected:1"),
                                         ("cluster", "sweep.connected:5")))
def test_a_sweep_that_goes_on_late_changes_nothing(world, kind, point):
    source, target = world.source(), world.cluster("target", masters=3) if kind == "cluster" else world.target()
    first = world.gunyu(source, target)
    wait_passed(source, target)
    source.raw().many(("SET", f"k:{i}", i, "PX", 50_000 + i) for i in range(3000))
    wait_passed(source, target)
    first.kill()
    first.env = {"GUNYU_FAULT": f"{point}:stop"}
    with View(target) as view:
        first.start(wait=False)
        wait_until(lambda: "fault sweep.connected: stop" in first.text(), "a sweep begins", 30)
        second = world.gunyu(source, target, wait=False)
        wait_equal(source, target)
        first.thaw()
        wait_until(lambda: first.get("/debug/health")[0] == 200 and first.state() == "error", "the first stands down")
        wait_equal(source, target)
        view.check()
        assert second.state() == "run" and view.highest() == 3


@pytest.mark.parametrize("fence", ("kill", "check"))
def test_one_that_begins_takes_over_from_one_that_writes(world, pair, fence):
    source, target = pair
    config = {}
    if fence == "check":
        deny_kill(target)
        config = login()
    with View(target) as view, Load(source, pace=0):
        tools = [world.gunyu(source, target, config=config)]
        for _ in range(3):
            wait_passed(source, target)
            tools.append(world.gunyu(source, target, config=config))
            wait_until(lambda: tools[-2].state() == "error", "the one before stands down")
        wait_passed(source, target)
    wait_equal(source, target, timeout=PATIENT)
    assert [tool.state() for tool in tools] == ["error"] * 3 + ["run"]
    view.check()


def test_resume_takes_the_target_back(world, pair):
    source, target = pair
    first = world.gunyu(source, target)
    wait_passed(source, target)
    second = world.gunyu(source, target)
    with Load(source):
        first.wait_state("error")
        wait_passed(source, target)
        first.act("resume")
        second.wait_state("error")
        wait_passed(source, target)
    wait_equal(source, target, timeout=PATIENT)
    assert first.state() == "run" and source.full_syncs() == 1


def test_late_bytes_of_a_dead_process_that_may_not_be_killed_come_to_nothing(world, pair):
    """The EXEC of the one that died lies in the stopped target's socket when the next one connects."""
    source, target = pair
    deny_kill(target)
    tool = world.gunyu(source, target, config=login("pipeline"))
    wait_equal(source, target)
    restart_while_the_target_stands(source, target, tool, 24)


def test_a_cluster_that_allows_no_kill_is_said_to_rely_on_leases(world):
    source, target = world.source(), world.cluster("target", masters=3)
    deny_kill(target)
    tool = world.gunyu(source, target, config=login())
    with SpreadLoad(source):
        wait_passed(source, target)
        tool.restart()
        wait_passed(source, target)
    wait_equal(source, target, timeout=PATIENT)
    wait_until(lambda: tool.status()[0]["Fence"] == "lease", "the weaker fence")


def test_a_full_sync_with_a_flush_keeps_the_epoch(world, pair):
    source, target = pair
    first = world.gunyu(source, target)
    wait_equal(source, target)
    second = world.gunyu(source, target)
    wait_equal(source, target)
    first.wait_state("error")
    second.act("fullsync", more="&flushdb=yes&flushCommand=flushall")
    wait_until(lambda: source.full_syncs() == 2, "another full sync")
    wait_equal(source, target)
    name = "gunyu:position:" + source.info("replication")["master_replid"]
    assert b" epoch=2 " in target.client().get(name)
    assert target.client().keys("gunyu:position:*") == [name.encode()]


@pytest.mark.parametrize("kind", ("server", "cluster"))
def test_a_position_that_is_stored_between_raising_the_epoch_and_the_kill_counts(world, kind):
    source, target = world.source(), world.cluster("target", masters=3) if kind == "cluster" else world.target()
    with View(target) as view:
        first = world.gunyu(source, target)
        wait_passed(source, target)
        with SpreadLoad(source) if kind == "cluster" else Load(source):
            second = world.gunyu(source, target, start=False)
            second.env = {"GUNYU_FAULT": "lane.raised:1:stop"}
            second.start(wait=False)
            wait_until(lambda: "fault lane.raised: stop" in second.text(), "the second one has raised the epoch")
            name = "gunyu:position:" + source.info("replication")["master_replid"]
            wait_until(lambda: b" epoch=1 " in target.client().get(name), "the first one has stored a position behind it")
            second.thaw()
            first.wait_state("error")
            wait_passed(source, target)
        wait_equal(source, target, timeout=PATIENT)
        view.check()
    assert second.state() == "run"


def test_a_journal_of_an_older_history_is_no_reason_to_stand_down(world, pair):
    """The epoch that it begins with under the old id is lower than the one in the record of the new id."""
    source, target = pair
    config = {"output": {"replay": {"fullSyncFlush": "flushAll"}}}
    first = world.gunyu(source, target, config=config)
    wait_passed(source, target)
    first.kill()
    source.restart()
    second = world.gunyu(source, target, config=config)
    for _ in range(3):
        wait_equal(source, target)
        second.restart()
    wait_equal(source, target)
    second.kill()
    first.start()
    with Load(source):
        wait_passed(source, target)
    wait_equal(source, target)
    assert first.state() == "run"


def test_without_watch_the_first_position_raises_the_epoch(world, pair):
    source, target = pair
    deny_kill(target, "+client|kill", "-watch")
    first = world.gunyu(source, target, config=login())
    wait_passed(source, target)
    second = world.gunyu(source, target, config=login())
    with Load(source):
        first.wait_state("error")
        wait_passed(source, target)
    wait_equal(source, target, timeout=PATIENT)
    row = second.status()[0]
    assert (row["LaneState"], row["Fence"]) == ("run", "kill") and "watch" in row["FenceReason"]

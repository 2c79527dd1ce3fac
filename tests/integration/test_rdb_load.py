# SPDX-License-Identifier: Apache-2.0
"""`gunyu rdb load`: files into a server, whole, resumable, at a bounded rate, and refused clearly."""

import gzip
import json
import os
import pathlib
import re
import subprocess
import time

import pytest

import compare
import dataset
from harness import GUNYU, PATIENCE, wait_until


def start(*args, **more):
    return subprocess.Popen([GUNYU, "rdb", "load", *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, **more)


def load(*args, code=0, env=None, data=None):
    """stdout, stderr of a load that must end with this exit code."""
    run = subprocess.run([GUNYU, "rdb", "load", *map(str, args)], capture_output=True, check=False, input=data,
                         timeout=120 * PATIENCE, env={**os.environ, **(env or {})})
    out, error = run.stdout.decode(), run.stderr.decode()
    assert run.returncode == code, f"exit code {run.returncode}\n{out}\n{error}"
    return out, error


def complaint(*args, code=1, **more):
    """The one line that a failing load says."""
    _, error = load(*args, "--quiet", code=code, **more)
    lines = error.splitlines()
    assert len(lines) == 1 and lines[0].startswith("gunyu rdb load: "), error
    return lines[0]


def file_of(server):
    server.client().save()
    return server.dir / "dump.rdb"


def own_keys(server):
    return [k for k in server.client().keys("gunyu:*")]


@pytest.mark.parametrize("how", [(), ("--no-restore",), ("--window", "4m"), ("--resume",), ("--max-restore", "100")])
def test_every_type_arrives(pair, how):
    source, target = pair
    dataset.load_everything(source)
    target.client().set("hash:small", "in the way")
    load(file_of(source), "--to", target.uri, *how)
    compare.assert_equal(source, target, static=True)
    assert own_keys(target) == []


def test_standard_input_and_compressed_files(pair, tmp_path):
    source, target = pair
    dataset.load_everything(source, dbs=(0,))
    path = file_of(source)
    packed = tmp_path / "dump.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    load("-", "--to", target.uri, data=path.read_bytes())
    compare.assert_equal(source, target, static=True)
    target.client().flushall()
    load(packed, "--to", target.uri)
    compare.assert_equal(source, target, static=True)
    target.client().flushall()
    load("-", "--to", target.uri, data=packed.read_bytes())
    compare.assert_equal(source, target, static=True)


@pytest.mark.parametrize("parallel", [1, 3])
def test_several_files(world, tmp_path, parallel):
    source, target = world.source(), world.target()
    files = []
    for i in range(4):
        source.client().flushall()
        source.raw().many(("SET", f"{i}:{k}", k) for k in range(500))
        source.client().set("last", i)
        files.append(tmp_path / f"{i}.rdb")
        files[-1].write_bytes(file_of(source).read_bytes())
    out, _ = load(*files, "--to", target.uri, "--parallel", parallel, "--resume")
    assert target.client().dbsize() == 2001
    assert "loaded 2004 keys" in out
    if parallel == 1:
        assert target.client().get("last") == b"3"


def fill(source, count=9000):
    raw = source.raw()
    for db in (0, 4):
        raw.many([("SELECT", db)] + [("RPUSH", f"list:{i}", *range(i % 40 + 1)) for i in range(count // 2)])
    raw.many([("SELECT", 0), ("SET", "big", b"x" * 3_000_000)])


def test_killed_in_the_middle_goes_on_where_it_was(world):
    source, target = world.source(), world.target()
    fill(source)
    path = file_of(source)
    for number in range(3):
        run = start(path, "--to", target.uri, "--resume", "--max-keys-per-second", 4000)
        before = len(target.client().keys("*")) + target.client(4).dbsize()
        wait_until(lambda: target.client().dbsize() + target.client(4).dbsize() > before + 1500, "some keys loaded")
        run.kill()
        run.communicate()
        assert len(own_keys(target)) == 1, "the position"
        assert number or before == 0
    out, _ = load(path, "--to", target.uri, "--resume")
    resumed = re.search(r": (\d+) keys into .*, from byte (\d+) on", out)
    assert resumed, out
    assert int(resumed[1]) < 7000 and int(resumed[2]) > 10000, out
    compare.assert_equal(source, target, static=True)
    assert own_keys(target) == []


def test_stopped_by_a_signal_says_so_and_goes_on(world):
    source, target = world.source(), world.target()
    fill(source)
    path = file_of(source)
    run = start(path, "--to", target.uri, "--resume", "--max-keys-per-second", 3000)
    wait_until(lambda: target.client().dbsize() > 1000, "some keys loaded")
    run.terminate()
    _, error = run.communicate(timeout=20 * PATIENCE)
    assert run.returncode == 1 and "stopped before its end" in error and "keys were sent before" in error
    at = int(re.search(rb" rdb=(\d+)", target.client().get(own_keys(target)[0]))[1])
    out, _ = load(path, "--to", target.uri, "--resume")
    assert f"from byte {at} on" in out, "what was confirmed is not loaded again"
    compare.assert_equal(source, target, static=True)


def test_a_loaded_file_of_several_is_not_loaded_over_the_next(world, tmp_path):
    source, target = world.source(), world.target()
    first, second = tmp_path / "1.rdb", tmp_path / "2.rdb"
    source.client().set("list:0", "old")
    first.write_bytes(file_of(source).read_bytes())
    source.client().flushall()
    fill(source)
    second.write_bytes(file_of(source).read_bytes())
    run = start(first, second, "--to", target.uri, "--resume", "--max-keys-per-second", 4000)
    wait_until(lambda: target.client().dbsize() > 2500, "some keys loaded")
    run.kill()
    run.communicate()
    out, _ = load(first, second, "--to", target.uri, "--resume")
    assert f"{first}: was loaded before" in out
    compare.assert_equal(source, target, static=True)
    assert own_keys(target) == []


def test_another_file_under_the_same_name_is_loaded_from_its_start(world, tmp_path):
    source, target = world.source(), world.target()
    fill(source)
    path = tmp_path / "x.rdb"
    path.write_bytes(file_of(source).read_bytes())
    run = start(path, "--to", target.uri, "--resume", "--max-keys-per-second", 4000)
    wait_until(lambda: target.client().dbsize() > 2500, "some keys loaded")
    run.kill()
    run.communicate()
    source.client().set("more", 1)
    path.write_bytes(file_of(source).read_bytes())
    out, _ = load(path, "--to", target.uri, "--resume")
    assert "from byte" not in out
    compare.assert_equal(source, target, static=True)


def test_rates(world):
    source, target = world.source(), world.target()
    source.raw().many(("SET", f"k{i}", "x" * 1000) for i in range(2000))
    path = file_of(source)
    size = path.stat().st_size
    for how, least in ((("--max-keys-per-second", 2000), 0.8), (("--max-bytes-per-second", size), 0.8), ((), 0)):
        began = time.monotonic()
        load(path, "--to", target.uri, *how)
        took = time.monotonic() - began
        assert took >= least
        if least:
            assert took < 3 * PATIENCE
    compare.assert_equal(source, target, static=True)


def test_the_checksum_still_has_the_bytes_that_are_confirmed(world):
    """A slow load is confirmed up to its last key before it goes on; the sum is taken in bigger steps."""
    source, target = world.source(), world.target()
    source.raw().many(("SET", f"k{i}", os.urandom(1000)) for i in range(8000))
    load(file_of(source), "--to", target.uri, "--window", "4m", "--max-bytes-per-second", "5m")
    compare.assert_equal(source, target, static=True)


def test_expired_keys_are_counted_and_not_loaded(world):
    source, target = world.source(enable_debug_command="yes"), world.target()
    replies = source.raw().many([("DEBUG", "SET-ACTIVE-EXPIRE", 0)] + [("SET", f"gone:{i}", 1, "PX", 50) for i in range(7)] +
                                [("SET", "stays", 1, "EX", 1000)])
    assert set(replies) == {b"OK"}
    path = file_of(source)
    time.sleep(0.1)
    target.client().set("gone:1", "of the target")
    out, _ = load(path, "--to", target.uri)
    assert "1 keys into" in out and "7 already expired" in out
    assert sorted(target.client().keys("*")) == [b"gone:1", b"stays"]
    assert target.client().get("gone:1") == b"of the target"
    assert source.client().pttl("stays") == pytest.approx(target.client().pttl("stays"), abs=200)


def test_existing_keys(pair):
    source, target = pair
    source.raw().many([("SET", "a", "new"), ("SET", "b", "new"), ("RPUSH", "l", 1)])
    path = file_of(source)
    target.raw().many([("SET", "a", "old"), ("SET", "l", "old")])
    out, _ = load(path, "--to", target.uri, "--key-exists", "ignore")
    assert "2 left as the target has them" in out
    assert target.client().mget("a", "b", "l") == [b"old", b"new", b"old"]
    target.client().delete("b", "l")
    assert 'key "a"' in complaint(path, "--to", target.uri, "--key-exists", "error")
    load(path, "--to", target.uri)
    compare.assert_equal(source, target, static=True)


def test_dbs_filters_and_selection(pair):
    source, target = pair
    for db in (0, 1, 2):
        source.raw(db).many([("SET", f"db{db}", db), ("SET", f"skip:{db}", db), ("SADD", f"set{db}", 1)])
    path = file_of(source)
    load(path, "--to", target.uri, "--db-map", "0:5,1:6", "--rdb.load.filter.keyFilter.prefixKeyBlacklist=skip:")
    assert sorted(target.client(5).keys()) == [b"db0", b"set0"]
    assert sorted(target.client(6).keys()) == [b"db1", b"set1"]
    assert sorted(target.client(2).keys()) == [b"db2", b"set2"]
    target.client().flushall()
    load(path, "--to", f"{target.uri}/7", "--db", "1,2", "--type", "string", "--not-key", "skip:*")
    assert sorted(target.client(7).keys()) == [b"db1", b"db2"]
    assert target.client().dbsize() == 0


def test_a_configuration_file_as_redisGunYu_has_it(pair, tmp_path):
    source, target = pair
    source.raw().many([("SET", "a", 1), ("SET", "tmp:b", 1)])
    file = tmp_path / "load.yaml"
    file.write_text(json.dumps({
        "action": "load", "rdbPath": str(file_of(source)),
        "load": {"redis": {"addresses": [target.address], "type": "standalone"}, "replay": {"targetDb": 3},
                 "filter": {"keyFilter": {"prefixKeyBlacklist": ["tmp:"]}}}}), encoding="utf-8")
    load("-conf", file)
    assert target.client(3).keys() == [b"a"]
    target.client().flushall()
    load("--conf", file, "--rdb.load.replay.targetDb=4", "--to", target.uri)
    assert target.client(4).keys() == [b"a"]
    target.client().flushall()
    assert subprocess.run([GUNYU, "-cmd=rdb", "-conf", str(file)], check=False, capture_output=True).returncode == 0
    assert target.client(3).keys() == [b"a"]


def test_functions(world):
    source, target = world.source(), world.target()
    if not source.has("function"):
        pytest.skip("no functions before 7.0")
    source.raw().call("FUNCTION", "LOAD", dataset.LIBRARY)
    out, _ = load(file_of(source), "--to", target.uri)
    assert "1 function libraries" in out
    compare.assert_equal(source, target, static=True)


def test_values_bigger_than_the_window(world):
    source, target = world.source(), world.target()
    raw = source.raw()
    raw.many([("SET", "string", os.urandom(12_000_000))] +
             [("RPUSH", "list", *(os.urandom(1000) for _ in range(1000))) for _ in range(12)] +
             [("SADD", "set", *(os.urandom(20) for _ in range(1000))) for _ in range(300)])
    load(file_of(source), "--to", target.uri, "--window", "4m")
    compare.assert_equal(source, target, static=True)


def test_a_cluster_is_loaded_by_any_of_its_nodes(world):
    source, cluster = world.source(), world.cluster("cluster", masters=3)
    dataset.load_everything(source, dbs=(0,))
    load(file_of(source), "--to", cluster.nodes[1].uri)
    compare.assert_equal(source, cluster, static=True)
    conf = pathlib.Path(source.dir) / "load.yaml"
    conf.write_text(json.dumps({"action": "load", "rdbPath": str(file_of(source)), "load": {
        "redis": {"addresses": cluster.addresses, "type": "cluster"}}}), encoding="utf-8")
    source.client().set("one more", "v")
    load("-conf", conf)
    assert cluster.client().get("one more") is None, "the file is of before"
    file_of(source)
    load("-conf", conf)
    compare.assert_equal(source, cluster, static=True)
    assert not [key for node in cluster.masters() for key in own_keys(node)]


def test_no_position_is_left_wherever_in_a_cluster_it_was(world, tmp_path):
    source, cluster = world.source(), world.cluster("cluster", masters=3)
    files = []
    for i in range(6):
        source.client().set(f"key:{i}", i)
        files.append(tmp_path / f"{i}.rdb")
        files[-1].write_bytes(file_of(source).read_bytes())
    load(*files, "--to", cluster.nodes[1].uri, "--resume")
    compare.assert_equal(source, cluster, static=True)
    assert not [key for node in cluster.masters() for key in own_keys(node)]


def test_killed_in_the_middle_of_a_cluster_goes_on_where_it_was(world):
    source, cluster = world.source(), world.cluster("cluster", masters=3)
    source.raw().many(("SET", f"k{i}", "x" * 100) for i in range(20000))
    path = file_of(source)
    for _ in range(2):
        run = start(path, "--to", cluster.nodes[0].uri, "--resume", "--max-keys-per-second", 5000)
        wait_until(lambda: any(own_keys(node) for node in cluster.masters()), "a position")
        run.kill()
        run.communicate()
    out, _ = load(path, "--to", cluster.nodes[0].uri, "--resume")
    assert re.search(r"from byte (\d+) on", out), out
    compare.assert_equal(source, cluster, static=True)
    assert not [key for node in cluster.masters() for key in own_keys(node)]


# ---- what is refused ----

@pytest.fixture
def small(pair):
    source, target = pair
    source.raw().many([("SET", f"k{i}", "x" * 100) for i in range(50)] + [("SELECT", 9), ("SET", "nine", 1)])
    return file_of(source), target, source


def test_refusing_targets(world, small):
    path, target, source = small
    locked = world.target(requirepass="secret")
    assert "NOAUTH" in complaint(path, "--to", f"redis://{locked.address}")
    assert "WRONGPASS" in complaint(path, "--to", f"redis://:no@{locked.address}") or locked.version < (6,)
    replica = world.target(replicaof=f"127.0.0.1 {source.port}")
    line = complaint(path, "--to", replica.uri)
    assert "READONLY" in line and "keys were sent before" in line
    full = world.target(maxmemory="1mb", maxmemory_policy="noeviction")
    full.raw().many(("SET", f"f{i}", "x" * 10000) for i in range(200))
    line = complaint(path, "--to", full.uri)
    assert "OOM" in line
    few = world.target(databases=4)
    assert "db 9" in complaint(path, "--to", few.uri)
    cluster = world.target(cluster_enabled="yes")
    assert "no node that has slots" in complaint(path, "--to", cluster.uri)
    target.kill()
    assert target.address in complaint(path, "--to", target.uri)


def test_loading_target(world, small):
    path, _, source = small
    source.raw().many(("SET", f"r{i}", os.urandom(1000)) for i in range(200))
    path = file_of(source)
    slow = world.target(start=False, key_load_delay=20000, loading_process_events_interval_bytes=1024)
    slow.dir.mkdir(parents=True, exist_ok=True)
    (slow.dir / "dump.rdb").write_bytes(path.read_bytes())
    slow.start(wait=False)
    wait_until(lambda: slow.client().info("persistence")["loading"] == 1, "it loads")
    assert "LOADING" in complaint(path, "--to", slow.uri)
    slow.kill()


def test_a_lost_target_is_an_error_and_resume_completes(world):
    source, target = world.source(), world.target()
    fill(source)
    path = file_of(source)
    proxy = world.proxy(target)
    run = start(path, "--to", proxy.uri, "--resume", "--max-keys-per-second", 4000, "--quiet")
    wait_until(lambda: target.client().dbsize() > 1000, "some keys loaded")
    proxy.cut()
    _, error = run.communicate(timeout=30 * PATIENCE)
    assert run.returncode == 1 and len(error.splitlines()) == 1 and "target" in error
    load(path, "--to", target.uri, "--resume")
    compare.assert_equal(source, target, static=True)


def test_bad_files(small, tmp_path):
    path, target, _ = small
    to = ("--to", target.uri)
    assert "No such file" in complaint(tmp_path / "none", *to)
    assert "directory" in complaint(tmp_path, *to)
    bad = tmp_path / "bad.rdb"
    for content, word in ((b"", "empty"), (b"garbage garbage", "bad.rdb"), (b"REDIS9999\xff", "version"),
                          (b"\x1f\x8b garbage", "gzip")):
        bad.write_bytes(content)
        assert word in complaint(bad, *to)
    whole = path.read_bytes()
    bad.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    assert "checksum" in complaint(bad, *to).lower() or "crc" in complaint(bad, *to).lower()


def test_a_file_cut_at_every_byte_is_an_error(small, tmp_path):
    path, target, source = small
    source.client().flushall()
    source.raw().many([("SET", "a", 1), ("RPUSH", "l", "x", "y"), ("HSET", "h", "f", "v")])
    whole = file_of(source).read_bytes()
    bad = tmp_path / "cut.rdb"
    for size in range(len(whole)):
        bad.write_bytes(whole[:size])
        assert "cut.rdb" in complaint(bad, "--to", target.uri), size


def test_usage_errors(small, tmp_path):
    path, target, _ = small
    for args in (("--to", target.uri), (path,), (path, "--to", "http://x"), (path, "--to", target.uri, "--parallel", 0),
                 (path, "--to", target.uri, "--max-keys-per-second", "fast"), (path, "--to", target.uri, "--nonsense"),
                 (path, "--to", target.uri, "--min-size", "3"), (path, "--to", target.uri, "--key-exists", "maybe"),
                 (path, "--to", target.uri, "--resume", "--key-exists", "error"), ("-", "-", "--to", target.uri)):
        _, error = load(*args, code=2)
        assert error
    out, _ = load("--help")
    assert "--resume" in out and "--key PATTERN" in out

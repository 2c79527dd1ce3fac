# SPDX-License-Identifier: Apache-2.0
"""filter, split, merge, convert and dump: what they write is loaded by the servers it is for."""

import gzip
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest
from redis.crc import key_slot

import harness
from compare import assert_equal, compare
from dataset import DBS, LIBRARY, load_everything
from harness import GUNYU, wait_until
from test_tls import authority, tls_server  # noqa: F401 (a fixture)  pylint: disable=unused-import

EVERY_SLOTS = "0-5460,5461-10922,10923-16383"


def rdb(verb, *args, check=True, data=None, **more):
    run = subprocess.run([GUNYU, "rdb", verb, *map(str, args)], input=data, capture_output=True, check=False, timeout=120,
                         **more)
    run.text = run.stderr.decode(errors="replace")
    if check:
        assert run.returncode == 0, run.text
    else:
        assert run.returncode in (1, 2), (run.returncode, run.text)
        assert run.text.startswith(f"gunyu rdb {verb}: ") and run.text.count("\n") == 1, run.text
    return run


def loaded(world, path, version=None, **options):
    """A server that has read the file at its start."""
    server = world.server("loaded", start=False, version=version, dbfilename="dump.rdb", **options)
    shutil.copy(path, server.dir / "dump.rdb")
    return server.start()


def dumped(server, path, *more):
    rdb("dump", "--from", server.uri, "-o", path, *more)
    return path


@pytest.fixture
def small(world, tmp_path):
    """A server with a few keys of each type, and its file."""
    server = world.source()
    load_everything(server, dbs=(0,))
    return server, dumped(server, tmp_path / "small.rdb")


def names(directory):
    return sorted(p.name for p in directory.iterdir() if p.is_file())


# ---- convert ----

FAMILIES = {  # by the name for --to, the server and what it cannot hold
    "redis-6.2": ("redis-6", {"functions", "field expiry"}),
    "redis-7.0": ("redis-7", {"field expiry"}),
    "redis-8": ("redis-8", set()),
    "redis-8.6": ("redis-next", set()),
    "valkey-8": ("valkey-8", {"field expiry"}),
    "valkey-9": ("valkey-9", set()),
}


@pytest.mark.parametrize("version", ["redis-6", "redis-7", "redis-8", "redis-next", "valkey-8", "valkey-9"])
def test_a_converted_file_loads_in_the_server_named(world, tmp_path, version):
    source = world.server("source", version=version)
    load_everything(source)
    path = dumped(source, tmp_path / "source.rdb")
    holds = {name for name, command in (("functions", "function"), ("field expiry", "hpexpire")) if source.has(command)}
    for name, (server, lacks) in FAMILIES.items():
        out = tmp_path / f"{name}.rdb"
        if holds & lacks:
            failed = rdb("convert", "--to", name, "-o", out, path, check=False)
            assert "--degrade" in failed.text and not out.exists()
        run = rdb("convert", "--to", name, "-o", out, path, *(["--degrade"] if holds & lacks else []))
        assert ("left out" in run.text) == bool(holds & lacks)
        target = loaded(world, out, version=server)
        assert_equal(source, target, static=True)
        target.kill()


@pytest.mark.parametrize("name", ["redis-2.8", "redis-3.2", "redis-4.0", "redis-5.0"])
def test_versions_of_servers_of_old(world, tmp_path, name):
    """Read by the oldest server at hand; that nothing newer is inside is told by its own reading of types."""
    source = world.server("source", version="redis-8")
    load_everything(source)
    source.client(0).delete(*(k for k in source.client(0).keys("stream:*")))
    for db in DBS[1:]:
        source.client(db).delete(*source.client(db).keys("stream:*"))
    path = dumped(source, tmp_path / "source.rdb")
    out = tmp_path / "old.rdb"
    rdb("convert", "--to", name, "--degrade", "-o", out, path)
    assert_equal(source, loaded(world, out, version="redis-6"), static=True)


def test_streams_cannot_go_into_versions_below_5(world, tmp_path):
    source = world.source()
    source.client().xadd("s", {"a": 1})
    path = dumped(source, tmp_path / "source.rdb")
    failed = rdb("convert", "--to", "redis-4.0", "-o", tmp_path / "old.rdb", path, check=False)
    assert "key 's'" in failed.text and "streams" in failed.text
    run = rdb("convert", "--to", "redis-4.0", "--degrade", "-o", tmp_path / "old.rdb", path)
    assert "1 streams" in run.text
    assert loaded(world, tmp_path / "old.rdb", version="redis-6").client().dbsize() == 0


def test_a_file_converted_to_its_own_version_is_the_same_data(world, small, tmp_path):
    server, path = small
    out = tmp_path / "same.rdb"
    rdb("convert", "--rdb-version", 10, "-o", out, path)
    assert_equal(server, loaded(world, out), static=True)


def test_commands_go_through_a_socket(world, small):
    server, path = small
    commands = rdb("convert", "--to", "resp", "--for", "redis-7.0", "-o", "-", path).stdout
    target = world.target()
    assert_equal_after(commands, server, target)
    # Once more into what is there: each key is replaced.
    assert_equal_after(commands, server, target)


def assert_equal_after(commands, source, target):
    connection = target.raw().connection
    connection.connect()
    connection.send_packed_command([commands, b"*1\r\n$4\r\nPING\r\n"])
    reply = b""
    while reply != b"PONG":
        reply = connection.read_response()
    assert_equal(source, target, static=True)


def test_an_append_only_file_is_loaded(world, small):
    source, path = small
    target = world.server("aof", start=False, appendonly="yes")
    rdb("convert", "--to", "aof", "--for", "redis-7.0", "-o", target.dir / "appendonly.aof", path)
    target.start()
    assert_equal(source, target, static=True)


@pytest.mark.parametrize("args", [["--to", "redis-2.4"], ["--to", "nonsense"], ["--rdb-version", "5"],
                                  ["--rdb-version", "40"], [], ["--to", "redis-7", "--for", "redis-7"],
                                  ["--rdb-version", "12", "--valkey"], ["--to", "redis-7", "--rdb-version", "7"]])
def test_targets_that_are_none(tmp_path, args):
    failed = rdb("convert", *args, "-o", tmp_path / "out.rdb", tmp_path / "in.rdb", check=False)
    assert failed.returncode == 2 and names(tmp_path) == []


# ---- filter ----

def test_filter_keeps_what_is_selected_byte_for_byte(world, tmp_path):
    source = world.source()
    load_everything(source)
    path = dumped(source, tmp_path / "source.rdb")
    out = tmp_path / "out.rdb"
    run = rdb("filter", "--db", 3, "--type", "hash", "--type", "zset", "-o", out, path)
    kept = loaded(world, out)
    here, there = source.client(3), kept.client(3)
    expected = {k for k in here.keys() if here.type(k) in (b"hash", b"zset")}
    assert len(expected) > 5 and set(there.keys()) == expected
    assert [kept.client(db).dbsize() for db in (0, 9)] == [0, 0]
    # The order of a hash table is the server's own.
    packed = [k for k in expected if here.object("encoding", k) not in (b"hashtable", b"skiplist")]
    assert packed and all(here.dump(k) == there.dump(k) for k in packed)
    assert f"{len(expected)} of " in run.text
    assert kept.client().function_list() == source.client().function_list()


def test_filter_by_size_of_values_that_do_not_fit_a_window(world, tmp_path):
    source = world.source()
    rng = random.Random(3)
    sizes = [10, 1000, 250_000, 270_000, 1_000_000, 3_000_000]
    for size in sizes:
        source.client().set(f"k{size}", rng.randbytes(size))
    path = dumped(source, tmp_path / "source.rdb")
    for low, high in ((0, 2000), (500, 260_000), (260_000, 2_000_000), (300_000, None), (None, 2_000_000), (None, 300_000)):
        limits = [x for name, v in (("--min-size", low), ("--max-size", high)) if v is not None for x in (name, v)]
        rdb("filter", *limits, "-o", tmp_path / "out.rdb", path)
        kept = loaded(world, tmp_path / "out.rdb").client()
        wanted = {f"k{s}".encode() for s in sizes if (low or 0) <= s + 5 and s <= (high or 1 << 40)}
        assert set(kept.keys()) == wanted, (low, high)
        assert all(kept.get(k) == source.client().get(k) for k in wanted)


def test_filter_from_a_pipe_to_a_pipe_compressed_in_between(world, small, tmp_path):
    server, path = small
    packed = rdb("filter", "-o", "-", "--zstd", "-", data=path.read_bytes()).stdout
    assert packed[:4] == b"\x28\xb5\x2f\xfd"
    repacked = rdb("filter", "-o", "-", "--gzip", "-", data=packed).stdout
    plain = tmp_path / "plain.rdb"
    plain.write_bytes(gzip.decompress(repacked))
    assert_equal(server, loaded(world, plain), static=True)


def test_a_replication_id_is_not_taken_over(small, tmp_path):
    _, path = small
    assert b"repl-id" in path.read_bytes()[:400]
    rdb("filter", "-o", tmp_path / "out.rdb", path)
    assert b"repl-" not in (tmp_path / "out.rdb").read_bytes()[:400]


# ---- split and merge ----

def test_parts_of_a_split_merge_to_the_whole(world, tmp_path):
    source = world.source()
    load_everything(source)
    path = dumped(source, tmp_path / "source.rdb")
    parts = tmp_path / "parts"
    rdb("split", "--slots", EVERY_SLOTS, "-o", parts, path)
    files = [parts / f"slots-{part}.rdb" for part in EVERY_SLOTS.split(",")]
    assert names(parts) == sorted(f.name for f in files)
    for file in files:
        low, high = map(int, file.stem.removeprefix("slots-").split("-"))
        part = loaded(world, file)
        for db in DBS:
            keys = part.client(db).keys()
            assert len(keys) > 50 and all(low <= key_slot(k) <= high for k in keys)
        assert part.client().function_list() == source.client().function_list()
        part.kill()
    whole = tmp_path / "whole.rdb"
    rdb("merge", "-o", whole, *files)
    assert_equal(source, loaded(world, whole), static=True)


def test_split_by_a_live_cluster_and_its_nodes_conf(world, tmp_path):
    source = world.source()
    for i in range(300):
        source.client().set(f"key:{i}", i)
    path = dumped(source, tmp_path / "source.rdb")
    nodes = [world.server("node", cluster_enabled="yes") for _ in range(2)]
    for node, (low, high) in zip(nodes, ((0, 8191), (8192, 16383))):
        assert node.raw().call("CLUSTER", "ADDSLOTSRANGE", low, high) == b"OK"
    nodes[0].raw().call("CLUSTER", "MEET", "127.0.0.1", nodes[1].port)
    wait_until(lambda: all(b"cluster_slots_assigned:16384" in n.raw().call("CLUSTER", "INFO") and
                           b"cluster_known_nodes:2" in n.raw().call("CLUSTER", "INFO") for n in nodes), "one cluster")
    wait_until(lambda: nodes[0].raw().call("CLUSTER", "NODES").count(b"127.0.0.1:") == 2, "addresses")
    expected = sorted(f"127.0.0.1-{n.port}.rdb" for n in nodes)
    rdb("split", "--cluster", nodes[0].uri, "-o", tmp_path / "live", path)
    rdb("split", "--nodes", nodes[1].dir / "nodes.conf", "-o", tmp_path / "file", path)
    assert names(tmp_path / "live") == expected and names(tmp_path / "file") == expected
    for name in expected:
        assert (tmp_path / "live" / name).read_bytes() == (tmp_path / "file" / name).read_bytes()
    for node in nodes:
        slots = node.raw().many(("CLUSTER", "KEYSLOT", f"key:{i}") for i in range(300))
        part = loaded(world, tmp_path / "live" / f"127.0.0.1-{node.port}.rdb")
        mine = {f"key:{i}".encode() for i, slot in enumerate(slots) if (slot < 8192) == (node is nodes[0])}
        assert set(part.client().keys()) == mine


def test_keys_of_slots_in_no_part_are_counted(small, tmp_path):
    _, path = small
    run = rdb("split", "--slots", "0-99", "-o", tmp_path / "parts", path)
    assert "are in slots of no part and were left out" in run.text


@pytest.fixture
def overlap(world, tmp_path):
    files = []
    for i in range(3):
        server = world.source()
        server.client().set("shared", f"value {i}")
        server.client().set(f"own:{i}", i)
        server.client(5).set("shared", "another db" if i == 0 else "x", px=10_000_000) if i == 0 else None
        server.client().function_load(LIBRARY)
        files.append(dumped(server, tmp_path / f"{i}.rdb"))
        server.kill()
    return files


def test_merge_refuses_keys_of_several_files_and_names_one(overlap, tmp_path):
    out = tmp_path / "out.rdb"
    failed = rdb("merge", "-o", out, *overlap, check=False)
    assert "1.rdb" in failed.text and "key 'shared'" in failed.text and not out.exists()


@pytest.mark.parametrize("choice, value", [("first", b"value 0"), ("last", b"value 2")])
def test_merge_takes_the_one_that_was_chosen(world, overlap, tmp_path, choice, value):
    out = tmp_path / "out.rdb"
    run = rdb("merge", "--on-conflict", choice, "-o", out, *overlap)
    assert "2 keys of several files" in run.text
    server = loaded(world, out)
    assert server.client().get("shared") == value and server.client().dbsize() == 4
    assert server.client(5).get("shared") == b"another db"
    assert len(server.client().function_list()) == 1


def test_merge_of_versions_writes_the_newest(world, tmp_path):
    files = []
    for version in ("redis-6", "redis-7", "redis-8"):
        server = world.server("source", version=version)
        server.client().hset(f"hash:{version}", mapping={"a": 1, "b": 2})
        server.client().rpush(f"list:{version}", *range(300))
        files.append(dumped(server, tmp_path / f"{version}.rdb"))
    rdb("merge", "-o", tmp_path / "out.rdb", *files)
    assert (tmp_path / "out.rdb").read_bytes()[:9] == b"REDIS0012"
    assert loaded(world, tmp_path / "out.rdb", version="redis-8").client().dbsize() == 6
    server = world.server("source", version="valkey-9")
    server.client().set("a", 1)
    rdb("merge", "-o", tmp_path / "out.rdb", dumped(server, tmp_path / "valkey.rdb"), *files[:2])
    assert loaded(world, tmp_path / "out.rdb", version="valkey-9").client().dbsize() == 5
    failed = rdb("merge", "-o", tmp_path / "no.rdb", tmp_path / "valkey.rdb", files[2], check=False)
    assert "convert one of them first" in failed.text and not (tmp_path / "no.rdb").exists()


def aux(name, value):
    return b"\xfa" + bytes([len(name)]) + name + bytes([len(value)]) + value


def made(path, body, magic=b"REDIS0009"):
    """A file of these bytes, without a checksum."""
    path.write_bytes(magic + body + b"\xff" + bytes(8))
    return path


def test_a_merge_keeps_the_scripts_of_all_files(tmp_path):
    files = [made(tmp_path / f"{n}.rdb", aux(b"redis-ver", b"%d" % n) + aux(b"lua", b"return %d" % n)) for n in (1, 2)]
    rdb("merge", "-o", tmp_path / "out.rdb", *files)
    lines = rdb("print", "--format", "jsonl", tmp_path / "out.rdb").stdout.decode()
    assert [text in lines for text in ("return 1", "return 2", '"value":"1"', '"value":"2"')] == [True, True, True, False]


def test_commands_between_the_keys_go_with_a_whole_file_only(tmp_path):
    command = b"\xf2*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n2\r\n"
    path = made(tmp_path / "in.rdb", b"\xfe\x00\x00\x01a\x011" + command, b"VALKEY081")
    out = tmp_path / "out"
    for target in ("valkey-9.2", "resp"):
        rdb("convert", "--to", target, "-o", out, path)
        assert b"$3\r\nSET\r\n$1\r\nb\r\n$1\r\n2\r\n" in out.read_bytes()
        out.unlink()
        failed = rdb("convert", "--to", target, "--key", "a", "-o", out, path, check=False)
        assert "commands between its keys" in failed.text and not out.exists()
    failed = rdb("filter", "--key", "a", "-o", out, path, check=False)
    assert "commands between its keys" in failed.text and not out.exists()


def test_what_commands_cannot_say_is_counted_under_degrade(tmp_path):
    module = b"\xf7\x81" + b"\x45" * 6 + b"\x44\x01" + b"\x02\x01\x05\x03abc\x00"
    path = made(tmp_path / "in.rdb", module + module + b"\xfe\x00\x00\x01a\x011")
    failed = rdb("convert", "--to", "aof", "-o", tmp_path / "out", path, check=False)
    assert "global data of modules" in failed.text
    done = rdb("convert", "--to", "aof", "--degrade", "-o", tmp_path / "out", path)
    assert "1 of 1 keys written; left out: 2 global data of modules" in done.text


def test_slots_that_were_being_taken_over_are_counted_under_degrade(tmp_path):
    path = made(tmp_path / "in.rdb", b"\xf3\x03job\x01\x00\x05" + b"\xfe\x00\x00\x01a\x011", b"VALKEY081")
    failed = rdb("filter", "-o", tmp_path / "out", path, check=False)
    assert "took over slots 0-5" in failed.text
    assert "1 imports of slots" in rdb("filter", "--degrade", "-o", tmp_path / "out", path).text


# ---- dump ----

@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_a_dump_is_what_the_server_holds(world, tmp_path, diskless):
    source = world.source(repl_diskless_sync=diskless, requirepass="secret")
    load_everything(source)
    out = dumped(source, tmp_path / "out.rdb")
    assert_equal(source, loaded(world, out), static=True)
    piped = rdb("dump", "--from", source.uri, "-o", "-", "--quiet")
    assert piped.stdout[:5] == b"REDIS" and piped.stderr == b""
    for option, magic in (("--zstd", b"\x28\xb5"), ("--gzip", b"\x1f\x8b")):
        packed = dumped(source, tmp_path / "packed", option)
        assert packed.read_bytes()[:2] == magic and packed.stat().st_size < out.stat().st_size
        rdb("filter", "-o", tmp_path / "plain.rdb", packed)
        assert_equal(source, loaded(world, tmp_path / "plain.rdb"), static=True)
    wait_until(lambda: source.info("replication")["connected_slaves"] == 0, "the replicas are gone")


def test_a_dump_without_checksum_says_so(world, tmp_path):
    source = world.source(rdbchecksum="no")
    source.client().set("a", 1)
    assert "without a checksum" in rdb("dump", "--from", source.uri, "-o", tmp_path / "out.rdb").text


@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_a_dump_that_is_cut_leaves_no_file_and_says_how_far_it_came(world, tmp_path, diskless):
    source = world.source(repl_diskless_sync=diskless)
    source.client().set("a", random.Random(1).randbytes(3_000_000))
    out = tmp_path / "dir"
    out.mkdir()
    for cut in (10, 300, 20_000, 1_000_000, 2_800_000):
        proxy = world.proxy(source)
        proxy.cut_at = cut
        failed = rdb("dump", "--from", proxy.uri, "-o", out / "out.rdb", check=False)
        assert names(out) == []
        assert cut < 20_000 or "broke off after" in failed.text


def test_an_interrupted_dump_leaves_no_file(world, tmp_path):
    source = world.source()
    source.client().set("a", random.Random(1).randbytes(20_000_000))
    proxy = world.proxy(source)
    proxy.rate = 1_000_000
    out = tmp_path / "dir"
    out.mkdir()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        before = proxy.passed
        # A shell that runs us in the background has SIGINT ignored, and so would the child.
        with subprocess.Popen(["env", "--default-signal=INT", GUNYU, "rdb", "dump", "--from", proxy.uri, "-o", out / "out.rdb"]) as child:
            wait_until(lambda at=before: proxy.passed > at + 200_000, "a part of the snapshot")
            child.send_signal(number)
            assert child.wait(20) != 0
        assert names(out) == []


def test_what_a_server_refuses_is_said(world, tmp_path):
    source = world.source(requirepass="secret")
    source.client().execute_command("ACL SETUSER limited on >pw +ping +info")
    out = tmp_path / "out.rdb"
    for login, words in (("", "password"), (":wrong@", "login"), ("limited:pw@", "may not")):
        failed = rdb("dump", "--from", f"redis://{login}{source.address}", "-o", out, check=False)
        assert words in failed.text.lower(), failed.text
        assert "secret" not in failed.text and "wrong@" not in failed.text and not out.exists()
    assert "refused" in rdb("dump", "--from", "redis://127.0.0.1:1", "-o", out, check=False).text.lower()


def test_a_dump_over_tls(world, tmp_path, authority):
    source = tls_server(world, authority, "dumped")
    source.client().set("a", random.Random(1).randbytes(1_000_000))
    out = tmp_path / "out.rdb"
    failed = rdb("dump", "--from", source.tls_uri, "-o", out, check=False)
    assert "certificate" in failed.text and not out.exists()
    rdb("dump", "--from", source.tls_uri, "--cacert", authority.ca, "-o", out)
    assert_equal(source, loaded(world, out), static=True)
    assert rdb("dump", "--from", source.uri, "--cacert", authority.ca, "-o", out, check=False).returncode == 2


class OldMaster:
    """A server from before PSYNC. It answers SYNC with keepalives and what it was given."""

    def __init__(self, snapshot, promise=None):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.uri = "redis://127.0.0.1:%d" % self.listener.getsockname()[1]
        self.answers = {b"PING": b"+PONG\r\n", b"INFO": b"$22\r\nredis_version:2.6.17\r\n\r\n",
                        b"SYNC": b"\n\n$%d\r\n" % (promise or len(snapshot)) + snapshot}
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        client, _ = self.listener.accept()
        with client:
            while True:
                words = client.recv(4096).split(b"\r\n")
                if len(words) < 3:
                    return
                command = words[2].upper()
                client.sendall(self.answers.get(command, b"-ERR unknown command '%s'\r\n" % command))
                if command == b"SYNC":
                    return


def test_a_server_without_psync_is_dumped_by_sync(small, tmp_path):
    whole = small[1].read_bytes()
    out = tmp_path / "out.rdb"
    rdb("dump", "--from", OldMaster(whole).uri, "-o", out)
    assert out.read_bytes() == whole
    out.unlink()
    broken = whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:]
    for snapshot, promise, words in ((broken, None, "checksum"), (b"no RDB file" * 9, None, "no RDB file"), (b"REDIS", None, "no RDB"),
                                     (whole[:-3], len(whole), f"after {len(whole) - 3} of {len(whole)} bytes")):
        failed = rdb("dump", "--from", OldMaster(snapshot, promise).uri, "-o", out, check=False)
        assert words in failed.text and not out.exists()


# ---- bad input and full disks ----

VERBS = {
    "filter": lambda out, path: ("-o", out, path),
    "split": lambda out, path: ("--slots", "0-16383", "-o", out, path),
    "merge": lambda out, path: ("-o", out, path),
    "convert": lambda out, path: ("--to", "redis-6", "--degrade", "-o", out, path),
}


@pytest.mark.parametrize("verb", VERBS)
def test_input_that_is_no_rdb_file(tmp_path, verb):
    empty, text, newer = tmp_path / "empty", tmp_path / "text", tmp_path / "newer"
    empty.write_bytes(b"")
    text.write_bytes(b"hello, world, this is no RDB file\n" * 10)
    newer.write_bytes(b"REDIS0077\xff" + b"\0" * 8)
    out = tmp_path / "new" / "out"
    out.parent.mkdir()
    for path in (tmp_path / "missing", tmp_path, empty, text, newer):
        failed = rdb(verb, *VERBS[verb](out, path), check=False)
        assert str(path) in failed.text and names(out.parent) == []


@pytest.mark.parametrize("verb", VERBS)
def test_a_file_cut_at_any_byte(world, tmp_path, verb):
    source = world.source()
    c = source.client()
    c.set("s", "v", px=1_000_000)
    c.rpush("l", "a", "1", "b" * 70)
    c.zadd("z", {"a": 1.5})
    c.hset("h", mapping={"f": "v"})
    c.xadd("x", {"f": "v"}, id="1-1")
    c.xgroup_create("x", "g", "0")
    c.xreadgroup("g", "alice", {"x": ">"})
    whole = dumped(source, tmp_path / "whole.rdb").read_bytes()
    cut, out = tmp_path / "cut.rdb", tmp_path / "new" / "out"
    out.parent.mkdir()
    step = max(1, len(whole) // 120)
    for n in [*range(1, len(whole), step), len(whole) - 1]:
        cut.write_bytes(whole[:n])
        rdb(verb, *VERBS[verb](out, cut), check=False)
        assert [p for p in out.parent.rglob("*") if p.is_file()] == [], n
    broken = bytearray(whole)
    broken[-1] ^= 1
    cut.write_bytes(broken)
    assert "checksum" in rdb(verb, *VERBS[verb](out, cut), check=False).text
    assert [p for p in out.parent.rglob("*") if p.is_file()] == []


def no_big_files():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


@pytest.mark.parametrize("verb", VERBS)
def test_a_full_disk_leaves_nothing(world, tmp_path, verb):
    source = world.source()
    for i in range(20):
        source.client().set(f"k{i}", random.Random(i).randbytes(50_000))
    path = dumped(source, tmp_path / "in.rdb")
    out = tmp_path / "new" / "out"
    out.parent.mkdir()
    # pylint: disable=subprocess-popen-preexec-fn
    failed = rdb(verb, *VERBS[verb](out, path), check=False, preexec_fn=no_big_files)
    assert "out" in failed.text and "cannot write" in failed.text
    assert [p for p in out.parent.rglob("*") if p.is_file()] == []
    if verb != "split":
        assert "No space left" in rdb(verb, *VERBS[verb]("/dev/full", path), check=False).text


def test_a_dump_to_a_full_disk(world, tmp_path):
    source = world.source()
    source.client().set("k", random.Random(1).randbytes(500_000))
    assert "No space left" in rdb("dump", "--from", source.uri, "-o", "/dev/full", check=False).text
    # pylint: disable=subprocess-popen-preexec-fn
    rdb("dump", "--from", source.uri, "-o", tmp_path / "d.rdb", check=False, preexec_fn=no_big_files)
    assert not (tmp_path / "d.rdb").exists()


# ---- memory ----

# A process begins with the peak of the one that forked it, so a small one stands in between.
PEAK = ("import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")


def peak_mib(*args):
    return int(subprocess.check_output([sys.executable, "-c", PEAK, GUNYU, "rdb", *map(str, args)])) / 1024


@pytest.mark.slow
def test_memory_does_not_grow_with_the_biggest_value(world, tmp_path):
    source = world.server("source", version="redis-8")
    c = source.client()
    noise = random.Random(1).randbytes(1 << 20)
    for i in range(100):
        c.setrange("string", i << 20, noise)
    pipe = c.pipeline(transaction=False)
    for i in range(0, 200_000, 1000):
        pipe.rpush("list", *(f"element number {j}" for j in range(i, i + 1000)))
        pipe.hset("hash", mapping={f"field number {j}": j for j in range(i, i + 1000)})
    pipe.execute_command("HPEXPIRE", "hash", 86_400_000, "FIELDS", 1, "field number 5")
    pipe.execute()
    path = dumped(source, tmp_path / "in.rdb")
    assert path.stat().st_size > 100 << 20
    limit = 64 * harness.PATIENCE  # a sanitized program takes more
    assert peak_mib("dump", "--from", source.uri, "-o", tmp_path / "again.rdb") < limit
    assert peak_mib("filter", "-o", tmp_path / "out.rdb", path) < limit
    assert peak_mib("filter", "--min-size", "1m", "--max-size", "1g", "-o", tmp_path / "out.rdb", path) < limit
    assert peak_mib("merge", "-o", tmp_path / "out.rdb", path) < limit
    for to in ("redis-6.2", "redis-8", "valkey-9"):
        assert peak_mib("convert", "--to", to, "--degrade", "-o", tmp_path / f"{to}.rdb", path) < limit
    assert not compare(source, loaded(world, tmp_path / "redis-6.2.rdb", version="redis-6"), static=True)
    assert not compare(source, loaded(world, tmp_path / "valkey-9.rdb", version="valkey-9"), static=True)


@pytest.mark.parametrize("verb", [*VERBS, "dump"])
def test_help_names_every_option(verb):
    text = rdb(verb, "--help").stdout.decode()
    assert text.startswith(f"usage: gunyu rdb {verb} ") and "--output" in text

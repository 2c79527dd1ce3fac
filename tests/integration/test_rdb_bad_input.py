# SPDX-License-Identifier: Apache-2.0
"""What each rdb command does with input that it cannot read, output that cannot be written and servers that refuse:
one clear line, an exit code that is not 0, and nothing half done under the final name."""

import concurrent.futures
import contextlib
import os
import resource
import shutil
import subprocess

import pytest

import harness
from harness import GUNYU, PATIENCE, ROOT

SMALL = ROOT / "tests" / "data" / "rdb" / "idle.rdb"
WHOLE = SMALL.read_bytes()

# The words between the command's name and the file; "{out}" is where it writes, "{server}" a server.
READERS = {
    "print": ["print", "--format", "jsonl", "-o", "{out}"],
    "print-resp": ["print", "--format", "resp", "-o", "{out}"],
    "verify": ["verify"],
    "report": ["report", "-o", "{out}"],
    "report-html": ["report", "--format", "html", "-o", "{out}"],
    "diff": ["diff", "-o", "{out}", str(SMALL)],
    "load": ["load", "--quiet", "--to", "{server}"],
    "filter": ["filter", "-o", "{out}"],
    "split": ["split", "--slots", "0-16383", "-o", "{out}"],
    "merge": ["merge", "-o", "{out}"],
    "convert": ["convert", "--to", "redis-7.2", "-o", "{out}"],
    "convert-aof": ["convert", "--to", "aof", "-o", "{out}"],
}
WRITERS = [name for name in READERS if "{out}" in READERS[name]]
# A root without these may read and write only what others may.
AS_NOBODY = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.getuid() == 0 else []


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    world = harness.World(tmp_path_factory.mktemp("server"))
    yield world.server()
    world.close()


def words(name, out, server):
    return [w.format(out=out, server=server.uri) for w in READERS[name]]


def run(args, under=(), **more):
    return subprocess.run([*under, GUNYU, "rdb", *map(str, args)], capture_output=True, text=True, check=False,
                          timeout=60 * PATIENCE, **more)


def complaint(args, **more):
    """The one line of a command that fails."""
    got = run(args, **more)
    lines = got.stderr.splitlines()
    assert got.returncode in (1, 2) and len(lines) == 1, (got.returncode, got.stderr)
    assert lines[0].startswith(f"gunyu rdb {args[0]}: "), lines[0]
    return lines[0]


def left(directory):
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())


def bad_files(directory):
    """Name: what the line says, after the file is made."""
    for name, content, says in (
            ("empty", b"", "is empty"),
            ("text", b"hello, this is no RDB file\n" * 10, "no RDB file"),
            ("short", b"hi", "RDB"),
            ("newer", b"REDIS0016" + WHOLE[9:], "version 16"),
            ("newer-valkey", b"VALKEY082" + WHOLE[9:], "version 82"),
            ("changed", WHOLE[:-20] + bytes([WHOLE[-20] ^ 1]) + WHOLE[-19:], "byte "),
            ("cut", WHOLE[:100], "ends at byte 100"),
            ("gzip", b"\x1f\x8b\x08\x00broken", "gzip")):
        path = directory / f"{name}.rdb"
        path.write_bytes(content)
        yield path, says
    (directory / "directory").mkdir()
    yield directory / "directory", "is a directory"
    yield directory / "missing", "No such file"


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_cannot_be_read_is_one_line(name, server, tmp_path):
    given, written = tmp_path / "given", tmp_path / "written"
    given.mkdir()
    written.mkdir()
    for path, says in bad_files(given):
        line = complaint(words(name, written / "out", server) + [path])
        assert str(path) in line and says in line, line
    assert left(written) == []


@pytest.mark.parametrize("name", READERS)
def test_a_file_without_permission_is_named(name, server, tmp_path):
    path = tmp_path / "secret.rdb"
    shutil.copy(SMALL, path)
    path.chmod(0)
    line = complaint(words(name, tmp_path / "out", server) + [path], under=AS_NOBODY)
    assert f"{path}: cannot open: Permission denied" in line


@pytest.mark.parametrize("name", [n for n in READERS if "-" not in n])
def test_a_file_that_was_cut_off_anywhere_is_refused(name, server, tmp_path):
    def one(cut):
        path, out = tmp_path / f"{cut}.rdb", tmp_path / f"{cut}.out"
        path.write_bytes(WHOLE[:cut])
        line = complaint(words(name, out, server) + [path])
        assert str(path) in line, line
        assert f"byte {cut}" in line or cut < 9, line
        assert not out.exists() or left(out) == []

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(1, len(WHOLE))))
    client = server.client()
    assert all(not key.startswith(b"gunyu:") for key in client.keys()), "something half was left in the target"


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_what_was_there(name, server, tmp_path):
    written = tmp_path / "written"
    written.mkdir()
    out = written / "out"
    if name != "split":
        out.write_text("as it was")
        line = complaint(words(name, "/dev/full", server) + [SMALL])
        assert "/dev/full: cannot write: No space left on device" in line
    before = left(written)
    # The signal that the limit sends besides is ignored in this process, and so in its child.
    line = complaint(words(name, out, server) + [SMALL], restore_signals=False,
                     preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16)))
    assert str(out) in line and "File too large" in line
    assert left(written) == before
    assert not before or out.read_text() == "as it was"


@pytest.mark.parametrize("name", WRITERS)
def test_an_output_that_cannot_be_made_is_named(name, server, tmp_path):
    line = complaint(words(name, tmp_path / "missing" / "out", server) + [SMALL])
    assert str(tmp_path / "missing" / "out") in line and "No such file" in line
    closed = tmp_path / "closed"
    closed.mkdir(0o500)
    line = complaint(words(name, closed / "out", server) + [SMALL], under=AS_NOBODY)
    assert str(closed / "out") in line and "Permission denied" in line
    assert left(tmp_path) == []


@pytest.mark.parametrize("name", [n for n in READERS if n != "load"])
def test_standard_output_that_is_full_is_a_failure(name, server):
    args = ["-" if w == "{out}" else w for w in READERS[name]] + [SMALL]
    if name == "split": # into a directory only
        return
    with open("/dev/full", "wb") as full:
        got = subprocess.run([GUNYU, "rdb", *map(str, args)], stdout=full, stderr=subprocess.PIPE, text=True,
                             check=False, timeout=60 * PATIENCE)
    assert got.returncode != 0 and "standard output: cannot write: No space left on device" in got.stderr
    assert len(got.stderr.splitlines()) == 1, got.stderr


@contextlib.contextmanager
def setting(server, **values):
    client = server.client()
    before = {name: client.config_get(name)[name] for name in values}
    for name, value in values.items():
        client.config_set(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            client.config_set(name, value)


SERVER_READERS = {
    "diff": lambda uri, out: ["diff", SMALL, uri],
    "dump": lambda uri, out: ["dump", "--from", uri, "-o", out],
    "split": lambda uri, out: ["split", "--cluster", uri, "-o", out, SMALL],
    "load": lambda uri, out: ["load", "--quiet", "--to", uri, SMALL],
}


@pytest.mark.parametrize("name", SERVER_READERS)
def test_a_server_that_cannot_be_used_is_named(name, server, tmp_path):
    out, args = tmp_path / "out", SERVER_READERS[name]
    line = complaint(args(f"redis://127.0.0.1:{harness.free_port()}", out))
    assert "Connection refused" in line
    with setting(server, requirepass="secret"):
        assert "NOAUTH" in complaint(args(server.uri, out))
        line = complaint(args(server.uri.replace("redis://", "redis://:wrong-one@"), out))
        assert "WRONGPASS" in line and "wrong-one" not in line
    assert not out.exists()


def test_a_target_that_refuses_writes_is_named_and_keeps_nothing(server):
    client = server.client()
    client.flushall()
    args = SERVER_READERS["load"](server.uri, None)
    with setting(server, maxmemory="1"):
        assert "OOM" in complaint(args)
    client.replicaof("127.0.0.1", harness.free_port())
    try:
        assert "READONLY" in complaint(args)
    finally:
        client.replicaof("NO", "ONE")
    assert client.dbsize() == 0


@pytest.mark.parametrize("name", READERS)
def test_what_a_newer_server_has_written_is_skipped_and_listed_when_asked(name, server, tmp_path):
    path = tmp_path / "newer.rdb"
    path.write_bytes(b"REDIS0016" + WHOLE[9:-8] + bytes(8))
    args = words(name, tmp_path / "out", server)
    got = run(args + [path, "--unknown", "skip"])
    assert got.returncode == 0, got.stderr
    said = [line for line in got.stderr.splitlines() if "RDB version 16, which is newer than this build" in line]
    assert len(said) == 1, got.stderr
    assert "version 16" in complaint(args + [path, "--unknown", "fail"])
    got = run(args + [path, "--unknown", "x"])
    assert got.returncode == 2 and "expected" in got.stderr and '"x"' in got.stderr

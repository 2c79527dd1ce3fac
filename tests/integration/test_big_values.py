# SPDX-License-Identifier: Apache-2.0
"""Values far bigger than the memory of the program: one set of very many members, one very long string."""

import pathlib
import random
import re
import shutil
import socket
import subprocess
import threading
import types

import pytest
import redis

from harness import GUNYU, PATIENCE, World, wait_until

LIMIT = 64 << 20
# One worker: the values are made once.
pytestmark = pytest.mark.xdist_group("big_values")
# In a server, so that not each member makes a reply.
ADD = """for i = ARGV[1], ARGV[2] - 1 do redis.call('SADD', KEYS[1], 'member:' .. i) end"""
# Members of the set; bytes of a string that does not compress and of one that does.
SIZES = {"small": (300_000, 72 << 20, 72 << 20), "big": (20_000_000, 600 << 20, 200 << 20)}


def big_server(world, name):
    return world.server(name, proto_max_bulk_len="1gb", enable_debug_command="yes", repl_timeout=600,
                        client_output_buffer_limit="replica 0 0 0", lua_time_limit=0)


def fill(source, members, noise_size, text_size):
    raw, noise = source.raw(), random.Random(5).randbytes((1 << 20) - 7)
    for at in range(0, members, 500_000):
        raw.call("EVAL", ADD, 1, "set", at, min(at + 500_000, members))
    for at in range(0, noise_size, len(noise)):
        raw.call("SETRANGE", "noise", at, noise[:noise_size - at])
    # Compressible: in the file it is one LZF string.
    for at in range(0, text_size, 1 << 20):
        raw.call("SETRANGE", "text", at, (b"%12d: a line of a long text\n" % at) * 27594)
    raw.close()


def patient(server):
    return redis.Redis(port=server.port, socket_timeout=300 * PATIENCE)


def digests(server):
    return patient(server).execute_command("DEBUG", "DIGEST-VALUE", "set", "noise", "text")


@pytest.fixture(scope="module", params=[pytest.param(n, marks=pytest.mark.slow if n == "big" else ()) for n in SIZES])
def made(request, tmp_path_factory):
    """A source with the values, and a file of them."""
    members, length, _ = SIZES[request.param]
    directory = tmp_path_factory.mktemp("big")
    world = World(directory)
    try:
        source = big_server(world, "source")
        fill(source, *SIZES[request.param])
        patient(source).save()
        file = source.dir / "dump.rdb"
        yield types.SimpleNamespace(source=source, file=file, members=members, length=length, digests=digests(source))
    finally:
        world.close()
        for path in directory.rglob("*.rdb"):
            path.unlink()


class Peak(threading.Thread):
    """The most memory of its own that a process was seen with; file pages are the kernel's."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.path, self.most, self.over = pathlib.Path(f"/proc/{pid}/status"), 0, threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.02):
            try:
                status = self.path.read_text(encoding="ascii")
            except OSError:
                return
            # A process that has ended and is not waited for has no memory.
            kinds = re.findall(r"Rss(?:Anon|Shmem):\s+(\d+)", status)
            self.most = max(self.most, 1024 * sum(map(int, kinds)))

    def check(self):
        self.over.set()
        self.join()
        assert 0 < self.most < LIMIT, f"{self.most >> 20} MiB"


# A process begins with the peak of the one that forked it, so a small one stands in between.
SMALL = ("import resource, subprocess, sys\nrc = subprocess.run(sys.argv[1:]).returncode\n"
         "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)\nsys.exit(rc)")


class Rdb:
    """A running `gunyu rdb ...`; done() checks its end and its peak of resident memory."""

    def __init__(self, *args):
        self.child = subprocess.Popen(["/usr/bin/python3", "-c", SMALL, GUNYU, "rdb", *map(str, args)],
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.out = self.child.stdout

    def done(self):
        with self.child as child:
            *errors, peak = child.stderr.read().decode().splitlines()
            child.wait()
        assert child.returncode == 0, errors
        assert int(peak) << 10 < LIMIT, f"{int(peak) >> 10} MiB"


def chunks(out):
    return iter(lambda: out.read(1 << 20), b"")


def test_verify_and_report(made):
    run = Rdb("verify", made.file)
    assert b"sound: Redis" in run.out.read()
    run.done()
    for form in ("text", "json", "html"):
        run = Rdb("report", "--format", form, made.file)
        out = run.out.read()
        assert str(made.members).encode() in out.replace(b",", b"") and len(out) < 2 << 20
        run.done()


@pytest.mark.parametrize("form", ("line", "jsonl", "json", "csv"))
def test_print(made, form):
    """Each value whole: the number of bytes printed is what its members and base64 make."""
    run = Rdb("print", "--format", form, "--key", "set", "--key", "noise", made.file)
    size = sum(map(len, chunks(run.out)))
    run.done()
    # "member:" and the digits of every number.
    names = 8 * made.members + sum(max(0, made.members - 10 ** k) for k in range(1, 9))
    base64 = len("{\"base64\":\"\"}") + (made.length + 2) // 3 * 4
    jsonl = sum(map(len, ("{\"db\":0,\"key\":\"set\",\"type\":\"set\",\"expire_at\":null,\"value\":[]}\n",
                          "{\"db\":0,\"key\":\"noise\",\"type\":\"string\",\"expire_at\":null,\"value\":}\n")))
    want = {"jsonl": jsonl + names + 3 * made.members - 1 + base64}
    want["json"] = want["jsonl"] + len("[\n,]\n")
    if form in want:
        assert size == want[form]
    else:
        assert size > (made.members * 20 if form == "csv" else 0) + made.length


def loaded(world, made):
    target = big_server(world, "target")
    yield target
    assert digests(target) == made.digests
    assert {k for k in target.client().scan_iter() if not k.startswith(b"gunyu:position:")} == {b"set", b"noise", b"text"}
    target.kill()


def test_print_resp_makes_them_again(world, made):
    for target in loaded(world, made):
        run = Rdb("print", "--format", "resp", made.file)
        with socket.create_connection(("127.0.0.1", target.port)) as s:
            answers = threading.Thread(target=lambda: list(iter(lambda: s.recv(1 << 20), b"")), daemon=True)
            answers.start()
            for chunk in chunks(run.out):
                s.sendall(chunk)
            s.shutdown(socket.SHUT_WR)
            answers.join()
        run.done()


def test_load(world, made):
    for target in loaded(world, made):
        run = Rdb("load", made.file, "--to", target.uri)
        run.out.read()
        run.done()


def test_sync(world, made):
    for target in loaded(world, made):
        tool = world.gunyu(made.source, target)
        peak = Peak(tool.child.pid)
        made.source.client().set("last", "1")
        wait_until(lambda: target.client().get("last"), "the stream follows", 600)
        peak.check()
        made.source.client().delete("last")
        wait_until(lambda: not target.client().exists("last"), "the stream follows", 60)
        assert tool.stop() == 0
        shutil.rmtree(tool.journal)

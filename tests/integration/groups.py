# SPDX-License-Identifier: Apache-2.0
"""etcd, and nodes of a group that lead nothing but a counter (tests/unit/group_tool.c)."""

import base64
import json
import pathlib
import queue
import shutil
import subprocess
import threading
import time
import urllib.request

import pytest

from clusters import Cluster
from harness import GUNYU, Process, free_port
from waiting import PATIENCE, wait_until

TOOL = pathlib.Path(GUNYU).parent / "tests/unit/group_tool"
PREFIX = "/redis-gunyu/"


def text64(text):
    return base64.b64encode(text.encode()).decode()


class Member(Process):
    """One etcd. tls: (cert, key, ca) of it, for clients."""

    def __init__(self, name, directory, tls=None):
        super().__init__(name, directory)
        self.port, self.peer_port = free_port(), free_port()
        self.tls = tls
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.peer_url = f"http://127.0.0.1:{self.peer_port}"
        self.initial = f"{name}={self.peer_url}"
        self.more = []

    def start(self):
        args = [shutil.which("etcd"), "--name", self.name, "--data-dir", str(self.dir / "data"), "--listen-client-urls", self.url,
                "--advertise-client-urls", self.url, "--listen-peer-urls", self.peer_url,
                "--initial-advertise-peer-urls", self.peer_url, "--initial-cluster", self.initial, "--log-level", "warn"]
        if self.tls:
            cert, key, ca = self.tls
            args += ["--cert-file", cert, "--key-file", key, "--trusted-ca-file", ca, "--client-cert-auth"]
        self.spawn(list(map(str, args + self.more)))
        return self

    def restart(self):
        self.kill()
        return self.start()


class Etcd:
    """A cluster of etcds, with what the tests ask of it by hand."""

    def __init__(self, world, members=1, tls=None, more=()):
        if not shutil.which("etcd"):
            pytest.skip("no etcd on the PATH")
        self.members = [Member(f"etcd{len(world.things)}x{i}", world.dir / f"etcd{len(world.things)}x{i}", tls)
                        for i in range(members)]
        for m in self.members:
            m.initial = ",".join(f"{o.name}={o.peer_url}" for o in self.members)
            m.more = list(more)
            world.things.append(m)
            m.start()
        if not tls:
            self.wait_ready()

    def wait_ready(self):
        for m in self.members:
            if m.alive():
                wait_until(lambda m=m: self.call("kv/range", {"key": text64("x")}, m) is not None, f"{m.name} answers")

    def call(self, path, body, member=None, token=None):
        member = member or next(m for m in self.members if m.alive())
        headers = {"Authorization": token} if token else {}
        request = urllib.request.Request(f"{member.url}/v3/{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=3) as answer:
            return json.loads(answer.read() or b"{}")

    def keys(self, prefix=PREFIX):
        answer = self.call("kv/range", {"key": text64(prefix), "range_end": text64(prefix[:-1] + chr(ord(prefix[-1]) + 1))})
        return {base64.b64decode(kv["key"]).decode(): base64.b64decode(kv.get("value", "")).decode() for kv in answer.get("kvs", [])}

    def delete(self, key):
        return int(self.call("kv/deleterange", {"key": text64(key)}).get("deleted", 0))

    def put(self, key, value):
        self.call("kv/put", {"key": text64(key), "value": text64(value)})

    def config(self):
        return {"endpoints": [m.url for m in self.members]}

    def protect(self, user, password):
        """Only this user may do anything from now on."""
        for path, body in (("auth/user/add", {"name": "root", "password": "r00t"}), ("auth/role/add", {"name": "root"}),
                           ("auth/user/grant", {"user": "root", "role": "root"}),
                           ("auth/user/add", {"name": user, "password": password}), ("auth/role/add", {"name": "gunyu"}),
                           ("auth/role/grant", {"name": "gunyu", "perm": {"permType": "READWRITE", "key": text64(PREFIX),
                                                                         "range_end": text64("/redis-gunyu0")}}),
                           ("auth/user/grant", {"user": user, "role": "gunyu"}), ("auth/enable", {})):
            self.call(path, body)


class Acts:
    """What the nodes wrote while they led, in its order."""

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def read(self):
        if not self.path.exists():
            return []
        lines = [line.split(" ") for line in self.path.read_text(encoding="utf-8").splitlines()]
        return [(shard, node, int(token)) for shard, node, token in lines]

    def check(self):
        """Never two at a time: the tokens of a shard only rise, and each is one node's."""
        last, owner = {}, {}
        for i, (shard, node, token) in enumerate(self.read()):
            assert token >= last.get(shard, 0), f"line {i}: {node} wrote {shard} with token {token} after {last[shard]}"
            assert owner.setdefault((shard, token), node) == node, f"line {i}: two nodes with token {token} of {shard}"
            last[shard] = token


def check(world):
    """What has to hold at the end of every test."""
    Acts(world.dir / "acts").check()
    for thing in world.things:
        if isinstance(thing, Node):
            text = thing.log.read_text(encoding="utf-8", errors="replace")
            assert "Sanitizer" not in text and "runtime error" not in text, f"{thing.name}: {text[-4000:]}"


class Node(Process):
    """One of a group."""

    def __init__(self, world, name, source, etcd=None, lease="3s", group="g", cluster=None, shards=("s1",), config=None):
        super().__init__(f"{name.replace(':', '_')}-{len(world.things)}", world.dir / f"node{len(world.things)}")
        self.node = name
        self.acts = world.dir / "acts"
        self.shards = list(shards)
        peer = {"type": "cluster", "addresses": source.addresses} if isinstance(source, Cluster) else {"addresses": [source.address]}
        group = {"groupName": group, "leaseTimeout": lease, **(cluster or {})}
        if etcd:
            group["metaEtcd"] = {**etcd.config(), **group.get("metaEtcd", {})}
        self.config = {"input": {"redis": config or peer}, "output": {"redis": {"addresses": ["127.0.0.1:1"]}}, "cluster": group,
                       "log": {"level": "debug", "handler": {"stdout": True}}}
        self.lines = queue.Queue()
        self.roles = []  # (time, shard, role, token, leader, replication)
        world.things.append(self)

    def start(self):
        file = self.dir / "node.yaml"
        file.write_text(json.dumps(self.config), encoding="utf-8")
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", str(TOOL), str(file), self.node, str(self.acts)],
                                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
        threading.Thread(target=self._read, args=(self.child,), daemon=True).start()
        self.say("shards", *self.shards)
        return self

    def _read(self, child):
        for line in child.stdout:
            words = line.rstrip("\n").split(" ")
            if words[0] == "role":
                self.roles.append((time.monotonic(), words[1], words[2], int(words[3]), words[4], words[5]))
            else:
                self.lines.put(line.rstrip("\n"))

    def say(self, *words):
        self.child.stdin.write(" ".join(map(str, words)) + "\n")
        self.child.stdin.flush()

    def ask(self, *words):
        """The one line that is answered."""
        self.say(*words)
        return self.lines.get(timeout=20 * PATIENCE)

    def state(self):
        """Lines as lists of words."""
        self.say("state")
        lines = []
        while True:
            line = self.lines.get(timeout=20 * PATIENCE)
            if line == "end":
                return [words.split(" ", 4) for words in lines]
            lines.append(line)

    def role(self, shard="s1"):
        """The last (time, role, token, leader, replication), or None."""
        for when, name, role, token, leader, replication in reversed(self.roles):
            if name == shard:
                return when, role, token, leader, replication
        return None

    def leads(self, shard="s1"):
        role = self.role(shard)
        return self.alive() and role is not None and role[1] == "leader"

    def count(self):
        return sum(self.leads(s) for s in self.shards)

    def report(self, right, ready=1, replid="a" * 40, shards=None, able=1):
        for shard in shards or self.shards:
            self.say("report", shard, replid, right, ready, able)

    def stop(self, timeout=15):
        self.say("stop")
        return self.child.wait(timeout * PATIENCE)


def wait_leader(nodes, shard="s1", but=None, timeout=20):
    """The only one that leads the shard."""
    def one():
        leaders = [n for n in nodes if n.leads(shard) and n is not but]
        return leaders[0] if len(leaders) == 1 else None
    return wait_until(one, f"one leader of {shard}", timeout)

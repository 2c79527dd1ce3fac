# SPDX-License-Identifier: Apache-2.0
"""Groups of several gunyu processes, and the networks between them."""

import json
import os
import pathlib
import re
import subprocess
import threading

from harness import Proxy, free_port, merged
from waiting import wait_until

HERE = pathlib.Path(__file__).resolve().parent


def routes_library(directory):
    """Built once a test; see routes.c."""
    out = pathlib.Path(directory) / "routes.so"
    if not out.exists():
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", out, HERE / "routes.c", "-ldl"], check=True)
    return out


class Node:
    """One process of the group and its own ways to source, target and etcd."""

    def __init__(self, group, number):
        world = group.world
        self.ways = {name: Proxy(port, f"{name}-of-{number}") for name, port in group.ports.items()
                     if name != f"journal-of-{number}"}
        world.things.extend(self.ways.values())
        env = {**os.environ, "LD_PRELOAD": str(routes_library(world.dir)),
               "GUNYU_TEST_ROUTES": ",".join(f"{group.ports[n]}={w.port}" for n, w in self.ways.items())}
        replication = {"server": {"replication": {"listen": f"127.0.0.1:{group.ports[f'journal-of-{number}']}"}}}
        self.tool = world.gunyu(group.source, group.target, start=False, env=env, config=merged(group.config, replication))
        self.name = f"127.0.0.1:{self.tool.port}"
        self.frozen = False

    def group(self):
        code, body = self.tool.get("/syncer/group")
        assert code == 200, body
        return json.loads(body)

    def freeze(self):
        self.frozen = True
        self.tool.freeze()

    def thaw(self):
        self.tool.thaw()
        self.frozen = False

    def cut(self, way):
        """Nothing passes any more, in either direction, and nobody is told."""
        self.ways[way].pause()

    def mend(self, way):
        self.ways[way].cut()
        self.ways[way].resume()


class Group:
    """size nodes with one source and one target; etcd: None has the keys on the source."""

    def __init__(self, world, source, target, size=2, etcd=None, lease=3, config=None):
        self.world, self.source, self.target = world, source, target
        self.ports = {}
        for name, peer in (("source", source), ("target", target)):
            for i, node in enumerate(peer.nodes if hasattr(peer, "nodes") else [peer]):
                self.ports[f"{name}{i or ''}"] = node.port
        cluster = {"groupName": "orders", "leaseTimeout": f"{lease}s", "leaseRenewInterval": f"{lease * 1000 // 3}ms"}
        if etcd:
            cluster["metaEtcd"] = etcd.config()
            self.ports["etcd"] = etcd.members[0].port
        for number in range(size):
            self.ports[f"journal-of-{number}"] = free_port()
        self.config = {**(config or {}), "cluster": cluster}
        self.nodes = [Node(self, i) for i in range(size)]

    def start(self):
        for node in self.nodes:
            node.tool.start()
        wait_until(self.settled, "a leader and its followers, which know of each other")
        return self

    def settled(self):
        leaders = self.leaders()
        return leaders and all(self.follows(n, leaders) for n in self.nodes) and all(
            sum(1 for n in node.group()["Nodes"] if n["Record"]) == len(self.nodes) for node in self.nodes)

    def leaders(self):
        """{source or shard: the node that takes itself for its leader}; None unless each has one."""
        found = [(lane["Input"], n) for n in self.nodes if n.tool.alive() and not n.frozen
                 for lane in n.tool.status() if lane["Role"] == "leader"]
        peers = self.source.masters() if hasattr(self.source, "masters") else [self.source]
        return dict(found) if sorted(i for i, _ in found) == sorted(p.address for p in peers) else None

    @staticmethod
    def follows(node, leaders):
        """It follows the leaders of all that others lead."""
        lanes = node.tool.status()
        return len(lanes) == len(leaders) and all(
            lane["Role"] == ("leader" if leaders.get(lane["Input"]) is node else "follower") and
            (lane["Role"] == "leader" or lane["Link"] == "stream") for lane in lanes)

    def _roles(self, role):
        return [n for n in self.nodes if n.tool.alive() and not n.frozen
                and all(lane["Role"] == role for lane in n.tool.status() or [{"Role": ""}])]

    def leader(self):
        """The node that takes itself for the leader; None unless there is one."""
        leaders = self._roles("leader")
        return leaders[0] if len(leaders) == 1 else None

    def followers(self):
        """Those that follow somebody now."""
        return [n for n in self._roles("follower") if all(lane["Link"] == "stream" for lane in n.tool.status())]


class Epochs:
    """What the target itself sees: the epochs of each source's positions, in their order."""

    SEEN = re.compile(r'"(?:SET|set)" "gunyu:position:([^"]*)" "gunyu/1 [^"]*epoch=(\d+)')

    def __init__(self, server):
        self.seen = {}
        for node in server.masters() if hasattr(server, "masters") else [server]:
            self._listen(node)

    def _listen(self, server):
        connection = server.client().connection_pool.get_connection("MONITOR")
        connection.send_command("MONITOR")
        connection.read_response()
        threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection):
        try:
            while True:
                found = self.SEEN.search(connection.read_response().decode(errors="replace"))
                if found:
                    self.seen.setdefault(found[1], []).append(int(found[2]))
        except Exception:  # pylint: disable=broad-except  # the test has ended
            pass

    def check(self):
        assert self.seen, "no position was written"
        falls = [(a, b) for seen in self.seen.values() for a, b in zip(seen, seen[1:]) if b < a]
        assert not falls, f"an older leader has written after a newer one: {falls[:5]}"

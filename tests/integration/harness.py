# SPDX-License-Identifier: Apache-2.0
"""Real servers, a hostile network between them, and the program under test.

Everything listens on 127.0.0.1 at a free port and keeps its files in a directory of the test.
"""

import functools
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import redis
from redis.cluster import RedisCluster
from redis.crc import key_slot
from redis.exceptions import MovedError

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
GUNYU = os.environ.get("GUNYU", str(ROOT / "build" / "gunyu"))
# A sanitized program on a busy machine is several times slower; the waits scale with it.
PATIENCE = float(os.environ.get("GUNYU_TEST_PATIENCE", "1"))


class Unavailable(Exception):
    """A server version that this machine cannot get."""


def wait_until(condition, what, timeout=20.0, interval=0.02):
    """Calls condition until it returns something true, which is returned. What it raises counts as no."""
    deadline = time.monotonic() + timeout * PATIENCE
    while True:
        last = None
        try:
            last = condition()
            if last:
                return last
        except (redis.RedisError, OSError, ValueError, KeyError, IndexError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout * PATIENCE:.0f} s still not: {what}; last seen: {last!r}")
        time.sleep(interval)


def _port_range():
    """Of this pytest worker, and below those that the system gives to connections: a server finds its
    port free again when it restarts. A Redis cluster's bus is 10000 above."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    ports = list(range(11000 + worker % 8 * 1250, 11000 + worker % 8 * 1250 + 1250))
    random.shuffle(ports)
    return itertools.cycle(ports)


_ports = _port_range()


def free_port():
    for port in _ports:
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


@functools.lru_cache(maxsize=None)
def server_binary(name=None):
    """The executable of e.g. "redis-6" or "valkey-9", or itself; without a name, the one of the system."""
    if not name:
        found = shutil.which("redis-server") or shutil.which("valkey-server")
        if not found:
            raise Unavailable("no redis-server on the PATH")
        return found
    if name.startswith("/"):
        return name
    tool = ROOT / "tools" / "fetch-server"
    if not tool.exists():
        raise Unavailable(f"{name}: tools/fetch-server is not there")
    run = subprocess.run([str(tool), name], capture_output=True, text=True, check=False)
    paths = [line.strip() for line in run.stdout.splitlines() if line.strip().startswith("/")]
    servers = [p for p in paths if p.endswith("-server")] or paths
    if run.returncode != 0 or not servers:
        why = (run.stderr.strip().splitlines() or ["it printed no path"])[-1]
        raise Unavailable(f"{name} cannot be fetched: {why}")
    return servers[0]


def tail(path, lines=60):
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"({error})"
    return "\n".join(text.splitlines()[-lines:])


class Process:
    """A child with a log file; the base of servers and of the program."""

    def __init__(self, name, directory):
        self.name = name
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.log = self.dir / "log"
        self.child = None
        self.to_terminal = False  # our own stdout and stderr instead of the log

    def spawn(self, args, env=None):
        assert not self.alive(), f"{self.name} runs already"
        # Dies with us even when we are killed, where util-linux is there to say so.
        tied = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        with open(self.log, "ab") as log:
            out = None if self.to_terminal else log
            # In its own session, so that a Ctrl-C at us does not race with the teardown.
            self.child = subprocess.Popen(tied + args, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                                          env={**os.environ, **(env or {})}, start_new_session=True)

    def alive(self):
        return self.child is not None and self.child.poll() is None

    def signal(self, number):
        self.child.send_signal(number)

    def kill(self):
        if self.alive():
            self.child.kill()
        if self.child:
            self.child.wait()

    def stop(self, timeout=15):
        """SIGTERM; returns the exit code."""
        if self.alive():
            self.child.terminate()
        try:
            return self.child.wait(timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} ignores SIGTERM for {timeout * PATIENCE:.0f} s") from None

    def freeze(self):
        self.signal(signal.SIGSTOP)

    def thaw(self):
        self.signal(signal.SIGCONT)


class Server(Process):
    """A Redis or Valkey. Options are configuration lines: Server(..., appendonly="yes")."""

    def __init__(self, name, directory, version=None, port=None, **options):
        super().__init__(name, directory)
        self.binary = server_binary(version)
        self.port = port or free_port()
        self.password = options.get("requirepass")
        self.options = {"save": "", "appendonly": "no", "repl-diskless-sync": "yes", "repl-diskless-sync-delay": "0",
                        "repl-backlog-size": "64mb"}
        self.options.update({k.replace("_", "-"): v for k, v in options.items()})

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def uri(self):
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}{self.address}"

    def start(self, wait=True):
        args = [self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.dir)]
        for key, value in self.options.items():
            args += [f"--{key}", str(value)]
        self.spawn(args)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        def ready():
            assert self.alive(), f"{self.name} died:\n{tail(self.log)}"
            return self.client().info("persistence")["loading"] == 0
        wait_until(ready, f"{self.name} ready on port {self.port}")

    def restart(self):
        self.kill()
        return self.start()

    @functools.lru_cache(maxsize=32)
    def client(self, db=0):
        return redis.Redis(host="127.0.0.1", port=self.port, db=db, password=self.password, socket_timeout=30)

    def raw(self, db=0):
        return Raw(self.port, db, self.password)

    def info(self, section):
        return self.client().info(section)

    @functools.cached_property
    def version(self):
        info = self.info("server")
        return tuple(int(n) for n in info["redis_version"].split("."))

    def has(self, command):
        return self.raw().call("COMMAND", "INFO", command)[0] is not None

    def databases(self):
        return int(self.client().config_get("databases")["databases"])

    def full_syncs(self):
        return self.info("stats")["sync_full"]

    def replica_offset(self):
        """What the (only) replica has acknowledged."""
        return self.info("replication")["slave0"]["offset"]


SLOTS = 16384


class Cluster:
    """Servers in cluster mode with the slots spread evenly. Whoever is up is asked what is so; shards are
    numbered in the order of their first slots. An option that is a function is called for each node."""

    def __init__(self, world, name, masters=3, replicas=0, version=None, **options):
        self.world = world
        self.name = name
        self.version = version
        self.options = {"cluster_enabled": "yes", "cluster_config_file": "nodes.conf", "cluster_node_timeout": 1500,
                        "cluster_replica_validity_factor": 0,
                        # Redis 6 has no manual failover before its stream has begun.
                        "repl_ping_replica_period": 1, **options}
        if "requirepass" in options:
            self.options.setdefault("masterauth", options["requirepass"])
        self.nodes = []
        firsts = [self._start() for _ in range(masters)]
        for at, node in enumerate(firsts):
            slots = range(SLOTS * at // masters, SLOTS * (at + 1) // masters)
            node.client().execute_command("CLUSTER", "ADDSLOTS", *slots)
            node.client().execute_command("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
        seconds = [(self._start(), master) for master in firsts for _ in range(replicas)]
        self._meet(self.nodes[1:])
        for node, master in seconds:
            node.client().execute_command("CLUSTER", "REPLICATE", master.cluster_id)
        self.wait_agreed(lambda: all(self.is_replica(node) for node, _ in seconds))

    def _start(self):
        options = {name: value() if callable(value) else value for name, value in self.options.items()}
        node = self.world.server(self.name, version=self.version, **options)
        node.cluster_id = node.raw().call("CLUSTER", "MYID").decode()
        self.nodes.append(node)
        return node

    @staticmethod
    def _port_among_nodes(node):
        """The bus is 10000 above it, and MIGRATE goes there."""
        return node.options["tls-port"] if node.options.get("tls-cluster") == "yes" else node.port

    def _meet(self, newcomers):
        for node in newcomers:
            self.nodes[0].client().execute_command("CLUSTER", "MEET", "127.0.0.1", self._port_among_nodes(node))
        wait_until(lambda: all(len(self.view(node)) == len(self.nodes) for node in self.up()),
                   f"all nodes of {self.name} know each other")

    # ---- what is so ----

    def up(self):
        return [node for node in self.nodes if node.alive()]

    def view(self, node):
        """{id: (port, flags, master id, (first slot, last slot)...)} as this node says."""
        out = {}
        for line in node.raw().call("CLUSTER", "NODES").decode().splitlines():
            ident, address, flags, master, _, _, _, _, *slots = line.split()
            ranges = sorted(tuple(int(n) for n in (s.split("-") * 2)[:2]) for s in slots if s[0] != "[")
            port = int(address.split("@")[0].rsplit(":", 1)[1])
            out[ident] = (port, set(flags.split(",")) - {"myself"}, master, tuple(ranges))
        return out

    def agreed(self):
        """The view, when those that are up have the same one and serve all slots; else None."""
        views = [self.view(node) for node in self.up()]
        states = [node.raw().call("CLUSTER", "INFO") for node in self.up()]
        same = all(view == views[0] for view in views) and all(b"cluster_state:ok" in s for s in states)
        return views[0] if same else None

    def wait_agreed(self, also=lambda: True):
        def done():
            return self.agreed() and also() and all(
                node.info("replication")["master_link_status"] == "up" for node in self.up() if self.is_replica(node))
        wait_until(done, f"the nodes of {self.name} agree", 60)

    def is_replica(self, node):
        return node.info("replication")["role"] == "slave"

    def node(self, ident):
        return next(node for node in self.nodes if node.cluster_id == ident)

    def masters(self):
        """Those with slots, in the order of their first slots."""
        view = self.view(self.up()[0])
        found = [(slots[0], ident) for ident, (_, flags, _, slots) in view.items() if slots and "master" in flags]
        return [self.node(ident) for _, ident in sorted(found)]

    def replicas(self, shard):
        master = self.masters()[shard].cluster_id
        view = self.view(self.up()[0])
        found = [self.node(ident) for ident, row in view.items() if row[2] == master]
        return [node for node in found if node.alive()]

    @staticmethod
    def slot_of(key):
        return key_slot(key if isinstance(key, bytes) else key.encode())

    def node_of_slot(self, slot):
        view = self.view(self.up()[0])
        return self.node(next(i for i, row in view.items() if any(a <= slot <= b for a, b in row[3])))

    # ---- how to reach it ----

    @property
    def address(self):
        return self.up()[0].address

    @property
    def addresses(self):
        return [node.address for node in self.nodes]

    @property
    def uri(self):
        return self.up()[0].uri

    @property
    def password(self):
        return self.nodes[0].password

    def client(self, db=0):
        """Goes to the right node by itself."""
        assert db == 0
        return RedisCluster(host="127.0.0.1", port=self.up()[0].port, password=self.password, socket_timeout=30)

    def raw(self, db=0):
        """To all of it, as it is now."""
        return ClusterRaw(self, db)

    def has(self, command):
        return self.up()[0].has(command)

    def databases(self):
        return 1 if self.up()[0].raw().call("SELECT", 1) != b"OK" else self.up()[0].databases()

    # ---- changes ----

    def failover(self, shard, how=None):
        """A replica of the shard takes over; how: None (with the master's help), "FORCE" or "TAKEOVER". Returns it."""
        replica = self.replicas(shard)[0]

        def took_over():
            # A manual failover may come to nothing and is then forgotten.
            replica.raw().call("CLUSTER", "FAILOVER", *([how] if how else []))
            try:
                return wait_until(lambda: not self.is_replica(replica), "its role", 3)
            except AssertionError:
                return False
        wait_until(took_over, f"{replica.name} takes over", 30)
        self.wait_agreed(lambda: replica in self.masters())
        return replica

    def kill_master(self, shard):
        """Returns the one that is dead now; restart() brings it back."""
        node = self.masters()[shard]
        node.kill()
        return node

    def add_replica(self, master):
        """master: a node or the number of a shard."""
        master = self.masters()[master] if isinstance(master, int) else master
        node = self._start()
        self._meet([node])
        node.client().execute_command("CLUSTER", "REPLICATE", master.cluster_id)
        self.wait_agreed(lambda: self.is_replica(node))
        return node

    def add_node(self):
        """A master without slots, with the functions of the others, as redis-cli adds it."""
        node = self._start()
        self._meet([node])
        self.wait_agreed()
        if node.has("function"):
            node.raw().call("FUNCTION", "RESTORE", self.nodes[0].raw().call("FUNCTION", "DUMP"))
        return node

    def remove_node(self, node):
        """One that has no slots, or a dead one."""
        node.kill()
        self.nodes.remove(node)
        for other in self.up():
            other.client().execute_command("CLUSTER", "FORGET", node.cluster_id)
        self.wait_agreed(lambda: all(node.cluster_id not in self.view(other) for other in self.up()))

    def begin_move(self, slot, source, target):
        """From here on the slot is moved key by key, until end_move."""
        target.client().execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.cluster_id)
        source.client().execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.cluster_id)

    def move_key(self, key, source, target):
        auth = ["AUTH", self.password] if self.password else []
        reply = source.raw().call("MIGRATE", "127.0.0.1", self._port_among_nodes(target), "", 0, 10000, *auth, "KEYS", key)
        assert reply in (b"OK", b"NOKEY"), reply

    def end_move(self, slot, source, target):
        others = [node for node in self.up() if node not in (source, target) and not self.is_replica(node)]
        for node in [target, source] + others:
            node.client().execute_command("CLUSTER", "SETSLOT", slot, "NODE", target.cluster_id)

    def move_slots(self, slots, source, target, pause=None):
        """As redis-cli does, one key at a time; pause(slot, key) is called before each key and, with key None, at
        the end of each slot."""
        for slot in slots:
            self.begin_move(slot, source, target)
            while keys := source.raw().call("CLUSTER", "GETKEYSINSLOT", slot, 100):
                for key in keys:
                    if pause:
                        pause(slot, key)
                    self.move_key(key, source, target)
            if pause:
                pause(slot, None)
            self.end_move(slot, source, target)
        self.wait_agreed()


class Sentinel(Process):
    """One Redis Sentinel; its configuration file is its own to rewrite."""

    def __init__(self, name, directory, version, lines, password=None):
        super().__init__(name, directory)
        self.binary = server_binary(version)
        self.port = free_port()
        self.password = password
        self.file = self.dir / "sentinel.conf"
        own = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.dir}", *lines]
        if password:
            own += [f"requirepass {password}"]
        self.file.write_text("\n".join(own) + "\n", encoding="utf-8")

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def uri(self):
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}{self.address}"

    def start(self):
        self.spawn([self.binary, str(self.file), "--sentinel"])
        return self

    def raw(self):
        return Raw(self.port, 0, self.password)


class Sentinels:
    """Sentinels that watch one master, whose replicas they find themselves. password: of the sentinels."""

    def __init__(self, world, master, count=3, quorum=2, name="mymaster", password=None, version=None, replicas=1):
        self.name = name
        lines = [f"sentinel monitor {name} 127.0.0.1 {master.port} {quorum}",
                 f"sentinel down-after-milliseconds {name} 1000", f"sentinel failover-timeout {name} 4000"]
        if master.password:
            lines += [f"sentinel auth-pass {name} {master.password}"]
        if password:
            lines += [f"sentinel sentinel-pass {password}"]
        self.nodes = [world.sentinel(version, lines, password) for _ in range(count)]
        wait_until(lambda: all(self._ready(node, count, replicas) for node in self.nodes), "the sentinels know all", 60)

    def _ready(self, node, count, replicas):
        row = self.about(node)
        seen = int(row["num-other-sentinels"]), int(row["num-slaves"]), row["flags"]
        return seen == (count - 1, replicas, "master")

    def about(self, node):
        row = [word.decode() for word in node.raw().call("SENTINEL", "MASTER", self.name)]
        return dict(zip(row[::2], row[1::2]))

    def master_port(self, node=None):
        node = node or next(n for n in self.nodes if n.alive())
        return int(node.raw().call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)[1])

    @property
    def addresses(self):
        return [node.address for node in self.nodes]

    def failover(self):
        """Has a replica take over although the master lives. Returns the new master's port once all sentinels know."""
        old = self.master_port()
        up = [node for node in self.nodes if node.alive()]
        wait_until(lambda: up[0].raw().call("SENTINEL", "FAILOVER", self.name) == b"OK", "a failover begins")
        return self.wait_other(old)

    def wait_other(self, old):
        """Until all sentinels have another master than the one at port old; returns its port."""
        up = [node for node in self.nodes if node.alive()]
        wait_until(lambda: old not in {self.master_port(node) for node in up}, "all sentinels know the new master", 60)
        return self.master_port(up[0])


class Raw:
    """Commands out, plain replies in, pipelined; an error reply is returned, not raised."""

    def __init__(self, port, db=0, password=None):
        self.connection = redis.Connection(host="127.0.0.1", port=port, db=db, password=password, socket_timeout=60)

    def read(self):
        try:
            return self.connection.read_response()
        except redis.ResponseError as error:
            return error

    def many(self, commands, window=500):
        commands = list(commands)
        replies = []
        for at in range(0, len(commands), window):
            part = commands[at:at + window]
            self.connection.send_packed_command(self.connection.pack_commands(part))
            replies += [self.read() for _ in part]
        return replies

    def call(self, *command):
        return self.many([command])[0]

    def each(self):
        """Itself; of a cluster, those to its masters."""
        return [self]

    def owner(self, _):
        """Itself; of a cluster, the one to the owner of the key."""
        return self

    def close(self):
        self.connection.disconnect()


class ClusterRaw:
    """As Raw, each command to the owner of its (first) key."""

    def __init__(self, cluster, db):
        self.cluster = cluster
        self.masters = cluster.masters()
        self.raws = {node.port: node.raw(db) for node in self.masters}
        view = cluster.view(self.masters[0])
        self.port_of = {}
        for port, _, _, slots in view.values():
            for first, last in slots:
                self.port_of.update(dict.fromkeys(range(first, last + 1), port))

    def each(self):
        return list(self.raws.values())

    def owner(self, key):
        return self.raws[self.port_of[self.cluster.slot_of(key)]]

    def many(self, commands, window=500):
        commands = list(commands)
        by_port = {}
        for at, command in enumerate(commands):
            name = command[0]
            key = command[2 if name in ("XINFO", "OBJECT") else 1] if name != "TIME" else b""
            port = self.port_of[self.cluster.slot_of(key)]
            by_port.setdefault(port, []).append((at, command))
        found = {}
        for port, some in by_port.items():
            replies = self.raws[port].many([c for _, c in some], window)
            found.update(zip([at for at, _ in some], replies))
        # Where the second word is no key the owner is told by who was asked instead.
        for at in sorted(found):
            if type(found[at]) is MovedError:
                found[at] = self.raws[found[at].port].call(*commands[at])
        return [found[at] for at in sorted(found)]

    def call(self, *command):
        return self.many([command])[0]

    def close(self):
        for raw in self.raws.values():
            raw.close()


class Proxy:
    """A TCP relay that misbehaves on request. Settings apply to bytes that pass from then on."""

    def __init__(self, port, name="proxy"):
        self.name = name
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.pairs = []
        self.lock = threading.Lock()
        self.flowing = threading.Event()
        self.flowing.set()
        self.refusing = False  # accept and close at once
        self.delay = 0.0       # seconds before each piece
        self.piece = 0         # bytes a piece, 0 any
        self.rate = 0          # bytes a second and direction, 0 any
        self.cut_at = None     # passed bytes (both directions) at which everything is cut
        self.passed = 0
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def uri(self):
        return f"redis://{self.address}"

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                if self.refusing:
                    raise OSError
                server = socket.create_connection(("127.0.0.1", self.target), 5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            for s in (client, server):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.connections += 1
                self.pairs.append((client, server))
            for a, b in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

    def _pump(self, source, sink):
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                view = memoryview(data)
                while view:
                    self.flowing.wait()
                    part = view[:self.piece or (max(1, self.rate // 100) if self.rate else len(view))]
                    if self.delay:
                        time.sleep(self.delay)
                    if self.rate:
                        time.sleep(len(part) / self.rate)
                    sink.sendall(part)
                    view = view[len(part):]
                    with self.lock:
                        self.passed += len(part)
                        due = self.cut_at is not None and self.passed >= self.cut_at
                        if due:
                            self.cut_at = None
                    if due:
                        self.cut()
        except OSError:
            pass
        for s in (source, sink):
            self._close(s)

    @staticmethod
    def _close(s):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        s.close()

    def cut(self):
        """Ends every connection; new ones are served."""
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for s in pair:
                self._close(s)
        return len(pairs)

    def cut_after(self, count):
        with self.lock:
            self.cut_at = self.passed + count

    def pause(self):
        """Half-open: connections stay, nothing passes."""
        self.flowing.clear()

    def resume(self):
        self.flowing.set()

    def close(self):
        self.refusing = True
        self._close(self.listener)
        self.cut()
        self.flowing.set()


def merged(base, extra):
    out = dict(base)
    for key, value in (extra or {}).items():
        out[key] = merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


class Gunyu(Process):
    """build/gunyu with a configuration file. source and target: Server or Proxy."""

    def __init__(self, directory, source, target, config=None, env=None, name="gunyu", args=None):
        super().__init__(name, directory)
        self.port = free_port()
        self.env = env
        self.journal = self.dir / "journal"
        self.source = source
        self.target = target
        self.config = merged({
            "input": {"redis": self._peer(source)},
            "output": {"redis": self._peer(target)},
            "channel": {"type": "storer", "storer": {"dirPath": str(self.journal)}},
            "server": {"listen": f"127.0.0.1:{self.port}"},
            "log": {"level": "debug", "handler": {"stdout": True}},
        }, config)
        for side, peer in (("input", source), ("output", target)):
            if getattr(peer, "password", None):
                self.config[side]["redis"].setdefault("password", peer.password)
        self.file = self.dir / "gunyu.yaml"
        self.args = args

    @staticmethod
    def _peer(peer):
        if isinstance(peer, Cluster):
            return {"type": "cluster", "addresses": peer.addresses}
        return {"type": "standalone", "addresses": [peer.address]}

    def start(self, wait=True):
        # JSON is YAML, so no emitter is needed.
        self.file.write_text(json.dumps(self.config, indent=2), encoding="utf-8")
        self.spawn([GUNYU] + (self.args or ["-conf", str(self.file)]), self.env)
        if wait:
            def up():
                assert self.alive(), f"gunyu ended with {self.child.returncode}:\n{tail(self.log)}"
                return self.get("/debug/health")[0] == 200
            wait_until(up, "gunyu's HTTP API up")
        return self

    def restart(self, wait=True):
        self.kill()
        return self.start(wait)

    def request(self, method, path, headers=None, timeout=30):
        """(status, body); a refusal by HTTP status is an answer like any other."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method, headers=headers or {},
                                         data=b"" if method == "POST" else None)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, **more):
        return self.request("POST", path, **more)

    def act(self, action, inputs="all", more=""):
        status, body = self.post(f"/syncer/{action}?inputs={inputs}{more}")
        assert status == 200, f"{action}: {status} {body}"

    def status(self):
        code, body = self.get("/syncer/status")
        assert code == 200, body
        return json.loads(body)

    def state(self):
        """Of the first lane; with "error", which the compatible State shows as stop."""
        return self.status()[0]["LaneState"]

    def wait_state(self, state, timeout=20):
        wait_until(lambda: self.state() == state, f"state {state}", timeout)

    def metrics(self):
        """{"name{labels}": value} of the Prometheus text."""
        code, text = self.get("/prometheus")
        assert code == 200
        out = {}
        for line in text.splitlines():
            match = re.match(r"^([a-zA-Z_:][^ {]*(?:\{.*\})?) (\S+)", line)
            if match:
                out[match[1]] = float(match[2])
        return out

    def metric(self, name, **labels):
        """Sum over the series of this name (without the prefix of the program) with these labels."""
        total = 0.0
        for series, value in self.metrics().items():
            base = series.split("{")[0]
            if base.split("_", 1)[-1] == name and all(f'{k}="{v}"' in series for k, v in labels.items()):
                total += value
        return total

    def text(self):
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""


SANITIZER = re.compile(r"ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:|stack smashing")


class World:
    """What one test has started; ends it and says what it said."""

    def __init__(self, directory):
        self.dir = pathlib.Path(directory)
        self.things = []

    def _name(self, name):
        return f"{name}{len(self.things)}"

    def server(self, name="server", start=True, version=None, **options):
        name = self._name(name)
        server = Server(name, self.dir / name, version, **options)
        self.things.append(server)
        return server.start() if start else server

    def source(self, **options):
        options.setdefault("version", os.environ.get("GUNYU_TEST_SOURCE") or None)
        return self.server("source", **options)

    def target(self, **options):
        options.setdefault("version", os.environ.get("GUNYU_TEST_TARGET") or None)
        return self.server("target", **options)

    def cluster(self, name="cluster", masters=3, replicas=0, version=None, **options):
        """With replicas for each master; options are those of the nodes."""
        return Cluster(self, name, masters, replicas, version, **options)

    def sentinel(self, version, lines, password):
        name = self._name("sentinel")
        sentinel = Sentinel(name, self.dir / name, version, lines, password)
        self.things.append(sentinel)
        return sentinel.start()

    def sentinels(self, master, **options):
        """options: of Sentinels."""
        return Sentinels(self, master, **options)

    def proxy(self, server):
        proxy = Proxy(server.port, self._name("proxy"))
        self.things.append(proxy)
        return proxy

    def gunyu(self, source, target, start=True, wait=True, **more):
        name = self._name("gunyu")
        tool = Gunyu(self.dir / name, source, target, name=name, **more)
        self.things.append(tool)
        return tool.start(wait) if start else tool

    def logs(self):
        return [(t.name, tail(t.log)) for t in self.things if isinstance(t, Process)]

    def close(self):
        found = []
        # The program first: else it spends its log on peers that vanish.
        for thing in sorted(self.things, key=lambda t: not isinstance(t, Gunyu)):
            if isinstance(thing, Gunyu):
                if thing.alive():
                    thing.thaw()
                    thing.child.terminate()
                    try:
                        thing.child.wait(10 * PATIENCE)
                    except subprocess.TimeoutExpired:
                        thing.kill()
                        found.append(f"{thing.name} did not end on SIGTERM")
                match = SANITIZER.search(thing.text())
                if match:
                    found.append(f"{thing.name}: {match[0]}")
                if thing.child and thing.child.returncode in (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS):
                    found.append(f"{thing.name} crashed with signal {-thing.child.returncode}")
            elif isinstance(thing, Process):
                thing.kill()
            else:
                thing.close()
        assert not found, "; ".join(found)

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

from clusters import Cluster, Sentinels
from waiting import PATIENCE, wait_until

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
GUNYU = os.environ.get("GUNYU", str(ROOT / "build" / "gunyu"))


class Unavailable(Exception):
    """A server version that this machine cannot get."""


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


class Endpoint:
    """What listens at self.port, perhaps with a password."""

    password = None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def uri(self):
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}{self.address}"

    def raw(self, db=0):
        return Raw(self.port, db, self.password)


class Server(Endpoint, Process):
    """A Redis or Valkey. Options are configuration lines: Server(..., appendonly="yes")."""

    def __init__(self, name, directory, version=None, port=None, **options):
        super().__init__(name, directory)
        self.binary = server_binary(version)
        self.port = port or free_port()
        self.password = options.get("requirepass")
        self.options = {"save": "", "appendonly": "no", "repl-diskless-sync": "yes", "repl-diskless-sync-delay": "0",
                        "repl-backlog-size": "64mb"}
        self.options.update({k.replace("_", "-"): v for k, v in options.items()})

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


class Sentinel(Endpoint, Process):
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

    def start(self):
        self.spawn([self.binary, str(self.file), "--sentinel"])
        return self


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


class Proxy(Endpoint):
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

# SPDX-License-Identifier: Apache-2.0
"""Several servers that are one: a Redis Cluster, and a master that sentinels watch."""

import subprocess

from redis.cluster import RedisCluster
from redis.crc import key_slot
from redis.exceptions import MovedError

from waiting import wait_until

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

    def lose_master(self, shard):
        """As kill_master; by then a replica has taken over."""
        count = len(self.masters())
        dead = self.kill_master(shard)
        wait_until(lambda: dead not in self.masters() and len(self.masters()) == count, "a replica takes over", 30)
        return dead

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
            self.finish_move(slot, source, target, pause)
        self.wait_agreed()

    def finish_move(self, slot, source, target, pause=None):
        """What is left of it in the source, and the slot itself."""
        while keys := source.raw().call("CLUSTER", "GETKEYSINSLOT", slot, 100):
            for key in keys:
                if pause:
                    pause(slot, key)
                self.move_key(key, source, target)
        if pause:
            pause(slot, None)
        self.end_move(slot, source, target)

    def reshard(self, count, source, target):
        """As people do it: redis-cli moves the first so many slots, several keys at a time."""
        run = subprocess.run(["redis-cli", "--cluster", "reshard", source.address, "--cluster-from", source.cluster_id,
                              "--cluster-to", target.cluster_id, "--cluster-slots", str(count), "--cluster-yes"],
                             capture_output=True, text=True, check=False, timeout=300)
        assert run.returncode == 0, run.stdout[-2000:] + run.stderr
        self.wait_agreed()


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

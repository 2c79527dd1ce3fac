# SPDX-License-Identifier: Apache-2.0
"""The command table against live servers: the keys that it finds are those of COMMAND GETKEYS, no
server has a command that the table lacks, and what it calls blind is."""
import pathlib
import random
import re
import shutil
import subprocess
import time

import pytest
import redis

import harness

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = pathlib.Path(harness.GUNYU).parent / "tests/unit/cmdkeys_tool"
SERVERS = ["system", "redis-6", "redis-8", "redis-next", "valkey-8", "valkey-9"]
CORPUS = ROOT / "tests/data/getkeys-corpus.txt"


def server_program(name):
    if name == "system":
        return shutil.which("redis-server")
    fetched = subprocess.run([ROOT / "tools/fetch-server", name], text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    return fetched.stdout.split("\n")[0] if fetched.returncode == 0 else None


@pytest.fixture(scope="module", params=SERVERS)
def server(request, tmp_path_factory):
    """A connection to a running server of each version."""
    program = server_program(request.param)
    if not program:
        pytest.skip(f"{request.param} cannot be had here")
    port = harness.free_port()
    process = subprocess.Popen(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "",
         "--dir", str(tmp_path_factory.mktemp("server"))], stdout=subprocess.DEVNULL)
    client = redis.Redis(host="127.0.0.1", port=port, decode_responses=True)
    deadline = time.monotonic() + 20
    while True:
        try:
            client.ping()
            break
        except redis.ConnectionError:
            assert process.poll() is None and time.monotonic() < deadline, "server does not start"
            time.sleep(0.02)
    yield client
    client.close()
    process.terminate()
    process.wait()


def raw(client, *args):
    """A reply as it is, without what the library makes of it."""
    connection = client.connection_pool.get_connection("_")
    try:
        connection.send_command(*args)
        return connection.read_response()
    finally:
        client.connection_pool.release(connection)


def keys_of_table(commands):
    """What the table says of each command: a list of keys, or "!" or "?"."""
    text = "".join("\t".join(c) + "\n" for c in commands)
    out = subprocess.run([TOOL], input=text, text=True, stdout=subprocess.PIPE, check=True).stdout
    lines = out.split("\n")[:-1]
    assert len(lines) == len(commands)
    return [line if line in ("!", "?") else line.split("\t") if line else [] for line in lines]


def keys_of_server(client, command):
    """A list of keys, "!" when the arguments do not fit, "?" when the command is unknown."""
    try:
        return list(raw(client, "COMMAND", "GETKEYS", *command))
    except redis.ResponseError as e:
        if "has no key arguments" in str(e):
            return []
        # 7.0 cannot be asked about a single word.
        if "Invalid command specified" in str(e) or "command|getkeys" in str(e):
            return "?"
        assert "Invalid" in str(e), e
        return "!"


def server_commands(client):
    """Row of each command and subcommand by lower-case name."""
    rows = {}
    for row in raw(client, "COMMAND"):
        rows[row[0].lower()] = row
        for sub in row[9] if len(row) > 9 else []:
            rows[sub[0].lower()] = sub
    return rows


def corpus(fitting):
    lines = [line for line in CORPUS.read_text().split("\n") if line and not line.startswith("# ")]
    return [["" if word == "''" else word for word in line.removeprefix("! ").split(" ")]
            for line in lines if line.startswith("! ") != fitting]


def differences(client, commands):
    """Where the table and the server disagree about arguments that fit."""
    version = int(client.info("server")["redis_version"].split(".")[0])
    out = []
    for command, ours in zip(commands, keys_of_table(commands)):
        theirs = keys_of_server(client, command)
        if theirs in ("?", ours):
            continue
        if version < 7 and sorted(theirs) == sorted(ours):
            continue  # 6.0 lists the destination last
        if theirs == "!" and (command[0] == "pfmerge" or ours == []):
            continue  # servers from 7.0 on refuse to see that a command may have no (source) keys
        if version < 7 and command[0] == "migrate" and "auth" in " ".join(command):
            continue  # 6.0 takes a user or password "keys" for the option
        out.append(f"{' '.join(command)}: server {theirs}, table {ours}")
    return out


def test_the_corpus_has_the_keys_that_the_server_says(server):
    assert "\n".join(differences(server, corpus(fitting=True))) == ""


def test_arguments_that_do_not_fit_have_no_keys(server):
    commands = corpus(fitting=False)
    assert len(commands) > 5
    assert set(keys_of_table(commands)) == {"!"}
    # Where a count is wrong, servers may say that there are no keys.
    assert all(keys_of_server(server, c) in ("!", "?", []) for c in commands)


def test_commands_with_fixed_positions_have_the_keys_that_the_server_says(server):
    commands = []
    for name, row in server_commands(server).items():
        arity, flags = row[1], row[2]
        if "movablekeys" in flags or row[3] <= 0:
            continue
        words = name.split("|")
        for extra in (0, 1, 2) if arity < 0 else (0,):
            count = abs(arity) - len(words) + extra
            commands.append(words + [f"a{i}" for i in range(count)])
    assert len(commands) > 100
    assert "\n".join(differences(server, commands)) == ""


def test_the_table_knows_every_command_of_the_server(server):
    rows = {name: row for name, row in server_commands(server).items()
            if name not in ("post", "host:")}
    # With too few arguments the table says "!", with none of its own "?" only for unknown commands.
    names = list(rows)
    verdicts = keys_of_table([name.split("|") for name in names])
    assert [n for n, v in zip(names, verdicts) if v == "?"] == []


# ---- blind ----

BLIND_KEYS = ["a", "b"]
TTL_AT = "4000000000000"  # far away, in milliseconds


def blind_commands():
    """The blind ones of all that random_command can make, nearly."""
    rng = random.Random(0)
    commands = {tuple(random_command(rng)) for _ in range(20000)}
    text = "".join("\t".join(c) + "\n" for c in commands)
    out = subprocess.run([TOOL, "blind"], input=text, text=True, stdout=subprocess.PIPE, check=True)
    return {c for c, line in zip(commands, out.stdout.split("\n")) if line == "blind"}


def random_command(rng):
    """A write of any kind on few keys with few elements, so that commands meet."""
    k, m, n = rng.choice(BLIND_KEYS), rng.choice("xyz"), str(rng.randrange(4))
    return rng.choice([
        ["set", k, m], ["set", k, m, "keepttl"], ["set", k, m, "nx"], ["mset", "a", m, "b", n],
        ["getset", k, m], ["setrange", k, n, m * 2], ["setbit", k, n, "1"], ["setbit", k, n, "0"],
        ["append", k, m], ["incr", k], ["del", k], ["unlink", "a", "b"], ["getdel", k],
        ["persist", k], ["pexpireat", k, TTL_AT], ["hset", k, m, n], ["hmset", k, m, n, "x", "9"],
        ["hdel", k, m], ["hsetnx", k, m, n], ["hincrby", k, m, n], ["sadd", k, m], ["srem", k, m],
        ["zadd", k, n, m], ["zadd", k, "ch", n, m], ["zadd", k, "gt", n, m], ["zrem", k, m],
        ["zincrby", k, n, m], ["geoadd", k, n, n, m], ["rpush", k, m], ["lset", k, "0", m],
        ["lrem", k, "1", m], ["pfadd", k, m], ["pfadd", k], ["pfcount", k],
        ["xadd", k, f"{n}-1", "f", m], ["xdel", k, f"{n}-1"], ["xack", k, "g", f"{n}-1"],
        ["xtrim", k, "maxlen", n], ["rename", "a", "b"], ["copy", "a", "b"],
        ["sunionstore", "a", "b"], ["hpersist", k, "fields", "1", m], ["get", k],
    ])


def random_state(rng):
    """Commands that build the keys, of random types, with or without an expiry."""
    out = [["flushall"]]
    for k in BLIND_KEYS:
        out += rng.choice([
            [], [["set", k, "value"]], [["hset", k, "x", "1", "y", "2"]], [["sadd", k, "x", "y"]],
            [["zadd", k, "1", "x", "2", "y"]], [["rpush", k, "x", "y"]], [["pfadd", k, "p", "q"]],
            [["xadd", k, f"{i}-1", "f", "v"] for i in range(1, 4)]
            + [["xgroup", "create", k, "g", "0"], ["xreadgroup", "group", "g", "c", "streams", k,
                                                   ">"]],
        ])
        if rng.random() < 0.5:
            out.append(["pexpireat", k, TTL_AT])
    return out


def run(client, commands):
    """Replies, errors included."""
    connection = client.connection_pool.get_connection("_")
    try:
        connection.send_packed_command(connection.pack_commands(commands))
        replies = []
        for _ in commands:
            try:
                replies.append(connection.read_response(disable_decoding=True))
            except redis.ResponseError as e:
                replies.append(e)
        return replies
    finally:
        client.connection_pool.release(connection)


def content(client):
    """What the keys hold, whatever their encoding."""
    reads = {
        b"string": ["get"], b"hash": ["hgetall"], b"set": ["smembers"],
        b"list": ["lrange", "0", "-1"],
        b"zset": ["zrange", "0", "-1", "withscores"], b"stream": ["xrange", "-", "+"],
    }
    out = []
    for k in BLIND_KEYS:
        kind, ttl = run(client, [["type", k], ["pttl", k]])
        value = None
        if kind in reads:
            name, *rest = reads[kind]
            value = run(client, [[name, k] + rest])[0]
        if kind == b"set":
            value = sorted(value)
        elif kind == b"hash":
            value = sorted(zip(value[::2], value[1::2]))
        elif kind == b"stream":
            value = [value, run(client, [["xpending", k, "g"]])[0]]
        out.append((kind, ttl > 0, value))
    return str(out)


def find_repetition_that_differs(client, pick, trials, seed):
    """Applies stretches of commands that pick lets through, then a beginning of them and all of
    them again. The first stretch that ends otherwise, or None."""
    rng = random.Random(seed)
    for _ in range(trials):
        state = random_state(rng)
        stretch = pick([random_command(rng) for _ in range(60)])[:6]
        # A source sends only what succeeded there.
        replies = run(client, state + stretch)[len(state):]
        stretch = [c for c, r in zip(stretch, replies) if not isinstance(r, redis.ResponseError)]
        run(client, state + stretch)
        want = content(client)
        for j in range(1, len(stretch) + 1):
            run(client, state + stretch[:j] + stretch)
            if content(client) != want:
                return f"{state}: {stretch}, repeated after {j}: {content(client)}, not {want}"
    return None


def test_blind_commands_may_be_repeated_from_any_intermediate_state(server):
    blind = blind_commands()
    assert {c[0] for c in blind} > {"set", "hset", "sadd", "zadd", "del", "persist", "pfadd"}
    assert find_repetition_that_differs(
        server, lambda commands: [c for c in commands if tuple(c) in blind], 60, 1) is None


def test_the_repetition_test_sees_why_removing_elements_is_not_blind(server):
    def with_removals(commands):
        return [c for c in commands if c[0] in ("sadd", "srem")]

    assert find_repetition_that_differs(server, with_removals, 3000, 2) is not None


def test_the_generated_table_is_of_this_overlay():
    """Every name of the overlay is in the checked-in table."""
    table = (ROOT / "src/codec/cmdtable.inc").read_text()
    overlay = (ROOT / "tools/cmdtable-overlay.toml").read_text()
    names = re.findall(r'^"?([a-z_.|-]+)"? = (?:"-?\d+ |\{ rule)', overlay, re.M)
    assert len(names) > 100
    assert [n for n in names if f'{{{{"{n}", ' not in table] == []

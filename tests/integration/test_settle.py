# SPDX-License-Identifier: Apache-2.0
"""`gunyu settle`: what a stopped gunyu has left with far expiries gets the true ones."""

import json
import subprocess
import time

import pytest

from compare import wait_equal, wait_passed
from harness import GUNYU, Unavailable, wait_until

FAR = 1 << 45


def settle(*args, env=None):
    return subprocess.run([GUNYU, "settle", *map(str, args)], capture_output=True, text=True, check=False, env=env)


def expiries(server, keys):
    return server.raw().many(("PEXPIRETIME", key) for key in keys)


def test_what_a_stopped_lane_held_gets_its_true_expiry(world, pair):
    source, target = pair
    raw = source.raw()
    keys = [f"k:{i}" for i in range(1500)]
    raw.many(("SET", key, i, "PX", 600_000 + i) for i, key in enumerate(keys))
    raw.many([("SELECT", 5), ("HSET", "hash", "f", 1), ("PEXPIRE", "hash", 700_123), ("SELECT", 0),
              ("SET", "forever", 1), ("SET", "late", 1, "EX", 3 * 86400)])
    tool = world.gunyu(source, target)
    wait_passed(source, target)
    tool.act("pause")
    raw.many(("PEXPIRE", key, 30_000 + i) for i, key in enumerate(keys))
    raw.call("SET", "brief", 1, "PX", 1500)
    tool.act("resume")
    wait_passed(source, target)
    # A stop makes far what is near.
    tool.stop()
    held = [key for key, at in zip(keys, expiries(target, keys)) if at > FAR]
    assert len(held) > 1000
    wait_until(lambda: not source.client().exists("brief"), "the brief one is gone at the source")
    assert target.client().exists("brief"), "held, too"
    run = settle("--to", target.uri)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.split(": ")[1].split()[0]) >= len(held) + 1
    assert expiries(target, keys) == expiries(source, keys)
    assert not target.client().exists("brief")
    wait_equal(source, target, mark=False)
    again = settle("--to", target.uri)
    assert again.returncode == 0 and again.stdout.endswith(": 0 expiries set\n")


def test_every_master_of_a_cluster_is_settled(world):
    source, target = world.source(), world.cluster("target")
    keys = [f"k:{i}" for i in range(1500)]
    source.raw().many(("SET", key, i, "PX", 600_000 + i) for i, key in enumerate(keys))
    tool = world.gunyu(source, target)
    wait_until(lambda: expiries(target, keys) == expiries(source, keys), "true expiries while the lane runs", 30)
    run = settle("--to", target.masters()[1].uri)
    assert run.returncode == 1 and "stop it first" in run.stderr
    tool.stop()
    held = [key for key, at in zip(keys, expiries(target, keys)) if at > FAR]
    assert len(held) == len(keys), "a stop makes far what is near"
    run = settle("--to", target.masters()[1].uri)
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith(f": {len(keys)} expiries set\n")
    assert expiries(target, keys) == expiries(source, keys)


def test_a_killed_lane_finds_what_it_left_far_on_every_master(world):
    source, target = world.source(), world.cluster("target")
    keys = [f"k:{i}" for i in range(600)]
    source.raw().many(("SET", key, i, "PX", 600_000 + i) for i, key in enumerate(keys))
    tool = world.gunyu(source, target)
    wait_until(lambda: all(at > 0 for at in expiries(target, keys)), "the snapshot is loaded")
    tool.kill()
    assert any(at > FAR for at in expiries(target, keys)), "killed before they were settled"
    tool.start()
    wait_until(lambda: expiries(target, keys) == expiries(source, keys), "true expiries", 30)


def test_it_refuses_while_a_lane_is_connected(world, pair):
    source, target = pair
    tool = world.gunyu(source, target)
    wait_passed(source, target)
    at = int(time.time() * 1000) + 60_000
    target.client().set("far", 1)
    target.raw().call("PEXPIREAT", "far", at + FAR)
    run = settle("--to", target.uri)
    assert run.returncode == 1 and "stop it first" in run.stderr
    tool.act("stop")
    wait_until(lambda: settle("--to", target.uri).returncode == 0, "no lane is connected")
    assert expiries(target, ["far"]) == [at]


def test_expiries_of_fields_are_settled(world):
    try:
        target = world.server("target", version="redis-8")
    except Unavailable as error:
        pytest.skip(str(error))
    if not target.has("hpexpireat"):
        pytest.skip("this server has no expiries of fields")
    raw = target.raw()
    at = int(time.time() * 1000) + 60_000
    raw.many([("HSET", "h", "a", 1, "b", 2, "c", 3), ("HPEXPIREAT", "h", at + FAR, "FIELDS", 1, "a"),
              ("HPEXPIREAT", "h", at + FAR - 120_000, "FIELDS", 1, "b")])
    run = settle("--to", target.uri)
    assert run.returncode == 0, run.stderr
    assert raw.call("HPEXPIRETIME", "h", "FIELDS", 3, "a", "b", "c") == [at, -2, -1]


def test_the_password_may_come_from_the_environment_or_a_file(world, tmp_path):
    target = world.target(requirepass="s3cret")
    run = settle("--to", f"redis://:${{GUNYU_TEST_PW}}@{target.address}", env={"GUNYU_TEST_PW": "s3cret"})
    assert run.returncode == 0, run.stderr
    run = settle("--to", f"redis://:${{GUNYU_TEST_PW}}@{target.address}", env={})
    assert run.returncode == 2 and "GUNYU_TEST_PW is not set" in run.stderr
    run = settle("--to", target.address)
    assert run.returncode == 1 and "NOAUTH" in run.stderr
    secret = tmp_path / "pw"
    secret.write_text("s3cret\n", encoding="utf-8")
    secret.chmod(0o600)
    config = tmp_path / "gunyu.yaml"
    config.write_text(json.dumps({
        "input": {"redis": {"addresses": ["127.0.0.1:1"]}},
        "output": {"redis": {"addresses": ["127.0.0.1:2"], "passwordFile": str(secret)}}}), encoding="utf-8")
    run = settle("-conf", config, "--to", target.address)
    assert run.returncode == 0 and run.stdout == f"{target.address}: 0 expiries set\n", run.stderr


@pytest.mark.parametrize("args", [[], ["x", "--to", "redis://127.0.0.1:1"], ["--from", "redis://127.0.0.1:1"], ["--to", "redis://:x"]])
def test_wrong_use_is_refused(args):
    run = settle(*args)
    assert run.returncode == 2 and run.stderr


def test_a_target_that_is_not_there_is_an_error(world):
    run = settle("--to", "redis://127.0.0.1:1")
    assert run.returncode == 1 and "refused" in run.stderr

# SPDX-License-Identifier: Apache-2.0
"""gunyu status: what it prints of one process, and its exit codes."""

import os
import statistics
import subprocess
import time

from compare import wait_equal
from dataset import load_everything
from harness import GUNYU, wait_until


def status(*args, token=None):
    env = {**os.environ, **({"GUNYU_TOKEN": token} if token else {})}
    done = subprocess.run([GUNYU, "status", *args], capture_output=True, text=True, timeout=30, env=env)
    return done.returncode, done.stdout, done.stderr


def test_a_lane_is_a_line(world, pair):
    source, target = pair
    load_everything(source, dbs=(0,))
    tool = world.gunyu(source, target)
    wait_equal(source, target)
    wait_until(lambda: tool.status()[0]["LagBytes"] == 0, "no lag")
    code, out, err = status("--url", f"127.0.0.1:{tool.port}")
    lane = tool.status()[0]
    assert code == 0 and not err
    words = out.splitlines()[1].split()
    assert words[:6] == [source.address, f"127.0.0.1:{tool.port}", "leader", "run", "streaming", "0"]
    assert words[-1] == str(lane["Epoch"]) and lane["Epoch"] > 0 and f"{lane['JournalLeft']}-" in words[-2]


def test_an_error_is_named_and_is_the_exit_code(world, pair):
    source, target = pair
    tool = world.gunyu(source, target)
    wait_equal(source, target)
    target.kill()
    wait_until(lambda: tool.status()[0]["Error"], "the error in the status")
    code, out, _ = status("--url", f"http://127.0.0.1:{tool.port}")
    assert code == 1 and f"{source.address} at 127.0.0.1:{tool.port}: " in out and target.address in out


def test_the_status_says_at_once_that_the_target_has_caught_up(world, pair):
    source, target = pair
    tool = world.gunyu(source, target)
    wait_equal(source, target)
    late = []
    for i in range(9):
        target.client().execute_command("CLIENT", "PAUSE", "60000", "WRITE")
        source.client().set("mark", i)
        wait_until(lambda: tool.status()[0]["LagBytes"] > 0, "a lag")
        target.client().execute_command("CLIENT", "UNPAUSE")
        wait_until(lambda: target.client().get("mark") == b"%d" % i, "the write", interval=0.001)
        begin = time.monotonic()
        wait_until(lambda: tool.status()[0]["LagBytes"] == 0, "no lag", interval=0.001)
        late.append(time.monotonic() - begin)
    assert statistics.median(late) < 0.03


def test_nobody_there(world):
    code, out, err = status("--url", "http://127.0.0.1:1")
    assert code == 1 and not out and "http://127.0.0.1:1" in err


def test_the_token_is_taken_from_the_environment_or_the_configuration(world, pair):
    source, target = pair
    tool = world.gunyu(source, target, config={"server": {"token": "sesame"}})
    url = f"http://127.0.0.1:{tool.port}"
    code, _, err = status("--url", url)
    assert code == 1 and "401" in err
    assert status("--url", url, token="sesame")[0] == 0
    assert status("-conf", str(tool.file))[0] == 0

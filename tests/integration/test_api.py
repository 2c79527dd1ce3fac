# SPDX-License-Identifier: Apache-2.0
"""Every route, its parameters and its status codes."""

import json
import shutil
import signal
import socket
import subprocess
import time

import pytest

from compare import wait_equal, wait_passed
from harness import wait_until

ACTIONS = ("pause", "resume", "handover", "fullsync")


@pytest.fixture
def running(world, pair):
    source, target = pair
    tool = world.gunyu(source, target)
    wait_passed(source, target)
    return tool, source, target


def has_error_body(body):
    return isinstance(json.loads(body), dict) and any(isinstance(v, str) and v for v in json.loads(body).values())


def test_status_has_the_documented_fields_and_ours(running):
    tool, source, target = running
    tool.wait_state("run")
    (lane,) = tool.status()
    assert lane["Input"] == source.address
    assert lane["Role"] == "leader"
    assert lane["Transaction"] is True
    assert lane["State"] == lane["LaneState"] == "run"
    assert lane["Output"] == target.address
    assert lane["Error"] == ""
    wait_until(lambda: tool.status()[0]["LagBytes"] == 0 and tool.status()[0]["FullSyncPercent"] == 100, "nothing left to do")


def test_page_for_people(running):
    tool, source, _ = running
    code, text = tool.get("/")
    assert code == 200 and source.address in text and "<html" in text


def test_health_and_readiness(world, running):
    tool, source, target = running
    assert tool.get("/debug/health") == (200, "")
    assert tool.get("/healthz")[0] == 200
    wait_until(lambda: tool.get("/readyz")[0] == 200, "ready")
    target.kill()
    wait_until(lambda: tool.get("/readyz")[0] == 503, "not ready without its target")
    assert tool.get("/healthz")[0] == 200


def test_metrics_pass_promtool_and_have_the_contract_names(running):
    tool, source, target = running
    source.raw().many(("SET", f"k{i}", 1) for i in range(100))
    wait_passed(source, target)
    names = ("input_sync_state", "input_offset", "input_sync_type", "input_input_sync", "output_rdb_key_send", "output_rdb_key_filter",
             "output_received_cmd", "output_send_cmd", "output_filter_cmd", "output_send_size", "output_fail_cmd", "output_success_cmd",
             "output_sender", "output_full_sync", "output_send_offset", "output_ack_offset", "aof_write", "rdb_write", "storage_size",
             "storage_ratio")
    # A lane's numbers are published several times a second; an offset appears once there is one.
    wait_until(lambda: tool.metric("output_send_cmd") >= 100, "the writes are counted")
    code, text = tool.get("/prometheus")
    assert code == 200
    assert [n for n in names if f"redisGunYu_{n}" not in text] == []
    assert "process_resident_memory_bytes" in text
    if shutil.which("promtool"):
        # The contract's names break promtool's advice on naming; what it cannot parse is an error in both sets.
        for path, codes in (("/metrics", (0,)), ("/prometheus", (0, 3))):
            check = subprocess.run(["promtool", "check", "metrics"], input=tool.get(path)[1], capture_output=True, text=True, check=False)
            assert check.returncode in codes, (path, check.stdout, check.stderr)


def test_bug_36_config_is_shown_without_secrets(world):
    source, target = world.source(requirepass="hush1"), world.target(requirepass="hush2")
    tool = world.gunyu(source, target)
    for path in ("/syncer/config", "/syncer/config?format=json"):
        code, text = tool.get(path)
        assert code == 200 and source.address in text
        assert "hush" not in text
    json.loads(tool.get("/syncer/config?format=json")[1])


def test_unknown_path_and_wrong_method_are_404(running):
    tool = running[0]
    for method, path in (("GET", "/nothing"), ("GET", "/syncer/pause"), ("POST", "/syncer/status"), ("PUT", "/"), ("GET", "/debug/pprof/heap")):
        assert tool.request(method, path)[0] == 404, (method, path)


@pytest.mark.parametrize("action", ACTIONS)
def test_inputs_must_name_a_lane(running, action):
    tool, source, _ = running
    for query in ("", "?inputs=", "?inputs=127.0.0.1:1", f"?inputs={source.address},127.0.0.1:1"):
        code, body = tool.post(f"/syncer/{action}{query}")
        assert code == 400, (query, code)
        assert has_error_body(body)
    assert tool.alive()


def test_pause_keeps_draining_the_source(running):
    tool, source, target = running
    tool.act("pause", source.address)
    tool.wait_state("pause")
    tool.act("pause")
    source.raw().many(("RPUSH", "l", i) for i in range(1000))
    reached = source.info("replication")["master_repl_offset"]
    wait_until(lambda: source.replica_offset() >= reached, "the journal has all that the source wrote")
    assert target.client().llen("l") == 0
    tool.act("resume")
    tool.wait_state("run")
    wait_equal(source, target)


def test_bug_32_resume_of_a_running_lane_is_fine(running):
    tool, source, target = running
    for _ in range(5):
        tool.act("resume")
        tool.act("pause")
        tool.act("resume")
    wait_equal(source, target)
    assert tool.state() == "run"


def test_bug_33_stop_stays_stopped(running):
    tool, source, target = running
    assert tool.post("/syncer/stop")[0] == 200
    tool.wait_state("stop")
    source.client().set("k", "while stopped")
    time.sleep(3)
    assert tool.state() == "stop"
    assert target.client().get("k") is None
    assert tool.post("/syncer/restart")[0] == 200
    wait_equal(source, target)
    assert source.full_syncs() == 1


def test_restart_resumes(running):
    tool, source, target = running
    assert tool.post("/syncer/restart")[0] == 200
    source.raw().many(("INCR", "n") for _ in range(500))
    wait_equal(source, target)
    assert source.full_syncs() == 1


def test_fullsync(running):
    tool, source, target = running
    source.client().set("k", 1)
    wait_passed(source, target)
    target.client().set("foreign", 1)
    tool.act("fullsync")
    wait_until(lambda: source.full_syncs() == 2, "another full sync")
    wait_passed(source, target)
    assert target.client().get("foreign") == b"1"
    tool.act("fullsync", more="&flushdb=yes")
    wait_until(lambda: source.full_syncs() == 3, "another full sync")
    wait_equal(source, target)


def test_handover_without_peers_changes_nothing(running):
    tool, source, target = running
    tool.act("handover")
    source.client().set("k", 1)
    wait_equal(source, target)


def test_gc_by_get_and_post(running):
    tool, source, target = running
    assert tool.post("/storage/gc")[0] == 200
    assert tool.get("/storage/gc")[0] == 200
    source.client().set("k", 1)
    wait_equal(source, target)
    assert source.full_syncs() == 1


def test_bug_35_gc_leaves_foreign_files_alone(running):
    tool = running[0]
    foreign = tool.journal / "not-ours"
    foreign.mkdir()
    (foreign / "file").write_text("x", encoding="ascii")
    assert tool.post("/storage/gc")[0] == 200
    assert (foreign / "file").exists()


def test_delete_ends_the_program(running):
    tool = running[0]
    try:
        assert tool.request("DELETE", "/")[0] == 200
    except OSError:
        pass
    wait_until(lambda: not tool.alive(), "the program ends")
    assert tool.child.returncode == 0


def test_slow_and_hostile_clients_do_not_block_a_lane(running):
    tool, source, target = running
    held = []
    for piece in (b"", b"GET /syncer/status HTTP/1.1\r\nHost:", b"\x00" * 100, b"GET " + b"a" * 100000, b"POST /syncer/pause HTTP/1.1\r\n"
                  b"Content-Length: 999999999999\r\n\r\n", b"DELETE / HTTP/9.9\r\n\r\n", b"GET /%00%ff%zz?inputs=%%% HTTP/1.1\r\n\r\n"):
        for _ in range(5):
            s = socket.create_connection(("127.0.0.1", tool.port), 5)
            try:
                s.sendall(piece)
            except OSError:
                pass
            held.append(s)
    source.raw().many(("INCR", "n") for _ in range(1000))
    wait_equal(source, target)
    for s in held:
        s.close()
    assert tool.state() == "run"


def test_signals(running):
    tool, source, target = running
    tool.signal(signal.SIGHUP)
    source.client().set("k", 1)
    wait_equal(source, target)
    assert tool.stop() == 0

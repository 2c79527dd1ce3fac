# SPDX-License-Identifier: Apache-2.0
"""How servers are reached: TLS, unix sockets, users with few rights. What is refused is a state that says why."""

import shutil
import subprocess
import time

import pytest

from compare import wait_equal, wait_passed
from dataset import load_everything
from harness import GUNYU, free_port, wait_until

# What docs/operations.md says a user needs.
SOURCE_RIGHTS = "+psync +replconf +ping +info"
TARGET_RIGHTS = ("~* &* +@write +pfcount +multi +exec +watch +unwatch +select +get +hget +hmget +info +config|get +ping +eval +time +pttl "
                 "+pexpiretime +scan +type +command|info +client|list +client|kill +client|setname")


class Authority:
    """A CA with certificates for a server and a client, made by the openssl command."""

    def __init__(self, directory):
        self.dir = directory
        self.dir.mkdir()
        self.ca = self.dir / "ca.pem"
        self.key = self.dir / "ca.key"
        self._run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                  "-subj", f"/CN={directory.name}", "-keyout", self.key, "-out", self.ca)

    @staticmethod
    def _run(*args):
        subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)

    def issue(self, name, names):
        key, request, cert, more = (self.dir / f"{name}.{ext}" for ext in ("key", "csr", "pem", "ext"))
        more.write_text(f"subjectAltName={names}\n", encoding="utf-8")
        self._run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}",
                  "-keyout", key, "-out", request)
        self._run("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.key, "-CAcreateserial", "-days", "2",
                  "-extfile", more, "-out", cert)
        return cert, key


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    if not shutil.which("openssl"):
        pytest.skip("no openssl command")
    return Authority(tmp_path_factory.mktemp("tls") / "ca")


def tls_server(world, authority, name, names="IP:127.0.0.1,DNS:localhost", clients="no"):
    cert, key = authority.issue(name, names)
    server = world.server(name, tls_port=free_port(), tls_cert_file=cert, tls_key_file=key, tls_ca_cert_file=authority.ca,
                          tls_auth_clients=clients)
    server.tls_uri = f"rediss://127.0.0.1:{server.options['tls-port']}"
    return server


def both(source, target, tls):
    return {"input": {"redis": {"addresses": [source.tls_uri], "tls": tls}},
            "output": {"redis": {"addresses": [target.tls_uri], "tls": tls}}}


def wait_error(tool, *words):
    def said():
        error = tool.status()[0]["Error"]
        return all(word in error for word in words) and error
    return wait_until(said, f"the error says {words}")


def test_a_whole_sync_over_tls(world, authority):
    source, target = tls_server(world, authority, "source"), tls_server(world, authority, "target")
    load_everything(source)
    world.gunyu(source, target, config=both(source, target, {"caFile": str(authority.ca)}))
    wait_equal(source, target)
    source.raw().many(("SET", f"big:{i}", "x" * 100_000) for i in range(100))
    wait_equal(source, target)


def test_a_server_of_an_unknown_authority_is_refused(world, authority):
    source, target = tls_server(world, authority, "source"), tls_server(world, authority, "target")
    tool = world.gunyu(source, target, config=both(source, target, {}))
    wait_error(tool, "certificate")
    assert source.info("stats")["sync_full"] == 0
    assert tool.state() == "run"


def test_a_certificate_for_another_host_is_refused(world, authority):
    source = tls_server(world, authority, "source", names="DNS:other.example")
    target = tls_server(world, authority, "target")
    config = both(source, target, {"caFile": str(authority.ca)})
    tool = world.gunyu(source, target, config=config)
    wait_error(tool, "certificate", "127.0.0.1")
    tool.stop()
    config["input"]["redis"]["tls"] = {"caFile": str(authority.ca), "serverName": "other.example"}
    again = world.gunyu(source, target, config=config)
    wait_passed(source, target)
    assert again.state() == "run"


def test_without_verifying_any_server_will_do(world, authority):
    source, target = tls_server(world, authority, "source", "DNS:other.example"), tls_server(world, authority, "target")
    world.gunyu(source, target, config=both(source, target, {"insecureSkipVerify": True}))
    wait_equal(source, target)


def test_mutual_tls(world, authority):
    source, target = (tls_server(world, authority, name, clients="yes") for name in ("source", "target"))
    tool = world.gunyu(source, target, config=both(source, target, {"caFile": str(authority.ca)}))
    wait_error(tool, "cert")
    tool.stop()
    cert, key = authority.issue("client", "DNS:client")
    world.gunyu(source, target, config=both(source, target, {"caFile": str(authority.ca), "certFile": str(cert),
                                                            "keyFile": str(key)}))
    wait_equal(source, target)


def test_tls_to_a_plain_port_says_so(world, authority):
    source, target = tls_server(world, authority, "source"), tls_server(world, authority, "target")
    source.tls_uri = f"rediss://{source.address}"
    tool = world.gunyu(source, target, config=both(source, target, {"caFile": str(authority.ca)}))
    wait_error(tool, "TLS")


def test_unix_sockets(world, tmp_path):
    source, target = (world.server(name, unixsocket=tmp_path / name) for name in ("source", "target"))
    load_everything(source)
    world.gunyu(source, target, config={"input": {"redis": {"addresses": [f"unix://{tmp_path}/source"]}},
                                        "output": {"redis": {"addresses": [f"unix://{tmp_path}/target"]}}})
    wait_equal(source, target)


def login(source="sync", target="sync"):
    return {"input": {"redis": {"userName": source, "password": "pw"}},
            "output": {"redis": {"userName": target, "password": "pw"}}}


def allow(server, rights):
    answer = server.raw().call("ACL", "SETUSER", "sync", "on", ">pw", *rights.split())
    assert answer == b"OK", answer


def denied(server):
    return [{k: e[k] for k in ("reason", "object", "username")} for e in server.client().acl_log()]


def test_users_with_the_documented_rights_suffice(world, pair):
    source, target = pair
    if not source.has("acl"):
        pytest.skip("no ACL")
    allow(source, SOURCE_RIGHTS)
    allow(target, TARGET_RIGHTS)
    load_everything(source)
    tool = world.gunyu(source, target, config=login())
    wait_equal(source, target)
    tool.act("pause")
    source.raw().many([("SET", f"lease:{i}", i, "PX", 20_000 + i) for i in range(100)])
    tool.act("resume")
    wait_equal(source, target)
    tool.act("restart")
    wait_equal(source, target)
    assert denied(target) == [] and denied(source) == []
    assert " warn " not in tool.text()
    # Far expiries that only a sweep finds.
    at = int(time.time() * 1000) + 60_000
    tool.stop()
    target.raw().many([("SET", "far", 1), ("PEXPIREAT", "far", at + (1 << 45))])
    run = subprocess.run([GUNYU, "settle", "--to", f"redis://sync:pw@{target.address}"], capture_output=True, text=True,
                         check=False)
    assert run.returncode == 0, run.stderr
    assert target.raw().call("PEXPIRETIME", "far") == at and denied(target) == []


@pytest.mark.parametrize("right", ["+time ", "+eval ", "+info ", "+client|list "])
def test_without_one_of_the_rights_of_the_target_it_works_with_a_warning(world, pair, right):
    source, target = pair
    allow(source, SOURCE_RIGHTS)
    allow(target, TARGET_RIGHTS.replace(right, ""))
    source.raw().many([("SET", "a", 1), ("SET", "b", 1, "PX", 20_000)])
    tool = world.gunyu(source, target, config=login())
    source.raw().many([("INCR", "a"), ("PEXPIRE", "b", 30_000)])
    wait_equal(source, target)
    if right != "+info ":
        wait_until(lambda: "the target does not" in tool.text(), "the warning")


def test_a_source_that_allows_only_replication_can_be_read(world, pair):
    source, target = pair
    allow(source, "+psync +replconf")
    allow(target, "allcommands ~* &*")
    world.gunyu(source, target, config=login())
    wait_equal(source, target)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_wrong_password_is_a_state_that_ends_when_it_is_right(world, pair, side):
    source, target = pair
    server = source if side == "source" else target
    for each in pair:
        allow(each, "allcommands ~* &*")
    server.raw().call("ACL", "SETUSER", "sync", "resetpass", ">other")
    tool = world.gunyu(source, target, config=login())
    wait_error(tool, "WRONGPASS", server.address)
    assert tool.alive() and tool.state() == "run"
    server.raw().call("ACL", "SETUSER", "sync", ">pw")
    wait_equal(source, target)
    wait_until(lambda: tool.status()[0]["Error"] == "", "no error any more")
    assert "pw" not in tool.text().split()


def test_a_source_user_without_psync_is_told_so(world, pair):
    source, target = pair
    allow(source, "+info +replconf")
    allow(target, "allcommands ~* &*")
    tool = world.gunyu(source, target, config=login())
    wait_error(tool, "NOPERM")


def test_no_password_is_needed_on_the_command_line(world):
    source, target = world.source(requirepass="one"), world.target(requirepass="two")
    tool = world.gunyu(source, target, start=False, env={"ONE": "one", "TWO": "two"},
                       args=["sync", "--from", f"redis://:${{ONE}}@{source.address}", "--to", f"redis://:${{TWO}}@{target.address}"])
    tool.args += [f"--sync.channel.storer.dirPath={tool.journal}", f"--sync.server.listen=127.0.0.1:{tool.port}"]
    tool.start()
    wait_equal(source, target)
    run = subprocess.run([GUNYU, "settle", "--to", target.address], capture_output=True, text=True, check=False)
    assert run.returncode == 1 and "NOAUTH" in run.stderr

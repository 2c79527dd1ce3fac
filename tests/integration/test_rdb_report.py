# SPDX-License-Identifier: Apache-2.0
"""gunyu rdb report: its estimates against what servers answer, its counts, its page in a browser."""

import collections
import gzip
import json
import random
import re
import subprocess

import pytest

import browser
import dataset
import harness

BIG = 2048       # bytes from which on 10 % must hold
SMALL_SLACK = 64  # bytes, and 25 %, for those below


def report(*args, code=0, stdin=None):
    run = subprocess.run([harness.GUNYU, "rdb", "report", *map(str, args)], capture_output=True, input=stdin,
                         timeout=120, check=False)
    assert run.returncode == code, run.stderr.decode()
    if code:
        lines = run.stderr.decode().splitlines()
        assert len(lines) == 1 and lines[0].startswith("gunyu rdb report: "), lines
        assert run.stdout == b""
        return lines[0]
    assert run.stderr == b""
    return run.stdout


def as_json(*args, **more):
    return json.loads(report("--format", "json", *args, **more))


def raw_name(text):
    named = {"n": b"\n", "r": b"\r", "t": b"\t", "\\": b"\\"}
    return re.sub(rb"\\(x..|.)", lambda m: named.get(m[1].decode()) or bytes([int(m[1][1:], 16)]), text.encode())


def fill(server):
    """Every type and encoding, in small and great."""
    rng = random.Random(11)
    raw = server.raw()
    raw.many(c for family in dataset.FAMILIES for c in family(rng))
    for n in (200, 3000):
        for size in (4, 14, 50):
            words = [rng.randbytes(size) for _ in range(n)]
            raw.call("SADD", f"S:{n}:{size}", *words)
            raw.call("ZADD", f"Z:{n}:{size}", *(x for i, w in enumerate(words) for x in (i, w)))
            raw.call("HSET", f"H:{n}:{size}", *(x for w in words for x in (w, w[:9])))
            raw.call("HSET", f"G:{n}:{size}", *(x for w in words for x in (w, w * 2)))
        raw.call("RPUSH", f"L:{n}", *(rng.randbytes(rng.randrange(60)) for _ in range(n)))
        raw.many(("XADD", f"X:{n}", f"{1700000000000 + i * 9}-{i % 3}", "a", i, "b", "x" * 9) for i in range(n))
        raw.call("XGROUP", "CREATE", f"X:{n}", "readers", "0")
        for consumer, count in (("one", n // 2), ("two", n // 3)):
            raw.call("XREADGROUP", "GROUP", "readers", consumer, "COUNT", count, "STREAMS", f"X:{n}", ">")
    raw.close()


def saved(server):
    server.client().save()
    return server.dir / "dump.rdb"


@pytest.mark.parametrize("version", ["redis-7", "redis-8", "valkey-8.0", "valkey-8", "valkey-9"])
def test_memory_is_what_the_server_says(world, version):
    server = world.server("s", version=version, dbfilename="dump.rdb")
    fill(server)
    file = saved(server)
    server.kill()
    server.start()  # loads the file, so that tables and strings have no slack
    raw = server.raw()
    # The servers come from a distribution, which has jemalloc of its own.
    found = as_json("--top", 10000, "--quantum", 16, file)
    assert found["totals"]["keys"] == len(found["top_memory"]) >= server.client().dbsize() > 400  # some expire
    assert found["files"][0]["model"] == {
        "valkey-8.0": "valkey-7", "valkey-8": "valkey-8.1", "valkey-9": "valkey-9"}.get(version, "redis")
    big = collections.Counter()
    for k in found["top_memory"]:
        if k["key_bytes"] > 256:
            continue
        key = raw_name(k["key"])
        said, encoding = raw.call("MEMORY", "USAGE", key, "SAMPLES", 0), raw.call("OBJECT", "ENCODING", key)
        if said is None or encoding is None:
            continue  # expired meanwhile
        encoding = encoding.decode()
        assert encoding.replace("listpackex", "listpack") == k["encoding"], k
        if version == "valkey-8" and encoding != "embstr":
            said += k["key_bytes"] + 11  # Valkey answers without the key there
        if said >= BIG:
            big[encoding] += 1
            # Its jemalloc is newer and rounds great allocations less.
            part = 4 if version == "valkey-9" and encoding in ("raw", "quicklist") else 10
            assert abs(k["memory"] - said) <= said / part, (k, said)
        else:
            assert abs(k["memory"] - said) <= max(SMALL_SLACK, said / 4), (k, said)
    assert set(big) >= {"raw", "quicklist", "hashtable", "skiplist", "stream", "listpack"}, big
    # Beside the data a server has buffers; and MEMORY USAGE reckons streams generously.
    assert found["totals"]["memory"] / 2 < found["files"][0]["used_memory"] < 4 * found["totals"]["memory"]
    raw.close()


def test_counts_of_several_files_stdin_and_compressed(world, tmp_path):
    first, second = world.server("a"), world.server("b")
    for i in range(500):
        first.client().set(f"user:{i}:name", "x" * (i % 50))
        second.client().hset(f"user:{i}:cart", mapping={"item": i, "count": 2})
    second.client(db=3).set("other", "1", px=3600000)
    one, two = saved(first), saved(second)
    packed = tmp_path / "two.rdb.gz"
    packed.write_bytes(gzip.compress(two.read_bytes()))
    both = as_json(one, packed)
    assert both["totals"]["keys"] == 1001
    assert both["totals"]["elements"] == 500 + 1000 + 1
    assert both["totals"]["expiring"] == 1
    assert [(d["db"], d["keys"]) for d in both["databases"]] == [(0, 1000), (3, 1)]
    assert {(t["type"], t["keys"]) for t in both["types"]} >= {("hash", 500)}
    user = next(c for c in both["prefixes"]["children"] if c["prefix"] == "user:")
    assert user["keys"] == 1000
    names = {c["prefix"]: c["keys"] for c in user["children"][0]["children"]}
    assert names["user:*:cart"] > 400 and names["user:*:name"] > 400
    assert sum(r["keys"] for r in both["slots"]["ranges"]) == 1001
    assert sum(b["keys"] for b in both["ttl"]) == 1001
    assert sum(b["keys"] for b in both["histograms"]["memory"]) == 1001
    piped = as_json("-", stdin=packed.read_bytes())
    assert piped["totals"]["keys"] == 501
    assert as_json("--type", "hash", "--key", "user:1*", one, two)["totals"]["keys"] == 111
    text = report(one, two).decode()
    assert "user:*:cart" in text and "1,001" in text


def test_repeated_values_and_skewed_slots_are_found(world):
    server = world.server("s")
    r = server.client()
    for i in range(300):
        r.set(f"{{hot}}:{i}", f"unique value number {i} " + "y" * 60)
        r.set(f"copy:{i}", "the very same " * 50)
    r.set("big1", b"z" * 3000000)
    r.set("big2", b"z" * 3000000)
    found = as_json("--top", 5, saved(server))
    groups = {d["key"].split(":")[0]: d["count"] for d in found["duplicates"]["values"]}
    assert groups["copy"] == 300
    assert groups.get("big1", groups.get("big2")) == 2
    assert found["duplicates"]["repeats"] == 299 + 1
    assert {k["key"] for k in found["top_memory"][:2]} == {"big1", "big2"}
    hot = next(s for s in found["slots"]["top"] if s["keys"] >= 300)
    assert found["slots"]["max"]["keys"] == hot["keys"]
    assert "duplicates" not in as_json("--duplicates", 0, saved(server))


def test_bad_input_is_one_clear_line(tmp_path):
    empty = tmp_path / "empty.rdb"
    empty.write_bytes(b"")
    wrong = tmp_path / "wrong.rdb"
    wrong.write_bytes(b"this is no RDB file at all")
    whole = (harness.ROOT / "tests" / "data" / "rdb" / "packed.rdb").read_bytes()
    cut = tmp_path / "cut.rdb"
    cut.write_bytes(whole[:-20])
    for path in (tmp_path / "missing.rdb", tmp_path, empty, wrong, cut):
        assert str(path) in report(path, code=1)
    assert str(len(whole) - 20) in report(cut, code=1)
    out = tmp_path / "out.html"
    report("--format", "html", "-o", out, cut, code=1)
    assert not out.exists() and list(tmp_path.glob("out*")) == []
    good = harness.ROOT / "tests" / "data" / "rdb" / "packed.rdb"
    assert "/dev/full" in report("-o", "/dev/full", good, code=1)
    for wrong_option in (["--format", "pdf"], ["--depth", "0"], ["--top", "x"], ["--min-share", "200"], ["--model", "x"],
                         ["--quantum", "9"], ["--separators", ""], ["--duplicates", "-"], ["--nothing"], []):
        report(*wrong_option, *([good] if wrong_option else []), code=2)


@pytest.fixture
def page(world, tmp_path):
    """A report with names that would like to be markup, and with enough of everything."""
    server = world.server("s")
    fill(server)
    raw = server.raw()
    raw.call("SET", "</script><script>window.broken=1</script>", "v" * 100000)
    raw.call("SET", '<img src="http://127.0.0.1:1/x" onerror="window.broken=1">', "w" * 100000)
    raw.call("SET", b"\xff\xfe\x00 binary " + b"long" * 200, "u" * 100000)
    raw.call("SET", "]]>--><!--", "u" * 100000)
    raw.close()
    file = tmp_path / "report.html"
    report("--format", "html", "--top", 50, "--min-share", 0, "--output", file, saved(server))
    return file


@pytest.fixture
def chromium():
    try:
        with browser.Browser() as b:
            yield b
    except harness.Unavailable as error:
        pytest.skip(str(error))


def check_page(b, page, width):
    b.view(width)
    b.open(page)
    assert b.complaints() == []
    assert {u for u in b.requests() if not u.startswith("data:")} == {f"file://{page}"}
    assert b.run("return window.broken") is None
    assert b.run("return document.documentElement.scrollWidth") <= width
    # No card hides a part of what is in it.
    assert b.run("return [...document.querySelectorAll('.card')].filter(c => c.scrollWidth > c.clientWidth)"
                 ".map(c => c.textContent.slice(0, 30))") == []
    assert b.run("return document.querySelectorAll('.card').length") >= 9
    assert b.run("return document.querySelectorAll('#icicle .node').length") > 5
    assert b.run("return document.querySelectorAll('svg .bar').length") > 80
    assert b.run("return [...document.querySelectorAll('svg[role=img]')].filter(s => !s.getAttribute('aria-label'))"
                 ".length") == 0
    # Each chart has its numbers in a table as well.
    assert b.run("return document.querySelectorAll('details table').length") >= 5


def test_page_on_desktop_and_phone(chromium, page):
    for width in (1440, 390, 320):
        check_page(chromium, page, width)
    text = chromium.run("return document.body.textContent")
    assert "</script><script>window.broken=1</script>" in text
    assert "\\xff\\xfe\\x00 binary" in text


def test_page_follows_the_colour_scheme(chromium, page):
    colours = []
    for dark in (False, True):
        chromium.view(1440, dark=dark)
        chromium.open(page)
        colours.append(chromium.run("return getComputedStyle(document.body).backgroundColor"))
    assert colours[0] != colours[1]


def test_prefixes_open_by_keyboard_and_pointer(chromium, page):
    b = chromium
    b.view(1440)
    b.open(page)
    crumbs = "return [...document.querySelectorAll('.crumbs button')].map(c => c.textContent)"
    assert b.run(crumbs) == ["all keys"]
    b.run("[...document.querySelectorAll('#icicle .node')].find(n => n.textContent.startsWith('H:')).focus()")
    assert "H:" in b.run("return document.querySelector('.told').textContent")
    b.key("\ue007")  # Enter
    assert b.run(crumbs) == ["all keys", "H:"]
    b.key("\ue00c")  # Escape
    assert b.run(crumbs) == ["all keys"]
    b.run("[...document.querySelectorAll('#icicle .node')].find(n => n.textContent.startsWith('Z:'))"
          ".dispatchEvent(new MouseEvent('click'))")
    assert b.run(crumbs) == ["all keys", "Z:"]
    b.run("document.querySelector('.crumbs button').click()")
    assert b.run(crumbs) == ["all keys"]
    wide = "return document.querySelectorAll('#icicle .node rect')[1].getAttribute('width')"
    before = b.run(wide)
    b.run("[...document.querySelectorAll('.choice button')].find(c => c.textContent === 'Keys').click()")
    assert b.run(wide) != before
    b.run("[...document.querySelectorAll('.choice button')].find(c => c.textContent === 'By elements').click()")
    assert "H:3000" in b.run("return document.querySelector('#greatest').textContent")
    assert b.complaints() == []


def test_an_empty_file_makes_a_page(chromium, world, tmp_path):
    file = tmp_path / "empty.html"
    report("--format", "html", "-o", file, saved(world.server("s")))
    chromium.view(390)
    chromium.open(file)
    assert chromium.complaints() == []
    assert "RDB report" in chromium.run("return document.title")
    assert chromium.run("return document.documentElement.scrollWidth") <= 390

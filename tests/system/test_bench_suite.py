"""holdfast-bench with several targets: what it starts, and what its reports say. How fast anything is
is judged nowhere but where a server is stopped on purpose."""

import contextlib
import csv
import html.parser
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
import xml.etree.ElementTree

import pymongo
import pytest
from holdfast_testing import Process, Server, build_bin, server_kind, wait_until
from holdfast_testing.server import _find_server

SHORT = ["--seconds", 0.2, "--warmup", 0, "--quiet"]


def bench(*arguments, check=0, timeout=120):
    done = subprocess.run(
        [str(build_bin() / "holdfast-bench"), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == check, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def report(*arguments, check=0):
    return json.loads(bench(*arguments, "--json", check=check).stdout)


@pytest.fixture(scope="module")
def server():
    with Server() as made:
        yield made


def own_server(mode=""):
    """For --server: a program that it starts itself."""
    kind, program = _find_server()
    if kind == "secantusd-py":
        pytest.skip("holdfast-bench starts mongod and secantusd-rs only")
    return f"{program}{mode}"


class Page(html.parser.HTMLParser):
    """What a browser would load, what is drawn, and that tags are closed."""

    VOID = {"meta", "br", "line", "path", "link", "img"}

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.charts, self.text = [], [], 0, ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.charts += tag == "svg"
        self.loads += [
            value
            for name, value in attributes
            if name in ("src", "href") and not value.startswith("#")
        ]
        self.open += [] if tag in self.VOID else [tag]

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


# ------------------------------------------------------------------ reports


def check_estimate(found):
    assert found["low"] <= found["middle"] <= found["high"]
    assert found["count"] == 2 and found["confidence"] == pytest.approx(0.5)


def test_two_targets(server, tmp_path):
    """A user's own server twice: figures, ratios, and all forms of the report agree."""
    made = tmp_path / "out"
    found = report(
        *["point-read", "point-write", "--target", f"one={server.address}"],
        *["--vs", f"two={server.address},pid={server._process.pid}", "--connections", "1,4"],
        *["--rounds", 2, "--output", made, "--seconds", 0.3, "--warmup", 0, "--quiet"],
    )
    assert found == json.loads((made / "report.json").read_text())
    assert [cell["title"] for cell in found["cells"]] == [
        "point-read, 1 connection",
        "point-read, 4 connections",
        "point-write, 1 connection",
        "point-write, 4 connections",
    ]
    for cell in found["cells"]:
        one, two = cell["targets"]
        assert (one["name"], two["name"], one["errors"], two["errors"]) == ("one", "two", 0, 0)
        for target in one, two:
            assert len(target["runs"]) == 2 and len(target["latency"]) > 10
            check_estimate(target["figures"]["operationsPerSecond"])
            percents, micros = zip(*target["latency"])
            assert sorted(micros) == list(micros) and percents[-1] == 100
        assert two["figures"]["targetCpuMicros"]["middle"] > 0
        assert "targetCpuMicros" not in one["figures"]
        (ratio,) = cell["ratios"]
        assert (ratio["measured"], ratio["reference"]) == ("one", "two")
        pairs = [
            a["operationsPerSecond"] / b["operationsPerSecond"]
            for a, b in zip(one["runs"], two["runs"])
        ]
        told = ratio["figures"]["operationsPerSecond"]
        assert told["middle"] == pytest.approx(sum(pairs) / 2)
        check_estimate(told)
    rows = list(csv.DictReader((made / "report.csv").open(newline="")))
    assert len(rows) == 4 * 2 * 2
    assert float(rows[0]["operationsPerSecond"]) == pytest.approx(
        found["cells"][0]["targets"][0]["runs"][0]["operationsPerSecond"]
    )
    page = Page((made / "report.html").read_text())
    assert page.loads == [], "it opens without a network"
    pictures = sorted(made.glob("*.svg"))
    assert page.charts == len(pictures) > 8
    for path in pictures:
        assert xml.etree.ElementTree.parse(path).getroot().tag.endswith("svg")
    for words in ("throughput, operations/s", "latency, µs", "percentile", "less sure than 95 %", "one / two"):
        assert words in page.text


def test_table(server):
    said = bench(
        "point-read", "--target", f"one={server.address}", "--rounds", 2, *SHORT
    ).stdout
    assert "throughput, operations/s" in said and "Medians of 2 rounds" in said


def change(path, out, ratio_then):
    """An earlier report with this ratio of throughputs in place of what was measured."""
    earlier = json.loads(path.read_text())
    for cell in earlier["cells"]:
        for ratio in cell["ratios"]:
            ratio["figures"]["operationsPerSecond"]["middle"] = ratio_then
    out.write_text(json.dumps(earlier))
    return out


def test_compare(server, tmp_path):
    """A ratio is judged worse only if that is sure, which takes 6 rounds."""
    options = ["point-read", "--target", f"one={server.address}", "--vs", f"two={server.address}"]
    options += ["--connections", 4, "--seconds", 0.1, "--warmup", 0, "--quiet"]
    bench(*options, "--output", tmp_path)
    earlier = change(tmp_path / "report.json", tmp_path / "earlier.json", 1e6)
    judged = ["--compare", earlier, "--tolerance", 20]
    said = bench(*options, *judged).stdout
    assert "one / two" in said and "%" in said and "WORSE" not in said
    rounds = ["--rounds", 9]  # some of which may measure nothing on a busy machine
    assert "WORSE" in bench(*options, *judged, *rounds, check=3).stdout
    assert "WORSE" not in bench(*options, "--compare", earlier, *rounds).stdout
    assert "nothing of the kind" in bench("insert", *options[1:], *judged).stdout
    (tmp_path / "none.json").write_text("{}")
    for name in ("none.json", "missing.json"):
        assert "--compare" in bench(*options, "--compare", tmp_path / name, check=2).stderr


# ------------------------------------------------------------------ open loop


def test_open_loop_keeps_its_rate(server):
    run = report(
        *["point-read", "--target", server.address, "--rate", 200, "--connections", 4],
        *["--seconds", 1, "--warmup", 0.2],
    )
    assert (run["rate"], run["errors"], run["unanswered"]) == (200, 0, 0)
    assert run["operations"] <= 241  # what is begun late may end after the time
    assert run["operationsTotal"] == 240


def test_open_loop_shows_a_target_that_stands_still(server):
    """For a second of three nothing is answered. A closed loop would wait with one operation for each
    connection; here a third of all operations were meant to begin meanwhile, and say so. It is the
    relay that is stopped: the tests' server drops all connections when it goes on."""
    command = [build_bin() / "holdfast-bench", "relay", "--listen", "127.0.0.1:0"]
    relay = Process([*command, "--target", server.address], name="relay")
    try:
        address = relay.wait_for_line(
            lambda line: line.split()[-1] if line.startswith("listening on") else None,
            10,
            "the port of the relay",
        )
        bench("point-read", "--target", address, *SHORT)

        def stop():
            relay.send(signal.SIGSTOP)
            time.sleep(1)
            relay.send(signal.SIGCONT)

        timer = threading.Timer(0.8, stop)
        timer.start()
        done = bench(
            *["point-read", "--target", address, "--rate", 300, "--connections", 2],
            *["--seconds", 3, "--warmup", 0, "--json"],
        )
        timer.join()
    finally:
        relay.kill()
    run = json.loads(done.stdout)
    assert run["errors"] == 0 and run["operationsTotal"] == 900
    # 300 of 900 waited, evenly up to 1 s: 5 % of all for more than 0.8 s.
    assert run["latencyMicros"]["p95"] > 500_000
    assert run["latencyMicros"]["p99"] > 700_000
    # Of those that were really begun, two waited: what a closed loop would have shown.
    assert run["serviceMicros"]["max"] > 700_000
    assert run["serviceMicros"]["p99"] < run["latencyMicros"]["p95"] / 2


# ------------------------------------------------------------------ what is started


def test_peers(tmp_path):
    """Every proxy that is here, each in front of one server; nothing of them is left."""
    found = report(
        *["point-read", "unit", "--server", own_server(), "--target", "holdfastd", "--peers"],
        *["--vs", "native,sync", "--connections", 2, "--directory", tmp_path, *SHORT],
    )
    names = [target["name"] for target in found["cells"][0]["targets"]]
    wanted = ["holdfastd", "native,sync", "direct", "relay"]
    wanted += [name for name in ("haproxy", "nginx", "mongobetween") if shutil.which(name)]
    assert names == wanted
    for cell in found["cells"]:
        for target in cell["targets"]:
            assert target["errors"] == 0, target
            if target["figures"]["operationsPerSecond"]["middle"] > 0:  # not on a busy machine
                through = target["name"] not in ("direct", "native,sync")
                assert ("targetCpuMicros" in target["figures"]) == through
                assert target["figures"]["serverCpuMicros"]["middle"] > 0
    units = found["cells"][1]["targets"][0]["figures"]
    assert units["journalBytesPerOperation"]["middle"] > 100
    assert 0 < units["journalCommitsPerOperation"]["middle"] < 6
    assert list(tmp_path.iterdir()) == []


def test_relay_passes_ends_on():
    """What was sent before a connection was closed arrives, and then its end, in both directions."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [build_bin() / "holdfast-bench", "relay", "--listen", "127.0.0.1:0"]
        command += ["--target", f"127.0.0.1:{listener.getsockname()[1]}", "--threads", 1]
        relay = Process(command, name="relay")
        try:
            address = relay.wait_for_line(
                lambda line: line.split()[-1] if line.startswith("listening on") else None,
                10,
                "the port of the relay",
            )
            port = int(address.rsplit(":", 1)[1])
            for closes_first in (True, False):
                client = socket.create_connection(("127.0.0.1", port), 10)
                client.sendall(b"x")
                server, _ = listener.accept()
                server.settimeout(10)
                first, second = (client, server) if closes_first else (server, client)
                assert server.recv(1) == b"x"
                sent = b"y" * 1_000_000
                sender = threading.Thread(target=lambda: (first.sendall(sent), first.close()))
                sender.start()
                got = b""
                while chunk := second.recv(65536):
                    got += chunk
                sender.join()
                assert got == sent
                second.close()
        finally:
            relay.kill()


def test_instant(tmp_path):
    """Before the fake server, by TCP and by local sockets; what it does not answer the real one does."""
    found = report(
        *["point-read", "point-write", "unit", "--server", own_server(",instant")],
        *["--target", "holdfastd", "--vs", "local=holdfastd,local,local-server"],
        *["--vs", "relay,local,local-server", "--vs", "direct", "--connections", 4, *SHORT],
        *["--directory", tmp_path],
    )
    for cell in found["cells"]:
        for target in cell["targets"]:
            if cell["load"] != "unit" or target["name"].endswith("holdfastd"):
                assert target["errors"] == 0, (cell["title"], target)
    assert list(tmp_path.iterdir()) == []


def test_instant_server_tells_what_it_is_not(server):
    """What it answers is not true, and what it leaves to the server is."""
    command = [build_bin() / "holdfast-bench", "instant", "--listen", "127.0.0.1:0"]
    fake = Process([*command, "--target", server.address], name="instant")
    try:
        address = fake.wait_for_line(
            lambda line: line.split()[-1] if line.startswith("listening on") else None,
            10,
            "the port of the fake server",
        )
        with pymongo.MongoClient(address, directConnection=True) as client:
            things = client["instant"]["things"]
            things.insert_one({"_id": "a", "value": 5})
            assert things.find_one({"value": 5}) == {"_id": "a", "value": 5}
            assert things.find_one({"_id": "never"}) is None  # that connection is the server's now
        with pymongo.MongoClient(address, directConnection=True) as client:
            assert client["instant"]["things"].find_one({"_id": "never"})["value"] == 0
        assert things.database.client is not None
    finally:
        fake.kill()


def test_boundaries():
    """Each boundary makes units of the same writes, in both durabilities."""
    found = report(
        *["unit", "--boundary", "plain,driver,comment,single,http", "--writes", 2],
        *["--server", own_server(), "--target", "holdfastd"],
        *["--vs", "process=holdfastd,wal.durability=process", "--connections", 2, *SHORT],
    )
    assert [cell["boundary"] for cell in found["cells"]] == [
        "plain",
        "driver",
        "comment",
        "single",
        "http",
    ]
    for cell in found["cells"]:
        for target in cell["targets"]:
            assert target["errors"] == 0, target
            units = "journalBytesPerOperation" in target["figures"]
            assert units == (cell["boundary"] != "plain"), cell


def test_loads():
    """Every load that asks a target, through the bare relay."""
    loads = ["insert", "ycsb-a", "ycsb-b", "ycsb-c", "ycsb-d", "ycsb-e", "ycsb-f", "accounts"]
    loads += ["contended", "large-read", "change-stream"]
    found = report(
        *[*loads, "--server", own_server(",replicaset"), "--target", "relay", "--connections", 3],
        *["--documents", 200, "--bytes", 200_000, *SHORT],
    )
    assert [cell["load"] for cell in found["cells"]] == loads
    for cell in found["cells"]:
        (target,) = cell["targets"]
        assert target["errors"] == 0, cell
        assert target["figures"]["operationsPerSecond"]["middle"] >= 0, cell


@pytest.mark.skipif(server_kind() != "secantusd-rs", reason="what is lost is this server's")
def test_crash_loss():
    """What a server keeps in its memory is lost with it, unless it syncs or Holdfast is before it."""
    found = report(
        *["crash-loss", "--server", own_server(), "--target", "holdfastd", "--vs", "native"],
        *["--vs", "native,sync", "--kills", 1, "--connections", 4, "--documents", 60, "--quiet"],
    )
    lost = {
        target["name"]: target["figures"]["lostOperations"]["middle"]
        for target in found["cells"][0]["targets"]
    }
    assert lost["holdfastd"] == lost["native,sync"] == 0
    assert lost["native"] > 0
    assert all(
        target["figures"]["tornOperations"]["middle"] == 0 for target in found["cells"][0]["targets"]
    )


def test_recovery_and_floor():
    found = report(
        *["recovery", "floor", "--units", 50, "--connections", 4, "--server", own_server()],
        *["--target", "holdfastd", *SHORT],
    )
    recovery, floor = found["cells"]
    figures = recovery["targets"][0]["figures"]
    assert figures["recoverySeconds"]["middle"] > 0 and figures["journalBytes"]["middle"] > 10_000
    each, grouped = floor["targets"]
    assert (each["name"], grouped["name"]) == ("fdatasync for each", "fdatasync for all")
    assert grouped["figures"]["operationsPerSecond"]["middle"] > 0


def test_interrupted(tmp_path):
    """^C ends what was started, and tells what was measured."""
    process = subprocess.Popen(
        [build_bin() / "holdfast-bench", "point-read", "--server", own_server()]
        + ["--target", "relay", "--vs", "direct", "--seconds", "60", "--directory", tmp_path],
        stdout=subprocess.PIPE,
        text=True,
    )
    with contextlib.closing(process.stdout):
        wait_until(lambda: children(process.pid) >= 2, 20, "server and relay are started")
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
        assert process.wait(30) == 0, said
    assert said == "" or "point-read" in said
    assert list(tmp_path.iterdir()) == []


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return len(file.read().split())


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["idle", "--target", "localhost:1", "--rate", "5"], "idle begins no operations"),
        (["idle", "--target", "localhost:1", "--rate", "0"], "--rate 0"),
        (["idle", "idle", "--target", "localhost:1"], "given twice"),
        (["idle", "--target", "localhost:1", "--target", "localhost:2"], "--target: given twice"),
        (["idle", "--target", "relay"], "needs --upstream or --server"),
        (["idle", "--target", "native"], "needs --server PROGRAM"),
        (["idle", "--target", "relay", "--server", "/bin/true"], "expected mongod or secantusd-rs"),
        (["idle", "--target", "a=localhost:1", "--vs", "a=localhost:2"], "two targets are called a"),
        (["idle", "--target", "relay,x=1"], "it has no setting x=1"),
        (["idle", "--target", "localhost:1", "--connections", "1,2,x"], "--connections x"),
        (["unit", "--target", "localhost:1", "--boundary", "other"], "--boundary other"),
        (["unit", "--target", "localhost:1", "--writes", "101"], "--writes 101"),
        (["accounts", "--target", "localhost:1", "--hot", "1"], "accounts needs 2"),
        (["idle", "--target", "localhost:1", "--output", "/dev/null/x"], "--output: cannot make"),
        (["recovery", "--target", "localhost:1"], "only a holdfastd that is started"),
        (["crash-loss", "--target", "localhost:1"], "must be one that is started"),
        (["idle", "--target", "localhost:1", "--work", "5"], "unknown option --work"),
        (["service", "--listen", "127.0.0.1:0", "--rate", "5"], "unknown option --rate of service"),
        (["relay", "--listen", "127.0.0.1:0"], "--target HOST:PORT is missing"),
        (["instant", "--listen", "127.0.0.1:0"], "--target HOST:PORT is missing"),
        (["idle", "--target", "relay,local-server", "--upstream", "a:1"], "needs --server PROGRAM,instant"),
        (["relay", "more", "--listen", "127.0.0.1:0"], "unexpected more"),
    ],
)
def test_bad_options(arguments, message):
    assert message in bench(*arguments, check=2).stderr


def test_a_target_that_does_not_come_up():
    """Its last words are told."""
    said = bench(
        *["idle", "--server", own_server(), "--target", "holdfastd,no.such=1", *SHORT], check=2
    ).stderr
    assert "holdfastd has ended" in said and "no.such" in said

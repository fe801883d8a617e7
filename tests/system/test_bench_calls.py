"""The stub service and its callers count right: what they report is what the server holds, with
holdfastd between them or without. Nothing here is timed."""

import json
import pathlib
import re
import socket
import subprocess
import sys
import threading

import pytest
from holdfast_testing import Process, Proxy, Server, build_bin, free_port

COMPARE = pathlib.Path(__file__).resolve().parent.parent.parent / "bench/compare_calls.py"
CALLERS = 4
OPTIONS = ["--connections", CALLERS, "--seconds", 0.5, "--warmup", 0.1, "--json"]


def bench(*arguments, check=0):
    """Runs holdfast-bench: its JSON, or without one its standard error."""
    done = subprocess.run(
        [str(build_bin() / "holdfast-bench"), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == check, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return json.loads(done.stdout) if done.stdout.startswith("{") else done.stderr


class Service:
    """holdfast-bench service."""

    def __init__(self, *arguments, port=0):
        command = [build_bin() / "holdfast-bench", "service", "--listen", f"127.0.0.1:{port}"]
        self.process = Process([*command, *arguments], name="service")
        self.address = self.process.wait_for_line(
            lambda line: line.split()[-1] if line.startswith("listening on") else None,
            10,
            "its port",
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()

    def end(self):
        """SIGTERM: (calls, writes, refused), as it counted them."""
        assert self.process.terminate() == 0, self.process.output()
        return tuple(int(number) for number in re.findall(r"\d+", self.process.lines[-1]))


class Fronted:
    """A server, holdfastd in front of the service, the service with its writes through it."""

    def __init__(self, *arguments, **settings):
        http, port = free_port(), free_port()
        self.server = Server()
        self.address = f"127.0.0.1:{http}"
        settings = {key.replace("__", "."): value for key, value in settings.items()}
        self.proxy = Proxy(
            self.server,
            {"http.quietPeriod": "100ms", **settings},
            options=["--http-listen", self.address, "--http-service", f"127.0.0.1:{port}"],
        )
        self.service = Service("--mongo", self.proxy.address, *arguments, port=port)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            self.service.process.kill()
            if kind is None:
                assert self.proxy.stop() == 0
                self.proxy.verify()
        finally:
            self.proxy.close()
            self.server.close()


def increments(server):
    """Each write that was carried out counts one."""
    with server.client() as client:
        return sum(row["value"] for row in client["holdfast_bench"]["calls"].find())


def check_figures(result):
    assert result["errors"] == 0 and "firstError" not in result
    assert 0 < result["operations"] <= result["operationsTotal"]
    assert result["statuses"] == {"200": result["operationsTotal"]}
    latency = result["latencyMicros"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_calls_without_writes(method):
    with Service("--work", "2ms") as service:
        result = bench("calls", "--target", service.address, "--method", method, *OPTIONS)
        check_figures(result)
        assert service.end() == (result["operationsTotal"], 0, 0)


def test_plain_writes():
    """Straight at the server, through fewer connections than there are callers."""
    with Server() as server:
        options = ["--mongo", server.address, "--writes", 3, "--connections", 2]
        with Service(*options, "--documents", 10, "--first-document", 5) as service:
            reading = bench("calls", "--target", service.address, "--method", "GET", *OPTIONS)
            check_figures(reading)
            result = bench("calls", "--target", service.address, *OPTIONS)
            check_figures(result)
            calls = reading["operationsTotal"] + result["operationsTotal"]
            writes = 3 * result["operationsTotal"]
            assert service.end() == (calls, writes, 0)
        assert increments(server) == writes
        with server.client() as client:
            assert sorted(client["holdfast_bench"]["calls"].distinct("_id")) == list(range(5, 15))


@pytest.mark.parametrize("correlation", ["exclusive", "trace"])
def test_calls_through_the_boundary(correlation):
    """Each call is a unit of its two writes: in trace by what the service copied into comments."""
    with Fronted("--work", 1, http__correlation=correlation) as stack:
        result = bench("calls", "--target", stack.address, *OPTIONS)
        check_figures(result)
        assert increments(stack.server) == 2 * result["operationsTotal"]
        units = [unit for unit in stack.proxy.units() if unit["state"] == "committed"]
        assert len(units) == result["operationsTotal"]
        assert stack.service.end()[1:] == (2 * result["operationsTotal"], 0)


def test_refused_writes_are_errors():
    """The second write is one too many: the service answers 500, and nothing of the call stays."""
    with Fronted(unit__maxWrites="1") as stack:
        result = bench("calls", "--target", stack.address, *OPTIONS, check=1)
        assert result["operationsTotal"] == 0
        assert result["statuses"] == {"500": result["errors"]}
        assert result["firstError"].startswith("500 Internal Server Error: update: ")
        assert increments(stack.server) == 0


def test_text_output():
    with Service() as service:
        done = subprocess.run(
            [str(build_bin() / "holdfast-bench"), "calls", "--target", service.address]
            + ["--seconds", "0.2", "--warmup", "0"],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0
    for word in ("calls, 1 connections", "status 200", "p99", "errors       0"):
        assert word in done.stdout


@pytest.mark.parametrize(
    "answer, message",
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab", "not one message"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "not one message"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "not one message"),
        (b"HTTP/1.1 20\r\n\r\n", "not one message"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "closed"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "closed"),
        (b"", "closed"),
        (b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}", "503 Service Unavail"),
    ],
)
def test_answers_that_are_none(answer, message):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk():
            accepted, _ = listener.accept()
            with accepted:
                accepted.recv(4096)
                accepted.sendall(answer)

        thread = threading.Thread(target=talk)
        thread.start()
        target = f"127.0.0.1:{listener.getsockname()[1]}"
        result = bench("calls", "--target", target, "--seconds", 0.5, "--json", check=1)
        thread.join()
    assert message in result["firstError"]
    assert result["operationsTotal"] == 0


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\ntraceparent: " + b"0" * 500 + b"\r\n\r\n",
        b"x" * 100_000,
    ],
)
def test_requests_that_are_none(request_bytes):
    """Their connection is closed; the service lives."""
    with Service() as service:
        host, port = service.address.split(":")
        with socket.create_connection((host, int(port)), 10) as connection:
            try:
                connection.sendall(request_bytes)
                assert connection.recv(100) == b""
            except ConnectionError:
                pass
        check_figures(bench("calls", "--target", service.address, *OPTIONS))
        service.end()


def test_callers_that_leave():
    """A handler goes on to its end, and the service to the next call."""
    with Server() as server, Service("--mongo", server.address, "--work", 50) as service:
        host, port = service.address.split(":")
        for _ in range(5):
            with socket.create_connection((host, int(port)), 10) as connection:
                connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        result = bench("calls", "--target", service.address, *OPTIONS)
        check_figures(result)
        calls, writes, refused = service.end()
        assert calls == result["operationsTotal"] + 5
        assert (writes, refused) == (2 * calls, 0)
        assert increments(server) == writes


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["service"], "--listen HOST:PORT is missing"),
        (["service", "--listen", "nonsense"], "HOST:PORT"),
        (["service", "--listen", "127.0.0.1:0", "--work", "5s"], "--work 5s"),
        (["service", "--listen", "127.0.0.1:0", "--work", "-1"], "--work -1"),
        (["service", "--listen", "127.0.0.1:0", "--writes", "0"], "--writes 0"),
        (["calls"], "--target HOST:PORT is missing"),
        (["calls", "--target", "localhost:1", "--method", "A B"], "--method A B"),
        (["calls", "--target", "localhost:1", "--method", "HEAD"], "--method HEAD"),
        (["calls", "--target", "localhost:1", "--path", "x"], "--path x"),
    ],
)
def test_bad_options(arguments, message):
    assert message in bench(*arguments, check=2)


def test_nobody_listens():
    nobody = f"127.0.0.1:{free_port()}"
    assert "cannot connect" in bench("calls", "--target", nobody, check=2)
    said = bench("service", "--listen", "127.0.0.1:0", "--mongo", nobody, check=2)
    assert "connection 1 to --mongo" in said


def test_comparison(tmp_path):
    """bench/compare_calls runs to its end and writes what it found, which is not judged here."""
    options = ["--rounds", 1, "--seconds", 0.2, "--warmup", 0.1, "--threads", 2]
    options += ["--without-report", build_bin() / "holdfastd", "--output", tmp_path]
    for part in ("boundary", "observe", "correlation"):  # instances: five servers for the same code
        options += ["--only", part]
    done = subprocess.run(
        [sys.executable, str(COMPARE), *map(str, options)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "compare_calls.json").read_text())
    assert [len(report[part]) for part in ("boundary", "observe", "correlation")] == [3, 2, 1]
    for part in ("boundary", "observe", "correlation"):
        for line in report[part]:
            low, high = line["ratioInterval"]
            assert 0 < low <= line["ratio"] <= high
            low, high = line["addedInterval"]
            assert low <= line["added"] <= high
    assert done.stdout.strip() == (tmp_path / "compare_calls.md").read_text().strip()

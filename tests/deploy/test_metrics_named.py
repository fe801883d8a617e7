"""What the dashboard and the alerts ask for, a real holdfastd has; and its log is what Fluent Bit expects."""

import datetime
import http.client
import http.server
import json
import pathlib
import re
import threading

import pytest
from holdfast_testing import FrontedService, FrontingProxy, Server, free_port, request, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
NAME = re.compile(r"\bholdfast_[a-z_]+[a-z]\b")


class Answer(http.server.BaseHTTPRequestHandler):
    """A service that is content with everything."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def proxy():
    """Everything is switched on that makes metrics; it has served a command and a call."""
    service = FrontedService("orchestrator", domain="emco")
    answers = http.server.ThreadingHTTPServer(("127.0.0.1", service.service_port), Answer)
    threading.Thread(target=answers.serve_forever, daemon=True).start()
    nobody = f"http://127.0.0.1:{free_port()}/"
    settings = {"admin.listen": "127.0.0.1:0", "trace.endpoint": nobody, "event.webhook": nobody}
    try:
        with Server() as server, FrontingProxy(server, [service], settings=settings) as made:
            with made.client() as client:
                client.shop.accounts.insert_many([{"_id": 1}, {"_id": 2}])
            assert request(service.callers_port, "POST", "/calls", {}).status == 200
            yield made
    finally:
        answers.shutdown()
        answers.server_close()


def ask(proxy, path):
    (port,) = [
        int(entry["attr"]["address"].rsplit(":", 1)[1])
        for entry in proxy.log()
        if entry["msg"] == "Listening" and entry["attr"]["listener"] == "admin"
    ]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def expressions():
    """(where, expression) of dashboards and alert rules."""
    for path in sorted(DEPLOY.glob("grafana/dashboards/*.json")):
        dashboard = json.loads(path.read_text())
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(ids)) == len(ids)
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.name}: {panel['title']}", target["expr"]
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                yield f"{path.name}: {variable['name']}", variable["query"]["query"]
    for path in sorted(DEPLOY.rglob("*alert*.y*ml")):
        yield path.name, path.read_text()


def test_every_metric_that_is_asked_for_is_there(proxy):
    text = wait_until(
        lambda: (said := ask(proxy, "/metrics")) and "holdfast_units_open" in said and said,
        10,
        "metrics",
    )
    families = {found[1] for found in re.finditer(r"^# TYPE (\S+)", text, re.MULTILINE)}
    samples = {found[1] for found in re.finditer(r"^(holdfast_\w+)", text, re.MULTILINE)}
    asked = list(expressions())
    assert len(asked) > 15
    missing = [
        f"{where}: {name}"
        for where, expression in asked
        for name in NAME.findall(expression)
        if name not in samples | families
    ]
    assert not missing


def test_labels_that_are_asked_for_are_there(proxy):
    """`by (...)` and selectors name labels that the metric has."""
    text = ask(proxy, "/metrics")
    for where, expression in expressions():
        for name, selected in re.findall(r"\b(holdfast_[a-z_]+)\{([^}]*)\}", expression):
            labels = set(re.findall(r"(\w+)(?:=~|!~|!=|=)", selected)) - {"instance"}
            by = re.search(rf"by \(([^)]*)\) \((?:rate|increase)?\(?{name}", expression)
            labels |= set(by[1].split(", ")) - {"instance", "le"} if by else set()
            series = re.findall(rf"^{name}(\{{[^}}]*\}})? ", text, re.MULTILINE)
            for label in labels:
                assert any(f'{label}="' in each for each in series), f"{where}: {name}: {label}"


def test_fluent_bit_reads_the_log(proxy):
    """One JSON object a line, with the fields of the index and the time in the parser's format."""
    parsers = (DEPLOY / "efk/fluent-bit.yaml").read_text()
    pattern = re.search(r"Time_Format (\S+)", parsers)[1]
    assert pattern == "%Y-%m-%dT%H:%M:%S.%LZ" and re.search(r"Time_Key +t\n", parsers)
    # libmongoc may warn of counters that a killed process of the same number left behind.
    lines = [line for line in proxy.process.lines if "mongoc:" not in line]
    entries = proxy.log()
    assert len(entries) == len(lines) > 3
    for entry in entries:
        assert {"t", "s", "c", "msg"} <= set(entry), entry
        datetime.datetime.strptime(entry["t"], "%Y-%m-%dT%H:%M:%S.%fZ")

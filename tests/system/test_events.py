"""Events: a line in the log, a POST to the webhook, an alert rule of Prometheus for each."""

import json
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml
from conflicts import make_conflict
from conftest import RawTransaction, Stack
from holdfast_testing import (
    Collector,
    Connection,
    Proxy,
    Receiver,
    admin_port,
    holdfast,
    wait_until,
)
from holdfast_testing.metrics import Metrics, families
from http_stack import HttpStack

SECRET = "correct-horse"
ALERTS = pathlib.Path(__file__).resolve().parents[2] / "deploy/prometheus/alerts.yml"


@pytest.fixture
def webhook():
    with Receiver() as made:
        yield made


def settings_for(webhook, **more):
    return {"admin.listen": "127.0.0.1:0", "event.webhook": webhook.url("/hook?x=1"), **more}


def told(webhook, reason, timeout=20):
    """The first event of that reason."""

    def there():
        return next((d for d in webhook.documents() if d["reason"] == reason), None)

    return wait_until(there, timeout, f"the webhook is told {reason}")


def line(proxy, reason):
    return next(
        e for e in proxy.log() if e["c"] == "event" and e["attr"].get("reason") == reason
    )


def test_a_conflict(tmp_path, webhook, name):
    """As JSON with the token, and as a line in the manner of a Kubernetes Event."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    settings = settings_for(webhook, **{"event.webhookSecretFile": secret})
    with Stack(settings) as stack:
        make_conflict(stack, name)
        event = told(webhook, "UnitConflict")
        shown = holdfast("units", "--wal", stack.proxy.wal, "--state", "conflict", "--json", check=1)
        (unit,) = json.loads(shown.stdout)["units"]
        assert event["type"] == "Warning" and str(unit["unit"]) in event["message"]
        assert event["involvedObject"] == {"kind": "Unit", "name": str(unit["unit"])}
        assert event["source"]["component"] == "holdfast" and event["source"]["instance"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"])
        path, headers = webhook.headers[0]
        assert path == "/hook?x=1" and headers["Content-Type"] == "application/json"
        assert headers["Authorization"] == f"Bearer {SECRET}"
        said = line(stack.proxy, "UnitConflict")
        assert said["s"] == "W" and said["msg"] == event["message"]
        for key in ("type", "reason", "message", "involvedObject"):
            assert said["attr"][key] == event[key]
        assert SECRET not in stack.proxy.process.output()


def test_a_webhook_that_is_down_at_first(webhook, name):
    """It is tried again until it takes the event; 4xx is not, since it would be refused again."""
    answers = iter([503, 429, 500])
    webhook.answer = lambda: next(answers, 204)
    environment = {"HOLDFAST_WEBHOOK_SECRET": SECRET}
    with Stack(settings_for(webhook), environment=environment) as stack:
        proxy = stack.proxy
        make_conflict(stack, name)
        told(webhook, "UnitConflict", 60)
        assert webhook.tries == 4
        assert webhook.headers[0][1]["Authorization"] == f"Bearer {SECRET}"
        webhook.answer = 400
        make_conflict(stack, name, 2)
        failed = {"outcome": "failed"}
        wait_until(
            lambda: Metrics(proxy).get("holdfast_webhook_events_total", **failed) == 1, 20, "given up"
        )
        assert webhook.tries == 5
        assert Metrics(proxy).get("holdfast_webhook_events_total", outcome="delivered") == 1


def test_the_server_is_lost_and_back(webhook, name):
    with Stack(settings_for(webhook, **{"upstream.connectTimeout": "1s"})) as stack:
        stack.server.kill()
        lost = told(webhook, "UpstreamLost", 40)
        assert lost["type"] == "Warning" and lost["involvedObject"]["kind"] == "Upstream"
        assert lost["involvedObject"]["name"] == f"127.0.0.1:{stack.server.port}"
        stack.server.start()
        assert told(webhook, "UpstreamRestarted", 40)["type"] == "Warning"
        back = told(webhook, "UpstreamBack", 40)
        assert back["type"] == "Normal" and back["involvedObject"] == lost["involvedObject"]
        reasons = [d["reason"] for d in webhook.documents()]
        assert reasons.count("UpstreamLost") == reasons.count("UpstreamBack") == 1


def test_the_lease_is_lost_and_back(webhook):
    """A server that stands still: the lease cannot be renewed, until it goes on."""
    with Stack(settings_for(webhook)) as stack:
        stack.server.pause()
        try:
            lost = told(webhook, "LeaseLost", 40)
            assert lost["type"] == "Warning" and lost["involvedObject"]["kind"] == "Proxy"
            assert Metrics(stack.proxy).get("holdfast_lease_held") == 0
        finally:
            stack.server.resume()
        assert told(webhook, "LeaseBack", 40)["type"] == "Normal"


def test_after_a_crash(webhook, name):
    """What the recovery at the start rolled back."""
    with Stack(settings_for(webhook)) as stack:
        with Connection(stack.proxy.port) as raw:
            assert RawTransaction(raw).insert(name, {"_id": 1})["ok"]
            stack.proxy.restart()
        event = told(webhook, "UnitsRolledBack")
        assert event["message"].startswith("1 units") and event["involvedObject"]["kind"] == "Proxy"


def test_the_journal_is_nearly_full(webhook, name):
    """Told once at 90 % of the quota, and when there is room again."""
    settings = settings_for(webhook, **{"wal.quota": "16MiB"})
    with Stack(settings) as stack:
        with Connection(stack.proxy.port) as raw:
            unit = RawTransaction(raw)
            for number in range(100):
                if not unit.insert(name, {"_id": number, "t": "x" * 200_000})["ok"]:
                    break
                assert unit.commit()["ok"]
                unit.next()
            else:
                pytest.fail("the journal never was full")
        event = told(webhook, "JournalNearlyFull")
        assert event["involvedObject"] == {"kind": "Journal", "name": stack.proxy.wal}

        def pruned():
            holdfast("prune", "--wal", stack.proxy.wal, "--before", "0s", "--yes", check=0)
            return any(d["reason"] == "JournalHasRoom" for d in webhook.documents())

        wait_until(pruned, 40, "there is room again", 0.5)
        reasons = [d["reason"] for d in webhook.documents()]
        assert reasons.count("JournalNearlyFull") == 1


def test_a_standby_takes_over(webhook):
    with Stack() as stack:
        settings = settings_for(webhook)
        second = Proxy(stack.server, settings, wal=stack.proxy.wal, options=["--standby", "on"], start=False)
        try:
            second.launch()
            standing = lambda: any(e["msg"] == "Standing by" for e in second.log())
            wait_until(standing, 20, "it stands by")
            assert webhook.documents() == []
            assert stack.proxy.stop() == 0
            second.wait_accepting()
            assert told(webhook, "StandbyTookOver")["type"] == "Normal"
            assert second.stop() == 0
        finally:
            second.close()


# ---------------------------------------------------------------- alerts


def rules():
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


# What PromQL has itself, as far as the rules use it; names behind on, by and in braces are labels.
WORDS = {"and", "or", "unless", "on", "by", "sum", "rate", "increase", "changes", "time"}
WORDS |= {"histogram_quantile", "up"}


def metric_names(expression):
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:on|by) ?\([^)]*\)|\"[^\"]*\"", " ", expression)
    return set(re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", bare)) - WORDS


@pytest.fixture(scope="module")
def exposed():
    """{series name: [labels]} of a proxy with everything on."""
    with Receiver() as webhook, Collector() as collector:
        settings = settings_for(webhook, **{"trace.endpoint": collector.url("/v1/traces")})
        with HttpStack(settings) as stack:
            stack.call("/x")
            found = {}
            for family in families(admin_port(stack.proxy)):
                for sample in family.samples:
                    found.setdefault(sample.name, []).append(sample.labels)
            return found


def test_alerts_ask_for_what_there_is(exposed):
    """Each metric of each rule is on the page, with the labels that the rule asks for."""
    assert metric_names('a_total{x="y"} > 0 and on (i, j) time() - b < 9') == {"a_total", "b"}
    for alert, rule in rules().items():
        assert rule["annotations"]["summary"] and rule["labels"]["severity"], alert
        missing = metric_names(rule["expr"]) - exposed.keys()
        assert not missing, f"{alert}: {missing}"
        for name, labels in re.findall(r"([a-z_:]+)\{([^}]*)\}", rule["expr"]):
            for label, how, value in re.findall(r'(\w+)(!?=)"([^"]*)"', labels):
                if name != "up" and how == "=":
                    assert any(have.get(label) == value for have in exposed[name]), (alert, value)


def test_each_event_has_an_alert():
    """Of what somebody must be told there is a rule; "has room", "is back" are ends of others."""
    wanted = {
        "UnitConflict": "HoldfastConflict",
        "UnitsRolledBack": "HoldfastRolledBackAfterCrash",
        "UnitsRedone": "HoldfastServerLostWrites",
        "JournalNearlyFull": "HoldfastJournalNearlyFull",
        "UpstreamLost": "HoldfastUpstreamLost",
        "UpstreamRestarted": "HoldfastServerRestarted",
        "LeaseLost": "HoldfastLeaseLost",
        "StandbyTookOver": "HoldfastStandbyTookOver",
        "UpgradeFailed": "HoldfastUpgradeFailed",
        "PrimaryLost": "HoldfastPrimaryLost",
    }
    source = (ALERTS.parents[2] / "include/holdfast/event.h").read_text()
    reasons = set(re.findall(r'X\(\w+, "(\w+)"', source))
    assert reasons == wanted.keys() | {
        "JournalHasRoom",
        "UpstreamBack",
        "LeaseBack",
        "UpgradeFinished",
        "PrimaryChanged",
    }
    assert set(wanted.values()) <= rules().keys()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on PATH")
def test_promtool():
    """Prometheus itself takes the rules, and the page."""
    done = subprocess.run(["promtool", "check", "rules", str(ALERTS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_manual_knows_all(exposed):
    """docs/OBSERVABILITY.md has each metric and each event."""
    manual = (ALERTS.parents[2] / "docs/OBSERVABILITY.md").read_text()
    source = (ALERTS.parents[2] / "include/holdfast/event.h").read_text()
    for reason in re.findall(r'X\(\w+, "(\w+)"', source):
        assert f"`{reason}`" in manual, reason
    for name in exposed:
        base = re.sub(r"_(bucket|count|sum)$", "", name)
        assert f"`{base}`" in manual or f"`{name}`" in manual, name

"""/metrics: Prometheus' own parsers take it in both forms, and its figures are what a workload did."""

import http.client
import os
import time

import pytest
from conflicts import make_conflict
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Connection, Later, admin_port, wait_until
from holdfast_testing.metrics import (
    CLASSIC,
    OPENMETRICS,
    PROMETHEUS_ACCEPTS,
    Metrics,
    families,
    fetch,
)
from http_stack import HttpStack

SETTINGS = {"admin.listen": "127.0.0.1:0", "unit.lockWait": "20s"}


@pytest.fixture(scope="module")
def stack():
    with Stack(SETTINGS) as made:
        yield made


@pytest.fixture
def proxy(stack):
    return stack.proxy


def test_both_forms(proxy):
    """Who asks for OpenMetrics gets it, others the classic text; both hold the same series."""
    port = admin_port(proxy)
    assert fetch(port)[0] == fetch(port, "text/plain")[0] == fetch(port, "*/*")[0] == CLASSIC
    kind, text = fetch(port, PROMETHEUS_ACCEPTS)
    assert kind == OPENMETRICS and text.endswith("# EOF\n")
    assert "# EOF" not in fetch(port)[1]
    classic, openmetrics = Metrics(port), Metrics(port, PROMETHEUS_ACCEPTS)
    assert classic.values.keys() == openmetrics.values.keys()


@pytest.mark.parametrize("accept", [None, PROMETHEUS_ACCEPTS])
def test_conventions(proxy, accept):
    """Each family has a type and a help text; names say what they count, in base units."""
    for family in families(admin_port(proxy), accept):
        assert family.type in ("counter", "gauge", "histogram"), family.name
        assert family.documentation, family.name
        assert family.name.startswith(("holdfast_", "process_")), family.name
        for sample in family.samples:
            if family.type == "counter":
                assert sample.name.endswith("_total"), sample.name
            if family.type == "histogram":
                assert family.name.endswith("_seconds"), family.name
        if family.type == "histogram":
            check_histogram(family)


def check_histogram(family):
    """Buckets rise up to the count; the parser for OpenMetrics asks for more, and has had it."""
    series = {}
    for sample in family.samples:
        labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
        series.setdefault(labels, {}).setdefault(sample.name[len(family.name) :], []).append(sample)
    for parts in series.values():
        buckets = [sample.value for sample in parts["_bucket"]]
        assert buckets == sorted(buckets) and parts["_bucket"][-1].labels["le"] == "+Inf"
        assert buckets[-1] == parts["_count"][0].value
        assert (parts["_sum"][0].value > 0) == (buckets[-1] > 0)


def difference(proxy, before, name, **labels):
    return Metrics(proxy).sum(name, **labels) - before.sum(name, **labels)


def test_units(proxy, client, name):
    """One unit each way of each boundary counts where it belongs, its reason too."""
    before = Metrics(proxy)
    with Connection(proxy.port) as one:
        unit = RawTransaction(one)
        assert unit.insert(name, {"_id": 1})["ok"]
        during = Metrics(proxy)
        assert unit.commit()["ok"] == 1
        assert unit.commit()["ok"] == 1  # from memory: no retry that the journal answered
        assert unit.next().insert(name, {"_id": 2})["ok"] and unit.abort()["ok"]
    assert during.get("holdfast_units_open") == before.get("holdfast_units_open") + 1
    assert during.get("holdfast_locks_held") == before.get("holdfast_locks_held") + 1
    assert during.get("holdfast_connections") >= before.get("holdfast_connections") + 1
    client[DATABASE][name].insert_one({"_id": 3})  # retryable: a unit of its own
    after = Metrics(proxy)
    for boundary, outcome, more in (
        ("driver", "committed", 1),
        ("driver", "rolled_back", 1),
        ("driver", "conflict", 0),
        ("retryable", "committed", 1),
        ("http", "committed", 0),
        ("comment", "committed", 0),
    ):
        labels = {"boundary": boundary, "engine": "journaled", "outcome": outcome}
        got = after.get("holdfast_units_total", **labels) - before.get("holdfast_units_total", **labels)
        assert got == more, labels
    reason = {"reason": "client_abort"}
    assert difference(proxy, before, "holdfast_rollbacks_total", **reason) == 1
    assert difference(proxy, before, "holdfast_rollbacks_total") == 1
    assert difference(proxy, before, "holdfast_commit_duration_seconds_count") == 2
    assert difference(proxy, before, "holdfast_journal_fsync_duration_seconds_count") >= 3
    assert after.get("holdfast_journal_last_lsn") > before.get("holdfast_journal_last_lsn")


def test_bytes_and_commands(proxy, name):
    """A command of a known size is counted once, at both sockets."""
    with Connection(proxy.port) as one:
        one.run({"ping": 1, "$db": "admin"})  # what belongs to connecting is over
        before = Metrics(proxy)
        one.run({"ping": 1, "x": "y" * 100_000, "$db": "admin"})
        after = Metrics(proxy)

    def more(series, **labels):
        return after.get(series, **labels) - before.get(series, **labels)

    assert more("holdfast_commands_total") == 1
    assert 100_000 < more("holdfast_bytes_total", peer="client", direction="in") < 100_300
    assert 100_000 < more("holdfast_bytes_total", peer="server", direction="out") < 100_300
    answered = more("holdfast_bytes_total", peer="client", direction="out")
    assert 20 < answered == more("holdfast_bytes_total", peer="server", direction="in") < 1000


def test_lock_waits(proxy, name):
    """A write that waits for a lock shows while it does, and its wait afterwards."""
    before = Metrics(proxy)
    with Connection(proxy.port) as one, Connection(proxy.port) as two:
        holder, waiter = RawTransaction(one), RawTransaction(two)
        assert holder.insert(name, {"_id": 1})["ok"] and waiter.insert(name, {"_id": 2})["ok"]
        later = Later(lambda: waiter.insert(name, {"_id": 1}))
        wait_until(lambda: Metrics(proxy).get("holdfast_locks_waiting") == 1, 10, "it waits")
        time.sleep(0.05)
        assert holder.abort()["ok"]
        later.result()
        waiter.abort()
    after = Metrics(proxy)
    assert after.get("holdfast_locks_waiting") == 0
    count = "holdfast_lock_wait_duration_seconds_count"
    assert after.get(count) == before.get(count) + 1
    total = "holdfast_lock_wait_duration_seconds_sum"
    assert after.get(total) - before.get(total) > 0.05


def test_a_retry_is_counted(proxy, name):
    """A plain write that comes again is answered from the journal, and counted."""
    before = Metrics(proxy)
    with Connection(proxy.port) as one:
        write = RawTransaction(one)
        command = {
            "insert": name,
            "documents": [{"_id": 1}],
            "lsid": write.lsid,
            "txnNumber": __import__("bson").Int64(7),
            "$db": DATABASE,
        }
        assert one.run(command)["n"] == 1 and one.run(command)["n"] == 1
    assert difference(proxy, before, "holdfast_retries_answered_total") == 1


def test_settling(proxy, client, name):
    """What a unit has written is unsettled at first and soon is not."""
    client[DATABASE][name].insert_many([{"_id": i} for i in range(3)])

    def settled():
        scrape = Metrics(proxy)
        return (
            scrape.get("holdfast_settle_lag_records") == 0
            and scrape.get("holdfast_units_unsettled") == 0
            and scrape.get("holdfast_unsettled_age_seconds") == 0
            and scrape.get("holdfast_settled_lsn") == scrape.get("holdfast_journal_last_lsn")
        )

    wait_until(settled, 20, "everything is settled")


def test_the_process(proxy):
    """process_* are what the kernel says; the journal's room and the proxy's state are there."""
    scrape = Metrics(proxy)
    pid = proxy.process.pid
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    assert 0 < scrape.get("process_cpu_seconds_total") <= cpu
    assert scrape.get("process_resident_memory_bytes") > 1 << 20
    assert scrape.get("process_virtual_memory_bytes") > scrape.get("process_resident_memory_bytes")
    assert abs(scrape.get("process_open_fds") - len(os.listdir(f"/proc/{pid}/fd"))) <= 5
    assert abs(scrape.get("process_start_time_seconds") - time.time()) < 3600
    assert scrape.get("process_max_fds") > 0
    assert scrape.get("holdfast_ready") == scrape.get("holdfast_upstream_up") == 1
    assert scrape.get("holdfast_lease_held") == 1 and scrape.get("holdfast_lease_epoch") >= 1
    assert scrape.get("holdfast_phase", phase="serving") == scrape.sum("holdfast_phase") == 1
    assert scrape.get("holdfast_recovery_duration_seconds_count") == 1
    quota, used = (scrape.get(f"holdfast_journal_{what}_bytes") for what in ("quota", "used"))
    assert quota == 64 << 30 and 0 < used < quota
    assert scrape.get("holdfast_journal_free_bytes") == quota - used
    assert scrape.get("holdfast_journal_disk_free_bytes") > 0
    assert scrape.sum("holdfast_build_info") == 1


def test_routes():
    """Requests by route, which takes identifiers out of paths, and by how they were answered; many
    routes become "other"."""
    with HttpStack({"admin.listen": "127.0.0.1:0", "net.threads": "1"}) as stack:
        stack.service.handlers["/made"] = lambda _: (201, {})
        stack.service.handlers["/bad"] = lambda _: (404, {})
        for number in range(5):
            stack.call(f"/things/{number}")  # 404: there is no handler
        assert stack.call("/made").status == 201 and stack.call("/bad").status == 404
        assert stack.call("/bad", method="GET").status == 404
        port = admin_port(stack.proxy)
        scrape = Metrics(port, PROMETHEUS_ACCEPTS)
        total, duration = "holdfast_http_requests_total", "holdfast_http_request_duration_seconds"

        def labels(route):
            return {"service": "service", "route": route}

        assert scrape.get(total, code="4xx", **labels("POST /things/{}")) == 5
        assert scrape.get(total, code="2xx", **labels("POST /made")) == 1
        assert scrape.get(total, code="4xx", **labels("POST /bad")) == 1
        assert scrape.get(total, code="4xx", **labels("GET /bad")) == 1
        assert scrape.get(f"{duration}_count", **labels("POST /things/{}")) == 5
        assert scrape.get("holdfast_calls_total", domain="default", outcome="rolled_back") == 6
        assert scrape.get("holdfast_calls_total", domain="default", outcome="committed") == 1
        flood(stack.http_port)
        scrape = Metrics(port, PROMETHEUS_ACCEPTS)
        routes = {dict(key[1])["route"] for key in scrape.values if key[0] == total}
        assert "other" in routes and len(routes) == 128 + 1
        assert scrape.sum(total) == 8 + 150


def flood(port):
    """150 routes that no identifier explains; one worker remembers 128."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for number in range(150):
        first, second = divmod(number, 10)
        connection.request("GET", f"/x{chr(97 + first)}/y{chr(97 + second)}")
        connection.getresponse().read()
    connection.close()


def test_conflicts_are_counted(name):
    with Stack(SETTINGS) as stack:
        make_conflict(stack, name)
        scrape = wait_until(
            lambda: (m := Metrics(stack.proxy)).get("holdfast_units_conflict") == 1 and m, 10, "aside"
        )
        assert scrape.sum("holdfast_units_total", boundary="driver", outcome="conflict") == 1
        assert scrape.get("holdfast_events_total", reason="UnitConflict") == 1

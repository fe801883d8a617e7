"""Spans of units and their commands, as an OpenTelemetry collector gets them."""

import time
import uuid

import bson
import pymongo
import pytest
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Collector, Connection, free_port, wait_until
from holdfast_testing.metrics import Metrics
from http_stack import HttpStack

SECRET = "marker-of-a-document"
INTERNAL, SERVER, CLIENT = 1, 2, 3


def traceparent(sampled=True):
    """(trace, span, header)."""
    trace, span = uuid.uuid4().hex, uuid.uuid4().hex[:16]
    return trace, span, f"00-{trace}-{span}-{'01' if sampled else '00'}"


@pytest.fixture(scope="module")
def collector():
    with Collector() as made:
        yield made


def settings_for(collector, **more):
    return {
        "admin.listen": "127.0.0.1:0",
        "trace.endpoint": collector.url("/v1/traces"),
        "log.level": "debug",
        **more,
    }


@pytest.fixture(scope="module")
def stack(collector):
    with Stack(settings_for(collector)) as made:
        yield made


@pytest.fixture(scope="module")
def http_stack(collector):
    with HttpStack(settings_for(collector), appName="orchestrator") as made:
        made.other = pymongo.MongoClient(made.proxy.uri, appName="placement")
        made.seen = []

        def handler(request):
            made.seen.append(request.headers.get("traceparent"))
            made.collection("apps").insert_one({"_id": str(uuid.uuid4()), "secret": SECRET})
            made.other[DATABASE]["clusters"].update_one(
                {"_id": SECRET}, {"$set": {"secret": SECRET}}, upsert=True
            )
            return int(request.headers.get("X-Answer", 200))

        made.service.handlers["/v2/apps"] = handler
        try:
            yield made
        finally:
            made.other.close()


def check_command(span, parent, operation, collection, application):
    assert (span.kind, span.parent, span.trace) == (CLIENT, parent.id, parent.trace)
    assert span.name == f"{operation} {collection}" and not span.failed
    assert parent.start <= span.start <= span.end
    attributes = span.attributes
    assert attributes["db.system"] == attributes["db.system.name"] == "mongodb"
    assert attributes["db.namespace"] == DATABASE
    assert attributes["db.collection.name"] == collection
    assert attributes["db.operation.name"] == operation
    assert attributes["holdfast.client.application"] == application
    assert attributes["holdfast.unit.id"] == parent.attributes["holdfast.unit.id"]
    assert attributes["client.address"].startswith("127.0.0.1:")


def test_an_api_call_of_two_services(collector, http_stack):
    """The unit's span is inside of the caller's; what two services wrote in it is inside of the
    unit's. The service is told what the caller sent, byte for byte."""
    trace, caller, header = traceparent()
    answer = http_stack.call("/v2/apps?q=x", headers={"traceparent": header})
    assert answer.status == 200 and http_stack.seen[-1] == header
    unit, first, second = collector.wait_spans(3, trace)
    assert (unit.kind, unit.parent, unit.name) == (SERVER, caller, "POST")
    assert unit.attributes["http.request.method"] == "POST"
    assert unit.attributes["url.path"] == "/v2/apps"
    assert unit.attributes["holdfast.unit.boundary"] == "http"
    assert unit.attributes["holdfast.unit.outcome"] == "committed"
    check_command(first, unit, "insert", "apps", "orchestrator")
    check_command(second, unit, "update", "clusters", "placement")


def test_a_call_without_a_trace(collector, http_stack):
    """It is the root of its own, and the service can make its spans inside of it."""
    assert http_stack.call("/v2/apps").status == 200
    version, trace, span, flags = http_stack.seen[-1].split("-")
    unit, *_ = collector.wait_spans(3, trace)
    assert (version, flags) == ("00", "01")
    assert unit.id == span and unit.parent is None


def test_a_call_that_is_not_sampled(collector, http_stack):
    """The caller has decided: nothing of it is recorded, and the flag goes on as it came."""
    unsampled, _, header = traceparent(sampled=False)
    assert http_stack.call("/v2/apps", headers={"traceparent": header}).status == 200
    assert http_stack.seen[-1] == header
    trace, _, header = traceparent()
    assert http_stack.call("/v2/apps", headers={"traceparent": header}).status == 200
    collector.wait_spans(3, trace)  # what came before it would be there by now
    assert collector.spans(unsampled) == []


def test_a_call_that_is_rolled_back(collector, http_stack):
    """The span tells how the unit ended, and why."""
    trace, _, header = traceparent()
    headers = {"traceparent": header, "X-Answer": "500"}
    assert http_stack.call("/v2/apps", headers=headers).status == 500
    unit, *_ = collector.wait_spans(3, trace)
    assert unit.attributes["holdfast.unit.outcome"] == "rolled_back"
    assert unit.attributes["holdfast.unit.reason"] == "call_error"


def test_a_drivers_transaction(collector, stack, name):
    """Its parent is what the comment of its first command names; each command is a span in it."""
    trace, caller, header = traceparent()
    with stack.proxy.client(appName="orders") as client, client.start_session() as session:
        collection = client[DATABASE][name]
        with session.start_transaction():
            comment = f"traceparent='{header}'"
            collection.insert_one({"_id": 1, "secret": SECRET}, session=session, comment=comment)
            collection.update_one({"_id": 1}, {"$set": {"secret": SECRET}}, session=session)
            assert collection.find_one({"secret": SECRET}, session=session)["_id"] == 1
    unit, insert, update, find, commit = collector.wait_spans(5, trace)
    assert (unit.kind, unit.parent, unit.name) == (INTERNAL, caller, "unit")
    assert unit.attributes["holdfast.unit.boundary"] == "driver"
    check_command(insert, unit, "insert", name, "orders")
    check_command(update, unit, "update", name, "orders")
    check_command(find, unit, "find", name, "orders")
    assert (commit.parent, commit.name) == (unit.id, "commitTransaction")
    assert insert.links == []


def test_a_command_of_another_span(collector, stack, name):
    """A write whose comment names another span than its unit's parent is linked with it."""
    trace, _, header = traceparent()
    other_trace, other, other_header = traceparent()
    with Connection(stack.proxy.port) as one:
        unit = RawTransaction(one)
        command = {"insert": name, "documents": [{"_id": 1}], "comment": header}
        assert unit.run(command)["ok"]
        command = {"insert": name, "documents": [{"_id": 2}], "comment": {"traceparent": other_header}}
        assert unit.run(command)["ok"] and unit.abort()["ok"]
    _, first, second, _ = collector.wait_spans(4, trace)
    assert first.links == [] and second.links == [(other_trace, other)]
    assert collector.spans(other_trace) == []


def test_a_command_that_fails(collector, stack, name):
    """Its span says so with the code, and holds nothing of the message, which quotes documents."""
    trace, _, header = traceparent()
    stack.direct[DATABASE][name].create_index("secret", unique=True)
    stack.direct[DATABASE][name].insert_one({"_id": 0, "secret": SECRET})
    with Connection(stack.proxy.port) as one:
        unit = RawTransaction(one)
        command = {"insert": name, "documents": [{"secret": SECRET}], "comment": header}
        assert SECRET in str(unit.run(command))
    unit, insert = collector.wait_spans(2, trace)
    assert insert.failed and insert.attributes["db.response.status_code"] == "11000"
    assert unit.attributes["holdfast.unit.reason"] == "command_failed"


def test_a_plain_write(collector, stack, name):
    trace, caller, header = traceparent()
    with stack.proxy.client() as client:
        client[DATABASE][name].insert_one({"_id": 1}, comment=header)
    unit, insert = collector.wait_spans(2, trace)
    assert (unit.parent, insert.parent) == (caller, unit.id)
    assert unit.attributes["holdfast.unit.boundary"] == "retryable"


def test_no_documents(collector, stack, http_stack):
    """Nothing of documents, filters or updates has left; who sends is told."""
    assert collector.bodies and not any(SECRET in body for body in collector.bodies)
    resource = collector.documents()[0]["resourceSpans"][0]["resource"]["attributes"]
    told = {a["key"]: a["value"]["stringValue"] for a in resource}
    assert told["service.name"] == "holdfast" and told["service.version"]
    assert told["service.instance.id"]
    path, headers = collector.headers[0]
    assert path == "/v1/traces" and headers["Content-Type"] == "application/json"
    assert "Authorization" not in headers


def write_units(proxy, name, count, comment=None):
    with Connection(proxy.port) as one:
        unit = RawTransaction(one)
        for number in range(count):
            command = {"insert": name, "documents": [{"_id": bson.ObjectId()}]}
            assert unit.run({**command, **({"comment": comment} if comment else {})})["ok"]
            assert unit.commit()["ok"] == 1
            unit.next()


def test_percent(name):
    """0: only traces of callers are recorded."""
    with Collector() as collector, Stack(settings_for(collector, **{"trace.percent": 0})) as stack:
        write_units(stack.proxy, name, 5)
        trace, _, header = traceparent()
        write_units(stack.proxy, name, 1, header)
        collector.wait_spans(3, trace)
        assert len(collector.spans()) == 3


def outcomes(proxy):
    scrape = Metrics(proxy)
    return {
        outcome: scrape.get("holdfast_trace_spans_total", outcome=outcome)
        for outcome in ("delivered", "failed", "dropped")
    }


def test_a_collector_that_is_down(name):
    """Clients notice nothing; each span is counted once, as failed, dropped or, when the collector
    is there, as delivered."""
    port = free_port()
    settings = {
        "admin.listen": "127.0.0.1:0",
        "trace.endpoint": f"http://127.0.0.1:{port}/v1/traces",
    }
    with Stack(settings) as stack:
        write_units(stack.proxy, name, 10)
        waiting = "A receiver does not take what it is sent"
        wait_until(lambda: any(e["msg"] == waiting for e in stack.proxy.log()), 20, "it is told")
        with Collector(port=port) as collector:
            write_units(stack.proxy, name, 10)
            wait_until(lambda: sum(outcomes(stack.proxy).values()) >= 60, 30, "all are counted")
            counted = outcomes(stack.proxy)
            assert counted["dropped"] == 0 and counted["failed"] + counted["delivered"] == 60
            assert len(collector.spans()) == counted["delivered"] > 0


def test_a_collector_that_hangs(name):
    """It holds up nobody, not even the end of the process, for more than its few seconds."""
    with Collector(answer=lambda: time.sleep(3600) or 200) as collector:
        with Stack(settings_for(collector, **{"log.level": "info"})) as stack:
            write_units(stack.proxy, name, 700)  # two batches; the second waits
            wait_until(lambda: collector.tries > 0, 20, "the collector was asked")
            write_units(stack.proxy, name, 50)
            assert Metrics(stack.proxy).get("holdfast_trace_spans_waiting") > 0
            began = time.monotonic()
            assert stack.proxy.stop() == 0
            assert time.monotonic() - began < 20

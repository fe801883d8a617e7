"""Several services in one domain, calls among them, correlation by trace, and how services are told
apart."""

import json
import threading
import time

import pymongo
import pytest
from conftest import DATABASE, end_cleanly
from holdfast_testing import (
    Connection,
    Proxy,
    Server,
    encode_message,
    encode_query,
    holdfast,
    port_for_restarts,
    wait_until,
)
from http_stack import QUIET, Gate, InBackground, Service, call
from pymongo.errors import OperationFailure

TRACE = "00-{}-00f067aa0ba902b7-01"


class Fronted:
    """One service of a Domains stack: its ports, and the Service behind them."""

    def __init__(self, name, **keys):
        self.name = name
        self.keys = keys
        self.listen, self.inside, self.port, self.mongo = (port_for_restarts() for _ in range(4))
        self.service = None

    def yaml(self):
        lines = [f"  - name: {self.name}", f"    listen: 127.0.0.1:{self.listen}"]
        lines += [f"    inside: 127.0.0.1:{self.inside}", f"    service: 127.0.0.1:{self.port}"]
        if not {"appName", "address"} & set(self.keys):
            lines += [f"    mongo: 127.0.0.1:{self.mongo}"]
        return "\n".join(lines + [f"    {key}: {value}" for key, value in self.keys.items()])

    def call(self, path, **options):
        return call(self.listen, path, **options)


class Domains:
    def __init__(self, directory, *fronted, mode="standalone", **settings):
        config = directory / "holdfast.yaml"
        config.write_text("services:\n" + "\n".join(each.yaml() for each in fronted) + "\n")
        settings = {key.replace("_", "."): value for key, value in settings.items()}
        self.server = Server(mode=mode)
        self.direct = self.server.client()
        self.fronted = fronted
        self.proxy = Proxy(
            self.server,
            {"http.quietPeriod": QUIET, "upstream.fenceWait": "100ms", **settings},
            options=["--config", str(config)],
        )
        for each in fronted:
            plain = {"appName", "address"} & set(each.keys)
            port = self.proxy.port if plain else each.mongo
            options = {"appname": each.keys["appName"]} if "appName" in each.keys else {}
            each.service = Service(f"mongodb://127.0.0.1:{port}/", each.port, **options)
            each.collection = lambda name, each=each: each.service.client[DATABASE][name]

    def stored(self, name):
        return {d["_id"] for d in self.direct[DATABASE][name].find()}

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for each in self.fronted:
            each.service.client.close()  # without a proxy it would wait for one
        try:
            end_cleanly(self.proxy, kind)
        finally:
            for each in self.fronted:
                if each.service is not None:
                    each.service.close()
            self.direct.close()
            self.proxy.close()
            self.server.close()


# ---- calls among services


@pytest.mark.parametrize("code,kept", [(201, {1, 2, 3}), (500, set())])
def test_a_call_that_spans_two_services_is_one_unit(tmp_path, name, code, kept):
    one, two = Fronted("one", domain="both"), Fronted("two", domain="both")
    with Domains(tmp_path, one, two) as stack:

        def outer(_):
            one.collection(name).insert_one({"_id": 1})
            assert call(two.inside, "/inner").status == 200
            one.collection(name).insert_one({"_id": 3})
            return code

        def inner(_):
            two.collection(name).insert_one({"_id": 2})
            return 200

        one.service.handlers["/outer"] = outer
        two.service.handlers["/inner"] = inner
        assert one.call("/outer").status == code
        assert stack.stored(name) == kept
        assert len(stack.proxy.units()) == 1


def test_a_stranger_queues_while_a_nested_call_passes(tmp_path, name):
    one, two = Fronted("one", domain="both"), Fronted("two", domain="both")
    with Domains(tmp_path, one, two):
        gate = Gate()

        def outer(_):
            gate.stop_here()
            return call(two.inside, "/inner").status

        one.service.handlers["/outer"] = outer
        two.service.handlers["/inner"] = lambda _: 200
        caller = InBackground(one.listen, "/outer")
        gate.wait_reached()
        stranger = InBackground(two.listen, "/inner")
        time.sleep(0.2)
        assert stranger.running()
        gate.go.set()
        assert caller.wait().status == 200
        assert stranger.wait().status == 200


def test_peers_are_inside_on_the_outer_listener(tmp_path, name):
    one, two = Fronted("one", domain="both"), Fronted("two", domain="both", peers="127.0.0.9")
    with Domains(tmp_path, one, two) as stack:

        def outer(_):
            one.collection(name).insert_one({"_id": 1})
            assert call(two.listen, "/inner", source="127.0.0.9").status == 200
            return 500

        def inner(_):
            two.collection(name).insert_one({"_id": 2})
            return 200

        one.service.handlers["/outer"] = outer
        two.service.handlers["/inner"] = inner
        assert one.call("/outer").status == 500
        assert stack.stored(name) == set()


def test_a_nested_call_by_the_wrong_door_waits_no_longer_than_the_queue(tmp_path, name):
    """It is not known to be nested: it gets 503 and its parent goes on."""
    one, two = Fronted("one", domain="both"), Fronted("two", domain="both")
    with Domains(tmp_path, one, two, http_queueWait="300ms"):
        one.service.handlers["/outer"] = lambda _: (200, {"got": call(two.listen, "/inner").reason})
        two.service.handlers["/inner"] = lambda _: 200
        assert one.call("/outer").json == {"got": "queueTimeout"}


def test_the_second_service_outlives_the_call(tmp_path, name):
    """The first did not wait for it: what it writes late is refused, the next call waits for it."""
    one, two = Fronted("one", domain="both"), Fronted("two", domain="both")
    with Domains(tmp_path, one, two) as stack:
        gate, result = Gate(), []

        def outer(_):
            one.collection(name).insert_one({"_id": 1})
            InBackground(two.inside, "/inner")
            gate.wait_reached()
            return 200

        def inner(_):
            gate.stop_here()
            try:
                two.collection(name).insert_one({"_id": 2})
            except OperationFailure as error:
                result.append(error.code)
            return 200

        one.service.handlers["/outer"] = outer
        one.service.handlers["/next"] = lambda _: 200
        two.service.handlers["/inner"] = inner
        assert one.call("/outer").status == 200
        following = InBackground(one.listen, "/next")
        time.sleep(0.2)
        assert following.running()
        gate.go.set()
        assert following.wait().status == 200
        assert result == [251]
        assert stack.stored(name) == {1}


def test_domains_do_not_wait_for_each_other(tmp_path, name):
    one, two = Fronted("one"), Fronted("two")
    with Domains(tmp_path, one, two) as stack:
        gate = Gate()

        def slow(_):
            one.collection(name).insert_one({"_id": 1})
            gate.stop_here()
            return 500

        def quick(_):
            two.collection(name).insert_one({"_id": 2})
            return 200

        one.service.handlers["/slow"] = slow
        two.service.handlers["/quick"] = quick
        caller = InBackground(one.listen, "/slow")
        gate.wait_reached()
        assert two.call("/quick").status == 200
        gate.go.set()
        assert caller.wait().status == 500
        assert stack.stored(name) == {2}


# ---- told apart


def test_services_told_apart_by_app_name(tmp_path, name):
    one, two = Fronted("one", appName="one"), Fronted("two", appName="two")
    with Domains(tmp_path, one, two) as stack:

        def handler(fronted, number):
            def handle(_):
                fronted.collection(name).insert_one({"_id": number})
                return 500

            return handle

        one.service.handlers["/"] = handler(one, 1)
        two.service.handlers["/"] = handler(two, 2)
        assert one.call("/").status == 500 and two.call("/").status == 500
        with stack.proxy.client() as nobodys:  # the plain listener, for everybody else
            nobodys[DATABASE][name].insert_one({"_id": 3})
        assert stack.stored(name) == {3}
        assert [unit["appName"] for unit in stack.proxy.units()][:2] == ["one", "two"]
        with Connection(stack.proxy.port) as raw:
            assert raw.run({"hello": 1, "$db": "admin"})["msg"] == "isdbgrid"


def test_the_app_name_in_a_legacy_hello(tmp_path, name):
    """The first hello of most drivers is an OP_QUERY."""
    one = Fronted("one", appName="one")
    client = {"application": {"name": "one"}}
    with Domains(tmp_path, one) as stack:

        def handler(_):
            with Connection(stack.proxy.port) as raw:
                raw.send(encode_query({"isMaster": 1, "helloOk": True, "client": client}))
                assert "msg" not in raw.receive()
                raw.run({"insert": name, "documents": [{"_id": 1}], "$db": DATABASE})
            return 500

        one.service.handlers["/"] = handler
        assert one.call("/").status == 500
        assert one.service.errors == []
        assert stack.stored(name) == set()


def test_services_told_apart_by_address(tmp_path, name):
    one = Fronted("one", address="127.0.0.1")
    with Domains(tmp_path, one) as stack:

        def handle(_):
            one.collection(name).insert_one({"_id": 1})
            return 500

        one.service.handlers["/"] = handle
        assert one.call("/").status == 500
        assert stack.stored(name) == set()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_services_told_apart_by_address_on_an_ipv6_listener(tmp_path, name, address):
    """An IPv4 client of it comes from ::ffff:127.0.0.1, which is the same address."""
    one = Fronted("one", address=f"'{address}'")
    with Domains(tmp_path, one, **{"net.listen": "[::]:0"}) as stack:
        host = f"[{address}]" if ":" in address else address
        with pymongo.MongoClient(f"mongodb://{host}:{stack.proxy.port}/") as client:

            def handle(_):
                client[DATABASE][name].insert_one({"_id": 1})
                return 500

            one.service.handlers["/"] = handle
            assert one.call("/").status == 500
            assert stack.stored(name) == set()


def is_refused(stack, raw):
    """The log says why; the service itself may be refused meanwhile as well."""
    client = "{}:{}".format(*raw.socket.getsockname())
    return any(
        entry["attr"]["client"] == client
        for entry in stack.proxy.log()
        if entry["s"] == "E" and "that of two services or instances" in entry["msg"]
    )


def hello(app_name):
    return {"hello": 1, "client": {"application": {"name": app_name}}, "$db": "admin"}


def test_a_connection_that_is_of_two_services_is_refused(tmp_path, name):
    """One by its address, the other by its appName: the writes of either could be of both. Nor is
    the URI of another service taken with an appName of one's own."""
    one = Fronted("one", address="127.0.0.1")
    two = Fronted("two", appName="two")
    three = Fronted("three")
    with Domains(tmp_path, one, two, three) as stack:
        for port in (stack.proxy.port, three.mongo):
            with Connection(port) as raw:
                raw.send(encode_query({"isMaster": 1, "client": hello("two")["client"]}))
                assert raw.receive() is None
                wait_until(lambda r=raw: is_refused(stack, r), 10, "the log says why")
            with Connection(port) as raw:
                raw.send(encode_message(hello("two")))
                raw.send(encode_message({"insert": name, "documents": [{}], "$db": DATABASE}))
                assert raw.receive() is None
                wait_until(lambda r=raw: is_refused(stack, r), 10, "the log says why")
        with Connection(three.mongo) as raw:  # another address' rule counts on net.listen only
            assert raw.run(hello("three"))["ok"] == 1
        with Connection(stack.proxy.port) as raw:
            assert raw.run(hello("somebody"))["ok"] == 1
        assert stack.stored(name) == set()


# ---- trace


def trace_id(number):
    return f"{number:032x}"


def traced(number, **options):
    return {"headers": {"traceparent": TRACE.format(trace_id(number))}, **options}


def comment_of(request):
    """As tracing libraries do it: from the request's context into the driver's comment."""
    return f"traceparent='{request.headers['traceparent']}'"


@pytest.fixture
def by_trace(tmp_path):
    one, two = Fronted("one", domain="both"), Fronted("two", domain="both")
    with Domains(tmp_path, one, two, http_correlation="trace") as stack:
        stack.one, stack.two = one, two
        yield stack


def test_many_calls_at_once_by_trace(by_trace, name):
    """All are open at the same time; every second one fails."""
    one, together = by_trace.one, threading.Barrier(8, timeout=20)

    def handler(request):
        number = int(request.path.split("?")[1])
        comment = comment_of(request)
        one.collection(name).insert_one({"_id": number}, comment=comment)
        together.wait()
        one.collection(name).insert_one({"_id": number + 100}, comment={"traceparent": comment[13:-1]})
        return 200 if number % 2 else 500

    one.service.handlers["/"] = handler
    callers = [
        # Some bring a trace, to others Holdfast gives one.
        InBackground(one.listen, f"/?{number}", **(traced(number) if number > 4 else {}))
        for number in range(8)
    ]
    assert [caller.wait().status for caller in callers] == [500, 200] * 4
    assert by_trace.stored(name) == {1, 3, 5, 7, 101, 103, 105, 107}


def test_a_write_without_a_trace_is_refused(by_trace, name):
    one = by_trace.one
    refused = []

    def handler(request):
        one.collection(name).insert_one({"_id": 1}, comment=comment_of(request))
        for comment in (None, "words", TRACE.format(trace_id(999))):
            try:
                one.collection(name).insert_one({"_id": 2}, comment=comment)
            except OperationFailure as error:
                refused.append(error.code)
        return 200

    one.service.handlers["/"] = handler
    assert one.call("/", **traced(5)).status == 200
    assert refused == [251, 251, 251]
    assert by_trace.stored(name) == {1}
    with by_trace.proxy.client() as background:  # what has nothing to do with calls
        background[DATABASE][name].insert_one({"_id": 3})
    assert by_trace.stored(name) == {1, 3}


def test_two_calls_of_one_trace_are_two_units_one_after_the_other(by_trace, name):
    one, gate = by_trace.one, Gate()

    def first(request):
        one.collection(name).insert_one({"_id": 1}, comment=comment_of(request))
        gate.stop_here()
        return 500

    def second(request):
        one.collection(name).insert_one({"_id": 2}, comment=comment_of(request))
        return 200

    one.service.handlers["/first"] = first
    one.service.handlers["/second"] = second
    one.service.handlers["/other"] = lambda _: 200
    caller = InBackground(one.listen, "/first", **traced(7))
    gate.wait_reached()
    following = InBackground(one.listen, "/second", **traced(7))
    assert one.call("/other", **traced(8)).status == 200
    assert following.running()
    gate.go.set()
    assert caller.wait().status == 500 and following.wait().status == 200
    assert by_trace.stored(name) == {2}


def test_a_nested_call_finds_its_parent_by_trace(by_trace, name):
    one, two = by_trace.one, by_trace.two

    def outer(request):
        one.collection(name).insert_one({"_id": 1}, comment=comment_of(request))
        headers = {"traceparent": request.headers["traceparent"]}
        assert call(two.inside, "/inner", headers=headers).status == 200
        return 500

    def inner(request):
        two.collection(name).insert_one({"_id": 2}, comment=comment_of(request))
        return 200

    one.service.handlers["/outer"] = outer
    two.service.handlers["/inner"] = inner
    assert one.call("/outer").status == 500
    assert by_trace.stored(name) == set()


def test_a_late_write_of_an_ended_trace_is_refused(tmp_path, name):
    one = Fronted("one")
    with Domains(tmp_path, one, http_correlation="trace", http_callTimeout="500ms") as stack:
        gate, result = Gate(), []

        def handler(request):
            one.collection(name).insert_one({"_id": 1}, comment=comment_of(request))
            gate.stop_here()
            try:
                one.collection(name).insert_one({"_id": 2}, comment=comment_of(request))
            except OperationFailure as error:
                result.append(error.code)
            return 200

        def again(request):
            one.collection(name).insert_one({"_id": 3}, comment=comment_of(request))
            return 200

        one.service.handlers["/late"] = handler
        one.service.handlers["/again"] = again
        assert one.call("/late", **traced(3)).reason == "timeout"
        # Its caller tries again in the same trace: not before the first handler is through.
        following = InBackground(one.listen, "/again", **traced(3))
        time.sleep(0.2)
        assert following.running()
        gate.go.set()
        assert following.wait().status == 200
        assert result == [251]
        assert stack.stored(name) == {3}


# ---- figures, and only looking on


def test_figures(tmp_path, name):
    one = Fronted("one")
    admin = port_for_restarts()
    with Domains(tmp_path, one, admin_listen=f"127.0.0.1:{admin}"):
        one.collection(name).insert_one({"_id": "beside"})

        def handler(_):
            one.collection(name).insert_one({"_id": 1})
            return 200

        one.service.handlers["/"] = handler
        assert one.call("/").status == 200
        domain = call(admin, "/status", method="GET").json["domains"][0]
        assert domain["domain"] == "one"
        assert (domain["committed"], domain["writesInCalls"], domain["writesBeside"]) == (1, 1, 1)
        metrics = call(admin, "/metrics", method="GET").body.decode()
        assert 'holdfast_calls_total{domain="one",outcome="committed"} 1' in metrics
        assert 'holdfast_domain_writes_total{domain="one",where="beside"} 1' in metrics


def test_only_observing_changes_nothing(tmp_path, name):
    """No unit, no queue; the report finds the call that writes twice, and the torn one."""
    one = Fronted("one")
    with Domains(tmp_path, one, unit_boundary="observe") as stack:

        def two(_):
            one.collection(name).insert_one({"_id": 1})
            one.collection(name).update_one({"_id": 1}, {"$set": {"v": 2}})
            return 500

        one.service.handlers["/projects/17/two"] = two
        assert one.call("/projects/17/two").status == 500
        assert stack.stored(name) == {1}
        assert stack.proxy.units() == []
        with pymongo.MongoClient(stack.proxy.uri) as client:
            assert "msg" not in client.admin.command("hello")

        def report():
            done = holdfast("observe", "--wal", stack.proxy.wal, "--json", check=0)
            return json.loads(done.stdout)["findings"]

        found = wait_until(report, 5, "the call is in the report")[0]
        assert (found["service"], found["route"]) == ("one", "POST /projects/{}/two")
        assert found["torn"] == 1 and found["calls"] == 1
        assert [shape.split(" ")[0] for shape in found["sequence"]] == ["insert", "update"]

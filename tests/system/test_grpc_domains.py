"""Calls of gRPC between services of one domain join the caller's unit; strangers queue."""

import grpc
import pytest
from grpc_clusters import ADD, DELETE, ClusterStack
from grpc_stack import Caller, GrpcService
from holdfast_testing import Proxy, Server, port_for_restarts, wait_until
from http_stack import QUIET, Gate, Service, call

NESTED = "/placement.Placement/AddCluster"


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    made = ClusterStack(tmp_path_factory.mktemp("clusters"), **{"http.queueWait": "1s"})
    yield made
    assert made.proxy.stop() == 0
    made.close()


def test_a_call_over_two_services_is_one_unit(clusters, name):
    request = {"collection": name, "cluster": "c1", "token": "t"}
    before = len(clusters.proxy.units())
    with Caller(clusters.port) as caller:
        assert caller.call(ADD, request) == {"cluster": "c1"}
        assert clusters.whole(name, "c1")
        assert caller.call(DELETE, request) == {}
        assert not clusters.whole(name, "c1")
    assert len(clusters.proxy.units()) == before + 2


def test_the_nested_services_refusal_undoes_all_of_it(clusters, name):
    request = {"collection": name, "cluster": "c1", "token": "t", "refuse": True}
    with Caller(clusters.port) as caller, pytest.raises(grpc.RpcError) as caught:
        caller.call(ADD, request)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == "no room"
    assert not clusters.whole(name, "c1")


class Two:
    """Two services of the test's own in one domain, of gRPC or HTTP each."""

    def __init__(self, directory, **settings):
        self.ports = {n: [port_for_restarts() for _ in range(4)] for n in ("one", "two")}
        lines = ["services:"]
        for name, (listen, inside, service, mongo) in self.ports.items():
            lines += [f"  - {{name: {name}, domain: both, listen: '127.0.0.1:{listen}',"]
            lines += [f"     inside: '127.0.0.1:{inside}', service: '127.0.0.1:{service}',"]
            lines += [f"     mongo: '127.0.0.1:{mongo}'}}"]
        config = directory / "holdfast.yaml"
        config.write_text("\n".join(lines) + "\n")
        self.server = Server()
        self.direct = self.server.client()
        settings = {key.replace("_", "."): value for key, value in settings.items()}
        self.proxy = Proxy(
            self.server,
            {"http.quietPeriod": QUIET, "upstream.fenceWait": "100ms", **settings},
            options=["--config", str(config)],
        )
        self.made = []

    def make(self, kind, name):
        _, _, service, mongo = self.ports[name]
        made = kind(f"mongodb://127.0.0.1:{mongo}/", service)
        self.made.append(made)
        return made

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for each in self.made:
            each.close()
        self.direct.close()
        self.proxy.close()
        self.server.close()


def test_http_and_grpc_join_each_other(tmp_path, name):
    """HTTP to gRPC and gRPC to HTTP: one unit, without a traceparent passed on."""
    with Two(tmp_path) as stack:
        one, two = stack.make(Service, "one"), stack.make(GrpcService, "two")

        def outer(_):
            one.client.test[name].insert_one({"_id": 1})
            with Caller(stack.ports["two"][1]) as inner:
                inner.call("/two.Two/Inner")
            return 200

        def inner(_, context):
            two.client.test[name].insert_one({"_id": 2})
            assert call(stack.ports["one"][1], "/innermost").status == 200
            return {}

        def innermost(_):
            one.client.test[name].insert_one({"_id": 3})
            return 200

        one.handlers.update({"/outer": outer, "/innermost": innermost})
        two.on("/two.Two/Inner", inner)
        assert call(stack.ports["one"][0], "/outer").status == 200
        assert {d["_id"] for d in stack.direct.test[name].find()} == {1, 2, 3}
        assert len(stack.proxy.units()) == 1


def test_a_stranger_queues_while_a_nested_call_passes(tmp_path, name):
    with Two(tmp_path) as stack:
        one, two = stack.make(GrpcService, "one"), stack.make(GrpcService, "two")
        gate = Gate()
        order = []

        def outer(*_):
            gate.stop_here()
            with Caller(stack.ports["two"][1]) as inside:
                inside.call("/two.Two/Do", {"who": "nested"})
            return {}

        two.on("/two.Two/Do", lambda request, _: order.append(request["who"]) or {})
        one.on("/one.One/Outer", outer)
        with Caller(stack.ports["one"][0]) as caller, Caller(stack.ports["two"][0]) as other:
            first = caller.begin("/one.One/Outer")
            gate.wait_reached()
            stranger = other.begin("/two.Two/Do", {"who": "stranger"})
            gate.go.set()
            assert first.result() == {} and stranger.result() == {}
        assert order == ["nested", "stranger"]


def test_a_nested_call_to_the_outer_address_queues_until_it_is_refused(tmp_path, name):
    """Nothing guesses, and nothing deadlocks on its own parent."""
    with Two(tmp_path, http_queueWait="300ms") as stack:
        one, two = stack.make(GrpcService, "one"), stack.make(GrpcService, "two")
        seen = []

        def outer(_, context):
            with Caller(stack.ports["two"][0]) as outside:
                try:
                    outside.call("/two.Two/Do")
                except grpc.RpcError as error:
                    seen.append(error)
                    context.abort(error.code(), error.details())
            return {}

        two.on("/two.Two/Do", lambda *_: {})
        one.on("/one.One/Outer", outer)
        with Caller(stack.ports["one"][0]) as caller:
            assert caller.status("/one.One/Outer") == "UNAVAILABLE"
        assert "queueTimeout" in seen[0].details()


def test_a_service_that_allows_one_stream_is_called_while_it_calls_itself(tmp_path, name):
    """SETTINGS_MAX_CONCURRENT_STREAMS 1: a nested call to the same service takes a second
    connection instead of waiting for its parent's stream."""
    with Two(tmp_path) as stack:
        one = stack.make(
            lambda uri, port: GrpcService(uri, port, server_options=[("grpc.max_concurrent_streams", 1)]),
            "one",
        )

        def outer(*_):
            one.client.test[name].insert_one({"_id": 1})
            with Caller(stack.ports["one"][1]) as inside:
                return inside.call("/one.One/Inner")

        def inner(*_):
            one.client.test[name].insert_one({"_id": 2})
            return {"inner": True}

        one.on("/one.One/Outer", outer)
        one.on("/one.One/Inner", inner)
        with Caller(stack.ports["one"][0]) as caller:
            assert caller.call("/one.One/Outer") == {"inner": True}
        assert {d["_id"] for d in stack.direct.test[name].find()} == {1, 2}
        wait_until(lambda: len(stack.proxy.units()) == 1, 5, "one unit")

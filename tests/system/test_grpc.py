"""gRPC calls as units: they commit by the status in their trailers, and pass unchanged."""

import threading
import time

import grpc
import pymongo
import pytest
from conftest import check_lives
from grpc_stack import Caller, GrpcStack
from holdfast_testing import wait_until
from http_stack import Gate

SETTINGS = {
    "http.callTimeout": "1500ms",
    "unit.lockWait": "300ms",
    "http.maxAnswer": "256KiB",
    "http.routes": "!POST /query/*",
}


@pytest.fixture(scope="module")
def stack():
    with GrpcStack(SETTINGS) as made:
        yield made


@pytest.fixture(autouse=True)
def lives_and_settled(stack):
    yield
    check_lives(stack.proxy)
    stack.service.handlers.clear()
    stack.settled()


def write(stack, name, *ids):
    for each in ids:
        stack.collection(name).insert_one({"_id": each})


def failed(function, *arguments, **options):
    with pytest.raises(grpc.RpcError) as caught:
        function(*arguments, **options)
    return caught.value


# ---- unary


def test_status_0_commits_one_unit(stack, name):
    before = len(stack.proxy.units())

    def handler(request, context):
        write(stack, name, 1, 2)
        context.set_trailing_metadata((("x-told", "yes"),))
        return {"got": request}

    stack.service.on("/shop.Orders/Add", handler)
    answer, ended = stack.caller.method("/shop.Orders/Add").with_call({"a": 1}, timeout=10)
    assert answer == {"got": {"a": 1}}
    assert dict(ended.trailing_metadata())["x-told"] == "yes"
    assert set(stack.stored(name)) == {1, 2}
    assert len(stack.proxy.units()) == before + 1


def test_the_answer_is_held_until_the_unit_has_ended(stack, name):
    seen = []

    def handler(_, context):
        write(stack, name, 1, 2)
        return {}

    stack.service.on("/shop.Orders/Add", handler)
    for number in range(20):
        stack.direct.test[name].delete_many({})
        stack.caller.call("/shop.Orders/Add")
        seen.append(set(stack.stored(name)))
    assert seen == [{1, 2}] * 20


@pytest.mark.parametrize("after_metadata", [False, True], ids=["trailers only", "trailers"])
def test_another_status_rolls_back_and_passes_unchanged(stack, name, after_metadata):
    def handler(_, context):
        write(stack, name, 1, 2)
        if after_metadata:
            context.send_initial_metadata((("x-begun", "yes"),))
        context.set_trailing_metadata((("x-why", "stock"), ("x-bin", b"\x00\xff")))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "none left: 100 %\u00fc")

    stack.service.on("/shop.Orders/Add", handler)
    error = failed(stack.caller.call, "/shop.Orders/Add")
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert error.details() == "none left: 100 %\u00fc"
    assert dict(error.trailing_metadata())["x-why"] == "stock"
    assert dict(error.trailing_metadata())["x-bin"] == b"\x00\xff"
    assert stack.stored(name) == {}


def test_an_unknown_method_is_the_services_answer(stack):
    assert failed(stack.caller.call, "/shop.Orders/No").code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_unit_that_cannot_be_committed_is_aborted(stack, name):
    """A write met another's document and lost; the handler answers OK all the same."""
    stack.direct.test[name].insert_one({"_id": 0})

    def handler(*_):
        write(stack, name, 1)
        try:
            stack.collection(name).update_one({"_id": 0}, {"$set": {"a": 1}})
        except pymongo.errors.OperationFailure:
            pass
        return {}

    stack.service.on("/shop.Orders/Add", handler)
    with stack.proxy.client(appname="other") as client, client.start_session() as session:
        session.start_transaction()
        # The plain listener is the domain's here: a driver's transaction stays its own.
        client.test[name].update_one({"_id": 0}, {"$set": {"a": 2}}, session=session)
        error = failed(stack.caller.call, "/shop.Orders/Add")
        session.abort_transaction()
    assert error.code() == grpc.StatusCode.ABORTED
    assert "rolledBack" in error.details()
    assert set(stack.stored(name)) == {0}


def test_a_timeout_is_unavailable_and_fences_the_handler(stack, name):
    gate = Gate()

    def handler(*_):
        write(stack, name, 1)
        gate.stop_here()
        write(stack, name, 2)
        return {}

    stack.service.on("/shop.Orders/Add", handler)
    error = failed(stack.caller.call, "/shop.Orders/Add")
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert "timeout" in error.details()
    assert stack.stored(name) == {}
    gate.go.set()
    wait_until(lambda: stack.service.errors, 10, "its late write is refused")
    assert stack.service.errors.pop()[1].code == 251
    assert stack.stored(name) == {}


def test_a_caller_that_cancels_leaves_its_call_to_the_answer(stack, name):
    gate = Gate()

    def handler(*_):
        write(stack, name, 1)
        gate.stop_here()
        write(stack, name, 2)
        return {}

    stack.service.on("/shop.Orders/Add", handler)
    call = stack.caller.begin("/shop.Orders/Add")
    gate.wait_reached()
    call.cancel()
    gate.go.set()
    wait_until(lambda: set(stack.stored(name)) == {1, 2}, 10, "the call is committed")


def test_a_caller_that_cancels_while_it_queues_never_began(stack, name):
    gate = Gate()
    ran = []
    stack.service.on("/shop.Orders/First", lambda *_: gate.stop_here() or {})
    stack.service.on("/shop.Orders/Second", lambda *_: ran.append(1) or {})
    first = stack.caller.begin("/shop.Orders/First")
    gate.wait_reached()
    with Caller(stack.http_port) as other:
        second = other.begin("/shop.Orders/Second")
        wait_until(lambda: stack.figures()["callsWaiting"] == 1, 10, "it queues")
        second.cancel()
        wait_until(lambda: stack.figures()["callsWaiting"] == 0, 10, "it has left the queue")
    gate.go.set()
    assert first.result() == {}
    stack.settled()
    assert not ran


def test_a_stream_is_a_call_many_on_one_connection(stack, name):
    """They queue one by one, in an exclusive domain, and none is lost."""
    running, most = [], []

    def handler(request, _):
        running.append(1)
        most.append(len(running))
        write(stack, name, request["id"])
        running.pop()
        return {"id": request["id"]}

    stack.service.on("/shop.Orders/Add", handler)
    calls = [stack.caller.begin("/shop.Orders/Add", {"id": number}) for number in range(60)]
    assert [each.result()["id"] for each in calls] == list(range(60))
    assert max(most) == 1
    assert set(stack.stored(name)) == set(range(60))


def test_large_messages_pass_in_both_directions(stack, name):
    """Beyond every window, and what is read ahead; the answer within http.maxAnswer."""

    def handler(request, _):
        write(stack, name, 1)
        return {"size": len(request["text"]), "text": "y" * 200_000}

    stack.service.on("/shop.Orders/Add", handler)
    answer = stack.caller.call("/shop.Orders/Add", {"text": "x" * 3_000_000})
    assert answer == {"size": 3_000_000, "text": "y" * 200_000}


def test_an_answer_beyond_http_maxAnswer_is_exhausted(stack, name):
    def handler(*_):
        write(stack, name, 1)
        return {"text": "y" * 300_000}

    stack.service.on("/shop.Orders/Add", handler)
    error = failed(stack.caller.call, "/shop.Orders/Add")
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "answerTooLarge" in error.details()
    assert stack.stored(name) == {}


def test_a_call_with_an_idempotency_key_is_carried_out_once(stack, name):
    """Message, trailers and status of the first are those of the second; another message is refused."""
    ran = []

    def handler(request, context):
        ran.append(request)
        write(stack, name, len(ran))
        context.set_trailing_metadata((("x-told", "yes"),))
        return {"ran": len(ran)}

    stack.service.on("/shop.Orders/Add", handler)
    method = stack.caller.method("/shop.Orders/Add")
    key = (("idempotency-key", name),)
    for again in (False, True):
        answer, ended = method.with_call({"a": 1}, timeout=10, metadata=key)
        assert answer == {"ran": 1}
        assert dict(ended.trailing_metadata())["x-told"] == "yes"
        assert dict(ended.initial_metadata()).get("idempotency-replayed") == (again and "true" or None)
    error = failed(method, {"a": 2}, timeout=10, metadata=key)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "idempotencyKeyReused" in error.details()
    assert len(ran) == 1 and set(stack.stored(name)) == {1}


# ---- read-only methods, and streams


def test_a_method_listed_as_read_only_is_no_call(stack, name):
    gate = Gate()
    stack.service.on("/shop.Orders/Add", lambda *_: gate.stop_here() or {})
    stack.service.on("/query/Get", lambda *_: {"n": 1})
    call = stack.caller.begin("/shop.Orders/Add")
    gate.wait_reached()
    assert stack.caller.call("/query/Get") == {"n": 1}  # beside the open call
    gate.go.set()
    call.result()


def test_read_only_streams_of_every_kind_pass_as_they_come(stack):
    def echo(requests, _):
        for each in requests:
            yield each

    stack.service.on("/query/Echo", echo, "both")
    stack.service.on("/query/Count", lambda r, c: {"n": sum(1 for _ in r)}, "client")
    stack.service.on("/query/List", lambda r, c: ({"n": n} for n in range(r["n"])), "server")
    go = [threading.Event() for _ in range(3)]

    def ask():
        for number in range(3):
            assert go[number].wait(10)
            yield {"n": number}

    answers = stack.caller.method("/query/Echo", "both")(ask(), timeout=20)
    for number in range(3):  # an answer to each before the next is asked
        go[number].set()
        assert next(answers) == {"n": number}
    assert list(answers) == []
    count = stack.caller.method("/query/Count", "client")
    assert count(({"n": n} for n in range(1000)), timeout=20) == {"n": 1000}
    listed = stack.caller.method("/query/List", "server")({"n": 1000}, timeout=20)
    assert [each["n"] for each in listed] == list(range(1000))


def test_a_client_stream_is_one_unit(stack, name):
    def handler(requests, _):
        for each in requests:
            write(stack, name, each["id"])
        return {}

    before = stack.figures()
    stack.service.on("/shop.Orders/Load", handler, "client")
    load = stack.caller.method("/shop.Orders/Load", "client")
    assert load(({"id": n} for n in range(50)), timeout=20) == {}
    assert len(stack.stored(name)) == 50
    after = stack.figures()
    assert after["committed"] == before["committed"] + 1
    assert after["writesInCalls"] == before["writesInCalls"] + 50


@pytest.mark.parametrize("well", [True, False])
def test_a_server_stream_is_held_whole_and_commits_by_its_end(stack, name, well):
    gate = Gate()

    def handler(_, context):
        write(stack, name, 1)
        yield {"n": 1}
        gate.stop_here()
        write(stack, name, 2)
        yield {"n": 2}
        if not well:
            context.abort(grpc.StatusCode.INTERNAL, "no")

    stack.service.on("/shop.Orders/Run", handler, "server")
    got = []
    answers = stack.caller.method("/shop.Orders/Run", "server")({}, timeout=20)
    reader = threading.Thread(target=collect, args=(answers, got))
    reader.start()
    gate.wait_reached()
    time.sleep(0.1)
    assert got == []
    gate.go.set()
    reader.join(20)
    assert got == [{"n": 1}, {"n": 2}] + ([] if well else ["INTERNAL"])
    assert set(stack.stored(name)) == ({1, 2} if well else set())


def collect(answers, into):
    try:
        for each in answers:
            into.append(each)
    except grpc.RpcError as error:
        into.append(error.code().name)


def test_a_bidirectional_stream_that_asks_it_all_first_is_one_unit(stack, name):
    def handler(requests, _):
        for each in requests:
            write(stack, name, each["id"])
            yield each

    stack.service.on("/shop.Orders/Each", handler, "both")
    each = stack.caller.method("/shop.Orders/Each", "both")
    assert [a["id"] for a in each(iter([{"id": 1}, {"id": 2}]), timeout=20)] == [1, 2]
    assert set(stack.stored(name)) == {1, 2}


# ---- the service's connection


def test_a_service_that_cannot_be_reached_is_unavailable_and_fences_nothing(name):
    with GrpcStack({"http.quietPeriod": "20s"}) as stack:
        stack.service.on("/shop.Orders/Add", lambda *_: write(stack, name, 1) or {})
        assert stack.caller.status("/shop.Orders/Add") == "OK"
        stack.service.stop(None).wait(10)
        error = failed(stack.caller.call, "/shop.Orders/Add")
        assert error.code() == grpc.StatusCode.UNAVAILABLE and "serviceLost" in error.details()
        stack.service.restart()
        stack.service.on("/shop.Orders/Add", lambda *_: write(stack, name, 2) or {})
        assert stack.caller.status("/shop.Orders/Add") == "OK"
        assert set(stack.stored(name)) == {1, 2}


def test_a_service_that_goes_away_in_order_ends_its_calls_first(stack, name):
    """GOAWAY in the middle of a call: that ends as if nothing were; the next finds the new server."""
    gate = Gate()

    def handler(*_):
        write(stack, name, 1)
        gate.stop_here()
        write(stack, name, 2)
        return {}

    stack.service.on("/shop.Orders/Add", handler)
    call = stack.caller.begin("/shop.Orders/Add")
    gate.wait_reached()
    stopped = stack.service.stop(10)
    queued = stack.caller.begin("/shop.Orders/Later")
    time.sleep(0.2)
    gate.go.set()
    assert call.result() == {}
    assert set(stack.stored(name)) == {1, 2}
    stopped.wait(10)
    assert queued.exception().code() == grpc.StatusCode.UNAVAILABLE
    stack.service.restart()


def test_ends_of_calls_are_counted(stack, name):
    stack.service.on("/shop.Orders/Add", lambda *_: write(stack, name, 1) or {})
    before = stack.figures()
    stack.caller.call("/shop.Orders/Add")
    assert stack.caller.status("/shop.Orders/No") == "UNIMPLEMENTED"
    after = stack.figures()
    assert after["committed"] == before["committed"] + 1
    assert after["rolledBack"] == before["rolledBack"] + 1

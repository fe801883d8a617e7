"""Units without changing the service: each API call that comes in by holdfastd's HTTP port is one
unit of all the plain writes that its handler makes, and the service's complete answer decides."""

import socket
import sys
import threading
import time

import pymongo
import pytest
from conftest import DATABASE, RawTransaction, check_lives
from holdfast_testing import Connection, Process, encode_message, wait_until
from http_stack import Gate, HttpStack, Service, reconnected, settled
from pymongo.errors import AutoReconnect, OperationFailure
from pymongo.write_concern import WriteConcern

MORE_TO_COME = 2
READ_AHEAD = 65536  # of a body, before its call begins


@pytest.fixture(scope="module")
def stack():
    with HttpStack({"http.callTimeout": "1500ms", "unit.lockWait": "500ms"}) as made:
        yield made


@pytest.fixture(autouse=True)
def lives_and_settled(stack):
    yield
    check_lives(stack.proxy)
    settled(stack)


def two_writes(collection, between=lambda: None, end=201):
    def handler(_):
        collection.insert_one({"_id": 1, "part": "first"})
        between()
        collection.update_one({"_id": 2}, {"$set": {"part": "second"}}, upsert=True)
        return end

    return handler


# ---- the answer decides


@pytest.mark.parametrize("code", [200, 201, 204, 302])
def test_an_answer_below_400_commits_all_writes_of_the_call(stack, name, code):
    stack.service.handlers["/two"] = two_writes(stack.collection(name), end=code)
    before = len(stack.proxy.units())
    assert stack.call("/two").status == code
    assert set(stack.stored(name)) == {1, 2}
    units = stack.proxy.units()[before:]
    assert [(u["state"], u["boundary"], u["writes"], u["name"]) for u in units] == [
        ("committed", "http", 2, "POST /two")
    ]


@pytest.mark.parametrize("code", [400, 404, 409, 500, 503])
def test_the_services_own_error_rolls_back_and_passes_unchanged(stack, name, code):
    body = {"theirs": "x" * 5000}
    stack.service.handlers["/two"] = two_writes(stack.collection(name), end=(code, body))
    answer = stack.call("/two")
    assert answer.status == code and answer.json == body
    assert stack.stored(name) == {}


def test_the_answer_comes_after_the_commit_is_durable(stack, name):
    stack.service.handlers["/two"] = two_writes(stack.collection(name))
    assert stack.call("/two").status == 201
    stack.proxy.restart()
    assert set(stack.stored(name)) == {1, 2}


def test_writes_of_many_connections_are_one_unit(stack, name):
    def handler(_):
        def write(number):
            with pymongo.MongoClient(stack.proxy.uri) as client:
                client[DATABASE][name].insert_one({"_id": number})

        threads = [threading.Thread(target=write, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return 500

    stack.service.handlers["/many"] = handler
    assert stack.call("/many").status == 500
    assert stack.stored(name) == {}


def test_the_handler_reads_its_own_writes(stack, name):
    collection = stack.collection(name)

    def handler(_):
        collection.insert_one({"_id": 1})
        return 200 if collection.find_one({"_id": 1}) else 500

    stack.service.handlers["/read"] = handler
    assert stack.call("/read").status == 200


def test_a_refused_write_is_the_services_to_deal_with(stack, name):
    collection = stack.collection(name)

    def handler(_):
        collection.insert_one({"_id": 1, "v": "mine"})
        with pytest.raises(pymongo.errors.DuplicateKeyError):
            collection.insert_one({"_id": 1, "v": "twice"})
        with pytest.raises(OperationFailure):
            collection.update_one({"_id": 1}, {"$nonsense": {"v": 1}})
        collection.insert_one({"_id": 2})
        return 200

    stack.service.handlers["/refused"] = handler
    assert stack.call("/refused").status == 200
    assert stack.stored(name) == {1: {"_id": 1, "v": "mine"}, 2: {"_id": 2}}


def test_get_makes_no_call(stack, name):
    collection = stack.collection(name)
    stack.service.handlers["/get"] = lambda _: collection.insert_one({"_id": 1}) and 500
    assert stack.call("/get", method="GET").status == 500
    assert set(stack.stored(name)) == {1}


# ---- lost services, timeouts, callers that hang up, and the fence


SUICIDE = """
import http.server, os, pymongo, sys
collection = pymongo.MongoClient(sys.argv[2])["test"][sys.argv[3]]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        collection.insert_one({"_id": 1})
        os.kill(os.getpid(), 9)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_a_service_killed_between_its_writes_leaves_nothing(name, tmp_path):
    program = tmp_path / "service.py"
    program.write_text(SUICIDE)
    with HttpStack({"http.quietPeriod": "20s"}) as stack:
        stack.service.close()
        port = stack.service.port
        process = Process([sys.executable, program, port, stack.proxy.uri, name])
        wait_until(lambda: _connects(port), 10, "the service listens")
        answer = stack.call("/")
        assert answer.status == 503 and answer.reason == "serviceLost"
        assert answer.headers["Retry-After"]
        assert stack.stored(name) == {}
        process.wait(5)
        # All its connections are closed and read: the next call need not wait for 20 seconds.
        stack.service = Service(stack.proxy.uri, port)
        stack.service.handlers["/two"] = two_writes(stack.collection(name))
        assert stack.call("/two").status == 201
        assert set(stack.stored(name)) == {1, 2}


def _connects(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def late_handler(collection, gate, result):
    """Writes, stops, writes again when it is let go on."""

    def handler(_):
        collection.insert_one({"_id": 1})
        gate.stop_here()
        while not result:
            try:
                collection.insert_one({"_id": 2})
                result.append("written")
            except AutoReconnect:
                continue  # the connection of a proxy that was killed
            except OperationFailure as error:
                result.append(error.code)
        return 200

    return handler


def test_a_handler_that_outlives_its_timeout_writes_nothing(stack, name):
    gate, result = Gate(), []
    stack.service.handlers["/late"] = late_handler(stack.collection(name), gate, result)
    stack.service.handlers["/next"] = two_writes(stack.collection(name + "n"))
    answer = stack.call("/late")
    assert answer.status == 503 and answer.reason == "timeout" and answer.headers["Retry-After"]
    assert stack.stored(name) == {}
    following = stack.begin("/next")
    time.sleep(0.2)
    assert following.running(), "the next call began while a handler of the last one was alive"
    gate.go.set()
    assert following.wait().status == 201
    assert result == [251]
    assert stack.stored(name) == {}
    assert set(stack.stored(name + "n")) == {1, 2}


@pytest.fixture(scope="module")
def patient():
    """With a quiet period that also a slow machine keeps."""
    with HttpStack({"http.quietPeriod": "3s"}) as made:
        yield made


def test_a_handler_whose_connection_broke_writes_nothing(patient, name):
    """The service closes the connection without an answer, and its code goes on."""
    collection, gate, result = patient.collection(name), Gate(), []
    done = threading.Event()

    def handler(request):
        collection.insert_one({"_id": 1})
        patient.service.drop(request)
        gate.stop_here()
        for _ in range(3):  # each refused write extends the quiet period of 3 seconds
            try:
                collection.insert_one({"_id": 2})
                result.append("written")
            except OperationFailure as error:
                result.append(error.code)
            time.sleep(1.5)
        try:  # nor by a unit of its own
            collection.insert_one({"_id": 2}, comment={"unit": name, "begin": True, "last": True})
        except OperationFailure as error:
            result.append(error.code)
        done.set()

    patient.service.handlers["/broken"] = handler
    answer = patient.call("/broken")
    assert answer.status == 503 and answer.reason == "serviceLost"
    gate.go.set()
    assert done.wait(10)
    assert result == [251] * 4
    assert patient.stored(name) == {}


def test_a_handler_that_outlives_a_kill_of_the_proxy_writes_nothing(patient, name):
    gate, result = Gate(), []
    patient.service.handlers["/late"] = late_handler(patient.collection(name), gate, result)
    caller = patient.begin("/late")
    gate.wait_reached()
    patient.proxy.restart()
    assert caller.wait() is None and caller.error is not None
    assert patient.stored(name) == {}
    gate.go.set()
    wait_until(lambda: result, 10, "the handler has gone on")
    assert result == [251]
    patient.service.handlers["/next"] = two_writes(patient.collection(name + "n"))
    assert patient.call("/next").status == 201
    assert patient.stored(name) == {}
    assert set(patient.stored(name + "n")) == {1, 2}


def test_a_handler_that_outlives_sigterm_writes_nothing(name):
    """Its call was rolled back after the drain: that the proxy has closed the connections of its
    service tells nothing of it."""
    with HttpStack({"http.quietPeriod": "3s"}) as stack:
        gate, result = Gate(), []
        stack.service.handlers["/late"] = late_handler(stack.collection(name), gate, result)
        stack.begin("/late")
        gate.wait_reached()
        assert stack.proxy.stop() == 0
        stack.proxy.start()
        gate.go.set()
        wait_until(lambda: result, 10, "the handler has gone on")
        assert result == [251]
        assert stack.stored(name) == {}


def test_a_lost_handler_that_connects_for_each_write_writes_nothing(name):
    with HttpStack({"http.quietPeriod": "3s"}) as stack:
        stack.service.client.close()
        time.sleep(1.2)  # its ends belong to no call
        gate, result = Gate(), []

        def write(number):
            documents = [{"_id": number}]
            with Connection(stack.proxy.port) as raw:
                reply = raw.run({"insert": name, "documents": documents, "$db": DATABASE})
            result.append(reply.get("code", "written"))

        def handler(request):
            write(1)
            stack.service.drop(request)
            gate.stop_here()
            write(2)

        stack.service.handlers["/broken"] = handler
        assert stack.call("/broken").reason == "serviceLost"
        time.sleep(0.2)
        gate.go.set()
        wait_until(lambda: len(result) == 2, 5, "the handler has gone on")
        assert result == ["written", 251]
        assert stack.stored(name) == {}


def test_a_clean_restart_needs_no_quiet_period(stack, name):
    assert stack.proxy.stop() == 0
    stack.proxy.settings["http.quietPeriod"] = "30s"
    stack.proxy.start()
    stack.service.handlers["/two"] = two_writes(stack.collection(name))
    reconnected(stack)
    began = time.monotonic()
    assert stack.call("/two").status == 201
    assert time.monotonic() - began < 5
    assert stack.proxy.stop() == 0
    stack.proxy.settings["http.quietPeriod"] = "600ms"
    stack.proxy.start()


def hang_up(port, path):
    """A caller that leaves once its request is whole."""
    caller = socket.create_connection(("127.0.0.1", port), 5)
    caller.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    return caller


@pytest.mark.parametrize("code,kept", [(201, {1, 2}), (500, set())])
def test_a_caller_that_hangs_up_leaves_the_call_to_its_answer(stack, name, code, kept):
    gate = Gate()
    stack.service.handlers["/two"] = two_writes(stack.collection(name), gate.stop_here, code)
    caller = hang_up(stack.http_port, "/two")
    gate.wait_reached()
    caller.close()
    time.sleep(0.1)
    gate.go.set()
    settled(stack)
    assert set(stack.stored(name)) == kept


@pytest.mark.parametrize("sent", [4, READ_AHEAD])
def test_a_caller_that_leaves_in_its_request_leaves_nothing(stack, name, sent):
    """With less than is read ahead nothing began. With more a call did: the service has a part of
    its request, and comes to write when the connection ends."""
    asked = []
    write = two_writes(stack.collection(name))
    stack.service.handlers["/two"] = lambda request: asked.append(request.payload) or write(request)
    caller = socket.create_connection(("127.0.0.1", stack.http_port), 5)
    caller.sendall(b"POST /two HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * sent)
    time.sleep(0.2)
    caller.close()
    if sent == READ_AHEAD:
        wait_until(lambda: asked, 10, "the service is at work for the call")
    settled(stack)
    assert [len(payload) for payload in asked] == ([sent] if sent == READ_AHEAD else [])
    assert stack.stored(name) == {}


def test_a_slow_body_does_not_hold_the_domain(stack, name):
    """Its call begins when the body is there."""
    stack.service.handlers["/slow"] = two_writes(stack.collection(name))
    stack.service.handlers["/next"] = two_writes(stack.collection(name + "n"))
    with socket.create_connection(("127.0.0.1", stack.http_port), 5) as caller:
        caller.sendall(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf")
        time.sleep(0.2)
        assert stack.call("/next").status == 201
        assert stack.stored(name) == {}
        caller.sendall(b"half")
        assert caller.recv(1000).startswith(b"HTTP/1.1 201 ")  # 503 if the call was open meanwhile
    assert set(stack.stored(name)) == {1, 2}


def test_a_write_that_its_service_broke_off_rolls_the_call_back(stack, name):
    """Whether the write was done the service cannot know, and its driver might do it again."""
    stack.direct[DATABASE][name].insert_one({"_id": "held"})

    def handler(_):
        stack.collection(name).insert_one({"_id": 1})
        with Connection(stack.proxy.port) as raw:
            updates = [{"q": {"_id": "held"}, "u": {"$set": {"v": 1}}}]
            raw.send(encode_message({"update": name, "updates": updates, "$db": DATABASE}))
            time.sleep(0.1)  # it waits for the lock of the transaction
        time.sleep(0.1)
        return 200

    stack.service.handlers["/off"] = handler
    with Connection(stack.proxy.port) as raw:
        transaction = RawTransaction(raw)
        assert transaction.update(name, {"_id": "held"}, {"$set": {"v": 2}})["ok"] == 1
        answer = stack.call("/off")
        assert answer.status == 503 and answer.reason == "rolledBack"
        assert transaction.abort()["ok"] == 1
    assert stack.stored(name) == {"held": {"_id": "held"}}


def test_a_write_that_its_service_broke_off_before_it_was_read_rolls_the_call_back(stack, name):
    """Its connection's end comes with it, or right behind. Where it was answered before its connection
    closed, it counts."""

    def handler(request):
        with Connection(stack.proxy.port) as raw:
            raw.run({"ping": 1, "$db": "admin"})
            raw.send(encode_message(insert_of(name, int(request.path.split("?")[1]))))
        time.sleep(0.1)
        return 200

    stack.service.handlers["/off"] = handler
    kept = set()
    for number in range(20):
        answer = stack.call(f"/off?{number}")
        if answer.status == 200:
            kept.add(number)
        else:
            assert answer.status == 503 and answer.reason == "rolledBack"
    assert set(stack.stored(name)) == kept
    assert len(kept) < 10


# ---- what is sent before the answer, and not waited for


def insert_of(name, *ids):
    return {"insert": name, "documents": [{"_id": i} for i in ids], "$db": DATABASE}


def test_writes_with_w0_before_an_error_are_rolled_back(stack, name):
    collection = stack.collection(name).with_options(write_concern=WriteConcern(w=0))

    def handler(request):
        collection.insert_one({"_id": int(request.path.split("?")[1])})
        return 500

    stack.service.handlers["/w0"] = handler
    for number in range(100):
        assert stack.call(f"/w0?{number}").status == 500
    time.sleep(0.3)
    assert stack.stored(name) == {}


def test_writes_with_w0_before_the_answer_are_committed(stack, name):
    """On several connections, many one behind another."""

    def handler(_):
        with Connection(stack.proxy.port) as one, Connection(stack.proxy.port) as two:
            for connection in (one, two):
                connection.run({"ping": 1, "$db": "admin"})
            for i in range(5):
                ids = range(i * 1000, i * 1000 + 1000)
                one.send(encode_message(insert_of(name, *ids), flags=MORE_TO_COME))
            two.send(encode_message(insert_of(name, "two"), flags=MORE_TO_COME))
        return 200

    stack.service.handlers["/w0"] = handler
    for _ in range(5):
        stack.direct[DATABASE][name].delete_many({})
        assert stack.call("/w0").status == 200
        assert len(stack.stored(name)) == 5001


@pytest.mark.parametrize("code", [500, 200])
def test_writes_that_were_given_up_before_the_answer(stack, name, code):
    """The service sends a write and closes the connection: undone, whatever it answers; or the write was
    answered before the connection was closed, and counts if the call does."""

    def handler(request):
        with Connection(stack.proxy.port) as raw:
            raw.run({"ping": 1, "$db": "admin"})
            raw.send(encode_message(insert_of(name, int(request.path.split("?")[1]))))
        return code

    stack.service.handlers["/given-up"] = handler
    kept = set()
    for number in range(50):
        answer = stack.call(f"/given-up?{number}")
        if code == 200 and answer.status == 200:
            kept.add(number)
        else:
            assert answer.status == (500 if code == 500 else 503)
    time.sleep(0.3)
    assert set(stack.stored(name)) == kept
    assert len(kept) < 25


# ---- exclusive


def test_calls_are_one_at_a_time_in_the_order_of_coming(stack, name):
    gate, order = Gate(), []
    stack.service.handlers["/first"] = two_writes(stack.collection(name), gate.stop_here)

    def later(number):
        def handler(_):
            order.append(number)
            return 200

        return handler

    first = stack.begin("/first")
    gate.wait_reached()
    others = []
    for number in range(4):
        stack.service.handlers[f"/later{number}"] = later(number)
        others.append(stack.begin(f"/later{number}"))
        time.sleep(0.05)
    assert order == []
    gate.go.set()
    assert first.wait().status == 201
    assert [other.wait().status for other in others] == [200] * 4
    assert order == [0, 1, 2, 3]


def test_a_get_runs_beside_the_open_call_and_sees_what_the_service_sees(stack, name):
    gate = Gate()
    stack.service.handlers["/two"] = two_writes(stack.collection(name), gate.stop_here)
    stack.service.handlers["/count"] = lambda _: (
        200,
        {"count": stack.collection(name).count_documents({})},
    )
    caller = stack.begin("/two")
    gate.wait_reached()
    assert stack.call("/count", method="GET").json == {"count": 1}
    gate.go.set()
    assert caller.wait().status == 201


def test_what_a_background_task_writes(stack, name):
    """Without a call: plain. While a call is open it cannot be told from the call's own."""
    collection, gate = stack.collection(name), Gate()
    before = len(stack.proxy.units())
    collection.insert_one({"_id": "plain"})
    assert len(stack.proxy.units()) == before

    def handler(_):
        gate.stop_here()
        return 500

    stack.service.handlers["/error"] = handler
    caller = stack.begin("/error")
    gate.wait_reached()
    collection.insert_one({"_id": "meanwhile"})
    gate.go.set()
    assert caller.wait().status == 500
    assert set(stack.stored(name)) == {"plain"}


def test_an_index_in_a_call_does_not_wait_for_its_own_unit(stack, name):
    collection = stack.collection(name)

    def handler(_):
        collection.create_index("before")
        collection.insert_one({"_id": 1})
        with pytest.raises(OperationFailure) as refused:
            collection.create_index("after")
        assert refused.value.code == 263
        return 200

    stack.service.handlers["/index"] = handler
    assert stack.call("/index").status == 200
    assert set(stack.stored(name)) == {1}


def test_a_conflict_with_another_unit_rolls_the_call_back(stack, name):
    """What the service read may be outdated: better an error than a lost update."""
    stack.direct[DATABASE][name].insert_one({"_id": 1, "v": 0})
    collection = stack.collection(name)

    def handler(_):
        value = collection.find_one({"_id": 1})["v"]
        with Connection(stack.proxy.port) as raw:  # somebody else's
            transaction = RawTransaction(raw)
            transaction.update(name, {"_id": 1}, {"$inc": {"v": 10}})
            assert transaction.commit()["ok"] == 1
        try:
            collection.update_one({"_id": 1}, {"$set": {"v": value + 1}})
        except OperationFailure:
            pass  # a service that looks away
        return 200

    stack.service.handlers["/conflict"] = handler
    answer = stack.call("/conflict")
    assert answer.status == 503 and answer.reason == "rolledBack"
    assert stack.stored(name) == {1: {"_id": 1, "v": 10}}


# ---- transparency


def test_the_mongo_listener_says_what_the_server_is(stack):
    with Connection(stack.proxy.port) as raw:
        hello = raw.run({"hello": 1, "$db": "admin"})
    assert "msg" not in hello and "setName" not in hello and "hosts" not in hello
    assert hello["isWritablePrimary"] is True


def test_sigterm_lets_an_open_call_finish(name):
    with HttpStack() as stack:
        gate = Gate()
        stack.service.handlers["/two"] = two_writes(stack.collection(name), gate.stop_here)
        caller = stack.begin("/two")
        gate.wait_reached()
        stopping = threading.Thread(target=stack.proxy.stop, daemon=True)
        stopping.start()
        time.sleep(0.3)
        gate.go.set()
        assert caller.wait().status == 201
        stopping.join(20)
        assert set(stack.stored(name)) == {1, 2}


def test_settings_of_the_queue(name):
    settings = {"http.queueLength": "1", "http.queueWait": "300ms"}
    with HttpStack(settings) as stack:
        gate = Gate()
        stack.service.handlers["/two"] = two_writes(stack.collection(name), gate.stop_here)
        stack.service.handlers["/next"] = lambda _: 200
        first = stack.begin("/two")
        gate.wait_reached()
        second = stack.begin("/next")
        time.sleep(0.1)
        third = stack.call("/next")
        assert third.status == 503 and third.reason == "queueFull"
        assert second.wait().reason == "queueTimeout"
        assert second.answer.headers["Retry-After"]
        gate.go.set()
        assert first.wait().status == 201


def test_reads_wait(name):
    with HttpStack({"http.reads": "wait"}) as stack:
        gate = Gate()
        stack.service.handlers["/two"] = two_writes(stack.collection(name), gate.stop_here)
        stack.service.handlers["/count"] = lambda _: (
            200,
            {"count": stack.collection(name).count_documents({})},
        )
        caller = stack.begin("/two")
        gate.wait_reached()
        reader = stack.begin("/count", method="GET")
        time.sleep(0.2)
        assert reader.running()
        gate.go.set()
        assert reader.wait().json == {"count": 2}
        assert caller.wait().status == 201


def test_limits_of_a_call(name):
    """At a limit the write gets an error, the unit is rolled back, and a 2xx becomes 503."""
    settings = {"unit.maxWrites": "3", "unit.maxBytes": "1MiB", "unit.maxOpen": "1"}
    with HttpStack(settings) as stack:
        collection = stack.collection(name)
        codes = []

        def handler(documents):
            def handle(_):
                for document in documents:
                    try:
                        collection.insert_one(dict(document))
                    except OperationFailure as error:
                        codes.append(error.code)
                return 200

            return handle

        stack.service.handlers["/writes"] = handler([{"_id": n} for n in range(5)])
        stack.service.handlers["/bytes"] = handler([{"_id": n, "x": "x" * 700000} for n in range(3)])
        for path in ("/writes", "/bytes"):
            answer = stack.call(path)
            assert answer.status == 503 and answer.reason == "rolledBack"
            assert stack.stored(name) == {}
        assert codes == [257, 251, 257]
        with Connection(stack.proxy.port) as raw:
            transaction = RawTransaction(raw)
            assert transaction.insert(name, {"_id": "open"})["ok"] == 1
            answer = stack.call("/writes")
            assert answer.status == 503 and answer.reason == "limit"
            assert transaction.abort()["ok"] == 1


def test_a_call_older_than_a_unit_may_be(name):
    settings = {"unit.lifetime": "1s", "http.callTimeout": "1s"}
    with HttpStack(settings) as stack:
        gate = Gate()
        stack.service.handlers["/two"] = two_writes(stack.collection(name), gate.stop_here)
        answer = stack.call("/two")
        assert answer.status == 503 and answer.reason in ("timeout", "rolledBack")
        gate.go.set()
        assert stack.stored(name) == {}


def test_background_writes_refused(name):
    with HttpStack({"http.backgroundWrites": "refuse"}) as stack:
        collection = stack.collection(name)
        collection.create_index("v")  # as services do when they start
        with pytest.raises(OperationFailure) as refused:
            collection.insert_one({"_id": "background"})
        assert refused.value.code == 251
        stack.service.handlers["/two"] = two_writes(collection)
        assert stack.call("/two").status == 201
        assert set(stack.stored(name)) == {1, 2}


def test_routes(name):
    with HttpStack({"http.routes": "GET /refresh, !POST /search"}) as stack:
        stack.service.handlers["/refresh"] = two_writes(stack.collection(name), end=500)
        stack.service.handlers["/search"] = two_writes(stack.collection(name + "s"), end=500)
        assert stack.call("/refresh", method="GET").status == 500
        assert stack.stored(name) == {}
        assert stack.call("/search").status == 500
        assert set(stack.stored(name + "s")) == {1, 2}


def test_the_rest_of_a_request_does_not_break_into_its_answer():
    """The service has answered early, and what still comes of the request is nonsense."""
    body = b"A" * 8_000_000
    with HttpStack() as stack:
        stack.service._server.shutdown()
        stack.service._server.server_close()

        def serve(listener, done):
            with listener.accept()[0] as peer:
                peer.recv(1000)
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
                peer.sendall(head + body)
                done.wait(20)

        done = threading.Event()
        with socket.create_server(("127.0.0.1", stack.service.port)) as listener:
            threading.Thread(target=serve, args=(listener, done), daemon=True).start()
            with socket.create_connection(("127.0.0.1", stack.http_port), 10) as caller:
                head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                caller.sendall(head + b"%x\r\n%b\r\n" % (READ_AHEAD, b"a" * READ_AHEAD))
                time.sleep(0.5)  # the answer is on its way, as far as the kernel takes it
                caller.sendall(b"zz\r\n")
                time.sleep(0.2)
                got = b"".join(iter(lambda: caller.recv(1 << 20), b""))
            done.set()
    head, _, rest = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert len(rest) == len(body) and rest == body


def test_an_unused_port_is_no_service(name):
    with HttpStack() as stack:
        stack.service._server.shutdown()
        stack.service._server.server_close()
        answer = stack.call("/")
        assert answer.status == 503 and answer.reason == "serviceLost"

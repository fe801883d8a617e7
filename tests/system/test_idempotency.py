"""Calls with an Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): a request that its
caller repeats until it is answered is carried out once, and gets the answer of the first time."""

import http.client
import json
import signal
import socket
import uuid

import pytest
from conftest import check_lives
from holdfast_testing import holdfast, wait_until
from http_stack import Gate, HttpStack, reconnected, settled

SETTINGS = {
    "http.callTimeout": "3s",
    "http.idempotency.maxBody": "100KiB",
    "http.idempotency.maxAnswer": "32KiB",
    "http.idempotency.quota": "64KiB",
}


@pytest.fixture(scope="module")
def stack():
    with HttpStack({**SETTINGS, "http.idempotency.quota": "1MiB"}) as made:
        yield made


@pytest.fixture
def key():
    return str(uuid.uuid4())


def counting(stack, name, end=201, body=None):
    """A handler of two writes. How often it worked is what the collection says, and `calls`."""
    collection = stack.collection(name)
    calls = []

    def handler(request):
        calls.append(request.payload)
        collection.update_one({"_id": 1}, {"$inc": {"n": 1}}, upsert=True)
        collection.insert_one({"call": len(calls)})
        answer = {"number": len(calls)} if body is None else body
        return (end() if callable(end) else end), answer

    stack.service.handlers["/count"] = handler
    return calls


def worked(stack, name):
    stored = stack.stored(name)
    number = stored.get(1, {"n": 0})["n"]
    assert len(stored) == (number + 1 if number else 0), f"torn: {stored}"
    return number


def ask(stack, key, body=None, path="/count", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return stack.call(path, body, headers={"Idempotency-Key": key, **named})


def replayed(answer):
    return answer.headers.get("Idempotency-Replayed") == "true"


# ---- once


@pytest.mark.parametrize("written", ["{}", '"{}"'], ids=["bare", "quoted"])
def test_a_repeated_request_is_carried_out_once(stack, name, key, written):
    calls = counting(stack, name)
    first = ask(stack, written.format(key), {"amount": 5})
    again = ask(stack, written.format(key), {"amount": 5})
    assert (first.status, first.json) == (again.status, again.json) == (201, {"number": 1})
    assert replayed(again) and not replayed(first)
    assert len(calls) == worked(stack, name) == 1


def test_without_a_key_each_request_is_one_of_its_own(stack, name):
    counting(stack, name)
    assert [stack.call("/count").json["number"] for _ in range(2)] == [1, 2]
    assert worked(stack, name) == 2


def test_bare_and_quoted_are_one_key(stack, name, key):
    counting(stack, name)
    assert not replayed(ask(stack, key))
    assert replayed(ask(stack, f'"{key}"'))


def test_a_call_that_wrote_nothing_is_repeated_as_well(stack, name, key):
    calls = []
    stack.service.handlers["/nothing"] = lambda _: calls.append(1) or 200
    assert ask(stack, key, path="/nothing").status == 200
    assert replayed(ask(stack, key, path="/nothing"))
    assert len(calls) == 1


def test_what_was_rolled_back_is_carried_out_again(stack, name, key):
    ends = [500, 409, 201]
    counting(stack, name, end=lambda: ends.pop(0))
    assert [ask(stack, key).status for _ in range(3)] == [500, 409, 201]
    assert replayed(ask(stack, key))
    assert worked(stack, name) == 1


def test_another_service_path_or_method_is_another_request(stack, name, key):
    counting(stack, name)
    stack.service.handlers["/other"] = stack.service.handlers["/count"]
    assert ask(stack, key).status == 201
    for answer in (
        ask(stack, key, path="/other"),
        ask(stack, key, path="/count?x=1"),
        stack.call("/count", method="PUT", headers={"Idempotency-Key": key}),
    ):
        assert (answer.status, answer.reason) == (422, "idempotencyKeyReused")
    assert worked(stack, name) == 1


def test_another_body_is_refused(stack, name, key):
    counting(stack, name)
    assert ask(stack, key, {"amount": 5}).status == 201
    answer = ask(stack, key, {"amount": 6})
    assert (answer.status, answer.reason) == (422, "idempotencyKeyReused")
    assert replayed(ask(stack, key, {"amount": 5}))


def test_nobody_gets_what_another_caller_was_answered(stack, name, key):
    counting(stack, name, body={"secret": "of alice"})
    assert ask(stack, key, Authorization="Bearer alice").status == 201
    for other in ({"Authorization": "Bearer mallory"}, {}):
        answer = ask(stack, key, **other)
        assert (answer.status, answer.reason) == (422, "idempotencyKeyReused")
    assert replayed(ask(stack, key, Authorization="Bearer alice"))


def test_one_still_at_work_gets_409(stack, name, key):
    gate = Gate()

    def handler(_):
        gate.stop_here()
        stack.collection(name).insert_one({"_id": 1})
        return 201

    stack.service.handlers["/slow"] = handler
    first = stack.begin("/slow", headers={"Idempotency-Key": key})
    gate.wait_reached()
    answer = ask(stack, key, path="/slow")
    assert (answer.status, answer.reason) == (409, "idempotencyKeyInUse")
    assert answer.headers["Retry-After"] == "1"
    gate.go.set()
    assert first.wait().status == 201
    assert replayed(ask(stack, key, path="/slow"))


def test_a_caller_that_hangs_up_finds_its_answer(stack, name, key):
    gate = Gate()
    counted = counting(stack, name)
    inner = stack.service.handlers["/count"]

    def handler(request):
        gate.stop_here()
        return inner(request)

    stack.service.handlers["/hung"] = handler
    with socket.create_connection(("127.0.0.1", stack.http_port)) as caller:
        head = f"POST /hung HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {key}\r\nContent-Length: 0\r\n\r\n"
        caller.sendall(head.encode())
        gate.wait_reached()
    gate.go.set()
    wait_until(lambda: ask(stack, key, path="/hung").status == 201, 10, "it has ended")
    assert len(counted) == worked(stack, name) == 1


def raw(stack, head, *pieces):
    """One request, piece by piece; the answer's status and whether it was replayed."""
    with socket.create_connection(("127.0.0.1", stack.http_port), timeout=20) as caller:
        caller.sendall(head.encode())
        for piece in pieces:
            caller.sendall(piece)
        response = http.client.HTTPResponse(caller)
        response.begin()
        response.read()
        return response.status, response.getheader("Idempotency-Replayed") == "true"


def test_how_a_body_is_sent_is_no_part_of_it(stack, name, key):
    """By its length, in chunks of any size, and after a 100."""
    counting(stack, name)
    head = f"POST /count HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {key}\r\n"
    body = bytes(range(256)) * 300  # more than is read ahead of other calls
    assert raw(stack, f"{head}Content-Length: {len(body)}\r\n\r\n", body) == (201, False)
    chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:1], body[1:70000], body[70000:])]
    # The service does not read chunks: the second time it must not be asked.
    chunked = f"{head}Transfer-Encoding: chunked\r\n\r\n"
    assert raw(stack, chunked, *chunks, b"0\r\n\r\n") == (201, True)
    assert worked(stack, name) == 1


def test_expect_100_continue(stack, name, key):
    counting(stack, name)
    head = f"POST /count HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {key}\r\nExpect: 100-continue\r\n"
    for again in (False, True):
        with socket.create_connection(("127.0.0.1", stack.http_port), timeout=20) as caller:
            caller.sendall((head + "Content-Length: 3\r\n\r\n").encode())
            assert caller.recv(1000).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
            caller.sendall(b"abc")
            response = http.client.HTTPResponse(caller)
            response.begin()
            assert response.status == 201
            assert (response.getheader("Idempotency-Replayed") == "true") == again
    assert worked(stack, name) == 1


def test_a_connection_goes_on_after_a_recorded_answer(stack, name, key):
    counting(stack, name)
    connection = http.client.HTTPConnection("127.0.0.1", stack.http_port, timeout=20)
    for number in range(3):
        connection.request("POST", "/count", b"{}", {"Idempotency-Key": key})
        response = connection.getresponse()
        assert json.loads(response.read()) == {"number": 1}
        if number == 0:
            first = connection.sock
        assert connection.sock is first
    connection.request("POST", "/count", b"{}")
    assert json.loads(connection.getresponse().read()) == {"number": 2}
    connection.close()


# ---- bounds and bad input


@pytest.mark.parametrize(
    "lines",
    [
        "Idempotency-Key:\r\n",
        'Idempotency-Key: ""\r\n',
        'Idempotency-Key: "a\r\n',
        'Idempotency-Key: a"b\r\n',
        "Idempotency-Key: two words\r\n",
        f"Idempotency-Key: {'k' * 256}\r\n",
        'Idempotency-Key: "a";x=1\r\n',
        "Idempotency-Key: a\r\nIdempotency-Key: a\r\n",
    ],
)
def test_a_key_that_is_none(stack, name, lines):
    calls = counting(stack, name)
    head = f"POST /count HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: 0\r\n\r\n"
    assert raw(stack, head) == (400, False)
    assert calls == []


def test_a_key_in_a_request_that_reads_is_nothing_special(stack, name):
    stack.service.handlers["/get"] = lambda _: 200
    for _ in range(2):
        answer = stack.call("/get", method="GET", headers={"Idempotency-Key": "a b"})
        assert answer.status == 200 and not replayed(answer)


def test_a_body_that_is_too_large(stack, name, key):
    calls = counting(stack, name)
    body = "x" * (101 * 1024)
    answer = ask(stack, key, body)
    assert (answer.status, answer.reason) == (413, "idempotencyBodyTooLarge")
    assert calls == [] and stack.call("/count", body).status == 201


def test_an_answer_that_is_too_large_is_rolled_back(stack, name, key):
    counting(stack, name, body={"long": "x" * 40000})
    answer = ask(stack, key)
    assert (answer.status, answer.reason) == (503, "idempotencyAnswerTooLarge")
    assert worked(stack, name) == 0
    assert stack.call("/count").status == 201


def test_the_quota(name):
    with HttpStack(SETTINGS) as stack:
        counting(stack, name, body={"long": "x" * 30000})
        keys = [str(uuid.uuid4()) for _ in range(5)]
        statuses = [ask(stack, each).status for each in keys]
        assert statuses == [201, 201, 201, 503, 503]
        assert ask(stack, keys[4]).reason == "idempotencyQuota"
        assert replayed(ask(stack, keys[0])), "what is recorded stays"
        stack.proxy.restart()
        reconnected(stack)
        settled(stack)
        assert ask(stack, keys[4]).reason == "idempotencyQuota", "it is counted at the start"
        assert stack.call("/count").status == 201, "a call without a key needs none of it"


def test_answers_outlive_the_retention_of_other_units(name, key):
    with HttpStack() as stack:
        counting(stack, name)
        assert ask(stack, key).status == 201
        assert stack.call("/count").status == 201

        def pruned():
            """What the server has not on its disk stays for a moment."""
            holdfast("prune", "--wal", stack.proxy.wal, "--before", "0s", "--yes", check=0)
            return len(stack.proxy.units()) == 1

        wait_until(pruned, 20, "the other unit is pruned")
        assert replayed(ask(stack, key))
        wal, server = stack.proxy.wal, stack.server.uri
        assert stack.proxy.stop() == 0
        holdfast("prune", "--wal", wal, "--upstream", server, "--before", "0s", "--yes", check=0)
        stack.proxy.start()
        reconnected(stack)
        assert replayed(ask(stack, key))


def test_switched_off(name, key):
    with HttpStack({"http.idempotency.keep": "0"}) as stack:
        counting(stack, name)
        assert [ask(stack, key).json["number"] for _ in range(2)] == [1, 2]


# ---- whatever dies


POINTS = {
    "unit_locked": 1,
    "unit_journaled": 2,
    "unit_replied": 2,
    "commit_requested": 1,
    "commit_durable": 1,
}


@pytest.mark.parametrize("point", POINTS)
def test_the_proxy_dies_and_the_caller_repeats(name, key, point, crash_stack):
    stack = crash_stack
    calls = counting(stack, name)
    stack.proxy.restart(crash_at=f"{point}:{POINTS[point]}")
    reconnected(stack)
    is_open = lambda: any(entry["msg"] == "Domain open" for entry in stack.proxy.log())
    wait_until(is_open, 10, "the fence of the start is over")
    caller = stack.begin("/count", headers={"Idempotency-Key": key})
    assert stack.proxy.process.wait(20) in (-signal.SIGKILL, 137), "the point was not reached"
    caller.wait()
    stack.proxy.start()
    reconnected(stack)
    settled(stack)
    answer = ask(stack, key)
    assert answer.status == 201
    assert replayed(answer) == (point == "commit_durable")
    assert worked(stack, name) == 1
    assert len(calls) == (1 if replayed(answer) else 2)
    assert replayed(ask(stack, key))


@pytest.fixture(scope="module")
def crash_stack():
    with HttpStack({"http.quietPeriod": "300ms"}) as made:
        yield made



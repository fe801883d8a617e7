"""Clients that stop in the middle: neither units nor their own other commands suffer for it."""

import socket
import threading
import time

import pytest
from conftest import DATABASE, RawTransaction
from holdfast_testing import Connection, Proxy, Server, WireTap
from holdfast_testing.wire import FLAG_CHECKSUM, encode_message, receive_message

BIG = 1 << 20


def index_command(name):
    index = {"key": {"a": 1}, "name": "a_1"}
    return {"createIndexes": name, "indexes": [index], "$db": DATABASE}


def assert_unit_gets_in(stack, name):
    with Connection(stack.proxy.port) as raw:
        unit = RawTransaction(raw)
        reply = unit.insert(name, {"_id": "unit"})
        assert reply["ok"] == 1, reply
        assert unit.commit()["ok"] == 1


@pytest.fixture
def slow(stack, name):
    """A client with a small receive buffer, and a collection whose find fills it many times."""
    stack.direct[DATABASE][name].insert_many({"_id": i, "x": "x" * BIG} for i in range(12))
    with socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        made.settimeout(20)
        made.connect(("127.0.0.1", stack.proxy.port))
        yield made


def test_half_a_message(stack, name):
    """A write whose last bytes do not come keeps no unit out of its collection."""
    message = encode_message(index_command(name), flags=FLAG_CHECKSUM)
    with Connection(stack.proxy.port) as stalled:
        assert stalled.run({"ping": 1, "$db": "admin"})["ok"] == 1
        stalled.send(message[:-4])
        assert_unit_gets_in(stack, name)
        stalled.send(message[-4:])
        assert stalled.receive()["ok"] == 1


def test_replies_that_nobody_reads(stack, name, slow):
    """A write behind replies that its client does not read keeps no unit out either."""
    find = {"find": name, "batchSize": 100, "$db": DATABASE}
    for command in (find, find, find, index_command(name)):
        slow.sendall(encode_message(command))
    assert_unit_gets_in(stack, name)
    for _ in range(4):
        assert receive_message(slow) is not None


def test_an_answer_waits_for_the_reply_before_it(name):
    """What the proxy answers by itself does not land inside a reply that is still passing."""
    half = threading.Event()
    go_on = threading.Event()

    def within(reply):
        if "cursor" in reply:
            half.set()
            go_on.wait(10)

    with Server() as server, WireTap(server.port) as tap:
        with Proxy(tap.uri) as proxy, Connection(proxy.port) as raw:
            assert raw.run({"ping": 1, "$db": "admin"})["ok"] == 1
            tap.within_reply = within
            raw.send(encode_message({"find": name, "$db": DATABASE}, request_id=71))
            assert half.wait(10)
            refused = {"find": name, "txnNumber": "one", "$db": DATABASE}
            raw.send(encode_message(refused, request_id=72))
            time.sleep(0.3)
            go_on.set()
            for request_id in (71, 72):
                message = receive_message(raw.socket)
                assert int.from_bytes(message[8:12], "little") == request_id

"""Clients that stop in the middle: neither units nor their own other commands suffer for it."""

import os
import socket
import threading
import time

import pytest
from conftest import DATABASE, RawTransaction
from holdfast_testing import Connection, Proxy, Server, WireTap, wait_until
from holdfast_testing.wire import FLAG_CHECKSUM, FLAG_MORE_TO_COME, encode_message, receive_message

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


def descriptors(stack):
    return len(os.listdir(f"/proc/{stack.proxy.process.pid}/fd"))


def test_gone_with_replies_unread(stack, name, slow):
    """A client that goes away while more waits for it than is kept leaves nothing behind."""
    with Connection(stack.proxy.port) as other:
        assert other.run({"ping": 1, "$db": "admin"})["ok"] == 1
        slow.sendall(encode_message({"ping": 1, "$db": "admin"}))
        assert receive_message(slow) is not None
        before = descriptors(stack)
        slow.sendall(encode_message({"find": name, "batchSize": 100, "$db": DATABASE}))
        slow.recv(1, socket.MSG_PEEK)
        time.sleep(0.3)
        slow.close()
        wait_until(lambda: descriptors(stack) == before - 2, 5, "both of its sockets closed")


def unacknowledged(name, first, count, size=10):
    documents = [{"_id": i, "x": "x" * size} for i in range(first, first + count)]
    command = {"insert": name, "writeConcern": {"w": 0}, "$db": DATABASE}
    return encode_message(command, FLAG_MORE_TO_COME, {"documents": documents})


def test_unacknowledged_writes_faster_than_the_server(stack, name):
    """They wait in the client's socket; none is lost, and the connection stays."""
    count = 70000
    with Connection(stack.proxy.port, timeout=60) as raw:
        for i in range(count):
            raw.send(unacknowledged(name, i, 1, 1000))
        assert raw.run({"ping": 1, "$db": "admin"})["ok"] == 1
    assert stack.direct[DATABASE][name].count_documents({}) == count


def test_unacknowledged_writes_of_a_client_that_leaves(stack, name):
    """What was sent before the end is carried out, as by mongod."""
    with Connection(stack.proxy.port) as raw:
        for i in range(20):
            raw.send(unacknowledged(name, 100 * i, 100))
    wait_until(lambda: stack.direct[DATABASE][name].count_documents({}) == 2000, 10, "all of them")

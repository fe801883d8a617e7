"""Clients that stop in the middle: neither units nor their own other commands suffer for it."""

import os
import socket
import threading
import time

import pytest
from conftest import DATABASE, RawTransaction, Stack
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


def test_clients_that_stop():
    """A new client that does not send its first message, or not all of it, is closed after
    net.handshakeTimeout; one that stops in the middle of a later message after net.stallTimeout,
    also if it sends a byte now and then. One that is silent between two messages stays, as does one
    that has to wait for others."""
    settings = {"net.handshakeTimeout": "1s", "net.stallTimeout": "2s", "unit.lockWait": "20s"}
    ping = encode_message({"ping": 1, "$db": "admin"})
    long = encode_message({"insert": "c", "documents": [{"x": "x" * 100_000}], "$db": DATABASE})
    with Stack(settings) as stack:
        address = ("127.0.0.1", stack.proxy.port)
        silent, partial = (socket.create_connection(address, 30) for _ in range(2))
        partial.sendall(ping[:20])
        with Connection(stack.proxy.port, 30) as idle, Connection(stack.proxy.port, 30) as holder:
            assert idle.run({"ping": 1, "$db": "admin"})["ok"] == 1
            unit = RawTransaction(holder)
            assert unit.insert("c", {"_id": 1})["ok"] == 1
            with Connection(stack.proxy.port, 30) as waiting, Connection(
                stack.proxy.port, 30
            ) as stalled, Connection(stack.proxy.port, 30) as dribbling:
                waiting.send(
                    encode_message({"insert": "c", "documents": [{"_id": 1}], "$db": DATABASE})
                )
                for each in (stalled, dribbling):
                    each.run({"ping": 1, "$db": "admin"})
                    each.send(long[:50_000])
                started = time.monotonic()
                ended = threading.Event()

                def dribble():
                    for at in range(50_000, 50_400):
                        if ended.wait(0.05):
                            return
                        try:
                            dribbling.send(long[at : at + 1])
                        except OSError:
                            return

                threading.Thread(target=dribble, daemon=True).start()
                for peer in (silent, partial, stalled.socket, dribbling.socket):
                    peer.settimeout(15)
                    try:
                        assert peer.recv(1) == b""
                    except ConnectionError:
                        pass
                assert time.monotonic() - started < 14
                ended.set()
                assert idle.run({"ping": 1, "$db": "admin"})["ok"] == 1
                assert unit.commit()["ok"] == 1
                assert waiting.receive()["writeErrors"][0]["code"] == 11000
        said = [e["msg"] for e in stack.proxy.log()]
        assert said.count("Connection closed: no first message in time") == 2
        assert said.count("Connection closed: it stopped in the middle of a message") == 2
        silent.close()
        partial.close()


def test_one_address_does_not_take_all_places():
    """net.maxConnectionsPerAddress: one more of an address is closed, others are served; a place that
    is given up is free again."""
    with Stack({"net.maxConnectionsPerAddress": 3}) as stack:

        def served():
            """A connection that is served, or None."""
            made = Connection(stack.proxy.port)
            try:
                if made.run({"ping": 1, "$db": "admin"}) is not None:
                    return made
            except OSError:
                pass
            made.socket.close()
            return None

        first = [wait_until(served, 10, "a place is free") for _ in range(3)]
        with Connection(stack.proxy.port) as refused:
            assert refused.closed_by_peer()
        with socket.socket() as other:
            other.bind(("127.0.0.2", 0))
            other.settimeout(20)
            other.connect(("127.0.0.1", stack.proxy.port))
            other.sendall(encode_message({"ping": 1, "$db": "admin"}))
            assert receive_message(other) is not None
        first.pop().socket.close()

        first.append(wait_until(served, 10, "the place is free again"))
        for each in first:
            each.socket.close()

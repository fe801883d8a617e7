"""Requests sent one behind the other, without waiting for replies: answered in order, taken in only
as fast as the server takes them, and nothing of them is left behind when the server dies."""

import struct
import threading

from conftest import DATABASE, RawTransaction
from holdfast_testing import Connection, Proxy, Server, WireTap, wait_until
from holdfast_testing.wire import FLAG_MORE_TO_COME, encode_message, receive_message

MEBIBYTE = 1 << 20


def unacknowledged_insert(name, document):
    return encode_message(
        {"insert": name, "writeConcern": {"w": 0}, "$db": DATABASE},
        flags=FLAG_MORE_TO_COME,
        sequences={"documents": [document]},
    )


def test_more_than_a_connection_keeps(name):
    """A client that sends faster than the server works is slowed down, not cut off: as many small
    unacknowledged writes as may be on their way, and far more behind them than is ever kept."""
    small, large = 300, 60
    messages = [unacknowledged_insert(name, {"_id": i}) for i in range(small)]
    messages += [
        unacknowledged_insert(name, {"_id": small + i, "v": "x" * MEBIBYTE}) for i in range(large)
    ]
    goes_on = threading.Event()

    def hold(command):
        return goes_on.wait(60) if "insert" in command else None

    with Server() as server, WireTap(server.port) as tap, Proxy(tap.uri) as proxy:
        tap.before_request = hold
        with Connection(proxy.port, 60) as raw, server.client() as direct:
            sender = threading.Thread(target=lambda: raw.send(b"".join(messages)))
            sender.start()
            sender.join(2)
            assert sender.is_alive()
            goes_on.set()
            sender.join(60)
            assert raw.run({"ping": 1, "$db": "admin"})["ok"] == 1
            count = direct[DATABASE][name].count_documents
            wait_until(lambda: count({}) == small + large, 60, "all documents")


def test_an_error_of_the_proxy_waits_its_turn(stack, raw, name):
    """A reply that the proxy makes by itself never comes before, or into the middle of, that of a
    request that was sent first."""
    stack.direct[DATABASE][name].insert_many({"_id": i, "v": "x" * MEBIBYTE} for i in range(12))
    find = encode_message({"find": name, "$db": DATABASE}, request_id=1001)
    invalid = encode_message({"find": name, "$db": DATABASE, "maxTimeMS": -1}, request_id=1002)
    raw.send(find + invalid)
    answered = [struct.unpack_from("<i", receive_message(raw.socket), 8)[0] for _ in range(2)]
    assert answered == [1001, 1002]
    assert raw.run({"ping": 1, "$db": "admin"})["ok"] == 1


def test_server_dies_under_pipelined_writes(stack, name):
    """A write that was counted for a connection that breaks at that moment is not counted for ever:
    transactions go on when the server is back."""
    ping = encode_message({"ping": 1, "$db": "admin"})
    connections = [Connection(stack.proxy.port) for _ in range(20)]
    for connection in connections:
        assert connection.run({"ping": 1, "$db": "admin"})["ok"] == 1
    stack.server.pause()
    for connection in connections:
        connection.send(ping)  # what the server has not read makes its end a reset
    unread = len(ping) * len(connections)
    wait_until(lambda: unread_by_server(stack) >= unread, 5, "the pings at the server")
    stack.proxy.pause()
    for i, connection in enumerate(connections):
        connection.send(ping + unacknowledged_insert(name, {"_id": i}))
    stack.server.kill()
    stack.proxy.resume()
    for connection in connections:
        read_to_end(connection)
    stack.server.start()
    with Connection(stack.proxy.port) as other:
        unit = RawTransaction(other)
        reply = unit.insert(name, {"_id": "after"})
        assert reply["ok"] == 1, reply
        assert unit.commit()["ok"] == 1


def unread_by_server(stack):
    """Bytes that wait in the receive queues of the server's sockets."""
    port = f":{stack.server.port:04X}"
    with open("/proc/net/tcp") as lines:
        rows = [line.split() for line in lines][1:]
    return sum(int(row[4].split(":")[1], 16) for row in rows if row[1].endswith(port))


def read_to_end(connection):
    with connection:
        try:
            while connection.receive() is not None:
                pass
        except ConnectionError:
            pass

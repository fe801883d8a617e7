"""At each limit of the daemon: a clear answer, a line in the log, no spinning, and it goes on."""

import contextlib
import os
import pathlib
import resource
import threading
import time

import bson
import pytest
from conftest import DATABASE, RawTransaction, Stack, is_transient
from holdfast_testing import (
    Connection,
    FakeReplicaSet,
    Memory,
    Proxy,
    Server,
    WireTap,
    anonymous_bytes,
    build_bin,
    encode_message,
    wait_until,
)

LOCK_TIMEOUT = 24
MEGABYTE = 1 << 20


def processor_seconds(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def said(proxy, message):
    return [entry for entry in proxy.log() if entry["msg"].startswith(message)]


def open_descriptors(process):
    return len(os.listdir(f"/proc/{process.pid}/fd"))


def served(proxy):
    """A connection that is answered; None if it was refused."""
    connection = Connection(proxy.port)
    with contextlib.suppress(OSError):
        if connection.run({"ping": 1, "$db": "admin"}) is not None:
            return connection
    connection.close()
    return None


def test_the_limit_of_open_files_is_raised():
    """A soft limit that a shell set does not bound the proxy: only the hard one does."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(300, before[1]), before[1]))
    try:
        with Stack() as stack:
            assert resource.prlimit(stack.proxy.process.pid, resource.RLIMIT_NOFILE)[0] == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def few_descriptors(tmp_path, monkeypatch):
    """280 for each proxy; 256 of them are kept."""
    programs = build_bin()
    (tmp_path / "holdfast").symlink_to(programs / "holdfast")
    limited = tmp_path / "holdfastd"
    limited.write_text(f'#!/bin/sh\nulimit -n 280\nexec "{programs}/holdfastd" "$@"\n')
    limited.chmod(0o755)
    monkeypatch.setenv("HOLDFAST_BUILD", str(tmp_path))


def of_connections(proxy):
    """How many connections it says that it serves, and how many descriptors it wants for 20,000."""
    (line,) = said(proxy, "Fewer connections than net.maxIncomingConnections")
    return line["attr"]["connections"], line["attr"]["openFilesWanted"]


def test_connections_that_the_limit_of_open_files_allows(few_descriptors, name):
    """With few descriptors fewer connections than configured are served, and said to be; what is
    kept is enough to work and to roll back."""
    with Stack() as stack:
        assert of_connections(stack.proxy) == (24 // 2, 256 + 20_000 * 2)
        wait_until(lambda: open_descriptors(stack.proxy.process) < 256, 5, "the trial is closed")
        with contextlib.ExitStack() as open_ones:
            # A place may still be taken by the connection that looked whether the proxy accepts.
            clients = [
                open_ones.enter_context(wait_until(lambda: served(stack.proxy), 5, "a free place"))
                for _ in range(12)
            ]
            unit = RawTransaction(clients[0])
            assert unit.insert(name, {"_id": 1})["ok"] == 1
            for client in clients:
                assert client.run({"ping": 1, "$db": "admin"})["ok"] == 1
            with Connection(stack.proxy.port) as one_more:
                assert one_more.closed_by_peer()
            refused = "Connection refused: net.maxIncomingConnections"
            wait_until(lambda: said(stack.proxy, refused), 5, "the log names the setting")
            assert unit.abort()["ok"] == 1
            assert stack.stored(name) == {}


def test_connections_that_read_by_preference_take_one_descriptor_more(few_descriptors):
    read = {"find": "c", "$db": "test", "$readPreference": {"mode": "secondary"}}
    with FakeReplicaSet(3) as members, Proxy(members.uri) as proxy, contextlib.ExitStack() as open_ones:
        assert of_connections(proxy) == (24 // 3, 256 + 20_000 * 3)
        clients = [
            open_ones.enter_context(wait_until(lambda: served(proxy), 5, "a free place"))
            for _ in range(8)
        ]
        for client in clients:
            assert client.run(read)["ok"] == 1
        assert {node for node, command in members.commands if "$readPreference" in command} == {1, 2}
        with Connection(proxy.port) as one_more:
            assert one_more.closed_by_peer()


def test_out_of_descriptors():
    """Nothing is accepted while there is no descriptor: one line says so, nothing spins, who waits
    is served when there is one again."""
    with Stack() as stack:
        process = stack.proxy.process
        before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        with Connection(stack.proxy.port) as client:
            assert client.run({"ping": 1, "$db": "admin"})["ok"] == 1
            # Of the numbers below the limit none may come free: the connection that looked whether
            # the proxy accepts may still be closing, but the standard streams stay open.
            assert {"0", "1", "2"} <= set(os.listdir(f"/proc/{process.pid}/fd"))
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, before[1]))
            with Connection(stack.proxy.port) as waiting:
                wait_until(lambda: said(stack.proxy, "Cannot accept"), 5, "it says so")
                used = processor_seconds(process)
                time.sleep(1)
                assert processor_seconds(process) - used < 0.3
                assert len(said(stack.proxy, "Cannot accept")) == 1
                assert client.run({"ping": 1, "$db": "admin"})["ok"] == 1
                resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)
                assert waiting.run({"ping": 1, "$db": "admin"})["ok"] == 1


def test_locks(name):
    """More documents than unit.maxLocks: transactions are told to run again, plain writes that it
    was too much; afterwards both can."""
    with Stack({"unit.maxLocks": "10"}) as stack, Connection(stack.proxy.port) as raw:
        first, second = RawTransaction(raw), RawTransaction(raw)
        for i in range(9):
            assert first.insert(name, {"_id": i})["ok"] == 1
        assert second.insert(name, {"_id": 9})["ok"] == 1
        reply = second.insert(name, {"_id": 10})
        assert (reply["ok"], reply["code"]) == (0, LOCK_TIMEOUT), reply
        assert "unit.maxLocks" in reply["errmsg"] and is_transient(reply)
        assert first.insert(name, {"_id": 11})["ok"] == 1
        many = {"insert": name, "documents": [{"_id": 20 + i} for i in range(3)], "$db": DATABASE}
        reply = raw.run(many)
        assert (reply["ok"], reply["code"]) == (0, LOCK_TIMEOUT), reply
        assert "unit.maxLocks" in reply["errmsg"] and not is_transient(reply)
        assert first.commit()["ok"] == 1
        assert raw.run(many)["n"] == 3
        assert sorted(stack.stored(name)) == [*range(9), 11, 20, 21, 22]


@pytest.mark.parametrize("write", ["update", "delete"])
def test_locks_of_one_command(name, write):
    """More documents than unit.maxLocks are met in the middle of a command, when some are written:
    they are restored, the locks given back."""
    statement = {
        "update": {"updates": [{"q": {}, "u": {"$set": {"v": 1}}, "multi": True}]},
        "delete": {"deletes": [{"q": {}, "limit": 0}]},
    }[write]
    with Stack({"unit.maxLocks": "600"}) as stack, Connection(stack.proxy.port, 60) as raw:
        documents = [{"_id": i, "v": 0} for i in range(601)]
        stack.direct[DATABASE][name].insert_many(documents)
        command = {write: name, **statement, "$db": DATABASE}
        reply = raw.run(command)
        assert (reply["ok"], reply["code"]) == (0, LOCK_TIMEOUT), reply
        assert "unit.maxLocks" in reply["errmsg"]
        assert stack.stored(name) == {document["_id"]: document for document in documents}
        assert [unit["state"] for unit in stack.proxy.units()] == ["aborted"]
        stack.direct[DATABASE][name].delete_one({"_id": 600})
        assert raw.run(command)["n"] == 600


def large_documents(stack, name, count):
    documents = [{"_id": i, "v": "x" * MEGABYTE} for i in range(count)]
    stack.direct[DATABASE][name].insert_many(documents)
    return documents


# Outside a unit a reply is streamed; inside one it is held whole, one at a time.
@pytest.mark.parametrize("in_unit, megabytes", [(False, 4), (True, 3 * 48)])
def test_a_client_that_does_not_read(name, in_unit, megabytes):
    """Many large replies that a client asks for and does not take: what is kept of them is bounded,
    others are served, and they are there when it reads."""
    with Stack() as stack, Connection(stack.proxy.port, timeout=60) as idle:
        large_documents(stack, name, 15)
        find = {"find": name, "filter": {}, "batchSize": 100, "$db": DATABASE}
        if in_unit:
            unit = RawTransaction(idle)
            assert unit.insert(name, {"_id": "own"})["ok"] == 1
            find |= {"lsid": unit.lsid, "txnNumber": bson.Int64(1), "autocommit": False}
        start = anonymous_bytes(stack.proxy.process)
        with Memory(stack.proxy.process) as memory, Connection(stack.proxy.port) as other:
            idle.send(encode_message(find) * 20)
            time.sleep(2)
            assert other.run({"ping": 1, "$db": "admin"})["ok"] == 1
        assert memory.peak - start < megabytes * MEGABYTE, (memory.peak, start)
        for _ in range(20):
            batch = idle.receive()["cursor"]["firstBatch"]
            assert [d["_id"] for d in batch] == [*range(15)] + ["own"] * in_unit


def test_a_server_that_does_not_read(name):
    """A client sends on while the server takes nothing: the client is held up, the proxy keeps a
    little, and all of it arrives."""
    inserts = [
        {"insert": name, "documents": [{"_id": i, "v": "x" * MEGABYTE}], "$db": DATABASE}
        for i in range(60)
    ]
    taken = threading.Event()
    with Server() as server, WireTap(server.port) as tap, Proxy(tap.uri) as proxy:
        with Connection(proxy.port, timeout=60) as raw:
            assert raw.run({"ping": 1, "$db": "admin"})["ok"] == 1
            tap.before_request = lambda command: "insert" not in command or taken.wait(30)
            bytes_of_all = b"".join(map(encode_message, inserts))
            sender = threading.Thread(target=raw.send, args=(bytes_of_all,), daemon=True)
            start = anonymous_bytes(proxy.process)
            with Memory(proxy.process) as memory:
                sender.start()
                time.sleep(2)
            assert sender.is_alive()
            assert memory.peak - start < 4 * MEGABYTE, (memory.peak, start)
            taken.set()
            assert [raw.receive()["n"] for _ in inserts] == [1] * len(inserts)
            sender.join()

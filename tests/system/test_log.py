"""The log: whose request a line concerns, nothing of documents, a file that may be renamed or full."""

import contextlib
import json
import os
import signal
import uuid

import bson
import pymongo
import pytest
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Connection, Proxy, Server, port_for_restarts, wait_until
from holdfast_testing.metrics import Metrics
from http_stack import HttpStack

MARKERS = {what: f"marker{what}{uuid.uuid4().hex}" for what in ("Value", "Filter", "Update", "Key")}


def entries(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def messages(path):
    return [entry["msg"] for entry in entries(path)]


# ---------------------------------------------------------------- contents


def busy(stack, collection, name):
    """All that could make a line tell too much: writes of each kind, errors that quote documents,
    conflicts, deadlocks, refused commands, bytes that are no protocol."""
    value, query, update, key = (MARKERS[what] for what in ("Value", "Filter", "Update", "Key"))
    collection.create_index("u", unique=True)
    collection.insert_many([{"_id": f"{key}{i}", "v": value, "u": f"{value}{i}"} for i in range(5)])
    collection.update_many({"v": {"$ne": query}}, {"$set": {"w": update}})
    collection.find_one_and_update({"v": query}, {"$set": {"w": update}}, upsert=True)
    collection.delete_one({"w": query})
    assert list(collection.find({"v": value})) and collection.count_documents({"v": query}) == 1
    assert list(collection.aggregate([{"$match": {"v": value}}]))
    for broken in ({"$badOperator": update}, {"$set": {f"${key}": update}}):
        with contextlib.suppress(pymongo.errors.PyMongoError):
            collection.update_one({"v": value}, broken)
    with pytest.raises(pymongo.errors.PyMongoError):
        collection.insert_one({"_id": f"{key}x", "u": f"{value}0"})
    with Connection(stack.proxy.port) as one:
        unit = RawTransaction(one)
        assert value in str(unit.insert(name, {"u": f"{value}1"}))  # the client is told
        unit.next()
        assert unit.update(name, {"_id": f"{key}0"}, {"$set": {"v": update}})["ok"]
        stack.direct[DATABASE][name].update_one({"_id": f"{key}0"}, {"$set": {"v": value * 2}})
        unit.abort()  # a conflict, which quotes the document to the operator, not to the log
        unit.next()
        assert unit.update(name, {"_id": f"{key}1"}, {"$set": {"v": update}})["ok"] and unit.abort()["ok"]
        unit.next()
        assert unit.delete(name, {"_id": f"{key}2"})["n"] == 1
        stack.direct[DATABASE][name].insert_one({"_id": f"{key}y", "u": f"{value}2"})
        unit.abort()  # its undo meets another document's unique value
        assert one.run({key: 1, "$db": DATABASE, "v": value})["ok"] == 0
    with Connection(stack.proxy.port) as raw:
        raw.socket.sendall(f"{value}{key}".encode() * 10)
        assert raw.closed_by_peer()


def test_no_documents(tmp_path, name):
    """At level debug, of a busy run, no line has anything that documents, filters or updates held."""
    path = tmp_path / "log"
    settings = {"log.level": "debug", "log.path": path, "unit.lockWait": "300ms"}
    with HttpStack(settings) as stack:
        collection = stack.collection(name)

        def handler(_):
            stack.collection(name).update_many({}, {"$set": {"z": MARKERS["Update"]}})
            stack.collection(name).insert_one({"_id": MARKERS["Key"] + uuid.uuid4().hex})
            return 500

        with stack.proxy.client() as client:
            busy(stack, client[DATABASE][name], name)
            stack.service.handlers["/x"] = handler
            stack.call(f"/x?secret={MARKERS['Value']}", {"v": MARKERS["Value"]})
            assert collection.find_one({"v": MARKERS["Value"]}) is not None
        stack.proxy.kill()
        stack.proxy.start()
        text = path.read_text() + stack.proxy.process.output()
    assert "Command carried out" in text and "Unit set aside" in text and "Unit rolled back" in text
    for what, marker in MARKERS.items():
        lines = [line for line in text.splitlines() if marker in line]
        assert lines == [], what


# ---------------------------------------------------------------- whose


def test_whose_request(name):
    """Unit, trace, session, user, address and appName are on each line of a request, also in the
    debug line that each command has."""
    trace, span = uuid.uuid4().hex, uuid.uuid4().hex[:16]
    lsid = {"id": bson.Binary.from_uuid(uuid.uuid4())}
    hello = {
        "hello": 1,
        "$db": "admin",
        "client": {
            "application": {"name": "billing"},
            "driver": {"name": "x", "version": "1"},
            "os": {"type": "x"},
        },
    }
    with Stack({"log.level": "debug"}) as stack, Connection(stack.proxy.port) as raw:
        assert raw.run(hello)["ok"]
        unit = RawTransaction(raw, lsid)
        insert = {"insert": name, "documents": [{"_id": 1}], "comment": f"00-{trace}-{span}-00"}
        assert unit.run(insert)["ok"] and unit.abort()["ok"]

        def lines(message):
            return [e for e in stack.proxy.log() if e["msg"] == message and "unit" in e.get("attr", {})]

        rolled_back = wait_until(lambda: lines("Unit rolled back"), 10, "the line is there")[0]
        commands = wait_until(
            lambda: (c := lines("Command carried out")) and len(c) == 2 and c, 10, "both commands"
        )
        for entry in (rolled_back, *commands):
            attributes = entry["attr"]
            assert attributes["trace"] == trace and attributes["session"] == lsid["id"].hex()
            assert attributes["appName"] == "billing" and attributes["user"] == ""
            assert attributes["client"].startswith("127.0.0.1:")
        assert len({entry["attr"]["unit"] for entry in (rolled_back, *commands)}) == 1
        first, second = (entry["attr"] for entry in commands)
        assert (first["command"], first["database"], first["collection"]) == ("insert", DATABASE, name)
        assert second["command"] == "abortTransaction" and second["code"] == 0
        assert first["micros"] > 0


def test_whose_call():
    """A call's lines name its unit, its trace and its service."""
    trace = uuid.uuid4().hex
    with HttpStack({"http.callTimeout": "300ms"}) as stack:

        def handler(_):
            stack.collection("slow").insert_one({})
            wait_until(lambda: said("Call rolled back: it took longer than http.callTimeout"), 10, "late")
            return 200

        def said(message):
            return [e for e in stack.proxy.log() if e["msg"] == message]

        stack.service.handlers["/slow"] = handler
        header = f"00-{trace}-{trace[:16]}-01"
        assert stack.call("/slow", headers={"traceparent": header}).status == 503
        late = "Call rolled back: it took longer than http.callTimeout"
        (timeout,) = wait_until(lambda: said(late), 10, "the call's line")
        (rolled_back,) = wait_until(lambda: said("Unit rolled back"), 10, "the unit's line")
        assert timeout["attr"]["trace"] == rolled_back["attr"]["trace"] == trace
        assert timeout["attr"]["unit"] == rolled_back["attr"]["unit"]
        assert timeout["attr"]["service"] == "service" and timeout["attr"]["call"] == "POST /slow"


# ---------------------------------------------------------------- repeats


def test_repeats(tmp_path, name):
    """A line that comes again and again is counted; the number comes with the end at the latest."""
    path = tmp_path / "log"
    with Stack({"log.path": path}) as stack, Connection(stack.proxy.port) as raw:
        unit = RawTransaction(raw)
        for number in range(150):
            assert unit.insert(name, {"_id": number})["ok"] and unit.abort()["ok"]
            unit.next()
        assert messages(path).count("Unit rolled back") <= 100
        assert stack.proxy.stop() == 0
    told = [e["attr"] for e in entries(path) if e["msg"] == "Repeated lines were suppressed"]
    written = messages(path).count("Unit rolled back")
    assert written + sum(a["suppressed"] for a in told if a["message"] == "Unit rolled back") == 150


# ---------------------------------------------------------------- the file


def test_a_file_that_is_renamed(tmp_path):
    """SIGUSR1 and SIGHUP open it again by its name, as mongod's logRotate does."""
    path = tmp_path / "log"
    with Stack({"log.path": path}) as stack:
        proxy = stack.proxy
        assert not any("Listening" in line for line in proxy.process.lines)
        for number, to_do in enumerate((signal.SIGUSR1, signal.SIGHUP)):
            os.rename(path, tmp_path / f"log.{number}")
            proxy.process.send(to_do)
            wait_until(path.exists, 20, "it was opened again")
        assert proxy.stop() == 0
        assert messages(path)[-1] == "Ended cleanly"
        assert "Listening" in messages(tmp_path / "log.0")


def test_a_file_that_takes_nothing(name):
    """A full disk costs the lines, which are counted, and nothing else."""
    admin = port_for_restarts()
    settings = {"log.path": "/dev/full", "admin.listen": f"127.0.0.1:{admin}"}
    with Server() as server, Proxy(server, settings, start=False) as proxy:
        proxy.port = port_for_restarts()  # it cannot tell which it is
        proxy.launch()
        with proxy.client(serverSelectionTimeoutMS=30000) as client:
            with client.start_session() as session, session.start_transaction():
                client[DATABASE][name].insert_one({"_id": 1}, session=session)
            assert client[DATABASE][name].find_one() == {"_id": 1}
        assert Metrics(admin).get("holdfast_log_lines_lost_total") > 0
        assert proxy.stop() == 0


def test_a_file_that_cannot_be(tmp_path):
    """A start that could not log is refused, with the reason."""
    settings = {"log.path": tmp_path / "missing" / "log"}
    proxy = Proxy("mongodb://127.0.0.1:1/", settings, wal=tmp_path / "wal", start=False)
    code, output = proxy.run_to_end()
    assert code == 2 and "cannot open the log file" in output and "missing" in output

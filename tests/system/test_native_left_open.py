"""Native engine: what a killed proxy left open at the server is aborted at its next start, so that
nobody waits for the server's own timeout (60 s on mongod; the test server has none)."""

import json
import shutil
import threading

import pytest
from bson import Binary, Int64
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Connection, WireTap, encode_message, holdfast, wait_until
from http_stack import Gate, HttpStack
from pymongo.errors import AutoReconnect
from test_native import Authenticated
from test_native_calls import newest

UNAUTHORIZED = 13
LEFT = "holds its documents until the server's own timeout"
BEGIN = {"unit": "u", "begin": True}


def tap_of(server):
    return WireTap(server.port)


def replica_set(settings=None, between=tap_of, **options):
    stack = Stack(settings, between=between, mode="replicaset", **options)
    stack.direct[DATABASE]["c"].insert_one({"_id": 1, "v": 0})
    return stack


def journaled(proxy, state="open"):
    """BEGIN is not waited for by the unit."""
    wait_until(
        lambda: proxy.units() and newest(proxy)["state"] == state, 10, f"the unit is {state}"
    )


def aborts(tap):
    return [command for _, command in tap.commands if "abortTransaction" in command]


def left(proxy):
    """What the log says of transactions that were not aborted."""
    return [str(line) for line in proxy.log() if LEFT in line["msg"]]


def writes_at_once(stack, query=None):
    """A plain write past the proxy meets nobody."""
    options = {"socketTimeoutMS": 5000, "retryWrites": False}
    with stack.server.client(**options) as client:
        written = client[DATABASE]["c"].update_one(query or {"_id": 1}, {"$set": {"by": "us"}})
    assert written.matched_count == 1


def test_a_call():
    """Whatever it has written: none of it is there, and all of it is free."""
    gate = Gate()
    with HttpStack({"http.quietPeriod": "300ms"}, mode="replicaset") as stack:
        stack.direct[DATABASE]["c"].insert_one({"_id": 1, "v": 0})
        collection = stack.collection("c")

        def handler(_):
            assert collection.find_one({"_id": 1})["v"] == 0
            collection.update_one({"_id": 1}, {"$inc": {"v": 1}})
            gate.stop_here()
            return 200

        stack.service.handlers["/x"] = handler
        caller = stack.begin("/x")
        gate.wait_reached()
        journaled(stack.proxy)
        stack.proxy.kill()
        stack.proxy.start()
        writes_at_once(stack)
        assert newest(stack.proxy)["state"] == "aborted" and left(stack.proxy) == []
        gate.go.set()
        caller.wait()
        assert stack.stored("c") == {1: {"_id": 1, "v": 0, "by": "us"}}


def test_a_command_of_several_documents():
    """Under unit.multiWrites: strict: killed before the server's answer to the command was here, its
    driver sends it again, and does not meet itself."""
    insert = {
        "insert": "c",
        "documents": [{"_id": 2}, {"_id": 3}],
        "lsid": {"id": Binary(b"sixteen bytes id", 4)},
        "txnNumber": Int64(1),
        "$db": DATABASE,
    }
    with replica_set({"unit.multiWrites": "strict"}) as stack:
        killed = threading.Event()
        sent = threading.Event()

        def hold(reply):
            if reply.get("n") == 2 and not killed.is_set():
                sent.set()
                killed.wait(20)

        stack.between.before_reply = hold
        with Connection(stack.proxy.port) as raw:
            raw.send(encode_message(insert))
            assert sent.wait(10), "the server has carried it out"
            journaled(stack.proxy)
            stack.proxy.kill()
            killed.set()
        stack.between.before_reply = None
        stack.proxy.start()
        with Connection(stack.proxy.port, 10) as raw:
            assert raw.run(insert)["n"] == 2
        assert set(stack.stored("c")) == {1, 2, 3}


@pytest.mark.parametrize("allowed", [True, False])
def test_a_unit_of_a_user(allowed):
    """With the privilege `impersonate` it is aborted in its user's name; without, that is logged, and
    the unit ends in the journal all the same. (The test server allows everything: the tap refuses.)"""
    users = [("alice", "secret", [("readWrite", DATABASE)])]
    with replica_set(between=Authenticated, auth=True, users=users) as stack:

        def refuse(reply):
            if asked and reply.get("ok") == 1 and "isWritablePrimary" not in reply:
                return {"ok": 0.0, "code": UNAUTHORIZED, "errmsg": "refused"}
            return None

        def before_request(command):
            asked[:] = ["abortTransaction"] if "abortTransaction" in command else []

        asked = []
        with stack.proxy.client(user=("alice", "secret")) as alice:
            alice[DATABASE]["c"].update_one({"_id": 1}, {"$inc": {"v": 1}}, comment=BEGIN)
            journaled(stack.proxy)
            stack.proxy.kill()
        if not allowed:
            stack.between.before_request, stack.between.before_reply = before_request, refuse
        stack.between.commands.clear()
        stack.proxy.start()
        stack.between.before_request = stack.between.before_reply = None
        assert aborts(stack.between) and "uid" in aborts(stack.between)[0]["lsid"]
        assert newest(stack.proxy)["state"] == "aborted"
        if allowed:
            assert left(stack.proxy) == []
            writes_at_once(stack)
            assert stack.stored("c") == {1: {"_id": 1, "v": 0, "by": "us"}}
        else:
            assert "privilege impersonate" in left(stack.proxy)[0]


def test_what_is_not_aborted():
    """A unit whose commit may have been sent is asked for, as ever. A driver's transaction is its
    driver's, who may go on with it elsewhere."""
    with replica_set() as stack:
        stack.proxy.restart(crash_at="native_committing")
        with Connection(stack.proxy.port) as raw:
            unit = RawTransaction(raw)
            assert unit.update("c", {"_id": 1}, {"$inc": {"v": 1}})["ok"] == 1
            with stack.proxy.client(retryWrites=False) as client:
                collection = client[DATABASE]["c"]
                collection.insert_one({"_id": 2}, comment=BEGIN)
                with pytest.raises(AutoReconnect):
                    collection.insert_one({"_id": 3}, comment={"unit": "u", "last": True})
        assert newest(stack.proxy)["state"] == "committing"
        stack.between.commands.clear()
        stack.proxy.start()
        assert newest(stack.proxy)["state"] == "committed" and aborts(stack.between) == []
        with Connection(stack.server.port) as elsewhere:
            assert unit.commit(elsewhere)["ok"] == 1
        assert {d["_id"]: d.get("v") for d in stack.stored("c").values()} == {1: 1, 2: None, 3: None}


def test_a_copy_of_the_journal(tmp_path):
    """Recovered beside its living owner, it aborts nothing of it."""
    with replica_set() as stack, stack.proxy.client() as client:
        client[DATABASE]["c"].update_one({"_id": 1}, {"$inc": {"v": 1}}, comment=BEGIN)
        journaled(stack.proxy)
        sockets = shutil.ignore_patterns("control*")
        shutil.copytree(stack.proxy.wal, tmp_path / "copy", ignore=sockets)
        upstream = ["--upstream", stack.between.uri, "--wal", tmp_path / "copy", "--json"]
        done = json.loads(holdfast("recover", *upstream, check=0).stdout)
        assert done["rolledBack"] == 1 and "is a copy" in done["units"][0]["left"]
        assert aborts(stack.between) == []
        client.admin.command("commitUnit", "u")
        assert stack.stored("c")[1]["v"] == 1


def test_no_room_for_begin():
    """Nobody waits for BEGIN: where the journal is full it is the commit that is refused."""
    settings = {"unit.multiWrites": "strict", "wal.quota": "16MiB", "unit.auditBytes": "16MiB"}
    with replica_set(settings, None) as stack, Connection(stack.proxy.port, 30) as raw:
        number, size, refused = 10, 4_000_000, 0
        while refused < 3:
            documents = [{"_id": number}, {"_id": number + 1, "text": "x" * size}]
            reply = raw.run({"insert": "c", "documents": documents, "$db": DATABASE})
            if reply["ok"] == 1:
                number, refused = number + 2, 0
                continue
            assert "journal is full" in reply["errmsg"]
            refused, size = (refused + 1, 0) if size < 100 else (0, size // 4)
        assert number > 12 and set(stack.stored("c")) == {1, *range(10, number)}

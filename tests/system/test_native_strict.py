"""`unit.multiWrites: strict` on the native engine: a plain command that writes several documents is a
transaction of the server."""

import signal
import threading
import uuid

import pytest
from bson import Binary, Int64
from conftest import DATABASE, Stack
from holdfast_testing import Connection, Proxy, Server, WireTap, encode_message, wait_until
from pymongo.errors import BulkWriteError, OperationFailure
from pymongo.server_api import ServerApi
from test_native_calls import lose, newest, ours
from test_native_comments import in_doubt

DUPLICATE = 11000
STRICT = {"unit.multiWrites": "strict"}

pytestmark = pytest.mark.usefixtures("unhooked")


@pytest.fixture(scope="module")
def stack():
    with Stack(STRICT, between=lambda server: WireTap(server.port), mode="replicaset") as made:
        yield made


@pytest.fixture
def collection(stack, name):
    stack.direct[DATABASE].create_collection(name)
    with stack.proxy.client() as client:
        stack.between.commands.clear()
        yield client[DATABASE][name]


def test_commits(stack, collection, name):
    """Several documents are one transaction, answered after its commit; one document is none."""
    collection.insert_one({"_id": 0})
    collection.update_one({"_id": 0}, {"$set": {"v": 0}})
    assert ours(stack.between) == []
    assert len(collection.insert_many([{"_id": i} for i in range(1, 6)]).inserted_ids) == 5
    assert collection.update_many({}, {"$set": {"v": 1}}).modified_count == 6
    assert collection.delete_many({"_id": {"$gt": 3}}).deleted_count == 2
    sent = [next(iter(command)) for command in ours(stack.between)]
    commit = "commitTransaction"
    assert sent == ["insert", commit, "update", commit, "delete", commit]
    assert set(stack.stored(name)) == {0, 1, 2, 3}
    assert newest(stack.proxy)["state"] == "committed"


@pytest.mark.parametrize("ordered", [True, False])
def test_any_error_undoes_the_command(stack, collection, name, ordered):
    collection.insert_one({"_id": 1})
    with pytest.raises(BulkWriteError) as caught:
        collection.insert_many([{"_id": 0}, {"_id": 1}, {"_id": 2}], ordered=ordered)
    assert caught.value.details["nInserted"] == 0
    assert [e["code"] for e in caught.value.details["writeErrors"]] == [DUPLICATE]
    assert set(stack.stored(name)) == {1}
    with pytest.raises(OperationFailure):
        collection.update_many({}, {"$nonsense": {"v": 1}})
    assert collection.update_many({}, {"$set": {"v": 1}}).modified_count == 1


def insert(name, number, ids, lsid):
    documents = [{"_id": i} for i in ids]
    return {
        **{"insert": name, "documents": documents, "$db": DATABASE},
        **{"lsid": lsid, "txnNumber": Int64(number)},
    }


def test_a_retry_is_done_once(stack, collection, name):
    """A driver that sends it again, as after a broken connection, gets the first answer; also after
    a restart of the proxy. What was refused is carried out again."""
    lsid = {"id": Binary(name.encode().ljust(16)[:16], 4)}
    with Connection(stack.proxy.port) as raw:
        first = raw.run(insert(name, 1, [1, 2], lsid))
        assert (first["ok"], first["n"]) == (1, 2)
        again = raw.run(insert(name, 1, [1, 2], lsid))
        assert (again["ok"], again["n"], again.get("writeErrors")) == (1, 2, None)
        refused = raw.run(insert(name, 2, [2, 3], lsid))
        assert (refused["n"], refused["writeErrors"][0]["code"]) == (0, DUPLICATE)
    stack.proxy.restart()
    with Connection(stack.proxy.port) as raw:
        again = raw.run(insert(name, 2, [2, 3], lsid))
        assert (again["n"], again["writeErrors"][0]["code"]) == (0, DUPLICATE)
        stack.direct[DATABASE][name].delete_one({"_id": 2})
        assert raw.run(insert(name, 2, [2, 3], lsid))["n"] == 2
        stack.proxy.restart()
    with Connection(stack.proxy.port) as raw:
        again = raw.run(insert(name, 2, [2, 3], lsid))
        assert (again["n"], again.get("writeErrors")) == (2, None)
    assert set(stack.stored(name)) == {1, 2, 3}


def test_waits_for_a_transaction(stack, collection, name):
    """As mongod's own multi writes: it is tried again until the document is free."""
    collection.insert_many([{"_id": i, "n": 0} for i in range(3)])
    done = []
    with stack.direct.start_session() as session, session.start_transaction():
        stack.direct[DATABASE][name].update_one({"_id": 1}, {"$set": {"n": 10}}, session=session)
        thread = threading.Thread(
            target=lambda: done.append(collection.update_many({}, {"$inc": {"n": 1}}))
        )
        stack.between.commands.clear()
        thread.start()
        wait_until(lambda: len(ours(stack.between)) > 4, 10, "it is tried again")
        assert done == []
    thread.join(20)
    assert done[0].modified_count == 3
    assert {d["n"] for d in stack.stored(name).values()} == {1, 11}


def test_waits_no_longer_than_it_may(stack, collection, name):
    collection.insert_one({"_id": 1, "n": 0})
    with stack.direct.start_session() as session, session.start_transaction():
        stack.direct[DATABASE][name].update_one({"_id": 1}, {"$set": {"n": 10}}, session=session)
        with pytest.raises(OperationFailure) as caught:
            updates = [{"q": {}, "u": {"$inc": {"n": 1}}, "multi": True}]
            collection.database.command("update", name, updates=updates, maxTimeMS=300)
        assert caught.value.code == 112
        session.abort_transaction()
    assert stack.stored(name)[1]["n"] == 0


@pytest.mark.parametrize("direction", ["request", "reply"])
@pytest.mark.parametrize("lost", ["commitTransaction", "insert"])
def test_lost_answers(stack, collection, name, lost, direction):
    """Of the commit: it is asked for elsewhere. Of the write: the driver sends it again, and nothing
    of the first time is there."""
    tap = stack.between
    tap.before_request, tap.before_reply = lose(lambda c: next(iter(c)) == lost, direction, [])
    collection.insert_many([{"_id": i} for i in range(3)])
    assert set(stack.stored(name)) == {0, 1, 2}


def test_outcome_of_the_commit_unknown(stack, collection, name):
    """Whoever asks elsewhere is not told: that is what the client gets, also when it sends the write
    again; and the write is not done a second time."""
    lsid = {"id": Binary(uuid.uuid4().bytes, 4)}
    stack.between.before_request, stack.between.before_reply = in_doubt(225)
    with Connection(stack.proxy.port) as raw:
        for _ in range(2):
            reply = raw.run(insert(name, 1, [1, 2], lsid))
            assert (reply["ok"], reply["code"]) == (0, 8) and "is not known" in reply["errmsg"]
            assert "errorLabels" not in reply
    assert set(stack.stored(name)) == {1, 2}


def increment(name, number, **more):
    updates = [{"q": {}, "u": {"$inc": {"n": 1}}, "multi": True}]
    lsid = {"id": Binary(name.encode().ljust(16)[:16], 4)}
    command = {"update": name, "updates": updates, "$db": DATABASE, **more}
    return {**command, "lsid": lsid, "txnNumber": Int64(number)}


def test_a_lost_transaction_is_run_again(stack, collection, name):
    """The server has lost it before the commit came: that is in the journal before it is run again,
    which asks the journal whether it may be."""
    collection.insert_many([{"_id": i, "n": 0} for i in range(3)])
    aborted = []

    def abort_first(command):
        if next(iter(command)) == "commitTransaction" and not aborted:
            lost = {k: command[k] for k in ("lsid", "txnNumber", "autocommit", "$db")}
            with Connection(stack.server.port) as raw:
                aborted.append(raw.run({"abortTransaction": 1, **lost}))

    stack.between.before_request = abort_first
    with Connection(stack.proxy.port) as raw:
        answer = raw.run(increment(name, 1))
    assert aborted[0]["ok"] == 1
    assert (answer["ok"], answer.get("nModified"), answer.get("errmsg")) == (1, 3, None)
    assert {d["n"] for d in stack.stored(name).values()} == {1}


def test_a_commit_that_was_asked_for_is_known_at_once(stack, collection, name):
    """The answer to the commit is lost, and the proxy learns that it is there: a retry that comes as
    soon as that was told gets the answer, too."""
    collection.insert_many([{"_id": i, "n": 0} for i in range(3)])
    which = lose(lambda c: next(iter(c)) == "commitTransaction", "reply", [])
    stack.between.before_request, stack.between.before_reply = which
    with Connection(stack.proxy.port) as raw:
        for _ in range(2):
            answer = raw.run(increment(name, 1))
            assert (answer["ok"], answer.get("nModified"), answer.get("errmsg")) == (1, 3, None)
    assert {d["n"] for d in stack.stored(name).values()} == {1}


@pytest.mark.parametrize("boundary", ["strict", "comment"])
def test_the_answer_has_the_time_of_the_commit(stack, collection, name, boundary):
    """A causally consistent session reads its own writes by operationTime and $clusterTime of the
    last answer: those of the statement are older than what the transaction has made."""
    collection.insert_many([{"_id": i, "n": 0} for i in range(3)])
    seen = []

    def others_write(command):
        if next(iter(command)) == "commitTransaction":
            stack.direct[DATABASE]["others"].insert_one({})

    stack.between.before_request = others_write
    stack.between.before_reply = lambda reply: seen.append(reply)
    comment = {"comment": {"unit": name, "begin": True, "last": True}}
    with Connection(stack.proxy.port) as raw:
        answer = raw.run(increment(name, 1, **(comment if boundary == "comment" else {})))
    times = [(r["operationTime"], r["$clusterTime"]) for r in seen if "operationTime" in r]
    assert (answer["ok"], answer["nModified"]) == (1, 3)
    assert (answer["operationTime"], answer["$clusterTime"]) == times[-1]
    assert times[-1] != times[-2]


def strict_write(collection, name):
    collection.insert_many([{"_id": i} for i in range(3)])


def failed_write(collection, name):
    with pytest.raises(BulkWriteError):
        collection.insert_many([{"_id": 0}, {"_id": 0}])


def comment_unit(collection, name):
    collection.insert_one({"_id": 1}, comment={"unit": name, "begin": True})
    collection.insert_one({"_id": 2}, comment={"unit": name, "last": True})


def comment_unit_left(collection, name):
    collection.insert_one({"_id": 1}, comment={"unit": name, "begin": True, "timeoutMS": 200})


def driver_transaction(collection, name):
    with collection.database.client.start_session() as session, session.start_transaction():
        collection.insert_one({"_id": 1}, session=session)


@pytest.mark.parametrize("lost", [False, True], ids=["answered", "lost"])
@pytest.mark.parametrize(
    "write", [strict_write, failed_write, comment_unit, comment_unit_left, driver_transaction]
)
def test_stable_api(stack, name, write, lost):
    """mongod wants every command of a transaction, its end too, with the API parameters of the
    first; also where the proxy's own connection ends it. The tests' server does not look."""
    stack.direct[DATABASE].create_collection(name)
    tap, ends = stack.between, ("commitTransaction", "abortTransaction")
    api = ServerApi("1", strict=True, deprecation_errors=False)
    with stack.proxy.client(server_api=api) as client:
        tap.commands.clear()
        if lost:
            which = lose(lambda c: next(iter(c)) in ends, "request", [])
            tap.before_request, tap.before_reply = which
        write(client[DATABASE][name], name)
        count = 2 if lost and write is not comment_unit_left else 1
        wait_until(lambda: sum(next(iter(c)) in ends for c in ours(tap)) >= count, 10, "it has ended")
    fields = ("apiVersion", "apiStrict", "apiDeprecationErrors")
    assert {tuple(command.get(f) for f in fields) for command in ours(tap)} == {("1", True, False)}


@pytest.mark.parametrize("point", ["native_committing", "native_sent", "native_answered"])
def test_killed_in_commit(point):
    """kill -9 of the proxy around the commit: recovery asks, and a retry gets the first answer."""
    lsid = {"id": Binary(b"sixteen bytes id", 4)}
    with Server(mode="replicaset") as server, server.client() as direct:
        direct[DATABASE].create_collection("c")
        with Proxy(server, STRICT) as proxy:
            proxy.restart(crash_at=f"{point}:1")
            with Connection(proxy.port) as raw:
                raw.send(encode_message(insert("c", 1, [1, 2], lsid)))
                assert proxy.process.wait(20) in (-signal.SIGKILL, 137)
            proxy.start()
            with Connection(proxy.port) as raw:
                again = raw.run(insert("c", 1, [1, 2], lsid))
            assert (again["ok"], again["n"], again.get("writeErrors")) == (1, 2, None)
            assert direct[DATABASE]["c"].count_documents({}) == 2

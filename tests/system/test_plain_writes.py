"""Plain writes that are units of their own: done once however often a driver asks, and, when they
write several documents, whole after any crash. Answers are mongo's own."""

import os
import threading

import bson
import pytest
from bson.int64 import Int64
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Connection, wait_until
from pymongo import DeleteMany, InsertOne, UpdateMany, UpdateOne, WriteConcern
from pymongo.errors import BulkWriteError, OperationFailure, WriteError

TOO_OLD = 225
INVALID_OPTIONS = 72
DUPLICATE = 11000


class Session:
    """Plain writes of one session with retry numbers, spoken command by command."""

    def __init__(self, lsid=None):
        self.lsid = lsid or {"id": bson.Binary(os.urandom(16), 4)}

    def run(self, port, number, command):
        with Connection(port) as raw:
            return raw.run(
                {**command, "lsid": self.lsid, "txnNumber": Int64(number), "$db": DATABASE}
            )


@pytest.fixture(scope="module")
def stack():
    with Stack({"upstream.fenceWait": "100ms"}) as made:
        yield made
        made.proxy.verify()


def inc(name, key=1):
    return {"update": name, "updates": [{"q": {"_id": key}, "u": {"$inc": {"n": 1}}}]}


# ---------------------------------------------------------------- done once

# name -> (command, what one execution leaves of {_id: 1, n: 0}). Each leaves something else the
# second time. The last ones are computed by the server.
ONCE = {
    "insert": ({"insert": None, "documents": [{"_id": 2}]}, [{"_id": 1, "n": 0}, {"_id": 2}]),
    "inc": (inc(None), [{"_id": 1, "n": 1}]),
    "fam": (
        {"findAndModify": None, "query": {"_id": 1}, "update": {"$inc": {"n": 1}}, "new": True},
        [{"_id": 1, "n": 1}],
    ),
    "delete": ({"delete": None, "deletes": [{"q": {}, "limit": 1}]}, []),
    "push": (
        {"update": None, "updates": [{"q": {"_id": 1}, "u": {"$push": {"a": 1}}}]},
        [{"_id": 1, "n": 0, "a": [1]}],
    ),
    "upsert": (
        {"update": None, "updates": [{"q": {"_id": 3}, "u": {"$inc": {"n": 1}}, "upsert": True}]},
        [{"_id": 1, "n": 0}, {"_id": 3, "n": 1}],
    ),
    "bulk": (
        {"insert": None, "documents": [{"_id": 4}, {"_id": 1}, {"_id": 5}], "ordered": False},
        [{"_id": 1, "n": 0}, {"_id": 4}, {"_id": 5}],
    ),
}
once = pytest.mark.parametrize("command,wanted", ONCE.values(), ids=ONCE.keys())


def named(command, name):
    first = next(iter(command))
    return {**command, first: name}


def in_order(stack, name):
    return sorted(stack.stored(name).values(), key=lambda d: d["_id"])


@once
@pytest.mark.parametrize("restart", [False, True], ids=["alive", "restarted"])
def test_retry_gets_the_same_answer(stack, name, command, wanted, restart):
    """The retry of an answered write: not carried out again, also not by the next proxy."""
    stack.direct[DATABASE][name].insert_one({"_id": 1, "n": 0})
    session = Session()
    command = named(command, name)
    first = session.run(stack.proxy.port, 1, command)
    assert first["ok"] == 1
    if restart:
        stack.proxy.restart()
    for _ in range(2):
        assert session.run(stack.proxy.port, 1, command) == first
    assert in_order(stack, name) == wanted


POINTS = ("unit_locked", "unit_journaled", "unit_sent", "unit_answered", "commit_durable")


@once
@pytest.mark.parametrize("point", POINTS)
def test_retry_after_a_crash(stack, name, command, wanted, point):
    """The proxy dies before its answer: the retry makes it exactly one execution."""
    stack.direct[DATABASE][name].insert_one({"_id": 1, "n": 0})
    session = Session()
    command = named(command, name)
    stack.proxy.restart(crash_at=point)
    assert session.run(stack.proxy.port, 1, command) is None
    stack.proxy.process.wait(10)
    stack.proxy.restart()
    first = session.run(stack.proxy.port, 1, command)
    assert first["ok"] == 1, first
    assert session.run(stack.proxy.port, 1, command) == first
    assert in_order(stack, name) == wanted


def test_numbers(stack, name):
    """A lower number than the session's newest is too old; a higher one is a new write; another
    session's or user's numbers are its own."""
    stack.direct[DATABASE][name].insert_one({"_id": 1, "n": 0})
    session = Session()
    for restart in (False, True):
        assert session.run(stack.proxy.port, 5, inc(name))["ok"] == 1
        assert session.run(stack.proxy.port, 4, inc(name))["code"] == TOO_OLD
        if not restart:
            stack.proxy.restart()
    assert session.run(stack.proxy.port, 4, inc(name))["code"] == TOO_OLD
    assert session.run(stack.proxy.port, 6, inc(name))["ok"] == 1
    assert Session().run(stack.proxy.port, 5, inc(name))["ok"] == 1
    assert in_order(stack, name) == [{"_id": 1, "n": 3}]


def test_numbers_of_transactions(stack, raw, name):
    """A number that was a transaction's is not a write's, and the other way round."""
    stack.direct[DATABASE][name].insert_one({"_id": 1, "n": 0})
    unit = RawTransaction(raw)
    assert unit.update(name, {"_id": 1}, {"$inc": {"n": 1}})["ok"] == 1
    session = Session(unit.lsid)
    assert session.run(stack.proxy.port, 1, inc(name))["code"] == INVALID_OPTIONS
    assert unit.commit()["ok"] == 1
    assert session.run(stack.proxy.port, 1, inc(name))["code"] == INVALID_OPTIONS
    # A write of a higher number ends the session's open transaction, as in mongod.
    late = RawTransaction(raw, lsid=unit.lsid, number=2)
    assert late.update(name, {"_id": 1}, {"$inc": {"n": 10}})["ok"] == 1
    assert session.run(stack.proxy.port, 3, inc(name))["ok"] == 1
    assert late.commit()["ok"] == 0
    assert in_order(stack, name) == [{"_id": 1, "n": 2}]


def test_a_refusal_is_an_answer(stack, name):
    """What the server refused once stays refused under that number."""
    stack.direct[DATABASE][name].insert_one({"_id": 1, "n": "text"})
    session = Session()
    first = session.run(stack.proxy.port, 1, inc(name))
    assert first["writeErrors"][0]["index"] == 0
    stack.direct[DATABASE][name].update_one({"_id": 1}, {"$set": {"n": 0}})
    assert session.run(stack.proxy.port, 1, inc(name)) == first
    assert session.run(stack.proxy.port, 2, inc(name))["nModified"] == 1
    assert in_order(stack, name) == [{"_id": 1, "n": 1}]


def test_pass(name):
    """unit.retryableWrites: pass takes the number off and forwards."""
    with Stack({"unit.retryableWrites": "pass", "unit.multiWrites": "off"}) as stack:
        client = stack.proxy.client()
        client[DATABASE][name].insert_many([{"_id": i} for i in range(3)])
        assert client[DATABASE][name].update_many({}, {"$set": {"a": 1}}).modified_count == 3
        client.close()
        assert stack.proxy.units() == []


# ---------------------------------------------------------------- several documents

# Answers and remains are compared with those of the same command straight at the server.
SEVERAL = {
    "ordered": lambda c: c.insert_many([{"_id": i} for i in (10, 11, 1, 12)]),
    "unordered": lambda c: c.insert_many(
        [{"_id": i} for i in (10, 1, 11, 11, 2, 12)], ordered=False
    ),
    "unique": lambda c: c.insert_many(
        [{"_id": 10, "u": 1}, {"_id": 11, "u": 7}, {"_id": 12, "u": 7}, {"_id": 13, "u": 8}],
        ordered=False,
    ),
    "unique_ordered": lambda c: c.insert_many(
        [{"_id": 10, "u": 7}, {"_id": 11, "u": 1}, {"_id": 12, "u": 9}]
    ),
    "update_many": lambda c: c.update_many({"a": {"$gte": 1}}, {"$set": {"b": 1}}),
    "update_same": lambda c: c.update_many({}, {"$set": {"same": 1}}),
    "delete_many": lambda c: c.delete_many({"a": {"$lt": 2}}),
    "bulk": lambda c: c.bulk_write(
        [
            InsertOne({"_id": 20}),
            UpdateOne({"_id": 20}, {"$set": {"v": 1}}),
            UpdateOne({"_id": 21}, {"$set": {"v": 2}}, upsert=True),
            UpdateMany({}, {"$inc": {"c": 1}}),
            DeleteMany({"a": 0}),
            InsertOne({"_id": 1}),
            InsertOne({"_id": 22}),
        ],
        ordered=True,
    ),
    "bulk_unordered": lambda c: c.bulk_write(
        [
            UpdateOne({"_id": 1}, {"$inc": {"mixed": 1}}),
            UpdateOne({"_id": 2}, {"$inc": {"mixed": 1}}),
            InsertOne({"_id": 1}),
            UpdateOne({"_id": 30}, {"$set": {"v": 2}}, upsert=True),
        ],
        ordered=False,
    ),
}


def answer_of(write, collection):
    try:
        result = write(collection)
    except BulkWriteError as error:
        details = error.details
        for entry in details["writeErrors"]:
            entry.pop("op", None)
            entry["errmsg"] = entry["errmsg"].replace(collection.name, "NAME")
        return details
    if hasattr(result, "bulk_api_result"):
        return result.bulk_api_result
    return {
        field: getattr(result, field)
        for field in ("inserted_ids", "matched_count", "modified_count", "deleted_count")
        if hasattr(result, field)
    }


@pytest.mark.parametrize("write", SEVERAL.values(), ids=SEVERAL.keys())
def test_several_as_mongo_does(stack, client, name, write):
    """What mongo answered stays: the 99 beside one duplicate, and its words for the one."""
    before = [{"_id": i, "a": i, "u": i, "same": 1, "mixed": i if i != 1 else "x"} for i in range(4)]
    answers = []
    remains = []
    for collection in (stack.direct[DATABASE][name + "_direct"], client[DATABASE][name]):
        stack.direct[DATABASE][collection.name].insert_many(before)
        stack.direct[DATABASE][collection.name].create_index("u", unique=True, sparse=True)
        try:
            answers.append(answer_of(write, collection))
        except Exception as error:  # the same one both ways
            answers.append((type(error), getattr(error, "code", None)))
        remains.append(stack.stored(collection.name))
    assert answers[1] == answers[0]
    assert remains[1] == remains[0]


def test_update_many_that_fails_in_the_middle(stack, client, name):
    """As in mongod: the documents before the failing one stay changed, and count for nothing."""
    before = [{"_id": i, "mixed": i if i != 2 else "x"} for i in range(4)]
    collection = client[DATABASE][name]
    stack.direct[DATABASE][name].insert_many(before)
    with pytest.raises(WriteError):
        collection.update_many({}, {"$inc": {"mixed": 1}})
    with pytest.raises(BulkWriteError) as caught:
        collection.bulk_write([UpdateMany({"_id": {"$gt": 1}}, {"$inc": {"mixed": 1}})])
    assert (caught.value.details["nMatched"], caught.value.details["nModified"]) == (0, 0)
    assert [d["mixed"] for d in in_order(stack, name)] == [1, 2, "x", 3]


@pytest.mark.parametrize("point", ("unit_journaled", "unit_sent", "unit_answered"))
@pytest.mark.parametrize("time", (1, 2, 3))
def test_crash_leaves_nothing_of_it(stack, name, point, time):
    """What a crash leaves unanswered is undone: inserts, updates and deletes of many documents."""
    count = 1500  # several batches
    before = {i: {"_id": i, "n": 0} for i in range(count)}
    commands = {
        "insert": ({}, {"insert": name, "documents": list(before.values())}),
        "update": (
            before,
            {"update": name, "updates": [{"q": {}, "u": {"$inc": {"n": 1}}, "multi": True}]},
        ),
        "delete": (before, {"delete": name, "deletes": [{"q": {}, "limit": 0}]}),
    }
    collection = stack.direct[DATABASE][name]
    for kind, (there, command) in commands.items():
        if kind == "insert" and time > 2:
            continue  # 1,000 documents a batch
        collection.delete_many({})
        if there:
            collection.insert_many(there.values())
        stack.proxy.restart(crash_at=f"{point}:{time}")
        with Connection(stack.proxy.port) as raw:
            assert raw.run({**command, "$db": DATABASE}) is None
        stack.proxy.process.wait(10)
        stack.proxy.restart()
        assert stack.stored(name) == there, kind


def test_strict(name):
    """unit.multiWrites: strict undoes the whole command for one error."""
    with Stack({"unit.multiWrites": "strict"}) as stack:
        with stack.proxy.client() as client:
            collection = client[DATABASE][name]
            collection.insert_one({"_id": 1})
            for ordered in (True, False):
                with pytest.raises(BulkWriteError) as caught:
                    collection.insert_many([{"_id": 0}, {"_id": 1}, {"_id": 2}], ordered=ordered)
                assert caught.value.details["nInserted"] == 0
                assert [e["code"] for e in caught.value.details["writeErrors"]] == [DUPLICATE]
            assert stack.stored(name) == {1: {"_id": 1}}
            assert collection.update_many({}, {"$set": {"a": 1}}).modified_count == 1


def test_unacknowledged(stack, client, name):
    """w:0 of several documents: done, in the end."""
    silent = client[DATABASE].get_collection(name, write_concern=WriteConcern(w=0))
    silent.insert_many([{"_id": i} for i in range(20)])
    wait_until(lambda: len(stack.stored(name)) == 20, 5, "the documents")


def test_several_wait_for_units(stack, client, raw, name):
    """A multi write meets an open unit's document: it waits, then writes what is there then."""
    collection = client[DATABASE][name]
    collection.insert_many([{"_id": i, "n": 0} for i in range(3)])
    unit = RawTransaction(raw)
    unit.update(name, {"_id": 1}, {"$set": {"n": 10}})
    with stack.proxy.client(maxPoolSize=1) as other:
        done = []
        thread = threading.Thread(
            target=lambda: done.append(other[DATABASE][name].update_many({}, {"$inc": {"n": 1}}))
        )
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        assert unit.commit()["ok"] == 1
        thread.join(10)
        assert done[0].modified_count == 3
    assert [d["n"] for d in in_order(stack, name)] == [1, 11, 1]


def test_documents_too_big_for_a_record(stack, client, name):
    """A plain write of one document works whatever its size, beside units and retried or not."""
    collection = client[DATABASE][name]
    text = "x" * 15_000_000
    collection.insert_one({"_id": 1, "t": text})
    collection.update_one({"_id": 1}, {"$set": {"a": 1}})
    collection.update_one({"_id": 1}, {"$push": {"b": 1}})
    result = collection.find_one_and_update({"_id": 1}, {"$inc": {"a": 1}}, {"a": 1, "b": 1})
    assert result == {"_id": 1, "a": 1, "b": [1]}
    assert stack.stored(name) == {1: {"_id": 1, "t": text, "a": 2, "b": [1]}}
    with pytest.raises(OperationFailure, match="this big") as caught:
        collection.update_many({}, {"$set": {"a": 3}})
    assert caught.value.code == 263
    assert collection.delete_one({"a": 2}).deleted_count == 1
    collection.insert_one({"_id": 2, "t": "x" * 16_777_100})
    assert list(stack.stored(name)) == [2]


def test_find_and_modify_whose_projection_fails(stack, client, name):
    """The write that was done before the projection failed is undone: an error says that nothing
    was done."""
    stack.direct[DATABASE][name].insert_one({"_id": 1, "n": 0})
    for after in (False, True):
        with pytest.raises(OperationFailure):
            client[DATABASE][name].find_one_and_update(
                {"_id": 1}, {"$inc": {"n": 1}}, {"n": {"$noSuchOperator": 1}}, return_document=after
            )
        assert stack.stored(name) == {1: {"_id": 1, "n": 0}}


def test_limit(name):
    """More documents than unit.maxWrites: refused whole, with a clear message."""
    with Stack({"unit.maxWrites": "100"}) as stack:
        with stack.proxy.client() as client:
            collection = client[DATABASE][name]
            stack.direct[DATABASE][name].insert_many([{"_id": i} for i in range(150)])
            with pytest.raises(Exception, match="unit.maxWrites") as caught:
                collection.update_many({}, {"$set": {"a": 1}})
            assert caught.value.code == 257
            assert not any("a" in d for d in stack.stored(name).values())


@pytest.mark.parametrize("level", ["snapshot", "majority", "no such level"])
def test_another_read_concern_is_refused(raw, stack, name, level):
    """A write that becomes a unit takes the newest data; mongod refuses to promise it another view."""
    session = Session().lsid
    write = {"insert": name, "documents": [{"_id": 1}], "lsid": session, "txnNumber": Int64(1)}
    reply = raw.run({**write, "readConcern": {"level": level}, "$db": DATABASE})
    assert reply["ok"] == 0 and reply["code"] == INVALID_OPTIONS
    assert stack.stored(name) == {}
    assert raw.run({**write, "readConcern": {"level": "local"}, "$db": DATABASE})["ok"] == 1

"""Driver transactions on a server that has none: what a service sees through the proxy."""

import datetime
import json
import signal
import struct
import sys
import threading
import time
import uuid

import bson
import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from conftest import DATABASE, RawTransaction, Stack, is_transient
from holdfast_testing import Connection, Process, encode_message, holdfast, wait_until
from pymongo import InsertOne, ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

NO_SUCH_TRANSACTION = 251
WRITE_CONFLICT = 112


@pytest.fixture
def session(client):
    with client.start_session() as made:
        yield made


# ---------------------------------------------------------------- commit and abort


def test_with_transaction_commits(stack, client, collection, name):
    """A committed unit's writes are all there."""

    def body(session):
        collection.insert_one({"_id": 1}, session=session)
        collection.insert_one({"_id": 2}, session=session)
        collection.update_one({"_id": 1}, {"$set": {"a": 1}}, session=session)
        return "done"

    with client.start_session() as session:
        assert session.with_transaction(body) == "done"
    assert stack.stored(name) == {1: {"_id": 1, "a": 1}, 2: {"_id": 2}}


def test_exception_aborts(stack, client, collection, name):
    """An exception in the service rolls everything back: inserted, changed, replaced, deleted."""
    before = [{"_id": i, "a": i, "nested": {"x": [1, 2]}} for i in range(4)]
    collection.insert_many(before)

    def body(session):
        collection.insert_one({"_id": 9}, session=session)
        collection.update_one({"_id": 0}, {"$set": {"a": 9}, "$unset": {"nested": 1}}, session=session)
        collection.replace_one({"_id": 1}, {"b": 1}, session=session)
        collection.delete_one({"_id": 2}, session=session)
        collection.update_one({"_id": 0}, {"$inc": {"a": 1}}, session=session)
        collection.find_one_and_update({"k": 1}, {"$set": {"v": 1}}, upsert=True, session=session)
        raise KeyError("the service's own")

    with client.start_session() as session, pytest.raises(KeyError):
        session.with_transaction(body)
    # In no order: a document that was deleted and restored comes last in the natural one.
    assert stack.stored(name) == {document["_id"]: document for document in before}


def test_delete_then_insert_of_one_id(stack, session, collection, name):
    """Several writes to one document collapse to its first image when they are undone."""
    collection.insert_one({"_id": 1, "v": 0})
    with session.start_transaction():
        collection.delete_one({"_id": 1}, session=session)
        collection.insert_one({"_id": 1, "v": 1}, session=session)
        collection.delete_one({"_id": 1}, session=session)
        session.abort_transaction()
    assert stack.stored(name) == {1: {"_id": 1, "v": 0}}
    with session.start_transaction():
        collection.delete_one({"_id": 1}, session=session)
        collection.insert_one({"_id": 1, "v": 1}, session=session)
    assert stack.stored(name) == {1: {"_id": 1, "v": 1}}


def test_many_units_on_one_session(stack, session, collection, name):
    for number in range(20):
        session.start_transaction()
        collection.insert_one({"_id": number}, session=session)
        if number % 3:
            session.commit_transaction()
        else:
            session.abort_transaction()
    assert sorted(stack.stored(name)) == [n for n in range(20) if n % 3]


def test_empty_and_reading_units(session, collection):
    """Units that write nothing commit and abort as well."""
    with session.start_transaction():
        pass
    with session.start_transaction():
        assert collection.find_one({}, session=session) is None
    session.start_transaction()
    collection.find_one({}, session=session)
    session.abort_transaction()


def test_units_of_several_collections(stack, client, session, name):
    """One unit over databases and collections, some of which do not exist yet."""
    places = [client[DATABASE][name], client[DATABASE][name + "b"], client[DATABASE + "2"][name]]
    with session.start_transaction():
        for place in places:
            place.insert_one({"_id": 1}, session=session)
        session.abort_transaction()
    assert [place.count_documents({}) for place in places] == [0, 0, 0]
    with session.start_transaction():
        for place in places:
            place.insert_one({"_id": 1}, session=session)
    assert [place.count_documents({}) for place in places] == [1, 1, 1]


# ---------------------------------------------------------------- reads inside


def raw_document(*elements):
    body = b"".join(elements)
    return RawBSONDocument(struct.pack("<i", len(body) + 5) + body + b"\x00")


def test_bytes_of_other_fields_are_kept(stack, raw, name):
    """Code with a NUL inside, which libbson's appending would cut: an insert stores the bytes it
    was given, an update changes none that it does not name."""
    code = b"\x0dcode\x00" + struct.pack("<i", 4) + b"a\x00b\x00"

    def document(key, value):
        number = struct.pack("<i", value)
        return raw_document(
            b"\x10_id\x00" + struct.pack("<i", key), code, b"\x10v\x00" + number
        )

    options = CodecOptions(document_class=RawBSONDocument)
    direct = stack.direct[DATABASE].get_collection(name, codec_options=options)
    direct.insert_one(document(2, 0))
    unit = RawTransaction(raw)
    assert unit.insert(name, document(1, 0))["ok"] == 1
    assert unit.update(name, {"_id": 2}, {"$inc": {"v": 1}})["ok"] == 1
    assert unit.commit()["ok"] == 1
    assert direct.find_one({"_id": 1}).raw == document(1, 0).raw
    assert direct.find_one({"_id": 2}).raw == document(2, 1).raw


def test_own_writes_are_seen(session, collection):
    """Reads inside a unit see its own writes, by find, aggregate, count and cursor."""
    collection.insert_many([{"_id": i, "a": 0} for i in range(10)])
    with session.start_transaction():
        collection.insert_one({"_id": 100, "a": 1}, session=session)
        collection.update_one({"_id": 1}, {"$set": {"a": 1}}, session=session)
        collection.delete_one({"_id": 2}, session=session)
        assert collection.find_one({"_id": 100}, session=session) == {"_id": 100, "a": 1}
        assert collection.count_documents({"a": 1}, session=session) == 2
        assert collection.find_one({"_id": 2}, session=session) is None
        ids = [d["_id"] for d in collection.find({}, session=session, batch_size=3).sort("_id")]
        assert ids == [0, 1, *range(3, 10), 100]
        assert sorted(collection.distinct("a", session=session)) == [0, 1]


# ---------------------------------------------------------------- each write's reply


def test_replies_of_updates(session, collection):
    """n, nModified and upserted are what mongo would have answered."""
    collection.insert_one({"_id": 1, "a": 1})
    with session.start_transaction():
        result = collection.update_one({"_id": 1}, {"$set": {"a": 2}}, session=session)
        assert (result.matched_count, result.modified_count) == (1, 1)
        result = collection.update_one({"_id": 1}, {"$set": {"a": 2}}, session=session)
        assert (result.matched_count, result.modified_count) == (1, 0)
        result = collection.update_one({"_id": 5}, {"$set": {"a": 2}}, session=session)
        assert (result.matched_count, result.modified_count) == (0, 0)
        result = collection.update_one({"_id": 6}, {"$set": {"a": 2}}, upsert=True, session=session)
        assert (result.matched_count, result.upserted_id) == (0, 6)
        result = collection.update_one({"k": "x"}, {"$set": {"a": 3}}, upsert=True, session=session)
        made = result.upserted_id
        assert collection.find_one({"k": "x"}, session=session) == {"_id": made, "k": "x", "a": 3}
        result = collection.replace_one({"_id": 1}, {"b": 1}, session=session)
        assert (result.matched_count, result.modified_count) == (1, 1)
    assert collection.find_one({"_id": 1}) == {"_id": 1, "b": 1}


def test_replies_of_deletes(session, collection):
    collection.insert_one({"_id": 1})
    with session.start_transaction():
        assert collection.delete_one({"_id": 1}, session=session).deleted_count == 1
        assert collection.delete_one({"_id": 1}, session=session).deleted_count == 0


def test_find_and_modify(session, collection):
    """Before and after, sort, projection, remove, and nothing found."""
    collection.insert_many([{"_id": i, "n": 10 - i, "x": 0} for i in range(3)])
    after = ReturnDocument.AFTER
    with session.start_transaction():
        found = collection.find_one_and_update({"_id": 0}, {"$inc": {"x": 1}}, session=session)
        assert found == {"_id": 0, "n": 10, "x": 0}
        found = collection.find_one_and_update(
            {"_id": 0}, {"$inc": {"x": 1}}, return_document=after, session=session
        )
        assert found == {"_id": 0, "n": 10, "x": 2}
        found = collection.find_one_and_update(
            {}, {"$set": {"x": 7}}, sort=[("n", 1)], projection={"n": 1}, session=session
        )
        assert found == {"_id": 2, "n": 8}
        assert collection.find_one_and_delete({"_id": 1}, session=session)["n"] == 9
        assert collection.find_one_and_delete({"_id": 1}, session=session) is None
        found = collection.find_one_and_replace(
            {"_id": 2}, {"y": 1}, return_document=after, session=session
        )
        assert found == {"_id": 2, "y": 1}
        found = collection.find_one_and_update({"_id": 77}, {"$set": {"x": 1}}, session=session)
        assert found is None
    assert sorted(d["_id"] for d in collection.find()) == [0, 2]


def test_find_and_modify_upsert_of_a_part(stack, session, collection, name):
    """The one write that orchestrators have: {$and: [key]} {$set: part}, upsert, new."""
    key = {"project": "p", "app": "a"}
    options = {"upsert": True, "return_document": ReturnDocument.AFTER, "session": session}
    query = {"$and": [key]}
    with session.start_transaction():
        first = collection.find_one_and_update(query, {"$set": {"data": {"t": 1}}}, **options)
        second = collection.find_one_and_update(query, {"$set": {"content": "c"}}, **options)
    assert first["_id"] == second["_id"]
    assert stack.stored(name) == {
        first["_id"]: {"_id": first["_id"], **key, "data": {"t": 1}, "content": "c"}
    }


def test_last_error_object(raw, name):
    """findAndModify's lastErrorObject, as the server would have said it."""
    unit = RawTransaction(raw)
    command = {"findAndModify": name, "query": {"_id": 1}, "update": {"$set": {"a": 1}}}
    reply = unit.run({**command, "upsert": True, "new": True})
    assert reply["ok"] == 1
    assert reply["value"] == {"_id": 1, "a": 1}
    assert reply["lastErrorObject"] == {"n": 1, "updatedExisting": False, "upserted": 1}
    reply = unit.run(command)
    assert reply["value"] == {"_id": 1, "a": 1}
    assert reply["lastErrorObject"] == {"n": 1, "updatedExisting": True}
    assert unit.commit()["ok"] == 1


def test_several_statements_in_one_command(stack, session, collection, name):
    """A bulk inside a unit: each statement is journaled and undone."""
    with session.start_transaction():
        collection.insert_many([{"_id": i} for i in range(50)], session=session)
        collection.bulk_write(
            [UpdateOne({"_id": i}, {"$set": {"a": i}}) for i in range(50)], session=session
        )
        session.abort_transaction()
    assert stack.stored(name) == {}
    with session.start_transaction():
        collection.insert_many([{"_id": i} for i in range(50)], session=session)
        collection.bulk_write(
            [UpdateOne({"_id": i}, {"$set": {"a": i}}) for i in range(50)], session=session
        )
    assert stack.stored(name) == {i: {"_id": i, "a": i} for i in range(50)}


def test_operators_that_do_not_repeat(stack, session, collection, name):
    """$inc, $push, $mul, array filters and pipelines: done once."""
    collection.insert_one({"_id": 1, "n": 1, "list": [1, 2, 3]})
    with session.start_transaction():
        collection.update_one({"_id": 1}, {"$inc": {"n": 2}, "$push": {"list": 4}}, session=session)
        collection.update_one({"_id": 1}, {"$mul": {"n": 10}}, session=session)
        collection.update_one(
            {"_id": 1}, {"$set": {"list.$[e]": 0}}, array_filters=[{"e": {"$gt": 2}}], session=session
        )
        collection.update_one({"_id": 1}, [{"$set": {"m": {"$add": ["$n", 1]}}}], session=session)
    assert stack.stored(name)[1] == {"_id": 1, "n": 30, "list": [1, 2, 0, 0], "m": 31}


def test_positional_operators(stack, session, collection, name):
    """`a.$` changes what the filter matched, though the document is found before it is changed."""
    collection.insert_many([{"_id": i, "list": [1, i, 3], "of": [{"k": i, "v": 0}]} for i in (2, 5)])
    try:
        stack.direct[DATABASE][name].update_one({"list": 2}, {"$set": {"list.$": 2}})
    except OperationFailure as error:
        pytest.skip(f"this server has no positional operator: {error}")
    with session.start_transaction():
        collection.update_one({"list": 2}, {"$set": {"list.$": 20}}, session=session)
        collection.update_many({"of.k": {"$gt": 1}}, {"$inc": {"of.$.v": 1}}, session=session)
        collection.find_one_and_update(
            {"_id": 5, "of": {"$elemMatch": {"k": 5}}}, {"$push": {"of.$.w": 1}}, session=session
        )
    assert stack.stored(name) == {
        2: {"_id": 2, "list": [1, 20, 3], "of": [{"k": 2, "v": 1}]},
        5: {"_id": 5, "list": [1, 5, 3], "of": [{"k": 5, "v": 1, "w": [1]}]},
    }


def test_filter_is_not_asked_twice(stack, raw, name):
    """What a server-computed update is sent with, and a recovery asks about, has no filter beside
    the _id: $text would need an index that the scratch collection has not."""
    stack.direct[DATABASE][name].insert_one({"_id": 1, "n": 2, "t": "words"})
    unit = RawTransaction(raw)
    assert unit.update(name, {"t": "words"}, {"$mul": {"n": 3}})["ok"] == 1
    number = max(one["unit"] for one in stack.proxy.units() if one["state"] == "open")
    shown = holdfast("show", number, "--json", "--wal", stack.proxy.wal, check=0).stdout
    write = json.loads(shown)["writes"][0]
    assert write["command"]["query"] == {"$and": [{"_id": 1}]}
    assert unit.commit()["ok"] == 1
    assert stack.stored(name)[1]["n"] == 6


def test_time_becomes_a_literal(stack, session, collection, name):
    """$currentDate and $$NOW: one time for a command, wherever an expression may stand."""
    collection.insert_many([{"_id": i, "n": i} for i in range(3)])
    before = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(milliseconds=1)
    with session.start_transaction():
        collection.update_many(
            {},
            {
                "$currentDate": {"at": True, "stamp": {"$type": "timestamp"}, "x.y": {"$type": "date"}},
                "$set": {"s": "$$NOW"},
                "$inc": {"n": 1},
            },
            session=session,
        )
        collection.update_one(
            {"$and": [{"$expr": {"$lte": ["$at", "$$NOW"]}}, {"_id": 1}]},
            [{"$set": {"now": "$$NOW", "deep": {"in": ["$$NOW", {"$literal": "$$NOW"}]}}}],
            session=session,
        )
        collection.update_one(
            {"_id": 9}, {"$currentDate": {"at": False}, "$setOnInsert": {"new": 1}}, upsert=True, session=session
        )
    after = datetime.datetime.now(datetime.timezone.utc)
    stored = stack.stored(name)

    def is_now(value):
        return before - datetime.timedelta(milliseconds=1) <= value.replace(tzinfo=datetime.timezone.utc) <= after

    assert len({stored[i]["at"] for i in range(3)}) == 1
    for i in range(3):
        assert is_now(stored[i]["at"]) and is_now(stored[i]["x"]["y"])
        assert isinstance(stored[i]["stamp"], bson.Timestamp)
        assert abs(stored[i]["stamp"].time - after.timestamp()) < 60
        assert stored[i]["s"] == "$$NOW" and stored[i]["n"] == i + 1
    assert is_now(stored[1]["now"]) and is_now(stored[1]["deep"]["in"][0])
    assert stored[1]["deep"]["in"][1] == "$$NOW"
    assert is_now(stored[9]["at"]) and stored[9]["new"] == 1


def test_random_values(stack, session, collection, name):
    """$rand: another value at each place and in each document; once for all in let."""
    collection.insert_many([{"_id": i} for i in range(40)])
    with session.start_transaction():
        result = collection.update_many(
            {}, [{"$set": {"a": {"$rand": {}}, "b": {"$multiply": [{"$rand": {}}, 10]}}}], session=session
        )
        assert result.modified_count == 40
        removed = collection.delete_many({"$expr": {"$lt": [{"$rand": {}}, 0.5]}}, session=session)
    stored = stack.stored(name)
    assert 0 < removed.deleted_count < 40 and len(stored) == 40 - removed.deleted_count
    assert all(0 <= one["a"] < 1 and 0 <= one["b"] < 10 for one in stored.values())
    assert len({one["a"] for one in stored.values()} | {one["b"] / 10 for one in stored.values()}) == 2 * len(stored)


@pytest.mark.parametrize(
    "update, code",
    [
        ({"$currentDate": {"a": 1}}, 2),
        ({"$currentDate": {"a": {"$type": "year"}}}, 2),
        ([{"$set": {"a": "$$CLUSTER_TIME"}}], 263),
    ],
)
def test_time_that_is_refused(stack, session, collection, name, update, code):
    """What $currentDate does not take, and what no literal can stand for."""
    collection.insert_one({"_id": 1})
    session.start_transaction()
    with pytest.raises(OperationFailure) as caught:
        collection.update_one({"_id": 1}, update, session=session)
    session.abort_transaction()
    assert caught.value.code == code
    assert stack.stored(name) == {1: {"_id": 1}}


def test_big_documents(stack, session, collection, name):
    """A document of 5 MB is written, changed and rolled back; a larger one is refused or works."""
    text = "x" * 5_000_000
    collection.insert_one({"_id": 1, "t": text})
    with session.start_transaction():
        collection.update_one({"_id": 1}, {"$set": {"a": 1}}, session=session)
        collection.insert_one({"_id": 2, "t": text}, session=session)
        session.abort_transaction()
    assert stack.stored(name) == {1: {"_id": 1, "t": text}}
    collection.insert_one({"_id": 3, "t": "y" * 15_000_000})
    session.start_transaction()
    try:
        collection.update_one({"_id": 3}, {"$set": {"a": 1}}, session=session)
    except OperationFailure as error:
        assert error.code is not None
    session.abort_transaction()
    assert stack.stored(name)[3] == {"_id": 3, "t": "y" * 15_000_000}


# ---------------------------------------------------------------- errors


def test_duplicate_key_aborts(stack, session, collection, name):
    """As with mongo: the unit is over, the next command says NoSuchTransaction, transient."""
    collection.insert_one({"_id": 1})
    session.start_transaction()
    collection.insert_one({"_id": 2}, session=session)
    with pytest.raises(DuplicateKeyError):
        collection.insert_one({"_id": 1}, session=session)
    with pytest.raises(OperationFailure) as caught:
        collection.insert_one({"_id": 3}, session=session)
    assert caught.value.code == NO_SUCH_TRANSACTION
    assert caught.value.has_error_label("TransientTransactionError")
    session.abort_transaction()
    assert stack.stored(name) == {1: {"_id": 1}}


def test_unique_index_aborts(stack, session, collection, name):
    """The same for another unique index, met by an update."""
    collection.create_index("u", unique=True)
    collection.insert_many([{"_id": 1, "u": 1}, {"_id": 2, "u": 2}])
    session.start_transaction()
    collection.insert_one({"_id": 3, "u": 3}, session=session)
    with pytest.raises(OperationFailure) as caught:
        collection.update_one({"_id": 2}, {"$set": {"u": 1}}, session=session)
    assert caught.value.code == 11000
    session.abort_transaction()
    wait_until(
        lambda: stack.stored(name) == {1: {"_id": 1, "u": 1}, 2: {"_id": 2, "u": 2}},
        5,
        "the unit is rolled back",
    )


def test_bulk_error_aborts(stack, session, collection, name):
    """A bulk's error has its index; nothing of the unit stays."""
    collection.insert_one({"_id": 1})
    session.start_transaction()
    with pytest.raises(BulkWriteError) as caught:
        collection.bulk_write(
            [InsertOne({"_id": 2}), InsertOne({"_id": 1}), InsertOne({"_id": 3})], session=session
        )
    assert caught.value.details["writeErrors"][0]["index"] == 1
    session.abort_transaction()
    wait_until(lambda: stack.stored(name) == {1: {"_id": 1}}, 5, "the unit is rolled back")


def test_bad_update_aborts(stack, session, collection, name):
    """An error of the server inside a unit leaves it as mongo would: aborted."""
    collection.insert_one({"_id": 1, "s": "text"})
    session.start_transaction()
    collection.insert_one({"_id": 2}, session=session)
    with pytest.raises(OperationFailure):
        collection.update_one({"_id": 1}, {"$inc": {"s": 1}}, session=session)
    with pytest.raises(OperationFailure) as caught:
        session.commit_transaction()
    assert caught.value.code == NO_SUCH_TRANSACTION
    assert stack.stored(name) == {1: {"_id": 1, "s": "text"}}


NOT_IN_A_TRANSACTION = {
    "count": {"count": "c"},
    "dropDatabase": {"dropDatabase": 1},
    "listCollections": {"listCollections": 1},
    "drop": {"drop": "c"},
    "renameCollection": {"renameCollection": "test.c", "to": "test.d"},
    "mapReduce": {"mapReduce": "c", "map": "x", "reduce": "y", "out": {"inline": 1}},
    "aggregate $out": {"aggregate": "c", "pipeline": [{"$out": "d"}], "cursor": {}},
    "aggregate $merge": {"aggregate": "c", "pipeline": [{"$merge": "d"}], "cursor": {}},
}


@pytest.mark.parametrize("command", NOT_IN_A_TRANSACTION.values(), ids=NOT_IN_A_TRANSACTION.keys())
def test_not_in_a_transaction(stack, raw, name, command):
    """What a transaction cannot hold is a clear error, and the unit is rolled back."""
    unit = RawTransaction(raw)
    assert unit.insert(name, {"_id": 1})["ok"] == 1
    reply = unit.run(command, "admin" if "renameCollection" in command else DATABASE)
    assert reply["ok"] == 0
    assert len(reply["errmsg"]) > 10
    assert reply.get("code", 0) > 0
    reply = unit.commit()
    assert reply["ok"] == 0 and reply["code"] == NO_SUCH_TRANSACTION
    assert stack.stored(name) == {}


# name -> (write, (matched, modified) or the number removed, what is there afterwards). The first two
# updates are computed by the proxy, the others by the server.
MULTI_WRITES = {
    "set": (lambda c, s: c.update_many({}, {"$set": {"a": 1}}, session=s), (7, 6), {"a": 1}),
    "inc": (
        lambda c, s: c.update_many({"a": 0}, {"$inc": {"n": 1}}, session=s),
        (6, 6),
        {"n": 1},
    ),
    "mul": (lambda c, s: c.update_many({"a": 0}, {"$mul": {"n": 2}}, session=s), (6, 6), {"n": 0}),
    "pipeline": (
        lambda c, s: c.update_many({"a": 0}, [{"$set": {"m": "$a"}}], session=s),
        (6, 6),
        {"m": 0},
    ),
    "delete": (lambda c, s: c.delete_many({"a": 0}, session=s), 6, None),
    "none": (lambda c, s: c.update_many({"a": 5}, {"$set": {"b": 1}}, session=s), (0, 0), {}),
}


@pytest.mark.parametrize("end", ["commit", "abort"])
@pytest.mark.parametrize(
    "write,counts,changed", MULTI_WRITES.values(), ids=MULTI_WRITES.keys()
)
def test_multi_writes(stack, session, collection, name, write, counts, changed, end):
    """updateMany and deleteMany inside a unit answer as mongo does, see the unit's own writes, and
    are undone whole."""
    before = {i: {"_id": i, "a": 0 if i else 1} for i in range(6)}
    collection.insert_many(before.values())
    session.start_transaction()
    collection.insert_one({"_id": 10, "a": 0}, session=session)
    result = write(collection, session)
    if changed is None:
        assert result.deleted_count == counts
    else:
        assert (result.matched_count, result.modified_count) == counts
    getattr(session, end + "_transaction")()
    if end == "abort":
        assert stack.stored(name) == before
    elif changed is None:
        assert stack.stored(name) == {0: before[0]}
    else:
        stored = stack.stored(name)
        assert len(stored) == 7
        matched = [d for d in stored.values() if changed.items() <= d.items()]
        assert len(matched) == (7 if counts[0] in (7, 0) else 6)


# filter, update, the document that it makes
NEW_IDS = {
    "in": ({"_id": {"$in": [7]}}, {"$set": {"v": 1}}, {"_id": 7, "v": 1}),
    "in_and": ({"$and": [{"_id": {"$in": [7]}}]}, {"$mul": {"v": 1}}, {"_id": 7, "v": 0}),
    "set": ({"k": 1}, {"$set": {"_id": 7}}, {"_id": 7, "k": 1}),
    "set_on_insert": ({"k": 1}, {"$setOnInsert": {"_id": 7}}, {"_id": 7, "k": 1}),
    "replacement": ({"k": 1}, {"_id": 7, "v": 1}, {"_id": 7, "v": 1}),
    "pipeline": ({"_id": 7}, [{"$set": {"v": 1}}], {"_id": 7, "v": 1}),
}


@pytest.mark.parametrize("case", NEW_IDS)
def test_new_id_of_an_upsert(stack, raw, name, case):
    """The _id comes from where mongo takes it, and the abort takes that document away again."""
    query, update, made = NEW_IDS[case]
    updates = [{"q": query, "u": update, "upsert": True}]
    unit = RawTransaction(raw)
    reply = unit.run({"update": name, "updates": updates})
    assert reply.get("upserted") == [{"index": 0, "_id": 7}], reply
    assert stack.stored(name) == {7: made}
    assert unit.abort()["ok"] == 1
    assert stack.stored(name) == {}


@pytest.mark.parametrize(
    "stage",
    [{"$set": {"_id": 7}}, {"$addFields": {"_id": 7}}, {"$replaceWith": {"_id": 7, "k": 1}}],
    ids=lambda stage: next(iter(stage))[1:],
)
def test_new_id_that_is_not_known_beforehand(name, stage):
    """An upsert by pipeline whose _id the server computes is refused, or set aside if the server
    has done it: a document that the journal does not name is not undone by anything."""
    with Stack({"upstream.fenceWait": "100ms"}) as stack, Connection(stack.proxy.port) as raw:
        updates = [{"q": {"k": 1}, "u": [stage], "upsert": True}]
        unit = RawTransaction(raw)
        reply = unit.run({"update": name, "updates": updates})
        assert reply["ok"] == 0, reply
        if stack.stored(name):
            assert "set aside" in reply["errmsg"], reply
        assert unit.commit()["ok"] == 0


def test_multi_upsert(stack, session, collection, name):
    """An updateMany with upsert makes one document if none matches."""
    with session.start_transaction():
        result = collection.update_many({"k": 1}, {"$set": {"a": 1}}, upsert=True, session=session)
        assert result.upserted_id is not None
        assert result.matched_count == 0
        again = collection.update_many({"k": 1}, {"$set": {"a": 2}}, upsert=True, session=session)
        assert (again.matched_count, again.modified_count) == (1, 1)
    assert stack.stored(name) == {result.upserted_id: {"_id": result.upserted_id, "k": 1, "a": 2}}


def test_multi_writes_of_many_batches(stack, session, collection, name):
    """More documents than one batch holds: all of them, or none."""
    count = 1700
    collection.insert_many([{"_id": i, "a": 0, "s": "x" * 300} for i in range(count)])
    with session.start_transaction():
        result = collection.update_many({"a": 0}, {"$inc": {"a": 1}}, session=session)
        assert (result.matched_count, result.modified_count) == (count, count)
    assert {d["a"] for d in stack.stored(name).values()} == {1}
    session.start_transaction()
    assert collection.delete_many({"a": 1}, session=session).deleted_count == count
    assert collection.count_documents({}, session=session) == 0
    session.abort_transaction()
    assert len(stack.stored(name, {"a": 1})) == count


# ---------------------------------------------------------------- ends asked again


def test_commit_twice(stack, raw, name):
    """A commit that is asked again is answered the same."""
    unit = RawTransaction(raw)
    unit.insert(name, {"_id": 1})
    for _ in range(3):
        assert unit.commit()["ok"] == 1
    assert stack.stored(name) == {1: {"_id": 1}}


def test_commit_on_another_connection(stack, raw, name):
    """A unit belongs to its session, not to a connection: drivers change connections at will."""
    unit = RawTransaction(raw)
    unit.insert(name, {"_id": 1})
    with Connection(stack.proxy.port) as other:
        assert unit.insert(name, {"_id": 2}, connection=other)["ok"] == 1
        assert unit.commit(other)["ok"] == 1
    assert unit.commit()["ok"] == 1
    assert sorted(stack.stored(name)) == [1, 2]


def test_commit_after_abort(stack, raw, name):
    unit = RawTransaction(raw)
    unit.insert(name, {"_id": 1})
    assert unit.abort()["ok"] == 1
    reply = unit.commit()
    assert reply["code"] == NO_SUCH_TRANSACTION
    assert stack.stored(name) == {}


def test_abort_after_commit(stack, raw, name):
    """What is committed stays."""
    unit = RawTransaction(raw)
    unit.insert(name, {"_id": 1})
    assert unit.commit()["ok"] == 1
    assert unit.abort()["ok"] == 0
    assert stack.stored(name) == {1: {"_id": 1}}


def test_commit_of_nothing(raw):
    """A commit of a transaction that never was is NoSuchTransaction."""
    reply = RawTransaction(raw).commit()
    assert reply["code"] == NO_SUCH_TRANSACTION
    assert is_transient(reply)


def test_write_after_the_end(stack, raw, name):
    """A late write under an ended number is refused, never a plain write or a new unit."""
    unit = RawTransaction(raw)
    unit.insert(name, {"_id": 1})
    unit.commit()
    assert unit.insert(name, {"_id": 2})["ok"] == 0
    assert unit.insert(name, {"_id": 2}, begin=True)["ok"] == 0
    unit.next()
    unit.insert(name, {"_id": 3})
    unit.abort()
    assert unit.insert(name, {"_id": 4})["code"] == NO_SUCH_TRANSACTION
    assert unit.insert(name, {"_id": 4}, begin=True)["ok"] == 0
    assert sorted(stack.stored(name)) == [1]


def test_older_number_is_refused(stack, raw, name):
    """A number below the session's newest is too old (225)."""
    unit = RawTransaction(raw, number=5)
    unit.insert(name, {"_id": 1})
    assert unit.commit()["ok"] == 1
    older = RawTransaction(raw, lsid=unit.lsid, number=4)
    reply = older.insert(name, {"_id": 2})
    assert reply["ok"] == 0 and reply["code"] == 225
    assert sorted(stack.stored(name)) == [1]


def test_newer_number_ends_the_older(stack, raw, name):
    """A new transaction on a session rolls back the one that was open, as mongo does."""
    unit = RawTransaction(raw)
    unit.insert(name, {"_id": 1})
    unit.next()
    assert unit.insert(name, {"_id": 2})["ok"] == 1
    assert unit.commit()["ok"] == 1
    assert sorted(stack.stored(name)) == [2]


# ---------------------------------------------------------------- two clients


def test_write_conflict(stack, raw, name):
    """A second unit that wants a locked document waits, then is told to run again."""
    stack.direct[DATABASE][name].insert_one({"_id": 1, "v": 0})
    with Connection(stack.proxy.port) as other:
        first, second = RawTransaction(raw), RawTransaction(other)
        assert first.update(name, {"_id": 1}, {"$inc": {"v": 1}})["ok"] == 1
        started = time.monotonic()
        reply = second.update(name, {"_id": 1}, {"$inc": {"v": 10}})
        assert time.monotonic() - started > 0.5  # unit.lockWait is 1s here
        assert reply["code"] == WRITE_CONFLICT
        assert is_transient(reply)
        assert first.commit()["ok"] == 1
        assert second.commit()["code"] == NO_SUCH_TRANSACTION
    assert stack.stored(name) == {1: {"_id": 1, "v": 1}}


def test_locked_by_insert_and_delete(stack, raw, name):
    """Documents that a unit inserts or deletes are locked like those that it changes."""
    stack.direct[DATABASE][name].insert_one({"_id": 1})
    with Connection(stack.proxy.port) as other:
        first = RawTransaction(raw)
        first.insert(name, {"_id": 2})
        first.delete(name, {"_id": 1})
        for document in ({"_id": 2}, {"_id": 1}):
            second = RawTransaction(other)
            reply = second.insert(name, document)
            error = reply if reply["ok"] == 0 else reply["writeErrors"][0]
            assert error["code"] in (WRITE_CONFLICT, 11000), reply
        first.abort()
    assert stack.stored(name) == {1: {"_id": 1}}


def test_two_upserts_of_one_key_meet(stack, raw, name):
    """Of two units that upsert one key one waits for the other: never two documents."""
    upsert = {"findAndModify": name, "query": {"$and": [{"k": 1}]}, "upsert": True, "new": True}
    with Connection(stack.proxy.port) as other:
        first, second = RawTransaction(raw), RawTransaction(other)
        assert first.run({**upsert, "update": {"$set": {"a": 1}}})["ok"] == 1
        reply = second.run({**upsert, "update": {"$set": {"b": 1}}})
        assert reply["code"] == WRITE_CONFLICT
        assert first.commit()["ok"] == 1
        second.next()
        assert second.run({**upsert, "update": {"$set": {"b": 1}}})["ok"] == 1
        assert second.commit()["ok"] == 1
    (document,) = stack.stored(name).values()
    assert (document["a"], document["b"]) == (1, 1)


def test_deadlock(stack, raw, name):
    """Two units that wait for each other: one is told to run again, the other commits."""
    stack.direct[DATABASE][name].insert_many([{"_id": 1}, {"_id": 2}])
    with Connection(stack.proxy.port) as other:
        first, second = RawTransaction(raw), RawTransaction(other)
        first.update(name, {"_id": 1}, {"$set": {"by": 1}})
        second.update(name, {"_id": 2}, {"$set": {"by": 2}})
        replies = {}
        waiting = threading.Thread(
            target=lambda: replies.update(
                first=first.update(name, {"_id": 2}, {"$set": {"by": 1}})
            )
        )
        waiting.start()
        time.sleep(0.05)
        replies["second"] = second.update(name, {"_id": 1}, {"$set": {"by": 2}})
        waiting.join()
        lost = [key for key, reply in replies.items() if reply["ok"] == 0]
        assert lost and all(is_transient(replies[key]) for key in lost)
        for key, unit in (("first", first), ("second", second)):
            assert unit.commit()["ok"] == (0 if key in lost else 1)
    by = {d.get("by") for d in stack.stored(name).values()}
    assert len(by) == 1


# What a unit asks while another one has changed k of document 1, which is then undone.
def _update(query, **fields):
    return {"update": None, "updates": [{"q": query, "u": {"$set": {"seen": 1}}, **fields}]}


SEARCHES = {  # name -> (command, whether its answer tells of document 1, so that it waits)
    "found nothing": (_update({"k": 1, "n": 1}), True),
    "found all": (_update({"k": 1}, multi=True), True),
    "found the first": (
        {"findAndModify": None, "query": {"k": 1}, "sort": {"n": 1}, "update": {"$inc": {"n": 9}}},
        True,
    ),
    "read": ({"aggregate": None, "pipeline": [{"$match": {"k": 1}}], "cursor": {}}, False),
    "found any": (_update({"k": 1}), False),
    "by _id": (_update({"_id": 2, "k": 7}), False),
    "inserted": ({"insert": None, "documents": [{"_id": 3}]}, False),
}


@pytest.mark.parametrize("command,tells", SEARCHES.values(), ids=SEARCHES.keys())
def test_what_was_seen_of_the_undone(stack, raw, name, command, tells):
    """A unit never sees what another one wrote, and then undid: a search whose answer would tell of
    it waits; any other, and what follows, goes on."""
    stack.direct[DATABASE][name].insert_many([{"_id": i, "k": 1, "n": i} for i in (1, 2)])
    with Connection(stack.proxy.port) as other:
        undone, unit = RawTransaction(other), RawTransaction(raw)
        assert unit.update(name, {"_id": 4}, {"$set": {"begun": 1}})["ok"] == 1
        assert undone.update(name, {"_id": 1}, {"$set": {"k": 2}})["ok"] == 1
        replies = []
        search = threading.Thread(
            target=lambda: replies.append(unit.run({**command, next(iter(command)): name}))
        )
        search.start()
        search.join(0.1 if tells else None)
        assert search.is_alive() == tells
        assert undone.abort()["ok"] == 1
        search.join()
        assert replies[0]["ok"] == 1
        assert unit.update(name, {"_id": 1}, {"$set": {"built": 1}})["ok"] == 1
        assert unit.commit()["ok"] == 1
    assert stack.stored(name)[1]["built"] == 1


def test_no_lost_update(stack, raw, name):
    """A document committed since the unit's first operation is a WriteConflict: what the unit
    has read may be old."""
    stack.direct[DATABASE][name].insert_many([{"_id": 1, "v": 0}, {"_id": 2}])
    with Connection(stack.proxy.port) as other:
        first, second = RawTransaction(raw), RawTransaction(other)
        read = first.run({"find": name, "filter": {"_id": 1}})
        value = read["cursor"]["firstBatch"][0]["v"]
        second.update(name, {"_id": 1}, {"$inc": {"v": 10}})
        assert second.commit()["ok"] == 1
        reply = first.update(name, {"_id": 1}, {"$set": {"v": value + 1}})
        assert reply["code"] == WRITE_CONFLICT
        assert is_transient(reply)
    assert stack.stored(name)[1]["v"] == 10


def test_counter_under_contention(stack, client, collection, name):
    """Read, add one, write back, from eight threads with the driver's retry: none is lost."""
    collection.insert_one({"_id": 1, "v": 0})

    def body(session):
        value = collection.find_one({"_id": 1}, session=session)["v"]
        collection.update_one({"_id": 1}, {"$set": {"v": value + 1}}, session=session)

    def run():
        for _ in range(10):
            with client.start_session() as session:
                session.with_transaction(body)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stack.stored(name)[1]["v"] == 80


def test_plain_write_waits(stack, raw, client, collection, name):
    """A plain write to a locked document comes after the unit, and is not lost by its undo."""
    for end in ("commit", "abort"):
        document = {"_id": end, "unit": 0, "plain": 0}
        stack.direct[DATABASE][name].insert_one(document)
        unit = RawTransaction(raw)
        assert unit.update(name, {"_id": end}, {"$set": {"unit": 1}})["ok"] == 1
        done = threading.Event()

        def write():
            collection.update_one({"_id": end}, {"$inc": {"plain": 1}})
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        assert not done.wait(0.3)
        assert getattr(unit, end)()["ok"] == 1
        writer.join(10)
        assert done.is_set()
        wanted = {"_id": end, "unit": int(end == "commit"), "plain": 1}
        assert stack.stored(name)[end] == wanted


def test_plain_writes_elsewhere_do_not_wait(raw, collection, stack, name):
    """Another document, or another collection, is free while a unit is open."""
    stack.direct[DATABASE][name].insert_many([{"_id": 1}, {"_id": 2}])
    unit = RawTransaction(raw)
    unit.update(name, {"_id": 1}, {"$set": {"a": 1}})
    started = time.monotonic()
    collection.update_one({"_id": 2}, {"$set": {"a": 2}})
    collection.database[name + "other"].insert_one({"_id": 1})
    assert time.monotonic() - started < 0.5
    assert unit.commit()["ok"] == 1


def test_no_window_for_plain_writes(stack, client, collection, name):
    """Plain increments race with units that abort: no increment is lost by an undo."""
    collection.insert_one({"_id": 1, "plain": 0, "unit": 0})
    stop = threading.Event()
    counted = [0]

    def increment():
        while not stop.is_set():
            collection.update_one({"_id": 1}, {"$inc": {"plain": 1}})
            counted[0] += 1

    writer = threading.Thread(target=increment)
    writer.start()
    for _ in range(60):
        with client.start_session() as session:
            session.start_transaction()
            try:
                collection.update_one({"_id": 1}, {"$inc": {"unit": 1}}, session=session)
            except OperationFailure as error:
                assert error.code == WRITE_CONFLICT
            session.abort_transaction()
    stop.set()
    writer.join()
    assert stack.stored(name)[1] == {"_id": 1, "plain": counted[0], "unit": 0}


# ---------------------------------------------------------------- units whose client is gone

_CLIENT = """
import sys, time, pymongo
client = pymongo.MongoClient(sys.argv[1])
collection = client["test"][sys.argv[2]]
session = client.start_session()
session.start_transaction()
collection.update_one({"_id": 1}, {"$set": {"v": 1}}, session=session)
collection.insert_one({"_id": 2}, session=session)
print("ready", flush=True)
time.sleep(60)
"""


def test_killed_client(stack, raw, name):
    """kill -9 of a client: its unit is rolled back within a second; its neighbour's stays."""
    stack.direct[DATABASE][name].insert_one({"_id": 1, "v": 0})
    neighbour = RawTransaction(raw)
    neighbour.insert(name, {"_id": 3})
    killed = Process([sys.executable, "-c", _CLIENT, stack.proxy.uri, name])
    killed.wait_for_line(lambda line: line == "ready" or None, 20, "its writes")
    assert stack.stored(name)[1]["v"] == 1
    killed.kill()
    wait_until(
        lambda: stack.stored(name) == {1: {"_id": 1, "v": 0}, 3: {"_id": 3}},
        1.5,
        "the killed client's unit is rolled back",
    )
    assert neighbour.commit()["ok"] == 1
    assert sorted(stack.stored(name)) == [1, 3]


def test_one_connection_of_several(stack, raw, name):
    """The end of one connection of a pool is not the end of its client."""
    with Connection(stack.proxy.port) as other:
        unit = RawTransaction(other)
        unit.insert(name, {"_id": 1})
        unit.insert(name, {"_id": 2}, connection=raw)
    time.sleep(1.5)
    assert unit.insert(name, {"_id": 3}, connection=raw)["ok"] == 1
    assert unit.commit(raw)["ok"] == 1
    assert sorted(stack.stored(name)) == [1, 2, 3]


@pytest.mark.parametrize("command", ["endSessions", "killSessions"])
def test_ended_session(stack, raw, name, command):
    """endSessions and killSessions roll back what the session has open."""
    unit = RawTransaction(raw)
    unit.insert(name, {"_id": 1})
    assert raw.run({command: [unit.lsid], "$db": "admin"})["ok"] == 1
    wait_until(lambda: stack.stored(name) == {}, 2, "the unit is rolled back")
    assert unit.commit()["code"] == NO_SUCH_TRANSACTION


def test_lifetime():
    """A unit older than unit.lifetime is rolled back, and its next command is told so."""
    with Stack({"unit.lifetime": "1s"}) as stack:
        with Connection(stack.proxy.port) as raw:
            unit = RawTransaction(raw)
            unit.insert("c", {"_id": 1})
            wait_until(lambda: stack.stored("c") == {}, 5, "the unit is rolled back")
            reply = unit.insert("c", {"_id": 2})
            assert reply["code"] == NO_SUCH_TRANSACTION
            assert is_transient(reply)


def test_limits():
    """Too many writes, bytes or open units: a clear error, and the unit is rolled back."""
    settings = {"unit.maxWrites": "10", "unit.maxBytes": "1MiB", "unit.maxOpen": "3"}
    with Stack(settings) as stack, Connection(stack.proxy.port) as raw:
        many = RawTransaction(raw)
        replies = [many.insert("c", {"_id": i}) for i in range(11)]
        assert [reply["ok"] for reply in replies] == [1] * 10 + [0]
        big = RawTransaction(raw)
        replies = [big.insert("c", {"_id": i, "t": "x" * 400_000}) for i in range(4)]
        assert replies[0]["ok"] == 1 and replies[-1]["ok"] == 0
        wait_until(lambda: stack.stored("c") == {}, 5, "both are rolled back")
        units = [RawTransaction(raw) for _ in range(4)]
        replies = [unit.insert("c", {"_id": i}) for i, unit in enumerate(units)]
        assert [reply["ok"] for reply in replies] == [1, 1, 1, 0]
        assert len(replies[-1]["errmsg"]) > 10
        assert [unit.commit()["ok"] for unit in units[:3]] == [1, 1, 1]
        assert sorted(stack.stored("c")) == [0, 1, 2]


def test_sessions_belong_to_users():
    """Knowing another user's lsid and number opens nothing: no commit, no abort, no write."""
    users = [(user, user, [("readWrite", DATABASE)]) for user in ("bob", "eve")]
    with Stack(auth=True, users=users) as stack:
        with Connection(stack.proxy.port) as bob, Connection(stack.proxy.port) as eve:
            assert bob.login("bob", "bob")["ok"] == 1
            assert eve.login("eve", "eve")["ok"] == 1
            unit = RawTransaction(bob)
            assert unit.insert("c", {"_id": 1})["ok"] == 1
            for reply in (
                unit.insert("c", {"_id": 2}, connection=eve),
                unit.commit(eve),
                unit.abort(eve),
            ):
                assert reply["code"] == NO_SUCH_TRANSACTION, reply
            eve.run({"endSessions": [unit.lsid], "$db": "admin"})
            assert unit.insert("c", {"_id": 3})["ok"] == 1
            assert unit.commit()["ok"] == 1
            assert sorted(stack.stored("c")) == [1, 3]


def test_sigterm_drains(name):
    """SIGTERM: open units are rolled back, the exit code is 0, nothing is left to recover."""
    with Stack() as stack:
        with Connection(stack.proxy.port) as raw:
            unit = RawTransaction(raw)
            unit.insert(name, {"_id": 1})
            assert stack.proxy.stop() == 0
        assert stack.stored(name) == {}
        stack.proxy.verify()
        assert [u for u in stack.proxy.units() if u.get("state") == "open"] == []


def test_end_right_behind_a_command(stack, name):
    """A client that ends in the same moment as its last command arrives is noticed as well: the
    proxy, stopped meanwhile, finds both at once."""
    proxy = stack.proxy.process
    clients = [Connection(stack.proxy.port) for _ in range(8)]
    for client in clients:
        assert client.run({"ping": 1, "$db": "admin"})["ok"] == 1
    proxy.send(signal.SIGSTOP)
    try:
        for number, client in enumerate(clients):
            command = {
                "insert": name,
                "documents": [{"_id": number}],
                "lsid": {"id": bson.Binary(uuid.uuid4().bytes, 4)},
                "txnNumber": bson.Int64(1),
                "startTransaction": True,
                "autocommit": False,
                "$db": DATABASE,
            }
            client.send(encode_message(command))
            client.socket.close()
        time.sleep(0.2)
    finally:
        proxy.send(signal.SIGCONT)
    time.sleep(0.2)
    wait_until(lambda: not stack.stored(name), 2, "every unit is rolled back")


def test_killed_while_waiting(name):
    """A client that is gone while its command waits for a lock is noticed at once, not when the wait
    is over: its unit is rolled back within a second."""
    with Stack({"unit.lockWait": "20s"}) as stack:
        stack.direct[DATABASE][name].insert_many([{"_id": i, "a": 0} for i in range(2)])

        def update(number, session, **fields):
            return {
                "update": name,
                "updates": [{"q": {"_id": number}, "u": {"$inc": {"a": 1}}}],
                "lsid": {"id": session},
                "txnNumber": bson.Int64(1),
                "autocommit": False,
                "$db": DATABASE,
                **fields,
            }

        owner, waiter = (bson.Binary(uuid.uuid4().bytes, 4) for _ in range(2))
        with Connection(stack.proxy.port) as first, Connection(stack.proxy.port) as second:
            assert first.run(update(0, owner, startTransaction=True))["ok"] == 1
            assert second.run(update(1, waiter, startTransaction=True))["ok"] == 1
            second.send(encode_message(update(0, waiter)))
            time.sleep(0.3)
            assert stack.stored(name)[1]["a"] == 1
            second.socket.close()
            wait_until(lambda: stack.stored(name)[1]["a"] == 0, 1, "the waiter is rolled back")
            assert stack.stored(name)[0]["a"] == 1

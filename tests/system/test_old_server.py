"""In front of a server that knows no more than MongoDB 4.4, the oldest that is served: everything
that holdfastd and holdfast send of their own is of 4.4, and what a client sends that is newer is
refused by the server, as without the proxy. The server is a newer one behind a shim, old_server.py.
"""

import contextlib
import os

import bson
import pytest
from bson.int64 import Int64
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Connection, OldServer, encode_query, holdfast
from http_stack import Gate, HttpStack
from pymongo import DeleteMany, InsertOne, ReplaceOne, ReturnDocument, UpdateMany, UpdateOne
from pymongo.errors import OperationFailure

WRITE_CONFLICT = 112


@pytest.fixture(scope="module")
def stack():
    settings = {"unit.lockWait": "200ms", "upstream.fenceWait": "100ms"}
    with Stack(settings, between=OldServer) as made:
        yield made
        made.proxy.verify()
    assert made.between.take_refused() == []  # nor at the end


@pytest.fixture(autouse=True)
def nothing_is_refused(stack):
    """But what a test has taken out of the list as its own."""
    yield
    assert stack.between.take_refused() == []


@pytest.fixture
def old(stack):
    with Connection(stack.between.port) as made:
        yield made


# ---------------------------------------------------------------- the shim

LOOKUP = {"from": "c", "localField": "a", "foreignField": "b", "as": "x"}
OPERATORS = {"$let": {"vars": {"v": {"$ifNull": ["$a", 1]}}, "in": {"$add": ["$$v", 1]}}}

# What 4.4 knows, in the words of one command each.
KNOWN = {
    "find": {"find": "c", "filter": {"a": {"$not": {"$elemMatch": {"b": {"$gt": 1}}}}}},
    "expr": {"find": "c", "filter": {"$and": [{"$expr": {"$eq": ["$a", {"$literal": "$x"}]}}]}},
    "projection": {"find": "c", "projection": {"a": {"$slice": 1}, "b": OPERATORS}},
    "stages": {
        "aggregate": "c",
        "pipeline": [
            {"$match": {"a": {"$in": [{"$x": 1}], "$exists": True}}},
            {"$lookup": LOOKUP},
            {"$unionWith": {"coll": "d", "pipeline": [{"$set": {"a": OPERATORS}}]}},
            {"$group": {"_id": "$a", "n": {"$sum": {"$cond": [1, 2, 3]}}}},
        ],
        "cursor": {},
        "comment": "c",
    },
    "update": {
        "update": "c",
        "updates": [{"q": {"a": 1}, "u": [{"$replaceWith": {"$literal": {}}}], "hint": "_id_"}],
        "comment": "c",
        "bypassDocumentValidation": True,
    },
    "delete": {"delete": "c", "deletes": [{"q": {}, "limit": 0, "hint": "_id_"}], "comment": 1},
}

# What it does not, and how it says so.
NEWER = {
    "bulkWrite": ({"bulkWrite": 1, "ops": [], "nsInfo": []}, 59),
    "analyze": ({"analyze": "c"}, 59),
    "explain": ({"explain": {"find": "c", "let": {}}}, 9),
    "find let": ({"find": "c", "let": {"a": 1}}, 9),
    "aggregate let": ({"aggregate": "c", "pipeline": [], "cursor": {}, "let": {}}, 9),
    "update let": ({"update": "c", "updates": [], "let": {}}, 40415),
    "update sort": ({"update": "c", "updates": [{"q": {}, "u": {}, "sort": {"a": 1}}]}, 40415),
    "delete let": ({"delete": "c", "deletes": [], "let": {}}, 40415),
    "modify let": ({"findAndModify": "c", "query": {}, "remove": True, "let": {}}, 40415),
    "api": ({"ping": 1, "apiVersion": "1"}, 40415),
    "time series": ({"create": "c", "timeseries": {"timeField": "t"}}, 40415),
    "snapshot": ({"find": "c", "readConcern": {"level": "snapshot"}}, 72),
    "retry": ({"insert": "c", "documents": [], "txnNumber": Int64(1)}, 20),
    "empty modifier": ({"findAndModify": "c", "query": {}, "update": {"$set": {}}}, 9),
    "query operator": ({"count": "c", "query": {"a": {"$new": 1}}}, 2),
    "projection": ({"find": "c", "projection": {"a": {"$dateAdd": {}}}}, 31325),
}
STAGES = {
    "documents": ({"$documents": []}, 40324),
    "densify": ({"$densify": {}}, 40324),
    "fill": ({"$fill": {}}, 40324),
    "window": ({"$setWindowFields": {}}, 40324),
    "in a facet": ({"$facet": {"a": [{"$densify": {}}]}}, 40324),
    "in a union": ({"$unionWith": {"coll": "c", "pipeline": [{"$fill": {}}]}}, 40324),
    "short lookup": ({"$lookup": {**LOOKUP, "pipeline": []}}, 9),
    "in a lookup": ({"$lookup": {"from": "c", "pipeline": [{"$fill": {}}], "as": "x"}}, 40324),
    "getField": ({"$match": {"$expr": {"$eq": [{"$getField": "a"}, 1]}}}, 168),
    "setField": ({"$set": {"a": [{"$cond": [True, {"$setField": {}}, 1]}]}}, 168),
    "dateDiff": ({"$addFields": {"a": {"b": {"$dateDiff": {}}}}}, 168),
    "sortArray": ({"$replaceWith": {"$mergeObjects": ["$$ROOT", {"a": {"$sortArray": {}}}]}}, 168),
    "ifNull of three": ({"$set": {"a": {"$ifNull": [1, 2, 3]}}}, 16020),
    "project": ({"$project": {"a": {"$dateTrunc": {}}}}, 31325),
    "median": ({"$group": {"_id": 1, "m": {"$median": {}}}}, 15952),
    "firstN": ({"$group": {"_id": 1, "m": {"$push": {"$firstN": {}}}}}, 168),
}
NEWER.update(
    (name, ({"aggregate": "c", "pipeline": [stage], "cursor": {}}, code))
    for name, (stage, code) in STAGES.items()
)


@pytest.mark.parametrize("command", KNOWN.values(), ids=KNOWN.keys())
def test_the_shim_lets_pass(old, command):
    """What 4.4 knows reaches the server, which answers."""
    reply = old.run({**command, "$db": DATABASE})
    assert reply["ok"] == 1 and "writeErrors" not in reply, reply


@pytest.mark.parametrize("command,code", NEWER.values(), ids=NEWER.keys())
def test_the_shim_refuses(stack, old, command, code):
    """What 4.4 does not know is answered with its code, and put down."""
    reply = old.run({**command, "$db": DATABASE})
    assert reply["ok"] == 0 and reply["code"] == code, reply
    assert stack.between.take_refused() == [(next(iter(command)), code)]


def test_the_shim_refuses_a_statement(stack, old):
    """An update that cannot be parsed is an error of its statement, as a server says it."""
    updates = [{"q": {}, "u": [{"$set": {"a": {"$unsetField": {}}}}]}]
    reply = old.run({"update": "c", "updates": updates, "$db": DATABASE})
    assert reply["ok"] == 1 and reply["writeErrors"][0]["code"] == 168
    assert stack.between.take_refused() == [("update", 168)]


def test_the_shim_says_its_version(old):
    """In every form of the first greeting."""
    assert old.run({"hello": 1, "$db": "admin"})["maxWireVersion"] == 9
    assert old.run({"buildInfo": 1, "$db": "admin"})["versionArray"] == [4, 4, 29, 0]
    old.send(encode_query({"isMaster": 1}))
    assert old.receive()["maxWireVersion"] == 9


# ---------------------------------------------------------------- through the proxy


def test_clients_are_told_of_the_old_server(stack):
    """A driver must not believe that it may send what came later."""
    with Connection(stack.proxy.port) as raw:
        assert raw.run({"hello": 1, "$db": "admin"})["maxWireVersion"] <= 9
        assert raw.run({"buildInfo": 1, "$db": "admin"})["version"].startswith("4.4.")


def every_write(collection, **options):
    """Writes of all kinds to _id 0 to 9, which hold {_id, a: _id, list: [1, 2]}."""
    collection.insert_one({"_id": 10, "a": 10}, **options)
    collection.insert_many([{"_id": 11}, {"_id": 12}], **options)
    collection.update_one({"_id": 0}, {"$set": {"b.c": 1}, "$currentDate": {"t": True}}, **options)
    collection.update_one({"_id": 1}, [{"$set": {"b": {"$add": ["$a", 1]}}}], **options)
    collection.update_one({"a": 2}, {"$inc": {"a": 100}}, **options)
    collection.update_one({"_id": 20}, {"$setOnInsert": {"n": 1}}, upsert=True, **options)
    collection.update_one({"k": 1}, {"$set": {"v": 1}}, upsert=True, **options)
    collection.update_one(
        {"_id": 3}, {"$set": {"list.$[x]": 9}}, array_filters=[{"x": 2}], **options
    )
    collection.update_one({"_id": 3}, {"$push": {"list": {"$each": [3], "$slice": -2}}}, **options)
    collection.update_many({"a": {"$gte": 7, "$lt": 10}}, {"$mul": {"a": 2}}, **options)
    collection.update_many({"_id": {"$in": [4, 5]}}, [{"$set": {"m": "$$ROOT"}}], **options)
    collection.replace_one({"_id": 6}, {"z": 1}, hint="_id_", **options)
    collection.find_one_and_update(
        {"a": 14}, {"$unset": {"list": 1}}, return_document=ReturnDocument.AFTER, **options
    )
    collection.find_one_and_replace({"_id": 8}, {"y": 1}, sort=[("a", 1)], **options)
    collection.find_one_and_delete({"_id": 9}, **options)
    collection.delete_one({"_id": 10}, hint="_id_", **options)
    collection.delete_many({"_id": {"$in": [11, 12]}}, collation={"locale": "simple"}, **options)
    collection.bulk_write(
        [
            InsertOne({"_id": 30}),
            UpdateOne({"_id": 30}, {"$set": {"a": 1}}),
            UpdateMany({"_id": {"$gte": 30}}, {"$inc": {"a": 1}}),
            ReplaceOne({"_id": 31}, {"a": 1}, upsert=True),
            DeleteMany({"a": 1}),
        ],
        **options,
    )


def check_every_write(stored):
    for document in stored.values():
        document.pop("t", None)
    upserted = [document for document in stored.values() if document.get("k") == 1]
    assert len(upserted) == 1
    del stored[upserted[0].pop("_id")]
    assert upserted == [{"k": 1, "v": 1}]
    assert stored == {
        0: {"_id": 0, "a": 0, "list": [1, 2], "b": {"c": 1}},
        2: {"_id": 2, "a": 102, "list": [1, 2]},
        3: {"_id": 3, "a": 3, "list": [9, 3]},
        4: {"_id": 4, "a": 4, "list": [1, 2], "m": {"_id": 4, "a": 4, "list": [1, 2]}},
        5: {"_id": 5, "a": 5, "list": [1, 2], "m": {"_id": 5, "a": 5, "list": [1, 2]}},
        6: {"_id": 6, "z": 1},
        7: {"_id": 7, "a": 14},
        8: {"_id": 8, "y": 1},
        20: {"_id": 20, "n": 1},
        30: {"_id": 30, "a": 2},
    }


def ten_documents(stack, name):
    documents = [{"_id": i, "a": i, "list": [1, 2]} for i in range(10)]
    stack.direct[DATABASE][name].insert_many(documents)
    return {document["_id"]: document for document in documents}


def test_plain_writes(stack, collection, name):
    """Single, several, of every kind; with a driver that may send them again."""
    ten_documents(stack, name)
    every_write(collection)
    check_every_write(stack.stored(name))


def test_transactions(stack, client, collection, name):
    """An abort brings everything back, a commit keeps everything."""
    before = ten_documents(stack, name)
    with client.start_session() as session:
        session.start_transaction()
        every_write(collection, session=session)
        session.abort_transaction()
        assert stack.stored(name) == before
        session.start_transaction()
        every_write(collection, session=session)
        session.commit_transaction()
    check_every_write(stack.stored(name))


def test_unique_values(stack, client, collection, name):
    """A value that an open unit freed is nobody's before its end."""
    collection.create_index("u", unique=True)
    collection.create_index("part", unique=True, partialFilterExpression={"part": {"$gt": 5}})
    collection.insert_one({"_id": 1, "u": 1, "part": 6})
    with client.start_session() as session:
        session.start_transaction()
        collection.update_one({"_id": 1}, {"$set": {"u": 2, "part": 7}}, session=session)
        with client.start_session() as other, pytest.raises(OperationFailure) as refused:
            other.start_transaction()
            collection.insert_one({"_id": 2, "u": 1, "part": 8}, session=other)
        assert refused.value.code == WRITE_CONFLICT
        session.abort_transaction()
    assert stack.stored(name) == {1: {"_id": 1, "u": 1, "part": 6}}


def test_a_retry_is_done_once(stack, raw, name):
    """The same number again: the first answer, also after a restart."""
    stack.direct[DATABASE][name].insert_one({"_id": 1, "n": 0})
    command = {
        "update": name,
        "updates": [{"q": {"_id": 1}, "u": {"$inc": {"n": 1}}}],
        "lsid": {"id": bson.Binary(os.urandom(16), 4)},
        "txnNumber": Int64(1),
        "$db": DATABASE,
    }
    first = raw.run(command)
    assert first["nModified"] == 1 and raw.run(command)["nModified"] == 1
    stack.proxy.restart()
    with Connection(stack.proxy.port) as again:
        assert again.run(command)["nModified"] == 1
    assert stack.stored(name) == {1: {"_id": 1, "n": 1}}


# What recovery meets: a write without an answer, one with, a commit, and every kind of write.
@pytest.mark.parametrize(
    "crash_at",
    [f"unit_sent:{n}" for n in range(2, 20)] + ["unit_answered:20", "undo_restored:1"],
)
def test_recovery(stack, name, crash_at):
    """Killed in the middle of a unit, or of its rollback, it undoes it at the next start."""
    before = ten_documents(stack, name)
    stack.proxy.restart(crash_at=crash_at)
    with stack.proxy.client(serverSelectionTimeoutMS=100) as client:
        with client.start_session() as session, contextlib.suppress(Exception):
            session.start_transaction()
            every_write(client[DATABASE][name], session=session)
            session.abort_transaction()
    stack.proxy.process.wait(10)
    stack.proxy.start()
    assert stack.stored(name) == before


@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize("crash_at", ["unit_sent:1", "unit_answered:1", "commit_durable:1"])
def test_recovery_of_plain_writes(stack, name, multi, crash_at):
    """Undone, or whole if its commit was durable."""
    before = ten_documents(stack, name)
    stack.proxy.restart(crash_at=crash_at)
    updates = [{"q": {"a": {"$lt": 3}}, "u": {"$inc": {"a": 100}}, "multi": multi}]
    command = {"update": name, "updates": updates, "$db": DATABASE}
    session = {"lsid": {"id": bson.Binary(os.urandom(16), 4)}, "txnNumber": Int64(1)}
    with Connection(stack.proxy.port) as raw, contextlib.suppress(OSError):
        raw.run({**command, **({} if multi else session)})
    stack.proxy.process.wait(10)
    stack.proxy.start()
    changed = [d["_id"] for d in stack.stored(name).values() if d != before[d["_id"]]]
    if crash_at.startswith("commit_durable"):
        assert changed == ([0, 1, 2] if multi else [0])
    else:
        assert changed == []


def test_recovery_by_the_program(stack, name):
    """holdfast recover does the same for a proxy that stays down."""
    before = ten_documents(stack, name)
    with Connection(stack.proxy.port) as raw:
        unit = RawTransaction(raw)
        assert unit.update(name, {"_id": 1}, {"$inc": {"a": 1}})["ok"] == 1
        assert unit.delete(name, {"_id": 2})["ok"] == 1
        stack.proxy.kill()
    try:
        holdfast("recover", "--wal", stack.proxy.wal, "--upstream", stack.between.uri, check=0)
        assert stack.stored(name) == before
    finally:
        stack.proxy.start()


@pytest.mark.parametrize("in_transaction", [False, True])
def test_bulk_write(stack, raw, name, in_transaction):
    """A command of 8.0, which the proxy makes of those that the server knows."""
    ten_documents(stack, name)
    raised = {"$inc": {"a": 1}}
    command = {
        "bulkWrite": 1,
        "ops": [
            {"insert": 0, "document": {"_id": 20}},
            {"update": 0, "filter": {"a": {"$gte": 5}}, "updateMods": raised, "multi": True},
            {"update": 1, "filter": {"_id": 1}, "updateMods": [{"$set": {"b": 1}}], "upsert": True},
            {"delete": 0, "filter": {"a": {"$lt": 5}}, "multi": True},
        ],
        "nsInfo": [{"ns": f"{DATABASE}.{name}"}, {"ns": f"{DATABASE}.{name}_other"}],
    }
    if in_transaction:
        unit = RawTransaction(raw)
        reply = unit.run(command, "admin")
        assert unit.commit()["ok"] == 1
    else:
        reply = raw.run({**command, "$db": "admin"})
    assert reply["ok"] == 1 and reply["nErrors"] == 0, reply
    assert sorted(stack.stored(name)) == [5, 6, 7, 8, 9, 20]
    assert stack.stored(f"{name}_other") == {1: {"_id": 1, "b": 1}}


# ---------------------------------------------------------------- a client's own


def unknown(operator):
    return {"$set": {"a": {operator: 1}}}


CLIENTS = {
    "stage": ({"aggregate": None, "pipeline": [{"$densify": {}}], "cursor": {}}, 40324),
    "find": ({"find": None, "let": {"x": 1}}, 9),
    "operator": ({"update": None, "updates": [{"q": {}, "u": [unknown("$setField")]}]}, 168),
    "several": (
        {"update": None, "updates": [{"q": {}, "u": [unknown("$getField")], "multi": True}]},
        168,
    ),
    "query": ({"delete": None, "deletes": [{"q": {"a": {"$new": 1}}, "limit": 0}]}, 2),
    "modify": ({"findAndModify": None, "query": {}, "update": [unknown("$dateAdd")]}, 168),
}


def run(raw, name, how, command):
    """The reply, with what is left of a transaction rolled back."""
    command = {**command, next(iter(command)): name}
    if how == "transaction":
        unit = RawTransaction(raw)
        assert unit.insert(name, {"_id": "first"})["ok"] == 1
        reply = unit.run(command)
        unit.abort()
        return reply
    if how == "retryable" and next(iter(command)) in ("update", "delete", "findAndModify"):
        command["lsid"] = {"id": bson.Binary(os.urandom(16), 4)}
        command["txnNumber"] = Int64(1)
    return raw.run({**command, "$db": DATABASE})


@pytest.mark.parametrize("how", ["plain", "retryable", "transaction"])
@pytest.mark.parametrize("command,code", CLIENTS.values(), ids=CLIENTS.keys())
def test_a_newer_command_of_a_client(stack, raw, name, command, code, how):
    """Refused by the server with its own code, and nothing is done; the proxy goes on."""
    before = ten_documents(stack, name)
    reply = run(raw, name, how, command)
    error = (reply.get("writeErrors") or [reply])[0]
    assert error.get("code") == code, reply
    assert stack.between.take_refused() != []
    assert stack.stored(name) == before
    assert raw.run({"ping": 1, "$db": DATABASE})["ok"] == 1


@pytest.mark.parametrize("how", ["plain", "retryable", "transaction"])
def test_newer_variables_of_a_client(stack, raw, name, how):
    """`let` of a write goes into the question of which documents it means: where the write is a
    unit, that is what the server refuses, with the code of a find."""
    before = ten_documents(stack, name)
    updates = [{"q": {}, "u": {"$set": {"a": 1}}}]
    reply = run(raw, name, how, {"update": None, "updates": updates, "let": {"x": 1}})
    error = (reply.get("writeErrors") or [reply])[0]
    assert error["code"] == (40415 if how == "plain" else 9), reply
    assert len(stack.between.take_refused()) == 1
    assert stack.stored(name) == before


def test_an_unknown_command_of_a_client(stack, raw, name):
    """As the server answers it."""
    reply = raw.run({"analyze": name, "$db": DATABASE})
    assert reply["ok"] == 0 and reply["code"] == 59 and reply["codeName"] == "CommandNotFound"
    assert stack.between.take_refused() == [("analyze", 59)]


# ---------------------------------------------------------------- boundaries without the driver


def test_api_calls_in_front_of_an_old_server(name):
    """Committed, rolled back, and recovered after the proxy was killed in mid-call."""
    with HttpStack(between=OldServer) as stack:
        collection, gate = stack.collection(name), Gate()

        def handler(end, between=lambda: None):
            def handle(_):
                collection.insert_one({"_id": end, "v": 1})
                between()
                collection.find_one_and_update(
                    {"$and": [{"_id": end}]}, {"$set": {"part": {"v": 2}}}, upsert=True
                )
                collection.update_many({}, [{"$set": {"seen": end}}])
                return end

            return handle

        stack.service.handlers["/good"] = handler(201)
        stack.service.handlers["/bad"] = handler(500)
        stack.service.handlers["/killed"] = handler(202, gate.stop_here)
        assert stack.call("/good").status == 201
        good = {201: {"_id": 201, "v": 1, "part": {"v": 2}, "seen": 201}}
        assert stack.stored(name) == good
        assert stack.call("/bad").status == 500
        assert stack.stored(name) == good
        stack.begin("/killed")
        gate.wait_reached()
        stack.proxy.restart()
        gate.go.set()
        assert stack.stored(name) == good
        assert stack.between.take_refused() == []


def test_comments_in_front_of_an_old_server(stack, client, name):
    collection = client[DATABASE][name]
    collection.insert_one({"_id": 1}, comment={"unit": name, "begin": True})
    collection.update_one({"_id": 1}, {"$inc": {"v": 1}}, comment={"unit": name, "last": True})
    client.admin.command("beginUnit", name + "b")
    collection.delete_one({"_id": 1}, comment={"unit": name + "b"})
    client.admin.command("abortUnit", name + "b")
    assert stack.stored(name) == {1: {"_id": 1, "v": 1}}

"""What writes answer, word for word as MongoDB does; each case was found by tests/differential."""

import os

import bson
import pytest
from bson.int64 import Int64
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Connection, WireTap

FAILED_TO_PARSE = 9
TYPE_MISMATCH = 14
INVALID_OPTIONS = 72
MISSING_FIELD = 40414
UNKNOWN_FIELD = 40415


def first_error(reply):
    assert reply["ok"] == 1, reply
    return reply["writeErrors"][0]["index"], reply["writeErrors"][0]["code"]


def two_updates(name, first, second):
    """Several writes: a unit, in a transaction or not."""
    return {"update": name, "updates": [first, second], "ordered": False, "$db": DATABASE}


HARMLESS = {"q": {"_id": 0}, "u": {"$set": {"a": 1}}}


# ---------------------------------------------------------------- what matches nothing


@pytest.mark.parametrize(
    "update",
    [
        {"$foo": {"a": 1}},
        {"$set": {"a": 1}, "b": 1},
        {"$set": {"a": 1, "a.b": 1}},
        [{"$foo": 1}],
    ],
)
@pytest.mark.parametrize("multi", [False, True])
def test_a_wrong_update_that_matches_nothing(raw, name, update, multi):
    """It is an error all the same, and of a transaction the end."""
    statement = {"q": {"a": "nobody"}, "u": update, "multi": multi}
    reply = raw.run(two_updates(name, HARMLESS, statement))
    if reply["ok"] == 1:  # the server may refuse a pipeline as a whole
        assert first_error(reply)[0] == 1
    unit = RawTransaction(raw)
    unit.insert(name, {"_id": 1})
    reply = unit.run({"update": name, "updates": [statement]})
    assert reply["ok"] == 0 or first_error(reply)[0] == 0
    assert unit.commit()["code"] == 251


def test_a_right_update_that_matches_nothing(stack, raw, name):
    """Neither an error nor a document, whatever its form."""
    stack.direct[DATABASE][name].insert_one({"_id": 1})
    unit = RawTransaction(raw)
    for update in ({"$push": {"c": 1}}, [{"$set": {"a": "$b"}}], {"$rename": {"a": "b"}}, {"a": 1}):
        reply = unit.update(name, {"a": "nobody"}, update)
        assert (reply["ok"], reply["n"], reply["nModified"]) == (1, 0, 0)
    assert unit.commit()["ok"] == 1
    assert stack.stored(name) == {1: {"_id": 1}}


def test_a_projection_that_matches_nothing(name):
    """The server gets to see it: it knows what is a projection. (The server that the tests install
    looks at it only when there is a document.)"""
    with Stack(between=lambda server: WireTap(server.port)) as stack:
        command = {"findAndModify": name, "query": {"_id": 1}, "update": {"$set": {"a": 1}}}
        with Connection(stack.proxy.port) as raw:
            unit = RawTransaction(raw)
            reply = unit.run({**command, "fields": {"a": 1}})
            assert reply["lastErrorObject"] == {"n": 0, "updatedExisting": False}
            unit.commit()
        sent = [one for _, one in stack.between.commands]
        asked = [one for one in sent if one.get("findAndModify") == name]
        assert [one["fields"] for one in asked] == [{"a": 1}]
        assert stack.stored(name) == {}


# ---------------------------------------------------------------- commands that are not well formed


@pytest.mark.parametrize(
    "command, code",
    [
        ({"update": None, "updates": [{"u": {"$set": {"a": 1}}}]}, MISSING_FIELD),
        ({"update": None, "updates": [{"q": {}}]}, MISSING_FIELD),
        ({"update": None}, MISSING_FIELD),
        ({"update": None, "updates": [{**HARMLESS, "what": 1}]}, UNKNOWN_FIELD),
        ({"update": None, "updates": [{**HARMLESS, "multi": "x"}]}, TYPE_MISMATCH),
        ({"update": None, "updates": [{**HARMLESS, "q": 5}]}, TYPE_MISMATCH),
        ({"update": None, "updates": [{**HARMLESS, "u": 5}]}, FAILED_TO_PARSE),
        ({"update": None, "updates": [HARMLESS], "ordered": "x"}, TYPE_MISMATCH),
        ({"delete": None, "deletes": [{"q": {}}]}, MISSING_FIELD),
        ({"delete": None, "deletes": [{"limit": 0}]}, MISSING_FIELD),
        ({"delete": None, "deletes": [{"q": {}, "limit": 2}]}, FAILED_TO_PARSE),
        ({"delete": None, "deletes": [{"q": {}, "limit": "x"}]}, TYPE_MISMATCH),
        ({"delete": None, "deletes": [{"q": {}, "limit": 0, "what": 1}]}, UNKNOWN_FIELD),
        ({"insert": None}, MISSING_FIELD),
        ({"insert": None, "documents": 5}, TYPE_MISMATCH),
        ({"findAndModify": None, "query": 5, "remove": True}, TYPE_MISMATCH),
        ({"findAndModify": None, "update": 5}, FAILED_TO_PARSE),
    ],
)
def test_not_well_formed(stack, raw, name, command, code):
    """Nothing is done, least of all to documents that a missing filter would match."""
    stack.direct[DATABASE][name].insert_one({"_id": 0})
    command = {key: name if value is None else value for key, value in command.items()}
    reply = RawTransaction(raw).run(command)
    assert reply["ok"] == 0 and reply["code"] == code, reply
    assert stack.stored(name) == {0: {"_id": 0}}


def test_multi_replacement(stack, raw, name):
    """An error of its statement, not of the command."""
    stack.direct[DATABASE][name].insert_one({"_id": 0})
    statement = {"q": {}, "u": {"b": 1}, "multi": True}
    assert first_error(raw.run(two_updates(name, statement, HARMLESS))) == (0, FAILED_TO_PARSE)
    assert stack.stored(name) == {0: {"_id": 0, "a": 1}}


def test_invalid_current_date(stack, raw, name):
    """Refused by the server, as its statement's error."""
    stack.direct[DATABASE][name].insert_one({"_id": 0})
    statement = {"q": {"_id": 0}, "u": {"$currentDate": {"t": 5}}}
    assert first_error(raw.run(two_updates(name, statement, HARMLESS))) == (0, 2)
    assert stack.stored(name) == {0: {"_id": 0, "a": 1}}


def test_a_retried_write_in_a_transactions_number(raw, name):
    session = {"id": bson.Binary(os.urandom(16), 4)}
    unit = RawTransaction(raw, lsid=session, number=7)
    assert unit.insert(name, {"_id": 1})["ok"] == 1
    write = {"insert": name, "documents": [{"_id": 2}], "lsid": session, "txnNumber": Int64(7)}
    assert raw.run({**write, "$db": DATABASE})["code"] == INVALID_OPTIONS
    assert unit.commit()["ok"] == 1


# ---------------------------------------------------------------- answers


def test_removed_by_find_and_modify(stack, raw, name):
    """lastErrorObject of a removal has no updatedExisting."""
    stack.direct[DATABASE][name].insert_one({"_id": 1})
    unit = RawTransaction(raw)
    for count in (1, 0):
        reply = unit.run({"findAndModify": name, "query": {"_id": 1}, "remove": True})
        assert reply["lastErrorObject"] == {"n": count}


def test_find_and_modify_names_its_error(stack, raw, name):
    stack.direct[DATABASE][name].insert_one({"_id": 1, "a": [1]})
    update = {"$push": {"a": 1}, "$set": {"a": 1}}
    command = {"findAndModify": name, "query": {"_id": 1}, "update": update}
    reply = RawTransaction(raw).run(command)
    assert (reply["ok"], reply["code"], reply["codeName"]) == (0, 40, "ConflictingUpdateOperators")


def test_bulk_write_stops_in_a_transaction(stack, raw, name):
    """At its first error, also unordered: what follows is not in the results."""
    stack.direct[DATABASE][name].insert_one({"_id": 1})
    ops = [{"insert": 0, "document": {"_id": n}} for n in (0, 1, 2)]
    spaces = [{"ns": f"{DATABASE}.{name}"}]
    command = {"bulkWrite": 1, "ops": ops, "nsInfo": spaces, "ordered": False}
    reply = RawTransaction(raw).run(command, "admin")
    assert [one["idx"] for one in reply["cursor"]["firstBatch"]] == [0, 1]
    assert (reply["nInserted"], reply["nErrors"]) == (1, 1)
    assert stack.stored(name) == {1: {"_id": 1}}


# ---------------------------------------------------------------- what another unit hides


@pytest.mark.parametrize("update", [True, False])
def test_multi_write_by_id_meets_a_removed_document(stack, name, update):
    """A multi write whose filter fixes _id waits for the unit that has removed that document, as
    the same write without multi does: it may come back."""
    stack.direct[DATABASE][name].insert_one({"_id": 1, "a": 0})
    with Connection(stack.proxy.port) as one, Connection(stack.proxy.port) as other:
        holder, unit = RawTransaction(one), RawTransaction(other)
        assert holder.delete(name, {"_id": 1})["n"] == 1
        if update:
            statement = {"q": {"_id": 1}, "u": {"$set": {"a": 1}}, "multi": True}
            reply = unit.run({"update": name, "updates": [statement]})
        else:
            reply = unit.run({"delete": name, "deletes": [{"q": {"_id": 1}, "limit": 0}]})
        assert reply["code"] == 112 and "TransientTransactionError" in reply["errorLabels"]
        assert holder.abort()["ok"] == 1
    assert stack.stored(name) == {1: {"_id": 1, "a": 0}}

"""Units and namespaces that are no ordinary collections, or not there yet: each works or gets the
error that mongod gives. The table stands in docs/COMPATIBILITY.md."""

import datetime

import pytest
from conftest import DATABASE, RawTransaction

NOT_SUPPORTED_ON_VIEW = 166
NOT_SUPPORTED_IN_TRANSACTION = 263


def code_of(reply):
    return reply["writeErrors"][0]["code"] if reply["ok"] == 1 else reply["code"]


def writes(name):
    """One of each kind; all match what make() has put there, but the last two."""
    document = {"_id": 5, "a": 1, "t": datetime.datetime(2020, 1, 1)}
    set_a = {"$set": {"a": 2}}
    return {
        "insert": {"insert": name, "documents": [document]},
        "update": {"update": name, "updates": [{"q": {"_id": 1}, "u": set_a}]},
        "upsert": {"update": name, "updates": [{"q": {"_id": 1}, "u": set_a, "upsert": True}]},
        "multi": {"update": name, "updates": [{"q": {"a": 1}, "u": set_a, "multi": True}]},
        "delete": {"delete": name, "deletes": [{"q": {"_id": 1}, "limit": 1}]},
        "modify": {"findAndModify": name, "query": {"_id": 1}, "update": set_a},
        "nobody": {"update": name, "updates": [{"q": {"_id": 9}, "u": set_a}]},
        "nobodies": {"delete": name, "deletes": [{"q": {"a": 9}, "limit": 0}]},
    }


WRITES = list(writes("any"))


def make(stack, name, **options):
    database = stack.direct[DATABASE]
    if "viewOn" in options:
        options["viewOn"] = name + "_base"
        database[name + "_base"].insert_one({"_id": 1, "a": 1})
    database.command("create", name, **options)
    if "capped" in options:
        database[name].insert_one({"_id": 1, "a": 1})


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    "options, code",
    [
        ({"viewOn": "base", "pipeline": []}, NOT_SUPPORTED_ON_VIEW),
        ({"capped": True, "size": 4096}, NOT_SUPPORTED_IN_TRANSACTION),
        ({"timeseries": {"timeField": "t"}}, NOT_SUPPORTED_IN_TRANSACTION),
    ],
)
def test_not_in_a_transaction(stack, raw, name, options, code, write):
    """The transaction ends with mongod's error, which no driver takes for one to run again."""
    make(stack, name, **options)
    before = stack.stored(name)
    unit = RawTransaction(raw)
    unit.insert(name + "_other", {"_id": 1})
    reply = unit.run(writes(name)[write])
    assert code_of(reply) == code and "errorLabels" not in reply
    assert unit.commit()["code"] == 251
    assert stack.stored(name) == before and stack.stored(name + "_other") == {}


def test_a_view_in_plain_commands(stack, raw, name):
    """Several writes, and so a unit: each gets the error, and at once."""
    make(stack, name, viewOn="base", pipeline=[])
    statement = {"q": {"a": 1}, "u": {"$set": {"a": 2}}, "multi": True}
    command = {"update": name, "updates": [statement] * 2, "ordered": False, "$db": DATABASE}
    errors = raw.run(command)["writeErrors"]
    assert [(one["index"], one["code"]) for one in errors] == [(0, 166), (1, 166)]


def test_capped_in_plain_commands(stack, raw, name):
    """An insert of many is carried out as ever."""
    make(stack, name, capped=True, size=4096)
    documents = [{"_id": n} for n in (7, 8)]
    assert raw.run({"insert": name, "documents": documents, "$db": DATABASE})["n"] == 2
    assert set(stack.stored(name)) == {1, 7, 8}


def test_views_are_read_in_a_transaction(stack, raw, name):
    """With what the transaction has written below them."""
    make(stack, name, viewOn="base", pipeline=[])
    unit = RawTransaction(raw)
    unit.insert(name + "_base", {"_id": 2})
    found = unit.run({"find": name})["cursor"]["firstBatch"]
    assert [one["_id"] for one in found] == [1, 2]
    assert unit.commit()["ok"] == 1


def test_a_view_made_in_between(stack, raw, name):
    """What passes through the proxy is known at once."""
    unit = RawTransaction(raw)
    unit.insert(name, {"_id": 1})
    assert unit.commit()["ok"] == 1
    raw.run({"drop": name, "$db": DATABASE})
    raw.run({"create": name, "viewOn": "base", "pipeline": [], "$db": DATABASE})
    assert code_of(unit.next().insert(name, {"_id": 2})) == NOT_SUPPORTED_ON_VIEW


@pytest.mark.parametrize("database", ["admin", "config", "local"])
def test_internal_databases(stack, raw, name, database):
    for command in ({"insert": name, "documents": [{"_id": 1}]}, {"find": name}):
        reply = RawTransaction(raw).run(command, database)
        assert reply["ok"] == 0 and reply["code"] == NOT_SUPPORTED_IN_TRANSACTION
    assert list(stack.direct[database][name].find()) == []


def test_system_collections(raw):
    reply = RawTransaction(raw).insert("system.js", {"_id": 1})
    assert reply["ok"] == 0 and reply["code"] == NOT_SUPPORTED_IN_TRANSACTION


@pytest.mark.parametrize(
    "command",
    [
        {"create": None},
        {"createIndexes": None, "indexes": [{"key": {"a": 1}, "name": "a_1"}]},
        {"drop": None},
        {"collMod": None},
        {"aggregate": None, "pipeline": [{"$out": "other"}], "cursor": {}},
        {"aggregate": None, "pipeline": [{"$merge": "other"}], "cursor": {}},
        {"count": None},
        {"listIndexes": None},
    ],
)
def test_commands_that_no_transaction_takes(stack, raw, name, command):
    unit = RawTransaction(raw)
    unit.insert(name, {"_id": 1})
    reply = unit.run({key: name if value is None else value for key, value in command.items()})
    assert reply["ok"] == 0 and reply["code"] == NOT_SUPPORTED_IN_TRANSACTION
    assert unit.commit()["code"] == 251
    assert stack.stored(name) == {}


@pytest.mark.parametrize("commit", [True, False])
def test_a_collection_is_made_by_its_first_document(stack, raw, name, commit):
    """By insert or upsert. It is there at once, and an abort leaves it, empty."""
    unit = RawTransaction(raw)
    unit.insert(name, {"_id": 1})
    unit.update(name + "_up", {"_id": 1}, {"$set": {"a": 1}})
    statement = {"q": {"_id": 1}, "u": {"$set": {"a": 1}}, "upsert": True}
    unit.run({"update": name + "_up", "updates": [statement]})
    (unit.commit if commit else unit.abort)()
    assert stack.stored(name) == ({1: {"_id": 1}} if commit else {})
    assert stack.stored(name + "_up") == ({1: {"_id": 1, "a": 1}} if commit else {})
    assert {name, name + "_up"} <= set(stack.direct[DATABASE].list_collection_names())


MIB = 1024 * 1024


@pytest.mark.parametrize(
    "megabytes, update, fits",
    [
        (7.9, {"$set": {"c": 1}}, True),  # both images in one command
        (8.1, {"$set": {"c": 1}}, False),
        (6.9, {"$push": {"c": 1}}, True),  # computed by the server
        (7.1, {"$push": {"c": 1}}, False),
    ],
)
def test_large_documents(stack, raw, name, megabytes, update, fits):
    """Up to a size they are written and undone; beyond it comes an error, and nothing is changed."""
    large = {"_id": 1, "b": "x" * int(megabytes * MIB)}
    stack.direct[DATABASE][name].insert_one(large)
    unit = RawTransaction(raw)
    reply = unit.update(name, {"_id": 1}, update)
    if fits:
        assert reply["nModified"] == 1 and unit.abort()["ok"] == 1
    else:
        assert reply["code"] == NOT_SUPPORTED_IN_TRANSACTION and unit.commit()["code"] == 251
    assert stack.stored(name) == {1: large}

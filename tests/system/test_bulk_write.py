"""The bulkWrite command: writes of any kind in any namespaces, as one unit; replies as MongoDB 8.0
gives them, though the server behind may not know the command."""

import contextlib
import os

import bson
import pytest
from conftest import DATABASE, RawTransaction, Stack, is_transient
from holdfast_testing import Connection


@pytest.fixture(scope="module")
def stack():
    with Stack({"unit.lockWait": "1s"}) as made:
        yield made
        made.proxy.verify()


def bulk(names, ops, **fields):
    return {
        "bulkWrite": 1,
        "ops": ops,
        "nsInfo": [{"ns": f"{DATABASE}.{name}"} for name in names],
        **fields,
        "$db": "admin",
    }


def counts(reply):
    names = ("nErrors", "nInserted", "nMatched", "nModified", "nUpserted", "nDeleted")
    return tuple(reply[name] for name in names)


MIXED = [
    {"insert": 0, "document": {"_id": 1, "a": 0}},
    {"insert": 0, "document": {"_id": 2, "a": 0}},
    {"insert": 1, "document": {"_id": 1}},
    {"insert": 0, "document": {"_id": 3, "a": 5}},
    {"update": 0, "filter": {"a": 0}, "updateMods": {"$inc": {"a": 1}}, "multi": True},
    {"update": 0, "filter": {"_id": 3}, "updateMods": [{"$set": {"b": {"$add": ["$a", 1]}}}]},
    {"update": 1, "filter": {"_id": 9}, "updateMods": {"$set": {"x": 1}}, "upsert": True},
    {"update": 1, "filter": {"_id": 1}, "updateMods": {"y": 1}},
    {"delete": 0, "filter": {"_id": 2}},
    {"delete": 1, "filter": {"nothing": 1}, "multi": True},
]


def check_mixed(stack, names, reply):
    assert reply["ok"] == 1, reply
    assert counts(reply) == (0, 4, 4, 4, 1, 1)
    cursor = reply["cursor"]
    assert cursor["id"] == 0 and cursor["ns"] == "admin.$cmd.bulkWrite"
    results = cursor["firstBatch"]
    assert [one["idx"] for one in results] == list(range(10))
    assert [one["n"] for one in results] == [1, 1, 1, 1, 2, 1, 1, 1, 1, 0]
    assert [one.get("nModified") for one in results] == [None] * 4 + [2, 1, 0, 1, None, None]
    assert results[6]["upserted"] == {"_id": 9}
    assert stack.stored(names[0]) == {1: {"_id": 1, "a": 1}, 3: {"_id": 3, "a": 5, "b": 6}}
    assert stack.stored(names[1]) == {1: {"_id": 1, "y": 1}, 9: {"_id": 9, "x": 1}}


@pytest.fixture
def names(name):
    return [name, f"{name}_other"]


def test_plain(stack, raw, names):
    """All kinds, in two collections, each result in its place."""
    check_mixed(stack, names, raw.run(bulk(names, MIXED)))


def test_errors_only(stack, raw, names):
    """Only failures are listed; the counts stay."""
    reply = raw.run(bulk(names, MIXED, errorsOnly=True))
    assert reply["cursor"]["firstBatch"] == [] and counts(reply) == (0, 4, 4, 4, 1, 1)


def test_in_a_transaction(stack, raw, names):
    """It belongs to the unit: an abort undoes it, a commit keeps it."""
    unit = RawTransaction(raw)
    assert unit.run(bulk(names, MIXED))["ok"] == 1
    assert unit.abort()["ok"] == 1
    assert stack.stored(names[0]) == {} and stack.stored(names[1]) == {}
    unit = RawTransaction(raw)
    reply = unit.run(bulk(names, MIXED))
    assert unit.commit()["ok"] == 1
    check_mixed(stack, names, reply)


@pytest.mark.parametrize("ordered", [True, False])
def test_an_error(stack, raw, names, ordered):
    """What the server refuses is told at its index; unordered goes on behind it."""
    stack.direct[DATABASE][names[1]].insert_one({"_id": 1})
    ops = [
        {"insert": 0, "document": {"_id": 1}},
        {"insert": 1, "document": {"_id": 1}},
        {"insert": 0, "document": {"_id": 2}},
        {"update": 0, "filter": {"_id": 1}, "updateMods": {"$set": {"a": 1}}},
    ]
    reply = raw.run(bulk(names, ops, ordered=ordered))
    results = reply["cursor"]["firstBatch"]
    assert reply["ok"] == 1 and reply["nErrors"] == 1
    assert results[1]["ok"] == 0 and results[1]["idx"] == 1 and results[1]["code"] == 11000
    assert results[1]["n"] == 0 and results[1]["keyValue"] == {"_id": 1}
    if ordered:
        assert len(results) == 2 and reply["nInserted"] == 1
        assert stack.stored(names[0]) == {1: {"_id": 1}}
    else:
        assert [one["ok"] for one in results] == [1, 0, 1, 1]
        assert counts(reply) == (1, 2, 1, 1, 0, 0)
        assert stack.stored(names[0]) == {1: {"_id": 1, "a": 1}, 2: {"_id": 2}}


def test_an_error_in_a_transaction(stack, raw, names):
    """As after any error the transaction is over, and nothing of it is left."""
    stack.direct[DATABASE][names[1]].insert_one({"_id": 1})
    unit = RawTransaction(raw)
    ops = [
        {"insert": 0, "document": {"_id": 1}},
        {"insert": 1, "document": {"_id": 1}},
    ]
    reply = unit.run(bulk(names, ops))
    assert reply["cursor"]["firstBatch"][1]["code"] == 11000
    assert stack.stored(names[0]) == {}
    late = unit.commit()
    assert late["code"] == 251 and is_transient(late)


def test_done_once(stack, names):
    """Retried with its number, also after a restart: the first answer, and no second execution."""
    session = {"lsid": {"id": bson.Binary(os.urandom(16), 4)}, "txnNumber": bson.Int64(1)}
    ops = [
        {"update": 0, "filter": {"_id": 1}, "updateMods": {"$inc": {"n": 1}}, "upsert": True},
        {"update": 1, "filter": {"_id": 1}, "updateMods": {"$inc": {"n": 1}}, "upsert": True},
    ]
    command = bulk(names, ops, **session)
    with Connection(stack.proxy.port) as raw:
        first = raw.run(command)
        assert counts(first) == (0, 0, 0, 0, 2, 0)
        assert raw.run(command)["cursor"] == first["cursor"]
    stack.proxy.restart()
    with Connection(stack.proxy.port) as raw:
        assert raw.run(command)["cursor"] == first["cursor"]
    assert stack.stored(names[0]) == stack.stored(names[1]) == {1: {"_id": 1, "n": 1}}


@pytest.mark.parametrize("crash_at", ["unit_sent:2", "unit_answered:2", "commit_durable"])
def test_a_crash(stack, names, crash_at):
    """Killed between its writes it leaves nothing; once its commit is durable, all of it."""
    stack.proxy.restart(crash_at=crash_at)
    with Connection(stack.proxy.port) as raw:
        with contextlib.suppress(OSError):
            ops = [{"insert": n, "document": {"_id": 1}} for n in (0, 1)]
            assert raw.run(bulk(names, ops)) is None
    stack.proxy.restart()
    wanted = {1: {"_id": 1}} if crash_at == "commit_durable" else {}
    assert stack.stored(names[0]) == stack.stored(names[1]) == wanted


@pytest.mark.parametrize(
    "ops, code",
    [
        ([], 16),
        ([{"insert": 2, "document": {}}], 2),
        ([{"insert": -1, "document": {}}], 2),
        ([{"insert": "x", "document": {}}], 2),
        ([{"replace": 0, "document": {}}], 9),
        ([{"insert": 0}], 40414),
        ([{"insert": 0, "document": 1}], 14),
        ([{"update": 0, "filter": {}}], 40414),
        ([{"update": 0, "updateMods": {}}], 40414),
        ([{"delete": 0, "filter": {}, "what": 1}], 40415),
        ([{"delete": 0, "filter": {}, "multi": "x"}], 14),
        ([{}], 9),
    ],
)
def test_refusals(stack, raw, names, ops, code):
    """What is no bulkWrite is an error, and nothing is done."""
    reply = raw.run(bulk(names, ops))
    assert reply["ok"] == 0 and reply["code"] == code, reply
    assert stack.stored(names[0]) == {}


@pytest.mark.parametrize("spaces", [[{}], [{"ns": "nodot"}], [{"ns": ".c"}], [{"ns": "d."}], 5])
def test_bad_namespaces(raw, spaces):
    """nsInfo must name collections."""
    command = {**bulk([], [{"insert": 0, "document": {}}]), "nsInfo": spaces}
    reply = raw.run(command)
    assert reply["ok"] == 0 and reply["code"] in (73, 14), reply

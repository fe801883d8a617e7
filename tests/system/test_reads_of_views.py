"""Reads of views, and cursors that are not like others, show no uncommitted write either.

The judge: the documents as they were committed, by hand; and the server's own answer once the units
have ended.
"""

import threading
import time

import pytest
from bson.int64 import Int64
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Connection

LOCK_TIMEOUT = 24
SOON = 2  # seconds; one wait for a unit is an error after unit.lockWait


@pytest.fixture(scope="module")
def stack():
    with Stack({"unit.lockWait": "300ms"}) as made:
        yield made


def create(connection, view, on, pipeline, **options):
    command = {"create": view, "viewOn": on, "pipeline": pipeline, **options, "$db": DATABASE}
    assert connection.run(command)["ok"] == 1


@pytest.fixture
def view(stack, outside, name):
    """Those with a < 5, doubled, of six documents."""
    stack.direct[DATABASE][name].insert_many([{"_id": i, "a": i} for i in range(6)])
    pipeline = [{"$match": {"a": {"$lt": 5}}}, {"$addFields": {"b": {"$multiply": ["$a", 2]}}}]
    create(outside, name + "_view", name, pipeline)
    return name + "_view"


COMMITTED = [{"_id": i, "a": i, "b": 2 * i} for i in range(5)]

READS = {
    "find": ({"find": 1, "sort": {"_id": 1}}, COMMITTED),
    "point": ({"find": 1, "filter": {"_id": 1}}, COMMITTED[1:2]),
    "filter": ({"find": 1, "filter": {"b": {"$gte": 4}}, "sort": {"b": -1}, "limit": 2}, COMMITTED[:2:-1]),
    "projection": ({"find": 1, "filter": {"_id": 2}, "projection": {"_id": 0, "b": 1}}, [{"b": 4}]),
    "aggregate": (
        {"aggregate": 1, "cursor": {}, "pipeline": [{"$group": {"_id": None, "b": {"$sum": "$b"}}}]},
        [{"_id": None, "b": 20}],
    ),
    "count": ({"count": 1, "query": {"b": {"$gt": 0}}}, 4),
    "distinct": ({"distinct": 1, "key": "b"}, [0, 2, 4, 6, 8]),
}


def answer_of(reply):
    assert reply["ok"] == 1, reply
    if "values" in reply:
        return sorted(reply["values"])
    return reply["n"] if "n" in reply else reply["cursor"]["firstBatch"]


def hide(unit, name):
    """Changes what every read of the view would notice."""
    assert unit.update(name, {"_id": 1}, {"$set": {"a": 4}})["ok"] == 1
    assert unit.update(name, {"_id": 5}, {"$set": {"a": 3}})["ok"] == 1
    assert unit.delete(name, {"_id": 2})["ok"] == 1
    assert unit.insert(name, {"_id": 9, "a": 1})["ok"] == 1


@pytest.mark.parametrize("what", list(READS))
def test_a_view_shows_the_committed_state(stack, outside, unit, view, name, what):
    """At once, evaluated by the server over what is committed in the collection behind."""
    command, wanted = READS[what]
    command = {**command, next(iter(command)): view, "$db": DATABASE}
    native = answer_of(outside.run(command))
    assert native == wanted or what == "distinct"  # which the test server does not know of views
    hide(unit, name)
    started = time.monotonic()
    reply = outside.run(command)
    assert answer_of(reply) == wanted
    assert time.monotonic() - started < SOON, "it waited"
    if "cursor" in reply:
        assert reply["cursor"]["ns"] == f"{DATABASE}.{view}"
    assert unit.abort()["ok"] == 1
    assert answer_of(outside.run(command)) == native


def test_a_view_inside_a_unit(stack, outside, unit, view, name):
    """Its own writes, and of others what was committed when it began."""
    hide(unit, name)
    with Connection(stack.proxy.port) as connection:
        other = RawTransaction(connection)
        command = {"find": view, "sort": {"_id": 1}}
        assert other.run(command)["cursor"]["firstBatch"] == COMMITTED
        own = unit.run(command)["cursor"]["firstBatch"]
        assert [d["_id"] for d in own] == [0, 1, 3, 4, 5, 9]
        assert unit.commit()["ok"] == 1
        assert other.run(command)["cursor"]["firstBatch"] == COMMITTED
        assert other.commit()["ok"] == 1
    assert len(answer_of(outside.run({**command, "$db": DATABASE}))) == 6


def test_views_of_views(stack, outside, unit, view, name):
    create(outside, name + "_outer", view, [{"$match": {"b": {"$gt": 2}}}])
    command = {"find": name + "_outer", "sort": {"_id": 1}, "$db": DATABASE}
    hide(unit, name)
    assert answer_of(outside.run(command)) == COMMITTED[2:]
    assert unit.abort()["ok"] == 1


def test_a_view_that_is_made_another_thing(stack, outside, unit, view, name):
    """Dropped, and made again of another collection: what is behind it now is what counts."""
    other = name + "_other"
    stack.direct[DATABASE][other].insert_many([{"_id": 1, "a": 7}])
    command = {"find": view, "$db": DATABASE}
    assert len(answer_of(outside.run(command))) == 5
    assert outside.run({"drop": view, "$db": DATABASE})["ok"] == 1
    assert answer_of(outside.run(command)) == []
    create(outside, view, other, [])
    assert unit.update(other, {"_id": 1}, {"$set": {"a": 8}})["ok"] == 1
    assert unit.update(name, {"_id": 1}, {"$set": {"a": 8}})["ok"] == 1
    assert answer_of(outside.run(command)) == [{"_id": 1, "a": 7}]
    assert outside.run({"drop": view, "$db": DATABASE})["ok"] == 1
    assert unit.abort()["ok"] == 1


def test_a_collection_that_becomes_a_view(stack, outside, unit, name):
    """What was known of the name is forgotten."""
    base = name + "_base"
    stack.direct[DATABASE][base].insert_many([{"_id": 1, "a": 1}])
    command = {"find": name, "$db": DATABASE}
    assert answer_of(outside.run(command)) == []
    create(outside, name, base, [])
    assert unit.update(base, {"_id": 1}, {"$set": {"a": 2}})["ok"] == 1
    assert answer_of(outside.run(command)) == [{"_id": 1, "a": 1}]
    assert unit.abort()["ok"] == 1


def test_a_lookup_from_a_view_waits(stack, outside, unit, view, name):
    """The collection behind it counts among those that the pipeline reads."""
    other = name + "_other"
    stack.direct[DATABASE][other].insert_one({"_id": 1, "a": 1})
    lookup = {"from": view, "localField": "a", "foreignField": "a", "as": "f"}
    command = {"aggregate": other, "pipeline": [{"$lookup": lookup}], "cursor": {}, "$db": DATABASE}
    native = answer_of(outside.run(command))  # the test server finds nothing in views so
    hide(unit, name)
    assert outside.run(command)["code"] == LOCK_TIMEOUT
    ended = threading.Timer(0.1, unit.abort)
    ended.start()
    assert answer_of(outside.run(command)) == native
    ended.join()


def test_a_cursor_on_a_view_waits(stack, outside, unit, view, name):
    """Its getMores name the view, and read the collection behind."""
    cursor = outside.run({"find": view, "batchSize": 2, "$db": DATABASE})["cursor"]
    assert cursor["id"] and len(cursor["firstBatch"]) == 2
    hide(unit, name)
    get_more = {"getMore": Int64(cursor["id"]), "collection": view, "$db": DATABASE}
    assert outside.run({**get_more, "batchSize": 1})["code"] == LOCK_TIMEOUT
    assert unit.abort()["ok"] == 1
    assert outside.run(get_more)["cursor"]["nextBatch"] == COMMITTED[2:]


# ---------------------------------------------------------------- cursors of other kinds


def test_a_cursor_that_takes_what_is_there(stack, outside, unit, name):
    """The getMores of a cursor that was opened with readConcern available do not wait."""
    stack.direct[DATABASE][name].insert_many([{"_id": i, "a": 0} for i in range(9)])
    available = {"readConcern": {"level": "available"}}
    opened = [
        {"find": name, "batchSize": 2, **available, "$db": DATABASE},
        {"aggregate": name, "pipeline": [], "cursor": {"batchSize": 2}, **available, "$db": DATABASE},
    ]
    cursors = [outside.run(command)["cursor"] for command in opened]
    committed = outside.run({"find": name, "batchSize": 2, "$db": DATABASE})["cursor"]
    assert unit.update(name, {"_id": 7}, {"$set": {"a": 1}})["ok"] == 1
    for cursor in cursors:
        started = time.monotonic()
        reply = outside.run(
            {"getMore": Int64(cursor["id"]), "collection": name, "batchSize": 2, "$db": DATABASE}
        )
        assert len(reply["cursor"]["nextBatch"]) == 2, reply
        assert time.monotonic() - started < SOON, "it waited"
    reply = outside.run({"getMore": Int64(committed["id"]), "collection": name, "$db": DATABASE})
    assert reply["code"] == LOCK_TIMEOUT
    assert unit.abort()["ok"] == 1

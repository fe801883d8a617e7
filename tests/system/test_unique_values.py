"""A value of a unique index that an open unit gives up or takes is held until the unit ends: nobody
else takes it, so a rollback can always restore what was there."""

import contextlib

import pytest
from bson.decimal128 import Decimal128
from conftest import DATABASE, RawTransaction, Stack, is_transient
from holdfast_testing import Connection, Later, Proxy, Server, WireTap
from pymongo.errors import DuplicateKeyError, OperationFailure

WRITE_CONFLICT = 112
DUPLICATE = 11000
LOCK_WAIT = 20


@pytest.fixture(scope="module")
def stack():
    with Stack({"unit.lockWait": f"{LOCK_WAIT}s"}) as made:
        yield made
        assert all(unit["state"] != "conflict" for unit in made.proxy.units())
        made.proxy.verify()


@pytest.fixture
def units(stack):
    """Makes raw transactions, each on a connection of its own."""
    with contextlib.ExitStack() as opened:
        yield lambda: RawTransaction(opened.enter_context(Connection(stack.proxy.port)))


# What a unit does to {_id: 1}, the document that another write then meets, and the index.
FREED = {
    "delete": (
        [("u", 1)], {}, {"u": 7}, {"q": {"_id": 1}, "limit": 1}, {"u": 7.0},
    ),
    "update": (
        [("u", 1)], {}, {"u": 7}, {"$set": {"u": 8}}, {"u": 7},
    ),
    "unset": (
        [("u", 1)], {}, {"u": 7}, {"$unset": {"u": 1}}, {"u": 7},
    ),
    "becomes_taken": (
        [("u", 1)], {}, {"u": 7}, {"$set": {"u": 8}}, {"u": 8},
    ),
    "replacement": (
        [("u", 1)], {}, {"u": 7}, {"v": 1}, {"u": 7},
    ),
    "missing_is_null": (
        [("u", 1)], {}, {"v": 1}, {"$set": {"u": 8}}, {"u": None},
    ),
    "compound": (
        [("a.b", 1), ("c", -1)], {}, {"a": {"b": 1}, "c": "x"}, {"$set": {"c": "y"}},
        {"a": {"b": 1}, "c": "x"},
    ),
    "multikey": (
        [("t", 1)], {}, {"t": [1, 2, 3]}, {"$set": {"t": [1, 3]}}, {"t": [9, 2]},
    ),
    "multikey_documents": (
        [("t.x", 1), ("t.y", 1)], {}, {"t": [{"x": 1, "y": 2}, {"x": 3}]}, {"$set": {"t": []}},
        {"t": [{"x": 5, "y": 1}, {"x": 1, "y": 2}]},
    ),
    "sparse": (
        [("u", 1)], {"sparse": True}, {"u": 7}, {"$unset": {"u": 1}}, {"u": 7},
    ),
    "partial": (
        [("u", 1)], {"partialFilterExpression": {"live": True}}, {"u": 7, "live": True},
        {"$set": {"live": False}}, {"u": 7, "live": True},
    ),
    # computed by the server
    "pulled": (
        [("t", 1)], {}, {"t": [1, 2, 3]}, {"$pull": {"t": 2}}, {"t": 2},
    ),
    "pipeline": (
        [("u", 1)], {}, {"u": 7}, [{"$set": {"u": {"$add": ["$u", 1]}}}], {"u": 7},
    ),
    "renamed": (
        [("u", 1)], {}, {"u": 7}, {"$rename": {"u": "w"}}, {"u": 7},
    ),
    "multiplied": (
        [("u", 1)], {}, {"u": 7}, {"$mul": {"u": 2}}, {"u": 14},
    ),
}


def prepare(stack, client, name, case):
    keys, options, before, change, taken = FREED[case]
    collection = client[DATABASE][name]
    collection.create_index(keys, unique=True, **options)
    collection.insert_one({"_id": 1, **before})
    return collection, {"_id": 1, **before}, change, {"_id": 2, **taken}


def change_in_unit(unit, name, case, change):
    if case == "delete":
        reply = unit.run({"delete": name, "deletes": [change]})
    else:
        reply = unit.update(name, {"_id": 1}, change)
    assert reply["ok"] == 1 and "writeErrors" not in reply and reply["n"] == 1


@pytest.mark.parametrize("case", FREED)
def test_rolled_back(stack, client, name, units, case):
    """A plain insert of the value waits; the rollback restores; then it is what it is: a duplicate,
    or a value that nobody took."""
    collection, before, change, taken = prepare(stack, client, name, case)
    unit = units()
    change_in_unit(unit, name, case, change)
    insert = Later(lambda: collection.insert_one(taken))
    assert insert.waits()
    assert unit.abort()["ok"] == 1
    if case in ("becomes_taken", "multiplied"):
        insert.result()
        assert stack.stored(name) == {1: before, 2: taken}
    else:
        with pytest.raises(DuplicateKeyError):
            insert.result()
        assert stack.stored(name) == {1: before}


def is_taken_by_itself(stack, name, case):
    """Whether the server alone still calls the value taken after the change. Of a value that was
    given up it should not, but SecantusDB does after every update."""
    keys, options, before, change, taken = FREED[case]
    twin = stack.direct[DATABASE][f"{name}_twin"]
    twin.create_index(keys, unique=True, **options)
    twin.insert_one({"_id": 1, **before})
    if case == "delete":
        twin.delete_one({"_id": 1})
    elif case == "replacement":
        twin.replace_one({"_id": 1}, change)
    else:
        twin.update_one({"_id": 1}, change)
    try:
        twin.insert_one({"_id": 2, **taken})
    except DuplicateKeyError:
        return True
    return False


@pytest.mark.parametrize("case", FREED)
def test_committed(stack, client, name, units, case):
    """The commit lets the plain insert in, or tells it that the value is taken for good."""
    collection, _, change, taken = prepare(stack, client, name, case)
    unit = units()
    change_in_unit(unit, name, case, change)
    insert = Later(lambda: collection.insert_one(taken))
    assert insert.waits()
    assert unit.commit()["ok"] == 1
    if is_taken_by_itself(stack, name, case):
        with pytest.raises(DuplicateKeyError):
            insert.result()
    else:
        insert.result()
        assert stack.stored(name)[2] == taken


def test_two_units_take_one_value(stack, client, name, units):
    """The second waits: a duplicate key would be untrue once the first is rolled back."""
    client[DATABASE][name].create_index("u", unique=True)
    first, second = units(), units()
    assert first.insert(name, {"_id": 1, "u": 7})["ok"] == 1
    insert = Later(lambda: second.insert(name, {"_id": 2, "u": 7}))
    assert insert.waits()
    assert first.abort()["ok"] == 1
    assert insert.result()["n"] == 1
    assert second.commit()["ok"] == 1
    assert stack.stored(name) == {2: {"_id": 2, "u": 7}}


def test_no_conflict_of_its_own(stack, client, name, units):
    """A value that was given up by a commit is no change of what a transaction has read: it takes it
    without a write conflict."""
    collection = client[DATABASE][name]
    collection.create_index("u", unique=True)
    collection.insert_one({"_id": 1, "u": 7})
    first, second = units(), units()
    assert second.insert(name, {"_id": 3, "u": 9})["ok"] == 1
    assert first.delete(name, {"_id": 1})["n"] == 1
    insert = Later(lambda: second.insert(name, {"_id": 2, "u": 7}))
    assert insert.waits()
    assert first.commit()["ok"] == 1
    assert insert.result()["n"] == 1
    assert second.commit()["ok"] == 1
    assert set(stack.stored(name)) == {2, 3}


def test_others_do_not_wait(stack, client, name, units):
    """Other values, documents that a sparse index leaves out, and updates of other fields go on."""
    collection = client[DATABASE][name]
    collection.create_index("u", unique=True, sparse=True)
    collection.insert_many([{"_id": 1, "u": 1}, {"_id": 2, "u": 2}, {"_id": 3}])
    unit = units()
    assert unit.delete(name, {"_id": 1})["n"] == 1
    assert unit.insert(name, {"_id": 10})["n"] == 1
    done = Later(
        lambda: [
            collection.insert_one({"_id": 4, "u": 4}),
            collection.insert_one({"_id": 5}),
            collection.update_one({"_id": 2}, {"$set": {"v": 1}}),
            collection.update_one({"_id": 3}, {"$push": {"list": 1}}),
        ]
    )
    done.result()
    assert unit.abort()["ok"] == 1
    assert set(stack.stored(name)) == {1, 2, 3, 4, 5}


def test_upsert_finds_what_was_restored(stack, client, name, units):
    """An upsert by a value that an open unit has given up waits for it and then updates."""
    collection = client[DATABASE][name]
    collection.create_index("u", unique=True)
    collection.insert_one({"_id": 1, "u": 7})
    unit = units()
    assert unit.delete(name, {"_id": 1})["n"] == 1
    upsert = Later(lambda: collection.update_one({"u": 7}, {"$set": {"v": 1}}, upsert=True))
    assert upsert.waits()
    assert unit.abort()["ok"] == 1
    assert upsert.result().matched_count == 1
    assert stack.stored(name) == {1: {"_id": 1, "u": 7, "v": 1}}


# ---------------------------------------------------------------- values that the server computes

FOLDED = {"collation": {"locale": "en", "strength": 2}}
# index, its options, what document 2 is, what is done to it, and what is taken then.
COMPUTED = {
    "multiplied": ([("u", 1)], {}, {"u": 4}, {"$mul": {"u": 2}}, {"u": 8}),
    "decimal": (
        [("u", 1)], {}, {"u": Decimal128("1.6")}, {"$mul": {"u": Decimal128("5.0")}}, {"u": 8},
    ),
    "least": ([("u", 1)], {}, {"u": 9}, {"$min": {"u": 8}}, {"u": 8}),
    "renamed": ([("u", 1)], {"sparse": True}, {"w": 8}, {"$rename": {"w": "u"}}, {"u": 8}),
    "bits": ([("u", 1)], {}, {"u": 12}, {"$bit": {"u": {"and": 10}}}, {"u": 8}),
    "pushed": ([("t", 1)], {}, {"t": [1, 2]}, {"$push": {"t": 8}}, {"t": [7, 8]}),
    "pushed_sorted": (
        [("t", 1)], {}, {"t": [1]}, {"$push": {"t": {"$each": [8], "$sort": -1, "$slice": 5}}},
        {"t": 8},
    ),
    "added": ([("t.x", 1)], {}, {"t": [{"x": 1}]}, {"$addToSet": {"t": {"x": 8}}}, {"t": {"x": 8}}),
    "pulled": ([("t", 1)], {}, {"t": [8.0, 2]}, {"$pull": {"t": {"$lt": 20}}}, {"t": []}),
    "every_element": (
        [("t.x", 1), ("v", 1)], {}, {"t": [{"x": 1}, {"x": 4}], "v": 1}, {"$mul": {"t.$[].x": 2}},
        {"t": [{"x": 8}], "v": 1},
    ),
    "array_filter": (
        [("t.x", 1)], {}, {"t": [{"x": 1}, {"x": 4}]}, {"$set": {"t.$[i].x": 8}},
        {"t": [{"x": 8}, {"x": 5}]},
    ),
    "compound": (
        [("a.b", 1), ("c", -1)], {}, {"a": {"b": 1}, "c": 4}, {"$mul": {"c": 2}},
        {"a": {"b": 1}, "c": 8},
    ),
    "partial": (
        [("u", 1)], {"partialFilterExpression": {"live": True}}, {"u": 8, "w": True},
        {"$rename": {"w": "live"}}, {"u": 8, "live": True},
    ),
    "collation": ([("s", 1)], FOLDED, {"w": "aB"}, {"$rename": {"w": "s"}}, {"s": "aB"}),
    "pipeline": ([("u", 1)], {}, {"u": 4}, [{"$set": {"u": {"$add": ["$u", 4]}}}], {"u": 8}),
    "pipeline_array": (
        [("t", 1)], {}, {"t": [1]}, [{"$set": {"t": {"$concatArrays": ["$t", [8]]}}}], {"t": [8]},
    ),
    "pipeline_replaces": (
        [("u", 1)], {}, {"v": 8}, [{"$replaceWith": {"_id": "$_id", "u": "$v"}}], {"u": 8},
    ),
}
MULTI = {"pipeline", "multiplied"}  # as an update of several, too
FILTERS = {"arrayFilters": [{"i.x": 4}]}


def computing(name, case, number=2, **more):
    """The update command that computes the value."""
    statement = {"q": {"_id": number}, "u": COMPUTED[case][3], **more}
    if case == "array_filter":
        statement.update(FILTERS)
    return {"update": name, "updates": [statement]}


def prepare_computed(client, name, case):
    keys, options, document, _, taken = COMPUTED[case]
    collection = client[DATABASE][name]
    collection.create_index(keys, unique=True, **options)
    return collection, {"_id": 2, **document}, taken


def was_duplicate(reply):
    return "writeErrors" in reply and reply["writeErrors"][0]["code"] == DUPLICATE


@pytest.mark.parametrize("end", ["abort", "commit"])
@pytest.mark.parametrize("case", COMPUTED)
def test_a_computed_value_was_given_up(stack, client, name, units, case, end):
    """Who computes a value that another unit has given up waits for it, before anything is written."""
    collection, document, taken = prepare_computed(client, name, case)
    collection.insert_many([{"_id": 1, **taken}, document])
    first, second = units(), units()
    assert first.delete(name, {"_id": 1})["n"] == 1
    update = Later(lambda: second.run(computing(name, case)))
    assert update.waits()
    assert stack.stored(name) == {2: document}, "nothing was written yet"
    assert first.run({f"{end}Transaction": 1}, "admin", begin=False)["ok"] == 1
    reply = update.result()
    if end == "abort":
        assert was_duplicate(reply)
        assert stack.stored(name) == {1: {"_id": 1, **taken}, 2: document}
    else:
        assert reply["ok"] == 1 and (reply["n"] == 1 or was_duplicate(reply))
        second.commit()


@pytest.mark.parametrize("end", ["abort", "commit"])
@pytest.mark.parametrize("case", [one for one in COMPUTED if one != "pulled"])
def test_two_units_compute_one_value(stack, client, name, units, case, end):
    """The second waits: it gets a duplicate key only if the first commits."""
    collection, document, _ = prepare_computed(client, name, case)
    if case == "compound":
        other = {**document, "_id": 3, "c": 4.0}  # a value of its own: 8 by another way
        change = computing(name, case, 3)
        collection.insert_one(document)
        document, other = {**document, "_id": 2}, {**other, "c": 16}
        change["updates"][0]["u"] = {"$mul": {"c": 0.5}}
    elif case in ("pipeline", "multiplied", "decimal", "least", "bits"):
        other = {"_id": 3, "u": 16}
        change = {"update": name, "updates": [{"q": {"_id": 3}, "u": {"$mul": {"u": 0.5}}}]}
        collection.insert_one(document)
    else:
        other = {"_id": 3, "u": 5, "t": {"x": 55}, "s": "z", "v": 3}
        taken = COMPUTED[case][4]
        change = {"update": name, "updates": [{"q": {"_id": 3}, "u": {"$set": taken}}]}
        collection.insert_one(document)
    collection.insert_one(other)
    first, second = units(), units()
    assert first.run(computing(name, case))["n"] == 1
    update = Later(lambda: second.run(change))
    assert update.waits()
    assert first.run({f"{end}Transaction": 1}, "admin", begin=False)["ok"] == 1
    reply = update.result()
    if end == "commit":
        assert was_duplicate(reply)
        assert stack.stored(name)[3] == other
    else:
        assert reply["n"] == 1 and second.commit()["ok"] == 1
        assert stack.stored(name)[2] == document


@pytest.mark.parametrize("form", ["multi", "modified", "upserted", "upserted_by_pipeline", "plain"])
def test_forms_that_compute(stack, client, name, units, form):
    """The same of every form of update, and of what an upsert makes."""
    collection = client[DATABASE][name]
    collection.create_index("u", unique=True)
    collection.insert_many([{"_id": 1, "u": 8}, {"_id": 2, "u": 4, "k": 1}, {"_id": 3, "u": 5}])
    first, second = units(), units()
    pipeline = [{"$set": {"u": {"$multiply": [{"$ifNull": ["$u", "$v"]}, 2]}}}]
    update = {"q": {"_id": 2}, "u": pipeline}
    if form == "multi":
        update = {"q": {"k": 1}, "u": pipeline, "multi": True}
    elif form.startswith("upserted"):
        by_pipeline = form == "upserted_by_pipeline"
        update = {
            "q": {"v": 4} if by_pipeline else {"u": 4.0, "v": 7},
            "u": pipeline if by_pipeline else {"$mul": {"u": 2}},
            "upsert": True,
        }
    command = {"update": name, "updates": [update]}
    if form == "modified":
        command = {
            "findAndModify": name, "query": {"u": {"$lt": 5}}, "sort": {"u": 1}, "update": pipeline,
            "new": True,
        }
    assert first.delete(name, {"_id": 1})["n"] == 1
    if form == "plain":
        with Connection(stack.proxy.port) as plain:
            write = Later(lambda: plain.run({**command, "$db": DATABASE}))
            assert write.waits()
            assert first.commit()["ok"] == 1
            reply = write.result()
    else:
        write = Later(lambda: second.run(command))
        assert write.waits()
        assert first.abort()["ok"] == 1
        reply = write.result()
        assert reply.get("code") == DUPLICATE or was_duplicate(reply)
        assert set(stack.stored(name)) == {1, 2, 3}
        return
    assert reply["ok"] == 1
    assert stack.stored(name)[2]["u"] == (4 if was_duplicate(reply) else 8)


def test_computing_other_fields_waits_for_nobody(client, name, units):
    """A pipeline that sets other fields locks no values."""
    collection = client[DATABASE][name]
    collection.create_index("u", unique=True)
    collection.insert_many([{"_id": 1, "u": 8}, {"_id": 2, "u": 4}])
    first, second = units(), units()
    assert first.delete(name, {"_id": 1})["n"] == 1
    set_other = [{"$set": {"v": "$u"}}, {"$addFields": {"w.x": 1}}]
    assert second.update(name, {"_id": 2}, set_other)["n"] == 1
    assert second.commit()["ok"] == 1


@pytest.mark.parametrize("pipeline", [
    [{"$set": {"u": {"$divide": [1, 0]}}}], [{"$set": {"u": 1}, "$unset": "v"}], [{"$foo": 1}],
    [{"$unionWith": "none"}],
])
def test_a_wrong_pipeline_is_an_error(stack, client, name, pipeline):
    """What only an aggregation takes is not carried out as one, and errors are the update's own."""
    collection = client[DATABASE][name]
    collection.create_index("u", unique=True)
    collection.insert_one({"_id": 1, "u": 1})
    with pytest.raises(OperationFailure):
        collection.update_many({}, pipeline)
    assert stack.stored(name) == {1: {"_id": 1, "u": 1}}


PLACES_OF_ID = {
    "last": [{"$replaceWith": {"u": {"$add": ["$u", 4]}, "_id": "$_id"}}],
    "nowhere": [{"$replaceWith": {"u": {"$add": ["$u", 4]}}}],
}


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("place", PLACES_OF_ID)
def test_a_pipeline_puts_id_elsewhere(stack, client, name, units, place, indexed):
    """A document is stored with _id first, whatever its pipeline says: its unit can be undone, and
    writes it again."""
    collection = client[DATABASE][name]
    if indexed:
        collection.create_index("u", unique=True)
    collection.insert_one({"_id": 1, "u": 4, "v": 1})
    for again in (None, {"$set": {"w": 1}}):
        unit = units()
        assert unit.update(name, {"_id": 1}, PLACES_OF_ID[place])["nModified"] == 1
        assert again is None or unit.update(name, {"_id": 1}, again)["nModified"] == 1
        assert unit.abort()["ok"] == 1
        assert stack.stored(name) == {1: {"_id": 1, "u": 4, "v": 1}}
    unit = units()
    assert unit.update(name, {"_id": 1}, PLACES_OF_ID[place])["nModified"] == 1
    assert unit.commit()["ok"] == 1
    assert stack.stored(name) == {1: {"_id": 1, "u": 8}}


@pytest.mark.parametrize("indexed", [True, False])
def test_crash_when_a_pipeline_has_put_id_elsewhere(name, indexed):
    """The same where recovery undoes it, which has no after-image that the server computed."""
    with Stack() as made:
        with made.proxy.client() as client:
            collection = client[DATABASE][name]
            if indexed:
                collection.create_index("u", unique=True)
            collection.insert_one({"_id": 1, "u": 4})
        made.proxy.kill()
        made.proxy.start(crash_at="unit_answered:1")
        with Connection(made.proxy.port) as connection, contextlib.suppress(Exception):
            RawTransaction(connection).update(name, {"_id": 1}, PLACES_OF_ID["last"])
        made.proxy.start()
        assert made.stored(name) == {1: {"_id": 1, "u": 4}}
        assert all(unit["state"] != "conflict" for unit in made.proxy.units())


def test_many_computed_by_one_pipeline(stack, client, name, units):
    """More documents than one answer of the server holds: the values of all of them are locked."""
    collection = client[DATABASE][name]
    collection.create_index("u", unique=True)
    collection.insert_many([{"_id": n, "u": n, "p": "x" * 75_000} for n in range(120)])
    unit = units()
    pipeline = [{"$set": {"u": {"$add": ["$u", 1000]}, "q": "$p"}}]
    reply = unit.run({"update": name, "updates": [{"q": {}, "u": pipeline, "multi": True}]})
    assert reply["nModified"] == 120
    insert = Later(lambda: collection.insert_one({"_id": "new", "u": 1119}))
    assert insert.waits()
    assert unit.abort()["ok"] == 1
    insert.result()


def test_two_units_cross(stack, client, name, units):
    """Each wants the value that the other has given up: a deadlock like any other."""
    collection = client[DATABASE][name]
    collection.create_index("u", unique=True)
    collection.insert_many([{"_id": 1, "u": 1}, {"_id": 2, "u": 2}])
    first, second = units(), units()
    assert first.update(name, {"_id": 1}, {"$set": {"u": 11}})["n"] == 1
    assert second.update(name, {"_id": 2}, {"$set": {"u": 12}})["n"] == 1
    older = Later(lambda: first.update(name, {"_id": 1}, {"$set": {"u": 2}}))
    assert older.waits()
    reply = second.update(name, {"_id": 2}, {"$set": {"u": 1}})
    assert reply["code"] == WRITE_CONFLICT and is_transient(reply)
    assert older.result()["writeErrors"][0]["code"] == DUPLICATE, "2 is the victim's again"
    assert stack.stored(name) == {1: {"_id": 1, "u": 1}, 2: {"_id": 2, "u": 2}}


def test_swap_inside_one_unit(stack, client, name, units):
    """Two documents change places by way of a third value; undone, both are as they were."""
    collection = client[DATABASE][name]
    collection.create_index("u", unique=True)
    documents = {1: {"_id": 1, "u": 1}, 2: {"_id": 2, "u": 2}}
    collection.insert_many(documents.values())
    unit = units()
    for number, value in ((1, 0), (2, 1), (1, 2)):
        assert unit.update(name, {"_id": number}, {"$set": {"u": value}})["n"] == 1
    assert unit.abort()["ok"] == 1
    assert stack.stored(name) == documents


def test_index_created_between_units(stack, client, name, units):
    """createIndexes waits for the units inside; the next one knows the index."""
    collection = client[DATABASE][name]
    collection.insert_one({"_id": 1, "u": 7})
    unit = units()
    assert unit.update(name, {"_id": 1}, {"$set": {"v": 1}})["n"] == 1
    create = Later(lambda: collection.create_index("u", unique=True))
    assert create.waits()
    assert unit.commit()["ok"] == 1
    create.result()
    unit = units()
    assert unit.delete(name, {"_id": 1})["n"] == 1
    insert = Later(lambda: collection.insert_one({"_id": 2, "u": 7}))
    assert insert.waits()
    assert unit.abort()["ok"] == 1
    with pytest.raises(DuplicateKeyError):
        insert.result()


def test_dropped_index_is_forgotten(stack, client, name, units):
    """Once the index is gone nobody waits for its values."""
    collection = client[DATABASE][name]
    collection.create_index("u", unique=True, name="by_u")
    collection.insert_one({"_id": 1, "u": 7})
    unit = units()
    assert unit.delete(name, {"_id": 1})["n"] == 1
    assert unit.abort()["ok"] == 1
    collection.drop_index("by_u")
    unit = units()
    assert unit.delete(name, {"_id": 1})["n"] == 1
    Later(lambda: collection.insert_one({"_id": 2, "u": 7})).result()
    assert unit.abort()["ok"] == 1
    assert set(stack.stored(name)) == {1, 2}


def test_crash_with_the_unit_open(name):
    """kill -9 while the insert waits: recovery restores, and the insert's retry meets the value."""
    with Stack({"unit.lockWait": f"{LOCK_WAIT}s"}) as made, made.proxy.client() as client:
        collection = client[DATABASE][name]
        collection.create_index("u", unique=True)
        collection.insert_one({"_id": 1, "u": 7})
        with Connection(made.proxy.port) as connection:
            unit = RawTransaction(connection)
            assert unit.delete(name, {"_id": 1})["n"] == 1
            insert = Later(lambda: collection.insert_one({"_id": 2, "u": 7}))
            assert insert.waits()
            made.proxy.restart()
        with pytest.raises(DuplicateKeyError):
            insert.result()
        assert made.stored(name) == {1: {"_id": 1, "u": 7}}
        assert all(unit["state"] != "conflict" for unit in made.proxy.units())


@pytest.mark.parametrize("case", ["multiplied", "array_filter", "pipeline"])
def test_crash_while_a_value_is_computed(name, case):
    """Whenever it dies, no computed value stands in the way of the one that recovery restores: none
    is written while another unit holds it. (It would die at its second write's answer.)"""
    with Stack({"unit.lockWait": f"{LOCK_WAIT}s"}) as made:
        with made.proxy.client() as client:
            collection, document, taken = prepare_computed(client, name, case)
            collection.insert_many([{"_id": 1, **taken}, document])
        made.proxy.kill()
        made.proxy.start(crash_at="unit_answered:2")
        with Connection(made.proxy.port) as one, Connection(made.proxy.port) as other:
            first, second = RawTransaction(one), RawTransaction(other)
            assert first.delete(name, {"_id": 1})["n"] == 1
            update = Later(lambda: second.run(computing(name, case)))
            assert update.waits() and made.proxy.process.running()
            made.proxy.kill()
            with contextlib.suppress(Exception):
                update.result()
        made.proxy.start()
        assert made.stored(name) == {1: {"_id": 1, **taken}, 2: document}
        assert all(unit["state"] != "conflict" for unit in made.proxy.units())


# ---------------------------------------------------------------- _ids under a collation


@pytest.fixture
def collated(client, name):
    """A collection in which mongod takes "abc" and "ABC" for one _id. The test server makes two
    documents of them: here it is told apart only who waits for whom."""
    return client[DATABASE].create_collection(name, **FOLDED)


ID_WRITES = {
    "insert": lambda spelling: {"insert": None, "documents": [{"_id": spelling, "v": 1}]},
    "upsert": lambda spelling: {
        "update": None,
        "updates": [{"q": {"_id": spelling}, "u": {"$set": {"v": 1}}, "upsert": True}],
    },
    # Not computed by the proxy.
    "upsert_computed": lambda spelling: {
        "update": None,
        "updates": [{"q": {"_id": spelling}, "u": {"$push": {"v": 1}}, "upsert": True}],
    },
}


@pytest.mark.parametrize("plain", [False, True], ids=["unit", "plain"])
@pytest.mark.parametrize("write", ID_WRITES)
def test_ids_that_collate_the_same(stack, raw, name, units, collated, write, plain):
    """Who makes a document of the same _id in another spelling waits for the unit that has."""
    command, other = ({**ID_WRITES[write](text), write.split("_")[0].replace("upsert", "update"): name}
                      for text in ("abc", "ABC"))
    first, second = units(), units()
    assert first.run(command)["n"] == 1
    assert units().insert(name, {"_id": 1})["n"] == 1, "what is no text is none of it"
    run = (lambda: raw.run({**other, "$db": DATABASE})) if plain else (lambda: second.run(other))
    later = Later(run)
    assert later.waits()
    assert "ABC" not in stack.stored(name), "nothing was written yet"
    assert first.abort()["ok"] == 1
    assert later.result()["n"] == 1
    assert "ABC" in stack.stored(name)


@pytest.mark.parametrize("plain", [False, True], ids=["unit", "plain"])
def test_an_id_that_was_given_up(stack, raw, name, units, collated, plain):
    """A removed document's _id is held in all spellings: it may come back."""
    collated.insert_one({"_id": "abc", "v": 1})
    first, second = units(), units()
    assert first.delete(name, {"_id": "abc"})["n"] == 1
    insert = {"insert": name, "documents": [{"_id": "ABC"}]}
    run = (lambda: raw.run({**insert, "$db": DATABASE})) if plain else (lambda: second.run(insert))
    later = Later(run)
    assert later.waits()
    assert stack.stored(name) == {}
    assert first.commit()["ok"] == 1
    assert later.result()["n"] == 1


@pytest.mark.parametrize("multi", [False, True])
def test_an_id_that_is_hidden(name, multi):
    """A write by an _id in another spelling waits for the unit that has removed the document. The
    test server takes no account of a collection's own collation: a relay adds it to what is asked."""

    def collate(command):
        asks = command.get("find") == name or command.get("aggregate") == name
        return {**command, **FOLDED} if asks else None

    with Server() as server, WireTap(server.port) as tap:
        direct = server.client()[DATABASE].create_collection(name, **FOLDED)
        direct.insert_one({"_id": "abc", "v": 1})
        tap.before_request = collate
        with Proxy(tap.uri, {"unit.lockWait": f"{LOCK_WAIT}s"}) as proxy:
            with Connection(proxy.port) as one, Connection(proxy.port) as other:
                first, second = RawTransaction(one), RawTransaction(other)
                assert first.delete(name, {"_id": "abc"})["n"] == 1
                statement = {"q": {"_id": "ABC"}, "u": {"$set": {"v": 2}}, "multi": multi}
                update = Later(lambda: second.run({"update": name, "updates": [statement]}))
                assert update.waits()
                assert first.abort()["ok"] == 1
                assert update.result()["nModified"] == 1
                assert second.commit()["ok"] == 1
        assert list(direct.find()) == [{"_id": "abc", "v": 2}]

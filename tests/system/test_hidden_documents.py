"""A write with a general filter sees the documents that another unit hides from it: those that its
filter selects as they are committed, but not as the server holds them, for the other unit has
changed or removed them and may yet restore them. It waits for that unit; it never misses a document,
and an upsert never inserts its twin."""

import contextlib
import random
import threading
import time

import pytest
from conftest import DATABASE, RawTransaction, Stack, is_transient
from holdfast_testing import Connection, Later

WRITE_CONFLICT = 112
HEAD_START = 0.08  # a write that does not wait would be answered in it, mostly


@pytest.fixture(scope="module")
def stack():
    with Stack({"unit.lockWait": "20s"}) as made:
        yield made
        assert all(unit["state"] != "conflict" for unit in made.proxy.units())
        made.proxy.verify()


@pytest.fixture
def units(stack):
    """Makes raw transactions, each on a connection of its own."""
    with contextlib.ExitStack() as opened:
        yield lambda: RawTransaction(opened.enter_context(Connection(stack.proxy.port)))


class Plain:
    """Writes outside of units, in the form in which a unit's are asked for."""

    def __init__(self, connection):
        self.connection = connection

    def run(self, command, database=DATABASE):
        return self.connection.run({**command, "$db": database})


@pytest.fixture
def plain(stack):
    with Connection(stack.proxy.port) as connection:
        yield Plain(connection)


def update(name, change, **more):
    return {"update": name, "updates": [{"q": {"a": 1}, "u": change, **more}]}


SET = {"$set": {"w": 1}}
# How the write is sent, and whether it makes a document where there is none.
FORMS = {
    "update_one": (lambda c: update(c, SET), False),
    "update_many": (lambda c: update(c, SET, multi=True), False),
    "replacement": (lambda c: update(c, {"a": 1, "w": 1}), False),
    "pipeline": (lambda c: update(c, [{"$set": {"w": {"$add": [0, 1]}}}], multi=True), False),
    "pushed": (lambda c: update(c, {"$push": {"list": 1}}), False),
    "upsert_one": (lambda c: update(c, SET, upsert=True), True),
    "upsert_many": (lambda c: update(c, SET, upsert=True, multi=True), True),
    "delete_one": (lambda c: {"delete": c, "deletes": [{"q": {"a": 1}, "limit": 1}]}, False),
    "delete_many": (lambda c: {"delete": c, "deletes": [{"q": {"a": 1}, "limit": 0}]}, False),
    "unordered": (
        lambda c: {
            "update": c, "ordered": False,
            "updates": [{"q": {"a": 7}, "u": SET}, {"q": {"a": {"$lt": 2}}, "u": SET}],
        },
        False,
    ),
    "modified": (
        lambda c: {
            "findAndModify": c, "query": {"a": 1}, "sort": {"b": 1}, "update": SET, "new": True,
        },
        False,
    ),
    "removed": (
        lambda c: {"findAndModify": c, "query": {"a": 1}, "sort": {"b": 1}, "remove": True}, False,
    ),
    "upserted": (
        lambda c: {"findAndModify": c, "query": {"a": 1}, "update": SET, "upsert": True}, True,
    ),
    "bulk": (
        lambda c: {
            "bulkWrite": 1, "nsInfo": [{"ns": f"{DATABASE}.{c}"}],
            "ops": [{"update": 0, "filter": {"a": 1}, "updateMods": SET, "multi": True}],
        },
        False,
    ),
}
HIDES = {
    "changed": lambda unit, c: unit.update(c, {"_id": 5}, {"$set": {"a": 2}}),
    "removed": lambda unit, c: unit.delete(c, {"_id": 5}),
}


def database_of(command):
    return "admin" if "bulkWrite" in command else DATABASE


def count(reply):
    """How many documents the write has found."""
    assert reply["ok"] == 1 and "writeErrors" not in reply, reply
    if "lastErrorObject" in reply:
        return reply["lastErrorObject"]["n"]
    if "nMatched" in reply:
        return reply["nMatched"]
    return reply["n"] - len(reply.get("upserted", []))


def prepare(client, name, units, hide):
    """{_id: 5, a: 1} is hidden by an open unit; others are there that have nothing to do with it."""
    client[DATABASE][name].insert_many(
        [{"_id": 1, "a": 5, "b": 1}, {"_id": 5, "a": 1, "b": 2}, {"_id": 6, "a": 6, "b": 0}]
    )
    first = units()
    assert HIDES[hide](first, name)["n"] == 1
    return first


@pytest.mark.parametrize("hide", HIDES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("who", ["plain", "unit"])
def test_restored(stack, client, name, units, plain, who, form, hide):
    """The other unit is rolled back: the write finds the document, once."""
    make, _ = FORMS[form]
    command = make(name)
    first = prepare(client, name, units, hide)
    writer = plain if who == "plain" else units()
    write = Later(lambda: writer.run(command, database_of(command)))
    assert write.waits(HEAD_START)
    assert first.abort()["ok"] == 1
    assert count(write.result()) == 1
    if who == "unit":
        assert writer.commit()["ok"] == 1
    stored = stack.stored(name)
    assert set(stored) == ({1, 6} if "delete" in form or form == "removed" else {1, 5, 6})
    if 5 in stored:
        assert stored[5].get("w") == 1 or stored[5]["list"] == [1]


@pytest.mark.parametrize("hide", HIDES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("who", ["plain", "unit"])
def test_committed(stack, client, name, units, plain, who, form, hide):
    """The other unit commits: there is nothing to be found any more, neither by a plain write nor by
    a unit whose first command it is: its view begins then."""
    make, upsert = FORMS[form]
    command = make(name)
    first = prepare(client, name, units, hide)
    writer = plain if who == "plain" else units()
    write = Later(lambda: writer.run(command, database_of(command)))
    assert write.waits(HEAD_START)
    assert first.commit()["ok"] == 1
    reply = write.result()
    if who == "unit" and form == "unordered":  # its first statement has used its view
        assert reply["code"] == WRITE_CONFLICT and is_transient(reply)
        return
    if who == "unit":
        assert writer.commit()["ok"] == 1
    if upsert:
        made = [one for one in stack.stored(name).values() if one["a"] == 1]
        assert len(made) == 1 and made[0]["_id"] not in (1, 5, 6) and made[0]["w"] == 1
    else:
        assert count(reply) == 0
        assert not any(one["a"] == 1 or "w" in one for one in stack.stored(name).values())


@pytest.mark.parametrize("form", FORMS)
def test_committed_after_a_read(stack, client, name, units, form):
    """As mongod does: what the unit sees was changed by another one, a WriteConflict."""
    make, _ = FORMS[form]
    command = make(name)
    first = prepare(client, name, units, "changed")
    second = units()
    assert second.run({"find": name, "filter": {"_id": 1}})["ok"] == 1
    write = Later(lambda: second.run(command, database_of(command)))
    assert write.waits(HEAD_START)
    assert first.commit()["ok"] == 1
    reply = write.result()
    assert reply["code"] == WRITE_CONFLICT and is_transient(reply)
    assert stack.stored(name)[5] == {"_id": 5, "a": 2, "b": 2}


@pytest.mark.parametrize("form", FORMS)
def test_committed_after_the_snapshot(stack, client, name, units, form):
    """The unit's snapshot still has the document that another one has changed and committed since:
    its write does not pass that by."""
    make, _ = FORMS[form]
    command = make(name)
    client[DATABASE][name].insert_one({"_id": 5, "a": 1})
    unit = units()
    reply = unit.run({"find": name, "filter": {"a": 1}})
    assert [one["_id"] for one in reply["cursor"]["firstBatch"]] == [5]
    other = units()
    assert other.update(name, {"_id": 5}, {"$set": {"a": 2}})["n"] == 1
    assert other.commit()["ok"] == 1
    reply = unit.run(command, database_of(command))
    assert reply["code"] == WRITE_CONFLICT and is_transient(reply)
    assert stack.stored(name) == {5: {"_id": 5, "a": 2}}


def test_a_view_that_begins_anew(stack, client, name, units):
    """A unit's first command waits for one document; its view then has what the same commit has made
    of another one."""
    client[DATABASE][name].insert_many([{"_id": 1, "a": 1}, {"_id": 2, "a": 2}])
    first, second = units(), units()
    assert first.update(name, {"_id": 1}, {"$set": {"a": 2}})["n"] == 1
    write = Later(lambda: second.run(update(name, SET, multi=True)))
    assert write.waits(HEAD_START)
    assert first.update(name, {"_id": 2}, {"$set": {"a": 1}})["n"] == 1
    assert first.commit()["ok"] == 1
    assert write.result()["n"] == 1
    assert second.commit()["ok"] == 1
    assert stack.stored(name) == {1: {"_id": 1, "a": 2}, 2: {"_id": 2, "a": 1, "w": 1}}


@pytest.mark.parametrize("who", ["plain", "unit"])
def test_made_to_match(stack, client, name, units, plain, who):
    """A document that only its uncommitted image makes the filter select is not taken either."""
    client[DATABASE][name].insert_one({"_id": 5, "a": 2})
    first = units()
    assert first.update(name, {"_id": 5}, {"$set": {"a": 1}})["n"] == 1
    writer = plain if who == "plain" else units()
    write = Later(lambda: writer.run(update(name, SET, multi=True, upsert=True)))
    assert write.waits(HEAD_START)
    assert first.abort()["ok"] == 1
    reply = write.result()
    assert reply["ok"] == 1 and reply["n"] == 1 and len(reply["upserted"]) == 1
    if who == "unit":
        assert writer.commit()["ok"] == 1
    assert stack.stored(name)[5] == {"_id": 5, "a": 2}


# ---------------------------------------------------------------- which one of several


def test_the_first_by_the_sort_is_hidden(client, name, units, plain):
    """The committed order counts: a hidden document that comes first is waited for, another one is
    not taken in its place. Behind what was found it is left alone."""
    client[DATABASE][name].insert_many([{"_id": n, "a": 1, "b": n} for n in range(5)])
    first = units()
    assert first.update(name, {"_id": 2}, {"$set": {"a": 9}})["n"] == 1

    def take(sort):
        return plain.run(
            {"findAndModify": name, "query": {"a": 1}, "sort": {"b": sort}, "update": SET}
        )

    assert take(1)["value"]["_id"] == 0
    assert first.update(name, {"_id": 4}, {"$set": {"b": -1}})["n"] == 1
    write = Later(lambda: take(-1))
    assert write.waits(HEAD_START)
    assert first.abort()["ok"] == 1
    assert write.result()["value"]["_id"] == 4


def test_a_free_one_is_taken(client, name, units, plain):
    """Without a sort any document will do: a queue's workers do not wait for each other."""
    client[DATABASE][name].insert_many([{"_id": n, "state": "ready"} for n in range(3)])
    take = {
        "findAndModify": name,
        "query": {"state": "ready"},
        "update": {"$set": {"state": "taken"}},
    }
    workers = [units() for _ in range(3)]
    assert {one.run(take)["value"]["_id"] for one in workers} == {0, 1, 2}
    last = Later(lambda: plain.run(take))
    assert last.waits(HEAD_START), "none is free"
    for one in workers:
        assert one.abort()["ok"] == 1
    assert last.result()["value"] is not None


def test_others_are_not_waited_for(client, name, units, plain):
    """Documents that the filter selects in neither image have nothing to do with it."""
    client[DATABASE][name].insert_many([{"_id": n, "tenant": n, "v": 0} for n in range(4)])
    first = units()
    assert first.update(name, {"_id": 1}, {"$set": {"v": 1}})["n"] == 1
    assert first.delete(name, {"_id": 2})["n"] == 1
    for command, n in (
        ({"update": name, "updates": [{"q": {"tenant": 3}, "u": SET, "multi": True}]}, 1),
        ({"delete": name, "deletes": [{"q": {"tenant": 7}, "limit": 0}]}, 0),
        ({"update": name, "updates": [{"q": {"tenant": 8}, "u": SET, "upsert": True}]}, 1),
    ):
        assert plain.run(command)["n"] == n


def test_its_own_writes_are_seen(client, name, units):
    """What the unit itself has changed or removed hides nothing from it."""
    client[DATABASE][name].insert_many([{"_id": n, "a": 1} for n in range(4)])
    unit = units()
    assert unit.delete(name, {"_id": 0})["n"] == 1
    assert unit.update(name, {"_id": 1}, {"$set": {"a": 2}})["n"] == 1
    assert unit.run(update(name, SET, multi=True))["n"] == 2
    assert unit.run({"delete": name, "deletes": [{"q": {"a": 1}, "limit": 0}]})["n"] == 2
    assert unit.run(update(name, SET, upsert=True))["upserted"][0]["index"] == 0
    assert unit.commit()["ok"] == 1
    assert client[DATABASE][name].count_documents({"a": 1}) == 1


@pytest.mark.parametrize("more", [{"collation": {"locale": "en", "strength": 2}}, {"hint": "_id_"}])
def test_with_options(client, name, units, plain, more):
    """A collation selects among the images, too; a hint is the collection's."""
    client[DATABASE][name].insert_one({"_id": 1, "s": "X" if "collation" in more else "x"})
    first = units()
    assert first.update(name, {"_id": 1}, {"$set": {"s": "y"}})["n"] == 1
    write = Later(
        lambda: plain.run(
            {"update": name, "updates": [{"q": {"s": "x"}, "u": SET, "multi": True, **more}]}
        )
    )
    assert write.waits(HEAD_START)
    assert first.abort()["ok"] == 1
    assert count(write.result()) == 1


def test_many_hidden_documents(client, name, units, plain):
    """More than one command asks about, and larger ones."""
    collection = client[DATABASE][name]
    collection.insert_many([{"_id": n, "a": n % 2, "p": "x" * 500} for n in range(2600)])
    collection.insert_many([{"_id": f"large{n}", "a": 1, "p": "x" * 1_500_000} for n in range(3)])
    first = units()
    reply = first.run({"delete": name, "deletes": [{"q": {}, "limit": 0}]})
    assert reply["n"] == 2603
    write = Later(lambda: plain.run(update(name, SET, multi=True)))
    assert write.waits(HEAD_START)
    assert first.abort()["ok"] == 1
    assert count(write.result()) == 1303


def test_deadlocks_are_found(client, name, units):
    """Each waits for what the other hides: one of them is the victim."""
    client[DATABASE][name].insert_many([{"_id": 1, "a": 1}, {"_id": 2, "a": 2}])
    first, second = units(), units()
    assert first.delete(name, {"_id": 1})["n"] == 1
    assert second.delete(name, {"_id": 2})["n"] == 1
    older = Later(
        lambda: first.run({"update": name, "updates": [{"q": {"a": 2}, "u": SET, "multi": True}]})
    )
    assert older.waits(HEAD_START)
    reply = second.run(update(name, SET, multi=True))
    assert reply["code"] == WRITE_CONFLICT and is_transient(reply)
    assert older.result()["n"] == 1


# ---------------------------------------------------------------- no window


def test_no_twins_and_no_misses(stack, client, name):
    """Units hide documents and mostly give them back, while plain writes count all of them: whatever
    moment a search falls into, each document is found, and no upsert inserts a second one."""
    keys = range(4)
    client[DATABASE][name].insert_many([{"_id": k, "k": k, "n": 0} for k in keys])
    end = time.monotonic() + 2
    counted = []
    failures = []

    def hide(seed):
        choose = random.Random(seed)
        with Connection(stack.proxy.port) as connection:
            unit = RawTransaction(connection)
            while time.monotonic() < end:
                key = choose.choice(keys)
                if choose.random() < 0.5:
                    reply = unit.update(name, {"_id": key}, {"$set": {"k": 100}})
                else:
                    reply = unit.delete(name, {"_id": key})
                if reply["ok"] == 1:
                    unit.abort()
                elif not is_transient(reply):
                    failures.append(reply)
                unit.next()

    def count_all(form):
        number = 0
        with Connection(stack.proxy.port) as connection:
            while time.monotonic() < end:
                key = number % len(keys)
                query = {"k": {"$lt": 100}} if form == "multi" else {"k": key}
                statement = {"q": query, "u": {"$inc": {"n": 1}}, "upsert": form != "multi"}
                statement["multi"] = form == "multi"
                reply = connection.run({"update": name, "updates": [statement], "$db": DATABASE})
                found = len(keys) if form == "multi" else 1
                if reply["ok"] == 1 and (reply["n"] != found or "upserted" in reply):
                    failures.append(reply)
                elif reply["ok"] == 0 and reply["code"] != WRITE_CONFLICT:
                    failures.append(reply)
                number += reply["ok"] == 1
                counted.append(found if reply["ok"] == 1 else 0)

    threads = [threading.Thread(target=hide, args=(seed,)) for seed in range(3)]
    threads += [threading.Thread(target=count_all, args=(form,)) for form in ("multi", "one")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]
    stored = stack.stored(name)
    assert set(stored) == set(keys)
    assert sum(one["n"] for one in stored.values()) == sum(counted) > 0

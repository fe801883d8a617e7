"""unit.writes: deferred. Writes of a transaction that are put off until its commit: nobody and
nothing has any of them before, the transaction itself sees all of them, and what cannot be put off
is not.

That its answers and what it stores are those of unit.writes: immediate is test_deferred_compare.py's
part, that it is all or nothing whoever dies is test_deferred_crashes.py's.
"""

import signal
import sys
import time

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import (
    Connection,
    Later,
    Process,
    Proxy,
    ProxyFailed,
    Server,
    WireTap,
    wait_until,
)
from pymongo import DeleteOne, InsertOne, ReplaceOne, UpdateOne

NO_SUCH_TRANSACTION = 251
DUPLICATE_KEY = 11000
VALIDATION = 121
WRITES = ("insert", "update", "delete", "findAndModify")
BEFORE = [{"_id": key, "v": key, "s": {"x": [1, 2.5]}} for key in range(1, 7)]


def deferred_stack(**settings):
    """The server behind a tap, so that it is seen what it is sent."""
    settings = {"unit.writes": "deferred", "upstream.fenceWait": "100ms", **settings}
    return Stack(settings, between=lambda server: WireTap(server.port))


@pytest.fixture(scope="module")
def stack():
    with deferred_stack(**{"unit.lockWait": "1s"}) as made:
        yield made
        made.proxy.verify()


pytestmark = pytest.mark.usefixtures("unhooked")


def sent(stack, database=DATABASE):
    """The writes that the server was sent, of a database: [(kind, collection, how many)]."""
    lists = {"insert": "documents", "update": "updates", "delete": "deletes"}
    found = []
    for _, command in list(stack.between.commands):
        kind = next(iter(command))
        if kind in WRITES and command["$db"] == database:
            found.append((kind, command[kind], len(command.get(lists.get(kind), [None]))))
    return found


class Watched:
    """A collection with BEFORE, and what of a unit's writes has got where."""

    def __init__(self, stack, name, unit):
        self.stack, self.name, self.unit = stack, name, unit
        self.before = {document["_id"]: document for document in BEFORE}
        stack.direct[DATABASE][name].insert_many(BEFORE)
        self._units = len(stack.proxy.units())
        self.mark()

    def mark(self):
        """What was sent is sent from here on."""
        self._seen = len(sent(self.stack))

    def sent(self):
        return sent(self.stack)[self._seen :]

    def journaled(self):
        """Units of which the journal knows anything."""
        return len(self.stack.proxy.units()) - self._units

    def stored(self):
        return self.stack.stored(self.name)

    def put_off(self):
        """An update, an insert and a removal, of which nothing is to be seen yet."""
        reply = self.unit.update(self.name, {"_id": 1}, {"$set": {"v": 100}})
        assert (reply["ok"], reply["n"], reply["nModified"]) == (1, 1, 1), reply
        assert self.unit.insert(self.name, {"_id": 7, "v": 7}, {"_id": 8, "v": 8})["n"] == 2
        assert self.unit.delete(self.name, {"_id": 2})["n"] == 1
        self.check_put_off()
        return self.after()

    def after(self):
        kept = {key: document for key, document in self.before.items() if key != 2}
        return {
            **kept,
            1: {**self.before[1], "v": 100},
            7: {"_id": 7, "v": 7},
            8: {"_id": 8, "v": 8},
        }

    def check_put_off(self):
        assert self.sent() == []
        assert self.stored() == self.before

    def commit(self):
        reply = self.unit.commit()
        assert reply["ok"] == 1, reply


@pytest.fixture
def watched(stack, name, unit):
    return Watched(stack, name, unit)


def batch(reply):
    assert reply["ok"] == 1, reply
    return reply["cursor"]["firstBatch" if "firstBatch" in reply["cursor"] else "nextBatch"]


# ---------------------------------------------------------------- where they are, and when


def test_everything_comes_with_the_commit(watched, outside):
    """Before it neither server nor journal has anything of the unit; one command a kind then."""
    after = watched.put_off()
    assert watched.journaled() == 0
    everything = {"find": watched.name, "sort": {"_id": 1}, "$db": DATABASE}
    assert batch(outside.run(everything)) == BEFORE
    watched.commit()
    name = watched.name
    assert sorted(watched.sent()) == [("delete", name, 1), ("insert", name, 2), ("update", name, 1)]
    assert watched.stored() == after
    assert watched.journaled() == 1
    assert {d["_id"]: d for d in batch(outside.run(everything))} == after


def test_of_several_collections(stack, unit, name):
    """One command for each of them, in databases of their own and in one that is not there yet."""
    places = [(DATABASE, name), (DATABASE, f"{name}_b"), (f"{DATABASE}_{name}", name)]
    before = {database: len(sent(stack, database)) for database, _ in places}
    for number in range(3):
        for database, collection in places:
            assert unit.insert(collection, {"_id": number}, database=database)["n"] == 1
    assert all(len(sent(stack, database)) == before[database] for database, _ in places)
    assert unit.commit()["ok"] == 1
    assert sorted(sent(stack)[before[DATABASE] :]) == [
        ("insert", name, 3),
        ("insert", f"{name}_b", 3),
    ]
    for database, collection in places:
        assert sorted(d["_id"] for d in stack.direct[database][collection].find()) == [0, 1, 2]


def test_abort_forgets(watched):
    """Nothing is written, nothing is undone, nothing is in the journal; the locks are free."""
    watched.put_off()
    told = len(watched.stack.between.commands)
    assert watched.unit.abort()["ok"] == 1
    assert [next(iter(c)) for _, c in watched.stack.between.commands[told:]] == []
    watched.check_put_off()
    assert watched.journaled() == 0
    assert watched.unit.next().update(watched.name, {"_id": 1}, {"$set": {"v": 0}})["n"] == 1


def test_abort_behind_a_flush(watched):
    """What was written meanwhile is undone, what was put off after it forgotten."""
    watched.put_off()
    assert len(batch(watched.unit.run({"find": watched.name}))) == len(BEFORE) + 1
    assert watched.unit.update(watched.name, {"_id": 3}, {"$inc": {"v": 1}})["nModified"] == 1
    assert watched.unit.delete(watched.name, {"_id": 7})["n"] == 1
    assert watched.stored() == watched.after()
    assert watched.unit.abort()["ok"] == 1
    assert watched.stored() == watched.before


_CLIENT = """
import sys, time, pymongo
collection = pymongo.MongoClient(sys.argv[1])["test"][sys.argv[2]]
with collection.database.client.start_session() as session:
    session.start_transaction()
    collection.update_one({"_id": 1}, {"$set": {"v": 100}}, session=session)
    collection.insert_one({"_id": 7}, session=session)
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_killed_client_leaves_nothing(watched, unit):
    """Its locks are free soon, and there was nothing to undo."""
    killed = Process([sys.executable, "-c", _CLIENT, watched.stack.proxy.uri, watched.name])
    killed.wait_for_line(lambda line: line == "ready" or None, 20, "its writes")
    assert unit.delete(watched.name, {"_id": 2})["n"] == 1  # another's, which stays
    killed.kill()
    change = {"update": watched.name, "updates": [{"q": {"_id": 1}, "u": {"$set": {"v": 0}}}]}
    wait_until(lambda: unit.next().run(change)["ok"] == 1, 3, "its document is free")
    watched.check_put_off()
    assert watched.journaled() == 0


@pytest.mark.parametrize("how", ["endSessions", "newer number", "refused command"])
def test_other_ends(watched, raw, how):
    """Of the session, by its next transaction, and by a command that is none for a transaction."""
    unit = watched.unit
    watched.put_off()
    if how == "endSessions":
        assert raw.run({how: [unit.lsid], "$db": "admin"})["ok"] == 1
    elif how == "newer number":
        unit.next()
        assert unit.insert(watched.name, {"_id": 9})["n"] == 1
        assert unit.commit()["ok"] == 1
        assert watched.stored() == {**watched.before, 9: {"_id": 9}}
        assert unit.run({"find": watched.name}, begin=True)["ok"] == 0  # it has ended
        return
    else:
        assert unit.run({"count": watched.name})["ok"] == 0
    assert unit.commit()["code"] == NO_SUCH_TRANSACTION
    watched.check_put_off()
    assert watched.journaled() == 0


def test_commit_asked_again(watched, raw):
    """Its answer is in the journal as that of any unit."""
    after = watched.put_off()
    watched.commit()
    again = RawTransaction(raw, lsid=watched.unit.lsid)
    assert again.commit()["ok"] == 1
    watched.stack.proxy.restart()
    with Connection(watched.stack.proxy.port) as connection:
        assert again.commit(connection)["ok"] == 1
    assert watched.stored() == after
    watched.unit.begun = False


def test_a_proxy_that_dies(name):
    """With puts-off and what was written before: both are gone."""
    with deferred_stack() as stack, Connection(stack.proxy.port) as raw:
        watched = Watched(stack, name, RawTransaction(raw))
        general = update({"v": 5}, {"$set": {"v": 0}})
        assert watched.unit.run(placed(general, name))["nModified"] == 1
        assert watched.unit.update(name, {"_id": 1}, {"$inc": {"v": 1}})["nModified"] == 1
        assert {key: watched.stored()[key]["v"] for key in (1, 5)} == {1: 1, 5: 0}
        stack.proxy.restart()
        assert watched.stored() == watched.before
        with Connection(stack.proxy.port) as again:
            reply = RawTransaction(again, lsid=watched.unit.lsid).commit()
            assert reply["code"] == NO_SUCH_TRANSACTION, reply


def test_a_proxy_that_drains(name):
    """SIGTERM: who commits meanwhile has committed."""
    with deferred_stack() as stack:
        with Connection(stack.proxy.port) as raw:
            watched = Watched(stack, name, RawTransaction(raw))
            after = watched.put_off()
            stack.proxy.process.send(signal.SIGTERM)
            time.sleep(0.1)
            watched.commit()
        assert stack.proxy.process.wait(10) == 0
        assert watched.stored() == after
        stack.proxy.verify()


def test_lifetime_and_limits(name):
    """What is put off counts, and ends, as what is written."""
    settings = {"unit.lifetime": "1s", "unit.maxWrites": "10"}
    with deferred_stack(**settings) as stack, Connection(stack.proxy.port) as raw:
        many = RawTransaction(raw)
        replies = [many.insert(name, {"_id": i}) for i in range(11)]
        assert [reply["ok"] for reply in replies] == [1] * 10 + [0]
        late = RawTransaction(raw)
        assert late.insert(name, {"_id": 1})["ok"] == 1
        wait_until(lambda: late.insert(name, {"_id": 1})["ok"] == 0 or late.next(), 5, "it is late")
        assert stack.stored(name) == {}


def test_bytes_count_once(name):
    """A unit's: while they are put off, and then what is journaled of them in their place."""
    with deferred_stack(**{"unit.maxBytes": "1MiB"}) as stack, Connection(stack.proxy.port) as raw:
        unit = RawTransaction(raw)
        for number in range(25):
            assert unit.insert(name, {"_id": number, "x": "x" * (30 << 10)})["n"] == 1
            assert batch(unit.run({"find": name, "filter": {"_id": {"$lt": 0}}})) == []
        replies = [unit.insert(name, {"_id": 25 + n, "x": "x" * (30 << 10)}) for n in range(15)]
        assert replies[-1]["ok"] == 0
        assert stack.stored(name) == {}


def test_the_memory_of_all(name):
    """What all units have put off together is bounded; beyond, writes are carried out at once, and
    are put off again when there is room."""
    large = "x" * (60 << 10)
    count = (64 << 20) // len(large)
    with deferred_stack(**{"unit.maxOpen": "2000"}) as stack:
        with Connection(stack.proxy.port) as raw:
            for number in range(count):
                assert RawTransaction(raw).insert(name, {"_id": number, "x": large})["n"] == 1
            written = set(stack.stored(name))
            assert written < set(range(count)) and len(written) < count // 10
            late = RawTransaction(raw)
            assert late.insert(name, {"_id": "late", "x": large})["n"] == 1
            assert set(stack.stored(name)) == {*written, "late"}
        wait_until(lambda: stack.stored(name) == {}, 10, "what was written is undone")
        with Connection(stack.proxy.port) as raw:
            unit = RawTransaction(raw)
            assert unit.insert(name, {"_id": "again", "x": large})["n"] == 1
            assert stack.stored(name) == {}
            assert unit.commit()["ok"] == 1
        assert set(stack.stored(name)) == {"again"}


def test_an_upgrade_waits_for_it(name):
    """SIGUSR2 with a unit open that has put writes off: it commits in the former process, or is
    rolled back; nothing is half."""
    with deferred_stack(**{"upgrade.wait": "5s"}) as stack, Connection(stack.proxy.port) as raw:
        unit = RawTransaction(raw)
        assert unit.insert(name, {"_id": 1})["n"] == 1
        stack.proxy.begin_upgrade()
        time.sleep(0.2)
        assert unit.insert(name, {"_id": 2})["n"] == 1
        assert unit.commit()["ok"] == 1
        stack.proxy.finish_upgrade()
        assert sorted(stack.stored(name)) == [1, 2]


# ---------------------------------------------------------------- its own reads


def ids(reply):
    return sorted(document["_id"] for document in batch(reply))


AFTER_IDS = [1, 3, 4, 5, 6, 7, 8]
CHANGED = {"_id": 1, "v": 100, "s": {"x": [1, 2.5]}}
# What is read in the unit -> the command, what the reply tells, what it is to be.
READS = {
    "find": ({"find": "C"}, ids, AFTER_IDS),
    "find of the changed _id": ({"find": "C", "filter": {"_id": 1}}, batch, [CHANGED]),
    "find of its _id as another number": (
        {"find": "C", "filter": {"_id": 1.0}, "projection": {"v": 1}},
        batch,
        [{"_id": 1, "v": 100}],
    ),
    "find of the removed _id": ({"find": "C", "filter": {"_id": {"$eq": 2}}}, batch, []),
    "find of the inserted _id": ({"find": "C", "filter": {"$and": [{"_id": 7}]}}, ids, [7]),
    "find of several": ({"find": "C", "filter": {"_id": {"$in": [1, 2, 3]}}}, ids, [1, 3]),
    "find of all but one": (
        {"find": "C", "filter": {"_id": {"$ne": 3}}},
        ids,
        [1, 4, 5, 6, 7, 8],
    ),
    "find by another field": ({"find": "C", "filter": {"v": 100}}, ids, [1]),
    "find by an expression": (
        {"find": "C", "filter": {"$expr": {"$eq": ["$_id", 1]}}},
        batch,
        [CHANGED],
    ),
    "find of one of two": ({"find": "C", "filter": {"$or": [{"_id": 1}, {"v": 3}]}}, ids, [1, 3]),
    "distinct": (
        {"distinct": "C", "key": "v"},
        lambda reply: sorted(reply["values"]),
        [3, 4, 5, 6, 7, 8, 100],
    ),
    "aggregate": (
        {"aggregate": "C", "pipeline": [{"$match": {"v": {"$gt": 6}}}], "cursor": {}},
        ids,
        [1, 7, 8],
    ),
    "aggregate of another _id": (
        {"aggregate": "C", "pipeline": [{"$match": {"_id": 3}}], "cursor": {}},
        ids,
        [3],
    ),
    "count by aggregate": (
        {"aggregate": "C", "pipeline": [{"$group": {"_id": 1, "n": {"$sum": 1}}}], "cursor": {}},
        batch,
        [{"_id": 1, "n": 7}],
    ),
    "$lookup from another collection": (
        {
            "aggregate": "OTHER",
            "pipeline": [
                {"$lookup": {"from": "C", "localField": "_id", "foreignField": "_id", "as": "c"}},
                {"$match": {"_id": 1}},
            ],
            "cursor": {},
        },
        batch,
        [{"_id": 1, "c": [CHANGED]}],
    ),
    "$unionWith": (
        {"aggregate": "OTHER", "pipeline": [{"$unionWith": "C"}], "cursor": {}},
        ids,
        sorted([1, *AFTER_IDS]),
    ),
    "find of a view": ({"find": "VIEW"}, ids, AFTER_IDS),
    "find of one _id of a view": ({"find": "VIEW", "filter": {"_id": 1}}, ids, [1]),
    "find of another _id of a view": ({"find": "VIEW", "filter": {"_id": 3}}, ids, [3]),
    "aggregate of a view": (
        {"aggregate": "VIEW", "pipeline": [{"$match": {"w": 100}}], "cursor": {}},
        batch,
        [{"_id": 1, "w": 100}],
    ),
}


def placed(command, name):
    """The command on the test's own collections."""
    text = {"C": name, "OTHER": f"{name}_other", "VIEW": f"{name}_view"}

    def change(value):
        if isinstance(value, dict):
            return {key: change(one) for key, one in value.items()}
        if isinstance(value, list):
            return [change(one) for one in value]
        return text.get(value, value) if isinstance(value, str) else value

    return change(command)


@pytest.fixture
def beside(stack, watched, name):
    """Another collection with one document, and a view."""
    stack.direct[DATABASE][f"{name}_other"].insert_one({"_id": 1})
    stack.direct[DATABASE].command(
        "create", f"{name}_view", viewOn=name, pipeline=[{"$project": {"w": "$v"}}]
    )


@pytest.mark.parametrize("what", READS)
def test_it_reads_its_own(watched, beside, what):
    """The first read behind the writes; they are written for it, and the commit has no more to do."""
    command, tells, expected = READS[what]
    after = watched.put_off()
    assert tells(watched.unit.run(placed(command, watched.name))) == expected
    assert watched.stored() == after
    count = len(watched.sent())
    assert count == 3
    watched.commit()
    assert len(watched.sent()) == count and watched.stored() == after


def test_it_reads_its_own_and_aborts(watched, beside):
    for what in ("find", "find of a view", "$unionWith"):
        watched.put_off()
        command, tells, expected = READS[what]
        assert tells(watched.unit.run(placed(command, watched.name))) == expected
        assert watched.unit.abort()["ok"] == 1
        assert watched.stored() == watched.before
        watched.unit.next()
        watched.mark()


@pytest.mark.parametrize("key", [3, 99])
def test_a_find_of_another_id_writes_nothing(watched, key):
    """It cannot see them, so they stay put off."""
    after = watched.put_off()
    for query in ({"_id": key}, {"_id": {"$eq": key}, "v": {"$gt": 0}}, {"_id": {"$in": [key]}}):
        found = batch(watched.unit.run({"find": watched.name, "filter": query}))
        assert found == [document for document in BEFORE if document["_id"] == key]
    watched.check_put_off()
    watched.commit()
    assert watched.stored() == after


@pytest.mark.parametrize("collation", [None, {"locale": "en", "strength": 2}])
def test_a_find_of_another_text(watched, collation):
    """Under a collation it may be the _id that was put off."""
    unit, name = watched.unit, watched.name
    assert unit.insert(name, {"_id": "key"})["n"] == 1
    more = {} if collation is None else {"collation": collation}
    found = batch(unit.run({"find": name, "filter": {"_id": "KEY"}, **more}))
    assert found == ([] if collation is None else [{"_id": "key"}])
    assert (watched.sent() == []) == (collation is None)


def test_a_cursor_that_was_open(watched, stack):
    """getMore behind the writes: they are written before, as if each had been when it was sent."""
    first = watched.unit.run({"find": watched.name, "batchSize": 2, "sort": {"_id": 1}})
    assert [d["_id"] for d in batch(first)] == [1, 2]
    watched.put_off()
    cursor = first["cursor"]["id"]
    more = watched.unit.run({"getMore": cursor, "collection": watched.name})
    assert [d["_id"] for d in batch(more)][:4] == [3, 4, 5, 6]
    watched.commit()
    assert watched.stored() == watched.after()


def test_a_killed_cursor_writes_nothing(watched):
    first = watched.unit.run({"find": watched.name, "batchSize": 2})
    watched.put_off()
    kill = {"killCursors": watched.name, "cursors": [first["cursor"]["id"]]}
    assert watched.unit.run(kill)["ok"] == 1
    watched.check_put_off()


def test_others_read_what_was_before(watched, outside):
    """Plain reads, another transaction's, and one that began before: none of it until the commit,
    and nobody waits, also while it is written already."""
    with Connection(watched.stack.proxy.port) as connection:
        other = RawTransaction(connection)
        everything = {"find": watched.name, "sort": {"_id": 1}}
        assert batch(other.run(everything)) == BEFORE
        after = watched.put_off()
        for _ in range(2):
            assert batch(outside.run({**everything, "$db": DATABASE})) == BEFORE
            assert batch(other.run(everything)) == BEFORE
            batch(watched.unit.run(everything))  # writes
        assert watched.stored() == after
        watched.commit()
        assert batch(other.run(everything)) == BEFORE
        assert {d["_id"]: d for d in batch(outside.run({**everything, "$db": DATABASE}))} == after
        other.abort()


# ---------------------------------------------------------------- its own later writes


def update(query, change, **more):
    return {"update": "C", "updates": [{"q": query, "u": change, **more}]}


def delete(query, limit=1):
    return {"delete": "C", "deletes": [{"q": query, "limit": limit}]}


def modify(query, **more):
    return {"findAndModify": "C", "query": query, **more}


# Behind put_off(): the command, what its reply holds, and what is different then.
LATER = {
    "the same again": (
        update({"_id": 1}, {"$inc": {"v": 1}}),
        {"n": 1, "nModified": 1},
        {1: {**CHANGED, "v": 101}},
    ),
    "what was inserted": (
        update({"_id": 7}, {"$set": {"w": 1}}),
        {"n": 1, "nModified": 1},
        {7: {"_id": 7, "v": 7, "w": 1}},
    ),
    "to what it is": (update({"_id": 1}, {"$set": {"v": 100}}), {"n": 1, "nModified": 0}, {}),
    "what was removed": (update({"_id": 2}, {"$set": {"v": 0}}), {"n": 0, "nModified": 0}, {}),
    "another condition": (update({"_id": 1, "v": 1}, {"$set": {"v": 0}}), {"n": 0}, {}),
    "by another field": (
        update({"v": 100}, {"$set": {"v": 101}}),
        {"n": 1, "nModified": 1},
        {1: {**CHANGED, "v": 101}},
    ),
    "several": (
        update({"v": {"$gt": 6}}, {"$set": {"v": 0}}, multi=True),
        {"n": 3, "nModified": 3},
        {1: {**CHANGED, "v": 0}, 7: {"_id": 7, "v": 0}, 8: {"_id": 8, "v": 0}},
    ),
    "several by _id": (
        update({"_id": {"$in": [1, 2, 7]}}, {"$set": {"w": 0}}, multi=True),
        {"n": 2, "nModified": 2},
        {1: {**CHANGED, "w": 0}, 7: {"_id": 7, "v": 7, "w": 0}},
    ),
    "replaced": (
        update({"_id": 1}, {"w": 1}),
        {"n": 1, "nModified": 1},
        {1: {"_id": 1, "w": 1}},
    ),
    "removed": (delete({"_id": 1}), {"n": 1}, {1: None}),
    "what was inserted is removed": (delete({"_id": 7}), {"n": 1}, {7: None}),
    "removed twice": (delete({"_id": 2}), {"n": 0}, {}),
    "several removed": (delete({"v": {"$gte": 7}}, 0), {"n": 3}, {1: None, 7: None, 8: None}),
    "inserted again": (
        {"insert": "C", "documents": [{"_id": 2, "v": "again"}]},
        {"n": 1},
        {2: {"_id": 2, "v": "again"}},
    ),
    "upsert of what was removed": (
        update({"_id": 2}, {"$set": {"w": 1}}, upsert=True),
        {"n": 1, "nModified": 0, "upserted": [{"index": 0, "_id": 2}]},
        {2: {"_id": 2, "w": 1}},
    ),
    "upsert of what was inserted": (
        update({"_id": 8}, {"$set": {"v": 0}}, upsert=True),
        {"n": 1, "nModified": 1},
        {8: {"_id": 8, "v": 0}},
    ),
    "upsert by another field": (
        update({"v": 8}, {"$set": {"v": 0}}, upsert=True),
        {"n": 1, "nModified": 1},
        {8: {"_id": 8, "v": 0}},
    ),
    "findAndModify": (
        modify({"_id": 1}, update={"$inc": {"v": 1}}),
        {"value": CHANGED},
        {1: {**CHANGED, "v": 101}},
    ),
    "findAndModify, new": (
        modify({"_id": 1}, update={"$inc": {"v": 1}}, new=True),
        {"value": {**CHANGED, "v": 101}},
        {1: {**CHANGED, "v": 101}},
    ),
    "findAndModify with fields": (
        modify({"_id": 1}, update={"$inc": {"v": 1}}, fields={"v": 1}),
        {"value": {"_id": 1, "v": 100}},
        {1: {**CHANGED, "v": 101}},
    ),
    "findAndModify, new, with fields": (
        modify({"_id": 7}, update={"$inc": {"v": 1}}, new=True, fields={"_id": 0, "v": 1}),
        {"value": {"v": 8}},
        {7: {"_id": 7, "v": 8}},
    ),
    "findAndModify, sorted": (
        modify({}, update={"$set": {"v": -1}}, sort={"v": -1}, new=True),
        {"value": {**CHANGED, "v": -1}},
        {1: {**CHANGED, "v": -1}},
    ),
    "findAndModify, removed": (
        modify({"v": 100}, remove=True),
        {"value": CHANGED},
        {1: None},
    ),
    "findAndModify of what was removed": (
        modify({"_id": 2}, update={"$set": {"v": 0}}),
        {"value": None},
        {},
    ),
    "several statements": (
        {
            "update": "C",
            "updates": [
                {"q": {"_id": 1}, "u": {"$inc": {"v": 1}}},
                {"q": {"_id": 3}, "u": {"$inc": {"v": 1}}},
                {"q": {"_id": 1}, "u": {"$inc": {"v": 1}}},
                {"q": {"v": 102}, "u": {"$set": {"w": 1}}},
            ],
        },
        {"n": 4, "nModified": 4},
        {1: {**CHANGED, "v": 102, "w": 1}, 3: {**BEFORE[2], "v": 4}},
    ),
}


@pytest.mark.parametrize("end", ["commit", "abort"])
@pytest.mark.parametrize("what", LATER)
def test_a_later_write(watched, what, end):
    """It finds what the earlier ones have left, whatever is put off of all of them."""
    command, told, different = LATER[what]
    after = watched.put_off()
    reply = watched.unit.run(placed(command, watched.name))
    assert reply["ok"] == 1 and "writeErrors" not in reply, reply
    assert {key: reply.get(key) for key in told} == told, reply
    if end == "abort":
        assert watched.unit.abort()["ok"] == 1
        assert watched.stored() == watched.before
        return
    watched.commit()
    after = {key: document for key, document in {**after, **different}.items() if document}
    assert watched.stored() == after


@pytest.mark.parametrize("key", [1, 7])
def test_an_id_that_is_there(watched, key):
    """Inserted or changed by the unit itself: the duplicate key error of the write, and the end."""
    watched.put_off()
    reply = watched.unit.insert(watched.name, {"_id": key})
    assert reply["writeErrors"][0]["code"] == DUPLICATE_KEY, reply
    assert watched.unit.commit()["code"] == NO_SUCH_TRANSACTION
    assert watched.stored() == watched.before


def test_one_document_again_and_again(stack, name, unit):
    """Removed and inserted in turn, many times."""
    stack.direct[DATABASE][name].insert_one({"_id": 1, "v": 0})
    for number in range(5):
        assert unit.delete(name, {"_id": 1})["n"] == 1
        assert unit.insert(name, {"_id": 1, "v": number})["n"] == 1
        assert unit.update(name, {"_id": 1}, {"$inc": {"v": 100}})["nModified"] == 1
        found = batch(unit.run({"find": name, "filter": {"_id": 1}}))
        assert found == [{"_id": 1, "v": 100 + number}]
    assert unit.commit()["ok"] == 1
    assert stack.stored(name) == {1: {"_id": 1, "v": 104}}


def test_a_driver_mixes_them(stack, client, collection, name):
    """insertMany, bulkWrite and all the rest in with_transaction."""
    def body(session):
        collection.insert_many([{"_id": i, "v": i} for i in range(10)], session=session)
        result = collection.bulk_write(
            [
                UpdateOne({"_id": 1}, {"$inc": {"v": 10}}),
                InsertOne({"_id": 10, "v": 10}),
                DeleteOne({"_id": 2}),
                ReplaceOne({"_id": 3}, {"w": 3}),
                UpdateOne({"_id": 11}, {"$set": {"v": 11}}, upsert=True),
                UpdateOne({"_id": 1}, {"$inc": {"v": 10}}),
            ],
            session=session,
        )
        assert (result.inserted_count, result.modified_count, result.deleted_count) == (1, 3, 1)
        assert result.upserted_ids == {4: 11}
        assert collection.count_documents({}, session=session) == 11
        assert collection.find_one({"_id": 1}, session=session)["v"] == 21
        assert collection.update_many({}, {"$set": {"m": 1}}, session=session).modified_count == 11

    with client.start_session() as session:
        session.with_transaction(body)
    stored = stack.stored(name)
    assert sorted(stored) == [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert stored[3] == {"_id": 3, "w": 3, "m": 1} and stored[1] == {"_id": 1, "v": 21, "m": 1}


# ---------------------------------------------------------------- what is not put off


def many(count, size=1):
    return {"insert": "C", "documents": [{"_id": f"m{i}", "x": "x" * size} for i in range(count)]}


AT_ONCE = {
    "upsert": update({"_id": 99}, {"$set": {"v": 1}}, upsert=True),
    "upsert by another field": update({"w": 99}, {"$set": {"v": 1}}, upsert=True),
    "by another field": update({"v": 3}, {"$set": {"v": 1}}),
    "removed by another field": delete({"v": 3}),
    "several": update({"v": {"$gt": 3}}, {"$set": {"w": 1}}, multi=True),
    "what the server computes": update({"_id": 3}, [{"$set": {"w": {"$add": ["$v", 1]}}}]),
    "an operator that the server computes": update({"_id": 3}, {"$push": {"s.x": 1}}),
    "under a collation": update(
        {"_id": 3}, {"$set": {"v": 1}}, collation={"locale": "en", "strength": 2}
    ),
    "65 documents": many(65),
    "more than 64 KiB": many(1, 65 << 10),
    "64 KiB of several": many(3, 30 << 10),
    "findAndModify, new, with fields": modify(
        {"_id": 3}, update={"$set": {"w": 1}}, new=True, fields={"w": 1}
    ),
    "no validation": {**update({"_id": 3}, {"$set": {"v": 1}}), "bypassDocumentValidation": True},
    "a name with a dollar": {"insert": "C", "documents": [{"_id": 9, "$x": 1}]},
    "a nested name with a dollar": {"insert": "C", "documents": [{"_id": 9, "n": [{"$x": 1}]}]},
}


@pytest.mark.parametrize("what", AT_ONCE)
def test_what_is_not_put_off(watched, what):
    """What the server must compute, find or judge, and what is too much to be kept: written when it
    is answered."""
    reply = watched.unit.run(placed(AT_ONCE[what], watched.name))
    if reply["ok"] != 1 or "writeErrors" in reply:
        assert "dollar" in what, reply
        assert watched.unit.commit()["code"] == NO_SUCH_TRANSACTION
        return
    assert watched.sent() != [] and watched.stored() != watched.before
    assert watched.unit.abort()["ok"] == 1
    assert watched.stored() == watched.before


@pytest.mark.parametrize("write", [many(64), many(1, 60 << 10)], ids=["64 documents", "60 KiB"])
def test_what_just_may_be_put_off(watched, write):
    """The next one of them is not; nor does it need those before it to be written."""
    assert watched.unit.run(placed(write, watched.name))["ok"] == 1
    watched.check_put_off()
    change = {"$set": {"w": "y" * 5000}}
    assert watched.unit.update(watched.name, {"_id": 3}, change)["nModified"] == 1
    assert watched.sent() == [("update", watched.name, 1)]
    assert watched.unit.update(watched.name, {"_id": "m0"}, {"$set": {"x": 0}})["nModified"] == 1
    watched.commit()
    assert watched.stored()["m0"] == {"_id": "m0", "x": 0}
    assert len(watched.stored()) == len(BEFORE) + len(write["documents"])


def test_ids_that_may_be_refused(watched):
    """An array, a regular expression: mongod's error comes with the write; not every server has it."""
    for key in ([1, 2], bson.Regex("x")):
        reply = watched.unit.insert(watched.name, {"_id": key})
        if reply["ok"] == 1 and "writeErrors" not in reply:
            assert [kind for kind, *_ in watched.sent()] == ["insert"]
            assert watched.unit.abort()["ok"] == 1
        assert watched.unit.commit()["code"] == NO_SUCH_TRANSACTION
        watched.unit.next()
        watched.mark()
        assert watched.stored() == watched.before


def test_two_ids_in_one_document(watched):
    """The server refuses it, or keeps one of them; the proxy does not answer for it."""
    body = b"\x10_id\x00\x09\x00\x00\x00\x10_id\x00\x0a\x00\x00\x00"
    twice = RawBSONDocument((len(body) + 5).to_bytes(4, "little") + body + b"\x00")
    reply = watched.unit.insert(watched.name, twice)
    refused = reply["ok"] != 1 or "writeErrors" in reply
    assert refused or watched.sent() != []


@pytest.fixture
def special(stack, name):
    """What makes a collection one where less is put off: a function of its options."""

    def make(**options):
        indexes = options.pop("indexes", [])
        stack.direct[DATABASE].create_collection(name, **options)
        for keys, more in indexes:
            stack.direct[DATABASE][name].create_index(keys, **more)
        return stack.direct[DATABASE][name]

    return make


def test_unique_keys_are_not_put_off(stack, special, name, unit):
    """A write that takes or gives up a unique value; one that leaves it as it is may be."""
    collection = special(indexes=[([("u", 1)], {"unique": True})])
    collection.insert_many([{"_id": i, "u": i, "v": 0} for i in range(4)])
    assert unit.update(name, {"_id": 0}, {"$set": {"v": 1}})["nModified"] == 1
    assert stack.stored(name)[0]["v"] == 0
    assert unit.update(name, {"_id": 1}, {"$set": {"u": 10}})["nModified"] == 1
    assert stack.stored(name)[1]["u"] == 10
    assert unit.delete(name, {"_id": 2})["n"] == 1
    assert 2 not in stack.stored(name)
    assert unit.insert(name, {"_id": 9, "u": 2})["n"] == 1
    assert stack.stored(name)[9]["u"] == 2
    assert stack.stored(name)[0]["v"] == 0  # still
    reply = unit.insert(name, {"_id": 8, "u": 3})
    assert reply["writeErrors"][0]["code"] == DUPLICATE_KEY, reply
    assert stack.stored(name) == {i: {"_id": i, "u": i, "v": 0} for i in range(4)}


def test_validated_documents_are_not_put_off(stack, special, name, unit):
    special(validator={"v": {"$lt": 10}})
    assert unit.insert(name, {"_id": 1, "v": 1})["n"] == 1
    assert sorted(stack.stored(name)) == [1]
    reply = unit.update(name, {"_id": 1}, {"$set": {"v": 11}})
    assert reply["writeErrors"][0]["code"] == VALIDATION, reply
    assert stack.stored(name) == {}


def test_a_validator_that_comes_later(stack, watched, outside):
    """Through the proxy: it waits for the unit, and the next one puts nothing off."""
    watched.put_off()
    change = {"collMod": watched.name, "validator": {"v": {"$lt": 10}}, "$db": DATABASE}
    changed = Later(lambda: outside.run(change))
    assert changed.waits()
    watched.commit()
    assert changed.result()["ok"] == 1
    assert watched.stored() == watched.after()
    reply = watched.unit.next().update(watched.name, {"_id": 3}, {"$set": {"v": 11}})
    assert reply["writeErrors"][0]["code"] == VALIDATION, reply


def test_collated_collections_put_nothing_off(stack, special, name, unit):
    special(collation={"locale": "en", "strength": 2})
    assert unit.insert(name, {"_id": "key"})["n"] == 1
    assert sorted(stack.stored(name)) == ["key"]


def test_other_boundaries_put_nothing_off(stack, outside, name):
    """Plain writes, retryable ones, and units in comments, whose clients are told at each write."""
    plain = {"insert": name, "documents": [{"_id": 1}], "$db": DATABASE}
    assert outside.run(plain)["n"] == 1
    assert sorted(stack.stored(name)) == [1]
    begin = {"unit": f"u{name}", "begin": True}
    assert outside.run({**plain, "documents": [{"_id": 2}], "comment": begin})["n"] == 1
    assert sorted(stack.stored(name)) == [1, 2]
    assert outside.run({"abortUnit": f"u{name}", "$db": "admin"})["ok"] == 1
    assert sorted(stack.stored(name)) == [1]


def test_immediate_puts_nothing_off(name):
    """The standard."""
    with Stack() as stack, Connection(stack.proxy.port) as raw:
        unit = RawTransaction(raw)
        assert unit.insert(name, {"_id": 1})["n"] == 1
        assert sorted(stack.stored(name)) == [1]
        unit.abort()


def test_a_replica_set_has_transactions_of_its_own(name):
    """There the setting says nothing: the server keeps the writes."""
    with Stack({"unit.writes": "deferred"}, mode="replicaset") as stack:
        with Connection(stack.proxy.port) as raw:
            unit = RawTransaction(raw)
            assert unit.insert(name, {"_id": 1})["n"] == 1
            assert unit.update(name, {"_id": 1}, {"$set": {"v": 1}})["nModified"] == 1
            assert batch(unit.run({"find": name})) == [{"_id": 1, "v": 1}]
            assert stack.stored(name) == {}
            assert unit.commit()["ok"] == 1
        assert stack.stored(name) == {1: {"_id": 1, "v": 1}}


def test_what_is_no_choice():
    """Any other word is refused when it is read."""
    with Server() as server, pytest.raises(ProxyFailed) as failed:
        Proxy(server, {"unit.writes": "sometimes"})
    assert "unit.writes" in failed.value.output

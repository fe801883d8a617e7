"""Serializable units lock what they read: what snapshot isolation lets happen does not happen here.

Each anomaly is set up as in test_anomalies.py, on units that say `isolation: "serializable"`; the
catalogue at both levels stands in the README. Who has to wait for another unit waits 300 ms here.
"""

import json
import threading
import time

import pytest
from bson.int64 import Int64
from conftest import DATABASE, RawTransaction, Stack, is_transient
from holdfast_testing import Connection, Later, holdfast, wait_until
from pymongo.errors import OperationFailure
from scene import Scene

WRITE_CONFLICT = 112
NOT_IN_TRANSACTION = 263
SERIALIZABLE = {"isolation": "serializable"}


@pytest.fixture(scope="module")
def stack():
    with Stack({"unit.lockWait": "300ms"}) as made:
        yield made
        made.proxy.verify()


@pytest.fixture(scope="module")
def patient():
    """Waits 20 s for a lock: what ends sooner there ended by a deadlock that was found."""
    with Stack({"unit.lockWait": "20s", "unit.isolation": "serializable"}) as made:
        yield made


class Serializable(RawTransaction):
    def run(self, command, *arguments, **options):
        if not self.begun:
            command = {**command, "comment": SERIALIZABLE}
        return super().run(command, *arguments, **options)


def shown(stack, *options):
    return holdfast("units", "--locks", "--wal", stack.proxy.wal, *options, check=0).stdout


def open_units(stack):
    return json.loads(shown(stack, "--json"))["list"]


@pytest.fixture
def scene(stack, name):
    with Scene(stack, name, Serializable) as made:
        yield made


@pytest.fixture
def circle(patient, name):
    with Scene(patient, name) as made:
        yield made


def is_conflict(reply):
    return reply.get("code") == WRITE_CONFLICT and is_transient(reply)


# ---------------------------------------------------------------- the catalogue


def test_g2_item_write_skew(scene):
    """Doctors on call: each of two sees that the other is there, and goes. Prevented."""
    assert scene.read(0, {"_id": 1}) == scene.read(1, {"_id": 1}) == {1: 10}
    assert scene.read(0, {"_id": 2}) == scene.read(1, {"_id": 2}) == {2: 20}
    assert is_conflict(scene.write(0, 1, 0))
    assert scene.write(1, 2, 0)["ok"] == 1
    scene.commit(1)
    assert scene.stored() == {1: 10, 2: 0}


@pytest.mark.parametrize("query", [None, {"v": {"$gt": 5}}], ids=["all", "predicate"])
def test_g2_write_skew_by_predicate(scene, query):
    """Two accounts whose sum must not fall below a bound, read by a filter. Prevented."""
    assert scene.read(0, query) == scene.read(1, query) == {1: 10, 2: 20}
    assert is_conflict(scene.write(0, 1, -15))
    assert scene.write(1, 2, -5)["ok"] == 1
    scene.commit(1)
    assert scene.stored() == {1: 10, 2: -5}


def test_g2_write_skew_by_aggregate(scene):
    """The same where the server sums."""
    total = {"aggregate": scene.name, "pipeline": [{"$group": {"_id": None, "v": {"$sum": "$v"}}}]}
    for who in (0, 1):
        reply = scene.units[who].run({**total, "cursor": {}})
        assert reply["cursor"]["firstBatch"] == [{"_id": None, "v": 30}]
    assert is_conflict(scene.write(0, 1, -15))
    assert scene.write(1, 2, -5)["ok"] == 1
    scene.commit(1)


def test_pmp_phantom(scene):
    """What a filter has not found is not inserted before the unit ends. Prevented."""
    assert scene.read(0, {"v": 30}) == {}
    insert = Later(lambda: scene.units[1].insert(scene.name, {"_id": 3, "v": 30}))
    assert insert.waits()
    assert scene.read(0, {"v": 30}) == {}
    scene.commit(0)
    assert insert.result()["ok"] == 1
    scene.commit(1)
    assert scene.stored()[3] == 30


def test_phantom_skew(scene):
    """Two that each insert what the other's filter would have found. Prevented."""
    assert scene.read(0, {"v": 31}) == scene.read(1, {"v": 30}) == {}
    assert is_conflict(scene.units[0].insert(scene.name, {"_id": 3, "v": 30}))
    assert scene.units[1].insert(scene.name, {"_id": 4, "v": 31})["ok"] == 1
    scene.commit(1)
    assert set(scene.stored()) == {1, 2, 4}


def test_absent_key_skew(scene):
    """Two that each look for an _id, find nothing, and insert the other one. Prevented."""
    assert scene.read(0, {"_id": 7}) == scene.read(1, {"_id": 8}) == {}
    assert is_conflict(scene.units[0].insert(scene.name, {"_id": 8, "v": 0}))
    assert scene.units[1].insert(scene.name, {"_id": 7, "v": 0})["ok"] == 1
    scene.commit(1)
    assert 8 not in scene.stored()


def test_read_only_anomaly(scene):
    """Fekete, O'Neil, O'Neil 2004: a withdrawal with a fee that does not know of a deposit, and a
    reader that sees the deposit and no fee. Prevented: the deposit waits for who has read."""
    assert scene.read(1, {"_id": 1}) == {1: 10}
    assert scene.read(1, {"_id": 2}) == {2: 20}
    assert is_conflict(scene.write(0, 2, 40))
    assert scene.write(1, 1, -11)["ok"] == 1
    scene.commit(1)
    assert scene.read(2) == {1: -11, 2: 20}
    scene.commit(2)


def test_p4_lost_update(scene):
    """Read, compute, write back, in two units at a time: one has to run again. Prevented."""
    assert scene.read(0, {"_id": 1}) == scene.read(1, {"_id": 1}) == {1: 10}
    assert is_conflict(scene.write(0, 1, 11))
    assert scene.write(1, 1, 12)["ok"] == 1
    scene.commit(1)
    assert scene.stored()[1] == 12


def test_g1_reads_wait_for_who_writes(scene):
    """Nothing uncommitted, no old value either: the reader waits until the writer has ended."""
    assert scene.write(0, 1, 11)["ok"] == 1
    for query in (None, {"_id": 1}, {"v": 11}):
        other = Serializable(scene.outside)
        assert is_conflict(other.run({"find": scene.name, "filter": query or {}}))
    reading = Later(lambda: scene.read(1))
    assert reading.waits()
    scene.commit(0)
    assert reading.result() == {1: 11, 2: 20}


def test_reads_see_what_was_committed_before_them(scene):
    """Not the moment of the unit's beginning counts, but that of the lock: what it has not read yet
    others may change, and it reads and writes that without a conflict."""
    assert scene.read(0, {"_id": 1}) == {1: 10}
    assert scene.write(1, 2, 21)["ok"] == 1
    scene.commit(1)
    assert scene.read(0, {"_id": 2}) == {2: 21}
    assert scene.write(0, 2, 22)["ok"] == 1
    scene.commit(0)
    assert scene.stored() == {1: 10, 2: 22}


def test_general_writes(scene):
    """The filter of a write that matches nothing is read, too."""
    reply = scene.units[0].update(scene.name, {"v": 30}, {"$set": {"found": True}})
    assert reply["ok"] == 1 and reply["n"] == 0
    assert is_conflict(scene.units[1].insert(scene.name, {"_id": 3, "v": 30}))
    assert is_conflict(scene.units[2].update(scene.name, {"v": 20}, {"$set": {"v": 30}}))
    assert scene.units[0].insert(scene.name, {"_id": 4, "v": 1})["ok"] == 1
    scene.commit(0)


def test_find_and_modify(scene):
    """By a sort and by an _id."""
    command = {"findAndModify": scene.name, "update": {"$inc": {"v": 1}}, "new": True}
    reply = scene.units[0].run({**command, "query": {}, "sort": {"v": -1}})
    assert reply["value"] == {"_id": 2, "v": 21}
    assert is_conflict(scene.units[1].insert(scene.name, {"_id": 3, "v": 30}))
    scene.commit(0)
    reply = scene.units[2].run({**command, "query": {"_id": 1}})
    assert reply["value"] == {"_id": 1, "v": 11}
    unit = scene.units[0].next()
    assert unit.insert(scene.name, {"_id": 3, "v": 30})["ok"] == 1  # only the document was held
    scene.commit(2)
    assert unit.commit()["ok"] == 1


def test_upsert_of_an_absent_key(scene):
    """An upsert's filter that finds nothing."""
    upsert = {"q": {"_id": 9}, "u": {"$inc": {"v": 1}}, "upsert": True}
    assert scene.read(0, {"_id": 9}) == {}
    assert is_conflict(scene.units[1].run({"update": scene.name, "updates": [upsert]}))
    assert scene.units[0].run({"update": scene.name, "updates": [upsert]})["ok"] == 1
    scene.commit(0)
    assert scene.stored()[9] == 1


# ---------------------------------------------------------------- who else is there


@pytest.mark.parametrize("query", [{"_id": 1}, {"v": {"$lt": 100}}], ids=["id", "predicate"])
def test_plain_writes(scene, query):
    """A plain write waits for who has read what it changes."""
    assert scene.read(0, query)
    update = {"update": scene.name, "updates": [{"q": {"_id": 1}, "u": {"$inc": {"v": 1}}}]}
    writing = Later(lambda: scene.plain(update))
    assert writing.waits()
    assert scene.read(0, query)[1] == 10
    scene.commit(0)
    assert writing.result()["n"] == 1
    assert scene.stored()[1] == 11


def test_plain_inserts(scene):
    """The same of what a filter has not found; and what nobody has read is not held up."""
    assert scene.read(0, {"_id": 1})
    assert scene.plain({"insert": scene.name, "documents": [{"_id": 5, "v": 5}]})["n"] == 1
    assert scene.read(0, {"v": 50}) == {}
    insert = {"insert": scene.name, "documents": [{"_id": 6, "v": 50}]}
    writing = Later(lambda: scene.plain(insert))
    assert writing.waits()
    assert scene.read(0, {"v": 50}) == {}
    scene.commit(0)
    assert writing.result()["n"] == 1


def test_plain_write_on_its_way(scene):
    """A unit reads right behind a plain write, again and again: it reads the same twice."""
    stop = threading.Event()

    def add():
        with Connection(scene.stack.proxy.port) as connection:
            update = {"update": scene.name, "updates": [{"q": {"_id": 1}, "u": {"$inc": {"v": 1}}}]}
            while not stop.is_set():
                assert connection.run({**update, "$db": DATABASE})["ok"] == 1

    writer = threading.Thread(target=add)
    writer.start()
    try:
        unit = Serializable(scene.outside)
        for _ in range(30):
            command = {"find": scene.name, "filter": {"_id": 1}}
            batches = [unit.run(command).get("cursor") for _ in range(2)]
            if all(batches):
                assert batches[0]["firstBatch"] == batches[1]["firstBatch"]
                assert unit.commit()["ok"] == 1
            unit.next()
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize("query", [{"_id": 1}, None], ids=["id", "all"])
def test_a_unit_at_snapshot(scene, query):
    """A transaction at the snapshot level has its own anomalies, and causes none to the other."""
    other = RawTransaction(scene.outside)
    assert scene.read(0, query)
    reply = other.run({"find": scene.name, "filter": {}})
    assert len(reply["cursor"]["firstBatch"]) == 2
    assert is_conflict(other.update(scene.name, {"_id": 1}, {"$set": {"v": 0}}))
    assert scene.read(0)[1] == 10
    scene.commit(0)


def test_a_snapshot_begins_after_the_wait(scene):
    """A transaction whose first write waits for a serializable unit begins when it has waited: what
    that unit has committed is no conflict."""
    assert scene.read(0)
    other = RawTransaction(scene.outside)
    writing = Later(lambda: other.update(scene.name, {"_id": 1}, {"$inc": {"v": 1}}))
    assert writing.waits()
    assert scene.write(0, 1, 30)["ok"] == 1
    scene.commit(0)
    assert writing.result()["n"] == 1
    assert other.commit()["ok"] == 1
    assert scene.stored()[1] == 31


def test_readers_share(scene):
    """Those that only read do not wait for each other."""
    for who in (0, 1, 2):
        assert scene.read(who) == {1: 10, 2: 20}
        assert scene.read(who, {"_id": 1}) == {1: 10}
    for who in (0, 1, 2):
        scene.commit(who)


def test_drop_waits(scene):
    """DDL in a collection that a unit has read waits until it has ended."""
    assert scene.read(0)
    dropping = Later(lambda: scene.plain({"drop": scene.name}))
    assert dropping.waits()
    assert scene.read(0) == {1: 10, 2: 20}
    scene.commit(0)
    assert dropping.result()["ok"] == 1


# ---------------------------------------------------------------- deadlocks


def test_upgrade_deadlock(circle):
    """Two have read a document and both write it: the younger runs again at once."""
    assert circle.read(0, {"_id": 1}) == circle.read(1, {"_id": 1}) == {1: 10}
    started = time.monotonic()
    older = Later(lambda: circle.write(0, 1, 11))
    assert older.waits()
    assert is_conflict(circle.write(1, 1, 12))
    assert older.result()["ok"] == 1
    assert time.monotonic() - started < 5
    circle.commit(0)
    assert circle.stored()[1] == 11


def test_namespace_deadlock(circle):
    """The same of two that have read the whole collection, and write different documents."""
    assert circle.read(0) == circle.read(1)
    started = time.monotonic()
    younger = Later(lambda: circle.write(1, 2, 21))
    assert younger.waits()
    assert circle.write(0, 1, 11)["ok"] == 1
    assert is_conflict(younger.result())
    assert time.monotonic() - started < 5
    circle.commit(0)
    assert circle.stored() == {1: 11, 2: 20}


def test_deadlock_of_three(circle):
    """A document, a namespace that somebody reads, and one who waits behind in a queue."""
    name = circle.name
    assert circle.read(0, {"_id": 1}) == {1: 10}
    assert circle.units[1].insert(f"{name}_b", {"_id": 1})["ok"] == 1
    writing = Later(lambda: circle.write(1, 1, 11))  # waits for 0
    assert writing.waits()
    queued = Later(lambda: circle.read(2, {"_id": 1}))  # behind 1
    assert queued.waits()
    started = time.monotonic()
    reading = Later(lambda: circle.units[0].run({"find": f"{name}_b", "filter": {}}))  # for 1
    assert is_conflict(writing.result())
    assert reading.result()["ok"] == 1
    assert queued.result() == {1: 10}
    assert time.monotonic() - started < 5


def test_run_again_takes_turns(circle):
    """Two that read the collection and then write: the victim's next try waits at its read, and so
    do the transactions that its session runs after that."""
    victim = circle.units[1]
    assert circle.read(0) == circle.read(1)
    older = Later(lambda: circle.write(0, 1, 11))
    assert older.waits()
    assert is_conflict(circle.write(1, 2, 21))
    assert older.result()["ok"] == 1
    for value in (21, 22):
        victim.next()
        reading = Later(lambda: circle.read(1))
        assert reading.waits()
        circle.commit(0)
        assert reading.result()[1] == 11
        circle.units[0].next()
        assert circle.write(1, 2, value)["ok"] == 1
        circle.commit(1)
        assert circle.read(0)[2] == value  # and is held while the other one begins again
    circle.commit(0)


def test_general_writes_take_turns(circle):
    """Two updates by a filter wait for each other instead of having to run again."""
    update = {"$inc": {"v": 1}}
    assert circle.units[0].update(circle.name, {"v": {"$gt": 0}}, update)["n"] == 1
    second = Later(lambda: circle.units[1].update(circle.name, {"v": {"$gt": 0}}, update))
    assert second.waits()
    circle.commit(0)
    assert second.result()["n"] == 1
    circle.commit(1)
    assert sum(circle.stored().values()) == 32


# ---------------------------------------------------------------- forms of reads


def test_lookup_locks_the_other_collection(scene, name):
    """$lookup and $unionWith read other collections, which are locked as well."""
    stages = [{"$unionWith": f"{name}_b"}]
    reply = scene.units[0].run({"aggregate": name, "pipeline": stages, "cursor": {}})
    assert len(reply["cursor"]["firstBatch"]) == 2
    assert is_conflict(scene.units[1].insert(f"{name}_b", {"_id": 1, "v": 1}))
    lookup = {"from": f"{name}_c", "localField": "v", "foreignField": "v", "as": "c"}
    reply = scene.units[0].run({"aggregate": name, "pipeline": [{"$lookup": lookup}], "cursor": {}})
    assert reply["ok"] == 1
    assert is_conflict(scene.units[2].insert(f"{name}_c", {"_id": 1, "v": 1}))
    scene.commit(0)


def test_distinct(scene):
    reply = scene.units[0].run({"distinct": scene.name, "key": "v"})
    assert sorted(reply["values"]) == [10, 20]
    assert is_conflict(scene.units[1].insert(scene.name, {"_id": 3, "v": 30}))
    scene.commit(0)


def test_cursors(scene):
    """A getMore goes on in what is locked; a cursor of somebody else is refused."""
    find = {"find": scene.name, "filter": {}, "batchSize": 1}
    first = scene.units[0].run(find)["cursor"]
    assert first["id"] and len(first["firstBatch"]) == 1
    assert is_conflict(scene.write(1, 2, 21))
    more = {"getMore": Int64(first["id"]), "collection": scene.name}
    reply = scene.units[0].run(more)
    assert reply["ok"] == 1, reply
    assert reply["cursor"]["nextBatch"] == [{"_id": 2, "v": 20}]
    scene.commit(0)
    foreign = Int64(scene.plain(find)["cursor"]["id"])
    reply = scene.units[2].run({"getMore": foreign, "collection": scene.name})
    assert reply["code"] == NOT_IN_TRANSACTION


def test_kill_cursors_comes_first(scene):
    """It begins no view, and so may a later command's that has to wait for its locks."""
    reply = scene.units[1].run({"killCursors": scene.name, "cursors": [Int64(1)]})
    assert reply["ok"] == 1
    assert scene.read(0) == {1: 10, 2: 20}
    writing = Later(lambda: scene.write(1, 1, 11))
    assert writing.waits()
    scene.commit(0)
    assert writing.result()["ok"] == 1
    scene.commit(1)
    assert scene.stored() == {1: 11, 2: 20}


def test_views_are_refused(scene):
    """What a view reads cannot be locked; also where it is joined."""
    view = f"{scene.name}_view"
    scene.stack.direct[DATABASE].command("create", view, viewOn=scene.name, pipeline=[])
    assert scene.units[0].run({"find": view})["code"] == NOT_IN_TRANSACTION
    stages = [{"$unionWith": view}]
    reply = scene.units[1].run({"aggregate": scene.name, "pipeline": stages, "cursor": {}})
    assert reply["code"] == NOT_IN_TRANSACTION
    reply = scene.units[2].run({"aggregate": 1, "pipeline": [], "cursor": {}})
    assert reply["code"] == NOT_IN_TRANSACTION


def test_collation(scene, name):
    """Where text may be equal to other text, an _id of text does not name one document."""
    collation = {"locale": "en", "strength": 2}
    scene.stack.direct[DATABASE].create_collection(f"{name}_c", collation=collation)
    assert scene.units[0].run({"find": f"{name}_c", "filter": {"_id": "A"}})["ok"] == 1
    assert is_conflict(scene.units[1].insert(f"{name}_c", {"_id": "a"}))
    assert scene.units[0].update(f"{name}_c", {"_id": "B"}, {"$set": {"v": 1}})["n"] == 0
    assert is_conflict(scene.units[2].insert(f"{name}_c", {"_id": "b"}))
    scene.commit(0)


def test_many_documents_become_the_namespace(scene):
    """A unit that reads a great many documents by _id locks the collection instead."""
    unit = scene.units[0]
    for key in range(1001):
        assert unit.run({"find": scene.name, "filter": {"_id": key}})["ok"] == 1
    assert open_units(scene.stack)[0]["namespacesRead"] == 1
    assert is_conflict(scene.write(1, 2000, 1))
    scene.commit(0)


# ---------------------------------------------------------------- how it is asked for


@pytest.mark.parametrize("comment", [SERIALIZABLE, "holdfast: isolation=serializable"])
def test_a_comment_asks(scene, comment):
    unit = RawTransaction(scene.outside)
    assert unit.run({"find": scene.name, "filter": {}, "comment": comment})["ok"] == 1
    assert is_conflict(scene.write(0, 1, 11))
    assert unit.commit()["ok"] == 1


@pytest.mark.parametrize("comment", [{"isolation": "serialisable"}, "holdfast: isolation=strict"])
def test_what_is_no_isolation(scene, comment):
    """Never silently less than was asked for."""
    unit = RawTransaction(scene.outside)
    reply = unit.run({"find": scene.name, "filter": {}, "comment": comment})
    assert reply["ok"] == 0 and "isolation" in reply["errmsg"]


def test_asked_for_too_late(scene):
    """Only the first command can ask: what was read before is not locked."""
    unit = RawTransaction(scene.outside)
    find = {"find": scene.name, "filter": {}}
    assert unit.run({**find, "comment": "somebody's own"})["ok"] == 1
    reply = unit.run({**find, "comment": SERIALIZABLE})
    assert reply["ok"] == 0 and "first command" in reply["errmsg"]
    assert unit.commit()["ok"] == 0


def test_the_configuration_asks(circle):
    """And a transaction can ask for less."""
    assert circle.read(0, {"_id": 1}) == {1: 10}
    unit = RawTransaction(circle.outside)
    find = {"find": circle.name, "filter": {"_id": 2}, "comment": {"isolation": "snapshot"}}
    assert unit.run(find)["ok"] == 1
    assert circle.write(1, 2, 21)["ok"] == 1  # which a serializable reader would hold up
    circle.commit(0)
    circle.commit(1)
    assert unit.commit()["ok"] == 1


def test_a_driver(stack, name):
    """pymongo: `comment` on the first operation, and with_transaction runs again what lost."""
    with stack.proxy.client() as client:
        doctors = client[DATABASE][name]
        doctors.insert_many([{"_id": 1, "on": True}, {"_id": 2, "on": True}])

        def leave(session, key):
            on = doctors.count_documents({"on": True}, session=session, comment=SERIALIZABLE)
            if on > 1:
                doctors.update_one({"_id": key}, {"$set": {"on": False}}, session=session)

        def run(key):
            with client.start_session() as session:
                session.with_transaction(lambda s: leave(s, key))

        threads = [threading.Thread(target=run, args=(key,)) for key in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert doctors.count_documents({"on": True}) == 1


# ---------------------------------------------------------------- what is shown, and crashes


def test_locks_are_shown(scene):
    """`holdfast units --locks`, and /status."""
    assert scene.read(0, {"_id": 1}) and scene.read(0, {"v": 10})
    assert "SHARED" in shown(scene.stack)
    unit = open_units(scene.stack)[0]
    assert unit["isolation"] == "serializable"
    assert (unit["locksHeld"], unit["locksShared"], unit["namespacesRead"]) == (0, 1, 1)
    writing = Later(lambda: scene.write(1, 1, 11))
    waiting = wait_until(
        lambda: [u for u in open_units(scene.stack) if "waitsFor" in u], 10, "a unit that waits"
    )
    assert waiting[0]["waitsFor"] == unit["unit"]
    scene.commit(0)
    assert writing.result()["ok"] == 1


# ---------------------------------------------------------------- units in comments


@pytest.fixture
def named(scene):
    """Two units in comments, by drivers that know of no transaction."""
    with scene.stack.proxy.client() as one, scene.stack.proxy.client() as two:
        collections = [client[DATABASE][scene.name] for client in (one, two)]
        comments = [{"unit": f"{scene.name}-{number}"} for number in range(2)]
        yield list(zip(collections, comments, strict=True))


def begin(unit, **more):
    collection, comment = unit
    collection.database.client.admin.command(
        "beginUnit", comment["unit"], isolation="serializable", **more
    )


def test_comment_write_skew(scene, named):
    """A read whose comment names the unit, as its writes do, is locked: by _id and by a filter."""
    for collection, comment in named:
        begin((collection, comment))
        assert collection.find_one({"_id": 1}, comment=comment)["v"] == 10
        assert len(list(collection.find({"v": {"$gt": 15}}, comment=comment))) == 1
    (one, first), (two, second) = named
    with pytest.raises(OperationFailure) as raised:
        one.update_one({"_id": 1}, {"$set": {"v": 0}}, comment=first)
    assert raised.value.code == WRITE_CONFLICT
    two.update_one({"_id": 2}, {"$set": {"v": 0}}, comment={**second, "last": True})
    assert scene.stored() == {1: 10, 2: 0}


def test_comment_reads(scene, named):
    """Own writes are seen, count, distinct and aggregate lock as find does, and cursors go on."""
    (one, first), (two, second) = named
    one.insert_one({"_id": 3, "v": 30}, comment={**first, "begin": True, **SERIALIZABLE})
    assert one.count_documents({}, comment=first) == 3
    assert one.database.command("count", one.name, comment=first)["n"] == 3
    assert sorted(one.distinct("v", comment=first)) == [10, 20, 30]
    assert len(list(one.find({}, batch_size=2, comment=first))) == 3
    assert one.count_documents({}) == 2  # who names no unit sees what is committed, without waiting
    with pytest.raises(OperationFailure) as raised:
        two.insert_one({"_id": 4}, comment={**second, "begin": True})
    assert raised.value.code == WRITE_CONFLICT
    one.database.client.admin.command("commitUnit", first["unit"])
    assert 3 in scene.stored()


def test_comment_read_that_gets_no_lock(scene, named):
    """It is answered after its unit was rolled back; what the server refuses leaves the unit be."""
    (one, first), _ = named
    one.insert_one({"_id": 3}, comment={**first, "begin": True, **SERIALIZABLE})
    with pytest.raises(OperationFailure):
        one.find_one({"_id": 3, "v": {"$nonsense": 1}}, comment=first)
    assert scene.write(0, 1, 11)["ok"] == 1
    with pytest.raises(OperationFailure) as raised:
        one.find_one({"_id": 1}, comment=first)
    assert raised.value.code == WRITE_CONFLICT
    scene.commit(0)
    assert scene.stored() == {1: 11, 2: 20}
    assert one.find_one({"_id": 1}, comment=first)["v"] == 11  # of no unit any more
    with pytest.raises(OperationFailure):
        one.insert_one({"_id": 3}, comment=first)


def test_comment_isolation_comes_with_begin(scene, named):
    (one, first), _ = named
    one.insert_one({"_id": 3}, comment={**first, "begin": True})
    with pytest.raises(OperationFailure) as raised:
        one.insert_one({"_id": 4}, comment={**first, **SERIALIZABLE})
    assert "begins a unit" in str(raised.value)
    assert 3 not in scene.stored()


# ---------------------------------------------------------------- the end of the proxy or the server


def test_after_a_crash_of_the_proxy(scene):
    """Locks are gone, and so is the unit that had them: it cannot commit what it has read before."""
    assert scene.read(0) == {1: 10, 2: 20}
    assert scene.write(0, 1, 11)["ok"] == 1
    scene.stack.proxy.kill()
    scene.stack.proxy.start()
    with Connection(scene.stack.proxy.port) as connection:
        reply = scene.units[0].commit(connection)
        assert reply["ok"] == 0 and is_transient(reply)
        assert scene.stored() == {1: 10, 2: 20}
        other = Serializable(connection)
        assert other.update(scene.name, {"v": 20}, {"$set": {"v": 21}})["n"] == 1
        assert other.commit()["ok"] == 1


def test_after_a_crash_of_the_server(scene):
    """What a unit has read may be lost with the server (here nothing is, but nobody knows): also one
    that has written nothing is to run again."""
    assert scene.read(0, {"_id": 1}) == {1: 10}
    scene.stack.server.kill()
    scene.stack.server.start()
    with Connection(scene.stack.proxy.port) as connection:
        assert connection.run({"ping": 1, "$db": DATABASE})["ok"] == 1  # recovered
        wait_until(lambda: not open_units(scene.stack), 10, "the unit is rolled back")
        reply = scene.units[0].commit(connection)
        assert reply["ok"] == 0 and is_transient(reply), reply

"""Reads outside units show the committed state, and nothing else, whatever open units have written.

The judge: a second collection, past the proxy, that holds exactly what was committed. The same
command must answer the same of both.
"""

import collections
import os
import random
import threading
import time
import uuid

import bson
import pytest
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from conftest import DATABASE, RawTransaction, Stack, is_transient
from holdfast_testing import Connection
from pymongo.errors import OperationFailure

LOCK_TIMEOUT = 24
SNAPSHOT_UNAVAILABLE = 246
SOON = 2  # seconds; one wait for a unit is an error after unit.lockWait
SEED = int(os.environ.get("HOLDFAST_TEST_SEED", random.SystemRandom().randrange(2**32)))
TEXTS = ["a", "B", "b", "Ab", "ab"]


@pytest.fixture(scope="module")
def stack():
    with Stack({"unit.lockWait": "300ms"}) as made:
        yield made


# ---------------------------------------------------------------- the same answer


def run_direct(stack, command):
    try:
        return stack.direct[DATABASE].command(command)
    except OperationFailure as error:
        return error.details


def frozen(value):
    """To be counted and compared, types included."""
    return bson.encode({"v": value})


def all_batches(run, reply):
    """Every document of a cursor, with getMore to its end."""
    cursor = reply["cursor"]
    documents = list(cursor["firstBatch"])
    collection = cursor["ns"].split(".", 1)[1]
    while cursor["id"]:
        reply = run({"getMore": Int64(cursor["id"]), "collection": collection})
        assert reply["ok"] == 1, reply
        cursor = reply["cursor"]
        documents += cursor["nextBatch"]
    return documents


def same_answer(stack, connection, command, name, reference):
    """The command on the collection by way of the proxy, and on the reference past it."""
    verb = next(iter(command))

    def renamed(target):
        text = {**command, verb: target}
        if verb == "aggregate":
            text["cursor"] = command.get("cursor", {})
        return text

    got = connection.run({**renamed(name), "$db": DATABASE})
    wanted = run_direct(stack, renamed(reference))
    note = f"seed {SEED}: {command}\ngot    {got}\nwanted {wanted}"
    assert got["ok"] == wanted["ok"], note
    if wanted["ok"] == 0:
        assert got["code"] == wanted["code"], note
        return
    if verb == "count":
        assert got == wanted, note
        return
    if verb == "distinct":
        assert collections.Counter(map(frozen, got["values"])) == collections.Counter(
            map(frozen, wanted["values"])
        ), note
        return
    assert set(got) == set(wanted) and set(got["cursor"]) == set(wanted["cursor"]), note
    assert got["cursor"]["ns"] == f"{DATABASE}.{name}", note
    first, other = got["cursor"]["firstBatch"], wanted["cursor"]["firstBatch"]
    assert len(first) == len(other), note
    if wanted["cursor"]["id"]:
        assert got["cursor"]["id"], note
    if got["cursor"]["id"]:
        # As with mongod's, it may be that nothing is behind a batch that is just full.
        assert wanted["cursor"]["id"] or len(first) == command.get("batchSize"), note
        assert "singleBatch" not in command and command.get("limit") != len(first), note
        connection.run(
            {"killCursors": name, "cursors": [Int64(got["cursor"]["id"])], "$db": DATABASE}
        )
    if "sort" in command or any("$sort" in stage for stage in command.get("pipeline", [])):
        assert list(map(frozen, first)) == list(map(frozen, other)), note
    elif command.get("limit") or command.get("batchSize") or command.get("skip"):
        kept = {field: command[field] for field in ("filter", "collation") if field in command}
        everything = run_direct(stack, {"find": reference, **kept})
        committed = {frozen(document["_id"]) for document in everything["cursor"]["firstBatch"]}
        assert all("_id" not in d or frozen(d["_id"]) in committed for d in first), note
    else:
        assert collections.Counter(map(frozen, first)) == collections.Counter(
            map(frozen, other)
        ), note


# ---------------------------------------------------------------- random programs


def random_document(chance, key):
    document = {"_id": key, "a": chance.choice([chance.randrange(6), None, 2.5, "x"])}
    if chance.random() < 0.7:
        document["s"] = chance.choice(TEXTS)
    if chance.random() < 0.6:
        document["arr"] = [chance.choice([1, 2, 2.5, {"x": chance.randrange(3)}]) for _ in range(2)]
    if chance.random() < 0.5:
        document["n"] = {"x": chance.randrange(4), "y": [chance.randrange(3)]}
    return document


def random_filter(chance, keys):
    return chance.choice(
        [
            {},
            {"_id": chance.choice(keys)},
            {"_id": {"$eq": chance.choice(keys)}},
            {"_id": {"$in": chance.sample(keys, 4)}},
            {"_id": {"$gte": chance.randrange(8)}},
            {"a": {"$gte": chance.randrange(6)}},
            {"a": None},
            {"s": chance.choice(TEXTS)},
            {"s": {"$regex": "^a"}},
            {"arr.x": chance.randrange(3)},
            {"arr": chance.randrange(3)},
            {"n.x": {"$lt": 3}, "a": {"$exists": True}},
            {"$or": [{"n.y": 1}, {"a": {"$lt": 2}}]},
            {"$expr": {"$gt": ["$n.x", 1]}},
        ]
    )


def random_find(chance, keys):
    command = {"find": 1, "filter": random_filter(chance, keys)}
    if chance.random() < 0.6:
        command["sort"] = chance.choice([{"_id": 1}, {"a": 1, "_id": -1}, {"s": -1, "_id": 1}])
    if chance.random() < 0.3:
        command["skip"] = chance.randrange(4)
    if chance.random() < 0.4:
        command["limit"] = chance.randrange(1, 8)
    if chance.random() < 0.3:
        command["batchSize"] = chance.randrange(1, 9)
    # With a batchSize it is a limit in mongod, not in the test server; drivers send it so:
    if "limit" in command and "batchSize" not in command:
        command["singleBatch"] = True
    if chance.random() < 0.5:
        command["projection"] = chance.choice(
            [{"a": 1}, {"a": 0}, {"_id": 0, "s": 1}, {"n.x": 1}, {"n.x": 1, "s": 1}, {"n.y": 0}]
        )
    return command


def random_read(chance, keys):
    kind = chance.choice(["find", "find", "find", "count", "distinct", "aggregate"])
    if kind == "find":
        command = random_find(chance, keys)
    elif kind == "count":
        command = {"count": 1, "query": random_filter(chance, keys)}
        if chance.random() < 0.3:
            command["skip"] = chance.randrange(3)
        if chance.random() < 0.3:
            command["limit"] = chance.choice([0, 2, 5])
    elif kind == "distinct":
        path = chance.choice(["a", "s", "arr", "n.x", "n.y", "none", "_id"])
        command = {"distinct": 1, "key": path, "query": random_filter(chance, keys)}
        return command  # the test server's $group knows no collation
    else:
        stages = [{"$match": random_filter(chance, keys)}] if chance.random() < 0.6 else []
        stages += chance.choice(
            [
                [{"$sort": {"a": 1, "_id": 1}}, {"$limit": 4}],
                [{"$group": {"_id": "$s", "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}],
                [{"$unwind": "$arr"}, {"$sort": {"_id": 1, "arr": 1}}],
                [{"$count": "n"}],
                [{"$project": {"a": 1}}, {"$sort": {"_id": -1}}],
                [{"$facet": {"f": [{"$sort": {"_id": 1}}], "c": [{"$count": "n"}]}}],
                [],
            ]
        )
        command = {"aggregate": 1, "pipeline": stages}
    # Whole numbers and ObjectIds only: a collation among _ids with text has to wait. And no order of
    # texts: the test server's $sort knows no collation.
    if "s" not in command.get("sort", {}) and chance.random() < 0.2 and not any(isinstance(key, str) for key in keys):
        command["collation"] = {"locale": "en", "strength": 2}
    return command


class Program:
    """Open units over disjoint documents, and the committed state beside them."""

    def __init__(self, stack, name, chance, keys):
        self.stack, self.name, self.chance, self.keys = stack, name, chance, keys
        self.reference = stack.direct[DATABASE][name + "_committed"]
        self.connections = [Connection(stack.proxy.port) for _ in range(3)]
        self.units = [None] * 3
        self.snapshots = [None] * 3
        self.committed = {}
        for key in chance.sample(keys, len(keys) // 2):
            self.committed[frozen(key)] = random_document(chance, key)
        if self.committed:
            stack.direct[DATABASE][name].insert_many(list(self.committed.values()))
            self.reference.insert_many(list(self.committed.values()))

    def close(self):
        for connection in self.connections:
            connection.__exit__()

    def free_keys(self, number):
        """What no other unit has locked, nor committed since this one began: no write conflicts."""
        taken = set(self.units[number][2])
        for i, unit in enumerate(self.units):
            if unit and i != number:
                taken |= set(unit[1])
        return [key for key in self.keys if frozen(key) not in taken]

    def step(self):
        number = self.chance.randrange(3)
        if self.units[number] is None:
            unit = RawTransaction(self.connections[number])
            self.units[number] = (unit, {}, set())
            self.snapshots[number] = dict(self.committed)  # its first command follows at once
        unit, changed, _ = self.units[number]
        if changed and self.chance.random() < 0.25:
            self.end(number)
            return
        free = self.free_keys(number)
        if not free:
            self.end(number)
            return
        key = self.chance.choice(free)
        mark = frozen(key)
        there = mark in changed and changed[mark] or (mark not in changed and mark in self.committed)
        fresh = random_document(self.chance, key)
        if not there:
            if self.chance.random() < 0.5:
                reply = unit.insert(self.name, fresh)
            else:
                changes = {field: value for field, value in fresh.items() if field != "_id"}
                update = {"q": {"_id": key}, "u": {"$set": changes}, "upsert": True}
                reply = unit.run({"update": self.name, "updates": [update]})
                fresh = {"_id": key, **dict(sorted(changes.items()))}  # $set adds them in order
        elif self.chance.random() < 0.3:
            reply = unit.delete(self.name, {"_id": key})
            fresh = None
        elif self.chance.random() < 0.5:
            reply = unit.update(self.name, {"_id": key}, fresh)
        else:
            reply = unit.run(
                {"findAndModify": self.name, "query": {"_id": key}, "update": {"$inc": {"z": 1}}}
            )
            fresh = dict(changed.get(mark) or self.committed[mark])
            fresh["z"] = fresh.get("z", 0) + 1
        assert reply["ok"] == 1 and "writeErrors" not in reply, (SEED, reply)
        changed[mark] = fresh

    def check_inside(self):
        """A unit reads: what was committed when it began, and what it has written itself."""
        number = self.chance.randrange(3)
        if self.units[number] is None or not self.units[number][0].begun:
            return
        unit, changed, _ = self.units[number]
        wanted = {**self.snapshots[number], **changed}
        wanted = {mark: document for mark, document in wanted.items() if document is not None}
        key = self.chance.choice(self.keys)
        for query in ({}, {"_id": key}, {"s": {"$in": ["a", "b"]}}):
            found = unit.run({"find": self.name, "filter": query})["cursor"]["firstBatch"]
            asked = {
                mark: document
                for mark, document in wanted.items()
                if ("_id" not in query or mark == frozen(key))
                and ("s" not in query or document.get("s") in ("a", "b"))
            }
            assert {frozen(d["_id"]): d for d in found} == asked, (SEED, query)

    def end(self, number):
        unit, changed, _ = self.units[number]
        self.units[number] = None
        if not unit.begun:
            return
        if self.chance.random() < 0.5:
            assert unit.abort()["ok"] == 1
            return
        assert unit.commit()["ok"] == 1
        for other in filter(None, self.units):
            other[2].update(changed)
        for mark, document in changed.items():
            key = bson.decode(mark)["v"]
            if document is None:
                self.committed.pop(mark, None)
                self.reference.delete_one({"_id": key})
            else:
                self.committed[mark] = document
                self.reference.replace_one({"_id": key}, document, upsert=True)


KEYS = {
    "whole": list(range(12)),
    "objectid": [bson.ObjectId(f"{n:024x}") for n in range(10)],
    "text": [f"k{n}" for n in range(10)],
    "mixed": [0, 1, "a", "B", bson.ObjectId("0" * 24), {"k": 1}, 2.5, True, Int64(9), uuid.UUID(int=7)],
}


@pytest.mark.parametrize("kind", list(KEYS))
def test_random_programs(stack, outside, name, kind):
    """Writes of three open units in random order, ended at random; random reads between them."""
    chance = random.Random(f"{SEED} {kind}")
    keys = [
        bson.Binary.from_uuid(key) if isinstance(key, uuid.UUID) else key for key in KEYS[kind]
    ]
    program = Program(stack, name, chance, keys)
    for _ in range(60):
        program.step()
        program.check_inside()
        for _ in range(4):
            command = random_read(chance, keys)
            same_answer(stack, outside, command, name, name + "_committed")
    shown = outside.run({"find": name, "$db": DATABASE})["cursor"]["firstBatch"]
    assert {frozen(d["_id"]): d for d in shown} == program.committed, SEED
    program.close()


# ---------------------------------------------------------------- inside units


def test_inside_a_unit(stack, outside, name):
    """Inside: what the unit itself has written, of other units only what is committed."""
    collection = stack.direct[DATABASE][name]
    collection.insert_many([{"_id": i, "a": 0} for i in range(6)])
    with Connection(stack.proxy.port) as left, Connection(stack.proxy.port) as right:
        one, two = RawTransaction(left), RawTransaction(right)
        assert one.update(name, {"_id": 0}, {"$set": {"a": 1}})["ok"] == 1
        assert one.insert(name, {"_id": 10, "a": 1})["ok"] == 1
        assert two.delete(name, {"_id": 1})["ok"] == 1
        assert two.update(name, {"_id": 2}, {"$set": {"a": 2}})["ok"] == 1
        base = {i: 0 for i in range(6)}
        for unit, wanted in (
            (one, {**base, 0: 1, 10: 1}),
            (two, {key: value for key, value in {**base, 2: 2}.items() if key != 1}),
        ):
            found = all_batches(unit.run, unit.run({"find": name}))
            assert {d["_id"]: d["a"] for d in found} == wanted
            values = unit.run({"distinct": name, "key": "a"})["values"]
            assert sorted(values) == sorted(set(wanted.values()))
            counted = unit.run({"aggregate": name, "pipeline": [{"$count": "n"}], "cursor": {}})
            assert counted["cursor"]["firstBatch"] == [{"n": len(wanted)}]
            for key in (0, 1, 2, 10):
                point = unit.run({"find": name, "filter": {"_id": key}})["cursor"]["firstBatch"]
                assert [d["a"] for d in point] == ([wanted[key]] if key in wanted else [])
        assert one.commit()["ok"] == 1 and two.abort()["ok"] == 1
    shown = outside.run({"find": name, "$db": DATABASE})["cursor"]["firstBatch"]
    assert {d["_id"]: d["a"] for d in shown} == {**base, 0: 1, 10: 1}


def test_a_result_inside_a_unit_comes_whole(stack, name):
    """No cursor stays open that would show later what others have not committed."""
    collection = stack.direct[DATABASE][name]
    collection.insert_many([{"_id": i, "a": 0} for i in range(500)])
    with Connection(stack.proxy.port) as left, Connection(stack.proxy.port) as right:
        one, two = RawTransaction(left), RawTransaction(right)
        for _ in range(2):  # with nothing uncommitted, and with something
            for command in (
                {"find": name, "sort": {"_id": 1}},
                {"aggregate": name, "pipeline": [{"$sort": {"_id": 1}}], "cursor": {}},
            ):
                cursor = one.run(command)["cursor"]
                assert cursor["id"] == 0 and [d["a"] for d in cursor["firstBatch"]] == [0] * 500
            assert two.update(name, {"_id": 400}, {"$set": {"a": 1}})["ok"] == 1
        limited = one.run({"find": name, "batchSize": 3})["cursor"]
        assert limited["id"] != 0 and len(limited["firstBatch"]) == 3
        assert one.commit()["ok"] == 1 and two.abort()["ok"] == 1


def test_a_snapshot_too_big(stack, outside, name):
    """More has changed since than one command holds: SnapshotUnavailable, and run it again."""
    collection = stack.direct[DATABASE][name]
    collection.insert_many([{"_id": i, "text": "x" * 4_000_000} for i in range(4)])
    with Connection(stack.proxy.port) as left, Connection(stack.proxy.port) as right:
        one, two = RawTransaction(left), RawTransaction(right)
        count = {"aggregate": name, "pipeline": [{"$count": "n"}], "cursor": {}}
        assert one.run(count)["cursor"]["firstBatch"] == [{"n": 4}]
        for i in range(4):
            assert two.update(name, {"_id": i}, {"$set": {"text": "y"}})["ok"] == 1
        assert two.commit()["ok"] == 1
        point = one.run({"find": name, "filter": {"_id": 2}})["cursor"]["firstBatch"]
        assert point[0]["text"][0] == "x"
        reply = one.run(count)
        assert reply["code"] == SNAPSHOT_UNAVAILABLE and is_transient(reply)
        assert one.next().run(count)["cursor"]["firstBatch"] == [{"n": 4}]
        one.abort()


# ---------------------------------------------------------------- what has to wait


@pytest.fixture
def writer(stack, name):
    """A unit that has changed one of three documents, and is open."""
    stack.direct[DATABASE][name].insert_many([{"_id": i, "a": i, "l": [1, 2]} for i in range(3)])
    with Connection(stack.proxy.port) as connection:
        unit = RawTransaction(connection)
        assert unit.update(name, {"_id": 1}, {"$set": {"a": 9}})["ok"] == 1
        yield unit


WAITING = {
    "slice": {"find": 1, "projection": {"l": {"$slice": 1}}},
    "elemMatch": {"find": 1, "projection": {"l": {"$elemMatch": {"$gt": 1}}}},
    "lookup": {
        "aggregate": 1,
        "cursor": {},
        "pipeline": [{"$lookup": {"from": 1, "localField": "a", "foreignField": "a", "as": "f"}}],
    },
}


def named(command, name):
    """With the collection's name wherever the command wants one."""
    text = bson.decode(bson.encode(command))
    text[next(iter(text))] = name
    for stage in text.get("pipeline", []):
        stage["$lookup"]["from"] = name
    return {**text, "$db": DATABASE}


@pytest.mark.parametrize("what", list(WAITING))
def test_what_no_pipeline_can_say_waits(stack, outside, writer, name, what):
    """It waits for the unit, and is then answered; or tells that it has waited long enough."""
    command = named(WAITING[what], name)
    started = time.monotonic()
    reply = outside.run(command)
    assert reply["ok"] == 0 and reply["code"] == LOCK_TIMEOUT
    assert 0.25 < time.monotonic() - started < 10
    ended = threading.Timer(0.1, writer.commit)
    ended.start()
    reply = outside.run(command)
    ended.join()
    assert reply["ok"] == 1 and len(reply["cursor"]["firstBatch"]) == 3
    assert {d["_id"]: d.get("a") for d in reply["cursor"]["firstBatch"]}[1] in (9, None)


def test_a_cursor_waits(stack, outside, writer, name):
    """A getMore shows what is there when it comes: it waits until nothing is uncommitted."""
    with Connection(stack.proxy.port) as connection:
        unit = RawTransaction(connection)
        other = name + "_2"
        stack.direct[DATABASE][other].insert_many([{"_id": i, "a": 0} for i in range(9)])
        command = {"find": other, "batchSize": 2, "$db": DATABASE}
        cursor = outside.run(command)["cursor"]
        assert unit.update(other, {"_id": 7}, {"$set": {"a": 1}})["ok"] == 1
        get_more = {"getMore": Int64(cursor["id"]), "collection": other, "$db": DATABASE}
        reply = outside.run({**get_more, "batchSize": 1})
        assert reply["ok"] == 0 and reply["code"] == LOCK_TIMEOUT
        assert unit.abort()["ok"] == 1
        rest = outside.run(get_more)["cursor"]["nextBatch"]
        assert [d["a"] for d in rest] == [0] * 7


def test_an_overlay_leaves_no_cursor(outside, stack, writer, name):
    """What is read beside an open unit comes whole: a getMore would wait for the unit."""
    stack.direct[DATABASE][name].insert_many([{"_id": 10 + i, "a": 0} for i in range(300)])
    for command in ({"find": name}, {"aggregate": name, "pipeline": [], "cursor": {}}):
        cursor = outside.run({**command, "$db": DATABASE})["cursor"]
        assert cursor["id"] == 0 and len(cursor["firstBatch"]) == 303


def test_max_time_bounds_the_wait(busy, reader, name):
    """unit.lockWait would be 10 s."""
    with Connection(busy.proxy.port) as connection:
        unit = RawTransaction(connection)
        assert unit.insert(name, {"_id": 1})["ok"] == 1
        started = time.monotonic()
        reply = reader.run({**named(WAITING["slice"], name), "maxTimeMS": 50})
        assert reply["code"] == LOCK_TIMEOUT and time.monotonic() - started < 5
        assert unit.abort()["ok"] == 1


def test_collation_among_text_waits(stack, outside, name):
    """A collation takes other _ids for the locked one: nothing may be left out for it."""
    stack.direct[DATABASE][name].insert_many([{"_id": "a", "n": 1}, {"_id": "A", "n": 2}])
    with Connection(stack.proxy.port) as connection:
        unit = RawTransaction(connection)
        assert unit.update(name, {"_id": "a"}, {"$set": {"n": 3}})["ok"] == 1
        command = {"find": name, "filter": {"_id": "A"}, "$db": DATABASE}
        command["collation"] = {"locale": "en", "strength": 2}
        assert outside.run(command)["code"] == LOCK_TIMEOUT
        assert unit.commit()["ok"] == 1
        found = outside.run({**command, "sort": {"n": 1}})["cursor"]["firstBatch"]
        assert [d["n"] for d in found] == [2, 3]


def test_another_collection_does_not_wait(outside, writer, name):
    """Nor does a read beside the units' namespaces notice them."""
    other = name + "_other"
    started = time.monotonic()
    reply = outside.run(named({"find": 1, "projection": {"l": {"$slice": 1}}}, other))
    assert reply["ok"] == 1 and time.monotonic() - started < SOON


# ---------------------------------------------------------------- what a client may ask for


def test_read_concerns(outside, writer, name):
    """local and majority are committed; available asks for what is there."""
    for level, wanted in ((None, 1), ("local", 1), ("majority", 1), ("available", 9)):
        concern = {"readConcern": {"level": level}} if level else {}
        for query in ({"_id": 1}, {"_id": {"$gte": 1}, "a": {"$ne": 2}}):
            reply = outside.run({"find": name, "filter": query, "$db": DATABASE, **concern})
            assert [d["a"] for d in reply["cursor"]["firstBatch"]] == [wanted], level


def test_local_reads_can_be_configured(name):
    with Stack({"unit.reads": "local"}) as stack, Connection(stack.proxy.port) as connection:
        unit = RawTransaction(connection)
        unit.insert(name, {"_id": 1})
        with stack.proxy.client() as client:
            assert client[DATABASE][name].find_one({"_id": 1})
        assert unit.abort()["ok"] == 1


def test_images_too_big_wait(stack, outside, name):
    """Before-images of more than one command holds."""
    collection = stack.direct[DATABASE][name]
    collection.insert_many([{"_id": i, "text": "x" * 4_000_000} for i in range(4)])
    with Connection(stack.proxy.port) as connection:
        unit = RawTransaction(connection)
        for i in range(4):
            assert unit.update(name, {"_id": i}, {"$set": {"text": "y"}})["ok"] == 1
        count = {"count": name, "query": {"text": "y"}, "$db": DATABASE}
        assert outside.run(count)["code"] == LOCK_TIMEOUT
        point = outside.run({"find": name, "filter": {"_id": 2}, "$db": DATABASE})
        assert point["cursor"]["firstBatch"][0]["text"][0] == "x"  # one image is not too big
        assert unit.abort()["ok"] == 1
        assert outside.run(count)["n"] == 0


# ---------------------------------------------------------------- under concurrency


@pytest.fixture(scope="module")
def busy():
    """With the time that units and cursors need to get by each other on a loaded machine."""
    with Stack({"unit.lockWait": "10s"}) as made:
        yield made
        made.proxy.verify()


@pytest.fixture
def reader(busy):
    with Connection(busy.proxy.port) as made:
        yield made


ACCOUNTS = 20
SUM = ACCOUNTS * 100


class Bank:
    """Transfers in transactions, all the time, until the end of the block."""

    def __init__(self, stack, name, writers):
        self.stack, self.name = stack, name
        stack.direct[DATABASE][name].insert_many(
            [{"_id": i, "balance": 100} for i in range(ACCOUNTS)]
        )
        self.stop = threading.Event()
        self.moved = 0
        self.failures = []
        self.threads = [
            threading.Thread(target=self.work, args=(number,)) for number in range(writers)
        ]

    def work(self, number):
        chance = random.Random(f"{SEED} {number}")
        try:
            with Connection(self.stack.proxy.port) as connection:
                unit = RawTransaction(connection)
                while not self.stop.is_set():
                    unit.next()
                    source, target = chance.sample(range(ACCOUNTS), 2)
                    amount = chance.randrange(1, 50)
                    took = unit.update(self.name, {"_id": source}, {"$inc": {"balance": -amount}})
                    gave = took["ok"] and unit.update(
                        self.name, {"_id": target}, {"$inc": {"balance": amount}}
                    )
                    if not gave or not gave["ok"]:
                        continue
                    if chance.random() < 0.3:
                        unit.abort()
                    else:
                        self.moved += unit.commit()["ok"] == 1
        except Exception as error:
            self.failures.append(error)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        assert not self.failures, self.failures


@pytest.mark.parametrize(
    "command",
    [
        {"find": 1},
        {"find": 1, "sort": {"balance": 1}, "projection": {"balance": 1}},
        {"aggregate": 1, "cursor": {}, "pipeline": [{"$group": {"_id": None, "balance": {"$sum": "$balance"}}}]},
    ],
    ids=["find", "sorted", "sum"],
)
def test_the_sum_never_changes(busy, reader, name, command):
    """One command sees no transfer half done, and none that is undone, whatever is in flight."""
    with Bank(busy, name, writers=4) as bank:
        until = time.monotonic() + 3
        reads = 0
        while time.monotonic() < until:
            reply = reader.run({**command, next(iter(command)): name, "$db": DATABASE})
            assert reply["ok"] == 1, (SEED, reply)
            documents = reply["cursor"]["firstBatch"]
            assert sum(d["balance"] for d in documents) == SUM, (SEED, reads, documents)
            reads += 1
    assert bank.moved > 20 and reads > 20, (bank.moved, reads)


def test_a_transaction_reads_one_snapshot(busy, reader, name):
    """Each account by a command of its own, inside one transaction: the sum is that of one moment."""
    unit = RawTransaction(reader)
    with Bank(busy, name, writers=3) as bank:
        until = time.monotonic() + 3
        sums = 0
        while time.monotonic() < until:
            total = 0
            for account in range(ACCOUNTS):
                reply = unit.next().run(
                    {"find": name, "filter": {"_id": account}}, begin=True
                ) if account == 0 else unit.run({"find": name, "filter": {"_id": account}})
                assert reply["ok"] == 1, (SEED, reply)
                total += reply["cursor"]["firstBatch"][0]["balance"]
            everything = unit.run({"find": name, "filter": {"balance": {"$gte": -(10**6)}}})
            assert total == SUM == sum(d["balance"] for d in everything["cursor"]["firstBatch"]), SEED
            assert unit.commit()["ok"] == 1
            sums += 1
    assert bank.moved > 20 and sums > 5, (bank.moved, sums)


def test_readers_do_not_stop_writers(busy, name):
    """Many readers at once, all of them of everything: transfers go on, and so do cursors."""
    failures = []

    def read():
        try:
            with busy.proxy.client() as client:
                collection = client[DATABASE][name]
                while not bank.stop.is_set():
                    assert sum(d["balance"] for d in collection.find({}, batch_size=ACCOUNTS)) == SUM
                    assert collection.count_documents({}) == ACCOUNTS
                    assert len(list(collection.find({}, batch_size=7))) == ACCOUNTS
        except Exception as error:
            failures.append(error)

    with Bank(busy, name, writers=3) as bank:
        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        time.sleep(3)
        bank.stop.set()
        for reader in readers:
            reader.join()
    assert not failures, (SEED, failures)
    assert bank.moved > 20, bank.moved


def test_a_point_read_never_waits(busy, reader, name):
    """By _id of a locked document: the before-image, at once."""
    busy.direct[DATABASE][name].insert_one({"_id": 1, "a": 1})
    with Connection(busy.proxy.port) as connection:
        unit = RawTransaction(connection)
        assert unit.update(name, {"_id": 1}, {"$set": {"a": 9}})["ok"] == 1
        for _ in range(20):
            started = time.monotonic()
            reply = reader.run({"find": name, "filter": {"_id": 1}, "limit": 1, "$db": DATABASE})
            assert [d["a"] for d in reply["cursor"]["firstBatch"]] == [1]
            assert reply["cursor"]["id"] == 0
            assert time.monotonic() - started < SOON
        assert unit.abort()["ok"] == 1


def test_ids_that_share_a_lock(stack, outside, name):
    """Decimals that a double does not tell apart share a lock: each is found all the same."""
    keys = [Decimal128("0.1"), Decimal128("0.10000000000000000001")]
    stack.direct[DATABASE][name].insert_many([{"_id": key, "a": 0} for key in keys])
    with Connection(stack.proxy.port) as connection:
        unit = RawTransaction(connection)
        assert unit.update(name, {"_id": keys[1]}, {"$set": {"a": 1}})["ok"] == 1
        for key in keys:
            reply = outside.run({"find": name, "filter": {"_id": key}, "$db": DATABASE})
            assert reply["cursor"]["firstBatch"] == [{"_id": key, "a": 0}]
        assert unit.abort()["ok"] == 1


def test_cursors_of_dropped_answers_are_closed(busy, reader, name):
    """An answer that a unit has overtaken leaves no cursor behind on the server."""
    def count():
        figures = busy.direct.admin.command("serverStatus")
        return figures.get("metrics", {}).get("cursor", {}).get("open", {}).get("total")

    before = count()
    if before is None:
        pytest.skip("this server does not count its cursors")
    with Bank(busy, name, writers=4):
        until = time.monotonic() + 2
        while time.monotonic() < until:
            reply = reader.run({"find": name, "batchSize": 2, "$db": DATABASE})
            cursors = [Int64(reply["cursor"]["id"])]
            reader.run({"killCursors": name, "cursors": cursors, "$db": DATABASE})
    assert count() <= before + 1

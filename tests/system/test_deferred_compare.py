"""unit.writes: deferred gives the answers of unit.writes: immediate, and leaves the same documents.

The same random transactions (inserts, updates of all kinds, removals, findAndModify, bulkWrite, reads
of every way to see a write) run against both settings, each with a server of its own, on ordinary
collections, one with unique indexes, one with a validator, one with a collation, and a view.
HOLDFAST_DEFERRED_PROGRAMS: how many transactions; HOLDFAST_TEST_SEED repeats a run.
"""

import datetime
import os
import random

import bson
import pytest
from bson.int64 import Int64
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Connection

PROGRAMS = int(os.environ.get("HOLDFAST_DEFERRED_PROGRAMS", 150))
OTHER_DATABASE = f"{DATABASE}_other"
PLACES = (  # database, collection
    (DATABASE, "plain"),
    (DATABASE, "second"),
    (DATABASE, "unique"),
    (DATABASE, "valid"),
    (DATABASE, "folded"),
    (OTHER_DATABASE, "plain"),
)
FOLDED = {"locale": "en", "strength": 2}
IDS = (
    *range(1, 7),
    1.0,
    Int64(2),
    bson.Decimal128("3"),
    "a",
    "A",
    "b",
    None,
    True,
    {"k": 1},
    {"k": 1.0},
    {"k": 1, "l": "x"},
    b"bytes",
    datetime.datetime(2026, 1, 2, tzinfo=None),
)
# mongod refuses arrays. Names with a dollar it refuses, too, and a server that takes them does not
# find them again.
ODD_IDS = ([1, 2], {"k": [1]}, float("nan"), -0.0)
LOCK_TIMEOUT = 24
OBJECT_ID = bson.ObjectId("0" * 24)


class Program:
    """Random commands of one transaction: (database, command), never told what was answered but for
    the cursors, which `CURSOR` stands for."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        # Most transactions meet in a few documents of a few collections.
        self.places = self.random.sample(PLACES, self.random.randint(1, 3))
        self.ids = self.random.sample(IDS, 6) if self.random.random() < 0.6 else list(range(1, 7))
        # Most of it can be put off, and little of it fails.
        self.tame = self.random.random() < 0.6
        self.new_ids = iter(range(100, 200))

    def commands(self):
        for _ in range(self.random.randint(1, 9)):
            yield self._command()

    def _command(self):
        database, name = self.random.choice(self.places)
        makers = (self._insert, self._update, self._delete, self._modify, self._bulk, self._read)
        weights = (20, 40, 10, 15, 5, 5) if self.tame else (20, 36, 12, 12, 5, 15)
        return self.random.choices(makers, weights)[0](database, name)

    def _chance(self, wild, tame=0.0):
        return self.random.random() < (tame if self.tame else wild)

    # ---- values

    def _id(self):
        return self.random.choice(ODD_IDS if self._chance(0.03) else self.ids)

    def _number(self):
        return self.random.choice((0, 1, 2, 3, 7, 12, 1.5, Int64(5)))

    def _value(self):
        return self.random.choice(
            (self._number(), "a", "B", None, [1, 2], {"x": 1}, {"x": {"y": [1, {"z": 2}]}}, [])
        )

    def _document(self):
        document = {}
        if self.random.random() < 0.95:
            document["_id"] = self._id() if self._chance(0.5, 0.05) else next(self.new_ids)
        for field in ("a", "n", "arr", "u", "v", "s"):
            if self.random.random() < 0.5:
                document[field] = {
                    "a": self._number,
                    "n": lambda: {"x": self._number(), "y": {"z": self._value()}},
                    "arr": lambda: [self._number() for _ in range(self.random.randint(0, 3))],
                    "u": lambda: self.random.randrange(30),
                    "v": self._number,
                    "s": self._value,
                }[field]()
        if self._chance(0.03):
            document.update(self.random.choice(({"$x": 1}, {"n": {"$y": 2}}, {"q.r": 1}, {"": 1})))
        return document

    def _named(self):
        """A filter of one _id."""
        key = self._id()
        query = self.random.choice(({"_id": key}, {"_id": {"$eq": key}}, {"$and": [{"_id": key}]}))
        if self.random.random() < 0.2:
            query = {**query, "a": {"$gte": self._number()}}
        return query

    def _general(self):
        """A filter of several documents."""
        return self.random.choice(
            (
                {},
                {"a": {"$gt": self._number()}},
                {"_id": {"$in": [self._id() for _ in range(3)]}},
                {"_id": {"$ne": self._id()}},
                {"n.x": self._number()},
                {"u": {"$lt": self.random.randrange(30)}},
                {"s": {"$exists": False}},
            )
        )

    def _change(self):
        plain = (
            {"$set": {"a": self._number()}},
            {"$set": {"n.x": self._number(), "s": self._value()}},
            {"$set": {"v": self._number()}},
            {"$set": {"u": self.random.randrange(30)}},
            {"$inc": {"a": self._number()}},
            {"$inc": {"n.x": 1, "n.k": 1}},
            {"$unset": {"s": 1, "n.x": 1}},
            {"$unset": {"u": 1}},
            {"$set": {"a": 1}, "$setOnInsert": {"s": 1}},
            {key: value for key, value in self._document().items() if key != "_id"},
        )
        computed = (
            {"$push": {"arr": self._number()}},
            {"$mul": {"a": 2}},
            {"$rename": {"s": "t"}},
            {"$max": {"a": self._number()}},
            [{"$set": {"a": {"$ifNull": ["$u", 0]}, "w": "$s"}}],
            [{"$unset": "s"}],
            {"$set": {"arr.0": 1}},
            {"$addToSet": {"arr": 2}},
        )
        wrong = (
            {"$set": {"_id": self._id()}},
            {"$inc": {"s": 1}},
            {"$set": {"s.x.y": 1}},
            {"$nothing": {"a": 1}},
            {"$set": {"s": {"$y": 1}}},
            {"$set": {"s.$y": 1}},
            {"_id": self._id(), "a": 1},
            {"$set": {"": 1}},
            {"$set": {"a": 1, "a.b": 1}},
        )
        weights = (95, 5, 0) if self.tame else (75, 20, 5)
        return self.random.choice(self.random.choices((plain, computed, wrong), weights)[0])

    # ---- commands

    def _insert(self, database, name):
        documents = [self._document() for _ in range(self.random.choice((1, 1, 1, 2, 4)))]
        return database, {"insert": name, "documents": documents}

    def _statement(self):
        change = self._change()
        statement = {"q": self._named(), "u": change}
        choice = self.random.random() * (3 if self.tame else 1)
        if choice < 0.12:
            statement["upsert"] = True
        elif choice < 0.24 and (isinstance(change, list) or next(iter(change), "")[:1] == "$"):
            statement.update(q=self._general(), multi=True)
        elif choice < 0.3:
            statement["q"] = {"u": self.random.randrange(30), "k": 1}
            statement["upsert"] = self.random.random() < 0.3
        return statement

    def _update(self, database, name):
        statements = [self._statement() for _ in range(self.random.choice((1, 1, 1, 2, 3)))]
        return database, {"update": name, "updates": statements}

    def _delete(self, database, name):
        several = self._chance(0.15, 0.05)
        query = self._general() if several else self._named()
        return database, {"delete": name, "deletes": [{"q": query, "limit": 0 if several else 1}]}

    def _modify(self, database, name):
        command = {"findAndModify": name, "query": self._named()}
        if self._chance(0.25, 0.1):
            command.update(query=self._general(), sort={"a": 1, "_id": 1})
        if self.random.random() < 0.25:
            command["remove"] = True
        else:
            command["update"] = self._change()
            command["new"] = self.random.random() < 0.5
            command["upsert"] = "sort" not in command and self.random.random() < 0.1
        if self.random.random() < 0.3:
            command["fields"] = self.random.choice(({"a": 1}, {"_id": 0, "n.x": 1}, {"arr": 0}))
        return database, command

    def _bulk(self, *_):
        ops = []
        for _ in range(self.random.randint(1, 4)):
            at = self.random.randrange(len(self.places))
            kind = self.random.choice(("insert", "update", "delete"))
            if kind == "insert":
                ops.append({"insert": at, "document": {"_id": self._id(), **self._document()}})
            elif kind == "update":
                one = self._statement()
                ops.append({"update": at, "filter": one.pop("q"), "updateMods": one.pop("u"), **one})
            else:
                ops.append({"delete": at, "filter": self._named()})
        spaces = [{"ns": f"{database}.{name}"} for database, name in self.places]
        return "admin", {"bulkWrite": 1, "ops": ops, "nsInfo": spaces}

    def _read(self, database, name):
        sort = {"_id": 1}
        lookup = {"from": "plain", "localField": "a", "foreignField": "a", "as": "found"}
        pipelines = (
            [{"$match": self._general()}],
            [{"$match": self._named()}],
            [{"$group": {"_id": "$a", "n": {"$sum": 1}}}],
            [{"$count": "n"}],
            [{"$lookup": lookup}],
            [{"$unionWith": "second"}],
        )
        return self.random.choice(
            (
                (database, {"find": name, "filter": self._general()}),
                (database, {"find": name, "filter": self._named()}),
                (database, {"find": name, "filter": self._named(), "projection": {"a": 1}}),
                (database, {"find": name, "sort": sort, "batchSize": self.random.choice((1, 2))}),
                (database, {"getMore": CURSOR}),
                (database, {"distinct": name, "key": self.random.choice(("a", "_id", "n.x"))}),
                (database, {"aggregate": name, "pipeline": self.random.choice(pipelines), "cursor": {}}),
                (DATABASE, {"find": "view", "filter": self._general()}),
                (DATABASE, {"find": "view", "filter": self._named()}),
            )
        )


CURSOR = object()


def plain(value):
    """For comparing: in BSON's own bytes, so that 1, 1.0 and True differ; _ids that were made up are
    all one."""
    if isinstance(value, bson.ObjectId):
        return OBJECT_ID
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value


def encoded(document):
    return bson.encode(plain(document))


TIMES = ("operationTime", "$clusterTime", "electionId", "opTime")


class Side:
    """One of the settings."""

    def __init__(self, writes):
        self.stack = Stack({"unit.writes": writes, "unit.lockWait": "200ms"})
        self.connection = Connection(self.stack.proxy.port)
        self.outside = Connection(self.stack.proxy.port)
        self.unit = RawTransaction(self.connection)
        self.cursors = []
        direct = self.stack.direct
        main = direct[DATABASE]
        main.create_collection("plain")
        main.create_collection("folded", collation=FOLDED)
        main.create_collection("valid", validator={"v": {"$not": {"$gt": 10}}})
        main.command("create", "view", viewOn="plain", pipeline=[{"$addFields": {"seen": "$a"}}])

    def close(self):
        self.connection.__exit__()
        self.outside.__exit__()
        self.stack.__exit__(None)

    def fill(self, documents):
        """Another start for each program."""
        for (database, name), some in documents.items():
            collection = self.stack.direct[database][name]
            if name != "unique":
                collection.delete_many({})
                collection.insert_many(some)
                continue
            # SecantusDB 0.5.3 keeps the former keys of a document that is changed, unless it was
            # there before the index.
            collection.drop()
            collection.insert_many(some)
            collection.create_index([("u", 1)], unique=True, sparse=True)
            partial = {"s": {"$exists": True}}
            collection.create_index(
                [("a", 1), ("v", 1)], unique=True, partialFilterExpression=partial
            )

    def stored(self, places):
        """Around the proxy."""
        return {
            place: sorted(encoded(d) for d in self.stack.direct[place[0]][place[1]].find())
            for place in places
        }

    def seen(self, database, name):
        """From outside; None: a document that a unit has written is one that no pipeline can say."""
        reply = self.outside.run({"find": name, "$db": database})
        if reply.get("code") == LOCK_TIMEOUT:
            return None
        assert reply["ok"] == 1 and reply["cursor"]["id"] == 0, reply
        return sorted(encoded(document) for document in reply["cursor"]["firstBatch"])

    def run(self, database, command):
        if command.get("getMore") is CURSOR:
            if not self.cursors:
                return None
            cursor, namespace = self.cursors[-1]
            database, _, name = namespace.partition(".")
            command = {"getMore": cursor, "collection": name, "batchSize": 2}
        reply = self.unit.run(command, database)
        if "cursor" in reply and "bulkWrite" not in command:
            self.cursors = [one for one in self.cursors if one[0] != command.get("getMore")]
            if reply["cursor"]["id"]:
                self.cursors.append((reply["cursor"]["id"], reply["cursor"]["ns"]))
        return self._told(command, reply)

    def _told(self, command, reply):
        """What of the reply is to be the same."""
        told = plain({key: value for key, value in reply.items() if key not in TIMES})
        cursor = told.get("cursor")
        if cursor and "bulkWrite" not in command:
            cursor["id"] = bool(cursor["id"])
            key = "firstBatch" if "firstBatch" in cursor else "nextBatch"
            if "sort" not in command and "getMore" not in command:
                cursor[key].sort(key=encoded)
            if command.get("aggregate"):
                for document in cursor[key]:
                    document.get("found", []).sort(key=encoded)
        if "values" in told:
            told["values"].sort(key=lambda value: bson.encode({"": value}))
        return told

    def end(self, commit):
        reply = self.unit.commit() if commit else self.unit.abort()
        self.unit.next()
        self.cursors = []
        return {key: value for key, value in reply.items() if key not in TIMES}


@pytest.fixture(scope="module")
def sides():
    made = []
    try:
        for writes in ("immediate", "deferred"):
            made.append(Side(writes))
        yield made
        for side in made:
            side.stack.proxy.verify()
    finally:
        for side in made:
            side.close()


def some_documents(rng, places):
    """{place: documents} that no index, validator or collation objects to."""
    made = {}
    for place in places:
        keys = rng.sample(range(1, 7), 4) + rng.sample(["a", "b", None, True], 2)
        made[place] = [
            {"_id": key, "a": rng.randrange(4), "u": 100 + i, "n": {"x": i}, "arr": [1]}
            for i, key in enumerate(keys)
        ]
    return made


def differences(one, two):
    """Of what is stored on two sides, told."""
    for place, documents in one.items():
        for sign, some, others in (("-", documents, two[place]), ("+", two[place], documents)):
            yield from (f"{sign} {place} {bson.decode(d)}" for d in some if d not in others)


class Run:
    """One program against both."""

    def __init__(self, sides, seed):
        self.immediate, self.deferred = self.sides = sides
        self.program = Program(seed)
        self.log = []
        # Those that reads of others see, too.
        self.places = list(dict.fromkeys([*self.program.places, *PLACES[:2]]))
        documents = some_documents(self.program.random, self.places)
        for side in sides:
            side.fill(documents)
        self.before = self.immediate.stored(self.places)

    def explain(self, what, *values):
        lines = [f"{what}:", *(f"  {value}" for value in values), "behind:"]
        return "\n".join([*lines, *(f"  {one}" for one in self.log)])

    def same(self, what, one, two):
        assert bson.encode({"": one}) == bson.encode({"": two}), self.explain(what, one, two)

    def look(self):
        """From outside there is nothing of it."""
        for place in self.places:
            for side in self.sides:
                assert side.seen(*place) in (None, self.before[place]), self.explain("seen outside")

    def run(self):
        """Whether something was put off until the end, and whether the end has changed anything."""
        for database, command in self.program.commands():
            replies = [side.run(database, command) for side in self.sides]
            self.log.append((database, command, replies[0]))
            self.same("answers differ", *replies)
            if replies[0] and (replies[0]["ok"] != 1 or "writeErrors" in replies[0]):
                break
            if self.program.random.random() < 0.1:
                self.look()
        commit = self.program.random.random() < 0.8
        behind = self.deferred.stored(self.places) != self.immediate.stored(self.places)
        ends = [side.end(commit) for side in self.sides]
        self.same(f"commit {commit}", *ends)
        stored = [side.stored(self.places) for side in self.sides]
        assert stored[0] == stored[1], self.explain("stored differs", *differences(*stored))
        for place in self.places:
            assert self.deferred.seen(*place) == stored[0][place], self.explain("seen after it")
        return behind, commit and stored[0] != self.before


def test_the_same_answers_and_documents(sides, seed):
    """Most of it is put off indeed, or this would compare one thing with itself."""
    put_off = committed = 0
    for number in range(PROGRAMS):
        run = Run(sides, f"{seed} {number}")
        try:
            behind, changed = run.run()
        except BaseException:
            print(f"program {number} of seed {seed}")
            raise
        put_off += behind
        committed += changed
    print(f"{PROGRAMS} transactions: {committed} changed something, {put_off} put something off")
    assert put_off * 5 > PROGRAMS and committed * 3 > PROGRAMS

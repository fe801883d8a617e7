"""A read in its turn keeps units waiting for unit.lockWait at most, however slow its reply is.

The server's replies are held back by a relay: no query is slow enough for sure, and fast to end.
"""

import threading
import time

import pytest
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Connection, WireTap, encode_message, wait_until

LOCK_TIMEOUT = 24
CURSOR_NOT_FOUND = 43
LOCK_WAIT = 0.8  # a turn lasts for three quarters of it; a loaded machine may be late by the rest


class Holding:
    """Holds the server's replies that have a batch of this name, until release()."""

    def __init__(self, tap, batch):
        self._tap = tap
        self._batch = batch
        self._released = threading.Event()
        self.held = threading.Event()
        tap.before_reply = self._before_reply

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._tap.before_reply = None
        self.release()

    def _before_reply(self, reply):
        if self._batch in reply.get("cursor", {}):
            self.held.set()
            self._released.wait(30)

    def release(self):
        self._released.set()


def stack_of(lock_wait):
    return Stack({"unit.lockWait": lock_wait}, between=lambda server: WireTap(server.port))


@pytest.fixture(scope="module")
def stack():
    with stack_of(f"{LOCK_WAIT * 1000:.0f}ms") as made:
        yield made


def open_cursor(stack, connection, name, command="find"):
    """A getMore of nine documents, of which two are read."""
    stack.direct[DATABASE][name].insert_many([{"_id": i, "a": 0} for i in range(9)])
    rest = {"batchSize": 2} if command == "find" else {"pipeline": [], "cursor": {"batchSize": 0}}
    cursor = connection.run({command: name, **rest, "$db": DATABASE})["cursor"]
    return {"getMore": Int64(cursor["id"]), "collection": name, "$db": DATABASE}


def send(connection, command):
    connection.send(encode_message(command))


@pytest.mark.parametrize("waited", [False, True], ids=["forwarded", "waited"])
@pytest.mark.parametrize("written", [True, False], ids=["written", "unwritten"])
def test_a_slow_get_more_gives_its_turn_up(stack, outside, unit, name, waited, written):
    """Units go on after unit.lockWait. Its answer comes if they have written nothing there."""
    get_more = open_cursor(stack, outside, name, "aggregate" if waited else "find")
    with Holding(stack.between, "nextBatch") as holding, Connection(stack.proxy.port) as other:
        first = RawTransaction(other)
        if waited:
            assert first.update(name, {"_id": 8}, {"$set": {"a": 0, "b": 1}})["ok"] == 1
        started = time.monotonic()  # before its turn
        send(outside, get_more)
        if waited:
            time.sleep(0.1)
            started = time.monotonic()
            assert first.abort()["ok"] == 1
        assert holding.held.wait(5)
        if written:
            assert unit.update(name, {"_id": 7}, {"$set": {"a": 1}})["ok"] == 1
            assert LOCK_WAIT / 2 < time.monotonic() - started < 10  # the reply is held for longer
        else:
            time.sleep(LOCK_WAIT)
        holding.release()
        reply = outside.receive()
    if not written:
        assert len(reply["cursor"]["nextBatch"]) == (9 if waited else 7)
        return
    assert reply["ok"] == 0 and reply["code"] == LOCK_TIMEOUT, reply
    assert unit.abort()["ok"] == 1
    gone = outside.run(get_more)
    assert gone["ok"] == 0 and gone["code"] == CURSOR_NOT_FOUND, gone


def test_the_error_of_a_slow_get_more_is_its_own(stack, outside, unit, name):
    get_more = open_cursor(stack, outside, name)
    release = threading.Event()

    def hold(reply):
        if reply.get("code") == CURSOR_NOT_FOUND:
            release.wait(30)

    stack.between.before_reply = hold
    send(outside, {**get_more, "getMore": Int64(12345)})
    assert unit.update(name, {"_id": 7}, {"$set": {"a": 1}})["ok"] == 1
    release.set()
    assert outside.receive()["code"] == CURSOR_NOT_FOUND
    stack.between.before_reply = None
    assert unit.abort()["ok"] == 1


def test_a_writer_that_leaves_waits_for_no_reader(name):
    """Its unit ends at once, not only when the reader's turn has."""
    with stack_of("20s") as stack, Connection(stack.proxy.port) as reader:
        get_more = open_cursor(stack, reader, name)
        elsewhere = name + "_2"
        stack.direct[DATABASE][elsewhere].insert_one({"_id": 1})
        with Holding(stack.between, "nextBatch") as holding:
            send(reader, get_more)
            assert holding.held.wait(5)
            leaver = Connection(stack.proxy.port)
            unit = RawTransaction(leaver)
            assert unit.update(elsewhere, {"_id": 1}, {"$set": {"a": 1}})["ok"] == 1
            waiting = threading.Thread(
                target=lambda: unit.update(name, {"_id": 1}, {"$set": {"a": 1}}), daemon=True
            )
            waiting.start()
            time.sleep(0.3)
            assert waiting.is_alive(), "it does not wait"
            leaver.socket.shutdown(2)
            with Connection(stack.proxy.port) as connection:
                started = time.monotonic()
                next_unit = RawTransaction(connection)
                reply = next_unit.update(elsewhere, {"_id": 1}, {"$set": {"a": 2}})
                assert reply["ok"] == 1 and time.monotonic() - started < 5, reply
                assert next_unit.commit()["ok"] == 1
            waiting.join()
            leaver.socket.close()
        assert len(reader.receive()["cursor"]["nextBatch"]) == 7
        assert stack.stored(name)[1] == {"_id": 1, "a": 0}
        assert stack.stored(elsewhere)[1] == {"_id": 1, "a": 2}


class Overtaking:
    """Commits a write in the collection before each reply with a first batch or `n` passes."""

    def __init__(self, stack, name, times):
        self._stack = stack
        self._name = name
        self.left = times
        stack.between.before_reply = self._before_reply

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.between.before_reply = None

    def _before_reply(self, reply):
        if self.left > 0 and self._is_of_read(reply):
            self.left -= 1
            with Connection(self._stack.proxy.port) as connection:
                unit = RawTransaction(connection)
                assert unit.update(self._name, {"_id": 0}, {"$inc": {"b": 1}})["ok"] == 1
                assert unit.commit()["ok"] == 1

    def _is_of_read(self, reply):
        # Not the looks of the units themselves, which find one document.
        batch = reply.get("cursor", {}).get("firstBatch", [])
        return reply.get("n", 0) == 9 or len(batch) == 4


def sent(stack, verb, name):
    return [c for _, c in list(stack.between.commands) if c.get(verb) == name and "query" not in c]


@pytest.fixture(scope="module")
def patient():
    """Where an attempt is overtaken long before units would have to wait for it."""
    with stack_of("5s") as made:
        yield made


@pytest.fixture
def patient_reader(patient, name):
    """What its collection is, is known: the first read is forwarded."""
    patient.direct[DATABASE][name].insert_many([{"_id": i, "a": 0} for i in range(9)])
    with Connection(patient.proxy.port) as made:
        made.run({"find": name, "filter": {"_id": 0}, "$db": DATABASE})
        yield made


def test_a_find_in_its_turn_has_no_limit_of_time(patient, patient_reader, name):
    """mongod would count it for the cursor's whole life."""
    stack, outside = patient, patient_reader
    with Overtaking(stack, name, 3):
        reply = outside.run({"find": name, "batchSize": 4, "comment": "long", "$db": DATABASE})
    assert len(reply["cursor"]["firstBatch"]) == 4, reply
    mine = [c for c in sent(stack, "find", name) if c.get("comment") == "long"]
    assert len(mine) == 4 and not any("maxTimeMS" in c for c in mine), mine


def test_a_count_in_its_turn_has_one(patient, patient_reader, name):
    stack, outside = patient, patient_reader
    with Overtaking(stack, name, 3):
        reply = outside.run({"count": name, "comment": "long", "$db": DATABASE})
    assert reply["n"] == 9, reply
    mine = [c for c in sent(stack, "count", name) if c.get("comment") == "long"]
    assert [c.get("maxTimeMS") for c in mine] == [None, None, None, 5000], mine


class Slow:
    """Holds the replies to a collection's reads for longer than a turn lasts, and commits a write in
    the collection before each goes on: no attempt is left in peace."""

    def __init__(self, stack, name, moves):
        self._stack, self._name, self._moves = stack, name, moves
        self.count = 0
        stack.between.before_reply = self._before_reply

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.between.before_reply = None

    def _before_reply(self, reply):
        cursor = reply.get("cursor", {})
        slow = len(cursor.get("firstBatch", [])) > 2  # not what units look for
        if cursor.get("ns") != f"{DATABASE}.{self._name}" or not slow:
            return
        self.count += 1
        time.sleep(LOCK_WAIT)
        with Connection(self._stack.proxy.port) as connection:
            unit = RawTransaction(connection)
            self._moves(unit, self.count)
            assert unit.commit()["ok"] == 1


def transfer(name):
    def moves(unit, count):
        assert unit.update(name, {"_id": count % 4}, {"$inc": {"a": -1}})["ok"] == 1
        assert unit.update(name, {"_id": 5 + count % 4}, {"$inc": {"a": 1}})["ok"] == 1
        assert unit.insert(name, {"_id": 100 + count, "a": 0})["ok"] == 1

    return moves


LONG = {
    "find": {"find": 1, "sort": {"_id": -1}, "projection": {"a": 1}},
    "batches": {"find": 1, "batchSize": 4},
    "sum": {
        "aggregate": 1,
        "cursor": {},
        "pipeline": [
            {"$match": {"a": {"$lt": 1000}}},
            {"$group": {"_id": "$_id", "a": {"$sum": "$a"}}},
        ],
    },
}


@pytest.mark.parametrize("what", list(LONG))
def test_a_read_that_is_always_overtaken_is_done_in_two_steps(stack, outside, name, what):
    """Longer than units wait for it, while they write all the time: it shows one committed state."""
    stack.direct[DATABASE][name].insert_many([{"_id": i, "a": 10} for i in range(9)])
    command = {**LONG[what], next(iter(LONG[what])): name, "$db": DATABASE}
    seen = len(stack.between.commands)
    with Connection(stack.proxy.port) as connection, Slow(stack, name, transfer(name)) as slow:
        unit = RawTransaction(connection)  # open all the time
        assert unit.update(name, {"_id": 4}, {"$set": {"a": 999}})["ok"] == 1
        reply = outside.run(command)
        assert unit.abort()["ok"] == 1
    assert reply["ok"] == 1, reply
    cursor = reply["cursor"]
    documents = list(cursor["firstBatch"])
    if cursor["id"]:
        documents += outside.run(
            {
                "getMore": Int64(cursor["id"]),
                "collection": cursor["ns"].split(".", 1)[1],
                "$db": DATABASE,
            }
        )["cursor"]["nextBatch"]
    assert sum(d["a"] for d in documents) == 90, documents
    assert len({d["_id"] for d in documents}) == len(documents) >= 9
    # ... of which the collection was not asked for in the end, but the literals.
    last = [c for _, c in list(stack.between.commands)[seen:] if c.get("aggregate") == name][-1]
    assert {"$match": {"_id": {"$in": []}}} in last["pipeline"], last
    assert slow.count >= 2


def test_more_than_a_command_holds_is_not(stack, outside, name):
    """Then it has failed, as before, and no cursor stays."""
    stack.direct[DATABASE][name].insert_many(
        [{"_id": i, "a": 10, "text": "x" * (4 << 20)} for i in range(5)]
    )
    command = {"find": name, "projection": {"a": 1}, "$db": DATABASE}
    with Slow(stack, name, lambda unit, count: unit.update(name, {"_id": 0}, {"$inc": {"b": 1}})):
        reply = outside.run(command)
    assert reply["ok"] == 0 and reply["code"] == LOCK_TIMEOUT, reply


def test_all_reads_together_carry_so_much(stack, outside, unit, name):
    """Of reads that the server has not answered, a seventh with 14 MiB of images waits for the unit."""
    stack.direct[DATABASE][name].insert_many(
        [{"_id": i, "text": "x" * (7 << 20), "a": 0} for i in range(2)]
    )
    stack.direct[DATABASE][name].insert_one({"_id": 2, "a": 0})
    for i in range(2):
        assert unit.update(name, {"_id": i}, {"$set": {"text": "y"}})["ok"] == 1
    find = {"find": name, "filter": {"a": 0}, "projection": {"a": 1}, "$db": DATABASE}
    readers = [Connection(stack.proxy.port, timeout=60) for _ in range(7)]
    release = threading.Event()
    held = []

    def hold(reply):
        if len(reply.get("cursor", {}).get("firstBatch", [])) == 3:
            held.append(reply)
            release.wait(60)

    stack.between.before_reply = hold
    try:
        for number, reader in enumerate(readers[:6], 1):
            send(reader, find)
            wait_until(lambda number=number: len(held) == number, 30, "its reply is held")
        refused = readers[6].run(find)
        assert refused["ok"] == 0 and refused["code"] == LOCK_TIMEOUT, refused
        assert "other reads" in refused["errmsg"]
        point = outside.run({**find, "filter": {"_id": 2}})
        assert point["cursor"]["firstBatch"] == [{"_id": 2, "a": 0}]
        release.set()
        for reader in readers[:6]:
            assert len(reader.receive()["cursor"]["firstBatch"]) == 3
        assert len(readers[6].run(find)["cursor"]["firstBatch"]) == 3  # there is room again
    finally:
        release.set()
        stack.between.before_reply = None
        for reader in readers:
            reader.socket.close()
    assert unit.abort()["ok"] == 1


@pytest.mark.parametrize("how", ["forwarded", "overlay"])
def test_a_cursor_that_reads_other_collections_waits_for_them(stack, outside, unit, name, how):
    """A server that evaluates as it goes would show what is uncommitted there."""
    other = name + "_2"
    stack.direct[DATABASE][name].insert_many([{"_id": i, "a": i} for i in range(9)])
    stack.direct[DATABASE][other].insert_many([{"_id": i, "a": i} for i in range(9)])
    lookup = {"from": other, "localField": "a", "foreignField": "a", "as": "f"}
    aggregate = {
        "aggregate": name,
        "pipeline": [{"$lookup": lookup}],
        "cursor": {"batchSize": 2},
        "$db": DATABASE,
    }
    with Connection(stack.proxy.port) as connection:
        own = RawTransaction(connection)
        if how == "overlay":
            assert own.update(name, {"_id": 8}, {"$set": {"b": 1}})["ok"] == 1
        cursor = outside.run(aggregate)["cursor"]
        plain = outside.run({"find": name, "batchSize": 2, "$db": DATABASE})["cursor"]
        if how == "overlay":
            assert own.abort()["ok"] == 1
    assert cursor["id"] and len(cursor["firstBatch"]) == 2
    assert unit.update(other, {"_id": 7}, {"$set": {"a": 70}})["ok"] == 1
    get_more = {"getMore": Int64(cursor["id"]), "collection": name, "$db": DATABASE}
    reply = outside.run(get_more)
    assert reply["ok"] == 0 and reply["code"] == LOCK_TIMEOUT, reply
    if plain["id"]:
        started = time.monotonic()
        rest = outside.run({**get_more, "getMore": Int64(plain["id"])})
        assert len(rest["cursor"]["nextBatch"]) == 7
        assert time.monotonic() - started < LOCK_WAIT, "it waited"
    assert unit.abort()["ok"] == 1
    assert len(outside.run(get_more)["cursor"]["nextBatch"]) == 7


@pytest.mark.parametrize(
    "command", [{"find": None}, {"aggregate": None, "cursor": {}}], ids=["find", "aggregate"]
)
def test_a_read_with_a_document_sequence_is_refused(stack, outside, unit, name, command):
    """What is in it is not looked at: a pipeline could go past the committed state."""
    stack.direct[DATABASE][name].insert_one({"_id": 1, "a": 0})
    assert unit.update(name, {"_id": 1}, {"$set": {"a": 1}})["ok"] == 1
    command = {**command, next(iter(command)): name, "$db": DATABASE}
    reply = outside.run(command, sequences={"pipeline": [{"$match": {}}]})
    assert reply["ok"] == 0 and reply["code"] == 9, reply
    assert unit.abort()["ok"] == 1


def test_a_unit_that_writes_two_ids_with_one_lock(stack, outside, unit, name):
    """Decimals that a double does not tell apart share a lock: neither shows."""
    keys = [Decimal128("0.1"), Decimal128("0.10000000000000000001")]
    stack.direct[DATABASE][name].insert_many([{"_id": key, "a": 0} for key in keys])
    for key in keys:
        assert unit.update(name, {"_id": key}, {"$set": {"a": 1}})["ok"] == 1
    for query in ({"_id": keys[0]}, {"_id": keys[1]}, {"a": 0}):
        found = outside.run({"find": name, "filter": query, "$db": DATABASE})
        found = found["cursor"]["firstBatch"]
        assert [d["a"] for d in found] == [0] * (1 if "_id" in query else 2), query
    assert unit.abort()["ok"] == 1


def test_a_tailable_cursor_waits(stack, outside, name):
    """It shows what a unit has inserted only when that has been committed."""
    assert outside.run({"create": name, "capped": True, "size": 65536, "$db": DATABASE})["ok"] == 1
    stack.direct[DATABASE][name].insert_many([{"_id": i} for i in range(3)])
    tail = {"find": name, "tailable": True, "awaitData": True, "batchSize": 10, "$db": DATABASE}
    cursor = outside.run(tail)["cursor"]
    assert cursor["id"] and len(cursor["firstBatch"]) == 3
    get_more = {
        "getMore": Int64(cursor["id"]),
        "collection": name,
        "maxTimeMS": 100,
        "$db": DATABASE,
    }
    assert outside.run(get_more)["cursor"]["nextBatch"] == []
    held, release = threading.Event(), threading.Event()

    def hold(reply):
        if reply.get("n") == 2 and "cursor" not in reply:
            held.set()
            release.wait(30)

    stack.between.before_reply = hold
    with Connection(stack.proxy.port) as writer, Connection(stack.proxy.port) as another:
        send(writer, {"insert": name, "documents": [{"_id": 7}, {"_id": 8}], "$db": DATABASE})
        assert held.wait(10)  # the server has them
        seen = outside.run(get_more)["cursor"]
        assert seen["id"] == cursor["id"] and seen["nextBatch"] == []
        refused = another.run(tail)
        assert refused["ok"] == 0 and refused["code"] == LOCK_TIMEOUT, refused
        stack.between.before_reply = None
        release.set()
        assert writer.receive()["n"] == 2
    documents = []
    wait_until(
        lambda: documents.extend(outside.run(get_more)["cursor"]["nextBatch"]) or documents,
        30,
        "a document has come",
    )
    assert documents == [{"_id": 7}, {"_id": 8}]

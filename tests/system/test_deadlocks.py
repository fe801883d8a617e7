"""Units that wait for each other's documents: the youngest is rolled back as soon as the circle
closes, all others go on. Every stack here waits 20 s for a lock: what ends sooner ended by that."""

import contextlib
import random
import threading
import time

import pytest
from conftest import DATABASE, RawTransaction, Stack, is_transient
from holdfast_testing import Connection, Later, wait_until

WRITE_CONFLICT = 112
LOCK_WAIT = 20
SOON = LOCK_WAIT / 2  # what waited for a lock in vain took all of it; a loaded machine is slow


@pytest.fixture(scope="module")
def stack():
    with Stack({"unit.lockWait": f"{LOCK_WAIT}s"}) as made:
        yield made
        made.proxy.verify()


class Circle:
    """Raw transactions; the one with number 0 is the oldest, and each holds its own document."""

    def __init__(self, stack, names):
        self.names = names
        self._open = contextlib.ExitStack()
        connections = [self._open.enter_context(Connection(stack.proxy.port)) for _ in names]
        self.units = [RawTransaction(connection) for connection in connections]
        for number, name in enumerate(names):
            stack.direct[DATABASE][name].insert_one({"_id": number, "by": []})
        for number in range(len(names)):
            assert self.push(number, number)["ok"] == 1

    def push(self, who, document):
        return self.units[who].update(
            self.names[document], {"_id": document}, {"$push": {"by": who}}
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._open.close()


def logged(stack):
    return [line for line in stack.proxy.process.output().splitlines() if "Deadlock" in line]


def test_two(stack, name):
    """Two that cross: the younger is told to run again at once, the older neither waits nor loses."""
    with Circle(stack, [name, name]) as circle:
        started = time.monotonic()
        older = Later(lambda: circle.push(0, 1))
        assert older.waits()
        reply = circle.push(1, 0)
        assert reply["code"] == WRITE_CONFLICT and is_transient(reply)
        assert older.result()["ok"] == 1
        assert time.monotonic() - started < SOON
        assert circle.units[0].commit()["ok"] == 1
        assert circle.units[1].commit()["ok"] == 0
    assert [d["by"] for d in stack.stored(name).values()] == [[0], [0]]


def test_the_other_way_round(stack, name):
    """The younger is the victim also if it is the one that waits already."""
    with Circle(stack, [name, name]) as circle:
        started = time.monotonic()
        younger = Later(lambda: circle.push(1, 0))
        assert younger.waits()
        assert circle.push(0, 1)["ok"] == 1
        reply = younger.result()
        assert reply["code"] == WRITE_CONFLICT and is_transient(reply)
        assert time.monotonic() - started < SOON
        assert circle.units[0].commit()["ok"] == 1
    assert [d["by"] for d in stack.stored(name).values()] == [[0], [0]]
    assert logged(stack)


def test_three_in_three_collections(stack, name):
    """A circle of three over three collections: the youngest, in the middle, goes; two commit."""
    names = [f"{name}_{i}" for i in range(3)]
    with Circle(stack, names) as circle:
        started = time.monotonic()
        waiting = [Later(lambda: circle.push(1, 2))]
        assert waiting[0].waits()
        waiting.append(Later(lambda: circle.push(2, 0)))
        assert waiting[1].waits()
        oldest = Later(lambda: circle.push(0, 1))
        assert waiting[1].result()["code"] == WRITE_CONFLICT
        assert waiting[0].result()["ok"] == 1
        assert circle.units[1].commit()["ok"] == 1
        # The document that it waited for has been committed since it began.
        assert oldest.result()["code"] == WRITE_CONFLICT
        assert time.monotonic() - started < SOON
    assert [stack.stored(n)[i]["by"] for i, n in enumerate(names)] == [[], [1], [1]]


def test_survivor_that_has_read(stack, name):
    """What the survivor has read of the victim's document was committed: it goes on."""
    with Circle(stack, [name, name]) as circle:
        find = {"find": name, "filter": {"_id": 1}}
        assert circle.units[0].run(find)["cursor"]["firstBatch"][0]["by"] == []
        older = Later(lambda: circle.push(0, 1))
        assert older.waits()
        assert circle.push(1, 0)["code"] == WRITE_CONFLICT
        assert older.result()["ok"] == 1
        assert circle.units[0].commit()["ok"] == 1
    assert [d["by"] for d in stack.stored(name).values()] == [[0], [0]]


def test_survivor_that_has_read_what_is_undone(name):
    """With local reads it has seen what the victim wrote, which is gone: it has to run again too."""
    settings = {"unit.lockWait": f"{LOCK_WAIT}s", "unit.reads": "local"}
    with Stack(settings) as stack, Circle(stack, [name, name]) as circle:
        find = {"find": name, "filter": {"_id": 1}}
        assert circle.units[0].run(find)["cursor"]["firstBatch"][0]["by"] == [1]
        older = Later(lambda: circle.push(0, 1))
        assert older.waits()
        assert circle.push(1, 0)["code"] == WRITE_CONFLICT
        reply = older.result()
        assert reply["code"] == WRITE_CONFLICT and is_transient(reply)
        assert [d["by"] for d in stack.stored(name).values()] == [[], []]


def test_a_driver_rides_through(stack, client, collection):
    """with_transaction: two that cross both succeed, and only one of them has to try again (more
    than once, if it began again before the other had committed)."""
    collection.insert_many([{"_id": i, "n": 0} for i in range(2)])
    both_have_one = threading.Barrier(2)
    tries = []

    def cross(first, second):
        def work(session):
            tries.append(first)
            collection.update_one({"_id": first}, {"$inc": {"n": 1}}, session=session)
            if len(tries) <= 2:
                both_have_one.wait(SOON)
            collection.update_one({"_id": second}, {"$inc": {"n": 1}}, session=session)

        with client.start_session() as session:
            session.with_transaction(work)

    started = time.monotonic()
    other = Later(lambda: cross(1, 0))
    cross(0, 1)
    other.result()
    assert time.monotonic() - started < SOON
    assert len(tries) > 2 and 1 in (tries.count(0), tries.count(1)), tries
    assert {d["n"] for d in stack.stored(collection.name).values()} == {2}


def test_plain_write_half_done(stack, raw, name):
    """A plain updateMany that has written one batch and waits for the next is the victim: undone,
    and tried again by the proxy itself. Its client sees nothing of it."""
    count = 600  # a batch is 500
    documents = [{"_id": i, "n": 0, "m": 0} for i in range(count)]
    stack.direct[DATABASE][name].insert_many(documents)
    unit = RawTransaction(raw)
    assert unit.update(name, {"_id": count - 1}, {"$inc": {"m": 1}})["ok"] == 1
    with Connection(stack.proxy.port, timeout=LOCK_WAIT) as other:
        every = {"q": {}, "u": {"$inc": {"n": 1}}, "multi": True}
        command = {"update": name, "updates": [every], "$db": DATABASE}
        plain = Later(lambda: other.run(command))
        wait_until(lambda: stack.stored(name, {"_id": 0})[0]["n"] == 1, 5, "a batch is written")
        assert plain.waits()
        started = time.monotonic()
        assert unit.update(name, {"_id": 0}, {"$inc": {"m": 1}})["ok"] == 1
        assert stack.stored(name, {"_id": 1})[1]["n"] == 0
        assert unit.commit()["ok"] == 1
        reply = plain.result()
        assert (reply["ok"], reply["n"], reply["nModified"]) == (1, count, count)
        assert time.monotonic() - started < SOON
    stored = stack.stored(name)
    assert {d["n"] for d in stored.values()} == {1}
    assert [i for i, d in stored.items() if d["m"] == 1] == [0, count - 1]


def test_plain_write_set_aside(stack, raw, name):
    """A victim that cannot be undone, for somebody changed a document around the proxy, is set aside
    for an operator. It is not carried out again: what it did stands, once."""
    count = 600  # a batch is 500
    stack.direct[DATABASE][name].insert_many([{"_id": i, "n": 0} for i in range(count)])
    unit = RawTransaction(raw)
    assert unit.update(name, {"_id": count - 1}, {"$set": {"m": 1}})["ok"] == 1
    with Connection(stack.proxy.port, timeout=LOCK_WAIT) as other:
        every = {"q": {}, "u": {"$inc": {"n": 1}}, "multi": True}
        plain = Later(lambda: other.run({"update": name, "updates": [every], "$db": DATABASE}))
        wait_until(lambda: stack.stored(name, {"_id": 0})[0]["n"] == 1, 5, "a batch is written")
        assert plain.waits()
        stack.direct[DATABASE][name].update_one({"_id": 1}, {"$set": {"by": "a stranger"}})
        assert unit.update(name, {"_id": 0}, {"$set": {"m": 1}})["code"] == WRITE_CONFLICT
        reply = plain.result()
        assert reply["ok"] == 0 and "set aside" in reply["errmsg"], reply
    stored = stack.stored(name)
    assert {d["n"] for d in stored.values()} == {0, 1}
    assert "n" in stored[1] and stored[1]["by"] == "a stranger"


def test_many_transfers(stack, name, seed):
    """Clients that move money between any two accounts, in any order: all finish, nobody waits for
    long, nothing is lost."""
    accounts, clients, transfers = 6, 8, 12
    stack.direct[DATABASE][name].insert_many([{"_id": i, "v": 0} for i in range(accounts)])
    waits = []

    def one_client(seed):
        chance = random.Random(seed)
        with stack.proxy.client() as client, client.start_session() as session:
            collection = client[DATABASE][name]

            def transfer(session):
                for account, amount in ((source, -1), (target, 1)):
                    started = time.monotonic()
                    try:
                        collection.update_one(
                            {"_id": account}, {"$inc": {"v": amount}}, session=session
                        )
                    finally:
                        waits.append(time.monotonic() - started)

            for _ in range(transfers):
                source, target = chance.sample(range(accounts), 2)
                session.with_transaction(transfer)

    running = [Later(lambda seed=seed + i: one_client(seed)) for i in range(clients)]
    for each in running:
        each.result()
    assert sum(d["v"] for d in stack.stored(name).values()) == 0
    print(f"longest wait {max(waits):.3f} s of {len(waits)}")
    assert max(waits) < SOON


def test_past_a_waiting_command(stack, raw, name):
    """createIndexes waits until a unit has left its collection; that unit waits for a document of a
    second one, which now comes to the collection too: it goes past the createIndexes."""
    indexed, held = f"{name}_indexed", f"{name}_held"
    stack.direct[DATABASE][held].insert_one({"_id": 1, "n": 0})
    with Connection(stack.proxy.port) as second, Connection(stack.proxy.port) as third:
        holder, waiter = RawTransaction(raw), RawTransaction(second)
        assert holder.update(held, {"_id": 1}, {"$inc": {"n": 1}})["ok"] == 1
        assert waiter.insert(indexed, {"_id": 1})["ok"] == 1
        indexes = [{"key": {"a": 1}, "name": "a"}]
        command = {"createIndexes": indexed, "indexes": indexes, "$db": DATABASE}
        plain = Later(lambda: third.run(command))
        assert plain.waits()
        started = time.monotonic()
        inside = Later(lambda: waiter.update(held, {"_id": 1}, {"$inc": {"n": 10}}))
        assert inside.waits()
        assert holder.insert(indexed, {"_id": 2})["ok"] == 1
        assert plain.waits()
        assert holder.abort()["ok"] == 1
        assert inside.result()["ok"] == 1
        assert waiter.commit()["ok"] == 1
        assert plain.result()["ok"] == 1
        assert time.monotonic() - started < SOON
    assert sorted(stack.stored(indexed)) == [1]
    assert stack.stored(held)[1]["n"] == 10


def test_past_a_command_that_waits_for_a_first_read(stack, name):
    """The same where one of the two has just begun, with a read of two collections: it is inside the
    one and waits at the other, and what waits there waits for the other unit."""
    one, other = f"{name}_one", f"{name}_other"
    indexes = [{"key": {"a": 1}, "name": "a"}]
    lookup = {"from": other, "localField": "_id", "foreignField": "_id", "as": "found"}
    read = {"aggregate": one, "pipeline": [{"$lookup": lookup}], "cursor": {}}
    for collection in (one, other):
        stack.direct[DATABASE][collection].insert_one({"_id": 1})
    with contextlib.ExitStack() as opened:
        connections = [opened.enter_context(Connection(stack.proxy.port)) for _ in range(4)]
        writer, reader = (RawTransaction(connection) for connection in connections[:2])

        def build(connection, collection):
            command = {"createIndexes": collection, "indexes": indexes, "$db": DATABASE}
            later = Later(lambda: connection.run(command))
            assert later.waits()
            return later

        assert writer.update(other, {"_id": 1}, {"$set": {"n": 1}})["ok"] == 1
        builds = [build(connections[2], other)]
        reading = Later(lambda: reader.run(read))
        assert reading.waits()
        builds.append(build(connections[3], one))
        started = time.monotonic()
        assert writer.update(one, {"_id": 1}, {"$set": {"n": 1}})["ok"] == 1
        assert writer.commit()["ok"] == 1
        # Its view begins behind the wait: it sees both writes.
        expected = {"_id": 1, "n": 1, "found": [{"_id": 1, "n": 1}]}
        assert reading.result()["cursor"]["firstBatch"] == [expected]
        assert reader.commit()["ok"] == 1
        assert all(build.result()["ok"] == 1 for build in builds)
        assert time.monotonic() - started < SOON

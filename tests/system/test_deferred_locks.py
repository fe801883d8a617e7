"""unit.writes: deferred. What is put off is locked as what is written, so who else wants it waits, and
who waits in a circle is told; levels of isolation are what they are; money and lists stay whole under
load, also when the proxy is killed."""

import contextlib
import time

import bank
import pytest
from conftest import DATABASE, RawTransaction, Stack, is_transient
from holdfast_testing import Connection, Later, WireTap, encode_message, wait_until
from holdfast_testing.serializability import check
from scene import Scene
from test_reads_in_turn import Holding, open_cursor
from test_serializability import Session, told, work

WRITE_CONFLICT = 112
DUPLICATE_KEY = 11000
LOCK_WAIT = 20
SOON = LOCK_WAIT / 2


@pytest.fixture(scope="module")
def stack():
    settings = {
        "unit.writes": "deferred",
        "unit.lockWait": f"{LOCK_WAIT}s",
        "upstream.fenceWait": "100ms",
    }
    with Stack(settings) as made:
        yield made
        made.proxy.verify()


@pytest.fixture
def scene(stack, name):
    with Scene(stack, name) as made:
        yield made


class SerializableUnit(RawTransaction):
    def run(self, command, *arguments, **options):
        if not self.begun:
            command = {**command, "comment": {"isolation": "serializable"}}
        return super().run(command, *arguments, **options)


@pytest.fixture
def serial(stack, name):
    with Scene(stack, name, SerializableUnit) as made:
        yield made


def is_conflict(reply):
    return reply.get("code") == WRITE_CONFLICT and is_transient(reply)


def put_off(scene, who, key, value):
    """A write, of which the server has nothing."""
    before = scene.stored()
    reply = scene.write(who, key, value)
    assert (reply["ok"], reply["n"], reply["nModified"]) == (1, 1, 1), reply
    assert scene.stored() == before


# ---------------------------------------------------------------- locks


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_another_one_waits(scene, end):
    """For the document's transaction to end; its own view begins then, if this is its first word."""
    put_off(scene, 0, 1, 11)
    change = {"$inc": {"v": 100}}
    second = Later(lambda: scene.units[1].update(scene.name, {"_id": 1}, change))
    assert second.waits()
    if end == "commit":
        scene.commit(0)
    else:
        assert scene.units[0].abort()["ok"] == 1
    assert second.result()["nModified"] == 1
    scene.commit(1)
    assert scene.stored() == {1: 111 if end == "commit" else 110, 2: 20}


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_another_one_that_has_read(scene, end):
    """Only what was committed is a conflict: what was put off and forgotten has never been."""
    assert scene.read(1) == {1: 10, 2: 20}
    put_off(scene, 0, 1, 11)
    second = Later(lambda: scene.write(1, 1, 12))
    assert second.waits()
    if end == "commit":
        scene.commit(0)
        assert is_conflict(second.result())
        assert scene.stored() == {1: 11, 2: 20}
    else:
        assert scene.units[0].abort()["ok"] == 1
        assert second.result()["nModified"] == 1
        scene.commit(1)
        assert scene.stored() == {1: 12, 2: 20}


@pytest.mark.parametrize("kind", ["insert", "delete"])
def test_inserted_and_removed_ones_are_locked(scene, kind):
    unit, other, name = scene.units[0], scene.units[1], scene.name
    if kind == "insert":
        assert unit.insert(name, {"_id": 3, "v": 30})["n"] == 1
        second = Later(lambda: other.insert(name, {"_id": 3, "v": 0}))
    else:
        assert unit.delete(name, {"_id": 1})["n"] == 1
        second = Later(lambda: other.update(name, {"_id": 1}, {"$set": {"v": 0}}))
    assert second.waits()
    assert scene.stored() == {1: 10, 2: 20}
    scene.commit(0)
    reply = second.result()
    if kind == "insert":
        assert reply["writeErrors"][0]["code"] == DUPLICATE_KEY, reply
        assert scene.stored() == {1: 10, 2: 20, 3: 30}
    else:
        assert reply["n"] == 0, reply
        assert scene.stored() == {2: 20}


def test_plain_writes_wait(scene):
    put_off(scene, 0, 1, 11)
    updates = [{"q": {"_id": 1}, "u": {"$inc": {"v": 100}}}]
    plain = Later(lambda: scene.plain({"update": scene.name, "updates": updates}))
    assert plain.waits()
    assert scene.stored() == {1: 10, 2: 20}
    scene.commit(0)
    assert plain.result()["nModified"] == 1
    assert scene.stored() == {1: 111, 2: 20}


def test_general_writes_of_others(scene):
    """A search does not find what is put off, which is not committed; what it locks it looks at
    again."""
    put_off(scene, 0, 1, 50)
    updates = [{"q": {"v": {"$gte": 50}}, "u": {"$inc": {"v": 1}}, "multi": True}]
    reply = scene.units[1].run({"update": scene.name, "updates": updates})
    assert (reply["ok"], reply["n"]) == (1, 0), reply
    updates = [{"q": {"v": 10}, "u": {"$inc": {"v": 1}}}]
    second = Later(lambda: scene.units[2].run({"update": scene.name, "updates": updates}))
    assert second.waits()
    scene.commit(0)
    assert second.result()["n"] == 0
    assert scene.stored() == {1: 50, 2: 20}


def test_ddl_waits(scene):
    """As for what is written."""
    put_off(scene, 0, 1, 11)
    drop = Later(lambda: scene.plain({"drop": scene.name}))
    assert drop.waits()
    scene.commit(0)
    assert drop.result()["ok"] == 1
    assert scene.stored() == {}


def test_an_index_waits(scene):
    """A unique index that the writes would break is made before them or after them."""
    assert scene.units[0].insert(scene.name, {"_id": 3, "v": 10})["n"] == 1
    keys = [{"key": {"v": 1}, "name": "v", "unique": True}]
    index = Later(lambda: scene.plain({"createIndexes": scene.name, "indexes": keys}))
    assert index.waits()
    scene.commit(0)
    assert index.result()["code"] == DUPLICATE_KEY
    assert scene.stored() == {1: 10, 2: 20, 3: 10}


# ---------------------------------------------------------------- circles


def test_two_that_cross(scene):
    """The younger is the victim at once; the older one commits, and its put-off writes with it."""
    put_off(scene, 0, 1, 11)
    put_off(scene, 1, 2, 22)
    started = time.monotonic()
    older = Later(lambda: scene.write(0, 2, 21))
    assert older.waits()
    assert is_conflict(scene.write(1, 1, 12))
    assert older.result()["nModified"] == 1
    assert time.monotonic() - started < SOON
    scene.commit(0)
    assert scene.units[1].commit()["ok"] == 0
    assert scene.stored() == {1: 11, 2: 21}


def test_three_in_a_circle(scene):
    scene.plain({"insert": scene.name, "documents": [{"_id": 3, "v": 30}]})
    for who, key in enumerate((1, 2, 3)):
        put_off(scene, who, key, key)
    started = time.monotonic()
    oldest = Later(lambda: scene.write(0, 2, 0))
    assert oldest.waits()
    middle = Later(lambda: scene.write(1, 3, 0))
    assert middle.waits()
    assert is_conflict(scene.write(2, 1, 0))
    assert middle.result()["ok"] == 1
    scene.commit(1)
    assert is_conflict(oldest.result())  # what it waited for was committed after it began
    assert time.monotonic() - started < SOON
    assert scene.stored() == {1: 10, 2: 2, 3: 0}


def test_a_victim_that_has_to_write_first(scene):
    """A command that would carry out what is put off, and then waits: the circle is seen all the
    same, and what was written is undone."""
    put_off(scene, 0, 1, 11)
    put_off(scene, 1, 2, 22)
    older = Later(lambda: scene.write(0, 2, 21))
    assert older.waits()
    updates = [{"q": {"v": 10}, "u": {"$set": {"v": 0}}}]
    assert is_conflict(scene.units[1].run({"update": scene.name, "updates": updates}))
    assert older.result()["nModified"] == 1
    scene.commit(0)
    assert scene.stored() == {1: 11, 2: 21}


# ---------------------------------------------------------------- isolation


def test_snapshot_reads(scene):
    """A transaction that has begun sees neither what is put off, nor written, nor committed."""
    assert scene.read(2) == {1: 10, 2: 20}
    put_off(scene, 0, 1, 11)
    assert scene.units[0].insert(scene.name, {"_id": 3, "v": 30})["n"] == 1
    assert scene.read(2) == scene.read() == {1: 10, 2: 20}
    assert scene.read(0) == {1: 11, 2: 20, 3: 30}  # writes
    assert scene.stored() == {1: 11, 2: 20, 3: 30}
    assert scene.read(2) == scene.read() == {1: 10, 2: 20}
    put_off(scene, 0, 2, 22)
    scene.commit(0)
    assert scene.read(2) == {1: 10, 2: 20}
    assert scene.read() == {1: 11, 2: 22, 3: 30}


def test_it_does_not_see_later_commits(scene):
    """Its own put-off write is no reason to see more of others."""
    put_off(scene, 0, 1, 11)
    assert scene.write(1, 2, 22)["ok"] == 1
    scene.commit(1)
    assert scene.read(0, {"_id": 2}) == {2: 20}
    assert scene.read(0) == {1: 11, 2: 20}
    assert is_conflict(scene.write(0, 2, 21))
    assert scene.stored() == {1: 10, 2: 22}


def test_no_lost_update(scene):
    """Both have read; one of them commits."""
    assert scene.read(0, {"_id": 1}) == scene.read(1, {"_id": 1}) == {1: 10}
    put_off(scene, 0, 1, 11)
    second = Later(lambda: scene.write(1, 1, 11))
    assert second.waits()
    scene.commit(0)
    assert is_conflict(second.result())


@pytest.mark.parametrize("query", [{"_id": 2}, None], ids=["by _id", "all"])
def test_serializable_write_skew(serial, query):
    """Both have read what the other one writes."""
    other = {"_id": 1} if query else None
    serial.read(0, query)
    serial.read(1, other)
    first = Later(lambda: serial.write(0, 1, 0))
    assert first.waits()
    assert is_conflict(serial.write(1, 2, 0))
    assert first.result()["ok"] == 1
    serial.commit(0)
    assert serial.stored() == {1: 0, 2: 20}


def test_serializable_reads_wait(serial):
    """For who has put off what they would see, by _id and by a filter, and see it then."""
    put_off(serial, 0, 1, 11)
    assert serial.units[0].insert(serial.name, {"_id": 3, "v": 30})["n"] == 1
    one = Later(lambda: serial.read(1, {"_id": 1}))
    some = Later(lambda: serial.read(2, {"v": {"$gte": 30}}))
    assert one.waits() and some.waits()
    assert serial.read() == {1: 10, 2: 20}
    serial.commit(0)
    assert one.result() == {1: 11} and some.result() == {3: 30}


def test_serializable_units_put_off_too(serial):
    """And see their own."""
    put_off(serial, 0, 1, 11)
    assert serial.read(0, {"_id": 2}) == {2: 20}
    assert serial.stored() == {1: 10, 2: 20}
    assert serial.read(0) == {1: 11, 2: 20}
    serial.commit(0)
    assert serial.stored() == {1: 11, 2: 20}


# ---------------------------------------------------------------- readers in their turn


@contextlib.contextmanager
def read_in_turn(name, lock_wait):
    """A stack in which a plain getMore of the collection is in its turn, its reply held back: who
    writes there waits for it. Yields the stack and the reader."""
    settings = {"unit.writes": "deferred", "unit.lockWait": lock_wait}
    with Stack(settings, between=lambda server: WireTap(server.port)) as stack:
        with Connection(stack.proxy.port) as reader:
            get_more = open_cursor(stack, reader, name)
            with Holding(stack.between, "nextBatch") as holding:
                reader.send(encode_message(get_more))
                assert holding.held.wait(5)
                yield stack, reader


ENDS = {
    "commit": lambda unit, name: unit.commit(),
    "read": lambda unit, name: unit.run({"find": name}),
    "write": lambda unit, name: unit.run(
        {"update": name, "updates": [{"q": {"a": 0}, "u": {"$set": {"a": 1}}, "multi": True}]}
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_it_waits_for_a_reader(name, end):
    """Not when it is put off, but when it is carried out; for unit.lockWait at most."""
    with read_in_turn(name, "800ms") as (stack, _), Connection(stack.proxy.port) as raw:
        unit = RawTransaction(raw)
        started = time.monotonic()
        assert unit.update(name, {"_id": 1}, {"$set": {"a": 7}})["nModified"] == 1
        at_once = time.monotonic() - started
        carried_out = Later(lambda: ENDS[end](unit, name))
        assert at_once > 0.4 or carried_out.waits()
        assert stack.stored(name)[1]["a"] == 0
        assert carried_out.result()["ok"] == 1
        unit.commit()
        assert stack.stored(name)[1]["a"] == 7


@pytest.mark.parametrize("end", ENDS)
def test_a_client_that_leaves_then(name, end):
    """While its writes wait for a reader: they do not wait on, and its locks are free soon."""
    with read_in_turn(name, f"{LOCK_WAIT}s") as (stack, _):
        elsewhere = f"{name}_2"
        stack.direct[DATABASE][elsewhere].insert_one({"_id": 1, "a": 0})
        leaver = Connection(stack.proxy.port)
        unit = RawTransaction(leaver)
        for collection in (elsewhere, name):
            reply = unit.update(collection, {"_id": 1}, {"$set": {"a": 7}})
            assert reply["nModified"] == 1, reply
        carried_out = Later(lambda: ENDS[end](unit, name))
        assert carried_out.waits(0.3)
        leaver.socket.shutdown(2)
        with Connection(stack.proxy.port) as connection:
            started = time.monotonic()
            other = RawTransaction(connection)
            reply = other.update(elsewhere, {"_id": 1}, {"$set": {"b": 1}})
            assert reply["ok"] == 1 and time.monotonic() - started < SOON / 2, reply
            assert other.commit()["ok"] == 1
        stored = [stack.stored(collection)[1]["a"] for collection in (elsewhere, name)]
        assert stored in ([0, 0], [7, 7]) and (end == "commit" or stored == [0, 0])


# ---------------------------------------------------------------- under load


class Appender(Session):
    """Reads a list and sets it to a longer one: what the proxy computes, and so puts off."""

    def _step(self, run, done, plain):
        if plain or self.random.random() < 0.4:
            super()._step(run, done, plain)
            return
        key = self.random.randrange(4)
        found = run({"find": self.name, "filter": {"_id": key}})["cursor"]["firstBatch"]
        before = found[0]["list"] if found else []
        done.read(key, before)
        if not found:
            return
        value = self.history.value()
        done.append(key, value)
        change = {"$set": {"list": [*before, value]}}
        run({"update": self.name, "updates": [{"q": {"_id": key}, "u": change}]})


def appended(stack, name, seed, isolation, meanwhile=None):
    documents = [{"_id": key, "group": key % 2, "list": []} for key in range(4)]
    stack.direct[DATABASE][name].insert_many(documents)
    transactions, final = work(stack, name, seed, isolation, 1.5, meanwhile, Appender)
    committed = sum(bool(transaction.committed) for transaction in transactions)
    print(f"{committed} of {len(transactions)} committed")
    assert committed > 20
    return transactions, final


@pytest.fixture(scope="module")
def busy():
    settings = {"unit.writes": "deferred", "unit.lockWait": "1s", "upstream.fenceWait": "100ms"}
    with Stack(settings) as made:
        yield made
        made.proxy.verify()


def test_serializable_histories(busy, name, seed):
    """Random transactions: no cycle, and an order that agrees with the clock."""
    transactions, final = appended(busy, name, seed, "serializable")
    found = check(transactions, final)
    assert found is None, told(transactions, found)


def test_snapshot_histories(busy, name, seed):
    """No lost write, no half one, and no cycle but those with two reads that snapshots allow."""
    transactions, final = appended(busy, name, seed, "snapshot")
    found = check(transactions, final, real_time=False)
    if found is not None:
        assert [kind for _, kind, _ in found].count("rw") >= 2, told(transactions, found)


def test_killed_under_load(busy, name, seed):
    """kill -9 of the proxy: who had its answer is there, no transaction is there by half."""

    def kill():
        for _ in range(2):
            time.sleep(0.5)
            busy.proxy.restart()

    transactions, final = appended(busy, name, seed, "serializable", kill)
    found = check(transactions, final)
    assert found is None, told(transactions, found)


def test_a_bank(busy, seed):
    """Transfers by a driver in several processes, and a proxy that is killed: money stays."""
    bank.open_accounts(busy.direct[DATABASE])
    workers = [bank.start_worker(busy.proxy.uri, f"{seed}.{number}") for number in range(3)]
    acknowledged = set()

    def are(count):
        return all(len(bank.acknowledged_by(worker)) >= count for worker in workers)

    for count in (10, 20, 30):
        wait_until(lambda count=count: are(count), 30, "transfers are done")
        busy.proxy.restart()
    workers[0].kill()
    wait_until(lambda: are(30), 30, "the others go on")
    for worker in workers:
        assert worker is workers[0] or worker.running(), worker.tail()
        worker.kill()
        acknowledged |= bank.acknowledged_by(worker)
    with Connection(busy.proxy.port) as raw:
        # Whoever was killed holds nothing any more.
        touch = {"update": "accounts", "updates": [{"q": {}, "u": {"$inc": {"n": 1}}, "multi": True}]}
        wait_until(lambda: RawTransaction(raw).run(touch)["ok"] == 1, 10, "all locks are free")
    bank.check(busy.direct[DATABASE], acknowledged)

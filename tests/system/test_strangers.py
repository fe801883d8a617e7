"""Documents that somebody changes around the proxy before a transaction's journaled writes are sent:
nothing of theirs is undone, whatever is refused and whoever is killed then, whether the writes were put
off (unit.writes: deferred) or not."""

import contextlib
import time

import pytest
from conftest import DATABASE, RawTransaction, Stack, is_transient
from holdfast_testing import Connection, Later, wait_until

WRITE_CONFLICT = 112
DUPLICATE_KEY = 11000


DEFERRED = {"unit.writes": "deferred"}


@contextlib.contextmanager
def started(settings=DEFERRED, stop_at=None, crash_at=None, **options):
    """A stack whose proxy stops, or dies, at that point."""
    with Stack(dict(settings), **options) as made:
        made.proxy.stop()
        made.proxy.start(stop_at=stop_at, crash_at=crash_at)
        yield made


@pytest.fixture(scope="module")
def stack():
    with Stack(dict(DEFERRED)) as made:
        yield made
        assert all(unit["state"] != "conflict" for unit in made.proxy.units())
        made.proxy.verify()


@pytest.fixture
def unit(stack):
    with Connection(stack.proxy.port) as raw:
        yield RawTransaction(raw)


class Shop:
    """Documents of three collections, a transaction that writes in all of them, and a stranger who
    does meanwhile to each what the transaction would."""

    def __init__(self, stack, name):
        database = stack.direct[DATABASE]
        self.stack, self.name = stack, name
        self.stock, self.sessions, self.log = (
            database[f"{name}_{part}"] for part in ("stock", "sessions", "log")
        )
        self.stock.insert_many([{"_id": i, "n": 0} for i in range(2)])
        self.sessions.insert_many([{"_id": i} for i in range(3)])
        self.log.insert_one({"_id": "first"})

    def write(self, unit):
        assert unit.update(self.stock.name, {"_id": 0}, {"$inc": {"n": 1}})["n"] == 1
        assert unit.update(self.stock.name, {"_id": 1}, {"$inc": {"n": 1}})["n"] == 1
        for i in range(3):
            assert unit.delete(self.sessions.name, {"_id": i})["n"] == 1
        assert unit.insert(self.log.name, {"_id": 5, "v": 1})["n"] == 1

    def strange(self, documents=("stock", "sessions", "log")):
        if "stock" in documents:
            self.stock.update_one({"_id": 0}, {"$inc": {"n": 10}})
        if "sessions" in documents:
            self.sessions.delete_many({})  # as an index does that removes what has expired
        if "log" in documents:
            self.log.insert_one({"_id": 5, "v": 1})

    def stored(self):
        return [sorted(part.find(), key=str) for part in (self.stock, self.sessions, self.log)]


def is_refused(reply):
    return reply["code"] == WRITE_CONFLICT and is_transient(reply)


@pytest.mark.parametrize("documents", [("stock",), ("sessions",), ("log",), ("stock", "sessions", "log")])
def test_changed_before_the_commit(stack, unit, name, documents):
    """The commit is a WriteConflict, and what the stranger has left is what is there."""
    shop = Shop(stack, name)
    shop.write(unit)
    shop.strange(documents)
    left = shop.stored()
    assert is_refused(unit.commit())
    assert shop.stored() == left


def test_changed_before_a_read(stack, unit, name):
    """The same of a read that would see what was put off."""
    shop = Shop(stack, name)
    shop.write(unit)
    shop.strange()
    left = shop.stored()
    assert is_refused(unit.run({"find": shop.stock.name, "filter": {}}))
    assert shop.stored() == left
    assert unit.commit()["code"] == 251


def stopped(stack, unit):
    """The commit, once the proxy has stopped in it."""
    asked = Later(unit.commit)
    wait_until(stack.proxy.process.stands_still, 20, "the proxy has stopped")
    return asked


@pytest.mark.parametrize("documents", [("stock",), ("log",), ("stock", "log"), ("sessions", "stock", "log")])
def test_changed_when_they_are_journaled(name, documents):
    """In the moment between the look and the writes: those behind the one that is refused were never
    sent, and undoing leaves them alone."""
    with started(stop_at="unit_journaled") as stack:
        shop = Shop(stack, name)
        with Connection(stack.proxy.port) as raw:
            unit = RawTransaction(raw)
            shop.write(unit)
            asked = stopped(stack, unit)
            shop.strange(documents)
            left = shop.stored()
            stack.proxy.resume()
            reply = asked.result()
            assert reply["code"] == DUPLICATE_KEY if documents == ("log",) else is_refused(reply)
        assert shop.stored() == left
        assert all(one["state"] == "aborted" for one in stack.proxy.units())


def test_the_server_crashes_after_a_refusal(name):
    """The ABORT tells what was refused: a server that has lost its last writes gets nothing back that
    others have removed."""
    with started(stop_at="unit_journaled") as stack:
        shop = Shop(stack, name)
        with Connection(stack.proxy.port) as raw:
            unit = RawTransaction(raw)
            assert unit.delete(shop.sessions.name, {"_id": 0})["n"] == 1
            assert unit.insert(shop.log.name, {"_id": 5, "v": 1})["n"] == 1
            asked = stopped(stack, unit)
            shop.sessions.delete_one({"_id": 0})
            time.sleep(0.3)  # until the stranger's own is on the server's disk
            stack.proxy.resume()
            assert is_refused(asked.result())
            stack.server.kill()
        stack.server.start()
        wait_until(lambda: recovered(stack), 20, "the proxy has recovered")
        assert [one["_id"] for one in shop.sessions.find()] == [1, 2]
        assert [one["_id"] for one in shop.log.find()] == ["first"]


def recovered(stack):
    try:
        with Connection(stack.proxy.port) as raw:
            return raw.run({"find": "any", "$db": DATABASE})["ok"] == 1
    except OSError:
        return False


def test_the_look_comes_before_the_journal(name):
    """A stranger's change that is older than the look is not undone by a recovery: the commit is
    refused before anything is journaled, where a kill would have left it to be undone."""
    with started(crash_at="unit_journaled:1") as stack:
        shop = Shop(stack, name)
        with Connection(stack.proxy.port) as raw:
            unit = RawTransaction(raw)
            shop.write(unit)
            shop.strange()
            left = shop.stored()
            assert is_refused(unit.commit())
        assert shop.stored() == left
        assert stack.proxy.units() == []


@pytest.mark.parametrize(
    "write",
    [
        {"update": None, "updates": [{"q": {}, "u": {"$addToSet": {"tags": "x"}}, "multi": True}]},
        {"update": None, "updates": [{"q": {}, "u": {"$set": {"done": 1}}, "multi": True}]},
        {"delete": None, "deletes": [{"q": {}, "limit": 0}]},
    ],
    ids=["computed by the server", "computed here", "removed"],
)
def test_several_that_are_journaled_together(name, write):
    """The same of one command that writes several documents, which somebody runs around the proxy
    when it is journaled: what was sent and refused, and what was not sent, stays as it is."""
    with started({}, stop_at="unit_journaled") as stack:
        documents = stack.direct[DATABASE][name]
        documents.insert_many([{"_id": i, "tags": ["y"]} for i in range(6)])
        with Connection(stack.proxy.port) as raw:
            unit = RawTransaction(raw)
            command = {**write, next(iter(write)): name}
            asked = Later(lambda: unit.run(command))
            wait_until(stack.proxy.process.stands_still, 20, "the proxy has stopped")
            stack.direct[DATABASE].command(command)
            left = sorted(documents.find(), key=str)
            stack.proxy.resume()
            reply = asked.result()
            assert is_refused(reply) or "set aside" in reply["errmsg"], reply
        assert sorted(documents.find(), key=str) == left


def test_without_the_right_to_write(name):
    """Who may only read makes no rollback touch anything: nothing of a command without the right is
    done, whatever somebody else has made of its documents meanwhile."""
    eve = [("eve", "eve", [("read", DATABASE)])]
    with started(auth=True, users=eve, stop_at="unit_journaled") as stack:
        documents = stack.direct[DATABASE][name]
        documents.insert_many([{"_id": i} for i in range(2)])
        with Connection(stack.proxy.port) as eve:
            assert eve.login("eve", "eve")["ok"] == 1
            unit = RawTransaction(eve)
            for i in range(2):
                assert unit.update(name, {"_id": i}, {"$set": {"paid": 1}})["n"] == 1
            asked = stopped(stack, unit)
            documents.update_one({"_id": 0}, {"$set": {"paid": 1}})
            stack.proxy.resume()
            assert asked.result()["code"] == 13
        assert list(documents.find().sort("_id")) == [{"_id": 0, "paid": 1}, {"_id": 1}]
        assert all(one["state"] == "aborted" for one in stack.proxy.units())

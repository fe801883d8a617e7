"""Any number of proxies on one replica set: three, killed with -9 at random moments, and clients spread
over them. No money is made or lost, no transaction is there by half, and what a client was told holds.

A server ends the transactions of who is gone by its own timeout; secantusd-rs has none. So the clients
here go on, as drivers do: the next transaction of a session ends the one before it.
"""

import itertools
import os
import pathlib
import random
import shutil
import threading
import time

import bank
import pymongo
import pytest
from conftest import DATABASE, RawTransaction, is_transient
from holdfast_testing import Connection, Proxy, holdfast, wait_until
from holdfast_testing.serializability import Transaction, check_snapshot, cycle, dependencies
from pymongo.errors import PyMongoError
from three_proxies import Killer, ThreeProxies, in_state, outcomes

SECONDS = float(os.environ.get("HOLDFAST_PROXIES_SECONDS", "3"))
WORKERS = 4
SESSIONS = 5
KEYS = 4


@pytest.fixture
def three():
    with ThreeProxies() as made:
        yield made


# ---------------------------------------------------------------- the bank


def test_bank(three, seed):
    """What bank.check() says holds, and no client sees an error."""
    bank.open_accounts(three.direct[DATABASE])
    three.direct[DATABASE].create_collection("transfers")
    workers = [bank.start_worker(three.uri, f"{seed}.{n}") for n in range(WORKERS)]
    for worker in workers:
        worker.wait_for_line(lambda line: line.startswith("ack ") or None, 60, "its first transfer")
    with Killer(three, seed) as killer:
        time.sleep(SECONDS)
    failed = [worker.tail() for worker in workers if not worker.running()]
    assert not failed, f"a client saw an error: {failed[0]}"
    for worker in workers:
        done = len(bank.acknowledged_by(worker))
        wait_until(lambda w=worker, d=done: len(bank.acknowledged_by(w)) > d, 60, "it goes on")
    for worker in workers:  # not before: what a dead client leaves open nobody ends here
        worker.kill()
    acknowledged = set().union(*map(bank.acknowledged_by, workers))
    print(f"{killer.kills} kills, journals {three.settle()}")
    bank.check(three.direct[DATABASE], acknowledged)
    check_journals(three)
    assert killer.kills > 0 and len(acknowledged) > WORKERS


def check_journals(three):
    """No journal says of a transfer what is not so; where nobody can tell, it is set aside."""
    transfers = three.stored(DATABASE, "transfers")
    for proxy in three.proxies:
        for state, commands in outcomes(proxy):
            for command in commands:
                for document in command.get("documents", []):
                    there = document["_id"] in transfers
                    assert state == "conflict" or there == (state == "committed"), (state, document)


# ---------------------------------------------------------------- lists that tell their past


class Appender:
    """Runs random transactions with pymongo until told to stop, and puts down what it saw."""

    def __init__(self, uri, seed, transactions, values, lock):
        self._random = random.Random(seed)
        self._transactions, self._values, self._lock = transactions, values, lock
        self._client = pymongo.MongoClient(uri, serverSelectionTimeoutMS=20000)
        self._lists = self._client[DATABASE]["lists"]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.error = None
        self._thread.start()

    def finish(self):
        self._stop.set()
        self._thread.join()
        self._client.close()
        if self.error is not None:
            raise self.error

    def _run(self):
        try:
            with self._client.start_session() as session:
                while not self._stop.is_set():
                    self._one(session)
        except BaseException as error:  # told by the test
            self.error = error

    def _one(self, session):
        with self._lock:
            done = Transaction(len(self._transactions), time.monotonic())
            self._transactions.append(done)
        session.start_transaction()
        try:
            for _ in range(self._random.randint(2, 4)):
                self._step(session, done)
        except PyMongoError:
            session.abort_transaction()
            done.committed, done.ended = False, time.monotonic()
            return
        try:
            session.commit_transaction()
            done.committed = True
        except PyMongoError as error:
            unknown = error.has_error_label("UnknownTransactionCommitResult")
            done.committed = None if unknown else False
        done.ended = time.monotonic()

    def _step(self, session, done):
        key = self._random.randrange(KEYS)
        if self._random.random() < 0.5:
            with self._lock:
                value = next(self._values)
            done.append(key, value)
            self._lists.update_one({"_id": key}, {"$push": {"list": value}}, session=session)
        else:
            found = self._lists.find_one({"_id": key}, session=session)
            done.read(key, found["list"])


def test_lists(three, seed):
    """No write is lost, half there or seen before its commit, and no cycle that snapshots forbid."""
    three.direct[DATABASE]["lists"].insert_many([{"_id": key, "list": []} for key in range(KEYS)])
    transactions, values, lock = [], itertools.count(1), threading.Lock()
    appenders = [
        Appender(three.uri, f"{seed} {n}", transactions, values, lock) for n in range(SESSIONS)
    ]
    with Killer(three, seed) as killer:
        time.sleep(SECONDS)
    for appender in appenders:
        appender.finish()
    wait_until(lambda: not any(in_state(p, "committing") for p in three.proxies), 30, "settled")
    final = {key: d["list"] for key, d in three.stored(DATABASE, "lists").items()}
    counts = {known: sum(t.committed is known for t in transactions) for known in (True, False, None)}
    print(f"{killer.kills} kills, committed {counts}, journals {three.settle()}")
    found = check_snapshot(transactions, final)
    assert found is None, found
    assert killer.kills > 0 and counts[True] > 20


# ---------------------------------------------------------------- one that never comes back


def killed_at(three, point):
    """A transaction whose proxy died at `point` of its commit; the proxy stays dead."""
    proxy = three.proxies[0]
    proxy.kill()
    proxy.start(crash_at=point)
    unit = RawTransaction(Connection(proxy.port))
    assert unit.insert("c", {"_id": point})["ok"] == 1
    try:
        assert unit.commit() is None
    except ConnectionError:
        pass
    return proxy, unit


@pytest.mark.parametrize("point", ["native_committing", "native_sent"])
def test_journal_elsewhere(three, point, tmp_path):
    """A proxy that never comes back: on another host a copy of its journal is enough to learn how its
    commits ended, while the other proxies serve."""
    three.direct[DATABASE].create_collection("c")
    proxy, unit = killed_at(three, point)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("tail.wal", "data.mdb"):
        shutil.copy(pathlib.Path(proxy.wal) / name, copy)
    assert [u["state"] for u in in_state(proxy, "committing")] == ["committing"]
    holdfast("recover", "--wal", copy, "--upstream", three.server.uri, check=0)
    moved = Proxy(three.server, wal=str(copy), start=False)
    assert [u["state"] for u in in_state(moved, "all")] == ["committed"]
    assert three.direct[DATABASE]["c"].count_documents({"_id": point}) == 1
    with Connection(three.proxies[1].port) as other:  # the driver, by another proxy
        assert unit.commit(other)["ok"] == 1
    proxy.start()  # the old one comes back after all: it is told the same
    assert not in_state(proxy, "committing")
    assert [u["state"] for u in in_state(proxy, "all")] == ["committed"]


@pytest.mark.parametrize("by", ["its client", "the server"])
def test_left_behind(three, by):
    """Of a proxy that never comes back nothing is left on the server but the transactions that were
    open in it: no lease, no lock of its own, no document. Its client ends them by another proxy, or the
    server does when their time is over. (The test server has no such time: it is told to.)"""
    lists = three.direct[DATABASE]["c"]
    lists.insert_one({"_id": 1, "n": 0})
    kept = dict(three.stored("holdfast", "state"))
    proxy, gone = three.proxies[0], three.proxies[1]
    unit = RawTransaction(Connection(gone.port))
    assert unit.update("c", {"_id": 1}, {"$inc": {"n": 1}})["ok"] == 1
    gone.kill()
    with Connection(proxy.port) as connection:
        blocked = RawTransaction(connection)
        assert is_transient(blocked.update("c", {"_id": 1}, {"$inc": {"n": 10}}))
        with Connection(three.server.port) as server:
            assert unit.abort(server if by == "the server" else connection)["ok"] == 1
        blocked.next()
        assert blocked.update("c", {"_id": 1}, {"$inc": {"n": 10}})["ok"] == 1
        assert blocked.commit()["ok"] == 1
    assert lists.find_one({"_id": 1})["n"] == 10
    assert three.stored("holdfast", "state") == kept
    gone.start()
    assert in_state(gone, "all") == []


# ---------------------------------------------------------------- the checker itself


def history(*steps):
    transactions = {}
    for number, kind, key, what in steps:
        made = transactions.setdefault(number, Transaction(number, 0.0, committed=True))
        (made.append if kind == "a" else made.read)(key, what)
    return list(transactions.values())


def test_checker_read_skew():
    """It read x before and y after another's commit: no snapshot."""
    steps = [(1, "a", "x", 1), (1, "a", "y", 2), (2, "r", "x", []), (2, "r", "y", [2])]
    assert check_snapshot(history(*steps), {"x": [1], "y": [2]}) is not None


def test_checker_write_skew():
    """Which snapshots allow, and a serial order does not."""
    steps = [(1, "r", "x", []), (2, "r", "y", []), (1, "a", "y", 1), (2, "a", "x", 2)]
    final = {"x": [2], "y": [1]}
    assert check_snapshot(history(*steps), final) is None
    assert cycle(dependencies(history(*steps), final, real_time=False)) is not None

"""Random transactions of several sessions at once, of drivers and by names in comments, and a checker
of what they saw and left (holdfast_testing/serializability.py): no cycle at the serializable level,
also with plain writes and reads among them and a proxy that is killed in the middle. Transactions of
drivers at the snapshot level make cycles, and it finds them: so it would find them here."""

import itertools
import random
import threading
import time

import pytest
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Connection
from holdfast_testing.serializability import Anomaly, Transaction, check

KEYS = 4
SESSIONS = 6
SECONDS = 2.5


@pytest.fixture(scope="module")
def stack():
    with Stack({"unit.lockWait": "1s"}) as made:
        yield made
        made.proxy.verify()


class History:
    """What all sessions have done."""

    def __init__(self):
        self._lock = threading.Lock()
        self._values = itertools.count(1)
        self.transactions = []

    def begin(self):
        with self._lock:
            self.transactions.append(Transaction(len(self.transactions), time.monotonic()))
            return self.transactions[-1]

    def value(self):
        with self._lock:
            return next(self._values)


class Failed(Exception):
    """A command was refused: the transaction is rolled back."""


class Session:
    """Runs random transactions until it is told to stop."""

    def __init__(self, stack, name, history, seed, isolation):
        self.stack, self.name, self.history = stack, name, history
        self.random = random.Random(seed)
        self.isolation = isolation
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._main)
        self.error = None

    def _main(self):
        try:
            while not self.stop.is_set():
                try:
                    with Connection(self.stack.proxy.port) as connection:
                        unit = RawTransaction(connection)
                        while not self.stop.is_set():
                            self._one(connection, unit)
                            unit.next()
                except OSError:
                    time.sleep(0.02)  # the proxy is dead at the moment
        except BaseException as error:  # told by the test
            self.error = error

    def _one(self, connection, unit):
        done = self.history.begin()
        choice = self.random.random()
        plain = choice < 0.15
        # Units in comments have no snapshot at the other level.
        in_comment = choice > 0.75 and self.isolation == "serializable"
        named = f"{self.name}-{done.number}" if in_comment else None

        def run(command, database=DATABASE):
            if named and database == DATABASE:
                command = {**command, "comment": {"unit": named}}
            if plain or named:
                reply = connection.run({**command, "$db": database})
            elif unit.begun:
                reply = unit.run(command)
            else:
                reply = unit.run({**command, "comment": {"isolation": self.isolation}})
            if reply is None:
                raise ConnectionError
            if reply["ok"] != 1 or reply.get("writeErrors"):
                raise Failed(reply)
            return reply

        try:
            if named:
                run({"beginUnit": named, "isolation": self.isolation}, "admin")
            for _ in range(1 if plain else self.random.randint(2, 4)):
                self._step(run, done, plain)
                if not plain and self.random.random() < 0.3:
                    time.sleep(self.random.random() * 0.004)
            if plain:
                done.committed = True
            elif named:
                done.committed = run({"commitUnit": named}, "admin")["ok"] == 1
            else:
                reply = unit.commit()
                if reply is None:
                    raise ConnectionError  # how it ended is not known
                done.committed = reply["ok"] == 1
        except Failed:
            done.committed = False
            if named:
                connection.run({"abortUnit": named, "$db": "admin"})  # mostly it has ended already
        done.ended = time.monotonic()

    def _step(self, run, done, plain):
        key = self.random.randrange(KEYS)
        choice = self.random.random()
        if choice < 0.4:
            value = self.history.value()
            update = {
                "q": {"_id": key},
                "u": {"$push": {"list": value}, "$setOnInsert": {"group": key % 2}},
                "upsert": True,
            }
            done.append(key, value)
            run({"update": self.name, "updates": [update]})
        elif choice < 0.75:
            self._read(run, done, {"_id": key}, [key])
        else:
            group = key % 2
            keys = [k for k in range(KEYS) if k % 2 == group]
            self._read(run, done, {"group": group}, keys)

    def _read(self, run, done, query, keys):
        batch = run({"find": self.name, "filter": query})["cursor"]["firstBatch"]
        found = {document["_id"]: document["list"] for document in batch}
        for key in keys:
            done.read(key, found.get(key, []))


def work(stack, name, seed, isolation, seconds=SECONDS, meanwhile=None, kind=Session):
    """The history, and what all documents hold in the end."""
    history = History()
    sessions = [
        kind(stack, name, history, f"{seed} {number}", isolation) for number in range(SESSIONS)
    ]
    for session in sessions:
        session.thread.start()
    if meanwhile:
        meanwhile()
    time.sleep(seconds)
    for session in sessions:
        session.stop.set()
    for session in sessions:
        session.thread.join()
        if session.error:
            raise session.error
    final = {key: document["list"] for key, document in stack.stored(name).items()}
    return history.transactions, final


def told(transactions, found):
    numbers = {number for before, _, after in found for number in (before, after)}
    return "\n".join(
        [" ".join(map(str, step)) for step in found]
        + [str(t) for t in transactions if t.number in numbers]
    )


def test_serializable(stack, name, seed):
    """No cycle, and an order that agrees with the clock."""
    transactions, final = work(stack, name, seed, "serializable")
    committed = [t for t in transactions if t.committed]
    print(f"{len(committed)} of {len(transactions)} committed")
    assert len(committed) > 30
    found = check(transactions, final)
    assert found is None, told(transactions, found)


def test_snapshot_has_cycles(stack, name, seed):
    """The same programs at the snapshot level: write skew happens, and the checker sees it."""
    found = None
    for attempt in range(6):
        transactions, final = work(stack, f"{name}_{attempt}", seed + attempt, "snapshot")
        found = check(transactions, final, real_time=False)
        if found is not None:
            break
    assert found is not None
    assert [kind for _, kind, _ in found].count("rw") >= 2, told(transactions, found)


def test_killed_in_the_middle(stack, name, seed):
    """kill -9 of the proxy: who had its answer is there, no unit is there by half, and no cycle."""

    def kill():
        for _ in range(2):
            time.sleep(0.7)
            stack.proxy.kill()
            stack.proxy.start()

    transactions, final = work(stack, name, seed, "serializable", 1.0, kill)
    found = check(transactions, final)
    assert found is None, told(transactions, found)


# ---------------------------------------------------------------- the checker itself


def history(*steps):
    """(number, "r" or "a", key, what) ...; all commit, in no order of time."""
    transactions = {}
    for number, kind, key, what in steps:
        made = transactions.setdefault(number, Transaction(number, 0.0, committed=True))
        if kind == "a":
            made.append(key, what)
        else:
            made.read(key, what)
    return list(transactions.values())


def test_checker_write_skew():
    steps = [(1, "r", "x", []), (2, "r", "y", []), (1, "a", "y", 1), (2, "a", "x", 2)]
    found = check(history(*steps), {"x": [2], "y": [1]})
    assert sorted(found) == [(1, "rw", 2), (2, "rw", 1)]


def test_checker_read_only_anomaly():
    """Three transactions, none of them wrong without the reader."""
    steps = [
        (1, "r", "x", []),
        (1, "r", "y", []),
        (2, "a", "y", 20),
        (3, "r", "x", []),
        (3, "r", "y", [20]),
        (1, "a", "x", 10),
    ]
    assert len(check(history(*steps), {"x": [10], "y": [20]})) == 3
    assert check(history(*[s for s in steps if s[0] != 3]), {"x": [10], "y": [20]}) is None


def test_checker_serial():
    steps = [(1, "a", "x", 1), (2, "r", "x", [1]), (2, "a", "x", 2), (3, "r", "x", [1, 2])]
    assert check(history(*steps), {"x": [1, 2]}) is None


def test_checker_real_time():
    """A reader that began after a commit was acknowledged, and does not see it."""
    transactions = history((1, "a", "x", 1), (2, "r", "x", []))
    transactions[0].ended = 1.0
    transactions[1].began, transactions[1].ended = 2.0, 3.0
    assert check(transactions, {"x": [1]}, real_time=False) is None
    assert check(transactions, {"x": [1]}) == [(1, "rt", 2), (2, "rw", 1)] or check(
        transactions, {"x": [1]}
    ) == [(2, "rw", 1), (1, "rt", 2)]


@pytest.mark.parametrize(
    ("steps", "final"),
    [
        ([(1, "a", "x", 1), (1, "a", "x", 2), (2, "r", "x", [1])], [1, 2]),  # intermediate
        ([(1, "a", "x", 1), (2, "r", "x", [])], []),  # lost
        ([(1, "a", "x", 1), (2, "a", "x", 2), (3, "r", "x", [2])], [1, 2]),  # no prefix
        ([(1, "a", "x", 1), (1, "a", "y", 2)], [1]),  # by half
    ],
)
def test_checker_anomalies(steps, final):
    with pytest.raises(Anomaly):
        check(history(*steps), {"x": final})

"""Drivers ride through a crash of the proxy by their own retry; the application does not notice."""

import random
import threading
import time

import pytest
from conftest import DATABASE, RawTransaction, is_transient
from holdfast_testing import Connection, Process, ProcessError, build_bin, wait_until
from node_driver import node_driver

COUNT = 400


def check_whole(stack, name, count):
    """Every transaction once: both halves of each, and the counter agrees."""
    documents = list(stack.stored(name).values())
    halves = sorted((d["n"], d["half"]) for d in documents if "half" in d)
    assert halves == sorted((n, half) for n in range(count) for half in ("first", "second"))
    assert stack.stored(name)["counter"]["n"] == count


def rounds(program):
    return sum(line.startswith("ack ") for line in program.lines)


def run_driver(stack, name, mode, arguments, environment=None):
    """Runs a driver program while the proxy is killed and restarted under it."""
    chance = random.Random(11)
    program = Process(
        [*arguments, stack.proxy.uri, name, str(COUNT), mode], environment, name="driver program"
    )
    program.wait_for_line(lambda line: line.startswith("ack ") or None, 60, "its first round")
    kills = 0
    while program.running() and kills < 6:
        time.sleep(chance.uniform(0.05, 0.3))
        stack.proxy.restart()
        kills += 1
        acknowledged = rounds(program)
        wait_until(  # a driver retries a plain write once: it rides through one crash, not two
            lambda before=acknowledged: rounds(program) > before or not program.running(),
            30,
            "the driver goes on",
        )
    try:
        code = program.wait(90)
    except ProcessError:
        program.kill()
        raise
    assert code == 0, program.tail()
    assert kills >= 2
    check_whole(stack, name, COUNT)


@pytest.fixture(params=["transactions", "plain"])
def mode(request):
    """Driver transactions, or plain writes that the driver retries by itself."""
    return request.param


def test_pymongo(stack, client, collection, name, mode):
    """pymongo, four threads, the proxy killed eight times."""
    errors, done = [], []

    def run(numbers):
        try:
            for n in numbers:
                if mode == "plain":
                    body(None, n)
                else:
                    with client.start_session() as session:
                        session.with_transaction(lambda session, n=n: body(session, n))
                done.append(n)
        except Exception as error:  # noqa: BLE001 (that there is none is the claim)
            errors.append(error)

    def body(session, n):
        collection.insert_one({"n": n, "half": "first"}, session=session)
        time.sleep(0.005)
        collection.insert_one({"n": n, "half": "second"}, session=session)
        collection.update_one({"_id": "counter"}, {"$inc": {"n": 1}}, upsert=True, session=session)

    def rounds_by_thread():
        return [sum(n % 4 == thread for n in list(done)) for thread in range(4)]

    threads = [threading.Thread(target=run, args=(range(i, 120, 4),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        time.sleep(0.25)
        stack.proxy.restart()
        before = rounds_by_thread()
        wait_until(
            lambda before=before: errors
            or all(now > then or now == 30 for now, then in zip(rounds_by_thread(), before)),
            30,
            "every thread goes on",
        )
    for thread in threads:
        thread.join(100)
    assert not errors, errors[0]
    assert sorted(done) == list(range(120))
    check_whole(stack, name, 120)


def test_libmongoc(stack, name, mode):
    """The C driver: built from driver_libmongoc.c."""
    run_driver(stack, name, mode, [build_bin() / "driver_libmongoc"])


def test_node(stack, name, mode):
    """The Node.js driver, where node and npm are installed."""
    run_driver(stack, name, mode, *node_driver())


def test_plain_writes_ride_through(stack, client, collection, name):
    """Reads and idempotent plain writes are retried by the driver; the pool recovers by itself."""
    for number in range(4):
        stack.proxy.restart()
        assert collection.find_one({"_id": number}) is None
        collection.replace_one({"_id": number}, {"a": 1}, upsert=True)
    assert len(stack.stored(name)) == 4


def test_commit_asked_again_after_restart(stack, name):
    """Committed: ok, from the journal. And again, after another restart."""
    with Connection(stack.proxy.port) as raw:
        unit = RawTransaction(raw)
        unit.insert(name, {"_id": 1})
        assert unit.commit()["ok"] == 1
    for _ in range(2):
        stack.proxy.restart()
        with Connection(stack.proxy.port) as raw:
            assert unit.commit(raw)["ok"] == 1
            late = unit.insert(name, {"_id": 2}, connection=raw)
            assert late["ok"] == 0
    assert list(stack.stored(name)) == [1]


def test_commit_asked_again_after_rollback(stack, name):
    """Rolled back by recovery: NoSuchTransaction, transient, so that the driver runs it again."""
    with Connection(stack.proxy.port) as raw:
        unit = RawTransaction(raw)
        unit.insert(name, {"_id": 1})
    for _ in range(2):
        stack.proxy.restart()
        assert stack.stored(name) == {}
        with Connection(stack.proxy.port) as raw:
            reply = unit.commit(raw)
            assert reply["code"] == 251
            assert is_transient(reply)


def test_write_in_a_unit_of_before(stack, name):
    """The unit goes on after a restart of the proxy: its next write is refused, transient."""
    with Connection(stack.proxy.port) as raw:
        unit = RawTransaction(raw)
        unit.insert(name, {"_id": 1})
    stack.proxy.restart()
    with Connection(stack.proxy.port) as raw:
        reply = unit.insert(name, {"_id": 2}, connection=raw)
        assert reply["code"] == 251
        assert is_transient(reply)
    assert stack.direct[DATABASE][name].count_documents({}) == 0

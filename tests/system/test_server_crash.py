"""The server is killed with -9, which loses the last writes that it had acknowledged; the proxy
lives, notices, and brings back what is its to bring back.

What the server has lost is seen past the proxy, which is stopped meanwhile: each test tries until
something was lost.
"""

import contextlib
import json
import os
import random
import signal
import time

import bank
import pytest
from bson import Binary
from bson.int64 import Int64
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Connection, ProxyFailed, holdfast, wait_until
from kill_orders import KEPT_SECONDS

TRIES = 12


@pytest.fixture(scope="module")
def crashing():
    with Stack({"upstream.fenceWait": "100ms"}) as made:
        yield made
        made.proxy.verify()


def recoveries(proxy):
    return [entry for entry in proxy.log() if entry["msg"] == "Recovery finished"]


def crash(stack, collection):
    """Kills the server and starts it again. What it still has of `collection`: {_id: document}."""
    stack.proxy.pause()
    try:
        stack.server.restart()
        return stack.stored(collection)
    finally:
        stack.proxy.resume()


def recovered(stack, collection):
    """What is there once the proxy serves again."""
    with stack.proxy.client() as client:
        client[DATABASE].command({"find": collection})
    wait_until(  # the proxy tells of it after it has let commands pass
        lambda: recoveries(stack.proxy)[-1]["attr"]["serverRestarted"] == "yes",
        10,
        "the recovery to be told",
    )
    return stack.stored(collection)


def commit(port, *steps):
    """Runs the steps in one transaction; acknowledged when it returns."""
    with Connection(port) as raw:
        unit = RawTransaction(raw)
        for step in steps:
            reply = step(unit)
            assert reply["ok"] == 1 and "writeErrors" not in reply, reply
        assert unit.commit()["ok"] == 1


def plain(port, command):
    """A write that no driver would retry: no session, no number."""
    with Connection(port) as raw:
        reply = raw.run({**command, "$db": DATABASE})
        assert reply["ok"] == 1 and "writeErrors" not in reply, reply


def update(name, key, change):
    return {"update": name, "updates": [{"q": {"_id": key}, "u": change}]}


def until_lost(stack, name, attempt):
    """attempt(collection) makes a case and returns what checks it; until the server has lost some
    of what the collection held."""
    for number in range(TRIES):
        collection = f"{name}_{number}"
        stack.direct[DATABASE].create_collection(collection)
        time.sleep(KEPT_SECONDS)
        check = attempt(collection)
        before = stack.stored(collection)
        left = crash(stack, collection)
        check(left, recovered(stack, collection))
        if left != before:
            return
    pytest.skip(f"this server lost nothing in {TRIES} crashes")


def test_acknowledged_unit_is_kept(crashing, name):
    def attempt(collection):
        commit(
            crashing.proxy.port,
            lambda unit: unit.insert(collection, {"_id": 1, "v": 1}),
            lambda unit: unit.insert(collection, {"_id": 2, "v": 1}),
            lambda unit: unit.update(collection, {"_id": 1}, {"$inc": {"v": 1}}),
        )

        def check(_left, now):
            assert now == {1: {"_id": 1, "v": 2}, 2: {"_id": 2, "v": 1}}

        return check

    until_lost(crashing, name, attempt)


def test_two_units_on_one_document(crashing, name):
    def attempt(collection):
        port = crashing.proxy.port
        commit(port, lambda unit: unit.insert(collection, {"_id": 1, "v": 1}))
        commit(port, lambda unit: unit.update(collection, {"_id": 1}, {"$set": {"v": 2}}))
        commit(port, lambda unit: unit.update(collection, {"_id": 1}, {"$set": {"v": 3}}))

        def check(_left, now):
            assert now == {1: {"_id": 1, "v": 3}}

        return check

    until_lost(crashing, name, attempt)


def test_back_to_the_former_value(crashing, name):
    """A to B by a unit, B to A by a plain write. The plain write is not promised; but where the
    server still has it, it stays."""

    def attempt(collection):
        port = crashing.proxy.port
        crashing.direct[DATABASE][collection].insert_one({"_id": 1, "v": "A"})
        time.sleep(KEPT_SECONDS)
        commit(port, lambda unit: unit.update(collection, {"_id": 1}, {"$set": {"v": "B"}}))
        plain(port, update(collection, 1, {"$set": {"v": "A"}}))
        plain(port, {"insert": collection, "documents": [{"_id": 2}]})

        def check(left, now):
            if 2 in left:  # written last: nothing is lost
                assert now == left
            elif left[1]["v"] == "B" and recoveries(crashing.proxy)[-1]["attr"]["redone"] == 0:
                assert now == left
            elif left[1]["v"] == "B":  # the plain writes went as units, too
                assert now in ({1: {"_id": 1, "v": "A"}}, {1: {"_id": 1, "v": "A"}, 2: {"_id": 2}})
            else:
                assert now[1]["v"] in ("A", "B")

        return check

    until_lost(crashing, name, attempt)


def test_insert_then_plain_delete(crashing, name):
    def attempt(collection):
        port = crashing.proxy.port
        commit(port, lambda unit: unit.insert(collection, {"_id": 1}, {"_id": 2}))
        plain(port, {"delete": collection, "deletes": [{"q": {"_id": 1}, "limit": 1}]})

        def check(left, now):
            assert now[2] == {"_id": 2}
            if 2 in left and 1 not in left:
                assert 1 not in now, "what a plain write had deleted came back"

        return check

    until_lost(crashing, name, attempt)


def test_plain_write_before_a_unit(crashing, name):
    """The unit builds on a plain write, and both are lost."""

    def attempt(collection):
        port = crashing.proxy.port
        crashing.direct[DATABASE][collection].insert_one({"_id": 1, "v": 0})
        time.sleep(KEPT_SECONDS)
        plain(port, update(collection, 1, {"$set": {"v": 10}}))
        commit(port, lambda unit: unit.update(collection, {"_id": 1}, {"$inc": {"v": 1}}))

        def check(_left, now):
            assert now == {1: {"_id": 1, "v": 11}}

        return check

    until_lost(crashing, name, attempt)


def test_open_unit_is_rolled_back(crashing, name):
    def attempt(collection):
        port = crashing.proxy.port
        commit(port, lambda unit: unit.insert(collection, {"_id": 1, "v": 1}))
        raw = Connection(port)
        unit = RawTransaction(raw)
        assert unit.update(collection, {"_id": 1}, {"$set": {"v": 2}})["ok"] == 1
        assert unit.insert(collection, {"_id": 2})["ok"] == 1

        def check(_left, now):
            raw.__exit__()
            assert now == {1: {"_id": 1, "v": 1}}

        return check

    until_lost(crashing, name, attempt)


def test_unique_values_that_changed_places(crashing, name):
    """Each document's value stood in the other's way, so that no order of single steps would do."""

    def attempt(collection):
        port = crashing.proxy.port
        stored = crashing.direct[DATABASE][collection]
        stored.create_index("k", unique=True)
        stored.insert_many([{"_id": 1, "k": "a"}, {"_id": 2, "k": "b"}])
        time.sleep(KEPT_SECONDS)
        commit(
            port,
            lambda unit: unit.update(collection, {"_id": 1}, {"$set": {"k": "c"}}),
            lambda unit: unit.update(collection, {"_id": 2}, {"$set": {"k": "a"}}),
            lambda unit: unit.update(collection, {"_id": 1}, {"$set": {"k": "b"}}),
        )

        def check(_left, now):
            assert now == {1: {"_id": 1, "k": "b"}, 2: {"_id": 2, "k": "a"}}

        return check

    until_lost(crashing, name, attempt)


def test_a_stranger_is_not_overwritten(crashing, name):
    """Somebody writes past the proxy to what a unit has just written, after the server came back."""
    stack = crashing
    for number in range(TRIES):
        collection = f"{name}_{number}"
        stack.direct[DATABASE][collection].insert_one({"_id": 1, "v": 0})
        time.sleep(KEPT_SECONDS)
        commit(
            stack.proxy.port,
            lambda unit: unit.update(collection, {"_id": 1}, {"$set": {"v": 1}}),  # noqa: B023
        )
        stack.proxy.pause()
        try:
            stack.server.restart()
            lost = stack.stored(collection)[1]["v"] == 0
            stack.direct[DATABASE][collection].update_one({"_id": 1}, {"$set": {"v": "stranger"}})
        finally:
            stack.proxy.resume()
        assert recovered(stack, collection)[1]["v"] == "stranger"
        if lost:
            decide_for_the_unit(stack, collection)
            return
    pytest.skip(f"this server lost nothing in {TRIES} crashes")


def decide_for_the_unit(stack, collection):
    """The unit was committed, and is in conflict now: an operator sees both, and takes the unit's.

    A unit of an earlier try may be in conflict, too: the server kept it and lost only what would
    have told the proxy so."""
    wal, upstream = ("--wal", stack.proxy.wal), ("--upstream", stack.server.uri)
    listed = holdfast("units", "--state", "conflict", "--json", *wal, check=1).stdout
    conflicts = json.loads(listed)["units"]
    (unit,) = [
        str(one["unit"]) for one in conflicts if f"{DATABASE}.{collection} " in one["reason"]
    ]
    assert "stranger" in holdfast("show", unit, *wal, check=1).stdout
    stack.proxy.stop()
    others_left = 0 if len(conflicts) == 1 else 1
    holdfast("resolve", unit, "--apply", "--yes", *wal, *upstream, check=others_left)
    assert stack.stored(collection) == {1: {"_id": 1, "v": 1}}
    stack.proxy.start()
    assert stack.stored(collection) == {1: {"_id": 1, "v": 1}}


def test_nothing_lost(crashing, name):
    """A restart that loses nothing changes nothing, plain writes included."""
    collection = name
    commit(crashing.proxy.port, lambda unit: unit.insert(collection, {"_id": 1}, {"_id": 2}))
    plain(crashing.proxy.port, update(collection, 1, {"$set": {"plain": 1}}))
    time.sleep(1)
    before = crashing.stored(collection)
    assert crash(crashing, collection) == before
    assert recovered(crashing, collection) == before


def test_retried_write_is_done_once(crashing, name):
    """The server dies right after a retryable write: its retry gets the kept answer, and the write
    is there once."""
    def attempt(collection):
        crashing.direct[DATABASE][collection].insert_one({"_id": 1, "v": 0})
        time.sleep(KEPT_SECONDS)
        command = {
            **update(collection, 1, {"$inc": {"v": 1}}),
            "lsid": {"id": Binary(os.urandom(16), 4)},
            "txnNumber": Int64(1),
            "$db": DATABASE,
        }
        with Connection(crashing.proxy.port) as raw:
            first = raw.run(command)
            assert first["n"] == 1, first

        def check(_left, now):
            assert now == {1: {"_id": 1, "v": 1}}
            with Connection(crashing.proxy.port) as again:
                assert again.run(command)["n"] == 1
            assert crashing.stored(collection) == {1: {"_id": 1, "v": 1}}

        return check

    until_lost(crashing, name, attempt)


def test_proxy_and_server_die_together(name):
    """Both killed: the next start of the proxy redoes what the server lost."""
    with Stack({"upstream.fenceWait": "100ms"}) as stack:
        for number in range(TRIES):
            collection = f"{name}_{number}"
            commit(
                stack.proxy.port,
                lambda unit: unit.insert(collection, {"_id": 1}),  # noqa: B023
                lambda unit: unit.insert(collection, {"_id": 2}),  # noqa: B023
            )
            stack.server.kill()
            stack.proxy.kill()
            stack.server.start()
            lost = len(stack.stored(collection)) < 2
            stack.proxy.start()
            assert set(stack.stored(collection)) == {1, 2}
            if lost:
                break
        stack.proxy.verify()


# Steps of the recovery at which the proxy dies, and which times of reaching it are tried.
POINTS = {
    "restart_handed_over": (1,),
    "redo_checked": (1,),
    "redo_adopted": (1,),
    "redo_moved": (1, 2),
    "probe_made": (2,),  # the first was at the start
}


@pytest.mark.parametrize(
    "point", [f"{point}:{time}" for point, times in POINTS.items() for time in times]
)
def test_proxy_dies_while_it_recovers(point, name):
    """And again at the same step of the recovery at its next start; the one after that ends it."""
    with Stack({"upstream.fenceWait": "100ms"}) as stack:
        for number in range(TRIES):
            collection = f"{name}_{number}"
            stack.direct[DATABASE][collection].insert_one({"_id": 1, "v": 0})
            time.sleep(KEPT_SECONDS)
            stack.proxy.stop()
            stack.proxy.start(crash_at=point)
            plain(stack.proxy.port, update(collection, 1, {"$set": {"v": 10}}))
            commit(
                stack.proxy.port,
                lambda unit: unit.update(collection, {"_id": 1}, {"$inc": {"v": 1}}),  # noqa: B023
                lambda unit: unit.insert(collection, {"_id": 2}),  # noqa: B023
            )
            open_one = Connection(stack.proxy.port)
            assert RawTransaction(open_one).insert(collection, {"_id": 3})["ok"] == 1
            crash(stack, collection)
            died = dies(stack.proxy)
            if died:
                with contextlib.suppress(ProxyFailed):
                    stack.proxy.start(crash_at=point)
                    stack.proxy.kill()
                stack.proxy.start()
            now = recovered(stack, collection) if not died else stack.stored(collection)
            assert now == {1: {"_id": 1, "v": 11}, 2: {"_id": 2}}
            if died:
                return
        pytest.skip(f"this server lost nothing of that kind in {TRIES} crashes")


def dies(proxy):
    try:
        return proxy.process.wait(3) == -signal.SIGKILL
    except Exception:  # noqa: BLE001 (it lives: the place was not reached)
        return False


SECONDS = float(os.environ.get("HOLDFAST_BANK_SECONDS", "20"))


def test_bank_while_the_server_dies(seed):
    """Money moves between accounts while the server is killed at random moments: what bank.check()
    says holds, and no client sees an error."""
    chance = random.Random(seed)
    acknowledged = set()
    redone = 0
    with Stack({"upstream.fenceWait": "100ms"}) as stack:
        bank.open_accounts(stack.direct[DATABASE])
        time.sleep(KEPT_SECONDS)
        workers = [bank.start_worker(stack.proxy.uri, f"{seed}.{i}") for i in range(4)]
        until = time.monotonic() + SECONDS

        def too_few():  # a loaded machine gets longer
            return sum(len(bank.acknowledged_by(worker)) for worker in workers) <= 50

        while time.monotonic() < until or (too_few() and time.monotonic() < until + 3 * SECONDS):
            time.sleep(chance.uniform(0.5, 2))
            stack.server.restart()
            if chance.random() < 0.3:
                stack.proxy.restart()
            redone += sum(entry["attr"]["redone"] for entry in recoveries(stack.proxy)[-1:])
            failed = [worker.tail() for worker in workers if not worker.running()]
            assert not failed, f"a client saw an error: {failed[0]}"
        time.sleep(1)
        for worker in workers:
            worker.kill()
            acknowledged |= bank.acknowledged_by(worker)
        time.sleep(1.5)
        print(f"{redone} redone")
        bank.check(stack.direct[DATABASE], acknowledged)
        assert len(acknowledged) > 50, "too few transfers to prove anything"
        stack.proxy.verify()

"""What an operator asks of a living proxy: `units --locks` and `rollback`."""

import json
import os
import pathlib
import stat
import threading

import pytest
from conftest import DATABASE, RawTransaction, Stack, is_transient
from holdfast_testing import Connection, Proxy, Server, holdfast, wait_until

NO_SUCH_TRANSACTION = 251


@pytest.fixture(scope="module")
def stack():
    with Stack({"unit.lockWait": "20s"}) as made:
        yield made


def locks(stack):
    shown = holdfast("units", "--locks", "--json", "--wal", stack.proxy.wal, check=0).stdout
    return json.loads(shown)["list"]


def only_open(stack):
    (unit,) = locks(stack)
    return unit["unit"]


def test_who_waits_for_whom(stack, raw, name):
    """A unit that waits is shown with the unit that holds what it waits for."""
    stack.direct[DATABASE][name].insert_one({"_id": 1})
    holder = RawTransaction(raw)
    assert holder.update(name, {"_id": 1}, {"$set": {"a": 1}})["ok"] == 1
    number = only_open(stack)
    with Connection(stack.proxy.port) as other:
        waiter = RawTransaction(other)
        replies = []
        thread = threading.Thread(
            target=lambda: replies.append(waiter.update(name, {"_id": 1}, {"$set": {"a": 2}}))
        )
        thread.start()
        wait_until(lambda: any("waitsFor" in unit for unit in locks(stack)), 5, "it waits")
        waiting = next(unit for unit in locks(stack) if "waitsFor" in unit)
        assert waiting["waitsFor"] == number and waiting["busy"]
        text = holdfast("units", "--locks", "--wal", stack.proxy.wal, check=0).stdout
        line = next(line for line in text.splitlines() if line.split()[0] == str(waiting["unit"]))
        assert str(number) in line.split()

        # What the table is for: the one in the way is rolled back, and the waiting one goes on.
        done = holdfast("rollback", number, "--wal", stack.proxy.wal, "--json", check=0)
        assert json.loads(done.stdout) == {"unit": number, "state": "aborted"}
        thread.join(10)
        assert replies[0]["ok"] == 1 and waiter.commit()["ok"] == 1
    late = holder.commit()
    assert late["code"] == NO_SUCH_TRANSACTION and is_transient(late)
    assert stack.stored(name) == {1: {"_id": 1, "a": 2}}
    shown = json.loads(
        holdfast("show", number, "--json", "--wal", stack.proxy.wal, check=0).stdout
    )
    assert "operator" in shown["outcome"]["reason"]


def test_a_unit_at_work(stack, raw, name):
    """Its command waits for a lock: the rollback comes behind it."""
    stack.direct[DATABASE][name].insert_one({"_id": 1})
    holder = RawTransaction(raw)
    assert holder.update(name, {"_id": 1}, {"$set": {"a": 1}})["ok"] == 1
    with Connection(stack.proxy.port) as other:
        waiter = RawTransaction(other)
        assert waiter.insert(name, {"_id": 2})["ok"] == 1
        replies = []
        thread = threading.Thread(
            target=lambda: replies.append(waiter.update(name, {"_id": 1}, {"$set": {"a": 2}}))
        )
        thread.start()
        wait_until(lambda: any("waitsFor" in unit for unit in locks(stack)), 5, "it waits")
        number = next(unit["unit"] for unit in locks(stack) if "waitsFor" in unit)
        ended = []
        operator = threading.Thread(
            target=lambda: ended.append(
                holdfast("rollback", number, "--wal", stack.proxy.wal, check=0).stdout
            )
        )
        operator.start()
        wait_until(
            lambda: any("endsWith" in unit for unit in locks(stack)), 5, "it is to be rolled back"
        )
        assert holder.abort()["ok"] == 1
        operator.join(10)
        thread.join(10)
        assert ended == [f"unit {number} is aborted\n"]
        assert replies[0]["code"] == NO_SUCH_TRANSACTION and is_transient(replies[0])
    assert stack.stored(name) == {1: {"_id": 1}}


def test_a_plain_write_at_work(stack, raw, name):
    """It waits for a lock and has written nothing yet; then it commits, and is not said to be rolled
    back."""
    stack.direct[DATABASE][name].insert_one({"_id": 1})
    holder = RawTransaction(raw)
    assert holder.update(name, {"_id": 1}, {"$set": {"a": 1}})["ok"] == 1
    update = {"update": name, "updates": [{"q": {"_id": 1}, "u": {"$set": {"b": 2}}}]}
    with Connection(stack.proxy.port) as other:
        replies, ended = [], []
        thread = threading.Thread(
            target=lambda: replies.append(other.run({**update, "$db": DATABASE}))
        )
        thread.start()
        wait_until(lambda: any("waitsFor" in unit for unit in locks(stack)), 5, "it waits")
        number = next(unit["unit"] for unit in locks(stack) if "waitsFor" in unit)
        operator = threading.Thread(
            target=lambda: ended.append(
                holdfast("rollback", number, "--wal", stack.proxy.wal, check=1).stdout
            )
        )
        operator.start()
        wait_until(lambda: any("endsWith" in unit for unit in locks(stack)), 5, "it is asked")
        operator.join(0.2)
        assert ended == [], "nothing is said before it is known"
        assert holder.commit()["ok"] == 1
        operator.join(10)
        thread.join(10)
        assert ended == [f"unit {number} is committed\n"]
        assert replies[0]["nModified"] == 1
    assert stack.stored(name) == {1: {"_id": 1, "a": 1, "b": 2}}


def test_a_conflict_is_told(stack, raw, name):
    """A rollback that would overwrite a stranger's change is a conflict, by the exit code too."""
    stack.direct[DATABASE][name].insert_one({"_id": 1, "a": 0})
    unit = RawTransaction(raw)
    assert unit.update(name, {"_id": 1}, {"$set": {"a": 1}})["ok"] == 1
    stack.direct[DATABASE][name].update_one({"_id": 1}, {"$set": {"a": 9}})
    number = only_open(stack)
    assert "conflict" in holdfast("rollback", number, "--wal", stack.proxy.wal, check=1).stdout
    assert stack.stored(name) == {1: {"_id": 1, "a": 9}}


def test_refusals(stack):
    """No such unit; no such journal; no living proxy."""
    error = holdfast("rollback", 123456, "--wal", stack.proxy.wal, check=2).stderr
    assert "123456 is not open" in error
    for command in (["rollback", "1"], ["units", "--locks"], ["observe"]):
        assert holdfast(*command, "--wal", "/nonexistent", check=2).stderr
    stack.proxy.stop()
    for command in (["rollback", "1"], ["units", "--locks"]):
        assert "alive" in holdfast(*command, "--wal", stack.proxy.wal, check=2).stderr
    assert not pathlib.Path(stack.proxy.wal, "control").exists()
    stack.proxy.start()
    stack.proxy.kill()
    assert "alive" in holdfast("units", "--locks", "--wal", stack.proxy.wal, check=2).stderr
    stack.proxy.start()
    assert locks(stack) == []


def test_socket(stack, tmp_path):
    """Only its owner reaches it, and a path longer than a socket's address is no hindrance."""
    mode = os.stat(pathlib.Path(stack.proxy.wal, "control")).st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    server = Server()
    try:
        proxy = Proxy(server, wal=deep / "wal")
        assert holdfast("units", "--locks", "--wal", deep / "wal", check=0).stdout
        proxy.stop()
    finally:
        server.close()

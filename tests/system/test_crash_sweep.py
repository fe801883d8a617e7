"""The proxy dies at each named step of a unit's life, restarts, and the promises hold:
all or nothing; acknowledged means kept; a commit asked again is answered truthfully."""

import os
import re
import signal

import bson
import pytest
from conftest import DATABASE, RawTransaction, Stack, is_transient
from holdfast_testing import Connection, ProxyFailed

# Where to die -> (which end of the unit gets there, which times of reaching it are tried).
# The unit has four writes: insert, update, findAndModify upsert, delete.
EACH_WRITE = (1, 2, 3, 4)
POINTS = {
    "unit_resolved": ("commit", (1, 2, 3)),  # an insert knows its document beforehand
    "unit_locked": ("commit", EACH_WRITE),
    "unit_journaled": ("commit", EACH_WRITE),
    "unit_sent": ("commit", EACH_WRITE),
    "unit_answered": ("commit", EACH_WRITE),
    "unit_replied": ("commit", EACH_WRITE),
    "commit_requested": ("commit", (1,)),
    "commit_durable": ("commit", (1,)),
    "commit_acknowledged": ("commit", (1,)),
    "abort_requested": ("abort", (1,)),
    "undo_checked": ("abort", (1,)),
    "undo_restored": ("abort", EACH_WRITE),
    "abort_undone": ("abort", (1,)),
    "abort_durable": ("abort", (1,)),
    "recovery_fenced": ("recovery", (1,)),
    "recovery_unit_done": ("recovery", (1,)),
    "recovery_finished": ("recovery", (1,)),
    "wal_batch_put": ("commit", (1, 2, 3, 4, 5, 6)),
    "wal_batch_durable": ("commit", (1, 2, 3, 4, 5, 6)),
}
CASES = [
    (point, end, time) for point, (end, times) in POINTS.items() for time in times
]
# A batch may hold more or fewer groups than one, and start-up may write some of its own: these are
# reached the first time for certain, later times only perhaps.
MAY_BE_MISSED = {"wal_batch_put", "wal_batch_durable", "undo_restored"}


@pytest.fixture(scope="module")
def swept():
    with Stack({"upstream.fenceWait": "100ms"}) as made:
        yield made
        made.proxy.verify()


class Script:
    """The unit, and what the collection holds without and with it."""

    def __init__(self, stack, name):
        self.name = name
        self.lsid = {"id": bson.Binary(os.urandom(16), 4)}
        self.before = [{"_id": "u", "v": 1, "x": {"y": [1, 2.5]}}, {"_id": "d", "gone": False}]
        stack.direct[DATABASE][name].insert_many(self.before)
        self.committed = None  # what the client was told: True, False or None
        self.wanted_commit = False

    def run(self, port, end):
        """Until the end, or until the proxy is gone."""
        with Connection(port) as raw:
            unit = RawTransaction(raw, lsid=self.lsid)
            upsert = {"findAndModify": self.name, "query": {"$and": [{"k": 1}]}, "upsert": True}
            for step in (
                lambda: unit.insert(self.name, {"_id": "i", "new": True}),
                lambda: unit.update(self.name, {"_id": "u"}, {"$inc": {"v": 1}}),
                lambda: unit.run({**upsert, "update": {"$set": {"p": 1}}, "new": True}),
                lambda: unit.delete(self.name, {"_id": "d"}),
            ):
                reply = step()
                if reply is None:
                    return
                assert reply["ok"] == 1, reply
            self.wanted_commit = end == "commit"
            reply = unit.commit() if end == "commit" else unit.abort()
            if reply is not None:
                assert reply["ok"] == 1, reply
                self.committed = end == "commit"

    def check(self, stack):
        stored = stack.stored(self.name)
        for key in [key for key, document in stored.items() if document.get("k") == 1]:
            upserted = stored.pop(key)  # its _id was made by the proxy
            assert "k" not in stored, "two documents of one key"
            stored["k"] = {**upserted, "_id": "k"}
        absent = {document["_id"]: document for document in self.before}
        whole = {
            "i": {"_id": "i", "new": True},
            "u": {"_id": "u", "v": 2, "x": {"y": [1, 2.5]}},
            "k": {"_id": "k", "k": 1, "p": 1},
        }
        assert stored in (whole, absent), f"torn: {stored}"
        if self.committed is True:
            assert stored == whole, "an acknowledged commit is gone"
        if not self.wanted_commit:
            assert stored == absent, "there without a commit"
        return stored == whole

    def ask_commit_again(self, stack, is_whole):
        with Connection(stack.proxy.port) as raw:
            reply = RawTransaction(raw, lsid=self.lsid).commit()
        if is_whole:
            assert reply["ok"] == 1, reply
        else:
            assert reply["ok"] == 0 and reply["code"] == 251, reply
            assert is_transient(reply), reply


def run_until_dead(stack, script, end):
    """Runs the script; True if the proxy died by its own SIGKILL meanwhile."""
    try:
        script.run(stack.proxy.port, end)
    except ConnectionError:
        pass
    try:
        return stack.proxy.process.wait(1) == -signal.SIGKILL
    except Exception:  # noqa: BLE001 (still running: the place was not reached)
        return False


def start_to_die(stack, crash_at):
    """True if it accepts; False if it died on the way there, as it was told to."""
    try:
        stack.proxy.start(crash_at=crash_at)
        return True
    except ProxyFailed as failed:
        assert failed.code == -signal.SIGKILL, failed
        return False


@pytest.mark.parametrize("point,end,time", CASES, ids=lambda value: str(value))
def test_crash(swept, name, point, end, time):
    """One place, one time of reaching it; then a restart, and another to see that it stays so."""
    stack = swept
    stack.proxy.kill()
    crash_at = f"{point}:{time}"
    if end == "recovery":
        stack.proxy.start(crash_at="unit_replied:3")
        script = Script(stack, name)
        assert run_until_dead(stack, script, "commit")
        died = not start_to_die(stack, crash_at)
        if not died:  # finished, and dies while or after it begins to accept
            died = run_until_dead(stack, Script(stack, name + "unused"), "abort")
    else:
        script = Script(stack, name)
        died = True
        if start_to_die(stack, crash_at):
            died = run_until_dead(stack, script, end)
    assert died or (time > 1 and point in MAY_BE_MISSED), f"{crash_at} was not reached"

    if stack.proxy.process.running():
        stack.proxy.kill()
    stack.proxy.start()
    is_whole = script.check(stack)
    script.ask_commit_again(stack, is_whole)
    assert open_units(stack) == []
    stack.proxy.restart()
    assert script.check(stack) == is_whole
    script.ask_commit_again(stack, is_whole)


def test_crash_in_recovery_again_and_again(swept, name):
    """Recovery is itself interrupted at each of its steps, in turn, on one journal."""
    stack = swept
    stack.proxy.kill()
    stack.proxy.start(crash_at="unit_replied:4")
    script = Script(stack, name)
    assert run_until_dead(stack, script, "commit")
    for crash_at in (
        "recovery_fenced",
        "undo_checked",
        "undo_restored:1",
        "undo_restored:2",
        "abort_undone",
        "abort_durable",
        "recovery_unit_done",
        "recovery_finished",
    ):
        if start_to_die(stack, crash_at):
            stack.proxy.kill()
    stack.proxy.start()
    assert not script.check(stack)
    assert open_units(stack) == []


def open_units(stack):
    return [u for u in stack.proxy.units() if re.match("open|conflict", u.get("state", ""))]

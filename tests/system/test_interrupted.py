"""Commands that the server ends in the middle. It carries out the writes of one command one by one:
a command that answers ok: 0 (killOp, maxTimeMS, a shutdown) has changed some of its documents, and
does not say which."""

import threading
import time

import pytest
from conftest import DATABASE, RawTransaction, is_transient
from holdfast_testing import Connection, Proxy, Server, WireTap

INTERRUPTED = {"ok": 0.0, "errmsg": "operation was interrupted", "code": 11601}


def is_rollback_step(command):
    return str(command.get("comment", "")).startswith("holdfast: rollback")


@pytest.fixture(scope="module")
def tapped():
    with Server() as server, WireTap(server.port) as tap:
        with Proxy(tap.uri, {"upstream.fenceWait": "100ms"}) as proxy:
            yield server.client(), tap, proxy
            proxy.verify()


class Interruption:
    """The next command `name` with several writes does the first of them, and fails."""

    LISTS = {"insert": "documents", "update": "updates", "delete": "deletes"}

    def __init__(self, tap, name):
        self.tap = tap
        self.name = name
        self.met = False
        self._sent = False

    def __enter__(self):
        self.tap.before_request = self._request
        self.tap.before_reply = self._reply
        return self

    def __exit__(self, *_):
        self.tap.before_request = self.tap.before_reply = None

    def _request(self, command):
        if next(iter(command)) != self.name or self.met or command["$db"] != DATABASE:
            return None
        changed = dict(command)
        writes = changed[self.LISTS[self.name]]
        ids = writes[0].get("q", {}).get("_id", {}) if self.name == "delete" else None
        if isinstance(ids, dict):
            writes = [{**writes[0], "q": {**writes[0]["q"], "_id": ids["$in"][0]}}]
        elif len(writes) < 2:
            return None
        changed[self.LISTS[self.name]] = writes[:1]
        self.met = self._sent = True
        return changed

    def _reply(self, reply):
        answered = self.tap.answered()
        ours = self.name in answered and answered["$db"] == DATABASE  # not the probe's
        if self._sent and ours and ("n" in reply or reply["ok"] != 1):
            self._sent = False
            return INTERRUPTED
        return None


WRITES = {
    "insert": {"insert": None, "documents": [{"_id": i} for i in range(10, 14)]},
    "update": {"update": None, "updates": [{"q": {}, "u": {"$inc": {"v": 1}}, "multi": True}]},
    "delete": {"delete": None, "deletes": [{"q": {}, "limit": 0}]},
}


@pytest.mark.parametrize("transaction", [True, False], ids=["transaction", "plain"])
@pytest.mark.parametrize("write", WRITES)
def test_nothing_of_it_stays(tapped, name, write, transaction):
    """What such a command has changed is undone with the rest of its unit."""
    direct, tap, proxy = tapped
    collection = direct[DATABASE][name]
    before = [{"_id": i, "v": i} for i in range(4)]
    collection.insert_many(before)
    command = {**WRITES[write], write: name}
    with Connection(proxy.port) as raw:
        with Interruption(tap, write) as interruption:
            if transaction:
                reply = RawTransaction(raw).run(command)
            else:
                reply = raw.run({**command, "$db": DATABASE})
        assert interruption.met
        assert (reply["ok"], reply["code"]) == (0, INTERRUPTED["code"])
    assert list(collection.find(sort=[("_id", 1)])) == before
    assert [unit["state"] for unit in proxy.units()][-1].upper() == "ABORTED"


def test_an_interrupted_undo_goes_on(tapped, name):
    """killOp on a step of a rollback: the step is taken again, the unit is not set aside."""
    direct, tap, proxy = tapped
    collection = direct[DATABASE][name]
    collection.insert_one({"_id": 1, "v": 1})
    steps = []

    def interrupt_first(command):
        if is_rollback_step(command):
            steps.append(command)
            if len(steps) == 1:
                return {"findAndModify": name, "query": {"_id": 0}, "remove": True, "$db": DATABASE}
        return None

    def answer(reply):
        return INTERRUPTED if len(steps) == 1 and is_rollback_step(tap.answered()) else None

    with Connection(proxy.port) as raw:
        unit = RawTransaction(raw)
        assert unit.update(name, {"_id": 1}, {"$inc": {"v": 1}})["ok"] == 1
        tap.before_request, tap.before_reply = interrupt_first, answer
        try:
            assert unit.abort()["ok"] == 1
        finally:
            tap.before_request = tap.before_reply = None
    assert len(steps) == 2
    assert collection.find_one() == {"_id": 1, "v": 1}


# The server does it at once and the answer is lost; or it comes to the server later.
@pytest.mark.parametrize("late", [False, True], ids=["answer_lost", "late"])
def test_an_undo_whose_answer_is_lost(name, late):
    """A step of a rollback got no answer: it may still be on its way. Nothing is looked at or tried
    again for upstream.fenceWait, and so it cannot undo what somebody writes after the rollback, not
    even where that leaves the very document which the step is to replace."""
    fence_wait = 3
    steps, arrived = [], threading.Event()
    with Server() as server, WireTap(server.port) as tap:
        direct = server.client()[DATABASE]

        def arrive(step):
            time.sleep(0.5)
            direct.command({key: step[key] for key in step if key not in ("$db", "lsid")})
            arrived.set()

        def request(command):
            if not is_rollback_step(command):
                return None
            steps.append((time.monotonic(), command))
            if late and len(steps) == 1:
                threading.Thread(target=arrive, args=(command,)).start()
                return False
            return None

        def answer(reply):
            if is_rollback_step(tap.answered()) and not late and not arrived.is_set():
                arrived.set()
                return False
            return None

        direct[name].insert_one({"_id": 1, "v": 1})
        settings = {"upstream.fenceWait": f"{fence_wait}s"}
        with Proxy(tap.uri, settings) as proxy, Connection(proxy.port, timeout=60) as raw:
            unit = RawTransaction(raw)
            assert unit.update(name, {"_id": 1}, {"$set": {"v": 2}})["ok"] == 1
            tap.before_request, tap.before_reply = request, answer
            assert unit.abort()["ok"] == 1
            assert arrived.is_set()
            tap.before_request = tap.before_reply = None
            begun = steps[0][0]
            looks = [at - begun for at, sent in tap.commands if at > begun and name in sent.values()]
            assert looks, "the rollback looked again"
            assert min(looks) >= fence_wait
            assert direct[name].find_one() == {"_id": 1, "v": 1}
            unit.next()
            assert unit.update(name, {"_id": 1}, {"$set": {"v": 2}})["ok"] == 1
            assert unit.commit()["ok"] == 1
            assert direct[name].find_one() == {"_id": 1, "v": 2}
            assert [unit["state"] for unit in proxy.units()] == ["aborted", "committed"]


def test_a_document_that_comes_twice(tapped, name):
    """The images of a multi write come in several replies. What was written after the first may
    move a document along the index that the server walks: it comes again, and is not written
    again."""
    direct, tap, proxy = tapped
    collection = direct[DATABASE][name]
    collection.insert_many([{"_id": i, "n": 0} for i in range(4)])
    again = []

    def in_two_replies(command):
        images = command.get("find") == name and "projection" not in command
        return {**command, "batchSize": 2} if images and "batchSize" in command else None

    def repeat(reply):
        batch = reply.get("cursor", {}).get("nextBatch")
        if not batch:
            return None
        again.append(collection.find_one({"_id": 0}))
        return {**reply, "cursor": {**reply["cursor"], "nextBatch": again + batch}}

    tap.before_request, tap.before_reply = in_two_replies, repeat
    try:
        with proxy.client() as client:
            result = client[DATABASE][name].update_many({}, {"$inc": {"n": 1}})
    finally:
        tap.before_request = tap.before_reply = None
    assert again == [{"_id": 0, "n": 1}]
    assert (result.matched_count, result.modified_count) == (4, 4)
    assert [d["n"] for d in collection.find()] == [1, 1, 1, 1]


def test_an_id_that_is_found_twice(tapped, name):
    """The search of a multi write takes no snapshot: a document that somebody moves along its index
    meanwhile is found again, far behind the first time. It is written once."""
    direct, tap, proxy = tapped
    collection = direct[DATABASE][name]
    collection.insert_many([{"_id": i, "n": 0} for i in range(5)])
    searches = []

    def repeat(reply):
        batch = reply.get("cursor", {}).get("firstBatch")
        if searches or not batch or batch[0] != {"_id": 0}:
            return None
        searches.append(batch)
        repeated = [*batch, {"_id": 0.0}]
        return {**reply, "cursor": {**reply["cursor"], "firstBatch": repeated}}

    # So much that two documents make a batch.
    large = {"$inc": {"n": 1}, "$setOnInsert": {"v": "x" * 6_000_000}}
    tap.before_reply = repeat
    try:
        with proxy.client() as client:
            result = client[DATABASE][name].update_many({}, large)
    finally:
        tap.before_reply = None
    assert searches
    assert (result.matched_count, result.modified_count) == (5, 5)
    assert [d["n"] for d in collection.find()] == [1] * 5


def test_a_unit_that_ends_during_its_command(name):
    """A write that is answered after its unit has lived too long was undone, and says so."""
    with Server() as server, WireTap(server.port) as tap:
        settings = {"unit.lifetime": "1s", "upstream.fenceWait": "100ms"}
        with Proxy(tap.uri, settings) as proxy, Connection(proxy.port) as raw:

            def hold(command):
                if "insert" in command and command["$db"] == DATABASE:
                    time.sleep(1.5)

            tap.before_request = hold
            unit = RawTransaction(raw)
            assert is_transient(unit.insert(name, {"_id": 1}))
            assert server.client()[DATABASE][name].find_one() is None
            assert is_transient(unit.commit())


def test_a_rollback_that_cannot_end_delays_no_other(name):
    """One unit's documents cannot be reached; whatever threads wait for that to change, another
    unit's rollback is carried out at once."""
    unreachable = name + "_unreachable"
    blocked = threading.Event()
    answers = []

    def cut(command):
        return False if blocked.is_set() and unreachable in command.values() else None

    with Server() as server, WireTap(server.port) as tap:
        tap.before_request = cut
        with Proxy(tap.uri, {"upstream.fenceWait": "10ms"}) as proxy, Connection(proxy.port) as raw:
            with Connection(proxy.port, 60) as patient:
                stuck = RawTransaction(patient)
                assert stuck.insert(unreachable, {"_id": 1})["ok"] == 1
                blocked.set()
                aborting = threading.Thread(target=lambda: answers.append(stuck.abort()))
                aborting.start()
                for number in range(1, 41):
                    unit = RawTransaction(raw, number=number)
                    assert unit.insert(name, {"_id": 1})["ok"] == 1
                    time.sleep(0.02)
                    assert unit.abort()["ok"] == 1
                blocked.clear()
                aborting.join(60)
                assert answers[0]["ok"] == 1
            proxy.verify()

"""A unit in conflict is decided while the proxy serves: locked against units and plain writes,
carried out whole or not at all, and only as it was shown."""

import http.client
import json
import signal

import pymongo
import pytest
from conflicts import BEFORE, CHOICES, FOUND, ThreeWrites
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Connection, Later, ask_control, holdfast, wait_until

SETTINGS = {"upstream.fenceWait": "0", "unit.lockWait": "3s"}


@pytest.fixture(scope="module")
def stack():
    with Stack(SETTINGS) as made:
        yield made


class Conflict(ThreeWrites):
    """A unit with a stranger's change in it, that an operator rolled back."""

    def __init__(self, stack, name):
        super().__init__(stack, name)
        self.proxy = stack.proxy
        with Connection(stack.proxy.port) as connection:
            unit = self.write(connection)
            self.stranger_writes()
            assert not unit.abort()["ok"]
        conflicts = ask_control(stack.proxy, "/conflicts")[1]["conflicts"]
        self.number = next(c["unit"] for c in conflicts if c["namespaces"] == [f"{DATABASE}.{name}"])

    def look(self):
        def ask():
            code, shown = ask_control(self.proxy, f"/conflict?unit={self.number}")
            assert code in (200, 503), shown
            return shown if code == 200 else None  # it accepts connections, and serves in a moment

        return wait_until(ask, 10, "the conflict is shown")

    def decide(self, choices, seen=None):
        """(HTTP status, answer)."""
        seen = seen or self.look()["seen"]
        path = f"/resolve?unit={self.number}&choices={choices}&seen={seen}"
        return ask_control(self.proxy, path, "POST")

    def nothing_happened(self):
        return self.stored() == FOUND and self.state() == "conflict"


@pytest.fixture
def conflict(stack, name):
    return Conflict(stack, name)


@pytest.mark.parametrize("choice, stored, state, changed", CHOICES)
def test_command_asks_the_living(conflict, choice, stored, state, changed):
    """`holdfast resolve --wal DIR`, with no server named, shows and carries out as it does on a
    stopped proxy's journal; clients go on meanwhile."""
    command = ["resolve", conflict.number, "--wal", conflict.proxy.wal]
    text = holdfast(*command, check=1).stdout
    assert "65" in text and "--restore: is replaced" in text and "--apply: stays as it is" in text
    shown = json.loads(holdfast(*command, choice, "--dry-run", "--json", check=1).stdout)
    images = {document["key"]["_id"]: document for document in shown["documents"]}
    assert [images["u"][image]["v"] for image in ("before", "after", "found")] == [1, 2, 65]
    assert images["i"]["before"] is None and images["d"]["found"] is None
    assert "--yes" in holdfast(*command, choice, check=2).stderr
    assert conflict.nothing_happened()
    done = json.loads(holdfast(*command, choice, "--yes", "--json", check=0).stdout)
    assert done["resolved"] and done["changed"] == changed
    assert conflict.stored() == stored and conflict.state() == state
    assert "not in conflict" in holdfast(*command, choice, "--yes", check=2).stderr
    with conflict.proxy.client() as client:
        assert client[DATABASE][conflict.name].update_many({}, {"$set": {"w": 1}}).modified_count == 2
    conflict.proxy.verify()


def test_document_by_document(conflict):
    """What the stranger wrote is kept, the rest is as before the unit: one decision, in one piece.
    What was neither done nor undone whole is not to be run again."""
    documents = [d["key"]["document"]["_id"] for d in conflict.look()["documents"]]
    assert documents == ["i", "u", "d"]
    assert conflict.decide("rkr") == (
        200,
        {"unit": conflict.number, "changed": 2, "conflictsLeft": 0},
    )
    assert conflict.stored() == {"u": {"_id": "u", "v": 65}, "d": {"_id": "d"}}
    assert conflict.state() == "aborted"
    shown = holdfast("show", conflict.number, "--json", "--wal", conflict.proxy.wal, check=0).stdout
    assert "document by document" in json.loads(shown)["outcome"]["reason"]


def test_bad_decisions(conflict):
    seen = conflict.look()["seen"]
    for choices in ("x", "kk", "k2", "k4", "rrrr", "k99999999999999999999", "r1a", "3"):
        code, answer = conflict.decide(choices, seen)
        assert code == 400 and "each of the 3 documents" in answer["error"], choices
    assert ask_control(conflict.proxy, f"/resolve?unit={conflict.number}&seen={seen}", "POST")[0] == 400
    assert ask_control(conflict.proxy, f"/resolve?unit=&choices=k&seen={seen}", "POST")[0] == 400
    assert ask_control(conflict.proxy, "/conflict?unit=987654")[0] == 404
    assert conflict.decide("k", "0" * 64)[0] == 409
    assert conflict.nothing_happened()
    assert conflict.decide("k3")[0] == 200


def test_only_what_was_shown(conflict):
    """A document that changes between the look and the decision is looked at again first."""
    seen = conflict.look()["seen"]
    conflict.direct.update_one({"_id": "u"}, {"$set": {"v": 66}})
    code, answer = conflict.decide("r", seen)
    assert code == 409 and "look again" in answer["error"]
    assert conflict.stored()["u"]["v"] == 66 and conflict.state() == "conflict"
    assert conflict.decide("r")[0] == 200
    assert conflict.stored() == BEFORE


def test_server_does_not_take_it(conflict):
    """A unique value is taken: what was replaced before it is taken back, the conflict stays, and
    nothing stays locked."""
    conflict.direct.create_index("v", unique=True, sparse=True)
    conflict.direct.insert_one({"_id": "other", "v": 1})
    code, answer = conflict.decide("r")
    assert code == 409 and "nothing was changed" in answer["error"]
    assert conflict.stored() == {**FOUND, "other": {"_id": "other", "v": 1}}
    assert conflict.state() == "conflict"
    assert ask_control(conflict.proxy, "/units")[1]["open"] == 0
    conflict.direct.delete_one({"_id": "other"})
    assert conflict.decide("r")[0] == 200
    assert conflict.stored() == BEFORE


def test_waits_for_units_and_is_waited_for(conflict, raw):
    """A unit that holds one of the documents is waited for. A plain write to another one, which the
    decision has locked already, waits for the decision, and finds what that left."""
    unit = RawTransaction(raw)
    # Changes nothing, so that the look shows what is committed; but it holds the document.
    assert unit.update(conflict.name, {"_id": "u"}, {"$set": {"v": 65}})["ok"]
    seen = conflict.look()["seen"]
    command = {"update": conflict.name, "$db": DATABASE}
    command["updates"] = [{"q": {"_id": "i"}, "u": {"$set": {"late": True}}}]

    def waiting(boundary):
        listed = ask_control(conflict.proxy, "/waits")[1]["waits"]
        return [w for w in listed if w["boundary"] == boundary and "holder" in w]

    with Connection(conflict.proxy.port) as other:
        decision = Later(lambda: conflict.decide("r", seen), within=20)
        wait_until(lambda: waiting("resolve"), 10, "the decision waits for the unit")
        write = Later(lambda: other.run(command), within=20)
        wait_until(lambda: waiting("plain"), 10, "the plain write waits for the decision")
        assert unit.abort()["ok"]
        assert decision.result()[0] == 200
        assert write.result()["n"] == 0
    assert conflict.stored() == BEFORE


def test_gives_up_waiting(conflict, raw):
    """A unit that does not end: the decision is refused after unit.lockWait, and nothing is done."""
    unit = RawTransaction(raw)
    assert unit.update(conflict.name, {"_id": "u"}, {"$set": {"w": 1}})["ok"]
    code, answer = conflict.decide("r")
    assert code == 503 and "try again" in answer["error"]
    assert unit.abort()["ok"]
    assert conflict.nothing_happened()
    assert conflict.decide("r")[0] == 200


def test_client_goes_away(conflict, raw):
    """Whoever asked may hang up: the decision is carried out all the same, once."""
    unit = RawTransaction(raw)
    assert unit.update(conflict.name, {"_id": "u"}, {"$set": {"v": 65}})["ok"]
    seen = conflict.look()["seen"]
    with pytest.raises(OSError):
        path = f"/resolve?unit={conflict.number}&choices=r&seen={seen}"
        ask_control(conflict.proxy, path, "POST", timeout=0.5)
    assert unit.abort()["ok"]
    wait_until(lambda: conflict.stored() == BEFORE, 10, "it is restored")
    wait_until(lambda: conflict.state() == "aborted", 10, "the conflict has ended")
    assert ask_control(conflict.proxy, "/status")[0] == 200


def test_drains_with_a_decision_at_work(name):
    """SIGTERM while a decision waits for a unit and others wait behind it: each is answered, and the
    end is clean."""
    with Stack({**SETTINGS, "unit.lockWait": "20s"}) as stack:
        conflict = Conflict(stack, name)
        with Connection(stack.proxy.port) as raw:
            unit = RawTransaction(raw)
            assert unit.update(name, {"_id": "u"}, {"$set": {"v": 65}})["ok"]
            seen = conflict.look()["seen"]
            decisions = [
                Later(lambda: conflict.decide("r", seen), within=30) for _ in range(3)
            ]
            wait_until(
                lambda: ask_control(stack.proxy, "/waits")[1]["waits"], 10, "one waits for the unit"
            )
            stack.proxy.process.send(signal.SIGTERM)
            assert unit.abort()["ok"]
        codes = sorted(decision.result()[0] for decision in decisions)
        assert stack.proxy.process.wait() == 0
        assert codes[0] == 200 and codes[1] in (400, 502) and codes[2] == 502
        assert conflict.stored() == BEFORE and conflict.state() == "aborted"


CRASHES = ["resolve_journaled", "resolve_replaced:1", "resolve_replaced:3"]


@pytest.mark.parametrize("crash_at", CRASHES)
def test_killed_half_way(name, crash_at):
    """The next start takes back what was begun: the conflict is as it was, and can be decided."""
    with Stack(SETTINGS) as stack:
        conflict = Conflict(stack, name)
        stack.proxy.stop()
        stack.proxy.start(crash_at=crash_at)
        with pytest.raises((OSError, http.client.HTTPException)):
            conflict.decide("r")
        stack.proxy.process.wait()
        stack.proxy.start()
        assert conflict.nothing_happened()
        assert conflict.decide("r")[0] == 200
        assert conflict.stored() == BEFORE and conflict.state() == "aborted"
        stack.proxy.verify()


def test_server_restarts_half_way(name):
    """The recovery of the living proxy ends what was begun; the conflict is as it was."""
    with Stack(SETTINGS) as stack:
        conflict = Conflict(stack, name)
        stack.proxy.stop()
        stack.proxy.start(stop_at="resolve_replaced:1")
        seen = conflict.look()["seen"]
        decision = Later(lambda: conflict.decide("r", seen), within=60)
        wait_until(stack.proxy.process.stands_still, 20, "it stands still behind the first document")
        stack.server.restart()
        stack.proxy.resume()
        code, answer = decision.result()
        assert code == 502 and "still in conflict" in answer["error"]

        def served():
            with stack.proxy.client() as client:
                client[DATABASE][name].update_one({"_id": "other"}, {"$set": {"w": 1}})
            return ask_control(stack.proxy, "/units")[1].get("open") == 0

        def calm():
            try:
                return served()
            except pymongo.errors.PyMongoError:
                return False

        wait_until(calm, 30, "the recovery has ended")
        assert conflict.nothing_happened()
        assert conflict.decide("r")[0] == 200
        assert conflict.stored() == BEFORE


def test_many_documents(stack, name):
    """Runs of choices; the documents come in pages; their images are bounded."""
    count = 250
    direct = stack.direct[DATABASE][name]
    direct.insert_many({"_id": i, "v": 0, "fill": "x" * 10000} for i in range(count))
    with Connection(stack.proxy.port) as connection:
        unit = RawTransaction(connection)
        for i in range(count):
            assert unit.update(name, {"_id": i}, {"$set": {"v": 1}})["ok"]
        direct.update_many({"_id": {"$gte": 200}}, {"$set": {"v": 9}})
        assert not unit.abort()["ok"]
    conflicts = ask_control(stack.proxy, "/conflicts")[1]["conflicts"]
    number = next(c["unit"] for c in conflicts if c["namespaces"] == [f"{DATABASE}.{name}"])
    shown = [ask_control(stack.proxy, f"/conflict?unit={number}&from={at}")[1] for at in (0, 100, 200)]
    assert [len(page["documents"]) for page in shown] == [100, 100, 50]
    assert len({page["seen"] for page in shown}) == 1
    assert len(json.dumps(shown[0])) < 4 << 20
    assert "document" not in shown[0]["documents"][99]["before"], "images are not bounded"
    assert shown[0]["documents"][99]["before"]["bytes"] > 10000
    seen = shown[0]["seen"]
    code, answer = ask_control(
        stack.proxy, f"/resolve?unit={number}&choices=r100a99kk50&seen={seen}", "POST"
    )
    assert (code, answer["changed"]) == (200, 100)
    values = [d["v"] for d in direct.find().sort("_id")]
    assert values == [0] * 100 + [1] * 100 + [9] * 50

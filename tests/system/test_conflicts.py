"""Documents that somebody changes around the proxy while a unit works on them: nothing newer is
overwritten, the unit is set aside, and nobody is told to run it again on top of what it left."""

import json

import pytest
from conftest import DATABASE, RawTransaction
from holdfast_testing import Connection, Proxy, Server, WireTap, holdfast


@pytest.fixture(scope="module")
def tapped():
    with Server() as server, WireTap(server.port) as tap:
        with Proxy(tap.uri, {"upstream.fenceWait": "100ms"}) as proxy:
            yield server.client(), tap, proxy


@pytest.fixture
def documents(tapped, name):
    collection = tapped[0][DATABASE][name]
    collection.insert_many([{"_id": i, "n": 0} for i in range(3)])
    return collection


def set_aside(reply):
    """An error that names the operator's command, and that no driver takes for a reason to retry."""
    assert reply["ok"] == 0
    assert "holdfast units" in reply["errmsg"], reply
    assert "errorLabels" not in reply
    return True


def states(proxy):
    """Of all units, oldest first. The command exits with 1: there are conflicts."""
    done = holdfast("units", "--wal", proxy.wal, "--json", check=1)
    return [unit["state"] for unit in json.loads(done.stdout)["units"]]


def test_of_a_transaction(tapped, documents, name):
    """Its abort, its commit, and its commit asked again after a restart all say that it was set
    aside: "run it again" would add to what it has left."""
    _, _, proxy = tapped
    with Connection(proxy.port) as raw:
        unit = RawTransaction(raw)
        assert unit.update(name, {"_id": 0}, {"$inc": {"n": 1}})["ok"] == 1
        assert unit.update(name, {"_id": 1}, {"$inc": {"n": 1}})["ok"] == 1
        documents.update_one({"_id": 1}, {"$inc": {"n": 10}})
        assert set_aside(unit.abort())
        assert set_aside(unit.commit())
    proxy.restart()
    with Connection(proxy.port) as raw:
        assert set_aside(unit.commit(raw))
    assert [d["n"] for d in documents.find(sort=[("_id", 1)])] == [1, 11, 0]


class Stranger:
    """Changes document 1 when the proxy's update of all three is on its way, and document 0 when
    `when` is true of a later command."""

    def __init__(self, tap, documents, when):
        self.tap = tap
        self.documents = documents
        self.when = when
        self.updates = 0
        self.done = False

    def __enter__(self):
        self.tap.before_request = self._request
        return self

    def __exit__(self, *_):
        self.tap.before_request = None

    def _change(self, number):
        self.documents.update_one({"_id": number}, {"$set": {"stranger": True}})

    def _request(self, command):
        if command.get("update") == self.documents.name:
            self.updates += 1
            if self.updates == 1:
                self._change(1)
        elif self.updates == 1 and not self.done and self.when(command):
            self.done = True
            self._change(0)


# When the proxy looks which of them it wrote; when its rollback looks at them.
LOOKS = {
    "check": lambda command: "find" in command and "batchSize" in command,
    "undo": lambda command: "find" in command and "batchSize" not in command,
}


@pytest.mark.parametrize("look", LOOKS)
def test_of_a_plain_write(tapped, documents, name, look):
    """It is answered with an error, and not carried out a second time."""
    _, tap, proxy = tapped
    command = {
        "update": name,
        "updates": [{"q": {}, "u": {"$inc": {"n": 1}}, "multi": True}],
        "$db": DATABASE,
    }
    with Connection(proxy.port) as raw, Stranger(tap, documents, LOOKS[look]) as stranger:
        assert set_aside(raw.run(command))
    assert stranger.done
    assert stranger.updates == 1
    assert states(proxy)[-1] == "conflict"
    left = list(documents.find(sort=[("_id", 1)]))
    assert left[0] == {"_id": 0, "n": 1, "stranger": True}
    assert left[1] == {"_id": 1, "n": 0, "stranger": True}
    assert left[2] == {"_id": 2, "n": 1}

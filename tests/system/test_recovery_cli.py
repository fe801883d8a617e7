"""`holdfast` on the journal of a proxy that was killed: recover, and what operators see of it."""

import json
import signal

import pytest
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Connection, ProxyFailed, holdfast

FENCE = "upstream.fenceWait=0"


@pytest.fixture(scope="module")
def stack():
    with Stack({"upstream.fenceWait": "100ms"}) as made:
        yield made


def leave_open(stack, name):
    """A unit of three writes, none committed, and a proxy killed with -9."""
    stack.direct[DATABASE][name].insert_many([{"_id": "u", "v": 1}, {"_id": "d"}])
    with Connection(stack.proxy.port) as connection:
        unit = RawTransaction(connection)
        assert unit.insert(name, {"_id": "i"})["ok"]
        assert unit.update(name, {"_id": "u"}, {"$inc": {"v": 1}})["ok"]
        assert unit.delete(name, {"_id": "d"})["ok"]
        assert set(stack.stored(name)) == {"i", "u"}
        stack.proxy.kill()


def recover(stack, *options, check):
    arguments = ["recover", "--wal", stack.proxy.wal, "--upstream", stack.server.uri]
    done = holdfast(*arguments, "--set", FENCE, "--json", *options, check=check)
    return json.loads(done.stdout)


def test_a_killed_proxys_unit_is_rolled_back(stack, name):
    """After `holdfast recover` nothing of the open unit is there; the proxy starts on from it."""
    before = [{"_id": "u", "v": 1}, {"_id": "d"}]
    leave_open(stack, name)
    planned = recover(stack, "--dry-run", check=0)
    assert planned["dryRun"] and planned["rolledBack"] == 1
    assert set(stack.stored(name)) == {"i", "u"}, "a dry run changed something"
    done = recover(stack, check=0)
    assert (done["rolledBack"], done["conflictsLeft"]) == (1, 0)
    assert list(stack.stored(name).values()) == before
    assert recover(stack, check=0)["rolledBack"] == 0
    stack.proxy.start()
    assert list(stack.stored(name).values()) == before
    assert not [unit for unit in stack.proxy.units() if unit["state"] == "open"]


def test_a_running_proxys_journal_is_refused(stack):
    """recover keeps its hands off a live journal; looking at it works."""
    done = holdfast("recover", "--wal", stack.proxy.wal, "--upstream", stack.server.uri, check=2)
    assert "holdfastd" in done.stderr
    for command in ("status", "units", "verify"):
        holdfast(command, "--wal", stack.proxy.wal, check=0)
    status = holdfast(
        "status", "--json", "--wal", stack.proxy.wal, "--upstream", stack.server.uri, check=0
    )
    lease = json.loads(status.stdout)["server"]["lease"]
    assert lease["ours"] and not lease["clean"]


def test_a_strangers_change_is_shown_side_by_side(name):
    """A conflict is parked by recover, shown with its images, and does not stop the next start."""
    with Stack({"upstream.fenceWait": "100ms"}) as stack:
        leave_open(stack, name)
        stack.direct[DATABASE][name].update_one({"_id": "u"}, {"$set": {"v": 65}})
        done = recover(stack, check=1)
        assert (done["rolledBack"], done["conflictsNew"]) == (0, 1)
        assert stack.stored(name)["u"] == {"_id": "u", "v": 65}
        assert "i" in stack.stored(name), "a unit in conflict was undone in part"
        number = done["units"][0]["unit"]
        shown = json.loads(
            holdfast("show", number, "--json", "--wal", stack.proxy.wal, check=1).stdout
        )
        images = shown["outcome"]["documents"][0]
        assert [images[key]["v"] for key in ("before", "after", "found")] == [1, 2, 65]
        text = holdfast("show", number, "--wal", stack.proxy.wal, check=1).stdout
        assert any("! v" in line and "65" in line for line in text.splitlines()), text
        stack.proxy.start()
        stack.proxy.stop()
        assert recover(stack, check=1)["conflictsNew"] == 0, "it was tried again"
        stack.proxy.start()


def test_recover_killed_half_way(stack, name):
    """The daemon's own recovery, killed after one restored image, is finished by `recover`."""
    leave_open(stack, name)
    with pytest.raises(ProxyFailed) as killed:
        stack.proxy.start(crash_at="undo_restored:1")
    assert killed.value.code == -signal.SIGKILL
    assert recover(stack, check=0)["rolledBack"] == 1
    assert list(stack.stored(name).values()) == [{"_id": "u", "v": 1}, {"_id": "d"}]
    stack.proxy.start()

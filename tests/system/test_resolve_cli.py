"""`holdfast resolve`: an operator decides a unit in conflict."""

import json
import os
import pty
import signal
import subprocess

import pytest
from conflicts import BEFORE, CHOICES, FOUND, ThreeWrites
from conftest import DATABASE, Stack
from holdfast_testing import Connection, build_bin, holdfast, wait_until

def arguments(stack, *options):
    fence = ["--set", "upstream.fenceWait=0"]
    return ["--wal", stack.proxy.wal, "--upstream", stack.server.uri, *fence, *options]


class Conflict(ThreeWrites):
    """A unit that a killed proxy left open, with a stranger's change in it, and set aside by
    recovery. The proxy is stopped."""

    def __init__(self, stack, name):
        super().__init__(stack, name)
        with Connection(stack.proxy.port) as connection:
            self.unit = self.write(connection)
            stack.proxy.kill()
        self.stranger_writes()
        done = json.loads(self.holdfast("recover", "--json", check=1).stdout)
        self.number = done["units"][0]["unit"]

    def holdfast(self, command, *options, check, environment=None):
        return holdfast(command, *arguments(self.stack, *options), check=check, environment=environment)

    def resolve(self, *options, check, environment=None):
        command = ["resolve", str(self.number), *arguments(self.stack, *options)]
        return holdfast(*command, check=check, environment=environment)


@pytest.fixture
def conflict(name):
    with Stack({"upstream.fenceWait": "0"}) as stack:
        yield Conflict(stack, name)


@pytest.mark.parametrize("choice, stored, state, changed", CHOICES)
def test_choices(conflict, choice, stored, state, changed):
    """Each does what it says to all documents; no conflict is left, and the proxy starts on it."""
    done = json.loads(conflict.resolve(choice, "--yes", "--json", check=0).stdout)
    assert done["resolved"] and done["changed"] == changed
    assert conflict.stored() == stored
    assert conflict.state() == state
    conflict.holdfast("recover", check=0)
    conflict.resolve(choice, "--yes", check=2)
    conflict.holdfast("verify", check=0)
    conflict.stack.proxy.start()
    assert conflict.stored() == stored
    with Connection(conflict.stack.proxy.port) as connection:
        reply = conflict.unit.commit(connection)
    if choice == "--apply":
        assert reply["ok"] == 1
    else:
        assert reply["ok"] == 0
        again = "TransientTransactionError" in reply.get("errorLabels", [])
        assert again == (choice == "--restore"), "what was kept must not be run again"


def test_looking_changes_nothing(conflict):
    """Without a choice, and with --dry-run, all is shown; also while the proxy runs."""
    conflict.stack.proxy.start()
    text = conflict.resolve(check=1).stdout
    assert "65" in text and "--restore: is replaced" in text and "--apply: stays as it is" in text
    shown = json.loads(conflict.resolve("--restore", "--dry-run", "--json", check=1).stdout)
    assert not shown["resolved"]
    images = {document["key"]["_id"]: document for document in shown["documents"]}
    assert [images["u"][image]["v"] for image in ("before", "after", "found")] == [1, 2, 65]
    assert images["i"]["before"] is None and images["d"]["found"] is None
    assert conflict.stored() == FOUND and conflict.state() == "conflict"


def test_refusals(conflict):
    """Everything that is not a clear decision on a conflict changes nothing."""
    assert "--yes" in conflict.resolve("--keep", check=2).stderr
    assert "only one" in conflict.resolve("--keep", "--apply", check=2).stderr
    unknown = ["resolve", "999", *arguments(conflict.stack, "--keep", "--yes")]
    assert "999" in holdfast(*unknown, check=2).stderr
    no_server = ["resolve", str(conflict.number), "--wal", conflict.stack.proxy.wal]
    assert "--upstream" in holdfast(*no_server, "--keep", check=2).stderr
    conflict.stack.proxy.start()
    conflict.stack.proxy.kill()
    assert "recover" in conflict.resolve("--keep", "--yes", check=2).stderr
    assert conflict.stored() == FOUND and conflict.state() == "conflict"


@pytest.mark.parametrize("crash_at", ["resolve_journaled", "resolve_replaced:1", "resolve_replaced:3"])
def test_killed_half_way(conflict, crash_at):
    """Recovery takes back what was begun: the conflict is as it was, and can be decided."""
    killed = conflict.resolve(
        "--restore", "--yes", check=-signal.SIGKILL, environment={"HOLDFAST_CRASH_AT": crash_at}
    )
    assert "resolved" not in killed.stdout
    conflict.holdfast("recover", check=1)
    assert conflict.stored() == FOUND and conflict.state() == "conflict"
    conflict.resolve("--restore", "--yes", check=0)
    assert conflict.stored() == BEFORE


def test_server_does_not_take_it(conflict):
    """A unique value is taken meanwhile: nothing is changed, and the unit is still in conflict."""
    collection = conflict.stack.direct[DATABASE][conflict.name]
    collection.create_index("v", unique=True, sparse=True)
    collection.insert_one({"_id": "other", "v": 1})
    error = conflict.resolve("--restore", "--yes", check=2).stderr
    assert "nothing was changed" in error
    assert conflict.stored() == {**FOUND, "other": {"_id": "other", "v": 1}}
    assert conflict.state() == "conflict"
    conflict.resolve("--keep", "--yes", check=0)


@pytest.mark.parametrize("meanwhile", [False, True])
def test_a_person_is_asked(conflict, meanwhile):
    """What is carried out is what was shown; if it changed while the operator thought, nothing is."""
    try:
        person, terminal = pty.openpty()
    except OSError as error:
        pytest.skip(f"no pseudo-terminals here: {error}")
    command = [build_bin() / "holdfast", "resolve", str(conflict.number), "--restore"]
    process = subprocess.Popen(
        [*command, *arguments(conflict.stack)],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(terminal)
    seen = ""
    while "Type yes" not in seen:
        seen += process.stderr.read(1)
    if meanwhile:
        conflict.stack.direct[DATABASE][conflict.name].update_one({"_id": "u"}, {"$set": {"v": 66}})
    os.write(person, b"yes\n")
    _, error = process.communicate(timeout=30)
    os.close(person)
    if meanwhile:
        assert process.returncode == 2 and "look again" in error
        assert conflict.stored()["u"]["v"] == 66 and conflict.state() == "conflict"
    else:
        assert process.returncode == 0
        wait_until(lambda: conflict.stored() == BEFORE, 5, "it is restored")

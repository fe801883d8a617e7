"""Units in comments on the native engine: each is one transaction of the server, made by the proxy."""

import json

import pytest
from bson.int64 import Int64
from conftest import DATABASE, Stack
from holdfast_testing import (
    Connection,
    FakeReplicaSet,
    Proxy,
    Server,
    WireTap,
    holdfast,
    wait_until,
)
from pymongo.errors import AutoReconnect, DuplicateKeyError, OperationFailure
from test_native import Authenticated, cut_once, is_commit, is_hello

UNKNOWN_ERROR, NO_SUCH, COMMITTED, BAD_OPTIONS = 8, 251, 256, 72

pytestmark = pytest.mark.usefixtures("unhooked")


@pytest.fixture(scope="module")
def stack():
    with Stack(between=lambda server: WireTap(server.port), mode="replicaset") as made:
        yield made


@pytest.fixture
def collection(stack, name):
    stack.direct[DATABASE].create_collection(name)
    with stack.proxy.client() as client:
        yield client[DATABASE][name]


def newest(proxy):
    return json.loads(holdfast("units", "--json", "--wal", proxy.wal).stdout)["units"][-1]


def ends_as(proxy, state):
    wait_until(lambda: newest(proxy)["state"] == state, 10, f"the unit is {state}")


def refused(code, call, *arguments, **options):
    with pytest.raises(OperationFailure) as caught:
        call(*arguments, **options)
    assert caught.value.code == code, caught.value


def test_commits(stack, collection, name):
    """Nothing is to be seen before the end, all of it afterwards; documents in sequences, too."""
    stack.between.commands.clear()
    collection.insert_many([{"_id": 1}, {"_id": 2}], comment={"unit": name, "begin": True})
    collection.update_one({"_id": 1}, {"$set": {"v": 1}}, comment={"unit": name})
    assert stack.stored(name) == {}
    collection.delete_one({"_id": 2}, comment={"unit": name, "last": True})
    assert stack.stored(name) == {1: {"_id": 1, "v": 1}}
    unit = newest(stack.proxy)
    assert (unit["state"], unit["boundary"], unit["name"]) == ("committed", "comment", name)
    assert unit["writes"] == 3
    ours = [c for _, c in stack.between.commands if c.get("autocommit") is False]
    assert len({str(command["lsid"]) for command in ours}) == 1 and len(ours) == 4
    assert [bool(command.get("startTransaction")) for command in ours] == [True, False, False, False]
    assert ours[0]["documents"] == [{"_id": 1}, {"_id": 2}] and "writeConcern" not in ours[0]
    assert ours[3]["commitTransaction"] == 1 and ours[3]["writeConcern"] == {"w": "majority"}


def test_commands_and_several_connections(stack, collection, name):
    """Two services under one name share the transaction, one command at a time."""
    with stack.proxy.client() as other:
        other.admin.command("beginUnit", name)
        collection.insert_one({"_id": 1}, comment={"unit": name})
        other[DATABASE][name].insert_one({"_id": 2}, comment={"unit": name})
        assert other.admin.command("commitUnit", name)["ok"] == 1
        assert other.admin.command("commitUnit", name)["ok"] == 1
        assert set(stack.stored(name)) == {1, 2}
        refused(COMMITTED, collection.insert_one, {"_id": 3}, comment={"unit": name})
        other.admin.command("beginUnit", name + "b")
        collection.insert_one({"_id": 4}, comment={"unit": name + "b"})
        other.admin.command("abortUnit", name + "b")
        refused(NO_SUCH, other.admin.command, "commitUnit", name + "b")
    assert set(stack.stored(name)) == {1, 2}


def test_an_error_ends_it(stack, collection, name):
    """As in any transaction: the client gets the server's own answer, and NoSuchTransaction from
    there on; nothing of the unit stays, and its documents are free."""
    collection.insert_one({"_id": 1})
    collection.insert_one({"_id": 2}, comment={"unit": name, "begin": True})
    with pytest.raises(DuplicateKeyError):
        collection.insert_one({"_id": 1}, comment={"unit": name})
    for comment in ({"unit": name}, {"unit": name, "last": True}):
        refused(NO_SUCH, collection.insert_one, {"_id": 3}, comment=comment)
    refused(NO_SUCH, collection.database.client.admin.command, "commitUnit", name)
    assert set(stack.stored(name)) == {1}
    collection.insert_one({"_id": 2})
    ends_as(stack.proxy, "aborted")


def test_its_timeout_frees_the_server(stack, collection, name):
    """A unit that nobody ends is aborted at the server, too: others get its documents."""
    collection.insert_one({"_id": 1}, comment={"unit": name, "begin": True, "timeoutMS": 200})
    ends_as(stack.proxy, "aborted")
    collection.insert_one({"_id": 1, "by": "another"})
    assert stack.stored(name)[1]["by"] == "another"


@pytest.mark.parametrize("direction", ["before_request", "before_reply"])
def test_lost_answer_of_the_commit(stack, collection, name, direction):
    """The commit is asked for again elsewhere, and the client told where it waits."""
    sent = []

    def request(command):
        if is_commit(command) and not sent:
            sent.append(direction == "before_request")
            return False if sent[0] else None
        return None

    def reply(document):
        if sent and not sent[0] and not is_hello(document):
            sent[0] = True
            return False
        return None

    collection.insert_one({"_id": 1}, comment={"unit": name, "begin": True})
    stack.between.before_request, stack.between.before_reply = request, reply
    collection.insert_one({"_id": 2}, comment={"unit": name, "last": True})
    assert set(stack.stored(name)) == {1, 2}
    ends_as(stack.proxy, "committed")


@pytest.mark.parametrize("code, state", [(225, "conflict"), (13, "committing")])
def test_outcome_of_the_commit_unknown(stack, collection, name, code, state):
    """Who asks elsewhere is told that the session has gone on, or may not ask: the client is told that
    it is not known, nothing else; and what has become of it as soon as the journal has it. (The tap
    answers so: the test server has neither.)"""
    stack.between.before_request, stack.between.before_reply = in_doubt(code)
    collection.insert_one({"_id": 1}, comment={"unit": name, "begin": True})
    commit = collection.database.client.admin.command
    for _ in range(2):
        with pytest.raises(OperationFailure, match="is not known") as caught:
            commit("commitUnit", name)
        assert caught.value.code == UNKNOWN_ERROR and "errorLabels" not in caught.value.details
    ends_as(stack.proxy, state)
    if state == "conflict":
        where = ["--wal", stack.proxy.wal, "--upstream", stack.server.uri]
        holdfast("resolve", newest(stack.proxy)["unit"], "--apply", "--yes", *where, check=0)
        assert commit("commitUnit", name)["ok"] == 1


def in_doubt(code):
    """Hooks of a tap: the first commit is lost; the next is carried out, its answer an error."""
    commits = []
    asked = []

    def request(command):
        if is_commit(command):
            commits.append(command)
            asked.append(len(commits) > 1)
            return None if asked[-1] else False
        return None

    def reply(document):
        if asked and asked[-1] and not is_hello(document):
            return {"ok": 0.0, "code": code, "errmsg": "refused"}
        return None

    return request, reply


def test_lost_answer_of_a_write(stack, collection, name):
    """Whether it was done nobody knows: the unit is rolled back, and its driver told so."""
    collection.insert_one({"_id": 1}, comment={"unit": name, "begin": True})
    cut = cut_once(lambda command: command.get("insert") == name)
    stack.between.before_request = cut
    with pytest.raises((OperationFailure, AutoReconnect)):
        collection.insert_one({"_id": 2}, comment={"unit": name})
    ends_as(stack.proxy, "aborted")
    assert stack.stored(name) == {}
    collection.insert_one({"_id": 1})


def test_not_serializable(collection, name):
    comment = {"unit": name, "begin": True, "isolation": "serializable"}
    refused(BAD_OPTIONS, collection.insert_one, {"_id": 1}, comment=comment)


def test_units_of_two_users():
    """A name belongs to one user; another one's unit of that name is another unit."""
    users = [(user, "secret", [("readWrite", DATABASE)]) for user in ("alice", "bob")]
    with Stack(between=Authenticated, mode="replicaset", auth=True, users=users) as stack:
        stack.direct[DATABASE].create_collection("c")
        with stack.proxy.client(user=("alice", "secret")) as alice, stack.proxy.client(
            user=("bob", "secret")
        ) as bob:
            alice[DATABASE]["c"].insert_one({"_id": 1}, comment={"unit": "u", "begin": True})
            refused(NO_SUCH, bob[DATABASE]["c"].insert_one, {"_id": 2}, comment={"unit": "u"})
            refused(NO_SUCH, bob.admin.command, "commitUnit", "u")
            alice.admin.command("commitUnit", "u")
        assert set(stack.stored("c")) == {1}


@pytest.mark.parametrize("point", ["native_committing", "native_sent", "native_answered"])
def test_killed_in_commit(point):
    """kill -9 of the proxy around the commit: recovery asks, and the name stays ended."""
    with Server(mode="replicaset") as server, server.client() as direct:
        direct[DATABASE].create_collection("c")
        with Proxy(server) as proxy:
            proxy.kill()
            proxy.start(crash_at=point)
            with proxy.client(retryWrites=False) as client:
                collection = client[DATABASE]["c"]
                collection.insert_one({"_id": 1}, comment={"unit": "u", "begin": True})
                with pytest.raises(AutoReconnect):
                    collection.insert_one({"_id": 2}, comment={"unit": "u", "last": True})
            assert newest(proxy)["state"] == "committing"
            proxy.start()
            assert newest(proxy)["state"] == "committed"
            assert direct[DATABASE]["c"].count_documents({}) == 2
            with proxy.client() as client:
                refused(COMMITTED, client[DATABASE]["c"].insert_one, {}, comment={"unit": "u"})


def test_killed_while_open():
    """A unit that was open is rolled back, in the journal by recovery, on the server by its own
    timeout or a restart; its name is not begun again."""
    with Server(mode="replicaset") as server, Proxy(server) as proxy:
        with proxy.client() as client:
            client[DATABASE]["c"].insert_one({"_id": 0})
            client[DATABASE]["c"].insert_one({"_id": 1}, comment={"unit": "u", "begin": True})
        proxy.kill()
        proxy.start()
        assert newest(proxy)["state"] == "aborted"
        with proxy.client() as client:
            refused(NO_SUCH, client.admin.command, "beginUnit", "u")


@pytest.mark.parametrize("restarted, state", [(False, "aborted"), (True, "conflict")])
def test_no_such_transaction_is_believed_of_the_process_that_was_asked(restarted, state):
    """The record names the server's process: one that still runs and knows of no such transaction
    never had it committed; one that has restarted may have forgotten. (A fake set of one node, made
    to show nothing in config.transactions.)"""

    def keeps_nothing(node, name, command):
        cursor = {"id": Int64(0), "ns": "config.transactions", "firstBatch": []}
        return {"ok": 1.0, "cursor": cursor} if command.get("find") == "transactions" else None

    with FakeReplicaSet(1) as members:
        members.on_command = keeps_nothing
        believed(members, restarted, state)


def believed(members, restarted, state):
    with Proxy(members.uri) as proxy:
        proxy.kill()
        proxy.start(crash_at="native_committing")
        with proxy.client(retryWrites=False) as client:
            collection = client[DATABASE]["c"]
            collection.insert_one({"_id": 1}, comment={"unit": "u", "begin": True})
            with pytest.raises(AutoReconnect):
                collection.insert_one({"_id": 2}, comment={"unit": "u", "last": True})
        assert newest(proxy)["state"] == "committing"
        lsid = next(c["lsid"] for _, c in members.commands if c.get("insert") == "c")
        if restarted:
            members.kill(members.nodes[0])
            members.start(members.nodes[0])
        else:
            with Connection(members.nodes[0].port) as direct:
                abort = {"abortTransaction": 1, "lsid": lsid, "txnNumber": Int64(1)}
                assert direct.run({**abort, "autocommit": False, "$db": "admin"})["ok"] == 1
        proxy.start()
        assert newest(proxy)["state"] == state

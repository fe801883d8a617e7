"""API calls as units on the native engine: each is one transaction of the server, made by the proxy."""

import json
import threading

import pymongo
import pytest
from conftest import DATABASE, check_lives
from holdfast_testing import WireTap, holdfast, wait_until
from http_stack import Gate, HttpStack, settled
from pymongo.errors import DuplicateKeyError, OperationFailure

NO_SUCH, NOT_IN_TRANSACTION = 251, 263


@pytest.fixture(scope="module")
def stack():
    with HttpStack(
        {"http.callTimeout": "1500ms"},
        between=lambda server: WireTap(server.port),
        mode="replicaset",
    ) as made:
        yield made


@pytest.fixture(autouse=True)
def lives_and_settled(request):
    yield
    if "stack" in request.fixturenames:
        made = request.getfixturevalue("stack")
        made.between.before_request = made.between.before_reply = None
        check_lives(made.proxy)
        settled(made)


@pytest.fixture
def collection(stack, name):
    stack.direct[DATABASE].create_collection(name)
    return stack.collection(name)


def newest(proxy):
    return json.loads(holdfast("units", "--json", "--wal", proxy.wal).stdout)["units"][-1]


def ours(tap):
    """Commands of transactions that reached the server."""
    return [command for _, command in tap.commands if command.get("autocommit") is False]


@pytest.mark.parametrize("code", [201, 302])
def test_commits(stack, collection, name, code):
    """All writes of the call are one transaction, committed before the answer; until then nobody
    else sees any of it."""
    seen = []

    def handler(_):
        collection.insert_many([{"_id": 1}, {"_id": 2}])
        collection.update_one({"_id": 1}, {"$set": {"v": 1}})
        seen.append(stack.stored(name))
        collection.find_one_and_delete({"_id": 2})
        return code

    stack.service.handlers["/x"] = handler
    stack.between.commands.clear()
    assert stack.call("/x").status == code
    assert seen == [{}] and stack.stored(name) == {1: {"_id": 1, "v": 1}}
    unit = newest(stack.proxy)
    assert (unit["state"], unit["boundary"], unit["name"]) == ("committed", "http", "POST /x")
    sent = ours(stack.between)
    assert len({str(command["lsid"]) for command in sent}) == 1 and len(sent) == 4
    assert [bool(command.get("startTransaction")) for command in sent] == [True, False, False, False]
    assert sent[3]["commitTransaction"] == 1 and sent[3]["writeConcern"] == {"w": "majority"}


@pytest.mark.parametrize("code", [400, 409, 500])
def test_the_services_own_error_rolls_back(stack, collection, name, code):
    """... and passes unchanged; the documents are free when the caller has its answer."""

    def handler(_):
        collection.insert_one({"_id": 1})
        return code, {"theirs": "x"}

    stack.service.handlers["/x"] = handler
    answer = stack.call("/x")
    assert answer.status == code and answer.json == {"theirs": "x"}
    stack.direct[DATABASE][name].insert_one({"_id": 1, "by": "another"})


def test_a_call_that_only_reads(stack, collection, name):
    """Its transaction is left, and the journal knows nothing of it."""
    before = newest(stack.proxy)["unit"] if stack.proxy.units() else 0

    def handler(_):
        return 200 if collection.find_one({}) is None else 500

    stack.service.handlers["/x"] = handler
    stack.between.commands.clear()
    assert stack.call("/x").status == 200
    assert [next(iter(command)) for command in ours(stack.between)] == ["find", "abortTransaction"]
    assert (newest(stack.proxy)["unit"] if stack.proxy.units() else 0) == before

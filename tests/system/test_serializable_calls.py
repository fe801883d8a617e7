"""API calls as serializable units: what a handler reads while its call is open is locked for it."""

import pytest
from conftest import DATABASE, RawTransaction, check_lives
from holdfast_testing import Connection
from http_stack import HttpStack, settled
from pymongo.errors import OperationFailure

WRITE_CONFLICT = 112
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def stack():
    settings = {"unit.lockWait": "500ms", "unit.isolation": "serializable"}
    with HttpStack(settings, retryReads=False) as made:
        yield made


@pytest.fixture(autouse=True)
def lives_and_settled(stack):
    yield
    check_lives(stack.proxy)
    settled(stack)


@pytest.fixture
def outside(stack):
    """A transaction of somebody else."""
    with Connection(stack.proxy.port) as connection:
        yield RawTransaction(connection)


@pytest.mark.parametrize("query", [{"_id": 1}, {"v": {"$gt": 5}}], ids=["id", "predicate"])
def test_what_a_handler_has_read_stays(stack, name, outside, query):
    """Write skew between a call and a transaction: the transaction has to run again."""
    stack.direct[DATABASE][name].insert_many([{"_id": 1, "v": 10}, {"_id": 2, "v": 20}])
    collection = stack.collection(name)
    replies = []

    def handler(_):
        assert collection.find_one(query)
        replies.append(outside.update(name, {"_id": 1}, {"$set": {"v": 0}}))
        assert collection.find_one(query)["v"] == 10
        collection.update_one({"_id": 2}, {"$set": {"v": 0}})
        return 200

    stack.service.handlers["/skew"] = handler
    assert stack.call("/skew").status == 200
    assert replies[0]["code"] == WRITE_CONFLICT
    assert {key: d["v"] for key, d in stack.stored(name).items()} == {1: 10, 2: 0}


def test_a_handler_that_gets_no_lock(stack, name, outside):
    """Its read fails, its writes are undone, and what it answers is an error of its own."""
    collection = stack.collection(name)
    stack.direct[DATABASE][name].insert_one({"_id": 1, "v": 10})
    assert outside.update(name, {"_id": 1}, {"$set": {"v": 11}})["ok"] == 1

    def handler(_):
        collection.insert_one({"_id": 2})
        collection.find_one({"_id": 1})
        return 200

    stack.service.handlers["/waits"] = handler
    assert stack.call("/waits").status == 500
    path, error = stack.service.errors.pop()
    assert path == "/waits" and isinstance(error, OperationFailure)
    assert error.code == WRITE_CONFLICT
    assert outside.commit()["ok"] == 1
    assert stack.stored(name) == {1: {"_id": 1, "v": 11}}


def test_reads_beside_calls_do_not_wait(stack, name, outside):
    """With no call open a read of the service is none of a unit."""
    stack.direct[DATABASE][name].insert_one({"_id": 1, "v": 10})
    assert outside.update(name, {"_id": 1}, {"$set": {"v": 11}})["ok"] == 1
    assert stack.collection(name).find_one({"_id": 1})["v"] == 10
    assert outside.commit()["ok"] == 1


def test_cursors_of_a_call(stack, name):
    collection = stack.collection(name)

    def handler(_):
        collection.insert_many([{"_id": number} for number in range(10)])
        assert len(list(collection.find({}, batch_size=3))) == 10
        assert collection.count_documents({}) == 10
        return 200

    stack.service.handlers["/cursors"] = handler
    assert stack.call("/cursors").status == 200, stack.service.errors
    assert len(stack.stored(name)) == 10


def test_a_cursor_beside_a_call(stack, name):
    """Who has begun to read before the call goes on with that while it is open."""
    collection = stack.collection(name)
    stack.direct[DATABASE][name].insert_many([{"_id": number} for number in range(10)])
    cursor = collection.find({}, batch_size=3)
    next(cursor)

    def handler(_):
        assert len(list(cursor)) == 9
        return 200

    stack.service.handlers["/beside"] = handler
    assert stack.call("/beside").status == 200, stack.service.errors


def test_by_trace(name):
    """Where calls are told apart by their trace, reads carry it, too."""
    settings = {
        "unit.lockWait": "500ms",
        "unit.isolation": "serializable",
        "http.correlation": "trace",
    }
    with HttpStack(settings, retryReads=False) as stack:
        settled_by_trace(stack)
        stack.direct[DATABASE][name].insert_one({"_id": 1, "v": 10})
        collection = stack.collection(name)
        replies = []

        def handler(request):
            trace = request.headers["traceparent"]
            assert collection.find_one({"_id": 1}, comment={"traceparent": trace})
            with Connection(stack.proxy.port) as connection:
                unit = RawTransaction(connection)
                replies.append(unit.update(name, {"_id": 1}, {"$set": {"v": 0}}))
            return 200

        stack.service.handlers["/traced"] = handler
        answer = stack.call("/traced", headers={"traceparent": TRACE})
        assert answer.status == 200, stack.service.errors
        assert replies[0]["code"] == WRITE_CONFLICT


def settled_by_trace(stack):
    """After a start the domain is fenced until it was quiet."""
    stack.service.handlers["/nothing"] = lambda _: 200
    assert stack.call("/nothing", headers={"traceparent": TRACE}).status == 200

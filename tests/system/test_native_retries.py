"""Native engine: a write that a service's driver sends a second time, in a call or across its edges,
is carried out once."""

import threading
import uuid

import pymongo
import pytest
from bson import Binary, Int64
from conftest import DATABASE, check_lives
from holdfast_testing import Connection, WireTap, wait_until
from http_stack import Gate, HttpStack, settled

NO_SUCH = 251


@pytest.fixture(scope="module")
def stack():
    with HttpStack({"unit.multiWrites": "strict"}, mode="replicaset") as made:
        yield made


@pytest.fixture
def counter(stack, name):
    """A document that counts how often it was written."""
    stack.direct[DATABASE][name].insert_one({"_id": 1, "n": 0})
    yield lambda: stack.stored(name)[1]["n"]
    check_lives(stack.proxy)
    settled(stack)


class Session:
    """Of a driver that sends each write on a connection of its own, as after a broken one."""

    def __init__(self, stack, name, multi=False):
        self.port, self.name, self.multi = stack.proxy.port, name, multi
        self.id = Binary(uuid.uuid4().bytes, 4)

    def write(self, number):
        update = {"q": {"_id": {"$gt": 0}}, "u": {"$inc": {"n": 1}}, "multi": self.multi}
        with Connection(self.port) as raw:
            return raw.run(
                {
                    "update": self.name,
                    "updates": [update],
                    "lsid": {"id": self.id},
                    "txnNumber": Int64(number),
                    "$db": DATABASE,
                }
            )


def written(reply):
    return reply.get("ok"), reply.get("n"), reply.get("nModified")


DONE = (1, 1, 1)


def in_a_call(stack, what):
    """`what` happens while a call is open. Returns its status."""

    def handler(_):
        what()
        return 200

    stack.service.handlers["/x"] = handler
    return stack.call("/x").status


def test_a_driver_that_retries_in_a_call(stack, counter, name):
    """Its write was carried out, and the answer is lost."""
    cut = []

    def before_reply(reply):
        if "nModified" in reply and not cut:
            cut.append(reply)
            return False
        return None

    with WireTap(stack.proxy.port) as tap:
        tap.before_reply = before_reply

        def write():
            with pymongo.MongoClient(tap.uri) as client:
                result = client[DATABASE][name].update_one({"_id": 1}, {"$inc": {"n": 1}})
            assert result.modified_count == 1

        assert in_a_call(stack, write) == 200
        assert cut and tap.names().count("update") == 2
    assert counter() == 1


@pytest.mark.parametrize("multi", [False, True])
def test_in_one_call(stack, counter, name, multi):
    """A second one with the same number is answered what the first was; a higher number is new, and
    a lower one is refused."""
    session, replies = Session(stack, name, multi), []

    def write():
        replies.extend(session.write(number) for number in (7, 7, 8, 8, 7))

    assert in_a_call(stack, write) == 200
    assert [written(reply) for reply in replies[:4]] == [DONE] * 4
    assert replies[4]["code"] == NO_SUCH
    assert counter() == 2


@pytest.mark.parametrize("multi", [False, True])
def test_from_outside_into_a_call(stack, counter, name, multi):
    """The first one was a background task's; a call is open when it comes again."""
    session, replies = Session(stack, name, multi), []
    assert written(session.write(7)) == DONE
    assert in_a_call(stack, lambda: replies.append(session.write(7))) == 200
    assert written(replies[0]) == DONE
    assert counter() == 1
    assert in_a_call(stack, lambda: replies.append(session.write(8))) == 200
    assert written(replies[1]) == DONE
    assert counter() == 2


def test_from_a_call_to_outside(stack, counter, name):
    """Its call has ended: nobody knows any more what it was answered, and it is refused."""
    session, replies = Session(stack, name), []
    assert in_a_call(stack, lambda: session.write(7)) == 200
    assert session.write(7)["code"] == NO_SUCH
    assert in_a_call(stack, lambda: replies.append(session.write(7))) == 200
    assert replies[0]["code"] == NO_SUCH and "errorLabels" not in replies[0]
    assert counter() == 1
    assert written(session.write(8)) == DONE
    assert session.write(7)["code"] == NO_SUCH
    assert counter() == 2


def test_a_driver_that_retries_into_a_call(stack, counter, name):
    """With a real driver, whose task is no call's."""
    gate, opened, seen, done = Gate(), threading.Event(), [], []

    def before_request(command):
        if "update" in command:
            seen.append(command)
            assert len(seen) < 2 or opened.wait(10)

    with WireTap(stack.proxy.port) as tap:
        tap.before_request = before_request
        tap.before_reply = lambda reply: False if "nModified" in reply and len(seen) == 1 else None

        def background():
            with pymongo.MongoClient(tap.uri) as client:
                result = client[DATABASE][name].update_one({"_id": 1}, {"$inc": {"n": 1}})
                done.append(result.modified_count)

        task = threading.Thread(target=background)
        task.start()
        wait_until(lambda: len(seen) == 2, 10, "it comes again")
        stack.service.handlers["/x"] = lambda _: (gate.stop_here(), 200)[1]
        caller = stack.begin("/x")
        gate.wait_reached()
        opened.set()
        task.join(10)
        gate.go.set()
        assert caller.wait().status == 200
    assert done == [1] and counter() == 1

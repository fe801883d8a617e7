"""The proxy dies at each named step of an API call's unit, and the service with it or not: after the
restart the call is whole or absent, and whole if its caller was told so."""

import signal

import pytest
from conftest import DATABASE
from holdfast_testing import wait_until
from http_stack import HttpStack, reconnected, settled

POINTS = {
    "unit_locked": (1, 2, 3),
    "unit_journaled": (1, 2, 3),
    "unit_sent": (1, 2, 3),
    "unit_answered": (1, 2, 3),
    "unit_replied": (1, 2, 3),
    "commit_requested": (1,),
    "commit_durable": (1,),
}
ABORT_POINTS = {
    "abort_requested": (1,),
    "undo_checked": (1,),
    "undo_restored": (1, 2),
    "abort_undone": (1,),
    "abort_durable": (1,),
}
CASES = [(point, time, 201) for point, times in POINTS.items() for time in times]
CASES += [(point, time, 500) for point, times in ABORT_POINTS.items() for time in times]


@pytest.fixture(scope="module")
def stack():
    with HttpStack({"http.quietPeriod": "300ms"}) as made:
        yield made


def is_open(proxy):
    return any(entry["msg"] == "Domain open" for entry in proxy.log())


@pytest.mark.parametrize("point,time,end", CASES)
def test_the_proxy_dies_in_a_call(stack, name, point, time, end):
    collection = stack.collection(name)
    before = {1: {"_id": 1, "v": 1}, 2: {"_id": 2, "gone": False}}
    stack.direct[DATABASE][name].insert_many(list(before.values()))

    def handler(_):
        collection.update_one({"_id": 1}, {"$inc": {"v": 1}})
        collection.find_one_and_update({"$and": [{"_id": 3}]}, {"$set": {"v": 3}}, upsert=True)
        collection.delete_one({"_id": 2})
        return end

    stack.service.handlers["/call"] = handler
    stack.proxy.restart(crash_at=f"{point}:{time}")
    reconnected(stack)
    # A call that finds out would come by the same points.
    wait_until(lambda: is_open(stack.proxy), 10, "the fence of the start is over")
    caller = stack.begin("/call")
    assert stack.proxy.process.wait(20) in (-signal.SIGKILL, 137), "the point was not reached"
    caller.wait()
    told = caller.answer.status if caller.answer is not None else None
    stack.proxy.start()
    reconnected(stack)
    settled(stack)
    after = {1: {"_id": 1, "v": 2}, 3: {"_id": 3, "v": 3}}
    stored = stack.stored(name)
    assert stored in (before, after)
    if told == 201:
        assert stored == after
    if point == "commit_durable":
        assert stored == after
    if end == 500:
        assert stored == before
    stack.proxy.verify()

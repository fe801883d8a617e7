"""gRPC calls as units: they commit by the status in their trailers, and pass unchanged."""

import threading
import time

import grpc
import pytest
from grpc_stack import Caller, GrpcStack
from holdfast_testing import wait_until
from http_stack import Gate


@pytest.fixture(scope="module")
def shared():
    with GrpcStack() as made:
        yield made


@pytest.fixture
def stack(shared):
    shared.service.handlers.clear()
    shared.settled()
    return shared


def write_two(stack, name, end):
    """A handler with two writes."""

    def handler(request, context):
        stack.collection(name).insert_one({"_id": 1})
        stack.collection(name).insert_one({"_id": 2})
        return end(request, context)

    return handler


def test_a_call_with_status_0_is_one_committed_unit(stack, name):
    before = len(stack.proxy.units())
    stack.service.on("/shop.Orders/Add", write_two(stack, name, lambda r, c: {"got": r}))
    assert stack.caller.call("/shop.Orders/Add", {"a": 1}) == {"got": {"a": 1}}
    assert set(stack.stored(name)) == {1, 2}
    assert len(stack.proxy.units()) == before + 1

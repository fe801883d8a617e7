"""An upgrade in place: SIGUSR2 puts another process of the program in the place of the running one, and
no client sees more of it than a moment's wait."""

import pytest
from conftest import DATABASE, Stack
from holdfast_testing import holdfast


def test_clients_stay(name):
    """Connections go over to the new process: nothing is closed, nothing has to be logged in again."""
    with Stack() as stack, stack.proxy.client(retryWrites=False, retryReads=False) as client:
        collection = client[DATABASE][name]
        collection.insert_one({"_id": 0})
        former = stack.proxy.process.pid
        for generation in range(2, 5):
            stack.proxy.upgrade()
            assert stack.proxy.process.pid != former
            collection.insert_one({"_id": generation})
            assert collection.count_documents({}) == generation
        assert len(stack.stored(name)) == 4

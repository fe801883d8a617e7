"""What is played before a test of the driver specifications does not meddle with the next one."""

import contextlib

import pymongo
import pytest
from arrangements import Native
from pymongo.errors import OperationFailure


def test_a_test_ends_when_no_commit_of_it_is_asked_for_any_more():
    """Else Holdfast's question would get what the next test's fail point has for its driver."""
    expired = {"failCommands": ["commitTransaction"], "errorCode": 50}  # its driver gives up
    native = Native()
    with contextlib.ExitStack() as held:
        port = native.start(held)[0]
        client = held.enter_context(pymongo.MongoClient("127.0.0.1", port))
        session = held.enter_context(client.start_session())
        client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=expired)
        session.start_transaction()
        client.test.given_up.insert_one({"_id": 1}, session=session)
        with pytest.raises(OperationFailure, match="failpoint"):
            session.commit_transaction()
        assert native.commits_in_doubt()
        client.admin.command("killAllSessions", [])  # as the specifications' runner does
        assert not native.commits_in_doubt()

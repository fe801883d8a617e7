"""The fake replica set does what its tests rely on, asked by a real driver without Holdfast: what a
driver of a real set gets through a failover it gets here."""

import threading

import pymongo
import pytest
from holdfast_testing import FakeReplicaSet, wait_until
from pymongo.write_concern import WriteConcern


@pytest.fixture(name="members")
def make_members():
    with FakeReplicaSet(3) as members:
        yield members


@pytest.fixture(name="direct")
def make_direct(members):
    with pymongo.MongoClient(members.uri, heartbeatFrequencyMS=500) as client:
        yield client


def test_writes_ride_through_a_step_down(members, direct):
    counter = direct.test.counter
    counter.insert_one({"_id": 1, "n": 0})
    first = members.primary
    members.step_down()
    counter.update_one({"_id": 1}, {"$inc": {"n": 1}})
    assert members.primary is not first
    members.fail("update", close="after")
    counter.update_one({"_id": 1}, {"$inc": {"n": 1}})  # sent twice, done once
    assert counter.find_one() == {"_id": 1, "n": 2}


def test_a_transaction_that_a_failover_took_runs_again(members, direct):
    counter = direct.test.counter
    counter.insert_one({"_id": 1, "n": 0})
    runs = []

    def work(session):
        runs.append(1)
        counter.update_one({"_id": 1}, {"$inc": {"n": 1}}, session=session)
        if len(runs) == 1:
            members.kill(members.primary)
        counter.insert_one({"_id": "beside"}, session=session)

    with direct.start_session() as session:
        session.with_transaction(work)
    assert len(runs) == 2
    assert counter.find_one({"_id": 1})["n"] == 1


def test_a_commit_without_an_answer_is_remembered_by_the_next_primary(members, direct):
    counter = direct.test.counter
    counter.insert_one({"_id": 1, "n": 0})

    def cut(node, name, command):
        if name == "commitTransaction" and node.is_primary and not cut.done:
            cut.done = True
            threading.Timer(0.1, members.kill, [node]).start()
            return "after"
        return None

    cut.done = False
    members.on_command = cut
    with direct.start_session() as session:
        session.with_transaction(
            lambda s: counter.update_one({"_id": 1}, {"$inc": {"n": 1}}, session=s)
        )
    assert counter.find_one()["n"] == 1
    assert members.names().count("commitTransaction") == 2


def test_what_the_majority_never_had_is_rolled_back(members, direct):
    values = direct.test.get_collection("values", write_concern=WriteConcern(1))
    values.insert_one({"_id": "kept"})
    stale = members.primary
    members.hold()
    values.insert_one({"_id": "lost"})
    members.partition(stale)
    assert stale.is_primary and members.primary is not stale
    members.release()
    members.heal(stale)
    assert not stale.is_primary
    assert [d["_id"] for d in values.find()] == ["kept"]


def test_a_change_stream_goes_on_at_the_next_primary(members):
    """pymongo waits for the dead server itself before it resumes elsewhere."""
    options = {"heartbeatFrequencyMS": 500, "serverSelectionTimeoutMS": 1000}
    with (
        pymongo.MongoClient(members.uri, **options) as direct,
        direct.test.values.watch(max_await_time_ms=100) as stream,
    ):
        values = direct.test.values
        values.insert_one({"_id": 1})
        assert stream.next()["documentKey"] == {"_id": 1}
        members.kill(members.primary)
        values.insert_one({"_id": 2})
        assert stream.next()["documentKey"] == {"_id": 2}


def test_an_election_takes_its_time(members, direct):
    direct.test.values.insert_one({"_id": 1})
    members.election_delay = 0.3
    members.kill(members.primary)
    assert members.primary is None
    wait_until(lambda: members.primary, 10, "there is a primary")
    direct.test.values.insert_one({"_id": 2})


def test_logins_and_a_cluster():
    with FakeReplicaSet(3, users={"one": "secret"}) as members:
        uri = members.uri_of("authSource=admin&authMechanism=SCRAM-SHA-256", "one")
        with pymongo.MongoClient(uri) as client:
            client.test.values.insert_one({})
        with pymongo.MongoClient(members.uri) as client:
            with pytest.raises(pymongo.errors.OperationFailure):
                client.test.values.insert_one({})
    with FakeReplicaSet(2, sharded=True) as members, pymongo.MongoClient(members.uri) as client:
        with client.start_session() as session:
            session.with_transaction(lambda s: client.test.values.insert_one({}, session=s))
        assert client.test.values.count_documents({}) == 1
        assert client.topology_description.topology_type_name == "Sharded"

"""What a replica set offers beside transactions passes untouched: read and write concerns, causal
consistency, change streams, read preferences. A real server, as a set of one node, that is followed
and restarted; where it takes a secondary, the fake set (fake_replica_set.py).
"""

import threading
import time

import pymongo
import pytest
from holdfast_testing import Connection, FakeReplicaSet, Proxy, Server, WireTap, wait_until
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

OUTCOME_UNKNOWN = 8


def set_name(server):
    with server.client() as client:
        return client.admin.command("hello")["setName"]


@pytest.fixture(scope="module")
def server():
    with Server("replicaset", sync=True) as made:
        yield made


@pytest.fixture(scope="module")
def proxy(server):
    """It follows the set."""
    with Proxy(f"mongodb://{server.address}/?replicaSet={set_name(server)}") as made:
        yield made
        assert made.stop() == 0


@pytest.fixture
def client(proxy):
    with proxy.client() as made:
        yield made


@pytest.fixture
def collection(client, request):
    return client.test[request.node.name]


@pytest.fixture
def tapped(server):
    """(proxy, tap): one host, so that what it sends is seen."""
    with WireTap(server.port) as tap, Proxy(tap.uri) as made:
        yield made, tap


def restart_later(server, seconds=0.2):
    threading.Timer(seconds, server.restart).start()


def test_concerns_and_times_pass_as_they_are(tapped):
    made, tap = tapped
    replies = []
    with Connection(made.port) as raw:
        tap.before_reply = replies.append
        write = {"insert": "passes", "documents": [{"_id": 1}], "$db": "test"}
        write["writeConcern"] = {"w": "majority", "j": True, "wtimeout": 5000}
        answer = raw.run(write)
        assert answer["n"] == 1 and answer == replies[-1]
        read = {"find": "passes", "$db": "test", "$clusterTime": answer["$clusterTime"]}
        read["readConcern"] = {"level": "majority", "afterClusterTime": answer["operationTime"]}
        read["$readPreference"] = {"mode": "secondaryPreferred", "maxStalenessSeconds": 120}
        found = raw.run(read)
        assert found["cursor"]["firstBatch"] == [{"_id": 1}] and found == replies[-1]
        assert found["operationTime"] >= answer["operationTime"]
        assert [c for _, c in tap.commands if c.get("$db") == "test"] == [write, read]


def test_causal_consistency(client, collection):
    majority = {
        "read_concern": ReadConcern("majority"),
        "write_concern": WriteConcern("majority"),
    }
    with client.start_session(causal_consistency=True) as session:
        for number in range(5):
            collection.with_options(**majority).insert_one({"_id": number}, session=session)
            before = session.operation_time
            found = collection.with_options(**majority).find_one({"_id": number}, session=session)
            assert found == {"_id": number}
            assert before is not None and session.operation_time >= before
            assert session.cluster_time["clusterTime"] >= before


def test_an_unacknowledged_write_stays_one(client, collection):
    collection.with_options(write_concern=WriteConcern(0)).insert_one({"_id": 1})
    wait_until(lambda: collection.find_one({"_id": 1}), 10, "it is there")


def test_change_streams_resume_over_a_restart_of_the_server(server, proxy, collection):
    collection.insert_one({"_id": 0})
    with collection.watch(max_await_time_ms=200) as stream:
        collection.insert_one({"_id": 1})
        assert stream.next()["documentKey"] == {"_id": 1}
        server.restart()
        collection.insert_one({"_id": 2})
        assert stream.next()["documentKey"] == {"_id": 2}
        token = stream.resume_token
    collection.insert_one({"_id": 3})
    with collection.watch(resume_after=token, max_await_time_ms=200) as stream:
        assert stream.next()["documentKey"] == {"_id": 3}


def test_clients_ride_through_restarts_of_the_server(server, client, collection):
    """What this server cannot tell after a restart, whether a commit was done, nobody guesses."""
    collection.insert_one({"_id": "counter", "n": 0})
    rounds = unknown = 0
    until = time.monotonic() + 1.5
    restart_later(server)

    def work(session):
        collection.update_one({"_id": "counter"}, {"$inc": {"n": 1}}, session=session)
        collection.insert_one({}, session=session)

    with client.start_session() as session:
        while time.monotonic() < until or rounds < 20:
            try:
                session.with_transaction(work)
                rounds += 1
            except pymongo.errors.OperationFailure as error:
                assert error.code == OUTCOME_UNKNOWN
                unknown += 1
    assert unknown <= 1
    count = collection.find_one({"_id": "counter"})["n"]
    assert rounds <= count <= rounds + unknown
    assert collection.count_documents({}) == count + 1


def test_reads_that_prefer_the_primary_are_its():
    """Other preferences: test_read_preference.py."""
    mode = "primaryPreferred"
    preference = {"mode": mode, "tags": [{"dc": "north"}]}
    with FakeReplicaSet(3, tags={1: {"dc": "north"}}) as members, Proxy(members.uri) as proxy:
        with Connection(proxy.port) as raw:
            write = {"insert": "c", "documents": [{"_id": 1}], "$db": "test"}
            assert raw.run(write)["ok"] == 1
            members.hold()  # the secondaries get nothing any more
            concern = {"w": 1}
            update = {"q": {"_id": 1}, "u": {"$set": {"n": 1}}}
            write = {"update": "c", "updates": [update], "$db": "test", "writeConcern": concern}
            assert raw.run(write)["ok"] == 1
            read = {"find": "c", "$db": "test", "$readPreference": preference}
            assert raw.run(read)["cursor"]["firstBatch"] == [{"_id": 1, "n": 1}]
            assert members.commands[-1] == (members.primary.index, read)
        with pymongo.MongoClient(proxy.uri, readPreference=mode) as client:
            assert client.test.c.find_one() == {"_id": 1, "n": 1}

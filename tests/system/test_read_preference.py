"""Reads by preference, through the native engine: to the member that a mongos would choose, as long
as the client has not logged in. A fake set of three nodes; real drivers.
"""

import threading

import pymongo
import pytest
from bson.int64 import Int64
from holdfast_testing import Connection, FakeReplicaSet, Later, Proxy, encode_message, wait_until
from pymongo.read_preferences import Nearest, Secondary, SecondaryPreferred

HOST_UNREACHABLE = 6
CURSOR_NOT_FOUND = 43
FAILED_TO_SATISFY = 133
TAGS = {0: {"dc": "a"}, 1: {"dc": "b"}, 2: {"dc": "c", "use": "reports"}}


@pytest.fixture
def members():
    with FakeReplicaSet(3, tags=TAGS) as made:
        yield made


@pytest.fixture
def proxy(members):
    with Proxy(members.uri_of("serverSelectionTimeoutMS=3000")) as made:
        yield made
        assert made.process.running(), made.process.tail(60)
        code = made.stop()
        assert code == 0, made.process.tail(120)


@pytest.fixture
def raw(proxy):
    with Connection(proxy.port, 30) as made:
        assert made.run({"insert": "c", "documents": [{"_id": i} for i in range(6)], "$db": "test"})
        yield made


def find(mode=None, collection="c", **fields):
    command = {"find": collection, "$db": "test", **fields}
    if mode is not None:
        command["$readPreference"] = mode if isinstance(mode, dict) else {"mode": mode}
    return command


def place_of(members, name="find"):
    """The node that the last command of that name came to."""
    return next(i for i, c in reversed(list(members.commands)) if next(iter(c)) == name)


def read(members, raw, mode, **fields):
    """Where it went."""
    reply = raw.run(find(mode, **fields))
    assert reply["ok"] == 1, reply
    assert len(reply["cursor"]["firstBatch"]) == 6
    return place_of(members)


def monitored(members):
    """What hello says of the nodes has changed without an election: monitors are told."""
    with members.changed:
        members.tell_others()


def test_each_mode_goes_where_it_may(members, raw):
    assert read(members, raw, None) == 0
    assert read(members, raw, "primary") == 0
    assert read(members, raw, "primaryPreferred") == 0
    assert read(members, raw, "secondary") in (1, 2)
    assert read(members, raw, "secondaryPreferred") in (1, 2)
    assert read(members, raw, "nearest") in (0, 1, 2)
    assert read(members, raw, {"mode": "secondary", "tags": [{"dc": "b"}]}) == 1
    assert read(members, raw, {"mode": "secondary", "tags": [{"no": "x"}, {"dc": "c"}]}) == 2
    assert read(members, raw, {"mode": "nearest", "tags": [{"dc": "a"}]}) == 0
    assert read(members, raw, {"mode": "secondaryPreferred", "tags": [{"no": "x"}]}) == 0
    assert read(members, raw, {"mode": "secondary", "tags": [{"no": "x"}, {}]}) in (1, 2)


@pytest.mark.parametrize("count,mode,fits", [(3, "secondary", {1, 2}), (2, "nearest", {0, 1})])
def test_those_that_fit_take_turns(count, mode, fits):
    """Each of many connections reads once: each member that fits has its share, where their number is
    even, too."""
    near = "localThresholdMS=60000"  # however busy the machine is
    with FakeReplicaSet(count) as members, Proxy(members.uri_of(near)) as proxy:

        def once():
            with Connection(proxy.port, 30) as one:
                assert one.run(find(mode))["ok"] == 1
            return place_of(members)

        wait_until(lambda: once() != 0, 10, "the members are known")
        went = [once() for _ in range(12)]
        assert set(went) == fits and all(went.count(i) >= 4 for i in fits), went


def test_a_command_passes_as_it_is_and_all_kinds_of_reads(members, raw):
    preference = {"$readPreference": {"mode": "secondary", "tags": [{"dc": "c"}]}, "$db": "test"}
    for command in (
        find(None, filter={"_id": 1}, comment="x"),
        {"aggregate": "c", "pipeline": [], "cursor": {}},
        {"count": "c", "query": {}},
        {"distinct": "c", "key": "_id"},
    ):
        command = {**command, **preference}
        assert raw.run(command)["ok"] == 1
        assert members.commands[-1] == (2, command)


def test_what_is_no_read_stays_with_the_primary(members, raw):
    preference = {"$readPreference": {"mode": "secondary"}, "$db": "test"}
    assert raw.run({"ping": 1, **preference})["ok"] == 1
    assert place_of(members, "ping") == 0
    insert = {"insert": "c", "documents": [{"_id": 10}], **preference}
    assert raw.run(insert)["n"] == 1 and place_of(members, "insert") == 0
    raw.run(find({"mode": "nonsense"}))
    assert place_of(members) == 0  # which says what is wrong with it


def test_a_cursor_is_read_where_it_is(members, proxy, raw):
    first = raw.run(find("secondary", batchSize=2))["cursor"]
    place = place_of(members)
    assert place in (1, 2) and len(first["firstBatch"]) == 2
    more = {"getMore": first["id"], "collection": "c", "batchSize": 2, "$db": "test"}
    with Connection(proxy.port, 30) as other:  # drivers ask on any connection
        assert len(other.run(more)["cursor"]["nextBatch"]) == 2
    assert place_of(members, "getMore") == place
    killed = raw.run({"killCursors": "c", "cursors": [first["id"]], "$db": "test"})
    assert killed["ok"] == 1 and place_of(members, "killCursors") == place
    assert raw.run(more)["code"] == CURSOR_NOT_FOUND  # by the primary: it is known nowhere
    assert place_of(members, "getMore") == 0
    on_primary = raw.run(find(None, batchSize=2))["cursor"]
    raw.run(find("secondary", batchSize=2))
    more["getMore"] = on_primary["id"]
    assert len(raw.run(more)["cursor"]["nextBatch"]) == 2 and place_of(members, "getMore") == 0


def test_replies_keep_their_order(members, raw):
    """Commands behind each other, some of them elsewhere, one unacknowledged."""
    raw.run(find("secondary"))
    members.on_command = lambda node, name, command: None
    members.fail("find", wait=0.3)
    message = b""
    message += encode_message({"ping": 1, "$db": "test"})
    message += encode_message(find("secondary", filter={"_id": 1}))
    message += encode_message({"count": "c", "$db": "test"})
    message += encode_message(find("secondary", filter={"_id": 2}))
    message += encode_message({"distinct": "c", "key": "_id", "$db": "test"})
    raw.send(message)
    replies = [raw.receive() for _ in range(5)]
    assert [r["ok"] for r in replies] == [1.0] * 5
    assert replies[1]["cursor"]["firstBatch"] == [{"_id": 1}]
    assert replies[2]["n"] == 6
    assert replies[3]["cursor"]["firstBatch"] == [{"_id": 2}]
    assert replies[4]["values"] == list(range(6))


def test_a_member_that_is_behind_is_not_fresh_enough(members, raw):
    fresh = {"mode": "secondary", "maxStalenessSeconds": 100}
    assert read(members, raw, fresh) in (1, 2)
    members.hold()  # their last write is 200 s old from now on
    monitored(members)
    preferred = {**fresh, "mode": "secondaryPreferred"}
    wait_until(lambda: read(members, raw, preferred) == 0, 15, "the proxy has noticed")
    assert raw.run(find(fresh))["code"] == FAILED_TO_SATISFY
    assert read(members, raw, "secondary") in (1, 2)


def test_without_a_secondary_it_waits_and_is_told_so(members, raw):
    for node in members.nodes[1:]:
        members.kill(node)
    reply = raw.run(find("secondary"))
    assert reply["code"] == FAILED_TO_SATISFY and 'mode: "secondary"' in reply["errmsg"]
    assert read(members, raw, "secondaryPreferred") == 0
    assert read(members, raw, None) == 0  # the connection goes on
    waits = Later(lambda: read(members, raw, "secondary"))
    assert waits.waits()
    members.start(members.nodes[2])
    assert waits.result() == 2


def test_a_member_that_dies_in_a_read(members, raw):
    """The client is told as by a mongos, and the retry goes elsewhere."""
    died = []

    def die(node, name, command):
        if name in ("find", "aggregate") and not died:
            died.append(node)
            members.kill(node)
            return False
        return None

    read(members, raw, "secondary")
    members.on_command = die
    reply = raw.run(find("secondary"))
    assert (reply["code"], reply.get("errorLabels")) == (HOST_UNREACHABLE, None)
    assert read(members, raw, "secondary") not in (0, died[0].index)
    members.start(died.pop())
    aggregate = {"aggregate": "c", "pipeline": [], "cursor": {}, **find("secondary")}
    del aggregate["find"]
    reply = raw.run(aggregate)
    assert reply["errorLabels"] == ["ResumableChangeStreamError"]


def test_a_cursor_ends_with_its_member(members, raw):
    first = raw.run(find("secondary", batchSize=2))["cursor"]
    members.kill(members.nodes[place_of(members)])
    more = {"getMore": first["id"], "collection": "c", "$db": "test"}
    assert raw.run(more)["code"] == HOST_UNREACHABLE
    assert raw.run(more)["code"] == CURSOR_NOT_FOUND


def test_secondaries_are_read_while_there_is_no_primary(members, proxy, raw):
    read(members, raw, "secondary")
    members.election_delay = 3600
    members.kill(members.primary)
    wait_until(lambda: read(members, raw, "primaryPreferred") in (1, 2), 10, "it is noticed")
    assert read(members, raw, "secondary") in (1, 2)
    with Connection(proxy.port, 30) as new:
        assert read(members, new, "nearest") in (1, 2)
    write = {"insert": "c", "documents": [{"_id": 20}], "$db": "test"}
    waits = Later(lambda: raw.run(write))
    assert waits.waits()
    members.elect()
    assert waits.result()["ok"] == 1


def test_a_secondary_that_becomes_primary_is_left(members, raw):
    first = read(members, raw, "secondary")
    members.elect(first)
    wait_until(lambda: read(members, raw, "secondary") != first, 10, "it is noticed")


def test_who_has_logged_in_reads_from_the_primary():
    with FakeReplicaSet(3, users={"one": "secret", "own": "other"}) as members:
        uri = members.uri_of("authSource=admin&authMechanism=SCRAM-SHA-256", "own")
        with Proxy(uri) as proxy, Connection(proxy.port, 10) as raw:
            assert raw.run(find("secondary"))["code"] == 13  # a member asks for a login, too
            assert raw.login("one", "secret")["ok"] == 1
            assert raw.run(find("secondaryPreferred"))["ok"] == 1
            assert place_of(members) == 0


# ---------------------------------------------------------------- drivers


def test_pymongo(members, proxy):
    with proxy.client() as client:
        values = client.test.c
        values.insert_many([{"_id": i} for i in range(300)])
        for preference in (Secondary(), SecondaryPreferred(), Nearest(tag_sets=[{"dc": "c"}])):
            elsewhere = values.with_options(read_preference=preference)
            members.commands.clear()
            assert len(list(elsewhere.find(batch_size=50))) == 300
            assert elsewhere.count_documents({}) == 300
            assert elsewhere.distinct("_id", {"_id": 7}) == [7]
            assert {i for i, c in members.commands} <= {1, 2}
        died = []

        def die(node, name, command):
            if name == "find" and not died:
                died.append(node)
                members.kill(node)
                return False
            return None

        members.on_command = die
        assert values.with_options(read_preference=Secondary()).find_one({"_id": 7})  # retried
        assert died


def test_causal_consistency_and_change_streams(members, proxy):
    """afterClusterTime passes: the secondary waits until it has what the session has seen."""
    with proxy.client() as client:
        elsewhere = client.test.get_collection("c", read_preference=Secondary())
        concern = pymongo.WriteConcern(1)
        with client.start_session(causal_consistency=True) as session:
            members.hold()
            client.test.c.with_options(write_concern=concern).insert_one({"_id": 1}, session=session)
            seen = Later(lambda: elsewhere.find_one({"_id": 1}, session=session))
            assert seen.waits()
            members.release()
            assert seen.result() == {"_id": 1}
        with elsewhere.watch(max_await_time_ms=100) as stream:
            client.test.c.insert_one({"_id": 2})
            assert stream.next()["documentKey"] == {"_id": 2}
            members.kill(members.nodes[place_of(members, "aggregate")])
            client.test.c.insert_one({"_id": 3})
            assert stream.next()["documentKey"] == {"_id": 3}


def test_many_threads_while_members_come_and_go(members, proxy):
    """Each read is whole, whatever happens."""
    with proxy.client() as client:
        values = client.test.c
        values.insert_many([{"_id": i} for i in range(40)])
        elsewhere = values.with_options(read_preference=SecondaryPreferred())
        stop = threading.Event()
        counts = []

        def run():
            while not stop.is_set():
                try:
                    counts.append(len(list(elsewhere.find(batch_size=30))))
                except pymongo.errors.PyMongoError:
                    pass  # its cursor's member has gone, or the second try, too

        threads = [Later(run) for _ in range(6)]
        for _ in range(3):
            for node in members.nodes[1:]:
                members.kill(node)
                so_far = len(counts)
                wait_until(lambda: len(counts) > so_far + 10, 20, "reads go on")
                members.start(node)
        stop.set()
        for thread in threads:
            thread.result()
        assert set(counts) == {40}

"""Inside a unit every read shows one moment: its first batch and its last, one collection and another,
whatever others write meanwhile, in units or by plain writes; or the answer is SnapshotUnavailable.
"""

import threading

import pytest
from bson.int64 import Int64
from conftest import DATABASE, Stack, is_transient, transaction
from holdfast_testing import Connection

SNAPSHOT_UNAVAILABLE = 246
CURSOR_NOT_FOUND = 43


@pytest.fixture(scope="module")
def stack():
    with Stack({"unit.lockWait": "300ms"}) as made:
        yield made


one = pytest.fixture(transaction, name="one")
two = pytest.fixture(transaction, name="two")


@pytest.fixture
def nine(stack, name):
    stack.direct[DATABASE][name].insert_many([{"_id": i, "a": 0} for i in range(9)])
    return name


def get_more(unit, name, cursor, **options):
    return unit.run({"getMore": Int64(cursor["id"]), "collection": name, **options})


# ---------------------------------------------------------------- later batches


OPENING = {
    "find": lambda name: {"find": name, "sort": {"_id": 1}, "batchSize": 2},
    "nothing first": lambda name: {"find": name, "sort": {"_id": 1}, "batchSize": 0},
    "aggregate": lambda name: {
        "aggregate": name,
        "pipeline": [{"$sort": {"_id": 1}}],
        "cursor": {"batchSize": 2},
    },
}


@pytest.mark.parametrize("written", [False, True], ids=["untouched", "written"])
@pytest.mark.parametrize("how", list(OPENING))
def test_later_batches_show_the_same_moment(stack, outside, one, two, nine, how, written):
    if written:
        assert two.update(nine, {"_id": 8}, {"$set": {"a": 8}})["ok"] == 1
    cursor = one.run(OPENING[how](nine))["cursor"]
    assert cursor["id"] and len(cursor["firstBatch"]) == (0 if how == "nothing first" else 2)
    found = list(cursor["firstBatch"])
    assert two.update(nine, {"_id": 5}, {"$set": {"a": 1}})["ok"] == 1
    assert two.delete(nine, {"_id": 6})["ok"] == 1
    assert two.insert(nine, {"_id": 20, "a": 1})["ok"] == 1
    batch = get_more(one, nine, cursor, batchSize=4)["cursor"]
    assert len(batch["nextBatch"]) == 4 and batch["id"] == cursor["id"]
    found += batch["nextBatch"]
    assert two.commit()["ok"] == 1
    last = get_more(one, nine, cursor)["cursor"]
    assert last["id"] == 0 and last["ns"] == f"{DATABASE}.{nine}"
    found += last["nextBatch"]
    assert found == [{"_id": i, "a": 0} for i in range(9)]
    assert one.commit()["ok"] == 1


def test_a_kept_cursor_can_be_killed(stack, one, nine):
    cursor = one.run(OPENING["find"](nine))["cursor"]
    reply = one.run({"killCursors": nine, "cursors": [Int64(cursor["id"])]})
    assert reply["ok"] == 1 and reply["cursorsKilled"] == [cursor["id"]]
    reply = get_more(one, nine, cursor)
    assert reply["ok"] == 0 and reply["code"] == CURSOR_NOT_FOUND


def test_a_cursor_lives_in_its_unit_only(stack, outside, one, two, nine):
    """Neither another unit nor a read outside goes on with it, nor a unit with one from outside."""
    cursor = one.run(OPENING["find"](nine))["cursor"]
    assert get_more(two, nine, cursor)["code"] == CURSOR_NOT_FOUND
    command = {"getMore": Int64(cursor["id"]), "collection": nine, "$db": DATABASE}
    assert outside.run(command)["code"] == CURSOR_NOT_FOUND
    plain = outside.run({"find": nine, "batchSize": 2, "$db": DATABASE})["cursor"]
    assert len(get_more(one, nine, cursor)["cursor"]["nextBatch"]) == 7
    assert get_more(one, nine, plain)["code"] == CURSOR_NOT_FOUND


def test_what_is_beyond_one_reply(stack, one, two, name):
    """More than 16 MiB: it goes on as long as nobody else writes there, and then it is over."""
    stack.direct[DATABASE][name].insert_many(
        [{"_id": i, "text": "x" * (3 << 20)} for i in range(12)]
    )
    for disturbed in (False, True):
        cursor = one.run({"find": name, "sort": {"_id": 1}, "batchSize": 1})["cursor"]
        found = [d["_id"] for d in cursor["firstBatch"]]
        assert found == [0] and cursor["id"]
        assert one.update(name, {"_id": 11}, {"$set": {"b": 1}})["ok"] == 1  # its own is no news
        if disturbed:
            assert two.update(name, {"_id": 10}, {"$set": {"text": "y"}})["ok"] == 1
        while cursor["id"]:
            reply = get_more(one, name, cursor)
            if reply["ok"] == 0:
                break
            cursor = reply["cursor"]
            found += [d["_id"] for d in cursor["nextBatch"]]
        if disturbed:
            assert reply["code"] == SNAPSHOT_UNAVAILABLE and is_transient(reply), reply
        else:
            assert found == list(range(12))


# ---------------------------------------------------------------- other collections


def lookup(name, other):
    stage = {"from": other, "localField": "a", "foreignField": "a", "as": "f"}
    return {"aggregate": name, "pipeline": [{"$lookup": stage}], "cursor": {}}


@pytest.fixture
def pair(stack, name):
    other = name + "_2"
    stack.direct[DATABASE][name].insert_one({"_id": 1, "a": 1})
    stack.direct[DATABASE][other].insert_one({"_id": 1, "a": 1, "n": 0})
    return name, other


def found_of(reply):
    assert reply["ok"] == 1, reply
    return [d["n"] for d in reply["cursor"]["firstBatch"][0]["f"]]


def test_other_collections_are_of_the_same_moment(stack, one, two, pair):
    """As long as nothing has changed there; then the transaction has to run again."""
    assert found_of(one.run(lookup(*pair))) == [0]
    assert two.update(pair[1], {"_id": 1}, {"$set": {"n": 1}})["ok"] == 1
    assert two.abort()["ok"] == 1
    assert found_of(one.run(lookup(*pair))) == [0]
    assert two.next().update(pair[1], {"_id": 1}, {"$set": {"n": 2}})["ok"] == 1
    assert two.commit()["ok"] == 1
    reply = one.run(lookup(*pair))
    assert reply["code"] == SNAPSHOT_UNAVAILABLE and is_transient(reply), reply
    assert found_of(one.next().run(lookup(*pair))) == [2]


def test_a_first_read_may_wait_and_begin_later(stack, one, two, pair):
    """What a transaction has not shown anything of yet begins when it can."""
    assert two.update(pair[1], {"_id": 1}, {"$set": {"n": 3}})["ok"] == 1
    ended = threading.Timer(0.1, two.commit)
    ended.start()
    assert found_of(one.run(lookup(*pair))) == [3]
    ended.join()
    assert found_of(one.run(lookup(*pair))) == [3]


@pytest.fixture(scope="module")
def held_stack():
    """Reads of a snapshot are often held between their two looks (holdfast/race_point.h)."""
    with Stack(environment={"HOLDFAST_RACE": "1:1:read_snapshot_seen"}) as made:
        yield made


def test_a_commit_between_two_looks(held_stack, name):
    """A unit that is open when a read looks whether its snapshot still holds, and has committed when it
    looks who writes there: its change is not of the snapshot."""
    pair = (name, name + "_2")
    held_stack.direct[DATABASE][name].insert_one({"_id": 1, "a": 1})
    held_stack.direct[DATABASE][pair[1]].insert_one({"_id": 1, "a": 1, "n": 0})
    units = transaction(held_stack), transaction(held_stack)
    one, two = next(units[0]), next(units[1])
    for n in range(20):
        assert found_of(one.next().run(lookup(*pair))) == [n]
        assert two.next().update(pair[1], {"_id": 1}, {"$set": {"n": n + 1}})["ok"] == 1
        committing = threading.Timer(0.003, two.commit)
        committing.start()
        reply = one.run(lookup(*pair))
        committing.join()
        assert reply["ok"] == 0 and reply["code"] == SNAPSHOT_UNAVAILABLE, (n, reply)
    for made in units:
        made.close()


def plain_update(outside, name, changes):
    update = {"update": name, "updates": [{"q": {"_id": 1}, "u": {"$set": changes}}]}
    reply = outside.run({**update, "$db": DATABASE})
    assert reply["ok"] == 1 and reply["nModified"] == 1


def test_plain_writes_beside_a_lookup(stack, outside, one, pair):
    """From the first such read on the other collection is the unit's, too: they are tracked."""
    assert found_of(one.run(lookup(*pair))) == [0]
    plain_update(outside, pair[1], {"n": 5})
    point = one.run({"find": pair[1], "filter": {"_id": 1}})["cursor"]["firstBatch"]
    assert [d["n"] for d in point] == [0]
    reply = one.run(lookup(*pair))
    assert reply["code"] == SNAPSHOT_UNAVAILABLE and is_transient(reply)


# ---------------------------------------------------------------- plain writes


def test_a_plain_write_that_passed_unseen(stack, outside, one, pair):
    """In a collection that the transaction had not come to: of that there is no image."""
    assert one.run({"find": pair[0]})["ok"] == 1
    plain_update(outside, pair[1], {"n": 6})
    reply = one.run({"find": pair[1]})
    assert reply["code"] == SNAPSHOT_UNAVAILABLE and is_transient(reply), reply


def test_it_is_not_unavailable_for_ever(stack, outside, one, pair):
    """The transaction that its driver then runs again comes to that collection at once."""
    for attempt in range(3):
        one.next()
        assert one.run({"find": pair[0]})["ok"] == 1
        plain_update(outside, pair[1], {"n": 10 + attempt})
        reply = one.run({"find": pair[1]})
        if reply["ok"] == 1:
            break
        assert reply["code"] == SNAPSHOT_UNAVAILABLE and is_transient(reply), reply
    assert attempt == 1 and [d["n"] for d in reply["cursor"]["firstBatch"]] == [10]


def test_plain_writes_elsewhere_are_nobodys_business(stack, outside, one, pair):
    third = pair[0] + "_3"
    stack.direct[DATABASE][third].insert_one({"_id": 1})
    assert one.run({"find": pair[0]})["ok"] == 1
    plain_update(outside, third, {"n": 1})
    assert one.run({"find": pair[1]})["ok"] == 1


# ---------------------------------------------------------------- units in comments


SNAPSHOT = {"readConcern": {"level": "snapshot"}}


@pytest.fixture
def named(stack, name):
    with Connection(stack.proxy.port) as connection:
        assert connection.run({"beginUnit": name, "$db": "admin"})["ok"] == 1
        yield connection
        connection.run({"abortUnit": name, "$db": "admin"})


def read_named(connection, collection, unit, concern):
    command = {"find": collection, "filter": {"a": {"$gte": 0}}, "sort": {"_id": 1}}
    reply = connection.run({**command, **concern, "comment": {"unit": unit}, "$db": DATABASE})
    assert reply["ok"] == 1, reply
    return [d["a"] for d in reply["cursor"]["firstBatch"]]


def test_a_unit_of_a_comment_has_a_snapshot(stack, named, two, nine, name):
    """For reads that ask for one: as of its beginning, with what it has written itself."""
    assert two.update(nine, {"_id": 3}, {"$set": {"a": 3}})["ok"] == 1
    assert two.commit()["ok"] == 1
    update = {"update": nine, "updates": [{"q": {"_id": 0}, "u": {"$set": {"a": 7}}}]}
    assert named.run({**update, "comment": {"unit": name}, "$db": DATABASE})["ok"] == 1
    assert read_named(named, nine, name, SNAPSHOT) == [7] + [0] * 8
    assert read_named(named, nine, name, {}) == [7, 0, 0, 3] + [0] * 5
    with Connection(stack.proxy.port) as stranger:
        assert read_named(stranger, nine, name, {}) == [7, 0, 0, 3] + [0] * 5


def test_a_plain_write_beside_a_named_unit(stack, outside, named, pair, name):
    """Where it may have passed unseen the snapshot is not available."""
    plain_update(outside, pair[1], {"n": 9})
    command = {"find": pair[1], **SNAPSHOT, "comment": {"unit": name}, "$db": DATABASE}
    reply = named.run(command)
    assert reply["ok"] == 0 and reply["code"] == SNAPSHOT_UNAVAILABLE, reply
    command["find"] = pair[0]
    assert named.run(command)["ok"] == 1

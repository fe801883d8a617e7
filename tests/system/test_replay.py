"""holdfast replay and check-restore: a restored backup is brought forward to what was committed.

What the live server holds, a backup and the journal must come to byte for byte; what somebody else
wrote in the restored database is never overwritten.
"""

import json
import signal
import time

import bson
import pytest
from bson.int64 import Int64
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import Connection, Proxy, Server, holdfast, wait_until
from holdfast_testing.backup import contents, restore

OWN = ("holdfast",)


@pytest.fixture(scope="module")
def target():
    """A second server, emptied by each test that restores onto it."""
    with Server() as server, server.client() as client:
        server.direct = client
        yield server


@pytest.fixture
def live():
    with Stack() as stack:
        yield stack


def replay(wal, server, *options, check=0, environment=None):
    done = holdfast(
        "replay", "--wal", wal, "--onto", server.uri, "--json", *options,
        check=check, environment=environment,
    )  # fmt: skip
    return json.loads(done.stdout)


def check_restore(wal, server, *options):
    done = holdfast(
        "check-restore", "--wal", wal, "--upstream", server.uri, "--json", *options
    )
    return done.returncode, json.loads(done.stdout)["facts"]


def restore_onto(target, held):
    for database in target.direct.list_database_names():
        if database not in ("admin", "config", "local"):
            target.direct.drop_database(database)
    restore(target.direct, held)
    # A backup is older than ten seconds when it is restored.
    target.direct["holdfast"]["state"].update_one(
        {"_id": "lease"}, {"$set": {"renewedAt": bson.DatetimeMS(1)}}
    )


def state(target, name):
    return target.direct["holdfast"]["state"].find_one({"_id": name})


def last_lsn(wal):
    return json.loads(holdfast("status", "--wal", wal, "--json").stdout)["lastLsn"]


def some_units(connection, name):
    """Units of every kind: inserts, updates whose after-image only the server knows, upserts,
    deletes, one that is rolled back."""
    unit = RawTransaction(connection)
    unit.insert(name, {"_id": 1, "v": 1}, {"_id": 2, "v": Int64(7)}, {"_id": "x", "v": 1.5})
    unit.update(name, {"_id": 1}, {"$inc": {"v": 1}, "$currentDate": {"at": True}})
    assert unit.commit()["ok"] == 1
    unit = RawTransaction(connection)
    unit.update(name, {"_id": 2}, [{"$set": {"w": {"$add": ["$v", 0.5]}}}])
    unit.update(name, {"_id": 1}, {"$push": {"list": {"$each": [3, 1, 2], "$sort": 1}}})
    unit.run({
        "update": name,
        "updates": [{"q": {"_id": 5.0}, "u": {"$set": {"n": bson.Decimal128("1.10")}},
                     "upsert": True}],
    })  # fmt: skip
    assert unit.commit()["ok"] == 1
    unit = RawTransaction(connection)
    unit.delete(name, {"_id": "x"})
    unit.update(name, {"_id": 2}, {"_id": 2, "replaced": bson.Timestamp(0, 0), "b": 1, "a": 2})
    assert unit.commit()["ok"] == 1
    unit = RawTransaction(connection)
    unit.update(name, {"_id": 1}, {"$set": {"v": "never"}})
    unit.insert(name, {"_id": 99})
    assert unit.abort()["ok"] == 1


def test_a_backup_of_the_beginning_comes_to_the_end(live, target, name):
    backup = contents(live.direct)
    with Connection(live.proxy.port) as connection:
        some_units(connection, name)
        some_units(connection, name + "b")
    assert live.proxy.stop() == 0
    wanted = contents(live.direct, OWN)
    restore_onto(target, backup)

    code, facts = check_restore(live.proxy.wal, target)
    assert code == 1 and facts["databaseOurs"] and facts["toMove"] == 6, facts
    looked = replay(live.proxy.wal, target, "--dry-run")
    assert (looked["moved"], looked["conflictCount"]) == (6, 0)
    assert contents(target.direct, OWN) == {}

    done = replay(live.proxy.wal, target)
    assert done["units"] == 6 and done["whole"] is True
    assert (done["moved"], done["documents"]) == (looked["moved"], looked["documents"])
    assert contents(target.direct, OWN) == wanted
    again = replay(live.proxy.wal, target, "--from", 0)
    assert (again["moved"], again["inPlace"], again["conflictCount"]) == (0, 10, 0)
    assert check_restore(live.proxy.wal, target)[0] == 0

    # The proxy goes on with it, as if nothing had been.
    with Proxy(target, wal=live.proxy.wal) as proxy, Connection(proxy.port) as connection:
        unit = RawTransaction(connection)
        unit.update(name, {"_id": 1}, {"$set": {"v": "on"}})
        assert unit.commit()["ok"] == 1
        assert proxy.stop() == 0
    live.proxy.start()  # its own database still knows an older state of this journal


def test_until_an_lsn_and_until_a_time(live, target, name):
    collection = live.direct[DATABASE][name]
    backup = contents(live.direct)
    stages = []
    with Connection(live.proxy.port) as connection:
        for value in range(4):
            unit = RawTransaction(connection)
            if value == 0:
                unit.insert(name, {"_id": 0, "v": 0})
            else:
                unit.update(name, {"_id": 0}, {"$set": {"v": value}})
            assert unit.commit()["ok"] == 1
            stages.append((last_lsn(live.proxy.wal), collection.find_one({"_id": 0})))
            time.sleep(0.05)
    times = [
        json.loads(line)["last"]
        for line in holdfast("export", "--wal", live.proxy.wal, check=0).stdout.splitlines()
        if json.loads(line)["type"] == "unit"
    ]
    for number, (lsn, document) in enumerate(stages):
        for limit in (lsn, times[number]):
            restore_onto(target, backup)
            done = replay(live.proxy.wal, target, "--until", limit)
            following = stages[number + 1][0] if number < 3 else lsn + 1
            assert done["moved"] == 1 and lsn <= done["throughLsn"] < following
            assert done["whole"] is (number == 3)
            assert target.direct[DATABASE][name].find_one({"_id": 0}) == document
            again = replay(live.proxy.wal, target, "--until", limit)
            assert (again["moved"], again["conflictCount"]) == (0, 0)


def test_after_a_replay_to_an_earlier_point_the_journal_is_refused(live, target, name):
    backup = contents(live.direct)
    with Connection(live.proxy.port) as connection:
        some_units(connection, name)
        lsn = last_lsn(live.proxy.wal)
        some_units(connection, name + "b")
    assert live.proxy.stop() == 0
    restore_onto(target, backup)
    shown = holdfast(
        "replay", "--wal", live.proxy.wal, "--onto", target.uri, "--until", lsn, check=0
    ).stdout
    journal = json.loads(holdfast("status", "--wal", live.proxy.wal, "--json").stdout)["journal"]
    assert f"upstream.takeover={journal}" in shown
    assert name + "b" not in target.direct[DATABASE].list_collection_names()
    code, output = Proxy(target, wal=live.proxy.wal, start=False).run_to_end()
    assert code == 2 and "journal of another database" in output
    # A second look at the same backup with the same journal is welcome, also further on.
    assert replay(live.proxy.wal, target)["moved"] == 3
    assert contents(target.direct, OWN) == contents(live.direct, OWN)
    # And the way that it said.
    with Proxy(target, {"upstream.takeover": journal}) as proxy:
        assert proxy.stop() == 0
    live.proxy.start()


def test_what_somebody_else_wrote_is_a_conflict_and_stays(live, target, name):
    backup = contents(live.direct)
    with Connection(live.proxy.port) as connection:
        some_units(connection, name)
    assert live.proxy.stop() == 0
    restore_onto(target, backup)
    there = target.direct[DATABASE][name]
    there.insert_many([{"_id": 1, "v": "stranger"}, {"_id": 5, "n": 1}])
    done = replay(live.proxy.wal, target, check=1)
    assert done["conflictCount"] == 2 and done["moved"] == 1
    told = {json.dumps(entry["key"]["_id"]): entry for entry in done["conflicts"]}
    assert told["1"]["found"] == {"_id": 1, "v": "stranger"}
    assert told["1"]["wanted"]["v"] == 2 and "none of the images" in told["1"]["reason"]
    assert there.find_one({"_id": 1}) == {"_id": 1, "v": "stranger"}
    assert there.find_one({"_id": 5}) == {"_id": 5, "n": 1}
    assert state(target, "replay") is None  # not finished
    # The operator takes one away; the other he keeps.
    there.delete_one({"_id": 1})
    assert replay(live.proxy.wal, target, check=1)["moved"] == 1
    assert replay(live.proxy.wal, target, "--yes", check=1)["moved"] == 0
    assert state(target, "replay")["whole"] is True
    assert there.find_one({"_id": 5}) == {"_id": 5, "n": 1}
    live.proxy.start()


def test_the_same_value_of_another_type_is_a_conflict(live, target, name):
    """The server's equality does not see it: it is compared here, byte for byte."""
    with Connection(live.proxy.port) as connection:
        unit = RawTransaction(connection)
        unit.insert(name, {"_id": 1, "v": 1})
        assert unit.commit()["ok"] == 1
        backup = contents(live.direct)
        unit.next().update(name, {"_id": 1}, {"$set": {"v": 2}})
        assert unit.commit()["ok"] == 1
    restore_onto(target, backup)
    target.direct[DATABASE][name].replace_one({"_id": 1}, {"v": 1.0})
    assert replay(live.proxy.wal, target, "--from", 0, check=1)["conflictCount"] == 1
    assert isinstance(target.direct[DATABASE][name].find_one({"_id": 1})["v"], float)


def test_a_backup_taken_while_units_were_open(live, target, name):
    """Half of a unit is in the backup: what it wrote is one of the images, and comes to its end,
    rolled back or committed."""
    connections = [Connection(live.proxy.port) for _ in range(3)]
    with connections[0] as one, connections[1], connections[2]:
        unit = RawTransaction(one)
        unit.insert(name, {"_id": 1, "v": 0}, {"_id": 2, "v": 0}, {"_id": 3, "v": 0})
        assert unit.commit()["ok"] == 1
        kept, undone, left = (RawTransaction(connection) for connection in connections)
        kept.update(name, {"_id": 1}, {"$set": {"v": "kept"}})
        undone.update(name, {"_id": 2}, {"$set": {"v": "undone"}})
        left.update(name, {"_id": 3}, {"$set": {"v": "left"}})
        backup = contents(live.direct)
        kept.update(name, {"_id": 1}, {"$set": {"w": 1}})
        assert kept.commit()["ok"] == 1 and undone.abort()["ok"] == 1
        restore_onto(target, backup)
        done = replay(live.proxy.wal, target)
    assert (done["moved"], done["conflictCount"]) == (3, 0)
    held = {d["_id"]: d for d in target.direct[DATABASE][name].find()}
    assert held == {
        1: {"_id": 1, "v": "kept", "w": 1},
        2: {"_id": 2, "v": 0},
        3: {"_id": 3, "v": 0},
    }


def test_values_of_a_unique_index_change_hands(live, target, name):
    """In bulk each stands in the other's way: they go write by write, as their units did."""
    live.direct[DATABASE][name].create_index("k", unique=True)
    with Connection(live.proxy.port) as connection:
        unit = RawTransaction(connection)
        unit.insert(name, {"_id": 1, "k": "a"}, {"_id": 2, "k": "b"}, {"_id": 3, "k": "c"})
        assert unit.commit()["ok"] == 1
        backup = contents(live.direct)
        unit.next().update(name, {"_id": 1}, {"$set": {"k": "free"}})
        unit.update(name, {"_id": 2}, {"$set": {"k": "a"}})
        unit.update(name, {"_id": 1}, {"$set": {"k": "b"}})
        assert unit.commit()["ok"] == 1
        unit.next().delete(name, {"_id": 3})
        unit.insert(name, {"_id": 4, "k": "c"})
        assert unit.commit()["ok"] == 1
    wanted = contents(live.direct, OWN)
    restore_onto(target, backup)
    target.direct[DATABASE][name].create_index("k", unique=True)
    done = replay(live.proxy.wal, target)
    assert (done["conflictCount"], done["moved"]) == (0, 4)
    assert contents(target.direct, OWN) == wanted


def test_large_documents_and_many(live, target, name):
    with Connection(live.proxy.port) as connection:
        unit = RawTransaction(connection)
        unit.insert(name, *[{"_id": i, "v": 0} for i in range(2500)])
        assert unit.commit()["ok"] == 1
        backup = contents(live.direct)
        unit.next().run({
            "update": name, "updates": [{"q": {}, "u": {"$inc": {"v": 1}}, "multi": True}]
        })  # fmt: skip
        unit.insert(name, {"_id": "big", "v": "x" * 12_000_000})
        unit.insert(name, {"_id": "medium", "v": "x" * 5_000_000})
        assert unit.commit()["ok"] == 1
    wanted = contents(live.direct, OWN)
    restore_onto(target, backup)
    done = replay(live.proxy.wal, target)
    assert (done["conflictCount"], done["moved"]) == (0, 2502)
    assert contents(target.direct, OWN) == wanted


def test_killed_in_the_middle_it_goes_on(live, target, name):
    with Connection(live.proxy.port) as connection:
        unit = RawTransaction(connection)
        unit.insert(name, *[{"_id": i, "v": 0} for i in range(3000)])
        assert unit.commit()["ok"] == 1
        backup = contents(live.direct)
        unit.next().insert(name, *[{"_id": i, "v": 0} for i in range(3000, 9000)])
        unit.run({
            "update": name,
            "updates": [{"q": {"_id": {"$lt": 3000}}, "u": {"$inc": {"v": 1}}, "multi": True}],
        })  # fmt: skip
        assert unit.commit()["ok"] == 1
    wanted = contents(live.direct, OWN)
    restore_onto(target, backup)
    command = ["replay", "--wal", live.proxy.wal, "--onto", target.uri]
    for step in ("replay_inserting:5", "replay_sent:2"):
        died = holdfast(*command, environment={"HOLDFAST_CRASH_AT": step})
        assert died.returncode == -signal.SIGKILL
        assert contents(target.direct, OWN) != wanted
    # Each waits ten seconds: the lease of the one before looks alive.
    done = replay(live.proxy.wal, target)
    assert (done["moved"] + done["inPlace"], done["conflictCount"]) == (9000, 0)
    assert done["moved"] > 0 and done["inPlace"] > 0
    assert contents(target.direct, OWN) == wanted


def test_a_database_that_is_served_is_refused(live, name):
    with Connection(live.proxy.port) as connection:
        some_units(connection, name)
    before = contents(live.direct, OWN)
    done = holdfast("replay", "--wal", live.proxy.wal, "--onto", live.server.uri)
    assert done.returncode == 2 and "is being served" in done.stderr
    code, facts = check_restore(live.proxy.wal, live.server)
    assert code == 1 and facts["living"]
    assert contents(live.direct, OWN) == before


def test_another_database_is_refused_unless_vouched_for(live, target, name):
    with Connection(live.proxy.port) as connection:
        some_units(connection, name)
    journal = json.loads(holdfast("status", "--wal", live.proxy.wal, "--json").stdout)["journal"]
    restore_onto(target, {})
    done = holdfast("replay", "--wal", live.proxy.wal, "--onto", target.uri)
    assert done.returncode == 2 and f"upstream.takeover={journal}" in done.stderr
    assert contents(target.direct, OWN) == {}
    code, facts = check_restore(live.proxy.wal, target)
    assert code == 1 and not facts["databaseOurs"] and journal in facts["obstacle"]
    replay(live.proxy.wal, target, "--set", f"upstream.takeover={journal}")
    assert contents(target.direct, OWN) == contents(live.direct, OWN)
    # That of somebody else.
    with Stack() as other:
        done = holdfast("replay", "--wal", live.proxy.wal, "--onto", other.server.uri)
        assert done.returncode == 2 and "another database" in done.stderr


def test_records_that_retention_has_removed_are_missed(live, target, name):
    with Connection(live.proxy.port) as connection:
        backup = contents(live.direct)
        some_units(connection, name)
        lsn = last_lsn(live.proxy.wal)

        def all_are_pruned():
            """Once the server says that they are on its disk."""
            holdfast("prune", "--wal", live.proxy.wal, "--before", "0s", "--yes", check=0)
            return live.proxy.units() == []

        wait_until(all_are_pruned, 20, "all are pruned")
        newer = contents(live.direct)
        some_units(connection, name + "b")
    restore_onto(target, backup)
    done = holdfast("replay", "--wal", live.proxy.wal, "--onto", target.uri)
    assert done.returncode == 2 and "lost the records" in done.stderr
    assert contents(target.direct, OWN) == {}
    restore_onto(target, newer)
    replay(live.proxy.wal, target, "--from", lsn + 1)  # as was noted when it was taken
    assert contents(target.direct, OWN) == contents(live.direct, OWN)


def test_a_backup_newer_than_the_limit_is_refused(live, target, name):
    with Connection(live.proxy.port) as connection:
        some_units(connection, name)
    assert live.proxy.stop() == 0  # the lease tells the last LSN
    restore_onto(target, contents(live.direct))
    done = holdfast("replay", "--wal", live.proxy.wal, "--onto", target.uri, "--until", 3)
    assert done.returncode == 2 and "newer" in done.stderr
    live.proxy.start()

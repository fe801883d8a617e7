"""holdfast export: the journal as JSON lines, beside a running proxy."""

import json
import subprocess

import bson
import pytest
from bson import json_util
from bson.int64 import Int64
from conftest import DATABASE, RawTransaction
from holdfast_testing import Connection, build_bin, holdfast


def export(wal, *options, check=0):
    done = holdfast("export", "--wal", wal, *options, check=check)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def unit(raw):
    return RawTransaction(raw)


def last_unit(wal):
    return max(line["unit"] for line in export(wal) if line["type"] == "unit")


def test_units_and_writes_with_every_byte_of_their_documents(stack, unit, name):
    document = {"_id": 1, "n": Int64(7), "d": bson.Decimal128("1.0"), "t": bson.Timestamp(4, 2)}
    unit.insert(name, document)
    unit.update(name, {"_id": 1}, {"$unset": {"t": 1}, "$set": {"n": 7.0}})
    unit.delete(name, {"_id": 1})
    assert unit.commit()["ok"] == 1
    head, *writes = export(stack.proxy.wal, "--unit", last_unit(stack.proxy.wal))
    assert (head["type"], head["state"], head["boundary"]) == ("unit", "committed", "driver")
    assert head["writes"] == len(writes) == 3 and head["firstLsn"] < head["lastLsn"]
    assert [write["op"] for write in writes] == ["insert", "update", "delete"]
    assert all(write["ns"] == f"{DATABASE}.{name}" for write in writes)
    assert writes[0]["before"] is None and writes[2]["after"] is None
    options = json_util.CANONICAL_JSON_OPTIONS
    read = [json_util.loads(json.dumps(write), json_options=options) for write in writes]
    assert bson.encode(read[0]["after"]) == bson.encode(document)
    assert bson.encode(read[1]["after"]) == bson.encode(
        {"_id": 1, "n": 7.0, "d": bson.Decimal128("1.0")}
    )
    assert writes[1]["after"]["n"] == {"$numberDouble": "7.0"}


def test_what_the_server_computed_is_there(stack, unit, name):
    """Its after-image is in the record behind: an export puts it where it belongs."""
    unit.insert(name, {"_id": 1, "v": 2})
    unit.update(name, {"_id": 1}, [{"$set": {"w": {"$multiply": ["$v", 21]}}}])
    assert unit.commit()["ok"] == 1
    written = export(stack.proxy.wal, "--unit", last_unit(stack.proxy.wal))[2]
    assert written["after"]["w"] == {"$numberInt": "42"}


def test_filters(stack, raw, unit, name):
    lsns = []
    for number, target in enumerate((name, name + "x", name)):
        unit.next().insert(target, {"_id": number}, {"_id": f"{number}b"})
        if number == 2:
            unit.insert(name + "x", {"_id": 3})
        assert unit.commit()["ok"] == 1
        lsns.append(export(stack.proxy.wal)[-1]["lsn"] + 1)
    wal = stack.proxy.wal
    between = export(wal, "--from", lsns[1], "--until", lsns[1])
    assert [line["type"] for line in between] == ["unit", "write", "write"]
    assert between[0]["lastLsn"] == lsns[1]
    mine = export(wal, "--namespace", f"{DATABASE}.{name}")
    assert [line["type"] for line in mine] == ["unit", "write", "write"] * 2
    moment = between[0]["last"]
    assert lsns[1] in [line.get("lastLsn") for line in export(wal, "--until", moment)]
    assert export(wal, "--from", moment)[0]["last"] >= moment
    assert export(wal, "--from", "1h") == export(wal)
    assert export(wal, "--until", "1h") == []
    holdfast("export", "--wal", wal, "--unit", 10_000_000, check=0)
    assert "expected an LSN" in holdfast("export", "--wal", wal, "--from", "soon", check=2).stderr


def test_records_as_they_are(stack, unit, name):
    unit.insert(name, {"_id": 1})
    assert unit.abort()["ok"] == 1
    number = last_unit(stack.proxy.wal)
    records = export(stack.proxy.wal, "--records", "--unit", number)
    assert [record["kind"] for record in records] == ["BEGIN", "WRITE", "ABORT"]
    assert records[1]["payload"]["key"] == {"_id": {"$numberInt": "1"}}
    assert [record["previousLsn"] for record in records] == [0, *(r["lsn"] for r in records[:2])]
    every = [record["lsn"] for record in export(stack.proxy.wal, "--records")]
    assert every == sorted(every) and set(r["lsn"] for r in records) < set(every)
    cut = export(stack.proxy.wal, "--records", "--from", every[-2], "--until", every[-2])
    assert [record["lsn"] for record in cut] == [every[-2]]


def test_a_reader_that_pauses_or_leaves_stops_nobody(stack, client, name):
    """The daemon goes on and its journal does not grow for a pager that waits: no snapshot is open
    while lines are printed."""
    client[DATABASE][name].insert_many([{"_id": i, "v": "x" * 1000} for i in range(3000)])
    program = [str(build_bin() / "holdfast"), "export", "--wal", stack.proxy.wal]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as paused:
        assert paused.stdout.readline()
        with Connection(stack.proxy.port) as connection:
            unit = RawTransaction(connection)
            unit.insert(name, {"_id": "more"})
            assert unit.commit()["ok"] == 1
        readers = holdfast("status", "--wal", stack.proxy.wal, "--json", check=0)
        assert json.loads(readers.stdout)["unitsOpen"] == 0
        paused.stdout.close()
        assert paused.wait(30) in (0, 1)
        assert b"" == paused.stderr.read()


def test_progress_is_said_if_asked_for(stack):
    done = holdfast("export", "--wal", stack.proxy.wal, "--progress", check=0)
    assert all(line.startswith("holdfast: ") for line in done.stderr.splitlines())

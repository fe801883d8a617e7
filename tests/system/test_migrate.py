"""holdfast migrate: what each step does, what undoing restores, and what is refused."""

import base64
import datetime
import json
import os

import bson
import pymongo
import pytest
from bson.int64 import Int64
from conftest import RawTransaction, Stack
from holdfast_testing import holdfast, wait_until
from migrations import Migrations


@pytest.fixture
def files(stack, tmp_path, name):
    return Migrations(stack, tmp_path, f"db{name}")


@pytest.fixture
def data(client, files):
    """The database, through the proxy."""
    return client[files.database]


def names(database):
    return sorted(n for n in database.list_collection_names() if n != "holdfast_migrations")


# ---------------------------------------------------------------- steps


def set_default(data):
    data.c.insert_many([{"_id": 1}, {"_id": 2, "a": None}, {"_id": 3, "a": 5, "b": {"x": 1}}])
    yield {"setDefault": {"collection": "c", "fields": {"a": 7, "b.x": {"$numberLong": "2"}}}}
    assert list(data.c.find()) == [
        {"_id": 1, "a": 7, "b": {"x": 2}},
        {"_id": 2, "a": None, "b": {"x": 2}},
        {"_id": 3, "a": 5, "b": {"x": 1}},
    ]
    assert isinstance(data.c.find_one({"_id": 1})["b"]["x"], Int64)


def rename_field(data):
    data.c.insert_many([{"_id": 1, "mail": "m"}, {"_id": 2, "email": "e"}])
    yield {"renameField": {"collection": "c", "from": "mail", "to": "email"}}
    assert list(data.c.find()) == [{"_id": 1, "email": "m"}, {"_id": 2, "email": "e"}]


def rename_field_over_another(data):
    data.c.insert_one({"_id": 1, "mail": "m", "email": "lost"})
    yield {"renameField": {"collection": "c", "from": "mail", "to": "email", "overwrite": True}}
    assert list(data.c.find()) == [{"_id": 1, "email": "m"}]


def remove_field(data):
    data.c.insert_many([{"_id": 1, "x": 1, "y": 1, "z": 1}, {"_id": 2, "y": 1}, {"_id": 3}])
    yield {"removeField": {"collection": "c", "fields": ["x", "y"]}}
    assert list(data.c.find()) == [{"_id": 1, "z": 1}, {"_id": 2}, {"_id": 3}]


def update_by_operators(data):
    data.c.insert_many([{"_id": i, "n": i, "list": [{"k": 1}, {"k": 2}]} for i in range(250)])
    yield {
        "update": {
            "collection": "c",
            "filter": {"n": {"$gte": 100}},
            "update": {"$inc": {"n": 1000}, "$set": {"list.$[big].k": 3}},
            "arrayFilters": [{"big.k": {"$gt": 1}}],
        }
    }
    assert data.c.count_documents({"n": {"$gte": 1100}, "list": [{"k": 1}, {"k": 3}]}) == 150
    assert data.c.count_documents({"n": {"$lt": 100}, "list": [{"k": 1}, {"k": 2}]}) == 100


def update_by_pipeline(data):
    data.c.insert_many([{"_id": i, "name": f"Ada{i} L"} for i in range(5)])
    split = {"$split": ["$name", " "]}
    yield {
        "update": {
            "collection": "c",
            "update": [{"$set": {"first": {"$arrayElemAt": [split, 0]}}}, {"$unset": "name"}],
        }
    }
    assert list(data.c.find()) == [{"_id": i, "first": f"Ada{i}"} for i in range(5)]


def delete(data):
    data.c.insert_many([{"_id": i} for i in range(150)])
    yield {"delete": {"collection": "c", "filter": {"_id": {"$gte": 20}}}}
    assert data.c.count_documents({}) == 20


def insert(data):
    data.create_collection("c")
    when = {"$date": "2026-01-02T03:04:05Z"}
    numbered = [{"_id": i} for i in range(120)]
    yield {"insert": {"collection": "c", "documents": [{"_id": "a", "at": when}, *numbered]}}
    assert data.c.find_one({"_id": "a"})["at"] == datetime.datetime(2026, 1, 2, 3, 4, 5)
    assert data.c.count_documents({}) == 121


def create_index(data):
    data.c.insert_one({"_id": 1})
    options = {"partialFilterExpression": {"a": {"$exists": True}}}
    yield {"createIndex": {"collection": "c", "keys": {"a": 1, "b": -1}, "unique": True, "options": options}}
    made = data.c.index_information()["a_1_b_-1"]
    assert made["unique"] and made["partialFilterExpression"] == options["partialFilterExpression"]


def drop_index(data):
    data.c.create_index([("a", 1)], name="mine", unique=True, expireAfterSeconds=1000)
    yield {"dropIndex": {"collection": "c", "name": "mine"}}
    assert list(data.c.index_information()) == ["_id_"]


def create_collection(data):
    yield {"createCollection": {"collection": "fresh", "options": {"validator": {"a": {"$gt": 0}}}}}
    with pytest.raises(pymongo.errors.WriteError):
        data.fresh.insert_one({"a": 0})


def rename_collection(data):
    data.c.insert_one({"_id": 1})
    yield {"renameCollection": {"collection": "c", "to": "d.e"}}
    assert names(data) == ["d.e"]


def drop_collection(data):
    data.c.insert_one({"_id": 1})
    yield {"dropCollection": {"collection": "c"}}
    assert names(data) == ["holdfast_dropped.1.0.c"]


def set_validator(data):
    data.create_collection("c", validator={"a": {"$gt": 0}}, validationLevel="moderate")
    yield {"setValidator": {"collection": "c", "validator": {"a": {"$gt": 9}}, "action": "warn"}}
    options = data.c.options()
    assert options["validator"] == {"a": {"$gt": 9}} and options["validationAction"] == "warn"


STEPS = [set_default, rename_field, rename_field_over_another, remove_field, update_by_operators]
STEPS += [update_by_pipeline, delete, insert, create_index, drop_index, create_collection]
STEPS += [rename_collection, drop_collection, set_validator]


def shape(files):
    """Everything that a migration may change."""
    return {
        name: (
            files.stored(name),
            files.direct[name].index_information(),
            {
                key: value
                for key, value in files.direct[name].options().items()
                if (key, value) not in (("validator", {}), ("validationAction", "error"))
                and (key, value) != ("validationLevel", "strict")
            },
        )
        for name in names(files.direct)
    }


@pytest.mark.parametrize("kind", STEPS, ids=lambda kind: kind.__name__)
def test_each_step_is_done_and_undone_to_the_byte(files, data, kind):
    steps = kind(data)
    files.up_of("0001_it.json", next(steps))
    before = shape(files)
    files.run("up")
    assert next(steps, None) is None
    assert shape(files) != before
    assert files.status(check=0)[1]["undo"] == "journal"
    done = files.run("down")
    assert "0 conflicts" in done.stdout
    assert shape(files) == before
    files.run("up")  # as if it had never been
    assert shape(files) != before


NAMESPACES = [create_index, drop_index, create_collection, rename_collection, drop_collection]
NAMESPACES += [set_validator]


@pytest.mark.parametrize("kind", NAMESPACES, ids=lambda kind: kind.__name__)
def test_killed_between_a_command_and_its_note_it_finds_its_own_work(files, data, kind):
    """What such a death leaves: the collection or index is changed, the row does not say so yet."""
    steps = kind(data)
    files.up_of("0001_it.json", next(steps))
    before = shape(files)
    files.run("up")
    after = shape(files)
    rows = files.direct.holdfast_migrations
    rows.update_one({"_id": 1}, {"$set": {"state": "applying", "step": 0}})
    files.run("up")
    assert shape(files) == after and files.row(1)["state"] == "applied"
    files.run("down")
    assert shape(files) == before
    rows.update_one({"_id": 1}, {"$set": {"state": "undoing", "how": "journal", "undoStep": 0}})
    files.run("down")
    assert shape(files) == before and files.row(1)["state"] == "undone"


def test_ids_of_all_types_each_once(files, data):
    """The server compares values of one type only: a search that went on by _id alone would end at
    the first text."""
    ids = [None, float("nan"), float("-inf"), -3, 1.5, Int64(7), bson.Decimal128("8")]
    ids += ["a", "b", {"k": 1}, {"k": 2}, b"z", bson.ObjectId(), bson.ObjectId(), False, True]
    ids += [datetime.datetime(2020, 1, 1), bson.Timestamp(4, 2)]
    data.c.insert_many([{"_id": i} for i in ids])
    files.up_of("1_it.yaml", {"update": {"collection": "c", "update": {"$inc": {"n": 1}}}})
    for batch in ("1", "3"):
        files.run("up", "--batch", batch)
        assert files.direct.c.count_documents({"n": 1}) == len(ids) == files.row(1)["documents"]
        files.run("down")
        assert files.direct.c.count_documents({"n": {"$exists": True}}) == 0


def test_a_batch_is_one_unit_and_the_migrations_row_is_in_it(files, data, stack):
    data.c.insert_many([{"_id": i} for i in range(50)])
    files.up_of("1_it.yaml", {"update": {"collection": "c", "update": {"$set": {"n": 1}}}})
    files.run("up", "--batch", "20")
    exported = holdfast("export", "--wal", stack.proxy.wal, check=0).stdout.splitlines()
    exported = [json.loads(line) for line in exported]
    mine = [u for u in exported if u["type"] == "unit" and u["appName"] == "holdfast migrate"]
    batches = [u["writes"] for u in mine if u["writes"] > 1 and u["state"] == "committed"]
    assert batches[-3:] == [21, 21, 11]
    writes = [w["ns"].rpartition(".")[2] for w in exported if w.get("unit") == mine[-3]["unit"] and w["type"] == "write"]
    assert writes[-1] == "holdfast_migrations"


# ---------------------------------------------------------------- undoing


def test_what_somebody_has_changed_since_is_left_and_listed(files, data):
    data.c.insert_many([{"_id": i, "old": i} for i in range(60)])
    files.up_of(
        "0001_it.yaml",
        {"renameField": {"collection": "c", "from": "old", "to": "new"}},
        {"setDefault": {"collection": "c", "fields": {"state": "open"}}},
        {"delete": {"collection": "c", "filter": {"_id": {"$gte": 50}}}},
    )
    before = files.stored("c")
    files.run("up")
    data.c.update_one({"_id": 7}, {"$set": {"state": "shipped"}})
    data.c.delete_one({"_id": 8})
    data.c.insert_one({"_id": 55, "again": True})
    data.c.insert_one({"_id": 99, "young": True})
    data.c.update_one({"_id": 9}, {"$set": {"x": 1}})
    data.c.update_one({"_id": 9}, {"$unset": {"x": 1}})  # byte for byte as it was
    done = files.run("down", check=1)
    said = [line for line in done.stdout.splitlines() if line.startswith("conflict")]
    assert len(said) == 3 and "3 conflicts" in done.stdout
    assert sum("changed it since" in line for line in said) == 1
    assert sum("removed it since" in line for line in said) == 1
    assert sum("inserted it anew" in line for line in said) == 1
    assert data.c.find_one({"_id": 7}) == {"_id": 7, "new": 7, "state": "shipped"}
    assert data.c.find_one({"_id": 8}) is None
    assert data.c.find_one({"_id": 55}) == {"_id": 55, "again": True}
    after = files.stored("c")
    assert after.pop("99") and all(after[i] == before[i] for i in before if i not in ("7", "8", "55"))
    row = files.row(1)
    assert (row["state"], row["conflicts"]) == ("undone", 3)
    assert {c["key"] for c in row["conflictList"]} == {7, 8, 55}


def test_a_unique_value_that_is_taken_by_now_is_a_conflict(files, data):
    data.c.insert_many([{"_id": i, "u": i} for i in range(30)])
    data.c.create_index("u", unique=True)
    one = {"update": {"collection": "c", "filter": {"_id": 17}, "update": {"$set": {"u": 1017}}}}
    files.up_of("1_it.yaml", one, {"setDefault": {"collection": "c", "fields": {"a": 1}}})
    files.run("up")
    data.c.insert_one({"_id": "new", "u": 17})
    done = files.run("down", "--json", check=1)
    (conflict,) = json.loads(done.stdout)["conflicts"]
    assert conflict["key"] == {"_id": 17} and "11000" in conflict["reason"]
    assert files.direct.c.count_documents({"u": {"$lt": 30}, "a": {"$exists": False}}) == 30
    assert data.c.find_one({"_id": 17})["u"] == 1017


def test_collections_that_are_in_use_by_now_are_conflicts(files, data):
    data.old.insert_one({"_id": 1})
    files.up_of(
        "1_it.yaml",
        {"createCollection": {"collection": "fresh"}},
        {"renameCollection": {"collection": "old", "to": "new"}},
    )
    files.run("up")
    data.fresh.insert_one({"_id": 1})
    data.old.insert_one({"_id": "again"})
    done = files.run("down", check=1)
    assert "it holds documents by now" in done.stdout
    assert "there is a collection old already" in done.stdout
    assert names(files.direct) == ["fresh", "new", "old"]


def test_by_the_down_section(files, data):
    data.c.insert_many([{"_id": i} for i in range(30)])
    files.up_of(
        "1_it.yaml",
        {"setDefault": {"collection": "c", "fields": {"a": 1}}},
        {"createIndex": {"collection": "c", "keys": {"a": 1}}},
        down=[
            {"dropIndex": {"collection": "c", "name": "a_1"}},
            {"removeField": {"collection": "c", "fields": "a"}},
        ],
    )
    files.run("up")
    data.c.insert_one({"_id": "young", "a": 2})
    done = files.run("down", "--by", "file")
    assert "by its down section: 31 documents" in done.stdout
    assert files.direct.c.count_documents({"a": {"$exists": True}}) == 0
    assert list(files.direct.c.index_information()) == ["_id_"]
    assert files.status()[1]["state"] == "pending"


def test_what_the_journal_has_lost_is_said_and_not_half_done(tmp_path):
    with Stack() as stack:
        files = Migrations(stack, tmp_path, "shop")
        data = stack.proxy.client()["shop"]
        data.c.insert_many([{"_id": i} for i in range(40)])
        files.up_of("1_it.yaml", {"setDefault": {"collection": "c", "fields": {"a": 1}}})
        files.up_of("2_it.yaml", {"setDefault": {"collection": "c", "fields": {"b": 1}}}, down=[])
        files.run("up", "--batch", "10")
        assert [entry["undo"] for entry in files.status().values()] == ["journal", "journal"]
        assert files.status()[1]["oldestUnit"] < files.status()[2]["oldestUnit"]
        assert "journal, for wal.retention from 20" in files.run("status").stdout
        pruned = lambda: holdfast("prune", "--wal", stack.proxy.wal, "--before", "0s", "--yes", check=0)
        lost = lambda: all(e["unitsInJournal"] < 4 for e in files.status().values())
        wait_until(lambda: pruned() and lost(), 30, "it is pruned")
        assert files.status()[1]["undo"] == "no" and files.status()[2]["undo"] == "file"
        assert "not have all of its units" in files.run("status", check=0).stdout
        stored = files.stored("c")
        done = files.run("down", "--to", "1", "--by", "journal", check=2)
        assert "cannot be undone" in done.stderr
        files.run("down")  # 2, by its empty down section
        done = files.run("down", check=2)
        assert "no down section" in done.stderr and files.row(1)["state"] == "applied"
        assert files.stored("c") == stored


def test_without_a_journal_only_the_down_section(files, data):
    data.c.insert_one({"_id": 1})
    files.up_of("1_it.yaml", {"setDefault": {"collection": "c", "fields": {"a": 1}}})
    files.run("up")
    files.wal = False
    assert "no journal was named" in files.run("status").stdout
    assert "no journal was named" in files.run("down", check=2).stderr


def test_a_collection_that_is_not_kept_cannot_come_back(files, data):
    data.c.insert_one({"_id": 1})
    files.up_of("1_it.yaml", {"dropCollection": {"collection": "c", "keep": False}})
    files.run("up")
    assert names(files.direct) == []
    assert files.status()[1]["notByJournal"] == "it has dropped a collection without keeping it"
    files.run("down", check=2)


# ---------------------------------------------------------------- order, checksums, failures


def two(files, data):
    data.c.insert_many([{"_id": i} for i in range(3)])
    for number in (1, 3):
        files.up_of(f"{number:04}_set.yaml", {"setDefault": {"collection": "c", "fields": {f"f{number}": 1}}})


def test_to_a_version_and_back(files, data):
    two(files, data)
    files.run("up", "--to", "1")
    assert {v: e["state"] for v, e in files.status(check=1).items()} == {1: "applied", 3: "pending"}
    assert "no such migration" in files.run("up", "--to", "2", check=2).stderr
    files.run("up")
    assert "version 3" in files.run("up").stdout
    files.run("down", "--to", "0")
    assert [e["state"] for e in files.status().values()] == ["pending", "pending"]
    assert files.stored("c") == {repr(i): bson.encode({"_id": i}) for i in range(3)}
    assert files.run("down").returncode == 0  # nothing to undo


def test_a_changed_file_is_refused_until_it_is_repaired(files, data):
    two(files, data)
    files.run("up", "--to", "1")
    path = files.directory / "0001_set.yaml"
    path.write_text(path.read_text().replace("\n", "\r\n"))  # as a checkout may do it
    files.run("up", "--to", "1")
    path.write_text(path.read_text() + "# a comment\n")
    assert files.status(check=1)[1]["changed"]
    refused = files.run("up", check=2)
    assert "0001_set.yaml was changed since it was applied" in refused.stderr
    assert files.row(3) is None
    files.run("dry-run", check=2)
    assert "applied   0001_set" in files.run("repair").stdout
    files.run("up")
    assert files.run("status", check=0)


def test_a_lower_number_than_what_is_applied_is_refused(files, data):
    two(files, data)
    files.run("up")
    files.up_of("0002_late.yaml", {"setDefault": {"collection": "c", "fields": {"late": 1}}})
    assert "lower number" in files.run("up", check=2).stderr
    files.run("up", "--out-of-order")
    assert files.direct.c.count_documents({"late": 1}) == 3


def test_a_missing_file_is_shown_and_what_it_did_can_be_undone(files, data):
    two(files, data)
    files.run("up")
    (files.directory / "0003_set.yaml").unlink()
    assert files.status(check=1)[3]["missing"]
    files.run("up")
    files.run("down")
    assert files.direct.c.count_documents({"f3": {"$exists": True}}) == 0
    assert list(files.status()) == [1]


def test_a_baseline_carries_nothing_out(files, data):
    two(files, data)
    assert "needs --to" in files.run("baseline", check=2).stderr
    files.run("baseline", "--to", "1")
    files.run("up")
    assert files.direct.c.count_documents({"f1": 1}) == 0
    assert files.direct.c.count_documents({"f3": 1}) == 3
    assert files.status()[1]["notByJournal"] == "it was noted as applied, and not carried out"


def test_a_step_that_the_server_refuses_can_be_gone_on_with_or_undone(files, data):
    data.c.create_index("u", unique=True)
    data.c.insert_many([{"_id": i, "u": i} for i in range(100)])
    before = files.stored("c")
    files.up_of(
        "1_it.yaml",
        {"setDefault": {"collection": "c", "fields": {"a": 1}}},
        {"update": {"collection": "c", "filter": {"_id": {"$gte": 50}}, "update": {"$set": {"u": 5000}}}},
    )
    failed = files.run("up", "--batch", "10", check=2)
    assert "step 2, line" in failed.stderr and "11000" in failed.stderr
    entry = files.status(check=1)[1]
    assert entry["state"] == "failed" and "11000" in entry["error"]
    assert files.direct.c.count_documents({"a": 1}) == 100
    again = files.run("up", check=2)
    assert "11000" in again.stderr
    files.run("down")
    assert files.stored("c") == before and files.status()[1]["state"] == "pending"


def test_a_rename_that_would_lose_a_value_is_refused(files, data):
    data.c.insert_many([{"_id": 1, "a": 1}, {"_id": 2, "a": 1, "b": 2}])
    files.up_of("1_it.yaml", {"renameField": {"collection": "c", "from": "a", "to": "b"}})
    assert "1 documents have both fields" in files.run("up", check=2).stderr
    data.c.update_one({"_id": 2}, {"$unset": {"a": 1}})
    files.run("up")
    assert list(data.c.find()) == [{"_id": 1, "b": 1}, {"_id": 2, "b": 2}]


def test_a_dry_run_writes_nothing(files, data, stack):
    two(files, data)
    files.up_of("4_more.yaml", {"insert": {"collection": "d", "documents": [{"_id": 1}]}})

    def everything():
        found = holdfast("status", "--wal", stack.proxy.wal, "--json", check=0)
        return json.loads(found.stdout)["lastLsn"], sorted(files.direct.list_collection_names())

    before = everything()
    said = files.run("dry-run").stdout
    assert "1  setDefault c f1: 3 documents now" in said and "insert d: 1 documents" in said
    assert "0004" not in files.run("dry-run", "--to", "3").stdout
    steps = json.loads(files.run("dry-run", "--json").stdout)["pending"]
    assert [m["version"] for m in steps] == [1, 3, 4] and steps[0]["steps"][0]["documents"] == 3
    files.run("status", check=1)
    assert everything() == before


def test_units_that_are_too_large_become_smaller(tmp_path):
    with Stack({"unit.maxBytes": "1MiB"}) as stack:
        files = Migrations(stack, tmp_path, "shop")
        data = stack.proxy.client()["shop"]
        data.c.insert_many([{"_id": i, "x": "x" * 30000} for i in range(100)][:15])
        data.c.insert_many([{"_id": i, "x": "x" * 30000} for i in range(15, 30)])
        files.up_of("1_it.yaml", {"update": {"collection": "c", "update": {"$inc": {"n": 1}}}})
        files.run("up")
        assert files.direct.c.count_documents({"n": 1}) == 30 and files.row(1)["units"] > 1
        files.run("down")
        assert files.direct.c.count_documents({"n": 1}) == 0


# ---------------------------------------------------------------- services beside it


def test_a_document_that_a_service_holds_is_waited_for(files, data, unit):
    data.c.insert_many([{"_id": i} for i in range(30)])
    unit.run({"update": "c", "updates": [{"q": {"_id": 7}, "u": {"$set": {"s": 1}}}]}, database=files.database)
    files.up_of("1_it.yaml", {"update": {"collection": "c", "update": {"$inc": {"n": 1}}}})
    process = files.start("up")
    wait_until(lambda: files.row(1), 30, "it has begun")
    assert files.direct.c.count_documents({"n": 1}) == 0
    assert unit.commit()["ok"] == 1
    assert process.wait(60) == 0, process.output()
    assert data.c.find_one({"_id": 7}) == {"_id": 7, "s": 1, "n": 1}
    assert files.direct.c.count_documents({"n": 1}) == 30


def test_an_encrypted_journal_needs_its_key(tmp_path):
    key = tmp_path / "key"
    key.write_text(base64.b64encode(os.urandom(32)).decode())
    key.chmod(0o600)
    with Stack({"wal.encryptionKeyFile": key}) as stack:
        files = Migrations(stack, tmp_path, "shop")
        stack.proxy.client()["shop"].c.insert_one({"_id": 1})
        files.up_of("1_it.yaml", {"setDefault": {"collection": "c", "fields": {"a": 1}}})
        files.run("up")
        assert "key" in files.run("status", check=2).stderr
        assert "journal" in files.run("status", "--wal-key-file", key).stdout
        files.run("down", "--wal-key-file", key)
        assert files.stored("c") == {"1": bson.encode({"_id": 1})}


def test_the_rights_that_it_needs(tmp_path):
    """readWrite and dbAdmin on its own database, as docs/MIGRATIONS.md says; each step."""
    roles = [("readWrite", "shop"), ("dbAdmin", "shop")]
    with Stack(auth=True, users=[("carol", "secret", roles)]) as stack:
        files = Migrations(stack, tmp_path, "shop")
        for kind in (update_by_pipeline, create_index, rename_collection, drop_collection, set_validator):
            files.stack.direct.drop_database("shop")
            steps = kind(stack.direct["shop"])
            files.up_of("0001_it.json", next(steps))
            before = shape(files)
            uri = f"mongodb://carol:secret@{stack.proxy.address}/shop?authSource=admin"
            (tmp_path / "uri").write_text(uri)
            (tmp_path / "uri").chmod(0o600)
            arguments = [str(tmp_path), "--proxy-file", tmp_path / "uri", "--wal", stack.proxy.wal]
            holdfast("migrate", "up", *arguments, check=0)
            assert next(steps, None) is None
            holdfast("migrate", "down", *arguments, check=0)
            assert shape(files) == before


# ---------------------------------------------------------------- where it cannot work


def test_a_server_without_a_proxy_is_refused(files, stack):
    two_files = ["migrate", "up", str(files.directory), "--proxy", f"{stack.server.uri}shop"]
    done = holdfast(*two_files, check=2)
    assert "start holdfastd before the server" in done.stderr


@pytest.mark.parametrize(
    "options, says",
    [
        (["migrate", "up"], "needs ACTION DIR"),
        (["migrate", "sideways", "DIR", "--proxy", "URI"], "expected status, dry-run, up"),
        (["migrate", "up", "DIR"], "--proxy is missing"),
        (["migrate", "up", "/nonexistent", "--proxy", "URI"], "cannot read the directory"),
        (["migrate", "up", "DIR", "--proxy", "mongodb://127.0.0.1:1"], "which database"),
        (["migrate", "up", "DIR", "--proxy", "mongodb://u@127.0.0.1:1/x"], "no password"),
        (["migrate", "up", "DIR", "--proxy", "URI", "--to", "x"], "expected a migration's number"),
        (["migrate", "up", "DIR", "--proxy", "URI", "--batch", "0"], "from 1 to"),
        (["migrate", "up", "DIR", "--proxy", "URI", "--by", "luck"], "expected journal or file"),
        (["migrate", "up", "DIR", "--proxy", "URI", "--wait", "soon"], "expected a time"),
        (["migrate", "up", "DIR", "--proxy", "URI", "--database", "admin"], "no database that can"),
        (["migrate", "up", "DIR", "--proxy", "URI", "--wal", "/nonexistent"], "the directory /nonexistent"),
    ],
)
def test_mistakes_are_named(files, stack, options, says):
    uri = f"{stack.proxy.uri}{files.database}"
    if says == "which database":
        uri, options = stack.proxy.uri, [stack.proxy.uri if "127" in o else o for o in options]
    known = {"DIR": str(files.directory), "URI": uri}
    done = holdfast(*[known.get(option, option) for option in options], check=2)
    assert says in done.stderr


def test_a_bad_file_is_named_with_its_line_before_anything_is_done(files, data):
    two(files, data)
    files.write("0009_bad.yaml", "up:\n  - update:\n      collection: c\n      udpate: {$set: {a: 1}}\n")
    for action in ("status", "dry-run", "up", "down"):
        done = files.run(action, check=2)
        assert "0009_bad.yaml:4: update has no field udpate" in done.stderr
    assert names(files.direct) == ["c"] and files.row(1) is None

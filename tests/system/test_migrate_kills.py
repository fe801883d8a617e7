"""holdfast migrate while it, holdfastd and the server are killed, and while others migrate too.

The step adds 1 to every document, so that one that was done twice shows; a writer goes on meanwhile,
whose changes must all be there at the end.
"""

import datetime
import random
import threading

import pymongo
import pytest
from conftest import Stack
from holdfast_testing import wait_until
from migrations import Migrations

DOCUMENTS = 1000
COUNT = {"update": {"collection": "c", "update": {"$inc": {"n": 1}, "$set": {"shape": 2}}}}


class Writer(threading.Thread):
    """A service: adds 1 to random documents, and inserts some, until it is stopped."""

    def __init__(self, stack, database, seed):
        super().__init__()
        self._client = stack.proxy.client(serverSelectionTimeoutMS=60000)
        self._data = self._client[database]
        self._chance = random.Random(seed)
        self._stopping = threading.Event()
        self.added = {}  # _id: what was acknowledged; (low, high) where an answer was lost

    def run(self):
        while not self._stopping.wait(0.002):
            number = self._chance.randrange(DOCUMENTS)
            low, high = self.added.get(number, (0, 0))
            try:
                self._data.c.update_one({"_id": number}, {"$inc": {"w": 1}})
                self.added[number] = (low + 1, high + 1)
            except pymongo.errors.PyMongoError:
                self.added[number] = (low, high + 1)

    def stop(self):
        self._stopping.set()
        self.join()
        self._client.close()


@pytest.fixture
def scene(tmp_path, seed):
    settings = {"unit.lockWait": "1s", "unit.lifetime": "4s", "http.callTimeout": "4s"}
    with Stack(settings) as stack:
        files = Migrations(stack, tmp_path, "shop")
        stack.direct["shop"].c.insert_many([{"_id": i, "v": i} for i in range(DOCUMENTS)])
        files.chance = random.Random(seed)
        files.writer = Writer(stack, "shop", seed)
        files.writer.start()
        try:
            yield files
        finally:
            if files.writer.is_alive():
                files.writer.stop()


def units(files):
    row = files.row(1)
    return row["units"] if row else 0


def let_it_go_on(files, process, at_most=12):
    """Until it has done some more batches, or has ended."""
    wanted = units(files) + files.chance.randrange(1, at_most)
    wait_until(lambda: units(files) >= wanted or not process.running(), 60, "it goes on")


def check_writer(files):
    files.writer.stop()
    found = {d["_id"]: d.get("w", 0) for d in files.direct.c.find()}
    wrong = {
        number: (found[number], bounds)
        for number, bounds in files.writer.added.items()
        if not bounds[0] <= found[number] <= bounds[1]
    }
    assert not wrong and len(files.writer.added) > 20


def check_migrated(files):
    assert files.row(1)["state"] == "applied" and files.row(1)["documents"] == DOCUMENTS
    assert files.direct.c.count_documents({"n": 1, "shape": 2}) == DOCUMENTS
    check_writer(files)


def test_killed_again_and_again_it_does_each_document_once(scene):
    scene.up_of("1_it.yaml", COUNT)
    for _ in range(5):
        process = scene.start("up", "--batch", "20")
        let_it_go_on(scene, process)
        process.kill()
    assert scene.status()[1]["state"] in ("applying", "applied")
    scene.run("up", "--batch", "50")
    check_migrated(scene)
    assert scene.status()[1]["undo"] == "journal"


def test_it_goes_on_by_itself_when_the_proxy_and_the_server_are_killed(scene):
    scene.up_of("1_it.yaml", COUNT)
    process = scene.start("up", "--batch", "20")
    for killed in ("proxy", "server", "proxy"):
        let_it_go_on(scene, process)
        getattr(scene.stack, killed).restart()
    assert process.wait(120) == 0, process.output()
    check_migrated(scene)


def test_undoing_is_killed_too_and_keeps_what_the_writer_has_changed(scene):
    scene.up_of("1_it.yaml", COUNT, {"createIndex": {"collection": "c", "keys": {"n": 1}}})
    scene.run("up", "--batch", "50")
    wait_until(lambda: len(scene.writer.added) > 30, 30, "the writer has changed something")
    undone = lambda: scene.row(1).get("restored", 0)
    for _ in range(3):
        before = undone()
        process = scene.start("down", "--batch", "20")
        wait_until(lambda: undone() > before + 60 or not process.running(), 60, "it goes on")
        process.kill()
    scene.stack.proxy.restart()
    scene.run("down", "--batch", "50", check=1)
    row = scene.row(1)
    assert row["state"] == "undone" and row["restored"] + row["conflicts"] == DOCUMENTS
    left = list(scene.direct.c.find({"n": {"$exists": True}}))
    assert len(left) == row["conflicts"]
    assert all(d["n"] == 1 and d["w"] > 0 for d in left)
    assert list(scene.direct.c.index_information()) == ["_id_"]
    check_writer(scene)


def test_two_at_once_and_one_waits(scene):
    scene.up_of("1_it.yaml", COUNT)
    first = scene.start("up", "--batch", "20", "--throttle", "5ms")
    wait_until(lambda: units(scene) > 2, 30, "the first one is at work")
    assert "is at work" in scene.run("status", check=1).stdout
    refused = scene.run("up", check=3)
    assert f"process {first.pid} on " in refused.stderr and "--wait" in refused.stderr
    second = scene.run("up", "--wait", "60s")
    assert "is migrating this database: waiting" in second.stderr
    assert "applied" not in second.stdout
    assert first.wait(60) == 0, first.output()
    scene.up_of("2_it.yaml", {"update": {"collection": "c", "update": {"$inc": {"m": 1}}}})
    racers = [scene.start("up", "--wait", "60s") for _ in range(3)]
    assert [racer.wait(60) for racer in racers] == [0, 0, 0]
    assert sum("applied   0002_it" in racer.output() for racer in racers) == 1
    assert scene.direct.c.count_documents({"m": 1}) == DOCUMENTS
    check_migrated(scene)


def expire(files):
    past = datetime.datetime(2020, 1, 1)
    files.direct.holdfast_migrations.update_one({"_id": "lock"}, {"$set": {"expiresAt": past}})


def test_one_that_was_taken_for_dead_does_nothing_any_more(scene):
    """Stopped in the middle until its lock has expired: the next one goes on, when the proxy has rolled
    back what it left open; and what it then still sends changes nothing."""
    scene.up_of("1_it.yaml", COUNT)
    first = scene.start("up", "--batch", "20")
    let_it_go_on(scene, first)
    first.send(19)
    expire(scene)
    scene.run("up")
    first.send(18)
    assert first.wait(60) == 3, first.output()
    assert "another process" in first.output()
    check_migrated(scene)


def test_the_lock_of_another_host_is_waited_for_until_it_expires(scene):
    scene.up_of("1_it.yaml", COUNT)
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=2)
    scene.direct.holdfast_migrations.insert_one(
        {"_id": "lock", "owner": "x", "host": "y", "pid": 1, "on": "elsewhere", "expiresAt": soon}
    )
    assert "process 1 on elsewhere" in scene.run("up", check=3).stderr
    scene.run("up", "--wait", "30s")
    check_migrated(scene)


def test_sigterm_ends_it_between_two_units(scene):
    scene.up_of("1_it.yaml", COUNT)
    process = scene.start("up", "--batch", "20")
    let_it_go_on(scene, process)
    assert process.terminate(30) == 2, process.output()
    assert "the next run goes on from here" in process.output()
    assert scene.direct.holdfast_migrations.find_one({"_id": "lock"}) is None
    scene.run("up")
    check_migrated(scene)


def test_on_a_replica_set_there_are_no_images_and_the_down_section_undoes(tmp_path, seed):
    """The units are the server's own transactions: each document once just as well, while a writer
    goes on and the proxy is killed. (The command is not: its open transaction would be the server's to
    expire, which the one of the tests never does.)"""
    with Stack(mode="replicaset") as stack:
        files = Migrations(stack, tmp_path, "shop")
        stack.direct["shop"].c.insert_many([{"_id": i, "v": i} for i in range(DOCUMENTS)])
        files.chance, files.writer = random.Random(seed), Writer(stack, "shop", seed)
        files.writer.start()
        try:
            files.up_of("1_it.yaml", COUNT, down=[{"removeField": {"collection": "c", "fields": ["n", "shape"]}}])
            files.up_of("2_it.yaml", {"createIndex": {"collection": "c", "keys": {"n": 1}}})
            process = files.start("up", "--batch", "20")
            let_it_go_on(files, process)
            assert process.terminate() == 2
            process = files.start("up", "--batch", "20")
            let_it_go_on(files, process)
            stack.proxy.restart()
            assert process.wait(120) == 0, process.output()
            check_migrated(files)
            status = files.status(check=0)
            assert (status[1]["undo"], status[2]["undo"]) == ("file", "journal")
            assert "the engine keeps no images" in status[1]["notByJournal"]
            files.run("down", "--to", "0")
            assert files.direct.c.count_documents({"n": {"$exists": True}}) == 0
            assert list(files.direct.c.index_information()) == ["_id_"]
        finally:
            if files.writer.is_alive():
                files.writer.stop()

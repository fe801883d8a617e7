"""holdfast backup and after-restore: a dump that was taken while everybody wrote becomes whole."""

import json
import pathlib
import pickle
import subprocess
import sys
import threading

import bank
import bson
import pymongo
import pytest
from conftest import DATABASE, RawTransaction, Stack, is_transient
from holdfast_testing import (
    Connection,
    Process,
    Proxy,
    Server,
    ask_control,
    build_bin,
    holdfast,
    wait_until,
)
from holdfast_testing.backup import contents, restore

DUMP = pathlib.Path(__file__).parent / "dump.py"
OWN = ("holdfast",)


@pytest.fixture(scope="module")
def target():
    """A second server, emptied by each test that restores onto it."""
    with Server() as server, server.client() as client:
        server.direct = client
        yield server


@pytest.fixture
def live():
    with Stack({"unit.lockWait": "2s"}) as stack:
        yield stack


def dump_command(stack, directory, pause_ms):
    return [sys.executable, DUMP, stack.server.uri, directory / "dump", pause_ms]


def back_up(stack, directory, *options, command=None, pause_ms=1, check=0):
    """Returns what stands in the backup's file."""
    command = command or dump_command(stack, directory, pause_ms)
    done = holdfast("backup", "--wal", stack.proxy.wal, "--to", directory, *options, "--", *command)
    assert done.returncode == check, done.stderr
    return file_of(directory), done


def file_of(directory):
    return json.loads((directory / "holdfast-backup.json").read_text())


def put_back(target, directory):
    for database in target.direct.list_database_names():
        if database not in ("admin", "config", "local"):
            target.direct.drop_database(database)
    restore(target.direct, pickle.loads((directory / "dump").read_bytes()))
    # A backup is older than ten seconds when it is restored.
    target.direct["holdfast"]["state"].update_one(
        {"_id": "lease"}, {"$set": {"renewedAt": bson.DatetimeMS(1)}}
    )


def after_restore(target, directory, *options, check=0):
    done = holdfast(
        "after-restore", "--backup", directory, "--onto", target.uri, "--json", *options,
        check=check,
    )  # fmt: skip
    return json.loads(done.stdout)


class Appender:
    """Appends numbers to two lists in two collections, in one transaction each, until it is closed.
    `told`: the last one that was acknowledged."""

    def __init__(self, proxy):
        self.told = 0
        self._over = threading.Event()
        self._uri = proxy.uri
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        with pymongo.MongoClient(self._uri) as client:
            lists = [client[DATABASE][name] for name in ("a_list", "z_list")]
            while not self._over.is_set():

                def body(session):
                    for each in lists:
                        change = {"$push": {"list": self.told + 1}}
                        each.update_one({"_id": 1}, change, upsert=True, session=session)

                with client.start_session() as session:
                    session.with_transaction(body)
                self.told += 1

    def close(self):
        self._over.set()
        self._thread.join()


def appended(client):
    """Both lists, which have to be equal, and without gaps."""
    lists = [
        (client[DATABASE][name].find_one(1) or {"list": []})["list"] for name in ("a_list", "z_list")
    ]
    assert lists[0] == lists[1] == list(range(1, len(lists[0]) + 1))
    return len(lists[0])


class Load:
    """Transfers of money and appends to lists through the proxy, and two units that stay open: they
    have written before the dump begins, and end after it, one by commit, one by abort."""

    def __init__(self, stack):
        self.stack = stack
        bank.open_accounts(stack.direct[DATABASE])
        stack.direct[DATABASE].held.insert_many([{"_id": n, "v": 0} for n in range(4)])
        self.connections = [Connection(stack.proxy.port) for _ in range(2)]
        self.units = [RawTransaction(connection) for connection in self.connections]
        for number, unit in enumerate(self.units):
            for _id in (2 * number, 2 * number + 1):
                assert unit.update("held", {"_id": _id}, {"$set": {"v": 1}})["ok"] == 1
        self.workers = [bank.start_worker(stack.proxy.uri, str(seed)) for seed in range(2)]
        self.appender = Appender(stack.proxy)
        wait_until(lambda: self.appender.told > 3 and self.transfers() > 3, 30, "the load works")

    def transfers(self):
        return min(len(bank.acknowledged_by(worker)) for worker in self.workers)

    def acknowledged(self):
        return set().union(*(bank.acknowledged_by(worker) for worker in self.workers))

    def end(self):
        self.appender.close()
        for worker in self.workers:
            worker.kill()
        for unit, end in zip(self.units, ("commit", "abort"), strict=True):
            assert getattr(unit, end)()["ok"] == 1
        for connection in self.connections:
            connection.__exit__()


def check(client, before):
    """What holds whichever unit is there: the bank, the lists, and all that was acknowledged before."""
    transfers, told = before
    bank.check(client[DATABASE], transfers)
    assert appended(client) >= told
    values = {d["_id"]: d["v"] for d in client[DATABASE].held.find()}
    assert values[0] == values[1] and values[2] == values[3] == 0
    return values


@pytest.mark.parametrize("way", ["its own journal", "the living journal"])
def test_a_dump_under_load_becomes_whole(live, target, tmp_path, way):
    """Bank and lists are torn in the dump, and hold after one command."""
    load = Load(live)
    try:
        before = load.acknowledged(), load.appender.told
        file, _ = back_up(live, tmp_path)
        after = load.acknowledged(), load.appender.told
        assert file["finished"] and not file["paused"] and file["journalCopied"]
        assert file["untilLsn"] > file["fromLsn"] > 0
        assert after[1] > before[1] + 3, "nobody wrote during the dump"
    finally:
        load.end()
    live.proxy.stop()

    put_back(target, tmp_path)
    options = ("--wal", live.proxy.wal) if way == "the living journal" else ()
    looked = after_restore(target, tmp_path, "--dry-run", *options)
    done = after_restore(target, tmp_path, *options)
    assert done["moved"] == looked["moved"] > 0 and done["conflictCount"] == 0 and done["whole"]
    values = check(target.direct, before)
    if way == "the living journal":
        assert values[0] == 1
        assert contents(target.direct, OWN) == contents(live.direct, OWN)
        wal = live.proxy.wal
    else:
        assert values[0] == 0  # not committed when the journal was copied
        wal = tmp_path / "journal"
        # A dump without the database holdfast: the backup's file vouches for it.
        whole = contents(target.direct, OWN)
        put_back(target, tmp_path)
        target.direct.drop_database("holdfast")
        assert after_restore(target, tmp_path)["moved"] == done["moved"]
        assert contents(target.direct, OWN) == whole

    # The proxy goes on with database and journal, as if nothing had been.
    settings = {"upstream.fenceWait": "100ms"}
    with Proxy(target, settings, wal=wal) as proxy, Connection(proxy.port) as connection:
        unit = RawTransaction(connection)
        assert unit.update("held", {"_id": 3}, {"$set": {"v": 5}})["ok"] == 1
        assert unit.commit()["ok"] == 1
        assert proxy.stop() == 0
    assert target.direct[DATABASE].held.find_one(3)["v"] == 5
    live.proxy.start()


class PlainWriter:
    """Counts up in one collection, then in another, by plain writes that no journal knows."""

    def __init__(self, proxy):
        self.told = 0
        self.failures = 0
        self._over = threading.Event()
        self._uri = proxy.uri
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        with pymongo.MongoClient(self._uri, retryWrites=False) as client:
            counters = [client[DATABASE][name] for name in ("a_count", "z_count")]
            while not self._over.wait(0.001):
                for counter in counters:
                    while not self._over.is_set() and not self._count(counter):
                        pass
                self.told += 1

    def _count(self, counter):
        try:
            counter.update_one({"_id": 1}, {"$set": {"n": self.told + 1}}, upsert=True)
            return True
        except pymongo.errors.PyMongoError:
            self.failures += 1  # it waited longer than unit.lockWait
            return False

    def close(self):
        self._over.set()
        self._thread.join()


def test_a_pause_makes_the_dump_of_one_moment(live, target, tmp_path):
    """No write of any kind passes while the dump runs; afterwards all go on."""
    appender, writer = Appender(live.proxy), PlainWriter(live.proxy)
    try:
        wait_until(lambda: appender.told > 3 and writer.told > 3, 30, "they write")
        live.direct[DATABASE].filler.insert_many([{"_id": n} for n in range(100)])
        file, done = back_up(live, tmp_path, "--pause", pause_ms=5)
        assert file["paused"] and "of one moment" in done.stderr
        told = appender.told, writer.told
        wait_until(lambda: appender.told > told[0] and writer.told > told[1], 30, "writes go on")
    finally:
        appender.close()
        writer.close()
    put_back(target, tmp_path)
    counts = [target.direct[DATABASE][name].find_one(1)["n"] for name in ("a_count", "z_count")]
    assert counts[0] - counts[1] in (0, 1)  # at most the one that is between its writes
    assert appended(target.direct) > 0  # whole without any journal
    live.proxy.stop()
    assert after_restore(target, tmp_path)["conflictCount"] == 0
    appended(target.direct)
    live.proxy.start()


def ask(stack, target):
    code, answer = ask_control(stack.proxy, target, "POST")
    assert code == 200, answer
    return answer


def pause(stack, milliseconds=1000):
    return ask(stack, f"/backup?for={milliseconds}&keep=0&pause=1")["pause"]


def test_a_pause_ends_with_its_asker(live):
    """It waits for open units, refuses new ones after unit.lockWait, and ends when nobody asks for it
    again."""
    with Connection(live.proxy.port) as connection, Connection(live.proxy.port) as other:
        unit = RawTransaction(connection)
        unit.insert("things", {"_id": 1})
        assert ask(live, "/backup?for=1000&keep=0&pause=1")["unitsOpen"] == 1
        wait_until(lambda: pause(live) == "waiting", 10, "it waits for the unit")
        assert unit.commit()["ok"] == 1
        wait_until(lambda: pause(live, 4000) == "held", 10, "it holds")
        refused = RawTransaction(other).insert("things", {"_id": 2})
        assert refused["code"] == 112 and is_transient(refused)
        with live.proxy.client() as client:
            client[DATABASE].things.insert_one({"_id": 3})  # waits until nobody has asked again
    assert set(live.stored("things")) == {1, 3}
    assert ask(live, "/backup?for=0")["pause"] == "none"


def test_killed_in_the_middle_it_is_no_backup(live, target, tmp_path):
    """The command ends with it, the file says so, and writes go on."""
    command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
    arguments = ["backup", "--wal", live.proxy.wal, "--to", tmp_path, "--pause", "--", *command]
    killed = Process([str(build_bin() / "holdfast"), *map(str, arguments)], name="backup")
    wait_until(lambda: "up" in killed.lines, 30, "the command runs")
    killed.kill()
    assert not file_of(tmp_path)["finished"]
    done = holdfast("after-restore", "--backup", tmp_path, "--onto", target.uri, check=2)
    assert "not finished" in done.stderr
    ask(live, "/backup?for=0")
    with live.proxy.client() as client:
        client[DATABASE].things.insert_one({"_id": 1})


def test_the_commands_exit_code_is_kept(live, tmp_path):
    file, done = back_up(live, tmp_path / "a", command=["sh", "-c", "exit 7"], check=7)
    assert not file["finished"] and file["exitCode"] == 7 and "no backup" in done.stderr
    assert back_up(live, tmp_path / "b", command=["/nonexistent/dump"], check=127)
    secret = ["true", "--uri=mongodb://u:secret@h/"]
    file, _ = back_up(live, tmp_path / "c", "--without-journal", command=secret)
    assert file["finished"] and not file["journalCopied"] and "secret" not in str(file)


def test_retention_keeps_what_a_backup_needs(live, tmp_path):
    """Units that end during the dump stay, whoever prunes meanwhile; those before may go."""
    some_units = [
        sys.executable, "-c",
        "import pymongo, sys; c = pymongo.MongoClient(sys.argv[1])\n"
        "for n in range(5): c.test.during.insert_one({'_id': n})",
        live.proxy.uri,
    ]  # fmt: skip
    subprocess.run([*some_units[:-2], some_units[-2].replace("during", "before"), live.proxy.uri],
                   check=True)  # fmt: skip
    prune = f"{build_bin()}/holdfast prune --yes --before 0s --wal {live.proxy.wal}"
    script = tmp_path / "both.sh"
    script.write_text(f"{subprocess.list2cmdline(some_units[:1])} - {live.proxy.uri} <<'EOP'\n"
                      f"{some_units[2]}\nEOP\nsleep 0.1; {prune} >&2\n")  # fmt: skip
    file, done = back_up(live, tmp_path / "backup", command=["sh", script])
    kept = [
        json.loads(line)["ns"]
        for line in holdfast("export", "--wal", live.proxy.wal).stdout.splitlines()
        if json.loads(line)["type"] == "write"
    ]
    assert kept.count("test.during") == 5 and "test.before" not in kept, done.stderr


def test_what_does_not_belong_together_is_refused(live, target, tmp_path):
    """Each with its reason; nothing is changed."""
    with live.proxy.client() as client:
        client[DATABASE].things.insert_one({"_id": 1})
    back_up(live, tmp_path / "one")
    put_back(target, tmp_path / "one")
    again = holdfast("backup", "--wal", live.proxy.wal, "--to", tmp_path / "one", "--", "true")
    assert again.returncode == 2 and "is there" in again.stderr
    for options, why in (
        (("--backup", tmp_path), "cannot read"),
        ((), "--backup DIR"),
        (("--backup", tmp_path / "one", "--until", "1"), "may show what happened"),
    ):
        done = holdfast("after-restore", "--onto", target.uri, *options, check=2)
        assert why in done.stderr, done.stderr
    with Stack() as other:
        done = holdfast("after-restore", "--onto", target.uri, "--backup", tmp_path / "one",
                        "--wal", other.proxy.wal, check=2)  # fmt: skip
        assert "is of journal" in done.stderr
    for options, why in (
        (("--wal", live.proxy.wal, "--to", tmp_path / "x"), "what makes the dump"),
        (("--wal", live.proxy.wal, "--", "true"), "--to DIR"),
        (("--wal", tmp_path / "none", "--to", tmp_path / "x", "--", "true"), "cannot look"),
    ):
        assert why in holdfast("backup", *options, check=2).stderr
    live.proxy.stop()
    done = holdfast("backup", "--wal", live.proxy.wal, "--to", tmp_path / "y", "--pause", "--",
                    "true", check=2)  # fmt: skip
    assert "no holdfastd is alive" in done.stderr
    assert holdfast("backup", "--wal", live.proxy.wal, "--to", tmp_path / "z", "--", "true",
                    check=0)  # fmt: skip
    live.proxy.start()


def test_before_a_replica_set_it_is_refused(tmp_path):
    """The journal has no images there that could mend a dump."""
    with Server(mode="replicaset") as server, Proxy(server) as proxy:
        done = holdfast("backup", "--wal", proxy.wal, "--to", tmp_path, "--", "true", check=2)
        assert "mongodump --oplog" in done.stderr
        assert proxy.stop() == 0

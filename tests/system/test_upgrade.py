"""An upgrade in place: SIGUSR2 puts another process of the program in the place of the running one, and
no client sees more of it than a moment's wait."""

import contextlib
import http.client
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

import pytest
from conftest import DATABASE, RawTransaction, Stack, is_transient
from holdfast_testing import (
    Authority,
    Connection,
    FakeReplicaSet,
    Later,
    Process,
    Proxy,
    Server,
    Successor,
    admin_port,
    ask_admin,
    ask_control,
    build_bin,
    holdfast,
    wait_until,
)
from http_stack import HttpStack
from pymongo.monitoring import ConnectionPoolListener
from test_service_manager import Manager

SETTINGS = {"unit.lockWait": "2s", "upgrade.wait": "5s"}
# Whatever goes wrong shows: no driver hides it by trying again.
USER = ("bob", "pass word", [("readWrite", DATABASE)])
NO_RETRIES = {"retryWrites": False, "retryReads": False}


class Load:
    """Clients that work without a pause, each in a thread. `done`: what each was told is done."""

    def __init__(self):
        self.ending = threading.Event()
        self.threads = []
        self.errors = []
        self.done = {}

    def start(self, name, step, count=1):
        for number in range(count):
            key = f"{name}-{number}"
            self.done[key] = []
            thread = threading.Thread(target=self._run, args=(key, step), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _run(self, key, step):
        while not self.ending.is_set():
            try:
                self.done[key].append(step(key, len(self.done[key])))
            except Exception as error:  # noqa: BLE001: each is this test's failure
                self.errors.append((key, time.monotonic(), repr(error)))
                return

    def progress(self):
        return {key: len(done) for key, done in self.done.items()}

    def wait_for_progress(self, steps=2, timeout=60):
        """Everybody has got on."""
        before = self.progress()
        wait_until(
            lambda: self.errors
            or all(now - before[key] >= steps for key, now in self.progress().items()),
            timeout,
            "every client gets on",
        )
        assert not self.errors, self.errors

    def end(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()
        assert not self.errors, self.errors


def start_load(load, client, name, many=True):
    """Plain writes of one document and of many, reads, and transactions over two documents."""
    accounts = client[DATABASE][f"{name}-accounts"]
    accounts.insert_many([{"_id": i, "balance": 100} for i in range(10)])
    client[DATABASE][f"{name}-many"].insert_many([{"_id": i, "n": 0} for i in range(5)])
    client[DATABASE][f"{name}-transfers"].insert_one({"_id": "first"})

    def plain(key, number):
        client[DATABASE][f"{name}-plain"].insert_one({"_id": f"{key}/{number}"})
        return f"{key}/{number}"

    def many_at_once(key, number):
        result = client[DATABASE][f"{name}-many"].update_many({}, {"$inc": {"n": 1}})
        assert result.modified_count == 5

    def read(key, number):
        assert sum(d["balance"] for d in accounts.find({})) == 1000

    def transfer(key, number):
        def body(session):
            source, target = number % 10, (number * 7 + hash(key)) % 10
            accounts.update_one({"_id": source}, {"$inc": {"balance": -1}}, session=session)
            accounts.update_one({"_id": target}, {"$inc": {"balance": 1}}, session=session)
            client[DATABASE][f"{name}-transfers"].insert_one(
                {"_id": f"{key}/{number}"}, session=session
            )

        with client.start_session() as session:
            session.with_transaction(body)
        return f"{key}/{number}"

    load.start("plain", plain, 3)
    if many:
        load.start("many", many_at_once)
    load.start("read", read, 2)
    load.start("transfer", transfer, 3)


def start_libmongoc(stack, name, mode):
    """The C driver, which ends at the first error that its application sees."""
    options = "?retryWrites=false&retryReads=false"
    program = build_bin() / "driver_libmongoc"
    return Process([program, stack.proxy.uri + options, f"{name}-c-{mode}", "1000000", mode])


def check_load(load, stack, name):
    plain = {i for key, ids in load.done.items() if key.startswith("plain") for i in ids}
    transfers = {i for key, ids in load.done.items() if key.startswith("transfer") for i in ids}
    assert plain <= set(stack.stored(f"{name}-plain"))
    assert transfers | {"first"} == set(stack.stored(f"{name}-transfers"))
    assert sum(d["balance"] for d in stack.stored(f"{name}-accounts").values()) == 1000
    if "many-0" not in load.done:
        return
    counts = {d["n"] for d in stack.stored(f"{name}-many").values()}
    assert counts == {len(load.done["many-0"])}


class PoolEvents(ConnectionPoolListener):
    """What a driver's pool and its monitor notice."""

    def __init__(self):
        self.noticed = []

    def _note(self, event):
        self.noticed.append(type(event).__name__)

    connection_created = connection_closed = pool_cleared = _note
    pool_created = pool_ready = pool_closed = connection_ready = lambda *_: None
    connection_check_out_started = connection_check_out_failed = lambda *_: None
    connection_checked_out = connection_checked_in = lambda *_: None


def test_clients_stay(name):
    """Connections go over to the new process: nothing is closed, nobody has to log in again, cursors go on, and
    a driver's monitor, which waits for an answer all the time, sees nothing."""
    events = PoolEvents()
    with Stack(auth=True, users=[USER]) as stack:
        uri = stack.proxy.uri
        with stack.proxy.client(user=USER[:2], event_listeners=[events], **NO_RETRIES) as client:
            collection = client[DATABASE][name]
            collection.insert_many([{"_id": i} for i in range(20)])
            cursor = collection.find({}, batch_size=3)
            seen = [next(cursor)["_id"] for _ in range(4)]
            who = client.admin.command("connectionStatus")["authInfo"]
            events.noticed.clear()
            for generation in range(2, 5):
                former = stack.proxy.upgrade()
                assert stack.proxy.process.pid != former.pid and stack.proxy.uri == uri
                collection.insert_one({"_id": generation * 100})
                seen += [next(cursor)["_id"] for _ in range(4)]
                assert client.admin.command("connectionStatus")["authInfo"] == who
            assert seen == list(range(16))
            assert events.noticed == []
        files = [os.readlink(at) for at in pathlib.Path(f"/proc/{stack.proxy.process.pid}/fd").iterdir()]
        journal = [name for name in files if name.endswith("data.mdb")]
        assert len(journal) == 2, files  # what LMDB has open, and nothing of earlier processes
        status = json.loads(holdfast("status", "--json", "--wal", stack.proxy.wal, check=0).stdout)
        assert status["process"]["generation"] == 4
        assert status["process"]["pid"] == stack.proxy.process.pid


def test_ten_upgrades_under_load(name):
    """Without any retry of a driver's, no client sees an error, and what it was told is done is there, once."""
    load = Load()
    with Stack(SETTINGS) as stack, stack.proxy.client(**NO_RETRIES) as client:
        start_load(load, client, name)
        drivers = [start_libmongoc(stack, name, mode) for mode in ("plain", "transactions")]
        load.wait_for_progress()
        for _ in range(10):
            stack.proxy.upgrade()
            load.wait_for_progress()
        load.end()
        for driver in drivers:
            assert driver.running(), driver.tail()
            driver.kill()
            assert len(driver.lines) > 20
        print(load.progress())
        check_load(load, stack, name)
        assert client.admin.command("ping")["ok"] == 1


# ---------------------------------------------------------------- transactions across it


def test_a_transaction_that_ends_in_time_loses_nothing(name):
    """What begins waits for it; it goes on by any connection, an old one or one that is made meanwhile."""
    with Stack({**SETTINGS, "upgrade.wait": "60s"}) as stack, stack.proxy.client() as client:
        plain = client[DATABASE][f"{name}-plain"]
        plain.insert_one({"_id": "before"})
        with Connection(stack.proxy.port) as raw:
            unit = RawTransaction(raw)
            assert unit.insert(name, {"_id": 1})["ok"] == 1
            stack.proxy.begin_upgrade()
            wait_until(lambda: said(stack, "waiting for open units"), 30, "it waits")
            late = Load()
            late.start("late", lambda key, number: plain.insert_one({"_id": f"{key}/{number}"}))
            assert plain.find_one({"_id": "before"}) is not None  # reads go on
            assert unit.insert(name, {"_id": 2})["ok"] == 1
            with Connection(stack.proxy.port) as other:
                assert unit.insert(name, {"_id": 3}, connection=other)["ok"] == 1
            assert late.progress() == {"late-0": 0}
            assert stack.proxy.process.running() and stack.stored(f"{name}-plain").keys() == {"before"}
            assert unit.commit()["ok"] == 1
            stack.proxy.finish_upgrade()
            late.wait_for_progress()
            late.end()
            assert unit.commit()["ok"] == 1  # asked again, of the other process
            assert unit.next().insert(name, {"_id": 4})["ok"] == 1 and unit.commit()["ok"] == 1
        assert stack.stored(name).keys() == {1, 2, 3, 4}


def test_a_transaction_that_takes_too_long_is_rolled_back(name):
    """With the error that has the driver run it again, in the new process."""
    with Stack({**SETTINGS, "upgrade.wait": "300ms"}) as stack, Connection(stack.proxy.port) as raw:
        unit = RawTransaction(raw)
        assert unit.insert(name, {"_id": 1})["ok"] == 1
        stack.proxy.upgrade()
        reply = unit.insert(name, {"_id": 2})
        assert is_transient(reply) and reply["codeName"] == "NoSuchTransaction", reply
        again = unit.next()
        assert again.insert(name, {"_id": 1})["ok"] == 1 and again.commit()["ok"] == 1
        assert stack.stored(name).keys() == {1}
        (unit,) = [unit for unit in stack.proxy.units() if unit["state"] == "aborted"]


def said(stack, message):
    return [entry for entry in stack.proxy.log() if message in entry["msg"]]


# ---------------------------------------------------------------- what cannot take its place


@pytest.fixture
def installed(tmp_path):
    """A proxy whose program can be replaced: (the stack, the path)."""
    path = tmp_path / "holdfastd"
    path.symlink_to(build_bin() / "holdfastd")
    config = tmp_path / "holdfast.yaml"
    config.write_text("unit:\n  lockWait: 2s\n")
    with Server() as server:
        with Proxy(server, program=path, options=["--config", str(config)]) as proxy:
            proxy.config = config
            yield proxy


def replace(path, text, mode=0o755):
    """As a package does: the new file takes the name."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.chmod(mode)
    new.rename(path)


BAD_PROGRAMS = {
    "not executable": (lambda path: replace(path, "x", 0o644), "Permission denied"),
    "gone": (lambda path: path.unlink(), "No such file"),
    "no program": (lambda path: replace(path, "\x7fELF, but not really"), "format"),
    "ends at once": (lambda path: replace(path, "#!/bin/sh\nexit 3\n"), "has ended"),
}


def fails(proxy, reason):
    """The command says so, and so do log, status and metrics; nothing else changes."""
    pid = proxy.process.pid
    before = json.loads(holdfast("status", "--json", "--wal", proxy.wal).stdout)["process"]
    done = holdfast("upgrade", "--wal", proxy.wal, check=1)
    assert reason in done.stdout and "goes on serving" in done.stdout, done.stdout
    status = json.loads(holdfast("status", "--json", "--wal", proxy.wal).stdout)["process"]
    assert status["pid"] == pid and status["upgrade"] == "none"
    assert status["upgradesFailed"] == before["upgradesFailed"] + 1
    assert reason in status["upgradeFailure"]
    assert status["generation"] == before["generation"]
    events = [e["attr"]["reason"] for e in proxy.log() if e["c"] == "event"]
    assert events.count("UpgradeFailed") == status["upgradesFailed"]


def test_a_program_that_cannot_start_changes_nothing(installed, name, tmp_path):
    """The running one serves on, also its open transaction; the next upgrade, to a good one, works."""
    proxy, path = installed, tmp_path / "holdfastd"
    with proxy.client(**NO_RETRIES) as client, Connection(proxy.port) as raw:
        unit = RawTransaction(raw)
        assert unit.insert(name, {"_id": "open"})["ok"] == 1
        for what, (change, reason) in BAD_PROGRAMS.items():
            change(path)
            fails(proxy, reason)
            client[DATABASE][name].insert_one({"_id": what})
        path.unlink(missing_ok=True)
        path.symlink_to(build_bin() / "holdfastd")
        proxy.config.write_text("unit:\n  lockWait: 2s\nlog:\n  level: loud\n")
        fails(proxy, "log.level")
        proxy.config.write_text("wal:\n  directory: /elsewhere\n")
        proxy.config.write_text("unit:\n  lockWait: 1s\n")
        assert unit.commit()["ok"] == 1
        Successor.expect()
        proxy._upgrades, proxy._failures = 0, proxy._upgrades_failed()
        done = holdfast("upgrade", "--wal", proxy.wal, "--json", check=0)
        assert json.loads(done.stdout)["upgraded"] is True
        proxy.finish_upgrade()
        assert json.loads(done.stdout)["pid"] == proxy.process.pid
        client[DATABASE][name].insert_one({"_id": "after"})
        assert client[DATABASE][name].count_documents({}) == len(BAD_PROGRAMS) + 2


# ---------------------------------------------------------------- signals, and who else is told


def open_and_upgrade(stack, raw, name):
    """A transaction keeps the upgrade waiting; the pid of the new process."""
    unit = RawTransaction(raw)
    assert unit.insert(name, {"_id": 1})["ok"] == 1
    Successor.expect()
    stack.proxy.begin_upgrade()
    (entry,) = wait_until(lambda: said(stack, "waiting for open units"), 30, "it waits")
    return unit, entry["attr"]["pid"]


def test_a_second_signal_is_ignored(name):
    with Stack(SETTINGS) as stack, Connection(stack.proxy.port) as raw:
        unit, pid = open_and_upgrade(stack, raw, name)
        stack.proxy.process.send(signal.SIGUSR2)
        wait_until(lambda: said(stack, "the signal is ignored"), 20, "it says so")
        done = holdfast("upgrade", "--wal", stack.proxy.wal, check=2)
        assert "an upgrade is under way" in done.stderr
        assert unit.commit()["ok"] == 1
        stack.proxy.finish_upgrade()
        assert stack.proxy.process.pid == pid
        assert len(said(stack, "Upgrade begins")) == 1


def test_the_end_in_the_middle_of_it(name):
    """SIGTERM: the new process goes, the old one drains and ends as ever."""
    with Stack(SETTINGS) as stack, Connection(stack.proxy.port) as raw:
        unit, pid = open_and_upgrade(stack, raw, name)
        new = Successor(stack.proxy.process, pid)
        stack.proxy.process.succeeded = False
        stack.proxy.process.send(signal.SIGTERM)
        wait_until(lambda: said(stack, "Draining"), 20, "it drains")
        assert unit.commit()["ok"] == 1
        assert stack.proxy.process.wait() == 0
        assert not new.running()
        assert stack.stored(name).keys() == {1}
        assert not said(stack, "Handed over")


def test_the_new_process_is_told_to_end(name):
    """While it waits for the journal: the old one serves on."""
    with Stack(SETTINGS) as stack, Connection(stack.proxy.port) as raw:
        unit, pid = open_and_upgrade(stack, raw, name)
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: said(stack, "The upgrade has failed"), 20, "it has failed")
        assert unit.insert(name, {"_id": 2})["ok"] == 1 and unit.commit()["ok"] == 1
        other = RawTransaction(raw, number=2)
        assert other.insert(name, {"_id": 3})["ok"] == 1 and other.commit()["ok"] == 1


def test_the_service_manager_follows(tmp_path):
    """Which process is the service now; that one's watchdog is fed, and its end told."""
    with Manager() as manager:
        with Stack(environment=manager.environment(watchdog_ms=3000)) as stack:
            manager.wait_for("READY=1")
            former = stack.proxy.upgrade()
            assert not any("STOPPING" in message for message in manager.heard)
            pid = stack.proxy.process.pid
            assert manager.wait_for("MAINPID") == f"MAINPID={pid}" and pid != former.pid
            manager.wait_for(f"READY=1\nSTATUS=Serving clients on {stack.proxy.address}")
            assert not any("STOPPING" in message for message in manager.heard)
            manager.wait_for("WATCHDOG=1")
            manager.wait_for("WATCHDOG=1")
            assert stack.proxy.stop() == 0
            manager.wait_for("STOPPING=1")


def test_admin_port_and_log_go_over(name, tmp_path):
    """Both stay where they are; metrics count the upgrades, and a lease is taken anew without a wait."""
    settings = {"admin.listen": "127.0.0.1:0", "log.path": tmp_path / "log"}
    with Stack(settings) as stack:
        port = admin_port(stack.proxy)
        epoch = stack.direct.holdfast.state.find_one({"_id": "lease"})["epoch"]
        stack.proxy.upgrade()
        assert admin_port(stack.proxy) == port
        code, ready = ask_admin(stack.proxy, "/readyz")
        assert code == 200 and ready["ready"] is True
        code, text = ask_admin(stack.proxy, "/metrics")
        assert code == 200 and "holdfast_generation 2\n" in text
        assert 'holdfast_upgrades_total{result="finished"} 1\n' in text
        assert 'holdfast_upgrades_total{result="failed"} 0\n' in text
        lease = stack.direct.holdfast.state.find_one({"_id": "lease"})
        assert lease["epoch"] == epoch + 1 and lease["pid"] == stack.proxy.process.pid
        handed = said(stack, "Handed over")[0]["attr"]
        assert handed["milliseconds"] < 9000  # less than a lease lasts


def test_a_changed_configuration_is_taken(installed, name):
    """The new process reads it anew; what cannot change under clients is refused."""
    proxy = installed
    with proxy.client(**NO_RETRIES) as client:
        client[DATABASE][name].insert_one({"_id": 1})
        proxy.config.write_text("unit:\n  lockWait: 3s\nnet:\n  threads: 3\n")
        proxy.upgrade()
        client[DATABASE][name].insert_one({"_id": 2})
        assert client[DATABASE][name].count_documents({}) == 2


class InContainer(Proxy):
    """The first process of a PID namespace, as in a container."""

    def arguments(self):
        return ["unshare", "--pid", "--fork", "--kill-child", *super().arguments()]

    def first_process(self):
        """As it is called outside."""
        return int(pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text())


def test_the_first_process_of_a_container_stays():
    """Process 1, which stays behind, passes signals on to the new process, and ends as that does."""
    if subprocess.run(["unshare", "--pid", "--fork", "true"]).returncode != 0:
        pytest.skip("no right to make a PID namespace")
    with Server() as server, InContainer(server) as proxy:
        with proxy.client(**NO_RETRIES) as client:
            for count in (1, 2):
                os.kill(proxy.first_process(), signal.SIGUSR2)
                wait_until(
                    lambda count=count: proxy._count_lines("Upgrade finished") == count, 10, f"done: {proxy.process.tail()}"
                )
                client[DATABASE].c.insert_one({"_id": count})
            assert proxy.process.running()
        os.kill(proxy.first_process(), signal.SIGTERM)
        assert proxy.process.wait() == 0
        assert sum("Ended cleanly" in line for line in proxy.log_lines()) == 3


# ---------------------------------------------------------------- a replica set


def test_with_the_native_engine(name):
    """Transactions are the server's: they stay open through an upgrade, however long they last."""
    load = Load()
    with Stack({**SETTINGS, "upgrade.wait": "0"}, mode="replicaset") as stack:
        names = ("", "-plain", "-accounts", "-many", "-transfers")
        for collection in names:
            stack.direct[DATABASE].create_collection(name + collection)
        with stack.proxy.client(**NO_RETRIES) as client, Connection(stack.proxy.port) as raw:
            unit = RawTransaction(raw)
            assert unit.insert(name, {"_id": 1})["ok"] == 1
            start_load(load, client, name, many=False)
            load.wait_for_progress()
            for _ in range(2):
                stack.proxy.upgrade()
                load.wait_for_progress()
            assert unit.insert(name, {"_id": 2})["ok"] == 1
            assert unit.commit()["ok"] == 1
            load.end()
            check_load(load, stack, name)
        assert stack.stored(name).keys() == {1, 2}


def test_where_the_primary_is_followed():
    """A connection goes over with the server that it is at, one without a server without: both find the
    next primary. (A fake set of three nodes, as in test_failover.)"""
    with FakeReplicaSet(3) as members, Proxy(members.uri) as proxy:
        with Connection(proxy.port, 30) as raw, Connection(proxy.port, 30) as other:

            def insert(connection, identity):
                command = {"insert": "c", "documents": [{"_id": identity}], "$db": "test"}
                assert connection.run(command)["ok"] == 1

            insert(raw, 1)
            insert(other, 2)
            proxy.upgrade()
            insert(raw, 3)
            members.step_down()
            primary = members.primary.address
            wait_until(
                lambda: ask_control(proxy, "/status")[1]["upstream"]["current"] == primary, 10, "noticed"
            )
            insert(raw, 4)
            proxy.upgrade()
            insert(raw, 5)
            insert(other, 6)
            with members.changed:
                data = members.primary.data["test.c"]
                assert {d["_id"] for d in data.values()} == {1, 2, 3, 4, 5, 6}
        assert proxy.stop() == 0


def test_no_read_elsewhere_begins_when_all_is_to_rest():
    """Nor of a client for which there is no primary: it would be cut off in the middle of it."""
    read = {"find": "c", "$db": "test", "$readPreference": {"mode": "secondary"}}
    goes_on = threading.Event()
    begun = []

    def hold(node, name, command):
        begun.append(command.get("comment"))
        if command.get("comment") == "long":
            assert goes_on.wait(60)

    def told(message):
        return any(entry["msg"].startswith(message) for entry in proxy.log())

    with FakeReplicaSet(3) as members, contextlib.ExitStack() as open_ones:
        proxy = open_ones.enter_context(Proxy(members.uri, {"upstream.connectTimeout": "1s", "upgrade.wait": "60s"}))
        one, other, third = (open_ones.enter_context(Connection(proxy.port, 60)) for _ in range(3))
        for each in (one, other, third):
            assert each.run({**read, "comment": "first"})["ok"] == 1
        members.on_command = hold
        long = Later(lambda: one.run({**read, "comment": "long"}))
        wait_until(lambda: "long" in begun, 10, "it is on its way")
        proxy.begin_upgrade()
        wait_until(lambda: told("The new process is ready"), 60, "it waits for what is on its way")

        def ping():
            return Later(lambda: third.run({"ping": 1, "$db": "test"}))

        wait_until(lambda: ping().waits(0.5), 30, "nothing begins any more")
        members.election_delay = 3600
        members.kill(members.primary)
        wait_until(lambda: told("No server to send commands to"), 10, "it is noticed")
        late = Later(lambda: other.run({**read, "comment": "late"}))
        assert late.waits(0.5) and "late" not in begun
        goes_on.set()
        assert long.result()["ok"] == 1
        wait_until(lambda: told("The upgrade has failed"), 30, "without a primary there is none")
        assert late.result()["ok"] == 1 and "late" in begun


def test_a_backup_that_has_writes_wait_excludes_it(name):
    with Stack() as stack:
        assert ask_control(stack.proxy, "/backup?for=20000&keep=0&pause=1", "POST")[0] == 200
        done = holdfast("upgrade", "--wal", stack.proxy.wal, check=1)
        assert "a backup" in done.stdout
        assert ask_control(stack.proxy, "/backup?for=0", "POST")[0] == 200
        wait_until(
            lambda: ask_control(stack.proxy, "/backup?for=0", "POST")[1]["pause"] == "none", 10, "over"
        )
        stack.proxy.upgrade()


# ---------------------------------------------------------------- TLS


def test_with_tls(name, tmp_path):
    """What TLS has agreed on cannot be moved: connections are closed between commands, and drivers make new
    ones. Nobody is refused, and what may be retried is."""
    authority = Authority(tmp_path)
    certificate = authority.issue("holdfast")
    tls = {"net.tls.mode": "requireTLS", "net.tls.certificateKeyFile": certificate}
    load = Load()
    with Stack({**SETTINGS, **tls}) as stack:
        with stack.proxy.client(tls=True, tlsCAFile=str(authority.file)) as client:
            start_load(load, client, name, many=False)
            load.wait_for_progress()
            for _ in range(3):
                stack.proxy.upgrade()
                load.wait_for_progress()
            load.end()
            check_load(load, stack, name)


# ---------------------------------------------------------------- API calls


def test_calls(name):
    """An open call is waited for; those that come meanwhile wait, and go over to the new process. No caller
    sees an error, and each call is done once."""
    done, load = set(), Load()
    with HttpStack({**SETTINGS, "upgrade.wait": "20s"}) as stack:

        def handler(request):
            number = request.path.split("?")[1]
            stack.collection(name).insert_one({"_id": f"{number}/first"})
            stack.collection(name).insert_one({"_id": f"{number}/second"})
            return 200

        slow, gate = threading.Event(), threading.Event()

        def slow_handler(request):
            stack.collection(name).insert_one({"_id": "slow/first"})
            slow.set()
            assert gate.wait(30)
            stack.collection(name).insert_one({"_id": "slow/second"})
            return 200

        def caller(key, number):
            answer = stack.call(f"/two?{key}-{number}", {"some": "body"})
            assert answer.status == 200, (answer.status, answer.body)
            done.add(f"{key}-{number}")

        kept = http.client.HTTPConnection("127.0.0.1", stack.http_port, timeout=20)

        def keeps_its_connection(key, number):
            kept.request("POST", f"/two?{key}-{number}", b"x" * 100)
            response = kept.getresponse()
            assert (response.status, response.getheader("Connection")) == (200, None), response.read()
            response.read()
            done.add(f"{key}-{number}")

        stack.service.handlers.update({"/two": handler, "/slow": slow_handler, "/get": lambda _: 200})
        call = stack.begin("/slow")
        assert slow.wait(20)
        stack.proxy.begin_upgrade()
        wait_until(lambda: said(stack, "waiting for open units"), 30, "it waits")
        load.start("caller", caller, 3)
        load.start("kept", keeps_its_connection)
        assert stack.call("/get", method="GET").status == 200
        assert call.running() and stack.proxy.process.running()
        gate.set()
        assert call.wait().status == 200
        stack.proxy.finish_upgrade()
        load.wait_for_progress()
        for _ in range(3):
            stack.proxy.upgrade()
            load.wait_for_progress()
        load.end()
        stored = set(stack.stored(name))
        assert {f"{n}/{half}" for n in done | {"slow"} for half in ("first", "second")} == stored
        kept.close()


def test_a_call_that_takes_too_long(name):
    """It is rolled back, and answered by the process where it began: 503, as at the end of a proxy."""
    with HttpStack({**SETTINGS, "upgrade.wait": "300ms"}) as stack:
        begun, gate = threading.Event(), threading.Event()

        def handler(request):
            stack.collection(name).insert_one({"_id": "late"})
            begun.set()
            assert gate.wait(30)
            return 200

        stack.service.handlers.update({"/late": handler})
        stack.service.handlers["/next"] = lambda _: stack.collection(name).insert_one({}) and 200
        call = stack.begin("/late")
        assert begun.wait(20)
        stack.proxy.begin_upgrade()
        wait_until(lambda: said(stack, "Handed over"), 30, "it is handed over")
        assert call.running()
        gate.set()
        answer = call.wait()
        assert (answer.status, answer.reason) == (503, "rolledBack"), answer.body
        stack.proxy.finish_upgrade()
        wait_until(lambda: stack.call("/next").status == 200, 20, "the domain's fence is over")
        assert "late" not in stack.stored(name)
